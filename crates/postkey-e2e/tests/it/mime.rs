//! Two messages, part by part. Written for these tests alone: a reader shared with the program would agree with it
//! even where both are wrong.

use std::collections::BTreeMap;
use std::fmt::Write;

/// A message or a part of one: its own bytes, cut where MIME cuts them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// Names in lower case, values as they stand, folds included.
    headers: Vec<(String, String)>,
    /// The bytes between the headers and the next boundary.
    body: Vec<u8>,
    parts: Vec<Part>,
}

/// Line ends as they are on the wire: what a program wrote with bare LF leaves with CRLF.
pub(crate) fn with_wire_line_ends(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len());
    for (at, &byte) in message.iter().enumerate() {
        if byte == b'\n' && (at == 0 || message[at - 1] != b'\r') {
            wire.push(b'\r');
        }
        wire.push(byte);
    }
    wire
}

impl Part {
    pub(crate) fn read(bytes: &[u8]) -> Part {
        let (head, body) = match bytes.strip_prefix(b"\r\n") {
            Some(body) => (&[][..], body),
            None => find(bytes, b"\r\n\r\n").map_or((bytes, &[][..]), |at| (&bytes[..at], &bytes[at + 4..])),
        };
        let head = String::from_utf8_lossy(head);
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in head.split("\r\n").filter(|line| !line.is_empty()) {
            match (line.starts_with([' ', '\t']), headers.last_mut(), line.split_once(':')) {
                (true, Some((_, value)), _) => {
                    let _ = write!(value, "\r\n{line}");
                }
                (false, _, Some((name, value))) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
                _ => panic!("{line:?} is no header line"),
            }
        }
        let mut part = Part { headers, body: body.to_vec(), parts: Vec::new() };
        if let Some(boundary) = part.boundary() {
            part.parts = split(body, &boundary).into_iter().map(Part::read).collect();
        } else if part.is("message/rfc822") {
            part.parts = vec![Part::read(body)];
        }
        part
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.trim())
    }

    fn is(&self, kind: &str) -> bool {
        self.header("content-type").unwrap_or("text/plain").to_ascii_lowercase().starts_with(kind)
    }

    fn boundary(&self) -> Option<String> {
        let kind = self.header("content-type").filter(|_| self.is("multipart/"))?;
        let at = kind.to_ascii_lowercase().find("boundary=")? + "boundary=".len();
        let value = &kind[at..];
        let quoted = value.strip_prefix('"').and_then(|value| value.split('"').next());
        Some(quoted.unwrap_or_else(|| value.split([';', ' ', '\r']).next().unwrap_or_default()).to_owned())
    }

    /// The parts that hold content, in order, each with the path to it.
    fn leaves(&self) -> Vec<(String, &Part)> {
        if self.parts.is_empty() {
            return vec![(String::new(), self)];
        }
        let numbered = self.parts.iter().enumerate();
        numbered
            .flat_map(|(number, part)| {
                let deeper = part.leaves().into_iter();
                deeper.map(move |(path, leaf)| (format!(".{}{path}", number + 1), leaf))
            })
            .collect()
    }

    /// The content without its transfer encoding.
    fn decoded(&self) -> Vec<u8> {
        match self.header("content-transfer-encoding").map(str::to_ascii_lowercase).as_deref() {
            Some("base64") => from_base64(&self.body),
            Some("quoted-printable") => from_quoted_printable(&self.body),
            _ => self.body.clone(),
        }
    }
}

/// Everything in which the arrived message differs from the sent one, one sentence each. Equal messages give none.
pub(crate) fn differences(sent: &Part, arrived: &Part) -> Vec<String> {
    let mut found = header_differences("", sent, arrived);
    let (before, after) = (sent.leaves(), arrived.leaves());
    if before.len() != after.len() {
        found.push(format!("{} parts became {}", before.len(), after.len()));
        return found;
    }
    for ((path, sent), (path_after, arrived)) in before.iter().zip(&after) {
        if path != path_after {
            found.push(format!("part {path} moved to {path_after}"));
        }
        if !path.is_empty() {
            found.extend(header_differences(&format!("part {path}: "), sent, arrived));
        }
        if sent.body != arrived.body {
            let same = if sent.decoded() == arrived.decoded() { ", not its content" } else { " AND ITS CONTENT" };
            found.push(format!("part {path}: its bytes changed{same}"));
        }
    }
    found
}

