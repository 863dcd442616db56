//! One lane: what waits for one app on one mailbox, in turn between those who handed it in. Decides without acting.

use std::collections::{HashMap, HashSet, VecDeque};

use jiff::Timestamp;
use postkey_store::{Lease, MessageId, QueuedMessage, SenderId, SubmitterId};
use postkey_transport::Message;
use tokio::sync::oneshot;

use crate::{
    governor::{Governor, Leave, Moment, Need, Way},
    outbound::LaneKey,
};

/// Whose messages wait in one line.
pub(crate) type LineKey = (SenderId, Option<SubmitterId>);

/// A message in memory.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The message.
    pub(crate) message: QueuedMessage,
    /// Its bytes, while there is room for them.
    pub(crate) hot: Option<Message>,
    /// What it will use up: guessed until its route is known.
    pub(crate) need: Need,
}

impl Entry {
    /// Bytes that it holds in memory.
    pub(crate) fn hot_bytes(&self) -> u64 {
        self.hot.as_ref().map_or(0, Message::size)
    }
}

/// What one submitter has waiting for one sender.
#[derive(Debug, Default)]
pub(crate) struct Line {
    ready: VecDeque<Entry>,
    /// The store may hold messages that are due and not in `ready`.
    pub(crate) more: bool,
    /// The same was said again while the store was being asked: its answer may be older.
    pub(crate) missed: bool,
    /// When the next one in the store becomes due.
    pub(crate) next_due: Option<Timestamp>,
    /// Messages that wait for a domain's hold to end: passed over.
    pub(crate) parked: HashSet<MessageId>,
    /// Nothing of it may go now.
    pub(crate) held: bool,
}

impl Line {
    /// The store holds something that is not in memory.
    pub(crate) fn wants_more(&mut self) {
        self.more = true;
        self.missed = true;
    }

    /// Puts a message behind those of its priority or higher.
    fn put(&mut self, entry: Entry) {
        let rank = |entry: &Entry| (std::cmp::Reverse(entry.message.priority), entry.message.due_at, entry.message.id);
        let mine = rank(&entry);
        let at = self.ready.iter().rposition(|other| rank(other) <= mine).map_or(0, |at| at + 1);
        self.ready.insert(at, entry);
    }
}

/// Who may work on the lane.
#[derive(Debug)]
pub(crate) enum Ownership {
    /// Nobody has asked.
    None,
    /// We are asking.
    Asking,
    /// We may, under this epoch.
    Ours(Lease),
    /// Another node may; ask again then.
    Theirs(Timestamp),
}

/// A lane.
#[derive(Debug)]
pub(crate) struct Lane {
    /// What Exchange counts together.
    pub(crate) key: LaneKey,
    /// Senders seen with it.
    pub(crate) senders: Vec<SenderId>,
    /// Who may work on it.
    pub(crate) ownership: Ownership,
    /// How fast it may go.
    pub(crate) governor: Governor,
    lines: HashMap<LineKey, Line>,
    ring: VecDeque<LineKey>,
    /// Messages in memory.
    pub(crate) in_window: usize,
    /// Their bytes.
    pub(crate) hot_bytes: u64,
    /// Attempts begun and not written down.
    pub(crate) in_hand: HashSet<MessageId>,
    /// The store is being asked.
    pub(crate) fetching: bool,
    /// What was settled while it was: its answer may be older.
    pub(crate) done_meanwhile: HashSet<MessageId>,
    /// What was sent before this process began is counted.
    pub(crate) seeded: bool,
    /// Failures of the network in a row.
    pub(crate) failures: u32,
    /// Nothing begins before.
    pub(crate) not_before: Option<Timestamp>,
    /// A wake-up that is registered.
    pub(crate) wake: Option<Timestamp>,
    /// Which way the last message of each sender went.
    pub(crate) ways: HashMap<SenderId, Way>,
    /// When an outcome is looked for next.
    pub(crate) look_at: Option<Timestamp>,
    /// Look for every one of them: the clock was set back.
    pub(crate) look_at_all: bool,
    /// Outcomes are being looked for.
    pub(crate) looking: bool,
    /// When the Inbox was looked through last, and up to when.
    pub(crate) inbox_seen: Option<Timestamp>,
    /// When it is looked through next.
    pub(crate) inbox_at: Option<Timestamp>,
    /// When a message was accepted last.
    pub(crate) accepted_last: Option<Timestamp>,
    /// When anything happened last.
    pub(crate) active_at: Timestamp,
    /// Attempts that are ready and wait for a place.
    waiting: VecDeque<(Way, oneshot::Sender<()>)>,
    /// Accepted, refused, unknown since the start.
    pub(crate) counts: LaneCounts,
}

