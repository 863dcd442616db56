//! The queue's hot path: one writer that commits what many callers wait for, in one transaction after the other.

mod checkpoint;
mod group;
mod script;
mod statement;
mod write;
mod writer;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::{MessageId, MessageState, NewMessage, NewMessageEvent, NewNotice, QueuedEnvelope, Store, StoreError};

/// A handle on the writer, cheap to clone.
#[derive(Debug, Clone)]
pub struct GroupCommit {
    jobs: mpsc::Sender<Job>,
}

/// A message was accepted, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its id; of a repetition, the first one's.
    pub id: MessageId,
    /// Whether it was accepted before under the same idempotency key.
    pub repeated: bool,
}

/// What became of an attempt, or of a message whose outcome was unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Which message.
    pub id: MessageId,
    /// The epoch under which the attempt began: a message that another has taken over since is left alone.
    pub epoch: i64,
    /// Its new state.
    pub to: MessageState,
    /// Only if it is in this state still; `None`: in any that is open.
    pub from: Option<MessageState>,
    /// When the next thing is to happen; `None` leaves it.
    pub due_at: Option<Timestamp>,
    /// Whether the attempt counts: 0 or 1.
    pub attempts_delta: u32,
    /// The outcome, in the queue's words; `None` leaves the last one.
    pub outcome: Option<Value>,
    /// The envelope with what is known of each recipient now; `None` leaves it.
    pub envelope: Option<QueuedEnvelope>,
    /// Lines of the timeline.
    pub events: Vec<NewMessageEvent>,
    /// Recipients that the far end took: counted against the sender's 24 hours.
    pub recipients_sent: u32,
    /// What webhooks are to be told.
    pub notices: Vec<NewNotice>,
    /// Messages of our own that follow from it: a delivery status notification is accepted in the commit that says why.
    pub messages: Vec<NewMessage>,
}

impl Settlement {
    /// A settlement that changes nothing but the state.
    pub fn to(id: MessageId, epoch: i64, to: MessageState) -> Self {
        Self {
            id,
            epoch,
            to,
            from: None,
            due_at: None,
            attempts_delta: 0,
            outcome: None,
            envelope: None,
            events: Vec::new(),
            recipients_sent: 0,
            notices: Vec::new(),
            messages: Vec::new(),
        }
    }
}

enum Job {
    Accept(Box<NewMessage>, Reply<Accepted>),
    Begin(Begin, Reply<bool>),
    Settle(Box<Settlement>, Reply<()>),
    Stop(oneshot::Sender<()>),
}

struct Begin {
    id: MessageId,
    epoch: i64,
    event: NewMessageEvent,
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

impl GroupCommit {
    /// Starts the writer's task; call it within a runtime.
    pub fn start(store: Store) -> Self {
        let (jobs, waiting) = mpsc::channel(MOST_WAITING);
        tokio::spawn(writer::run(store, waiting));
        Self { jobs }
    }

    /// Accepts a message: `Ok` means that it is on the disk with its body and the beginning of its timeline. Under a known
    /// idempotency key nothing is stored: the same fingerprint gives the first one's id, another [`StoreError::KeyReused`].
    pub async fn accept(&self, message: NewMessage) -> Result<Accepted, StoreError> {
        self.ask(|reply| Job::Accept(Box::new(message), reply)).await
    }

    /// Marks a message as being sent, before it is: one that is queued or deferred. `false`: it is in another state, because
    /// somebody cancelled it or another has it; what is unknown is queued again first.
    pub async fn begin_attempt(&self, id: MessageId, epoch: i64, event: NewMessageEvent) -> Result<bool, StoreError> {
        self.ask(|reply| Job::Begin(Begin { id, epoch, event }, reply)).await
    }

    /// Writes what became of an attempt. [`StoreError::Changed`] if the message is not of that epoch any more, or was settled.
    pub async fn settle(&self, settlement: Settlement) -> Result<(), StoreError> {
        self.ask(|reply| Job::Settle(Box::new(settlement), reply)).await
    }

    /// Commits what waits already and ends the task; what is asked for later is [`StoreError::NotAllowed`].
    pub async fn shutdown(&self) {
        let (stopped, wait) = oneshot::channel();
        if self.jobs.send(Job::Stop(stopped)).await.is_ok() {
            // The task ended without an answer: it has stopped all the same.
            let _ = wait.await;
        }
    }

    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> StoreError {
    StoreError::NotAllowed { what: "the queue's writer has stopped: nothing more can be written".into() }
}

/// More callers than this wait before the channel.
const MOST_WAITING: usize = 1024;
