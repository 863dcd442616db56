//! MIME to a letter: what Exchange shows of a message that arrived as bytes.

use bytes::Bytes;
use jiff::Timestamp;
use mail_parser::{Address, Message, MessageParser, MessagePart, MimeHeaders, PartType};

use super::{
    header_block,
    mailbox::{Attachment, AttachmentContent, Importance, ItemBody, Letter, Recipient, item_id},
};

/// Reads a message; None when no header field can be read.
pub(crate) fn letter(mime: &[u8], now: Timestamp) -> Option<Letter> {
    let fields = header_block::fields(mime);
    if fields.is_empty() {
        return None;
    }
    let value = |name: &str| fields.iter().find(|field| field.is(name)).map(|field| field.value(mime));
    let message = MessageParser::default().parse(mime)?;
    let importance = match value("Importance").or_else(|| value("X-Priority")).unwrap_or_default().to_lowercase() {
        word if word.starts_with("high") || word.starts_with('1') || word.starts_with('2') => Importance::High,
        word if word.starts_with("low") || word.starts_with('4') || word.starts_with('5') => Importance::Low,
        _ => Importance::Normal,
    };
    let message_id = value("Message-ID").filter(|id| !id.is_empty());
    let references = value("References").or_else(|| value("In-Reply-To")).unwrap_or_default();
    let conversation = references
        .split_whitespace()
        .next()
        .map(str::to_owned)
        .or_else(|| message_id.clone())
        .unwrap_or_else(|| item_id("new"));
    Some(Letter {
        subject: message.subject().unwrap_or_default().to_owned(),
        body: body(&message),
        from: people(message.from()).into_iter().next(),
        sender: people(message.sender()).into_iter().next().or_else(|| people(message.from()).into_iter().next()),
        to: message.all_to().flat_map(|list| people(Some(list))).collect(),
        cc: message.all_cc().flat_map(|list| people(Some(list))).collect(),
        bcc: message.all_bcc().flat_map(|list| people(Some(list))).collect(),
        reply_to: people(message.reply_to()),
        headers: fields.iter().map(|field| (field.name.clone(), field.value(mime))).collect(),
        thread_headers: Vec::new(),
        message_id,
        date: message.date().and_then(|date| Timestamp::from_second(date.to_timestamp()).ok()),
        importance,
        read_receipt: value("Disposition-Notification-To").is_some(),
        delivery_receipt: value("Return-Receipt-To").is_some(),
        attachments: attachments(&message, now),
        calendar_method: calendar_method(&message),
        conversation,
    })
}

fn people(list: Option<&Address<'_>>) -> Vec<Recipient> {
    list.into_iter()
        .flat_map(|list| {
            list.iter().map(|person| (person.name.as_deref(), person.address.as_deref())).collect::<Vec<_>>()
        })
        .filter_map(|(name, address)| {
            let address = address?.trim();
            Some(Recipient { name: name.map(str::to_owned), address: address.to_owned() })
                .filter(|_| !address.is_empty())
        })
        .collect()
}

fn is_calendar(part: &MessagePart<'_>) -> bool {
    part.is_content_type("text", "calendar")
}

fn calendar_method(message: &Message<'_>) -> Option<String> {
    message.parts.iter().filter(|part| is_calendar(part) && !is_attached(part)).find_map(|part| {
        let method = part.content_type()?.attribute("method")?;
        Some(method.to_ascii_uppercase())
    })
}

fn is_attached(part: &MessagePart<'_>) -> bool {
    part.content_disposition().is_some_and(mail_parser::ContentType::is_attachment)
}

fn body(message: &Message<'_>) -> ItemBody {
    let html = message.html_bodies().find_map(|part| match &part.body {
        PartType::Html(text) => Some(text.to_string()),
        _ => None,
    });
    match html {
        Some(content) => ItemBody { html: true, content },
        None => {
            let texts: Vec<&str> = message
                .text_bodies()
                .filter(|part| !is_calendar(part))
                .filter_map(|part| match &part.body {
                    PartType::Text(text) => Some(text.as_ref()),
                    _ => None,
                })
                .collect();
            ItemBody { html: false, content: texts.join("\r\n") }
        }
    }
}

fn attachments(message: &Message<'_>, now: Timestamp) -> Vec<Attachment> {
    message
        .attachments()
        // The calendar part of an invitation is the item itself, not something attached to it.
        .filter(|part| !is_calendar(part) || is_attached(part))
        .map(|part| {
            let content_type = part.content_type().map(|kind| match kind.subtype() {
                Some(subtype) => format!("{}/{subtype}", kind.ctype()).to_ascii_lowercase(),
                None => kind.ctype().to_ascii_lowercase(),
            });
            let (name, content) = match &part.body {
                PartType::Message(inner) => (
                    inner.subject().unwrap_or_default().to_owned(),
                    AttachmentContent::Message(Bytes::copy_from_slice(nested_bytes(message, part))),
                ),
                _ => (
                    part.attachment_name().unwrap_or_default().to_owned(),
                    AttachmentContent::File(decoded(message, part)),
                ),
            };
            let inline = part.content_disposition().is_some_and(mail_parser::ContentType::is_inline)
                || (part.content_id().is_some() && !is_attached(part));
            Attachment {
                id: item_id("AAMkADExMDI2BEgAQ"),
                name: if name.is_empty() { "attachment".into() } else { name },
                content_type,
                content_id: part.content_id().map(|id| id.trim_matches(['<', '>']).to_owned()),
                content_location: part.content_location().map(str::to_owned),
                inline,
                modified: now,
                content,
            }
        })
        .collect()
}

/// The bytes of an attached file. The parser has turned text into UTF-8; a file must come out as it went in.
fn decoded(message: &Message<'_>, part: &MessagePart<'_>) -> Bytes {
    if let PartType::Binary(bytes) | PartType::InlineBinary(bytes) = &part.body {
        return Bytes::copy_from_slice(bytes);
    }
    let raw = raw_body(message, part);
    let whole = match part.encoding {
        mail_parser::Encoding::Base64 => mail_parser::decoders::base64::base64_decode(raw),
        mail_parser::Encoding::QuotedPrintable => mail_parser::decoders::quoted_printable::quoted_printable_decode(raw),
        mail_parser::Encoding::None => Some(raw.to_vec()),
    };
    whole.map_or_else(|| Bytes::copy_from_slice(part.contents()), Bytes::from)
}

fn raw_body<'a>(message: &'a Message<'_>, part: &MessagePart<'_>) -> &'a [u8] {
    let (start, end) = (part.raw_body_offset() as usize, part.raw_end_offset() as usize);
    message.raw_message().get(start..end).unwrap_or_default()
}

fn nested_bytes<'a>(message: &'a Message<'_>, part: &'a MessagePart<'a>) -> &'a [u8] {
    match (&part.encoding, part.message()) {
        // An encoded nested message keeps its decoded bytes itself.
        (mail_parser::Encoding::Base64 | mail_parser::Encoding::QuotedPrintable, Some(inner)) => inner.raw_message(),
        _ => raw_body(message, part),
    }
}
