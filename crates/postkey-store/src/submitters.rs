//! Submitters: programs and devices that may hand us mail, with what each may do.

use jiff::Timestamp;
use postkey_base::EmailAddress;
use serde::{Deserialize, Serialize};

use crate::{
    LocalSecret, Priority, SenderId, Store, StoreError, Transaction,
    row::{Row, local_id, milliseconds},
    store::delegate,
};

local_id!(
    /// A submitter in this store.
    SubmitterId
);

/// What a submitter may do; one JSON column. The default allows its senders everything, from everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubmitterRules {
    /// More addresses, or `@domain`, that it may put into MAIL FROM and From, beyond its senders' mailboxes.
    pub also_as: Vec<String>,
    /// Domains it may send to; empty: any.
    pub recipient_domains: Vec<String>,
    /// CIDR blocks from where its passwords and keys may be used; empty: from anywhere.
    pub networks: Vec<String>,
    /// CIDR blocks from where it needs no password. Only together with `force_from`, `recipient_domains` and `messages_per_day`.
    pub unauthenticated_from: Vec<String>,
    /// MAIL FROM and From are rewritten to this.
    pub force_from: Option<EmailAddress>,
    /// Messages in any minute; `None`: as many as it likes.
    pub messages_per_minute: Option<u32>,
    /// Messages in any 24 hours.
    pub messages_per_day: Option<u32>,
    /// Recipients in any 24 hours.
    pub recipients_per_day: Option<u32>,
    /// Bytes in any 24 hours.
    pub bytes_per_day: Option<u64>,
    /// Bytes of one message.
    pub message_bytes: Option<u64>,
    /// Recipients of one message.
    pub recipients_per_message: Option<u32>,
    /// How its messages rank, unless one says otherwise.
    pub priority: Priority,
}

/// A submitter about to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSubmitter {
    /// Its name, unique without regard to case.
    pub name: String,
    /// Names of the senders it may use; the first is its default.
    pub senders: Vec<String>,
    /// What it may do.
    pub rules: SubmitterRules,
}

/// A submitter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitter {
    /// Our own id.
    pub id: SubmitterId,
    /// Its name, as it was given.
    pub name: String,
    /// The senders it may use; the first is its default.
    pub senders: Vec<SenderId>,
    /// What it may do.
    pub rules: SubmitterRules,
    /// Since when it may hand in nothing; `None`: it may.
    pub disabled_at: Option<Timestamp>,
    /// Its passwords, oldest first; never the values.
    pub passwords: Vec<LocalSecret>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl TryFrom<Row> for Submitter {
    type Error = StoreError;

    /// Without senders and passwords, which are rows of their own.
    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.parse("id")?,
            name: row.text("name")?,
            senders: Vec::new(),
            rules: row.json("rules")?,
            disabled_at: row.optional_time("disabled_at")?,
            passwords: Vec::new(),
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
        })
    }
}

impl Transaction {
    /// Adds a submitter; [`StoreError::Exists`] if the name is taken, in whatever case.
    pub async fn add_submitter(&mut self, new: &NewSubmitter) -> Result<Submitter, StoreError> {
        let id = SubmitterId::random();
        let query = sqlx::query(
            "-- submitter.insert
             INSERT INTO submitters (id, name, rules, disabled_at, created_at, updated_at) VALUES ($1, $2, $3, NULL, $4, $4)",
        )
        .bind(id.to_string())
        .bind(new.name.clone())
        .bind(rules_json(&new.rules)?)
        .bind(milliseconds(self.now()));
        self.execute(&describe(&new.name), query).await?;
        self.write_submitter_senders(id, &new.senders).await?;
        self.announce();
        self.expect_submitter(&new.name).await
    }

    /// Replaces the senders and rules of a submitter.
    pub async fn update_submitter(
        &mut self,
        name: &str,
        senders: &[String],
        rules: &SubmitterRules,
    ) -> Result<Submitter, StoreError> {
        let submitter = self.expect_submitter(name).await?;
        let query = sqlx::query(
            "-- submitter.update
             UPDATE submitters SET rules = $2, updated_at = $3 WHERE id = $1",
        )
        .bind(submitter.id.to_string())
        .bind(rules_json(rules)?)
        .bind(milliseconds(self.now()));
        self.execute(&describe(name), query).await?;
        let query = sqlx::query(
            "-- submitter.remove_senders
             DELETE FROM submitter_senders WHERE submitter_id = $1",
        )
        .bind(submitter.id.to_string());
        self.execute(&describe(name), query).await?;
        self.write_submitter_senders(submitter.id, senders).await?;
        self.announce();
        self.expect_submitter(name).await
    }

