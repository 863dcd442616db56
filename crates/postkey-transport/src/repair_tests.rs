use proptest::prelude::*;

use super::*;

fn address(text: &str) -> EmailAddress {
    text.parse().unwrap()
}

fn stamp() -> Stamp {
    Stamp { id: Uuid::from_u128(7), at: "2026-11-24T07:05:00Z".parse().unwrap() }
}

/// A header that needs no repair but the stamp.
const WHOLE: &str = "From: me@x.example\r\nDate: Tue, 24 Nov 2026 07:05:00 +0000\r\nMessage-ID: <1@x.example>\r\n";
const STAMP: &str = "X-Postkey-Id: 00000000-0000-0000-0000-000000000007\r\n";

fn repaired(raw: &str, recipients: &[&str], carrier: Carrier) -> Result<(String, Vec<&'static str>), RepairError> {
    let message = Message::parse(raw.as_bytes().to_vec()).unwrap();
    let envelope = Envelope::new(address("me@x.example"), recipients.iter().map(|one| address(one))).unwrap();
    let prepared = prepare(&message, &envelope, carrier, &stamp())?;
    assert_eq!(String::from_utf8(prepared.undone()).unwrap(), raw, "the repairs cannot be undone");
    let names = prepared.repairs().iter().map(|repair| repair.kind.name()).collect();
    Ok((String::from_utf8(prepared.bytes().to_vec()).unwrap(), names))
}

#[test]
fn a_whole_message_gets_only_its_stamp() {
    for carrier in [Carrier::Graph, Carrier::Smtp] {
        let raw = format!("{WHOLE}To: a@x.example\r\n\r\nHello\r\n");
        let (bytes, names) = repaired(&raw, &["a@x.example"], carrier).unwrap();
        assert_eq!(bytes, format!("{STAMP}{raw}"));
        assert_eq!(names, ["stamp-id"]);
    }
}

#[test]
fn what_is_missing_is_added_at_the_top() {
    let (bytes, names) = repaired("To: a@x.example\r\n\r\nHello\r\n", &["a@x.example"], Carrier::Smtp).unwrap();
    assert_eq!(
        bytes,
        format!(
            "From: me@x.example\r\nDate: Tue, 24 Nov 2026 07:05:00 +0000\r\n\
             Message-ID: <00000000000000000000000000000007@x.example>\r\n{STAMP}To: a@x.example\r\n\r\nHello\r\n"
        )
    );
    assert_eq!(names, ["add-from", "add-date", "add-message-id", "stamp-id"]);
}

#[test]
fn bcc_is_stripped_for_smtp_and_kept_for_graph() {
    let raw = format!("{WHOLE}To: a@x.example\r\nBcc: B <b@x.example>,\r\n\tc@x.example\r\nSubject: x\r\n\r\n");
    let all = ["a@x.example", "b@x.example", "c@x.example"];
    let (bytes, names) = repaired(&raw, &all, Carrier::Smtp).unwrap();
    assert_eq!(bytes, format!("{STAMP}{WHOLE}To: a@x.example\r\nSubject: x\r\n\r\n"));
    assert_eq!(names, ["strip-bcc", "stamp-id"]);
    let (bytes, names) = repaired(&raw, &all, Carrier::Graph).unwrap();
    assert_eq!(bytes, format!("{STAMP}{raw}"));
    assert_eq!(names, ["stamp-id"]);
}

