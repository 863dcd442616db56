//! How fast one mailbox may send: what is documented, what its server has taught, and what is under way. Pure: the time
//! comes in, as a [`Moment`] of a clock that never steps.
//!
//! A request counts from its *end*: when the server saw it lies somewhere between its start and its answer, so a place
//! in a window is free again one span after the answer, and no window of the server ever holds more than the limit.

use std::{collections::VecDeque, time::Duration};

/// A point on a clock that never steps: time since some fixed beginning.
pub type Moment = Duration;

/// So much within a sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How much.
    pub amount: u64,
    /// The window.
    pub span: Duration,
}

impl Rate {
    /// So much within so many seconds.
    pub const fn within(amount: u64, seconds: u64) -> Self {
        Self { amount, span: Duration::from_secs(seconds) }
    }
}

/// What one mailbox may do. `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests to Graph at once.
    pub graph_at_once: u32,
    /// SMTP connections at once.
    pub smtp_at_once: u32,
    /// Requests to Graph.
    pub requests: Option<Rate>,
    /// Bytes written to Graph.
    pub upload: Option<Rate>,
    /// Messages by Graph.
    pub graph_messages: Option<Rate>,
    /// Messages by SMTP.
    pub smtp_messages: Option<Rate>,
    /// Recipients by either.
    pub recipients: Option<Rate>,
}

impl Limits {
    /// What Microsoft documents; the rate of messages is documented for SMTP, and kept for Graph until switched off.
    pub const DOCUMENTED: Self = Self {
        graph_at_once: 4,
        smtp_at_once: 3,
        requests: Some(Rate::within(10_000, 600)),
        upload: Some(Rate::within(150_000_000, 300)),
        graph_messages: Some(Rate::within(30, 60)),
        smtp_messages: Some(Rate::within(30, 60)),
        recipients: Some(Rate::within(10_000, 86_400)),
    };
}

/// Which of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Graph.
    Graph,
    /// SMTP.
    Smtp,
}

/// What an attempt will use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Where to.
    pub way: Way,
    /// Requests it takes, one after the other.
    pub requests: u64,
    /// Bytes it writes.
    pub bytes: u64,
    /// Messages: one, or none for a look into the mailbox.
    pub messages: u64,
    /// Recipients.
    pub recipients: u64,
}

impl Need {
    /// A reading request to Graph.
    pub const LOOK: Self = Self { way: Way::Graph, requests: 1, bytes: 0, messages: 0, recipients: 0 };
}

/// Whether an attempt may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It may, at once.
    Granted,
    /// When one that is under way has ended.
    AfterAnother,
    /// Not before this moment.
    NotBefore(Moment),
}

/// What the server's answer taught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// It took what we gave.
    Fine,
    /// It answered, and not about our speed.
    Neutral,
    /// Too many at once.
    TooManyAtOnce {
        /// The wait it asks for.
        wait: Option<Duration>,
    },
    /// Too much in too short a time.
    TooFast {
        /// The wait it asks for.
        wait: Option<Duration>,
    },
}

/// The limits of one mailbox and what is used of them.
#[derive(Debug)]
pub struct Governor {
    limits: Limits,
    graph: AtOnce,
    smtp: AtOnce,
    requests: Option<Window>,
    upload: Option<Window>,
    graph_messages: Option<Window>,
    smtp_messages: Option<Window>,
    recipients: Option<Window>,
    taught_rate: Option<Taught>,
    rests_until: Moment,
    throttled: u64,
}

/// A lower message rate that the server has taught.
#[derive(Debug)]
struct Taught {
    window: Window,
    grows_at: Moment,
    every: Duration,
}

/// So many attempts are made ready beyond those that may be under way.
const AHEAD: u32 = 2;
/// Without `Retry-After`: a server that says "too much" wants at least this.
const REST: Duration = Duration::from_secs(10);
/// After too many at once, with fewer from then on.
const BREATH: Duration = Duration::from_secs(1);
/// The longest rest that is believed in one go.
const LONGEST_REST: Duration = Duration::from_secs(15 * 60);
/// A taught limit is raised by one step after so long without another lesson; each lesson doubles the time.
const RECOVERY: Duration = Duration::from_secs(10 * 60);
/// But not beyond.
const LONGEST_RECOVERY: Duration = Duration::from_secs(4 * 60 * 60);
/// No lesson makes a mailbox slower than this per minute.
const SLOWEST: u64 = 6;

