use super::*;
use crate::testing::{Say, Served};

fn mailbox() -> postkey_base::EmailAddress {
    "noreply@contoso.example".parse().unwrap()
}

fn file(size: u64) -> FileAttachment {
    let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    FileAttachment {
        name: "report.pdf".into(),
        content_type: "application/pdf".into(),
        content: Bytes::from(content),
        content_id: None,
    }
}

fn opened() -> Say {
    Say::json(
        201,
        json!({
            "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#microsoft.graph.uploadSession",
            "uploadUrl": "{base}/api/v1.0/Users('a@b')/AttachmentSessions('AAMkADI5=')?authtoken=hush",
            "expirationDateTime": "2026-09-25T01:09:30.7671707Z", "nextExpectedRanges": ["0-"],
        }),
    )
}

fn finished() -> Say {
    Say::status(201).header(
        "location",
        "https://outlook.office.com/api/v2.0/Users('a@b')/Messages('AAMk=')/Attachments('AAMkAtt=')",
    )
}

/// The intermediate answer as documented: a capital E, and offsets without a dash.
fn more(next: &str) -> Say {
    Say::json(200, json!({ "ExpirationDateTime": "2026-09-25T01:09:30.76Z", "NextExpectedRanges": [next] }))
}

#[tokio::test]
async fn a_large_file_goes_range_by_range_without_our_token() {
    let (size, range) = (2 * RANGE + 5, RANGE);
    let served =
        Served::start([opened(), more(&range.to_string()), more(&format!("{}-", 2 * range)), finished()]).await;
    let file = file(size);
    let mut session = create_upload_session(&served.graph, mailbox(), "AAMk=", &file).await.unwrap();
    assert!(!format!("{session:?}").contains("hush"));
    let id = upload(&served.graph, mailbox(), &mut session, &file.content).await.unwrap();
    assert_eq!((id.as_deref(), session.next), (Some("AAMkAtt="), size));

    let seen = served.seen();
    assert_eq!(seen[0].json()["AttachmentItem"]["attachmentType"], "file");
    assert_eq!(seen[0].json()["AttachmentItem"]["size"], size);
    let ranges: Vec<_> = seen[1..].iter().map(|seen| seen.header("content-range").unwrap()).collect();
    assert_eq!(
        ranges,
        [
            format!("bytes 0-{}/{size}", range - 1),
            format!("bytes {range}-{}/{size}", 2 * range - 1),
            format!("bytes {}-{}/{size}", 2 * range, size - 1),
        ]
    );
    assert!(seen[1..].iter().all(|seen| seen.header("authorization").is_none()));
    assert_eq!(seen[1..].iter().flat_map(|seen| seen.body.clone()).collect::<Vec<_>>(), file.content);
    const { assert!(RANGE.is_multiple_of(327_680) && RANGE < 4_000_000) };
}

#[tokio::test]
async fn an_upload_goes_on_where_it_stopped() {
    let size = RANGE + 5;
    let served = Served::start([opened(), more(&RANGE.to_string()), Say::error(400, "badRequest"), finished()]).await;
    let file = file(size);
    let mut session = create_upload_session(&served.graph, mailbox(), "AAMk=", &file).await.unwrap();
    upload(&served.graph, mailbox(), &mut session, &file.content).await.unwrap_err();
    assert_eq!(session.next, RANGE);
    upload(&served.graph, mailbox(), &mut session, &file.content).await.unwrap();
    assert_eq!(served.seen()[3].header("content-range"), Some(format!("bytes {RANGE}-{}/{size}", size - 1).as_str()));
}

#[tokio::test]
async fn a_range_in_doubt_is_sent_again_and_one_already_there_is_passed_over() {
    let overlap = Say::json(
        400,
        json!({ "error": {
        "code": "badRequest", "message": "Uploaded fragment overlaps with existing data.",
        "innerError": { "code": "invalidRange", "request-id": "r" },
    } }),
    );
    let served = Served::start([opened(), Say::status(504), overlap, finished()]).await;
    let file = file(RANGE + 5);
    let mut session = create_upload_session(&served.graph, mailbox(), "AAMk=", &file).await.unwrap();
    upload(&served.graph, mailbox(), &mut session, &file.content).await.unwrap();
    let first = |seen: &crate::testing::Seen| seen.header("content-range").unwrap().starts_with("bytes 0-");
    assert_eq!(served.seen()[1..].iter().map(first).collect::<Vec<_>>(), [true, true, false]);
}

#[tokio::test]
async fn a_server_that_never_moves_on_is_given_up() {
    let served = Served::start(std::iter::once(opened()).chain(vec![more("0"); 100])).await;
    let file = file(RANGE + 5);
    let mut session = create_upload_session(&served.graph, mailbox(), "AAMk=", &file).await.unwrap();
    assert!(upload(&served.graph, mailbox(), &mut session, &file.content).await.is_err());
    assert!(served.seen().len() < 10);
}

#[test]
fn an_offset_is_read_however_it_is_written() {
    for (body, next) in [
        (json!({ "nextExpectedRanges": ["0-"] }), Some(0)),
        (json!({ "nextExpectedRanges": ["2097152"] }), Some(2_097_152)),
        (json!({ "NextExpectedRanges": ["2097152-3483321", "9-"] }), Some(2_097_152)),
        (json!({ "nextExpectedRanges": [] }), None),
        (json!({}), None),
    ] {
        assert_eq!(next_expected(&body), next, "{body}");
    }
}
