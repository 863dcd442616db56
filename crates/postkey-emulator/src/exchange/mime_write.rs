//! A letter to MIME: what transport sends when a message was made of properties. The same letter gives the same bytes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::mailbox::{Attachment, AttachmentContent, Importance, Letter, Recipient};

/// RFC 2045 §6.8: encoded lines of at most 76 characters.
const ENCODED_LINE: usize = 76;
/// RFC 5322 §2.1.1: a line, without its end.
const LONGEST_LINE: usize = 998;

/// The whole message. `seed` (an item's id) makes its boundaries.
pub(crate) fn mime(letter: &Letter, message_id: &str, sent: Timestamp, seed: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut header = |name: &str, value: &str| out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    if let Some(from) = &letter.from {
        header("From", &person(from));
        if let Some(sender) =
            letter.sender.as_ref().filter(|sender| !sender.address.eq_ignore_ascii_case(&from.address))
        {
            header("Sender", &person(sender));
        }
    }
    for (name, list) in [("To", &letter.to), ("Cc", &letter.cc), ("Bcc", &letter.bcc), ("Reply-To", &letter.reply_to)] {
        if !list.is_empty() {
            header(name, &list.iter().map(person).collect::<Vec<_>>().join(",\r\n\t"));
        }
    }
    header("Subject", &encoded_words(&letter.subject));
    header("Date", &rfc5322_date(sent));
    header("Message-ID", message_id);
    for (name, value) in &letter.thread_headers {
        header(name, value);
    }
    match letter.importance {
        Importance::Normal => {}
        Importance::Low => header("Importance", "low"),
        Importance::High => header("Importance", "high"),
    }
    if let (true, Some(from)) = (letter.read_receipt, &letter.from) {
        header("Disposition-Notification-To", &person(from));
    }
    if let (true, Some(from)) = (letter.delivery_receipt, &letter.from) {
        header("Return-Receipt-To", &person(from));
    }
    for (name, value) in &letter.headers {
        header(name, &encoded_words(value));
    }
    header("MIME-Version", "1.0");
    out.extend_from_slice(&parts(letter, seed));
    out
}

/// RFC 5322 §3.3, UTC.
pub(crate) fn rfc5322_date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

fn parts(letter: &Letter, seed: &str) -> Vec<u8> {
    let text = if letter.body.html {
        let plain = mail_parser::decoders::html::html_to_text(&letter.body.content);
        multipart("alternative", seed, &[text_part("plain", &plain), text_part("html", &letter.body.content)])
    } else {
        text_part("plain", &letter.body.content)
    };
    let (inline, attached): (Vec<&Attachment>, Vec<&Attachment>) =
        letter.attachments.iter().partition(|attachment| attachment.inline && letter.body.html);
    let related = if inline.is_empty() {
        text
    } else {
        let children: Vec<Vec<u8>> = std::iter::once(text).chain(inline.into_iter().map(attachment_part)).collect();
        multipart("related", seed, &children)
    };
    if attached.is_empty() {
        return related;
    }
    let children: Vec<Vec<u8>> = std::iter::once(related).chain(attached.into_iter().map(attachment_part)).collect();
    multipart("mixed", seed, &children)
}

