//! One file per resource: its operations, each described for the OpenAPI document beside its code.

pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod outbox;
pub(crate) mod outbox_steps;
pub(crate) mod pauses;
pub(crate) mod send;
pub(crate) mod senders;
pub(crate) mod submitters;
