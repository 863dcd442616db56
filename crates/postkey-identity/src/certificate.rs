//! A certificate credential: the DER that Entra knows, the RSA key that stays here, and thumbprints.

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    signature::{KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use postkey_base::{Diagnose, PrivateKeyDer, Who};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use sha2::Digest;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// A leaf, its issuers up to the root, and what else people put into such a file.
const LONGEST_CHAIN: usize = 10;

/// How large the RSA key of a new certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeySize {
    /// 2048 bits: what Entra's articles show.
    #[default]
    Rsa2048,
    /// 3072 bits.
    Rsa3072,
}

/// A self-signed or given certificate with its private key. Cheap to clone.
#[derive(Clone)]
pub struct Certificate(Arc<Parts>);

struct Parts {
    der: Vec<u8>,
    key: PrivateKeyDer,
    pair: RsaKeyPair,
    subject: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why a certificate cannot be used or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No `CERTIFICATE` or no `PRIVATE KEY` in the PEM.
    #[error("the PEM text holds no {0}")]
    Missing(&'static str),
    /// Not X.509.
    #[error("this is not an X.509 certificate: {0}")]
    Certificate(String),
    /// Not an RSA key.
    #[error("the private key cannot be used: {0}")]
    Key(String),
    /// A private key behind a passphrase.
    #[error("the private key is encrypted with a passphrase")]
    Encrypted,
    /// Two halves of different pairs.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// A subject or lifetime that cannot be.
    #[error("no certificate can be made: {0}")]
    Making(String),
}

/// How a signature is padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    Pss,
    Pkcs1,
}

impl Certificate {
    /// Makes an RSA key and a self-signed certificate for it, off the reactor (it takes up to a second).
    /// `subject` is a common name, with or without `CN=`.
    ///
    /// # Errors
    /// [`CertificateError::Making`].
    pub async fn generate(
        subject: &str,
        not_before: Timestamp,
        lifetime: Duration,
        size: KeySize,
    ) -> Result<Self, CertificateError> {
        let subject = subject.strip_prefix("CN=").unwrap_or(subject).to_owned();
        tokio::task::spawn_blocking(move || generate(&subject, not_before, lifetime, size))
            .await
            .map_err(|error| CertificateError::Making(error.to_string()))?
    }

    /// A certificate and its key (PKCS #8), as the store keeps them.
    ///
    /// # Errors
    /// When they are not a pair that can sign.
    pub fn from_parts(der: Vec<u8>, key: PrivateKeyDer) -> Result<Self, CertificateError> {
        let pair = RsaKeyPair::from_pkcs8(key.expose())
            .map_err(|error| CertificateError::Key(format!("it is not an RSA key in PKCS #8 ({error})")))?;
        let bad = |problem: &str| CertificateError::Certificate(problem.to_owned());
        let (rest, parsed) = X509Certificate::from_der(&der).map_err(|_| bad("the DER does not parse"))?;
        if !rest.is_empty() {
            return Err(bad("something follows it"));
        }
        if parsed.public_key().subject_public_key.data.as_ref() != pair.public_key().as_ref() {
            return Err(CertificateError::Mismatch);
        }
        let time = |seconds: i64| Timestamp::from_second(seconds).map_err(|_| bad("its dates are out of range"));
        let subject = parsed.subject().to_string();
        let not_before = time(parsed.validity().not_before.timestamp())?;
        let not_after = time(parsed.validity().not_after.timestamp())?;
        Ok(Self(Arc::new(Parts { der, key, pair, subject, not_before, not_after })))
    }

