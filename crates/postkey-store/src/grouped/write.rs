//! The statements of one grouped transaction.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use sqlx::{Any, any::AnyArguments, query::Query};

use super::{
    Accepted,
    group::{Changed, Found, Group, Verdicts, begin, count_accepted, count_change, count_sent, settle},
    statement::{ManyRows, Texts, next_size},
    writer::OPERATION,
};
use crate::{
    IdempotencyKey, MessageId, NewMessage, NewMessageEvent, NewNotice, StoreError,
    dialect::Dialect,
    messages::{Ledger, envelope_json, signed, submitter_key, submitter_of},
    row::{Row, milliseconds},
    store::Shared,
};

type Statement = Query<'static, Any, AnyArguments>;

/// One transaction that is being written.
pub(super) struct Write<'c> {
    inner: sqlx::Transaction<'c, Any>,
    shared: &'c Arc<Shared>,
    texts: &'c mut Texts,
    stripe: i64,
    now: Timestamp,
}

impl<'c> Write<'c> {
    pub(super) fn new(
        inner: sqlx::Transaction<'c, Any>,
        shared: &'c Arc<Shared>,
        texts: &'c mut Texts,
        stripe: i64,
    ) -> Self {
        Self { inner, shared, texts, stripe, now: shared.clock.now() }
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.inner.commit().await.map_err(|error| self.shared.classify(OPERATION, error))
    }

    pub(super) async fn roll_back(self) -> Result<(), sqlx::Error> {
        self.inner.rollback().await
    }

    /// Everything of a group but the commit.
    pub(super) async fn all(&mut self, group: &Group) -> Result<Verdicts, StoreError> {
        let (mut verdicts, mut ledger) = (Verdicts::default(), Ledger::default());
        let mut timeline = Vec::new();
        let mut messages = Vec::with_capacity(group.accepts.len());
        verdicts.accepts = self.claim_keys(group).await?;
        for ((message, _), verdict) in group.accepts.iter().zip(&verdicts.accepts) {
            if matches!(verdict, Ok(Accepted { repeated: false, .. })) {
                messages.push(&**message);
            }
        }
        let mut notices = Vec::new();
        let changes = self.decide(group, &mut verdicts, &mut ledger, &mut timeline).await?;
        for ((settlement, _), verdict) in group.settles.iter().zip(&verdicts.settles) {
            if verdict.is_ok() {
                messages.extend(&settlement.messages);
                notices.extend(&settlement.notices);
            }
        }
        for message in &messages {
            count_accepted(&mut ledger, message);
            timeline.extend((1..).zip(&message.events).map(|(number, event)| (message.id, number, event)));
        }
        self.insert_messages(&messages).await?;
        self.update_messages(&changes).await?;
        self.insert_events(&timeline).await?;
        self.insert_notices(&notices).await?;
        self.write_ledger(&ledger).await?;
        Ok(verdicts)
    }

    /// What each acceptance is: new, or a repetition of an earlier one, or a key used for something else.
    async fn claim_keys(&mut self, group: &Group) -> Result<Vec<Result<Accepted, StoreError>>, StoreError> {
        /// The submitter and its key.
        type Key = (String, String);
        let key_of =
            |message: &NewMessage, key: &IdempotencyKey| -> Key { (submitter_key(message.submitter), clean(&key.key)) };
        // The first of a group claims the key; in the order of the keys, so that two writers never wait in a circle.
        let mut claims = BTreeMap::<Key, (&NewMessage, &IdempotencyKey)>::new();
        for (message, _) in &group.accepts {
            if let Some(key) = &message.idempotency_key {
                claims.entry(key_of(message, key)).or_insert((message, key));
            }
        }
        let mut owners = HashMap::<Key, (MessageId, String)>::new();
        if !claims.is_empty() {
            let rows: Vec<_> = claims.iter().collect();
            let mut claimed = Vec::new();
            for chunk in chunks(&rows) {
                let mut query = self.texts.query(&CLAIM_KEYS, chunk.len());
                for ((submitter, name), (message, key)) in chunk {
                    query = query
                        .bind(submitter.clone())
                        .bind(name.clone())
                        .bind(BASE64.encode(key.fingerprint))
                        .bind(message.id.to_string())
                        .bind(milliseconds(self.now));
                }
                for row in self.fetch("idempotency_keys", "name", query).await? {
                    claimed.push((row.text("submitter_id")?, row.text("name")?));
                }
            }
            for key in claimed {
                if let Some((message, given)) = claims.get(&key) {
                    owners.insert(key, (message.id, BASE64.encode(given.fingerprint)));
                }
            }
            for key in claims.keys() {
                if !owners.contains_key(key) {
                    owners.insert(key.clone(), self.owner_of(key).await?);
                }
            }
        }
        let verdict = |message: &NewMessage| {
            let Some(key) = &message.idempotency_key else { return Ok(Accepted { id: message.id, repeated: false }) };
            match owners.get(&key_of(message, key)) {
                Some((id, fingerprint)) if *fingerprint == BASE64.encode(key.fingerprint) => {
                    Ok(Accepted { id: *id, repeated: *id != message.id })
                }
                Some((id, _)) => Err(StoreError::KeyReused { key: key.key.clone(), first: *id }),
                None => Ok(Accepted { id: message.id, repeated: false }),
            }
        };
        Ok(group.accepts.iter().map(|(message, _)| verdict(message)).collect())
    }

