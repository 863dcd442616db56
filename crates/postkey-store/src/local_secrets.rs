//! Passwords of submitters: kept as HMAC-SHA-256 only, under a key of the store's own that is sealed.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    Store, StoreError, SubmitterId, Transaction,
    row::{Row, local_id, milliseconds},
    sealed::Place,
    store::delegate,
};

local_id!(
    /// One password of a submitter.
    LocalSecretId
);

/// A password of a submitter; its value is known to nobody but its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalSecret {
    /// Our own id.
    pub id: LocalSecretId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

impl TryFrom<Row> for LocalSecret {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.parse("id")?,
            created_at: row.time("created_at")?,
            last_used_at: row.optional_time("last_used_at")?,
        })
    }
}

/// So many passwords a submitter has at most: the one in use and its successor.
pub const MOST_PASSWORDS: usize = 2;

impl Transaction {
    /// Adds a password by its HMAC. A submitter has at most [`MOST_PASSWORDS`]: one more is refused, unless the oldest shall go.
    pub async fn add_password(
        &mut self,
        name: &str,
        mac: &[u8; 32],
        drop_oldest: bool,
    ) -> Result<LocalSecretId, StoreError> {
        let submitter = self.expect_submitter(name).await?;
        if let Some(too_many) = (submitter.passwords.len() + 1).checked_sub(MOST_PASSWORDS).filter(|&many| many > 0) {
            if !drop_oldest {
                let what = format!(
                    "the submitter {name:?} has {} passwords already: remove one, or let the oldest go",
                    submitter.passwords.len()
                );
                return Err(StoreError::NotAllowed { what });
            }
            for oldest in submitter.passwords.iter().take(too_many) {
                self.remove_password(name, oldest.id).await?;
            }
        }
        let id = LocalSecretId::random();
        let query = sqlx::query(
            "-- local_secret.insert
             INSERT INTO local_secrets (id, submitter_id, mac, created_at, last_used_at) VALUES ($1, $2, $3, $4, NULL)",
        )
        .bind(id.to_string())
        .bind(submitter.id.to_string())
        .bind(BASE64.encode(mac))
        .bind(milliseconds(self.now()));
        self.execute("the password", query).await?;
        self.announce();
        Ok(id)
    }

    /// Removes a password. `false` if the submitter has none of this id.
    pub async fn remove_password(&mut self, name: &str, id: LocalSecretId) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "-- local_secret.remove
             DELETE FROM local_secrets
             WHERE id = $1 AND submitter_id IN (SELECT id FROM submitters WHERE LOWER(name) = LOWER($2))",
        )
        .bind(id.to_string())
        .bind(name.to_owned());
        self.announce();
        Ok(self.execute("the password", query).await? > 0)
    }

    /// Notes that a password was used; the caller does so once a minute at most.
    pub async fn secret_used(&mut self, id: LocalSecretId, at: Timestamp) -> Result<(), StoreError> {
        let query = sqlx::query(
            "-- local_secret.used
             UPDATE local_secrets SET last_used_at = $2 WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(milliseconds(at));
        self.execute("the password", query).await.map(drop)
    }

    /// Whose password has which HMAC.
    pub async fn submitter_secrets(&mut self) -> Result<Vec<(SubmitterId, LocalSecretId, [u8; 32])>, StoreError> {
        let query = sqlx::query(
            "-- local_secret.list_macs
             SELECT id, submitter_id, mac FROM local_secrets ORDER BY submitter_id, created_at, id",
        );
        let rows = self.fetch_all("local_secrets", "id", query).await?;
        rows.iter().map(|row| Ok((row.parse("submitter_id")?, row.parse("id")?, mac(row)?))).collect()
    }

    /// The key of the HMACs of passwords and API keys, made when it is first asked for.
    pub async fn local_secret_key(&mut self) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        let place = Place { table: "sealed_keys", row: LOCAL_SECRETS.into(), column: "bytes" };
        let mut fresh = Zeroizing::new([0; 32]);
        rand::fill(&mut fresh[..]);
        let sealed = self.seal(&place, &fresh[..]).await?;
        let insert = sqlx::query(
            "-- sealed_key.create
             INSERT INTO sealed_keys (id, bytes, created_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING",
        )
        .bind(LOCAL_SECRETS)
        .bind(sealed)
        .bind(milliseconds(self.now()));
        self.execute("the key of the passwords", insert).await?;
        let select = sqlx::query(
            "-- sealed_key.find
             SELECT id, bytes FROM sealed_keys WHERE id = $1",
        )
        .bind(LOCAL_SECRETS);
        let row = self.fetch_one("sealed_keys", "id", select).await?;
        let opened = self.open(&place, &row.text("bytes")?).await?;
        let bytes = opened.as_slice().try_into().map_err(|_| row.nonsense("bytes", "it has not 32 bytes"))?;
        Ok(Zeroizing::new(bytes))
    }

    pub(crate) async fn passwords_of(&mut self, submitter: SubmitterId) -> Result<Vec<LocalSecret>, StoreError> {
        let query = sqlx::query(
            "-- local_secret.list_of
             SELECT id, created_at, last_used_at FROM local_secrets WHERE submitter_id = $1 ORDER BY created_at, id",
        )
        .bind(submitter.to_string());
        self.fetch_all("local_secrets", "id", query).await?.into_iter().map(LocalSecret::try_from).collect()
    }

    pub(crate) async fn all_passwords(&mut self) -> Result<HashMap<SubmitterId, Vec<LocalSecret>>, StoreError> {
        let query = sqlx::query(
            "-- local_secret.list
             SELECT id, submitter_id, created_at, last_used_at FROM local_secrets ORDER BY created_at, id",
        );
        let mut passwords = HashMap::<SubmitterId, Vec<LocalSecret>>::new();
        for row in self.fetch_all("local_secrets", "id", query).await? {
            passwords.entry(row.parse("submitter_id")?).or_default().push(row.try_into()?);
        }
        Ok(passwords)
    }
}

impl Store {
    delegate! {
        write add_password(name: &str, mac: &[u8; 32], drop_oldest: bool) -> LocalSecretId;
        write remove_password(name: &str, id: LocalSecretId) -> bool;
        write secret_used(id: LocalSecretId, at: Timestamp) -> ();
        read submitter_secrets() -> Vec<(SubmitterId, LocalSecretId, [u8; 32])>;
        write local_secret_key() -> Zeroizing<[u8; 32]>;
    }
}

/// The HMAC in the column `mac`.
pub(crate) fn mac(row: &Row) -> Result<[u8; 32], StoreError> {
    let bytes = BASE64.decode(row.text("mac")?).map_err(|_| row.nonsense("mac", "it is not base64"))?;
    bytes.try_into().map_err(|_| row.nonsense("mac", "it has not 32 bytes"))
}

/// The row of `sealed_keys`.
const LOCAL_SECRETS: &str = "local_secrets";