/// What a lane has done since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LaneCounts {
    pub(crate) accepted: u64,
    pub(crate) deferred: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
}

/// What a lane can do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// This message.
    Message(Box<Entry>),
    /// Nothing before that moment.
    NotBefore(Moment),
    /// Nothing until something ends or arrives.
    Nothing,
}

/// A submitter's turn with messages of high priority is this long; with others one message.
const TURN_OF_HIGH: u32 = 4;

impl Lane {
    /// A lane that nobody works on.
    pub(crate) fn new(key: LaneKey, governor: Governor, now: Timestamp) -> Self {
        Self {
            key,
            senders: Vec::new(),
            ownership: Ownership::None,
            governor,
            lines: HashMap::new(),
            ring: VecDeque::new(),
            in_window: 0,
            hot_bytes: 0,
            in_hand: HashSet::new(),
            fetching: false,
            done_meanwhile: HashSet::new(),
            seeded: false,
            failures: 0,
            not_before: None,
            wake: None,
            ways: HashMap::new(),
            look_at: None,
            look_at_all: false,
            looking: false,
            inbox_seen: None,
            inbox_at: None,
            accepted_last: None,
            active_at: now,
            waiting: VecDeque::new(),
            counts: LaneCounts::default(),
        }
    }

    /// The lease's epoch, while the lane is ours.
    pub(crate) fn epoch(&self) -> Option<i64> {
        match &self.ownership {
            Ownership::Ours(lease) => Some(lease.epoch),
            _ => None,
        }
    }

    /// The line of these, made if it is new.
    pub(crate) fn line(&mut self, key: LineKey) -> &mut Line {
        if !self.senders.contains(&key.0) {
            self.senders.push(key.0);
        }
        self.lines.entry(key).or_insert_with(|| {
            self.ring.push_back(key);
            Line::default()
        })
    }

    /// All lines.
    pub(crate) fn lines(&mut self) -> impl Iterator<Item = (&LineKey, &mut Line)> {
        self.lines.iter_mut()
    }

    /// Whether anything waits or may wait.
    pub(crate) fn has_work(&self) -> bool {
        self.in_window > 0 || self.lines.values().any(|line| line.more || line.next_due.is_some())
    }

    /// Whether this message is here already.
    pub(crate) fn knows(&self, key: &LineKey, id: MessageId) -> bool {
        self.in_hand.contains(&id)
            || self
                .lines
                .get(key)
                .is_some_and(|line| line.parked.contains(&id) || line.ready.iter().any(|entry| entry.message.id == id))
    }

    /// Messages of a line that a query for what is due would give again.
    pub(crate) fn known_in(&self, key: &LineKey) -> usize {
        self.lines.get(key).map_or(0, |line| line.ready.len() + line.parked.len())
    }

    /// Messages of a line in memory.
    pub(crate) fn ready_in(&self, key: &LineKey) -> usize {
        self.lines.get(key).map_or(0, |line| line.ready.len())
    }

    /// Takes a message into memory. Its bytes are the caller's to count beforehand.
    pub(crate) fn put(&mut self, entry: Entry) {
        let key = (entry.message.sender, entry.message.submitter);
        self.in_window += 1;
        self.hot_bytes += entry.hot_bytes();
        self.line(key).put(entry);
    }

