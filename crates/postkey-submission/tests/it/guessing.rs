//! Brute force locks the guesser, not the device.

use postkey_store::SubmitterRules;
use postkey_submission::{LoginRefusal, Mode};

use crate::{
    client::{Client, FROM, MESSAGE},
    house::{House, Plan, listener},
};

#[tokio::test]
async fn the_guesser_is_locked_out_and_the_device_goes_on() {
    let mut plan = Plan::default();
    let mut proxied = listener("proxied", Mode::Implicit);
    proxied.proxies = vec!["127.0.0.0/8".parse().unwrap()];
    plan.listeners.push(proxied);
    let house = House::built(plan).await;
    let password = house.submitter("scanner", SubmitterRules::default()).await;
    let from = |address: &'static str| {
        let (at, ca) = (house.at("proxied"), house.ca_pem.clone());
        async move {
            let mut client = Client::connect(at).await;
            client.send(format!("PROXY TCP4 {address} 192.0.2.1 4711 465\r\n").as_bytes()).await;
            let mut client = client.handshake(&ca).await;
            client.reply().await;
            client.ask("EHLO x").await;
            client
        }
    };
    let mut device = from("198.51.100.7").await;
    assert!(device.sign_in("scanner", &password).await.starts_with("235"));

    let (mut wrong, mut locked, mut sessions) = (0, 0, 0);
    while locked == 0 {
        let mut attacker = from("203.0.113.66").await;
        sessions += 1;
        loop {
            let said = attacker.sign_in("scanner@contoso.example", &format!("guess-{wrong}")).await;
            match &said[..3] {
                "535" => wrong += 1,
                "421" if said.contains("too many failed sign-ins") => locked += 1,
                "421" => wrong += 1,
                _ => panic!("{said}"),
            }
            if said.starts_with("421") {
                assert!(attacker.is_closed().await);
                break;
            }
        }
    }
    assert_eq!((wrong, sessions), (10, 4), "three tries a session, ten in all");
    let mut attacker = from("203.0.113.99").await;
    let said = attacker.sign_in("scanner", &password).await;
    assert!(
        said.contains("too many failed sign-ins from 203.0.113.0/24; the next one is looked at in 15 min"),
        "{said}"
    );

    assert!(device.submit(FROM, &["a@x.example"], MESSAGE).await.starts_with("250"));
    let mut device = from("198.51.100.7").await;
    assert!(device.sign_in("scanner", &password).await.starts_with("235"));
    let mut elsewhere = from("192.0.2.77").await;
    assert!(elsewhere.sign_in("scanner", &password).await.starts_with("235"));
    let counted = |outcome: &str| {
        let of = |gauge: &postkey_queue::Gauge| {
            gauge.name == "postkey_sign_ins_total" && gauge.labels.iter().any(|(_, value)| value == outcome)
        };
        house.directory.gauges().iter().find(|&gauge| of(gauge)).unwrap().value
    };
    assert_eq!((counted("accepted"), counted("wrong"), counted("locked_out")), (3.0, 10.0, 2.0));
    house.close().await;
}

#[tokio::test]
async fn a_name_that_nobody_has_is_refused_like_a_wrong_password() {
    let house = House::open().await;
    house.submitter("scanner", SubmitterRules::default()).await;
    let there = "203.0.113.1".parse().unwrap();
    let texts: Vec<_> = ["scanner", "nobody", "scanner@x", "@", ""]
        .iter()
        .map(|name| house.directory.login(name, "wrong", there).unwrap_err())
        .map(|refusal| {
            assert!(matches!(refusal, LoginRefusal::Wrong { .. }));
            refusal.smtp_reply().to_string()
        })
        .collect();
    assert!(texts.windows(2).all(|two| two[0] == two[1]), "{texts:?}");
    house.close().await;
}

#[tokio::test]
async fn networks_hold_for_passwords() {
    let house = House::open().await;
    let rules = SubmitterRules { networks: vec!["192.0.2.0/24".into()], ..SubmitterRules::default() };
    let password = house.submitter("scanner", rules).await;
    let mut client = Client::greeted(house.at("starttls")).await;
    let said = client.sign_in("scanner", &password).await;
    assert!(said.starts_with("550 5.7.1 the submitter scanner may not be used from 127.0.0.1"), "{said}");
    house.close().await;
}
