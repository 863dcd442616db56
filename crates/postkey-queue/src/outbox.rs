//! What the command line and the API share: looking at messages, and sending again, withdrawing or taking them out.
//! Works on the store alone, whether or not a server runs.

use bytes::Bytes;
use postkey_base::Clock;
use postkey_store::{Hold, MessageEvent, MessageFilter, MessageId, QueuedMessage, Store, StoreError};
use serde::Serialize;

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
        let _ = (filter, &self.store, &self.clock);
        todo!()
    }

    /// One message with its timeline; `None` if there is none.
    pub async fn show(&self, id: MessageId) -> Result<Option<Shown>, StoreError> {
        let _ = id;
        todo!()
    }

    /// Sends messages again that failed, wait, were withdrawn or whose outcome is unknown. Gives those that were changed.
    pub async fn retry(&self, ids: &[MessageId], by: &str) -> Result<Vec<MessageId>, StoreError> {
        let _ = (ids, by);
        todo!()
    }

    /// Withdraws messages that have not left. Gives those that were.
    pub async fn cancel(&self, ids: &[MessageId], by: &str) -> Result<Vec<MessageId>, StoreError> {
        let _ = (ids, by);
        todo!()
    }

    /// The bytes as they were taken in; `None` once they are not kept any more.
    pub async fn export(&self, id: MessageId) -> Result<Option<Bytes>, StoreError> {
        let _ = id;
        todo!()
    }
}
