//! The certificate of the listeners: read from PEM files, read again when they change, and never given up for a broken one.
//!
//! Sessions that are open keep the configuration they began with. A certificate whose key does not fit yet (the two files
//! are seldom replaced in one step) changes nothing until both fit.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use postkey_base::{Diagnose, Who};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

/// Where certificate and key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the server's certificate first, then those between it and the authority.
    pub certificate: PathBuf,
    /// PEM: its private key, unencrypted.
    pub key: PathBuf,
}

/// Certificate and key as they are now.
pub struct ReloadingTls {
    files: Option<TlsFiles>,
    alpn: Vec<Vec<u8>>,
    loaded: ArcSwap<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

/// What a look at the files found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// The files are as they were.
    Same,
    /// New sessions use the new certificate.
    Changed,
}

/// No TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It has no PEM block of this kind.
    #[error("{place} holds no {what} in PEM")]
    Missing {
        /// The file.
        place: String,
        /// Certificate or private key.
        what: &'static str,
    },
    /// Certificate and key do not fit, or one is of a kind we do not know.
    #[error("the certificate of {place} cannot be used")]
    Unusable {
        /// The file.
        place: String,
        /// What rustls says.
        #[source]
        cause: rustls::Error,
    },
}

impl ReloadingTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they make no working pair.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let (certificate, key) = files.read()?;
        let place = files.certificate.display().to_string();
        let loaded = Loaded::of(certificate, key, &[], &place)?;
        Ok(Self { files: Some(files), alpn: Vec::new(), loaded: ArcSwap::from_pointee(loaded) })
    }

    /// A pair from memory, which never changes: for a self-made certificate.
    ///
    /// # Errors
    /// When they make no working pair.
    pub fn fixed(certificate_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let key = Zeroizing::new(key_pem.as_bytes().to_vec());
        let loaded = Loaded::of(certificate_pem.as_bytes().to_vec(), key, &[], "memory")?;
        Ok(Self { files: None, alpn: Vec::new(), loaded: ArcSwap::from_pointee(loaded) })
    }

    /// The same certificate for a protocol that is negotiated within TLS (`http/1.1`). SMTP names none.
    ///
    /// # Errors
    /// When the files have become unusable since they were read.
    pub fn with_alpn(mut self, protocols: &[&[u8]]) -> Result<Self, TlsError> {
        self.alpn = protocols.iter().map(|name| name.to_vec()).collect();
        let loaded = self.loaded.load();
        let again = Loaded::of(loaded.certificate.clone(), loaded.key.clone(), &self.alpn, &self.place())?;
        drop(loaded);
        self.loaded.store(Arc::new(again));
        Ok(self)
    }

    /// For a session that begins now.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.load().config)
    }

    /// The certificates in PEM: what clients of a self-made one must trust.
    pub fn certificate_pem(&self) -> Vec<u8> {
        self.loaded.load().certificate.clone()
    }

    /// Looks at the files; what is broken changes nothing.
    ///
    /// # Errors
    /// Why the files cannot be used as they are now; the certificate in use stays.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let Some(files) = &self.files else { return Ok(Reloaded::Same) };
        let (certificate, key) = files.read()?;
        let loaded = self.loaded.load();
        if loaded.certificate == certificate && loaded.key == key {
            return Ok(Reloaded::Same);
        }
        self.loaded.store(Arc::new(Loaded::of(certificate, key, &self.alpn, &self.place())?));
        Ok(Reloaded::Changed)
    }

    /// [`ReloadingTls::reload`], told to the log: once per failure, not once per look.
    pub fn reload_and_tell(&self, told: &mut Option<String>) {
        match self.reload() {
            Ok(Reloaded::Changed) => {
                *told = None;
                tracing::info!(
                    tls.certificate = self.place(),
                    "the TLS certificate was read again; new sessions use it"
                );
            }
            Ok(Reloaded::Same) => *told = None,
            Err(error) => {
                let diagnosis = error.diagnosis();
                let why = diagnosis.why.unwrap_or_default();
                let text = format!("{}: {why}", diagnosis.what);
                if told.as_ref() != Some(&text) {
                    tracing::error!(
                        error.code = diagnosis.code,
                        tls.certificate = self.place(),
                        "{text}. The certificate in use stays. {}",
                        diagnosis.remedy
                    );
                    *told = Some(text);
                }
            }
        }
    }

    fn place(&self) -> String {
        self.files.as_ref().map_or_else(|| "memory".to_owned(), |files| files.certificate.display().to_string())
    }
}

