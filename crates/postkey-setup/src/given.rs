//! The credential of an app that exists already, as somebody gives it: a secret, a certificate with its key, or the file in
//! which another issuer keeps an assertion. What can be told by looking is told before anybody is asked for a token.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{Timestamp, tz::TimeZone};
use postkey_base::{ClientSecret, Diagnose, Who};
use postkey_identity::{Certificate, CertificateError, ClientCredential};
use postkey_store::{Material, NewMaterial};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::pasted::{self, PasteError};

/// A credential as it was given.
#[derive(Debug, Clone)]
pub enum GivenCredential {
    /// *Secret Key*: the portal's *Value*.
    Secret(Pasted),
    /// A certificate that is on the app, and its private key.
    Certificate(Certificate),
    /// Where another issuer keeps its JWT, by an absolute path; read anew at each use.
    Federated(PathBuf),
}

/// A pasted secret, unchecked, and as unprintable as a checked one.
#[derive(Clone)]
pub struct Pasted(ClientSecret);

impl Pasted {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(ClientSecret::new(text))
    }
}

impl std::fmt::Debug for Pasted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pasted(..)")
    }
}

/// What is wrong with a given credential, seen without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GivenError {
    /// No secret.
    #[error(transparent)]
    Secret(#[from] PasteError),
    /// Neither a pair nor usable.
    #[error(transparent)]
    Certificate(CertificateError),
    /// A certificate in DER or PKCS #12.
    #[error("this is no PEM text")]
    Binary,
    /// A certificate past its end.
    #[error("the certificate {subject} has ended on {}", day(*.on))]
    Ended {
        /// Whose name it bears.
        subject: String,
        /// When.
        on: Timestamp,
    },
    /// A certificate before its beginning.
    #[error("the certificate {subject} is not valid before {from}")]
    NotYet {
        /// Whose name it bears.
        subject: String,
        /// From when.
        from: Timestamp,
    },
}

impl Diagnose for GivenError {
    fn code(&self) -> &'static str {
        match self {
            Self::Secret(cause) => cause.code(),
            Self::Certificate(cause) => cause.code(),
            Self::Binary => "setup.certificate_not_pem",
            Self::Ended { .. } => "setup.certificate_ended",
            Self::NotYet { .. } => "setup.certificate_not_yet",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Certificate(CertificateError::Missing(_)) => {
                "Give both: --certificate FILE with the CERTIFICATE and its PRIVATE KEY one after the other, or --certificate \
                 cert.pem --key key.pem."
                    .into()
            }
            Self::Certificate(CertificateError::Mismatch) => {
                "Give the key with which this certificate was made: `openssl x509 -pubkey -noout -in cert.pem` and \
                 `openssl pkey -pubout -in key.pem` print the same for a pair."
                    .into()
            }
            Self::Certificate(CertificateError::Key(_)) => {
                "Give the RSA key of the certificate in PKCS #8; `openssl pkey -in key.pem -out key.pkcs8.pem` turns older forms into \
                 it. A key of another kind cannot be used: `openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=postkey \
                 -keyout key.pem -out cert.pem` makes a new pair."
                    .into()
            }
            Self::Secret(cause) => cause.remedy(),
            Self::Certificate(cause) => cause.remedy(),
            Self::Binary => {
                "Turn it into PEM: `openssl pkcs12 -nodes -in FILE -out certificate.pem` for a .pfx or .p12, \
                 `openssl x509 -inform der -in FILE -out cert.pem` for a .cer; delete the PEM afterwards."
                    .into()
            }
            Self::Ended { .. } => "Make a new certificate, upload it to the app, and give that one.".into(),
            Self::NotYet { .. } => {
                "Wait until then, or make one that is valid now. If that time has come already, set this machine's clock \
                 (`timedatectl` shows it)."
                    .into()
            }
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::Ended { .. } => Who::AppOwner,
            _ => Who::You,
        }
    }
}

fn day(at: Timestamp) -> jiff::civil::Date {
    at.to_zoned_datetime(TimeZone::UTC).date()
}

/// A certificate and its key out of the bytes of one file, or of two.
///
/// # Errors
/// When the two are no pair that can sign.
pub fn certificate(certificate: &[u8], key: Option<&[u8]>) -> Result<Certificate, GivenError> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| GivenError::Binary);
    // The key's own file first: should the certificate's hold a key too, the one that was named counts.
    let both = Zeroizing::new([key.map(text).transpose()?.unwrap_or_default(), "\n", text(certificate)?].concat());
    Certificate::from_pem(&both).map_err(GivenError::Certificate)
}

/// A given credential that may be right.
pub(crate) enum Offered {
    Secret(ClientSecret),
    Certificate(Certificate),
    Federated(PathBuf),
}

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A client secret.
    Secret,
    /// A certificate.
    Certificate,
    /// Another issuer's assertion.
    Federated,
}

impl Kind {
    /// As one speaks of it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Certificate => "certificate",
            Self::Federated => "federated token",
        }
    }
}

