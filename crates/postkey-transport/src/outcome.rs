//! What became of a message. Only 202 from Graph, or 250 after the final dot, is acceptance; a lost answer is unknown.

use std::time::Duration;

use postkey_base::{CorrelationId, Diagnose, EmailAddress, Who};
use postkey_graph::GraphError;
pub use postkey_graph::OutcomeClass;
use postkey_identity::{NetworkError, TokenError};
use postkey_smtp::{Reply, Stage};

use crate::{
    compose::ComposeError,
    envelope::EnvelopeError,
    fall_back::FallBackReason,
    message::MessageError,
    repair::{Repair, RepairError},
    route::{Choice, Route, RouteError, grouped},
    sending_as::SendAsDenied,
    smtp_refusal::SmtpRefusal,
};

/// What was done with a message, from the choice of a route to the answer.
#[derive(Debug)]
pub struct Report {
    /// The Message-ID it went out with, angle brackets included. `None` when it was refused before.
    pub message_id: Option<String>,
    /// The route taken and what it costs. `None` when none could be.
    pub choice: Option<Choice>,
    /// What was changed in the message.
    pub repairs: Vec<Repair>,
    /// What became of it.
    pub outcome: Outcome,
    /// The way that was tried before this one and refused, for a reason this one does not know.
    pub fell_back: Option<FellBack>,
}

/// A way that refused, before another one was tried.
#[derive(Debug)]
pub struct FellBack {
    /// The way that refused.
    pub from: Choice,
    /// Why another one was worth trying.
    pub because: FallBackReason,
    /// Its refusal, for certain: the message had not left.
    pub refusal: TransportError,
}

impl Report {
    /// How long the server wants the mailbox to be left alone: said with a refusal, or along with an acceptance.
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.outcome {
            Outcome::Accepted(accepted) => accepted.retry_after,
            Outcome::Refused(error) => error.retry_after(),
            Outcome::Unknown(Unknown::Graph(error)) => error.retry_after(),
            Outcome::Unknown(Unknown::Smtp { .. }) => None,
        }
    }
}

/// What became of a message.
#[derive(Debug)]
pub enum Outcome {
    /// Exchange Online has it.
    Accepted(Accepted),
    /// Exchange Online has not got it, for certain.
    Refused(TransportError),
    /// It was sent off and no trustworthy answer came: it may or may not go out.
    Unknown(Unknown),
}

impl Outcome {
    /// Why it failed; `None` when it was accepted.
    pub fn class(&self) -> Option<OutcomeClass> {
        match self {
            Self::Accepted(_) => None,
            Self::Refused(error) => Some(error.class()),
            Self::Unknown(_) => Some(OutcomeClass::Network),
        }
    }

    /// Whether it was accepted.
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted(_))
    }
}

/// Exchange Online's receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The route it took.
    pub route: Route,
    /// What proves it.
    pub proof: Proof,
    /// One result per recipient where the route tells (SMTP); empty where one holds for all (Graph).
    pub recipients: Vec<RecipientResult>,
    /// How long the mailbox wants to be left alone from here on. The message itself has been taken.
    pub retry_after: Option<Duration>,
}

impl Accepted {
    /// The recipients that the server refused although it took the message for others.
    pub fn refused_recipients(&self) -> impl Iterator<Item = &RecipientResult> {
        self.recipients.iter().filter(|one| !one.accepted)
    }
}

/// What proves that a message was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Graph's 202.
    Graph {
        /// Microsoft's id of the request, what its support asks for.
        request_id: Option<String>,
        /// Our id of the request, where it was kept.
        client_request_id: Option<CorrelationId>,
    },
    /// The 250 after the final dot.
    Smtp {
        /// The server.
        host: String,
        /// Its words.
        reply: Reply,
    },
}

/// What a server said to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientResult {
    /// The recipient.
    pub address: EmailAddress,
    /// Whether it was accepted.
    pub accepted: bool,
    /// The server's words.
    pub reply: Reply,
}

