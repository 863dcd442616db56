//! Submission over real TLS: what arrives, what each failure is called, and what is never said twice.

use std::time::Duration;

use postkey_base::{Diagnose, Who};
use postkey_transport::{
    Deadlines, Envelope, Message, Outcome, OutcomeClass, Preference, Proof, Report, SessionError, SmtpMeaning,
    Transport, TransportError, Unknown,
};

use crate::support::{Manners, SmtpServer, address, stamp, transport};

const RAW: &str = "From: noreply@contoso.example\r\nTo: alice@contoso.example\r\nBcc: bob@contoso.example\r\n\
    Date: Tue, 24 Nov 2026 07:05:00 +0000\r\nMessage-ID: <1@contoso.example>\r\nSubject: dots\r\n\r\n.\r\n..two\r\nend\r\n";

async fn send_raw(transport: &Transport, raw: &str) -> Report {
    let message = Message::parse(raw.as_bytes().to_vec()).unwrap();
    let envelope = Envelope::of(&message, address("noreply@contoso.example")).unwrap();
    transport.send(&message, &envelope, &stamp()).await
}

async fn sent(manners: Manners) -> (SmtpServer, Report) {
    let server = SmtpServer::start(manners).await;
    let report = send_raw(&transport(None, Some(&server)), RAW).await;
    (server, report)
}

