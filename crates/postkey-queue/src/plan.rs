//! What a lane does next: looked at whenever anything happened to it, decided under the lock, done outside it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    engine::{Engine, LaneId, State},
    lane::{Entry, LineKey, Ownership},
    schedule::after,
};

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
/// A lane that was just looked at is not looked at again before this, or it would leave nobody else any time.
const SOONEST: Duration = Duration::from_millis(1);
/// More messages for a held domain than this are put off in the store instead of being passed over in memory.
const MOST_PARKED: usize = 500;

impl Engine {
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
        // What is due already and waits for a look to end is seen to when it ends: a timer for it would go off at once, again and
        // again, and leave the look no time.
        let looks = [lane.look_at, lane.inbox_at].into_iter().flatten().filter(|at| *at > now);
        let mut wakes: Vec<Timestamp> = looks.chain(lane.next_due()).collect();
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
        let soonest = after(now, SOONEST);
        for at in wakes {
            earlier |= state.arm(id, at.max(soonest));
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
}