#[test]
fn for_graph_the_headers_come_to_name_the_envelope_exactly() {
    for (headers, recipients, expected, repairs) in [
        // Only the envelope names b.
        (
            "To: a@x.example\r\n",
            vec!["a@x.example", "b@x.example"],
            "Bcc: b@x.example\r\n{stamp}{whole}To: a@x.example\r\n",
            vec!["add-bcc", "stamp-id"],
        ),
        // Bcc names somebody whom the envelope does not.
        (
            "To: a@x.example\r\nBcc: b@x.example, c@x.example\r\n",
            vec!["a@x.example", "b@x.example"],
            "Bcc: b@x.example\r\n{stamp}{whole}To: a@x.example\r\n",
            vec!["strip-bcc", "add-bcc", "stamp-id"],
        ),
        // An empty Bcc stays: it names nobody.
        (
            "To: a@x.example\r\nBcc:\r\n",
            vec!["a@x.example"],
            "{stamp}{whole}To: a@x.example\r\nBcc:\r\n",
            vec!["stamp-id"],
        ),
        // To and Cc name people whom the envelope does not; what stays keeps its bytes.
        (
            "To: \"A, first\" <a@x.example>, b@x.example,\r\n C (home)\r\n <c@x.example>\r\nCc: d@x.example\r\n",
            vec!["a@x.example", "c@x.example"],
            "{stamp}{whole}To: \"A, first\" <a@x.example>,\r\n C (home)\r\n <c@x.example>\r\n",
            vec!["drop-header-recipients", "stamp-id"],
        ),
        // Nobody visible receives.
        (
            "To: list@y.example\r\n",
            vec!["a@x.example"],
            "Bcc: a@x.example\r\n{stamp}{whole}",
            vec!["add-bcc", "drop-header-recipients", "stamp-id"],
        ),
    ] {
        let (bytes, names) = repaired(&format!("{WHOLE}{headers}\r\nHi\r\n"), &recipients, Carrier::Graph).unwrap();
        let expected = expected.replace("{stamp}", STAMP).replace("{whole}", WHOLE);
        assert_eq!(bytes, format!("{expected}\r\nHi\r\n"), "{headers:?}");
        assert_eq!(names, repairs, "{headers:?}");
    }
}

#[test]
fn a_signed_message_is_refused_rather_than_readdressed() {
    let raw = format!(
        "{WHOLE}To: a@x.example, b@x.example\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\nx\r\n--s--\r\n"
    );
    assert_eq!(
        repaired(&raw, &["a@x.example"], Carrier::Graph),
        Err(RepairError::SignedHeaderRecipients(vec![address("b@x.example")]))
    );
    assert!(repaired(&raw, &["a@x.example"], Carrier::Smtp).is_ok());
}

#[test]
fn unix_line_ends_are_made_whole_where_that_is_safe() {
    let unix = format!("{WHOLE}To: a@x.example\r\n\r\none\r\n\r\n.\r\ntwo").replace("\r\n", "\n");
    let (bytes, names) = repaired(&unix, &["a@x.example"], Carrier::Smtp).unwrap();
    assert_eq!(bytes, format!("{STAMP}{WHOLE}To: a@x.example\r\n\r\none\r\n\r\n.\r\ntwo\r\n"));
    assert_eq!(names, ["stamp-id", "end-lines-with-crlf", "end-last-line"]);
    let (bytes, names) = repaired(&unix, &["a@x.example"], Carrier::Graph).unwrap();
    assert_eq!(bytes, format!("{STAMP}{WHOLE}To: a@x.example\r\n\r\none\r\n\r\n.\r\ntwo"));
    assert_eq!(names, ["stamp-id", "end-lines-with-crlf"]);
}

#[test]
fn line_ends_that_may_be_content_are_left_alone() {
    let head = format!("{WHOLE}To: a@x.example\r\n");
    let signed = "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\nx\ny\r\n--s--\r\n";
    let nested = "Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nx\ry\r\n";
    let in_a_header = "X-Odd: x\ry\r\n\r\nHi\r\n";
    for body in [signed, nested, in_a_header] {
        let raw = format!("{head}{body}");
        assert!(
            matches!(repaired(&raw, &["a@x.example"], Carrier::Smtp), Err(RepairError::LineEnds { .. })),
            "{body:?}"
        );
        let (bytes, _) = repaired(&raw, &["a@x.example"], Carrier::Graph).unwrap();
        assert_eq!(bytes, format!("{STAMP}{raw}"), "{body:?}");
    }
}

