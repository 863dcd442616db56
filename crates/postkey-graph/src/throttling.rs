//! Staying within Graph's limits: what `Retry-After` says, how long to wait without it, and a pacer per mailbox.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest we let a server make us wait in one go; whoever queued the work may come again afterwards.
pub const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// The longest of our own back-off steps.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// How long an answer asks us to wait; from `Retry-After`, delta or date (RFC 9110 §10.2.3). Capped at 15 min.
///
/// A date is measured against the answer's own `Date` where it has one: the two come from one clock, ours may be off.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let now = headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(http_date).unwrap_or(now);
    wait_of(text, now)
}

/// The same for a bare header value, as parts of a batch carry it.
pub fn wait_of(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Too many digits to hold is longer than the cap anyhow.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = http_date(text)?;
        Duration::from_secs(u64::try_from(until.as_second() - now.as_second()).unwrap_or(0))
    };
    Some(wait.min(LONGEST_WAIT))
}

/// IMF-fixdate, the only form that servers may still write (RFC 9110 §5.6.7).
pub(crate) fn http_date(text: &str) -> Option<Timestamp> {
    static PARSER: rfc2822::DateTimeParser = rfc2822::DateTimeParser::new();
    PARSER.parse_timestamp(text.trim()).ok()
}

/// How long to wait before attempt number `attempt + 1` when the server does not say; `random` in 0..1 spreads callers.
pub fn backoff(attempt: u32, random: f64) -> Duration {
    let ceiling = Duration::from_secs(1 << attempt.min(6)).min(LONGEST_BACKOFF);
    // Never less than half: a retry at once is what the server has just refused.
    ceiling.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

/// What Exchange allows one app on one mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxLimits {
    /// Requests at the same time.
    pub concurrent: usize,
    /// Requests within [`MailboxLimits::requests_span`].
    pub requests: u64,
    /// The sliding window of `requests`.
    pub requests_span: Duration,
    /// Bytes uploaded within [`MailboxLimits::upload_span`].
    pub upload_bytes: u64,
    /// The sliding window of `upload_bytes`.
    pub upload_span: Duration,
}

impl MailboxLimits {
    /// What Microsoft documents for the Outlook service.
    pub const DOCUMENTED: Self = Self {
        concurrent: 4,
        requests: 10_000,
        requests_span: Duration::from_secs(10 * 60),
        // The page says MB; the smaller reading is the safe one.
        upload_bytes: 150_000_000,
        upload_span: Duration::from_secs(5 * 60),
    };

    /// No limit at all, as far as numbers go: for a Graph whose limits are lifted, or where somebody else counts.
    pub const LIFTED: Self = Self {
        concurrent: Semaphore::MAX_PERMITS,
        requests: u64::MAX,
        requests_span: Duration::from_secs(1),
        upload_bytes: u64::MAX,
        upload_span: Duration::from_secs(1),
    };

    /// Whether nothing is limited.
    pub fn are_lifted(&self) -> bool {
        self.concurrent >= Semaphore::MAX_PERMITS && self.requests == u64::MAX && self.upload_bytes == u64::MAX
    }
}

/// Keeps this app within the limits of each mailbox. Clones share one set of gauges.
#[derive(Debug, Clone)]
pub struct Pacer {
    limits: MailboxLimits,
    /// Nothing is counted and nobody waits.
    idle: bool,
    mailboxes: Arc<Mutex<HashMap<String, Gauge>>>,
}

/// What one mailbox has used.
#[derive(Debug)]
struct Gauge {
    places: Arc<Semaphore>,
    requests: Window,
    upload: Window,
    /// Until when the server told us to leave it alone.
    rests_until: Option<Instant>,
    last_used: Instant,
}

/// A place among the requests a mailbox takes at once; given back when dropped.
#[derive(Debug)]
pub struct Turn {
    _place: Option<OwnedSemaphorePermit>,
}

/// Gauges kept at most: beyond it the one unused for longest is forgotten, if nothing of it is under way.
const MAILBOXES_KEPT: usize = 10_000;

impl Pacer {
    /// A pacer for one app.
    pub fn new(limits: MailboxLimits) -> Self {
        Self { limits, idle: limits.are_lifted(), mailboxes: Arc::default() }
    }

    /// A pacer that never holds anything back, for whoever paces already and wants to see every answer of the server.
    pub fn idle() -> Self {
        Self::new(MailboxLimits::LIFTED)
    }