impl std::fmt::Debug for ReloadingTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReloadingTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl TlsFiles {
    fn read(&self) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), TlsError> {
        Ok((read(&self.certificate)?, Zeroizing::new(read(&self.key)?)))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|cause| TlsError::Unreadable { path: path.to_owned(), cause })
}

impl Loaded {
    fn of(certificate: Vec<u8>, key: Zeroizing<Vec<u8>>, alpn: &[Vec<u8>], place: &str) -> Result<Self, TlsError> {
        let missing = |what| TlsError::Missing { place: place.to_owned(), what };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| missing("certificate"))?;
        if chain.is_empty() {
            return Err(missing("certificate"));
        }
        let private = PrivateKeyDer::from_pem_slice(&key).map_err(|_| missing("private key"))?;
        let unusable = |cause| TlsError::Unusable { place: place.to_owned(), cause };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(unusable)?;
        config.alpn_protocols = alpn.to_vec();
        // One ticket lets a client resume; more only cost every session that never does.
        config.send_tls13_tickets = 1;
        Ok(Self { config: Arc::new(config), certificate, key })
    }
}

impl Diagnose for TlsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "submission.tls_unreadable",
            Self::Missing { .. } => "submission.tls_not_pem",
            Self::Unusable { .. } => "submission.tls_unusable",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Unreadable { path, .. } => {
                format!("Let the user that runs postkey read {} (and pass through its folders).", path.display())
            }
            Self::Missing { what, .. } => format!(
                "Name a file with `-----BEGIN {}-----`; a PFX is taken apart by `openssl pkcs12 -in FILE -nodes`.",
                if *what == "certificate" { "CERTIFICATE" } else { "PRIVATE KEY" }
            ),
            Self::Unusable { .. } => {
                "Name the certificate and the key that belong together: the server's own certificate first, then the \
                 intermediate ones."
                    .into()
            }
        }
    }

    fn who(&self) -> Who {
        Who::NetworkAdministrator
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_new_certificate_is_taken_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        let write = |(certificate, key): &(String, String)| {
            fs::write(&files.certificate, certificate).unwrap();
            fs::write(&files.key, key).unwrap();
        };
        let (first, second) = (pair("one.example"), pair("two.example"));
        write(&first);
        let tls = ReloadingTls::load(files.clone()).unwrap();
        let before = tls.config();
        assert_eq!(tls.reload().unwrap(), Reloaded::Same);

        fs::write(&files.certificate, &second.0).unwrap();
        assert!(matches!(tls.reload(), Err(TlsError::Unusable { .. })), "the key is not there yet");
        assert_eq!(tls.certificate_pem(), first.0.as_bytes());
        fs::write(&files.certificate, "nonsense").unwrap();
        assert!(matches!(tls.reload(), Err(TlsError::Missing { what: "certificate", .. })));
        fs::remove_file(&files.certificate).unwrap();
        assert!(matches!(tls.reload(), Err(TlsError::Unreadable { .. })));
        assert!(Arc::ptr_eq(&before, &tls.config()));

        write(&second);
        assert_eq!(tls.reload().unwrap(), Reloaded::Changed);
        assert_eq!(tls.certificate_pem(), second.0.as_bytes());
        assert!(!Arc::ptr_eq(&before, &tls.config()));
    }

    #[test]
    fn nothing_of_the_key_is_printed() {
        let (certificate, key) = pair("one.example");
        let tls = ReloadingTls::fixed(&certificate, &key).unwrap();
        assert_eq!(format!("{tls:?}"), "ReloadingTls { files: None, .. }");
        assert!(ReloadingTls::fixed(&certificate, "-----BEGIN PRIVATE KEY-----\nAAAA").is_err());
        assert!(ReloadingTls::fixed("", &key).is_err());
    }
}
