//! What is handed in, what is given back, and why something is not taken.

use postkey_base::{Diagnose, Who};
use postkey_store::{MessageId, Priority, QueuedEnvelope, SenderId, StoreError, SubmitterId, Via};
use postkey_transport::Message;
use serde_json::Value;

use jiff::Timestamp;

/// A message that somebody may send, checked by whoever took it in.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Who handed it in; `None` for our own.
    pub submitter: Option<SubmitterId>,
    /// As whom it goes out.
    pub sender: SenderId,
    /// From whom to whom.
    pub envelope: QueuedEnvelope,
    /// The message, already parsed.
    pub message: Message,
    /// Which goes first among those of one submitter.
    pub priority: Priority,
    /// Not before; `None`: at once.
    pub not_before: Option<Timestamp>,
    /// How it came.
    pub via: Via,
    /// From where: an address, for the timeline.
    pub remote: Option<String>,
    /// The same key with the same message is the same submission.
    pub idempotency_key: Option<String>,
    /// A digest of what the client sent under that key, where the message is made anew of it each time (JSON over HTTP).
    /// `None`: envelope and message themselves are compared.
    pub fingerprint: Option<[u8; 32]>,
    /// How it came, for the timeline: TLS, HELO, AUTH. Never a secret.
    pub facts: Value,
    /// Whether it was asked for that Graph's JSON form carries it.
    pub graph_json: bool,
}

/// What is durable now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The message.
    pub id: MessageId,
    /// It had been accepted before, under the same idempotency key.
    pub repeated: bool,
}

/// Why a message was not taken. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The store did not take it.
    #[error("the message could not be stored")]
    Store(#[source] StoreError),
    /// The idempotency key belongs to another message.
    #[error("the idempotency key was used for another message")]
    KeyReused,
    /// The server is about to end.
    #[error("postkey is shutting down")]
    Stopping,
    /// As much waits as is allowed to wait.
    #[error("{waiting} messages are waiting, and no more than {most} may")]
    Backlog {
        /// What waits; messages or bytes.
        waiting: u64,
        /// What may.
        most: u64,
    },
}

/// How an SMTP session says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpReply {
    /// The reply code.
    pub code: u16,
    /// The enhanced status code.
    pub enhanced: &'static str,
    /// The words.
    pub text: String,
}

impl AcceptError {
    /// How an SMTP session says it. Always something that the client tries again later, but for a key that was reused.
    pub fn smtp_reply(&self) -> SmtpReply {
        let (code, enhanced, text) = match self {
            Self::Store(StoreError::DiskFull { .. } | StoreError::DiskFailed { .. }) => {
                (452, "4.3.1", "Insufficient system storage")
            }
            Self::Store(_) => (451, "4.3.0", "The message could not be stored, try again later"),
            Self::KeyReused => (550, "5.5.4", "The idempotency key was used for another message"),
            Self::Stopping => (421, "4.3.2", "Shutting down, try again later"),
            Self::Backlog { .. } => (452, "4.3.1", "Too many messages are waiting, try again later"),
        };
        SmtpReply { code, enhanced, text: text.to_owned() }
    }

    /// The status of an HTTP answer.
    pub fn http_status(&self) -> u16 {
        match self {
            Self::Store(StoreError::DiskFull { .. } | StoreError::DiskFailed { .. }) => 507,
            Self::Store(_) | Self::Stopping => 503,
            Self::KeyReused => 422,
            Self::Backlog { .. } => 429,
        }
    }
}

impl Diagnose for AcceptError {
    fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::KeyReused => "queue.key_reused",
            Self::Stopping => "queue.stopping",
            Self::Backlog { .. } => "queue.backlog",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Store(error) => error.remedy(),
            Self::KeyReused => "Give each message a key of its own; the same key only for the same message.".into(),
            Self::Stopping => "Try again in a moment.".into(),
            Self::Backlog { .. } => {
                "See why mail waits (`postkey message list --state queued`), then try again. The bound is in the settings of \
                 the queue."
                    .into()
            }
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::Store(error) => error.who(),
            Self::KeyReused => Who::You,
            Self::Stopping => Who::Wait,
            Self::Backlog { .. } => Who::NetworkAdministrator,
        }
    }
}
