//! MIME stays what it was.

use super::*;

fn send_and_fetch(mime: &[u8]) -> (World, Vec<u8>, Vec<u8>) {
    let mut world = world();
    let answer = post_mime(&mut world, &app("Mail.Send"), MAIL, mime);
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    let sent = folder(&mut world, "alice@contoso.example", "Sent Items").remove(0).mime.to_vec();
    let received = folder(&mut world, "bob@contoso.example", "Inbox").remove(0).mime.to_vec();
    (world, sent, received)
}

/// What stands above the original in a recipient's copy.
fn trace(received: &[u8]) -> usize {
    let marker = b"X-MS-Exchange-Organization-SCL: -1\r\n";
    received.windows(marker.len()).position(|window| window == marker).unwrap() + marker.len()
}

#[test]
fn every_byte_arrives_but_bcc() {
    for body in [
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\u{fc}\u{df}e \u{2603}\r\n.\r\n..\r\n",
        "Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe=\r\n soft\r\n",
        "X-Long: aaa\r\n\tbbb\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: application/octet-stream; name=x.bin\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\ntrailer",
        "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b\r\nContent-Type: text/calendar; method=REQUEST\r\n\r\nBEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n--b--\r\n",
        "\r\nbare\nline feeds\nand a lone\rreturn",
    ] {
        let head = "Message-ID: <own@contoso.example>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nFrom: alice@contoso.example\r\nTo: bob@contoso.example\r\nReferences: <a@b>\r\nList-Unsubscribe: <https://x.example/>\r\n";
        let original = format!("{head}Bcc: al@contoso.example,\r\n\thidden@else.example\r\nSubject: s\r\n{body}");
        let (mut world, sent, received) = send_and_fetch(original.as_bytes());
        assert_eq!(String::from_utf8_lossy(&sent), original, "the sender's copy keeps everything");
        let expected = format!("{head}Subject: s\r\n{body}");
        assert_eq!(String::from_utf8_lossy(&received[trace(&received)..]), expected);
        assert_eq!(world.outside_mail().len(), 1, "Bcc recipients get their copy");
        assert!(!String::from_utf8_lossy(&world.outside_mail()[0].mime).contains("hidden@"));
    }
}

#[test]
fn a_missing_message_id_and_date_are_added_on_top() {
    let original = b"From: alice@contoso.example\r\nTo: bob@contoso.example\r\nSubject: s\r\n\r\nx";
    let (_, sent, received) = send_and_fetch(original);
    let text = String::from_utf8(sent).unwrap();
    assert!(text.starts_with("Message-ID: <"), "{text}");
    assert!(text.ends_with(str::from_utf8(original).unwrap()));
    assert!(received.ends_with(original));
}

#[test]
fn the_value_of_a_message_is_its_mime() {
    let original =
        b"From: alice@contoso.example\r\nTo: bob@contoso.example\r\nMessage-ID: <own@x>\r\nSubject: s\r\n\r\nx";
    let (mut world, ..) = send_and_fetch(original);
    let caller = app("Mail.Read");
    let found = get(
        &mut world,
        &caller,
        "/users/alice@contoso.example/mailFolders/sentitems/messages?$filter=internetMessageId eq '<own@x>'&$select=id,isDraft,sentDateTime",
    );
    let id = found["value"][0]["id"].as_str().unwrap();
    assert_eq!(found["value"][0]["isDraft"], false);
    assert!(found["value"][0].get("subject").is_none());
    let answer =
        call(&mut world, &caller, "GET", &format!("/users/alice@contoso.example/messages/{id}/$value"), &[], "");
    let Body::Raw { content_type, bytes } = answer.body else { panic!() };
    assert_eq!(content_type, "text/plain");
    assert!(bytes.ends_with(original) && bytes.starts_with(b"Date: "));
}

