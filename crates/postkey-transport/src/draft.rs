//! A message taken apart for Graph: what a draft is made from. Graph writes the MIME anew; bodies and attachments keep
//! their content.

use bytes::Bytes;
use mail_parser::{
    Encoding, HeaderName, MessageParser, MessagePart, MimeHeaders, PartType,
    decoders::{base64::base64_decode, quoted_printable::quoted_printable_decode},
};
use postkey_base::EmailAddress;
use postkey_graph::{
    attachments::FileAttachment,
    messages::{Body, BodyKind, Importance, MessageHeader, OutgoingMessage, Recipient},
};

use crate::{
    envelope::Envelope,
    message::{Field, Message},
    repair::ID_HEADER,
    route::DRAFT_CUSTOM_HEADERS,
};

/// What a draft is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// All but the attachments.
    pub message: OutgoingMessage,
    /// The attachments, inline ones with their content id.
    pub attachments: Vec<FileAttachment>,
}

/// Takes a message apart. Its recipients are the envelope's: those whom To and Cc show stay there, the rest is Bcc.
pub fn draft_of(message: &Message, envelope: &Envelope) -> Draft {
    let parsed = MessageParser::new().parse(&message.raw()[message.first_field()..]).unwrap_or_default();
    let shown = |field| shown_in(message, &parsed, field, envelope);
    let (to, mut cc) = (shown("To"), shown("Cc"));
    cc.retain(|one| !to.iter().any(|other| other.address == one.address));
    let visible = |address: &&EmailAddress| to.iter().chain(&cc).any(|one| one.address == **address);
    let bcc = envelope.recipients().iter().filter(|one| !visible(one)).cloned().map(Recipient::from).collect();
    let body = body_of(&parsed);
    let attachments = attachments_of(&parsed, &body);
    Draft {
        message: OutgoingMessage {
            subject: message.subject().unwrap_or_default(),
            from: message.from().filter(|from| from != envelope.from()).map(Recipient::from),
            reply_to: message.addresses("Reply-To").into_iter().map(Recipient::from).collect(),
            internet_message_id: message.message_id(),
            internet_message_headers: custom_headers(message),
            importance: importance_of(message),
            body,
            to,
            cc,
            bcc,
            attachments: Vec::new(),
        },
        attachments,
    }
}

fn shown_in(
    message: &Message,
    parsed: &mail_parser::Message<'_>,
    field: &'static str,
    envelope: &Envelope,
) -> Vec<Recipient> {
    let name_of = |address: &EmailAddress| {
        let wanted = HeaderName::parse(field)?;
        let headers = parsed.parts.first()?.headers.iter().filter(|header| header.name == wanted);
        let mut people = headers.filter_map(|header| header.value.as_address()).flat_map(mail_parser::Address::iter);
        let same = |text: &str| text.parse::<EmailAddress>().is_ok_and(|one| one == *address);
        people.find(|one| one.address().is_some_and(same))?.name().map(str::to_owned)
    };
    let mut shown: Vec<Recipient> = Vec::new();
    for address in message.addresses(field) {
        if envelope.names(&address) && !shown.iter().any(|one| one.address == address) {
            shown.push(Recipient { name: name_of(&address), address });
        }
    }
    shown
}

/// The HTML if there is one (Graph has room for one body), else the text.
fn body_of(parsed: &mail_parser::Message<'_>) -> Body {
    let part = |id: &u32| parsed.parts.get(*id as usize);
    let is_html = |part: &MessagePart<'_>| matches!(part.body, PartType::Html(_));
    if parsed.html_body.iter().filter_map(part).any(is_html) {
        let pieces = parsed.html_body.iter().filter_map(part).filter_map(|part| match &part.body {
            PartType::Html(html) => Some(html.to_string()),
            PartType::Text(text) => Some(format!("<pre>{}</pre>", escaped(text))),
            _ => None,
        });
        return Body { kind: BodyKind::Html, content: pieces.collect::<Vec<_>>().join("\r\n") };
    }
    let pieces = parsed.text_body.iter().filter_map(part).filter_map(|part| match &part.body {
        PartType::Text(text) => Some(text.to_string()),
        _ => None,
    });
    Body { kind: BodyKind::Text, content: pieces.collect::<Vec<_>>().join("\r\n") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn attachments_of(parsed: &mail_parser::Message<'_>, body: &Body) -> Vec<FileAttachment> {
    let mut files = Vec::new();
    for part in parsed.attachments() {
        let kind = part.content_type();
        let content_type = kind.map_or_else(
            || "application/octet-stream".into(),
            |kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("octet-stream")).to_ascii_lowercase(),
        );
        let named = part.attachment_name().map(|name| name.rsplit(['/', '\\']).next().unwrap_or(name).to_owned());
        let name = named.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("attachment-{}", files.len() + 1));
        // Inline is what the body shows; a content id that nothing refers to would hide the file from its reader.
        let content_id = part
            .content_id()
            .map(|id| id.trim_matches(['<', '>']).to_owned())
            .filter(|id| body.content.contains(&format!("cid:{id}")));
        files.push(FileAttachment { name, content_type, content: content_of(parsed, part), content_id });
    }
    files
}

/// The decoded bytes of a part. mail-parser turns text into UTF-8; an attached text keeps its own encoding instead.
fn content_of(parsed: &mail_parser::Message<'_>, part: &MessagePart<'_>) -> Bytes {
    let as_written = || {
        let raw = parsed.raw_message.get(part.raw_body_offset() as usize..part.raw_end_offset() as usize)?;
        match part.encoding {
            Encoding::None => Some(raw.to_vec()),
            Encoding::Base64 => base64_decode(raw),
            Encoding::QuotedPrintable => quoted_printable_decode(raw),
        }
    };
    let content = match &part.body {
        PartType::Text(_) | PartType::Html(_) => as_written(),
        _ => None,
    };
    content.map_or_else(|| Bytes::copy_from_slice(part.contents()), Bytes::from)
}

/// Our stamp and the first few `x-` fields.
fn custom_headers(message: &Message) -> Vec<MessageHeader> {
    let is_stamp = |field: &&Field| message.name(field).eq_ignore_ascii_case(ID_HEADER);
    let is_custom = |field: &&Field| message.name(field).get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-"));
    let stamp = message.fields().iter().filter(is_stamp);
    let others = message.fields().iter().filter(|field| is_custom(field) && !is_stamp(field));
    let header = |field: &Field| {
        let value = String::from_utf8_lossy(&message.raw()[field.value.clone()]);
        let unfolded: String = value.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        MessageHeader { name: message.name(field).to_owned(), value: unfolded.trim().to_owned() }
    };
    stamp.take(1).chain(others.take(DRAFT_CUSTOM_HEADERS - 1)).map(header).collect()
}

fn importance_of(message: &Message) -> Option<Importance> {
    let said = |name| message.value(name).map(|value| String::from_utf8_lossy(value).trim().to_ascii_lowercase());
    match said("Importance").as_deref() {
        Some("high") => return Some(Importance::High),
        Some("low") => return Some(Importance::Low),
        _ => {}
    }
    match said("X-Priority").and_then(|value| value.chars().next()) {
        Some('1' | '2') => Some(Importance::High),
        Some('4' | '5') => Some(Importance::Low),
        _ => None,
    }
}

#[cfg(test)]
#[path = "draft_tests.rs"]
mod tests;
