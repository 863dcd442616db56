//! Tables of outcomes: what each means for the message, the governor and the lane.

use std::time::Duration;

use postkey_base::EmailAddress;
use postkey_smtp::{EnhancedCode, Path, RecipientOutcome as Rcpt, Reply, Stage};
use postkey_store::{MessageId, Priority, SenderId, Via};
use postkey_transport::{Accepted, Proof, Represents, Route, RouteError, SendAsDenied};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn address(text: &str) -> EmailAddress {
    text.parse().unwrap()
}

pub(crate) fn message(recipients: &[&str]) -> QueuedMessage {
    let accepted_at = at("2026-03-01T10:00:00Z");
    QueuedMessage {
        id: MessageId::at(accepted_at),
        submitter: None,
        sender: SenderId::random(),
        envelope: QueuedEnvelope {
            from: Some(address("app@contoso.example")),
            recipients: recipients.iter().map(|one| QueuedRecipient::new(address(one))).collect(),
            ret: None,
            envid: None,
        },
        size: 1_000,
        subject: Some("Invoice".into()),
        message_id: Some("<1@contoso.example>".into()),
        priority: Priority::Normal,
        state: MessageState::Sending,
        due_at: accepted_at,
        attempts: 0,
        via: Via::Smtp,
        remote: None,
        accepted_at,
        settled_at: None,
        epoch: 1,
        outcome: None,
        graph_json: false,
    }
}

fn report(outcome: Outcome) -> Report {
    Report {
        message_id: Some("<1@contoso.example>".into()),
        choice: None,
        repairs: Vec::new(),
        outcome,
        fell_back: None,
    }
}

fn decided(message: &QueuedMessage, outcome: Outcome, now: &str) -> Decision {
    decide(&Case {
        message,
        report: &report(outcome),
        now: at(now),
        give_up_after: schedule::GIVE_UP_AFTER,
        late_after: Duration::from_secs(4 * 60 * 60),
        random: 0.5,
    })
}

fn reply(text: &str) -> Reply {
    let (code, rest) = text.split_once(' ').unwrap();
    let (enhanced, words) = rest.split_once(' ').unwrap_or((rest, ""));
    let parsed = EnhancedCode::parse(enhanced);
    Reply::new(code.parse().unwrap(), parsed, [if parsed.is_some() { words } else { rest }])
}

fn refusal(stage: Stage, text: &str, recipients: &[(&str, &str)]) -> Outcome {
    let reply_of = reply(text);
    let recipients =
        recipients.iter().map(|(path, text)| Rcpt { path: Path::parse(path).unwrap(), reply: reply(text) });
    Outcome::Refused(TransportError::Smtp(Box::new(SmtpRefusal {
        meaning: SmtpMeaning::of(stage, &reply_of),
        host: "smtp.office365.com".into(),
        mailbox: address("noreply@contoso.example"),
        stage,
        reply: reply_of,
        recipients: recipients.collect(),
    })))
}

fn taken(results: &[(&str, &str)]) -> Outcome {
    let results = results.iter().map(|(to, text)| {
        let reply = reply(text);
        RecipientResult { address: address(to), accepted: reply.is_positive(), reply }
    });
    Outcome::Accepted(Accepted {
        route: Route::Smtp,
        proof: Proof::Smtp { host: "smtp.office365.com".into(), reply: reply("250 2.0.0 OK") },
        recipients: results.collect(),
        retry_after: None,
    })
}

/// The word for a lane in the tables.
fn lane(word: &LaneWord) -> String {
    match word {
        LaneWord::Works => "works".into(),
        LaneWord::Nothing => "nothing".into(),
        LaneWord::Network(_) => "network".into(),
        LaneWord::Hold(request) => format!("{:?} {:?}", request.scope, request.probes),
    }
}

