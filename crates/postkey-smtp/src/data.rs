//! The message as it travels after `DATA`: dots stuffed, and never a bare CR or LF.
//!
//! RFC 5321 §2.3.8 ends lines by CRLF alone. A lone CR or LF in mail data means different things to different servers,
//! which is how a second message is smuggled inside a first; so the stuffer stops at one rather than choose a meaning.
//! Whoever wants such a message sent repairs it before, knowingly.

/// Stuffs dots in a message that arrives in pieces.
#[derive(Debug)]
pub struct DotStuffer {
    state: State,
    passed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    Inside,
    AfterCr,
}

/// The message cannot travel after `DATA` as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// LF without CR.
    #[error("the message has a line feed without carriage return at byte {at}")]
    BareLf {
        /// Offset in the message.
        at: u64,
    },
    /// CR without LF.
    #[error("the message has a carriage return without line feed at byte {at}")]
    BareCr {
        /// Offset in the message.
        at: u64,
    },
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl DotStuffer {
    /// At the start of a message.
    pub fn new() -> Self {
        Self { state: State::LineStart, passed: 0 }
    }

    /// Appends `piece` to `out`, each dot at the start of a line doubled.
    pub fn stuff(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), DataError> {
        out.reserve(piece.len() + piece.len() / 64);
        let mut copied = 0;
        for (index, &byte) in piece.iter().enumerate() {
            let at = self.passed + index as u64;
            self.state = match (self.state, byte) {
                (State::AfterCr, b'\n') => State::LineStart,
                (State::AfterCr, _) => return Err(DataError::BareCr { at: at - 1 }),
                (_, b'\n') => return Err(DataError::BareLf { at }),
                (_, b'\r') => State::AfterCr,
                (State::LineStart, b'.') => {
                    out.extend_from_slice(&piece[copied..index]);
                    out.push(b'.');
                    copied = index;
                    State::Inside
                }
                _ => State::Inside,
            };
        }
        out.extend_from_slice(&piece[copied..]);
        self.passed += piece.len() as u64;
        Ok(())
    }

    /// Ends the last line if the message did not; says whether it had to. The final `.` line is the session's to send.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<bool, DataError> {
        match self.state {
            State::LineStart => Ok(false),
            State::AfterCr => Err(DataError::BareCr { at: self.passed - 1 }),
            State::Inside => {
                out.extend_from_slice(b"\r\n");
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stuffed(text: &[u8]) -> Result<(Vec<u8>, bool), DataError> {
        let (mut stuffer, mut out) = (DotStuffer::new(), Vec::new());
        stuffer.stuff(text, &mut out)?;
        let added = stuffer.finish(&mut out)?;
        Ok((out, added))
    }

    #[test]
    fn dots_are_doubled_only_where_a_line_begins() {
        for (text, wire, added) in [
            ("", "", false),
            ("a\r\n", "a\r\n", false),
            (".\r\n", "..\r\n", false),
            (".a\r\n.b\r\n..c\r\n", "..a\r\n..b\r\n...c\r\n", false),
            ("a.b\r\n", "a.b\r\n", false),
            ("a", "a\r\n", true),
            ("a\r\n.", "a\r\n..\r\n", true),
            ("\r\n\r\n", "\r\n\r\n", false),
        ] {
            assert_eq!(stuffed(text.as_bytes()), Ok((wire.as_bytes().to_vec(), added)), "{text:?}");
        }
    }

    #[test]
    fn a_bare_line_end_stops_the_message_and_says_where() {
        for (text, error) in [
            ("a\nb\r\n", DataError::BareLf { at: 1 }),
            ("a\r\n.\n", DataError::BareLf { at: 4 }),
            ("a\rb", DataError::BareCr { at: 1 }),
            ("a\r\r\n", DataError::BareCr { at: 1 }),
            ("a\r", DataError::BareCr { at: 1 }),
        ] {
            assert_eq!(stuffed(text.as_bytes()), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn cutting_the_message_changes_nothing_and_unstuffing_gives_it_back(
            lines in proptest::collection::vec("[.a]{0,4}", 0..12),
            cut in 0usize..60,
        ) {
            let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let (whole, added) = stuffed(text.as_bytes()).unwrap();
            prop_assert!(!added);
            let cut = cut.min(text.len());
            let (mut stuffer, mut out) = (DotStuffer::new(), Vec::new());
            stuffer.stuff(&text.as_bytes()[..cut], &mut out).unwrap();
            stuffer.stuff(&text.as_bytes()[cut..], &mut out).unwrap();
            prop_assert_eq!(&out, &whole);
            let back: String = String::from_utf8(out).unwrap().split_inclusive("\r\n")
                .map(|line| line.strip_prefix('.').unwrap_or(line)).collect();
            prop_assert_eq!(back, text);
        }
    }
}
