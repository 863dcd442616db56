//! Credentials of an app, from the intent to the grave. The value in use is never replaced by one that has not worked.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use postkey_base::{ClientSecret, KeyId, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use sqlx::{Any, any::AnyArguments, query::Query};
use zeroize::Zeroizing;

use crate::{
    LocalAppId, Store, StoreError, Transaction,
    row::{Row, local_id, milliseconds},
    sealed::Place,
    store::delegate,
};

local_id!(
    /// A credential in this store, known before Graph gives it a [`KeyId`].
    LocalCredentialId
);

/// One credential of an app; its secret or private key is not in here, see [`Transaction::open_credential`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Our own id.
    pub id: LocalCredentialId,
    /// Whose.
    pub app: LocalAppId,
    /// What is part of its name in the directory, so that a lost answer's key is recognised.
    pub nonce: String,
    /// Its name in the directory.
    pub display_name: String,
    /// Graph's id of it, once known.
    pub key_id: Option<KeyId>,
    /// What kind it is.
    pub material: Material,
    /// From when it is valid, if known.
    pub starts_at: Option<Timestamp>,
    /// Until when it is valid, if known: a secret that was pasted does not tell.
    pub ends_at: Option<Timestamp>,
    /// How far it has come.
    pub state: CredentialState,
    /// When it was intended.
    pub created_at: Timestamp,
}

/// The part of a credential that may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Material {
    /// A client secret.
    Secret {
        /// Its first three characters as Graph shows them; never an identity.
        hint: Option<String>,
    },
    /// A certificate; its private key is durable before the certificate is uploaded.
    Certificate {
        /// The certificate's thumbprint, as the caller writes it.
        thumbprint: String,
        /// The certificate, DER; base64 in JSON.
        #[serde(with = "base64_text")]
        certificate: Vec<u8>,
    },
    /// Assertions of another issuer, read from a file each time; nothing is sealed.
    Federated {
        /// The file.
        assertion_file: String,
    },
}

/// How far a credential has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum CredentialState {
    /// Journalled; the call that makes it may or may not have reached Graph.
    Intended,
    /// Graph made it and its value is sealed here.
    Minted {
        /// Since when.
        at: Timestamp,
    },
    /// It has produced a token.
    Verified {
        /// When first.
        at: Timestamp,
    },
    /// Removed from the directory or given up; its sealed value is gone.
    Retired {
        /// Since when.
        at: Timestamp,
    },
}

impl CredentialState {
    fn word(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Minted { .. } => "minted",
            Self::Verified { .. } => "verified",
            Self::Retired { .. } => "retired",
        }
    }
}

/// A credential that is about to be made. Save it, and the intent, before the call.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// Our own id.
    pub id: LocalCredentialId,
    /// Whose.
    pub app: LocalAppId,
    /// What is part of its name in the directory.
    pub nonce: String,
    /// Its name in the directory.
    pub display_name: String,
    /// What it is made of.
    pub material: NewMaterial,
    /// From when it shall be valid.
    pub starts_at: Option<Timestamp>,
    /// Until when it shall be valid.
    pub ends_at: Option<Timestamp>,
}

/// What a credential is made of.
#[derive(Debug, Clone)]
pub enum NewMaterial {
    /// A client secret: Graph chooses it, so it comes with [`Minted`].
    Secret,
    /// A certificate and its key.
    Certificate {
        /// As in [`Material::Certificate`].
        thumbprint: String,
        /// The certificate, DER.
        certificate: Vec<u8>,
        /// Sealed in the same commit as the intent.
        private_key: PrivateKeyDer,
    },
    /// As in [`Material::Federated`].
    Federated {
        /// The file.
        assertion_file: String,
    },
}

/// What the directory answered when it made the credential, or what a person pasted.
#[derive(Debug, Clone, Default)]
pub struct Minted {
    /// Graph's id; a pasted secret may have none.
    pub key_id: Option<KeyId>,
    /// The secret; required for [`Material::Secret`], refused for all others.
    pub secret: Option<ClientSecret>,
    /// Graph's `hint`.
    pub hint: Option<String>,
    /// From when it is valid, where it differs from what was intended.
    pub starts_at: Option<Timestamp>,
    /// Until when it is valid, where it differs from what was intended.
    pub ends_at: Option<Timestamp>,
}

/// A credential that is ready to be used.
#[derive(Debug, Clone)]
pub enum Opened {
    /// The client secret.
    Secret(ClientSecret),
    /// The private key of the certificate.
    PrivateKey(PrivateKeyDer),
    /// Where the assertion lies.
    AssertionFile(String),
}