/// Why nobody knows whether a message goes out.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// Graph's answer did not come, or proves nothing.
    #[error("the message was handed to Graph, but its answer proves nothing")]
    Graph(#[source] Box<GraphError>),
    /// The SMTP server's answer to the final dot did not come.
    #[error("the message was handed to {host}, but its answer did not come")]
    Smtp {
        /// The server.
        host: String,
        /// What broke.
        #[source]
        cause: Lost,
    },
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The bytes are no message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The options make no message.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// The recipients are none.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// No route carries it.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// It cannot be made ready without harm.
    #[error(transparent)]
    Repair(#[from] RepairError),
    /// Graph refused.
    #[error(transparent)]
    Graph(Box<GraphError>),
    /// The mailbox lacks a right on the message's From.
    #[error(transparent)]
    SendAsDenied(Box<SendAsDenied>),
    /// The SMTP server refused.
    #[error(transparent)]
    Smtp(Box<SmtpRefusal>),
    /// The way to the SMTP server is not open.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl From<GraphError> for TransportError {
    fn from(error: GraphError) -> Self {
        Self::Graph(Box::new(error))
    }
}

/// An SMTP session that ended without an answer about the message.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No connection, or no trustworthy TLS.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// No token for Exchange Online.
    #[error("no token for SMTP at Exchange Online")]
    Token(#[source] TokenError),
    /// The connection ended before the message could have been accepted.
    #[error("the connection to {host} ended at {stage}; the message was not accepted")]
    Lost {
        /// The server.
        host: String,
        /// What was awaited.
        stage: Stage,
        /// What broke.
        #[source]
        cause: Lost,
    },
    /// The server lacks an extension that the message needs.
    #[error("{host} does not offer {missing}, without which the message cannot be sent")]
    Missing {
        /// The server.
        host: String,
        /// What it lacks.
        missing: String,
        /// Whether it is for this message's sake rather than for any.
        of_message: bool,
    },
    /// Over the size that the server announced.
    #[error("the message has {} bytes; {host} takes {}", grouped(*.size), grouped(*.limit))]
    TooLarge {
        /// The server.
        host: String,
        /// The message.
        size: u64,
        /// Its limit.
        limit: u64,
    },
    /// What answers is no SMTP server, or somebody tampers with the connection.
    #[error("what answers at {host} does not speak SMTP as it should: {detail}")]
    NotSmtp {
        /// The server.
        host: String,
        /// What it did.
        detail: String,
    },
    /// An address cannot stand in an SMTP command.
    #[error("the message cannot be submitted by SMTP: {0}")]
    Unspeakable(String),
}

/// What ended a connection.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The server closed it.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] std::io::Error),
    /// Nothing came in time.
    #[error("nothing came within {} s", .0.as_secs())]
    Deadline(Duration),
}

impl TransportError {
    /// Why, in the words that holds and retries are decided by.
    pub fn class(&self) -> OutcomeClass {
        match self {
            Self::Message(_) | Self::Compose(_) | Self::Repair(_) => OutcomeClass::Message,
            Self::Envelope(_) => OutcomeClass::Recipient,
            Self::Route(RouteError::NoRoute) => OutcomeClass::Credential,
            Self::Route(_) => OutcomeClass::Message,
            Self::Graph(error) => error.class(),
            Self::SendAsDenied(denied) => denied.refusal.class(),
            Self::Smtp(refusal) => refusal.class(),
            Self::Session(error) => error.class(),
        }
    }

    /// Whether the same message may well go later without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Graph(error) => error.is_transient(),
            Self::Smtp(refusal) => refusal.meaning.is_transient(),
            Self::Session(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Whether nothing more may be sent from the mailbox until somebody has looked: repeating makes it worse.
    pub fn stops_the_mailbox(&self) -> bool {
        matches!(self, Self::Smtp(refusal) if refusal.meaning.stops_the_mailbox())
    }

    /// The wait the server asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Graph(error) => error.retry_after(),
            _ => None,
        }
    }

    fn diagnose(&self) -> &dyn Diagnose {
        match self {
            Self::Message(error) => error,
            Self::Compose(error) => error,
            Self::Envelope(error) => error,
            Self::Route(error) => error,
            Self::Repair(error) => error,
            Self::Graph(error) => error.as_ref(),
            Self::SendAsDenied(denied) => denied.as_ref(),
            Self::Smtp(refusal) => refusal.as_ref(),
            Self::Session(error) => error,
        }
    }
}

