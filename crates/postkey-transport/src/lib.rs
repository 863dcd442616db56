//! How a message leaves: what it is, what must be repaired, which route carries it, and what became of it.
//!
//! `message`, `repair`, `compose` and `route` are pure; `graph_route` and `smtp_route` act; `sending` ties them together.

pub mod addresses;
pub mod compose;
pub mod draft;
pub mod envelope;
pub mod fall_back;
pub mod graph_route;
pub mod message;
pub mod outcome;
mod phrases;
mod reencode;
pub mod repair;
pub mod route;
pub mod sending;
pub mod sending_as;
mod shape;
mod smtp_connection;
mod smtp_pool;
pub mod smtp_refusal;
pub mod smtp_route;
mod transfer_encoding;

pub use compose::{AttachedFile, ComposeError, Composition, EmbeddedFile, compose};
pub use envelope::{Envelope, EnvelopeError};
pub use fall_back::{FallBackReason, Lesson, fall_back, lesson_of};
pub use message::{Field, Message, MessageError};
pub use outcome::{
    Accepted, FellBack, Outcome, OutcomeClass, Proof, RecipientResult, Report, SessionError, TransportError, Unknown,
};
pub use repair::{Carrier, Prepared, Repair, RepairError, RepairKind, Stamp, prepare};
pub use route::{
    Abilities, Choice, Preference, Remedy, Route, RouteError, RouteReason, SendWish, Traits, choose, choose_wished,
};
pub use sending::{SentCopy, Transport, seen_in_sent};
pub use sending_as::{Represents, Right, SendAsDenied, SendingAs, sending_as};
pub use shape::{AttachmentSummary, LineEnds, Shape};
pub use smtp_pool::Keeping;
pub use smtp_refusal::{SmtpMeaning, SmtpRefusal};
pub use smtp_route::{Deadlines, SignedIn, SmtpRoute};
