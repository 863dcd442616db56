//! From the client's words to what the queue is given, and what is said when it takes nothing.

use std::sync::Arc;

use postkey_queue::AcceptError;
use postkey_store::{Location, StoreError, SubmitterRules, Via};
use postkey_submission::Carries;
use postkey_transport::Abilities;

use crate::{
    client::{Client, FROM, MESSAGE},
    house::{House, Plan},
};

#[tokio::test]
async fn a_message_reaches_the_queue_as_it_was_sent_with_how_it_came() {
    let house = House::open().await;
    let password = house.submitter("scanner", SubmitterRules::default()).await;
    let mut client = Client::greeted(house.at("starttls")).await;
    client.ask("STARTTLS").await;
    let mut client = client.handshake(&house.ca_pem).await;
    assert!(client.ask("EHLO device.local").await.contains("AUTH PLAIN LOGIN"));
    assert!(client.sign_in("scanner@any.example", &password).await.starts_with("235 2.7.0"));
    assert!(client.ask("MAIL FROM:<noreply@contoso.example> RET=HDRS ENVID=e1 BODY=8BITMIME").await.starts_with("250"));
    assert!(client.ask("RCPT TO:<a@x.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;a@x.example").await.starts_with("250"));
    assert!(client.ask("RCPT TO:<A@X.example>").await.starts_with("250"), "a double is no mistake");
    assert!(client.ask("RCPT TO:<b@x.example> NOTIFY=NEVER").await.starts_with("250"));
    client.ask("DATA").await;
    let raw = "Subject: hö\r\nFrom: A <noreply@contoso.example>\r\nX-Odd:  \t two\r\n  lines \r\n\r\n";
    client.send(raw.as_bytes()).await;
    let said = client.ask("..dot\r\nlast\r\n.").await;

    let message = house.desk.messages().remove(0);
    assert!(said.starts_with("250 2.0.0 Queued as "), "{said}");
    assert_eq!(message.message.raw(), [raw.as_bytes(), b".dot\r\nlast\r\n"].concat().as_slice());
    assert_eq!(message.envelope.from, Some(FROM.parse().unwrap()));
    assert_eq!((message.envelope.ret, message.envelope.envid.as_deref()), (Some(postkey_store::Ret::Hdrs), Some("e1")));
    let recipients = &message.envelope.recipients;
    let names: Vec<_> = recipients.iter().map(|one| one.address.as_str()).collect();
    assert_eq!(names, ["a@x.example", "b@x.example"]);
    assert_eq!(recipients[0].orcpt.as_deref(), Some("rfc822;a@x.example"));
    let notify = recipients[0].notify.unwrap();
    assert!(!notify.success && notify.failure && notify.delay);
    assert_eq!(recipients[1].notify, Some(postkey_store::Notify::default()));
    assert_eq!((message.via, message.remote.as_deref()), (Via::Smtp, Some("127.0.0.1")));
    assert_eq!(message.facts["helo"], "device.local");
    assert_eq!(message.facts["auth"], "PLAIN");
    assert_eq!(message.facts["tls"]["version"], "TLSv1_3");
    assert_eq!(message.facts["listener"], "starttls");
    assert!(!message.facts.to_string().contains(&password));
    house.close().await;
}

