//! A message on its way in: after DATA with its dots unstuffed and its end found, or from chunks.
//!
//! Only CRLF ends a line and only CRLF `.` CRLF ends the message (RFC 5321 §2.3.8, §4.1.1.4). A lone CR or LF means a line
//! end to some servers and none to others; a message with one is read to its true end and refused, so nothing that stands
//! in it is ever taken for a command, here or behind us.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr2};

use super::event::Dropped;

/// Collects one message.
#[derive(Debug)]
pub(super) struct Body {
    dotted: bool,
    state: State,
    kept: BytesMut,
    octets: u64,
    limit: u64,
    line: usize,
    longest: usize,
    longest_allowed: usize,
    bare_line_end: bool,
    nul: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    /// A dot at the start of a line: stuffed, or the end.
    Dot,
    DotCr,
    Inside,
    InsideCr,
    Ended,
}

/// A whole message that may be kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) body: Bytes,
    pub(super) longest_line: usize,
}

/// What is reserved at once: a client may announce 150 MB and send nothing.
const RESERVED_AT_MOST: u64 = 1024 * 1024;
const RESERVED_UNANNOUNCED: u64 = 4096;

impl Body {
    /// After DATA.
    pub(super) fn dotted(limit: u64, longest_allowed: usize, expected: Option<u64>) -> Self {
        Self::new(true, limit, longest_allowed, expected)
    }

    /// In chunks: as it is.
    pub(super) fn chunked(limit: u64, longest_allowed: usize, expected: Option<u64>) -> Self {
        Self::new(false, limit, longest_allowed, expected)
    }

    fn new(dotted: bool, limit: u64, longest_allowed: usize, expected: Option<u64>) -> Self {
        // A little more than announced, for clients that count short.
        let reserved = expected.map_or(RESERVED_UNANNOUNCED, |octets| octets.saturating_add(64));
        Self {
            dotted,
            state: State::LineStart,
            kept: BytesMut::with_capacity(reserved.min(limit).min(RESERVED_AT_MOST) as usize),
            octets: 0,
            limit,
            line: 0,
            longest: 0,
            longest_allowed,
            bare_line_end: false,
            nul: false,
        }
    }

