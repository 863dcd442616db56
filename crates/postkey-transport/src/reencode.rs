//! Parts that SMTP would refuse or harm as they are, written so that it carries them: overlong lines, bare line ends, bytes
//! above 127 where the server takes none. What a part says stays the same, byte for byte, once it is decoded; that is
//! checked, and what does not pass the check is left to the refusal.

use std::ops::Range;

use mail_parser::{
    Encoding, HeaderName, MessageParser, MessagePart, MimeHeaders, PartType,
    decoders::{base64::base64_decode, quoted_printable::quoted_printable_decode},
};

use crate::{
    message::Message,
    repair::RepairKind,
    transfer_encoding::{LONGEST_LINE, base64_lines, content_length, quoted_printable, rewrapped_base64, soft_breaks},
};

/// One part written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rewrite {
    pub(crate) kind: RepairKind,
    /// Which part, for people.
    pub(crate) part: String,
    /// What is taken out of the message as it came, and what stands there instead.
    pub(crate) splices: Vec<(Range<usize>, Vec<u8>)>,
    /// A field to stand at the top of the message.
    pub(crate) top: Option<String>,
}

/// Whether something in the message should be written anew for SMTP.
pub(crate) fn is_needed(message: &Message, seven_bit: bool) -> bool {
    let shape = message.shape();
    let bare_lf = shape.line_ends.lf > 0 && !crate::repair::line_ends_are_repairable(message);
    shape.has_long_lines() || shape.line_ends.cr > 0 || bare_lf || seven_bit && shape.eight_bit_body
}

/// Whether nothing in it may be written anew: a signature would break, an encryption is not ours, and a message within the
/// message has parts of its own.
pub(crate) fn is_forbidden(message: &Message) -> bool {
    let shape = message.shape();
    shape.signed || shape.encrypted || shape.nested
}

/// The parts to write anew; empty when none is.
pub(crate) fn rewrites(message: &Message, seven_bit: bool) -> Vec<Rewrite> {
    if !is_needed(message, seven_bit) || is_forbidden(message) {
        return Vec::new();
    }
    let base = message.first_field();
    let lf_ends_lines = crate::repair::line_ends_are_repairable(message);
    let Some(parsed) = MessageParser::new().parse(&message.raw()[base..]) else { return Vec::new() };
    let leaves = parsed.parts.iter().enumerate().filter(|(_, part)| is_leaf(part));
    leaves.filter_map(|(index, part)| rewrite(message, base, index, part, lf_ends_lines, seven_bit)).collect()
}

fn is_leaf(part: &MessagePart<'_>) -> bool {
    !matches!(part.body, PartType::Multipart(_) | PartType::Message(_))
}

/// How a part's content is written in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Plain,
    Binary,
    QuotedPrintable,
    Base64,
}

fn written(part: &MessagePart<'_>) -> Written {
    match part.content_transfer_encoding().map(|value| value.trim().to_ascii_lowercase()).as_deref() {
        Some("base64") => Written::Base64,
        Some("quoted-printable") => Written::QuotedPrintable,
        Some("binary") => Written::Binary,
        _ => Written::Plain,
    }
}

