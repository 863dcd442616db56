//! Graph as the carrier: which calls are made, what counts as acceptance, and what is left behind when it fails.

use base64::{Engine, prelude::BASE64_STANDARD};
use postkey_base::Diagnose;
use postkey_graph::Graph;
use postkey_transport::{
    Composition, Envelope, Message, Outcome, OutcomeClass, Proof, Report, Route, RouteReason, Transport, compose,
    compose::AttachedFile, seen_in_sent,
};
use serde_json::Value;

use crate::support::{GraphServer, Manners, Say, SmtpServer, address, stamp, transport};

const RAW: &str = "From: noreply@contoso.example\r\nTo: alice@contoso.example\r\n\
    Date: Tue, 24 Nov 2026 07:05:00 +0000\r\nMessage-ID: <1@contoso.example>\r\nSubject: hello\r\n\r\nHi\r\n";
const DRAFT: Say = (201, "", r#"{"id":"draft-1","isDraft":true}"#);
const ADDED: Say = (201, "", r#"{"id":"file-1"}"#);
const SESSION: Say = (201, "", r#"{"uploadUrl":"{base}/upload","nextExpectedRanges":["0-"]}"#);
const DONE: Say = (201, "https://outlook.office.com/api/v2.0/Users('u')/Messages('m')/Attachments('file-2')", "");
const TAKEN: Say = (202, "", "");

async fn send(transport: &Transport, raw: impl Into<Vec<u8>>) -> Report {
    let message = Message::parse(raw.into()).unwrap();
    let envelope = Envelope::of(&message, address("noreply@contoso.example")).unwrap();
    transport.send(&message, &envelope, &stamp()).await
}

/// A message with a 2 MB and a 9 MB attachment.
fn large() -> (Composition, Vec<u8>) {
    let bytes = |count: usize| (0u8..=255).cycle().take(count).collect::<Vec<_>>();
    let file = |name: &str, count| AttachedFile { name: name.into(), content_type: None, bytes: bytes(count) };
    let composition = Composition {
        to: vec![address("alice@contoso.example")],
        bcc: vec![address("bob@contoso.example")],
        subject: "Grüße".into(),
        text: Some("Hallo".into()),
        attachments: vec![file("small.bin", 2_000_000), file("large.bin", 9_000_000)],
        ..Composition::new(address("noreply@contoso.example"))
    };
    let raw = compose(&composition, stamp().id, stamp().at).unwrap();
    (composition, raw)
}

fn without_smtp(server: &GraphServer) -> Transport {
    transport(Some(server), None)
}

#[tokio::test]
async fn a_small_message_goes_as_mime_byte_for_byte() {
    let server = GraphServer::start([TAKEN]).await;
    let report = send(&without_smtp(&server), RAW).await;
    let Outcome::Accepted(accepted) = &report.outcome else { panic!("{report:?}") };
    assert_eq!(accepted.route, Route::GraphMime);
    assert!(matches!(&accepted.proof, Proof::Graph { request_id: Some(id), .. } if id == "microsoft-202"));
    let (line, body) = server.seen().remove(0);
    assert_eq!(line, "POST /v1.0/users/noreply@contoso.example/sendMail");
    let mime = BASE64_STANDARD.decode(body).unwrap();
    assert_eq!(String::from_utf8(mime).unwrap(), format!("X-Postkey-Id: {}\r\n{RAW}", stamp().id));
}

#[tokio::test]
async fn only_202_is_acceptance_and_only_doubt_is_unknown() {
    let cases: [(Say, &str); 8] = [
        ((202, "", ""), "accepted"),
        ((200, "", ""), "unknown"),
        ((500, "", r#"{"error":{"code":"ErrorInternalServerError"}}"#), "unknown"),
        ((503, "", r#"{"error":{"code":"ErrorServerBusy"}}"#), "unknown"),
        ((504, "", ""), "unknown"),
        ((0, "", ""), "unknown"),
        ((403, "", r#"{"error":{"code":"ErrorSendAsDenied"}}"#), "refused"),
        ((429, "", r#"{"error":{"code":"ApplicationThrottled"}}"#), "refused"),
    ];
    for (say, expected) in cases {
        let server = GraphServer::start([say]).await;
        let report = send(&without_smtp(&server), RAW).await;
        let seen = match &report.outcome {
            Outcome::Accepted(_) => "accepted",
            Outcome::Refused(_) => "refused",
            Outcome::Unknown(_) => "unknown",
        };
        assert_eq!(seen, expected, "{say:?}: {report:?}");
        assert_eq!(server.seen().len(), 1, "a send is never repeated here");
    }
}

#[tokio::test]
async fn a_large_message_goes_by_draft_and_upload_with_equal_bytes() {
    let (composition, raw) = large();
    let more = (200, "", r#"{"nextExpectedRanges":["3932160"]}"#);
    let last = (200, "", r#"{"nextExpectedRanges":["7864320"]}"#);
    let server = GraphServer::start([DRAFT, ADDED, SESSION, more, last, DONE, TAKEN]).await;
    let report = send(&without_smtp(&server), raw).await;
    assert!(report.outcome.is_accepted(), "{report:?}");
    let choice = report.choice.unwrap();
    assert_eq!((choice.route, choice.reason), (Route::GraphDraftUpload, RouteReason::TooLargeForOneRequest));
    assert_eq!(choice.losses, ["Date"]);
    let seen = server.seen();
    let mailbox = "/v1.0/users/noreply@contoso.example/messages";
    assert_eq!(
        server.lines(),
        [
            format!("POST {mailbox}"),
            format!("POST {mailbox}/draft-1/attachments"),
            format!("POST {mailbox}/draft-1/attachments/createUploadSession"),
            "PUT /upload".into(),
            "PUT /upload".into(),
            "PUT /upload".into(),
            format!("POST {mailbox}/draft-1/send"),
        ]
    );
    let draft: Value = serde_json::from_slice(&seen[0].1).unwrap();
    assert_eq!(draft["subject"], "Grüße");
    assert_eq!(draft["body"]["content"], "Hallo");
    assert_eq!(draft["toRecipients"][0]["emailAddress"]["address"], "alice@contoso.example");
    assert_eq!(draft["bccRecipients"][0]["emailAddress"]["address"], "bob@contoso.example");
    assert_eq!(draft["internetMessageId"], report.message_id.unwrap());
    assert_eq!(draft["internetMessageHeaders"][0]["name"], "X-Postkey-Id");
    let small: Value = serde_json::from_slice(&seen[1].1).unwrap();
    let small = BASE64_STANDARD.decode(small["contentBytes"].as_str().unwrap()).unwrap();
    assert!(small == composition.attachments[0].bytes);
    let uploaded: Vec<u8> = seen[3..6].iter().flat_map(|(_, body)| body.clone()).collect();
    assert!(uploaded == composition.attachments[1].bytes);
}

#[tokio::test]
async fn an_upload_that_is_cut_goes_on_where_it_stopped() {
    let more = (200, "", r#"{"nextExpectedRanges":["3932160"]}"#);
    let last = (200, "", r#"{"nextExpectedRanges":["7864320"]}"#);
    let server = GraphServer::start([DRAFT, ADDED, SESSION, more, (0, "", ""), last, DONE, TAKEN]).await;
    let report = send(&without_smtp(&server), large().1).await;
    assert!(report.outcome.is_accepted(), "{report:?}");
}

#[tokio::test]
async fn a_draft_that_cannot_be_finished_is_deleted() {
    let full: Say = (507, "", r#"{"error":{"code":"ErrorQuotaExceeded"}}"#);
    let server = GraphServer::start([DRAFT, full, (204, "", "")]).await;
    let report = send(&without_smtp(&server), large().1).await;
    let Outcome::Refused(error) = &report.outcome else { panic!("{report:?}") };
    assert_eq!((error.code(), error.class()), ("graph.mailbox_full", OutcomeClass::Mailbox));
    assert_eq!(server.lines().last().unwrap(), "DELETE /v1.0/users/noreply@contoso.example/messages/draft-1");
}

#[tokio::test]
async fn a_draft_whose_sending_is_in_doubt_stays() {
    let server = GraphServer::start([DRAFT, ADDED, SESSION, DONE, (504, "", "")]).await;
    let report = send(&without_smtp(&server), large().1).await;
    assert!(matches!(report.outcome, Outcome::Unknown(_)), "{report:?}");
    // One look, which shows nothing; it is not deleted, for it may be about to go.
    let lines = server.lines();
    assert!(lines[lines.len() - 2].ends_with("/send") && lines[lines.len() - 1].starts_with("GET "), "{lines:?}");

    let denied: Say = (403, "", r#"{"error":{"code":"ErrorSendAsDenied"}}"#);
    let server = GraphServer::start([DRAFT, ADDED, SESSION, DONE, denied, (204, "", "")]).await;
    let report = send(&without_smtp(&server), large().1).await;
    assert!(matches!(report.outcome, Outcome::Refused(_)), "{report:?}");
    assert!(server.lines().last().unwrap().starts_with("DELETE"));
}

#[tokio::test]
async fn a_draft_made_without_an_answer_is_looked_for_and_removed() {
    let found: Say = (200, "", r#"{"value":[{"id":"draft-9","isDraft":true}]}"#);
    let server = GraphServer::start([(504, "", ""), found, (204, "", "")]).await;
    let report = send(&without_smtp(&server), large().1).await;
    assert!(matches!(&report.outcome, Outcome::Refused(error) if error.is_transient()), "{report:?}");
    assert!(server.lines()[1].contains("/mailFolders/drafts/messages?"), "{:?}", server.lines());
    assert!(server.lines()[2].ends_with("/messages/draft-9"));
}

#[tokio::test]
async fn what_graph_would_harm_goes_by_smtp_or_is_refused_before_anything_is_sent() {
    let body = "x".repeat(76) + "\r\n";
    let signed = RAW
        .replace("Subject: hello\r\n\r\nHi\r\n", "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n")
        + &body.repeat(50_000)
        + "--s--\r\n";
    let (graph, smtp) = (GraphServer::start([]).await, SmtpServer::start(Manners::default()).await);
    let report = send(&transport(Some(&graph), Some(&smtp)), signed.clone()).await;
    assert!(report.outcome.is_accepted(), "{report:?}");
    assert_eq!(report.choice.unwrap().route, Route::Smtp);
    let report = send(&without_smtp(&graph), signed).await;
    let Outcome::Refused(error) = &report.outcome else { panic!("{report:?}") };
    assert_eq!(error.code(), "transport.would_be_rewritten");
    assert!(error.to_string().contains("signed") && error.to_string().contains("above 2,99"), "{error}");
    assert!(graph.seen().is_empty());
}

#[tokio::test]
async fn a_sent_message_is_found_by_its_id_and_our_stamp() {
    let copy: Say = (
        200,
        "",
        r#"{"value":[{"id":"d","isDraft":true},{"id":"s","isDraft":false,"sentDateTime":"2026-11-24T07:05:01Z",
           "internetMessageHeaders":[{"name":"X-Postkey-Id","value":"00000000-0000-0000-0000-000000000007"}]}]}"#,
    );
    let nothing: Say = (200, "", r#"{"value":[]}"#);
    let server = GraphServer::start([copy, nothing]).await;
    let graph: Graph = server.client();
    let mailbox = address("noreply@contoso.example");
    let seen = seen_in_sent(&graph, &mailbox, "<1@contoso.example>", Some(stamp().id)).await.unwrap().unwrap();
    assert_eq!((seen.id.as_str(), seen.confirmed), ("s", true));
    assert!(seen_in_sent(&graph, &mailbox, "<1@contoso.example>", None).await.unwrap().is_none());
    assert!(server.lines()[0].contains("/mailFolders/sentitems/messages?"));
}
