//! Senders: tenant, app, mailbox and route under a name, saved in stages as the values become known.

use jiff::Timestamp;
use postkey_base::{ClientId, ClientSecret, EmailAddress, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    LocalAppId, Store, StoreError, Transaction,
    row::{Row, local_id, milliseconds, words},
    sealed::Place,
    store::delegate,
};

local_id!(
    /// A sender in this store.
    SenderId
);

/// What a sender's app may send as, as far as was probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// As every mailbox of the tenant.
    TenantWide,
    /// As some mailboxes only.
    Limited,
    /// Not probed, or the answer did not tell.
    Unknown,
}

words!(Reach { TenantWide = "tenant_wide", Limited = "limited", Unknown = "unknown" });

/// Which way mail shall leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutePreference {
    /// Whichever carries the message unharmed.
    Automatic,
    /// Graph only.
    Graph,
    /// SMTP only.
    Smtp,
}

words!(RoutePreference { Automatic = "automatic", Graph = "graph", Smtp = "smtp" });

/// What happens to a message whose outcome stays unknown: the request left, and nobody can tell whether it was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// It is sent again: it may arrive twice, and is not lost.
    #[default]
    AtLeastOnce,
    /// It is not: it may be lost, and does not arrive twice.
    AtMostOnce,
}

words!(OnUnknown { AtLeastOnce = "at_least_once", AtMostOnce = "at_most_once" });

/// A value that a sender still lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// *OAuth Client ID*.
    ClientId,
    /// *Tenant ID*.
    Tenant,
    /// *Email Address*.
    Mailbox,
    /// *Secret Key*, or any other credential of its app.
    Credential,
}

words!(Missing { ClientId = "client_id", Tenant = "tenant", Mailbox = "mailbox", Credential = "credential" });

/// How complete a sender is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub enum Stage {
    /// Something is missing: in this order, never empty.
    Incomplete {
        /// What.
        missing: Vec<Missing>,
    },
    /// All values are there; none has been proved.
    Ready,
    /// A message went out with these very values.
    Verified {
        /// When last.
        at: Timestamp,
    },
}

/// What is known of a sender; `None` is not known yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderValues {
    /// Its name, unique.
    pub name: String,
    /// The tenant of its mailbox.
    pub tenant: Option<TenantId>,
    /// The client id of its app.
    pub client_id: Option<ClientId>,
    /// The mailbox it sends as.
    pub mailbox: Option<EmailAddress>,
    /// The app, once it is known to us.
    pub app: Option<LocalAppId>,
    /// Which way mail shall leave.
    pub route: RoutePreference,
}

impl SenderValues {
    /// A sender of which only the name is known.
    pub fn named(name: &str) -> Self {
        let route = RoutePreference::Automatic;
        Self { name: name.to_owned(), tenant: None, client_id: None, mailbox: None, app: None, route }
    }
}

/// A sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// Our own id.
    pub id: SenderId,
    /// What is known.
    #[serde(flatten)]
    pub values: SenderValues,
    /// How complete it is.
    #[serde(flatten)]
    pub stage: Stage,
    /// Whether a secret waits here until tenant and client id are known and it can be tried.
    pub staged_secret: bool,
    /// What its app may send as.
    pub reach: Reach,
    /// The last proof of that or of sending, as the caller wrote it.
    pub last_proof: Option<Value>,
    /// The Message-ID of the message that proved it.
    pub test_message_id: Option<String>,
    /// What happens to a message whose outcome stays unknown.
    pub on_unknown: OnUnknown,
    /// When it was first saved.
    pub created_at: Timestamp,
}

