//! How the queue keeps, paces and tells: the sections `[limits]`, `[queue]` and `[webhooks]`.

use std::time::Duration;

use postkey_queue::{Limits, QueueSettings, governor::Rate};
use serde::Deserialize;

/// What each mailbox may do; 0 lifts a limit. The defaults are what Microsoft documents.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitsSection {
    /// Whether mailboxes keep to the rates below at all; false leaves only how many requests run at once.
    rates: bool,
    /// Requests to Graph at once.
    graph_concurrent: u32,
    /// Requests to Graph in ten minutes.
    requests_per_10_minutes: u64,
    /// Bytes written to Graph in five minutes.
    upload_bytes_per_5_minutes: u64,
    /// Messages by Graph in a minute; documented for SMTP and kept for Graph until switched off.
    messages_per_minute: u64,
    /// SMTP connections at once.
    smtp_concurrent: u32,
    /// Messages by SMTP in a minute.
    smtp_messages_per_minute: u64,
    /// Recipients in 24 hours.
    recipients_per_day: u64,
    /// Attempts under way in all mailboxes together.
    concurrent: usize,
}

impl Default for LimitsSection {
    fn default() -> Self {
        let documented = Limits::DOCUMENTED;
        let amount = |rate: Option<Rate>| rate.map_or(0, |rate| rate.amount);
        Self {
            rates: true,
            graph_concurrent: documented.graph_at_once,
            requests_per_10_minutes: amount(documented.requests),
            upload_bytes_per_5_minutes: amount(documented.upload),
            messages_per_minute: amount(documented.graph_messages),
            smtp_concurrent: documented.smtp_at_once,
            smtp_messages_per_minute: amount(documented.smtp_messages),
            recipients_per_day: amount(documented.recipients),
            concurrent: QueueSettings::default().most_under_way,
        }
    }
}

impl LimitsSection {
    fn limits(&self) -> Limits {
        let rate = |amount: u64, seconds| (self.rates && amount > 0).then(|| Rate::within(amount, seconds));
        let at_once = |amount: u32| if amount == 0 { u32::MAX } else { amount };
        Limits {
            graph_at_once: at_once(self.graph_concurrent),
            smtp_at_once: at_once(self.smtp_concurrent),
            requests: rate(self.requests_per_10_minutes, 600),
            upload: rate(self.upload_bytes_per_5_minutes, 300),
            graph_messages: rate(self.messages_per_minute, 60),
            smtp_messages: rate(self.smtp_messages_per_minute, 60),
            recipients: rate(self.recipients_per_day, 86_400),
        }
    }
}

/// How long things are tried and kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct QueueSection {
    /// Days that a message which may go later is tried.
    retry_days: u64,
    /// Hours after which a message counts as late (NOTIFY=DELAY, and the webhook).
    late_after_hours: u64,
    /// Seconds that a message whose outcome is unknown is looked for before it counts as not sent.
    unknown_settle_s: u64,
    /// Days that the bodies of accepted messages are kept.
    keep_accepted_days: u64,
    /// Days that the bodies of failed, cancelled and unknown messages are kept: they can be sent again.
    keep_failed_days: u64,
    /// Messages that may wait in all; more are refused for now. 0: as many as the disk holds.
    most_messages: u64,
    /// Bytes that may wait in all. 0: as many as the disk holds.
    most_bytes: u64,
    /// Bytes of accepted messages kept in memory until they leave; the others are read again.
    memory_bytes: u64,
    /// Minutes between two looks into an Inbox for non-delivery reports.
    reports_every_minutes: u64,
    /// Seconds that this node owns a mailbox's lane without a sign of life.
    lease_s: u64,
}

impl Default for QueueSection {
    fn default() -> Self {
        let default = QueueSettings::default();
        Self {
            retry_days: default.give_up_after.as_secs() / DAY,
            late_after_hours: default.late_after.as_secs() / 3_600,
            unknown_settle_s: default.settle_window.as_secs(),
            keep_accepted_days: default.keep_accepted.as_secs() / DAY,
            keep_failed_days: default.keep_failed.as_secs() / DAY,
            most_messages: default.most_queued.unwrap_or(0),
            most_bytes: default.most_queued_bytes.unwrap_or(0),
            memory_bytes: default.hot_bytes,
            reports_every_minutes: default.ndr_every.as_secs() / 60,
            lease_s: default.lease.as_secs(),
        }
    }
}

const DAY: u64 = 24 * 60 * 60;

/// Where webhooks may be; the webhooks themselves are kept in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebhooksSection {
    /// Whether they may be at private and loopback addresses. Link-local ones are always refused.
    allow_private: bool,
    /// Whether they may be told over plain http.
    pub(crate) allow_http: bool,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Queueing {
    pub(crate) limits: LimitsSection,
    pub(crate) queue: QueueSection,
    pub(crate) webhooks: WebhooksSection,
}

impl Queueing {
    /// As the queue takes it.
    pub(crate) fn settings(&self, host_name: String) -> QueueSettings {
        let some = |number: u64| (number > 0).then_some(number);
        let queue = &self.queue;
        QueueSettings {
            limits: self.limits.limits(),
            most_under_way: self.limits.concurrent.max(1),
            give_up_after: Duration::from_secs(queue.retry_days * DAY),
            late_after: Duration::from_secs(queue.late_after_hours * 3_600),
            settle_window: Duration::from_secs(queue.unknown_settle_s),
            keep_accepted: Duration::from_secs(queue.keep_accepted_days * DAY),
            keep_failed: Duration::from_secs(queue.keep_failed_days * DAY),
            most_queued: some(queue.most_messages),
            most_queued_bytes: some(queue.most_bytes),
            hot_bytes: queue.memory_bytes,
            ndr_every: Duration::from_secs(queue.reports_every_minutes.max(1) * 60),
            lease: Duration::from_secs(queue.lease_s.max(5)),
            webhooks_to_private: self.webhooks.allow_private,
            webhooks_by_http: self.webhooks.allow_http,
            host_name,
            ..QueueSettings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Limits {
        let limits: LimitsSection = toml::from_str(text).unwrap();
        Queueing { limits, ..Queueing::default() }.settings("host".into()).limits
    }

    #[test]
    fn limits_are_the_documented_ones_until_they_are_lifted() {
        assert_eq!(limits(""), Limits::DOCUMENTED);
        let lifted = limits("messages_per_minute = 0\nrequests_per_10_minutes = 0");
        assert_eq!(lifted, Limits { graph_messages: None, requests: None, ..Limits::DOCUMENTED });
        let unpaced = limits("rates = false");
        assert_eq!((unpaced.graph_at_once, unpaced.recipients, unpaced.upload), (4, None, None));
        assert_eq!(limits("graph_concurrent = 0").graph_at_once, u32::MAX);
    }

    #[test]
    fn the_queue_keeps_its_own_defaults() {
        let (ours, theirs) = (Queueing::default().settings("host".into()), QueueSettings::default());
        assert_eq!(format!("{ours:?}"), format!("{:?}", QueueSettings { host_name: "host".into(), ..theirs }));
    }
}
