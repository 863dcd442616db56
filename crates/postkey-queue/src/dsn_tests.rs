//! Notifications as they are written.

use postkey_store::{Notify, RecipientOutcome, RecipientState};

use super::*;
use crate::settle::tests::message;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn original() -> Message {
    let raw = "From: app@contoso.example\r\nTo: alice@fabrikam.example\r\nSubject: Invoice\r\n\r\nThe body\r\n";
    Message::parse(raw.as_bytes().to_vec()).unwrap()
}

fn written(telling: Telling, ret: Option<Ret>) -> String {
    let mut message = message(&["alice@fabrikam.example"]);
    message.id = uuid::Uuid::from_u128(5).into();
    message.envelope.ret = ret;
    message.envelope.envid = Some("order-17".into());
    let recipient = &mut message.envelope.recipients[0];
    recipient.orcpt = Some("rfc822;alice+x@fabrikam.example".into());
    recipient.outcome = Some(RecipientOutcome {
        state: RecipientState::Refused,
        status: Some("5.1.10".into()),
        text: "550 5.1.10 RESOLVER.ADR.RecipientNotFound; not found\r\nby lookup".into(),
        at: at("2026-03-01T10:00:05Z"),
    });
    let original = original();
    let dsn = Dsn {
        telling,
        message: &message,
        recipients: &message.envelope.recipients,
        original: Some(&original),
        from: &"noreply@contoso.example".parse().unwrap(),
        to: &"app@contoso.example".parse().unwrap(),
        why: Some("Exchange Online does not accept the recipients\r\nCorrect the recipients' addresses."),
        host_name: "mail.contoso.example",
        until: Some(at("2026-03-06T10:00:00Z")),
        now: at("2026-03-01T10:00:06Z"),
        id: uuid::Uuid::from_u128(6),
    };
    String::from_utf8(dsn.write()).unwrap()
}

#[test]
fn a_failure_reads_as_rfc_3464_has_it() {
    insta::assert_snapshot!(written(Telling::Failure, None).replace("\r\n", "\n"));
}

#[test]
fn each_notification_has_its_action_and_a_status_of_the_same_class() {
    for (telling, action, status) in [
        (Telling::Failure, "Action: failed", "Status: 5.1.10"),
        (Telling::Delay, "Action: delayed", "Status: 4.0.0"),
        (Telling::Relayed, "Action: relayed", "Status: 2.0.0"),
        (Telling::Doubt, "Action: failed", "Status: 4.4.2"),
    ] {
        let text = written(telling, None);
        assert!(text.contains(action) && text.contains(status), "{telling:?}: {text}");
        assert_eq!(text.contains("Will-Retry-Until:"), telling == Telling::Delay);
        assert!(text.lines().all(|line| line.len() < 998));
    }
}

#[test]
fn the_whole_message_comes_back_only_when_that_was_asked_for() {
    assert!(written(Telling::Failure, Some(Ret::Full)).contains("The body"));
    assert!(!written(Telling::Failure, Some(Ret::Hdrs)).contains("The body"));
    assert!(!written(Telling::Delay, Some(Ret::Full)).contains("The body"));
    assert!(written(Telling::Delay, Some(Ret::Full)).contains("Subject: Invoice"));
}

#[test]
fn it_is_a_report_that_mail_programs_and_we_can_read() {
    let text = written(Telling::Failure, Some(Ret::Full));
    let bounce = crate::ndr::read(text.as_bytes()).unwrap();
    assert_eq!(bounce.recipients[0].address, "alice@fabrikam.example");
    assert_eq!(bounce.recipients[0].status, "5.1.10");
    assert_eq!(bounce.recipients[0].action, "failed");
    let message = Message::parse(text.into_bytes()).unwrap();
    assert!(message.shape().nested);
}

#[test]
fn words_outside_ascii_do_not_break_it() {
    let mut message = message(&["jörg@köln.example"]);
    message.subject = Some("Grüße".into());
    let dsn = Dsn {
        telling: Telling::Failure,
        message: &message,
        recipients: &message.envelope.recipients,
        original: None,
        from: &"noreply@contoso.example".parse().unwrap(),
        to: &"app@contoso.example".parse().unwrap(),
        why: None,
        host_name: "mail.contoso.example",
        until: None,
        now: at("2026-03-01T10:00:06Z"),
        id: uuid::Uuid::from_u128(6),
    };
    let text = String::from_utf8(dsn.write()).unwrap();
    assert!(text.is_ascii() && text.contains("j\\x{F6}rg@k\\x{F6}ln.example"), "{text}");
}

#[test]
fn only_who_asked_is_told_and_nobody_about_a_notification() {
    let notify = |success, failure, delay| Some(Notify { success, failure, delay });
    for (telling, asked, told) in [
        (Telling::Failure, None, true),
        (Telling::Failure, notify(false, false, false), false),
        (Telling::Failure, notify(true, false, true), false),
        (Telling::Failure, notify(false, true, false), true),
        (Telling::Doubt, None, true),
        (Telling::Delay, None, false),
        (Telling::Delay, notify(false, false, true), true),
        (Telling::Relayed, None, false),
        (Telling::Relayed, notify(true, true, false), true),
    ] {
        let mut message = message(&["alice@fabrikam.example"]);
        message.envelope.recipients[0].notify = asked;
        let of = |message: &QueuedMessage| told_of(telling, message, &message.envelope.recipients).len() == 1;
        assert_eq!(of(&message), told, "{telling:?} {asked:?}");
        assert!(!of(&QueuedMessage { via: Via::Own, ..message.clone() }));
        message.envelope.from = None;
        assert!(!of(&message));
    }
}
