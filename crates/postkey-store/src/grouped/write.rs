//! What one grouped transaction reads and writes.

use std::collections::{BTreeMap, HashMap};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;

use super::{
    Accepted,
    group::{Changed, Found, Group, Verdicts, begin, count_accepted, count_change, count_sent, settle},
    script::{Script, Value},
    statement::{ManyRows, next_size},
};
use crate::{
    IdempotencyKey, MessageId, NewMessage, NewMessageEvent, NewNotice, StoreError,
    dialect::Dialect,
    messages::{Ledger, UsageLedger, envelope_json, signed, submitter_key, submitter_of},
    row::{Row, milliseconds},
};

/// One transaction that is being written.
pub(super) struct Write<'c> {
    pub(super) script: Script<'c>,
    pub(super) dialect: Dialect,
    pub(super) stripe: i64,
    pub(super) now: Timestamp,
}

impl Write<'_> {
    /// Everything of a group but the commit. What was used of quotas is not written, but given.
    pub(super) async fn all(&mut self, group: &Group) -> Result<(Verdicts, UsageLedger), StoreError> {
        let (mut verdicts, mut ledger) = (Verdicts::default(), Ledger::default());
        let (mut messages, mut notices, mut timeline) = (Vec::new(), Vec::new(), Vec::new());
        verdicts.accepts = self.claim_keys(group).await?;
        for ((message, _), verdict) in group.accepts.iter().zip(&verdicts.accepts) {
            if matches!(verdict, Ok(Accepted { repeated: false, .. })) {
                messages.push(&**message);
            }
        }
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
        self.add_counts(&ledger).await?;
        Ok((verdicts, ledger.usage))
    }

    /// What each acceptance is: new, or a repetition of an earlier one, or a key used for something else.
    async fn claim_keys(&mut self, group: &Group) -> Result<Vec<Result<Accepted, StoreError>>, StoreError> {
        // The first of a group claims the key; in the order of the keys, so that two writers never wait in a circle.
        let mut claims = BTreeMap::<ClaimedKey, (&NewMessage, &IdempotencyKey)>::new();
        for (message, _) in &group.accepts {
            if let Some(key) = &message.idempotency_key {
                claims.entry(claimed_key(message, key)).or_insert((message, key));
            }
        }
        let owners = self.owners(&claims).await?;
        let verdict = |message: &NewMessage| {
            let Some(key) = &message.idempotency_key else { return Ok(Accepted { id: message.id, repeated: false }) };
            match owners.get(&claimed_key(message, key)) {
                Some((id, fingerprint)) if *fingerprint == BASE64.encode(key.fingerprint) => {
                    Ok(Accepted { id: *id, repeated: *id != message.id })
                }
                Some((id, _)) => Err(StoreError::KeyReused { key: key.key.clone(), first: *id }),
                None => Ok(Accepted { id: message.id, repeated: false }),
            }
        };
        Ok(group.accepts.iter().map(|(message, _)| verdict(message)).collect())
    }

    /// Whose each key is: the claimant's, if it is new.
    async fn owners(
        &mut self,
        claims: &BTreeMap<ClaimedKey, (&NewMessage, &IdempotencyKey)>,
    ) -> Result<HashMap<ClaimedKey, (MessageId, String)>, StoreError> {
        let mut owners = HashMap::with_capacity(claims.len());
        let rows: Vec<_> = claims.iter().collect();
        for chunk in chunks(&rows) {
            let mut values = Vec::with_capacity(chunk.len() * CLAIM_KEYS.columns);
            for ((submitter, name), (message, key)) in chunk {
                values.push(Value::Text(submitter.clone()));
                values.push(Value::Text(name.clone()));
                values.push(Value::Text(BASE64.encode(key.fingerprint)));
                values.push(Value::Text(message.id.to_string()));
                values.push(Value::Number(milliseconds(self.now)));
            }
            let claimed = self.script.fetch(("idempotency_keys", "name"), &CLAIM_KEYS, chunk.len(), values).await?;
            for row in claimed {
                let key = (row.text("submitter_id")?, row.text("name")?);
                if let Some((message, given)) = claims.get(&key) {
                    owners.insert(key, (message.id, BASE64.encode(given.fingerprint)));
                }
            }
        }
        for key in claims.keys() {
            if !owners.contains_key(key) {
                let values = vec![Value::Text(key.0.clone()), Value::Text(key.1.clone())];
                let rows = self.script.fetch(("idempotency_keys", "name"), &FIND_KEY, 1, values).await?;
                // Removed in this very moment: who repeats it now finds it free.
                let row = rows.first().ok_or_else(|| StoreError::Changed { what: "the idempotency key".into() })?;
                owners.insert(key.clone(), (row.parse("message_id")?, row.text("fingerprint")?));
            }
        }
        Ok(owners)
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
        Ok(changes)
    }

    async fn find(&mut self, ids: &[MessageId]) -> Result<HashMap<MessageId, Found>, StoreError> {
        let statement = match self.dialect {
            // It has the one write lock already.
            Dialect::Sqlite => &FIND,
            Dialect::Postgres => &FIND_AND_LOCK,
        };
        // Always in the same order, so that two writers never wait in a circle.
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let mut found = HashMap::with_capacity(ids.len());
        for chunk in chunks(&ids) {
            let values = chunk.iter().map(|id| Value::Text(id.to_string())).collect();
            for row in self.script.fetch(("messages", "id"), statement, chunk.len(), values).await? {
                found.insert(row.parse("id")?, Found::try_from(row)?);
            }
        }
        Ok(found)
    }

    async fn insert_messages(&mut self, messages: &[&NewMessage]) -> Result<(), StoreError> {
        for chunk in chunks(messages) {
            let what = match chunk {
                [one] => format!("message {}", one.id),
                many => format!("one of {} messages", many.len()),
            };
            let mut values = Vec::with_capacity(chunk.len() * INSERT_MESSAGES.columns);
            for message in chunk {
                push_message(&mut values, message)?;
            }
            self.script.add(&what, &INSERT_MESSAGES, chunk.len(), values).await?;
            let mut values = Vec::with_capacity(chunk.len() * INSERT_BODIES.columns);
            for message in chunk {
                values.push(Value::Text(message.id.to_string()));
                values.push(Value::Bytes(message.body.clone()));
            }
            self.script.add(&what, &INSERT_BODIES, chunk.len(), values).await?;
        }
        Ok(())
    }

    async fn update_messages(&mut self, changes: &[(MessageId, Changed)]) -> Result<(), StoreError> {
        for chunk in chunks(changes) {
            let mut values = Vec::with_capacity(chunk.len() * UPDATE_MESSAGES.columns);
            for (id, changed) in chunk {
                values.push(Value::Text(id.to_string()));
                values.push(Value::Word(changed.state.word()));
                values.push(Value::Number(milliseconds(changed.due_at)));
                values.push(Value::Number(changed.attempts));
                values.push(Value::Number(changed.epoch));
                values.push(Value::Number(changed.events));
                values.push(Value::MaybeNumber(changed.settled_at));
                values.push(Value::MaybeText(changed.outcome.clone()));
                values.push(Value::MaybeText(changed.envelope.clone()));
            }
            self.script.add("the messages", &UPDATE_MESSAGES, chunk.len(), values).await?;
        }
        Ok(())
    }

    async fn insert_events(&mut self, timeline: &[(MessageId, i64, &NewMessageEvent)]) -> Result<(), StoreError> {
        for chunk in chunks(timeline) {
            let mut values = Vec::with_capacity(chunk.len() * INSERT_EVENTS.columns);
            for (id, number, event) in chunk {
                values.push(Value::Text(id.to_string()));
                values.push(Value::Number(*number));
                values.push(Value::Number(milliseconds(self.now)));
                values.push(Value::Word(event.kind));
                values.push(Value::Text(event.detail.to_string()));
            }
            self.script.add("the timeline", &INSERT_EVENTS, chunk.len(), values).await?;
        }
        Ok(())
    }

    async fn insert_notices(&mut self, notices: &[&NewNotice]) -> Result<(), StoreError> {
        for chunk in chunks(notices) {
            let mut values = Vec::with_capacity(chunk.len() * INSERT_NOTICES.columns);
            for notice in chunk {
                values.push(Value::Text(notice.id.to_string()));
                values.push(Value::Text(notice.webhook.to_string()));
                values.push(Value::MaybeText(notice.message.map(|id| id.to_string())));
                values.push(Value::Text(notice.kind.clone()));
                values.push(Value::Text(notice.payload.to_string()));
                values.push(Value::Number(milliseconds(self.now)));
                values.push(Value::Number(milliseconds(notice.due_at)));
            }
            self.script.add("the notices", &INSERT_NOTICES, chunk.len(), values).await?;
        }
        Ok(())
    }

    async fn add_counts(&mut self, ledger: &Ledger) -> Result<(), StoreError> {
        let states: Vec<_> = ledger.states().collect();
        for chunk in chunks(&states) {
            let mut values = Vec::with_capacity(chunk.len() * ADD_COUNTS.columns);
            for (sender, submitter, state, counting) in chunk {
                values.push(Value::Text(sender.clone()));
                values.push(Value::Text(submitter.clone()));
                values.push(Value::Word(state));
                values.push(Value::Number(self.stripe));
                values.push(Value::Number(counting.messages));
                values.push(Value::Number(counting.bytes));
            }
            self.script.add("the counts", &ADD_COUNTS, chunk.len(), values).await?;
        }
        Ok(())
    }

    /// What was used of quotas, by this group and those before it.
    pub(super) async fn add_usage(&mut self, usage: &UsageLedger) -> Result<(), StoreError> {
        let usage: Vec<_> = usage.rows().collect();
        for chunk in chunks(&usage) {
            let mut values = Vec::with_capacity(chunk.len() * ADD_USAGE.columns);
            for (bucket, kind, id, used) in chunk {
                values.push(Value::Number(*bucket));
                values.push(Value::Word(kind));
                values.push(Value::Text(id.clone()));
                values.push(Value::Number(self.stripe));
                values.push(Value::Number(used.messages));
                values.push(Value::Number(used.recipients));
                values.push(Value::Number(used.bytes));
            }
            self.script.add("the usage", &ADD_USAGE, chunk.len(), values).await?;
        }
        Ok(())
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

/// A submitter and its key.
type ClaimedKey = (String, String);

fn claimed_key(message: &NewMessage, key: &IdempotencyKey) -> ClaimedKey {
    (submitter_key(message.submitter), clean(&key.key))
}

fn push_message(values: &mut Vec<Value>, message: &NewMessage) -> Result<(), StoreError> {
    values.push(Value::Text(message.id.to_string()));
    values.push(Value::Text(message.sender.to_string()));
    values.push(Value::Text(submitter_key(message.submitter)));
    values.push(Value::Number(message.priority.number()));
    values.push(Value::Number(milliseconds(message.due_at.unwrap_or(message.accepted_at))));
    values.push(Value::Number(signed(message.events.len() as u64)));
    values.push(Value::Number(signed(message.body.len() as u64)));
    values.push(Value::Number(milliseconds(message.accepted_at)));
    values.push(Value::Word(message.via.word()));
    values.push(Value::MaybeText(message.remote.as_deref().map(clean)));
    values.push(Value::Number(i64::from(message.graph_json)));
    values.push(Value::MaybeText(message.subject.as_deref().map(clean)));
    values.push(Value::MaybeText(message.message_id.as_deref().map(clean)));
    values.push(Value::Text(envelope_json(&message.envelope)?));
    Ok(())
}

/// PostgreSQL stores no NUL, and a subject may hold one; a header longer than any line may be is cut.
fn clean(text: &str) -> String {
    if text.len() <= LONGEST_TEXT && !text.contains('\0') {
        return text.to_owned();
    }
    text.chars().take(LONGEST_TEXT).map(|c| if c == '\0' { char::REPLACEMENT_CHARACTER } else { c }).collect()
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

static CLAIM_KEYS: ManyRows = ManyRows {
    before: "-- idempotency_key.claim
     INSERT INTO idempotency_keys (submitter_id, name, fingerprint, message_id, at) VALUES ",
    columns: 5,
    always: "",
    after: " ON CONFLICT (submitter_id, name) DO NOTHING RETURNING submitter_id, name",
};

static FIND_KEY: ManyRows = ManyRows {
    before: "-- idempotency_key.find
     SELECT name, message_id, fingerprint FROM idempotency_keys WHERE (submitter_id, name) IN (VALUES ",
    columns: 2,
    always: "",
    after: ")",
};

static FIND: ManyRows = ManyRows {
    before: "-- message.find_many
     SELECT id, sender_id, submitter_id, state, due_at, attempts, epoch, events, size FROM messages
     WHERE id IN (VALUES ",
    columns: 1,
    always: "",
    after: ")",
};

static FIND_AND_LOCK: ManyRows = ManyRows {
    before: "-- message.lock_many
     SELECT id, sender_id, submitter_id, state, due_at, attempts, epoch, events, size FROM messages
     WHERE id IN (VALUES ",
    columns: 1,
    always: "",
    after: ") ORDER BY id FOR UPDATE",
};

static INSERT_MESSAGES: ManyRows = ManyRows {
    before: "-- message.insert_many
     INSERT INTO messages (id, sender_id, submitter_id, priority, due_at, events, size, accepted_at, via, remote, graph_json,
                           subject, message_id, envelope, state, attempts, epoch) VALUES ",
    columns: 14,
    always: ", 'queued', 0, 0",
    after: "",
};

static INSERT_BODIES: ManyRows = ManyRows {
    before: "-- message_body.insert_many
     INSERT INTO message_bodies (id, body) VALUES ",
    columns: 2,
    always: "",
    after: "",
};

static INSERT_EVENTS: ManyRows = ManyRows {
    before: "-- message_event.insert_many
     INSERT INTO message_events (message_id, number, at, kind, detail) VALUES ",
    columns: 5,
    always: "",
    after: "",
};

static UPDATE_MESSAGES: ManyRows = ManyRows {
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
static INSERT_NOTICES: ManyRows = ManyRows {
    before: "-- notice.insert_many
     INSERT INTO notices (id, webhook_id, message_id, kind, payload, created_at, due_at, attempts, last_error, dead_at)
     SELECT new.column1, new.column2, new.column3, new.column4, new.column5, new.column6, new.column7, 0, NULL, NULL
     FROM (VALUES ",
    columns: 7,
    always: "",
    after: ") AS new JOIN webhooks ON webhooks.id = new.column2",
};

static ADD_COUNTS: ManyRows = ManyRows {
    before: "-- message_count.add_many
     INSERT INTO message_counts (sender_id, submitter_id, state, stripe, messages, bytes) VALUES ",
    columns: 6,
    always: "",
    after: " ON CONFLICT (sender_id, submitter_id, state, stripe) DO UPDATE SET
         messages = message_counts.messages + excluded.messages, bytes = message_counts.bytes + excluded.bytes",
};

static ADD_USAGE: ManyRows = ManyRows {
    before: "-- message_usage.add_many
     INSERT INTO message_usage (bucket, kind, id, stripe, messages, recipients, bytes) VALUES ",
    columns: 7,
    always: "",
    after: " ON CONFLICT (bucket, kind, id, stripe) DO UPDATE SET
         messages = message_usage.messages + excluded.messages,
         recipients = message_usage.recipients + excluded.recipients, bytes = message_usage.bytes + excluded.bytes",
};

/// RFC 5322 §2.1.1: no line is longer.
const LONGEST_TEXT: usize = 998;
