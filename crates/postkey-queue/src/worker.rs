//! One attempt: connect, fetch the bytes, write down that it begins, wait for a place, send, write down what came of it.

use std::{sync::Arc, time::Duration};

use postkey_store::{MessageState, NewMessageEvent, QueuedMessage, SenderId, Settlement, StoreError};
use postkey_transport::{
    Envelope, Message, MessageError, Outcome, Report, RouteError, SendWish, Stamp, TransportError,
};
use serde_json::json;

use crate::{
    engine::{Engine, LARGE_TOGETHER, LaneId},
    governor::{Leave, Lesson, Need, Way},
    holds::SenderFacts,
    lane::Entry,
    outbound::{Connected, OutboundError},
    schedule::after,
    settle::{self, Case, Decision, HoldRequest, LaneWord, Probes, ScopeKind},
};

/// How an attempt ended, for whoever made it as a try.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    /// The message was sent, or refused for its own sake: the lane works.
    Works,
    /// The lane still cannot send.
    Out(LaneWord),
    /// Nothing was learnt: it was cancelled, or is somebody else's.
    Nothing,
}

/// A connection is made from a cache or with one token request; both have deadlines of their own, and this is the last.
const CONNECT_DEADLINE: Duration = Duration::from_secs(90);
/// After the store failed, so long.
const STORE_BREATH: Duration = Duration::from_secs(1);
/// A lane whose way fails waits so long after each failure, until it counts as held.
const FAILURE_BREATH: Duration = Duration::from_secs(2);
/// A lane whose sender says that it belongs to another waits so long: what is known of senders is read again meanwhile.
const ELSEWHERE_BREATH: Duration = Duration::from_secs(2);
/// What one part of an upload carries, about.
const UPLOAD_PART: u64 = 3_000_000;

impl Engine {
    /// An attempt in turn.
    pub(crate) async fn attempt(self: Arc<Self>, id: LaneId, entry: Entry) {
        self.try_once(id, entry, false).await;
        self.lock().in_hand -= 1;
        self.pump(id);
    }