fn multipart(subtype: &str, seed: &str, children: &[Vec<u8>]) -> Vec<u8> {
    let digest = Sha256::digest(format!("{subtype} {seed}"));
    let boundary = format!("_{:03}_{}_", children.len(), hex::encode(&digest[..16]));
    let mut out = format!("Content-Type: multipart/{subtype};\r\n\tboundary=\"{boundary}\"\r\n\r\n").into_bytes();
    for child in children {
        out.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        out.extend_from_slice(child);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    out
}

fn text_part(subtype: &str, content: &str) -> Vec<u8> {
    if is_plain_lines(content) {
        return format!(
            "Content-Type: text/{subtype}; charset=\"us-ascii\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n{content}"
        )
        .into_bytes();
    }
    let mut out =
        format!("Content-Type: text/{subtype}; charset=\"utf-8\"\r\nContent-Transfer-Encoding: base64\r\n\r\n")
            .into_bytes();
    encode_lines(&mut out, content.as_bytes());
    out
}

/// ASCII in lines that travel as they are.
fn is_plain_lines(content: &str) -> bool {
    content.is_ascii()
        && !content.contains("\n--")
        && !content.starts_with("--")
        && !content.contains('\0')
        && content.split("\r\n").all(|line| line.len() <= LONGEST_LINE && !line.contains(['\r', '\n']))
}

fn encode_lines(out: &mut Vec<u8>, bytes: &[u8]) {
    let encoded = STANDARD.encode(bytes);
    for line in encoded.as_bytes().chunks(ENCODED_LINE) {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
}

fn attachment_part(attachment: &Attachment) -> Vec<u8> {
    let disposition = if attachment.inline { "inline" } else { "attachment" };
    let name = &attachment.name;
    if let AttachmentContent::Message(bytes) = &attachment.content {
        let mut out =
            format!("Content-Type: message/rfc822\r\nContent-Disposition: {disposition}{}\r\n\r\n", filename(name))
                .into_bytes();
        out.extend_from_slice(bytes);
        return out;
    }
    let bytes = match &attachment.content {
        AttachmentContent::File(bytes) | AttachmentContent::Message(bytes) => bytes.to_vec(),
        AttachmentContent::Item(value) | AttachmentContent::Reference(value) => value.to_string().into_bytes(),
    };
    let kind = attachment.content_type.as_deref().filter(|kind| safe(kind)).unwrap_or("application/octet-stream");
    let mut out = format!(
        "Content-Type: {kind}; name={}\r\nContent-Disposition: {disposition}{}\r\n",
        quoted(&encoded_words(name)),
        filename(name)
    )
    .into_bytes();
    if let Some(id) = attachment.content_id.as_deref().filter(|id| safe(id)) {
        out.extend_from_slice(format!("Content-ID: <{id}>\r\n").as_bytes());
    }
    if let Some(location) = attachment.content_location.as_deref().filter(|location| safe(location)) {
        out.extend_from_slice(format!("Content-Location: {location}\r\n").as_bytes());
    }
    out.extend_from_slice(b"Content-Transfer-Encoding: base64\r\n\r\n");
    encode_lines(&mut out, &bytes);
    out
}

/// Nothing that could end the header field.
fn safe(text: &str) -> bool {
    text.bytes().all(|byte| (32..127).contains(&byte))
}

fn filename(name: &str) -> String {
    if safe(name) {
        return format!(";\r\n\tfilename={}", quoted(name));
    }
    let encoded: String = name.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    });
    format!(";\r\n\tfilename*=utf-8''{encoded}") // RFC 2231 §4
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn person(recipient: &Recipient) -> String {
    match recipient.name.as_deref().filter(|name| !name.is_empty() && *name != recipient.address) {
        Some(name) if safe(name) => format!("{} <{}>", quoted(name), recipient.address),
        Some(name) => format!("{} <{}>", encoded_words(name), recipient.address),
        None => format!("<{}>", recipient.address),
    }
}

/// RFC 2047, in folded words of at most 75 characters; plain text stays as it is.
fn encoded_words(text: &str) -> String {
    if safe(text) && text.len() <= LONGEST_LINE / 2 {
        return text.to_owned();
    }
    /// base64 of 45 bytes is 60 characters; with its frame a word stays below 75.
    const WORD_BYTES: usize = 45;
    let mut words = Vec::new();
    let mut word = String::new();
    for letter in text.chars() {
        if word.len() + letter.len_utf8() > WORD_BYTES {
            words.push(std::mem::take(&mut word));
        }
        word.push(letter);
    }
    words.push(word);
    words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word))).collect::<Vec<_>>().join("\r\n\t")
}