impl TryFrom<Row> for Sender {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let values = SenderValues {
            name: row.text("name")?,
            tenant: row.optional("tenant_id")?,
            client_id: row.optional("client_id")?,
            mailbox: row.optional("mailbox")?,
            app: row.optional("app_id")?,
            route: row.parse("route")?,
        };
        let staged_secret = row.number("staged_secret")? > 0;
        let has_credential = staged_secret || row.number("verified_credentials")? > 0;
        let missing: Vec<_> = [
            (Missing::ClientId, values.client_id.is_none()),
            (Missing::Tenant, values.tenant.is_none()),
            (Missing::Mailbox, values.mailbox.is_none()),
            (Missing::Credential, !has_credential),
        ]
        .into_iter()
        .filter_map(|(value, missing)| missing.then_some(value))
        .collect();
        let stage = match row.optional_time("verified_at")? {
            _ if !missing.is_empty() => Stage::Incomplete { missing },
            Some(at) => Stage::Verified { at },
            None => Stage::Ready,
        };
        Ok(Self {
            id: row.parse("id")?,
            values,
            stage,
            staged_secret,
            reach: row.parse("reach")?,
            last_proof: row.optional_json("last_proof")?,
            test_message_id: row.optional_text("test_message_id")?,
            on_unknown: row.parse("on_unknown")?,
            created_at: row.time("created_at")?,
        })
    }
}

impl Transaction {
    /// Saves a sender under its name, whole: what was known and is `None` now is forgotten. If tenant, client id, mailbox or
    /// app change, earlier proofs no longer count.
    pub async fn save_sender(&mut self, values: &SenderValues) -> Result<Sender, StoreError> {
        let known = self.sender(&values.name).await?;
        let unchanged = known.as_ref().is_some_and(|known| {
            let same = |values: &SenderValues| (values.tenant, values.client_id, values.mailbox.clone(), values.app);
            same(&known.values) == same(values)
        });
        let id = known.map_or_else(SenderId::random, |known| known.id);
        let query = sqlx::query(
            "-- sender.save
             INSERT INTO senders (id, name, tenant_id, client_id, mailbox, app_id, route, reach, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'unknown', $8, $8)
             ON CONFLICT (name) DO UPDATE SET
                 tenant_id = excluded.tenant_id, client_id = excluded.client_id, mailbox = excluded.mailbox,
                 app_id = excluded.app_id, route = excluded.route, updated_at = excluded.updated_at",
        )
        .bind(id.to_string())
        .bind(values.name.clone())
        .bind(values.tenant.map(|id| id.to_string()))
        .bind(values.client_id.map(|id| id.to_string()))
        .bind(values.mailbox.as_ref().map(|address| address.as_str().to_owned()))
        .bind(values.app.map(|id| id.to_string()))
        .bind(values.route.word())
        .bind(milliseconds(self.now()));
        self.execute(&describe(&values.name), query).await?;
        self.announce();
        if !unchanged {
            self.forget_proof(&values.name).await?;
        }
        self.expect_sender(&values.name).await
    }

    /// Keeps a secret, sealed, until it can be tried. It replaces one that waited before, and no credential in use.
    pub async fn stage_sender_secret(&mut self, name: &str, secret: &ClientSecret) -> Result<Sender, StoreError> {
        let sender = self.expect_sender(name).await?;
        let sealed = self.seal(&place(sender.id), secret.expose().as_bytes()).await?;
        let query = sqlx::query(
            "-- sender.stage_secret
             UPDATE senders SET secret = $2, updated_at = $3 WHERE id = $1",
        )
        .bind(sender.id.to_string())
        .bind(sealed)
        .bind(milliseconds(self.now()));
        self.announce();
        self.execute(&describe(name), query).await?;
        self.expect_sender(name).await
    }

    /// The secret that waits, if one does.
    pub async fn staged_sender_secret(&mut self, name: &str) -> Result<Option<ClientSecret>, StoreError> {
        let query = sqlx::query(
            "-- sender.open_staged_secret
             SELECT id, secret FROM senders WHERE name = $1",
        )
        .bind(name.to_owned());
        let row = self.fetch_optional("senders", "id", query).await?.ok_or_else(|| unknown(name))?;
        let Some(sealed) = row.optional_text("secret")? else { return Ok(None) };
        let plain = self.open(&row.place("secret"), &sealed).await?;
        match std::str::from_utf8(&plain) {
            Ok(text) => Ok(Some(ClientSecret::new(text.to_owned()))),
            Err(_) => Err(row.nonsense("secret", "the opened value is not UTF-8")),
        }
    }

