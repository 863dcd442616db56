//! The auth log: who got a token or was refused, with the ids a support case needs. Old lines are pruned.

use jiff::{SignedDuration, Timestamp};
use postkey_base::{ClientId, CorrelationId, KeyId, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Store, StoreError, Transaction,
    row::{Row, milliseconds},
    store::delegate,
};

/// A line about to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewEvent {
    /// What happened: `token.issued`, `send.refused`.
    pub kind: String,
    /// How it ended: `ok`, or a stable code such as `identity.secret_expired`.
    pub result: String,
    /// Whose tenant.
    pub tenant: Option<TenantId>,
    /// Which app.
    pub client_id: Option<ClientId>,
    /// The number behind `AADSTS`.
    pub aadsts: Option<u32>,
    /// Our `client-request-id`.
    pub correlation_id: Option<CorrelationId>,
    /// Entra's trace id or Graph's request id.
    pub trace_id: Option<String>,
    /// The credential that was used.
    pub key_id: Option<KeyId>,
    /// More, in the caller's words; never a secret.
    pub detail: Option<Value>,
}

/// A line of the auth log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the log; the cursor of [`EventFilter::after`].
    pub sequence: i64,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub kind: String,
    /// How it ended.
    pub result: String,
    /// Whose tenant.
    pub tenant: Option<TenantId>,
    /// Which app.
    pub client_id: Option<ClientId>,
    /// The number behind `AADSTS`.
    pub aadsts: Option<u32>,
    /// Our `client-request-id`.
    pub correlation_id: Option<CorrelationId>,
    /// Entra's trace id or Graph's request id.
    pub trace_id: Option<String>,
    /// The credential that was used.
    pub key_id: Option<KeyId>,
    /// More, in the caller's words.
    pub detail: Option<Value>,
}

/// Which lines to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only lines behind this one.
    pub after: Option<i64>,
    /// Only lines from this time on.
    pub since: Option<Timestamp>,
    /// Only this tenant's.
    pub tenant: Option<TenantId>,
    /// Only this app's.
    pub client_id: Option<ClientId>,
    /// At most so many lines; 0 means [`EventFilter::MOST`], and more are never given.
    pub limit: u32,
}

impl EventFilter {
    /// So many lines are given at once.
    pub const MOST: u32 = 1000;
}

/// How much of the log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Older lines go.
    pub age: SignedDuration,
    /// Of more lines, the oldest go.
    pub lines: u32,
}

impl Default for Retention {
    /// A quarter of a year, and not more than 200,000 lines (about 100 MB).
    fn default() -> Self {
        Self { age: SignedDuration::from_hours(90 * 24), lines: 200_000 }
    }
}

impl TryFrom<Row> for Event {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let aadsts = row.optional_number("aadsts")?.map(u32::try_from).transpose();
        Ok(Self {
            sequence: row.number("sequence")?,
            at: row.time("at")?,
            kind: row.text("kind")?,
            result: row.text("result")?,
            tenant: row.optional("tenant_id")?,
            client_id: row.optional("client_id")?,
            aadsts: aadsts.map_err(|error| row.nonsense("aadsts", error))?,
            correlation_id: row.optional("correlation_id")?,
            trace_id: row.optional_text("trace_id")?,
            key_id: row.optional("key_id")?,
            detail: row.optional_json("detail")?,
        })
    }
}

impl Transaction {
    /// Writes a line. Every [`PRUNE_EVERY`]th prunes the log by the default [`Retention`], so it is bounded whoever writes.
    pub async fn append_event(&mut self, new: &NewEvent) -> Result<i64, StoreError> {
        let query = sqlx::query(
            "-- event.append
             INSERT INTO events (sequence, at, kind, result, tenant_id, client_id, aadsts, correlation_id, trace_id,
                                 key_id, detail)
             VALUES ((SELECT COALESCE(MAX(sequence), 0) + 1 FROM events), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             RETURNING sequence",
        )
        .bind(milliseconds(self.now()))
        .bind(new.kind.clone())
        .bind(new.result.clone())
        .bind(new.tenant.map(|id| id.to_string()))
        .bind(new.client_id.map(|id| id.to_string()))
        .bind(new.aadsts.map(i64::from))
        .bind(new.correlation_id.map(|id| id.to_string()))
        .bind(new.trace_id.clone())
        .bind(new.key_id.map(|id| id.to_string()))
        .bind(new.detail.as_ref().map(Value::to_string));
        let sequence = self.fetch_one("events", "sequence", query).await?.number("sequence")?;
        if sequence % PRUNE_EVERY == 0 {
            self.prune_events(Retention::default()).await?;
        }
        Ok(sequence)
    }

    /// The lines that match, oldest first; of too many, the oldest behind [`EventFilter::after`] if that is given, else the newest.
    pub async fn events(&mut self, filter: &EventFilter) -> Result<Vec<Event>, StoreError> {
        let newest_first = sqlx::query(
            "-- event.list_newest
             SELECT sequence, at, kind, result, tenant_id, client_id, aadsts, correlation_id, trace_id, key_id, detail
             FROM events
             WHERE sequence > $1 AND at >= $2 AND ($3 = '' OR tenant_id = $3) AND ($4 = '' OR client_id = $4)
             ORDER BY sequence DESC LIMIT $5",
        );
        let oldest_first = sqlx::query(
            "-- event.list_after
             SELECT sequence, at, kind, result, tenant_id, client_id, aadsts, correlation_id, trace_id, key_id, detail
             FROM events
             WHERE sequence > $1 AND at >= $2 AND ($3 = '' OR tenant_id = $3) AND ($4 = '' OR client_id = $4)
             ORDER BY sequence LIMIT $5",
        );
        let limit = if filter.limit == 0 { EventFilter::MOST } else { filter.limit.min(EventFilter::MOST) };
        let query = if filter.after.is_some() { oldest_first } else { newest_first }
            .bind(filter.after.unwrap_or(0))
            .bind(filter.since.map_or(i64::MIN, milliseconds))
            .bind(filter.tenant.map_or_else(String::new, |id| id.to_string()))
            .bind(filter.client_id.map_or_else(String::new, |id| id.to_string()))
            .bind(i64::from(limit));
        let rows = self.fetch_all("events", "sequence", query).await?;
        let mut events: Vec<Event> = rows.into_iter().map(Event::try_from).collect::<Result<_, _>>()?;
        events.sort_by_key(|event| event.sequence);
        Ok(events)
    }

    /// Removes what need not be kept, and says how many lines.
    pub async fn prune_events(&mut self, keep: Retention) -> Result<u64, StoreError> {
        let oldest = self.now().saturating_sub(keep.age).unwrap_or(Timestamp::MIN);
        let query = sqlx::query(
            "-- event.prune
             DELETE FROM events
             WHERE at < $1 OR sequence <= (SELECT COALESCE(MAX(sequence), 0) FROM events) - $2",
        )
        .bind(milliseconds(oldest))
        .bind(i64::from(keep.lines));
        self.execute("the log", query).await
    }
}

impl Store {
    delegate! {
        write append_event(new: &NewEvent) -> i64;
        read events(filter: &EventFilter) -> Vec<Event>;
        write prune_events(keep: Retention) -> u64;
    }
}

/// Rare enough to cost nothing, often enough that the log never holds much more than it should.
const PRUNE_EVERY: i64 = 1000;