    /// The limits it keeps.
    pub fn limits(&self) -> MailboxLimits {
        self.limits
    }

    /// Waits for one of the mailbox's places. Every holder has a deadline, so the wait ends.
    pub(crate) async fn turn(&self, mailbox: &str, now: Instant) -> Turn {
        if self.idle {
            return Turn { _place: None };
        }
        let places = self.with(mailbox, now, |gauge| Arc::clone(&gauge.places));
        Turn { _place: Some(places.acquire_owned().await.expect("no gauge closes its semaphore")) }
    }

    /// Books one request of `bytes`, or says how long to wait before asking again.
    pub fn book(&self, mailbox: &str, bytes: u64, now: Instant) -> Result<(), Duration> {
        if self.idle {
            return Ok(());
        }
        self.with(mailbox, now, |gauge| {
            let rest = gauge.rests_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
            let wait = rest.max(gauge.requests.wait_for(1, now)).max(gauge.upload.wait_for(bytes, now));
            if !wait.is_zero() {
                return Err(wait);
            }
            gauge.requests.spend(1, now);
            gauge.upload.spend(bytes, now);
            Ok(())
        })
    }

    /// The server told us to leave the mailbox alone for `wait`.
    pub fn rest(&self, mailbox: &str, wait: Duration, now: Instant) {
        if self.idle {
            return;
        }
        self.with(mailbox, now, |gauge| {
            let until = now + wait.min(LONGEST_WAIT);
            gauge.rests_until = Some(gauge.rests_until.map_or(until, |already| already.max(until)));
        });
    }

    /// Requests and bytes booked for the mailbox within the present windows.
    pub fn used(&self, mailbox: &str, now: Instant) -> (u64, u64) {
        self.with(mailbox, now, |gauge| (gauge.requests.used(now), gauge.upload.used(now)))
    }

    fn with<T>(&self, mailbox: &str, now: Instant, act: impl FnOnce(&mut Gauge) -> T) -> T {
        let key = mailbox.to_lowercase();
        // A panic while holding the lock leaves at worst a miscounted gauge.
        let mut mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if !mailboxes.contains_key(&key) && mailboxes.len() >= MAILBOXES_KEPT {
            let idle = |gauge: &Gauge| gauge.places.available_permits() == self.limits.concurrent;
            let oldest = mailboxes.iter().filter(|(_, gauge)| idle(gauge)).min_by_key(|(_, gauge)| gauge.last_used);
            if let Some(forgotten) = oldest.map(|(mailbox, _)| mailbox.clone()) {
                mailboxes.remove(&forgotten);
            }
        }
        let gauge = mailboxes.entry(key).or_insert_with(|| Gauge {
            places: Arc::new(Semaphore::new(self.limits.concurrent)),
            requests: Window::new(self.limits.requests, self.limits.requests_span),
            upload: Window::new(self.limits.upload_bytes, self.limits.upload_span),
            rests_until: None,
            last_used: now,
        });
        gauge.last_used = gauge.last_used.max(now);
        act(gauge)
    }
}

/// A sum over a sliding window, kept in slices so that it never grows: at most [`SLICES`] + 1 entries.
#[derive(Debug)]
struct Window {
    limit: u64,
    span: Duration,
    slices: VecDeque<(Instant, u64)>,
}

const SLICES: u32 = 60;

impl Window {
    fn new(limit: u64, span: Duration) -> Self {
        Self { limit, span, slices: VecDeque::new() }
    }

    fn used(&mut self, now: Instant) -> u64 {
        while self.slices.front().is_some_and(|(start, _)| now.saturating_duration_since(*start) >= self.keep()) {
            self.slices.pop_front();
        }
        self.slices.iter().map(|(_, amount)| amount).sum()
    }

    /// A slice counts until the last moment it may hold has left the window.
    fn keep(&self) -> Duration {
        self.span + self.span / SLICES
    }

    fn wait_for(&mut self, amount: u64, now: Instant) -> Duration {
        // More than the whole window at once can only go when nothing else counts, and then it must.
        let mut over = (self.used(now) + amount.min(self.limit)).saturating_sub(self.limit);
        for (start, held) in &self.slices {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(*held);
            if over == 0 {
                return (*start + self.keep()).saturating_duration_since(now);
            }
        }
        Duration::ZERO
    }

