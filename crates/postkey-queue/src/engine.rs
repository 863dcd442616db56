//! What all parts of a running queue share: lanes, holds and timers under one short lock, and the tasks that act.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use postkey_base::Clock;
use postkey_store::{
    GroupCommit, HoldScope, Lease, MessageState, QueuedMessage, SenderId, Settlement, Store, StoreError, SubmitterId,
    Webhook,
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    governor::{Governor, Moment, Need, Way},
    holds::{Holds, SenderFacts},
    lane::{Entry, Lane, LineKey, Ownership},
    outbound::{LEASE_PREFIX, LaneKey, Outbound},
    schedule::{self, after},
    settings::QueueSettings,
    settle::{HoldRequest, Probes, ScopeKind},
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
    rearm: Notify,
    /// The store's view of what waits is to be read again.
    pub(crate) refresh: Notify,
    /// A notice was written.
    pub(crate) tell: Notify,
    pub(crate) tasks: TaskTracker,
    /// Nothing more begins.
    pub(crate) stop: CancellationToken,
    pub(crate) tally: Tally,
    /// Leases are asked for a few at a time.
    asking: tokio::sync::Semaphore,
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
    fn arm(&mut self, id: LaneId, at: Timestamp) -> bool {
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

/// What a look at a lane has found to do.
enum Step {
    Own(LaneId),
    Fetch { lane: LaneId, line: LineKey, known: usize, wanted: usize },
    Attempt { lane: LaneId, entry: Box<Entry> },
    Postpone(postkey_store::MessageId),
    Look(LaneId),
    Inbox(LaneId),
}

/// A line with fewer messages in memory is filled up.
const LOW: usize = 16;
/// By so many at once.
const BATCH: usize = 64;
/// More messages for a held domain than this are put off in the store instead of being passed over in memory.
const MOST_PARKED: usize = 500;
/// For so long.
const POSTPONED: Duration = Duration::from_secs(10 * 60);
/// The clockwork looks at the clock this often while something is due: a clock that was turned is noticed.
const LONGEST_SLEEP: Duration = Duration::from_millis(200);
/// Another node's lane is asked for again after this.
const THEIRS: Duration = Duration::from_secs(10);
/// After the store failed, a lane waits so long.
const STORE_BREATH: Duration = Duration::from_secs(1);
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
    fn latest(&self, now: Timestamp) -> Timestamp {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.0 = latest.0.max(now);
        latest.0
    }

    /// A clock that was set back before this process began shows in what was accepted.
    pub(crate) async fn read_latest(&self) -> Result<(), StoreError> {
        let newest = postkey_store::MessageFilter { limit: 1, ..postkey_store::MessageFilter::default() };
        for message in self.store.search_messages(&newest).await? {
            self.latest(message.accepted_at);
        }
        Ok(())
    }

    /// Runs a task that shutdown waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Looks at a lane and does what can be done.
    pub(crate) fn pump(self: &Arc<Self>, id: LaneId) {
        if self.stop.is_cancelled() {
            return;
        }
        let mut steps = Vec::new();
        let earlier = self.plan(&mut self.lock(), id, &mut steps);
        if earlier {
            self.rearm.notify_one();
        }
        for step in steps {
            let engine = Arc::clone(self);
            match step {
                Step::Own(lane) => self.spawn(async move { engine.own(lane).await }),
                Step::Fetch { lane, line, known, wanted } => {
                    self.spawn(async move { engine.fetch(lane, line, known, wanted).await });
                }
                Step::Attempt { lane, entry } => self.spawn(async move { engine.attempt(lane, *entry).await }),
                Step::Postpone(message) => self.spawn(async move { engine.postpone(message).await }),
                Step::Look(lane) => self.spawn(async move { engine.look(lane).await }),
                Step::Inbox(lane) => self.spawn(async move { engine.look_into_inbox(lane).await }),
            }
        }
    }

    /// Decides what a lane does now. `true`: a timer was set that is earlier than all others.
    fn plan(&self, state: &mut State, id: LaneId, steps: &mut Vec<Step>) -> bool {
        let (now, steady) = (self.clock.now(), self.steady());
        let mut earlier = false;
        self.mark_held(state, id, now);
        let lane = &mut state.lanes[id];
        let ripened = lane.ripen(now);
        if ripened {
            self.refresh.notify_one();
        }
        let looks = lane.look_at.is_some_and(|at| at <= now) && !lane.looking;
        let inbox = lane.inbox_at.is_some_and(|at| at <= now) && !lane.looking;
        if !lane.has_work() && !looks && !inbox {
            for at in [lane.look_at, lane.inbox_at].into_iter().flatten().filter(|at| *at > now) {
                earlier |= state.arm(id, at);
            }
            return earlier;
        }
        match &lane.ownership {
            Ownership::Ours(lease) if lease.until > now => {}
            Ownership::Asking => return false,
            Ownership::Theirs(at) if *at > now => {
                let at = *at;
                return state.arm(id, at);
            }
            Ownership::None | Ownership::Ours(_) | Ownership::Theirs(_) => {
                lane.ownership = Ownership::Asking;
                steps.push(Step::Own(id));
                return false;
            }
        }
        lane.active_at = now;
        if looks {
            lane.looking = true;
            lane.look_at = None;
            steps.push(Step::Look(id));
        } else if inbox {
            lane.looking = true;
            lane.inbox_at = None;
            steps.push(Step::Inbox(id));
        }
        lane.governor.recover(steady);
        let mut wakes: Vec<Timestamp> = [lane.look_at, lane.inbox_at, lane.next_due()].into_iter().flatten().collect();
        match lane.not_before {
            Some(at) if at > now => wakes.push(at),
            _ => {
                lane.not_before = None;
                let room = self.settings.most_under_way.saturating_sub(state.in_hand);
                let (taken, not_before) = state.lanes[id].turn(steady, room);
                if let Some(at) = not_before {
                    wakes.push(after(now, at.saturating_sub(steady)));
                }
                for entry in taken {
                    self.take(state, id, entry, now, steps);
                }
            }
        }
        self.plan_fetch(state, id, steps);
        for at in wakes {
            earlier |= state.arm(id, at);
        }
        earlier
    }

    /// One message that was taken: off it goes, unless its recipients' domain is held.
    fn take(&self, state: &mut State, id: LaneId, entry: Entry, now: Timestamp, steps: &mut Vec<Step>) {
        state.in_windows -= 1;
        state.hot_bytes -= entry.hot_bytes();
        let addresses = entry.message.envelope.recipients.iter().map(|one| &one.address);
        if state.holds.over_domains(addresses, now).is_none() {
            state.in_hand += 1;
            steps.push(Step::Attempt { lane: id, entry: Box::new(entry) });
            return;
        }
        let lane = &mut state.lanes[id];
        lane.governor.give_back(&entry.need);
        lane.in_hand.remove(&entry.message.id);
        let line = lane.line((entry.message.sender, entry.message.submitter));
        if line.parked.len() < MOST_PARKED {
            line.parked.insert(entry.message.id);
        } else {
            steps.push(Step::Postpone(entry.message.id));
        }
    }

    fn plan_fetch(&self, state: &mut State, id: LaneId, steps: &mut Vec<Step>) {
        let room = self.settings.windows_together.saturating_sub(state.in_windows).max(LOW / 2);
        let lane = &mut state.lanes[id];
        if lane.fetching {
            return;
        }
        let Some(line) = lane.hungry(LOW) else { return };
        let wanted = BATCH.min(self.settings.window.saturating_sub(lane.in_window)).min(room).max(1);
        lane.fetching = true;
        lane.line(line).missed = false;
        let known = lane.known_in(&line) + lane.in_hand.len();
        steps.push(Step::Fetch { lane: id, line, known, wanted });
    }

    /// Marks the lines that are held, and lets their messages go.
    fn mark_held(&self, state: &mut State, id: LaneId, now: Timestamp) {
        let mut newly = Vec::new();
        let key = state.lanes[id].key.clone();
        for ((sender, submitter), line) in state.lanes[id].lines() {
            let held = match state.senders.get(sender) {
                Some(facts) if facts.lane.as_ref() == Some(&key) => {
                    state.holds.over(*sender, facts, *submitter, now).is_some()
                }
                _ => true,
            };
            if held && !line.held {
                newly.push((*sender, *submitter));
            }
            line.held = held;
        }
        if !newly.is_empty() {
            state.let_go(id, |line| newly.contains(line));
        }
    }

    /// Takes the lane's lease, and what a former holder has left behind.
    async fn own(self: Arc<Self>, id: LaneId) {
        let Ok(_turn) = self.asking.acquire().await else { return };
        let (name, senders) = {
            let state = self.lock();
            let lane = &state.lanes[id];
            let of_lane =
                state.senders.iter().filter(|(_, facts)| facts.lane.as_ref() == Some(&lane.key)).map(|(id, _)| *id);
            (lane.key.lease(), of_lane.collect::<Vec<_>>())
        };
        let length = SignedDuration::try_from(self.settings.lease).unwrap_or(SignedDuration::from_secs(30));
        let now = self.clock.now();
        let ownership = match self.store.retake_lease(&name, &self.node, length).await {
            Ok(Some(lease)) => match self.take_over(id, &lease, &senders).await {
                Ok(()) => Ownership::Ours(lease),
                Err(error) => {
                    tracing::warn!(lane = name, %error, "the lane's messages could not be read");
                    Ownership::Theirs(after(now, STORE_BREATH))
                }
            },
            Ok(None) => Ownership::Theirs(after(now, THEIRS)),
            Err(error) => {
                tracing::warn!(lane = name, %error, "the lane's lease could not be taken");
                Ownership::Theirs(after(now, STORE_BREATH))
            }
        };
        {
            let mut state = self.lock();
            let epoch = match &ownership {
                Ownership::Ours(lease) => Some(lease.epoch),
                _ => None,
            };
            // Whoever had the lane in between may have settled what is in memory: the store knows.
            let shared = matches!(self.store.location(), postkey_store::Location::Postgres(_));
            let lane = &mut state.lanes[id];
            let seamless = epoch.is_some_and(|epoch| epoch == lane.last_epoch.unwrap_or(0) + 1);
            lane.last_epoch = epoch.or(lane.last_epoch);
            lane.ownership = ownership;
            if epoch.is_none() || (shared && !seamless) {
                state.let_go(id, |_| true);
            }
        }
        self.pump(id);
    }

    /// What was being sent when its holder went away may or may not have gone out; and what was sent within a day counts.
    async fn take_over(&self, id: LaneId, lease: &Lease, senders: &[SenderId]) -> Result<(), StoreError> {
        let now = self.clock.now();
        for sender in senders {
            for message in self.store.sending_before(*sender, lease.epoch).await? {
                if self.lock().lanes[id].in_hand.contains(&message.id) {
                    continue;
                }
                self.interrupted(&message, now).await?;
            }
            let next = self.store.next_unknown(*sender).await?;
            let lane = &mut self.lock().lanes[id];
            lane.look_at = earlier(lane.look_at, next);
        }
        let seeded = std::mem::replace(&mut self.lock().lanes[id].seeded, true);
        if !seeded && self.settings.limits.recipients.is_some() {
            let day = Duration::from_secs(86_400);
            for sender in senders {
                let sent = self.store.sent_recipients(*sender, schedule::before(now, day)).await?;
                let steady = self.steady();
                let lane = &mut self.lock().lanes[id];
                if sent.iter().any(|(_, count)| *count > 0) {
                    // What came back meanwhile is in the Inbox.
                    lane.accepted_last = Some(now);
                    lane.inbox_at.get_or_insert(after(now, self.settings.ndr_every));
                }
                for (bucket, count) in sent {
                    // A bucket is five minutes; its end is what is sure to be in the window longest.
                    let end = after(bucket, Duration::from_secs(300)).min(now);
                    lane.governor.seed_recipients(count, schedule::until(end, now), steady);
                }
            }
        }
        Ok(())
    }

    async fn interrupted(&self, message: &QueuedMessage, now: Timestamp) -> Result<(), StoreError> {
        let look = after(now, schedule::LOOKS[0]);
        let detail = serde_json::json!({
            "since": now,
            "looks": 0,
            "interrupted": true,
            "text": "postkey stopped while this attempt was under way: it may or may not have gone out",
        });
        let settlement = Settlement {
            due_at: Some(look),
            attempts_delta: 1,
            outcome: Some(detail.clone()),
            events: vec![postkey_store::NewMessageEvent { kind: "unknown", detail }],
            ..Settlement::to(message.id, message.epoch, MessageState::Unknown)
        };
        match self.commit.settle(settlement).await {
            // Its own node has settled it after all.
            Ok(()) | Err(StoreError::Changed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads what is due of a line.
    async fn fetch(self: Arc<Self>, id: LaneId, line: LineKey, known: usize, wanted: usize) {
        let limit = u32::try_from(known + wanted).unwrap_or(u32::MAX).min(MOST_FETCHED);
        let now = self.clock.now();
        let rows = self.store.due_messages(line.0, Some(line.1), self.latest(now), limit).await;
        {
            let mut state = self.lock();
            state.lanes[id].fetching = false;
            let done = std::mem::take(&mut state.lanes[id].done_meanwhile);
            match rows {
                Ok(rows) => {
                    let of_line = state.lanes[id].line(line);
                    of_line.more = of_line.missed
                        || (rows.len() >= limit as usize && rows.last().is_some_and(|message| is_due(message, now)));
                    for message in rows.into_iter().filter(|message| is_due(message, now)) {
                        if state.lanes[id].knows(&line, message.id) || done.contains(&message.id) {
                            continue;
                        }
                        let need = self.guess(&state.lanes[id], &message);
                        state.put(id, Entry { message, hot: None, need });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "what is due could not be read");
                    state.lanes[id].not_before = Some(after(now, STORE_BREATH));
                }
            }
        }
        self.pump(id);
    }

    /// Messages of a sender that are due.
    pub(crate) async fn due_for_a_try(&self, sender: SenderId, most: u32) -> Result<Vec<QueuedMessage>, StoreError> {
        let now = self.clock.now();
        let rows = self.store.due_messages(sender, None, self.latest(now), most).await?;
        Ok(rows.into_iter().filter(|message| is_due(message, now)).collect())
    }

    /// What a message will probably use up.
    pub(crate) fn guess(&self, lane: &Lane, message: &QueuedMessage) -> Need {
        let way = lane.ways.get(&message.sender).copied().unwrap_or(Way::Graph);
        let recipients = message.envelope.recipients.iter().filter(|one| crate::settle::is_open(one)).count() as u64;
        match way {
            Way::Graph => Need { way, requests: 1, bytes: message.size.div_ceil(3) * 4, messages: 1, recipients },
            Way::Smtp => Need { way, requests: 0, bytes: 0, messages: 1, recipients },
        }
    }

    async fn postpone(self: Arc<Self>, message: postkey_store::MessageId) {
        let until = after(self.clock.now(), POSTPONED);
        let event = postkey_store::NewMessageEvent {
            kind: "held",
            detail: serde_json::json!({ "text": "a recipient's domain is held", "next_attempt": until }),
        };
        if let Err(error) = self.store.reschedule_message(message, until, &event).await {
            tracing::warn!(%message, %error, "a held message could not be put off");
        }
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

    /// Extends the leases of all lanes in one statement; a lane whose lease is lost stops at once. Lanes at rest are given
    /// back, so that another node may have them.
    pub(crate) async fn keep_leases(self: Arc<Self>) {
        let every = self.settings.lease / 3;
        let length = SignedDuration::try_from(self.settings.lease).unwrap_or(SignedDuration::from_secs(30));
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let idle: Vec<Lease> = {
                let mut state = self.lock();
                let now = self.clock.now();
                let rested = |lane: &Lane| {
                    !lane.has_work()
                        && lane.in_hand.is_empty()
                        && lane.look_at.is_none()
                        && !lane.looking
                        && schedule::until(lane.active_at, now) > IDLE
                };
                let idle = state.lanes.iter_mut().filter(|lane| rested(lane));
                idle.filter_map(|lane| match std::mem::replace(&mut lane.ownership, Ownership::None) {
                    Ownership::Ours(lease) => Some(lease),
                    other => {
                        lane.ownership = other;
                        None
                    }
                })
                .collect()
            };
            for lease in idle {
                if let Err(error) = self.store.release_lease(&lease).await {
                    tracing::debug!(lane = lease.name, %error, "a lane at rest could not be given back");
                }
            }
            if self.lock().lanes.iter().all(|lane| lane.epoch().is_none()) {
                continue;
            }
            match self.store.extend_leases(&self.node, LEASE_PREFIX, length).await {
                Ok(leases) => {
                    let held: HashMap<_, _> = leases.into_iter().map(|lease| (lease.name.clone(), lease)).collect();
                    let mut lost = Vec::new();
                    for (id, lane) in self.lock().lanes.iter_mut().enumerate() {
                        let Ownership::Ours(lease) = &mut lane.ownership else { continue };
                        match held.get(&lease.name).filter(|now| now.epoch == lease.epoch) {
                            Some(extended) => *lease = extended.clone(),
                            None => {
                                lane.ownership = Ownership::None;
                                lost.push(id);
                            }
                        }
                    }
                    for id in lost {
                        tracing::warn!(lane = %self.lock().lanes[id].key, "the lane's lease is lost; asking for it again");
                        self.pump(id);
                    }
                }
                // Until the lease ends the lane goes on: `plan` looks at its end before anything begins.
                Err(error) => tracing::warn!(%error, "the lanes' leases could not be extended"),
            }
        }
    }

    /// Reads senders again: their lanes, and what may end an outage.
    pub(crate) async fn read_senders(&self) -> Result<Vec<SenderId>, StoreError> {
        let senders = self.store.senders().await?;
        let mut of_app: HashMap<_, DefaultHasher> = HashMap::new();
        for credential in self.store.all_credentials().await? {
            let hasher = of_app.entry(credential.app).or_default();
            (credential.id.to_string(), format!("{:?}", credential.state)).hash(hasher);
        }
        let mut fresh = Vec::new();
        let mut state = self.lock();
        let mut known = HashMap::with_capacity(senders.len());
        for sender in senders {
            let values = &sender.values;
            let lane = match (values.tenant, values.client_id, values.mailbox.clone()) {
                (Some(tenant), Some(client_id), Some(mailbox)) => Some(LaneKey { tenant, client_id, mailbox }),
                _ => None,
            };
            let mut hasher = DefaultHasher::new();
            format!("{values:?} {}", sender.staged_secret).hash(&mut hasher);
            values.app.and_then(|app| of_app.get(&app)).map(Hasher::finish).hash(&mut hasher);
            let facts = SenderFacts {
                name: values.name.clone(),
                tenant: values.tenant,
                app: values.app,
                lane,
                fingerprint: hasher.finish(),
            };
            if state.senders.get(&sender.id).is_some_and(|before| before.fingerprint != facts.fingerprint) {
                fresh.push(sender.id);
            }
            known.insert(sender.id, facts);
        }
        state.senders = known;
        Ok(fresh)
    }

    /// Reads from the store what waits, and lets the lanes have it.
    pub(crate) async fn read_waiting(self: &Arc<Self>) -> Result<(), StoreError> {
        let waiting = self.store.waiting().await?;
        let now = self.clock.now();
        let set_back = schedule::until(now, self.latest(now)) > STEP;
        let mut busy = Vec::new();
        {
            let mut state = self.lock();
            let (mut messages, mut bytes) = (0, 0);
            for work in &waiting {
                messages += i64::try_from(work.waiting).unwrap_or(i64::MAX);
                bytes += i64::try_from(work.bytes).unwrap_or(i64::MAX);
                let Some(id) = state.lane_of(work.sender, &self.settings, now) else { continue };
                let lane = &mut state.lanes[id];
                let line = lane.line((work.sender, work.submitter));
                line.next_due = earlier(line.next_due, work.next_due);
                // After a clock was set back, what is due may seem to lie ahead.
                if work.due > 0 || set_back {
                    line.wants_more();
                }
                busy.push(id);
            }
            state.oldest = waiting.iter().map(|work| work.oldest).min();
            self.tally.waiting.store(messages, Ordering::Relaxed);
            self.tally.waiting_bytes.store(bytes, Ordering::Relaxed);
        }
        busy.sort_unstable();
        busy.dedup();
        for id in busy {
            self.pump(id);
        }
        Ok(())
    }

    /// Lanes with messages of an earlier run that were being sent or are unknown.
    pub(crate) async fn read_unsettled(self: &Arc<Self>) -> Result<(), StoreError> {
        let counts = self.store.count_messages().await?;
        let now = self.clock.now();
        let set_back = schedule::until(now, self.latest(now)) > STEP;
        let mut busy = Vec::new();
        {
            let mut state = self.lock();
            for count in counts {
                if !matches!(count.state, MessageState::Sending | MessageState::Unknown) {
                    continue;
                }
                let Some(id) = state.lane_of(count.sender, &self.settings, now) else { continue };
                if !state.lanes[id].senders.contains(&count.sender) {
                    state.lanes[id].senders.push(count.sender);
                }
                // Owning the lane finds them.
                state.lanes[id].look_at.get_or_insert(now);
                state.lanes[id].look_at_all |= set_back;
                busy.push(id);
            }
        }
        for id in busy {
            self.pump(id);
        }
        Ok(())
    }

    /// A message was just accepted.
    pub(crate) fn offer(self: &Arc<Self>, message: QueuedMessage, body: postkey_transport::Message) {
        let now = self.clock.now();
        self.latest(message.accepted_at);
        self.tally.came(message.size);
        let id = {
            let mut state = self.lock();
            let Some(id) = state.lane_of(message.sender, &self.settings, now) else {
                drop(state);
                let engine = Arc::clone(self);
                self.spawn(async move { engine.hold(message.sender, &incomplete()).await });
                return;
            };
            let key = (message.sender, message.submitter);
            let room = state.in_windows < self.settings.windows_together;
            let bytes = state.hot_bytes + body.size() <= self.settings.hot_bytes;
            let window = self.settings.window;
            let high = message.priority == postkey_store::Priority::High;
            let lane = &mut state.lanes[id];
            let known = lane.knows(&key, message.id);
            let (in_window, need) = (lane.in_window, self.guess(lane, &message));
            let theirs = matches!(lane.ownership, Ownership::Theirs(_));
            let line = lane.line(key);
            if !is_due(&message, now) {
                line.next_due = earlier(line.next_due, Some(message.due_at));
            } else if theirs || line.held || !room || in_window >= window || (line.more && !high) {
                line.wants_more();
            } else if !known {
                state.put(id, Entry { message, hot: bytes.then_some(body), need });
            }
            id
        };
        self.pump(id);
    }

    /// The submitters of a sender that are known to wait.
    pub(crate) fn line_of(message: &QueuedMessage) -> (SenderId, Option<SubmitterId>) {
        (message.sender, message.submitter)
    }
}

/// The earlier of two times, where there are any.
pub(crate) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Rows of one query.
const MOST_FETCHED: u32 = 1_000;
/// A clock that goes back by more than this was set.
const STEP: Duration = Duration::from_secs(2);
/// A clock that stands still must not make the clockwork spin.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
/// A lane without work for so long is given back.
const IDLE: Duration = Duration::from_secs(60);
/// Mebibytes that messages of a mebibyte and more may take while they are sent, in all lanes; one that is larger by itself
/// goes alone.
pub(crate) const LARGE_TOGETHER: u32 = 512;

/// Why mail of a sender waits that was never finished.
fn incomplete() -> HoldRequest {
    let diagnosis = postkey_base::Diagnosis {
        code: "queue.sender_incomplete".into(),
        what: "the sender is not complete: it lacks its tenant, its app or its mailbox".into(),
        why: None,
        remedy: "See what is missing with `postkey sender show`, and save it; the mail goes out then.".into(),
        who: postkey_base::Who::You,
        evidence: Vec::new(),
    };
    let class = postkey_transport::OutcomeClass::Mailbox;
    HoldRequest { scope: ScopeKind::Sender, class, diagnosis, probes: Probes::Soon }
}

/// Whether a message may go now. One that was due when it was accepted is due, whatever the clock says since; and no attempt is
/// put off for longer than the longest step: beyond that the clock was set back.
fn is_due(message: &QueuedMessage, now: Timestamp) -> bool {
    let put_off = message.state == MessageState::Deferred && message.due_at > after(now, LONGEST_PUT_OFF);
    message.due_at <= now || message.due_at <= message.accepted_at || put_off
}

/// The longest step of the schedule with its jitter.
const LONGEST_PUT_OFF: Duration = Duration::from_secs(5 * 60 * 60);