#[test]
fn each_reply_of_exchange_has_its_consequence() {
    use MessageState::{Deferred, Failed, Queued};
    for (stage, text, to, burns, says) in [
        (Stage::Auth, "535 5.7.3 Authentication unsuccessful", Queued, false, "Sender Soon"),
        (
            Stage::Auth,
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
            Queued,
            false,
            "Sender Soon",
        ),
        (
            Stage::Auth,
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
            Queued,
            false,
            "Sender Soon",
        ),
        (
            Stage::DataEnd,
            "550 5.2.251 Sender throttled due to continuous mailbox full errors.",
            Queued,
            false,
            "Sender Never",
        ),
        (
            Stage::DataEnd,
            "550 5.2.252 Sender throttled due to continuous send-as errors.",
            Queued,
            false,
            "Sender Never",
        ),
        (
            Stage::DataEnd,
            "550 5.2.255 Sender throttled due to continuous invalid recipients errors.",
            Queued,
            false,
            "Sender Never",
        ),
        (Stage::Mail, "550 5.1.8 Access denied, bad outbound sender", Queued, false, "Sender Never"),
        (Stage::DataEnd, "550 5.1.90 Your message can't be sent", Queued, false, "Sender Quota"),
        (Stage::DataEnd, "550 5.7.233 tenant external recipient limit", Queued, false, "Tenant Quota"),
        (Stage::DataEnd, "550 5.7.705 Access denied, tenant has exceeded threshold", Queued, false, "Tenant Quota"),
        (Stage::Mail, "432 4.3.2 Concurrent connections limit exceeded", Queued, false, "nothing"),
        (Stage::Mail, "421 4.3.2 Service not available", Deferred, true, "network"),
        (Stage::DataEnd, "451 4.7.0 Temporary server error. Please try again later.", Deferred, true, "network"),
        (Stage::DataEnd, "552 5.3.4 Message size exceeds fixed maximum message size", Failed, true, "works"),
        (Stage::Rcpt, "550 5.1.10 Recipient not found", Failed, true, "works"),
        (Stage::Rcpt, "452 4.5.3 Too many recipients", Deferred, true, "works"),
        (Stage::DataEnd, "554 6.0.0 What is this", Failed, true, "works"),
    ] {
        let message = message(&["alice@fabrikam.example"]);
        let decision = decided(&message, refusal(stage, text, &[]), "2026-03-01T10:00:05Z");
        assert_eq!((decision.to, decision.burns, lane(&decision.lane).as_str()), (to, burns, says), "{text}");
        assert_eq!(decision.failed.len(), usize::from(to == Failed), "{text}");
        assert!(decision.detail["diagnosis"]["remedy"].is_string(), "{text}");
    }
}

#[test]
fn a_denied_from_fails_the_message_unless_it_is_the_mailbox_itself() {
    for (from, to, says) in [
        ("boss@contoso.example", MessageState::Failed, "works"),
        ("noreply@contoso.example", MessageState::Queued, "Sender Soon"),
    ] {
        let Outcome::Refused(refusal) = refusal(Stage::DataEnd, "554 5.2.252 SendAsDenied; not allowed", &[]) else {
            unreachable!()
        };
        let denied = SendAsDenied {
            mailbox: address("noreply@contoso.example"),
            from: address(from),
            represents: Represents::SomebodyElse,
            refusal: Box::new(refusal),
        };
        let outcome = Outcome::Refused(TransportError::SendAsDenied(Box::new(denied)));
        let decision = decided(&message(&["alice@fabrikam.example"]), outcome, "2026-03-01T10:00:05Z");
        assert_eq!((decision.to, lane(&decision.lane).as_str()), (to, says), "{from}");
        assert_eq!(decision.detail["class"], "mailbox");
    }
}

#[test]
fn a_sender_without_a_way_is_held() {
    let outcome = Outcome::Refused(TransportError::Route(RouteError::NoRoute));
    let decision = decided(&message(&["alice@fabrikam.example"]), outcome, "2026-03-01T10:00:05Z");
    assert_eq!((decision.to, lane(&decision.lane).as_str()), (MessageState::Queued, "Sender Soon"));
}