    /// The attempt; `held`: the lane is held, and this is the message by which it is tried. What the entry needs is reserved, and it is in the lane's hand; both are given back here.
    pub(crate) async fn try_once(self: &Arc<Self>, id: LaneId, mut entry: Entry, held: bool) -> Ended {
        let sender = entry.message.sender;
        let connecting = tokio::time::timeout(CONNECT_DEADLINE, self.outbound.connect(sender));
        let connected = match connecting.await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => {
                let word = word_of(&error);
                self.put_back(id, entry);
                self.heard(id, sender, &word).await;
                return Ended::Out(word);
            }
            Err(_) => {
                self.put_back(id, entry);
                self.rest_after_store(id);
                return Ended::Nothing;
            }
        };
        let (epoch, same_lane) = {
            let state = self.lock();
            (state.lanes[id].epoch(), state.lanes[id].key == connected.lane)
        };
        let Some(epoch) = epoch.filter(|_| same_lane) else {
            // The lane is lost, or the sender belongs to another one now.
            self.drop_entry(id, entry);
            let at = after(self.clock.now(), ELSEWHERE_BREATH);
            self.lock().lanes[id].not_before = Some(at);
            self.refresh.notify_one();
            return Ended::Nothing;
        };
        // Held until the attempt has ended.
        let _share = self.share_of(entry.message.size).await;
        let message = match self.bytes_of(&mut entry).await {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(message = %entry.message.id, %error, "a message's bytes could not be read");
                self.put_back(id, entry);
                self.rest_after_store(id);
                return Ended::Nothing;
            }
        };
        let prepared = prepare(&entry.message, message, &connected);
        if let Ok((message, envelope)) = &prepared {
            let need = need_of(message, envelope, &connected);
            self.lock().lanes[id].ways.insert(sender, need.way);
            if !self.exchange(id, &mut entry, need) {
                self.put_back_reserved(id, entry, false);
                return Ended::Nothing;
            }
        }
        if self.stop.is_cancelled() {
            self.put_back(id, entry);
            return Ended::Nothing;
        }
        let event = NewMessageEvent {
            kind: "sending",
            detail: json!({ "attempt": entry.message.attempts + 1, "sender": connected.name, "node": self.node }),
        };
        match self.commit.begin_attempt(entry.message.id, epoch, event).await {
            Ok(true) => {}
            Ok(false) => {
                // Withdrawn, or settled by another.
                self.drop_entry(id, entry);
                return Ended::Nothing;
            }
            Err(error) => {
                tracing::warn!(message = %entry.message.id, %error, "an attempt could not be written down");
                self.put_back(id, entry);
                self.rest_after_store(id);
                return Ended::Nothing;
            }
        }
        entry.message.epoch = epoch;
        let report = match prepared {
            Err(error) => {
                self.lock().lanes[id].governor.give_back(&entry.need);
                refused(error)
            }
            Ok((message, envelope)) => {
                if !self.enter(id, &entry, epoch, held).await {
                    self.lock().lanes[id].governor.give_back(&entry.need);
                    self.write_back(&entry.message).await;
                    self.forget(id, &entry.message);
                    return Ended::Nothing;
                }
                let stamp = Stamp { id: entry.message.id.uuid(), at: entry.message.accepted_at };
                let wish = SendWish { graph_json: entry.message.graph_json };
                let started = self.steady();
                let report = connected.transport.send_wished(&message, &envelope, &stamp, &wish).await;
                tracing::debug!(
                    message = %entry.message.id, lane = %connected.lane,
                    elapsed_ms = self.steady().saturating_sub(started).as_millis(), "an attempt has ended"
                );
                let decision = self.decide(&entry.message, &report);
                self.left(id, &entry.need, &decision);
                return self.write_down(id, entry, &connected, decision, Some(&message)).await;
            }
        };
        let decision = self.decide(&entry.message, &report);
        self.write_down(id, entry, &connected, decision, None).await
    }

    fn decide(&self, message: &QueuedMessage, report: &Report) -> Decision {
        settle::decide(&Case {
            message,
            report,
            now: self.clock.now(),
            give_up_after: self.settings.give_up_after,
            late_after: self.settings.late_after,
            random: rand::random(),
        })
    }

    /// A share of the memory for large messages, as much as this one needs; small ones need none.
    async fn share_of(&self, size: u64) -> Option<tokio::sync::SemaphorePermit<'_>> {
        const MEBIBYTE: u64 = 1024 * 1024;
        if size < MEBIBYTE {
            return None;
        }
        // As it came, as it leaves, and in base64.
        let share = u32::try_from(size * 3 / MEBIBYTE).unwrap_or(u32::MAX).min(LARGE_TOGETHER);
        self.large.acquire_many(share).await.ok()
    }

    /// The message's bytes, from memory or from the store.
    async fn bytes_of(&self, entry: &mut Entry) -> Result<Result<Message, TransportError>, StoreError> {
        if let Some(message) = entry.hot.take() {
            return Ok(Ok(message));
        }
        let body = self.store.message_body(entry.message.id).await?;
        // A body that is gone cannot be sent: the same as one that is no message.
        let body = body.unwrap_or_default();
        Ok(Message::parse(body).map_err(|error: MessageError| error.into()))
    }

    /// Reserves what is really needed in place of what was guessed. `false`: there is no room for that now.
    fn exchange(&self, id: LaneId, entry: &mut Entry, need: Need) -> bool {
        if entry.need == need {
            return true;
        }
        let steady = self.steady();
        let governor = &mut self.lock().lanes[id].governor;
        governor.give_back(&entry.need);
        entry.need = need;
        let granted = governor.leave(&need, steady) == Leave::Granted;
        if granted {
            governor.reserve(&need);
        }
        granted
    }

    /// Waits for a place among the attempts under way. `false`: the queue stops, or the lane is not ours any more, or has come
    /// to be held meanwhile.
    async fn enter(&self, id: LaneId, entry: &Entry, epoch: i64, held: bool) -> bool {
        let entered = self.lock().lanes[id].enter(entry.need.way);
        if let Err(mut told) = entered {
            tokio::select! {
                // A place that was given while the queue stopped is used: the message goes out.
                biased;
                given = &mut told => if given.is_err() { return false },
                () = self.stop.cancelled() => {
                    // Under the lock, since places are given under it.
                    let _state = self.lock();
                    told.close();
                    if told.try_recv().is_err() {
                        return false;
                    }
                }
            }
        }
        let now = self.clock.now();
        let goes = {
            let state = self.lock();
            let message = &entry.message;
            let over = state.senders.get(&message.sender);
            let over = over.and_then(|facts| state.holds.over(message.sender, facts, message.submitter, now));
            state.lanes[id].epoch() == Some(epoch) && (held || over.is_none())
        };
        if goes {
            return true;
        }
        let steady = self.steady();
        let lane = &mut self.lock().lanes[id];
        // It had a place: end it, and reserve again what the caller gives back.
        let nothing = Need { requests: 0, bytes: 0, messages: 0, recipients: 0, ..entry.need };
        lane.governor.end(&nothing, Lesson::Neutral, steady);
        lane.governor.reserve(&nothing);
        lane.hand_on();
        false
    }

    /// The answer is there: the place is free for another, and the governor has learnt.
    fn left(self: &Arc<Self>, id: LaneId, need: &Need, decision: &Decision) {
        let steady = self.steady();
        {
            let lane = &mut self.lock().lanes[id];
            lane.governor.end(need, decision.lesson, steady);
            if let Some(rest) = decision.rest {
                lane.governor.rest(rest, steady);
            }
            lane.hand_on();
        }
        self.pump(id);
    }

    /// Writes down what came of an attempt, tells who must hear of it, and lets the lane know.
    async fn write_down(
        self: &Arc<Self>,
        id: LaneId,
        entry: Entry,
        connected: &Connected,
        mut decision: Decision,
        message: Option<&Message>,
    ) -> Ended {
        let queued = &entry.message;
        if decision.to == MessageState::Accepted && !connected.may_read {
            decision.detail["last_fact"] =
                json!("acceptance is the last fact known: this sender may not read its mailbox");
        }
        let told = self.tell_sender(queued, &decision, message).await;
        let notices = self.notices_of(queued, &decision, &connected.name);
        let tells = !notices.is_empty();
        let settlement = Settlement {
            due_at: decision.due_at,
            attempts_delta: u32::from(decision.burns),
            outcome: Some(decision.detail.clone()),
            envelope: decision.envelope.clone(),
            events: [NewMessageEvent { kind: decision.kind, detail: decision.detail.clone() }]
                .into_iter()
                .chain(told.events.iter().cloned())
                .collect(),
            recipients_sent: u32::try_from(decision.taken.len()).unwrap_or(u32::MAX),
            notices,
            ..Settlement::to(queued.id, queued.epoch, decision.to)
        };
        self.settle_and_tell(settlement, told).await;
        tracing::info!(
            message.id = %queued.id,
            sender.name = connected.name,
            message.attempt = queued.attempts + 1,
            route = decision.detail["route"].as_str(),
            "message {}",
            decision.kind
        );
        if tells {
            self.tell.notify_one();
        }
        self.after_settling(id, queued, &decision);
        self.heard(id, queued.sender, &decision.lane).await;
        match &decision.lane {
            LaneWord::Works => Ended::Works,
            LaneWord::Nothing => Ended::Nothing,
            word => Ended::Out(word.clone()),
        }
    }

    /// The lane's memory after a message was written down.
    fn after_settling(&self, id: LaneId, message: &QueuedMessage, decision: &Decision) {
        let now = self.clock.now();
        let waits = matches!(decision.to, MessageState::Queued | MessageState::Deferred);
        if !waits {
            self.tally.went(message.size);
        }
        let wake = {
            let mut state = self.lock();
            let ndr = self.settings.ndr_every;
            let lane = &mut state.lanes[id];
            lane.done(message.id);
            match decision.to {
                MessageState::Accepted => {
                    lane.counts.accepted += 1;
                    lane.accepted_last = Some(now);
                    lane.inbox_at.get_or_insert(after(now, ndr));
                }
                MessageState::Failed => lane.counts.failed += 1,
                MessageState::Unknown => {
                    lane.counts.unknown += 1;
                    lane.look_at = crate::engine::earlier(lane.look_at, decision.due_at);
                }
                MessageState::Deferred => lane.counts.deferred += 1,
                _ => {}
            }
            let line = lane.line(Self::line_of(message));
            match (decision.to, decision.due_at) {
                (MessageState::Queued, _) => line.wants_more(),
                (MessageState::Deferred, due) => line.next_due = crate::engine::earlier(line.next_due, due),
                _ => {}
            }
            [lane.look_at, lane.inbox_at, lane.next_due()].into_iter().flatten().min()
        };
        if let Some(at) = wake {
            self.arm(id, at);
        }
    }

    /// Commits a settlement, again and again while the store fails: the message stays in hand meanwhile, so nobody sends it
    /// twice. Ends when the queue stops; then the next start finds the attempt and says that its outcome is unknown. `false`:
    /// nothing was written.
    pub(crate) async fn settle(&self, settlement: Settlement) -> bool {
        let mut wait = Duration::from_millis(200);
        loop {
            match self.commit.settle(settlement.clone()).await {
                Ok(()) => return true,
                Err(StoreError::Changed { what }) => {
                    tracing::warn!(message = %settlement.id, what, "what became of an attempt was decided elsewhere");
                    return false;
                }
                Err(error) => {
                    tracing::error!(message = %settlement.id, %error, "what became of an attempt could not be written down; trying again");
                }
            }
            if self.stop.is_cancelled() {
                return false;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(10));
        }
    }

    /// A message that was begun and not sent: it waits again, as if nothing had been.
    async fn write_back(&self, message: &QueuedMessage) {
        let settlement = Settlement {
            due_at: Some(message.due_at),
            events: vec![NewMessageEvent {
                kind: "not_sent",
                detail: json!({ "text": "put back before it was sent" }),
            }],
            ..Settlement::to(message.id, message.epoch, MessageState::Queued)
        };
        self.settle(settlement).await;
    }

    /// Puts an entry back into memory, with what it had reserved.
    fn put_back(&self, id: LaneId, entry: Entry) {
        self.put_back_reserved(id, entry, true);
    }

    fn put_back_reserved(&self, id: LaneId, entry: Entry, reserved: bool) {
        let mut state = self.lock();
        if reserved {
            state.lanes[id].governor.give_back(&entry.need);
        }
        state.in_windows += 1;
        state.hot_bytes += entry.hot_bytes();
        state.lanes[id].put_back(entry);
    }

    /// Lets an entry go: the store knows better.
    fn drop_entry(&self, id: LaneId, entry: Entry) {
        let mut state = self.lock();
        state.lanes[id].governor.give_back(&entry.need);
        state.lanes[id].done(entry.message.id);
    }

    fn forget(&self, id: LaneId, message: &QueuedMessage) {
        let mut state = self.lock();
        state.lanes[id].done(message.id);
        state.lanes[id].line(Self::line_of(message)).wants_more();
    }

    fn rest_after_store(&self, id: LaneId) {
        let at = after(self.clock.now(), STORE_BREATH);
        self.lock().lanes[id].not_before = Some(at);
        self.arm(id, at);
    }

    /// What an attempt or a try has said about its lane.
    pub(crate) async fn heard(self: &Arc<Self>, id: LaneId, sender: SenderId, word: &LaneWord) {
        match word {
            LaneWord::Nothing => {}
            LaneWord::Works => self.lock().lanes[id].failures = 0,
            LaneWord::Network(diagnosis) => {
                let now = self.clock.now();
                let held = {
                    let mut state = self.lock();
                    let lane = &mut state.lanes[id];
                    lane.failures += 1;
                    let held = lane.failures >= self.settings.failures_before_hold;
                    if !held {
                        lane.not_before = Some(after(now, FAILURE_BREATH * lane.failures));
                    }
                    held
                };
                if held {
                    let request = HoldRequest {
                        scope: ScopeKind::Sender,
                        class: postkey_transport::OutcomeClass::Network,
                        diagnosis: diagnosis.clone(),
                        probes: Probes::Soon,
                    };
                    let senders = self.lock().lanes[id].senders.clone();
                    for sender in senders {
                        self.hold(sender, &request).await;
                    }
                }
            }
            LaneWord::Hold(request) => self.hold(sender, request).await,
        }
    }

    /// What is known of a sender.
    pub(crate) fn facts(&self, sender: SenderId) -> Option<SenderFacts> {
        self.lock().senders.get(&sender).cloned()
    }
}

