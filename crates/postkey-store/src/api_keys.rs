//! API keys: bearer tokens with scopes, kept as HMAC-SHA-256 only.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Store, StoreError, SubmitterId, Transaction,
    local_secrets::mac,
    row::{Row, local_id, milliseconds, words},
    store::delegate,
};

local_id!(
    /// An API key in this store.
    ApiKeyId
);

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Hand in messages.
    #[serde(rename = "send")]
    Send,
    /// See messages and their timelines.
    #[serde(rename = "outbox.read")]
    OutboxRead,
    /// Retry and cancel messages.
    #[serde(rename = "outbox.manage")]
    OutboxManage,
    /// Read the gauges.
    #[serde(rename = "metrics")]
    Metrics,
}

words!(Scope {
    Send = "send",
    OutboxRead = "outbox.read",
    OutboxManage = "outbox.manage",
    Metrics = "metrics",
});

/// An API key; its value is known to nobody but its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Our own id.
    pub id: ApiKeyId,
    /// Its name, unique without regard to case.
    pub name: String,
    /// For whom it acts; `None`: for nobody, and then it sees everything.
    pub submitter: Option<SubmitterId>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Since when it may not be used; `None`: it may.
    pub disabled_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

impl TryFrom<Row> for ApiKey {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.parse("id")?,
            name: row.text("name")?,
            submitter: row.optional("submitter_id")?,
            scopes: row.json("scopes")?,
            disabled_at: row.optional_time("disabled_at")?,
            created_at: row.time("created_at")?,
            last_used_at: row.optional_time("last_used_at")?,
            expires_at: row.optional_time("expires_at")?,
        })
    }
}

impl Transaction {
    /// Adds a key by its HMAC; [`StoreError::Exists`] if the name is taken.
    pub async fn add_api_key(
        &mut self,
        name: &str,
        submitter: Option<&str>,
        scopes: &[Scope],
        mac: &[u8; 32],
        expires_at: Option<Timestamp>,
    ) -> Result<ApiKey, StoreError> {
        let submitter = match submitter {
            Some(name) => Some(self.expect_submitter(name).await?.id),
            None => None,
        };
        let words: Vec<_> = scopes.iter().map(|scope| scope.word()).collect();
        let query = sqlx::query(
            "-- api_key.insert
             INSERT INTO api_keys (id, name, submitter_id, scopes, mac, disabled_at, expires_at, created_at, last_used_at)
             VALUES ($1, $2, $3, $4, $5, NULL, $6, $7, NULL)",
        )
        .bind(ApiKeyId::random().to_string())
        .bind(name.to_owned())
        .bind(submitter.map(|id| id.to_string()))
        .bind(serde_json::Value::from(words).to_string())
        .bind(BASE64.encode(mac))
        .bind(expires_at.map(milliseconds))
        .bind(milliseconds(self.now()));
        self.execute(&describe(name), query).await?;
        self.announce();
        let key = self.api_key(name).await?;
        key.ok_or_else(|| StoreError::NotFound { what: format!("API key {name:?}") })
    }

    /// A key by name, without regard to case.
    pub async fn api_key(&mut self, name: &str) -> Result<Option<ApiKey>, StoreError> {
        let query = sqlx::query(
            "-- api_key.find
             SELECT id, name, submitter_id, scopes, disabled_at, expires_at, created_at, last_used_at
             FROM api_keys WHERE LOWER(name) = LOWER($1)",
        )
        .bind(name.to_owned());
        self.fetch_optional("api_keys", "id", query).await?.map(ApiKey::try_from).transpose()
    }

    /// All keys, by name.
    pub async fn api_keys(&mut self) -> Result<Vec<ApiKey>, StoreError> {
        let query = sqlx::query(
            "-- api_key.list
             SELECT id, name, submitter_id, scopes, disabled_at, expires_at, created_at, last_used_at
             FROM api_keys ORDER BY LOWER(name)",
        );
        self.fetch_all("api_keys", "id", query).await?.into_iter().map(ApiKey::try_from).collect()
    }

    /// Which key has which HMAC.
    pub async fn api_key_macs(&mut self) -> Result<Vec<(ApiKeyId, [u8; 32])>, StoreError> {
        let query = sqlx::query(
            "-- api_key.list_macs
             SELECT id, mac FROM api_keys",
        );
        let rows = self.fetch_all("api_keys", "id", query).await?;
        rows.iter().map(|row| Ok((row.parse("id")?, mac(row)?))).collect()
    }

    /// Lets a key be used no more, or again.
    pub async fn disable_api_key(&mut self, name: &str, disabled: bool) -> Result<ApiKey, StoreError> {
        let query = sqlx::query(
            "-- api_key.disable
             UPDATE api_keys SET disabled_at = $2 WHERE LOWER(name) = LOWER($1)",
        )
        .bind(name.to_owned())
        .bind(disabled.then(|| milliseconds(self.now())));
        self.execute(&describe(name), query).await?;
        self.announce();
        let key = self.api_key(name).await?;
        key.ok_or_else(|| StoreError::NotFound { what: format!("API key {name:?}") })
    }

    /// Removes a key. `false` if there was none.
    pub async fn remove_api_key(&mut self, name: &str) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "-- api_key.remove
             DELETE FROM api_keys WHERE LOWER(name) = LOWER($1)",
        )
        .bind(name.to_owned());
        self.announce();
        Ok(self.execute(&describe(name), query).await? > 0)
    }

    /// Notes that a key was used; the caller does so once a minute at most.
    pub async fn api_key_used(&mut self, id: ApiKeyId, at: Timestamp) -> Result<(), StoreError> {
        let query = sqlx::query(
            "-- api_key.used
             UPDATE api_keys SET last_used_at = $2 WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(milliseconds(at));
        self.execute("the API key", query).await.map(drop)
    }
}

impl Store {
    delegate! {
        write add_api_key(
            name: &str, submitter: Option<&str>, scopes: &[Scope], mac: &[u8; 32], expires_at: Option<Timestamp>
        ) -> ApiKey;
        read api_key(name: &str) -> Option<ApiKey>;
        read api_keys() -> Vec<ApiKey>;
        read api_key_macs() -> Vec<(ApiKeyId, [u8; 32])>;
        write disable_api_key(name: &str, disabled: bool) -> ApiKey;
        write remove_api_key(name: &str) -> bool;
        write api_key_used(id: ApiKeyId, at: Timestamp) -> ();
    }
}

fn describe(name: &str) -> String {
    format!("the API key {name:?}")
}