impl TryFrom<Row> for Credential {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let material = match row.text("kind")?.as_str() {
            "secret" => Material::Secret { hint: row.optional_text("hint")? },
            "certificate" => Material::Certificate {
                thumbprint: row.text("thumbprint")?,
                certificate: BASE64
                    .decode(row.text("certificate")?)
                    .map_err(|_| row.nonsense("certificate", "it is not Base64"))?,
            },
            "federated" => Material::Federated { assertion_file: row.text("assertion_file")? },
            kind => return Err(row.nonsense("kind", format!("{kind:?} is no kind of credential"))),
        };
        let state = match row.text("state")?.as_str() {
            "intended" => CredentialState::Intended,
            "minted" => CredentialState::Minted { at: row.time("minted_at")? },
            "verified" => CredentialState::Verified { at: row.time("verified_at")? },
            "retired" => CredentialState::Retired { at: row.time("retired_at")? },
            state => return Err(row.nonsense("state", format!("{state:?} is no state of a credential"))),
        };
        Ok(Self {
            id: row.parse("id")?,
            app: row.parse("app_id")?,
            nonce: row.text("nonce")?,
            display_name: row.text("display_name")?,
            key_id: row.optional("key_id")?,
            material,
            starts_at: row.optional_time("starts_at")?,
            ends_at: row.optional_time("ends_at")?,
            state,
            created_at: row.time("created_at")?,
        })
    }
}

impl Transaction {
    /// Saves a credential as intended, a certificate's private key sealed with it. Commit this, together with the intent,
    /// before the call that makes it.
    pub async fn insert_credential(&mut self, new: &NewCredential) -> Result<(), StoreError> {
        let (kind, thumbprint, certificate, assertion_file) = match &new.material {
            NewMaterial::Secret => ("secret", None, None, None),
            NewMaterial::Certificate { thumbprint, certificate, .. } => {
                ("certificate", Some(thumbprint.clone()), Some(BASE64.encode(certificate)), None)
            }
            NewMaterial::Federated { assertion_file } => ("federated", None, None, Some(assertion_file.clone())),
        };
        let private_key = match &new.material {
            NewMaterial::Certificate { private_key, .. } => {
                let place = place(new.id, "private_key");
                Some(self.seal(&place, private_key.expose()).await?)
            }
            _ => None,
        };
        let query = sqlx::query(
            "-- credential.insert
             INSERT INTO credentials (id, app_id, nonce, display_name, kind, thumbprint, certificate, assertion_file,
                                      private_key, starts_at, ends_at, state, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'intended', $12)",
        )
        .bind(new.id.to_string())
        .bind(new.app.to_string())
        .bind(new.nonce.clone())
        .bind(new.display_name.clone())
        .bind(kind)
        .bind(thumbprint)
        .bind(certificate)
        .bind(assertion_file)
        .bind(private_key)
        .bind(new.starts_at.map(milliseconds))
        .bind(new.ends_at.map(milliseconds))
        .bind(milliseconds(self.now()));
        self.execute(&format!("the credential {}", new.nonce), query).await.map(drop)
    }

    /// Intended → minted: key id, dates and the sealed secret in one statement.
    pub async fn record_minted(&mut self, id: LocalCredentialId, minted: &Minted) -> Result<Credential, StoreError> {
        let known = self.expect_credential(id).await?;
        let not_allowed =
            |why: &str| StoreError::NotAllowed { what: format!("credential {id} cannot be minted: {why}") };
        if known.state != CredentialState::Intended {
            return Err(not_allowed(&format!("it is {}", known.state.word())));
        }
        let secret = match (&known.material, &minted.secret) {
            (Material::Secret { .. }, Some(secret)) => {
                Some(self.seal(&place(id, "secret"), secret.expose().as_bytes()).await?)
            }
            (Material::Secret { .. }, None) => return Err(not_allowed("its secret is missing")),
            (_, Some(_)) => return Err(not_allowed("it is no secret, but comes with one")),
            (_, None) => None,
        };
        let query = sqlx::query(
            "-- credential.record_minted
             UPDATE credentials SET
                 state = 'minted', minted_at = $2, key_id = $3, secret = $4, hint = $5,
                 starts_at = COALESCE($6, starts_at), ends_at = COALESCE($7, ends_at)
             WHERE id = $1 AND state = 'intended'",
        )
        .bind(id.to_string())
        .bind(milliseconds(self.now()))
        .bind(minted.key_id.map(|id| id.to_string()))
        .bind(secret)
        .bind(minted.hint.clone())
        .bind(minted.starts_at.map(milliseconds))
        .bind(minted.ends_at.map(milliseconds));
        self.change_credential(id, query).await
    }