impl Governor {
    /// A mailbox that has done nothing yet.
    pub fn new(limits: Limits) -> Self {
        let window = |rate: Option<Rate>| rate.map(Window::new);
        Self {
            graph: AtOnce::new(limits.graph_at_once),
            smtp: AtOnce::new(limits.smtp_at_once),
            requests: window(limits.requests),
            upload: window(limits.upload),
            graph_messages: window(limits.graph_messages),
            smtp_messages: window(limits.smtp_messages),
            recipients: window(limits.recipients),
            taught_rate: None,
            rests_until: Moment::ZERO,
            throttled: 0,
            limits,
        }
    }

    /// Recipients that were sent to `ago` ago, before this process began.
    pub fn seed_recipients(&mut self, count: u64, ago: Duration, now: Moment) {
        if let Some(window) = &mut self.recipients {
            window.seed(count, ago, now);
        }
    }

    /// Whether an attempt that needs this may be made ready now. A few more than may be under way are made ready, so that
    /// a place that becomes free is taken at once.
    pub fn leave(&mut self, need: &Need, now: Moment) -> Leave {
        let at_once = self.at_once(need.way);
        at_once.recover(now);
        let full = at_once.under_way.saturating_add(at_once.ready) >= at_once.allowed().saturating_add(AHEAD);
        let mut earliest = self.rests_until;
        for (window, amount) in self.windows(need) {
            match window.room_at(amount, now) {
                Some(at) => earliest = earliest.max(at),
                // Only what is under way is in the way: its end will tell when there is room.
                None => return Leave::AfterAnother,
            }
        }
        if earliest > now {
            Leave::NotBefore(earliest)
        } else if full {
            Leave::AfterAnother
        } else {
            Leave::Granted
        }
    }

    /// An attempt is made ready: what it needs is set aside.
    pub fn reserve(&mut self, need: &Need) {
        self.at_once(need.way).ready += 1;
        for (window, amount) in self.windows(need) {
            window.pending += amount;
        }
    }

    /// An attempt that was made ready is not made after all.
    pub fn give_back(&mut self, need: &Need) {
        let at_once = self.at_once(need.way);
        at_once.ready = at_once.ready.saturating_sub(1);
        for (window, amount) in self.windows(need) {
            window.pending = window.pending.saturating_sub(amount);
        }
    }

    /// An attempt that was made ready takes its place among those under way; `false` while all are taken.
    pub fn enter(&mut self, way: Way) -> bool {
        let at_once = self.at_once(way);
        let free = at_once.under_way < at_once.allowed();
        if free {
            at_once.ready = at_once.ready.saturating_sub(1);
            at_once.under_way += 1;
        }
        free
    }

    /// An attempt has ended, with what it taught.
    pub fn end(&mut self, need: &Need, lesson: Lesson, now: Moment) {
        let at_once = self.at_once(need.way);
        let together = at_once.under_way;
        at_once.under_way = together.saturating_sub(1);
        match lesson {
            Lesson::Fine => at_once.went_well(),
            Lesson::TooManyAtOnce { .. } => at_once.learn(together.saturating_sub(1), now),
            Lesson::Neutral | Lesson::TooFast { .. } => {}
        }
        for (window, amount) in self.windows(need) {
            window.pending = window.pending.saturating_sub(amount);
            // Requests that were refused still count (Graph throttling: rejected requests count as well).
            window.spend(amount, now);
        }
        match lesson {
            Lesson::TooManyAtOnce { wait } => {
                self.throttled += 1;
                // Alone and still too many: somebody else uses the mailbox.
                let own = if together > 1 { BREATH } else { REST };
                self.rest(wait.unwrap_or(own), now);
            }
            Lesson::TooFast { wait } => {
                self.throttled += 1;
                self.rest(wait.unwrap_or(REST), now);
                self.learn_rate(need.way, now);
            }
            Lesson::Fine | Lesson::Neutral => {}
        }
    }