    /// Forgets the secret that waits: it has become a credential, or it did not work.
    pub async fn drop_staged_sender_secret(&mut self, name: &str) -> Result<(), StoreError> {
        let query = sqlx::query(
            "-- sender.drop_staged_secret
             UPDATE senders SET secret = NULL, updated_at = $2 WHERE name = $1",
        )
        .bind(name.to_owned())
        .bind(milliseconds(self.now()));
        self.change_sender(name, query).await
    }

    /// A message went out: the values as they stand are proved.
    pub async fn record_sender_verified(
        &mut self,
        name: &str,
        proof: &Value,
        test_message_id: Option<&str>,
    ) -> Result<Sender, StoreError> {
        let sender = self.expect_sender(name).await?;
        if let Stage::Incomplete { missing } = sender.stage {
            let missing: Vec<_> = missing.into_iter().map(Missing::word).collect();
            let what = format!("{} cannot be verified: it lacks {}", describe(name), missing.join(", "));
            return Err(StoreError::NotAllowed { what });
        }
        let query = sqlx::query(
            "-- sender.record_verified
             UPDATE senders SET verified_at = $2, last_proof = $3, test_message_id = COALESCE($4, test_message_id),
                                updated_at = $2
             WHERE name = $1",
        )
        .bind(name.to_owned())
        .bind(milliseconds(self.now()))
        .bind(proof.to_string())
        .bind(test_message_id.map(str::to_owned));
        self.change_sender(name, query).await?;
        self.expect_sender(name).await
    }

    /// What a probe found of the sender's reach, and how.
    pub async fn record_sender_reach(&mut self, name: &str, reach: Reach, proof: &Value) -> Result<(), StoreError> {
        let query = sqlx::query(
            "-- sender.record_reach
             UPDATE senders SET reach = $2, last_proof = $3, updated_at = $4 WHERE name = $1",
        )
        .bind(name.to_owned())
        .bind(reach.word())
        .bind(proof.to_string())
        .bind(milliseconds(self.now()));
        self.change_sender(name, query).await
    }

    /// A sender by name.
    pub async fn sender(&mut self, name: &str) -> Result<Option<Sender>, StoreError> {
        let query = sqlx::query(
            "-- sender.find
             SELECT id, name, tenant_id, client_id, mailbox, app_id, route, reach, verified_at, last_proof,
                    test_message_id, on_unknown, created_at,
                    CASE WHEN secret IS NULL THEN 0 ELSE 1 END AS staged_secret,
                    (SELECT COUNT(*) FROM credentials
                     WHERE credentials.app_id = senders.app_id AND credentials.state = 'verified') AS verified_credentials
             FROM senders WHERE name = $1",
        )
        .bind(name.to_owned());
        self.fetch_optional("senders", "id", query).await?.map(Sender::try_from).transpose()
    }

    /// A sender by our own id.
    pub async fn sender_by_id(&mut self, id: SenderId) -> Result<Option<Sender>, StoreError> {
        let query = sqlx::query(
            "-- sender.find_by_id
             SELECT id, name, tenant_id, client_id, mailbox, app_id, route, reach, verified_at, last_proof,
                    test_message_id, on_unknown, created_at,
                    CASE WHEN secret IS NULL THEN 0 ELSE 1 END AS staged_secret,
                    (SELECT COUNT(*) FROM credentials
                     WHERE credentials.app_id = senders.app_id AND credentials.state = 'verified') AS verified_credentials
             FROM senders WHERE id = $1",
        )
        .bind(id.to_string());
        self.fetch_optional("senders", "id", query).await?.map(Sender::try_from).transpose()
    }

