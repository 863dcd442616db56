//! The queue as others hold it: started, fed, asked, shut down.

use std::{sync::Arc, time::Duration};

use postkey_base::{Clock, Diagnose, Who};
use postkey_store::{Store, StoreError};

use crate::{
    accept::{AcceptError, Receipt, Submission},
    gauges::Gauge,
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
    pub(crate) engine: Arc<()>,
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
        let _ = parts;
        todo!()
    }

    /// Takes a message. `Ok` means that it is durable.
    pub async fn accept(&self, submission: Submission) -> Result<Receipt, AcceptError> {
        let _ = submission;
        todo!()
    }

    /// Numbers about it, as of now.
    pub async fn gauges(&self) -> Vec<Gauge> {
        todo!()
    }

    /// Begins nothing more, waits at most `within` for what is under way, and writes down what became of it.
    pub async fn shutdown(&self, within: Duration) {
        let _ = within;
        todo!()
    }
}
