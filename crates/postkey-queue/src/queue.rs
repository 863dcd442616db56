//! The queue as others hold it: started, fed, asked, shut down.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use postkey_base::{Clock, Diagnose, Who};
use postkey_store::{
    IdempotencyKey, MessageId, MessageState, NewMessage, NewMessageEvent, QueuedMessage, Store, StoreError,
};
use postkey_transport::Message;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    accept::{AcceptError, Receipt, Submission},
    engine::{Engine, STORE_BREATH},
    gauges::Gauge,
    goes_on::GoesOn,
    outbound::Outbound,
    settings::QueueSettings,
};

/// What a queue is made of.
pub struct QueueParts {
    /// Where messages are kept.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Where they go out.
    pub outbound: Arc<dyn Outbound>,
    /// How.
    pub settings: QueueSettings,
    /// This node's name: the holder of its leases. The same after a restart.
    pub node: String,
}

/// A handle on the queue, cheap to clone.
#[derive(Clone)]
pub struct Queue {
    engine: Arc<Engine>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({})", self.engine.node)
    }
}

/// Why the queue did not start.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The store did not say what waits.
    #[error("the queue could not be read")]
    Store(#[from] StoreError),
}

impl Diagnose for QueueError {
    fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Store(error) => error.remedy(),
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::Store(error) => error.who(),
        }
    }
}

impl Queue {
    /// Starts the queue: lanes that were this node's are taken again, and what waits goes on.
    pub async fn start(parts: QueueParts) -> Result<Self, QueueError> {
        let engine = Arc::new(Engine::new(parts));
        engine.read_latest().await?;
        engine.reread().await?;
        let running = Arc::clone(&engine);
        engine.spawn(running.clockwork());
        let running = Arc::clone(&engine);
        engine.spawn(running.keep_leases());
        let running = Arc::clone(&engine);
        engine.spawn(running.watch());
        let running = Arc::clone(&engine);
        engine.spawn(running.refresher());
        let running = Arc::clone(&engine);
        engine.spawn(running.tell_webhooks());
        let running = Arc::clone(&engine);
        engine.spawn(running.keep_house());
        // What waits is read beside the first submissions: with a million messages it takes a moment.
        engine.refresh.notify_one();
        let running = Arc::clone(&engine);
        engine.spawn(async move {
            while let Err(error) = running.read_unsettled().await {
                tracing::error!(%error, "what an earlier run left unsettled could not be read; trying again");
                tokio::select! {
                    () = running.stop.cancelled() => return,
                    () = tokio::time::sleep(STORE_BREATH) => {}
                }
            }
        });
        Ok(Self { engine })
    }

    /// Takes a message. `Ok` means that it is durable. Whoever stops waiting has left it to the queue all the same: what was
    /// stored goes out.
    pub async fn accept(&self, submission: Submission) -> Result<Receipt, AcceptError> {
        if self.engine.stop.is_cancelled() {
            return Err(AcceptError::Stopping);
        }
        self.room()?;
        let message = submission.message.clone();
        let new = self.describe(submission);
        let engine = Arc::clone(&self.engine);
        // No lane would know of a message that was stored when nobody waited any more.
        GoesOn::new(&self.engine.tasks, async move { engine.take_in(new, message).await }).await
    }

    fn room(&self) -> Result<(), AcceptError> {
        let engine = &self.engine;
        let read = |value: &std::sync::atomic::AtomicI64| u64::try_from(value.load(Ordering::Relaxed)).unwrap_or(0);
        for (waiting, most) in [
            (read(&engine.tally.waiting), engine.settings.most_queued),
            (read(&engine.tally.waiting_bytes), engine.settings.most_queued_bytes),
        ] {
            if let Some(most) = most.filter(|most| waiting >= *most) {
                engine.tally.refused.fetch_add(1, Ordering::Relaxed);
                return Err(AcceptError::Backlog { waiting, most });
            }
        }
        Ok(())
    }

