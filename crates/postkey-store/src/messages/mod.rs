//! Accepted messages: what each is, in words of its own; how it is found, changed and kept stands in the files beside this one.

mod bodies;
mod change;
mod counts;
mod due;
mod envelope;
mod id;
mod search;
mod timeline;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use change::{envelope_json, signed};
pub(crate) use counts::{Counting, Ledger, Usage, UsageLedger};
pub use counts::{MessageCount, UsageBucket, Waiting};
pub use envelope::{Notify, QueuedEnvelope, QueuedRecipient, RecipientOutcome, RecipientState, Ret};
pub use id::MessageId;
pub use search::MessageFilter;
pub use timeline::{MessageEvent, NewMessageEvent};

use crate::{
    SenderId, StoreError, SubmitterId,
    row::{Row, words},
};

/// Where a message stands. *Held* is not here: a message is held while a [`Hold`](crate::Hold) matches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// Waits for its first attempt, or was put back by a person.
    Queued,
    /// An attempt is under way.
    Sending,
    /// An attempt failed for now; the next one is due later.
    Deferred,
    /// The request left and no trustworthy answer came.
    Unknown,
    /// The far end took it.
    Accepted,
    /// It will not be tried again by itself.
    Failed,
    /// A person withdrew it.
    Cancelled,
}

words!(MessageState {
    Queued = "queued",
    Sending = "sending",
    Deferred = "deferred",
    Unknown = "unknown",
    Accepted = "accepted",
    Failed = "failed",
    Cancelled = "cancelled",
});

impl MessageState {
    /// All of them, in the order in which a message goes through them.
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Sending, Self::Deferred, Self::Unknown, Self::Accepted, Self::Failed, Self::Cancelled];

    /// Whether nothing more happens to it by itself.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Accepted | Self::Failed | Self::Cancelled)
    }
}

/// Which message goes first among those that are due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// After all others.
    Low,
    /// The usual one.
    #[default]
    Normal,
    /// Before all others.
    High,
}

words!(Priority { Low = "low", Normal = "normal", High = "high" });

impl Priority {
    /// As it is stored: -1, 0, 1.
    pub fn number(self) -> i64 {
        match self {
            Self::Low => -1,
            Self::Normal => 0,
            Self::High => 1,
        }
    }

    fn from_number(number: i64) -> Option<Self> {
        [Self::Low, Self::Normal, Self::High].into_iter().find(|priority| priority.number() == number)
    }
}

/// How a message came to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// By SMTP.
    Smtp,
    /// By HTTP.
    Http,
    /// We wrote it ourselves: a delivery status notification.
    Own,
}

words!(Via { Smtp = "smtp", Http = "http", Own = "own" });

/// What makes a repeated submission recognisable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// As the client gave it; unique per submitter.
    pub key: String,
    /// A digest of what was submitted: the same key with another one is a mistake of the client.
    pub fingerprint: [u8; 32],
}

/// A message about to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Its id, made by [`MessageId::at`].
    pub id: MessageId,
    /// Who handed it in; `None` for our own.
    pub submitter: Option<SubmitterId>,
    /// As whom it goes out.
    pub sender: SenderId,
    /// From whom to whom.
    pub envelope: QueuedEnvelope,
    /// The message as it will be sent.
    pub body: Bytes,
    /// Its subject, decoded, for lists and search.
    pub subject: Option<String>,
    /// Its `Message-ID`, with brackets.
    pub message_id: Option<String>,
    /// Which goes first.
    pub priority: Priority,
    /// Not before; `None`: at once.
    pub due_at: Option<Timestamp>,
    /// How it came.
    pub via: Via,
    /// From where: an address, for the timeline.
    pub remote: Option<String>,
    /// What makes a repetition recognisable.
    pub idempotency_key: Option<IdempotencyKey>,
    /// What the timeline begins with.
    pub events: Vec<NewMessageEvent>,
    /// When it was taken.
    pub accepted_at: Timestamp,
    /// Whether it was asked for that Graph's JSON form carries it.
    pub graph_json: bool,
}

/// An accepted message, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedMessage {
    /// Its id.
    pub id: MessageId,
    /// Who handed it in; `None` for our own.
    pub submitter: Option<SubmitterId>,
    /// As whom it goes out.
    pub sender: SenderId,
    /// From whom to whom, with what is known of each recipient.
    pub envelope: QueuedEnvelope,
    /// Bytes of its body.
    pub size: u64,
    /// Its subject.
    pub subject: Option<String>,
    /// Its `Message-ID`, with brackets.
    pub message_id: Option<String>,
    /// Which goes first.
    pub priority: Priority,
    /// Where it stands.
    pub state: MessageState,
    /// When the next thing is to happen, while it is not settled.
    pub due_at: Timestamp,
    /// Attempts that counted.
    pub attempts: u32,
    /// How it came.
    pub via: Via,
    /// From where.
    pub remote: Option<String>,
    /// When it was taken.
    pub accepted_at: Timestamp,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
    /// The lease's epoch under which the last attempt began; 0 before the first.
    pub epoch: i64,
    /// The last outcome, in the queue's words.
    pub outcome: Option<Value>,
    /// Whether it was asked for that Graph's JSON form carries it.
    pub graph_json: bool,
}

impl TryFrom<Row> for QueuedMessage {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let number = |column: &'static str| row.number(column);
        let priority = Priority::from_number(number("priority")?);
        let size = u64::try_from(number("size")?).map_err(|error| row.nonsense("size", error))?;
        let attempts = u32::try_from(number("attempts")?).map_err(|error| row.nonsense("attempts", error))?;
        Ok(Self {
            id: row.parse("id")?,
            submitter: submitter_of(&row)?,
            sender: row.parse("sender_id")?,
            envelope: row.json("envelope")?,
            size,
            subject: row.optional_text("subject")?,
            message_id: row.optional_text("message_id")?,
            priority: priority.ok_or_else(|| row.nonsense("priority", "it is none of -1, 0 and 1"))?,
            state: row.parse("state")?,
            due_at: row.time("due_at")?,
            attempts,
            via: row.parse("via")?,
            remote: row.optional_text("remote")?,
            accepted_at: row.time("accepted_at")?,
            settled_at: row.optional_time("settled_at")?,
            epoch: row.number("epoch")?,
            outcome: row.optional_json("outcome")?,
            graph_json: row.number("graph_json")? != 0,
        })
    }
}

/// The submitter of a row in which '' stands for none.
pub(crate) fn submitter_of(row: &Row) -> Result<Option<SubmitterId>, StoreError> {
    let text = row.text("submitter_id")?;
    if text.is_empty() { Ok(None) } else { row.parse("submitter_id").map(Some) }
}

/// How a submitter stands in a key.
pub(crate) fn submitter_key(submitter: Option<SubmitterId>) -> String {
    submitter.map_or_else(String::new, |id| id.to_string())
}