#[tokio::test]
async fn twenty_messages_of_one_session_are_one_after_the_other() {
    let house = House::open().await;
    let password = house.submitter("scanner", SubmitterRules::default()).await;
    let mut client = Client::secured(house.at("implicit"), &house.ca_pem).await;
    client.sign_in("scanner", &password).await;
    for number in 0..20 {
        let message = format!("From: noreply@contoso.example\nSubject: {number}\n\n");
        assert!(client.submit(FROM, &["a@x.example"], &message).await.starts_with("250 2.0.0 "));
    }
    assert!(client.ask("QUIT").await.starts_with("221"));
    assert!(client.is_closed().await);
    let subjects: Vec<_> = house.desk.messages().iter().map(|one| one.message.subject().unwrap()).collect();
    assert_eq!(subjects, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    house.close().await;
}

#[tokio::test]
async fn pipelined_commands_and_a_message_are_answered_in_one_go() {
    let house = House::open().await;
    let password = house.submitter("scanner", SubmitterRules::default()).await;
    let mut client = Client::greeted(house.at("starttls")).await;
    client.sign_in("scanner", &password).await;
    client
        .send(b"MAIL FROM:<noreply@contoso.example>\r\nRCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n")
        .await;
    for code in ["250", "250", "250", "354"] {
        assert!(client.reply().await.starts_with(code));
    }
    // And chunks, which need no go-ahead.
    client.send(b"From: noreply@contoso.example\r\n\r\nhi\r\n.\r\nMAIL FROM:<noreply@contoso.example>\r\nRCPT TO:<a@x.example>\r\nBDAT 6\r\nA: 1\r\nBDAT 4 LAST\r\n\r\nhi").await;
    for code in ["250 2.0.0 Queued", "250", "250", "250", "250 2.0.0 Queued"] {
        let said = client.reply().await;
        assert!(said.starts_with(code), "{said} for {code}");
    }
    assert_eq!(house.desk.messages()[1].message.raw(), b"A: 1\r\n\r\nhi".as_slice());
    house.close().await;
}

#[tokio::test]
async fn what_the_store_does_not_take_is_never_said_to_be_queued() {
    let house = House::open().await;
    let password = house.submitter("scanner", SubmitterRules { messages_per_day: Some(1), ..Default::default() }).await;
    let mut client = Client::greeted(house.at("starttls")).await;
    client.sign_in("scanner", &password).await;
    let location = || Location::Sqlite("somewhere".into());
    for (error, said) in [
        (
            AcceptError::Store(StoreError::DiskFull { location: location(), cause: sqlx::Error::PoolClosed.into() }),
            "452 4.3.1 ",
        ),
        (AcceptError::Store(StoreError::LeaseLost { name: "x".into() }), "451 4.3.0 "),
        (AcceptError::KeyReused, "550 5.5.4 "),
        (AcceptError::Backlog { waiting: 2, most: 1 }, "452 4.3.1 "),
    ] {
        house.desk.refuses(error);
        let answer = client.submit(FROM, &["a@x.example"], MESSAGE).await;
        assert!(answer.starts_with(said), "{answer}");
    }
    assert!(house.desk.messages().is_empty());
    // What was not taken took nothing of the quota.
    assert!(client.submit(FROM, &["a@x.example"], MESSAGE).await.starts_with("250 2.0.0 "));
    assert!(client.submit(FROM, &["a@x.example"], MESSAGE).await.starts_with("450 4.7.1 "));
    let mut other = Client::greeted(house.at("starttls")).await;
    other.sign_in("scanner", &password).await;
    house.clock.turn(25 * 3600);
    house.desk.refuses(AcceptError::Stopping);
    assert!(other.submit(FROM, &["a@x.example"], MESSAGE).await.starts_with("421 4.3.2 "));
    assert!(other.is_closed().await);
    house.close().await;
}

#[tokio::test]
async fn a_repeated_idempotency_key_is_named_with_the_first_id() {
    let house = House::open().await;
    let password = house.submitter("scanner", SubmitterRules { messages_per_day: Some(1), ..Default::default() }).await;
    let mut client = Client::greeted(house.at("starttls")).await;
    client.sign_in("scanner", &password).await;
    let message = "X-Postkey-Idempotency-Key: invoice-7\nFrom: noreply@contoso.example\n\n";
    let first = client.submit(FROM, &["a@x.example"], message).await;
    let id = first.strip_prefix("250 2.0.0 Queued as ").expect("it is queued").to_owned();
    house.clock.turn(25 * 3600);
    let again = client.submit(FROM, &["a@x.example"], message).await;
    assert_eq!(again, format!("250 2.0.0 Queued as {id} (it was queued before under this idempotency key)"));
    // A repetition takes nothing of the quota.
    assert!(client.submit(FROM, &["a@x.example"], MESSAGE).await.starts_with("250 2.0.0 "));
    let messages = house.desk.messages();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0].message.raw(), b"From: noreply@contoso.example\r\n\r\n".as_slice());
    assert_eq!(messages[0].facts["rewritten"][0]["kind"], "take-idempotency-key");
    house.close().await;
}

