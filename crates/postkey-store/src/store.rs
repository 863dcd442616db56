//! The store: opened with exact refusals, then one transaction after the other.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use postkey_base::Clock;
use sqlx::AnyPool;

use crate::{
    KeyError, KeySource, Location, MasterKeys, StoreError, Transaction,
    dialect::{Access, Dialect},
    migrate,
};

/// How the store treats its database. The default fits every installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long an operation waits for others before it gives up as [`StoreError::Locked`].
    pub patience: Duration,
    /// So many connections at most.
    pub connections: u32,
    /// SQLite only: the file never grows beyond so many bytes; then the store is [`StoreError::DiskFull`].
    pub size_limit: Option<u64>,
}

impl Default for Options {
    /// 10 s is longer than any transaction of ours and shorter than a person's patience; four connections keep two cores busy.
    fn default() -> Self {
        Self { patience: Duration::from_secs(10), connections: 4, size_limit: None }
    }
}

/// A handle on what postkey remembers, cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) pool: AnyPool,
    pub(crate) dialect: Dialect,
    pub(crate) location: Location,
    pub(crate) clock: Clock,
    options: Options,
    keys: RwLock<MasterKeys>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.shared.location)
    }
}

impl Store {
    /// Opens the store, makes it if there is none, and brings it to the present schema. A refusal changes nothing: wrong key,
    /// damaged or foreign database, newer schema, no room, no right to write, locked or unreachable.
    pub async fn open(location: Location, keys: MasterKeys, clock: Clock) -> Result<Self, StoreError> {
        Self::open_with(location, keys, clock, Options::default()).await
    }

    /// [`Store::open`] with other [`Options`].
    pub async fn open_with(
        location: Location,
        keys: MasterKeys,
        clock: Clock,
        options: Options,
    ) -> Result<Self, StoreError> {
        let dialect = Dialect::of(&location);
        dialect.prepare(&location, &keys, &options).await?;
        let pool = dialect.pool(&location, &options)?;
        let store =
            Self { shared: Arc::new(Shared { pool, dialect, location, clock, options, keys: RwLock::new(keys) }) };
        match migrate::bring_up_to_date(&store.shared).await {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// [`Store::open`] with the key of `source`; a key file that is missing is made first, if the store is new.
    ///
    /// A store that exists and whose key file is missing stays as it is: the key that was made is removed again and the
    /// answer is [`KeyError::Missing`].
    pub async fn open_or_create(location: Location, source: KeySource, clock: Clock) -> Result<Self, StoreError> {
        let made = match &source {
            KeySource::File(path) => MasterKeys::create_file_if_missing(path)?.then(|| path.clone()),
            KeySource::Environment(_) | KeySource::SystemdCredential(_) => None,
        };
        let opened = Self::open(location, MasterKeys::load(source.clone())?, clock).await;
        match (opened, made) {
            (Err(StoreError::WrongKey { .. } | StoreError::MissingKey { .. }), Some(path)) => {
                // Nothing was sealed with it.
                let _ = std::fs::remove_file(path);
                Err(KeyError::Missing { from: source }.into())
            }
            (opened, _) => opened,
        }
    }

    /// Runs `work` in one transaction: its writes become durable together, when this returns `Ok`. It may run again when it
    /// met another transaction, so it must have no other effect. `operation` names it in errors: `setup.app_registered`.
    ///
    /// Where the whole future must be `Send` (a spawned task, a request handler), let the closure own what it uses, `async move`:
    /// the compiler cannot yet prove it for borrowed captures.
    pub async fn transaction<T>(
        &self,
        operation: &'static str,
        work: impl AsyncFn(&mut Transaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut attempt = 0;
        loop {
            let mut transaction = self.begin(operation, Access::Write).await?;
            let outcome = work(&mut transaction).await;
            if let Some(settled) = self.settle(transaction, outcome, &mut attempt).await {
                return settled;
            }
        }
    }

    /// Waits for the transactions in hand and closes all connections.
    pub async fn close(&self) {
        self.shared.pool.close().await;
    }

    /// Where the store is.
    pub fn location(&self) -> &Location {
        &self.shared.location
    }

    pub(crate) async fn begin(&self, operation: &'static str, access: Access) -> Result<Transaction, StoreError> {
        Transaction::begin(Arc::clone(&self.shared), operation, access).await
    }

    /// Commits or rolls back. `None` means: run it again.
    pub(crate) async fn settle<T>(
        &self,
        transaction: Transaction,
        outcome: Result<T, StoreError>,
        attempt: &mut u32,
    ) -> Option<Result<T, StoreError>> {
        let outcome = match outcome {
            Ok(value) => transaction.commit().await.map(|()| value),
            Err(error) => {
                transaction.roll_back().await;
                Err(error)
            }
        };
        match outcome {
            Err(StoreError::Contended { .. }) if *attempt < MOST_ATTEMPTS => {
                *attempt += 1;
                // Another wait for each, or the same transactions meet again.
                let wait = rand::random_range(1..=8_u64) << (*attempt).min(5);
                tokio::time::sleep(Duration::from_millis(wait)).await;
                None
            }
            outcome => Some(outcome),
        }
    }
}

impl Shared {
    /// The keys as they are known now.
    pub(crate) fn keys(&self) -> MasterKeys {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn use_keys(&self, keys: MasterKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Reads the master key again from where it came from: another program may have added a version.
    pub(crate) async fn reload_keys(&self) -> Result<MasterKeys, StoreError> {
        let Some(source) = self.keys().source().cloned() else { return Ok(self.keys()) };
        let keys = tokio::task::spawn_blocking(move || MasterKeys::load(source))
            .await
            .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))?;
        self.use_keys(keys.clone());
        Ok(keys)
    }

    /// A connection beside the pool.
    pub(crate) async fn connect(&self) -> Result<sqlx::AnyConnection, StoreError> {
        self.dialect.connect(&self.location, &self.options).await
    }

    /// The connection of the queue's writer.
    pub(crate) async fn connect_writer(&self) -> Result<sqlx::AnyConnection, StoreError> {
        let mut connection = self.connect().await?;
        for setting in self.dialect.writer_settings() {
            let done = sqlx::Executor::execute(&mut connection, *setting).await;
            done.map_err(|error| self.classify("store.connect", error))?;
        }
        Ok(connection)
    }

    pub(crate) fn classify(&self, operation: &'static str, error: sqlx::Error) -> StoreError {
        self.dialect.classify(&self.location, operation, error)
    }

    pub(crate) fn classify_write(&self, operation: &'static str, what: &str, error: sqlx::Error) -> StoreError {
        self.dialect.classify_write(&self.location, operation, what, error)
    }
}

/// Methods of [`Transaction`] repeated on [`Store`], each in a transaction of its own.
macro_rules! delegate {
    ($($access:ident $name:ident($($argument:ident: $type:ty),*) -> $output:ty;)+) => { $(
        #[doc = concat!("[`Transaction::", stringify!($name), "`] in a transaction of its own.")]
        pub async fn $name(&self $(, $argument: $type)*) -> Result<$output, $crate::StoreError> {
            let mut attempt = 0;
            loop {
                let access = $crate::dialect::Access::$access();
                let mut transaction = self.begin(stringify!($name), access).await?;
                let outcome = transaction.$name($($argument),*).await;
                if let Some(settled) = self.settle(transaction, outcome, &mut attempt).await {
                    return settled;
                }
            }
        }
    )+ };
}
pub(crate) use delegate;

/// With the growing waits between them about a second; who still meets others then has a defect.
const MOST_ATTEMPTS: u32 = 10;
