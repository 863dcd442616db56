//! Large attachments, and what becomes of a message that takes this way.

use super::*;
use crate::exchange::{handle_upload, is_upload_path};

fn put(world: &mut World, url: &str, method: &str, range: Option<&str>, body: &[u8]) -> ApiResponse {
    let path = url.strip_prefix("https://localhost:4430").unwrap();
    assert!(is_upload_path(path));
    let mut headers = HeaderMap::new();
    if let Some(range) = range {
        headers.insert(http::header::CONTENT_RANGE, HeaderValue::from_str(range).unwrap());
    }
    let request = ApiRequest {
        method: Method::from_bytes(method.as_bytes()).unwrap(),
        version: String::new(),
        path: path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
        query: Vec::new(),
        headers,
        body: Bytes::copy_from_slice(body),
        caller: None,
        origin: "https://localhost:4430".into(),
        request_id: Uuid::nil(),
        client_request_id: String::new(),
    };
    handle_upload(world, &request)
}

fn session(world: &mut World, size: usize) -> (String, String) {
    let caller = app("Mail.ReadWrite");
    let base = "/users/alice@contoso.example/messages";
    let body = json!({"subject": "big", "toRecipients": [{"emailAddress": {"address": "bob@contoso.example"}}]});
    let made = post_json(world, &caller, base, &body);
    let id = body_json(&made)["id"].as_str().unwrap().to_owned();
    let item = json!({"AttachmentItem": {"attachmentType": "file", "name": "big.pdf", "size": size}});
    let made = post_json(world, &caller, &format!("{base}/{id}/attachments/createUploadSession"), &item);
    assert_eq!(made.status, 201);
    let made = body_json(&made);
    assert_eq!(made["nextExpectedRanges"], json!(["0-"]));
    (format!("{base}/{id}"), made["uploadUrl"].as_str().unwrap().to_owned())
}

#[test]
fn a_large_file_arrives_in_ordered_pieces() {
    let mut world = world();
    let file: Vec<u8> = (0..7_000_000u32).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[0]).collect();
    let (message, url) = session(&mut world, file.len());
    let total = file.len();
    let piece = 3_276_800;
    let first = put(&mut world, &url, "PUT", Some(&format!("bytes 0-{}/{total}", piece - 1)), &file[..piece]);
    assert_eq!(first.status, 200);
    assert_eq!(body_json(&first)["nextExpectedRanges"], json!([piece.to_string()]));
    assert!(body_json(&first)["ExpirationDateTime"].is_string());
    let again = put(&mut world, &url, "PUT", Some(&format!("bytes 0-{}/{total}", piece - 1)), &file[..piece]);
    assert_eq!(again.status, 416);
    let second = put(
        &mut world,
        &url,
        "PUT",
        Some(&format!("bytes {piece}-{}/{total}", 2 * piece - 1)),
        &file[piece..2 * piece],
    );
    assert_eq!(second.status, 200);
    let last =
        put(&mut world, &url, "PUT", Some(&format!("bytes {}-{}/{total}", 2 * piece, total - 1)), &file[2 * piece..]);
    assert_eq!(last.status, 201);
    assert!(matches!(last.body, Body::Empty));
    let place = last.headers.iter().find(|(name, _)| *name == "location").unwrap().1.clone();
    assert!(place.contains("/Attachments('"), "{place}");
    assert_eq!(put(&mut world, &url, "PUT", Some("bytes 0-0/1"), b"x").status, 404);

    let caller = app("Mail.ReadWrite Mail.Send");
    assert_eq!(call(&mut world, &caller, "POST", &format!("{message}/send"), &[], "").status, 202);
    let inbox = get(&mut world, &caller, "/users/bob@contoso.example/messages?$expand=attachments");
    let attached = &inbox["value"][0]["attachments"][0];
    assert_eq!(attached["contentType"], "application/pdf");
    assert!(attached["contentBytes"] == STANDARD.encode(&file), "the bytes differ");
}

#[test]
fn a_session_is_cancelled_and_expires() {
    let mut world = world();
    let (_, url) = session(&mut world, 10);
    assert_eq!(put(&mut world, &url, "DELETE", None, b"").status, 204);
    assert_eq!(put(&mut world, &url, "DELETE", None, b"").status, 404);
    let (_, url) = session(&mut world, 10);
    world.clock.advance(std::time::Duration::from_secs(7200));
    assert_eq!(put(&mut world, &url, "PUT", Some("bytes 0-9/10"), b"0123456789").status, 404);
    let (_, url) = session(&mut world, 10);
    for range in [None, Some("bytes 0-9/11"), Some("bytes 0-8/10"), Some("nonsense")] {
        assert_eq!(put(&mut world, &url, "PUT", range, b"0123456789").status, 400, "{range:?}");
    }
}

#[test]
fn above_the_request_limit_only_custom_headers_survive() {
    let mut world = world();
    let caller = app("Mail.ReadWrite Mail.Send");
    let base = "/users/alice@contoso.example/messages";
    let mime = b"From: alice@contoso.example\r\nTo: bob@contoso.example\r\nSubject: s\r\nMessage-ID: <own@x>\r\nReferences: <a@b>\r\nX-Kept: 1\r\n\r\nbody";
    let made = post_mime(&mut world, &caller, base, mime);
    assert_eq!(made.status, 201);
    let id = body_json(&made)["id"].as_str().unwrap().to_owned();
    let file = json!({"@odata.type": "#microsoft.graph.fileAttachment", "name": "a.txt", "contentBytes": "aGk="});
    assert_eq!(post_json(&mut world, &caller, &format!("{base}/{id}/attachments"), &file).status, 201);
    assert_eq!(call(&mut world, &caller, "POST", &format!("{base}/{id}/send"), &[], "").status, 202);
    let mime = String::from_utf8_lossy(&folder(&mut world, "bob@contoso.example", "Inbox")[0].mime).into_owned();
    assert!(mime.contains("X-Kept: 1") && mime.contains("<own@x>") && !mime.contains("References"), "{mime}");
}
