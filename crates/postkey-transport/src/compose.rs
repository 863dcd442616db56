//! A message made from options: `--to --subject --body --attach`. mail-builder writes the MIME; everything is 7-bit.

use jiff::Timestamp;
use mail_builder::{
    MessageBuilder,
    headers::{address::Address, date::Date, text::Text},
    mime::MimePart,
};
use postkey_base::{Diagnose, EmailAddress, Who};
use uuid::Uuid;

use crate::envelope::EnvelopeError;

/// What to write.
#[derive(Debug, Clone)]
pub struct Composition {
    /// The sending mailbox.
    pub from: EmailAddress,
    /// A name beside it.
    pub from_name: Option<String>,
    /// To.
    pub to: Vec<EmailAddress>,
    /// Cc.
    pub cc: Vec<EmailAddress>,
    /// Bcc. Written as a header here; it never reaches a recipient.
    pub bcc: Vec<EmailAddress>,
    /// Reply-To.
    pub reply_to: Vec<EmailAddress>,
    /// Subject.
    pub subject: String,
    /// The text body.
    pub text: Option<String>,
    /// The HTML body.
    pub html: Option<String>,
    /// Files.
    pub attachments: Vec<AttachedFile>,
    /// Files that the HTML body shows: `<img src="cid:…">`.
    pub embedded: Vec<EmbeddedFile>,
    /// More header fields, only `X-` ones.
    pub headers: Vec<(String, String)>,
}

impl Composition {
    /// Nothing but a sender.
    pub fn new(from: EmailAddress) -> Self {
        Self {
            from,
            from_name: None,
            to: Vec::new(),
            cc: Vec::new(),
            bcc: Vec::new(),
            reply_to: Vec::new(),
            subject: String::new(),
            text: None,
            html: None,
            attachments: Vec::new(),
            embedded: Vec::new(),
            headers: Vec::new(),
        }
    }
}

/// A file to attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedFile {
    /// Its name, without a path.
    pub name: String,
    /// `type/subtype`; guessed from the name when `None`.
    pub content_type: Option<String>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A file that the HTML body shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedFile {
    /// Its `Content-ID`, without angle brackets.
    pub content_id: String,
    /// The file.
    pub file: AttachedFile,
}

/// The options make no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// No recipient.
    #[error(transparent)]
    Recipients(#[from] EnvelopeError),
    /// A line end or another control character where one line belongs.
    #[error("the {0} holds a line end or another control character")]
    Control(&'static str),
    /// Not `type/subtype`.
    #[error("{0:?} is not a content type such as application/pdf")]
    ContentType(String),
    /// Not a name in ASCII that begins with `X-`, or one of our own.
    #[error("{0:?} is not a header field that can be added")]
    HeaderName(String),
    /// Nothing that may stand between angle brackets.
    #[error("{0:?} is not a content id")]
    ContentId(String),
}

/// Writes the message. The same `id` and time give the same headers; boundaries differ.
pub fn compose(composition: &Composition, id: Uuid, at: Timestamp) -> Result<Vec<u8>, ComposeError> {
    let c = composition;
    if c.to.is_empty() && c.cc.is_empty() && c.bcc.is_empty() {
        return Err(EnvelopeError::NoRecipient.into());
    }
    one_line("subject", &c.subject)?;
    one_line("name of the sender", c.from_name.as_deref().unwrap_or(""))?;
    let list = |addresses: &[EmailAddress]| -> Address<'static> {
        Address::new_list(addresses.iter().map(|one| Address::from(one.as_str().to_owned())).collect())
    };
    let mut builder = MessageBuilder::new()
        .from(Address::new_address(c.from_name.clone(), c.from.as_str().to_owned()))
        .date(Date::new(at.as_second()))
        .message_id(format!("{}@{}", id.simple(), c.from.domain()))
        .subject(c.subject.as_str());
    if !c.to.is_empty() {
        builder = builder.to(list(&c.to));
    }
    if !c.cc.is_empty() {
        builder = builder.cc(list(&c.cc));
    }
    if !c.bcc.is_empty() {
        builder = builder.bcc(list(&c.bcc));
    }
    if !c.reply_to.is_empty() {
        builder = builder.reply_to(list(&c.reply_to));
    }
    for (name, value) in &c.headers {
        if !is_extra_header(name) {
            return Err(ComposeError::HeaderName(name.clone()));
        }
        one_line("value of a header field", value)?;
        builder = builder.header(name.as_str(), Text::new(value.as_str()));
    }
    builder = builder.body(body(c)?);
    let mut message = Vec::new();
    builder.serialize(&mut message);
    Ok(message)
}

