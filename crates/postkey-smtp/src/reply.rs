//! Replies of a server (RFC 5321 §4.2), with enhanced status codes (RFC 2034), from bytes cut at any place.

use std::{collections::VecDeque, fmt};

/// One reply, all its lines together.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    lines: Vec<String>,
}

impl Reply {
    /// A reply as a server would send it; for tests and for replies postkey makes up on its own account.
    pub fn new(code: u16, enhanced: Option<EnhancedCode>, lines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { code, enhanced, lines: lines.into_iter().map(Into::into).collect() }
    }

    /// The three digits, 200 to 599.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code, if the first line carries one of the same class.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The text of each line, without the reply code; the enhanced code is taken off as well.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// All lines in one, for people and for looking up words.
    pub fn text(&self) -> String {
        self.lines.join(" ").trim().to_owned()
    }

    /// The same without a secret that it repeats: what a server says is shown and logged.
    pub(crate) fn without(mut self, secret: &str) -> Self {
        for line in self.lines.iter_mut().filter(|line| line.contains(secret)) {
            *line = line.replace(secret, "[removed]");
        }
        self
    }

    /// 2xx: done.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3xx: go on.
    pub fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 4xx: the same command may work later.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx: the same command will not work.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        let text = self.text();
        if text.is_empty() { Ok(()) } else { write!(f, " {text}") }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({self})")
    }
}

/// `class.subject.detail` of RFC 3463.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedCode {
    /// 2 success, 4 transient, 5 permanent.
    pub class: u8,
    /// What it is about: 1 address, 2 mailbox, 3 system, 4 network, 5 protocol, 6 content, 7 policy.
    pub subject: u16,
    /// Which case of the subject.
    pub detail: u16,
}

impl EnhancedCode {
    /// Reads `5.7.139`; nothing else may stand beside it.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |part: &str| {
            let plain = (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse::<u16>().ok()).flatten()
        };
        let mut parts = text.split('.');
        let (class, subject, detail) = (parts.next()?, number(parts.next()?)?, number(parts.next()?)?);
        let class = match class {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        parts.next().is_none().then_some(Self { class, subject, detail })
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// The server does not speak SMTP as we understand it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line does not begin with a reply code.
    #[error("the server sent a line that is no SMTP reply: {0:?}")]
    NotAReply(String),
    /// Two lines of one reply disagree about its code.
    #[error("the lines of one SMTP reply carry the codes {first} and {then}")]
    CodesDiffer {
        /// Code of the lines before.
        first: u16,
        /// Code of this line.
        then: u16,
    },
    /// One line has no end within the bound.
    #[error("the server sent a reply line longer than {MAX_LINE} bytes")]
    LineTooLong,
    /// Too many lines in one reply.
    #[error("the server sent a reply of more than {MAX_LINES} lines")]
    TooManyLines,
}

/// The store errors of Exchange Online (`554 5.2.252 …`) run to many kilobytes; more than this is not a reply.
pub const MAX_LINE: usize = 16 * 1024;
/// An EHLO reply has some twenty lines.
pub const MAX_LINES: usize = 128;

/// Collects bytes and hands out whole replies. Bytes are looked at only when a reply is taken, so what a server sends too
/// early is judged where it is read, however the network cut it.
#[derive(Debug, Default)]
pub struct ReplyParser {
    buffer: VecDeque<u8>,
    /// So many bytes of the buffer hold no line end.
    searched: usize,
    partial: Option<Reply>,
}

