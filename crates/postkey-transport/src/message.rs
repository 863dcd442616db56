//! A message as its bytes: where each header field stands, whom it names, and what its parts are. Nothing here changes a
//! byte; mail-parser reads, never writes.

use std::ops::Range;

use bytes::Bytes;
use postkey_base::{Diagnose, EmailAddress, Who};

use crate::{
    addresses::{Listed, listed},
    route::grouped,
    shape::Shape,
};

/// An RFC 5322 message and what its bytes show. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Message {
    raw: Bytes,
    fields: Vec<Field>,
    body_at: usize,
    shape: Shape,
}

/// Where one header field stands in the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name. Empty for a line of the header section that is no field (kept as it is).
    pub name: Range<usize>,
    /// What follows the colon, folded lines included, without the last line end.
    pub value: Range<usize>,
    /// All of it, last line end included.
    pub whole: Range<usize>,
}

/// The bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not one header field at the top.
    #[error("this is not an email message: it does not begin with a header field but with {begins:?}")]
    NoHeader {
        /// The first line, shortened.
        begins: String,
    },
    /// Over [`MAX_FIELDS`].
    #[error("the message has more than {MAX_FIELDS} header fields")]
    TooManyFields,
    /// Over [`MAX_SIZE`].
    #[error("the message has {} bytes; Exchange Online takes at most {}", grouped(*.size), grouped(MAX_SIZE))]
    TooLarge {
        /// Its size.
        size: u64,
    },
}

/// No honest message comes near.
pub const MAX_FIELDS: usize = 4_096;
/// What `smtp.office365.com` announces as SIZE; no route of any tenant carries more.
pub const MAX_SIZE: u64 = 157_286_400;

impl Message {
    /// Finds the header fields and looks at the parts.
    pub fn parse(raw: impl Into<Bytes>) -> Result<Self, MessageError> {
        let raw = raw.into();
        if raw.len() as u64 > MAX_SIZE {
            return Err(MessageError::TooLarge { size: raw.len() as u64 });
        }
        let (fields, body_at) = find_fields(&raw)?;
        let shape = Shape::of(&raw, &fields, body_at);
        Ok(Self { raw, fields, body_at, shape })
    }

    /// Every byte.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Number of bytes.
    pub fn size(&self) -> u64 {
        self.raw.len() as u64
    }

    /// The header fields in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// What follows the empty line.
    pub fn body(&self) -> &[u8] {
        &self.raw[self.body_at..]
    }

    /// Where the body begins.
    pub fn body_at(&self) -> usize {
        self.body_at
    }

    /// What its bytes and parts are like.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The name of a field as written.
    pub fn name(&self, field: &Field) -> &str {
        std::str::from_utf8(&self.raw[field.name.clone()]).unwrap_or("")
    }

    /// The fields of this name, in order.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Field> {
        self.fields.iter().filter(move |field| self.raw[field.name.clone()].eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The raw value of the first field of this name.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.named(name).next().map(|field| &self.raw[field.value.clone()])
    }

    /// The addresses of every field of this name; places are offsets in the message.
    pub fn listed(&self, name: &str) -> Vec<Listed> {
        self.named(name).flat_map(|field| self.listed_in(field)).collect()
    }

    /// The addresses of one field; places are offsets in the message.
    pub fn listed_in(&self, field: &Field) -> Vec<Listed> {
        let start = field.value.start;
        listed(&self.raw[field.value.clone()])
            .into_iter()
            .map(|one| Listed { at: one.at.start + start..one.at.end + start, address: one.address })
            .collect()
    }

    /// The addresses of every field of this name; what is no address is left out.
    pub fn addresses(&self, name: &str) -> Vec<EmailAddress> {
        self.listed(name).into_iter().filter_map(|one| one.address.ok()).collect()
    }

    /// The first address of `From`.
    pub fn from(&self) -> Option<EmailAddress> {
        self.addresses("From").into_iter().next()
    }

    /// The address of `Sender`.
    pub fn sender(&self) -> Option<EmailAddress> {
        self.addresses("Sender").into_iter().next()
    }

    /// `Message-ID` with its angle brackets.
    pub fn message_id(&self) -> Option<String> {
        let value = std::str::from_utf8(self.value("Message-ID")?).ok()?.trim();
        (value.len() > 2 && value.starts_with('<') && value.ends_with('>')).then(|| value.to_owned())
    }

    /// Where the first field begins: behind a mailbox file's `From ` line, if there is one.
    pub(crate) fn first_field(&self) -> usize {
        first_field(&self.fields)
    }

    /// `Subject`, decoded.
    pub fn subject(&self) -> Option<String> {
        let headers = &self.raw[self.first_field()..self.body_at];
        let parsed = mail_parser::MessageParser::new().parse_headers(headers)?;
        parsed.subject().map(str::to_owned)
    }
}

/// A line that is no field makes mail-parser end the header section, so it begins to read behind such lines.
pub(crate) fn first_field(fields: &[Field]) -> usize {
    fields.iter().find(|field| !field.name.is_empty()).map_or(0, |field| field.whole.start)
}

