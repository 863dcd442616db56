//! What people do to a message: put it back, withdraw it, give it another time or envelope; and what time does: remove it.

use jiff::{SignedDuration, Timestamp};

use crate::{
    MessageId, MessageState, NewMessageEvent, QueuedEnvelope, QueuedMessage, SenderId, Store, StoreError, Transaction,
    messages::Ledger, row::milliseconds, store::delegate,
};

impl Transaction {
    /// Puts a message back to the queue, due at once: one that failed, was cancelled, is deferred or whose outcome is unknown.
    /// `false` if it is in no such state. Its attempts count from zero again.
    pub async fn requeue_message(&mut self, id: MessageId, event: &NewMessageEvent) -> Result<bool, StoreError> {
        let from = [MessageState::Failed, MessageState::Cancelled, MessageState::Deferred, MessageState::Unknown];
        let query = sqlx::query(
            "-- message.requeue
             UPDATE messages SET state = 'queued', due_at = $3, attempts = 0, settled_at = NULL, outcome = NULL,
                                 events = events + 1
             WHERE id = $1 AND state = $2
             RETURNING id, events",
        );
        let now = milliseconds(self.now());
        self.change_message(id, &from, MessageState::Queued, event, |query| query.bind(now), query).await
    }

    /// Withdraws a message that is queued or deferred; `false` if it is in another state: it is too late, or was done.
    pub async fn cancel_message(&mut self, id: MessageId, event: &NewMessageEvent) -> Result<bool, StoreError> {
        let from = [MessageState::Queued, MessageState::Deferred];
        let query = sqlx::query(
            "-- message.cancel
             UPDATE messages SET state = 'cancelled', settled_at = $3, events = events + 1
             WHERE id = $1 AND state = $2
             RETURNING id, events",
        );
        let now = milliseconds(self.now());
        self.change_message(id, &from, MessageState::Cancelled, event, |query| query.bind(now), query).await
    }

