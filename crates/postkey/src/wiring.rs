//! From settings to what commands work with.

use std::{sync::OnceLock, time::Duration};

use postkey_base::Clock;
use postkey_identity::Network;
use postkey_setup::connection::Outside;
use postkey_store::{KeySource, Location, MasterKeys, Store};

use crate::{failure::Failure, settings::Settings};

/// Opens the store and everything around it. Makes data folder and master key at the first start.
pub(crate) async fn open(settings: &Settings) -> Result<Outside, Failure> {
    let store = Store::open_or_create(location(settings)?, key_source(settings), clock()).await?;
    // A process opens one; of a second one, its drop would have to do.
    let _ = OPENED.set(store.clone());
    Ok(Outside::new(store, network(settings)?, clock()))
}

/// The store of this process.
static OPENED: OnceLock<Store> = OnceLock::new();
/// Nobody waits longer for a program that has said everything; a store that is not closed is merely tidied at its next start.
const CLOSING: Duration = Duration::from_secs(5);

/// Closes the store, whatever became of the command: a write-ahead log is left behind otherwise, and a copy of the database
/// file alone would lack what stands in it.
pub(crate) async fn close() {
    if let Some(store) = OPENED.get() {
        let _ = tokio::time::timeout(CLOSING, store.close()).await;
    }
}

/// Where the database is.
pub(crate) fn location(settings: &Settings) -> Result<Location, Failure> {
    match &settings.store {
        Some(url) => url.parse().map_err(|bad: postkey_store::BadLocation| {
            Failure::usage(bad.to_string(), "Mend `store` in the settings or POSTKEY_STORE.")
        }),
        None => Ok(Location::Sqlite(settings.data.join("postkey.db"))),
    }
}

/// Where the master key comes from: the environment, systemd, or a file.
pub(crate) fn key_source(settings: &Settings) -> KeySource {
    if std::env::var_os(KeySource::VARIABLE).is_some_and(|lines| !lines.is_empty()) {
        return KeySource::Environment(KeySource::VARIABLE.into());
    }
    let credential =
        std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| std::path::PathBuf::from(dir).join("postkey-master-key"));
    match credential {
        Some(path) if path.exists() => KeySource::SystemdCredential(path),
        _ => KeySource::File(settings.master_key_file.clone()),
    }
}

/// The master keys as they are now.
pub(crate) fn master_keys(settings: &Settings) -> Result<MasterKeys, Failure> {
    Ok(MasterKeys::load(key_source(settings))?)
}

/// Proxy and roots.
pub(crate) fn network(settings: &Settings) -> Result<Network, Failure> {
    let proxy = match &settings.proxy {
        Some(text) => Some(text.parse().map_err(|_| {
            Failure::usage(
                "the proxy address is not one",
                "Give the proxy as http://host:port, with user:password@ before the host if it asks.",
            )
        })?),
        None => None,
    };
    Ok(Network { proxy, extra_ca: settings.ca_file.clone() })
}

/// The machine's clock; in a build for tests, the clock that a test turns.
pub(crate) fn clock() -> Clock {
    #[cfg(feature = "test-clock")]
    if let Some(path) = std::env::var_os("POSTKEY_TEST_CLOCK") {
        return Clock::following(std::sync::Arc::new(test_clock::FileClock::new(path.into())));
    }
    Clock::real()
}

#[cfg(feature = "test-clock")]
mod test_clock {
    //! A clock that follows the emulator's: the file holds how many milliseconds it is ahead.

    use std::path::PathBuf;

    use jiff::{SignedDuration, Timestamp};
    use postkey_base::clock::TimeSource;

    pub(super) struct FileClock {
        path: PathBuf,
    }

    impl FileClock {
        pub(super) fn new(path: PathBuf) -> Self {
            Self { path }
        }
    }

    impl TimeSource for FileClock {
        fn now(&self) -> Timestamp {
            let ahead = std::fs::read_to_string(&self.path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            Timestamp::now() + SignedDuration::from_millis(ahead)
        }
    }
}
