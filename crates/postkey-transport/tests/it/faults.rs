//! Every fault of the far side has its class, its wait and its words; and whatever is said, what arrives is what it says.

use std::time::Duration;

use postkey_base::Diagnose;
use postkey_emulator::{
    exchange::administration::Right,
    faults::{Action, Fault},
};
use postkey_transport::{
    Envelope, Outcome, OutcomeClass as C, Report, Route, RouteReason, Stamp, Transport, TransportError,
};

use crate::emulated::{Far, message, send};

/// What is expected of one fault.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Accepted,
    /// Its class, its code, and whether it passes by itself.
    Refused(C, &'static str, bool),
    Unknown,
}

fn told(report: &Report) -> Told {
    match &report.outcome {
        Outcome::Accepted(_) => Told::Accepted,
        Outcome::Refused(error) => Told::Refused(error.class(), error.code(), error.is_transient()),
        Outcome::Unknown(_) => Told::Unknown,
    }
}

fn has_words(report: &Report) {
    let (said, remedy, why) = match &report.outcome {
        Outcome::Accepted(_) => return,
        Outcome::Refused(error) => (error.to_string(), error.remedy(), error.diagnosis().why),
        Outcome::Unknown(unknown) => (unknown.to_string(), unknown.remedy(), unknown.diagnosis().why),
    };
    assert!(!said.is_empty() && !remedy.is_empty() && why.is_some(), "{said} | {remedy} | {why:?}");
}

