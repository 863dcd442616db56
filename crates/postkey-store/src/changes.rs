//! Whether something changed that others keep in memory: another process, or another part of this one, wrote since.

use std::sync::Arc;

use sqlx::{AnyConnection, Connection};
use tokio::sync::Mutex;

use crate::{
    Store, StoreError, Transaction,
    dialect::{Access, Dialect},
};

/// Tells whether submitters, keys, senders, tenants, apps, credentials, holds, webhooks, or the state of a message by a person's hand
/// changed. What the queue itself writes, message after message, is no change in this sense.
#[derive(Clone)]
pub struct Changes {
    store: Store,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// SQLite's own count of commits by others, asked through a connection that never writes: the cheapest question there is.
    watcher: Option<AnyConnection>,
    data_version: Option<i64>,
    revision: Option<i64>,
}

impl Store {
    /// A watcher of its own; its first [`Changes::poll`] is the state to which later ones compare.
    pub fn changes(&self) -> Changes {
        Changes { store: self.clone(), seen: Arc::default() }
    }
}

impl Changes {
    /// `true` if something was committed since the last call; the first call says `true`. What cannot be asked has changed:
    /// whoever reads again then meets the error.
    pub async fn poll(&self) -> bool {
        self.try_poll().await.unwrap_or(true)
    }

    async fn try_poll(&self) -> Result<bool, StoreError> {
        let mut seen = self.seen.lock().await;
        if self.store.shared.dialect == Dialect::Sqlite {
            let version = self.data_version(&mut seen).await?;
            if seen.data_version.replace(version) == Some(version) && seen.revision.is_some() {
                return Ok(false);
            }
        }
        let mut transaction = self.store.begin("changes.poll", Access::Read).await?;
        let revision = transaction.revision().await?;
        transaction.commit().await?;
        Ok(seen.revision.replace(revision) != Some(revision))
    }

    async fn data_version(&self, seen: &mut Seen) -> Result<i64, StoreError> {
        let shared = &self.store.shared;
        let watcher = match &mut seen.watcher {
            Some(watcher) => watcher,
            none => none.insert(shared.connect().await?),
        };
        let query = "-- database.data_version
                     PRAGMA data_version";
        let asked: Result<i64, _> = sqlx::query_scalar(query).fetch_one(&mut *watcher).await;
        if asked.is_err()
            && let Some(watcher) = seen.watcher.take()
        {
            let _ = watcher.close().await;
        }
        asked.map_err(|error| shared.classify("changes.poll", error))
    }
}

impl Transaction {
    pub(crate) async fn revision(&mut self) -> Result<i64, StoreError> {
        let query = sqlx::query(
            "-- revision.find
             SELECT CAST(COALESCE(SUM(revision), 0) AS BIGINT) AS revision FROM revisions",
        );
        self.fetch_one("revisions", "revision", query).await?.number("revision")
    }

    /// Part of every commit that [`Transaction::announce`] was called in.
    pub(crate) async fn raise_revision(&mut self) -> Result<(), StoreError> {
        let query = sqlx::query(
            "-- revision.raise
             INSERT INTO revisions (topic, revision) VALUES ('all', 1)
             ON CONFLICT (topic) DO UPDATE SET revision = revisions.revision + 1",
        );
        self.execute("the revision", query).await.map(drop)
    }
}