    fn describe(&self, submission: Submission) -> NewMessage {
        let Submission {
            submitter,
            sender,
            envelope,
            message,
            priority,
            not_before,
            via,
            remote,
            idempotency_key,
            fingerprint,
            facts,
            graph_json,
        } = submission;
        let now = self.engine.clock.now();
        let mut detail = json!({ "via": via, "size": message.size() });
        if let Some(remote) = &remote {
            detail["remote"] = json!(remote);
        }
        if let serde_json::Value::Object(facts) = facts {
            detail["facts"] = json!(facts);
        }
        if let Some(not_before) = not_before {
            detail["not_before"] = json!(not_before);
        }
        let key = idempotency_key.map(|key| {
            let mut digest = Sha256::new();
            digest.update(message.raw());
            digest.update(serde_json::to_vec(&envelope).unwrap_or_default());
            digest.update(sender.to_string());
            IdempotencyKey { key, fingerprint: fingerprint.unwrap_or_else(|| digest.finalize().into()) }
        });
        NewMessage {
            id: MessageId::at(now),
            submitter,
            sender,
            envelope,
            subject: message.subject(),
            message_id: message.message_id(),
            body: message.raw().clone(),
            priority,
            due_at: not_before,
            via,
            remote,
            idempotency_key: key,
            events: vec![NewMessageEvent { kind: "queued", detail }],
            accepted_at: now,
            graph_json,
        }
    }

    /// Whether a sender was noticed: a new one takes a moment.
    pub fn knows_sender(&self, sender: postkey_store::SenderId) -> bool {
        self.engine.facts(sender).is_some()
    }

    /// Holds that are in force here: a new one of another process takes a moment.
    pub fn holds(&self) -> usize {
        self.engine.lock().holds.count()
    }

    /// Numbers about it, as of now.
    pub async fn gauges(&self) -> Vec<Gauge> {
        self.engine.gauges().await
    }

    /// Begins nothing more, waits at most `within` for what is under way, and writes down what became of it.
    pub async fn shutdown(&self, within: Duration) {
        let engine = &self.engine;
        engine.stop.cancel();
        engine.tasks.close();
        if tokio::time::timeout(within.max(SHORTEST_GOODBYE), engine.tasks.wait()).await.is_err() {
            let left = engine.lock().in_hand;
            tracing::warn!(
                left,
                "attempts were still under way when time was up; the next start looks what became of them"
            );
        }
        engine.release_lanes().await;
        engine.commit.shutdown().await;
    }
}

impl Engine {
    /// Stores a message and lets its lane have it.
    async fn take_in(self: &Arc<Self>, new: NewMessage, message: Message) -> Result<Receipt, AcceptError> {
        let queued = queued(&new);
        match self.commit.accept(new).await {
            Ok(accepted) => {
                if !accepted.repeated {
                    self.tally.taken_in.fetch_add(1, Ordering::Relaxed);
                    self.offer(queued, message);
                }
                Ok(Receipt { id: accepted.id, repeated: accepted.repeated })
            }
            Err(error) => {
                self.tally.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, at = %queued.accepted_at, "a message could not be stored, and was not accepted");
                Err(match error {
                    StoreError::KeyReused { .. } => AcceptError::KeyReused,
                    error => AcceptError::Store(error),
                })
            }
        }
    }
}

/// A message as the store will show it.
pub(crate) fn queued(new: &NewMessage) -> QueuedMessage {
    QueuedMessage {
        id: new.id,
        submitter: new.submitter,
        sender: new.sender,
        envelope: new.envelope.clone(),
        size: new.body.len() as u64,
        subject: None,
        message_id: new.message_id.clone(),
        priority: new.priority,
        state: MessageState::Queued,
        due_at: new.due_at.unwrap_or(new.accepted_at),
        attempts: 0,
        via: new.via,
        remote: None,
        accepted_at: new.accepted_at,
        settled_at: None,
        epoch: 0,
        outcome: None,
        graph_json: new.graph_json,
    }
}

/// What the queue's own loops need to notice that it stops.
const SHORTEST_GOODBYE: Duration = Duration::from_millis(250);