/// The tag, what is told, the wait, and the copies that arrive.
type Row = (&'static str, Told, Option<u64>, u32);

async fn each(far: &Far, transport: &Transport, file: bool, rows: Vec<Row>) {
    for (tag, expected, wait, copies) in rows {
        let (stamp, report) = send(transport, &message(&far.sender(), &far.tagged(tag), file)).await;
        assert_eq!(told(&report), expected, "+{tag}: {report:?}");
        assert_eq!(report.retry_after(), wait.map(Duration::from_secs), "+{tag}");
        let (accepted, arrived) = far.arrived(stamp);
        assert_eq!(arrived, copies, "+{tag}");
        assert!(accepted <= 1, "+{tag}: nothing is sent twice in one attempt");
        has_words(&report);
    }
}

#[tokio::test]
async fn graph_answers_are_told_for_what_they_prove() {
    let far = Far::start().await;
    let rows = vec![
        ("429", Told::Refused(C::Mailbox, "graph.throttled", true), Some(2), 0),
        ("401", Told::Refused(C::Credential, "graph.unauthenticated", false), None, 0),
        ("403", Told::Refused(C::Mailbox, "graph.access_denied", false), None, 0),
        ("404", Told::Refused(C::Mailbox, "graph.not_found", false), None, 0),
        ("413", Told::Refused(C::Message, "graph.too_large", false), None, 0),
        ("sendas", Told::Refused(C::Mailbox, "graph.send_as_denied", false), None, 0),
        // A 5xx proves nothing, whichever way it went.
        ("500", Told::Unknown, None, 0),
        ("500-delivered", Told::Unknown, None, 1),
        ("503", Told::Unknown, Some(2), 0),
        ("504", Told::Unknown, None, 0),
        ("504-delivered", Told::Unknown, None, 1),
        // The connection is cut after the body.
        ("drop", Told::Unknown, None, 0),
        ("drop-delivered", Told::Unknown, None, 1),
        // Only 202 is acceptance.
        ("200", Told::Unknown, None, 0),
        ("200-delivered", Told::Unknown, None, 1),
        // Taken, and a wait asked for.
        ("202", Told::Accepted, Some(30), 1),
        // Accepted first; the report in the Inbox is another matter.
        ("ndr", Told::Accepted, None, 0),
        ("terrl", Told::Accepted, None, 0),
    ];
    each(&far, &far.by_graph(), false, rows).await;
}

#[tokio::test]
async fn a_draft_s_way_is_told_alike_and_one_look_clears_up_what_it_can() {
    let far = Far::start().await;
    let rows = vec![
        // The attachment's id stands in Location alone, always.
        ("news", Told::Accepted, None, 1),
        // The first range is lost with its connection, or stored and its answer lost.
        ("chunk", Told::Accepted, None, 1),
        ("chunk-delivered", Told::Accepted, None, 1),
        ("429", Told::Refused(C::Mailbox, "graph.throttled", true), Some(2), 0),
        ("sendas", Told::Refused(C::Mailbox, "graph.send_as_denied", false), None, 0),
        // The draft's immutable id shows it in Sent Items.
        ("504-delivered", Told::Accepted, None, 1),
        ("drop-delivered", Told::Accepted, None, 1),
        // Still a draft: that proves nothing.
        ("504", Told::Unknown, None, 0),
        ("drop", Told::Unknown, None, 0),
        ("202", Told::Accepted, Some(30), 1),
    ];
    each(&far, &far.by_drafts(), true, rows).await;
}

#[tokio::test]
async fn a_file_arrives_whole_however_its_upload_broke_off() {
    let far = Far::start().await;
    for tag in ["news", "chunk", "chunk-delivered"] {
        let (_, report) = send(&far.by_drafts(), &message(&far.sender(), &far.tagged(tag), true)).await;
        assert!(report.outcome.is_accepted(), "{tag}: {report:?}");
        let (tenant, user) = (far.emulator.tenant_id(), far.emulator.sample().user_name.clone());
        let inbox = far.emulator.with_world(|world| world.mailbox_contents(tenant, &user).unwrap());
        let raw = inbox.last().unwrap().mime.clone();
        let parsed = mail_parser::MessageParser::new().parse(&raw).unwrap();
        let expected: Vec<u8> = (0u8..=255).cycle().take(4_100_000).collect();
        assert!(parsed.attachment(0).unwrap().contents() == expected, "{tag}");
    }
}

#[tokio::test]
async fn smtp_replies_are_told_for_what_they_prove() {
    let far = Far::start().await;
    let stopped = || Told::Refused(C::Mailbox, "smtp.stop_sending", false);
    let rows = vec![
        ("432", Told::Refused(C::Mailbox, "smtp.too_many_connections", true), None, 0),
        ("421", Told::Refused(C::Network, "smtp.transient", true), None, 0),
        ("451", Told::Refused(C::Network, "smtp.transient", true), None, 0),
        ("503", Told::Refused(C::Network, "smtp.transient", true), None, 0),
        ("550", Told::Refused(C::Recipient, "smtp.recipient", false), None, 0),
        ("sendas", Told::Refused(C::Mailbox, "smtp.send_as_denied", false), None, 0),
        ("stop251", stopped(), None, 0),
        ("stop252", stopped(), None, 0),
        ("stop253", stopped(), None, 0),
        ("stop254", stopped(), None, 0),
        ("stop255", stopped(), None, 0),
        // The answer to the final dot does not come.
        ("drop", Told::Unknown, None, 0),
        ("drop-delivered", Told::Unknown, None, 1),
        ("202", Told::Accepted, None, 1),
        ("ndr", Told::Accepted, None, 0),
    ];
    each(&far, &far.by_smtp(), false, rows).await;
}

#[tokio::test]
async fn a_mailbox_that_is_stopped_is_told_to_stop() {
    let far = Far::start().await;
    for (tag, stops) in [("stop253", true), ("sendas", false), ("432", false)] {
        let (_, report) = send(&far.by_smtp(), &message(&far.sender(), &far.tagged(tag), false)).await;
        let Outcome::Refused(error) = &report.outcome else { panic!("{report:?}") };
        assert_eq!(error.stops_the_mailbox(), stops, "{tag}");
    }
}

#[tokio::test]
async fn a_switch_that_is_off_is_named_and_gone_round_where_graph_may() {
    let far = Far::start().await;
    let (tenant, sender) = (far.emulator.tenant_id(), far.sender());
    for (mailbox, organization, code, class) in [
        (Some(true), false, "smtp.auth_disabled_for_mailbox", C::Mailbox),
        (None, true, "smtp.auth_disabled_for_tenant", C::Tenant),
    ] {
        far.emulator.with_world(|world| {
            let tenant = world.tenant_mut(tenant).unwrap();
            tenant.exchange.smtp_auth_disabled = organization;
            tenant.mailbox_mut(&sender).unwrap().smtp_auth_disabled = mailbox;
        });
        let to = far.emulator.sample().user_name.clone();
        let (_, report) = send(&far.by_smtp(), &message(&sender, &to, false)).await;
        assert_eq!(told(&report), Told::Refused(class, code, false));
        // Headers that name somebody who gets no copy: SMTP's, where it works.
        let message = message(&sender, &to, false);
        let hidden = postkey_transport::Envelope::new(
            sender.parse().unwrap(),
            [far.emulator.sample().second_user_name.parse().unwrap()],
        );
        let stamp = crate::support::stamp();
        let report = far.by_both().send(&message, &hidden.unwrap(), &stamp).await;
        assert!(report.outcome.is_accepted(), "{report:?}");
        let fell_back = report.fell_back.expect("it went another way");
        assert_eq!(fell_back.refusal.code(), code);
        assert_eq!(report.choice.unwrap().route, postkey_transport::Route::GraphMime);
    }
}

#[tokio::test]
async fn a_request_too_large_for_graph_goes_by_smtp() {
    let far = Far::start().await;
    let (stamp, report) = send(&far.by_both(), &message(&far.sender(), &far.tagged("413-once"), false)).await;
    assert!(report.outcome.is_accepted(), "{report:?}");
    assert_eq!(report.fell_back.unwrap().because, postkey_transport::FallBackReason::TooLargeForGraph);
    assert_eq!(far.arrived(stamp), (1, 1));
}

#[tokio::test]
async fn the_right_that_a_from_needs_is_named_and_once_granted_it_goes() {
    let far = Far::start().await;
    let boss = far.emulator.sample().second_user_name.clone();
    let to = far.emulator.sample().user_name.clone();
    for transport in [far.by_graph(), far.by_smtp()] {
        let (_, report) = send(&transport, &message(&boss, &to, false)).await;
        let Outcome::Refused(TransportError::SendAsDenied(denied)) = &report.outcome else { panic!("{report:?}") };
        assert_eq!((denied.from.as_str(), denied.mailbox.as_str()), (boss.as_str(), far.sender().as_str()));
        let command = format!("Add-RecipientPermission {boss} -AccessRights SendAs -Trustee {}", far.sender());
        assert!(denied.remedy().contains(&command), "{}", denied.remedy());
    }
    let (tenant, sender) = (far.emulator.tenant_id(), far.sender());
    far.emulator.with_world(|world| {
        let tenant = world.tenant_mut(tenant).unwrap();
        let owner = tenant.mailbox(&sender).unwrap().owner;
        assert!(tenant.grant(&boss, Right::SendAs, owner));
    });
    for transport in [far.by_graph(), far.by_smtp()] {
        let (_, report) = send(&transport, &message(&boss, &to, false)).await;
        assert!(report.outcome.is_accepted(), "{report:?}");
    }
}

#[tokio::test]
async fn too_many_connections_are_told_apart_from_other_trouble() {
    let far = Far::start().await;
    far.emulator.with_world(|world| world.mail.limits.smtp_connections = 0);
    let (_, report) = send(&far.by_smtp(), &message(&far.sender(), &far.tagged("news"), false)).await;
    assert_eq!(told(&report), Told::Refused(C::Mailbox, "smtp.too_many_connections", true));
    let refused =
        far.emulator.with_world(|world| world.mail.tallies.all().values().map(|one| one.smtp_refused).sum::<u64>());
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn a_lost_answer_is_found_again_in_sent_items() {
    let far = Far::start().await;
    for (tag, found) in [("504-delivered", true), ("504", false), ("drop-delivered", true)] {
        let (stamp, report) = send(&far.by_graph(), &message(&far.sender(), &far.tagged(tag), false)).await;
        let (mailbox, id) = (far.sender().parse().unwrap(), report.message_id.unwrap());
        let copy = postkey_transport::seen_in_sent(far.graph(), &mailbox, &id, Some(stamp)).await.unwrap();
        assert_eq!(copy.is_some_and(|copy| copy.confirmed), found, "{tag}");
    }
}

#[tokio::test]
async fn a_fault_of_the_whole_service_is_no_fault_of_the_message() {
    let far = Far::start().await;
    let status = |status, code: &str| Action::Status {
        status,
        code: Some(code.to_owned()),
        aadsts: None,
        message: None,
        retry_after_seconds: None,
        retry_after_as_date: false,
    };
    for (status, code, expected) in [
        (413, "ErrorMessageSizeExceeded", Told::Refused(C::Message, "graph.too_large", false)),
        (507, "ErrorQuotaExceeded", Told::Refused(C::Mailbox, "graph.mailbox_full", false)),
        (404, "MailboxNotEnabledForRESTAPI", Told::Refused(C::Mailbox, "graph.mailbox_missing", false)),
        (400, "ErrorInvalidRecipients", Told::Refused(C::Recipient, "graph.invalid_recipients", false)),
        (400, "ErrorMimeContentInvalid", Told::Refused(C::Message, "graph.invalid_message", false)),
        (403, "ErrorExceededMessageLimit", Told::Refused(C::Mailbox, "graph.sending_limit", true)),
        (503, "ErrorMailboxMoveInProgress", Told::Unknown),
    ]
    .map(|(number, code, expected)| (status(number, code), code, expected))
    {
        far.emulator.fault(Fault::of("sendMail", status).times(1));
        let (_, report) = send(&far.by_graph(), &message(&far.sender(), &far.tagged("news"), false)).await;
        assert_eq!(told(&report), expected, "{code}: {report:?}");
        has_words(&report);
    }
}

#[tokio::test]
async fn json_is_used_when_asked_for_and_does_no_harm() {
    let far = Far::start().await;
    let wish = postkey_transport::SendWish { graph_json: true };
    let sample = far.emulator.sample().clone();
    let (small, large) =
        (message(&far.sender(), &sample.user_name, false), message(&far.sender(), &sample.user_name, true));
    let signed = format!(
        "From: {}\r\nTo: {}\r\nSubject: signed\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\nx\r\n--s--\r\n",
        far.sender(),
        sample.user_name
    );
    let signed = postkey_transport::Message::parse(signed.into_bytes()).unwrap();
    for (name, message, route, reason) in [
        ("small", &small, Route::GraphJson, RouteReason::AskedForJson),
        ("large", &large, Route::GraphDraftUpload, RouteReason::TooLargeForOneRequest),
        ("signed", &signed, Route::GraphMime, RouteReason::FitsOneRequest),
    ] {
        // The envelope decides: one recipient whom the headers do not name.
        let people = [&sample.user_name, &sample.second_user_name].map(|one| one.parse().unwrap());
        let envelope = Envelope::new(far.sender().parse().unwrap(), people).unwrap();
        let id = uuid::Uuid::new_v4();
        let stamp = Stamp { id, at: "2026-11-24T07:05:00Z".parse().unwrap() };
        let report = far.by_drafts().send_wished(message, &envelope, &stamp, &wish).await;
        assert!(report.outcome.is_accepted(), "{name}: {report:?}");
        let choice = report.choice.unwrap();
        assert_eq!((choice.route, choice.reason), (route, reason), "{name}");
        assert_eq!(far.arrived(id), (1, 2), "{name}");
        let mailbox = far.sender().parse().unwrap();
        let copy = postkey_transport::seen_in_sent(far.graph(), &mailbox, &report.message_id.unwrap(), Some(id)).await;
        assert!(copy.unwrap().is_some_and(|copy| copy.confirmed), "{name}: it is found by its Message-ID and stamp");
    }
}
