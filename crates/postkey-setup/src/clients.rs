//! One HTTP client and one set of roots for each cloud a process talks to: every client has connections of its own, and
//! every set of roots is memory.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::SystemTime,
};

use postkey_base::Clock;
use postkey_identity::{Cloud, Network, NetworkError, TokenEndpoint};
use tokio_rustls::rustls::ClientConfig;

/// What the tenants of one cloud share.
pub(crate) struct CloudClients {
    pub(crate) http: reqwest::Client,
    pub(crate) endpoint: TokenEndpoint,
    /// For SMTP; made when the first message goes that way.
    tls: OnceLock<Arc<ClientConfig>>,
}

/// Clouds of one process. There are five, and the few that are given by hand.
#[derive(Clone, Default)]
pub(crate) struct Clients {
    made: Arc<Mutex<HashMap<Key, Arc<CloudClients>>>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    cloud: String,
    /// A CA file that was replaced asks for another client.
    roots: Vec<(PathBuf, Option<SystemTime>)>,
}

/// Beyond it all are made anew when they are next needed.
const MOST: usize = 64;

impl Clients {
    /// The clients of a cloud, made at its first use.
    ///
    /// # Errors
    /// When none can be made: CA file, TLS.
    pub(crate) fn of(
        &self,
        network: &Network,
        cloud: &Cloud,
        clock: &Clock,
    ) -> Result<Arc<CloudClients>, NetworkError> {
        let roots = [&network.extra_ca, &cloud.ca_file].into_iter().flatten();
        let changed = |path: &PathBuf| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        let key = Key {
            cloud: serde_json::to_string(cloud).unwrap_or_default(),
            roots: roots.map(|path| (path.clone(), changed(path))).collect(),
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clients) = made.get(&key) {
            return Ok(Arc::clone(clients));
        }
        let http = network.http_client(cloud)?;
        let endpoint = TokenEndpoint::new(http.clone(), cloud.clone(), clock.clone());
        let clients = Arc::new(CloudClients { http, endpoint, tls: OnceLock::new() });
        if made.len() >= MOST {
            made.clear();
        }
        made.insert(key, Arc::clone(&clients));
        Ok(clients)
    }
}

impl CloudClients {
    /// TLS for SMTP.
    ///
    /// # Errors
    /// When it cannot be set up: CA file, roots.
    pub(crate) fn tls(&self, network: &Network) -> Result<Arc<ClientConfig>, NetworkError> {
        if let Some(tls) = self.tls.get() {
            return Ok(Arc::clone(tls));
        }
        let tls = network.tls_config(self.endpoint.cloud())?;
        Ok(Arc::clone(self.tls.get_or_init(|| tls)))
    }
}
