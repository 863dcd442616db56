//! What differs between SQLite and PostgreSQL: connecting, beginning, and how each says what is wrong. All else is one SQL text.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sqlx::{
    AnyConnection, AnyPool, AssertSqlSafe, Connection, Executor,
    any::{AnyConnectOptions, AnyPoolOptions},
};
use tokio::sync::Mutex;

use crate::{Location, MasterKeys, Options, StoreError, migrate};

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// What a transaction may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    /// Like `Write`, but each statement sees what others have committed: what was so before a lock was waited for is not so after.
    Migrate,
}

impl Access {
    /// For the `delegate!` macro, which names it in lower case.
    pub(crate) const fn read() -> Self {
        Self::Read
    }

    /// For the `delegate!` macro, which names it in lower case.
    pub(crate) const fn write() -> Self {
        Self::Write
    }
}

impl Dialect {
    pub(crate) fn of(location: &Location) -> Self {
        match location {
            Location::Sqlite(_) => Self::Sqlite,
            Location::Postgres(_) => Self::Postgres,
        }
    }

    /// How a transaction begins. SQLite takes its one write lock at once: a lock taken later fails without waiting.
    pub(crate) fn begin(self, access: Access) -> &'static str {
        match (self, access) {
            (Self::Sqlite, Access::Read) => "BEGIN",
            (Self::Sqlite, Access::Write | Access::Migrate) => "BEGIN IMMEDIATE",
            (Self::Postgres, Access::Read) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            (Self::Postgres, Access::Migrate) => "BEGIN ISOLATION LEVEL READ COMMITTED",
            (Self::Postgres, Access::Write) => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        }
    }

    /// Names of all tables that are not the database's own.
    pub(crate) fn list_tables(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "-- database.tables
                 SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
            }
            Self::Postgres => {
                "-- database.tables
                 SELECT CAST(tablename AS TEXT) AS name FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename"
            }
        }
    }

    /// A migration's text as this database wants it.
    pub(crate) fn schema_text(self, text: &str) -> String {
        match self {
            Self::Sqlite => text.replace("{by_key}", "WITHOUT ROWID"),
            Self::Postgres => text.replace(" {by_key}", ""),
        }
    }

    /// Keeps two programs from bringing the schema up to date at once. SQLite's write lock does so by itself.
    pub(crate) fn lock_schema(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("SELECT pg_advisory_xact_lock(8025, 1)"),
        }
    }

    /// Looks, without changing anything, whether this is a store that we may open with these keys; if so, prepares the file.
    pub(crate) async fn prepare(
        self,
        location: &Location,
        keys: &MasterKeys,
        options: &Options,
    ) -> Result<(), StoreError> {
        sqlx::any::install_default_drivers();
        let classify = |error| self.classify(location, "store.open", error);
        // One after the other in this process: while a file is made it is open, and closing it would take away the locks
        // that another thread's SQLite holds on it (https://www.sqlite.org/howtocorrupt.html, 2.2).
        static PREPARING: Mutex<()> = Mutex::const_new(());
        let _one_at_a_time = match location {
            Location::Sqlite(path) => {
                let held = PREPARING.lock().await;
                make_file_if_missing(path)?;
                Some(held)
            }
            Location::Postgres(_) => None,
        };
        let connect = async { AnyConnection::connect_with(&connect_options(location)?).await.map_err(classify) };
        let mut connection = match tokio::time::timeout(CONNECT_DEADLINE, connect).await {
            Ok(connection) => connection?,
            Err(_) => return Err(classify(io::Error::from(io::ErrorKind::TimedOut).into())),
        };
        let outcome = self.prepare_through(&mut connection, location, keys, options).await;
        // Closed whatever was found: SQLite then removes the files it keeps beside an open database.
        let _ = connection.close().await;
        outcome
    }

    async fn prepare_through(
        self,
        connection: &mut AnyConnection,
        location: &Location,
        keys: &MasterKeys,
        options: &Options,
    ) -> Result<(), StoreError> {
        if let Location::Sqlite(path) = location {
            // Not opened read-only: such a connection leaves an empty write-ahead log behind.
            let settings = format!("PRAGMA query_only = ON; PRAGMA busy_timeout = {}", options.patience.as_millis());
            let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(settings))).await;
            done.map_err(|error| self.classify(location, "store.open", error))?;
            if fs::metadata(path).is_ok_and(|file| file.len() <= QUICK_CHECK_BYTES) {
                quick_check(connection, location).await?;
            }
        }
        migrate::inspect(connection, self, location, keys).await?;
        if self == Self::Sqlite {
            // Here rather than in the pool, which would try again and again and then only say that it took too long.
            let begun = Instant::now();
            while let Err(error) = begin_write_ahead_log(connection, location).await {
                // Of several programs that begin a store at once, SQLite lets all but one fail here without waiting.
                if !matches!(error, StoreError::Locked { .. }) || begun.elapsed() >= options.patience {
                    return Err(error);
                }
                tokio::time::sleep(LOCK_RECHECK).await;
            }
        }
        Ok(())
    }

    /// What every connection is told when it is made.
    fn settings(self, options: &Options) -> Vec<String> {
        match self {
            Self::Sqlite => {
                let mut settings = vec![
                    format!("PRAGMA busy_timeout = {}", options.patience.as_millis()),
                    // FULL: a commit is on the disk before anything is sent that depends on it.
                    "PRAGMA synchronous = FULL".into(),
                    "PRAGMA foreign_keys = ON".into(),
                    "PRAGMA trusted_schema = OFF".into(),
                ];
                if let Some(bytes) = options.size_limit {
                    settings.push(format!("PRAGMA max_page_count = {}", bytes / PAGE_BYTES));
                }
                settings
            }
            Self::Postgres => vec![
                format!("SET lock_timeout = {}", options.patience.as_millis()),
                format!("SET statement_timeout = {}", STATEMENT_DEADLINE.as_millis()),
                format!("SET idle_in_transaction_session_timeout = {}", STATEMENT_DEADLINE.as_millis()),
                "SET synchronous_commit = on".into(),
                "SET client_min_messages = warning".into(),
            ],
        }
    }

    /// What the connection of the queue's writer is told besides.
    pub(crate) fn writer_settings(self) -> &'static [&'static str] {
        match self {
            // Its checkpoints are made beside it; and a group of large messages fits into 8 MiB of pages.
            Self::Sqlite => &["PRAGMA wal_autocheckpoint = 0", "PRAGMA cache_size = -8192"],
            Self::Postgres => &[],
        }
    }

    /// A connection beside the pool, with the same settings.
    pub(crate) async fn connect(self, location: &Location, options: &Options) -> Result<AnyConnection, StoreError> {
        let classify = |error| self.classify(location, "store.connect", error);
        let connect = async {
            let mut connection = AnyConnection::connect_with(&connect_options(location)?).await.map_err(classify)?;
            for setting in self.settings(options) {
                connection.execute(AssertSqlSafe(setting)).await.map_err(classify)?;
            }
            Ok(connection)
        };
        match tokio::time::timeout(CONNECT_DEADLINE, connect).await {
            Ok(connected) => connected,
            Err(_) => Err(classify(io::Error::from(io::ErrorKind::TimedOut).into())),
        }
    }

    pub(crate) fn pool(self, location: &Location, options: &Options) -> Result<AnyPool, StoreError> {
        let settings = self.settings(options);
        let pool = AnyPoolOptions::new()
            .max_connections(options.connections)
            .acquire_timeout(options.patience + CONNECT_DEADLINE)
            .after_connect(move |connection, _| {
                let settings = settings.clone();
                Box::pin(async move {
                    for setting in settings {
                        connection.execute(AssertSqlSafe(setting)).await?;
                    }
                    Ok(())
                })
            });
        Ok(pool.connect_lazy_with(connect_options(location)?))
    }

    pub(crate) fn classify_write(
        self,
        location: &Location,
        operation: &'static str,
        what: &str,
        error: sqlx::Error,
    ) -> StoreError {
        match error.as_database_error() {
            // Two journal rows drew the same number: PostgreSQL reports the constraint rather than the conflict.
            Some(refused) if refused.constraint().is_some_and(|name| name.ends_with("_sequence")) => {
                StoreError::Contended { operation, cause: error.into() }
            }
            Some(refused) if refused.is_unique_violation() => StoreError::Exists { what: what.to_owned() },
            Some(refused) if refused.is_foreign_key_violation() => {
                StoreError::NotAllowed { what: format!("{what} refers to something that is not there, or is in use") }
            }
            _ => self.classify(location, operation, error),
        }
    }

    pub(crate) fn classify(self, location: &Location, operation: &'static str, error: sqlx::Error) -> StoreError {
        let location = location.clone();
        let code = match &error {
            sqlx::Error::Database(said) => said.code().map(|code| code.into_owned()).unwrap_or_default(),
            sqlx::Error::PoolTimedOut if self == Self::Sqlite => {
                return StoreError::Locked { location, cause: error.into() };
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::Configuration(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => return StoreError::Unreachable { location, cause: error.into() },
            _ => return StoreError::Query { operation, cause: error.into() },
        };
        match self {
            Self::Sqlite => classify_sqlite(location, operation, code.parse().unwrap_or(0), error),
            Self::Postgres => classify_postgres(location, operation, &code, error),
        }
    }
}

/// <https://www.sqlite.org/rescode.html>: the low byte is the class, the rest says more.
fn classify_sqlite(location: Location, operation: &'static str, code: i32, error: sqlx::Error) -> StoreError {
    let finding = error.as_database_error().map(|said| said.message().to_owned()).unwrap_or_default();
    match (code & 0xff, code) {
        // BUSY, LOCKED
        (5 | 6, _) => StoreError::Locked { location, cause: error.into() },
        // FULL; IOERR_SHMSIZE is the index of the write-ahead log finding no room
        (13, _) | (_, 4874) => StoreError::DiskFull { location, cause: error.into() },
        // CORRUPT, NOTADB
        (11 | 26, _) => StoreError::Damaged { location, finding },
        // PERM, READONLY, CANTOPEN
        (3 | 8 | 14, _) => {
            let path = match location {
                Location::Sqlite(path) => path,
                Location::Postgres(_) => PathBuf::new(),
            };
            StoreError::NotWritable { path, cause: io::Error::other(finding) }
        }
        // IOERR
        (10, _) => StoreError::DiskFailed { location, cause: error.into() },
        _ => StoreError::Query { operation, cause: error.into() },
    }
}

/// PostgreSQL, appendix A: the first two characters are the class.
fn classify_postgres(location: Location, operation: &'static str, code: &str, error: sqlx::Error) -> StoreError {
    let finding = error.as_database_error().map(|said| said.message().to_owned()).unwrap_or_default();
    match (code.get(..2).unwrap_or_default(), code) {
        // disk_full
        (_, "53100") => StoreError::DiskFull { location, cause: error.into() },
        // serialization_failure, deadlock_detected
        (_, "40001" | "40P01") => StoreError::Contended { operation, cause: error.into() },
        // lock_not_available, query_canceled (our own deadline)
        (_, "55P03" | "57014") => StoreError::Locked { location, cause: error.into() },
        // invalid_catalog_name, insufficient_privilege, read_only_sql_transaction; class 28: authentication
        (_, "3D000" | "42501" | "25006") | ("28", _) => StoreError::Refused { location, cause: error.into() },
        // data_corrupted, index_corrupted
        (_, "XX001" | "XX002") => StoreError::Damaged { location, finding },
        // connection exceptions, insufficient resources, operator intervention
        ("08" | "53" | "57", _) => StoreError::Unreachable { location, cause: error.into() },
        _ => StoreError::Query { operation, cause: error.into() },
    }
}

async fn begin_write_ahead_log(connection: &mut AnyConnection, location: &Location) -> Result<(), StoreError> {
    // The read makes the log's index, the last thing that needs room.
    let settings = "PRAGMA query_only = OFF; PRAGMA journal_mode = WAL; SELECT COUNT(*) FROM sqlite_schema";
    let done = connection.execute(sqlx::raw_sql(settings)).await;
    done.map(drop).map_err(|error| Dialect::Sqlite.classify(location, "store.open", error))
}

/// The first complaint of the database about itself, as an error.
pub(crate) async fn quick_check(connection: &mut AnyConnection, location: &Location) -> Result<(), StoreError> {
    let query = "-- database.quick_check
                 PRAGMA quick_check(1)";
    let finding: String = sqlx::query_scalar(query)
        .fetch_one(connection)
        .await
        .map_err(|error| Dialect::Sqlite.classify(location, "store.quick_check", error))?;
    // Several lines, of which one has to do.
    let finding = finding.lines().collect::<Vec<_>>().join(" ");
    if finding == "ok" { Ok(()) } else { Err(StoreError::Damaged { location: location.clone(), finding }) }
}

fn connect_options(location: &Location) -> Result<AnyConnectOptions, StoreError> {
    let url = match location {
        Location::Postgres(url) => url.expose().to_owned(),
        Location::Sqlite(path) => {
            let unusable = |cause| StoreError::NotWritable { path: path.clone(), cause };
            // Absolute and without `..`, or a part of the path would be read as the host of a URL.
            let path = path.canonicalize().map_err(unusable)?;
            let text = path.to_str().ok_or_else(|| unusable(io::Error::other("the path is not UTF-8")))?;
            format!("sqlite://{}?mode=rw", percent_encoded(text))
        }
    };
    url.parse().map_err(|error| Dialect::of(location).classify(location, "store.open", error))
}

fn percent_encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// An empty file is a valid empty database; made here, because SQLite would not make it 0600.
fn make_file_if_missing(path: &Path) -> Result<(), StoreError> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |cause: io::Error| match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StoreError::DiskFull { location: Location::Sqlite(path), cause: sqlx::Error::from(cause).into() }
            }
            _ => StoreError::NotWritable { path, cause },
        }
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(refused(folder))?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        // Asked without opening it, for the reason given in `prepare`; SQLite itself would fall back to reading.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            rustix::fs::access(path, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK)
                .map_err(|error| refused(path)(error.into()))
        }
        made => made.map(drop).map_err(refused(path)),
    }
}

