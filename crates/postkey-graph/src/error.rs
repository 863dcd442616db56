//! Why a call to Graph failed, by situation: what it means for the work at hand and who can mend it.

use std::{fmt, time::Duration};

use postkey_base::CorrelationId;
use postkey_identity::{NetworkError, TokenError};
use serde::{Deserialize, Serialize};

use crate::{answer::Answer, classify, shape::CallShape};

/// Why a call to Graph did not give what it was made for.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// The object does not exist, or not for this caller.
    #[error("{} found nothing", .0.call)]
    NotFound(#[source] Box<Answer>),
    /// No permission covers the call, or one that does is limited to other mailboxes.
    #[error("{}", not_allowed(.0.call))]
    AccessDenied(#[source] Box<Answer>),
    /// The mailbox may send, but not under this sender address.
    #[error("the mailbox may not send as the message's sender")]
    SendAsDenied(#[source] Box<Answer>),
    /// There is no mailbox in Exchange Online behind the address.
    #[error("the address has no mailbox in Exchange Online")]
    MailboxMissing(#[source] Box<Answer>),
    /// The mailbox has no room left.
    #[error("the mailbox is full")]
    MailboxFull(#[source] Box<Answer>),
    /// The mailbox has used up what it may send.
    #[error("the mailbox has reached its sending limit")]
    SendingLimit(#[source] Box<Answer>),
    /// Exchange refuses one of the recipients, or there are none.
    #[error("Exchange Online does not accept the recipients")]
    InvalidRecipients(#[source] Box<Answer>),
    /// The message itself cannot be read or breaks a rule.
    #[error("Exchange Online does not accept the message as it is written")]
    InvalidMessage(#[source] Box<Answer>),
    /// The request or the message is larger than the tenant or Graph takes.
    #[error("the message is too large for {}", .0.call)]
    TooLarge(#[source] Box<Answer>),
    /// Known to be too large before anything was sent.
    #[error("{call} takes at most {limit} bytes, and this would be {size}")]
    OverRequestLimit {
        /// The call that was not made.
        call: CallShape,
        /// Bytes it would have carried.
        size: u64,
        /// Bytes it may carry.
        limit: u64,
    },
    /// Something else has the name, or the object has changed since it was read.
    #[error("{} conflicts with what the tenant holds", .0.call)]
    Conflict(#[source] Box<Answer>),
    /// The directory was busy with another write: nothing was changed, repeat after a while.
    #[error("{} met another change to the tenant", .answer.call)]
    Concurrency {
        /// What Graph said.
        #[source]
        answer: Box<Answer>,
        /// The wait it asks for.
        retry_after: Option<Duration>,
    },
    /// An app management policy of the tenant rules out such a credential or its lifetime.
    #[error("a policy of the tenant forbids this credential")]
    PolicyForbidsCredential(#[source] Box<Answer>),
    /// The directory takes no more objects.
    #[error("the directory is full")]
    DirectoryFull(#[source] Box<Answer>),
    /// The object was written a moment ago and has not reached every replica.
    #[error("{} does not see an object that was only just created", .0.call)]
    NotReplicatedYet(#[source] Box<Answer>),
    /// Too many requests.
    #[error("Graph asks us to slow down")]
    Throttled {
        /// What Graph said.
        #[source]
        answer: Box<Answer>,
        /// The wait it asks for.
        retry_after: Option<Duration>,
    },
    /// Our own pacer keeps the request back so that Graph need not; nothing was sent.
    #[error("the mailbox has used up its share of requests for now")]
    HeldBack {
        /// The call that was not made.
        call: CallShape,
        /// When there is room again.
        retry_after: Duration,
    },
    /// Graph or Exchange cannot answer at present. The request may have taken effect.
    #[error("Graph is not available")]
    Unavailable {
        /// What Graph said.
        #[source]
        answer: Box<Answer>,
        /// The wait it asks for.
        retry_after: Option<Duration>,
    },
    /// A fresh token was refused as well.
    #[error("Graph does not accept our token")]
    Unauthenticated {
        /// What Graph said.
        #[source]
        answer: Box<Answer>,
        /// Claims that a token must carry, as JSON, when Graph asks for some.
        claims: Option<String>,
    },
    /// No token could be had.
    #[error("no token for Microsoft Graph")]
    Token(#[source] TokenError),
    /// No answer came.
    #[error("no answer to {call}")]
    Network {
        /// The call.
        call: CallShape,
        /// Our id of the request.
        client_request_id: CorrelationId,
        /// Whether the request may have reached Graph.
        may_have_arrived: bool,
        /// What broke.
        #[source]
        cause: NetworkError,
    },
    /// A success, but not the one the call is documented to give: 200 for a send is no acceptance.
    #[error("{} was answered in a way that Graph does not document", .0.call)]
    UnexpectedSuccess(#[source] Box<Answer>),
    /// A success whose body is not what the call is documented to give.
    #[error("the answer to {call} cannot be read")]
    Unreadable {
        /// The call.
        call: CallShape,
        /// Our id of the request.
        client_request_id: CorrelationId,
        /// What is wrong with it.
        #[source]
        cause: Unreadable,
    },
    /// A code or a status this version does not know.
    #[error("{} was refused", .0.call)]
    Unknown(#[source] Box<Answer>),
}

/// What is wrong with a body.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not the JSON that is documented.
    #[error("it is not the JSON that Graph documents")]
    Json(#[from] serde_json::Error),
    /// Longer than anything we ask for.
    #[error("it is longer than {limit} bytes")]
    TooLong {
        /// The bound.
        limit: u64,
    },
    /// More pages or more entries than the caller wants to hold.
    #[error("the list has more than {limit} {of}")]
    TooMany {
        /// The bound.
        limit: usize,
        /// What was counted.
        of: &'static str,
    },
    /// A link that would carry our token to another host.
    #[error("its next page lies outside Graph, at {host}: the token stays here")]
    LeavesGraph {
        /// Where it points.
        host: String,
    },
    /// A list that goes on where it has already been.
    #[error("its next page is the page itself")]
    GoesInCircles,
    /// A member that the next step cannot do without.
    #[error("it has no {0}")]
    Lacks(&'static str),
}

/// Why an attempt failed, in the words that messages, holds and retries are decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeClass {
    /// This message will never go as it is.
    Message,
    /// A recipient is refused.
    Recipient,
    /// The mailbox cannot send now.
    Mailbox,
    /// The app's credential or permission does not work.
    Credential,
    /// The tenant stands in the way.
    Tenant,
    /// No trustworthy answer: the way there or Microsoft's side is down.
    Network,
}

impl fmt::Display for OutcomeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Message => "message",
            Self::Recipient => "recipient",
            Self::Mailbox => "mailbox",
            Self::Credential => "credential",
            Self::Tenant => "tenant",
            Self::Network => "network",
        })
    }
}

impl GraphError {
    /// What Graph answered, if it did.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::NotFound(answer)
            | Self::AccessDenied(answer)
            | Self::SendAsDenied(answer)
            | Self::MailboxMissing(answer)
            | Self::MailboxFull(answer)
            | Self::SendingLimit(answer)
            | Self::InvalidRecipients(answer)
            | Self::InvalidMessage(answer)
            | Self::TooLarge(answer)
            | Self::Conflict(answer)
            | Self::PolicyForbidsCredential(answer)
            | Self::DirectoryFull(answer)
            | Self::NotReplicatedYet(answer)
            | Self::UnexpectedSuccess(answer)
            | Self::Unknown(answer)
            | Self::Concurrency { answer, .. }
            | Self::Throttled { answer, .. }
            | Self::Unavailable { answer, .. }
            | Self::Unauthenticated { answer, .. } => Some(answer),
            Self::OverRequestLimit { .. }
            | Self::HeldBack { .. }
            | Self::Token(_)
            | Self::Network { .. }
            | Self::Unreadable { .. } => None,
        }
    }

    /// The call that failed; unknown when no token was to be had.
    pub fn call(&self) -> Option<CallShape> {
        match self {
            Self::OverRequestLimit { call, .. }
            | Self::HeldBack { call, .. }
            | Self::Network { call, .. }
            | Self::Unreadable { call, .. } => Some(*call),
            Self::Token(_) => None,
            _ => self.answer().map(|answer| answer.call),
        }
    }

    /// Microsoft's id of the request, if an answer came.
    pub fn request_id(&self) -> Option<&str> {
        self.answer()?.request_id.as_deref()
    }

    /// Our id of the request, if one was made.
    pub fn client_request_id(&self) -> Option<CorrelationId> {
        match self {
            Self::Network { client_request_id, .. } | Self::Unreadable { client_request_id, .. } => {
                Some(*client_request_id)
            }
            _ => self.answer().map(|answer| answer.client_request_id),
        }
    }

    /// Whether Graph may have done what was asked although we have no word of it. Any refusal (4xx) proves that it did
    /// not; a cut connection, a 5xx or an undocumented answer does not.
    pub fn may_have_taken_effect(&self) -> bool {
        match self {
            Self::Network { may_have_arrived, .. } => *may_have_arrived,
            Self::Unavailable { .. } | Self::UnexpectedSuccess(_) | Self::Unreadable { .. } => true,
            Self::Unknown(answer) => !(400..500).contains(&answer.status),
            _ => false,
        }
    }

    /// Whether the same call may well succeed later without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Throttled { .. }
            | Self::HeldBack { .. }
            | Self::Unavailable { .. }
            | Self::Concurrency { .. }
            | Self::NotReplicatedYet(_)
            | Self::SendingLimit(_) => true,
            Self::Token(cause) => cause.is_transient(),
            Self::Network { cause, .. } => cause.is_transient(),
            _ => false,
        }
    }

    /// Whether a call that needs an object written moments ago may fail so until it has reached every replica. Only the
    /// caller knows that it has just written; then it repeats such failures for a bounded time.
    pub fn may_be_replication_lag(&self) -> bool {
        match self {
            Self::NotReplicatedYet(_) | Self::NotFound(_) | Self::Concurrency { .. } | Self::AccessDenied(_) => true,
            Self::Unknown(answer) => answer.status == 400 && answer.says("Request_BadRequest"),
            _ => false,
        }
    }

    /// The wait the server (or our pacer) asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. }
            | Self::Unavailable { retry_after, .. }
            | Self::Concurrency { retry_after, .. } => *retry_after,
            Self::HeldBack { retry_after, .. } => Some(*retry_after),
            Self::Token(cause) => cause.retry_after(),
            _ => None,
        }
    }

    /// What the failure says about the message, the mailbox, the app, the tenant or the way there.
    pub fn class(&self) -> OutcomeClass {
        match self {
            Self::InvalidMessage(_) | Self::TooLarge(_) | Self::OverRequestLimit { .. } => OutcomeClass::Message,
            Self::InvalidRecipients(_) => OutcomeClass::Recipient,
            Self::MailboxMissing(_)
            | Self::MailboxFull(_)
            | Self::SendingLimit(_)
            | Self::SendAsDenied(_)
            | Self::HeldBack { .. } => OutcomeClass::Mailbox,
            // A denied mailbox is that mailbox's affair: others of the same app may work.
            Self::AccessDenied(answer) | Self::Throttled { answer, .. } if answer.call.is_mail() => {
                OutcomeClass::Mailbox
            }
            Self::AccessDenied(_) | Self::Unauthenticated { .. } | Self::PolicyForbidsCredential(_) => {
                OutcomeClass::Credential
            }
            Self::Token(cause) => classify::of_token(cause),
            Self::Network { .. } | Self::Unavailable { .. } | Self::Unreadable { .. } | Self::UnexpectedSuccess(_) => {
                OutcomeClass::Network
            }
            // sendMail has no item that could be missing: it is the mailbox, a new one for up to a quarter of an hour.
            Self::NotFound(answer) if answer.call.path == crate::send_mail::SEND.path => OutcomeClass::Mailbox,
            Self::NotFound(answer) | Self::Conflict(answer) | Self::Unknown(answer) if answer.call.is_mail() => {
                if answer.status >= 500 {
                    OutcomeClass::Network
                } else {
                    OutcomeClass::Message
                }
            }
            Self::NotFound(_)
            | Self::Conflict(_)
            | Self::Concurrency { .. }
            | Self::DirectoryFull(_)
            | Self::NotReplicatedYet(_)
            | Self::Throttled { .. }
            | Self::Unknown(_) => OutcomeClass::Tenant,
        }
    }
}

/// In the words of whoever wanted to send; other calls by their names.
fn not_allowed(call: CallShape) -> String {
    if call.is_mail() && call.permissions == ["Mail.Send"] {
        "sending from this mailbox is not allowed".to_owned()
    } else {
        format!("{call} is not allowed")
    }
}
