//! What one session offers and how much it puts up with.

/// Limits and offers of one session. Whoever accepts the connection fills it in from what is known of the listener and
/// the network; [`super::Session::set_size`] changes the size once the submitter is known.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// Our name, as the greeting and the answer to EHLO say it.
    pub host_name: String,
    /// How the connection is protected now.
    pub tls: TlsState,
    /// When AUTH is offered.
    pub auth: AuthOffer,
    /// MAIL is refused with `530` until somebody has signed in. `false` for networks that need no password.
    pub login_required: bool,
    /// Largest message in octets, line ends included, dots not stuffed (RFC 1870). `None`: no limit is announced, and
    /// [`Self::UNLIMITED`] still holds.
    pub size: Option<u64>,
    /// Where the session itself refuses a message as too large; `None`: at [`Self::size`]. A driver that knows why a
    /// message of its size cannot go, and what would help, sets this higher and answers MAIL and the message itself.
    pub refuse_beyond: Option<u64>,
    /// PIPELINING (RFC 2920) is announced. Commands sent ahead are taken either way.
    pub pipelining: bool,
    /// SMTPUTF8 (RFC 6531).
    pub utf8: bool,
    /// CHUNKING (RFC 3030), without BINARYMIME.
    pub chunking: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// Liberties of old devices are taken: a blank after the colon, no angle brackets, no name after EHLO, `AUTH=LOGIN`.
    /// Each is told in [`super::Quirks`].
    pub tolerant: bool,
    /// Recipients of one message; each further RCPT gets `452 4.5.3` (RFC 5321 §4.5.3.1.8 wants room for 100).
    pub max_recipients: usize,
    /// Commands since the last accepted message, accepted recipients not counted; one more ends the session.
    pub max_commands: u32,
    /// Commands answered with a complaint about the client, in the whole session; one more ends it.
    pub max_bad_commands: u32,
    /// Octets of one line of a message, its CRLF not counted. RFC 5321 §4.5.3.1.6 promises 998; what is longer can be
    /// repaired, so the limit only guards against what is no text at all.
    pub max_message_line: usize,
}

impl SessionSettings {
    /// Octets of a message where no limit was set: Exchange Online takes 150 MB at most.
    pub const UNLIMITED: u64 = 150 * 1024 * 1024;

    /// Everything offered, AUTH under TLS only and demanded, for a connection in clear text that may say STARTTLS.
    pub fn new(host_name: impl Into<String>) -> Self {
        Self {
            host_name: host_name.into(),
            tls: TlsState::Plain { starttls: true },
            auth: AuthOffer::WhenSecured,
            login_required: true,
            size: None,
            refuse_beyond: None,
            pipelining: true,
            utf8: true,
            chunking: true,
            dsn: true,
            tolerant: true,
            max_recipients: 500,
            max_commands: 1_000,
            max_bad_commands: 20,
            max_message_line: 1024 * 1024,
        }
    }

    /// The limit that holds.
    pub(crate) fn largest_message(&self) -> u64 {
        self.refuse_beyond.or(self.size).unwrap_or(Self::UNLIMITED)
    }
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsState {
    /// Clear text.
    Plain {
        /// Whether STARTTLS is offered.
        starttls: bool,
    },
    /// TLS, from the first byte or since STARTTLS.
    Secured,
}

/// When AUTH is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthOffer {
    /// Not at all: a listener for networks without passwords.
    Never,
    /// Only under TLS; before, AUTH is refused with `538 5.7.11`.
    WhenSecured,
    /// Also in clear text: for loopback.
    Always,
}
