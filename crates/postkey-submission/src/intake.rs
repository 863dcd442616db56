//! Where an admitted message goes: the queue, or what stands for it in a test.

use postkey_queue::{AcceptError, BoxFuture, Queue, Receipt, Submission};

/// Takes messages for good.
pub trait Intake: Send + Sync + 'static {
    /// Answers once the message is durable, or is not taken at all.
    fn accept(&self, submission: Submission) -> BoxFuture<'_, Result<Receipt, AcceptError>>;
}

impl Intake for Queue {
    fn accept(&self, submission: Submission) -> BoxFuture<'_, Result<Receipt, AcceptError>> {
        Box::pin(Queue::accept(self, submission))
    }
}
