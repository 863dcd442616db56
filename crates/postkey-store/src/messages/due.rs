//! What the queue asks for: which messages are to be tried now.

use jiff::Timestamp;

use crate::{
    Priority, QueuedMessage, SenderId, Store, StoreError, SubmitterId, Transaction, Waiting,
    messages::{submitter_key, submitter_of},
    row::milliseconds,
    store::delegate,
};

impl Transaction {
    /// Messages of a sender that are due, highest priority first, then by due time: at most `limit`, and never more than
    /// [`MOST_DUE`]. `submitter`: only those of this one (`Some(None)`: our own); `None`: of all.
    pub async fn due_messages(
        &mut self,
        sender: SenderId,
        submitter: Option<Option<SubmitterId>>,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<QueuedMessage>, StoreError> {
        let limit = limit.min(MOST_DUE) as usize;
        let submitters = match submitter {
            Some(one) => vec![one],
            None => self.submitters_waiting(sender).await?,
        };
        let mut due = Vec::new();
        for priority in [Priority::High, Priority::Normal, Priority::Low] {
            let mut found = Vec::new();
            for submitter in &submitters {
                found.extend(self.due_of(sender, *submitter, priority, now, limit - due.len()).await?);
            }
            found.sort_by_key(|message| (message.due_at, message.id));
            found.truncate(limit - due.len());
            due.append(&mut found);
            if due.len() >= limit {
                break;
            }
        }
        Ok(due)
    }

    // SQLite uses a partial index only where the query repeats its condition word by word.

    /// Messages of a sender whose outcome is unknown and that are due for another look.
    pub async fn unknown_due(
        &mut self,
        sender: SenderId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<QueuedMessage>, StoreError> {
        let query = sqlx::query(
            "-- message.unknown_due
             SELECT id, sender_id, submitter_id, priority, state, due_at, attempts, epoch, size, accepted_at, settled_at,
                    via, remote, graph_json, subject, message_id, outcome, envelope
             FROM messages
             WHERE state IN ('sending', 'deferred', 'unknown', 'failed', 'cancelled') AND state = 'unknown'
                   AND sender_id = $1 AND due_at <= $2
             ORDER BY due_at, id LIMIT $3",
        )
        .bind(sender.to_string())
        .bind(milliseconds(now))
        .bind(i64::from(limit.min(MOST_DUE)));
        self.fetch_all("messages", "id", query).await?.into_iter().map(QueuedMessage::try_from).collect()
    }

    /// Messages of a sender whose attempt began under an older epoch: whoever made it is gone. At most [`MOST_DUE`].
    pub async fn sending_before(&mut self, sender: SenderId, epoch: i64) -> Result<Vec<QueuedMessage>, StoreError> {
        let query = sqlx::query(
            "-- message.sending_before
             SELECT id, sender_id, submitter_id, priority, state, due_at, attempts, epoch, size, accepted_at, settled_at,
                    via, remote, graph_json, subject, message_id, outcome, envelope
             FROM messages
             WHERE state IN ('sending', 'deferred', 'unknown', 'failed', 'cancelled') AND state = 'sending'
                   AND sender_id = $1 AND epoch < $2
             ORDER BY due_at, id LIMIT $3",
        )
        .bind(sender.to_string())
        .bind(epoch)
        .bind(i64::from(MOST_DUE));
        self.fetch_all("messages", "id", query).await?.into_iter().map(QueuedMessage::try_from).collect()
    }

    /// When the next message whose outcome is unknown is due for a look, of a sender.
    pub async fn next_unknown(&mut self, sender: SenderId) -> Result<Option<Timestamp>, StoreError> {
        let query = sqlx::query(
            "-- message.next_unknown
             SELECT id, due_at FROM messages
             WHERE state IN ('sending', 'deferred', 'unknown', 'failed', 'cancelled') AND state = 'unknown'
                   AND sender_id = $1
             ORDER BY due_at, id LIMIT 1",
        )
        .bind(sender.to_string());
        self.fetch_optional("messages", "id", query).await?.map(|row| row.time("due_at")).transpose()
    }

    /// Fills in what the counters do not tell.
    pub(crate) async fn look_at_due(&mut self, waiting: &mut Waiting) -> Result<(), StoreError> {
        let now = self.now();
        // One question for each of the three priorities, because the index is in the order of these first.
        let query = sqlx::query(
            "-- message.waiting
             SELECT (SELECT due_at FROM messages
                     WHERE state IN ('queued', 'deferred') AND sender_id = $1 AND submitter_id = $2 AND priority = level
                     ORDER BY due_at LIMIT 1) AS first_due,
                    (SELECT due_at FROM messages
                     WHERE state IN ('queued', 'deferred') AND sender_id = $1 AND submitter_id = $2 AND priority = level
                           AND due_at > $3
                     ORDER BY due_at LIMIT 1) AS next_due,
                    (SELECT COUNT(*) FROM (
                         SELECT id FROM messages
                         WHERE state IN ('queued', 'deferred') AND sender_id = $1 AND submitter_id = $2
                               AND priority = level AND due_at <= $3
                         LIMIT $4
                     ) AS counted) AS due,
                    level
             FROM (SELECT 1 AS level UNION ALL SELECT 0 UNION ALL SELECT -1) AS levels",
        )
        .bind(waiting.sender.to_string())
        .bind(submitter_key(waiting.submitter))
        .bind(milliseconds(now))
        .bind(i64::try_from(Waiting::DUE_COUNTED).unwrap_or(i64::MAX));
        let rows = self.fetch_all("messages", "level", query).await?;
        let (mut oldest, mut next) = (Vec::new(), Vec::new());
        for row in rows {
            oldest.extend(row.optional_time("first_due")?);
            next.extend(row.optional_time("next_due")?);
            waiting.due += u64::try_from(row.number("due")?).map_err(|error| row.nonsense("due", error))?;
        }
        waiting.due = waiting.due.min(Waiting::DUE_COUNTED);
        waiting.oldest = oldest.into_iter().min().unwrap_or(now);
        waiting.next_due = next.into_iter().min();
        Ok(())
    }

    async fn due_of(
        &mut self,
        sender: SenderId,
        submitter: Option<SubmitterId>,
        priority: Priority,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<QueuedMessage>, StoreError> {
        let query = sqlx::query(
            "-- message.due
             SELECT id, sender_id, submitter_id, priority, state, due_at, attempts, epoch, size, accepted_at, settled_at,
                    via, remote, graph_json, subject, message_id, outcome, envelope
             FROM messages
             WHERE state IN ('queued', 'deferred') AND sender_id = $1 AND submitter_id = $2 AND priority = $3
                   AND due_at <= $4
             ORDER BY due_at, id LIMIT $5",
        )
        .bind(sender.to_string())
        .bind(submitter_key(submitter))
        .bind(priority.number())
        .bind(milliseconds(now))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.fetch_all("messages", "id", query).await?.into_iter().map(QueuedMessage::try_from).collect()
    }

    async fn submitters_waiting(&mut self, sender: SenderId) -> Result<Vec<Option<SubmitterId>>, StoreError> {
        let query = sqlx::query(
            "-- message_count.submitters
             SELECT submitter_id FROM message_counts WHERE sender_id = $1 AND state IN ('queued', 'deferred')
             GROUP BY submitter_id HAVING SUM(messages) > 0 ORDER BY submitter_id",
        )
        .bind(sender.to_string());
        let rows = self.fetch_all("message_counts", "submitter_id", query).await?;
        rows.iter().map(submitter_of).collect()
    }
}

impl Store {
    delegate! {
        read due_messages(
            sender: SenderId, submitter: Option<Option<SubmitterId>>, now: Timestamp, limit: u32
        ) -> Vec<QueuedMessage>;
        read unknown_due(sender: SenderId, now: Timestamp, limit: u32) -> Vec<QueuedMessage>;
        read next_unknown(sender: SenderId) -> Option<Timestamp>;
        read sending_before(sender: SenderId, epoch: i64) -> Vec<QueuedMessage>;
    }
}

/// So many rows are given at once; whoever needs more asks again when these are settled.
const MOST_DUE: u32 = 1000;