#[test]
fn json_becomes_mime_with_equal_content() {
    let mut world = world();
    let file: Vec<u8> = (0..=255u8).cycle().take(5000).collect();
    let body = json!({"message": {
        "subject": "Gr\u{fc}\u{df}e aus dem sehr langen Betreff, der gefaltet werden muss, weil er nicht in eine Zeile passt",
        "body": {"contentType": "html", "content": "<p>Hallo \u{2603}\n<img src=\"cid:pic\"></p>"},
        "toRecipients": [{"emailAddress": {"address": "bob@contoso.example", "name": "B\u{f6}b"}}],
        "bccRecipients": [{"emailAddress": {"address": "team@contoso.example"}}],
        "internetMessageHeaders": [{"name": "x-postkey", "value": "K"}],
        "attachments": [
            {"@odata.type": "#microsoft.graph.fileAttachment", "name": "\u{e4}.bin", "contentBytes": STANDARD.encode(&file)},
            {"@odata.type": "#microsoft.graph.fileAttachment", "name": "p.png", "contentType": "image/png", "contentBytes": "AAEC", "isInline": true, "contentId": "pic"},
        ],
    }});
    assert_eq!(post_json(&mut world, &app("Mail.Send"), MAIL, &body).status, 202);
    assert_eq!(folder(&mut world, "team@contoso.example", "Inbox").len(), 1);
    let caller = app("Mail.Read");
    let page = get(&mut world, &caller, "/users/bob@contoso.example/mailFolders/inbox/messages?$expand=attachments");
    let message = &page["value"][0];
    assert_eq!(message["subject"], body["message"]["subject"]);
    assert_eq!(message["body"], body["message"]["body"]);
    assert_eq!(message["bccRecipients"], json!([]));
    assert_eq!(message["toRecipients"], body["message"]["toRecipients"]);
    assert_eq!(message["hasAttachments"], true);
    let attachments = message["attachments"].as_array().unwrap();
    let find = |name: &str| attachments.iter().find(|attached| attached["name"] == name).unwrap();
    assert_eq!(find("\u{e4}.bin")["contentBytes"], STANDARD.encode(&file));
    assert_eq!((&find("p.png")["isInline"], &find("p.png")["contentId"]), (&json!(true), &json!("pic")));
    let headers = get(
        &mut world,
        &caller,
        &format!(
            "/users/bob@contoso.example/messages/{}?$select=internetMessageHeaders",
            message["id"].as_str().unwrap()
        ),
    );
    let headers = headers["internetMessageHeaders"].as_array().unwrap();
    assert!(headers.contains(&json!({"name": "x-postkey", "value": "K"})));
}

#[test]
fn nested_messages_and_invitations_are_recognised() {
    let original = "From: alice@contoso.example\r\nTo: bob@contoso.example\r\nSubject: outer\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: x@y.example\r\nSubject: inner\r\n\r\nnested\r\n--b--\r\n";
    let (mut world, ..) = send_and_fetch(original.as_bytes());
    let caller = app("Mail.Read");
    let page = get(&mut world, &caller, "/users/bob@contoso.example/messages");
    let id = page["value"][0]["id"].as_str().unwrap().to_owned();
    let base = format!("/users/bob@contoso.example/messages/{id}/attachments");
    let list = get(&mut world, &caller, &base);
    assert_eq!(list["value"][0]["@odata.type"], "#microsoft.graph.itemAttachment");
    let attachment = list["value"][0]["id"].as_str().unwrap();
    let one = get(&mut world, &caller, &format!("{base}/{attachment}?$expand=microsoft.graph.itemattachment/item"));
    assert_eq!(one["item"]["subject"], "inner");
    let raw = call(&mut world, &caller, "GET", &format!("{base}/{attachment}/$value"), &[], "");
    let Body::Raw { bytes, .. } = raw.body else { panic!() };
    assert_eq!(String::from_utf8_lossy(&bytes), "From: x@y.example\r\nSubject: inner\r\n\r\nnested");
}

/// Bytes of every kind in every place, but always with recipients.
fn arbitrary_mime(chance: &mut impl rand::RngExt) -> (String, Vec<u8>) {
    let mut head = String::from(
        "Message-ID: <own@contoso.example>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nFrom: alice@contoso.example\r\nTo: bob@contoso.example\r\n",
    );
    for _ in 0..chance.random_range(0..6) {
        let name =
            ["X-A", "Subject", "Received", "DKIM-Signature", "Content-Type", "List-Id"][chance.random_range(0..6)];
        let value = ["plain", "folded\r\n\tvalue", "=?utf-8?B?w7w=?=", "a; b=c", "multipart/mixed; boundary=b", ""]
            [chance.random_range(0..6)];
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = (0..chance.random_range(0..400))
        .map(|_| [b'a', b'\r', b'\n', b'.', b'-', b' ', b'b', 0, 0xff, b'=', b':'][chance.random_range(0..11)])
        .collect();
    (head, body)
}

#[test]
fn whatever_is_sent_arrives_minus_bcc() {
    use rand::SeedableRng;
    let mut chance = rand::rngs::StdRng::seed_from_u64(7);
    for round in 0..60 {
        let (head, body) = arbitrary_mime(&mut chance);
        let original = [head.as_bytes(), b"Bcc: team@contoso.example\r\n\r\n", &body].concat();
        let (_, sent, received) = send_and_fetch(&original);
        assert!(sent == original, "round {round}: {:?}", String::from_utf8_lossy(&original));
        let expected = [head.as_bytes(), b"\r\n", &body].concat();
        assert!(received[trace(&received)..] == expected, "round {round}: {:?}", String::from_utf8_lossy(&original));
    }
}