/// Names the headers that came, went or changed. Compared as sets: their order means nothing but for Received.
fn header_differences(part: &str, sent: &Part, arrived: &Part) -> Vec<String> {
    let by_name = |part: &Part| {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &part.headers {
            values.entry(name.clone()).or_default().push(value.trim().to_owned());
        }
        values
    };
    let (before, after) = (by_name(sent), by_name(arrived));
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| format!("{part}lost {name}"));
    let came = after.keys().filter(|name| !before.contains_key(*name)).map(|name| format!("{part}gained {name}"));
    let changed = before
        .iter()
        .filter(|(name, value)| after.get(*name).is_some_and(|after| after != *value))
        .map(|(name, _)| format!("{part}changed {name}"));
    gone.chain(came).chain(changed).collect()
}

/// The decoded contents, sorted: what must arrive even where a server builds the message anew.
pub(crate) fn contents(message: &Part) -> Vec<Vec<u8>> {
    let mut contents: Vec<Vec<u8>> = message.leaves().into_iter().map(|(_, leaf)| leaf.decoded()).collect();
    contents.sort();
    contents
}

fn split<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let mark = format!("--{boundary}");
    let mut parts = Vec::new();
    let (mut at, mut started) = (0, None);
    for line in body.split_inclusive(|&byte| byte == b'\n') {
        let text = line.trim_ascii_end();
        let last = text == format!("{mark}--").as_bytes();
        if last || text == mark.as_bytes() {
            if let Some(start) = started {
                // The line end before a boundary belongs to the boundary.
                let part: &[u8] = &body[start..at];
                parts.push(part.strip_suffix(b"\r\n").unwrap_or(part));
            }
            started = (!last).then_some(at + line.len());
        }
        at += line.len();
    }
    parts
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn from_base64(text: &[u8]) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut content = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for six in text.iter().filter_map(|&byte| value(byte)) {
        (bits, count) = (bits << 6 | u32::from(six), count + 6);
        if count >= 8 {
            count -= 8;
            content.push((bits >> count) as u8);
        }
    }
    content
}

fn from_quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'=', [b'\r', b'\n', after @ ..]) => rest = after,
            (b'=', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                let code = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                content.push(code.expect("a quoted character has two hexadecimal digits"));
                rest = after;
            }
            _ => content.push(byte),
        }
    }
    content
}

#[test]
fn each_kind_of_change_is_named() {
    let message = "Subject: a\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b\r\n\r\none\r\n--b\r\n\
                   Content-Transfer-Encoding: quoted-printable\r\n\r\ntw=6F\r\n--b--\r\n";
    let sent = Part::read(message.as_bytes());
    for (from, to, expected) in [
        ("Subject: a", "Subject: a", vec![]),
        ("Subject: a", "Subject: b", vec!["changed subject"]),
        ("Subject: a", "Received: x\r\nSubject: a", vec!["gained received"]),
        ("Subject: a\r\n", "", vec!["lost subject"]),
        ("one", "One", vec!["part .1: its bytes changed AND ITS CONTENT"]),
        ("tw=6F", "two", vec!["part .2: its bytes changed, not its content"]),
        ("--b\r\n\r\none\r\n", "", vec!["2 parts became 1"]),
    ] {
        assert_eq!(
            differences(&sent, &Part::read(message.replacen(from, to, 1).as_bytes())),
            expected,
            "{from} to {to}"
        );
    }
    assert_eq!(contents(&sent), [b"one".to_vec(), b"two".to_vec()]);
    assert_eq!(from_base64(b"b25l\r\nIQ=="), b"one!");
    assert_eq!(with_wire_line_ends(b"a\nb\r\n\n"), b"a\r\nb\r\n\r\n");
}
