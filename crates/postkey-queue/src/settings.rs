//! What an installation may set about its queue. The defaults fit Exchange Online as it is documented.

use std::time::Duration;

use crate::{
    governor::{Limits, Rate},
    schedule,
};

/// Settings of the queue.
#[derive(Debug, Clone)]
pub struct QueueSettings {
    /// Bytes of accepted messages that are kept in memory until their lane takes them; the others are read again.
    pub hot_bytes: u64,
    /// Messages of one lane in memory.
    pub window: usize,
    /// Messages of all lanes in memory.
    pub windows_together: usize,
    /// Messages that may wait in all; more are refused for now (452). `None`: as many as the disk holds.
    pub most_queued: Option<u64>,
    /// Bytes that may wait in all. `None`: as many as the disk holds.
    pub most_queued_bytes: Option<u64>,
    /// What each mailbox may do.
    pub limits: Limits,
    /// Attempts that may be under way in all lanes together.
    pub most_under_way: usize,
    /// How long a message that may go later is tried.
    pub give_up_after: Duration,
    /// When whoever asked for it hears that a message is late (NOTIFY=DELAY, and the webhook).
    pub late_after: Duration,
    /// How long a message whose outcome is unknown is looked for before it counts as not sent.
    pub settle_window: Duration,
    /// Failures of the network in a row before a lane counts as held.
    pub failures_before_hold: u32,
    /// How often an Inbox is looked through for non-delivery reports while mail was accepted within [`NDR_WINDOW`].
    pub ndr_every: Duration,
    /// Bodies of accepted messages are kept so long.
    pub keep_accepted: Duration,
    /// Bodies of failed, cancelled and unknown messages are kept so long: they can be sent again.
    pub keep_failed: Duration,
    /// How long a lane is owned without a sign of life.
    pub lease: Duration,
    /// Whether webhooks may go to private and loopback addresses. Link-local ones they never may.
    pub webhooks_to_private: bool,
    /// Whether webhooks may go over plain http.
    pub webhooks_by_http: bool,
    /// The host name in delivery reports (`Reporting-MTA`).
    pub host_name: String,
}

/// How long after its acceptance a message's non-delivery report is looked for.
pub const NDR_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            hot_bytes: 64 * 1024 * 1024,
            window: 256,
            windows_together: 16_384,
            most_queued: None,
            most_queued_bytes: None,
            limits: Limits::DOCUMENTED,
            most_under_way: 1_024,
            give_up_after: schedule::GIVE_UP_AFTER,
            late_after: Duration::from_secs(4 * 60 * 60),
            settle_window: Duration::from_secs(15 * 60),
            failures_before_hold: 3,
            ndr_every: Duration::from_secs(5 * 60),
            keep_accepted: Duration::from_secs(7 * 24 * 60 * 60),
            keep_failed: Duration::from_secs(30 * 24 * 60 * 60),
            lease: Duration::from_secs(30),
            webhooks_to_private: false,
            webhooks_by_http: false,
            host_name: "postkey.localhost".into(),
        }
    }
}

impl QueueSettings {
    /// Another rate of messages by Graph; `None` lifts it.
    #[must_use]
    pub fn graph_messages_per_minute(mut self, messages: Option<u32>) -> Self {
        self.limits.graph_messages = messages.map(|amount| Rate::within(amount.into(), 60));
        self
    }

    /// No rates at all, only so many at once: for a far side whose limits are lifted.
    #[must_use]
    pub fn without_rates(mut self) -> Self {
        self.limits = Limits {
            requests: None,
            upload: None,
            graph_messages: None,
            smtp_messages: None,
            recipients: None,
            ..self.limits
        };
        self
    }
}
