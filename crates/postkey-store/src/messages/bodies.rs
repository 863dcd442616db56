//! Bodies of accepted messages are kept for a shorter time than what is known of them.

use jiff::Timestamp;

use crate::{MessageId, Store, StoreError, Transaction, row::milliseconds, store::delegate};

impl Transaction {
    /// Removes bodies of messages that were accepted before then, a batch at a time, and says how many; 0: no more are left.
    /// The messages and their timelines stay.
    pub async fn prune_accepted_bodies(&mut self, older_than: Timestamp) -> Result<u64, StoreError> {
        // Nothing is settled before it is accepted, and ids grow with that time: the oldest bodies come first.
        let query = sqlx::query(
            "-- message_body.prune_accepted
             DELETE FROM message_bodies WHERE id IN (
                 SELECT message_bodies.id FROM message_bodies JOIN messages ON messages.id = message_bodies.id
                 WHERE message_bodies.id < $1 AND messages.state = 'accepted' AND messages.settled_at < $2
                 ORDER BY message_bodies.id LIMIT $3
             )",
        )
        .bind(MessageId::floor(older_than))
        .bind(milliseconds(older_than))
        .bind(AT_ONCE);
        self.execute("the bodies", query).await
    }
}

impl Store {
    delegate! {
        write prune_accepted_bodies(older_than: Timestamp) -> u64;
    }
}

/// Few enough that others hardly wait.
const AT_ONCE: i64 = 100;
