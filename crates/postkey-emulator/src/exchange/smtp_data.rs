//! The bytes after DATA: where they end, and which dots are not part of them (RFC 5321 §4.5.2). Only CRLF ends a line:
//! a dot between bare line feeds ends nothing.

/// Bytes of a message on their way in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Data {
    message: Vec<u8>,
    place: Place,
    limit: usize,
    oversize: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    LineStart,
    Dot,
    DotReturn,
    Text,
    Return,
}

/// How far the message is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    /// The whole message; None when it was larger than allowed.
    End(Option<Vec<u8>>),
}

impl Data {
    pub(crate) fn new(limit: usize) -> Self {
        Self { message: Vec::new(), place: Place::LineStart, limit, oversize: false }
    }

    /// Takes what it can use of `bytes` and says how much that was.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> (usize, Progress) {
        for (index, &byte) in bytes.iter().enumerate() {
            self.place = match (self.place, byte) {
                (Place::LineStart, b'.') => Place::Dot,
                (Place::Dot, b'\r') => Place::DotReturn,
                (Place::DotReturn, b'\n') => {
                    let message = std::mem::take(&mut self.message);
                    return (index + 1, Progress::End((!self.oversize).then_some(message)));
                }
                (Place::DotReturn, _) => {
                    self.push(b'\r');
                    self.push(byte);
                    if byte == b'\r' { Place::Return } else { Place::Text }
                }
                (Place::Return, b'\n') => {
                    self.push(byte);
                    Place::LineStart
                }
                (_, b'\r') => {
                    self.push(byte);
                    Place::Return
                }
                (_, _) => {
                    self.push(byte);
                    Place::Text
                }
            };
        }
        (bytes.len(), Progress::More)
    }

    fn push(&mut self, byte: u8) {
        if self.message.len() < self.limit {
            self.message.push(byte);
        } else {
            self.oversize = true; // keep reading, or the rest of the mail is taken for commands
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_and_the_dots_do_not_depend_on_packet_boundaries() {
        for (wire, want, rest) in [
            ("Hi\r\n.\r\nQUIT", Some("Hi\r\n"), "QUIT"),
            (".\r\n", Some(""), ""),
            ("..\r\n.\r\n", Some(".\r\n"), ""),
            ("..a\r\n.b\r\n.\r\n", Some(".a\r\nb\r\n"), ""),
            ("a\n.\nb\r\n.\r\n", Some("a\n.\nb\r\n"), ""),
            ("a\n.\r\nb\r\n.\r\n", Some("a\n.\r\nb\r\n"), ""),
            ("a\r\n.\nb\r\n.\r\n", Some("a\r\n\nb\r\n"), ""),
            ("a\r.\r\n.\r\n", Some("a\r.\r\n"), ""),
            ("a\r\n.\r\r\n.\r\n", Some("a\r\n\r\r\n"), ""),
            ("0123456789012345678901234567890\r\n.\r\n", None, ""),
        ] {
            for cut in 0..=wire.len() {
                let mut data = Data::new(30);
                let (first, second) = wire.as_bytes().split_at(cut);
                let (used, mut progress) = data.feed(first);
                let mut left = first[used..].to_vec();
                if progress == Progress::More {
                    let (used, later) = data.feed(second);
                    progress = later;
                    left = second[used..].to_vec();
                } else {
                    left.extend_from_slice(second);
                }
                assert_eq!(progress, Progress::End(want.map(|text| text.as_bytes().to_vec())), "{wire:?} cut at {cut}");
                assert_eq!(left, rest.as_bytes(), "{wire:?} cut at {cut}");
            }
        }
    }
}
