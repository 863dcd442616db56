//! What the doctor asks of the store.

use std::{fs, os::unix::fs::PermissionsExt};

use serde::{Deserialize, Serialize};

use crate::{
    Location, Store, StoreError,
    dialect::{Access, quick_check},
    migrate,
};

/// The store's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCheck {
    /// Where it is, without a password.
    pub location: String,
    /// `sqlite` or `postgres`.
    pub engine: String,
    /// The schema it has.
    pub schema: i64,
    /// The schema this program knows.
    pub newest_schema: i64,
    /// Versions of the master key that are in use; more than one means that a rotation was not finished.
    pub key_versions: Vec<u32>,
    /// The size of the database in bytes; unknown for PostgreSQL.
    pub size_bytes: Option<u64>,
    /// Room left on its disk in bytes, for this user; unknown for PostgreSQL.
    pub free_bytes: Option<u64>,
    /// Whether others than the owner may read the file; unknown for PostgreSQL.
    pub open_to_others: Option<bool>,
    /// What the database finds wrong with itself; `None` is healthy. PostgreSQL is only asked for its tables.
    pub damage: Option<String>,
}

impl Store {
    /// Looks at everything that can be wrong with a store that is open. Takes seconds on a large one.
    pub async fn check(&self) -> Result<StoreCheck, StoreError> {
        let mut transaction = self.begin("store.check", Access::Read).await?;
        let schema = transaction.schema_version().await?;
        let checks = transaction.key_checks().await?;
        transaction.commit().await?;
        let mut check = StoreCheck {
            location: self.location().to_string(),
            engine: "postgres".into(),
            schema,
            newest_schema: migrate::newest(),
            key_versions: checks.iter().filter_map(|(version, _)| u32::try_from(*version).ok()).collect(),
            size_bytes: None,
            free_bytes: None,
            open_to_others: None,
            damage: None,
        };
        if let Location::Sqlite(path) = self.location() {
            check.engine = "sqlite".into();
            let unreadable = |cause| StoreError::NotWritable { path: path.clone(), cause };
            let file = fs::metadata(path).map_err(unreadable)?;
            let room = rustix::fs::statvfs(path).map_err(|error| unreadable(error.into()))?;
            check.size_bytes = Some(file.len());
            check.free_bytes = Some(room.f_bavail * room.f_frsize);
            check.open_to_others = Some(file.permissions().mode() & 0o077 != 0);
            let acquired = self.shared.pool.acquire().await;
            let mut connection = acquired.map_err(|error| self.shared.classify("store.check", error))?;
            match quick_check(&mut connection, self.location()).await {
                Ok(()) => {}
                Err(StoreError::Damaged { finding, .. }) => check.damage = Some(finding),
                Err(error) => return Err(error),
            }
        }
        Ok(check)
    }
}
