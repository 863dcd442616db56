//! Repairs of how a message is written, not of what it says: names that need quotes, lines that are too long, parts that
//! need another encoding. Each is a method of its own; what is signed, encrypted or holds another message keeps its body.

use std::{borrow::Cow, ops::Range};

use super::{RepairKind, Work, reencode};
use crate::{
    message::{Field, Message},
    phrases,
    transfer_encoding::{LONGEST_LINE, content_length},
};

/// Fields that hold addresses.
const ADDRESS_FIELDS: [&str; 6] = ["From", "Sender", "Reply-To", "To", "Cc", "Bcc"];
/// Fields whose whole value is text.
const TEXT_FIELDS: [&str; 2] = ["Subject", "Comments"];
/// A folded line is this long where its white space allows it; RFC 5322 §2.1.1 prefers 78 for people's sake.
const FOLDED_LINE: usize = 78;

/// A mailbox with its name quoted, if it has to be.
pub(super) fn with_quoted_name(mailbox: &[u8]) -> Cow<'_, [u8]> {
    match phrases::unquoted_at(mailbox) {
        Some((range, name)) => Cow::Owned([&mailbox[..range.start], &name[..], &mailbox[range.end..]].concat()),
        None => Cow::Borrowed(mailbox),
    }
}

/// How the last line of a message is ended. Quoted-printable has a line end that is none of its content, and that keeps
/// white space before it, which a plain one would take away.
pub(super) fn last_line_end(message: &Message) -> &'static [u8] {
    let says = |name, word: &[u8]| {
        message.value(name).is_some_and(|value| {
            value.trim_ascii().get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
        })
    };
    let quoted = says("Content-Transfer-Encoding", b"quoted-printable") && !says("Content-Type", b"multipart/");
    if quoted && !message.body().is_empty() && !message.raw().ends_with(b"=") { b"=\r\n" } else { b"\r\n" }
}

