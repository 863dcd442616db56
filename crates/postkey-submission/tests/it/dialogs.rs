//! The recorded dialogs of devices, clients and attackers, over a socket and against the rules of a real submitter.

use postkey_smtp::server::{AuthOffer, TlsState};
use postkey_store::SubmitterRules;
use postkey_submission::{LockoutSettings, Mode};

use crate::{
    client::Client,
    dialog::{Dialog, Step, matches},
    house::{House, Plan, listener},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../postkey-smtp/tests/dialogs");

/// Not played here, and why. Those with answers of their own, and those with settings that a service has no word for, are
/// left out by themselves.
const ELSEWHERE: [(&str, &str); 2] = [
    ("addresses", "a quoted local part is no address that Exchange Online takes, and is refused at RCPT"),
    ("dots", "its message has no header field, and is refused as none"),
];

/// The domains of the dialogs.
const DOMAINS: [&str; 8] = [
    "a.example",
    "contoso.example",
    "fabrikam.example",
    "client.example",
    "b.example",
    "evil.example",
    "x.example",
    "köln.example",
];

#[tokio::test]
async fn recorded_dialogs_go_over_a_socket_as_they_go_through_the_pure_session() {
    let (mut played, mut differences) = (0, Vec::new());
    for dialog in Dialog::all(FOLDER) {
        let usual = postkey_smtp::server::SessionSettings::new("mx.example");
        let ours = &dialog.settings;
        let special = (ours.size, ours.max_bad_commands, ours.max_commands, ours.max_recipients, ours.max_message_line)
            != (
                Some(1_000_000),
                usual.max_bad_commands,
                usual.max_commands,
                usual.max_recipients,
                usual.max_message_line,
            )
            || (ours.tolerant, ours.pipelining, ours.chunking, ours.utf8, ours.dsn) != (true, true, true, true, true);
        if special || !dialog.answers.is_empty() || ELSEWHERE.iter().any(|(name, _)| *name == dialog.name) {
            continue;
        }
        if let Err(difference) = play(dialog).await {
            differences.push(difference);
        }
        played += 1;
    }
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(played >= 30, "{played}");
}

async fn play(dialog: Dialog) -> Result<(), String> {
    let mut plan = Plan { listeners: Vec::new(), lockout: lenient(), ..Plan::default() };
    plan.settings.host_name = "mx.example".into();
    plan.settings.most_failed_logins = 1_000;
    for (name, mode) in [("tls", Mode::Implicit), ("starttls", Mode::StartTls), ("plain", Mode::Plain)] {
        let mut one = listener(name, mode);
        one.proxies = vec!["127.0.0.0/8".parse().unwrap()];
        plan.listeners.push(one);
    }
    plan.listeners.push(listener("loopback", Mode::StartTls));
    let house = House::built(plan).await;
    let domains = |prefix: &str| DOMAINS.iter().map(|domain| format!("{prefix}{domain}")).collect::<Vec<_>>();
    let anything = SubmitterRules {
        also_as: [domains("@"), vec!["<>".into()]].concat(),
        message_bytes: Some(1_000_000),
        ..SubmitterRules::default()
    };
    for (name, password) in &dialog.users {
        house.submitter_with(name, password, anything.clone()).await;
    }
    let device = SubmitterRules {
        unauthenticated_from: vec!["203.0.113.0/24".into()],
        force_from: Some("noreply@contoso.example".parse().unwrap()),
        recipient_domains: domains(""),
        messages_per_day: Some(1_000),
        ..anything
    };
    house.add("device", device).await;

    let ours = &dialog.settings;
    let by_network = !ours.login_required;
    let door = match (ours.tls, ours.auth) {
        (TlsState::Secured, _) => "tls",
        (_, AuthOffer::Never) | (TlsState::Plain { starttls: false }, _) => "plain",
        (_, AuthOffer::Always) => "loopback",
        (TlsState::Plain { starttls: true }, AuthOffer::WhenSecured) => "starttls",
    };
    let mut client = Client::connect(house.at(door)).await;
    if door != "loopback" {
        let from = if by_network { "203.0.113.7" } else { "198.51.100.7" };
        client.send(format!("PROXY TCP4 {from} 192.0.2.1 4711 25\r\n").as_bytes()).await;
    }
    if door == "tls" {
        client = client.handshake(&house.ca_pem).await;
    }
    let mut expected = Vec::new();
    let name = &dialog.name;
    for (number, step) in dialog.steps.iter().enumerate() {
        match step {
            Step::Send(bytes) => client.send(bytes).await,
            Step::Line(wanted) => {
                let said = client.line().await.unwrap_or_else(|| "(closed)".into());
                if !matches(&said, wanted) {
                    return Err(format!("{name}, step {number}: {said:?} for {wanted:?}"));
                }
            }
            Step::Reply(code) => {
                let said = client.reply().await;
                if !said.starts_with(code.as_str()) {
                    return Err(format!("{name}, step {number}: {said:?} for {code:?}"));
                }
            }
            Step::Handshake => client = client.handshake(&house.ca_pem).await,
            Step::Message { to, body, .. } => expected.push((to.clone(), body.clone())),
            Step::Dropped(_) => {}
            Step::Closed => {
                if let Some(said) = client.line().await {
                    return Err(format!("{name}, step {number}: {said:?} for the end"));
                }
            }
        }
    }
    let messages = house.desk.messages();
    assert_eq!(messages.len(), expected.len(), "{name}");
    for (message, (to, body)) in messages.iter().zip(expected) {
        let mut recipients: Vec<_> =
            message.envelope.recipients.iter().map(|one| format!("<{}>", one.address)).collect();
        let mut to = to;
        recipients.sort();
        to.sort();
        to.dedup();
        assert_eq!(recipients, to, "{name}");
        if let Some(body) = body.filter(|_| !by_network) {
            assert_eq!(message.message.raw(), body.as_slice(), "{name}");
        }
    }
    drop(client);
    house.close().await;
    Ok(())
}

fn lenient() -> LockoutSettings {
    LockoutSettings {
        first_delay: std::time::Duration::ZERO,
        per_name: 1_000,
        per_network: 1_000,
        ..LockoutSettings::default()
    }
}
