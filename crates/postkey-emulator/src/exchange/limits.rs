//! Throttling: how much one app may ask of one mailbox, and how much one mailbox may send.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::refusal::Refusal;
use crate::world::World;

/// The documented numbers; a test may lower them.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Parallel requests per app and mailbox.
    pub concurrent_requests: usize,
    /// Requests in ten minutes per app and mailbox.
    pub requests_per_ten_minutes: usize,
    /// Bytes of PATCH, POST and PUT in five minutes per app and mailbox.
    pub upload_bytes_per_five_minutes: usize,
    /// Bytes of one request to Graph.
    pub request_bytes: usize,
    /// Bytes of a file attached in one request.
    pub single_attachment_bytes: usize,
    /// Bytes of a file attached by an upload session.
    pub session_attachment_bytes: usize,
    /// SMTP submissions per minute and mailbox; more are delivered in the following minutes.
    pub smtp_messages_per_minute: usize,
    /// The same for Graph: more answer 429. Not documented for Graph, so off (None) unless a test sets it.
    pub graph_messages_per_minute: Option<usize>,
    /// Recipients in a sliding day per mailbox; more come back as non-delivery reports.
    pub recipients_per_day: usize,
    /// Recipients outside the organization in a sliding day, over all its mailboxes; more come back as reports.
    pub external_recipients_per_day: usize,
    /// Whether SMTP refuses what is over it at once, instead of reporting it later. unverified: where it does
    pub external_limit_refuses: bool,
    /// Parallel SMTP connections per mailbox.
    pub smtp_connections: usize,
    /// What SMTP advertises as SIZE.
    pub smtp_size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_requests: 4,
            requests_per_ten_minutes: 10_000,
            upload_bytes_per_five_minutes: 150 * 1024 * 1024,
            request_bytes: 4 * 1024 * 1024,
            single_attachment_bytes: 3 * 1024 * 1024,
            session_attachment_bytes: 150 * 1024 * 1024,
            smtp_messages_per_minute: 30,
            graph_messages_per_minute: None,
            recipients_per_day: 10_000,
            // 500 × licences^0.7 + 9,500: of one licence, which every organization in the box has more than.
            external_recipients_per_day: 10_000,
            external_limit_refuses: false,
            smtp_connections: 3,
            smtp_size: 157_286_400,
        }
    }
}

impl Limits {
    /// No throttling and no quotas; what a single request or message may weigh stays as documented.
    pub fn lifted() -> Self {
        Self {
            concurrent_requests: usize::MAX,
            requests_per_ten_minutes: usize::MAX,
            upload_bytes_per_five_minutes: usize::MAX,
            smtp_messages_per_minute: usize::MAX,
            graph_messages_per_minute: None,
            recipients_per_day: usize::MAX,
            external_recipients_per_day: usize::MAX,
            smtp_connections: usize::MAX,
            ..Self::default()
        }
    }
}

/// What happened within the last span, as (when, how much). Bounded by [`WINDOW_ENTRIES`]: the newest is enlarged
/// when it is full.
#[derive(Debug, Default, Clone)]
pub(crate) struct Window {
    entries: VecDeque<(Timestamp, usize)>,
    total: usize,
}

const WINDOW_ENTRIES: usize = 2_000;

impl Window {
    /// Forgets what is older than `span` and tells how much is left.
    pub(crate) fn sum(&mut self, now: Timestamp, span: SignedDuration) -> usize {
        let start = now - span;
        while let Some((_, amount)) = self.entries.front().filter(|(at, _)| *at <= start) {
            self.total -= amount;
            self.entries.pop_front();
        }
        self.total
    }

    pub(crate) fn add(&mut self, now: Timestamp, amount: usize) {
        self.total += amount;
        let full = self.entries.len() >= WINDOW_ENTRIES;
        match self.entries.back_mut() {
            Some((at, last)) if *at == now || full => *last += amount,
            _ => self.entries.push_back((now, amount)),
        }
    }

    /// When enough of it will have been forgotten to make room.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.entries.front().map(|(at, _)| *at)
    }
}

/// One app's use of one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    in_flight: usize,
    requests: Window,
    uploaded: Window,
}

const TEN_MINUTES: SignedDuration = SignedDuration::from_mins(10);
const FIVE_MINUTES: SignedDuration = SignedDuration::from_mins(5);
/// The window of the message rate.
pub(crate) const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// The window of the recipient rate.
pub(crate) const DAY: SignedDuration = SignedDuration::from_hours(24);

fn throttled(limit: &str, retry_after: i64) -> Refusal {
    Refusal::new(429, "ApplicationThrottled", format!("Application is over its {limit} limit."))
        .with_header("retry-after", retry_after.max(1).to_string())
}

/// Counts a request before it is served; refused ones count too.
pub(crate) fn count_request(world: &mut World, app: Uuid, mailbox: Uuid, uploaded: usize) -> Result<(), Refusal> {
    let counted = request_fits(world, app, mailbox, uploaded);
    if counted.is_err() {
        world.mail.tallies.of(mailbox).throttled += 1;
    }
    counted
}

