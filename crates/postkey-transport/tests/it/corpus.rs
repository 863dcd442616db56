//! Every message of `tests/corpus` is made ready for both carriers: only what the repairs name may differ.

use std::{collections::BTreeMap, path::PathBuf};

use postkey_transport::{Carrier, Envelope, Message, Prepared, RepairError, Stamp, prepare};
use uuid::Uuid;

use crate::support::address;

fn corpus() -> BTreeMap<String, Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|ending| ending == "eml"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

fn stamp() -> Stamp {
    Stamp { id: Uuid::from_u128(7), at: "2026-11-24T07:05:00Z".parse().unwrap() }
}

fn ready(raw: &[u8], carrier: Carrier) -> Result<Prepared, RepairError> {
    let message = Message::parse(raw.to_vec()).unwrap();
    let envelope = Envelope::of(&message, address("noreply@contoso.example")).unwrap();
    prepare(&message, &envelope, carrier, &stamp())
}

/// Name, repairs for SMTP, repairs for Graph.
type Row = (&'static str, Option<&'static [&'static str]>, &'static [&'static str]);

/// What each message needs beyond the stamp, for SMTP and for Graph. `None`: cannot be made ready.
const REPAIRS: &[Row] = &[
    ("bare-carriage-return", Some(&["encode-quoted-printable"]), &[]),
    ("binary-part", Some(&["encode-base64"]), &[]),
    ("calendar-file", Some(&[]), &[]),
    ("calendar-invitation", Some(&[]), &[]),
    ("display-name-at", Some(&["quote-display-name"]), &["quote-display-name"]),
    ("dot-lines", Some(&[]), &[]),
    ("dot-without-line-end", Some(&["end-last-line"]), &[]),
    ("eight-bit-body", Some(&[]), &[]),
    ("empty-body", Some(&[]), &[]),
    ("encoded-headers", Some(&[]), &[]),
    ("encrypted", Some(&[]), &[]),
    ("folded-bcc", Some(&["strip-bcc"]), &[]),
    ("group-addresses", Some(&[]), &[]),
    ("header-only", Some(&[]), &[]),
    ("long-header", Some(&["fold-header"]), &[]),
    ("long-lines", Some(&["encode-quoted-printable"]), &[]),
    (
        "mailbox-file",
        Some(&["drop-mailbox-line", "end-lines-with-crlf"]),
        &["drop-mailbox-line", "end-lines-with-crlf"],
    ),
    ("missing-date-and-id", Some(&["add-date", "add-message-id"]), &["add-date", "add-message-id"]),
    ("missing-from", Some(&["add-from", "end-lines-with-crlf"]), &["add-from", "end-lines-with-crlf"]),
    ("mixed-line-ends", Some(&["end-lines-with-crlf"]), &["end-lines-with-crlf"]),
    ("nested-message", Some(&[]), &[]),
    ("no-last-line-end", Some(&["end-last-line"]), &[]),
    ("only-bcc", Some(&["strip-bcc"]), &[]),
    ("outlook-like", Some(&[]), &[]),
    ("plain", Some(&[]), &[]),
    ("plain-unix", Some(&["end-lines-with-crlf"]), &["end-lines-with-crlf"]),
    ("quoted-printable", Some(&[]), &[]),
    ("quoted-printable-long", Some(&["break-lines"]), &[]),
    ("raw-latin1-headers", Some(&[]), &[]),
    ("raw-utf8-headers", Some(&[]), &[]),
    ("signed", Some(&[]), &[]),
    ("signed-mixed-line-ends", None, &[]),
];

/// Repairs that write something anew.
const REWRITE: [&str; 3] = ["quote-display-name", "fold-header", "break-lines"];

#[test]
fn what_is_written_anew_says_the_same() {
    let written = [
        "bare-carriage-return",
        "binary-part",
        "display-name-at",
        "long-header",
        "long-lines",
        "quoted-printable-long",
    ];
    for name in written {
        let raw = corpus()[name].clone();
        let prepared = ready(&raw, Carrier::Smtp).unwrap();
        let parse = |raw: &[u8]| mail_parser::MessageParser::new().parse(raw).unwrap().into_owned();
        let (before, after) = (parse(&raw), parse(prepared.bytes()));
        assert_eq!(before.parts.len(), after.parts.len(), "{name}");
        for (before, after) in before.parts.iter().zip(&after.parts) {
            if !matches!(before.body, mail_parser::PartType::Multipart(_)) {
                assert!(before.contents() == after.contents(), "{name}");
            }
        }
        let addresses = |message: &mail_parser::Message<'_>| {
            format!(
                "{:?} {:?}",
                message.to(),
                message.header_raw("References").map(|text| text.split_whitespace().collect::<String>())
            )
        };
        assert_eq!(addresses(&before).replace('"', ""), addresses(&after).replace('"', ""), "{name}");
        let longest = prepared.bytes().split(|&byte| byte == b'\n').map(<[u8]>::len).max().unwrap();
        assert!(longest <= 999, "{name}");
    }
}

#[test]
fn each_message_gets_just_the_repairs_it_needs() {
    let corpus = corpus();
    let listed: Vec<_> = REPAIRS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(corpus.keys().map(String::as_str).collect::<Vec<_>>(), listed, "corpus and table differ");
    for (name, smtp, graph) in REPAIRS {
        for (carrier, expected) in [(Carrier::Smtp, *smtp), (Carrier::Graph, Some(*graph))] {
            let prepared = ready(&corpus[*name], carrier);
            let Some(expected) = expected else {
                assert!(matches!(prepared, Err(RepairError::LineEnds { .. })), "{name} {carrier:?}");
                continue;
            };
            let prepared = prepared.unwrap();
            let mut names: Vec<_> = prepared.repairs().iter().map(|repair| repair.kind.name()).collect();
            names.retain(|name| *name != "stamp-id");
            assert_eq!(names, expected, "{name} {carrier:?}");
        }
    }
}

#[test]
fn a_repaired_message_minus_its_repairs_is_the_original() {
    for (name, raw) in corpus() {
        for carrier in [Carrier::Smtp, Carrier::Graph] {
            let Ok(prepared) = ready(&raw, carrier) else { continue };
            assert_eq!(prepared.undone(), raw, "{name} {carrier:?}");
            let kinds: Vec<_> = prepared.repairs().iter().map(|repair| repair.kind.name()).collect();
            // What is written anew has tests of its own.
            if kinds.iter().any(|kind| kind.starts_with("encode-") || REWRITE.contains(kind)) {
                continue;
            }
            let (before, after) =
                (Message::parse(raw.clone()).unwrap(), Message::parse(prepared.bytes().clone()).unwrap());
            // Apart from line ends, the body is the same and no field of the original was touched but Bcc.
            let line_ends = kinds.contains(&"end-lines-with-crlf");
            let plain = |bytes: &[u8]| {
                let text = bytes.iter().copied();
                if line_ends { text.filter(|&byte| byte != b'\r').collect() } else { text.collect::<Vec<u8>>() }
            };
            let mut body = plain(before.body());
            if kinds.contains(&"end-last-line") {
                body.extend_from_slice(b"\r\n");
            }
            assert_eq!(plain(after.body()), body, "{name} {carrier:?}");
            let field =
                |message: &Message, field: &postkey_transport::Field| plain(&message.raw()[field.whole.clone()]);
            let mut left: Vec<_> = after.fields().iter().map(|one| field(&after, one)).collect();
            for one in before.fields() {
                let gone = (carrier == Carrier::Smtp && before.name(one).eq_ignore_ascii_case("bcc"))
                    || (one.name.is_empty() && kinds.contains(&"drop-mailbox-line"));
                let found = left.iter().position(|other| *other == field(&before, one));
                assert_eq!(found.is_none(), gone, "{name} {carrier:?} {}", before.name(one));
                if let Some(found) = found {
                    left.drain(..=found).for_each(drop);
                }
            }
        }
    }
}

#[test]
fn what_smtp_is_given_can_be_stuffed_and_shows_no_bcc() {
    for (name, raw) in corpus() {
        let Ok(prepared) = ready(&raw, Carrier::Smtp) else { continue };
        let (mut stuffer, mut wire) = (postkey_smtp::DotStuffer::new(), Vec::new());
        stuffer.stuff(prepared.bytes(), &mut wire).unwrap();
        assert!(!stuffer.finish(&mut wire).unwrap(), "{name}");
        let message = Message::parse(prepared.bytes().clone()).unwrap();
        assert!(message.named("Bcc").next().is_none(), "{name}");
    }
}

#[test]
fn the_shape_of_each_message_is_seen() {
    let corpus = corpus();
    let shape = |name: &str| Message::parse(corpus[name].clone()).unwrap().shape().clone();
    for (name, raw) in &corpus {
        let seen = Message::parse(raw.clone()).unwrap().shape().clone();
        assert_eq!(seen.signed, name.starts_with("signed"), "{name}");
        assert_eq!(seen.encrypted, name == "encrypted", "{name}");
        assert_eq!(seen.calendar, name == "calendar-invitation", "{name}");
        assert_eq!(seen.nested, name == "nested-message", "{name}");
        assert_eq!(seen.binary, name == "binary-part", "{name}");
        assert_eq!(seen.has_long_lines(), name.contains("long"), "{name}");
        assert_eq!(seen.eight_bit_header, name.starts_with("raw-"), "{name}");
    }
    assert!(shape("raw-utf8-headers").utf8_header && !shape("raw-latin1-headers").utf8_header);
    assert!(shape("eight-bit-body").eight_bit_body);
    let outlook = shape("outlook-like");
    let files: Vec<_> = outlook.attachments.iter().map(|one| (one.name.as_deref(), one.size)).collect();
    assert_eq!(files, [(Some("image001.png"), 768), (Some("Übersicht.pdf"), 768)]);
}