    /// The first private key (PKCS #8 or PKCS #1) of a PEM text and the certificate that belongs to it, wherever in a chain.
    ///
    /// # Errors
    /// When one is missing or they are not a pair that can sign.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        use rustls_pki_types::PrivateKeyDer as AnyKey;

        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).take(LONGEST_CHAIN).filter_map(Result::ok).collect();
        let first = chain.first().ok_or(CertificateError::Missing("CERTIFICATE"))?;
        // OpenSSL's older form is a header inside the section, which no reader of PEM takes; PKCS #8's is a kind of its own.
        let locked = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"].iter().any(|mark| pem.contains(mark));
        let key = match AnyKey::from_pem_slice(pem.as_bytes()) {
            Ok(key) => key,
            Err(_) if locked => return Err(CertificateError::Encrypted),
            Err(_) => return Err(CertificateError::Missing("PRIVATE KEY")),
        };
        let unusable = |problem: &str| CertificateError::Key(problem.to_owned());
        let key = match key {
            AnyKey::Pkcs8(key) => PrivateKeyDer::new(key.secret_pkcs8_der().to_vec()),
            AnyKey::Pkcs1(key) => {
                let pair =
                    RsaKeyPair::from_der(key.secret_pkcs1_der()).map_err(|_| unusable("it is not an RSA key"))?;
                pkcs8(&pair).ok_or_else(|| unusable("it cannot be written as PKCS #8"))?
            }
            _ => return Err(unusable("it is not an RSA key")),
        };
        let paired = Self::from_parts(first.as_ref().to_vec(), key.clone());
        let Err(CertificateError::Mismatch) = paired else { return paired };
        let later = chain.iter().skip(1).find_map(|other| Self::from_parts(other.as_ref().to_vec(), key.clone()).ok());
        later.ok_or(CertificateError::Mismatch)
    }

    /// What is uploaded: the certificate without its key.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The private key, PKCS #8.
    pub fn key(&self) -> &PrivateKeyDer {
        &self.0.key
    }

    /// SHA-1 of the DER: what the portal shows as *Thumbprint* and Graph as `customKeyIdentifier`.
    pub fn thumbprint_sha1(&self) -> [u8; 20] {
        sha1::Sha1::digest(&self.0.der).into()
    }

    /// SHA-256 of the DER: `x5t#S256`.
    pub fn thumbprint_sha256(&self) -> [u8; 32] {
        sha2::Sha256::digest(&self.0.der).into()
    }

    /// Upper-case hex of [`Certificate::thumbprint_sha1`], as the portal writes it.
    pub fn portal_thumbprint(&self) -> String {
        self.thumbprint_sha1().iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// The public half in PEM, for the portal's *Upload certificate*.
    pub fn public_pem(&self) -> String {
        String::clone(&pem("CERTIFICATE", &self.0.der))
    }

    /// The private half in PEM (PKCS #8), for a file that nobody else may read. Every call of this method is a place to audit.
    pub fn private_pem(&self) -> Zeroizing<String> {
        pem("PRIVATE KEY", self.0.key.expose())
    }

    /// Subject, as `CN=postkey`.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Valid from.
    pub fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    /// Valid until.
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// Signs with SHA-256; takes about a millisecond of computing.
    pub(crate) fn sign(&self, padding: Padding, message: &[u8]) -> Option<Vec<u8>> {
        let pair = &self.0.pair;
        let mut signature = vec![0; pair.public_modulus_len()];
        let scheme = match padding {
            Padding::Pss => &RSA_PSS_SHA256,
            Padding::Pkcs1 => &RSA_PKCS1_SHA256,
        };
        pair.sign(scheme, &SystemRandom::new(), message, &mut signature).ok()?;
        Some(signature)
    }
}

fn generate(
    subject: &str,
    not_before: Timestamp,
    lifetime: Duration,
    size: KeySize,
) -> Result<Certificate, CertificateError> {
    let failed = |error: rcgen::Error| CertificateError::Making(error.to_string());
    let not_after = not_before.checked_add(lifetime).map_err(|error| CertificateError::Making(error.to_string()))?;
    let size = match size {
        KeySize::Rsa2048 => rcgen::RsaKeySize::_2048,
        KeySize::Rsa3072 => rcgen::RsaKeySize::_3072,
    };
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).map_err(failed)?;
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, subject);
    parameters.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let since_epoch = |at: Timestamp| {
        let seconds =
            u64::try_from(at.as_second()).map_err(|_| CertificateError::Making("a date before 1970".into()))?;
        Ok::<_, CertificateError>(rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds))
    };
    parameters.not_before = since_epoch(not_before)?;
    parameters.not_after = since_epoch(not_after)?;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    Certificate::from_parts(certificate.der().to_vec(), PrivateKeyDer::new(key.serialized_der().to_vec()))
}

