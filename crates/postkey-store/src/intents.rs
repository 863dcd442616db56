//! The journal: every external mutation is written before it is sent, and its result together with its consequence.
//! Rows are only ever added.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Lease, Store, StoreError, Transaction,
    row::{Row, local_id, milliseconds},
    store::delegate,
};

local_id!(
    /// One intended mutation.
    IntentId
);

/// A mutation that is about to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIntent {
    /// Its id, which the result will name.
    pub id: IntentId,
    /// Which call: `app.create`, `credential.add_password`.
    pub kind: String,
    /// What it acts on, in the caller's words; [`Transaction::intents`] finds it by this.
    pub subject: String,
    /// What marks the thing it makes, so that it is recognised later.
    pub nonce: Option<String>,
    /// The rest of what recovery needs; never a secret.
    pub payload: Value,
}

/// A journalled mutation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Its id.
    pub id: IntentId,
    /// Its place in the journal: grows, and is unique.
    pub sequence: i64,
    /// The lease's epoch it was written under; `None` without a lease.
    pub epoch: Option<i64>,
    /// Which call.
    pub kind: String,
    /// What it acts on.
    pub subject: String,
    /// What marks the thing it makes.
    pub nonce: Option<String>,
    /// The rest of what recovery needs.
    pub payload: Value,
    /// When it was written.
    pub at: Timestamp,
    /// What came back; `None` means that nobody knows whether the call took effect.
    pub result: Option<IntentResult>,
}

/// What came back from a mutation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentResult {
    /// The caller's words; never a secret.
    pub result: Value,
    /// When it was written.
    pub at: Timestamp,
}

impl TryFrom<Row> for Intent {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let result = match row.optional_json("result")? {
            Some(result) => Some(IntentResult { result, at: row.time("result_at")? }),
            None => None,
        };
        Ok(Self {
            id: row.parse("id")?,
            sequence: row.number("sequence")?,
            epoch: row.optional_number("epoch")?,
            kind: row.text("kind")?,
            subject: row.text("subject")?,
            nonce: row.optional_text("nonce")?,
            payload: row.json("payload")?,
            at: row.time("at")?,
            result,
        })
    }
}

impl Transaction {
    /// Journals a mutation. Send it only after the commit. Under a lease, the lease is checked in the same transaction:
    /// [`StoreError::LeaseLost`] if it is no longer ours.
    pub async fn append_intent(&mut self, new: &NewIntent, lease: Option<&Lease>) -> Result<(), StoreError> {
        if let Some(lease) = lease {
            self.confirm_lease(lease).await?;
        }
        let query = sqlx::query(
            "-- intent.append
             INSERT INTO intents (id, sequence, epoch, kind, subject, nonce, payload, at)
             VALUES ($1, (SELECT COALESCE(MAX(sequence), 0) + 1 FROM intents), $2, $3, $4, $5, $6, $7)",
        )
        .bind(new.id.to_string())
        .bind(lease.map(|lease| lease.epoch))
        .bind(new.kind.clone())
        .bind(new.subject.clone())
        .bind(new.nonce.clone())
        .bind(new.payload.to_string())
        .bind(milliseconds(self.now()));
        self.execute(&format!("the intent {}", new.id), query).await.map(drop)
    }

    /// Writes what came back, once: a second result is [`StoreError::Exists`]. Commit it together with its consequence.
    pub async fn record_result(&mut self, intent: IntentId, result: &Value) -> Result<(), StoreError> {
        let query = sqlx::query(
            "-- intent.record_result
             INSERT INTO intent_results (intent_id, result, at) VALUES ($1, $2, $3)",
        )
        .bind(intent.to_string())
        .bind(result.to_string())
        .bind(milliseconds(self.now()));
        self.execute(&format!("a result of intent {intent}"), query).await.map(drop)
    }

    /// A journalled mutation.
    pub async fn intent(&mut self, id: IntentId) -> Result<Option<Intent>, StoreError> {
        let query = sqlx::query(
            "-- intent.find
             SELECT intents.id, sequence, epoch, kind, subject, nonce, payload, intents.at,
                    intent_results.result, intent_results.at AS result_at
             FROM intents LEFT JOIN intent_results ON intent_results.intent_id = intents.id
             WHERE intents.id = $1",
        )
        .bind(id.to_string());
        self.fetch_optional("intents", "id", query).await?.map(Intent::try_from).transpose()
    }

    /// All mutations of one subject, in the order in which they were journalled.
    pub async fn intents(&mut self, subject: &str) -> Result<Vec<Intent>, StoreError> {
        let query = sqlx::query(
            "-- intent.list
             SELECT intents.id, sequence, epoch, kind, subject, nonce, payload, intents.at,
                    intent_results.result, intent_results.at AS result_at
             FROM intents LEFT JOIN intent_results ON intent_results.intent_id = intents.id
             WHERE subject = $1 ORDER BY sequence",
        )
        .bind(subject.to_owned());
        self.fetch_all("intents", "id", query).await?.into_iter().map(Intent::try_from).collect()
    }

    /// The mutations of which nobody knows whether they took effect, oldest first: what recovery must look into.
    pub async fn open_intents(&mut self) -> Result<Vec<Intent>, StoreError> {
        let query = sqlx::query(
            "-- intent.list_open
             SELECT intents.id, sequence, epoch, kind, subject, nonce, payload, intents.at,
                    intent_results.result, intent_results.at AS result_at
             FROM intents LEFT JOIN intent_results ON intent_results.intent_id = intents.id
             WHERE intent_results.intent_id IS NULL ORDER BY sequence",
        );
        self.fetch_all("intents", "id", query).await?.into_iter().map(Intent::try_from).collect()
    }
}

impl Store {
    delegate! {
        write append_intent(new: &NewIntent, lease: Option<&Lease>) -> ();
        write record_result(intent: IntentId, result: &Value) -> ();
        read intent(id: IntentId) -> Option<Intent>;
        read intents(subject: &str) -> Vec<Intent>;
        read open_intents() -> Vec<Intent>;
    }
}
