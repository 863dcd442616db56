//! Servers of others on both sides: Postfix with Dovecot, which checks XOAUTH2 tokens, as a far end; and Postfix in front.

use std::time::Duration;

use postkey_emulator::exchange::limits::Limits;
use serde_json::Value;

use crate::messages::{STAMPED, make_into};
use crate::mime::{Part, differences, with_wire_line_ends};
use crate::rows::Rows;
use crate::servers::{Servers, Tokens};
use crate::serving::{Installation, UNPACED, until};
use crate::setups::{PATIENCE, Tenant};
use crate::submit::SmtpClient;

/// What Postfix adds to what it delivers, and nothing else may differ.
const DELIVERED: &[&str] = &["gained received", "gained return-path", "gained delivered-to", "gained x-original-to"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postfix_with_dovecot_takes_every_message_with_its_token_and_every_byte() {
    let tenant = Tenant::start(Duration::ZERO).await;
    let sample = tenant.emulator.sample().clone();
    let keys = signing_keys(&tenant).await;
    let client_id = sample.client_id.to_string();
    let far_end = Servers::far_end(&sample.domain, &Tokens { keys: &keys, client_id: &client_id });
    let installation = Installation::new(&tenant, "far-end", UNPACED).with_hosts(hosts(&tenant, &far_end));
    installation.reading_sender("mail", &sample.sender).await;
    Rows::send_by_smtp(&installation, "mail").await;
    let login = installation.submitter("printer", &["mail"]).await;
    let serving = installation.serve().await;

    let made = make_into(&tenant.folder().join("messages"), &sample.sender, &sample.user_name).await;
    let mut client = SmtpClient::signed_in(installation.ports.smtp, &login).await.expect("it may sign in");
    for (name, message) in &made {
        let taken = client.send(&sample.sender, &[&sample.user_name], &with_wire_line_ends(message)).await;
        taken.unwrap_or_else(|why| panic!("{name}: {why}"));
    }
    let delivered = until("the delivery of every message", PATIENCE, async || {
        let delivered = far_end.delivered();
        (delivered.len() >= made.len()).then_some(delivered)
    })
    .await;
    assert_eq!(delivered.len(), made.len(), "each once");
    let mut wrong = Vec::new();
    for (name, message) in &made {
        let sent = Part::read(&with_wire_line_ends(message));
        let id = sent.header("message-id").expect("every made message has an id");
        let arrived: Vec<Part> = delivered.iter().map(|one| Part::read(&with_wire_line_ends(one))).collect();
        let arrived: Vec<&Part> = arrived.iter().filter(|one| one.header("message-id") == Some(id)).collect();
        assert_eq!(arrived.len(), 1, "{name} arrived {} times", arrived.len());
        let found = differences(&sent, arrived[0]).into_iter();
        wrong.extend(
            found
                .filter(|change| change != STAMPED && !DELIVERED.contains(&change.as_str()))
                .map(|change| format!("{name}: {change}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let log = far_end.log();
    assert!(log.contains("sasl_method=XOAUTH2"), "{log}");

    // A token that Dovecot does not take holds the lane and fails no message; with the key back, the mail goes out.
    assert!(serving.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_postfix_relays_in_three_transactions_reaches_each_recipient_once() {
    let tenant = Tenant::start(Duration::ZERO).await;
    tenant.emulator.with_world(|world| world.mail.limits = Limits::lifted());
    let sample = tenant.emulator.sample().clone();
    let installation = Installation::new(&tenant, "behind", UNPACED);
    installation.reading_sender("mail", &sample.sender).await;
    let login = installation.submitter("postfix", &["mail"]).await;
    let serving = installation.serve().await;
    let front = Servers::in_front_of(installation.ports.smtp, &login.name, &login.password, &installation.ca());

    let people = [&sample.user_name, &sample.second_user_name, &sample.shared_mailbox];
    let message = format!(
        "From: {}\r\nTo: {}, {}\r\nCc: {}\r\nSubject: for three\r\nMessage-ID: <three@front.example>\r\n\
         Date: Tue, 03 Nov 2026 09:30:00 +0100\r\n\r\nOne message.\r\n",
        sample.sender, people[0], people[1], people[2]
    );
    let mut client = SmtpClient::connect(front.port).await.expect("Postfix answers");
    let recipients = people.map(String::as_str);
    client.send(&sample.sender, &recipients, message.as_bytes()).await.expect("Postfix takes it");

    let rows = Rows::of(&installation).await;
    until("the acceptance of all three", PATIENCE, async || {
        let states = rows.states().await;
        (states.get("accepted") == Some(&3) && states.len() == 1).then_some(())
    })
    .await;
    for person in people {
        let inbox = tenant.emulator.with_world(|world| world.mailbox_contents(tenant.emulator.tenant_id(), person));
        let inbox = inbox.expect("the sample mailboxes stay");
        let copies = inbox.iter().filter(|one| one.folder == "Inbox" && one.subject == "for three").count();
        assert_eq!(copies, 1, "{person}\n{}", front.log());
    }
    assert!(serving.stop().await.success());
}

/// The tenant's hosts with another server for SMTP, and both CAs.
fn hosts(tenant: &Tenant, far_end: &Servers) -> Vec<String> {
    let mut hosts = tenant.hosts();
    let value = |hosts: &[String], option: &str| hosts.iter().position(|word| word == option).expect("it is given") + 1;
    let smtp = value(&hosts, "--smtp-host");
    hosts[smtp] = format!("localhost:{}", far_end.port);
    let ca = value(&hosts, "--cloud-ca");
    let both =
        [std::fs::read(&hosts[ca]), std::fs::read(far_end.ca())].map(|pem| pem.expect("a CA is readable")).concat();
    let file = tenant.folder().join("both-cas.pem");
    std::fs::write(&file, both).expect("the folder is writable");
    hosts[ca] = file.display().to_string();
    hosts
}

/// The tenant's keys as its JWKS lists them.
async fn signing_keys(tenant: &Tenant) -> Vec<(String, String)> {
    let emulator = &tenant.emulator;
    let address = format!("{}/{}/discovery/v2.0/keys", emulator.authority(), emulator.tenant_id());
    let http = emulator.client().expect("a client can be made");
    let listed: Value = http.get(address).send().await.expect("it answers").json().await.expect("with JSON");
    let text = |value: &Value| value.as_str().expect("it is a text").to_owned();
    let keys = listed["keys"].as_array().expect("a list").iter();
    keys.map(|key| (text(&key["kid"]), text(&key["x5c"][0]))).collect()
}