/// The message and for whom it still is.
fn prepare(
    queued: &QueuedMessage,
    message: Result<Message, TransportError>,
    connected: &Connected,
) -> Result<(Message, Envelope), TransportError> {
    let message = message?;
    let from = queued.envelope.from.clone().unwrap_or_else(|| connected.transport.mailbox.clone());
    let open = queued.envelope.recipients.iter().filter(|one| settle::is_open(one));
    let envelope = Envelope::new(from, open.map(|one| one.address.clone()))?;
    Ok((message, envelope))
}

fn refused(error: TransportError) -> Report {
    Report { message_id: None, choice: None, repairs: Vec::new(), outcome: Outcome::Refused(error), fell_back: None }
}

/// What sending will use up, by the route that will be taken.
fn need_of(message: &Message, envelope: &Envelope, connected: &Connected) -> Need {
    let abilities = &connected.transport.abilities;
    let recipients = envelope.recipients().len() as u64;
    let smtp = Need { way: Way::Smtp, requests: 0, bytes: 0, messages: 1, recipients };
    let one = Need { way: Way::Graph, requests: 1, bytes: message.size().div_ceil(3) * 4, messages: 1, recipients };
    let has_graph = connected.transport.graph.is_some() && abilities.graph_send;
    let has_smtp = connected.transport.smtp.is_some() && abilities.smtp;
    match (has_graph, has_smtp) {
        (false, _) => smtp,
        (true, false) if message.size() + 2_048 <= abilities.graph_mime_limit() => one,
        _ => match connected.transport.choose(message, envelope) {
            Ok(choice) if choice.route.is_graph() => {
                let drafted = choice.route == postkey_transport::Route::GraphDraftUpload;
                let parts = message.shape().attachments.len() as u64 * 2 + message.size() / UPLOAD_PART;
                Need { requests: if drafted { 2 + parts } else { 1 }, ..one }
            }
            Ok(_) => smtp,
            Err(RouteError::NoRoute) => smtp,
            Err(_) => one,
        },
    }
}

/// What a sender that cannot connect says about its lane.
pub(crate) fn word_of(error: &OutboundError) -> LaneWord {
    use postkey_transport::OutcomeClass;
    let scope = match error.class {
        OutcomeClass::Network => return LaneWord::Network(error.diagnosis.clone()),
        OutcomeClass::Credential => ScopeKind::App,
        OutcomeClass::Tenant => ScopeKind::Tenant,
        OutcomeClass::Mailbox | OutcomeClass::Message | OutcomeClass::Recipient => ScopeKind::Sender,
    };
    LaneWord::Hold(HoldRequest { scope, class: error.class, diagnosis: error.diagnosis.clone(), probes: Probes::Soon })
}
