//! What all parts of a running queue share: lanes, holds and timers under one short lock, and the tasks that act.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use postkey_base::Clock;
use postkey_store::{GroupCommit, HoldScope, SenderId, Store, Webhook};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    governor::{Governor, Moment},
    holds::{Holds, SenderFacts},
    lane::{Entry, Lane, LineKey, Ownership},
    outbound::{LaneKey, Outbound},
    schedule,
    settings::QueueSettings,
};

/// Which lane.
pub(crate) type LaneId = usize;

/// Everything that a running queue is.
pub(crate) struct Engine {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) outbound: Arc<dyn Outbound>,
    pub(crate) settings: QueueSettings,
    pub(crate) node: String,
    pub(crate) commit: GroupCommit,
    state: Mutex<State>,
    /// A timer was set earlier than what the clockwork sleeps for.
    pub(crate) rearm: Notify,
    /// The store's view of what waits is to be read again.
    pub(crate) refresh: Notify,
    /// A notice was written.
    pub(crate) tell: Notify,
    pub(crate) tasks: TaskTracker,
    /// Nothing more begins.
    pub(crate) stop: CancellationToken,
    pub(crate) tally: Tally,
    /// Leases are asked for a few at a time.
    pub(crate) asking: tokio::sync::Semaphore,
    /// The latest time that the clock has shown, which is later than now after it was set back; and the pacing time so far.
    latest: Mutex<(Timestamp, Moment, Moment)>,
    /// Mebibytes of large messages under way: each exists several times while it is sent.
    pub(crate) large: tokio::sync::Semaphore,
}

/// Counters since the start, and what waits.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) taken_in: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) waiting: AtomicI64,
    pub(crate) waiting_bytes: AtomicI64,
    pub(crate) notices_told: AtomicU64,
    pub(crate) notices_failed: AtomicU64,
}

impl Tally {
    /// A message waits.
    pub(crate) fn came(&self, bytes: u64) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_add(i64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }

    /// A message waits no more.
    pub(crate) fn went(&self, bytes: u64) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(i64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }
}

/// What the lock guards.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) senders: HashMap<SenderId, SenderFacts>,
    pub(crate) lanes: Vec<Lane>,
    by_key: HashMap<LaneKey, LaneId>,
    pub(crate) holds: Holds,
    pub(crate) webhooks: Vec<Webhook>,
    timers: BinaryHeap<Reverse<(Timestamp, LaneId)>>,
    /// Messages in memory, of all lanes.
    pub(crate) in_windows: usize,
    /// Their bytes.
    pub(crate) hot_bytes: u64,
    /// Attempts in all lanes.
    pub(crate) in_hand: usize,
    /// Since when the oldest that waits has been due, as of the last reading.
    pub(crate) oldest: Option<Timestamp>,
}

impl State {
    /// The lane of a sender, made if it is new.
    pub(crate) fn lane_of(&mut self, sender: SenderId, settings: &QueueSettings, now: Timestamp) -> Option<LaneId> {
        let key = self.senders.get(&sender)?.lane.clone()?;
        let id = *self.by_key.entry(key.clone()).or_insert_with(|| {
            self.lanes.push(Lane::new(key, Governor::new(settings.limits), now));
            self.lanes.len() - 1
        });
        Some(id)
    }

    /// Lanes that a hold of this scope keeps back, with one of the senders it is about.
    pub(crate) fn lanes_under(&self, scope: &HoldScope) -> Vec<(LaneId, SenderId)> {
        let mut found = Vec::new();
        for (id, lane) in self.lanes.iter().enumerate() {
            for sender in &lane.senders {
                if self.senders.get(sender).is_some_and(|facts| facts.scopes(*sender).any(|one| one == *scope)) {
                    found.push((id, *sender));
                }
            }
        }
        found
    }

    /// Puts a message into a lane's memory.
    pub(crate) fn put(&mut self, id: LaneId, entry: Entry) {
        self.in_windows += 1;
        self.hot_bytes += entry.hot_bytes();
        self.lanes[id].put(entry);
    }

    /// Lets a lane forget messages that are in the store anyhow.
    pub(crate) fn let_go(&mut self, id: LaneId, which: impl Fn(&LineKey) -> bool) {
        let (bytes, count) = self.lanes[id].let_go(which);
        self.hot_bytes -= bytes;
        self.in_windows -= count;
    }

    /// Registers that a lane wants to be looked at.
    pub(crate) fn arm(&mut self, id: LaneId, at: Timestamp) -> bool {
        let lane = &mut self.lanes[id];
        if lane.wake.is_some_and(|wake| wake <= at) {
            return false;
        }
        lane.wake = Some(at);
        let first = self.timers.peek().is_none_or(|Reverse((known, _))| at < *known);
        self.timers.push(Reverse((at, id)));
        first
    }
}