impl GivenCredential {
    /// What looking at it shows.
    pub(crate) fn checked(&self, now: Timestamp) -> Result<Offered, GivenError> {
        match self {
            Self::Secret(pasted) => Ok(Offered::Secret(pasted::secret(pasted.0.expose())?)),
            Self::Certificate(certificate) => {
                let subject = || certificate.subject().to_owned();
                if certificate.not_after() <= now {
                    return Err(GivenError::Ended { subject: subject(), on: certificate.not_after() });
                }
                if certificate.not_before() > now {
                    return Err(GivenError::NotYet { subject: subject(), from: certificate.not_before() });
                }
                Ok(Offered::Certificate(certificate.clone()))
            }
            Self::Federated(file) => Ok(Offered::Federated(file.clone())),
        }
    }
}

impl Offered {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Secret(_) => Kind::Secret,
            Self::Certificate(_) => Kind::Certificate,
            Self::Federated(_) => Kind::Federated,
        }
    }

    /// As the token endpoint takes it.
    pub(crate) fn presented(&self) -> ClientCredential {
        match self {
            Self::Secret(secret) => ClientCredential::Secret(secret.clone()),
            Self::Certificate(certificate) => ClientCredential::Certificate(certificate.clone()),
            Self::Federated(file) => ClientCredential::Federated { file: file.clone() },
        }
    }

    /// As the store keeps it, and under which name.
    pub(crate) fn material(&self) -> (NewMaterial, String) {
        match self {
            Self::Secret(_) => (NewMaterial::Secret, "pasted secret".into()),
            Self::Certificate(certificate) => (
                NewMaterial::Certificate {
                    thumbprint: certificate.portal_thumbprint(),
                    certificate: certificate.der().to_vec(),
                    private_key: certificate.key().clone(),
                },
                format!("given certificate {}", certificate.subject()),
            ),
            Self::Federated(file) => {
                let assertion_file = file.display().to_string();
                (NewMaterial::Federated { assertion_file }, "given federated token".into())
            }
        }
    }

    /// Whether a credential that the store holds is this very one. A secret must be opened to tell.
    pub(crate) fn looks_like(&self, held: &Material) -> bool {
        match (self, held) {
            (Self::Secret(_), Material::Secret { .. }) => true,
            (Self::Certificate(ours), Material::Certificate { certificate, .. }) => ours.der() == certificate,
            (Self::Federated(file), Material::Federated { assertion_file }) => Path::new(assertion_file) == file,
            _ => false,
        }
    }

    /// When it ends and from when it is valid, where it says so itself.
    pub(crate) fn validity(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        match self {
            Self::Certificate(certificate) => (Some(certificate.not_before()), Some(certificate.not_after())),
            Self::Secret(_) | Self::Federated(_) => (None, None),
        }
    }

    /// What a person compares with the portal; nothing of it is secret.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Secret(_) => Vec::new(),
            Self::Certificate(certificate) => vec![
                ("thumbprint", certificate.portal_thumbprint()),
                ("subject", certificate.subject().to_owned()),
                ("valid until", day(certificate.not_after()).to_string()),
            ],
            Self::Federated(file) => claims(file).as_ref().map(facts_of).unwrap_or_default(),
        }
    }
}

/// What the token in the file says of itself. Its signature stays where it is.
fn claims(file: &Path) -> Option<Value> {
    /// A federated token is some kilobytes.
    const LIMIT: u64 = 64 * 1024;
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(file).and_then(|file| file.take(LIMIT).read_to_string(&mut text)).ok()?;
    let payload = text.trim().split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

fn facts_of(claims: &Value) -> Vec<(&'static str, String)> {
    /// The registration takes no more than 600.
    const LONGEST: usize = 600;
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.chars().take(LONGEST).collect::<String>()),
        Value::Array(several) => {
            let several: Vec<&str> = several.iter().filter_map(Value::as_str).collect();
            Some(several.join(", ").chars().take(LONGEST).collect())
        }
        _ => None,
    };
    let time = |value: &Value| {
        let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))?;
        Some(Timestamp::from_second(seconds).ok()?.to_string())
    };
    let facts = [
        ("issuer", text(&claims["iss"])),
        ("subject", text(&claims["sub"])),
        ("audience", text(&claims["aud"])),
        ("valid until", time(&claims["exp"])),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_tells_what_the_portal_must_hold() {
        let facts = facts_of(&json!({
            "iss": "https://issuer.example", "sub": "system:serviceaccount:mail:postkey",
            "aud": ["api://AzureADTokenExchange", "other"], "exp": 1_893_456_000, "jti": "not shown",
        }));
        let expected = [
            ("issuer", "https://issuer.example"),
            ("subject", "system:serviceaccount:mail:postkey"),
            ("audience", "api://AzureADTokenExchange, other"),
            ("valid until", "2030-01-01T00:00:00Z"),
        ];
        assert_eq!(facts, expected.map(|(name, value)| (name, value.to_owned())));
        assert!(facts_of(&json!({ "iss": 7 })).is_empty());
    }

    #[test]
    fn a_pfx_is_told_from_a_text_that_lacks_something() {
        assert_eq!(certificate(&[0x30, 0x82, 0xff, 0xfe], None).unwrap_err(), GivenError::Binary);
        let missing = GivenError::Certificate(CertificateError::Missing("CERTIFICATE"));
        assert_eq!(certificate(b"nothing of the kind", Some(b"")).unwrap_err(), missing);
    }
}
