//! Holds at work: written down when something is out, tried with one message, lifted when it works again.

use std::{sync::Arc, time::Duration};

use postkey_graph::{GraphError, send_mail};
use postkey_store::{HoldCause, HoldScope, SenderId, StoreError};
use postkey_transport::{OutcomeClass, TransportError};
use serde_json::json;

use crate::{
    engine::{Engine, LaneId},
    governor::Leave,
    holds::scope_of,
    lane::{Entry, Ownership},
    outbound::Connected,
    schedule::{FIRST_PROBE, after},
    settle::{self, HoldRequest, LaneWord, Probes},
    worker::{Ended, word_of},
};

/// Lanes that one cause has held begin again one after the other, so far apart.
const STAGGER: Duration = Duration::from_millis(250);
/// But all within this.
const LONGEST_STAGGER: Duration = Duration::from_secs(60);
/// Connecting and the empty request of a try have deadlines of their own. This is the last.
const TRY_DEADLINE: Duration = Duration::from_secs(180);
/// Messages from which the one for a try is taken.
const TRY_AMONG: u32 = 8;
/// The answer about a lease is looked for so often,
const OWNING_LOOKS: usize = 100;
/// so far apart.
const OWNING_LOOK: Duration = Duration::from_millis(20);
/// How often the store is asked whether somebody changed something.
const WATCH_EVERY: Duration = Duration::from_millis(400);
/// A queue that shares its store with other nodes looks for what they took in this often.
const SHARED_EVERY: Duration = Duration::from_secs(2);

impl Engine {
    /// Something is out: holds everything that it hits.
    pub(crate) async fn hold(self: &Arc<Self>, sender: SenderId, request: &HoldRequest) {
        let now = self.clock.now();
        let (hold, lanes) = {
            let mut state = self.lock();
            let Some(facts) = state.senders.get(&sender).cloned() else { return };
            let scope = scope_of(request.scope, sender, &facts);
            let hold = state.holds.begin_outage(scope.clone(), request, now, rand::random());
            (hold, state.lanes_under(&scope))
        };
        let Some(hold) = hold else { return };
        tracing::warn!(
            scope = ?hold.scope, class = hold.class, code = hold.code, who = hold.who, "{}: mail is held", hold.reason
        );
        if let Err(error) = self.store.put_hold(&hold).await {
            tracing::error!(%error, "a hold could not be written down; it holds all the same");
        }
        self.note_hold("mail.held", &hold).await;
        for (id, _) in lanes {
            self.pump(id);
        }
        self.wake_clockwork();
    }

    /// The clockwork says that a pause has ended or an outage is to be tried.
    pub(crate) fn look_at_holds(self: &Arc<Self>) {
        let now = self.clock.now();
        let (ended, tries) = {
            let mut state = self.lock();
            let ended = state.holds.ended(now);
            for hold in &ended {
                state.holds.end_pause(&hold.scope);
            }
            let mut tries = Vec::new();
            for scope in state.holds.due(now) {
                let candidates = state.lanes_under(&scope);
                let with_work = candidates.iter().find(|(id, _)| state.lanes[*id].has_work()).or(candidates.first());
                let found = with_work.copied();
                let Some(outage) = state.holds.outage(&scope) else { continue };
                match found {
                    Some((id, sender)) => {
                        outage.probing = true;
                        tries.push((scope, id, sender));
                    }
                    // Nobody waits for it: look again when somebody may.
                    None => outage.next = Some(after(now, crate::schedule::LONGEST_PROBE)),
                }
            }
            (ended, tries)
        };
        for (scope, id, sender) in tries {
            let engine = Arc::clone(self);
            self.spawn(async move { engine.try_again(scope, id, sender).await });
        }
        if !ended.is_empty() {
            let engine = Arc::clone(self);
            self.spawn(async move {
                for hold in ended {
                    match engine.store.lift_hold(&hold.scope, HoldCause::Paused).await {
                        Ok(true) => engine.note_hold("mail.resumed", &hold).await,
                        Ok(false) => {}
                        Err(error) => tracing::warn!(%error, "the end of a pause could not be written down"),
                    }
                }
                engine.pump_all();
            });
        }
    }