    /// Gives a message that is queued or deferred another time; `false` if it is in another state.
    pub async fn reschedule_message(
        &mut self,
        id: MessageId,
        due_at: Timestamp,
        event: &NewMessageEvent,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "-- message.reschedule
             UPDATE messages SET due_at = $2, events = events + 1 WHERE id = $1 AND state IN ('queued', 'deferred')
             RETURNING id, events",
        )
        .bind(id.to_string())
        .bind(milliseconds(due_at));
        let Some(row) = self.fetch_optional("messages", "id", query).await? else { return Ok(false) };
        self.insert_message_event(id, row.number("events")?, event).await?;
        self.announce();
        Ok(true)
    }

    /// Gives a message another sender and envelope while no attempt of it is under way; `false` if one is, or it was accepted.
    pub async fn redirect_message(
        &mut self,
        id: MessageId,
        sender: SenderId,
        envelope: &QueuedEnvelope,
        event: &NewMessageEvent,
    ) -> Result<bool, StoreError> {
        let Some(message) = self.message(id).await? else { return Ok(false) };
        if matches!(message.state, MessageState::Sending | MessageState::Accepted) {
            return Ok(false);
        }
        let query = sqlx::query(
            "-- message.redirect
             UPDATE messages SET sender_id = $3, envelope = $4, events = events + 1 WHERE id = $1 AND state = $2
             RETURNING id, events",
        )
        .bind(id.to_string())
        .bind(message.state.word())
        .bind(sender.to_string())
        .bind(envelope_json(envelope)?);
        let Some(row) = self.fetch_optional("messages", "id", query).await? else { return Ok(false) };
        self.insert_message_event(id, row.number("events")?, event).await?;
        let (mut ledger, bytes) = (Ledger::default(), signed(message.size));
        ledger.count(message.sender, message.submitter, message.state, -1, -bytes);
        ledger.count(sender, message.submitter, message.state, 1, bytes);
        self.write_ledger(&ledger).await?;
        self.announce();
        Ok(true)
    }

    /// Removes settled messages with their bodies and timelines that were settled before `older_than`, a batch at a time, and
    /// what else need not be kept: idempotency keys after [`IDEMPOTENCY_KEPT`], usage after two days. Says how many messages;
    /// less than [`PRUNED_AT_ONCE`] means that no more are left.
    pub async fn prune_messages(&mut self, older_than: Timestamp) -> Result<u64, StoreError> {
        let ids: Vec<(String, QueuedMessage)> = {
            // Ids grow with the time of acceptance, and nothing is settled before it is accepted.
            let query = sqlx::query(
                "-- message.list_prunable
                 SELECT id, sender_id, submitter_id, priority, state, due_at, attempts, epoch, size, accepted_at,
                        settled_at, via, remote, graph_json, subject, message_id, outcome, envelope
                 FROM messages WHERE id < $1 AND settled_at < $2 AND state IN ('accepted', 'failed', 'cancelled')
                 ORDER BY id LIMIT $3",
            )
            .bind(MessageId::floor(older_than))
            .bind(milliseconds(older_than))
            .bind(PRUNED_AT_ONCE);
            let rows = self.fetch_all("messages", "id", query).await?;
            rows.into_iter().map(|row| Ok((row.text("id")?, row.try_into()?))).collect::<Result<_, StoreError>>()?
        };
        let mut ledger = Ledger::default();
        for (id, message) in &ids {
            for statement in PRUNE {
                self.execute("the message", sqlx::query(*statement).bind(id.clone())).await?;
            }
            ledger.count(message.sender, message.submitter, message.state, -1, -signed(message.size));
        }
        self.write_ledger(&ledger).await?;
        let kept = self.now().saturating_sub(IDEMPOTENCY_KEPT).unwrap_or(Timestamp::MIN);
        let query = sqlx::query(
            "-- idempotency_key.prune
             DELETE FROM idempotency_keys WHERE at < $1",
        )
        .bind(milliseconds(kept));
        self.execute("the idempotency keys", query).await?;
        self.prune_usage(kept).await?;
        Ok(ids.len() as u64)
    }

    /// Compare-and-set from one of some states to another, with its line of the timeline and the counters.
    async fn change_message(
        &mut self,
        id: MessageId,
        from: &[MessageState],
        to: MessageState,
        event: &NewMessageEvent,
        more: impl FnOnce(Update) -> Update,
        update: Update,
    ) -> Result<bool, StoreError> {
        let Some(message) = self.message(id).await?.filter(|message| from.contains(&message.state)) else {
            return Ok(false);
        };
        let query = more(update.bind(id.to_string()).bind(message.state.word()));
        let Some(row) = self.fetch_optional("messages", "id", query).await? else { return Ok(false) };
        self.insert_message_event(id, row.number("events")?, event).await?;
        let (mut ledger, bytes) = (Ledger::default(), signed(message.size));
        ledger.count(message.sender, message.submitter, message.state, -1, -bytes);
        ledger.count(message.sender, message.submitter, to, 1, bytes);
        self.write_ledger(&ledger).await?;
        self.announce();
        Ok(true)
    }
}

impl Store {
    delegate! {
        write requeue_message(id: MessageId, event: &NewMessageEvent) -> bool;
        write cancel_message(id: MessageId, event: &NewMessageEvent) -> bool;
        write reschedule_message(id: MessageId, due_at: Timestamp, event: &NewMessageEvent) -> bool;
        write redirect_message(
            id: MessageId, sender: SenderId, envelope: &QueuedEnvelope, event: &NewMessageEvent
        ) -> bool;
        write prune_messages(older_than: Timestamp) -> u64;
    }
}

pub(crate) fn envelope_json(envelope: &QueuedEnvelope) -> Result<String, StoreError> {
    serde_json::to_string(envelope)
        .map_err(|error| StoreError::NotAllowed { what: format!("the envelope cannot be written: {error}") })
}

pub(crate) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

type Update = sqlx::query::Query<'static, sqlx::Any, sqlx::any::AnyArguments>;

const PRUNE: &[&str] = &[
    "-- message_body.prune
     DELETE FROM message_bodies WHERE id = $1",
    "-- message_event.prune
     DELETE FROM message_events WHERE message_id = $1",
    "-- message.prune
     DELETE FROM messages WHERE id = $1",
];

/// Few enough that others hardly wait.
const PRUNED_AT_ONCE: i64 = 100;

/// A client that repeats a submission does so within a day; a day more for a clock that was stepped.
const IDEMPOTENCY_KEPT: SignedDuration = SignedDuration::from_hours(48);