#[test]
fn recipients_are_settled_one_by_one_where_the_server_tells() {
    let message = message(&["a@x.example", "b@x.example", "c@x.example"]);
    let outcome = taken(&[
        ("A@x.example", "250 2.1.5 OK"),
        ("b@x.example", "550 5.1.1 unknown"),
        ("c@x.example", "451 4.2.0 later"),
    ]);
    let decision = decided(&message, outcome, "2026-03-01T10:00:05Z");
    assert_eq!(decision.to, MessageState::Deferred);
    assert_eq!((decision.taken.len(), decision.failed.len()), (1, 1));
    let envelope = decision.envelope.unwrap();
    assert!(is_taken_in_part(&envelope));
    let open: Vec<_> = envelope.recipients.iter().filter(|one| is_open(one)).map(|one| one.address.as_str()).collect();
    assert_eq!(open, ["c@x.example"]);
    // The second attempt is for the third alone.
    let second = QueuedMessage { envelope, attempts: 1, ..message };
    let decision = decided(&second, taken(&[("c@x.example", "250 2.1.5 OK")]), "2026-03-01T10:01:00Z");
    assert_eq!((decision.to, decision.taken.len(), decision.failed.len()), (MessageState::Accepted, 1, 0));
}

#[test]
fn refused_at_rcpt_some_for_good_and_some_for_now() {
    let message = message(&["a@x.example", "b@x.example"]);
    let outcome = refusal(
        Stage::Rcpt,
        "550 5.1.1 unknown",
        &[("a@x.example", "550 5.1.1 unknown"), ("b@x.example", "451 4.2.0 later")],
    );
    let decision = decided(&message, outcome, "2026-03-01T10:00:05Z");
    assert_eq!((decision.to, decision.failed.len()), (MessageState::Deferred, 1));
}

#[test]
fn one_refused_for_good_does_not_fail_those_whose_message_was_refused_for_now() {
    let message = message(&["a@x.example", "b@x.example"]);
    for stage in [Stage::DataStart, Stage::DataEnd] {
        let rcpts = [("a@x.example", "550 5.1.1 unknown"), ("b@x.example", "250 2.1.5 OK")];
        let outcome = refusal(stage, "451 4.7.0 Temporary server error. Please try again later.", &rcpts);
        let decision = decided(&message, outcome, "2026-03-01T10:00:05Z");
        assert_eq!((decision.to, decision.failed.len()), (MessageState::Deferred, 1), "{stage:?}");
        let envelope = decision.envelope.unwrap();
        let open: Vec<_> =
            envelope.recipients.iter().filter(|one| is_open(one)).map(|one| one.address.as_str()).collect();
        assert_eq!(open, ["b@x.example"], "{stage:?}");
    }
}

#[test]
fn trouble_that_may_pass_ends_after_five_days_and_many_attempts() {
    let fresh = message(&["a@x.example"]);
    let outcome = || refusal(Stage::DataEnd, "451 4.7.0 later", &[]);
    let tried = QueuedMessage { attempts: 30, ..fresh.clone() };
    assert_eq!(decided(&fresh, outcome(), "2026-03-08T10:00:00Z").to, MessageState::Deferred);
    assert_eq!(decided(&tried, outcome(), "2026-03-06T09:00:00Z").to, MessageState::Deferred);
    let decision = decided(&tried, outcome(), "2026-03-06T10:00:01Z");
    assert_eq!((decision.to, decision.failed.len()), (MessageState::Failed, 1));
    assert_eq!(decision.detail["gave_up_after_attempts"], 31);
}

#[test]
fn a_message_becomes_late_once() {
    let mut late = message(&["a@x.example"]);
    let outcome = || refusal(Stage::DataEnd, "451 4.7.0 later", &[]);
    assert!(!decided(&late, outcome(), "2026-03-01T13:59:00Z").newly_late);
    let decision = decided(&late, outcome(), "2026-03-01T14:00:01Z");
    assert!(decision.newly_late);
    late.outcome = Some(decision.detail);
    let again = decided(&late, outcome(), "2026-03-01T15:00:00Z");
    assert!(!again.newly_late && again.detail["late"] == true);
}

#[test]
fn an_answer_that_did_not_come_is_looked_for() {
    let lost = Unknown::Smtp { host: "smtp.office365.com".into(), cause: postkey_transport::outcome::Lost::Closed };
    let decision = decided(&message(&["a@x.example"]), Outcome::Unknown(lost), "2026-03-01T10:00:05Z");
    assert_eq!((decision.to, lane(&decision.lane).as_str()), (MessageState::Unknown, "network"));
    assert_eq!(decision.due_at, Some(at("2026-03-01T10:00:10Z")));
    assert!(decision.failed.is_empty());
    assert_eq!(decision.detail["message_id"], "<1@contoso.example>");
}