    /// Minted → verified: it has produced a token, and from now on it is the app's current credential.
    /// Of a verified one, nothing changes.
    pub async fn record_verified(&mut self, id: LocalCredentialId) -> Result<Credential, StoreError> {
        let known = self.expect_credential(id).await?;
        match known.state {
            CredentialState::Verified { .. } => Ok(known),
            CredentialState::Minted { .. } => {
                let query = sqlx::query(
                    "-- credential.record_verified
                     UPDATE credentials SET state = 'verified', verified_at = $2 WHERE id = $1 AND state = 'minted'",
                )
                .bind(id.to_string())
                .bind(milliseconds(self.now()));
                self.change_credential(id, query).await
            }
            state => Err(StoreError::NotAllowed {
                what: format!("credential {id} cannot be verified: it is {}", state.word()),
            }),
        }
    }

    /// What was learned later of a credential that somebody else made: its end, and Graph's id of it. `None` forgets nothing.
    pub async fn record_learned(
        &mut self,
        id: LocalCredentialId,
        key_id: Option<KeyId>,
        ends_at: Option<Timestamp>,
    ) -> Result<Credential, StoreError> {
        let query = sqlx::query(
            "-- credential.record_learned
             UPDATE credentials SET key_id = COALESCE($2, key_id), ends_at = COALESCE($3, ends_at) WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(key_id.map(|id| id.to_string()))
        .bind(ends_at.map(milliseconds));
        self.change_credential(id, query).await
    }

    /// Whatever it was → retired, and its sealed value is wiped. Of a retired one, nothing changes.
    pub async fn record_retired(&mut self, id: LocalCredentialId) -> Result<Credential, StoreError> {
        let query = sqlx::query(
            "-- credential.record_retired
             UPDATE credentials SET
                 state = 'retired', retired_at = COALESCE(retired_at, $2), secret = NULL, private_key = NULL
             WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(milliseconds(self.now()));
        self.change_credential(id, query).await
    }

    /// A credential by our id.
    pub async fn credential(&mut self, id: LocalCredentialId) -> Result<Option<Credential>, StoreError> {
        let query = sqlx::query(
            "-- credential.find
             SELECT id, app_id, nonce, display_name, kind, key_id, hint, thumbprint, certificate, assertion_file,
                    starts_at, ends_at, state, created_at, minted_at, verified_at, retired_at
             FROM credentials WHERE id = $1",
        )
        .bind(id.to_string());
        self.fetch_optional("credentials", "id", query).await?.map(Credential::try_from).transpose()
    }

    /// A credential of an app by the nonce in its name: how a stray key in the directory is recognised.
    pub async fn credential_by_nonce(
        &mut self,
        app: LocalAppId,
        nonce: &str,
    ) -> Result<Option<Credential>, StoreError> {
        let query = sqlx::query(
            "-- credential.find_by_nonce
             SELECT id, app_id, nonce, display_name, kind, key_id, hint, thumbprint, certificate, assertion_file,
                    starts_at, ends_at, state, created_at, minted_at, verified_at, retired_at
             FROM credentials WHERE app_id = $1 AND nonce = $2",
        )
        .bind(app.to_string())
        .bind(nonce.to_owned());
        self.fetch_optional("credentials", "id", query).await?.map(Credential::try_from).transpose()
    }

    /// All credentials of an app, retired ones included, oldest first.
    pub async fn credentials(&mut self, app: LocalAppId) -> Result<Vec<Credential>, StoreError> {
        let query = sqlx::query(
            "-- credential.list
             SELECT id, app_id, nonce, display_name, kind, key_id, hint, thumbprint, certificate, assertion_file,
                    starts_at, ends_at, state, created_at, minted_at, verified_at, retired_at
             FROM credentials WHERE app_id = $1 ORDER BY created_at, id",
        )
        .bind(app.to_string());
        self.fetch_all("credentials", "id", query).await?.into_iter().map(Credential::try_from).collect()
    }

    /// All credentials of all apps, retired ones included, oldest first.
    pub async fn all_credentials(&mut self) -> Result<Vec<Credential>, StoreError> {
        let query = sqlx::query(
            "-- credential.list_all
             SELECT id, app_id, nonce, display_name, kind, key_id, hint, thumbprint, certificate, assertion_file,
                    starts_at, ends_at, state, created_at, minted_at, verified_at, retired_at
             FROM credentials ORDER BY created_at, id",
        );
        self.fetch_all("credentials", "id", query).await?.into_iter().map(Credential::try_from).collect()
    }

    /// What an app authenticates with: the newest that was verified and not retired, whatever came after it and failed.
    pub async fn current_credential(&mut self, app: LocalAppId) -> Result<Option<Credential>, StoreError> {
        let query = sqlx::query(
            "-- credential.find_current
             SELECT id, app_id, nonce, display_name, kind, key_id, hint, thumbprint, certificate, assertion_file,
                    starts_at, ends_at, state, created_at, minted_at, verified_at, retired_at
             FROM credentials WHERE app_id = $1 AND state = 'verified'
             ORDER BY verified_at DESC, created_at DESC, id LIMIT 1",
        )
        .bind(app.to_string());
        self.fetch_optional("credentials", "id", query).await?.map(Credential::try_from).transpose()
    }

    /// The value of a credential. An intended secret and a retired credential have none: [`StoreError::NotAllowed`].
    pub async fn open_credential(&mut self, id: LocalCredentialId) -> Result<Opened, StoreError> {
        let query = sqlx::query(
            "-- credential.open
             SELECT id, kind, state, secret, private_key, assertion_file FROM credentials WHERE id = $1",
        )
        .bind(id.to_string());
        let row = self.fetch_optional("credentials", "id", query).await?.ok_or_else(|| unknown(id))?;
        let column = match row.text("kind")?.as_str() {
            "secret" => "secret",
            "certificate" => "private_key",
            _ => return Ok(Opened::AssertionFile(row.text("assertion_file")?)),
        };
        let Some(sealed) = row.optional_text(column)? else {
            let what = format!("credential {id} has no value to use: it is {}", row.text("state")?);
            return Err(StoreError::NotAllowed { what });
        };
        let plain = self.open(&row.place(column), &sealed).await?;
        match column {
            "secret" => {
                let text = Zeroizing::new(plain.to_vec());
                // Taken over byte by byte, so that an error cannot carry the secret.
                match std::str::from_utf8(&text) {
                    Ok(text) => Ok(Opened::Secret(ClientSecret::new(text.to_owned()))),
                    Err(_) => Err(row.nonsense(column, "the opened value is not UTF-8")),
                }
            }
            _ => Ok(Opened::PrivateKey(PrivateKeyDer::new(plain.to_vec()))),
        }
    }

    async fn expect_credential(&mut self, id: LocalCredentialId) -> Result<Credential, StoreError> {
        self.credential(id).await?.ok_or_else(|| unknown(id))
    }

    async fn change_credential(
        &mut self,
        id: LocalCredentialId,
        query: Query<'_, Any, AnyArguments>,
    ) -> Result<Credential, StoreError> {
        self.announce();
        match self.execute(&format!("the credential {id}"), query).await? {
            0 => Err(StoreError::Changed { what: format!("credential {id}") }),
            _ => self.expect_credential(id).await,
        }
    }
}

impl Store {
    delegate! {
        write insert_credential(new: &NewCredential) -> ();
        write record_minted(id: LocalCredentialId, minted: &Minted) -> Credential;
        write record_verified(id: LocalCredentialId) -> Credential;
        write record_learned(id: LocalCredentialId, key_id: Option<KeyId>, ends_at: Option<Timestamp>) -> Credential;
        write record_retired(id: LocalCredentialId) -> Credential;
        read credential(id: LocalCredentialId) -> Option<Credential>;
        read credential_by_nonce(app: LocalAppId, nonce: &str) -> Option<Credential>;
        read credentials(app: LocalAppId) -> Vec<Credential>;
        read all_credentials() -> Vec<Credential>;
        read current_credential(app: LocalAppId) -> Option<Credential>;
        read open_credential(id: LocalCredentialId) -> Opened;
    }
}

fn place(id: LocalCredentialId, column: &'static str) -> Place {
    Place { table: "credentials", row: id.to_string(), column }
}

fn unknown(id: LocalCredentialId) -> StoreError {
    StoreError::NotFound { what: format!("credential {id}") }
}

/// Bytes as people can paste them elsewhere.
mod base64_text {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
