//! Notices: what webhooks are still to be told. Written in the commit of what they tell of, so that none is lost.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    MessageId, Store, StoreError, Transaction, WebhookId,
    row::{Row, milliseconds},
    store::delegate,
};

/// One notice. Its id grows with time and is the receiver's to recognise a repetition by.
pub type NoticeId = MessageId;

/// A notice about to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNotice {
    /// Its id, made by [`NoticeId::at`](MessageId::at).
    pub id: NoticeId,
    /// Whom to tell.
    pub webhook: WebhookId,
    /// What happened: `message.accepted`.
    pub kind: String,
    /// To which message.
    pub message: Option<MessageId>,
    /// What is told.
    pub payload: Value,
    /// Not before.
    pub due_at: Timestamp,
}

/// A notice that was not told yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its id.
    pub id: NoticeId,
    /// Whom to tell.
    pub webhook: WebhookId,
    /// What happened.
    pub kind: String,
    /// To which message.
    pub message: Option<MessageId>,
    /// What is told.
    pub payload: Value,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it is to be told.
    pub due_at: Timestamp,
    /// How often that failed.
    pub attempts: u32,
    /// How it failed last.
    pub last_error: Option<String>,
    /// Since when nobody tries any more.
    pub dead_at: Option<Timestamp>,
}

/// How an attempt to tell a notice ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeEnd {
    /// The receiver has it.
    Told,
    /// Again at that time.
    Later {
        /// When.
        due_at: Timestamp,
        /// How it failed.
        error: String,
    },
    /// It failed for too long.
    Dead {
        /// How it failed.
        error: String,
    },
}

impl TryFrom<Row> for Notice {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let attempts = u32::try_from(row.number("attempts")?);
        Ok(Self {
            id: row.parse("id")?,
            webhook: row.parse("webhook_id")?,
            kind: row.text("kind")?,
            message: row.optional("message_id")?,
            payload: row.json("payload")?,
            created_at: row.time("created_at")?,
            due_at: row.time("due_at")?,
            attempts: attempts.map_err(|error| row.nonsense("attempts", error))?,
            last_error: row.optional_text("last_error")?,
            dead_at: row.optional_time("dead_at")?,
        })
    }
}

impl Transaction {
    /// Writes a notice. `false` if its webhook was removed meanwhile: then there is nobody to tell.
    pub async fn add_notice(&mut self, new: &NewNotice) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "-- notice.insert
             INSERT INTO notices (id, webhook_id, message_id, kind, payload, created_at, due_at, attempts, last_error,
                                  dead_at)
             SELECT $1, id, $3, $4, $5, $6, $7, 0, NULL, NULL FROM webhooks WHERE id = $2",
        )
        .bind(new.id.to_string())
        .bind(new.webhook.to_string())
        .bind(new.message.map(|id| id.to_string()))
        .bind(new.kind.clone())
        .bind(new.payload.to_string())
        .bind(milliseconds(self.now()))
        .bind(milliseconds(new.due_at));
        Ok(self.execute("the notice", query).await? > 0)
    }

    /// Notices that are due and whose webhook is not disabled, in order: at most `limit`, and never more than 1000.
    pub async fn due_notices(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        let query = sqlx::query(
            "-- notice.due
             SELECT notices.id, webhook_id, message_id, kind, payload, notices.created_at, due_at, attempts, last_error,
                    dead_at
             FROM notices JOIN webhooks ON webhooks.id = notices.webhook_id
             WHERE dead_at IS NULL AND due_at <= $1 AND webhooks.disabled_at IS NULL
             ORDER BY due_at, notices.id LIMIT $2",
        )
        .bind(milliseconds(now))
        .bind(i64::from(limit.min(MOST_DUE)));
        self.fetch_all("notices", "id", query).await?.into_iter().map(Notice::try_from).collect()
    }

    /// When the next notice is due.
    pub async fn next_notice(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let query = sqlx::query(
            "-- notice.next
             SELECT notices.id, due_at FROM notices JOIN webhooks ON webhooks.id = notices.webhook_id
             WHERE dead_at IS NULL AND webhooks.disabled_at IS NULL ORDER BY due_at, notices.id LIMIT 1",
        );
        self.fetch_optional("notices", "id", query).await?.map(|row| row.time("due_at")).transpose()
    }

    /// Notices that nobody tries any more, newest first: at most 1000.
    pub async fn dead_notices(&mut self) -> Result<Vec<Notice>, StoreError> {
        let query = sqlx::query(
            "-- notice.list_dead
             SELECT id, webhook_id, message_id, kind, payload, created_at, due_at, attempts, last_error, dead_at
             FROM notices WHERE dead_at IS NOT NULL ORDER BY id DESC LIMIT $1",
        )
        .bind(i64::from(MOST_DUE));
        self.fetch_all("notices", "id", query).await?.into_iter().map(Notice::try_from).collect()
    }

    /// Writes how an attempt ended. `false` if the notice is gone.
    pub async fn settle_notice(&mut self, id: NoticeId, end: &NoticeEnd) -> Result<bool, StoreError> {
        let now = milliseconds(self.now());
        let told = sqlx::query(
            "-- notice.told
             DELETE FROM notices WHERE id = $1",
        );
        let failed = sqlx::query(
            "-- notice.failed
             UPDATE notices SET due_at = $2, attempts = attempts + 1, last_error = $3, dead_at = $4 WHERE id = $1",
        );
        let query = match end {
            NoticeEnd::Told => told.bind(id.to_string()),
            NoticeEnd::Later { due_at, error } => {
                failed.bind(id.to_string()).bind(milliseconds(*due_at)).bind(error.clone()).bind(None::<i64>)
            }
            NoticeEnd::Dead { error } => failed.bind(id.to_string()).bind(now).bind(error.clone()).bind(Some(now)),
        };
        Ok(self.execute("the notice", query).await? > 0)
    }

    /// Tries a dead notice again, from now on. `false` if there is no such dead notice.
    pub async fn revive_notice(&mut self, id: NoticeId) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "-- notice.revive
             UPDATE notices SET due_at = $2, attempts = 0, dead_at = NULL WHERE id = $1 AND dead_at IS NOT NULL",
        )
        .bind(id.to_string())
        .bind(milliseconds(self.now()));
        self.announce();
        Ok(self.execute("the notice", query).await? > 0)
    }

    /// Forgets dead notices from before then, and says how many.
    pub async fn prune_notices(&mut self, older_than: Timestamp) -> Result<u64, StoreError> {
        let query = sqlx::query(
            "-- notice.prune
             DELETE FROM notices WHERE dead_at IS NOT NULL AND dead_at < $1",
        )
        .bind(milliseconds(older_than));
        self.execute("the notices", query).await
    }
}

impl Store {
    delegate! {
        write add_notice(new: &NewNotice) -> bool;
        read due_notices(now: Timestamp, limit: u32) -> Vec<Notice>;
        read next_notice() -> Option<Timestamp>;
        read dead_notices() -> Vec<Notice>;
        write settle_notice(id: NoticeId, end: &NoticeEnd) -> bool;
        write revive_notice(id: NoticeId) -> bool;
        write prune_notices(older_than: Timestamp) -> u64;
    }
}

/// So many notices are given at once.
const MOST_DUE: u32 = 1000;
