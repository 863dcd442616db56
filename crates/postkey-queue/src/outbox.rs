//! What the command line and the API share: looking at messages, and sending again, withdrawing or taking them out.
//! Works on the store alone, whether or not a server runs.

use std::collections::HashMap;

use bytes::Bytes;
use jiff::Timestamp;
use postkey_base::Clock;
use postkey_store::{
    Hold, HoldCause, HoldScope, MessageEvent, MessageFilter, MessageId, MessageState, NewMessageEvent, QueuedMessage,
    RecipientOutcome, RecipientState, Sender, SenderId, Store, StoreError,
};
use serde::Serialize;
use serde_json::json;

use crate::holds::is_on;

/// The messages of a store.
#[derive(Debug, Clone)]
pub struct Outbox {
    store: Store,
    clock: Clock,
}

/// How a message is shown: its state, and two that follow from other rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ShownState {
    /// Waits for its turn.
    Queued,
    /// Waits for the time it was given.
    Scheduled,
    /// Its sender, app, tenant, submitter or a recipient's domain is held.
    Held,
    /// On its way out.
    Sending,
    /// Will be tried again later.
    Deferred,
    /// Nobody knows whether it went out.
    Unknown,
    /// Exchange Online has it.
    Accepted,
    /// It will not go out by itself.
    Failed,
    /// Somebody withdrew it.
    Cancelled,
}

/// A message in a list.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// The message.
    pub message: QueuedMessage,
    /// Where it stands.
    pub shown: ShownState,
    /// What holds it.
    pub because: Option<Hold>,
}

/// A message with its timeline.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// The message and where it stands.
    #[serde(flatten)]
    pub listed: Listed,
    /// What happened to it, oldest first.
    pub events: Vec<MessageEvent>,
    /// Whether its bytes are still kept.
    pub has_body: bool,
}

impl Outbox {
    /// The outbox of a store.
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// The messages that match, newest first.
    pub async fn list(&self, filter: &MessageFilter) -> Result<Vec<Listed>, StoreError> {
        let messages = self.store.search_messages(filter).await?;
        let view = self.view(messages.iter().any(|message| waits(message.state))).await?;
        Ok(messages.into_iter().map(|message| view.listed(message)).collect())
    }

    /// The messages that match and are shown so, newest first. Looks through at most [`PAGES`] pages of what matches
    /// otherwise: `held` and `scheduled` are no states of the store.
    pub async fn list_shown(&self, filter: &MessageFilter, shown: ShownState) -> Result<Vec<Listed>, StoreError> {
        let wanted =
            if filter.limit == 0 { MessageFilter::MOST } else { filter.limit.min(MessageFilter::MOST) } as usize;
        let mut found = Vec::new();
        for state in shown.states() {
            let mut page = MessageFilter { state: Some(*state), limit: MessageFilter::MOST, ..filter.clone() };
            for _ in 0..PAGES {
                let listed = self.list(&page).await?;
                let full = listed.len() == MessageFilter::MOST as usize;
                page.before = listed.last().map(|last| last.message.id);
                found.extend(listed.into_iter().filter(|one| one.shown == shown));
                if !full || found.len() >= wanted {
                    break;
                }
            }
        }
        found.sort_by_key(|one| std::cmp::Reverse(one.message.id));
        found.truncate(wanted);
        Ok(found)
    }

    /// One message with its timeline; `None` if there is none.
    pub async fn show(&self, id: MessageId) -> Result<Option<Shown>, StoreError> {
        let Some(message) = self.store.message(id).await? else { return Ok(None) };
        let view = self.view(waits(message.state)).await?;
        let events = self.store.message_events(id).await?;
        let has_body = self.store.message_body(id).await?.is_some();
        Ok(Some(Shown { listed: view.listed(message), events, has_body }))
    }

    /// Sends messages again that failed, wait, were withdrawn or whose outcome is unknown. Gives those that were changed:
    /// not those that are on their way, were accepted, or whose bytes are not kept any more.
    pub async fn retry(&self, ids: &[MessageId], by: &str) -> Result<Vec<MessageId>, StoreError> {
        let mut changed = Vec::new();
        for &id in ids {
            let by = by.to_owned();
            let again = self.store.transaction("outbox.retry", async move |transaction| {
                let Some(message) = transaction.message(id).await? else { return Ok(false) };
                if transaction.message_body(id).await?.is_none() {
                    return Ok(false);
                }
                let event = NewMessageEvent {
                    kind: "retried",
                    detail: json!({ "by": by, "was": message.state, "possible_duplicate": message.state == MessageState::Unknown }),
                };
                if message.state == MessageState::Queued {
                    // Its time comes now.
                    let now = transaction.now();
                    return transaction.reschedule_message(id, now, &event).await;
                }
                if !transaction.requeue_message(id, &event).await? {
                    return Ok(false);
                }
                let mut envelope = message.envelope.clone();
                for recipient in &mut envelope.recipients {
                    // Whoever has it does not get it again.
                    let has_it = |outcome: &RecipientOutcome| outcome.state == RecipientState::Accepted;
                    recipient.outcome = recipient.outcome.take().filter(has_it);
                }
                if envelope != message.envelope {
                    let event = NewMessageEvent { kind: "recipients_reopened", detail: json!({ "by": by }) };
                    transaction.redirect_message(id, message.sender, &envelope, &event).await?;
                }
                Ok(true)
            });
            if again.await? {
                changed.push(id);
            }
        }
        Ok(changed)
    }