fn request_fits(world: &mut World, app: Uuid, mailbox: Uuid, uploaded: usize) -> Result<(), Refusal> {
    let now = world.clock.now();
    let limits = world.mail.limits.clone();
    let usage = world.mail.usage.entry((app, mailbox)).or_default();
    let wait = |window: &Window, span: SignedDuration| {
        window.oldest().map_or(1, |oldest| (oldest + span).duration_since(now).as_secs() + 1)
    };
    let requests = usage.requests.sum(now, TEN_MINUTES);
    usage.requests.add(now, 1);
    if requests >= limits.requests_per_ten_minutes {
        return Err(throttled("MailboxRequests", wait(&usage.requests, TEN_MINUTES))); // unverified: the limit's name
    }
    let bytes = usage.uploaded.sum(now, FIVE_MINUTES);
    usage.uploaded.add(now, uploaded);
    if bytes.saturating_add(uploaded) > limits.upload_bytes_per_five_minutes {
        return Err(throttled("MailboxUpload", wait(&usage.uploaded, FIVE_MINUTES))); // unverified: the limit's name
    }
    if usage.in_flight > limits.concurrent_requests {
        return Err(throttled("MailboxConcurrency", 1));
    }
    Ok(())
}

/// A request of this app to this mailbox has arrived; call [`end`] with the same pair when its answer is written.
pub(crate) fn begin(world: &mut World, app: Uuid, mailbox: Uuid) {
    world.mail.usage.entry((app, mailbox)).or_default().in_flight += 1;
    world.mail.tallies.begin(mailbox);
}

/// The answer is written.
pub(crate) fn end(world: &mut World, app: Uuid, mailbox: Uuid) {
    if let Some(usage) = world.mail.usage.get_mut(&(app, mailbox)) {
        usage.in_flight = usage.in_flight.saturating_sub(1);
    }
    world.mail.tallies.end(mailbox);
}

/// Counts a message sent through Graph.
pub(crate) fn count_graph_message(world: &mut World, mailbox: Uuid) -> Result<(), Refusal> {
    let now = world.clock.now();
    let limit = world.mail.limits.graph_messages_per_minute;
    let window = world.mail.message_rate.entry(mailbox).or_default();
    let sent = window.sum(now, MINUTE);
    if limit.is_some_and(|limit| sent >= limit) {
        let wait = window.oldest().map_or(1, |oldest| (oldest + MINUTE).duration_since(now).as_secs() + 1);
        world.mail.tallies.of(mailbox).throttled += 1;
        return Err(throttled("MailboxMessageRate", wait)); // unverified: the limit's name
    }
    window.add(now, 1);
    Ok(())
}

/// How long a message submitted by SMTP now has to wait for its minute.
pub(crate) fn smtp_message_delay(world: &mut World, mailbox: Uuid) -> SignedDuration {
    let now = world.clock.now();
    let limit = world.mail.limits.smtp_messages_per_minute.max(1);
    let window = world.mail.message_rate.entry(mailbox).or_default();
    let sent = window.sum(now, MINUTE);
    window.add(now, 1);
    if sent >= limit {
        world.mail.tallies.of(mailbox).smtp_delayed += 1;
    }
    MINUTE * i32::try_from(sent / limit).unwrap_or(i32::MAX)
}

/// Counts recipients of a message; false = the day's quota is used up.
pub(crate) fn count_recipients(world: &mut World, mailbox: Uuid, recipients: usize) -> bool {
    let now = world.clock.now();
    let limit = world.mail.limits.recipients_per_day;
    let window = world.mail.recipient_rate.entry(mailbox).or_default();
    if window.sum(now, DAY).saturating_add(recipients) > limit {
        world.mail.tallies.of(mailbox).over_recipient_limit += 1;
        return false;
    }
    window.add(now, recipients);
    true
}

/// Whether the organization has room for so many recipients outside it.
pub(crate) fn external_recipients_fit(world: &mut World, tenant: usize, external: usize) -> bool {
    let now = world.clock.now();
    let limit = world.mail.limits.external_recipients_per_day;
    let Some(id) = world.tenants.get(tenant).map(|tenant| tenant.id) else { return true };
    let used = world.mail.external_rate.entry(id).or_default().sum(now, DAY);
    external == 0 || used.saturating_add(external) <= limit
}

/// Counts recipients outside the organization; false = its quota for the day is used up.
pub(crate) fn count_external_recipients(world: &mut World, tenant: usize, mailbox: Uuid, external: usize) -> bool {
    if !external_recipients_fit(world, tenant, external) {
        world.mail.tallies.of(mailbox).over_external_limit += 1;
        return false;
    }
    let (now, id) = (world.clock.now(), world.tenants[tenant].id);
    world.mail.external_rate.entry(id).or_default().add(now, external);
    true
}