#[tokio::test]
async fn each_rule_is_heard_where_it_is_broken() {
    let house = House::open().await;
    let rules = SubmitterRules {
        recipient_domains: vec!["x.example".into()],
        recipients_per_message: Some(2),
        message_bytes: Some(1_000),
        ..SubmitterRules::default()
    };
    let password = house.submitter("scanner", rules).await;
    let mut client = Client::greeted(house.at("starttls")).await;
    assert!(client.ask("MAIL FROM:<noreply@contoso.example>").await.starts_with("530 5.7.0 "));
    client.sign_in("scanner", &password).await;
    assert!(client.ask("EHLO again").await.contains("SIZE 1000"), "the size of this very submitter");
    for (from, to, message, said) in [
        ("ceo@contoso.example", vec!["a@x.example"], MESSAGE, "550 5.7.1 "),
        ("", vec!["a@x.example"], MESSAGE, "550 5.7.1 "),
        (FROM, vec!["a@elsewhere.example"], MESSAGE, "550 5.7.1 "),
        (FROM, vec!["a@x.example", "b@x.example", "c@x.example"], MESSAGE, "452 4.5.3 "),
        (FROM, vec!["\"quoted local\"@x.example"], MESSAGE, "553 5.1.3 "),
        (FROM, vec!["a@x.example"], "From: ceo@contoso.example\n\n", "550 5.7.1 "),
        (FROM, vec!["a@x.example"], "no message at all", "554 5.6.0 "),
        (FROM, vec!["a@x.example"], &format!("From: {FROM}\n\n{}", "x".repeat(990)), "552 5.3.4 "),
        (FROM, vec!["a@x.example", "b@x.example"], MESSAGE, "250 2.0.0 "),
    ] {
        let answer = client.submit(from, &to, message).await;
        assert!(answer.starts_with(said), "{from} {to:?}: {answer}");
    }
    assert!(client.ask("MAIL FROM:<noreply@contoso.example> SIZE=1001").await.starts_with("552 5.3.4 "));
    assert_eq!(house.desk.messages().len(), 1);
    house.close().await;
}

/// A sender that may only send through Graph.
struct OnlySends;

impl Carries for OnlySends {
    fn abilities(
        &self,
        _: postkey_store::SenderId,
    ) -> std::pin::Pin<Box<dyn Future<Output = Option<Abilities>> + Send + '_>> {
        Box::pin(std::future::ready(Some(Abilities { graph_send: true, ..Abilities::default() })))
    }
}

#[tokio::test]
async fn what_no_route_carries_is_refused_with_the_number_and_the_remedies() {
    let house = House::built(Plan { carries: Arc::new(OnlySends), ..Plan::default() }).await;
    let password = house.submitter("scanner", SubmitterRules::default()).await;
    let known = house.directory.submitter("scanner").unwrap();
    while known.default_sender().unwrap().abilities().is_none() {
        tokio::task::yield_now().await;
    }
    let mut client = Client::greeted(house.at("starttls")).await;
    client.sign_in("scanner", &password).await;
    assert!(client.ask("EHLO again").await.contains("SIZE 2997952"));
    let early = client.ask("MAIL FROM:<noreply@contoso.example> SIZE=5000000").await;
    let message = format!("From: {FROM}\n\n{}", "0123456789abcdef\n".repeat(300_000));
    let late = client.submit(FROM, &["a@x.example"], &message).await;
    for said in [early, late] {
        assert!(said.starts_with("552") && said.contains("5.3.4"), "{said}");
        assert!(said.contains("SMTP.SendAsApp"), "{said}");
    }
    house.close().await;
}