#[test]
fn the_line_of_a_mailbox_file_goes() {
    let raw = format!("From me@x.example Tue Nov 24 07:05:00 2026\r\n{WHOLE}To: a@x.example\r\n\r\n");
    let (bytes, names) = repaired(&raw, &["a@x.example"], Carrier::Smtp).unwrap();
    assert_eq!(bytes, format!("{STAMP}{WHOLE}To: a@x.example\r\n\r\n"));
    assert_eq!(names, ["drop-mailbox-line", "stamp-id"]);
}

#[test]
fn a_bcc_that_is_the_last_thing_of_a_message_goes_whole() {
    let (bytes, _) = repaired(&format!("{WHOLE}Bcc: a@x.example"), &["a@x.example"], Carrier::Smtp).unwrap();
    assert_eq!(bytes, format!("{STAMP}{WHOLE}"));
}

#[test]
fn a_second_attempt_makes_the_same_bytes() {
    let raw = "To: a@x.example\r\n\r\nHello\r\n";
    assert_eq!(repaired(raw, &["a@x.example"], Carrier::Graph), repaired(raw, &["a@x.example"], Carrier::Graph));
}

proptest! {
    #[test]
    fn every_repair_can_be_undone(
        fields in proptest::collection::vec(
            prop::sample::select(vec![
                "From: me@x.example", "To: a@x.example, b@x.example", "Cc: c@x.example", "Bcc: d@x.example,\n\te@x.example",
                "bcc:", "Date: Tue, 24 Nov 2026 07:05:00 +0000", "Message-ID: <1@x.example>", "X-Postkey-Id: 1", "junk",
                "From someone Tue Nov 24", "Reply-To: q@x.example <q@x.example>", "Content-Type: multipart/signed; boundary=s", "Content-Transfer-Encoding: binary",
            ]),
            0..9,
        ),
        body in "([a.]|\r\n|\n|\r|ä){0,12}",
        long in any::<bool>(),
        unix in any::<bool>(),
        recipients in proptest::sample::subsequence(vec!["a@x.example", "b@x.example", "c@x.example", "d@x.example", "z@x.example"], 1..=5),
        graph in any::<bool>(),
    ) {
        let mut raw = fields.iter().map(|field| format!("{field}\n")).collect::<String>() + "\n";
        if !unix {
            raw = raw.replace('\n', "\r\n");
        }
        raw.push_str(&body);
        if long {
            raw.push_str(&".x ".repeat(400));
        }
        if let Ok(message) = Message::parse(raw.clone().into_bytes()) {
            let envelope = Envelope::new(address("me@x.example"), recipients.iter().map(|one| address(one))).unwrap();
            let carrier = if graph { Carrier::Graph } else if long { Carrier::SmtpSevenBit } else { Carrier::Smtp };
            if let Ok(prepared) = prepare(&message, &envelope, carrier, &stamp()) {
                prop_assert_eq!(String::from_utf8(prepared.undone()).unwrap(), raw);
                let after = Message::parse(prepared.bytes().clone()).unwrap();
                if graph {
                    // The headers name the envelope, no more, no less.
                    let mut named: Vec<_> = ["To", "Cc", "Bcc"].iter().flat_map(|field| after.addresses(field)).collect();
                    named.sort_by(|a, b| a.as_str().cmp(b.as_str()));
                    named.dedup();
                    let mut wanted = envelope.recipients().to_vec();
                    wanted.sort_by(|a, b| a.as_str().cmp(b.as_str()));
                    prop_assert_eq!(named, wanted);
                } else {
                    prop_assert!(after.named("Bcc").next().is_none());
                }
            }
        }
    }
}

