//! How postkey reaches the outside: roots, proxy, deadlines; and what went wrong when it does not.

use std::{fmt, io, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use postkey_base::{Diagnose, Who};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::cloud::Cloud;

/// A TCP and TLS handshake that takes longer leads nowhere.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A whole exchange with the login host: it answers within a second or not at all.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The machine's way out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Network {
    /// HTTP proxy that all traffic goes through by CONNECT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyUrl>,
    /// PEM file with roots trusted beside the platform's, such as an inspecting proxy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_ca: Option<PathBuf>,
}

/// `http://[user:password@]host:port`; prints without the password.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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
    #[error("the proxy {proxy} does not let postkey through to {host}")]
    Proxy {
        /// The proxy, without its password.
        proxy: String,
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
        let _ = cloud;
        unimplemented!()
    }

    /// TLS for SMTP with the same roots.
    ///
    /// # Errors
    /// [`NetworkError::CaFile`] and [`NetworkError::Setup`].
    pub fn tls_config(&self, cloud: &Cloud) -> Result<Arc<rustls::ClientConfig>, NetworkError> {
        let _ = cloud;
        unimplemented!()
    }
}

impl NetworkError {
    /// Reads a failed reqwest call. `waited` is what a timeout is reported with.
    pub fn of_request(host: &str, waited: Duration, error: reqwest::Error) -> Self {
        let _ = (host, waited, error);
        unimplemented!()
    }

    /// Reads a failed socket or TLS handshake.
    pub fn of_io(host: &str, waited: Duration, error: io::Error) -> Self {
        let _ = (host, waited, error);
        unimplemented!()
    }

    /// Whether the same call may succeed by itself later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Dns { .. } | Self::Refused { .. } | Self::Timeout { .. } | Self::Broken { .. })
    }
}

impl Diagnose for NetworkError {
    fn code(&self) -> &'static str {
        unimplemented!()
    }

    fn remedy(&self) -> String {
        unimplemented!()
    }

    fn who(&self) -> Who {
        Who::NetworkAdministrator
    }
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

impl From<ProxyUrl> for String {
    fn from(proxy: ProxyUrl) -> Self {
        proxy.0.into()
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