/// The clockwork looks at the clock this often while something is due: a clock that was turned is noticed.
const LONGEST_SLEEP: Duration = Duration::from_millis(200);
/// Leases asked for at once.
const ASKING_AT_ONCE: usize = 8;

impl Engine {
    /// An engine at rest.
    pub(crate) fn new(parts: crate::QueueParts) -> Self {
        Self {
            commit: GroupCommit::start(parts.store.clone()),
            store: parts.store,
            clock: parts.clock,
            outbound: parts.outbound,
            settings: parts.settings,
            node: parts.node,
            state: Mutex::default(),
            rearm: Notify::new(),
            refresh: Notify::new(),
            tell: Notify::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            tally: Tally::default(),
            asking: tokio::sync::Semaphore::new(ASKING_AT_ONCE),
            latest: Mutex::new((Timestamp::MIN, Moment::ZERO, Moment::ZERO)),
            large: tokio::sync::Semaphore::new(LARGE_TOGETHER as usize),
        }
    }

    /// The lock; held for microseconds, never across an await. After a panic the state is at worst a miscount.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time for pacing: it never goes back, even where the clock that it follows is turned.
    pub(crate) fn steady(&self) -> Moment {
        let steady = self.clock.steady();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, last, offset) = &mut *latest;
        if steady + *offset < *last {
            *offset = *last - steady;
        }
        *last = steady + *offset;
        *last
    }

    /// The latest time that is known to have been: what was written by then and is due by then is due, although the clock was
    /// set back since.
    pub(crate) fn latest(&self, now: Timestamp) -> Timestamp {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.0 = latest.0.max(now);
        latest.0
    }

    /// Runs a task that shutdown waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// A lane that waits for time to pass, or for anything else that happened to it.
    pub(crate) fn arm(&self, id: LaneId, at: Timestamp) {
        if self.lock().arm(id, at) {
            self.rearm.notify_one();
        }
    }

    /// Wakes the clockwork: holds have changed.
    pub(crate) fn wake_clockwork(&self) {
        self.rearm.notify_one();
    }

    /// Lets lanes and holds act when their times come.
    pub(crate) async fn clockwork(self: Arc<Self>) {
        let mut last = self.clock.now();
        loop {
            let now = self.clock.now();
            let back = schedule::until(now, last);
            last = now;
            self.latest(now);
            if back > STEP {
                tracing::warn!(by_s = back.as_secs(), "the clock was set back");
                self.set_back(back);
                self.pump_all();
            }
            let (due, next) = {
                let mut state = self.lock();
                let mut due = Vec::new();
                while let Some(Reverse((at, id))) = state.timers.peek().copied()
                    && at <= now
                {
                    state.timers.pop();
                    if state.lanes[id].wake == Some(at) {
                        state.lanes[id].wake = None;
                        due.push(id);
                    }
                }
                let timer = state.timers.peek().map(|Reverse((at, _))| *at);
                (due, earlier(timer, state.holds.next()))
            };
            for id in due {
                self.pump(id);
            }
            if next.is_some_and(|at| at <= now) {
                self.look_at_holds();
            }
            let sleep = async {
                match next {
                    Some(at) => {
                        let wait = schedule::until(now, at).clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
                        tokio::time::sleep(wait).await;
                    }
                    None => std::future::pending().await,
                }
            };
            // All three lose nothing when dropped: a permit of the notification stays for the next turn.
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.rearm.notified() => {}
                () = sleep => {}
            }
        }
    }

    /// The clock was set back: what was to happen at a time by the old one happens as much earlier.
    fn set_back(&self, by: Duration) {
        let mut state = self.lock();
        let earlier = |at: Option<Timestamp>| at.map(|at| schedule::before(at, by));
        for lane in &mut state.lanes {
            lane.not_before = earlier(lane.not_before);
            lane.look_at = earlier(lane.look_at);
            lane.look_at_all = lane.look_at.is_some();
            for (_, line) in lane.lines() {
                line.next_due = earlier(line.next_due);
                line.wants_more();
            }
            lane.inbox_at = earlier(lane.inbox_at);
            lane.wake = None;
            if let Ownership::Theirs(at) = &mut lane.ownership {
                *at = schedule::before(*at, by);
            }
        }
        state.holds.set_back(by);
    }
}

/// The earlier of two times, where there are any.
pub(crate) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A clock that goes back by more than this was set.
pub(crate) const STEP: Duration = Duration::from_secs(2);
/// A clock that stands still must not make the clockwork spin.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
/// Mebibytes that messages of a mebibyte and more may take while they are sent, in all lanes; one that is larger by itself
/// goes alone.
pub(crate) const LARGE_TOGETHER: u32 = 512;
/// After the store failed, a lane waits so long.
pub(crate) const STORE_BREATH: Duration = Duration::from_secs(1);
