//! Telling the sender of a message: a notification is made, put into the queue of a sender that works, and noted on the
//! timeline of what it is about.

use std::{sync::Arc, time::Duration};

use postkey_store::{
    IdempotencyKey, MessageId, MessageState, NewMessage, NewMessageEvent, Priority, QueuedEnvelope, QueuedMessage,
    QueuedRecipient, SenderId, Via,
};
use postkey_transport::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    dsn::{Dsn, Telling, told_of},
    engine::Engine,
    queue::queued,
    schedule::after,
    settle::{self, Decision},
};

/// A store that fails is asked again; then the notification is given up and the timeline says so.
const ATTEMPTS: u32 = 3;

impl Engine {
    /// What a decision means for whoever submitted the message. Gives lines for its timeline.
    pub(crate) async fn tell_sender(
        self: &Arc<Self>,
        message: &QueuedMessage,
        decision: &Decision,
        bytes: Option<&Message>,
    ) -> Vec<NewMessageEvent> {
        let mut events = Vec::new();
        let why = why(&decision.detail);
        if !decision.failed.is_empty() {
            events.extend(self.tell(message, Telling::Failure, &decision.failed, bytes, why.as_deref()).await);
        }
        if decision.to == MessageState::Accepted && !decision.taken.is_empty() {
            events.extend(self.tell(message, Telling::Relayed, &decision.taken, bytes, None).await);
        }
        if decision.newly_late {
            let envelope = decision.envelope.as_ref().unwrap_or(&message.envelope);
            let open: Vec<_> = envelope.recipients.iter().filter(|one| settle::is_open(one)).cloned().collect();
            events.extend(self.tell(message, Telling::Delay, &open, bytes, why.as_deref()).await);
        }
        events
    }

    /// It was given up after its outcome had been unknown.
    pub(crate) async fn tell_of_failure(
        self: &Arc<Self>,
        message: &QueuedMessage,
        detail: &Value,
        bytes: Option<&Message>,
    ) -> Vec<NewMessageEvent> {
        let open: Vec<_> = message.envelope.recipients.iter().filter(|one| settle::is_open(one)).cloned().collect();
        self.tell(message, Telling::Failure, &open, bytes, why(detail).as_deref()).await
    }

    /// Its outcome stays unknown.
    pub(crate) async fn tell_of_doubt(
        self: &Arc<Self>,
        message: &QueuedMessage,
        detail: &Value,
    ) -> Vec<NewMessageEvent> {
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
    ) -> Vec<NewMessageEvent> {
        let recipients = told_of(telling, message, recipients);
        let Some(to) = message.envelope.from.clone().filter(|_| !recipients.is_empty()) else { return Vec::new() };
        let Some((sender, from, works)) = self.sender_that_works(message.sender) else { return Vec::new() };
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
        let Ok(parsed) = Message::parse(text) else { return Vec::new() };
        // The same attempt tells once, even if a crash lets it be settled twice.
        let key = format!("dsn/{}/{}/{}", telling.word(), message.id, message.attempts);
        let fingerprint = Sha256::digest(key.as_bytes()).into();
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
            idempotency_key: Some(IdempotencyKey { key, fingerprint }),
            events: vec![NewMessageEvent {
                kind: "queued",
                detail: json!({ "about": message.id, "tells": telling.word() }),
            }],
            accepted_at: now,
            graph_json: false,
        };
        let mut wait = Duration::from_millis(200);
        for _ in 0..ATTEMPTS {
            match self.commit.accept(new.clone()).await {
                Ok(accepted) => {
                    if !accepted.repeated {
                        self.offer(queued(&new), parsed.clone());
                    }
                    let mut detail =
                        json!({ "tells": telling.word(), "to": to, "message": accepted.id, "sender": sender });
                    if !works {
                        detail["pending"] = json!("no sender of this tenant can send now: it waits with the others");
                    }
                    return vec![NewMessageEvent { kind: "notification", detail }];
                }
                Err(error) => {
                    tracing::warn!(about = %message.id, %error, "a notification could not be stored");
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
            }
        }
        let detail = json!({ "tells": telling.word(), "to": to, "text": "the notification could not be stored" });
        vec![NewMessageEvent { kind: "notification_lost", detail }]
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
