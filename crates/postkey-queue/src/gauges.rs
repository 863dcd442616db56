//! Numbers about the queue, for `/metrics` and whoever watches.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use postkey_store::MessageState;

use crate::{engine::Engine, governor::Way};

/// How a number behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GaugeKind {
    /// Goes up and down.
    Gauge,
    /// Only grows, from the start of the process.
    Counter,
}

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// Its name, as Prometheus writes one.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// How it behaves.
    pub kind: GaugeKind,
    /// What it is about.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: f64,
}

impl Gauge {
    /// A number that goes up and down.
    #[expect(clippy::self_named_constructors, reason = "it makes the kind of that name, beside `counter`")]
    pub fn gauge(name: &'static str, help: &'static str, labels: Vec<(&'static str, String)>, value: f64) -> Self {
        Self { name, help, kind: GaugeKind::Gauge, labels, value }
    }

    /// A number that only grows.
    pub fn counter(name: &'static str, help: &'static str, labels: Vec<(&'static str, String)>, value: f64) -> Self {
        Self { name, help, kind: GaugeKind::Counter, labels, value }
    }
}

impl Engine {
    /// Every number, as of now.
    pub(crate) async fn gauges(&self) -> Vec<Gauge> {
        let mut gauges = self.of_queue().await;
        gauges.extend(self.of_lanes());
        gauges
    }

    async fn of_queue(&self) -> Vec<Gauge> {
        let tally = &self.tally;
        let count = |value: &AtomicU64| as_number(value.load(Ordering::Relaxed));
        let mut gauges = vec![
            Gauge::counter("postkey_queue_accepted_total", "Messages taken in.", vec![], count(&tally.taken_in)),
            Gauge::counter("postkey_queue_refused_total", "Messages not taken in.", vec![], count(&tally.refused)),
            Gauge::counter(
                "postkey_notices_told_total",
                "Notices that webhooks took.",
                vec![],
                count(&tally.notices_told),
            ),
            Gauge::counter(
                "postkey_notices_failed_total",
                "Notices that webhooks did not take.",
                vec![],
                count(&tally.notices_failed),
            ),
        ];
        let counts = match self.store.count_messages().await {
            Ok(counts) => counts,
            Err(error) => {
                tracing::warn!(%error, "messages could not be counted");
                return gauges;
            }
        };
        let now = self.clock.now();
        let state = self.lock();
        let mut by_state: HashMap<MessageState, (u64, u64)> = HashMap::new();
        let mut held = 0;
        for one in counts {
            let (messages, bytes) = by_state.entry(one.state).or_default();
            *messages += one.messages;
            *bytes += one.bytes;
            let waits = matches!(one.state, MessageState::Queued | MessageState::Deferred);
            let facts = state.senders.get(&one.sender);
            if waits && facts.is_some_and(|facts| state.holds.over(one.sender, facts, one.submitter, now).is_some()) {
                held += one.messages;
            }
        }
        for of_state in MessageState::ALL {
            let (messages, bytes) = by_state.get(&of_state).copied().unwrap_or_default();
            let label = || vec![("state", format!("{of_state:?}").to_lowercase())];
            gauges.push(Gauge::gauge("postkey_messages", "Messages kept, by state.", label(), as_number(messages)));
            gauges.push(Gauge::gauge("postkey_message_bytes", "Their bytes.", label(), as_number(bytes)));
        }
        gauges.push(Gauge::gauge("postkey_messages_held", "Messages that wait and are held.", vec![], as_number(held)));
        let oldest = state.oldest.map_or(0.0, |at| crate::schedule::until(at, now).as_secs_f64());
        gauges.push(Gauge::gauge(
            "postkey_queue_oldest_seconds",
            "For how long the oldest that waits has been due.",
            vec![],
            oldest,
        ));
        let hot = vec![
            ("postkey_queue_memory_messages", "Messages in memory.", state.in_windows as u64),
            ("postkey_queue_memory_bytes", "Their bytes.", state.hot_bytes),
            ("postkey_queue_under_way", "Attempts under way.", state.in_hand as u64),
            ("postkey_queue_outages", "Outages that hold mail.", state.holds.outages().count() as u64),
        ];
        gauges.extend(hot.into_iter().map(|(name, help, value)| Gauge::gauge(name, help, vec![], as_number(value))));
        gauges
    }

    fn of_lanes(&self) -> Vec<Gauge> {
        let steady = self.steady();
        let mut gauges = Vec::new();
        for lane in &mut self.lock().lanes {
            let labels =
                || vec![("mailbox", lane.key.mailbox.to_string()), ("client_id", lane.key.client_id.to_string())];
            let counters = [
                ("postkey_lane_accepted_total", "Messages that Exchange Online took.", lane.counts.accepted),
                ("postkey_lane_deferred_total", "Attempts that failed for now.", lane.counts.deferred),
                ("postkey_lane_failed_total", "Messages that failed.", lane.counts.failed),
                ("postkey_lane_unknown_total", "Attempts without a trustworthy answer.", lane.counts.unknown),
                ("postkey_lane_throttled_total", "Throttled answers seen.", lane.governor.throttled()),
            ];
            let numbers = [
                ("postkey_lane_under_way", "Attempts under way.", u64::from(lane.governor.under_way())),
                (
                    "postkey_lane_allowed_at_once",
                    "Requests to Graph at once that are allowed now.",
                    u64::from(lane.governor.allowed_at_once(Way::Graph)),
                ),
                ("postkey_lane_recipients_24h", "Recipients within 24 hours.", lane.governor.recipients_used(steady)),
                (
                    "postkey_lane_messages_minute",
                    "Messages by Graph within a minute.",
                    lane.governor.messages_used(Way::Graph, steady),
                ),
                ("postkey_lane_memory_messages", "Messages in memory.", lane.in_window as u64),
            ];
            gauges.extend(counters.map(|(name, help, value)| Gauge::counter(name, help, labels(), as_number(value))));
            gauges.extend(numbers.map(|(name, help, value)| Gauge::gauge(name, help, labels(), as_number(value))));
        }
        // All numbers of one name together, as the text format wants them.
        gauges.sort_by_key(|gauge| gauge.name);
        gauges
    }
}

/// Exact up to 2⁵³.
fn as_number(value: u64) -> f64 {
    value as f64
}
