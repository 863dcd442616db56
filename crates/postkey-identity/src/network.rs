//! How postkey reaches the outside: roots, proxy, deadlines; and what went wrong when it does not.

use std::{fmt, io, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use postkey_base::{Diagnose, Who};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::Deserialize;
use url::Url;

use crate::cloud::Cloud;

/// A TCP and TLS handshake that takes longer leads nowhere.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A whole exchange with the login host: it answers within a second or not at all.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// What postkey calls itself to servers.
pub const USER_AGENT: &str = concat!("postkey/", env!("CARGO_PKG_VERSION"));
/// Every public CA of the world fits in a quarter of this.
const CA_FILE_LIMIT: u64 = 1 << 20;

/// The machine's way out.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Network {
    /// HTTP proxy that all traffic goes through by CONNECT.
    #[serde(default)]
    pub proxy: Option<ProxyUrl>,
    /// PEM file with roots trusted beside the platform's, such as an inspecting proxy's.
    #[serde(default)]
    pub extra_ca: Option<PathBuf>,
}

/// `http://[user:password@]host:port`; prints without the password.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct ProxyUrl(Url);

/// What stood between postkey and a host.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NetworkError {
    /// The name has no address.
    #[error("the name {host} cannot be resolved")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// Nobody listens, or a firewall says no.
    #[error("{host} refused the connection")]
    Refused {
        /// Host, with port where known.
        host: String,
        /// What the system said.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate of a CA this machine does not trust: usually a proxy that opens TLS.
    #[error("{host} answered with a certificate from a CA that this machine does not trust")]
    UnknownCa {
        /// Host.
        host: String,
        /// What TLS said.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// Any other failure of TLS: name, date, protocol.
    #[error("no TLS connection to {host}")]
    Tls {
        /// Host.
        host: String,
        /// What TLS said.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing came in time.
    #[error("no answer from {host} within {}", seconds(*.waited))]
    Timeout {
        /// Host.
        host: String,
        /// How long we waited.
        waited: Duration,
    },
    /// The proxy would not let us through.
    #[error("the proxy does not let postkey through to {host}")]
    Proxy {
        /// Where we wanted to go.
        host: String,
        /// What the proxy said.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The connection broke off.
    #[error("the connection to {host} broke off")]
    Broken {
        /// Host.
        host: String,
        /// What the system said.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The file with extra roots cannot be used.
    #[error("the CA file {path} cannot be used")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// This machine has no usable roots, or TLS cannot be set up at all.
    #[error("TLS cannot be set up on this machine")]
    Setup {
        /// Why.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
}

impl Network {
    /// A client for this cloud: rustls with the platform's roots and the extra ones, no redirects, deadlines set.
    /// Build one and clone it.
    ///
    /// # Errors
    /// [`NetworkError::CaFile`] and [`NetworkError::Setup`].
    pub fn http_client(&self, cloud: &Cloud) -> Result<reqwest::Client, NetworkError> {
        let setup = |error: reqwest::Error| NetworkError::Setup { cause: Arc::new(error.without_url()) };
        let mut roots = Vec::new();
        for der in self.extra_roots(cloud)? {
            roots.push(reqwest::Certificate::from_der(&der).map_err(setup)?);
        }
        let mut builder = reqwest::Client::builder()
            .tls_certs_merge(roots)
            .redirect(reqwest::redirect::Policy::none()) // a redirected token request would carry its secret along
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .user_agent(USER_AGENT)
            .no_proxy(); // the settings decide, not whatever environment the service inherits
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy.expose().clone()).map_err(setup)?);
        }
        builder.build().map_err(setup)
    }

    /// TLS for SMTP with the same roots.
    ///
    /// # Errors
    /// [`NetworkError::CaFile`] and [`NetworkError::Setup`].
    pub fn tls_config(&self, cloud: &Cloud) -> Result<Arc<rustls::ClientConfig>, NetworkError> {
        let setup = |error: rustls::Error| NetworkError::Setup { cause: Arc::new(error) };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = self.extra_roots(cloud)?;
        let verifier =
            rustls_platform_verifier::Verifier::new_with_extra_roots(roots, provider.clone()).map_err(setup)?;
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(setup)?
            .dangerous() // its only danger would be a verifier that verifies nothing; this one is the platform's
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    fn extra_roots(&self, cloud: &Cloud) -> Result<Vec<CertificateDer<'static>>, NetworkError> {
        let mut roots = Vec::new();
        for path in [&self.extra_ca, &cloud.ca_file].into_iter().flatten() {
            let bad =
                |cause: Arc<dyn std::error::Error + Send + Sync>| NetworkError::CaFile { path: path.clone(), cause };
            let size = std::fs::metadata(path).map_err(|error| bad(Arc::new(error)))?.len();
            if size > CA_FILE_LIMIT {
                return Err(bad(Arc::new(io::Error::other("it is too large for a list of certificates"))));
            }
            let pem = std::fs::read(path).map_err(|error| bad(Arc::new(error)))?;
            let before = roots.len();
            for der in CertificateDer::pem_slice_iter(&pem) {
                let der = der.map_err(|error| bad(Arc::new(error)))?;
                // Rejected here, so that the message names the file.
                rustls::RootCertStore::empty().add(der.clone()).map_err(|error| bad(Arc::new(error)))?;
                roots.push(der);
            }
            if roots.len() == before {
                return Err(bad(Arc::new(io::Error::other("it holds no certificate in PEM"))));
            }
        }
        Ok(roots)
    }
}

impl NetworkError {
    /// Reads a failed reqwest call. `waited` is what a timeout is reported with.
    pub fn of_request(host: &str, waited: Duration, error: reqwest::Error) -> Self {
        let host = host.to_owned();
        let is_dns = error.is_dns();
        let is_timeout = error.is_timeout();
        let cause = Arc::new(error.without_url()); // the query may hold what must not be shown
        match tls_fault(&*cause) {
            Some(true) => return Self::UnknownCa { host, cause },
            Some(false) => return Self::Tls { host, cause },
            None => {}
        }
        // hyper-util keeps the type of its tunnel errors to itself; this prefix is all it shows.
        if chain(&*cause).any(|error| error.to_string().starts_with("tunnel error")) {
            return Self::Proxy { host, cause };
        }
        if is_timeout {
            Self::Timeout { host, waited }
        } else if is_dns {
            Self::Dns { host, cause }
        } else if has_kind(&*cause, io::ErrorKind::ConnectionRefused) || cause.is_connect() {
            Self::Refused { host, cause }
        } else {
            Self::Broken { host, cause }
        }
    }

    /// Reads a failed socket or TLS handshake.
    pub fn of_io(host: &str, waited: Duration, error: io::Error) -> Self {
        let host = host.to_owned();
        let kind = error.kind();
        let cause = Arc::new(error);
        match (tls_fault(&*cause), kind) {
            (Some(true), _) => Self::UnknownCa { host, cause },
            (Some(false), _) => Self::Tls { host, cause },
            (None, io::ErrorKind::TimedOut) => Self::Timeout { host, waited },
            (None, io::ErrorKind::ConnectionRefused) => Self::Refused { host, cause },
            (None, io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => Self::Refused { host, cause },
            (None, _) => Self::Broken { host, cause },
        }
    }

    /// Whether the same call may succeed by itself later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Dns { .. } | Self::Refused { .. } | Self::Timeout { .. } | Self::Broken { .. })
    }

    /// Whether nothing of the request can have reached the host, so that repeating it repeats no effect.
    pub fn nothing_sent(&self) -> bool {
        !matches!(self, Self::Timeout { .. } | Self::Broken { .. })
    }
}

impl Diagnose for NetworkError {
    fn code(&self) -> &'static str {
        match self {
            Self::Dns { .. } => "network.dns",
            Self::Refused { .. } => "network.refused",
            Self::UnknownCa { .. } => "network.unknown_ca",
            Self::Tls { .. } => "network.tls",
            Self::Timeout { .. } => "network.timeout",
            Self::Proxy { .. } => "network.proxy",
            Self::Broken { .. } => "network.broken",
            Self::CaFile { .. } => "network.ca_file",
            Self::Setup { .. } => "network.tls_setup",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Dns { host, .. } => {
                format!(
                    "Check that this machine can resolve {host} (`getent hosts {host}`) and that the cloud's host names are right."
                )
            }
            Self::Refused { host, .. } => {
                format!(
                    "Let this machine open connections to {host}, directly or by setting the proxy that leads there."
                )
            }
            Self::UnknownCa { host, .. } => format!(
                "A proxy or firewall that inspects TLS does so with a CA of its own: exempt {host} from inspection, or let \
                 postkey trust that CA by its certificate in PEM (`ca_file` in postkey.toml, or POSTKEY_CA_FILE; --cloud-ca \
                 for hosts of one's own). `openssl s_client -connect {host} -showcerts` shows who answers."
            ),
            Self::Tls { host, .. } => {
                format!("Check the certificate and TLS version that {host} offers, and this machine's date.")
            }
            Self::Timeout { host, .. } => {
                format!("Check the way to {host}: a firewall that drops packets and a silent proxy look like this.")
            }
            Self::Proxy { host, .. } => {
                format!("Check the proxy's address, name and password, and that it allows CONNECT to {host}.")
            }
            Self::Broken { host, .. } => {
                format!("Try again. If it stays so, look at what stands between here and {host}.")
            }
            Self::CaFile { path, .. } => {
                format!("Put the CA's certificate in PEM into {}, readable by postkey.", path.display())
            }
            Self::Setup { .. } => {
                "Install this machine's CA certificates (on Debian: `apt-get install ca-certificates`).".to_owned()
            }
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::CaFile { .. } => Who::You,
            _ => Who::NetworkAdministrator,
        }
    }
}

/// The error and everything under it. `io::Error::source` skips the error it wraps, so that one is looked into.
fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
        None => error.source(),
    })
}

