//! How many messages there are and what was used of quotas: counters that change in the commit of what they count.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    MessageState, SenderId, Store, StoreError, SubmitterId, Transaction,
    messages::submitter_of,
    row::{Row, milliseconds},
    store::delegate,
};

/// So many messages of a sender are in a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageCount {
    /// The sender.
    pub sender: SenderId,
    /// Who handed them in.
    pub submitter: Option<SubmitterId>,
    /// Their state.
    pub state: MessageState,
    /// How many.
    pub messages: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
}

/// Work there is for one sender from one submitter: messages that are queued or deferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// As whom they go out.
    pub sender: SenderId,
    /// Who handed them in.
    pub submitter: Option<SubmitterId>,
    /// How many wait, due or not.
    pub waiting: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
    /// How many are due, counted up to [`Waiting::DUE_COUNTED`].
    pub due: u64,
    /// When the oldest that waits was due first: the smallest due time of all.
    pub oldest: Timestamp,
    /// When the next becomes due that is not yet.
    pub next_due: Option<Timestamp>,
}

impl Waiting {
    /// Beyond so many, `due` is not counted on.
    pub const DUE_COUNTED: u64 = 100;
}

/// What was used in five minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageBucket {
    /// When the five minutes begin.
    pub from: Timestamp,
    /// Messages.
    pub messages: u64,
    /// Their recipients.
    pub recipients: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Whose use is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Usage {
    /// A submitter's, when it hands in.
    Submitted(SubmitterId),
    /// A sender's, when the far end takes it.
    Sent(SenderId),
}

impl Usage {
    fn parts(self) -> (&'static str, String) {
        match self {
            Self::Submitted(id) => ("submitted", id.to_string()),
            Self::Sent(id) => ("sent", id.to_string()),
        }
    }
}

/// What one change adds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counting {
    pub(crate) messages: i64,
    pub(crate) recipients: i64,
    pub(crate) bytes: i64,
}

impl Counting {
    fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.recipients += other.recipients;
        self.bytes += other.bytes;
    }
}

/// All counters that one transaction changes, added up and in the order of their keys: two transactions that take rows in the
/// same order never wait for each other in a circle.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    states: BTreeMap<(SenderId, Option<SubmitterId>, &'static str), Counting>,
    pub(crate) usage: UsageLedger,
}

/// What was used of quotas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UsageLedger(BTreeMap<(i64, Usage), Counting>);

impl UsageLedger {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, usage: Usage, at: Timestamp, used: Counting) {
        self.0.entry((bucket(at), usage)).or_default().add(used);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (key, used) in other.0 {
            self.0.entry(key).or_default().add(used);
        }
    }

    /// The statements' rows: (bucket, kind, id, used).
    pub(crate) fn rows(&self) -> impl Iterator<Item = (i64, &'static str, String, Counting)> + '_ {
        self.0.iter().map(|((bucket, usage), counting)| {
            let (kind, id) = usage.parts();
            (*bucket, kind, id, *counting)
        })
    }
}

impl Ledger {
    /// So many messages more, or fewer, are in a state.
    pub(crate) fn count(
        &mut self,
        sender: SenderId,
        submitter: Option<SubmitterId>,
        state: MessageState,
        messages: i64,
        bytes: i64,
    ) {
        let more = Counting { messages, recipients: 0, bytes };
        self.states.entry((sender, submitter, state.word())).or_default().add(more);
    }

    /// The statements' rows: (sender, submitter, state, messages, bytes).
    pub(crate) fn states(&self) -> impl Iterator<Item = (String, String, &'static str, Counting)> + '_ {
        self.states.iter().filter(|(_, counting)| **counting != Counting::default()).map(
            |((sender, submitter, state), counting)| {
                (sender.to_string(), crate::messages::submitter_key(*submitter), *state, *counting)
            },
        )
    }
}

impl Transaction {
    /// Writes a ledger row by row, under the stripe of those who write seldom.
    pub(crate) async fn write_ledger(&mut self, ledger: &Ledger) -> Result<(), StoreError> {
        for (sender, submitter, state, counting) in ledger.states() {
            let query = sqlx::query(ADD_COUNT)
                .bind(sender)
                .bind(submitter)
                .bind(state)
                .bind(SELDOM)
                .bind(counting.messages)
                .bind(counting.bytes);
            self.execute("the count", query).await?;
        }
        Ok(())
    }

    /// How many messages there are, by sender, submitter and state; what is zero is left out.
    pub async fn count_messages(&mut self) -> Result<Vec<MessageCount>, StoreError> {
        let query = sqlx::query(
            "-- message_count.list
             SELECT sender_id, submitter_id, state, CAST(SUM(messages) AS BIGINT) AS messages,
                    CAST(SUM(bytes) AS BIGINT) AS bytes
             FROM message_counts GROUP BY sender_id, submitter_id, state HAVING SUM(messages) <> 0
             ORDER BY sender_id, submitter_id, state",
        );
        let rows = self.fetch_all("message_counts", "sender_id", query).await?;
        rows.iter()
            .map(|row| {
                Ok(MessageCount {
                    sender: row.parse("sender_id")?,
                    submitter: submitter_of(row)?,
                    state: row.parse("state")?,
                    messages: unsigned(row, "messages")?,
                    bytes: unsigned(row, "bytes")?,
                })
            })
            .collect()
    }