/// RFC 7468: 64 characters a line.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // Room for all of it at once: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(base64.len() + base64.len() / 64 + 2 * label.len() + 64));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in base64.as_bytes().chunks(64) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

fn pkcs8(pair: &RsaKeyPair) -> Option<PrivateKeyDer> {
    let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
    Some(PrivateKeyDer::new(der.as_ref().to_vec()))
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, until {})", self.0.subject, self.0.not_after)
    }
}

impl Diagnose for CertificateError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "identity.certificate_incomplete",
            Self::Certificate(_) => "identity.certificate_unreadable",
            Self::Key(_) => "identity.certificate_key_unusable",
            Self::Encrypted => "identity.certificate_key_encrypted",
            Self::Mismatch => "identity.certificate_key_mismatch",
            Self::Making(_) => "identity.certificate_not_made",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Missing(_) | Self::Certificate(_) => {
                "Give one PEM file with a CERTIFICATE and its PRIVATE KEY, one after the other.".to_owned()
            }
            Self::Key(_) => {
                "Give an RSA key without a passphrase, in PKCS #8: `openssl pkey -in key.pem -out key.pkcs8.pem` writes one."
                    .to_owned()
            }
            Self::Encrypted => {
                "Take the passphrase off: `openssl pkey -in key.pem -out key.clear.pem` asks for it once. postkey seals the key when \
                 it keeps it; delete the clear file afterwards."
                    .to_owned()
            }
            Self::Mismatch => "Put the key that belongs to this certificate beside it.".to_owned(),
            Self::Making(_) => "Choose another name or a shorter lifetime for the certificate.".to_owned(),
        }
    }

    fn who(&self) -> Who {
        Who::You
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    async fn made() -> Certificate {
        let start: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        Certificate::generate("CN=postkey demo", start, 180 * DAY, KeySize::Rsa2048).await.unwrap()
    }

    #[tokio::test]
    async fn a_made_certificate_holds_what_was_asked_and_survives_storing() {
        let made = made().await;
        assert_eq!(made.subject(), "CN=postkey demo");
        assert_eq!(made.not_before().to_string(), "2026-03-01T10:00:00Z");
        assert_eq!(made.not_after().to_string(), "2026-08-28T10:00:00Z");
        let stored = Certificate::from_parts(made.der().to_vec(), made.key().clone()).unwrap();
        assert_eq!(stored.thumbprint_sha256(), made.thumbprint_sha256());
        assert_eq!(made.portal_thumbprint().len(), 40);
    }

    #[tokio::test]
    async fn a_pem_needs_both_halves_of_one_pair() {
        let (made, other) = tokio::join!(made(), made());
        let key = made.private_pem().to_string();
        let chain = format!("{key}{}{}", other.public_pem(), made.public_pem());
        assert_eq!(Certificate::from_pem(&chain).unwrap().der(), made.der());
        let read = Certificate::from_pem(&format!("{key}{}", made.public_pem())).unwrap();
        assert_eq!(read.der(), made.der());
        for (pem, want) in [
            (made.public_pem(), CertificateError::Missing("PRIVATE KEY")),
            (key.clone(), CertificateError::Missing("CERTIFICATE")),
            (format!("{key}{}", other.public_pem()), CertificateError::Mismatch),
            (
                format!("{}{}", made.public_pem(), key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")),
                CertificateError::Encrypted,
            ),
            (
                made.public_pem()
                    + "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
                CertificateError::Encrypted,
            ),
        ] {
            assert_eq!(Certificate::from_pem(&pem).unwrap_err(), want);
        }
    }

    #[tokio::test]
    async fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", made().await), "Certificate(CN=postkey demo, until 2026-08-28T10:00:00Z)");
    }
}