impl Work<'_> {
    /// `a@b.example <c@d.example>`: the name would be taken for an address. Signatures do not cover these fields.
    pub(super) fn quote_display_names(&mut self) {
        let count = self.rename(phrases::unquoted_at);
        if count > 0 {
            self.note(RepairKind::QuoteDisplayName, format!("{count} names with a bare @"));
        }
    }

    /// Names and texts above 127, for a server that takes none. Other fields have no safe form.
    pub(super) fn encode_header_words(&mut self) {
        let mut count = self.rename(phrases::encoded_name);
        let message = self.message;
        for field in TEXT_FIELDS.iter().flat_map(|name| message.named(name)) {
            let value = &message.raw()[field.value.clone()];
            if !value.is_ascii()
                && let Ok(text) = std::str::from_utf8(value)
            {
                let words = format!(" {}", phrases::encoded_words(text.trim()));
                self.remove(field.value.clone(), words.into_bytes());
                count += 1;
            }
        }
        if count > 0 {
            self.note(RepairKind::EncodeHeaderWords, format!("{count} names and texts"));
        }
    }

    /// Writes names anew as the rule says; tells how many.
    fn rename(&mut self, rule: impl Fn(&[u8]) -> Option<(Range<usize>, Vec<u8>)>) -> usize {
        let message = self.message;
        let mut count = 0;
        for field in ADDRESS_FIELDS.iter().flat_map(|name| message.named(name)) {
            if self.is_touched(&field.whole) {
                continue;
            }
            for one in message.listed_in(field) {
                if let Some((range, name)) = rule(&message.raw()[one.at.clone()]) {
                    self.remove(one.at.start + range.start..one.at.start + range.end, name);
                    count += 1;
                }
            }
        }
        count
    }

    /// A header line over 998 octets gets line ends before its white space, which means the same (RFC 5322 §2.2.3).
    pub(super) fn fold_headers(&mut self) {
        let message = self.message;
        let mut folded = Vec::new();
        for field in message.fields().iter().filter(|field| !field.name.is_empty()) {
            let is_long = |line: &[u8]| content_length(line) > LONGEST_LINE;
            let long = message.raw()[field.whole.clone()].split_inclusive(|&byte| byte == b'\n').any(is_long);
            if !long || self.is_touched(&field.whole) {
                continue;
            }
            let places = folds(message, field);
            if !places.is_empty() {
                folded.push(message.name(field).to_owned());
            }
            for at in places {
                self.remove(at..at, b"\r\n".to_vec());
            }
        }
        if !folded.is_empty() {
            self.note(RepairKind::FoldHeader, folded.join(", "));
        }
    }

    /// Overlong lines, bare line ends and, where the server takes none, bytes above 127: see [`crate::reencode`].
    pub(super) fn write_parts_anew(&mut self, seven_bit: bool) {
        let rewrites = reencode::rewrites(self.message, seven_bit);
        let touched = |rewrite: &reencode::Rewrite| rewrite.splices.iter().any(|(range, _)| self.is_touched(range));
        if rewrites.is_empty() || rewrites.iter().any(touched) || !self.means_the_same(&rewrites) {
            return;
        }
        let versioned = self.message.named("MIME-Version").next().is_some();
        for rewrite in rewrites {
            for (range, inserted) in rewrite.splices {
                self.remove(range, inserted);
            }
            if let Some(field) = rewrite.top {
                if !versioned {
                    self.top.extend_from_slice(b"MIME-Version: 1.0\r\n");
                }
                self.top.extend_from_slice(field.as_bytes());
            }
            self.note(rewrite.kind, rewrite.part);
        }
    }

    /// Whether the message with these parts written anew, and nothing else changed, decodes to what it was.
    fn means_the_same(&self, rewrites: &[reencode::Rewrite]) -> bool {
        let raw = self.message.raw();
        let mut splices: Vec<_> = rewrites.iter().flat_map(|rewrite| &rewrite.splices).collect();
        splices.sort_by_key(|(range, _)| (range.start, range.end));
        let mut bytes = Vec::with_capacity(raw.len() + raw.len() / 4);
        let mut from = self.message.first_field();
        for rewrite in rewrites {
            bytes.extend_from_slice(rewrite.top.as_deref().unwrap_or("").as_bytes());
        }
        for (range, inserted) in splices {
            if range.start < from {
                return false;
            }
            bytes.extend_from_slice(&raw[from..range.start]);
            bytes.extend_from_slice(inserted);
            from = range.end;
        }
        bytes.extend_from_slice(&raw[from..]);
        Message::parse(bytes).is_ok_and(|after| reencode::say_the_same(self.message, &after))
    }

    /// Whether a repair has changed something within: taken something out there, or put something in.
    fn is_touched(&self, range: &Range<usize>) -> bool {
        let meets = |splice: &super::Splice| {
            let end = splice.at + splice.removed.len();
            splice.at < range.end && (end > range.start || splice.at > range.start)
        };
        self.splices.iter().any(meets)
    }
}

/// Where the lines of a field are to be folded: before white space.
fn folds(message: &Message, field: &Field) -> Vec<usize> {
    let raw = message.raw();
    let mut places = Vec::new();
    let mut line_start = field.whole.start;
    // The last white space at which this line can be folded.
    let mut candidate = None;
    for at in field.value.clone() {
        match raw[at] {
            b'\n' => (line_start, candidate) = (at + 1, None),
            b' ' | b'\t' if at > line_start && at > field.value.start && !raw[at - 1].is_ascii_whitespace() => {
                if at - line_start > FOLDED_LINE
                    && let Some(place) = candidate
                {
                    places.push(place);
                    line_start = place;
                }
                // Nothing but white space may not follow: such a line looks like the end of the header.
                let more = raw[at..field.value.end].iter().any(|byte| !byte.is_ascii_whitespace());
                candidate = more.then_some(at);
            }
            _ if at - line_start > FOLDED_LINE => {
                if let Some(place) = candidate.take() {
                    places.push(place);
                    line_start = place;
                }
            }
            _ => {}
        }
    }
    places
}