/// SQLite's default, which we do not change.
const PAGE_BYTES: u64 = 4096;

/// A database of this size is checked in well under a second at every start; a larger one only by the doctor.
const QUICK_CHECK_BYTES: u64 = 64 << 20;

/// As often as a lock is asked for that SQLite does not wait for.
const LOCK_RECHECK: Duration = Duration::from_millis(10);

/// A server that takes longer to answer is down, as far as whoever waits for a command is concerned.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// No statement of ours takes a tenth of it.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use postkey_base::Diagnose;

    use super::*;

    #[test]
    fn what_a_database_says_is_told_by_its_code_not_its_text() {
        let error = || sqlx::Error::Protocol("any".into());
        let location = || Location::Sqlite("x.db".into());
        for (code, wanted) in [
            (5, "store.locked"),
            (517, "store.locked"),
            (13, "store.disk_full"),
            (4874, "store.disk_full"),
            (778, "store.disk_failed"),
            (266, "store.disk_failed"),
            (11, "store.damaged"),
            (267, "store.damaged"),
            (26, "store.damaged"),
            (8, "store.not_writable"),
            (14, "store.not_writable"),
            (1, "store.query"),
        ] {
            assert_eq!(classify_sqlite(location(), "test", code, error()).code(), wanted, "{code}");
        }
        for (code, wanted) in [
            ("53100", "store.disk_full"),
            ("53300", "store.unreachable"),
            ("57P01", "store.unreachable"),
            ("57014", "store.locked"),
            ("55P03", "store.locked"),
            ("08006", "store.unreachable"),
            ("28P01", "store.refused"),
            ("3D000", "store.refused"),
            ("42501", "store.refused"),
            ("25006", "store.refused"),
            ("40001", "store.contended"),
            ("40P01", "store.contended"),
            ("XX001", "store.damaged"),
            ("42601", "store.query"),
            ("", "store.query"),
        ] {
            assert_eq!(classify_postgres(location(), "test", code, error()).code(), wanted, "{code}");
        }
    }
}
