//! How one gets in: STARTTLS, implicit TLS, clear text for old devices, proxies, networks without a password.

use std::time::Duration;

use postkey_store::SubmitterRules;
use postkey_submission::{Mode, Reloaded, TlsFiles};

use crate::{
    client::{Client, FROM, MESSAGE},
    house::{House, Plan, listener},
};

/// Rules of a device that cannot sign in.
fn device(networks: &[&str]) -> SubmitterRules {
    SubmitterRules {
        unauthenticated_from: networks.iter().map(|&one| one.to_owned()).collect(),
        force_from: Some(FROM.parse().unwrap()),
        recipient_domains: vec!["x.example".into()],
        messages_per_day: Some(10),
        ..SubmitterRules::default()
    }
}

#[tokio::test]
async fn passwords_travel_under_tls_or_on_loopback_only() {
    let mut plan = Plan::default();
    let mut proxied = listener("proxied", Mode::StartTls);
    proxied.proxies = vec!["127.0.0.0/8".parse().unwrap()];
    plan.listeners.push(proxied);
    plan.listeners.push(listener("plain", Mode::Plain));
    let house = House::built(plan).await;
    let password = house.submitter("scanner", SubmitterRules::default()).await;

    let mut local = Client::greeted(house.at("starttls")).await;
    assert!(local.ask("EHLO x").await.contains("AUTH"), "on loopback nobody listens");
    assert!(local.sign_in("scanner", &password).await.starts_with("235"));

    let mut far = Client::connect(house.at("proxied")).await;
    far.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 587\r\n").await;
    far.reply().await;
    let offers = far.ask("EHLO x").await;
    assert!(offers.contains("STARTTLS") && !offers.contains("AUTH"), "{offers}");
    assert!(far.sign_in("scanner", &password).await.starts_with("538"));
    far.ask("STARTTLS").await;
    let mut far = far.handshake(&house.ca_pem).await;
    far.ask("EHLO x").await;
    assert!(far.sign_in("scanner", &password).await.starts_with("235"));
    assert!(far.submit(FROM, &["a@x.example"], MESSAGE).await.starts_with("250"));
    assert_eq!(house.desk.messages()[0].remote.as_deref(), Some("203.0.113.9"));

    let mut plain = Client::greeted(house.at("plain")).await;
    let offers = plain.ask("EHLO x").await;
    assert!(!offers.contains("STARTTLS") && !offers.contains("AUTH"), "{offers}");
    assert!(!plain.sign_in("scanner", &password).await.starts_with("235"));
    assert!(plain.ask("MAIL FROM:<noreply@contoso.example>").await.starts_with("530 5.7.0 no submitter may send from"));
    house.close().await;
}

#[tokio::test]
async fn a_device_known_by_its_network_sends_as_its_forced_sender_only() {
    let mut plan = Plan::default();
    plan.listeners.push(listener("plain", Mode::Plain));
    let house = House::built(plan).await;
    house.add("printer", device(&["127.0.0.0/8"])).await;
    for door in ["plain", "starttls"] {
        let mut client = Client::connect(house.at(door)).await;
        client.reply().await;
        client.ask("HELO printer").await;
        let said = client.submit("root@printer.local", &["a@x.example"], "From: P <root@printer.local>\n\nhi\n").await;
        assert!(said.starts_with("250 2.0.0"), "{said}");
        assert!(client.submit("root@printer.local", &["a@elsewhere.example"], MESSAGE).await.starts_with("550 5.7.1"));
    }
    let message = house.desk.messages().remove(0);
    assert_eq!(message.envelope.from, Some(FROM.parse().unwrap()));
    assert_eq!(message.message.raw(), b"From: P <noreply@contoso.example>\r\n\r\nhi\r\n".as_slice());
    assert_eq!(message.facts["auth"], "network");
    assert_eq!(message.facts["rewritten"][0]["kind"], "force-envelope");
    assert_eq!(message.facts["rewritten"][1]["kind"], "force-from");
    assert_eq!(message.facts["tls"], serde_json::Value::Null);
    house.close().await;
}

