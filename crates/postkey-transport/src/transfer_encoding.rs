//! Writing content so that every relay leaves it alone: quoted-printable and base64 (RFC 2045 §6.7, §6.8). Pure.

use base64::{Engine, engine::general_purpose::STANDARD};

/// The longest line without its end that SMTP carries (RFC 5321 §4.5.3.1.6).
pub(crate) const LONGEST_LINE: usize = 998;
/// The longest line of encoded content, as RFC 2045 asks.
const ENCODED_LINE: usize = 76;

/// Writes text as quoted-printable. What relays are known to harm is written as `=XX`: white space at the end of a line, a
/// dot at the beginning of one, and `From ` there. CR LF stays a line end; a bare LF becomes one where `lf_ends_lines`.
/// Decoded, it is what it was.
pub(crate) fn quoted_printable(text: &[u8], lf_ends_lines: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 8);
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let feed = rest
            .iter()
            .enumerate()
            .position(|(index, &byte)| byte == b'\n' && (lf_ends_lines || index > 0 && rest[index - 1] == b'\r'));
        let line = feed.map_or(rest, |feed| &rest[..feed]);
        let line = if feed.is_some() { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
        encode_line(line, feed.is_some(), &mut out);
        match feed {
            Some(feed) => {
                out.extend_from_slice(b"\r\n");
                at += feed + 1;
            }
            None => {
                // The content does not end in a line end; its encoding must.
                out.extend_from_slice(b"=\r\n");
                at = text.len();
            }
        }
    }
    out
}

fn encode_line(line: &[u8], ended: bool, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut width = 0;
    for (index, &byte) in line.iter().enumerate() {
        let last = index + 1 == line.len();
        let plain = match byte {
            b'=' => false,
            b' ' | b'\t' => !last,
            b'.' => width > 0,
            b'F' => width > 0 || !line[index..].starts_with(b"From "),
            33..=126 => true,
            _ => false,
        };
        let needs = if plain { 1 } else { 3 };
        // A soft break itself takes one, also the one behind a line that has no end.
        if width + needs > ENCODED_LINE - usize::from(!(last && ended)) {
            out.extend_from_slice(b"=\r\n");
            width = 0;
            // What was plain within a line may be harmed at the beginning of the next.
            let harmed = byte == b'.' || line[index..].starts_with(b"From ");
            if harmed && plain {
                push_hex(byte, HEX, out);
                width += 3;
                continue;
            }
        }
        if plain {
            out.push(byte);
        } else {
            push_hex(byte, HEX, out);
        }
        width += needs;
    }
}

fn push_hex(byte: u8, hex: &[u8; 16], out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'=', hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]]);
}

/// Writes bytes as base64 in lines of 76.
pub(crate) fn base64_lines(bytes: &[u8]) -> Vec<u8> {
    wrapped(STANDARD.encode(bytes).as_bytes())
}

/// The same base64 in lines of 76.
pub(crate) fn rewrapped_base64(text: &[u8]) -> Vec<u8> {
    let packed: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    wrapped(&packed)
}

fn wrapped(base64: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(base64.len() + base64.len() / 38 + 2);
    for line in base64.chunks(ENCODED_LINE) {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The places where a soft line break belongs in quoted-printable whose lines are too long for SMTP. Offsets in `text`.
pub(crate) fn soft_breaks(text: &[u8]) -> Vec<usize> {
    let mut breaks = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let length = line.len();
        if content_length(line) > LONGEST_LINE {
            let mut from = 0;
            while content_length(&line[from..]) > ENCODED_LINE {
                let mut to = from + ENCODED_LINE - 1;
                // Not within `=XX`, nor right before a dot.
                while to > from + 1 && (line[to - 1] == b'=' || line[to - 2] == b'=' || line[to] == b'.') {
                    to -= 1;
                }
                if to <= from + 1 {
                    to = from + ENCODED_LINE - 1;
                }
                breaks.push(start + to);
                from = to;
            }
        }
        start += length;
    }
    breaks
}

/// Without its line end.
pub(crate) fn content_length(line: &[u8]) -> usize {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line).len()
}

#[cfg(test)]
mod tests {
    use mail_parser::decoders::quoted_printable::quoted_printable_decode;
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &str) -> String {
        String::from_utf8(quoted_printable(text.as_bytes(), false)).unwrap()
    }

    #[test]
    fn what_relays_harm_is_encoded_and_the_rest_is_readable() {
        for (text, want) in [
            ("Hello\r\n", "Hello\r\n"),
            (".\r\n", "=2E\r\n"),
            (".hidden\r\n..\r\n", "=2Ehidden\r\n=2E.\r\n"),
            ("From here\r\nFromage\r\n", "=46rom here\r\nFromage\r\n"),
            ("end \r\ntab\t\r\n", "end=20\r\ntab=09\r\n"),
            ("a=b\r\n", "a=3Db\r\n"),
            ("Grüße\r\n", "Gr=C3=BC=C3=9Fe\r\n"),
            ("a\rb\nc\r\n", "a=0Db=0Ac\r\n"),
            ("no end", "no end=\r\n"),
            ("", ""),
        ] {
            assert_eq!(encoded(text), want, "{text:?}");
        }
        assert_eq!(quoted_printable(b"a\nb\n", true), b"a\r\nb\r\n");
    }

    #[test]
    fn lines_stay_short_and_a_dot_never_begins_one() {
        let text = format!("{}{}\r\n", "x".repeat(75), ".".repeat(3_000));
        for line in encoded(&text).lines() {
            assert!(line.len() <= ENCODED_LINE && !line.starts_with('.'), "{line}");
        }
    }

    fn decoded(text: &[u8]) -> Vec<u8> {
        quoted_printable_decode(text).unwrap()
    }

    proptest! {
        #[test]
        fn decoding_gives_back_every_byte(text in proptest::collection::vec(
            prop_oneof![Just(b'.'), Just(b' '), Just(b'='), Just(b'\r'), Just(b'F'), any::<u8>()], 0..400)
        ) {
            // The decoder of the test takes a bare CR at a line's end for part of it.
            prop_assume!(!text.windows(3).any(|three| three == b"\r\r\n"));
            let encoded = quoted_printable(&text, false);
            prop_assert!(encoded.is_ascii() && encoded.split(|&byte| byte == b'\n').all(|line| line.len() <= 77));
            prop_assert_eq!(decoded(&encoded), text);
        }

        #[test]
        fn soft_breaks_change_no_content(text in "([a-z. ]|=[0-9A-F]{2}){900,1500}") {
            let text = text.trim_end().as_bytes();
            let mut broken = Vec::new();
            let mut from = 0;
            for at in soft_breaks(text) {
                broken.extend_from_slice(&text[from..at]);
                broken.extend_from_slice(b"=\r\n");
                from = at;
            }
            broken.extend_from_slice(&text[from..]);
            prop_assert!(broken.split(|&byte| byte == b'\n').all(|line| content_length(line) <= LONGEST_LINE));
            prop_assert_eq!(decoded(&broken), decoded(text));
        }

        #[test]
        fn base64_is_wrapped_and_means_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let lines = base64_lines(&bytes);
            prop_assert!(lines.split(|&byte| byte == b'\n').all(|line| line.len() <= 77));
            let unwrapped = STANDARD.encode(&bytes);
            prop_assert_eq!(rewrapped_base64(unwrapped.as_bytes()), lines);
        }
    }
}