fn rewrite(
    message: &Message,
    base: usize,
    index: usize,
    part: &MessagePart<'_>,
    lf_ends_lines: bool,
    seven_bit: bool,
) -> Option<Rewrite> {
    let body = base + part.raw_body_offset() as usize..base + part.raw_end_offset() as usize;
    let content = message.raw().get(body.clone())?;
    let long = content.split_inclusive(|&byte| byte == b'\n').any(|line| content_length(line) > LONGEST_LINE);
    let (cr, lf) = bare_ends(content);
    let eight_bit = seven_bit && !content.is_ascii();
    if !(long || cr || lf && !lf_ends_lines || eight_bit) {
        return None;
    }
    let is_text = part.content_type().is_none_or(|kind| kind.ctype().eq_ignore_ascii_case("text"));
    let name = match part.content_type() {
        Some(kind) => format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("")),
        None => "text/plain".into(),
    };
    let made = |kind, splices, top| Some(Rewrite { kind, part: name.clone(), splices, top });
    match written(part) {
        Written::Base64 => made(RepairKind::BreakLines, vec![(body, rewrapped_base64(content))], None),
        Written::QuotedPrintable => {
            let breaks =
                soft_breaks(content).into_iter().map(|at| (body.start + at..body.start + at, b"=\r\n".to_vec()));
            made(RepairKind::BreakLines, breaks.collect(), None)
        }
        how => {
            let foreign = content.iter().filter(|byte| !byte.is_ascii()).count();
            let quoted = how == Written::Plain && is_text && foreign * 4 <= content.len();
            let (kind, word, mut encoded) = if quoted {
                let encoded = quoted_printable(content, lf_ends_lines);
                (RepairKind::EncodeQuotedPrintable, "quoted-printable", encoded)
            } else {
                // Of text the canonical form is meant: its lines end with CR LF.
                let canonical = if is_text && lf_ends_lines { with_crlf(content) } else { content.to_vec() };
                (RepairKind::EncodeBase64, "base64", base64_lines(&canonical))
            };
            // Before a boundary stands a line end that is the boundary's; no other one is needed.
            let surplus: &[u8] = if quoted { b"=\r\n" } else { b"\r\n" };
            if index > 0 && encoded.ends_with(surplus) {
                encoded.truncate(encoded.len() - surplus.len());
            }
            let mut splices = vec![(body, encoded)];
            let mut top = None;
            match field(part, base, message.raw()) {
                Some(value) => splices.push((value, format!(" {word}").into_bytes())),
                None if index == 0 => top = Some(format!("Content-Transfer-Encoding: {word}\r\n")),
                None => {
                    let at = base + part.raw_header_offset() as usize;
                    splices.push((at..at, format!("Content-Transfer-Encoding: {word}\r\n").into_bytes()));
                }
            }
            made(kind, splices, top)
        }
    }
}

/// Where the value of a part's Content-Transfer-Encoding stands, without its line end.
fn field(part: &MessagePart<'_>, base: usize, raw: &[u8]) -> Option<Range<usize>> {
    let header = part.headers.iter().rfind(|header| header.name == HeaderName::ContentTransferEncoding)?;
    let (start, end) = (base + header.offset_start as usize, base + header.offset_end as usize);
    Some(start..start + content_length(raw.get(start..end)?))
}

/// Whether there are bare CRs, and bare LFs.
fn bare_ends(content: &[u8]) -> (bool, bool) {
    let (mut cr, mut lf, mut after_cr) = (false, false, false);
    for &byte in content {
        cr |= after_cr && byte != b'\n';
        lf |= byte == b'\n' && !after_cr;
        after_cr = byte == b'\r';
    }
    (cr || after_cr, lf)
}

fn with_crlf(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + content.len() / 32);
    for line in content.split_inclusive(|&byte| byte == b'\n') {
        match line {
            [text @ .., b'\n'] if !text.ends_with(b"\r") => {
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            _ => out.extend_from_slice(line),
        }
    }
    out
}

/// Whether every line ends with CR LF and no CR stands elsewhere.
pub(crate) fn has_whole_line_ends(bytes: &[u8]) -> bool {
    bare_ends(bytes) == (false, false)
}

/// Whether both messages say the same in every part, decoded. Line ends of text count as equal.
pub(crate) fn say_the_same(before: &Message, after: &Message) -> bool {
    fn contents(message: &Message) -> Option<Vec<Option<Vec<u8>>>> {
        let raw = &message.raw()[message.first_field()..];
        let parsed = MessageParser::new().parse(raw)?;
        let content = |part: &MessagePart<'_>| {
            let raw = raw.get(part.raw_body_offset() as usize..part.raw_end_offset() as usize)?;
            let decoded = match part.encoding {
                Encoding::None => raw.to_vec(),
                Encoding::Base64 => base64_decode(raw)?,
                Encoding::QuotedPrintable => quoted_printable_decode(raw)?,
            };
            let is_text = part.content_type().is_none_or(|kind| kind.ctype().eq_ignore_ascii_case("text"));
            Some(if is_text { with_crlf(&decoded) } else { decoded })
        };
        Some(parsed.parts.iter().map(|part| if is_leaf(part) { content(part) } else { None }).collect())
    }
    match (contents(before), contents(after)) {
        (Some(before), Some(after)) => before == after,
        _ => false,
    }
}
