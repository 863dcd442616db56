use postkey_smtp::{Reply, ReplyParser, Stage};

use super::*;
use crate::{
    route::{Choice, Preference, RouteReason},
    smtp_refusal::SmtpRefusal,
};

fn reply(text: &str) -> Reply {
    let mut parser = ReplyParser::new();
    parser.feed(format!("{text}\r\n").as_bytes());
    parser.take().unwrap().unwrap()
}

fn smtp(stage: Stage, text: &str) -> TransportError {
    let reply = reply(text);
    TransportError::Smtp(Box::new(SmtpRefusal {
        meaning: SmtpMeaning::of(stage, &reply),
        host: "smtp.office365.com".into(),
        mailbox: "a@x.example".parse().unwrap(),
        stage,
        reply,
        recipients: Vec::new(),
    }))
}

fn missing() -> TransportError {
    let host = "smtp.office365.com".into();
    TransportError::Session(SessionError::Missing { host, missing: "8BITMIME".into(), of_message: true })
}

fn over_limit() -> TransportError {
    let call = postkey_graph::send_mail::SEND;
    GraphError::OverRequestLimit { call, size: 5_000_000, limit: 4_000_000 }.into()
}

fn report(route: Route, refusal: TransportError) -> Report {
    Report {
        message_id: None,
        choice: Some(Choice { route, reason: RouteReason::FitsOneRequest, losses: Vec::new() }),
        repairs: Vec::new(),
        outcome: Outcome::Refused(refusal),
        fell_back: None,
    }
}

fn everything() -> Abilities {
    Abilities { graph_send: true, graph_read_write: true, smtp: true, ..Abilities::default() }
}

#[test]
fn only_a_lasting_refusal_that_another_way_does_not_know_leads_there() {
    const OFF: &str = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.";
    for (route, refusal, because) in [
        (Route::Smtp, smtp(Stage::Auth, OFF), Some(FallBackReason::SmtpAuthIsOff)),
        (
            Route::Smtp,
            smtp(Stage::Auth, "535 5.7.3 Authentication unsuccessful"),
            Some(FallBackReason::SmtpSignInRefused),
        ),
        (Route::Smtp, missing(), Some(FallBackReason::SmtpLacksExtension)),
        (Route::GraphMime, over_limit(), Some(FallBackReason::TooLargeForGraph)),
        // It passes by itself.
        (Route::Smtp, smtp(Stage::Auth, "432 4.3.2 Concurrent connections limit exceeded"), None),
        // The lane stops; going round it would make it worse.
        (Route::Smtp, smtp(Stage::Mail, "550 5.2.251 Sender throttled due to continuous mailbox full errors."), None),
        // Graph judges From alike.
        (Route::Smtp, smtp(Stage::DataEnd, "554 5.2.252 SendAsDenied; a not allowed to send as b"), None),
        // The last way there is.
        (Route::GraphDraftUpload, over_limit(), None),
    ] {
        let words = format!("{route} {refusal}");
        let found = fall_back(&report(route, refusal), 3_500_000, &everything());
        assert_eq!(found.map(|(_, because)| because), because, "{words}");
    }
}

#[test]
fn a_way_that_nobody_permits_is_none() {
    let off = || smtp(Stage::Auth, "535 5.7.3 Authentication unsuccessful");
    let only_smtp = Abilities { preference: Preference::Smtp, ..everything() };
    assert!(fall_back(&report(Route::Smtp, off()), 100, &only_smtp).is_none());
    let without_graph = Abilities { graph_send: false, ..everything() };
    assert!(fall_back(&report(Route::Smtp, off()), 100, &without_graph).is_none());
    let (left, _) = fall_back(&report(Route::Smtp, off()), 100, &everything()).unwrap();
    assert!(left.graph_send && !left.smtp);
}

#[test]
fn a_refused_size_is_remembered_and_limits_only_fall() {
    let server = |limit| TransportError::Session(SessionError::TooLarge { host: "h".into(), size: 40_000_000, limit });
    for (refusal, lesson) in [
        (server(36_700_160), Some(Lesson::MessageLimit(36_700_160))),
        (
            smtp(Stage::DataEnd, "552 5.3.4 Message size exceeds fixed maximum message size"),
            Some(Lesson::MessageLimit(39_999_999)),
        ),
        (smtp(Stage::DataEnd, "550 5.1.8 Bad outbound sender"), None),
        (over_limit(), None),
    ] {
        assert_eq!(lesson_of(&refusal, 40_000_000), lesson, "{refusal}");
    }
    let mut abilities = everything();
    Lesson::MessageLimit(1_000).apply(&mut abilities);
    Lesson::MessageLimit(2_000).apply(&mut abilities);
    Lesson::GraphRequestLimit(500).apply(&mut abilities);
    assert_eq!((abilities.message_limit, abilities.graph_request_limit), (1_000, 500));
}
