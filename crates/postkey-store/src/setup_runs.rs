//! How far a setup has come, under its name, so that it resumes where it stopped.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Store, StoreError, Transaction,
    row::{Row, milliseconds},
    store::delegate,
};

/// One setup, identified by its name. Options, step and facts are the caller's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupRun {
    /// Its name, unique.
    pub name: String,
    /// What was asked for.
    pub options: Value,
    /// The step that was reached.
    pub step: String,
    /// What was found or made so far: object ids and the like, never a secret.
    pub facts: Value,
    /// Grows with every change; what compare-and-set compares.
    pub revision: i64,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl TryFrom<Row> for SetupRun {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.text("name")?,
            options: row.json("options")?,
            step: row.text("step")?,
            facts: row.json("facts")?,
            revision: row.number("revision")?,
            updated_at: row.time("updated_at")?,
        })
    }
}

impl Transaction {
    /// The run of that name as it stands, begun with these options, step and no facts (`{}`) if there is none.
    pub async fn begin_setup_run(&mut self, name: &str, options: &Value, step: &str) -> Result<SetupRun, StoreError> {
        let query = sqlx::query(
            "-- setup_run.begin
             INSERT INTO setup_runs (name, options, step, facts, revision, updated_at)
             VALUES ($1, $2, $3, '{}', 1, $4)
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(name.to_owned())
        .bind(options.to_string())
        .bind(step.to_owned())
        .bind(milliseconds(self.now()));
        self.execute(&describe(name), query).await?;
        let run = self.setup_run(name).await?;
        run.ok_or_else(|| StoreError::NotFound { what: describe(name) })
    }

    /// Writes options, step and facts of `run`, if it is still at `run.revision`; else [`StoreError::Changed`].
    pub async fn save_setup_run(&mut self, run: &SetupRun) -> Result<SetupRun, StoreError> {
        let query = sqlx::query(
            "-- setup_run.save
             UPDATE setup_runs SET options = $3, step = $4, facts = $5, revision = revision + 1, updated_at = $6
             WHERE name = $1 AND revision = $2
             RETURNING name, options, step, facts, revision, updated_at",
        )
        .bind(run.name.clone())
        .bind(run.revision)
        .bind(run.options.to_string())
        .bind(run.step.clone())
        .bind(run.facts.to_string())
        .bind(milliseconds(self.now()));
        let row = self.fetch_optional("setup_runs", "name", query).await?;
        row.ok_or_else(|| StoreError::Changed { what: describe(&run.name) })?.try_into()
    }

    /// A run by name.
    pub async fn setup_run(&mut self, name: &str) -> Result<Option<SetupRun>, StoreError> {
        let query = sqlx::query(
            "-- setup_run.find
             SELECT name, options, step, facts, revision, updated_at FROM setup_runs WHERE name = $1",
        )
        .bind(name.to_owned());
        self.fetch_optional("setup_runs", "name", query).await?.map(SetupRun::try_from).transpose()
    }

    /// All runs, by name.
    pub async fn setup_runs(&mut self) -> Result<Vec<SetupRun>, StoreError> {
        let query = sqlx::query(
            "-- setup_run.list
             SELECT name, options, step, facts, revision, updated_at FROM setup_runs ORDER BY name",
        );
        self.fetch_all("setup_runs", "name", query).await?.into_iter().map(SetupRun::try_from).collect()
    }

    /// Forgets a run. `false` if there was none.
    pub async fn remove_setup_run(&mut self, name: &str) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "-- setup_run.remove
             DELETE FROM setup_runs WHERE name = $1",
        )
        .bind(name.to_owned());
        Ok(self.execute(&describe(name), query).await? > 0)
    }
}

impl Store {
    delegate! {
        write begin_setup_run(name: &str, options: &Value, step: &str) -> SetupRun;
        write save_setup_run(run: &SetupRun) -> SetupRun;
        read setup_run(name: &str) -> Option<SetupRun>;
        read setup_runs() -> Vec<SetupRun>;
        write remove_setup_run(name: &str) -> bool;
    }
}

fn describe(name: &str) -> String {
    format!("setup {name:?}")
}