#[test]
fn content_that_smtp_cannot_carry_is_encoded_and_means_the_same() {
    let head = format!("{WHOLE}To: a@x.example\r\n");
    let top = "MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n";
    for (body, added, expected, repair) in [
        ("\r\nx\ry\r\n", top, "\r\nx=0Dy\r\n", "encode-quoted-printable"),
        (
            "Content-Transfer-Encoding: binary\r\n\r\nx\ny\r\n",
            "",
            "Content-Transfer-Encoding: base64\r\n\r\neAp5DQo=\r\n",
            "encode-base64",
        ),
        (
            "MIME-Version: 1.0\r\nContent-Type: application/x\r\n\r\nx\ry",
            "Content-Transfer-Encoding: base64\r\n",
            "MIME-Version: 1.0\r\nContent-Type: application/x\r\n\r\neA15\r\n",
            "encode-base64",
        ),
    ] {
        let (bytes, names) = repaired(&format!("{head}{body}"), &["a@x.example"], Carrier::Smtp).unwrap();
        assert_eq!(bytes, format!("{STAMP}{added}{head}{expected}"), "{body:?}");
        assert_eq!(names, ["stamp-id", repair], "{body:?}");
        let (bytes, names) = repaired(&format!("{head}{body}"), &["a@x.example"], Carrier::Graph).unwrap();
        assert_eq!((bytes, names), (format!("{STAMP}{head}{body}"), vec!["stamp-id"]), "Graph takes bytes as they are");
    }
}

#[test]
fn overlong_lines_of_a_part_are_broken_and_the_other_parts_keep_their_bytes() {
    let words = "word ".repeat(300);
    let quoted = format!("{}=\r\n", "=C3=A4".repeat(200));
    let packed = "QUJD".repeat(400);
    let raw = format!(
        "{WHOLE}To: a@x.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nshort lines stay\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\n.{words}end\r\n\r\n\
         --b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{quoted}\r\n\
         --b\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\n{packed}\r\n\
         --b\r\nContent-Type: application/x\r\n\r\n{words}\r\n--b--\r\n"
    );
    let (bytes, names) = repaired(&raw, &["a@x.example"], Carrier::Smtp).unwrap();
    assert_eq!(names, ["stamp-id", "encode-quoted-printable", "encode-base64", "break-lines", "break-lines"]);
    assert!(bytes.lines().all(|line| line.len() <= 998));
    assert!(bytes.contains("--b\r\nContent-Type: text/plain\r\n\r\nshort lines stay\r\n--b\r\n"));
    assert!(bytes.contains("Content-Transfer-Encoding: quoted-printable\r\nContent-Type: text/plain\r\n\r\n=2Eword"));
    let parse = |raw: &str| mail_parser::MessageParser::new().parse(raw.as_bytes()).unwrap().into_owned();
    let (before, after) = (parse(&raw), parse(&bytes));
    assert_eq!(before.parts.len(), after.parts.len());
    for (before, after) in before.parts.iter().zip(&after.parts).skip(1) {
        assert_eq!(before.contents(), after.contents());
    }
}

#[test]
fn overlong_lines_that_nobody_may_touch_are_sent_as_they_are() {
    let long = "x".repeat(1_500);
    for body in [
        format!("Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n{long}\r\n--s--\r\n"),
        format!("Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n{long}\r\n"),
        format!("X-Token: {long}\r\n\r\nHi\r\n"),
    ] {
        let raw = format!("{WHOLE}To: a@x.example\r\n{body}");
        let (bytes, names) = repaired(&raw, &["a@x.example"], Carrier::Smtp).unwrap();
        assert_eq!((bytes, names), (format!("{STAMP}{raw}"), vec!["stamp-id"]));
    }
}

#[test]
fn an_overlong_header_line_is_folded_at_its_white_space() {
    let ids = (0..60).map(|n| format!("<{n}.0123456789@x.example>")).collect::<Vec<_>>().join(" ");
    let raw = format!("{WHOLE}To: a@x.example\r\nReferences: {ids}\r\nSubject: short one\r\n\r\nHi\r\n");
    let (bytes, names) = repaired(&raw, &["a@x.example"], Carrier::Smtp).unwrap();
    assert_eq!(names, ["stamp-id", "fold-header"]);
    assert!(bytes.lines().all(|line| line.len() <= 120), "{bytes}");
    assert_eq!(bytes.replace("\r\n <", " <"), format!("{STAMP}{raw}"));
}

