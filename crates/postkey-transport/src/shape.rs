//! What the bytes and parts of a message are like, as far as it matters for how it can be carried.

use mail_parser::{MessageParser, MimeHeaders, PartType};

use crate::message::{Field, first_field};

/// What a message is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes above 127 in the header section.
    pub eight_bit_header: bool,
    /// Bytes above 127 in the body.
    pub eight_bit_body: bool,
    /// The header section is valid UTF-8.
    pub utf8_header: bool,
    /// A part is signed: `multipart/signed`, or `application/pkcs7-mime` with signed data.
    pub signed: bool,
    /// A part is encrypted: `multipart/encrypted`, or `application/pkcs7-mime` otherwise.
    pub encrypted: bool,
    /// An invitation or an answer to one: `text/calendar` with a method, or not as an attachment.
    pub calendar: bool,
    /// A message within the message, or a report.
    pub nested: bool,
    /// A part with `Content-Transfer-Encoding: binary`: its line ends are not ours to touch.
    pub binary: bool,
    /// Bytes of the longest line, without its end. RFC 5322 §2.1.1 allows 998.
    pub longest_line: usize,
    /// How its lines end.
    pub line_ends: LineEnds,
    /// The same text twice, plain and as HTML.
    pub alternative: bool,
    /// Decoded bytes of the bodies that a reader sees first (text and HTML).
    pub text_bytes: u64,
    /// The attachments, inline ones included.
    pub attachments: Vec<AttachmentSummary>,
}

/// How the lines of a message end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineEnds {
    /// CR LF.
    pub crlf: usize,
    /// LF alone.
    pub lf: usize,
    /// CR alone.
    pub cr: usize,
    /// The last line has an end.
    pub last_is_ended: bool,
}

/// One attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentSummary {
    /// Its file name, if it has one.
    pub name: Option<String>,
    /// `type/subtype`.
    pub content_type: String,
    /// Decoded bytes.
    pub size: u64,
    /// Shown within the body, by its content id.
    pub inline: bool,
}

impl Shape {
    pub(crate) fn of(raw: &[u8], fields: &[Field], body_at: usize) -> Self {
        let (header, body) = raw.split_at(body_at);
        let mut shape = Self {
            eight_bit_header: !header.is_ascii(),
            eight_bit_body: !body.is_ascii(),
            utf8_header: std::str::from_utf8(header).is_ok(),
            ..Self::default()
        };
        shape.read_lines(raw);
        let start = first_field(fields);
        if let Some(parsed) = MessageParser::new().parse(&raw[start..]) {
            shape.read_parts(&parsed);
        }
        shape
    }

    /// Longer lines than RFC 5322 allows.
    pub fn has_long_lines(&self) -> bool {
        self.longest_line > 998
    }

    fn read_lines(&mut self, raw: &[u8]) {
        let (mut line, mut after_cr) = (0usize, false);
        for &byte in raw {
            match byte {
                b'\n' if after_cr => {
                    self.line_ends.crlf += 1;
                    self.longest_line = self.longest_line.max(line - 1);
                    line = 0;
                }
                b'\n' => {
                    self.line_ends.lf += 1;
                    self.longest_line = self.longest_line.max(line);
                    line = 0;
                }
                _ => {
                    if after_cr {
                        self.line_ends.cr += 1;
                    }
                    line += 1;
                }
            }
            after_cr = byte == b'\r';
        }
        if after_cr {
            self.line_ends.cr += 1;
        }
        self.longest_line = self.longest_line.max(line);
        self.line_ends.last_is_ended = raw.ends_with(b"\n");
    }

    fn read_parts(&mut self, parsed: &mail_parser::Message<'_>) {
        for part in &parsed.parts {
            if part.content_transfer_encoding().is_some_and(|value| value.trim().eq_ignore_ascii_case("binary")) {
                self.binary = true;
            }
            if matches!(part.body, PartType::Message(_)) {
                self.nested = true;
            }
            let Some(kind) = part.content_type() else { continue };
            let (main, sub) = (kind.ctype().to_ascii_lowercase(), kind.subtype().unwrap_or("").to_ascii_lowercase());
            match (main.as_str(), sub.as_str()) {
                ("multipart", "alternative") => self.alternative = true,
                ("multipart", "signed") => self.signed = true,
                ("multipart", "encrypted") => self.encrypted = true,
                ("multipart", "report") | ("message", _) => self.nested = true,
                ("application", "pkcs7-mime" | "x-pkcs7-mime") => {
                    // RFC 8551 §3.2.2: signed-data hides the text as encryption does, but is a signature.
                    let kind = kind.attribute("smime-type").unwrap_or("").to_ascii_lowercase();
                    if kind == "signed-data" { self.signed = true } else { self.encrypted = true }
                }
                ("text", "calendar") => {
                    let attached =
                        part.content_disposition().is_some_and(|how| how.ctype().eq_ignore_ascii_case("attachment"));
                    self.calendar |= kind.attribute("method").is_some() || !attached;
                }
                _ => {}
            }
        }
        let bodies = parsed.text_body.iter().chain(&parsed.html_body);
        let mut counted = std::collections::BTreeSet::new();
        for &id in bodies {
            if let Some(part) = parsed.parts.get(id as usize)
                && counted.insert(id)
            {
                self.text_bytes += part.contents().len() as u64;
            }
        }
        for part in parsed.attachments() {
            let content_type = part.content_type().map_or_else(
                || "application/octet-stream".to_owned(),
                |kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("octet-stream")),
            );
            let inline = matches!(part.body, PartType::InlineBinary(_)) && part.content_id().is_some();
            self.attachments.push(AttachmentSummary {
                name: part.attachment_name().map(str::to_owned),
                content_type,
                size: part.contents().len() as u64,
                inline,
            });
        }
    }
}
