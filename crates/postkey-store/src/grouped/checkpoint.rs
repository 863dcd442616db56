//! Moves SQLite's write-ahead log into the database beside the writer, so that hardly any commit waits for it. Left to SQLite,
//! every hundredth commit would write some megabytes and wait for the disk twice more.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use sqlx::{AnyConnection, Connection, Row as _};
use tokio::{sync::mpsc, task::JoinHandle};

use super::writer::OPERATION;
use crate::{Store, StoreError, dialect::Dialect};

/// The task that does it, and what the writer knows of the log.
pub(super) struct Checkpoints {
    wake: mpsc::Sender<()>,
    task: JoinHandle<()>,
    /// Pages written since the task was last woken: an estimate.
    pages: usize,
    /// Pages in the log when the task last looked.
    log: Arc<AtomicI64>,
}

impl Checkpoints {
    /// None for PostgreSQL, which sees to its log by itself.
    pub(super) fn start(store: &Store) -> Option<Self> {
        if store.shared.dialect != Dialect::Sqlite {
            return None;
        }
        // One request is enough: whoever finds one waiting need not add another.
        let (wake, mut woken) = mpsc::channel::<()>(1);
        let log = Arc::new(AtomicI64::new(0));
        let (store, seen) = (store.clone(), Arc::clone(&log));
        let task = tokio::spawn(async move {
            let mut connection = None;
            while woken.recv().await.is_some() {
                match checkpoint_through(&store, &mut connection).await {
                    Ok(pages) => seen.store(pages, Ordering::Relaxed),
                    // The log grows meanwhile, and the next request tries again.
                    Err(error) => {
                        tracing::debug!(error = %error, "the log was not moved into the database");
                        connection = None;
                    }
                }
            }
            if let Some(connection) = connection {
                let _ = connection.close().await;
            }
        });
        Some(Self { wake, task, pages: 0, log })
    }

    /// After a commit of so many jobs and bytes. Through the writer's own connection when the log has grown too long: while it writes, nobody
    /// else ever reaches the end of the log, and only from there it begins anew.
    pub(super) async fn after(&mut self, jobs: usize, bytes: usize, connection: &mut AnyConnection) {
        self.pages += bytes / PAGE_BYTES + jobs * 2 + 6;
        if self.pages >= WAKE_PAGES {
            self.pages = 0;
            let _ = self.wake.try_send(());
        }
        if self.log.load(Ordering::Relaxed) >= LONGEST_LOG {
            match checkpoint(connection).await {
                Ok(_) => self.log.store(0, Ordering::Relaxed),
                Err(error) => tracing::debug!(error = %error, "the log was not moved into the database"),
            }
        }
    }

    pub(super) async fn stop(self) {
        drop(self.wake);
        let _ = self.task.await;
    }
}

async fn checkpoint_through(store: &Store, connection: &mut Option<AnyConnection>) -> Result<i64, StoreError> {
    let connection = match connection {
        Some(connection) => connection,
        none => none.insert(store.shared.connect().await?),
    };
    checkpoint(connection).await.map_err(|error| store.shared.classify(OPERATION, error))
}

/// Moves as much as readers and the writer allow, and says how many pages the log has.
async fn checkpoint(connection: &mut AnyConnection) -> Result<i64, sqlx::Error> {
    let query = "-- database.checkpoint
                 PRAGMA wal_checkpoint(PASSIVE)";
    let rows = sqlx::query(query).fetch_all(connection).await?;
    // busy, pages in the log, pages moved
    rows.first().map_or(Ok(0), |row| row.try_get(1))
}

/// SQLite's own.
const PAGE_BYTES: usize = 4096;

/// Eight megabytes: what is written often is moved once.
const WAKE_PAGES: usize = 2048;

/// 64 MiB: then the writer itself moves the rest, which is little, because the task has moved all before.
const LONGEST_LOG: i64 = 16_384;