    /// Leaves the mailbox alone for so long.
    pub fn rest(&mut self, wait: Duration, now: Moment) {
        self.rests_until = self.rests_until.max(now + wait.min(LONGEST_REST));
    }

    /// After an outage: one at a time first, one more with each success.
    pub fn start_slowly(&mut self) {
        self.graph.warm = 1;
        self.smtp.warm = 1;
    }

    /// A person has lifted a hold, or new facts make the rest needless.
    pub fn forget_rest(&mut self) {
        self.rests_until = Moment::ZERO;
    }

    /// Attempts under way.
    pub fn under_way(&self) -> u32 {
        self.graph.under_way + self.smtp.under_way
    }

    /// Throttled answers seen.
    pub fn throttled(&self) -> u64 {
        self.throttled
    }

    /// Attempts at once that are allowed now.
    pub fn allowed_at_once(&self, way: Way) -> u32 {
        match way {
            Way::Graph => self.graph.allowed(),
            Way::Smtp => self.smtp.allowed(),
        }
    }

    /// Recipients within their window.
    pub fn recipients_used(&mut self, now: Moment) -> u64 {
        self.recipients.as_mut().map_or(0, |window| window.used(now))
    }

    /// Messages within the last minute or whatever the window of this way is.
    pub fn messages_used(&mut self, way: Way, now: Moment) -> u64 {
        let window = match way {
            Way::Graph => &mut self.graph_messages,
            Way::Smtp => &mut self.smtp_messages,
        };
        window.as_mut().map_or(0, |window| window.used(now))
    }

    /// The limits it began with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    fn at_once(&mut self, way: Way) -> &mut AtOnce {
        match way {
            Way::Graph => &mut self.graph,
            Way::Smtp => &mut self.smtp,
        }
    }

    /// The windows that this need draws on, with how much.
    fn windows(&mut self, need: &Need) -> impl Iterator<Item = (&mut Window, u64)> {
        let graph = need.way == Way::Graph;
        let smtp = !graph;
        let sends = need.messages > 0;
        [
            (self.requests.as_mut().filter(|_| graph), need.requests),
            (self.upload.as_mut().filter(|_| graph && need.bytes > 0), need.bytes),
            (self.graph_messages.as_mut().filter(|_| graph && sends), need.messages),
            (self.smtp_messages.as_mut().filter(|_| smtp && sends), need.messages),
            (self.recipients.as_mut().filter(|_| need.recipients > 0), need.recipients),
            (self.taught_rate.as_mut().map(|taught| &mut taught.window).filter(|_| sends), need.messages),
        ]
        .into_iter()
        .filter_map(|(window, amount)| Some((window?, amount)))
    }

    /// Nine tenths of what went within the last minute; from then on a tenth more after each [`RECOVERY`].
    fn learn_rate(&mut self, way: Way, now: Moment) {
        let minute = Duration::from_secs(60);
        let seen = match way {
            Way::Graph => self.graph_messages.as_mut(),
            Way::Smtp => self.smtp_messages.as_mut(),
        };
        let seen = match (&mut self.taught_rate, seen) {
            (Some(taught), _) => taught.window.limit,
            (None, Some(window)) => window.used(now).min(window.limit),
            // Without a window nothing was counted: begin with what is documented for a minute.
            (None, None) => 30,
        };
        let every = self.taught_rate.as_ref().map_or(RECOVERY, |taught| (taught.every * 2).min(LONGEST_RECOVERY));
        let limit = (seen * 9 / 10).max(SLOWEST);
        match &mut self.taught_rate {
            Some(taught) => {
                taught.window.limit = limit;
                taught.every = every;
                taught.grows_at = now + every;
            }
            None => {
                let window = Window::new(Rate { amount: limit, span: minute });
                self.taught_rate = Some(Taught { window, grows_at: now + every, every });
            }
        }
    }

    /// Lets taught limits grow again; called as time passes.
    pub fn recover(&mut self, now: Moment) {
        self.graph.recover(now);
        self.smtp.recover(now);
        let ceiling = self.limits.graph_messages.map_or(3_000, |rate| rate.amount * 60 / rate.span.as_secs().max(1));
        if let Some(taught) = &mut self.taught_rate
            && now >= taught.grows_at
        {
            taught.window.limit = (taught.window.limit + taught.window.limit.div_ceil(10)).max(SLOWEST);
            taught.grows_at = now + taught.every;
            if taught.window.limit >= ceiling && taught.window.pending == 0 {
                self.taught_rate = None;
            }
        }
    }
}