impl ReplyParser {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as the network gave them. The caller reads only when [`Self::take`] had nothing, which bounds the buffer.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
    }

    /// The next whole reply, if it is there. Lines end with LF; a CR before it is taken off.
    pub fn take(&mut self) -> Result<Option<Reply>, ReplyError> {
        loop {
            let end = self.buffer.iter().skip(self.searched).position(|&byte| byte == b'\n');
            let Some(end) = end.map(|end| end + self.searched) else {
                self.searched = self.buffer.len();
                return if self.searched > MAX_LINE { Err(ReplyError::LineTooLong) } else { Ok(None) };
            };
            if end > MAX_LINE {
                return Err(ReplyError::LineTooLong);
            }
            self.searched = 0;
            let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
            while matches!(line.last(), Some(b'\r' | b'\n')) {
                line.pop();
            }
            if let Some(reply) = self.line(&line)? {
                return Ok(Some(reply));
            }
        }
    }

    /// Whether every byte fed has become a reply that was taken.
    pub fn is_drained(&self) -> bool {
        self.buffer.is_empty() && self.partial.is_none()
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let text = String::from_utf8_lossy(line);
        let refused = || ReplyError::NotAReply(text.chars().take(80).collect());
        let code = match line {
            [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return Err(refused()),
        };
        let more = match line.get(3) {
            Some(b'-') => true,
            // Some servers send the bare code, RFC 5321 §4.2 tells clients to accept it.
            Some(b' ') | None => false,
            Some(_) => return Err(refused()),
        };
        let mut words = text.get(4..).unwrap_or("");
        let first = words.split(' ').next().and_then(EnhancedCode::parse);
        let enhanced = first.filter(|found| u16::from(found.class) == code / 100);
        if enhanced.is_some() {
            words = words.split_once(' ').map_or("", |(_, rest)| rest);
        }
        let mut reply = match self.partial.take() {
            Some(reply) if reply.code != code => {
                return Err(ReplyError::CodesDiffer { first: reply.code, then: code });
            }
            Some(reply) => reply,
            None => Reply { code, enhanced, lines: Vec::new() },
        };
        if reply.lines.len() >= MAX_LINES {
            return Err(ReplyError::TooManyLines);
        }
        reply.lines.push(words.to_owned());
        if more {
            self.partial = Some(reply);
            return Ok(None);
        }
        Ok(Some(reply))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Reply>, ReplyError> {
        let mut parser = ReplyParser::new();
        parser.feed(bytes);
        std::iter::from_fn(|| parser.take().transpose()).collect()
    }

    #[test]
    fn replies_keep_code_enhanced_code_and_text() {
        for (wire, code, enhanced, text) in [
            ("250 2.1.0 Sender OK\r\n", 250, Some("2.1.0"), "Sender OK"),
            ("334 \r\n", 334, None, ""),
            ("334\r\n", 334, None, ""),
            ("250\n", 250, None, ""),
            (
                "250-a.example Hello\r\n250-SIZE 157286400\r\n250 SMTPUTF8\r\n",
                250,
                None,
                "a.example Hello SIZE 157286400 SMTPUTF8",
            ),
            ("535 5.7.139 Authentication unsuccessful\r\n", 535, Some("5.7.139"), "Authentication unsuccessful"),
            ("554-5.2.252 SendAsDenied; a\r\n554 5.2.252 b\r\n", 554, Some("5.2.252"), "SendAsDenied; a b"),
            // An enhanced code of another class is text.
            ("450 5.1.1 odd\r\n", 450, None, "5.1.1 odd"),
            ("220 10.0.0.1 ready\r\n", 220, None, "10.0.0.1 ready"),
        ] {
            let replies = read(wire.as_bytes()).unwrap();
            assert_eq!(replies.len(), 1, "{wire:?}");
            assert_eq!(replies[0].code(), code, "{wire:?}");
            assert_eq!(replies[0].enhanced().map(|found| found.to_string()).as_deref(), enhanced, "{wire:?}");
            assert_eq!(replies[0].text(), text, "{wire:?}");
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for (wire, error) in [
            ("HTTP/1.1 400 Bad Request\r\n".to_owned(), ReplyError::NotAReply("HTTP/1.1 400 Bad Request".into())),
            ("2500 no\r\n".to_owned(), ReplyError::NotAReply("2500 no".into())),
            ("\r\n".to_owned(), ReplyError::NotAReply(String::new())),
            ("250-a\r\n251 b\r\n".to_owned(), ReplyError::CodesDiffer { first: 250, then: 251 }),
            (format!("250 {}", "a".repeat(MAX_LINE)), ReplyError::LineTooLong),
            ("250-a\r\n".repeat(MAX_LINES + 1), ReplyError::TooManyLines),
        ] {
            assert_eq!(read(wire.as_bytes()).unwrap_err(), error);
        }
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_replies(cuts in proptest::collection::vec(0usize..200, 0..12)) {
            let wire = b"220 a.example ready\r\n250-a.example\r\n250-SIZE 1000\r\n250 SMTPUTF8\r\n535 5.7.3 no\r\n334 \r\n";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (wire.len() + 1)).chain([0, wire.len()]).collect();
            cuts.sort_unstable();
            let mut parser = ReplyParser::new();
            let mut replies = Vec::new();
            for pair in cuts.windows(2) {
                parser.feed(&wire[pair[0]..pair[1]]);
                replies.extend(std::iter::from_fn(|| parser.take().unwrap()));
            }
            prop_assert!(parser.is_drained());
            prop_assert_eq!(replies, read(wire).unwrap());
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
