//! How a message leaves: what it is, what must be repaired, which route carries it, and what became of it.
//!
//! `message`, `repair`, `compose` and `route` are pure; `graph_route` and `smtp_route` act; `sending` ties them together.

pub mod addresses;
pub mod compose;
pub mod envelope;
pub mod message;
pub mod repair;
pub mod route;
mod shape;

pub mod outcome;
pub mod smtp_refusal;
pub mod smtp_route;
pub mod sending;

pub use compose::{AttachedFile, Composition, compose};
pub use envelope::{Envelope, EnvelopeError};
pub use message::{Field, Message, MessageError};
pub use repair::{Carrier, Prepared, Repair, RepairKind, Stamp, prepare};
pub use route::{Abilities, Choice, Preference, Remedy, Route, RouteError, RouteReason, Traits, choose};
pub use shape::{AttachmentSummary, LineEnds, Shape};