#[test]
fn a_name_with_a_bare_at_is_quoted_for_every_carrier() {
    let raw =
        format!("{WHOLE}To: b@x.example <b@x.example>, \"c@x.example\" <c@x.example>,\r\n d@x.example\r\n\r\nHi\r\n");
    for carrier in [Carrier::Graph, Carrier::Smtp] {
        let all = ["b@x.example", "c@x.example", "d@x.example"];
        let (bytes, names) = repaired(&raw, &all, carrier).unwrap();
        assert_eq!(bytes, format!("{STAMP}{}", raw.replace("To: b@x.example <", "To: \"b@x.example\" <")));
        assert_eq!(names, ["stamp-id", "quote-display-name"]);
    }
    // Whoever is left of a list keeps the repair.
    let (bytes, names) = repaired(&raw, &["b@x.example"], Carrier::Graph).unwrap();
    assert!(bytes.contains("To: \"b@x.example\" <b@x.example>\r\n\r\n"), "{bytes}");
    assert_eq!(names, ["drop-header-recipients", "stamp-id"]);
}

#[test]
fn a_server_without_8bitmime_gets_no_byte_above_127() {
    let head = "From: Jörg <me@x.example>\r\nDate: Tue, 24 Nov 2026 07:05:00 +0000\r\nMessage-ID: <1@x.example>\r\n";
    let raw = format!("{head}To: a@x.example\r\nSubject: Grüße\r\n\r\nSchöne Grüße aus der Stadt am Rhein\r\n");
    let (bytes, names) = repaired(&raw, &["a@x.example"], Carrier::SmtpSevenBit).unwrap();
    assert!(bytes.is_ascii(), "{bytes}");
    assert_eq!(names, ["stamp-id", "encode-header-words", "encode-quoted-printable"]);
    let parsed = mail_parser::MessageParser::new().parse(bytes.as_bytes()).unwrap();
    assert_eq!((parsed.subject(), parsed.from().unwrap().first().unwrap().name()), (Some("Grüße"), Some("Jörg")));
    // Nothing says what charset the bytes are in; they are the same bytes all the same.
    assert!(bytes.ends_with("\r\n\r\nSch=C3=B6ne Gr=C3=BC=C3=9Fe aus der Stadt am Rhein\r\n"), "{bytes}");
    // To a server that takes them nothing is changed.
    assert_eq!(repaired(&raw, &["a@x.example"], Carrier::Smtp).unwrap().1, ["stamp-id"]);
    // A signed one is not touched.
    let signed =
        format!("{head}To: a@x.example\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\nä\r\n--s--\r\n");
    assert!(!repaired(&signed, &["a@x.example"], Carrier::SmtpSevenBit).unwrap().0.is_ascii());
}

#[test]
fn the_last_line_of_quoted_printable_is_ended_without_adding_to_its_content() {
    let head = format!("{WHOLE}To: a@x.example\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n");
    for (body, expected) in [("Hi ", "Hi =\r\n"), ("Hi", "Hi=\r\n"), ("Hi=", "Hi=\r\n"), ("Hi\r\n", "Hi\r\n")] {
        let (bytes, _) = repaired(&format!("{head}{body}"), &["a@x.example"], Carrier::Smtp).unwrap();
        assert_eq!(bytes, format!("{STAMP}{head}{expected}"), "{body:?}");
    }
}

#[test]
fn a_field_that_two_repairs_want_is_changed_by_one_alone() {
    // An overlong Content-Transfer-Encoding of a part that has to be encoded.
    let raw = format!(
        "{WHOLE}To: a@x.example\r\nContent-Transfer-Encoding: 8bit {}\r\n\r\nä{}\r\n",
        "word ".repeat(250),
        "x".repeat(1_200)
    );
    for carrier in [Carrier::Smtp, Carrier::SmtpSevenBit] {
        repaired(&raw, &["a@x.example"], carrier).unwrap();
    }
}