    /// The next message in turn for which there is room.
    pub(crate) fn next(&mut self, now: Moment) -> Next {
        let mut earliest: Option<Moment> = None;
        for _ in 0..self.ring.len() {
            let Some(key) = self.ring.pop_front() else { break };
            self.ring.push_back(key);
            let Some(line) = self.lines.get_mut(&key).filter(|line| !line.held) else { continue };
            let Some(first) = line.ready.front() else { continue };
            match self.governor.leave(&first.need, now) {
                Leave::Granted => {}
                Leave::AfterAnother => continue,
                Leave::NotBefore(at) => {
                    earliest = Some(earliest.map_or(at, |known| known.min(at)));
                    continue;
                }
            }
            let Some(entry) = line.ready.pop_front() else { continue };
            self.in_window -= 1;
            self.hot_bytes -= entry.hot_bytes();
            self.governor.reserve(&entry.need);
            self.in_hand.insert(entry.message.id);
            return Next::Message(Box::new(entry));
        }
        earliest.map_or(Next::Nothing, Next::NotBefore)
    }

    /// An attempt was written down.
    pub(crate) fn done(&mut self, id: MessageId) {
        self.in_hand.remove(&id);
        if self.fetching {
            self.done_meanwhile.insert(id);
        }
    }

    /// The next messages in turn, as many as a turn holds.
    pub(crate) fn turn(&mut self, now: Moment, most: usize) -> (Vec<Entry>, Option<Moment>) {
        let mut taken = Vec::new();
        let mut of_high = 0;
        loop {
            if taken.len() >= most {
                return (taken, None);
            }
            match self.next(now) {
                Next::Message(entry) => {
                    let high = entry.message.priority == postkey_store::Priority::High;
                    of_high = if high { of_high + 1 } else { 0 };
                    // The line keeps its turn.
                    if high && of_high < TURN_OF_HIGH {
                        if let Some(last) = self.ring.pop_back() {
                            self.ring.push_front(last);
                        }
                    } else {
                        of_high = 0;
                    }
                    taken.push(*entry);
                }
                Next::NotBefore(at) => return (taken, Some(at)),
                Next::Nothing => return (taken, None),
            }
        }
    }

    /// Puts a message back that was taken and not begun.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        self.in_hand.remove(&entry.message.id);
        self.put(entry);
    }

    /// Lets go of everything in memory: it is in the store. Gives the bytes that were freed, and how many messages.
    pub(crate) fn let_go(&mut self, which: impl Fn(&LineKey) -> bool) -> (u64, usize) {
        let (mut bytes, mut count) = (0, 0);
        for (key, line) in &mut self.lines {
            if which(key) && !line.ready.is_empty() {
                bytes += line.ready.iter().map(Entry::hot_bytes).sum::<u64>();
                count += line.ready.len();
                line.ready.clear();
                line.wants_more();
            }
        }
        self.in_window -= count;
        self.hot_bytes -= bytes;
        (bytes, count)
    }

    /// A place among those under way, or a channel that tells when there is one.
    pub(crate) fn enter(&mut self, way: Way) -> Result<(), oneshot::Receiver<()>> {
        if self.governor.enter(way) {
            return Ok(());
        }
        let (tell, told) = oneshot::channel();
        self.waiting.push_back((way, tell));
        Err(told)
    }

    /// Hands free places to those who wait. Who has gone away is passed over, and gives nothing back: it never entered.
    pub(crate) fn hand_on(&mut self) {
        let mut left = VecDeque::with_capacity(self.waiting.len());
        while let Some((way, tell)) = self.waiting.pop_front() {
            if tell.is_closed() {
                continue;
            }
            if self.governor.enter(way) {
                // Nobody can have gone away since: we hold the lock that they would need.
                let _ = tell.send(());
            } else {
                left.push_back((way, tell));
            }
        }
        self.waiting = left;
    }

    /// The line that should be filled up next, with how many messages it has.
    pub(crate) fn hungry(&self, low: usize) -> Option<LineKey> {
        self.ring
            .iter()
            .filter(|key| self.lines.get(*key).is_some_and(|line| line.more && !line.held && line.ready.len() <= low))
            .min_by_key(|key| self.ready_in(key))
            .copied()
    }

    /// The earliest time at which a message in the store becomes due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.lines.values().filter(|line| !line.held).filter_map(|line| line.next_due).min()
    }

    /// Lines whose next message has become due are to be read.
    pub(crate) fn ripen(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        for line in self.lines.values_mut() {
            if line.next_due.is_some_and(|due| due <= now) {
                line.next_due = None;
                line.wants_more();
                any = true;
            }
        }
        any
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