fn refusal(report: &Report) -> &TransportError {
    match &report.outcome {
        Outcome::Refused(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_bytes_arrive_and_bcc_does_not() {
    let (server, report) = sent(Manners::default()).await;
    let Outcome::Accepted(accepted) = &report.outcome else { panic!("{report:?}") };
    assert!(matches!(&accepted.proof, Proof::Smtp { reply, .. } if reply.to_string() == "250 2.0.0 OK <taken@server>"));
    assert_eq!(accepted.recipients.len(), 2);
    assert_eq!(report.message_id.as_deref(), Some("<1@contoso.example>"));
    let heard = server.heard.lock().unwrap();
    let expected = format!("X-Postkey-Id: {}\r\n{}", stamp().id, RAW.replace("Bcc: bob@contoso.example\r\n", ""));
    assert_eq!(String::from_utf8_lossy(&heard.messages[0]), expected);
    let said: Vec<_> = heard.lines.iter().filter(|line| !line.contains("dXNlcj")).map(String::as_str).collect();
    assert_eq!(
        said,
        [
            "EHLO [127.0.0.1]",
            "STARTTLS",
            "EHLO [127.0.0.1]",
            "AUTH XOAUTH2",
            &format!("MAIL FROM:<noreply@contoso.example> SIZE={}", expected.len()),
            "RCPT TO:<alice@contoso.example>",
            "RCPT TO:<bob@contoso.example>",
            "DATA",
            "QUIT",
        ]
    );
}

#[tokio::test]
async fn twelve_megabytes_arrive_whole() {
    let server = SmtpServer::start(Manners::default()).await;
    let line = format!("{}\r\n", ".bcd".repeat(19));
    let raw = format!("{RAW}{}", line.repeat(12_000_000 / line.len()));
    let report = send_raw(&transport(None, Some(&server)), &raw).await;
    assert!(report.outcome.is_accepted(), "{:?}", report.outcome);
    let heard = server.heard.lock().unwrap();
    assert!(heard.messages[0].ends_with(&raw.as_bytes()[RAW.len()..]));
}

#[tokio::test]
async fn each_refusal_is_told_apart() {
    const DENIED: &str = "554 5.2.252 SendAsDenied; noreply@contoso.example not allowed to send as boss@contoso.example; \
                          STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied;";
    const SWITCH: &str =
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit x";
    let ours = Manners::default;
    for (manners, meaning, class, who) in [
        (
            Manners { auth: vec![SWITCH], ..ours() },
            SmtpMeaning::AuthDisabledForTenant,
            OutcomeClass::Tenant,
            Who::ExchangeAdministrator,
        ),
        (
            Manners { after_data: DENIED, ..ours() },
            SmtpMeaning::SendAsDenied,
            OutcomeClass::Mailbox,
            Who::ExchangeAdministrator,
        ),
        (
            Manners { mail: "432 4.3.2 Concurrent connections limit exceeded", ..ours() },
            SmtpMeaning::TooManyConnections,
            OutcomeClass::Mailbox,
            Who::Wait,
        ),
        (
            Manners { rcpt: |_| "550 5.1.10 Recipient not found", ..ours() },
            SmtpMeaning::Recipient,
            OutcomeClass::Recipient,
            Who::You,
        ),
        (
            Manners { mail: "421 4.3.2 Service not available", ..ours() },
            SmtpMeaning::Transient,
            OutcomeClass::Network,
            Who::Wait,
        ),
        (
            Manners { after_data: "552 5.3.4 Message size exceeds fixed maximum message size", ..ours() },
            SmtpMeaning::TooLarge,
            OutcomeClass::Message,
            Who::You,
        ),
    ] {
        let (_server, report) = sent(manners).await;
        let refused = match refusal(&report) {
            TransportError::Smtp(refused) => refused,
            TransportError::SendAsDenied(denied) => match &*denied.refusal {
                TransportError::Smtp(refused) => refused,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        assert_eq!((refused.meaning, refused.class(), refused.who()), (meaning, class, who));
    }
}

#[tokio::test]
async fn a_recipient_refused_leaves_the_others_their_copy() {
    let rcpt: fn(&str) -> &'static str =
        |line| if line.contains("bob") { "550 5.1.10 Recipient not found" } else { "250 2.1.5 Recipient OK" };
    let (server, report) = sent(Manners { rcpt, ..Manners::default() }).await;
    let Outcome::Accepted(accepted) = &report.outcome else { panic!("{report:?}") };
    let each: Vec<_> = accepted.recipients.iter().map(|one| (one.address.as_str(), one.accepted)).collect();
    assert_eq!(each, [("alice@contoso.example", true), ("bob@contoso.example", false)]);
    assert_eq!(server.heard.lock().unwrap().messages.len(), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    const NO: &str = "535 5.7.3 Authentication unsuccessful [SERVER]";
    let (server, report) = sent(Manners { auth: vec![NO, "235 2.7.0 ok"], ..Manners::default() }).await;
    assert!(report.outcome.is_accepted(), "{report:?}");
    assert_eq!(*server.tokens.disowned.lock().unwrap(), ["token-0"]);

    let (server, report) = sent(Manners { auth: vec![NO], ..Manners::default() }).await;
    let error = refusal(&report);
    assert_eq!((error.code(), error.class()), ("smtp.auth_unsuccessful", OutcomeClass::Credential));
    assert_eq!(server.heard.lock().unwrap().connections, 2, "no third try: repeated failures stop the mailbox");
}

#[tokio::test]
async fn only_an_answer_lost_after_the_final_dot_is_unknown() {
    let (server, report) = sent(Manners { after_data: "", ..Manners::default() }).await;
    assert!(matches!(&report.outcome, Outcome::Unknown(Unknown::Smtp { .. })), "{report:?}");
    assert_eq!(server.heard.lock().unwrap().messages.len(), 1);

    let (_server, report) = sent(Manners { mail: "", ..Manners::default() }).await;
    let error = refusal(&report);
    assert!(matches!(error, TransportError::Session(SessionError::Lost { .. })), "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_silent_server_is_left_at_the_deadline() {
    // Accepts connections and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = SmtpServer::start(Manners::default()).await;
    let target = listener.local_addr().unwrap().to_string().parse().unwrap();
    let brief = Deadlines { command: Duration::from_millis(50), ..Deadlines::default() };
    let route = server.route_to(target).with_deadlines(brief);
    let report = send_raw(&Transport { smtp: Some(route), ..transport(None, None) }, RAW).await;
    let error = refusal(&report);
    assert!(matches!(error, TransportError::Session(SessionError::Lost { .. })), "{error:?}");
    assert!(error.why().unwrap().contains("nothing came within"), "{:?}", error.why());
}

#[tokio::test]
async fn nothing_is_authenticated_before_tls_holds() {
    let (server, report) = sent(Manners { start_tls: "454 4.7.0 TLS not available", ..Manners::default() }).await;
    assert_eq!(refusal(&report).code(), "smtp.transient");
    assert!(!server.heard.lock().unwrap().lines.iter().any(|line| line.starts_with("AUTH")));

    let server = SmtpServer::start(Manners::default()).await;
    let transport = Transport { smtp: Some(server.route_without_its_ca()), ..transport(None, None) };
    let report = send_raw(&transport, RAW).await;
    let error = refusal(&report);
    assert!(matches!(error, TransportError::Session(SessionError::Network(_))), "{error:?}");
    assert!(!server.heard.lock().unwrap().lines.iter().any(|line| line.starts_with("AUTH")));
}

#[tokio::test]
async fn eight_bit_mail_asks_for_what_it_needs() {
    let raw = RAW.replace("dots", "Grüße");
    let server = SmtpServer::start(Manners::default()).await;
    let report = send_raw(&transport(None, Some(&server)), &raw).await;
    assert!(report.outcome.is_accepted(), "{report:?}");
    let mail = server.heard.lock().unwrap().lines.iter().find(|line| line.starts_with("MAIL")).cloned().unwrap();
    assert!(mail.ends_with(" BODY=8BITMIME SMTPUTF8"), "{mail}");

    // A server that takes none gets none: nothing had been sent to it.
    let server = SmtpServer::start(Manners { offers: "AUTH XOAUTH2", ..Manners::default() }).await;
    let report = send_raw(&transport(None, Some(&server)), &raw).await;
    assert!(report.outcome.is_accepted(), "{report:?}");
    assert!(report.repairs.iter().any(|repair| repair.kind.name() == "encode-header-words"));
    assert!(server.heard.lock().unwrap().messages.iter().all(|message| message.is_ascii()));

    // What must not be changed is refused.
    let signed =
        raw.replace("\r\n\r\n.", "\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\nä\r\n--s--\r\n.");
    let server = SmtpServer::start(Manners { offers: "AUTH XOAUTH2", ..Manners::default() }).await;
    let report = send_raw(&transport(None, Some(&server)), &signed).await;
    assert_eq!(refusal(&report).code(), "smtp.extension_missing");
}

#[tokio::test]
async fn smtp_alone_can_be_wanted_and_graph_alone_too() {
    let server = SmtpServer::start(Manners::default()).await;
    let mut transport = transport(None, Some(&server));
    transport.abilities.preference = Preference::Graph;
    let report = send_raw(&transport, RAW).await;
    assert_eq!(refusal(&report).code(), "transport.no_route");
    assert_eq!(server.heard.lock().unwrap().connections, 0);
}

#[tokio::test]
async fn submission_goes_through_the_proxy_that_is_set() {
    let server = SmtpServer::start(Manners::default()).await;
    let (proxy, asked) = crate::support::proxy().await;
    let route = server.route_through(proxy);
    let report = send_raw(&Transport { smtp: Some(route), ..transport(None, None) }, RAW).await;
    assert!(report.outcome.is_accepted(), "{report:?}");
    assert!(asked.lock().unwrap()[0].starts_with("CONNECT 127.0.0.1:"), "{asked:?}");
}

#[tokio::test]
async fn a_check_signs_in_and_begins_no_message() {
    let server = SmtpServer::start(Manners::default()).await;
    let signed_in = server.route().check(&address("noreply@contoso.example")).await.unwrap();
    assert_eq!(signed_in.size, Some(157_286_400));
    assert_eq!(server.heard.lock().unwrap().lines.last().unwrap(), "QUIT");
    assert!(!server.heard.lock().unwrap().lines.iter().any(|line| line.starts_with("MAIL")));

    const SWITCH: &str =
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.";
    let server = SmtpServer::start(Manners { auth: vec![SWITCH], ..Manners::default() }).await;
    let error = server.route().check(&address("noreply@contoso.example")).await.unwrap_err();
    assert_eq!(error.code(), "smtp.auth_disabled_for_mailbox");
}
