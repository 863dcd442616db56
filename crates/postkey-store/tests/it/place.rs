//! A place for one test's store, and a clock that it may turn.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::{SignedDuration, Timestamp};
use postkey_base::{ClientId, Clock, TenantId, clock::TimeSource};
use postkey_store::{App, LocalAppId, Location, MasterKeys, Options, Origin, Store, StoreError};
use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

/// Runs every test on both databases: `sqlite::…` and `postgres::…`.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::place::Place::sqlite()).await;
            })+
        }

        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(place) = $crate::place::Place::postgres().await {
                    super::$name(place).await;
                }
            })+
        }
    };
}
pub(crate) use on_both_databases;

pub(crate) struct Place {
    pub(crate) location: Location,
    /// The same as a URL, password included.
    pub(crate) url: String,
    pub(crate) keys: MasterKeys,
    pub(crate) clock: TestClock,
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A name that a URL would misunderstand.
        let path = folder.path().join("postkey data/100% #1?.db");
        let encoded = path.to_str().unwrap().replace('%', "%25").replace('#', "%23").replace('?', "%3F");
        let (url, location) = (format!("sqlite://{}", encoded.replace(' ', "%20")), Location::Sqlite(path));
        Self { location, url, keys: MasterKeys::fresh(), clock: TestClock::new(), folder }
    }

    /// A fresh database in the server of the environment; `None` only if it was said aloud that there is none.
    pub(crate) async fn postgres() -> Option<Self> {
        let Ok(server) = std::env::var("POSTKEY_TEST_POSTGRES") else {
            let excused = std::env::var("POSTKEY_TEST_WITHOUT_POSTGRES").is_ok_and(|said| said == "1");
            assert!(
                excused,
                "set POSTKEY_TEST_POSTGRES=postgres://…, or POSTKEY_TEST_WITHOUT_POSTGRES=1 to go without"
            );
            eprintln!("not run on PostgreSQL: POSTKEY_TEST_WITHOUT_POSTGRES=1");
            return None;
        };
        sqlx::any::install_default_drivers();
        let name = format!("postkey_{}", uuid::Uuid::new_v4().simple());
        let mut connection = AnyConnection::connect(&server).await.unwrap();
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        connection.close().await.unwrap();
        let (address, parameters) = server
            .split_once('?')
            .map_or((server.as_str(), String::new()), |(address, more)| (address, format!("?{more}")));
        let (authority, _) = address.rsplit_once('/').expect("the URL names a database");
        let url = format!("{authority}/{name}{parameters}");
        let (location, folder) = (url.parse().unwrap(), tempfile::tempdir().unwrap());
        Some(Self { location, url, keys: MasterKeys::fresh(), clock: TestClock::new(), folder })
    }

    pub(crate) async fn open(&self) -> Result<Store, StoreError> {
        Store::open(self.location.clone(), self.keys.clone(), self.clock.clock()).await
    }

    pub(crate) async fn store(&self) -> Store {
        self.open().await.unwrap()
    }

    pub(crate) async fn store_with(&self, options: Options) -> Result<Store, StoreError> {
        Store::open_with(self.location.clone(), self.keys.clone(), self.clock.clock(), options).await
    }

    /// A connection beside the store, for doing what the store never would.
    pub(crate) async fn connection(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        AnyConnection::connect(&self.url).await.unwrap()
    }

    /// Runs SQL beside the store.
    pub(crate) async fn meddle(&self, sql: &str) {
        let mut connection = self.connection().await;
        connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// A clock that stands still until it is turned.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    fn new() -> Self {
        // 2026-01-01
        Self(Arc::new(AtomicI64::new(1_767_225_600_000)))
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock::following(Arc::new(self.clone()))
    }

    pub(crate) fn turn(&self, by: SignedDuration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl TimeSource for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// A tenant and an app of it, saved.
pub(crate) async fn an_app(store: &Store) -> App {
    let tenant = TenantId::random();
    let saved = store.save_tenant(tenant, &json!({"cloud": "global"}), None, Some("contoso.example")).await.unwrap();
    let app = App {
        id: LocalAppId::random(),
        tenant,
        client_id: ClientId::random(),
        object_id: None,
        service_principal: None,
        unique_name: None,
        display_name: "Billing".into(),
        origin: Origin::Registered,
        permissions: vec![],
        created_at: saved.created_at,
    };
    store.save_app(&app).await.unwrap();
    app
}