    /// Tries a lane that is held: a new connection, a request that can deliver nothing, and then one message.
    async fn try_again(self: Arc<Self>, scope: HoldScope, id: LaneId, sender: SenderId) {
        let how = self.lock().holds.outage(&scope).map(|outage| outage.how);
        match self.try_lane(id, sender, how == Some(Probes::Quota)).await {
            Ended::Works => self.works_again(&scope).await,
            // Nothing was learnt: once more, without counting it.
            Ended::Nothing => {
                let now = self.clock.now();
                if let Some(outage) = self.lock().holds.outage(&scope) {
                    outage.probing = false;
                    outage.next = Some(after(now, FIRST_PROBE));
                }
                self.wake_clockwork();
            }
            Ended::Out(word) => {
                // Another cause than before shows itself as what it is.
                if let LaneWord::Hold(request) = &word {
                    self.hold(sender, request).await;
                }
                self.still_out(&scope).await;
            }
        }
    }

    async fn try_lane(self: &Arc<Self>, id: LaneId, sender: SenderId, of_quota: bool) -> Ended {
        self.outbound.forget(sender);
        let knocking = async {
            let connected = self.outbound.connect(sender).await.map_err(|error| word_of(&error))?;
            if of_quota {
                return Ok(());
            }
            knock(&connected).await.map_err(|error| settle::lane_word(&error))
        };
        match tokio::time::timeout(TRY_DEADLINE, knocking).await {
            // The message has deadlines of its own, and must not be let go half sent.
            Ok(Ok(())) => self.send_one(id, sender).await,
            Ok(Err(word)) => Ended::Out(word),
            Err(_) => Ended::Out(LaneWord::Nothing),
        }
    }

