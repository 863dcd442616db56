//! The header fields of a message as bytes: found, read and removed without touching anything else.

use std::ops::Range;

/// One header field.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// The whole field with its folded lines and its line end.
    pub(crate) span: Range<usize>,
    value: Range<usize>,
}

impl Field {
    /// Unfolded and trimmed; bytes that are no UTF-8 are replaced.
    pub(crate) fn value(&self, mime: &[u8]) -> String {
        let text = String::from_utf8_lossy(&mime[self.value.clone()]);
        let unfolded: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        unfolded.trim().to_owned()
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The fields at the top of `mime`, up to the empty line or the first line that is no field.
pub(crate) fn fields(mime: &[u8]) -> Vec<Field> {
    let mut found: Vec<Field> = Vec::new();
    let mut at = 0;
    while at < mime.len() {
        let end = mime[at..].iter().position(|byte| *byte == b'\n').map_or(mime.len(), |offset| at + offset + 1);
        let line = &mime[at..end];
        if matches!(line, b"\n" | b"\r\n") {
            break;
        }
        if matches!(line[0], b' ' | b'\t') {
            let Some(last) = found.last_mut() else { break };
            last.span.end = end;
            last.value.end = end;
        } else {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
            let name = line[..colon].trim_ascii_end();
            if name.is_empty() || !name.iter().all(|byte| (33..127).contains(byte)) {
                break;
            }
            found.push(Field {
                name: String::from_utf8_lossy(name).into_owned(),
                span: at..end,
                value: at + colon + 1..end,
            });
        }
        at = end;
    }
    found
}

/// The same bytes without the fields of these names.
pub(crate) fn without(mime: &[u8], names: &[&str]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(mime.len());
    let mut at = 0;
    for field in fields(mime).iter().filter(|field| names.iter().any(|name| field.is(name))) {
        kept.extend_from_slice(&mime[at..field.span.start]);
        at = field.span.end;
    }
    kept.extend_from_slice(&mime[at..]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_goes_with_all_its_folded_lines_and_nothing_else() {
        for (before, after) in [
            ("A: 1\r\nBcc: x@y,\r\n\tz@y\r\nB: 2\r\n\r\nBcc: body\r\n", "A: 1\r\nB: 2\r\n\r\nBcc: body\r\n"),
            ("bcc : x\nA: 1\n\nbody", "A: 1\n\nbody"),
            ("A: 1\r\nBCC: x\r\n", "A: 1\r\n"),
            ("A: 1\r\n\r\nBcc: x", "A: 1\r\n\r\nBcc: x"),
        ] {
            assert_eq!(String::from_utf8(without(before.as_bytes(), &["Bcc"])).unwrap(), after);
        }
    }

    #[test]
    fn a_folded_value_reads_as_one_line() {
        let mime = b"Message-ID:\r\n\t<a@b>\r\n\r\n";
        let found = fields(mime);
        assert!(found[0].is("message-id") && found[0].value(mime) == "<a@b>");
        assert!(fields(b"no header here\r\n\r\n").is_empty());
    }
}
