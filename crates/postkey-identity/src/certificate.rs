//! A certificate credential: the DER that Entra knows, the RSA key that stays here, and thumbprints.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use postkey_base::PrivateKeyDer;

/// How large the RSA key of a new certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeySize {
    /// 2048 bits: what Entra's articles show.
    #[default]
    Rsa2048,
    /// 3072 bits.
    Rsa3072,
}

/// A self-signed or given certificate with its private key.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    key: PrivateKeyDer,
    subject: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why a certificate cannot be used or made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CertificateError {
    /// No `CERTIFICATE` or no `PRIVATE KEY` in the PEM.
    #[error("the PEM text holds no {0}")]
    Missing(&'static str),
    /// Not X.509.
    #[error("this is not an X.509 certificate: {0}")]
    Certificate(String),
    /// Not an RSA key in PKCS #8.
    #[error("the private key cannot be used: {0}")]
    Key(String),
    /// Two halves of different pairs.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// A subject or lifetime that cannot be.
    #[error("no certificate can be made: {0}")]
    Making(String),
}

impl Certificate {
    /// Makes an RSA key and a self-signed certificate for it, off the reactor (it takes up to a second).
    ///
    /// # Errors
    /// [`CertificateError::Making`].
    pub async fn generate(
        subject: &str,
        not_before: Timestamp,
        lifetime: Duration,
        size: KeySize,
    ) -> Result<Self, CertificateError> {
        let _ = (subject, not_before, lifetime, size);
        unimplemented!()
    }

    /// A certificate and its key, as the store keeps them.
    ///
    /// # Errors
    /// When they are not a pair that can sign.
    pub fn from_parts(der: Vec<u8>, key: PrivateKeyDer) -> Result<Self, CertificateError> {
        let _ = (der, key);
        unimplemented!()
    }

    /// The first certificate and the first private key (PKCS #8 or PKCS #1) of a PEM text.
    ///
    /// # Errors
    /// When one is missing or they are not a pair that can sign.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        let _ = pem;
        unimplemented!()
    }

    /// What is uploaded: the certificate without its key.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The private key, PKCS #8.
    pub fn key(&self) -> &PrivateKeyDer {
        &self.key
    }

    /// SHA-1 of the DER: what the portal shows as *Thumbprint* and Graph as `customKeyIdentifier`.
    pub fn thumbprint_sha1(&self) -> [u8; 20] {
        unimplemented!()
    }

    /// SHA-256 of the DER: `x5t#S256`.
    pub fn thumbprint_sha256(&self) -> [u8; 32] {
        unimplemented!()
    }

    /// Upper-case hex of [`Certificate::thumbprint_sha1`], as the portal writes it.
    pub fn portal_thumbprint(&self) -> String {
        unimplemented!()
    }

    /// The public half in PEM, for the portal's *Upload certificate*.
    pub fn public_pem(&self) -> String {
        unimplemented!()
    }

    /// Subject, as `CN=postkey`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Valid from.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Valid until.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, until {})", self.subject, self.not_after)
    }
}