    fn spend(&mut self, amount: u64, now: Instant) {
        match self.slices.back_mut() {
            Some((start, held)) if now.saturating_duration_since(*start) < self.span / SLICES => *held += amount,
            _ => self.slices.push_back((now, amount)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms_and_capped() {
        let now: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        for (text, date, wait) in [
            ("10", None, Some(10)),
            ("0", None, Some(0)),
            (" 7 ", None, Some(7)),
            ("3600", None, Some(900)),
            ("99999999999999999999999999", None, Some(900)),
            ("Sun, 01 Mar 2026 10:00:30 GMT", None, Some(30)),
            ("Sun, 01 Mar 2026 11:00:00 GMT", None, Some(900)),
            ("Sun, 01 Mar 2026 09:00:00 GMT", None, Some(0)),
            // The server's clock is ten minutes ahead of ours: its own date counts.
            ("Sun, 01 Mar 2026 10:10:20 GMT", Some("Sun, 01 Mar 2026 10:10:00 GMT"), Some(20)),
            ("soon", None, None),
            ("-5", None, None),
            ("", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            assert_eq!(retry_after(&headers, now), wait.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn back_off_grows_and_stays_within_its_bounds() {
        for attempt in 0..40 {
            let (least, most) = (backoff(attempt, 0.0), backoff(attempt, 1.0));
            assert!(least >= Duration::from_millis(500) && least <= most && most <= LONGEST_BACKOFF, "{attempt}");
        }
        assert!(backoff(3, 0.0) > backoff(0, 1.0));
    }

    fn limits() -> MailboxLimits {
        MailboxLimits { requests: 3, upload_bytes: 100, ..MailboxLimits::DOCUMENTED }
    }

    #[test]
    fn a_full_window_says_when_there_is_room_again() {
        let pacer = Pacer::new(limits());
        let start = Instant::now();
        for _ in 0..3 {
            pacer.book("noreply@contoso.example", 1, start).unwrap();
        }
        let wait = pacer.book("NoReply@contoso.example", 1, start).unwrap_err();
        assert!(wait >= limits().requests_span && wait <= limits().requests_span + Duration::from_secs(10));
        pacer.book("alice@contoso.example", 1, start).expect("another mailbox has its own window");
        pacer.book("noreply@contoso.example", 1, start + wait).expect("it waited as told");
    }

    #[test]
    fn uploads_count_by_their_bytes() {
        let pacer = Pacer::new(limits());
        let start = Instant::now();
        pacer.book("a@contoso.example", 80, start).unwrap();
        assert!(pacer.book("a@contoso.example", 30, start).is_err());
        pacer.book("a@contoso.example", 20, start).unwrap();
        assert_eq!(pacer.used("a@contoso.example", start), (2, 100));
        // Larger than the window itself: refused while anything else counts, then let through.
        let later = start + limits().upload_span * 2;
        pacer.book("a@contoso.example", 1_000, later).unwrap();
    }

    #[test]
    fn a_mailbox_rests_as_long_as_the_server_said() {
        let pacer = Pacer::new(MailboxLimits::DOCUMENTED);
        let start = Instant::now();
        pacer.rest("a@contoso.example", Duration::from_secs(20), start);
        pacer.rest("a@contoso.example", Duration::from_secs(5), start);
        assert_eq!(pacer.book("a@contoso.example", 0, start), Err(Duration::from_secs(20)));
        pacer.book("a@contoso.example", 0, start + Duration::from_secs(20)).unwrap();
    }

    #[tokio::test]
    async fn an_idle_pacer_holds_nobody_back() {
        let pacer = Pacer::idle();
        let now = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..100 {
            turns.push(pacer.turn("a@contoso.example", now).await);
        }
        pacer.rest("a@contoso.example", LONGEST_WAIT, now);
        pacer.book("a@contoso.example", u64::MAX, now).unwrap();
        assert_eq!(pacer.used("a@contoso.example", now), (0, 0));
    }

    #[tokio::test]
    async fn only_four_requests_of_a_mailbox_run_at_once() {
        let pacer = Pacer::new(MailboxLimits::DOCUMENTED);
        let now = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..4 {
            turns.push(pacer.turn("a@contoso.example", now).await);
        }
        let mut fifth = Box::pin(pacer.turn("a@contoso.example", now));
        let waits = std::future::poll_fn(|context| std::task::Poll::Ready(fifth.as_mut().poll(context).is_pending()));
        assert!(waits.await);
        turns.pop();
        fifth.await;
    }
}
