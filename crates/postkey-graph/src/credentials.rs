//! The credentials on an application as Graph shows and takes them.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use postkey_base::{ClientSecret, KeyId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A client secret on an application, without the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordCredential {
    /// The portal's *Secret ID*.
    pub key_id: KeyId,
    /// The portal's *Description*.
    #[serde(default)]
    pub display_name: Option<String>,
    /// The first three characters of the secret.
    #[serde(default)]
    pub hint: Option<String>,
    /// Valid from.
    #[serde(default, rename = "startDateTime")]
    pub starts: Option<Timestamp>,
    /// Valid until.
    #[serde(default, rename = "endDateTime")]
    pub ends: Option<Timestamp>,
}

/// A certificate or key on an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyCredential {
    /// Graph's id of it.
    pub key_id: KeyId,
    /// At most 90 characters; Graph cuts the rest.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Base64 of the certificate's thumbprint, unless somebody chose another.
    #[serde(default)]
    pub custom_key_identifier: Option<String>,
    /// Valid from.
    #[serde(default, rename = "startDateTime")]
    pub starts: Option<Timestamp>,
    /// Valid until.
    #[serde(default, rename = "endDateTime")]
    pub ends: Option<Timestamp>,
    /// `AsymmetricX509Cert` for certificates.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// `Verify` for certificates that clients prove themselves with.
    #[serde(default)]
    pub usage: Option<String>,
    /// Base64 of the certificate; only where one object's `keyCredentials` were asked for.
    #[serde(default)]
    pub key: Option<String>,
}

impl KeyCredential {
    /// Whether it is the certificate with these bytes, as far as the answer can tell.
    pub fn is_certificate(&self, der: &[u8]) -> bool {
        self.key.as_ref().and_then(|key| BASE64_STANDARD.decode(key).ok()).is_some_and(|bytes| bytes == der)
    }
}

/// A certificate to put on an application; the private key stays with its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCertificate {
    /// Shown in the portal.
    pub display_name: String,
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// Valid from; Graph reads it off the certificate when it is not given.
    pub starts: Option<Timestamp>,
    /// Valid until; Graph takes the certificate's own end when it is not given.
    pub ends: Option<Timestamp>,
}

/// Graph: keyCredential, `displayName`.
const LONGEST_KEY_NAME: usize = 90;

impl NewCertificate {
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "type": "AsymmetricX509Cert",
            "usage": "Verify",
            "key": BASE64_STANDARD.encode(&self.der),
            "displayName": self.display_name.chars().take(LONGEST_KEY_NAME).collect::<String>(),
        });
        for (name, time) in [("startDateTime", self.starts), ("endDateTime", self.ends)] {
            if let Some(time) = time {
                body[name] = json!(time);
            }
        }
        body
    }
}

/// A client secret just made: the only time that its text is to be had.
#[derive(Debug, Clone)]
pub struct NewSecret {
    /// The portal's *Secret ID*.
    pub key_id: KeyId,
    /// The portal's *Value*.
    pub secret: ClientSecret,
    /// Valid from.
    pub starts: Option<Timestamp>,
    /// Valid until.
    pub ends: Option<Timestamp>,
    /// Its first three characters, which Graph goes on showing.
    pub hint: Option<String>,
}

/// `passwordCredential` as `addPassword` answers it; lives only until it is a [`NewSecret`].
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddedPassword {
    #[serde(flatten)]
    shown: PasswordCredential,
    secret_text: Option<String>,
}

impl AddedPassword {
    pub(crate) fn into_secret(self) -> Option<NewSecret> {
        let PasswordCredential { key_id, hint, starts, ends, .. } = self.shown;
        let secret = ClientSecret::new(self.secret_text.filter(|text| !text.is_empty())?);
        Some(NewSecret { key_id, secret, starts, ends, hint })
    }
}
