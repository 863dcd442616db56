//! Holds: what may not go out for now, and why. Made by the queue when something is down, or by people who pause it.

use jiff::Timestamp;
use postkey_base::TenantId;
use serde::{Deserialize, Serialize};

use crate::{
    LocalAppId, SenderId, Store, StoreError, SubmitterId, Transaction,
    row::{Row, milliseconds, words},
    store::delegate,
};

/// What is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "scope", content = "subject")]
pub enum HoldScope {
    /// What goes out as this sender.
    Sender(SenderId),
    /// What goes out through this app.
    App(LocalAppId),
    /// What goes out through this tenant.
    Tenant(TenantId),
    /// What this submitter handed in.
    Submitter(SubmitterId),
    /// What goes to this domain, in lower case.
    Domain(String),
}

impl HoldScope {
    /// The word for its kind, and whom or what it names.
    pub fn parts(&self) -> (&'static str, String) {
        match self {
            Self::Sender(id) => ("sender", id.to_string()),
            Self::App(id) => ("app", id.to_string()),
            Self::Tenant(id) => ("tenant", id.to_string()),
            Self::Submitter(id) => ("submitter", id.to_string()),
            Self::Domain(name) => ("domain", name.to_ascii_lowercase()),
        }
    }
}

/// Who made a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldCause {
    /// A person did, and a person or `until` ends it.
    Paused,
    /// The queue did, and ends it when things work again.
    Outage,
}

words!(HoldCause { Paused = "paused", Outage = "outage" });

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// What is held.
    pub scope: HoldScope,
    /// Who made it.
    pub cause: HoldCause,
    /// The outcome class behind it, in the queue's words.
    pub class: Option<String>,
    /// The stable code behind it.
    pub code: Option<String>,
    /// Why, for a person.
    pub reason: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Who must do it.
    pub who: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// A pause ends then by itself; an outage is looked at again then.
    pub until: Option<Timestamp>,
    /// Who paused it.
    pub by: Option<String>,
}

impl TryFrom<Row> for Hold {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let scope = match row.text("scope")?.as_str() {
            "sender" => HoldScope::Sender(row.parse("subject")?),
            "app" => HoldScope::App(row.parse("subject")?),
            "tenant" => HoldScope::Tenant(row.parse("subject")?),
            "submitter" => HoldScope::Submitter(row.parse("subject")?),
            "domain" => HoldScope::Domain(row.text("subject")?),
            other => return Err(row.nonsense("scope", format!("{other:?} is no scope"))),
        };
        Ok(Self {
            scope,
            cause: row.parse("cause")?,
            class: row.optional_text("class")?,
            code: row.optional_text("code")?,
            reason: row.text("reason")?,
            remedy: row.optional_text("remedy")?,
            who: row.optional_text("who")?,
            since: row.time("since")?,
            until: row.optional_time("until")?,
            by: row.optional_text("set_by")?,
        })
    }
}

impl Transaction {
    /// Writes a hold, in place of one of the same scope and cause; `since` stays as it was written first.
    pub async fn put_hold(&mut self, hold: &Hold) -> Result<(), StoreError> {
        let (scope, subject) = hold.scope.parts();
        let query = sqlx::query(
            "-- hold.put
             INSERT INTO holds (id, scope, subject, cause, class, code, reason, remedy, who, since, until, set_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (id) DO UPDATE SET
                 class = excluded.class, code = excluded.code, reason = excluded.reason, remedy = excluded.remedy,
                 who = excluded.who, until = excluded.until, set_by = excluded.set_by",
        )
        .bind(key(&hold.scope, hold.cause))
        .bind(scope)
        .bind(subject)
        .bind(hold.cause.word())
        .bind(hold.class.clone())
        .bind(hold.code.clone())
        .bind(hold.reason.clone())
        .bind(hold.remedy.clone())
        .bind(hold.who.clone())
        .bind(milliseconds(hold.since))
        .bind(hold.until.map(milliseconds))
        .bind(hold.by.clone());
        self.announce();
        self.execute("the hold", query).await.map(drop)
    }

    /// Lifts a hold. `false` if there was none.
    pub async fn lift_hold(&mut self, scope: &HoldScope, cause: HoldCause) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "-- hold.lift
             DELETE FROM holds WHERE id = $1",
        )
        .bind(key(scope, cause));
        self.announce();
        Ok(self.execute("the hold", query).await? > 0)
    }

    /// All holds, oldest first, those included whose end has come and that nobody has lifted yet.
    pub async fn holds(&mut self) -> Result<Vec<Hold>, StoreError> {
        let query = sqlx::query(
            "-- hold.list
             SELECT id, scope, subject, cause, class, code, reason, remedy, who, since, until, set_by
             FROM holds ORDER BY since, id",
        );
        self.fetch_all("holds", "id", query).await?.into_iter().map(Hold::try_from).collect()
    }
}

impl Store {
    delegate! {
        write put_hold(hold: &Hold) -> ();
        write lift_hold(scope: &HoldScope, cause: HoldCause) -> bool;
        read holds() -> Vec<Hold>;
    }
}

/// One hold for each scope and cause.
fn key(scope: &HoldScope, cause: HoldCause) -> String {
    let (kind, subject) = scope.parts();
    format!("{kind}:{subject}:{cause}")
}
