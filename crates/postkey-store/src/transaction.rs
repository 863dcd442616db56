//! One unit of work: what happens in it becomes durable together, or not at all.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::{
    Any,
    any::{AnyArguments, AnyQueryResult},
    query::Query,
};
use zeroize::Zeroizing;

use crate::{MasterKeys, StoreError, dialect::Access, row::Row, sealed::Place, store::Shared};

/// A transaction of [`Store::transaction`](crate::Store::transaction). Dropped without a commit, it leaves nothing behind.
pub struct Transaction {
    inner: sqlx::Transaction<'static, Any>,
    shared: Arc<Shared>,
    operation: &'static str,
    now: Timestamp,
    announced: bool,
}

impl Transaction {
    pub(crate) async fn begin(
        shared: Arc<Shared>,
        operation: &'static str,
        access: Access,
    ) -> Result<Self, StoreError> {
        let begun = shared.pool.begin_with(shared.dialect.begin(access)).await;
        let inner = begun.map_err(|error| shared.classify(operation, error))?;
        let now = shared.clock.now();
        // The store keeps milliseconds; a value must be the same before and after it was stored.
        let now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        Ok(Self { inner, shared, operation, now, announced: false })
    }

    /// The time of everything that is written in this transaction, in whole milliseconds.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What is written here is kept in memory by others: [`Changes`](crate::Changes) tells them.
    pub(crate) fn announce(&mut self) {
        self.announced = true;
    }

    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        if self.announced {
            self.raise_revision().await?;
        }
        let Self { inner, shared, operation, .. } = self;
        inner.commit().await.map_err(|error| shared.classify(operation, error))
    }

    /// At once, so that the next transaction need not wait; what fails here, the database rolls back by itself.
    pub(crate) async fn roll_back(self) {
        let _ = self.inner.rollback().await;
    }

    /// The rows of a query; `key` is the column by which an error names a row of `table`.
    pub(crate) async fn fetch_all(
        &mut self,
        table: &'static str,
        key: &'static str,
        query: Query<'_, Any, AnyArguments>,
    ) -> Result<Vec<Row>, StoreError> {
        match query.fetch_all(&mut *self.inner).await {
            Ok(rows) => Ok(rows.into_iter().map(|row| Row::new(table, key, row)).collect()),
            Err(error) => Err(self.shared.classify(self.operation, error)),
        }
    }

    /// The first row. All are fetched: SQLite must step a `RETURNING` statement to its end.
    pub(crate) async fn fetch_optional(
        &mut self,
        table: &'static str,
        key: &'static str,
        query: Query<'_, Any, AnyArguments>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.fetch_all(table, key, query).await?.into_iter().next())
    }

    pub(crate) async fn fetch_one(
        &mut self,
        table: &'static str,
        key: &'static str,
        query: Query<'_, Any, AnyArguments>,
    ) -> Result<Row, StoreError> {
        let row = self.fetch_optional(table, key, query).await?;
        row.ok_or_else(|| StoreError::NotFound { what: format!("row of {table}") })
    }

    /// Runs a statement and says how many rows it touched. `what` names what it writes, for [`StoreError::Exists`].
    pub(crate) async fn execute(&mut self, what: &str, query: Query<'_, Any, AnyArguments>) -> Result<u64, StoreError> {
        match query.execute(&mut *self.inner).await {
            Ok(done) => Ok(AnyQueryResult::rows_affected(&done)),
            Err(error) => Err(self.shared.classify_write(self.operation, what, error)),
        }
    }

    /// Seals a value under the newest key version that the store knows.
    pub(crate) async fn seal(&mut self, place: &Place, plain: &[u8]) -> Result<String, StoreError> {
        let keys = self.sealing_keys().await?;
        Ok(place.seal(&keys, plain))
    }

    /// Opens a sealed value; if another program has added a key version meanwhile, the key is read again.
    pub(crate) async fn open(&mut self, place: &Place, sealed: &str) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        match place.open(&self.shared.keys(), &self.shared.location, sealed) {
            Err(StoreError::MissingKey { .. }) => {
                let keys = self.shared.reload_keys().await?;
                place.open(&keys, &self.shared.location, sealed)
            }
            outcome => outcome,
        }
    }

    /// Asked in the transaction that seals: what is sealed under an old version while the key rotates would be lost.
    async fn sealing_keys(&mut self) -> Result<MasterKeys, StoreError> {
        let query = sqlx::query(
            "-- key_check.newest
             SELECT MAX(version) AS version FROM key_checks",
        );
        let newest = self.fetch_one("key_checks", "version", query).await?.number("version")?;
        let keys = self.shared.keys();
        if i64::from(keys.newest()) >= newest {
            return Ok(keys);
        }
        let keys = self.shared.reload_keys().await?;
        match u32::try_from(newest) {
            Ok(version) if keys.key(version).is_none() => {
                Err(StoreError::MissingKey { location: self.shared.location.clone(), version })
            }
            _ => Ok(keys),
        }
    }
}

/// What only the other files of the crate need.
impl Transaction {
    pub(crate) fn dialect(&self) -> crate::dialect::Dialect {
        self.shared.dialect
    }

    pub(crate) fn location(&self) -> &crate::Location {
        &self.shared.location
    }

    pub(crate) fn connection(&mut self) -> &mut sqlx::AnyConnection {
        &mut self.inner
    }

    pub(crate) fn classify(&self, error: sqlx::Error) -> StoreError {
        self.shared.classify(self.operation, error)
    }
}