    /// One message of the sender, as a try.
    async fn send_one(self: &Arc<Self>, id: LaneId, sender: SenderId) -> Ended {
        let rows = self.due_for_a_try(sender, TRY_AMONG).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "no message for a try could be read");
                return Ended::Nothing;
            }
        };
        let now = self.clock.now();
        let waiting = rows.into_iter().filter(|one| {
            let state = self.lock();
            let addresses = one.envelope.recipients.iter().map(|recipient| &recipient.address);
            let paused = state.senders.get(&sender).is_none_or(|facts| {
                state.holds.is_paused(sender, facts, one.submitter, now)
                    || state.holds.over_domains(addresses, now).is_some()
            });
            !paused && !state.lanes[id].in_hand.contains(&one.id)
        });
        // One that has failed before may be what is wrong.
        let Some(message) = waiting.min_by_key(|one| one.attempts) else { return Ended::Works };
        if !self.is_ours(id).await {
            return Ended::Nothing;
        }
        let steady = self.steady();
        let entry = {
            let mut state = self.lock();
            state.let_go(id, |line| line.0 == sender);
            let lane = &mut state.lanes[id];
            if lane.epoch().is_none() {
                return Ended::Nothing;
            }
            let need = self.guess(lane, &message);
            // A rest that the server asked for holds for a try as well.
            if lane.governor.leave(&need, steady) != Leave::Granted {
                return Ended::Nothing;
            }
            lane.governor.reserve(&need);
            lane.in_hand.insert(message.id);
            state.in_hand += 1;
            Entry { message, hot: None, need }
        };
        let ended = self.try_once(id, entry, true).await;
        self.lock().in_hand -= 1;
        ended
    }

    /// Whether the lane is ours; asked for if it is not.
    async fn is_ours(self: &Arc<Self>, id: LaneId) -> bool {
        for _ in 0..OWNING_LOOKS {
            let now = self.clock.now();
            if matches!(&self.lock().lanes[id].ownership, Ownership::Ours(lease) if lease.until > now) {
                return true;
            }
            self.pump(id);
            tokio::time::sleep(OWNING_LOOK).await;
        }
        false
    }

    /// The cause has ended: everything under it goes on, each lane a little after the other and slowly at first.
    pub(crate) async fn works_again(self: &Arc<Self>, scope: &HoldScope) {
        let now = self.clock.now();
        let (outage, lanes) = {
            let mut state = self.lock();
            let Some(outage) = state.holds.end_outage(scope) else { return };
            let lanes = state.lanes_under(scope);
            let spread = STAGGER.saturating_mul(u32::try_from(lanes.len()).unwrap_or(u32::MAX)).min(LONGEST_STAGGER);
            for (position, (id, _)) in lanes.iter().enumerate() {
                let lane = &mut state.lanes[*id];
                lane.governor.start_slowly();
                lane.failures = 0;
                if position > 0 {
                    lane.not_before = Some(after(now, spread.mul_f64(rand::random())));
                }
            }
            (outage, lanes)
        };
        tracing::info!(scope = ?scope, reason = outage.hold.reason, "mail goes on");
        if let Err(error) = self.store.lift_hold(scope, HoldCause::Outage).await {
            tracing::error!(%error, "the end of a hold could not be written down");
        }
        self.note_hold("mail.resumed", &outage.hold).await;
        for (id, sender) in lanes {
            self.outbound.forget(sender);
            self.pump(id);
        }
    }

    async fn still_out(self: &Arc<Self>, scope: &HoldScope) {
        let hold = self.lock().holds.still_out(scope, self.clock.now(), rand::random());
        if let Some(hold) = hold
            && let Err(error) = self.store.put_hold(&hold).await
        {
            tracing::debug!(%error, "when a hold is tried next could not be written down");
        }
        self.wake_clockwork();
    }

    /// Looks at every lane.
    pub(crate) fn pump_all(self: &Arc<Self>) {
        let lanes = self.lock().lanes.len();
        for id in 0..lanes {
            self.pump(id);
        }
    }

    /// Notices what others write: new credentials, pauses, what people do to messages.
    pub(crate) async fn watch(self: Arc<Self>) {
        // The first answer is that something changed: whatever came between the start's reading and this one is seen.
        let changes = self.store.changes();
        let shared = matches!(self.store.location(), postkey_store::Location::Postgres(_));
        let mut last_shared = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(WATCH_EVERY) => {}
            }
            let changed = changes.poll().await;
            if changed {
                if let Err(error) = self.reread().await {
                    tracing::warn!(%error, "what others changed could not be read");
                }
                self.refresh.notify_one();
            } else if shared && last_shared.elapsed() >= SHARED_EVERY {
                last_shared = tokio::time::Instant::now();
                self.refresh.notify_one();
            }
        }
    }

    /// Reads senders, holds and webhooks again, and lets what follows happen.
    pub(crate) async fn reread(self: &Arc<Self>) -> Result<(), StoreError> {
        let fresh = self.read_senders().await?;
        for sender in &fresh {
            self.outbound.forget(*sender);
        }
        let webhooks = self.store.webhooks().await?;
        let holds = self.store.holds().await?;
        let now = self.clock.now();
        let lifted = {
            let mut state = self.lock();
            state.webhooks = webhooks.into_iter().filter(|webhook| webhook.disabled_at.is_none()).collect();
            let read = state.holds.read(holds, now, rand::random());
            // Something that may end an outage was changed: try at once.
            for sender in &fresh {
                let Some(facts) = state.senders.get(sender).cloned() else { continue };
                for scope in facts.scopes(*sender) {
                    if let Some(outage) = state.holds.outage(&scope).filter(|outage| outage.how != Probes::Never) {
                        outage.next = Some(now);
                        outage.probes = 0;
                    }
                }
            }
            for lane in &mut state.lanes {
                for (_, line) in lane.lines() {
                    if !line.parked.is_empty() {
                        line.parked.clear();
                        line.wants_more();
                    }
                }
            }
            let lifted: Vec<_> = read.lifted.iter().flat_map(|scope| state.lanes_under(scope)).collect();
            for (id, _) in &lifted {
                let lane = &mut state.lanes[*id];
                lane.governor.forget_rest();
                lane.governor.start_slowly();
                lane.failures = 0;
                lane.not_before = None;
            }
            lifted
        };
        for (_, sender) in lifted {
            self.outbound.forget(sender);
        }
        self.wake_clockwork();
        self.pump_all();
        Ok(())
    }

    /// Reads again what waits whenever somebody asks, and no more often than it costs little.
    pub(crate) async fn refresher(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.refresh.notified() => {}
            }
            let started = tokio::time::Instant::now();
            if let Err(error) = self.read_waiting().await {
                tracing::warn!(%error, "what waits could not be read");
                self.refresh.notify_one();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            // A twentieth of the time at most.
            let pause = (started.elapsed() * 20).max(Duration::from_millis(50));
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    pub(crate) async fn note_hold(self: &Arc<Self>, kind: &'static str, hold: &postkey_store::Hold) {
        self.notify_all(kind, None, json!({ "hold": hold })).await;
    }
}

/// Asks whether the lane works by something that can deliver nothing: a message without recipients, or signing in.
async fn knock(connected: &Connected) -> Result<(), TransportError> {
    let transport = &connected.transport;
    match (&transport.graph, &transport.smtp) {
        (Some(graph), _) if transport.abilities.graph_send => {
            match send_mail::probe(graph, &transport.mailbox).await {
                // A message without recipients is refused for just that: it would have been sent.
                Ok(_) | Err(GraphError::InvalidRecipients(_)) => Ok(()),
                Err(error) => {
                    let error = TransportError::from(error);
                    match error.class() {
                        OutcomeClass::Message | OutcomeClass::Recipient => Ok(()),
                        _ => Err(error),
                    }
                }
            }
        }
        (_, Some(smtp)) => smtp.check(&transport.mailbox).await.map(drop),
        _ => Ok(()),
    }
}