/// The parts: text beside HTML, HTML with what it shows, and all that with the attachments.
fn body(c: &Composition) -> Result<MimePart<'_>, ComposeError> {
    let text = |text: &'_ str| -> MimePart<'static> { MimePart::new("text/plain", text.to_owned()) };
    let mut html = c.html.as_deref().map(|html| MimePart::new("text/html", html));
    let mut beside = Vec::new();
    let mut shown = Vec::new();
    for EmbeddedFile { content_id, file } in &c.embedded {
        if !is_content_id(content_id) {
            return Err(ComposeError::ContentId(content_id.clone()));
        }
        let part = MimePart::new(checked_file(file)?, file.bytes.as_slice());
        let part = part.inline().cid(content_id.as_str());
        // Without HTML nothing shows it.
        if html.is_some() { shown.push(part) } else { beside.push(part) }
    }
    for file in &c.attachments {
        beside.push(MimePart::new(checked_file(file)?, file.bytes.as_slice()).attachment(file.name.as_str()));
    }
    if let Some(alone) = html.take() {
        html = Some(match shown.is_empty() {
            true => alone,
            false => MimePart::new("multipart/related", [vec![alone], shown].concat()),
        });
    }
    let whole = match (c.text.as_deref(), html) {
        (Some(plain), Some(html)) => MimePart::new("multipart/alternative", vec![text(plain), html]),
        (None, Some(html)) => html,
        (plain, None) => text(plain.unwrap_or_default()),
    };
    Ok(match beside.is_empty() {
        true => whole,
        false => MimePart::new("multipart/mixed", [vec![whole], beside].concat()),
    })
}

fn checked_file(file: &AttachedFile) -> Result<String, ComposeError> {
    one_line("name of an attachment", &file.name)?;
    match &file.content_type {
        Some(given) => checked_type(given),
        None => Ok(content_type_of(&file.name).to_owned()),
    }
}

/// Whether a writer may add a header field of this name: `X-` and letters, digits or hyphens, and none of ours.
pub fn is_extra_header(name: &str) -> bool {
    let rest = name.strip_prefix("X-").or_else(|| name.strip_prefix("x-")).unwrap_or_default();
    let ours = rest.get(..7).is_some_and(|begin| begin.eq_ignore_ascii_case("postkey"));
    !ours && (1..=70).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether this may stand between the angle brackets of a `Content-ID`.
pub fn is_content_id(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && !b"<>()\\,;:\"".contains(&b))
}

fn one_line(what: &'static str, text: &str) -> Result<(), ComposeError> {
    if text.contains(char::is_control) { Err(ComposeError::Control(what)) } else { Ok(()) }
}

fn checked_type(text: &str) -> Result<String, ComposeError> {
    let token =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b));
    match text.split_once('/') {
        Some((main, sub)) if token(main) && token(sub) => Ok(text.to_ascii_lowercase()),
        _ => Err(ComposeError::ContentType(text.to_owned())),
    }
}

/// By the name's ending; what is not known travels as bytes.
pub fn content_type_of(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    ENDINGS.iter().find(|(known, _)| *known == ending).map_or("application/octet-stream", |(_, kind)| kind)
}