    async fn owner_of(&mut self, (submitter, name): &(String, String)) -> Result<(MessageId, String), StoreError> {
        let query = sqlx::query(
            "-- idempotency_key.find
             SELECT name, message_id, fingerprint FROM idempotency_keys WHERE submitter_id = $1 AND name = $2",
        )
        .bind(submitter.clone())
        .bind(name.clone());
        let rows = self.fetch("idempotency_keys", "name", query).await?;
        let row = rows.first().ok_or_else(|| StoreError::Changed { what: "the idempotency key".into() })?;
        Ok((row.parse("message_id")?, row.text("fingerprint")?))
    }

    /// What becomes of the messages that are changed, each looked at under the lock that the write needs.
    async fn decide<'g>(
        &mut self,
        group: &'g Group,
        verdicts: &mut Verdicts,
        ledger: &mut Ledger,
        timeline: &mut Vec<(MessageId, i64, &'g NewMessageEvent)>,
    ) -> Result<Vec<(MessageId, Changed)>, StoreError> {
        let begins = group.begins.iter().map(|(begin, _)| begin.id);
        let ids: Vec<_> = begins.chain(group.settles.iter().map(|(settlement, _)| settlement.id)).collect();
        let found = self.find(&ids).await?;
        let mut changes = Vec::with_capacity(ids.len());
        for (job, _) in &group.begins {
            let change = found.get(&job.id).and_then(|found| Some((found, begin(found, job)?)));
            verdicts.begins.push(change.is_some());
            if let Some((found, changed)) = change {
                count_change(ledger, found, changed.state);
                timeline.push((job.id, changed.events, &job.event));
                changes.push((job.id, changed));
            }
        }
        for (job, _) in &group.settles {
            let change = match found.get(&job.id) {
                Some(found) => settle(found, job, self.now)?.map(|changed| (found, changed)),
                None => None,
            };
            verdicts.settles.push(match &change {
                Some(_) => Ok(()),
                None => Err(StoreError::Changed { what: format!("message {}", job.id) }),
            });
            if let Some((found, changed)) = change {
                count_change(ledger, found, changed.state);
                count_sent(ledger, found, job, self.now);
                timeline.extend((found.events + 1..).zip(&job.events).map(|(number, event)| (job.id, number, event)));
                changes.push((job.id, changed));
            }
        }
        // Rows are always written in the same order, so that two writers never wait in a circle.
        changes.sort_by_key(|(id, _)| *id);
        Ok(changes)
    }

    async fn find(&mut self, ids: &[MessageId]) -> Result<HashMap<MessageId, Found>, StoreError> {
        let statement = find(self.shared.dialect);
        let mut found = HashMap::with_capacity(ids.len());
        for chunk in chunks(ids) {
            let mut query = self.texts.query(statement, chunk.len());
            for id in chunk {
                query = query.bind(id.to_string());
            }
            for row in self.fetch("messages", "id", query).await? {
                found.insert(row.parse("id")?, Found::try_from(row)?);
            }
        }
        Ok(found)
    }

    async fn insert_messages(&mut self, messages: &[&NewMessage]) -> Result<(), StoreError> {
        for chunk in chunks(messages) {
            let mut query = self.texts.query(&INSERT_MESSAGES, chunk.len());
            for message in chunk {
                query = bind_message(query, message)?;
            }
            self.execute(&describe(chunk), query).await?;
            let mut query = self.texts.query(&INSERT_BODIES, chunk.len());
            for message in chunk {
                query = query.bind(message.id.to_string()).bind(message.body.to_vec());
            }
            self.execute(&describe(chunk), query).await?;
        }
        Ok(())
    }