    /// How many messages of a sender are neither accepted nor given up.
    pub(crate) async fn count_unsettled(&mut self, sender: SenderId) -> Result<u64, StoreError> {
        let query = sqlx::query(
            "-- message_count.unsettled
             SELECT CAST(COALESCE(SUM(messages), 0) AS BIGINT) AS messages FROM message_counts
             WHERE sender_id = $1 AND state IN ('queued', 'sending', 'deferred', 'unknown')",
        )
        .bind(sender.to_string());
        unsigned(&self.fetch_one("message_counts", "messages", query).await?, "messages")
    }

    /// The work there is, by sender and submitter.
    pub async fn waiting(&mut self) -> Result<Vec<Waiting>, StoreError> {
        let mut work: Vec<Waiting> = Vec::new();
        for count in self.count_messages().await? {
            if !matches!(count.state, MessageState::Queued | MessageState::Deferred) {
                continue;
            }
            match work.last_mut().filter(|last| (last.sender, last.submitter) == (count.sender, count.submitter)) {
                Some(last) => {
                    last.waiting += count.messages;
                    last.bytes += count.bytes;
                }
                None => work.push(Waiting {
                    sender: count.sender,
                    submitter: count.submitter,
                    waiting: count.messages,
                    bytes: count.bytes,
                    due: 0,
                    oldest: self.now(),
                    next_due: None,
                }),
            }
        }
        for waiting in &mut work {
            self.look_at_due(waiting).await?;
        }
        Ok(work)
    }

    /// What a submitter has handed in since then.
    pub async fn submitted(
        &mut self,
        submitter: SubmitterId,
        since: Timestamp,
    ) -> Result<Vec<UsageBucket>, StoreError> {
        self.usage(Usage::Submitted(submitter), since).await
    }

    /// What was sent as a sender since then, oldest first: messages, recipients and bytes that the far end took.
    pub async fn sent(&mut self, sender: SenderId, since: Timestamp) -> Result<Vec<UsageBucket>, StoreError> {
        self.usage(Usage::Sent(sender), since).await
    }

    /// Recipients sent to as a sender since then, by buckets of five minutes, oldest first.
    pub async fn sent_recipients(
        &mut self,
        sender: SenderId,
        since: Timestamp,
    ) -> Result<Vec<(Timestamp, u64)>, StoreError> {
        Ok(self.sent(sender, since).await?.into_iter().map(|bucket| (bucket.from, bucket.recipients)).collect())
    }

    async fn usage(&mut self, usage: Usage, since: Timestamp) -> Result<Vec<UsageBucket>, StoreError> {
        let (kind, id) = usage.parts();
        let query = sqlx::query(
            "-- message_usage.list
             SELECT bucket, CAST(SUM(messages) AS BIGINT) AS messages, CAST(SUM(recipients) AS BIGINT) AS recipients,
                    CAST(SUM(bytes) AS BIGINT) AS bytes
             FROM message_usage WHERE kind = $1 AND id = $2 AND bucket >= $3 GROUP BY bucket ORDER BY bucket",
        )
        .bind(kind)
        .bind(id)
        .bind(bucket(since));
        let rows = self.fetch_all("message_usage", "bucket", query).await?;
        rows.iter()
            .map(|row| {
                Ok(UsageBucket {
                    from: row.time("bucket")?,
                    messages: unsigned(row, "messages")?,
                    recipients: unsigned(row, "recipients")?,
                    bytes: unsigned(row, "bytes")?,
                })
            })
            .collect()
    }

    /// Forgets usage that no quota looks at any more.
    pub(crate) async fn prune_usage(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let query = sqlx::query(
            "-- message_usage.prune
             DELETE FROM message_usage WHERE bucket < $1",
        )
        .bind(milliseconds(before));
        self.execute("the usage", query).await
    }
}

impl Store {
    delegate! {
        read count_messages() -> Vec<MessageCount>;
        read waiting() -> Vec<Waiting>;
        read submitted(submitter: SubmitterId, since: Timestamp) -> Vec<UsageBucket>;
        read sent(sender: SenderId, since: Timestamp) -> Vec<UsageBucket>;
        read sent_recipients(sender: SenderId, since: Timestamp) -> Vec<(Timestamp, u64)>;
    }
}

/// The beginning of the five minutes in which a time lies.
fn bucket(at: Timestamp) -> i64 {
    let at = milliseconds(at);
    at - at.rem_euclid(BUCKET_MILLISECONDS)
}

fn unsigned(row: &Row, column: &'static str) -> Result<u64, StoreError> {
    u64::try_from(row.number(column)?).map_err(|error| row.nonsense(column, error))
}

const ADD_COUNT: &str = "-- message_count.add
     INSERT INTO message_counts (sender_id, submitter_id, state, stripe, messages, bytes) VALUES ($1, $2, $3, $4, $5, $6)
     ON CONFLICT (sender_id, submitter_id, state, stripe) DO UPDATE SET
         messages = message_counts.messages + excluded.messages, bytes = message_counts.bytes + excluded.bytes";

/// The stripe of commands and requests; each grouped writer has another.
const SELDOM: i64 = 0;

const BUCKET_MILLISECONDS: i64 = 5 * 60 * 1000;