    /// Withdraws messages that have not left. Gives those that were.
    pub async fn cancel(&self, ids: &[MessageId], by: &str) -> Result<Vec<MessageId>, StoreError> {
        let mut changed = Vec::new();
        for &id in ids {
            let event = NewMessageEvent { kind: "cancelled", detail: json!({ "by": by }) };
            if self.store.cancel_message(id, &event).await? {
                changed.push(id);
            }
        }
        Ok(changed)
    }

    /// Gives a message that has not left another sender. `false`: it has left, or is leaving.
    pub async fn redirect(&self, id: MessageId, sender: SenderId, by: &str) -> Result<bool, StoreError> {
        let by = by.to_owned();
        let redirected = self.store.transaction("outbox.redirect", async move |transaction| {
            let Some(message) = transaction.message(id).await? else { return Ok(false) };
            let event = NewMessageEvent {
                kind: "redirected",
                detail: json!({ "by": by, "was": message.sender, "sender": sender }),
            };
            transaction.redirect_message(id, sender, &message.envelope, &event).await
        });
        redirected.await
    }

    /// The bytes as they were taken in; `None` once they are not kept any more.
    pub async fn export(&self, id: MessageId) -> Result<Option<Bytes>, StoreError> {
        self.store.message_body(id).await
    }

    /// Holds what goes out under `scope` until `until`, or until somebody resumes it.
    pub async fn pause(
        &self,
        scope: HoldScope,
        reason: &str,
        until: Option<Timestamp>,
        by: &str,
    ) -> Result<Hold, StoreError> {
        let hold = Hold {
            scope,
            cause: HoldCause::Paused,
            class: None,
            code: None,
            reason: reason.to_owned(),
            remedy: None,
            who: None,
            since: self.clock.now(),
            until,
            by: Some(by.to_owned()),
        };
        self.store.put_hold(&hold).await?;
        Ok(hold)
    }

    /// Ends a pause, and an outage: what was held is tried at once. `false`: nothing held it.
    pub async fn resume(&self, scope: &HoldScope) -> Result<bool, StoreError> {
        let paused = self.store.lift_hold(scope, HoldCause::Paused).await?;
        let out = self.store.lift_hold(scope, HoldCause::Outage).await?;
        Ok(paused || out)
    }

    async fn view(&self, needs_holds: bool) -> Result<View, StoreError> {
        let now = self.clock.now();
        let holds = if needs_holds { self.store.holds().await? } else { Vec::new() };
        let holds: Vec<_> = holds.into_iter().filter(|hold| is_on(hold, now)).collect();
        let senders = if holds.is_empty() { Vec::new() } else { self.store.senders().await? };
        Ok(View { holds, senders: senders.into_iter().map(|sender| (sender.id, sender)).collect(), now })
    }
}

impl ShownState {
    /// The states of the store that may be shown so.
    fn states(self) -> &'static [MessageState] {
        match self {
            Self::Queued | Self::Scheduled => &[MessageState::Queued],
            Self::Held => &[MessageState::Queued, MessageState::Deferred],
            Self::Sending => &[MessageState::Sending],
            Self::Deferred => &[MessageState::Deferred],
            Self::Unknown => &[MessageState::Unknown],
            Self::Accepted => &[MessageState::Accepted],
            Self::Failed => &[MessageState::Failed],
            Self::Cancelled => &[MessageState::Cancelled],
        }
    }
}

/// What decides how messages are shown.
struct View {
    holds: Vec<Hold>,
    senders: HashMap<SenderId, Sender>,
    now: Timestamp,
}

impl View {
    fn listed(&self, message: QueuedMessage) -> Listed {
        let because = if waits(message.state) { self.over(&message).cloned() } else { None };
        let shown = match message.state {
            _ if because.is_some() => ShownState::Held,
            MessageState::Queued if message.due_at > self.now => ShownState::Scheduled,
            MessageState::Queued => ShownState::Queued,
            MessageState::Sending => ShownState::Sending,
            MessageState::Deferred => ShownState::Deferred,
            MessageState::Unknown => ShownState::Unknown,
            MessageState::Accepted => ShownState::Accepted,
            MessageState::Failed => ShownState::Failed,
            MessageState::Cancelled => ShownState::Cancelled,
        };
        Listed { message, shown, because }
    }

    fn over(&self, message: &QueuedMessage) -> Option<&Hold> {
        let sender = self.senders.get(&message.sender).map(|sender| &sender.values);
        self.holds.iter().find(|hold| match &hold.scope {
            HoldScope::Sender(id) => *id == message.sender,
            HoldScope::App(id) => sender.is_some_and(|values| values.app == Some(*id)),
            HoldScope::Tenant(id) => sender.is_some_and(|values| values.tenant == Some(*id)),
            HoldScope::Submitter(id) => message.submitter == Some(*id),
            HoldScope::Domain(name) => {
                message.envelope.recipients.iter().any(|one| one.address.domain().eq_ignore_ascii_case(name))
            }
        })
    }
}

/// Only what waits can be held.
fn waits(state: MessageState) -> bool {
    matches!(state, MessageState::Queued | MessageState::Deferred)
}

/// Pages of the store that one list looks through.
const PAGES: usize = 20;