    async fn update_messages(&mut self, changes: &[(MessageId, Changed)]) -> Result<(), StoreError> {
        for chunk in chunks(changes) {
            let mut query = self.texts.query(&UPDATE_MESSAGES, chunk.len());
            for (id, changed) in chunk {
                query = query
                    .bind(id.to_string())
                    .bind(changed.state.word())
                    .bind(milliseconds(changed.due_at))
                    .bind(changed.attempts)
                    .bind(changed.epoch)
                    .bind(changed.events)
                    .bind(changed.settled_at)
                    .bind(changed.outcome.clone())
                    .bind(changed.envelope.clone());
            }
            self.execute("the messages", query).await?;
        }
        Ok(())
    }

    async fn insert_events(&mut self, timeline: &[(MessageId, i64, &NewMessageEvent)]) -> Result<(), StoreError> {
        for chunk in chunks(timeline) {
            let mut query = self.texts.query(&INSERT_EVENTS, chunk.len());
            for (id, number, event) in chunk {
                query = query
                    .bind(id.to_string())
                    .bind(*number)
                    .bind(milliseconds(self.now))
                    .bind(event.kind)
                    .bind(event.detail.to_string());
            }
            self.execute("the timeline", query).await?;
        }
        Ok(())
    }

    async fn insert_notices(&mut self, notices: &[&NewNotice]) -> Result<(), StoreError> {
        for chunk in chunks(notices) {
            let mut query = self.texts.query(&INSERT_NOTICES, chunk.len());
            for notice in chunk {
                query = query
                    .bind(notice.id.to_string())
                    .bind(notice.webhook.to_string())
                    .bind(notice.message.map(|id| id.to_string()))
                    .bind(notice.kind.clone())
                    .bind(notice.payload.to_string())
                    .bind(milliseconds(self.now))
                    .bind(milliseconds(notice.due_at));
            }
            self.execute("the notices", query).await?;
        }
        Ok(())
    }

    async fn write_ledger(&mut self, ledger: &Ledger) -> Result<(), StoreError> {
        let states: Vec<_> = ledger.states().collect();
        for chunk in chunks(&states) {
            let mut query = self.texts.query(&ADD_COUNTS, chunk.len());
            for (sender, submitter, state, counting) in chunk {
                query = query
                    .bind(sender.clone())
                    .bind(submitter.clone())
                    .bind(*state)
                    .bind(self.stripe)
                    .bind(counting.messages)
                    .bind(counting.bytes);
            }
            self.execute("the counts", query).await?;
        }
        let usage: Vec<_> = ledger.usage().collect();
        for chunk in chunks(&usage) {
            let mut query = self.texts.query(&ADD_USAGE, chunk.len());
            for (bucket, kind, id, used) in chunk {
                query = query
                    .bind(*bucket)
                    .bind(*kind)
                    .bind(id.clone())
                    .bind(self.stripe)
                    .bind(used.messages)
                    .bind(used.recipients)
                    .bind(used.bytes);
            }
            self.execute("the usage", query).await?;
        }
        Ok(())
    }

    async fn fetch(
        &mut self,
        table: &'static str,
        key: &'static str,
        query: Statement,
    ) -> Result<Vec<Row>, StoreError> {
        match query.fetch_all(&mut *self.inner).await {
            Ok(rows) => Ok(rows.into_iter().map(|row| Row::new(table, key, row)).collect()),
            Err(error) => Err(self.shared.classify(OPERATION, error)),
        }
    }

    async fn execute(&mut self, what: &str, query: Statement) -> Result<(), StoreError> {
        let done = query.execute(&mut *self.inner).await;
        done.map(drop).map_err(|error| self.shared.classify_write(OPERATION, what, error))
    }
}

impl TryFrom<Row> for Found {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            sender: row.parse("sender_id")?,
            submitter: submitter_of(&row)?,
            state: row.parse("state")?,
            due_at: row.time("due_at")?,
            attempts: row.number("attempts")?,
            epoch: row.number("epoch")?,
            events: row.number("events")?,
            size: row.number("size")?,
        })
    }
}

fn bind_message(query: Statement, message: &NewMessage) -> Result<Statement, StoreError> {
    Ok(query
        .bind(message.id.to_string())
        .bind(message.sender.to_string())
        .bind(submitter_key(message.submitter))
        .bind(message.priority.number())
        .bind(milliseconds(message.due_at.unwrap_or(message.accepted_at)))
        .bind(i64::try_from(message.events.len()).unwrap_or(i64::MAX))
        .bind(signed(message.body.len() as u64))
        .bind(milliseconds(message.accepted_at))
        .bind(message.via.word())
        .bind(message.remote.as_deref().map(clean))
        .bind(i64::from(message.graph_json))
        .bind(message.subject.as_deref().map(clean))
        .bind(message.message_id.as_deref().map(clean))
        .bind(envelope_json(&message.envelope)?))
}

