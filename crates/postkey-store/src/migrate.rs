//! The schema: numbered texts, only ever added to. Each is applied once, all pending ones in one transaction.

use std::sync::Arc;

use sqlx::{Any, AnyConnection, AssertSqlSafe, Executor, Row as _};

use crate::{
    Location, MasterKeys, StoreError, Transaction,
    dialect::{Access, Dialect},
    row::milliseconds,
    sealed::Place,
    store::Shared,
};

/// Number and text; the numbers are 1, 2, 3 …
const MIGRATIONS: &[(i64, &str)] =
    &[(1, include_str!("migrations/0001_begin.sql")), (2, include_str!("migrations/0002_queue.sql"))];

/// The newest schema that this program knows.
pub(crate) fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, |(number, _)| *number)
}

/// Whether we may use what is there. Changes nothing.
pub(crate) async fn inspect(
    connection: &mut AnyConnection,
    dialect: Dialect,
    location: &Location,
    keys: &MasterKeys,
) -> Result<(), StoreError> {
    let classify = |error| dialect.classify(location, "store.inspect", error);
    let tables: Vec<String> =
        sqlx::query_scalar(dialect.list_tables()).fetch_all(&mut *connection).await.map_err(classify)?;
    if !tables.iter().any(|table| table == "schema_versions") {
        return match tables.into_iter().next() {
            None => Ok(()),
            Some(table) => Err(StoreError::Foreign { location: location.clone(), table }),
        };
    }
    let found: Option<i64> = sqlx::query_scalar(SELECT_SCHEMA).fetch_one(&mut *connection).await.map_err(classify)?;
    let (found, known) = (found.unwrap_or(0), newest());
    if found > known {
        return Err(StoreError::NewerSchema { location: location.clone(), found, known });
    }
    let rows = sqlx::query::<Any>(SELECT_CHECKS).fetch_all(&mut *connection).await.map_err(classify)?;
    for row in rows {
        let version: i64 = row.try_get("version").map_err(classify)?;
        let sealed: String = row.try_get("sealed").map_err(classify)?;
        verify_key(location, keys, version, &sealed)?;
    }
    Ok(())
}

/// Applies what is pending and leaves a check value for the newest key version, all in one commit.
pub(crate) async fn bring_up_to_date(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let mut transaction = Transaction::begin(Arc::clone(shared), "store.read_schema", Access::Read).await?;
    let keys = shared.keys();
    if transaction.schema_version().await? == newest() && transaction.key_check(keys.newest()).await?.is_some() {
        return transaction.commit().await;
    }
    drop(transaction);

    let mut transaction = Transaction::begin(Arc::clone(shared), "store.migrate", Access::Migrate).await?;
    if let Some(lock) = shared.dialect.lock_schema() {
        transaction.execute_raw(lock.into()).await?;
    }
    let found = transaction.schema_version().await?;
    for (number, text) in MIGRATIONS.iter().filter(|(number, _)| *number > found) {
        transaction.execute_raw(shared.dialect.schema_text(text)).await?;
        let query = sqlx::query(
            "-- schema_version.insert
             INSERT INTO schema_versions (version, applied_at) VALUES ($1, $2)",
        )
        .bind(*number)
        .bind(milliseconds(transaction.now()));
        transaction.execute("the schema", query).await?;
    }
    transaction.save_key_check(&keys).await?;
    transaction.commit().await
}

/// Whether a check value opens with the key of its version.
pub(crate) fn verify_key(location: &Location, keys: &MasterKeys, version: i64, sealed: &str) -> Result<(), StoreError> {
    match check_place(version).open(keys, location, sealed) {
        Ok(_) => Ok(()),
        Err(StoreError::Sealed { version, .. }) => Err(StoreError::WrongKey { location: location.clone(), version }),
        Err(error) => Err(error),
    }
}

impl Transaction {
    /// 0 for an empty database.
    pub(crate) async fn schema_version(&mut self) -> Result<i64, StoreError> {
        let tables = self.fetch_all("schema", "name", sqlx::query(self.dialect().list_tables())).await?;
        let mut names = tables.iter().map(|table| table.text("name"));
        if !names.any(|name| name.is_ok_and(|name| name == "schema_versions")) {
            return Ok(0);
        }
        let row = self.fetch_one("schema_versions", "version", sqlx::query(SELECT_SCHEMA)).await?;
        Ok(row.optional_number("version")?.unwrap_or(0))
    }

    /// Leaves a value that only the newest version opens, unless there is one, and makes sure that ours does.
    pub(crate) async fn save_key_check(&mut self, keys: &MasterKeys) -> Result<(), StoreError> {
        let version = i64::from(keys.newest());
        let query = sqlx::query(
            "-- key_check.insert
             INSERT INTO key_checks (version, sealed, created_at) VALUES ($1, $2, $3) ON CONFLICT (version) DO NOTHING",
        )
        .bind(version)
        .bind(check_place(version).seal(keys, b"postkey"))
        .bind(milliseconds(self.now()));
        self.execute("the key check", query).await?;
        for (version, sealed) in self.key_checks().await? {
            verify_key(self.location(), keys, version, &sealed)?;
        }
        Ok(())
    }

    /// Versions in use and their check values, oldest first.
    pub(crate) async fn key_checks(&mut self) -> Result<Vec<(i64, String)>, StoreError> {
        let rows = self.fetch_all("key_checks", "version", sqlx::query(SELECT_CHECKS)).await?;
        rows.iter().map(|row| Ok((row.number("version")?, row.text("sealed")?))).collect()
    }

    async fn key_check(&mut self, version: u32) -> Result<Option<String>, StoreError> {
        let checks = self.key_checks().await?;
        Ok(checks.into_iter().find(|(number, _)| *number == i64::from(version)).map(|(_, sealed)| sealed))
    }

    /// Several statements at once, without arguments.
    async fn execute_raw(&mut self, text: String) -> Result<(), StoreError> {
        let done = self.connection().execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
        done.map(drop).map_err(|error| self.classify(error))
    }
}

fn check_place(version: i64) -> Place {
    Place { table: "key_checks", row: version.to_string(), column: "sealed" }
}

const SELECT_SCHEMA: &str = "-- schema_version.find
     SELECT MAX(version) AS version FROM schema_versions";

const SELECT_CHECKS: &str = "-- key_check.list
     SELECT version, sealed FROM key_checks ORDER BY version";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_gaps() {
        let numbers: Vec<_> = MIGRATIONS.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (1..=newest()).collect::<Vec<_>>());
    }
}