#[tokio::test]
async fn only_listed_proxies_may_say_who_connects() {
    let mut plan = Plan::default();
    for (name, mode, proxies) in [
        ("listed", Mode::StartTls, "127.0.0.1/32"),
        ("listed-tls", Mode::Implicit, "127.0.0.1/32"),
        ("others", Mode::StartTls, "192.0.2.0/24"),
    ] {
        let mut one = listener(name, mode);
        one.proxies = vec![proxies.parse().unwrap()];
        plan.listeners.push(one);
    }
    let house = House::built(plan).await;
    house.add("printer", device(&["203.0.113.0/24"])).await;
    let v1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 587\r\n".to_vec();
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend([203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 0x02, 0x4b]);

    for header in [&v1, &v2] {
        // In pieces, and with the client's first command behind it.
        let mut client = Client::connect(house.at("listed")).await;
        let (start, rest) = header.split_at(10);
        client.send(start).await;
        client.send(&[rest, b"EHLO early\r\n"].concat()).await;
        assert!(client.reply().await.starts_with("220"));
        assert!(client.reply().await.starts_with("250"));
        assert!(client.submit("x@local", &["a@x.example"], MESSAGE).await.starts_with("250"));

        let mut client = Client::connect(house.at("listed-tls")).await;
        client.send(header).await;
        let mut client = client.handshake(&house.ca_pem).await;
        client.reply().await;
        client.ask("EHLO x").await;
        assert!(client.submit("x@local", &["a@x.example"], MESSAGE).await.starts_with("250"));

        // From anybody else it is what a client says, and no command.
        let mut client = Client::connect(house.at("others")).await;
        assert!(client.reply().await.starts_with("220"));
        client.send(&[header.as_slice(), b"\r\nEHLO x\r\n"].concat()).await;
        assert!(!client.reply().await.starts_with("250"));
    }
    assert!(house.desk.messages().iter().all(|one| one.remote.as_deref() == Some("203.0.113.9")));

    // A listed proxy that says nothing of the kind gets no further.
    let mut client = Client::connect(house.at("listed")).await;
    client.send(b"EHLO no.header.example\r\n").await;
    assert!(client.is_closed().await);
    house.close().await;
}

#[tokio::test]
async fn what_is_said_ahead_of_the_handshake_is_not_taken_for_what_comes_after() {
    let house = House::open().await;
    let mut client = Client::greeted(house.at("starttls")).await;
    client.send(b"STARTTLS\r\nNOOP injected\r\n").await;
    assert!(client.reply().await.starts_with("220"));
    let mut client = client.handshake(&house.ca_pem).await;
    let said = client.ask("EHLO after").await;
    assert!(said.starts_with("250-"), "the first answer under TLS is the one to EHLO: {said}");
    house.close().await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_sessions_and_open_ones_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    let renew = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        made.cert.pem().into_bytes()
    };
    let first = renew();
    let house = House::built(Plan { files: Some(files.clone()), ..Plan::default() }).await;
    let password = house.submitter("scanner", SubmitterRules::default()).await;
    let mut before = Client::secured(house.at("implicit"), &first).await;
    before.sign_in("scanner", &password).await;
    let second = renew();
    assert_eq!(house.tls.reload().unwrap(), Reloaded::Changed);
    let mut after = Client::secured(house.at("implicit"), &second).await;
    after.sign_in("scanner", &password).await;
    for client in [&mut before, &mut after] {
        assert!(client.submit(FROM, &["a@x.example"], MESSAGE).await.starts_with("250"));
    }
    drop((before, after));
    house.close().await;
}

#[tokio::test]
async fn sessions_beyond_the_limits_are_told_to_come_again() {
    let mut plan = Plan::default();
    plan.settings.most_connections = 3;
    plan.settings.most_per_address = 1;
    let mut proxied = listener("proxied", Mode::StartTls);
    proxied.proxies = vec!["127.0.0.0/8".parse().unwrap()];
    plan.listeners.push(proxied);
    let house = House::built(plan).await;
    let from_there = || async {
        let mut client = Client::connect(house.at("proxied")).await;
        client.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 587\r\n").await;
        let said = client.reply().await;
        (client, said)
    };
    let (first, said) = from_there().await;
    assert!(said.starts_with("220"));
    let (second, said) = from_there().await;
    assert!(said.starts_with("421 4.3.2") && said.contains("from your address"), "{said}");
    drop(second);
    while house.submission.sessions() > 1 {
        tokio::task::yield_now().await;
    }
    let _two = Client::greeted(house.at("starttls")).await;
    let _three = Client::greeted(house.at("starttls")).await;
    let mut fourth = Client::connect(house.at("starttls")).await;
    let said = fourth.reply().await;
    assert!(said.starts_with("421 4.3.2"), "{said}");
    drop(first);
    while house.submission.sessions() > 2 {
        tokio::task::yield_now().await;
    }
    Client::greeted(house.at("starttls")).await;
    house.close().await;
}

#[tokio::test]
async fn a_burst_of_connections_loses_none() {
    let house = House::open().await;
    let address = house.at("starttls");
    let clients: Vec<_> = (0..300)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                let said = client.reply().await;
                assert!(said.starts_with("220"), "{said}");
                client
            })
        })
        .collect();
    for client in clients {
        drop(client.await.unwrap());
    }
    assert!(house.submission.shutdown(Duration::from_secs(10)).await);
}
