//! Rotation of the master key. A crash at any point leaves a store that opens and a rotation that continues when called again.

use std::{fs, ops::ControlFlow, path::Path};

use crate::{KeyError, KeySource, MasterKeys, Store, StoreError, Transaction, sealed::Place, store::delegate};

/// One value was sealed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The version it is sealed with now.
    pub version: u32,
    /// So many were, in this call.
    pub resealed: u64,
}

/// How a rotation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// The version that seals now.
    pub version: u32,
    /// So many values were sealed anew in this call.
    pub resealed: u64,
    /// `false` if `progress` stopped it: both versions stay in the file until it is called again.
    pub finished: bool,
}

/// Adds a version to the key file, seals every value anew, and drops the old versions from the file when nothing uses them.
///
/// The file is durable before a value depends on it, and an old version goes last. If the file already holds several
/// versions, an earlier rotation was interrupted, and this one finishes it. Other programs that use the store read the
/// file again by themselves. `progress` is called for each value and may stop the rotation.
pub async fn rotate_master_key(
    store: &Store,
    path: &Path,
    progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Rotated, StoreError> {
    let _only_us = lock(path, store)?;
    let mut keys = MasterKeys::load(KeySource::File(path.to_owned()))?;
    store.verify_keys(&keys).await?;
    if keys.versions().len() == 1 {
        keys = keys.with_new_version();
        keys.replace_file(path)?;
    }
    let rotated = reseal(store, &keys, progress).await?;
    if rotated.finished {
        let keys = keys.only_newest();
        keys.replace_file(path)?;
        store.shared.use_keys(keys);
    }
    Ok(rotated)
}

/// Seals every value with the newest version of `keys`: what is left of a rotation where the key comes from the environment
/// or from systemd, and a person has added the new version. When it is finished, the old versions may go.
pub async fn reseal(
    store: &Store,
    keys: &MasterKeys,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Rotated, StoreError> {
    store.verify_keys(keys).await?;
    store.save_key_check(keys).await?;
    store.shared.use_keys(keys.clone());
    let (version, mut resealed) = (keys.newest(), 0);
    for column in SEALED_COLUMNS {
        loop {
            let Some(done) = store.reseal_batch(column, keys, resealed, &mut progress).await? else {
                return Ok(Rotated { version, resealed, finished: false });
            };
            resealed += done;
            if done == 0 {
                break;
            }
        }
    }
    store.drop_old_key_checks(version).await?;
    Ok(Rotated { version, resealed, finished: true })
}

/// A column of sealed values and how to go through it.
struct SealedColumn {
    table: &'static str,
    column: &'static str,
    select: &'static str,
    update: &'static str,
}

/// Every sealed column but the check values. A new one must be added here: a test compares this list with the schema.
const SEALED_COLUMNS: &[SealedColumn] = &[
    SealedColumn {
        table: "credentials",
        column: "secret",
        select: "-- credential.list_sealed_secrets
                 SELECT id, secret AS sealed FROM credentials
                 WHERE secret IS NOT NULL AND secret NOT LIKE $1 ORDER BY id LIMIT $2",
        update: "-- credential.reseal_secret
                 UPDATE credentials SET secret = $3 WHERE id = $1 AND secret = $2",
    },
    SealedColumn {
        table: "credentials",
        column: "private_key",
        select: "-- credential.list_sealed_private_keys
                 SELECT id, private_key AS sealed FROM credentials
                 WHERE private_key IS NOT NULL AND private_key NOT LIKE $1 ORDER BY id LIMIT $2",
        update: "-- credential.reseal_private_key
                 UPDATE credentials SET private_key = $3 WHERE id = $1 AND private_key = $2",
    },
    SealedColumn {
        table: "senders",
        column: "secret",
        select: "-- sender.list_sealed_secrets
                 SELECT id, secret AS sealed FROM senders
                 WHERE secret IS NOT NULL AND secret NOT LIKE $1 ORDER BY id LIMIT $2",
        update: "-- sender.reseal_secret
                 UPDATE senders SET secret = $3 WHERE id = $1 AND secret = $2",
    },
    SealedColumn {
        table: "sealed_keys",
        column: "bytes",
        select: "-- sealed_key.list_sealed
                 SELECT id, bytes AS sealed FROM sealed_keys WHERE bytes NOT LIKE $1 ORDER BY id LIMIT $2",
        update: "-- sealed_key.reseal
                 UPDATE sealed_keys SET bytes = $3 WHERE id = $1 AND bytes = $2",
    },
    SealedColumn {
        table: "webhooks",
        column: "secret",
        select: "-- webhook.list_sealed_secrets
                 SELECT id, secret AS sealed FROM webhooks WHERE secret NOT LIKE $1 ORDER BY id LIMIT $2",
        update: "-- webhook.reseal_secret
                 UPDATE webhooks SET secret = $3 WHERE id = $1 AND secret = $2",
    },
];

impl Transaction {
    /// Some values that are not sealed with `version`: row id and sealed text.
    async fn sealed_otherwise(
        &mut self,
        column: &SealedColumn,
        version: u32,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let query = sqlx::query(column.select).bind(format!("{version}:%")).bind(BATCH);
        let rows = self.fetch_all(column.table, "id", query).await?;
        rows.iter().map(|row| Ok((row.text("id")?, row.text("sealed")?))).collect()
    }

    async fn reseal(
        &mut self,
        column: &SealedColumn,
        keys: &MasterKeys,
        (id, sealed): &(String, String),
    ) -> Result<(), StoreError> {
        let place = Place { table: column.table, row: id.clone(), column: column.column };
        let plain = place.open(keys, self.location(), sealed)?;
        let query =
            sqlx::query(column.update).bind(id.clone()).bind(sealed.clone()).bind(place.seal(keys, plain.as_slice()));
        match self.execute("the sealed value", query).await? {
            0 => Err(StoreError::Changed { what: format!("{} {id}", column.table) }),
            _ => Ok(()),
        }
    }

    pub(crate) async fn verify_keys(&mut self, keys: &MasterKeys) -> Result<(), StoreError> {
        for (version, sealed) in self.key_checks().await? {
            crate::migrate::verify_key(self.location(), keys, version, &sealed)?;
        }
        Ok(())
    }

    /// Forgets the old versions, once nothing is sealed with them; looked up in the same transaction.
    pub(crate) async fn drop_old_key_checks(&mut self, version: u32) -> Result<(), StoreError> {
        for column in SEALED_COLUMNS {
            if let Some((id, _)) = self.sealed_otherwise(column, version).await?.first() {
                return Err(StoreError::Changed { what: format!("{} {id}", column.table) });
            }
        }
        let query = sqlx::query(
            "-- key_check.remove_old
             DELETE FROM key_checks WHERE version <> $1",
        )
        .bind(i64::from(version));
        self.execute("the key check", query).await.map(drop)
    }
}

impl Store {
    delegate! {
        write save_key_check(keys: &MasterKeys) -> ();
        read verify_keys(keys: &MasterKeys) -> ();
        write drop_old_key_checks(version: u32) -> ();
    }

    /// Seals some values anew in one transaction and says how many; `None` if it was told to stop, and then nothing changed.
    async fn reseal_batch(
        &self,
        column: &SealedColumn,
        keys: &MasterKeys,
        before: u64,
        progress: &mut impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<u64>, StoreError> {
        let mut attempt = 0;
        loop {
            let mut transaction = self.begin("master_key.reseal", crate::dialect::Access::Write).await?;
            let outcome = async {
                let mut resealed = 0;
                for value in transaction.sealed_otherwise(column, keys.newest()).await? {
                    transaction.reseal(column, keys, &value).await?;
                    resealed += 1;
                    let progress = progress(Progress { version: keys.newest(), resealed: before + resealed });
                    if progress.is_break() {
                        return Ok(None);
                    }
                }
                Ok(Some(resealed))
            }
            .await;
            if let Ok(None) = outcome {
                return Ok(None);
            }
            if let Some(settled) = self.settle(transaction, outcome, &mut attempt).await {
                return settled;
            }
        }
    }
}

/// Two rotations at once would each add a version, and the file would keep only one of them. The lock goes with its holder.
fn lock(path: &Path, store: &Store) -> Result<fs::File, StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |cause| StoreError::Key(KeyError::Io { path: folder.to_owned(), cause });
    let file = fs::File::open(folder).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::NotAllowed {
            what: format!("the master key of the store at {} is being rotated already", store.location()),
        }),
        Err(fs::TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

/// Few enough that others hardly wait.
const BATCH: i64 = 16;
