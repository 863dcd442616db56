use super::*;

const RELATED: &str = "From: Me <me@x.example>\r\n\
To: =?utf-8?q?J=C3=B6rg?= <a@x.example>, gone@x.example\r\n\
Cc: b@x.example, A@x.example\r\n\
Reply-To: Desk <desk@x.example>\r\n\
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
Message-ID: <1@x.example>\r\n\
X-Priority: 1 (Highest)\r\n\
X-Two: two\r\n folded\r\n\
X-Postkey-Id: 7\r\n\
Content-Type: multipart/mixed; boundary=m\r\n\r\n\
--m\r\nContent-Type: multipart/related; boundary=r\r\n\r\n\
--r\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
<p>Gr=C3=BC=C3=9Fe</p><img src=3D\"cid:logo@x\">\r\n\
--r\r\nContent-Type: image/png; name=logo.png\r\nContent-ID: <logo@x>\r\nContent-Disposition: inline\r\n\
Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--r--\r\n\
--m\r\nContent-Type: text/csv; charset=iso-8859-1\r\nContent-Disposition: attachment; filename=\"../liste.csv\"\r\n\
Content-Transfer-Encoding: base64\r\n\r\nSvZyZztL9mxuDQo=\r\n\
--m\r\nContent-Type: application/pdf\r\nContent-ID: <unused@x>\r\nContent-Disposition: attachment\r\n\
Content-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n--m--\r\n";

fn envelope(recipients: &[&str]) -> Envelope {
    Envelope::new("me@x.example".parse().unwrap(), recipients.iter().map(|one| one.parse().unwrap())).unwrap()
}

#[test]
fn a_message_is_taken_apart_without_loss_of_content() {
    let message = Message::parse(RELATED.as_bytes().to_vec()).unwrap();
    let draft = draft_of(&message, &envelope(&["a@x.example", "b@x.example", "c@x.example"]));
    let out = &draft.message;
    assert_eq!(out.subject, "Grüße");
    assert_eq!(out.body.kind, BodyKind::Html);
    assert_eq!(out.body.content, "<p>Grüße</p><img src=\"cid:logo@x\">");
    let people = |list: &[Recipient]| list.iter().map(|one| one.address.to_string()).collect::<Vec<_>>();
    assert_eq!(people(&out.to), ["a@x.example"]);
    assert_eq!(out.to[0].name.as_deref(), Some("Jörg"));
    assert_eq!(people(&out.cc), ["b@x.example"]);
    assert_eq!(people(&out.bcc), ["c@x.example"]);
    assert_eq!(people(&out.reply_to), ["desk@x.example"]);
    assert_eq!(out.internet_message_id.as_deref(), Some("<1@x.example>"));
    assert_eq!(out.importance, Some(Importance::High));
    assert!(out.from.is_none());
    let headers: Vec<_> =
        out.internet_message_headers.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect();
    assert_eq!(headers, [("X-Postkey-Id", "7"), ("X-Priority", "1 (Highest)"), ("X-Two", "two folded")]);
    let files: Vec<_> = draft
        .attachments
        .iter()
        .map(|one| (one.name.as_str(), one.content_type.as_str(), one.content_id.as_deref(), one.content.as_ref()))
        .collect();
    assert_eq!(
        files,
        [
            ("logo.png", "image/png", Some("logo@x"), b"\x89PNG\r\n\x1a\n".as_slice()),
            ("liste.csv", "text/csv", None, b"J\xf6rg;K\xf6ln\r\n".as_slice()),
            ("attachment-3", "application/pdf", None, b"%PDF".as_slice()),
        ]
    );
}

#[test]
fn an_attached_text_keeps_every_byte_in_every_encoding() {
    for (encoding, written, bytes) in [
        ("7bit", "one\r\ntwo\r\n", "one\r\ntwo\r\n"),
        ("quoted-printable", "one=3D\r\ntwo =\r\nthree", "one=\r\ntwo three"),
        ("base64", "b25lCnR3bwo=\r\n", "one\ntwo\n"),
    ] {
        let raw = format!(
            "From: me@x.example\r\nTo: a@x.example\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n\r\nHi\r\n\
             --m\r\nContent-Type: text/plain; name=a.txt\r\nContent-Disposition: attachment\r\n\
             Content-Transfer-Encoding: {encoding}\r\n\r\n{written}\r\n--m--\r\n"
        );
        let message = Message::parse(raw.into_bytes()).unwrap();
        let draft = draft_of(&message, &envelope(&["a@x.example"]));
        assert_eq!(draft.message.body, Body { kind: BodyKind::Text, content: "Hi".into() });
        assert_eq!(String::from_utf8_lossy(&draft.attachments[0].content), bytes, "{encoding}");
    }
}

#[test]
fn outlooks_windows_1252_becomes_utf_8_and_its_pictures_stay_inline() {
    let raw = include_bytes!("../tests/corpus/outlook-like.eml");
    let message = Message::parse(raw.to_vec()).unwrap();
    let draft = draft_of(&message, &envelope(&["alice@contoso.example"]));
    assert!(draft.message.body.content.contains("<p>Hi \u{2013} see</p>"), "{:?}", draft.message.body);
    let files: Vec<_> = draft.attachments.iter().map(|one| (one.name.as_str(), one.content_id.as_deref())).collect();
    assert_eq!(files, [("image001.png", Some("image001.png@01DC")), ("Übersicht.pdf", None)]);
}
