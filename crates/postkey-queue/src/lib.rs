//! Accepted messages: lanes, limits, attempts, and what became of each.

pub mod governor;
pub mod schedule;
mod settings;

pub use governor::Limits;
pub use settings::{NDR_WINDOW, QueueSettings, Webhook};
