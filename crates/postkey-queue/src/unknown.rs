//! Messages whose attempt left and got no trustworthy answer: looked for in Sent Items where the sender may read its mailbox,
//! else settled as the sender's policy says.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use postkey_graph::{Graph, GraphError, folders::Folder, messages};
use postkey_store::{MessageState, NewMessageEvent, OnUnknown, QueuedMessage, Settlement, StoreError};
use postkey_transport::{Carrier, Envelope, Message, SentCopy, Stamp, prepare, seen_in_sent};
use serde_json::{Value, json};

use crate::{
    engine::{Engine, LaneId, earlier},
    governor::{Leave, Lesson, Need, Way},
    outbound::Connected,
    schedule::{self, after},
    settle,
};

/// Messages looked for in one go.
const AT_ONCE: u32 = 64;
/// A place for a look is waited for so long.
const PLACE_DEADLINE: Duration = Duration::from_secs(60);
/// Room within the limits is looked for so often,
const ROOM_LOOKS: usize = 600;
/// so far apart.
const ROOM_LOOK: Duration = Duration::from_millis(100);
/// While the sender cannot even connect, the next look is so far away.
const OUT: Duration = Duration::from_secs(60);
/// A draft that lies in Drafts for so many windows does not leave any more.
const WINDOWS_OF_A_DRAFT: u32 = 16;

/// What a message's last outcome says about how it became unknown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Doubt {
    /// Since when.
    pub(crate) since: Timestamp,
    /// Looks so far.
    pub(crate) looks: u32,
    /// The Message-ID it left with, if that was written down.
    pub(crate) message_id: Option<String>,
}

impl Doubt {
    pub(crate) fn of(message: &QueuedMessage, now: Timestamp) -> Self {
        let outcome = message.outcome.as_ref();
        let field = |name: &str| outcome.and_then(|outcome| outcome.get(name));
        Self {
            // A clock that was set back must not put the end of the window off.
            since: field("since").and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(now).min(now),
            looks: field("looks").and_then(Value::as_u64).and_then(|count| count.try_into().ok()).unwrap_or(0),
            message_id: field("message_id").and_then(Value::as_str).map(str::to_owned),
        }
    }
}

/// What a look has found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// The copy in Sent Items.
    Sent(SentCopy),
    /// Still in Drafts: Exchange has it and has not sent it.
    Draft,
    /// Nowhere.
    Nothing,
    /// The look failed for now.
    Failed,
    /// Nobody may look, or a look proves nothing.
    Blind,
}

/// What follows from a look. Pure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Resolution {
    /// It was sent.
    Accepted,
    /// Look again then.
    Wait(Timestamp),
    /// It was not sent: again.
    Again {
        /// It may arrive twice.
        possible_duplicate: bool,
    },
    /// It was tried long enough.
    GiveUp,
    /// Nobody will ever know.
    Final,
}

/// Decides; `random` is for jitter.
pub(crate) fn resolve(
    message: &QueuedMessage,
    doubt: &Doubt,
    found: &Found,
    policy: OnUnknown,
    (window, give_up_after): (Duration, Duration),
    now: Timestamp,
    random: f64,
) -> Resolution {
    let over = schedule::is_over(message.accepted_at, message.attempts, give_up_after, now);
    let again = |possible_duplicate| if over { Resolution::GiveUp } else { Resolution::Again { possible_duplicate } };
    let next = || Resolution::Wait(schedule::next_look(doubt.since, doubt.looks + 1, window, now));
    match found {
        Found::Sent(_) => Resolution::Accepted,
        Found::Failed => next(),
        Found::Draft if now < after(doubt.since, window * WINDOWS_OF_A_DRAFT) => next(),
        Found::Draft => again(true),
        Found::Nothing if now < after(doubt.since, window) => next(),
        Found::Nothing => again(false),
        Found::Blind => match policy {
            OnUnknown::AtMostOnce => Resolution::Final,
            OnUnknown::AtLeastOnce => {
                let due = after(doubt.since, schedule::wait_after(message.attempts, random));
                // A second is nothing against the waits, and keeps the jitter from putting it off for ever.
                if now < due && doubt.looks == 0 { Resolution::Wait(due) } else { again(true) }
            }
        },
    }
}