const ENDINGS: &[(&str, &str)] = &[
    ("txt", "text/plain"),
    ("log", "text/plain"),
    ("csv", "text/csv"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ics", "text/calendar"),
    ("json", "application/json"),
    ("xml", "application/xml"),
    ("pdf", "application/pdf"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("svg", "image/svg+xml"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("doc", "application/msword"),
    ("xls", "application/vnd.ms-excel"),
    ("mp4", "video/mp4"),
    ("mp3", "audio/mpeg"),
];

impl Diagnose for ComposeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Recipients(error) => error.code(),
            Self::Control(_) => "transport.control_character",
            Self::ContentType(_) => "transport.bad_content_type",
            Self::HeaderName(_) => "transport.bad_header_name",
            Self::ContentId(_) => "transport.bad_content_id",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Recipients(error) => error.remedy(),
            Self::Control(what) => format!("Write the {what} on one line."),
            Self::ContentType(_) => "Leave the content type out: it is guessed from the file's name.".into(),
            Self::HeaderName(_) => {
                "Begin its name with X-, go on with letters, digits and hyphens, and leave X-Postkey-… to postkey."
                    .into()
            }
            Self::ContentId(_) => "Use letters, digits, dots, hyphens and one @: logo@example.".into(),
        }
    }

    fn who(&self) -> Who {
        Who::You
    }
}

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders};

    use super::*;
    use crate::message::Message;

    fn composition() -> Composition {
        Composition {
            from_name: Some("Jörg Müller, Sales".into()),
            to: vec!["a@x.example".parse().unwrap(), "b@x.example".parse().unwrap()],
            bcc: vec!["hidden@x.example".parse().unwrap()],
            subject: "Grüße aus Köln, ein ziemlich langer Betreff, der mehr als eine Zeile braucht: 你好".into(),
            text: Some(".\r\nHallo Jörg\r\n".into()),
            html: Some("<p>Hallo <b>Jörg</b></p>".into()),
            attachments: vec![AttachedFile {
                name: "Übersicht.pdf".into(),
                content_type: None,
                bytes: (0..=255u8).cycle().take(5_000).collect(),
            }],
            ..Composition::new("me@x.example".parse().unwrap())
        }
    }

    #[test]
    fn everything_comes_back_as_it_was_given() {
        let at = "2026-11-24T07:05:00Z".parse().unwrap();
        let raw = compose(&composition(), Uuid::from_u128(7), at).unwrap();
        assert!(raw.is_ascii());
        let message = Message::parse(raw.clone()).unwrap();
        assert_eq!(message.message_id().unwrap(), "<00000000000000000000000000000007@x.example>");
        assert_eq!(message.addresses("Bcc"), composition().bcc);
        assert!(!message.shape().has_long_lines() && message.shape().line_ends.lf == 0);
        let parsed = MessageParser::new().parse(&raw).unwrap();
        assert_eq!(parsed.subject(), Some(composition().subject.as_str()));
        assert_eq!(parsed.from().unwrap().first().unwrap().name(), Some("Jörg Müller, Sales"));
        assert_eq!(parsed.date().unwrap().to_timestamp(), at.as_second());
        assert_eq!(parsed.body_text(0).unwrap(), ".\r\nHallo Jörg\r\n");
        assert_eq!(parsed.body_html(0).unwrap(), "<p>Hallo <b>Jörg</b></p>");
        let file = parsed.attachment(0).unwrap();
        assert_eq!(file.attachment_name(), Some("Übersicht.pdf"));
        assert_eq!(file.contents(), composition().attachments[0].bytes);
        assert!(file.is_content_type("application", "pdf"));
    }

    #[test]
    fn what_the_html_shows_stands_beside_it_and_more_headers_are_kept() {
        let logo = AttachedFile { name: "logo.png".into(), content_type: None, bytes: vec![1, 2, 3] };
        let mut composition = composition();
        composition.embedded = vec![EmbeddedFile { content_id: "logo@x.example".into(), file: logo }];
        composition.headers = vec![("X-Order".into(), "№ 7".into())];
        let raw = compose(&composition, Uuid::from_u128(7), Timestamp::UNIX_EPOCH).unwrap();
        let parsed = MessageParser::new().parse(&raw).unwrap();
        assert!(String::from_utf8_lossy(&raw).contains("\r\nX-Order: =?utf-8?B?4oSWIDc=?=\r\n"));
        let kinds: Vec<_> = parsed
            .parts
            .iter()
            .filter_map(|part| part.content_type().map(|kind| (kind.ctype(), kind.subtype().unwrap_or_default())))
            .collect();
        let expected = [
            ("multipart", "mixed"),
            ("multipart", "alternative"),
            ("text", "plain"),
            ("multipart", "related"),
            ("text", "html"),
            ("image", "png"),
            ("application", "pdf"),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(parsed.parts[5].content_id(), Some("logo@x.example"));
    }

    #[test]
    fn no_option_can_add_a_header() {
        let at = Timestamp::UNIX_EPOCH;
        let id = Uuid::from_u128(7);
        let with = |change: fn(&mut Composition)| {
            let mut composition = composition();
            change(&mut composition);
            compose(&composition, id, at)
        };
        assert!(with(|c| c.subject = "a\r\nBcc: eve@evil.example".into()).is_err());
        assert!(with(|c| c.from_name = Some("a\nb".into())).is_err());
        assert!(with(|c| c.attachments[0].name = "a\"\r\nX: y".into()).is_err());
        assert!(with(|c| c.attachments[0].content_type = Some("text/plain; x=\r\ny".into())).is_err());
        for name in ["Bcc", "X-", "X-a: b\r\nBcc", "X-Postkey-Id", "x-POSTKEY-stamp", "X-ä"] {
            let mut composition = composition();
            composition.headers = vec![(name.into(), "eve@evil.example".into())];
            assert!(compose(&composition, id, at).is_err(), "{name:?}");
        }
        assert!(with(|c| c.headers = vec![("X-A".into(), "b\nBcc: c".into())]).is_err());
        for content_id in ["", "a b", "a>b", "a\r\nX: y", "\"a\""] {
            let mut composition = composition();
            let file = composition.attachments[0].clone();
            composition.embedded = vec![EmbeddedFile { content_id: content_id.into(), file }];
            assert!(compose(&composition, id, at).is_err(), "{content_id:?}");
        }
        assert!(with(|c| (c.to, c.cc, c.bcc) = (vec![], vec![], vec![])).is_err());
    }
}
