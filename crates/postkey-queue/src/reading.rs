//! From the store into memory: senders, what waits, what is due; and a message that was just accepted.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;
use postkey_store::{MessageState, QueuedMessage, SenderId, StoreError, SubmitterId};

use crate::{
    engine::{Engine, LaneId, STEP, STORE_BREATH, earlier},
    governor::{Need, Way},
    holds::SenderFacts,
    lane::{Entry, Lane, LineKey, Ownership},
    outbound::LaneKey,
    schedule::{self, after},
    settle::{HoldRequest, Probes, ScopeKind},
};

/// For so long.
const POSTPONED: Duration = Duration::from_secs(10 * 60);
/// Rows of one query.
const MOST_FETCHED: u32 = 1_000;
/// The longest step of the schedule with its jitter.
const LONGEST_PUT_OFF: Duration = Duration::from_secs(5 * 60 * 60);

impl Engine {
    /// Reads what is due of a line.
    pub(crate) async fn fetch(self: Arc<Self>, id: LaneId, line: LineKey, known: usize, wanted: usize) {
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

    pub(crate) async fn postpone(self: Arc<Self>, message: postkey_store::MessageId) {
        let until = after(self.clock.now(), POSTPONED);
        let event = postkey_store::NewMessageEvent {
            kind: "held",
            detail: serde_json::json!({ "text": "a recipient's domain is held", "next_attempt": until }),
        };
        if let Err(error) = self.store.reschedule_message(message, until, &event).await {
            tracing::warn!(%message, %error, "a held message could not be put off");
        }
    }

    /// A clock that was set back before this process began shows in what was accepted.
    pub(crate) async fn read_latest(&self) -> Result<(), StoreError> {
        let newest = postkey_store::MessageFilter { limit: 1, ..postkey_store::MessageFilter::default() };
        for message in self.store.search_messages(&newest).await? {
            self.latest(message.accepted_at);
        }
        Ok(())
    }

    /// Reads senders again: their lanes, and what may end an outage.
    pub(crate) async fn read_senders(&self) -> Result<Vec<SenderId>, StoreError> {
        let senders = self.store.senders().await?;
        let mut of_app: HashMap<_, DefaultHasher> = HashMap::new();
        for credential in self.store.all_credentials().await? {
            let hasher = of_app.entry(credential.app).or_default();
            (credential.id.to_string(), format!("{:?}", credential.state)).hash(hasher);
        }
        let (mut fresh, mut joined) = (Vec::new(), Vec::new());
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
            if let Some(before) = state.senders.get(&sender.id).filter(|before| before.fingerprint != facts.fingerprint)
            {
                fresh.push(sender.id);
                joined.extend(facts.lane.clone().filter(|lane| before.lane.as_ref() != Some(lane)));
            }
            known.insert(sender.id, facts);
        }
        state.senders = known;
        // What a sender brings along was tried under its former lane's lease: only a later one than that may take it on.
        for lane in state.lanes.iter_mut().filter(|lane| joined.contains(&lane.key)) {
            if matches!(lane.ownership, Ownership::Ours(_)) {
                lane.ownership = Ownership::None;
            }
        }
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

/// Whether a message may go now. One that was due when it was accepted is due, whatever the clock says since; and no attempt is
/// put off for longer than the longest step: beyond that the clock was set back.
fn is_due(message: &QueuedMessage, now: Timestamp) -> bool {
    let put_off = message.state == MessageState::Deferred && message.due_at > after(now, LONGEST_PUT_OFF);
    message.due_at <= now || message.due_at <= message.accepted_at || put_off
}

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