fn find_fields(raw: &[u8]) -> Result<(Vec<Field>, usize), MessageError> {
    let mut fields: Vec<Field> = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        let end = raw[at..].iter().position(|&byte| byte == b'\n').map_or(raw.len(), |feed| at + feed + 1);
        let mut text_end = end;
        while text_end > at && matches!(raw[text_end - 1], b'\r' | b'\n') {
            text_end -= 1;
        }
        let line = &raw[at..text_end];
        if line.is_empty() {
            return if fields.iter().any(|field| !field.name.is_empty()) {
                Ok((fields, end))
            } else {
                Err(no_header(raw))
            };
        }
        match (line[0], fields.last_mut()) {
            (b' ' | b'\t', Some(last)) => {
                last.value.end = text_end;
                last.whole.end = end;
            }
            _ => {
                if fields.len() == MAX_FIELDS {
                    return Err(MessageError::TooManyFields);
                }
                fields.push(field(line, at, end));
            }
        }
        at = end;
    }
    if fields.iter().any(|field| !field.name.is_empty()) { Ok((fields, raw.len())) } else { Err(no_header(raw)) }
}

fn field(line: &[u8], at: usize, end: usize) -> Field {
    let whole = at..end;
    let colon = line.iter().position(|&byte| byte == b':');
    // RFC 5322 §4.5 lets old messages put blanks before the colon.
    let name = colon.map(|colon| line[..colon].trim_ascii_end());
    match (colon, name) {
        (Some(colon), Some(name)) if !name.is_empty() && name.iter().all(u8::is_ascii_graphic) => {
            Field { name: at..at + name.len(), value: at + colon + 1..at + line.len(), whole }
        }
        _ => Field { name: at..at, value: at..at + line.len(), whole },
    }
}

fn no_header(raw: &[u8]) -> MessageError {
    let line = raw.split(|&byte| byte == b'\n').next().unwrap_or(raw);
    MessageError::NoHeader { begins: String::from_utf8_lossy(line).trim_end().chars().take(60).collect() }
}

impl Diagnose for MessageError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoHeader { .. } => "transport.not_a_message",
            Self::TooManyFields => "transport.too_many_fields",
            Self::TooLarge { .. } => "transport.too_large",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::NoHeader { .. } => {
                "Give a whole message (header fields, an empty line, the body), or the text with --to, --subject and --body."
                    .into()
            }
            Self::TooManyFields => "Remove the surplus header fields; something wrote them in a loop.".into(),
            Self::TooLarge { .. } => "Send a link to the files instead of the files.".into(),
        }
    }

    fn who(&self) -> Who {
        Who::You
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_found_with_their_places() {
        let message = Message::parse(
            &b"From MAILER Mon Jan  1\r\nSubject : hello\r\n there\r\nX-Empty:\r\njunk line\r\nTo: a@x.example\n\r\nbody\r\n"[..],
        )
        .unwrap();
        let seen: Vec<_> = message
            .fields()
            .iter()
            .map(|field| {
                (message.name(field), String::from_utf8_lossy(&message.raw()[field.value.clone()]).into_owned())
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("", "From MAILER Mon Jan  1".to_owned()),
                ("Subject", " hello\r\n there".to_owned()),
                ("X-Empty", String::new()),
                ("", "junk line".to_owned()),
                ("To", " a@x.example".to_owned()),
            ]
        );
        assert_eq!(message.body(), b"body\r\n");
        assert_eq!(message.subject().as_deref(), Some("hello there"));
        let end_to_end: Vec<u8> =
            message.fields().iter().flat_map(|field| message.raw()[field.whole.clone()].to_vec()).collect();
        assert!(message.raw().starts_with(&end_to_end));
    }

    #[test]
    fn a_header_alone_is_a_message_and_text_alone_is_none() {
        for (raw, good) in [
            ("Subject: x\r\n", true),
            ("Subject: x", true),
            ("Subject: x\r\n\r\n", true),
            ("hello there\r\n", false),
            ("\r\nhello: there\r\n", false),
            ("", false),
            ("hello\r\n\r\nSubject: x\r\n", false),
        ] {
            assert_eq!(Message::parse(raw.as_bytes().to_vec()).is_ok(), good, "{raw:?}");
        }
    }

    #[test]
    fn the_message_id_keeps_its_brackets() {
        for (value, expected) in
            [("<a@b.example>", Some("<a@b.example>")), ("a@b.example", None), ("", None), ("<>", None)]
        {
            let message = Message::parse(format!("Message-ID: {value}\r\n\r\n").into_bytes()).unwrap();
            assert_eq!(message.message_id().as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn parts_nested_without_end_neither_overflow_nor_hang() {
        let mut multiparts = String::from("From: a@x.example\r\n");
        for level in 0..5_000 {
            multiparts.push_str(&format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n"));
        }
        let messages = "Content-Type: message/rfc822\r\n\r\n".repeat(5_000);
        for raw in [multiparts, messages] {
            assert!(Message::parse(raw.into_bytes()).is_ok());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(raw in "(?s)([a-c]{0,3}[:. <>\"@,;()=\r\n-]{0,4}){0,30}") {
            if let Ok(message) = Message::parse(raw.into_bytes()) {
                for name in ["a", "To", "b"] {
                    message.listed(name);
                }
                let last = message.fields().last().map_or(0, |field| field.whole.end);
                prop_assert!(last <= message.body_at());
            }
        }
    }
}
