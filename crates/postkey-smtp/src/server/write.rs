//! Replies as they go over the wire.

use std::borrow::Cow;

use bytes::BytesMut;

use crate::reply::Reply;

/// A reply of the session's own: one line, which a person can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) code: u16,
    /// Empty where no enhanced code belongs: 220 greeting, 334, 354.
    pub(super) enhanced: &'static str,
    pub(super) text: Cow<'static, str>,
}

pub(super) const fn words(code: u16, enhanced: &'static str, text: &'static str) -> Words {
    Words { code, enhanced, text: Cow::Borrowed(text) }
}

impl Words {
    pub(super) fn made(code: u16, enhanced: &'static str, text: String) -> Self {
        Self { code, enhanced, text: Cow::Owned(text) }
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        line(out, self.code, b' ', self.enhanced, &self.text);
    }
}

/// Appends `reply` to `out`: its enhanced code before each line, line ends and control characters in its text made
/// blanks, characters beyond ASCII `?`, long lines broken, at most [`crate::reply::MAX_LINES`] of them.
pub fn encode_reply(reply: &Reply, out: &mut BytesMut) {
    let enhanced = reply.enhanced().map(|code| code.to_string()).unwrap_or_default();
    let whole = reply.lines().iter().map(String::as_str);
    let mut pieces = whole.flat_map(|text| broken(text, TEXT)).take(crate::reply::MAX_LINES).peekable();
    if pieces.peek().is_none() {
        return line(out, reply.code(), b' ', &enhanced, "");
    }
    while let Some(piece) = pieces.next() {
        let mark = if pieces.peek().is_some() { b'-' } else { b' ' };
        line(out, reply.code(), mark, &enhanced, piece);
    }
}

/// Octets of text in one line: with code, enhanced code and CRLF it stays within the 512 of RFC 5321 §4.5.3.1.5.
const TEXT: usize = 490;

/// One line of a reply.
pub(super) fn line(out: &mut BytesMut, code: u16, mark: u8, enhanced: &str, text: &str) {
    let code = code.clamp(200, 599);
    let digit = |of: u16| b'0' + (of % 10) as u8;
    out.reserve(enhanced.len() + text.len() + 8);
    out.extend_from_slice(&[digit(code / 100), digit(code / 10), digit(code), mark]);
    if !enhanced.is_empty() {
        out.extend_from_slice(enhanced.as_bytes());
        if !text.is_empty() {
            out.extend_from_slice(b" ");
        }
    }
    for c in text.chars() {
        let byte = match c {
            ' '..='~' => c as u8,
            _ if c.is_control() => b' ',
            _ => b'?',
        };
        out.extend_from_slice(&[byte]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Pieces of at most `most` octets, cut at a blank where there is one.
fn broken(text: &str, most: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        if text.len() <= most {
            return Some(text);
        }
        let cut = text.floor_char_boundary(most);
        let (piece, behind) = match text[..cut].rsplit_once(' ') {
            Some((piece, _)) if !piece.is_empty() => (piece, &text[piece.len() + 1..]),
            _ => text.split_at(cut),
        };
        rest = Some(behind);
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::EnhancedCode;

    fn encoded(reply: &Reply) -> String {
        let mut out = BytesMut::new();
        encode_reply(reply, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_reply_cannot_hold_a_second_one() {
        let code = EnhancedCode::parse("5.7.1");
        for (lines, wire) in [
            (vec!["no"], "550 5.7.1 no\r\n"),
            (vec!["no", "never"], "550-5.7.1 no\r\n550 5.7.1 never\r\n"),
            (vec!["no\r\n250 ok"], "550 5.7.1 no  250 ok\r\n"),
            (vec!["\u{85}größer\0"], "550 5.7.1  gr??er \r\n"),
            (vec![], "550 5.7.1\r\n"),
            (vec![""], "550 5.7.1\r\n"),
        ] {
            assert_eq!(encoded(&Reply::new(550, code, lines.clone())), wire, "{lines:?}");
        }
        assert_eq!(encoded(&Reply::new(250, None, ["ok"])), "250 ok\r\n");
    }

    #[test]
    fn long_texts_become_several_lines() {
        for text in ["word ".repeat(300), "x".repeat(1500), "ä".repeat(900), " ".repeat(1000)] {
            let wire = encoded(&Reply::new(550, EnhancedCode::parse("5.7.123"), [text.clone()]));
            assert!(wire.lines().count() > 1);
            assert!(wire.split_inclusive("\r\n").all(|line| line.len() <= 512), "{wire}");
            assert_eq!(wire.lines().filter(|line| line.as_bytes()[3] == b' ').count(), 1);
        }
    }
}