impl SessionError {
    fn class(&self) -> OutcomeClass {
        match self {
            Self::Network(_) | Self::Lost { .. } | Self::NotSmtp { .. } => OutcomeClass::Network,
            Self::Token(error) => class_of_token(error),
            Self::Missing { of_message: false, .. } => OutcomeClass::Tenant,
            Self::Missing { .. } | Self::TooLarge { .. } | Self::Unspeakable(_) => OutcomeClass::Message,
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Network(error) => error.is_transient(),
            Self::Token(error) => error.is_transient(),
            Self::Lost { .. } => true,
            _ => false,
        }
    }
}

/// A token that was not to be had, in the words of an outcome.
fn class_of_token(error: &TokenError) -> OutcomeClass {
    use postkey_identity::Class;
    match error.class() {
        Class::App | Class::User => OutcomeClass::Credential,
        Class::Tenant => OutcomeClass::Tenant,
        Class::Network | Class::Wait => OutcomeClass::Network,
    }
}

impl Diagnose for TransportError {
    fn code(&self) -> &'static str {
        self.diagnose().code()
    }

    fn why(&self) -> Option<String> {
        self.diagnose().why()
    }

    fn remedy(&self) -> String {
        self.diagnose().remedy()
    }

    fn who(&self) -> Who {
        self.diagnose().who()
    }

    fn evidence(&self) -> Vec<(&'static str, String)> {
        self.diagnose().evidence()
    }
}

impl Diagnose for SessionError {
    fn code(&self) -> &'static str {
        match self {
            Self::Network(error) => error.code(),
            Self::Token(error) => error.code(),
            Self::Lost { .. } => "smtp.connection_lost",
            Self::Missing { .. } => "smtp.extension_missing",
            Self::TooLarge { .. } => "smtp.too_large",
            Self::NotSmtp { .. } => "smtp.not_smtp",
            Self::Unspeakable(_) => "smtp.unspeakable",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Network(error) => error.remedy(),
            Self::Token(error) => error.remedy(),
            Self::Lost { .. } => "Send it again: the message was not accepted.".into(),
            Self::Missing { of_message: true, .. } => "Send it by Graph, or make the message plain ASCII.".into(),
            Self::Missing { .. } => {
                "Check the SMTP host and port (smtp.office365.com:587), and whether something between strips what it offers."
                    .into()
            }
            Self::TooLarge { .. } => "Make the message smaller, or send a link to the files.".into(),
            Self::NotSmtp { .. } => "Check the SMTP host and port, and whether a firewall or proxy answers in its place.".into(),
            Self::Unspeakable(_) => "Correct the address.".into(),
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::Network(error) => error.who(),
            Self::Token(error) => error.who(),
            Self::Missing { of_message: false, .. } | Self::NotSmtp { .. } => Who::NetworkAdministrator,
            Self::Lost { .. } => Who::Wait,
            _ => Who::You,
        }
    }

    fn evidence(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Network(error) => error.evidence(),
            Self::Token(error) => error.evidence(),
            _ => Vec::new(),
        }
    }
}

impl Diagnose for Unknown {
    fn code(&self) -> &'static str {
        "transport.outcome_unknown"
    }

    fn remedy(&self) -> String {
        let look = "look into Sent Items for its Message-ID before you send it again: sent twice, it arrives twice.";
        match self {
            Self::Graph(error) if matches!(**error, GraphError::Unavailable { .. }) => {
                format!("https://status.cloud.microsoft tells of outages. Once Graph is back, {look}")
            }
            _ => format!("L{}", &look[1..]),
        }
    }

    fn who(&self) -> Who {
        Who::You
    }

    fn evidence(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Graph(error) => error.evidence(),
            Self::Smtp { .. } => Vec::new(),
        }
    }
}
