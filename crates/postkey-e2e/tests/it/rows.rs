//! The rows of an installation's store, read beside the program by SQL of the tests' own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sqlx::{AnyPool, Row};

use crate::serving::Installation;
use crate::setups::{PATIENCE, Tenant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// What needs no waiting is done by then.
const AT_ONCE: Duration = Duration::from_millis(500);
/// How far a clock is turned between two looks.
const TURN: Duration = Duration::from_secs(2);

/// A connection to the store's database.
pub(crate) struct Rows(AnyPool);

impl Rows {
    /// For reading: a connection that may write would clean up after a killed program when it closes.
    pub(crate) async fn of(installation: &Installation<'_>) -> Rows {
        Self::open(installation, "ro").await
    }

    async fn open(installation: &Installation<'_>, mode: &str) -> Rows {
        sqlx::any::install_default_drivers();
        let address = installation.store().map_or_else(
            || format!("sqlite://{}?mode={mode}", installation.data().join("postkey.db").display()),
            str::to_owned,
        );
        let pool = sqlx::any::AnyPoolOptions::new().max_connections(2).connect(&address).await;
        Rows(pool.unwrap_or_else(|error| panic!("{address} cannot be opened: {error}")))
    }

    async fn all(&self, sql: &'static str) -> Vec<sqlx::any::AnyRow> {
        sqlx::query(sql).fetch_all(&self.0).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// How many messages are in each state.
    pub(crate) async fn states(&self) -> BTreeMap<String, i64> {
        let rows = self.all("SELECT state, COUNT(*) FROM messages GROUP BY state").await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Messages that something is still to be done about.
    pub(crate) async fn unsettled(&self) -> i64 {
        let sql = "SELECT COUNT(*) FROM messages WHERE state NOT IN ('accepted', 'failed', 'cancelled')";
        self.all(sql).await[0].get(0)
    }

    /// The state of the message that was taken last.
    pub(crate) async fn newest(&self) -> Option<String> {
        self.all("SELECT state FROM messages ORDER BY id DESC LIMIT 1").await.first().map(|row| row.get(0))
    }

    /// Waits until nothing is left to do. Whatever waits for its time sees the clock of this tenant turn.
    pub(crate) async fn settled(&self, tenant: &Tenant) {
        self.settles(PATIENCE, Some(tenant)).await;
    }

    /// The same within another patience, and with no clock turned.
    pub(crate) async fn settles(&self, within: Duration, turning: Option<&Tenant>) {
        let began = Instant::now();
        while self.unsettled().await > 0 {
            if began.elapsed() > within {
                let messages = self.messages().await;
                let (id, state) = messages.iter().find(|(_, state)| *state != "accepted").expect("one is left");
                let states = self.states().await;
                panic!("not settled after {within:?}: {states:?}; {id} is {state}\n{}", self.timeline(id).await);
            }
            tokio::time::sleep(LOOK).await;
            if let Some(tenant) = turning.filter(|_| began.elapsed() > AT_ONCE) {
                tenant.emulator.advance(TURN);
            }
        }
    }

    /// Every message and its state.
    pub(crate) async fn messages(&self) -> BTreeMap<String, String> {
        let rows = self.all("SELECT id, state FROM messages").await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Messages whose timeline has an event that says that nobody knows what became of an attempt.
    pub(crate) async fn once_unknown(&self) -> BTreeSet<String> {
        let rows = self.all("SELECT DISTINCT message_id FROM message_events WHERE kind LIKE 'unknown%'").await;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The names of the senders by the messages' ids.
    pub(crate) async fn senders(&self) -> BTreeMap<String, String> {
        let sql = "SELECT messages.id, senders.name FROM messages JOIN senders ON senders.id = messages.sender_id";
        self.all(sql).await.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The timeline of a message, for the words of a failed test.
    pub(crate) async fn timeline(&self, id: &str) -> String {
        let sql = "SELECT kind, detail FROM message_events WHERE message_id = $1 ORDER BY number";
        let rows = sqlx::query(sql).bind(id).fetch_all(&self.0).await.unwrap_or_default();
        rows.iter().map(|row| format!("{} {}\n", row.get::<String, _>(0), row.get::<String, _>(1))).collect()
    }

    /// Mail of this sender leaves by SMTP, whatever else would carry it.
    pub(crate) async fn send_by_smtp(installation: &Installation<'_>, sender: &str) {
        let Rows(pool) = Self::open(installation, "rw").await;
        let sql = "UPDATE senders SET route = 'smtp' WHERE name = $1";
        let changed = sqlx::query(sql).bind(sender).execute(&pool).await.expect("the column is there");
        assert_eq!(changed.rows_affected(), 1, "{sender}");
        pool.close().await;
    }
}
