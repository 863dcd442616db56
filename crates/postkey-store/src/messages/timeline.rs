//! A message's timeline: every change of it, in the same commit as the change.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    MessageId, Store, StoreError, Transaction,
    row::{Row, milliseconds},
    store::delegate,
};

/// A line about to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessageEvent {
    /// What happened: `accepted`, `attempt`, `deferred`.
    pub kind: &'static str,
    /// More, in the caller's words; never a secret.
    pub detail: Value,
}

/// A line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageEvent {
    /// Its place: 1, 2, 3 …
    pub number: i64,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub kind: String,
    /// More, in the caller's words.
    pub detail: Value,
}

impl TryFrom<Row> for MessageEvent {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            number: row.number("number")?,
            at: row.time("at")?,
            kind: row.text("kind")?,
            detail: row.json("detail")?,
        })
    }
}

impl Transaction {
    /// The timeline, oldest first: the first [`MOST_EVENTS`].
    pub async fn message_events(&mut self, id: MessageId) -> Result<Vec<MessageEvent>, StoreError> {
        let query = sqlx::query(
            "-- message_event.list
             SELECT message_id, number, at, kind, detail FROM message_events WHERE message_id = $1
             ORDER BY number LIMIT $2",
        )
        .bind(id.to_string())
        .bind(MOST_EVENTS);
        self.fetch_all("message_events", "message_id", query).await?.into_iter().map(MessageEvent::try_from).collect()
    }

    /// Adds a line that goes with no change of state: a bounce that came back, a note. `false` if there is no such message.
    pub async fn append_message_event(&mut self, id: MessageId, event: &NewMessageEvent) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "-- message.count_event
             UPDATE messages SET events = events + 1 WHERE id = $1 RETURNING id, events",
        )
        .bind(id.to_string());
        let Some(row) = self.fetch_optional("messages", "id", query).await? else { return Ok(false) };
        self.insert_message_event(id, row.number("events")?, event).await?;
        Ok(true)
    }

    pub(crate) async fn insert_message_event(
        &mut self,
        id: MessageId,
        number: i64,
        event: &NewMessageEvent,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(
            "-- message_event.insert
             INSERT INTO message_events (message_id, number, at, kind, detail) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id.to_string())
        .bind(number)
        .bind(milliseconds(self.now()))
        .bind(event.kind)
        .bind(event.detail.to_string());
        self.execute("the line of the timeline", query).await.map(drop)
    }
}

impl Store {
    delegate! {
        read message_events(id: MessageId) -> Vec<MessageEvent>;
        write append_message_event(id: MessageId, event: &NewMessageEvent) -> bool;
    }
}

/// Five days of attempts every few minutes are fewer.
const MOST_EVENTS: i64 = 2000;
