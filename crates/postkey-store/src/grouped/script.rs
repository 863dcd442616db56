//! Statements on their way to the database. SQLite works in a thread of its own, and each way there and back costs more than a
//! row: so statements are collected until an answer is needed, and go as one text. On PostgreSQL each goes by itself.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::{
    Any, AnyConnection, AssertSqlSafe, Executor,
    any::{AnyArguments, AnyRow},
    query::Query,
};

use super::{
    statement::{ManyRows, Shape, Texts},
    writer::OPERATION,
};
use crate::{StoreError, dialect::Dialect, row::Row, store::Shared};

/// A value of a statement.
pub(super) enum Value {
    Text(String),
    Word(&'static str),
    Number(i64),
    MaybeText(Option<String>),
    MaybeNumber(Option<i64>),
    Bytes(Bytes),
}

impl Value {
    fn bind(self, query: Query<'static, Any, AnyArguments>) -> Query<'static, Any, AnyArguments> {
        match self {
            Self::Text(text) => query.bind(text),
            Self::Word(word) => query.bind(word),
            Self::Number(number) => query.bind(number),
            Self::MaybeText(text) => query.bind(text),
            Self::MaybeNumber(number) => query.bind(number),
            Self::Bytes(bytes) => query.bind(&bytes[..]),
        }
    }
}

/// A statement with its values.
struct Part {
    shape: Shape,
    values: Vec<Value>,
    /// What it writes, for errors.
    what: String,
}

/// The statements of one transaction.
pub(super) struct Script<'c> {
    connection: &'c mut AnyConnection,
    shared: &'c Arc<Shared>,
    texts: &'c mut Texts,
    collected: Vec<Part>,
}

impl<'c> Script<'c> {
    /// Begins the transaction. Not through sqlx, which would go there and back for it alone: whoever meets an error calls
    /// [`roll_back`].
    pub(super) async fn begin(
        connection: &'c mut AnyConnection,
        shared: &'c Arc<Shared>,
        texts: &'c mut Texts,
    ) -> Result<Self, StoreError> {
        let begin = match shared.dialect {
            Dialect::Sqlite => &BEGIN_SQLITE,
            Dialect::Postgres => &BEGIN_POSTGRES,
        };
        let mut script = Self { connection, shared, texts, collected: Vec::new() };
        script.add("the transaction", begin, 1, Vec::new()).await?;
        Ok(script)
    }

    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        self.add("the transaction", &COMMIT, 1, Vec::new()).await?;
        let last = std::mem::take(&mut self.collected);
        self.run(last).await.map(drop)
    }

    /// A statement whose rows are not wanted.
    pub(super) async fn add(
        &mut self,
        what: &str,
        statement: &'static ManyRows,
        rows: usize,
        values: Vec<Value>,
    ) -> Result<(), StoreError> {
        self.collected.push(Part { shape: (statement, rows), values, what: what.to_owned() });
        if self.shared.dialect == Dialect::Postgres {
            let parts = std::mem::take(&mut self.collected);
            self.run(parts).await?;
        }
        Ok(())
    }

    /// A statement whose rows are wanted; `key` names them in errors.
    pub(super) async fn fetch(
        &mut self,
        (table, key): (&'static str, &'static str),
        statement: &'static ManyRows,
        rows: usize,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut parts = std::mem::take(&mut self.collected);
        parts.push(Part { shape: (statement, rows), values, what: table.to_owned() });
        let found = self.run(parts).await?;
        Ok(found.into_iter().map(|row| Row::new(table, key, row)).collect())
    }

    /// Runs statements in order, in as few texts as may be, and gives the rows of the last one, which alone has any.
    async fn run(&mut self, parts: Vec<Part>) -> Result<Vec<AnyRow>, StoreError> {
        let shapes: Vec<Shape> = parts.iter().map(|part| part.shape).collect();
        match self.texts.script(&shapes) {
            Some(text) => {
                // Which of them failed is not told: a conflict can only be one of what is written first.
                let what = parts.get(1).or(parts.first()).map_or_else(String::new, |part| part.what.clone());
                self.send(text, &what, parts.into_iter().flat_map(|part| part.values)).await
            }
            None => {
                let mut rows = Vec::new();
                for Part { shape, values, what } in parts {
                    let text = self.texts.statement(shape);
                    rows = self.send(text, &what, values).await?;
                }
                Ok(rows)
            }
        }
    }

    async fn send(
        &mut self,
        text: Arc<str>,
        what: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let query = values.into_iter().fold(sqlx::query(AssertSqlSafe(text)), |query, value| value.bind(query));
        let done = query.fetch_all(&mut *self.connection).await;
        done.map_err(|error| self.shared.classify_write(OPERATION, what, error))
    }
}

/// After an error. If this fails too, nobody knows what state the connection is in.
pub(super) async fn roll_back(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    connection.execute("ROLLBACK").await.map(drop)
}

static BEGIN_SQLITE: ManyRows = ManyRows { before: "BEGIN IMMEDIATE", columns: 0, always: "", after: "" };

/// Each statement sees what others have committed, and rows are locked one by one: each is looked at before it is changed.
static BEGIN_POSTGRES: ManyRows =
    ManyRows { before: "BEGIN ISOLATION LEVEL READ COMMITTED", columns: 0, always: "", after: "" };

static COMMIT: ManyRows = ManyRows { before: "COMMIT", columns: 0, always: "", after: "" };
