//! What a session tells whoever drives it, and what it is told back.

use std::fmt;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::{command::Path, reply::Reply};

/// What the driver must do, or may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Read some bytes and feed them; [`super::Session::expects`] says what is awaited, for the deadline.
    NeedsInput,
    /// Write [`super::Session::take_output`]. Comes before [`Self::NeedsInput`], [`Self::StartTls`] and [`Self::Closed`]
    /// where there is something to write; replies to commands sent ahead wait for it together.
    Write,
    /// `220` was written: make the handshake, then call [`super::Session::secured`].
    StartTls {
        /// So many bytes stood behind STARTTLS and were thrown away: somebody tampers with the connection, or talks
        /// ahead (CVE-2011-0411). Whatever the driver itself has read beyond must go the same way.
        discarded: usize,
    },
    /// Somebody signs in. Answer it.
    Authenticate(Credentials),
    /// MAIL. Answer it.
    Mail(Mail),
    /// RCPT. Answer it.
    Rcpt(Recipient),
    /// DATA, or the first BDAT: a message is about to come. Answer it; the place to refuse for lack of room.
    Data {
        /// What MAIL said of its size, or the first chunk's.
        expected: Option<u64>,
    },
    /// A whole message. Answer it, once it is safe.
    Message(Box<Received>),
    /// The transaction that MAIL began ended without a message, and not by an answer of the driver's. Asks for nothing.
    Dropped(Dropped),
    /// All was written: close the connection.
    Closed(End),
}

impl Event {
    /// Whether [`super::Session::answer`] must follow.
    pub fn asks(&self) -> bool {
        matches!(self, Self::Authenticate(_) | Self::Mail(_) | Self::Rcpt(_) | Self::Data { .. } | Self::Message(_))
    }
}

/// What the driver says to an event that [`Event::asks`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes, in the usual words.
    Accept,
    /// Yes or no by the reply's code: 2xx accepts, 4xx and 5xx refuse, 421 also ends the session. For
    /// [`Event::Data`] any 2xx stands for the `354` that is said.
    Say(Reply),
}

/// What is awaited from the client; each has its own deadline (RFC 5321 §4.5.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expects {
    /// A command.
    Command,
    /// A line of an AUTH exchange.
    SaslResponse,
    /// More of a message.
    Message,
    /// Nothing: an answer of ours is due, or the session is over.
    Nothing,
}

/// How the session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// QUIT.
    Quit,
    /// Too many complaints.
    TooManyBadCommands,
    /// Too many commands without a message.
    TooManyCommands,
    /// A line that would not end.
    EndlessLine,
    /// Not SMTP: a browser or worse.
    NotSmtp,
    /// A BDAT whose size could not be read: what follows cannot be told from commands.
    UnreadableChunk,
    /// More was fed than the session asked for.
    Flooded,
    /// The driver's own 421.
    Ours,
}

/// Why a transaction ended without a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// RSET, or another EHLO.
    Reset,
    /// Over the size; read to its end, not kept.
    TooLarge,
    /// CR without LF, or LF without CR.
    BareLineEnd,
    /// A NUL.
    Nul,
    /// A line over the limit.
    LineTooLong,
    /// The session ended.
    Closed,
}

/// What EHLO or HELO said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The client's name for itself: a claim, at most 255 octets, no control characters; may be empty.
    pub name: String,
    /// EHLO rather than HELO.
    pub extended: bool,
}

/// Who says to be who.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// How.
    pub mechanism: Mechanism,
    /// On whose behalf, where PLAIN names somebody other than `name` (RFC 4616).
    pub authorization: Option<String>,
    /// The submitter's name; not empty, no control characters.
    pub name: String,
    /// As sent.
    pub password: Password,
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// Never standardised, and the only one many devices know.
    Login,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        })
    }
}

/// A password as the client sent it. Wiped when dropped; `Debug` shows nothing.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    pub(crate) fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The text, to be compared. Every call of this method is a place to audit.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Events are compared, so this must be; it takes as long whatever the first difference.
impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        ours.len() == theirs.len() && ours.iter().zip(theirs).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Liberties a client took that strict grammar has no room for. Worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quirks {
    /// `MAIL FROM: <a@b.example>`.
    pub blank_after_colon: bool,
    /// `MAIL FROM:a@b.example`.
    pub no_brackets: bool,
    /// `<@relay.example:a@b.example>`, whose route was stripped (RFC 5321 §4.1.1.3).
    pub source_route: bool,
}

impl Quirks {
    /// Whether there was none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Their names, for the log.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (self.blank_after_colon, "blank after colon"),
            (self.no_brackets, "no angle brackets"),
            (self.source_route, "source route"),
        ]
        .into_iter()
        .filter_map(|(is, name)| is.then_some(name))
    }
}

/// MAIL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The reverse-path; `None` is `<>`.
    pub from: Option<Path>,
    /// `SIZE=` (RFC 1870), within the limit.
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152).
    pub body: Option<BodyKind>,
    /// `SMTPUTF8` (RFC 6531).
    pub utf8: bool,
    /// `RET=` (RFC 3461).
    pub ret: Option<Ret>,
    /// `ENVID=` (RFC 3461), decoded: printable ASCII, at most 100 octets.
    pub envid: Option<String>,
    /// `AUTH=` (RFC 4954 §5), decoded; `<>` is an empty text. A claim of the client, to be distrusted.
    pub auth: Option<String>,
    /// What was odd about it.
    pub quirks: Quirks,
}

/// `BODY=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyKind {
    /// `7BIT`.
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
}

/// `RET=`: how much of the message a DSN brings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ret {
    /// `FULL`.
    Full,
    /// `HDRS`.
    Headers,
}

/// RCPT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The forward-path.
    pub to: Path,
    /// `NOTIFY=` (RFC 3461).
    pub notify: Option<Notify>,
    /// `ORCPT=` (RFC 3461), decoded: `type;address`, printable ASCII, at most 500 octets.
    pub orcpt: Option<String>,
    /// What was odd about it.
    pub quirks: Quirks,
}

/// `NOTIFY=`: when a DSN is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notify {
    /// `NEVER`.
    Never,
    /// Any of the others, at least one.
    On {
        /// `SUCCESS`.
        success: bool,
        /// `FAILURE`.
        failure: bool,
        /// `DELAY`.
        delay: bool,
    },
}

/// What MAIL and RCPT said, as far as it was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// MAIL.
    pub mail: Mail,
    /// Each accepted RCPT, in order, at least one, doubles included.
    pub recipients: Vec<Recipient>,
}

/// A message and its envelope.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    /// For whom.
    pub envelope: Envelope,
    /// As sent: dots unstuffed, every line end CRLF, no NUL.
    pub body: Bytes,
    /// The message holds bytes above 127.
    pub eight_bit: bool,
    /// Octets of its longest line, CRLF not counted.
    pub longest_line: usize,
    /// Came in chunks (BDAT).
    pub chunked: bool,
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("envelope", &self.envelope)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("eight_bit", &self.eight_bit)
            .field("longest_line", &self.longest_line)
            .field("chunked", &self.chunked)
            .finish()
    }
}
