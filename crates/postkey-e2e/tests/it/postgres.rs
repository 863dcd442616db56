//! A database of a test's own on the PostgreSQL that `cargo xtask test` starts.

use sqlx::{Connection, Executor, PgConnection};

/// The database. It goes with the server.
pub(crate) struct Database {
    address: String,
}

impl Database {
    pub(crate) async fn make() -> Database {
        let server = std::env::var("POSTKEY_TEST_POSTGRES");
        let server = server.expect("POSTKEY_TEST_POSTGRES is not set: the server comes with `cargo xtask test`");
        let name = format!("e2e_{}", uuid::Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&server).await.expect("the test server answers");
        let sql = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        connection.execute(sql).await.expect("the test user may make databases");
        connection.close().await.expect("the connection closes");
        let (start, _) = server.rsplit_once('/').expect("the address names a database");
        Database { address: format!("{start}/{name}") }
    }

    /// `postgres://…`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}
