//! Telling the sender of a message: a notification is made, put into the queue of a sender that works, and noted on the
//! timeline of what it is about.

use std::sync::Arc;

use postkey_store::{
    MessageId, MessageState, NewMessage, NewMessageEvent, Priority, QueuedEnvelope, QueuedMessage, QueuedRecipient,
    SenderId, Settlement, Via,
};
use postkey_transport::Message;
use serde_json::{Value, json};

use crate::{
    dsn::{Dsn, Telling, told_of},
    engine::Engine,
    queue::queued,
    schedule::after,
    settle::{self, Decision},
};

/// What the sender is told, and what the timeline says of it. All of it belongs into the commit that settles the message: then
/// nobody is told twice of one attempt, and nothing that was settled goes untold.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Lines for the timeline of what it is about.
    pub(crate) events: Vec<NewMessageEvent>,
    /// The notifications, as they are stored and as their lanes take them.
    notifications: Vec<(NewMessage, Message)>,
}

impl Told {
    fn and(mut self, more: Self) -> Self {
        self.events.extend(more.events);
        self.notifications.extend(more.notifications);
        self
    }

    /// What is to be stored.
    pub(crate) fn messages(&self) -> Vec<NewMessage> {
        self.notifications.iter().map(|(new, _)| new.clone()).collect()
    }
}

impl Engine {
    /// What a decision means for whoever submitted the message.
    pub(crate) async fn tell_sender(
        self: &Arc<Self>,
        message: &QueuedMessage,
        decision: &Decision,
        bytes: Option<&Message>,
    ) -> Told {
        let mut told = Told::default();
        let why = why(&decision.detail);
        if !decision.failed.is_empty() {
            told = told.and(self.tell(message, Telling::Failure, &decision.failed, bytes, why.as_deref()).await);
        }
        if decision.to == MessageState::Accepted && !decision.taken.is_empty() {
            told = told.and(self.tell(message, Telling::Relayed, &decision.taken, bytes, None).await);
        }
        if decision.newly_late {
            let envelope = decision.envelope.as_ref().unwrap_or(&message.envelope);
            let open: Vec<_> = envelope.recipients.iter().filter(|one| settle::is_open(one)).cloned().collect();
            told = told.and(self.tell(message, Telling::Delay, &open, bytes, why.as_deref()).await);
        }
        told
    }

    /// It was given up after its outcome had been unknown.
    pub(crate) async fn tell_of_failure(
        self: &Arc<Self>,
        message: &QueuedMessage,
        detail: &Value,
        bytes: Option<&Message>,
    ) -> Told {
        let open: Vec<_> = message.envelope.recipients.iter().filter(|one| settle::is_open(one)).cloned().collect();
        self.tell(message, Telling::Failure, &open, bytes, why(detail).as_deref()).await
    }

    /// Its outcome stays unknown.
    pub(crate) async fn tell_of_doubt(self: &Arc<Self>, message: &QueuedMessage, detail: &Value) -> Told {
        let open: Vec<_> = message.envelope.recipients.iter().filter(|one| settle::is_open(one)).cloned().collect();
        self.tell(message, Telling::Doubt, &open, None, why(detail).as_deref()).await
    }

    async fn tell(
        self: &Arc<Self>,
        message: &QueuedMessage,
        telling: Telling,
        recipients: &[QueuedRecipient],
        bytes: Option<&Message>,
        why: Option<&str>,
    ) -> Told {
        let recipients = told_of(telling, message, recipients);
        let Some(to) = message.envelope.from.clone().filter(|_| !recipients.is_empty()) else { return Told::default() };
        let Some((sender, from, works)) = self.sender_that_works(message.sender) else { return Told::default() };
        let now = self.clock.now();
        let stored;
        let original = match bytes {
            Some(bytes) => Some(bytes),
            None => {
                let body = self.store.message_body(message.id).await.ok().flatten();
                stored = body.and_then(|body| Message::parse(body).ok());
                stored.as_ref()
            }
        };
        let id = MessageId::at(now);
        let text = Dsn {
            telling,
            message,
            recipients: &recipients,
            original,
            from: &from,
            to: &to,
            why,
            host_name: &self.settings.host_name,
            until: Some(after(message.accepted_at, self.settings.give_up_after)),
            now,
            id: id.uuid(),
        }
        .write();
        let Ok(parsed) = Message::parse(text) else { return Told::default() };
        let new = NewMessage {
            id,
            submitter: None,
            sender,
            envelope: QueuedEnvelope {
                from: None,
                recipients: vec![QueuedRecipient::new(to.clone())],
                ret: None,
                envid: None,
            },
            subject: parsed.subject(),
            message_id: parsed.message_id(),
            body: parsed.raw().clone(),
            priority: Priority::Normal,
            due_at: None,
            via: Via::Own,
            remote: None,
            idempotency_key: None,
            events: vec![NewMessageEvent {
                kind: "queued",
                detail: json!({ "about": message.id, "tells": telling.word() }),
            }],
            accepted_at: now,
            graph_json: false,
        };
        let mut detail = json!({ "tells": telling.word(), "to": to, "message": id, "sender": sender });
        if !works {
            detail["pending"] = json!("no sender of this tenant can send now: it waits with the others");
        }
        let events = vec![NewMessageEvent { kind: "notification", detail }];
        Told { events, notifications: vec![(new, parsed)] }
    }

    /// Settles a message together with what its sender is told, and lets the notifications go.
    pub(crate) async fn settle_and_tell(self: &Arc<Self>, settlement: Settlement, told: Told) {
        if self.settle(Settlement { messages: told.messages(), ..settlement }).await {
            for (new, parsed) in told.notifications {
                self.offer(queued(&new), parsed);
            }
        } else if !told.notifications.is_empty() {
            // An answer that did not come back from the store: they may be there.
            self.refresh.notify_one();
        }
    }

    /// The same sender if its lane works, else another of its tenant that does, else the same; with its mailbox.
    fn sender_that_works(&self, first: SenderId) -> Option<(SenderId, postkey_base::EmailAddress, bool)> {
        let now = self.clock.now();
        let state = self.lock();
        let works = |id: SenderId| {
            state
                .senders
                .get(&id)
                .is_some_and(|facts| facts.lane.is_some() && state.holds.over(id, facts, None, now).is_none())
        };
        let of_first = state.senders.get(&first)?;
        let found = if works(first) {
            Some(first)
        } else {
            let mut others: Vec<_> = state
                .senders
                .iter()
                .filter(|(id, facts)| facts.tenant == of_first.tenant && works(**id))
                .map(|(id, facts)| (facts.name.clone(), *id))
                .collect();
            others.sort();
            others.into_iter().next().map(|(_, id)| id)
        };
        let id = found.unwrap_or(first);
        let mailbox = state.senders.get(&id)?.lane.as_ref()?.mailbox.clone();
        Some((id, mailbox, found.is_some()))
    }
}

/// What a person reads: what happened, why, and what to do.
fn why(detail: &Value) -> Option<String> {
    let said = |name: &str| detail["diagnosis"][name].as_str().map(str::to_owned);
    let parts: Vec<_> = ["what", "why", "remedy"].into_iter().filter_map(said).collect();
    (!parts.is_empty()).then(|| parts.join("\r\n"))
}