    /// A submitter by name, without regard to case.
    pub async fn submitter(&mut self, name: &str) -> Result<Option<Submitter>, StoreError> {
        let query = sqlx::query(
            "-- submitter.find
             SELECT id, name, rules, disabled_at, created_at, updated_at FROM submitters WHERE LOWER(name) = LOWER($1)",
        )
        .bind(name.to_owned());
        let Some(row) = self.fetch_optional("submitters", "id", query).await? else { return Ok(None) };
        let mut submitter = Submitter::try_from(row)?;
        let query = sqlx::query(
            "-- submitter.senders
             SELECT submitter_id, sender_id FROM submitter_senders WHERE submitter_id = $1 ORDER BY position",
        )
        .bind(submitter.id.to_string());
        for row in self.fetch_all("submitter_senders", "submitter_id", query).await? {
            submitter.senders.push(row.parse("sender_id")?);
        }
        submitter.passwords = self.passwords_of(submitter.id).await?;
        Ok(Some(submitter))
    }

    /// All submitters, by name.
    pub async fn submitters(&mut self) -> Result<Vec<Submitter>, StoreError> {
        let query = sqlx::query(
            "-- submitter.list
             SELECT id, name, rules, disabled_at, created_at, updated_at FROM submitters ORDER BY LOWER(name)",
        );
        let rows = self.fetch_all("submitters", "id", query).await?;
        let mut submitters = rows.into_iter().map(Submitter::try_from).collect::<Result<Vec<_>, _>>()?;
        let query = sqlx::query(
            "-- submitter.list_senders
             SELECT submitter_id, sender_id FROM submitter_senders ORDER BY submitter_id, position",
        );
        let mut senders = std::collections::HashMap::<SubmitterId, Vec<SenderId>>::new();
        for row in self.fetch_all("submitter_senders", "submitter_id", query).await? {
            senders.entry(row.parse("submitter_id")?).or_default().push(row.parse("sender_id")?);
        }
        let mut passwords = self.all_passwords().await?;
        for submitter in &mut submitters {
            submitter.senders = senders.remove(&submitter.id).unwrap_or_default();
            submitter.passwords = passwords.remove(&submitter.id).unwrap_or_default();
        }
        Ok(submitters)
    }

    /// Lets a submitter hand in nothing any more, or again.
    pub async fn disable_submitter(&mut self, name: &str, disabled: bool) -> Result<Submitter, StoreError> {
        let query = sqlx::query(
            "-- submitter.disable
             UPDATE submitters SET disabled_at = $2, updated_at = $3 WHERE LOWER(name) = LOWER($1)",
        )
        .bind(name.to_owned())
        .bind(disabled.then(|| milliseconds(self.now())))
        .bind(milliseconds(self.now()));
        self.execute(&describe(name), query).await?;
        self.announce();
        self.expect_submitter(name).await
    }

    /// Removes a submitter with its passwords and API keys; what it handed in stays. `false` if there was none.
    pub async fn remove_submitter(&mut self, name: &str) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "-- submitter.remove
             DELETE FROM submitters WHERE LOWER(name) = LOWER($1)",
        )
        .bind(name.to_owned());
        self.announce();
        Ok(self.execute(&describe(name), query).await? > 0)
    }

    pub(crate) async fn expect_submitter(&mut self, name: &str) -> Result<Submitter, StoreError> {
        let submitter = self.submitter(name).await?;
        submitter.ok_or_else(|| StoreError::NotFound { what: format!("submitter {name:?}") })
    }

    async fn write_submitter_senders(&mut self, id: SubmitterId, senders: &[String]) -> Result<(), StoreError> {
        for (position, name) in (1_i64..).zip(senders) {
            let sender = self.sender(name).await?;
            let sender = sender.ok_or_else(|| StoreError::NotFound { what: format!("sender {name:?}") })?;
            let query = sqlx::query(
                "-- submitter.insert_sender
                 INSERT INTO submitter_senders (submitter_id, position, sender_id) VALUES ($1, $2, $3)
                 ON CONFLICT (submitter_id, sender_id) DO NOTHING",
            )
            .bind(id.to_string())
            .bind(position)
            .bind(sender.id.to_string());
            self.execute(&format!("the sender {name:?} of the submitter"), query).await?;
        }
        Ok(())
    }
}

impl Store {
    delegate! {
        write add_submitter(new: &NewSubmitter) -> Submitter;
        write update_submitter(name: &str, senders: &[String], rules: &SubmitterRules) -> Submitter;
        read submitter(name: &str) -> Option<Submitter>;
        read submitters() -> Vec<Submitter>;
        write disable_submitter(name: &str, disabled: bool) -> Submitter;
        write remove_submitter(name: &str) -> bool;
    }
}

fn rules_json(rules: &SubmitterRules) -> Result<String, StoreError> {
    serde_json::to_string(rules)
        .map_err(|error| StoreError::NotAllowed { what: format!("the rules cannot be written: {error}") })
}

fn describe(name: &str) -> String {
    format!("the submitter {name:?}")
}
