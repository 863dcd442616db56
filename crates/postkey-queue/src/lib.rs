//! Accepted messages: lanes, limits, attempts, and what became of each.

mod accept;
mod dsn;
mod engine;
mod gauges;
mod goes_on;
pub mod governor;
mod held;
mod holds;
mod house;
mod lane;
mod ndr;
mod notices;
mod outbound;
mod outbox;
mod ownership;
mod plan;
mod queue;
mod reading;
mod report;
pub mod schedule;
mod settings;
mod settle;
mod unknown;
mod worker;

pub use accept::{AcceptError, Receipt, SmtpReply, Submission};
pub use gauges::{Gauge, GaugeKind};
pub use governor::Limits;
pub use notices::{SIGNATURE_HEADER, sign};
pub use outbound::{BoxFuture, Connected, LaneKey, Outbound, OutboundError};
pub use outbox::{Listed, Outbox, Shown, ShownState};
pub use queue::{Queue, QueueError, QueueParts};
pub use settings::{NDR_WINDOW, QueueSettings};
