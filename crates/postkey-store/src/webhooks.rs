//! Webhooks: where events of messages are told, and the secret by which the receiver knows us.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    Store, StoreError, Transaction,
    row::{Row, local_id, milliseconds},
    sealed::Place,
    store::delegate,
};

local_id!(
    /// A webhook in this store.
    WebhookId
);

/// A webhook about to be added.
#[derive(Clone, PartialEq, Eq)]
pub struct NewWebhook {
    /// Its name, unique without regard to case.
    pub name: String,
    /// Where it is told.
    pub url: String,
    /// Which events, in the queue's words; empty: all.
    pub events: Vec<String>,
    /// What signs it; kept sealed.
    pub secret: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for NewWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewWebhook").field("name", &self.name).field("url", &self.url).finish_non_exhaustive()
    }
}

/// A webhook; its secret stays sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Our own id.
    pub id: WebhookId,
    /// Its name.
    pub name: String,
    /// Where it is told.
    pub url: String,
    /// Which events; empty: all.
    pub events: Vec<String>,
    /// Since when nothing is told; `None`: it is.
    pub disabled_at: Option<Timestamp>,
    /// When it was added.
    pub created_at: Timestamp,
}

impl TryFrom<Row> for Webhook {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.parse("id")?,
            name: row.text("name")?,
            url: row.text("url")?,
            events: row.json("events")?,
            disabled_at: row.optional_time("disabled_at")?,
            created_at: row.time("created_at")?,
        })
    }
}

impl Transaction {
    /// Adds a webhook; [`StoreError::Exists`] if the name is taken.
    pub async fn add_webhook(&mut self, new: &NewWebhook) -> Result<Webhook, StoreError> {
        let id = WebhookId::random();
        let sealed = self.seal(&place(id), &new.secret).await?;
        let query = sqlx::query(
            "-- webhook.insert
             INSERT INTO webhooks (id, name, url, events, secret, disabled_at, created_at)
             VALUES ($1, $2, $3, $4, $5, NULL, $6)",
        )
        .bind(id.to_string())
        .bind(new.name.clone())
        .bind(new.url.clone())
        .bind(serde_json::Value::from(new.events.clone()).to_string())
        .bind(sealed)
        .bind(milliseconds(self.now()));
        self.execute(&describe(&new.name), query).await?;
        self.announce();
        let webhook = self.webhook(&new.name).await?;
        webhook.ok_or_else(|| StoreError::NotFound { what: format!("webhook {:?}", new.name) })
    }

    /// A webhook by name, without regard to case.
    pub async fn webhook(&mut self, name: &str) -> Result<Option<Webhook>, StoreError> {
        let query = sqlx::query(
            "-- webhook.find
             SELECT id, name, url, events, disabled_at, created_at FROM webhooks WHERE LOWER(name) = LOWER($1)",
        )
        .bind(name.to_owned());
        self.fetch_optional("webhooks", "id", query).await?.map(Webhook::try_from).transpose()
    }

    /// All webhooks, by name.
    pub async fn webhooks(&mut self) -> Result<Vec<Webhook>, StoreError> {
        let query = sqlx::query(
            "-- webhook.list
             SELECT id, name, url, events, disabled_at, created_at FROM webhooks ORDER BY LOWER(name)",
        );
        self.fetch_all("webhooks", "id", query).await?.into_iter().map(Webhook::try_from).collect()
    }

    /// What signs a webhook; `None` if there is no such webhook.
    pub async fn webhook_secret(&mut self, id: WebhookId) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let query = sqlx::query(
            "-- webhook.open_secret
             SELECT id, secret FROM webhooks WHERE id = $1",
        )
        .bind(id.to_string());
        let Some(row) = self.fetch_optional("webhooks", "id", query).await? else { return Ok(None) };
        self.open(&row.place("secret"), &row.text("secret")?).await.map(Some)
    }

    /// Tells a webhook nothing any more, or again; what is due waits meanwhile.
    pub async fn disable_webhook(&mut self, name: &str, disabled: bool) -> Result<Webhook, StoreError> {
        let query = sqlx::query(
            "-- webhook.disable
             UPDATE webhooks SET disabled_at = $2 WHERE LOWER(name) = LOWER($1)",
        )
        .bind(name.to_owned())
        .bind(disabled.then(|| milliseconds(self.now())));
        self.execute(&describe(name), query).await?;
        self.announce();
        let webhook = self.webhook(name).await?;
        webhook.ok_or_else(|| StoreError::NotFound { what: format!("webhook {name:?}") })
    }

    /// Removes a webhook with what was still to be told. `false` if there was none.
    pub async fn remove_webhook(&mut self, name: &str) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "-- webhook.remove
             DELETE FROM webhooks WHERE LOWER(name) = LOWER($1)",
        )
        .bind(name.to_owned());
        self.announce();
        Ok(self.execute(&describe(name), query).await? > 0)
    }
}

impl Store {
    delegate! {
        write add_webhook(new: &NewWebhook) -> Webhook;
        read webhook(name: &str) -> Option<Webhook>;
        read webhooks() -> Vec<Webhook>;
        read webhook_secret(id: WebhookId) -> Option<Zeroizing<Vec<u8>>>;
        write disable_webhook(name: &str, disabled: bool) -> Webhook;
        write remove_webhook(name: &str) -> bool;
    }
}

fn place(id: WebhookId) -> Place {
    Place { table: "webhooks", row: id.to_string(), column: "secret" }
}

fn describe(name: &str) -> String {
    format!("the webhook {name:?}")
}