/// `None`: not TLS; `Some(true)`: the peer's CA is unknown; `Some(false)`: any other TLS failure.
fn tls_fault(error: &(dyn std::error::Error + 'static)) -> Option<bool> {
    use rustls::CertificateError::{BadSignature, UnknownIssuer};
    chain(error).find_map(|error| error.downcast_ref::<rustls::Error>()).map(|error| {
        // BadSignature: a CA of the same name with another key, as after an emulator has been started anew.
        matches!(error, rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature))
    })
}

fn has_kind(error: &(dyn std::error::Error + 'static), kind: io::ErrorKind) -> bool {
    chain(error).filter_map(|error| error.downcast_ref::<io::Error>()).any(|error| error.kind() == kind)
}

/// Why a text is no proxy address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the proxy must be given as http://[user:password@]host:port")]
pub struct ProxyError;

impl ProxyUrl {
    /// The address with its password, for the connection itself. Every call of this method is a place to audit.
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl FromStr for ProxyUrl {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let url = Url::parse(text.trim()).map_err(|_| ProxyError)?;
        let plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        if url.scheme() == "http" && url.host_str().is_some() && plain { Ok(Self(url)) } else { Err(ProxyError) }
    }
}

impl TryFrom<String> for ProxyUrl {
    type Error = ProxyError;

    fn try_from(text: String) -> Result<Self, ProxyError> {
        text.parse()
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.host_str().unwrap_or_default(), self.0.port_or_known_default().unwrap_or(80))
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUrl({self})")
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f32())
}