    /// What shall happen to a sender's messages whose outcome stays unknown.
    pub async fn set_on_unknown(&mut self, name: &str, on_unknown: OnUnknown) -> Result<(), StoreError> {
        let query = sqlx::query(
            "-- sender.set_on_unknown
             UPDATE senders SET on_unknown = $2, updated_at = $3 WHERE name = $1",
        )
        .bind(name.to_owned())
        .bind(on_unknown.word())
        .bind(milliseconds(self.now()));
        self.change_sender(name, query).await
    }

    /// All senders, by name.
    pub async fn senders(&mut self) -> Result<Vec<Sender>, StoreError> {
        let query = sqlx::query(
            "-- sender.list
             SELECT id, name, tenant_id, client_id, mailbox, app_id, route, reach, verified_at, last_proof,
                    test_message_id, on_unknown, created_at,
                    CASE WHEN secret IS NULL THEN 0 ELSE 1 END AS staged_secret,
                    (SELECT COUNT(*) FROM credentials
                     WHERE credentials.app_id = senders.app_id AND credentials.state = 'verified') AS verified_credentials
             FROM senders ORDER BY name",
        );
        self.fetch_all("senders", "id", query).await?.into_iter().map(Sender::try_from).collect()
    }

    /// Removes a sender; its app and credentials stay. `false` if there was none. Refused while messages wait for it: nobody
    /// could send them any more.
    pub async fn remove_sender(&mut self, name: &str) -> Result<bool, StoreError> {
        let Some(sender) = self.sender(name).await? else { return Ok(false) };
        let waiting: u64 = self.count_unsettled(sender.id).await?;
        if waiting > 0 {
            let what = format!("{} cannot be removed: {waiting} of its messages are not settled", describe(name));
            return Err(StoreError::NotAllowed { what });
        }
        let query = sqlx::query(
            "-- sender.remove
             DELETE FROM senders WHERE name = $1",
        )
        .bind(name.to_owned());
        self.announce();
        Ok(self.execute(&describe(name), query).await? > 0)
    }

    async fn forget_proof(&mut self, name: &str) -> Result<(), StoreError> {
        let query = sqlx::query(
            "-- sender.forget_proof
             UPDATE senders SET verified_at = NULL, reach = 'unknown', last_proof = NULL, test_message_id = NULL
             WHERE name = $1",
        )
        .bind(name.to_owned());
        self.change_sender(name, query).await
    }

    async fn expect_sender(&mut self, name: &str) -> Result<Sender, StoreError> {
        self.sender(name).await?.ok_or_else(|| unknown(name))
    }

    async fn change_sender(
        &mut self,
        name: &str,
        query: sqlx::query::Query<'_, sqlx::Any, sqlx::any::AnyArguments>,
    ) -> Result<(), StoreError> {
        self.announce();
        match self.execute(&describe(name), query).await? {
            0 => Err(unknown(name)),
            _ => Ok(()),
        }
    }
}

impl Store {
    delegate! {
        write save_sender(values: &SenderValues) -> Sender;
        write stage_sender_secret(name: &str, secret: &ClientSecret) -> Sender;
        read staged_sender_secret(name: &str) -> Option<ClientSecret>;
        write drop_staged_sender_secret(name: &str) -> ();
        write record_sender_verified(name: &str, proof: &Value, test_message_id: Option<&str>) -> Sender;
        write record_sender_reach(name: &str, reach: Reach, proof: &Value) -> ();
        read sender(name: &str) -> Option<Sender>;
        read sender_by_id(id: SenderId) -> Option<Sender>;
        write set_on_unknown(name: &str, on_unknown: OnUnknown) -> ();
        read senders() -> Vec<Sender>;
        write remove_sender(name: &str) -> bool;
    }
}

fn place(id: SenderId) -> Place {
    Place { table: "senders", row: id.to_string(), column: "secret" }
}

fn describe(name: &str) -> String {
    format!("the sender {name:?}")
}

fn unknown(name: &str) -> StoreError {
    StoreError::NotFound { what: format!("sender {name:?}") }
}
