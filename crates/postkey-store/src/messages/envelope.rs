//! A message's envelope: reverse-path, recipients, and what each asked for (RFC 3461).

use jiff::Timestamp;
use postkey_base::EmailAddress;
use serde::{Deserialize, Serialize};

/// From whom to whom; one JSON column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedEnvelope {
    /// `MAIL FROM`; `None` is `MAIL FROM:<>`.
    pub from: Option<EmailAddress>,
    /// `RCPT TO`, in order.
    pub recipients: Vec<QueuedRecipient>,
    /// `RET` (RFC 3461 §4.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<Ret>,
    /// `ENVID` (RFC 3461 §4.4), decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envid: Option<String>,
}

/// What a delivery status notification shall return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its headers.
    Hdrs,
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedRecipient {
    /// Its address.
    pub address: EmailAddress,
    /// `ORCPT` (RFC 3461 §4.2), as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<String>,
    /// `NOTIFY`; `None` means as usual: on failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// What became of it, where the route tells it apart from the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RecipientOutcome>,
}

impl QueuedRecipient {
    /// A recipient of whom nothing more is known.
    pub fn new(address: EmailAddress) -> Self {
        Self { address, orcpt: None, notify: None, outcome: None }
    }
}

/// `NOTIFY` (RFC 3461 §4.1); all `false` is `NEVER`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// On success.
    pub success: bool,
    /// On failure.
    pub failure: bool,
    /// On delay.
    pub delay: bool,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientOutcome {
    /// Taken, refused or bounced.
    pub state: RecipientState,
    /// The reply code or enhanced status code, as `5.1.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// What the far end said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// When.
    pub at: Timestamp,
}

/// Whether a recipient gets the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecipientState {
    /// The far end took it for this recipient.
    Accepted,
    /// Not now; it will be tried again.
    Deferred,
    /// The far end refused this recipient for good.
    Refused,
    /// It was taken, and came back later.
    Bounced,
}