/// PostgreSQL stores no NUL, and a subject may hold one; a header longer than any line may be is cut.
fn clean(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).map(|c| if c == '\0' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn describe(messages: &[&NewMessage]) -> String {
    match messages {
        [one] => format!("message {}", one.id),
        many => format!("one of {} messages", many.len()),
    }
}

/// Rows cut into the sizes of statements.
fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        if rows.is_empty() {
            return None;
        }
        let (chunk, rest) = rows.split_at(next_size(rows.len()));
        rows = rest;
        Some(chunk)
    })
}

const CLAIM_KEYS: ManyRows = ManyRows {
    before: "-- idempotency_key.claim
     INSERT INTO idempotency_keys (submitter_id, name, fingerprint, message_id, at) VALUES ",
    columns: 5,
    always: "",
    after: " ON CONFLICT (submitter_id, name) DO NOTHING RETURNING submitter_id, name",
};

const INSERT_MESSAGES: ManyRows = ManyRows {
    before: "-- message.insert
     INSERT INTO messages (id, sender_id, submitter_id, priority, due_at, events, size, accepted_at, via, remote, graph_json,
                           subject, message_id, envelope, state, attempts, epoch) VALUES ",
    columns: 14,
    always: ", 'queued', 0, 0",
    after: "",
};

const INSERT_BODIES: ManyRows = ManyRows {
    before: "-- message_body.insert
     INSERT INTO message_bodies (id, body) VALUES ",
    columns: 2,
    always: "",
    after: "",
};

const INSERT_EVENTS: ManyRows = ManyRows {
    before: "-- message_event.insert_many
     INSERT INTO message_events (message_id, number, at, kind, detail) VALUES ",
    columns: 5,
    always: "",
    after: "",
};

const UPDATE_MESSAGES: ManyRows = ManyRows {
    before: "-- message.change_many
     UPDATE messages SET state = new.column2, due_at = new.column3, attempts = new.column4, epoch = new.column5,
                         events = new.column6, settled_at = new.column7,
                         outcome = COALESCE(new.column8, messages.outcome),
                         envelope = COALESCE(new.column9, messages.envelope)
     FROM (VALUES ",
    columns: 9,
    always: "",
    after: ") AS new WHERE messages.id = new.column1",
};

// A webhook that was removed meanwhile is told nothing more.
const INSERT_NOTICES: ManyRows = ManyRows {
    before: "-- notice.insert_many
     INSERT INTO notices (id, webhook_id, message_id, kind, payload, created_at, due_at, attempts, last_error, dead_at)
     SELECT new.column1, new.column2, new.column3, new.column4, new.column5, new.column6, new.column7, 0, NULL, NULL
     FROM (VALUES ",
    columns: 7,
    always: "",
    after: ") AS new JOIN webhooks ON webhooks.id = new.column2",
};

const ADD_COUNTS: ManyRows = ManyRows {
    before: "-- message_count.add_many
     INSERT INTO message_counts (sender_id, submitter_id, state, stripe, messages, bytes) VALUES ",
    columns: 6,
    always: "",
    after: " ON CONFLICT (sender_id, submitter_id, state, stripe) DO UPDATE SET
         messages = message_counts.messages + excluded.messages, bytes = message_counts.bytes + excluded.bytes",
};

const ADD_USAGE: ManyRows = ManyRows {
    before: "-- message_usage.add_many
     INSERT INTO message_usage (bucket, kind, id, stripe, messages, recipients, bytes) VALUES ",
    columns: 7,
    always: "",
    after: " ON CONFLICT (bucket, kind, id, stripe) DO UPDATE SET
         messages = message_usage.messages + excluded.messages,
         recipients = message_usage.recipients + excluded.recipients, bytes = message_usage.bytes + excluded.bytes",
};

/// SQLite has the one write lock already; PostgreSQL locks the rows, always in the same order.
fn find(dialect: Dialect) -> &'static ManyRows {
    match dialect {
        Dialect::Sqlite => &FIND,
        Dialect::Postgres => &FIND_AND_LOCK,
    }
}

const FIND: ManyRows = ManyRows {
    before: "-- message.find_many
     SELECT id, sender_id, submitter_id, state, due_at, attempts, epoch, events, size FROM messages
     WHERE id IN (VALUES ",
    columns: 1,
    always: "",
    after: ")",
};

const FIND_AND_LOCK: ManyRows = ManyRows {
    before: "-- message.lock_many
     SELECT id, sender_id, submitter_id, state, due_at, attempts, epoch, events, size FROM messages
     WHERE id IN (VALUES ",
    columns: 1,
    always: "",
    after: ") ORDER BY id FOR UPDATE",
};

/// RFC 5322 §2.1.1: no line is longer.
const LONGEST_TEXT: usize = 998;