impl Engine {
    /// Looks for every message of the lane that is due for it.
    pub(crate) async fn look(self: Arc<Self>, id: LaneId) {
        let (senders, all) = {
            let lane = &mut self.lock().lanes[id];
            (lane.senders.clone(), std::mem::take(&mut lane.look_at_all))
        };
        let mut next: Option<Timestamp> = None;
        for sender in senders {
            match self.look_for(id, sender, all).await {
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "messages whose outcome is unknown could not be read"),
            }
            match self.store.next_unknown(sender).await {
                Ok(due) => next = earlier(next, due),
                Err(_) => next = earlier(next, Some(after(self.clock.now(), OUT))),
            }
        }
        let now = self.clock.now();
        // What was just looked at and is due again at once waits a moment.
        let next = next.filter(|at| *at < never()).map(|at| at.max(after(now, Duration::from_secs(1))));
        {
            let lane = &mut self.lock().lanes[id];
            lane.looking = false;
            lane.look_at = earlier(lane.look_at, next);
        }
        self.pump(id);
    }

    async fn look_for(
        self: &Arc<Self>,
        id: LaneId,
        sender: postkey_store::SenderId,
        all: bool,
    ) -> Result<(), StoreError> {
        // All but those about which nobody asks any more.
        let until = if all { schedule::before(never(), Duration::from_secs(1)) } else { self.clock.now() };
        let due = self.store.unknown_due(sender, until, AT_ONCE).await?;
        if due.is_empty() {
            return Ok(());
        }
        let connected = self.outbound.connect(sender).await;
        for message in due {
            if self.stop.is_cancelled() {
                break;
            }
            match &connected {
                Ok(connected) => self.look_for_one(id, &message, connected).await,
                Err(error) => {
                    tracing::debug!(message = %message.id, %error, "a message cannot be looked for now");
                    self.look_later(&message, after(self.clock.now(), OUT), 0).await;
                }
            }
        }
        Ok(())
    }

    async fn look_for_one(self: &Arc<Self>, id: LaneId, message: &QueuedMessage, connected: &Connected) {
        let now = self.clock.now();
        let doubt = Doubt::of(message, now);
        let found = self.find(id, message, &doubt, connected, now).await;
        let times = (self.settings.settle_window, self.settings.give_up_after);
        let resolution = resolve(message, &doubt, &found, connected.on_unknown, times, now, rand::random());
        tracing::debug!(message = %message.id, ?found, ?resolution, "looked for a message whose outcome was unknown");
        // While it was looked for, a person may have sent it again: then that attempt tells.
        let settled =
            |to| Settlement { from: Some(MessageState::Unknown), ..Settlement::to(message.id, message.epoch, to) };
        let open = message.envelope.recipients.iter().filter(|one| settle::is_open(one)).count();
        match resolution {
            Resolution::Wait(at) => self.look_later(message, at, 1).await,
            Resolution::Accepted => {
                let copy = match &found {
                    Found::Sent(copy) => json!({ "id": copy.id, "sent": copy.sent, "confirmed": copy.confirmed }),
                    _ => Value::Null,
                };
                let mut detail = message.outcome.clone().unwrap_or_else(|| json!({}));
                detail["seen_in_sent"] = copy.clone();
                let notices = self.notices_about("message.accepted", message, &detail, &connected.name);
                self.settle(Settlement {
                    outcome: Some(detail),
                    events: vec![NewMessageEvent {
                        kind: "accepted",
                        detail: json!({ "seen_in_sent": copy, "looks": doubt.looks + 1 }),
                    }],
                    recipients_sent: u32::try_from(open).unwrap_or(u32::MAX),
                    notices,
                    ..settled(MessageState::Accepted)
                })
                .await;
                let lane = &mut self.lock().lanes[id];
                lane.counts.accepted += 1;
                lane.accepted_last = Some(now);
            }
            Resolution::Again { possible_duplicate } => {
                let text = if possible_duplicate {
                    "nobody can tell whether it went out: it is sent again, and may arrive twice"
                } else {
                    "it is not in Sent Items after the time in which copies appear there: it is sent again"
                };
                let detail = json!({ "text": text, "possible_duplicate": possible_duplicate, "looks": doubt.looks });
                self.settle(Settlement {
                    // Before what came later, and due whatever happens to the clock.
                    due_at: Some(message.accepted_at),
                    events: vec![NewMessageEvent { kind: "resend", detail }],
                    ..settled(MessageState::Queued)
                })
                .await;
                self.tally.came(message.size);
                self.lock().lanes[id].line(Self::line_of(message)).wants_more();
            }
            Resolution::GiveUp => {
                let mut detail = message.outcome.clone().unwrap_or_else(|| json!({}));
                detail["gave_up_after_attempts"] = json!(message.attempts);
                let told = self.tell_of_failure(message, &detail, None).await;
                let failed = NewMessageEvent { kind: "failed", detail: detail.clone() };
                let events = [failed].into_iter().chain(told.events.iter().cloned()).collect();
                let notices = self.notices_about("message.failed", message, &detail, &connected.name);
                let failed = Settlement { outcome: Some(detail), events, notices, ..settled(MessageState::Failed) };
                self.settle_and_tell(failed, told).await;
            }
            Resolution::Final => {
                let mut detail = message.outcome.clone().unwrap_or_else(|| json!({}));
                detail["final"] = json!(true);
                let told = self.tell_of_doubt(message, &detail).await;
                let text = "nobody can tell whether it went out, and its sender does not allow to send it twice: it stays unknown";
                let unknown = NewMessageEvent { kind: "unknown", detail: json!({ "text": text, "final": true }) };
                let events = [unknown].into_iter().chain(told.events.iter().cloned()).collect();
                let notices = self.notices_about("message.unknown", message, &detail, &connected.name);
                let settlement = Settlement {
                    due_at: Some(never()),
                    outcome: Some(detail),
                    events,
                    notices,
                    ..settled(MessageState::Unknown)
                };
                self.settle_and_tell(settlement, told).await;
            }
        }
    }

    /// Looks, where that is allowed and proves something.
    async fn find(
        self: &Arc<Self>,
        id: LaneId,
        message: &QueuedMessage,
        doubt: &Doubt,
        connected: &Connected,
        now: Timestamp,
    ) -> Found {
        let Some(graph) = connected.transport.graph.as_ref().filter(|_| connected.may_read) else {
            return Found::Blind;
        };
        if settle::is_taken_in_part(&message.envelope) {
            return Found::Blind;
        }
        let message_id = match &doubt.message_id {
            Some(known) => known.clone(),
            None => match self.outgoing_id(message, connected).await {
                Ok(Some(known)) => known,
                // Without bytes there is nothing to send again either.
                Ok(None) => return Found::Blind,
                Err(_) => return Found::Failed,
            },
        };
        let last = now >= after(doubt.since, self.settings.settle_window);
        if !self.place_to_look(id).await {
            return Found::Failed;
        }
        let found = look_at(graph, connected, &message_id, message.id.uuid(), last).await;
        let steady = self.steady();
        {
            let lane = &mut self.lock().lanes[id];
            let lesson = match &found {
                Err(GraphError::Throttled { retry_after, .. }) => Lesson::TooFast { wait: *retry_after },
                _ => Lesson::Neutral,
            };
            lane.governor.end(&Need::LOOK, lesson, steady);
            lane.hand_on();
        }
        match found {
            Ok(found) => found,
            Err(GraphError::AccessDenied(_)) => Found::Blind,
            Err(error) => {
                tracing::debug!(message = %message.id, %error, "a look into Sent Items failed");
                Found::Failed
            }
        }
    }

    /// The Message-ID that the message leaves with: its own, or the one that is made of its stamp.
    async fn outgoing_id(&self, message: &QueuedMessage, connected: &Connected) -> Result<Option<String>, StoreError> {
        if message.message_id.is_some() {
            return Ok(message.message_id.clone());
        }
        let Some(body) = self.store.message_body(message.id).await? else { return Ok(None) };
        let stamp = Stamp { id: message.id.uuid(), at: message.accepted_at };
        let from = message.envelope.from.clone().unwrap_or_else(|| connected.transport.mailbox.clone());
        let recipients = message.envelope.recipients.iter().map(|one| one.address.clone());
        let prepared = Message::parse(body).ok().zip(Envelope::new(from, recipients).ok());
        let prepared =
            prepared.and_then(|(message, envelope)| prepare(&message, &envelope, Carrier::Graph, &stamp).ok());
        Ok(prepared.map(|prepared| prepared.message_id().to_owned()))
    }

    /// A place among the requests under way, for a look.
    pub(crate) async fn place_to_look(self: &Arc<Self>, id: LaneId) -> bool {
        for _ in 0..ROOM_LOOKS {
            let steady = self.steady();
            let told = {
                let lane = &mut self.lock().lanes[id];
                (lane.governor.leave(&Need::LOOK, steady) == Leave::Granted).then(|| {
                    lane.governor.reserve(&Need::LOOK);
                    lane.enter(Way::Graph)
                })
            };
            match told {
                Some(Ok(())) => return true,
                Some(Err(told)) => return self.place_given(id, told).await,
                None if self.stop.is_cancelled() => return false,
                None => tokio::time::sleep(ROOM_LOOK).await,
            }
        }
        false
    }

    /// Waits for the place that was reserved; what does not come is given back.
    async fn place_given(&self, id: LaneId, mut told: tokio::sync::oneshot::Receiver<()>) -> bool {
        tokio::select! {
            given = tokio::time::timeout(PLACE_DEADLINE, &mut told) => if matches!(given, Ok(Ok(()))) { return true },
            () = self.stop.cancelled() => {}
        }
        // Under the lock, since places are given under it.
        let lane = &mut self.lock().lanes[id];
        told.close();
        if told.try_recv().is_ok() {
            return true;
        }
        lane.governor.give_back(&Need::LOOK);
        false
    }

    async fn look_later(&self, message: &QueuedMessage, at: Timestamp, looked: u32) {
        let now = self.clock.now();
        let doubt = Doubt::of(message, now);
        let mut outcome = message.outcome.clone().unwrap_or_else(|| json!({}));
        outcome["since"] = json!(doubt.since);
        outcome["looks"] = json!(doubt.looks + looked);
        let settlement = Settlement {
            due_at: Some(at),
            from: Some(MessageState::Unknown),
            outcome: Some(outcome),
            ..Settlement::to(message.id, message.epoch, MessageState::Unknown)
        };
        self.settle(settlement).await;
    }
}

/// A day that no timer waits for, in four digits.
fn never() -> Timestamp {
    // The last second of the year 9999 is within what a Timestamp holds.
    Timestamp::from_second(253_402_207_200).unwrap_or(Timestamp::MAX)
}

/// In Sent Items; at the end of the window in Drafts as well, where a message lies that Exchange has not sent yet.
async fn look_at(
    graph: &Graph,
    connected: &Connected,
    message_id: &str,
    stamp: uuid::Uuid,
    last: bool,
) -> Result<Found, GraphError> {
    let mailbox = &connected.transport.mailbox;
    if let Some(copy) = seen_in_sent(graph, mailbox, message_id, Some(stamp)).await? {
        return Ok(Found::Sent(copy));
    }
    if last {
        let drafts = messages::find_by_internet_message_id(graph, mailbox, Some(&Folder::Drafts), message_id).await?;
        if drafts.iter().any(|one| one.is_draft) {
            return Ok(Found::Draft);
        }
    }
    Ok(Found::Nothing)
}

#[cfg(test)]
#[path = "unknown_tests.rs"]
mod tests;
