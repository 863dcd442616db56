//! Names beside addresses, and words of headers, written as RFC 5322 and RFC 2047 ask. Pure.

use base64::{Engine, engine::general_purpose::STANDARD};

/// A name before an angle address that holds a bare `@`: where it stands within the mailbox, and how it is to be written.
/// A parser that is not as patient as ours takes such a name for an address of its own.
pub(crate) fn unquoted_at(mailbox: &[u8]) -> Option<(std::ops::Range<usize>, Vec<u8>)> {
    let (name, range) = name_of(mailbox)?;
    has_bare_at(name).then(|| (range, quoted(name)))
}

/// A name with bytes above 127, as encoded words; only of UTF-8, since nothing says what else it is.
pub(crate) fn encoded_name(mailbox: &[u8]) -> Option<(std::ops::Range<usize>, Vec<u8>)> {
    let (name, range) = name_of(mailbox)?;
    if name.is_ascii() {
        return None;
    }
    let text = std::str::from_utf8(name).ok()?;
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let mut plain = String::with_capacity(text.len());
    let mut escaped = false;
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            plain.push(c);
            escaped = false;
        }
    }
    Some((range, encoded_words(&plain).into_bytes()))
}

/// The display name of `name <address>`, and where it stands.
fn name_of(mailbox: &[u8]) -> Option<(&[u8], std::ops::Range<usize>)> {
    let angle = unquoted(mailbox, b'<')?;
    let name = mailbox[..angle].trim_ascii();
    let start = mailbox.iter().position(|byte| !byte.is_ascii_whitespace())?;
    (!name.is_empty()).then_some((name, start..start + name.len()))
}

/// The first place of a byte outside quotes and comments.
fn unquoted(text: &[u8], wanted: u8) -> Option<usize> {
    let (mut quoted, mut escaped, mut comment) = (false, false, 0u32);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted || comment > 0 => escaped = true,
            b'"' if comment == 0 => quoted = !quoted,
            _ if quoted => {}
            b'(' => comment += 1,
            b')' if comment > 0 => comment -= 1,
            byte if byte == wanted && comment == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

fn has_bare_at(name: &[u8]) -> bool {
    // An encoded word may hold one in its text.
    let encoded = |word: &[u8]| word.starts_with(b"=?") && word.ends_with(b"?=");
    unquoted(name, b'@').is_some()
        && !name.split(u8::is_ascii_whitespace).filter(|word| word.contains(&b'@')).all(encoded)
}

/// As a quoted string. Quotes that are there already are part of the name.
fn quoted(name: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &byte in name {
        match byte {
            b'\r' | b'\n' => continue,
            b'"' | b'\\' => out.push(b'\\'),
            _ => {}
        }
        out.push(byte);
    }
    out.push(b'"');
    out
}

/// Bytes of one encoded word's text: 75 characters hold 45 in base64.
const WORD: usize = 45;

/// UTF-8 text as encoded words, one a line.
pub(crate) fn encoded_words(text: &str) -> String {
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.chars().filter(|c| !matches!(c, '\r' | '\n')) {
        if word.len() + c.len_utf8() > WORD {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    let encoded = words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
    encoded.collect::<Vec<_>>().join("\r\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_bare_at_is_quoted_and_others_are_left_alone() {
        for (mailbox, want) in [
            ("scanner@3rd floor <scan@x.example>", Some("\"scanner@3rd floor\"")),
            ("a@x.example <a@x.example>", Some("\"a@x.example\"")),
            ("say \"hi\" @home <a@x.example>", Some("\"say \\\"hi\\\" @home\"")),
            ("\"a@x.example\" <a@x.example>", None),
            ("Alice <a@x.example>", None),
            ("a@x.example", None),
            ("<a@x.example>", None),
            ("Alice (at @home) <a@x.example>", None),
            ("=?utf-8?q?a@b?= <a@x.example>", None),
        ] {
            let found = unquoted_at(mailbox.as_bytes());
            assert_eq!(found.as_ref().map(|(_, name)| String::from_utf8_lossy(name).into_owned()).as_deref(), want);
            if let Some((range, _)) = found {
                assert!(mailbox[range.end..].trim_start().starts_with('<'), "{mailbox}");
            }
        }
    }

    #[test]
    fn foreign_letters_become_encoded_words() {
        for (mailbox, want) in [
            ("Jörg <j@x.example>", Some("=?utf-8?B?SsO2cmc=?=")),
            ("\"Müller, J\\\"org\" <j@x.example>", Some("=?utf-8?B?TcO8bGxlciwgSiJvcmc=?=")),
            ("Jorg <j@x.example>", None),
        ] {
            let found = encoded_name(mailbox.as_bytes());
            assert_eq!(found.map(|(_, name)| String::from_utf8(name).unwrap()).as_deref(), want, "{mailbox}");
        }
        let long = "ä".repeat(100);
        let words = encoded_words(&long);
        assert!(words.lines().count() > 4 && words.lines().all(|line| line.trim().len() <= 75), "{words}");
        let header = format!("Subject: {words}\r\n\r\n");
        let parsed = mail_parser::MessageParser::new().parse(header.as_bytes()).unwrap();
        assert_eq!(parsed.subject(), Some(long.as_str()));
    }
}