    /// Takes what belongs to the message and says how much that was; less than all only when it has ended.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        // `bytes[copied..at]` belongs to the message and is not kept yet.
        let (mut copied, mut at) = (0, 0);
        while at < bytes.len() {
            match (self.state, bytes[at]) {
                (State::LineStart, b'.') if self.dotted => {
                    self.keep(&bytes[copied..at]);
                    at += 1;
                    copied = at;
                    self.state = State::Dot;
                }
                (State::LineStart | State::Inside, _) => {
                    self.state = State::Inside;
                    let Some(found) = memchr2(b'\r', b'\n', &bytes[at..]) else {
                        self.line += bytes.len() - at;
                        at = bytes.len();
                        break;
                    };
                    self.line += found;
                    at += found + 1;
                    if bytes[at - 1] == b'\r' {
                        self.state = State::InsideCr;
                    } else {
                        // No line ends here: a dot behind it is a dot.
                        self.bare_line_end = true;
                        self.line += 1;
                    }
                }
                (State::InsideCr, b'\n') => {
                    at += 1;
                    self.line_ended();
                }
                (State::InsideCr, _) => {
                    self.bare_line_end = true;
                    self.line += 1;
                    self.state = State::Inside;
                }
                (State::Dot, b'\r') => {
                    // Kept only if it was not the end: `copied` stays behind it.
                    at += 1;
                    copied = at;
                    self.state = State::DotCr;
                }
                (State::Dot, _) => self.state = State::Inside,
                (State::DotCr, b'\n') => {
                    self.state = State::Ended;
                    return at + 1;
                }
                (State::DotCr, _) => {
                    self.bare_line_end = true;
                    self.octets += 1;
                    self.line += 1;
                    self.state = State::Inside;
                }
                (State::Ended, _) => return at,
            }
        }
        self.keep(&bytes[copied..at]);
        at
    }

    /// Whether the final dot came.
    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// What is wrong with it so far. Depends on its bytes only, not on how the network cut them.
    pub(super) fn flaw(&self) -> Option<Dropped> {
        if self.bare_line_end {
            Some(Dropped::BareLineEnd)
        } else if self.nul {
            Some(Dropped::Nul)
        } else if self.octets > self.limit {
            Some(Dropped::TooLarge)
        } else if self.longest.max(self.line) > self.longest_allowed {
            Some(Dropped::LineTooLong)
        } else {
            None
        }
    }

    /// The message, at its end.
    pub(super) fn finish(mut self) -> Result<Whole, Dropped> {
        if self.state == State::InsideCr {
            self.bare_line_end = true;
        }
        match self.flaw() {
            Some(flaw) => Err(flaw),
            None => Ok(Whole { body: self.kept.freeze(), longest_line: self.longest.max(self.line) }),
        }
    }

    fn line_ended(&mut self) {
        self.longest = self.longest.max(self.line);
        self.line = 0;
        self.state = State::LineStart;
    }

    fn keep(&mut self, span: &[u8]) {
        self.octets += span.len() as u64;
        self.nul = self.nul || memchr(0, span).is_some();
        if self.flaw().is_some() {
            // Read on to its end, or the rest of the mail is taken for commands; but keep nothing of it.
            self.kept = BytesMut::new();
        } else {
            self.kept.extend_from_slice(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(wire: &[u8], cuts: &[usize], limit: u64) -> Option<(Result<Vec<u8>, Dropped>, usize)> {
        let mut body = Body::dotted(limit, 20, None);
        let (mut from, mut consumed) = (0, 0);
        for &cut in cuts.iter().chain([&wire.len()]) {
            consumed += body.take(&wire[from..cut]);
            if body.has_ended() {
                return Some((body.finish().map(|whole| whole.body.to_vec()), consumed));
            }
            from = cut;
        }
        None
    }

    #[test]
    fn a_message_ends_where_a_dot_stands_alone_between_two_crlf_and_nowhere_else() {
        for (wire, want) in [
            (".\r\n", Some(Ok(""))),
            ("a\r\n.\r\n", Some(Ok("a\r\n"))),
            ("\r\n\r\n.\r\n", Some(Ok("\r\n\r\n"))),
            ("..\r\n.\r\n", Some(Ok(".\r\n"))),
            (".a\r\n..b\r\n.\r\n", Some(Ok("a\r\n.b\r\n"))),
            ("a.\r\n.\r\n", Some(Ok("a.\r\n"))),
            ("a\n.\n", None),
            ("a\n.\r\n", None),
            ("a\r\n.\n", None),
            ("a\r.\r", None),
            ("a\r.\r\n", None),
            ("a\r\n.\r", None),
            ("a\n.\n\r\n.\r\n", Some(Err(Dropped::BareLineEnd))),
            ("a\n.\r\n.\r\n", Some(Err(Dropped::BareLineEnd))),
            ("a\r\n.\n\r\n.\r\n", Some(Err(Dropped::BareLineEnd))),
            ("a\r.\r\r\n.\r\n", Some(Err(Dropped::BareLineEnd))),
            ("a\r.\r\n.\r\n", Some(Err(Dropped::BareLineEnd))),
            (".\r\r\n.\r\n", Some(Err(Dropped::BareLineEnd))),
            (".\ra\r\n.\r\n", Some(Err(Dropped::BareLineEnd))),
            ("\r\r\n.\r\n", Some(Err(Dropped::BareLineEnd))),
            ("a\0b\r\n.\r\n", Some(Err(Dropped::Nul))),
            ("12345678901234567890\r\n.\r\n", Some(Ok("12345678901234567890\r\n"))),
            ("123456789012345678901\r\n.\r\n", Some(Err(Dropped::LineTooLong))),
            ("12345678901234567890\r\n123456789\r\n.\r\n", Some(Err(Dropped::TooLarge))),
        ] {
            for cut in 0..=wire.len() {
                let found = taken(wire.as_bytes(), &[cut], 30);
                let want = want.map(|want| (want.map(|text: &str| text.as_bytes().to_vec()), wire.len()));
                assert_eq!(found, want, "{wire:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_stands_behind_the_end_is_left_alone() {
        let wire = b"a\r\n.\r\nQUIT\r\n";
        assert_eq!(taken(wire, &[], 30), Some((Ok(b"a\r\n".to_vec()), 6)));
    }

    #[test]
    fn chunks_are_taken_as_they_are() {
        for (chunks, want) in [
            (&["a\r\n", ".\r\n", "..b\r\n"][..], Ok("a\r\n.\r\n..b\r\n")),
            (&["a\r", "\nb"], Ok("a\r\nb")),
            (&["", ""], Ok("")),
            (&["a\r"], Err(Dropped::BareLineEnd)),
            (&["a\r", "b"], Err(Dropped::BareLineEnd)),
            (&["a", "\n"], Err(Dropped::BareLineEnd)),
            (&["\0"], Err(Dropped::Nul)),
        ] {
            let mut body = Body::chunked(100, 100, Some(5));
            for chunk in chunks {
                assert_eq!(body.take(chunk.as_bytes()), chunk.len());
                assert!(!body.has_ended());
            }
            let got = body.finish().map(|whole| String::from_utf8(whole.body.to_vec()).unwrap());
            assert_eq!(got, want.map(str::to_owned), "{chunks:?}");
        }
    }

    #[test]
    fn a_message_over_its_size_is_not_kept() {
        let mut body = Body::dotted(10, 1000, Some(u64::MAX));
        body.take(&[b'a'; 4000]);
        assert_eq!(body.kept.capacity(), 0);
        assert_eq!(body.flaw(), Some(Dropped::TooLarge));
    }

    proptest! {
        #[test]
        fn no_cut_changes_what_is_taken(
            wire in proptest::collection::vec(prop_oneof![
                4 => Just(b'a'), 4 => Just(b'\r'), 4 => Just(b'\n'), 4 => Just(b'.'), 1 => Just(0u8), 1 => any::<u8>(),
            ], 0..60),
            tail in any::<bool>(),
            cuts in proptest::collection::vec(0usize..64, 0..6),
        ) {
            let mut wire = wire;
            if tail {
                wire.extend_from_slice(b"\r\n.\r\nQUIT\r\n");
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(wire.len())).collect();
            cuts.sort_unstable();
            prop_assert_eq!(taken(&wire, &cuts, 40), taken(&wire, &[], 40));
        }

        #[test]
        fn what_the_stuffer_writes_comes_back(lines in proptest::collection::vec("[.a]{0,4}", 0..12)) {
            let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let (mut stuffer, mut wire) = (crate::DotStuffer::new(), Vec::new());
            stuffer.stuff(text.as_bytes(), &mut wire).unwrap();
            stuffer.finish(&mut wire).unwrap();
            wire.extend_from_slice(b".\r\n");
            prop_assert_eq!(taken(&wire, &[], 1000), Some((Ok(text.into_bytes()), wire.len())));
        }
    }
}