/// How many at once: documented, taught, and how warm after an outage.
#[derive(Debug)]
struct AtOnce {
    limit: u32,
    taught: Option<u32>,
    grows_at: Moment,
    every: Duration,
    warm: u32,
    /// Set aside, and not yet under way.
    ready: u32,
    under_way: u32,
}

impl AtOnce {
    fn new(limit: u32) -> Self {
        let limit = limit.max(1);
        Self { limit, taught: None, grows_at: Moment::ZERO, every: RECOVERY, warm: limit, ready: 0, under_way: 0 }
    }

    fn allowed(&self) -> u32 {
        self.limit.min(self.taught.unwrap_or(u32::MAX)).min(self.warm).max(1)
    }

    fn went_well(&mut self) {
        self.warm = self.warm.saturating_add(1).min(self.limit);
    }

    /// `held` at once is what the server takes.
    fn learn(&mut self, held: u32, now: Moment) {
        if self.taught.is_some() {
            self.every = (self.every * 2).min(LONGEST_RECOVERY);
        }
        self.taught = Some(held.clamp(1, self.allowed().max(2) - 1));
        self.grows_at = now + self.every;
    }

    fn recover(&mut self, now: Moment) {
        if let Some(taught) = self.taught
            && now >= self.grows_at
        {
            self.taught = (taught + 1 < self.limit).then_some(taught + 1);
            self.grows_at = now + self.every;
        }
    }
}

/// A sum over a sliding window, in slices, so that it never grows beyond [`SLICES`] + 2 entries.
#[derive(Debug)]
struct Window {
    limit: u64,
    slice: Duration,
    keep: Duration,
    slices: VecDeque<(Moment, u64)>,
    held: u64,
    /// Begun and not ended.
    pending: u64,
}

/// Costs a third of a percent of the rate, for two slices of margin.
const SLICES: u32 = 600;

impl Window {
    fn new(rate: Rate) -> Self {
        let slice = rate.span / SLICES;
        Self {
            limit: rate.amount.max(1),
            slice,
            keep: rate.span + 2 * slice,
            slices: VecDeque::new(),
            held: 0,
            pending: 0,
        }
    }

    fn used(&mut self, now: Moment) -> u64 {
        while let Some((start, amount)) = self.slices.front().copied()
            && now >= start + self.keep
        {
            self.held -= amount;
            self.slices.pop_front();
        }
        self.held
    }

    /// When there will be room; `None` while only what is under way takes it.
    fn room_at(&mut self, amount: u64, now: Moment) -> Option<Moment> {
        // More than the whole window at once can only go when nothing else counts, and then it must.
        let amount = amount.min(self.limit);
        let mut over = (self.used(now) + self.pending + amount).saturating_sub(self.limit);
        if over == 0 {
            return Some(now);
        }
        for (start, held) in &self.slices {
            over = over.saturating_sub(*held);
            if over == 0 {
                return Some(*start + self.keep);
            }
        }
        None
    }

    fn spend(&mut self, amount: u64, now: Moment) {
        self.held += amount;
        match self.slices.back_mut() {
            Some((start, held)) if now < *start + self.slice => *held += amount,
            _ => self.slices.push_back((now, amount)),
        }
    }

    /// Of a time before the window was made: oldest first.
    fn seed(&mut self, amount: u64, ago: Duration, now: Moment) {
        let at = now.saturating_sub(ago);
        if at + self.keep <= now || amount == 0 {
            return;
        }
        match self.slices.back_mut() {
            // Entries stay in order even if the seed is not.
            Some((start, held)) if at < *start + self.slice => *held += amount,
            _ => self.slices.push_back((at, amount)),
        }
        self.held += amount;
    }
}

#[cfg(test)]
#[path = "governor_tests.rs"]
mod tests;
