use super::*;

const MAILBOX: &str = "noreply@contoso.example";

fn composed(json: &str) -> Result<String, String> {
    let mailbox: EmailAddress = MAILBOX.parse().unwrap();
    let request = SendRequest::parse(json.as_bytes()).map_err(|refusal| refusal.to_string())?;
    let bytes = request.composed(&mailbox, Uuid::from_u128(7), Timestamp::UNIX_EPOCH);
    bytes.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|refusal| refusal.to_string())
}

#[test]
fn what_is_not_said_is_filled_in_and_nothing_else_is() {
    let text = composed(r#"{"to":["ada@fabrikam.example"]}"#).unwrap();
    let (headers, _) = text.split_once("\r\n\r\n").unwrap();
    let names: Vec<_> = headers.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    for name in ["From", "Date", "Message-ID", "Subject", "To", "Content-Type", "MIME-Version"] {
        assert!(names.contains(&name), "{name}: {headers}");
    }
    assert!(headers.contains(&format!("From: <{MAILBOX}>")), "{headers}");
    assert!(!names.contains(&"Bcc") && !names.contains(&"Reply-To"));
}

#[test]
fn what_the_document_does_not_allow_is_refused() {
    for json in [
        "{}",
        "[]",
        "[null,null,[\"a@x.example\"]]",
        r#"{"to":["a@x.example"],"attachments":[["a",null,"AAAA",null,null]]}"#,
        r#"{"to":["a@x.example"],"dsn":[null,null,null]}"#,
        r#"{"to":[]}"#,
        r#"{"to":[],"cc":[],"bcc":[]}"#,
        r#"{"to":"ada@fabrikam.example"}"#,
        r#"{"to":["ada"]}"#,
        r#"{"to":[null]}"#,
        r#"{"to":null}"#,
        r#"{"to":["a@x.example"],"To":["b@x.example"]}"#,
        r#"{"to":["a@x.example"],"to":["b@x.example"]}"#,
        r#"{"to":["a@x.example"],"subject":"a\u0000b"}"#,
        r#"{"to":["a@x.example"],"subject":1}"#,
        r#"{"to":["a@x.example"],"from_name":"a\nb"}"#,
        r#"{"to":["a@x.example"],"attachments":[{"name":"","content":""}]}"#,
        r#"{"to":["a@x.example"],"attachments":[{"name":"a","content":"AAE"}],"x":1}"#,
        r#"{"to":["a@x.example"],"attachments":[{"name":"a","content":"A"}]}"#,
        r#"{"to":["a@x.example"],"attachments":[{"name":"a","content":"AA\r\nAA"}]}"#,
        r#"{"to":["a@x.example"],"attachments":[{"name":"a","content":"AAAA","content_id":"a>b"}]}"#,
        r#"{"to":["a@x.example"],"attachments":[{"name":"a","content":"AAAA","content_type":"text"}]}"#,
        r#"{"to":["a@x.example"],"headers":{"Received":"x"}}"#,
        r#"{"to":["a@x.example"],"headers":{"X-Postkey-Id":"x"}}"#,
        r#"{"to":["a@x.example"],"not_before":"tomorrow"}"#,
        r#"{"to":["a@x.example"],"priority":"urgent"}"#,
        r#"{"to":["a@x.example"],"dsn":{"notify":["always"]}}"#,
    ] {
        assert!(composed(json).is_err(), "{json}");
    }
    let subject = "x".repeat(901);
    assert!(composed(&format!(r#"{{"to":["a@x.example"],"subject":"{subject}"}}"#)).is_err());
    let long = format!("{}@{}.example", "a".repeat(64), vec!["b".repeat(60); 4].join("."));
    assert!(composed(&format!(r#"{{"to":["{long}"]}}"#)).is_err());
    let many: Vec<_> = (0..1_001).map(|number| format!("\"a{number}@x.example\"")).collect();
    assert!(composed(&format!(r#"{{"to":[{}]}}"#, many.join(","))).is_err());
}

#[test]
fn base64_is_taken_as_encoders_write_it() {
    for (content, bytes) in [("", &b""[..]), ("AAEC", &[0, 1, 2]), ("AAE=", &[0, 1]), ("AA==", &[0]), ("AB==", &[0])] {
        let json = format!(r#"{{"name":"a.bin","content":"{content}"}}"#);
        let attachment: Attachment = serde_json::from_str(&json).unwrap();
        assert_eq!(attachment.content.0, bytes, "{content}");
    }
}

#[test]
fn a_file_that_the_html_names_by_its_name_is_found() {
    let json = r#"{"to":["a@x.example"],"html":"<img src='cid:my-logo.png'>",
        "attachments":[{"name":"my logo.png","content":"AAEC","inline":true}]}"#;
    let text = composed(json).unwrap();
    assert!(text.contains("Content-ID: <my-logo.png>"), "{text}");
}

#[test]
fn the_fuzzers_law_holds_for_the_examples() {
    for json in [
        r#"{"to":["a@x.example"],"cc":["b@x.example","b@x.example"],"bcc":["jörg@köln.example"],"subject":"Grüße"}"#,
        r#"{"to":["a@x.example"],"html":"<p>","attachments":[{"name":"ä\"b;c","content":"AAEC","content_id":"x@y"}]}"#,
        "{",
    ] {
        fuzz(json.as_bytes());
    }
}
