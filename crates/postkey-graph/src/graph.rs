//! Graph as a client holds it: where it is, whose tokens, whose pacer, how patient.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use postkey_base::Clock;
use postkey_identity::{Cloud, Network, NetworkError, TokenSource};
use url::Url;

use crate::{
    call::Request,
    error::Unreadable,
    shape::{CallShape, Edition},
    throttling::{MailboxLimits, Pacer},
};

/// Graph, as one app or one signed-in person in one cloud. Cheap to clone; clones share the pacer.
#[derive(Clone)]
pub struct Graph {
    pub(crate) inner: Arc<Inner>,
}

type MakeClient = dyn Fn() -> Option<reqwest::Client> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Inner {
    pub(crate) http: reqwest::Client,
    pub(crate) fresh: Option<Arc<MakeClient>>,
    pub(crate) v1: Url,
    pub(crate) beta: Url,
    pub(crate) tokens: Arc<dyn TokenSource>,
    pub(crate) pacer: Pacer,
    pub(crate) patience: Duration,
    pub(crate) clock: Clock,
    pub(crate) waiting: Waiting,
}

impl Graph {
    /// Graph over `http`, which should not follow redirects. Without patience: see [`Graph::with_patience`].
    pub fn new(http: reqwest::Client, cloud: Cloud, tokens: Arc<dyn TokenSource>) -> Self {
        let inner = Inner {
            http,
            fresh: None,
            beta: cloud.graph_beta(),
            v1: cloud.graph,
            tokens,
            pacer: Pacer::new(MailboxLimits::DOCUMENTED),
            patience: Duration::ZERO,
            clock: Clock::real(),
            waiting: Waiting::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Graph over a client of its own, and another one for every repetition after a 503, as Microsoft advises.
    ///
    /// # Errors
    /// When no client can be built: CA file, TLS.
    pub fn connect(network: &Network, cloud: Cloud, tokens: Arc<dyn TokenSource>) -> Result<Self, NetworkError> {
        let http = network.http_client(&cloud)?;
        let (network, profile) = (network.clone(), cloud.clone());
        Ok(Self::new(http, cloud, tokens).with_fresh_connections(move || network.http_client(&profile).ok()))
    }

    /// Repeats what may be repeated as long as the waits add up to no more than this. Zero, the default, repeats
    /// nothing: the caller sees every 429 and 503. Messages are never repeated.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        Arc::make_mut(&mut self.inner).patience = patience;
        self
    }

    /// Where to get a client whose connections are new, used after a 503.
    #[must_use]
    pub fn with_fresh_connections(
        mut self,
        make: impl Fn() -> Option<reqwest::Client> + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.inner).fresh = Some(Arc::new(make));
        self
    }

    /// Another pacer: one shared with further clients of the same app, or with limits the server has taught.
    #[must_use]
    pub fn with_pacer(mut self, pacer: Pacer) -> Self {
        Arc::make_mut(&mut self.inner).pacer = pacer;
        self
    }

    /// Another clock, for `Retry-After` as a date in answers without one.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        Arc::make_mut(&mut self.inner).clock = clock;
        self
    }

    /// The gauges of this app's mailboxes.
    pub fn pacer(&self) -> &Pacer {
        &self.inner.pacer
    }

    /// Waits between attempts are written down instead of waited.
    #[cfg(test)]
    pub(crate) fn skipping_waits(mut self, waits: Arc<std::sync::Mutex<Vec<Duration>>>) -> Self {
        Arc::make_mut(&mut self.inner).waiting = Waiting::Skipped(waits);
        self
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Begins a request of this shape, with the values of its path.
    pub(crate) fn call<'a>(&'a self, shape: CallShape, values: &[&str]) -> Request<'a> {
        let base = match shape.edition {
            Edition::V1 => &self.inner.v1,
            Edition::Beta => &self.inner.beta,
        };
        let mut url = base.clone();
        url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), shape.path_with(values)));
        let mailbox = shape.is_mail().then(|| values.first().map(|&mailbox| mailbox.to_owned())).flatten();
        Request::new(self, shape, url, mailbox)
    }

    /// The same for a link that Graph gave. One that leads elsewhere is refused: our token would go with it.
    pub(crate) fn call_link<'a>(
        &'a self,
        shape: CallShape,
        link: &str,
        mailbox: Option<String>,
    ) -> Result<Request<'a>, Unreadable> {
        match Url::parse(link) {
            Ok(url) if url.origin() == self.inner.v1.origin() => Ok(Request::new(self, shape, url, mailbox)),
            Ok(url) => Err(Unreadable::LeavesGraph { host: url.host_str().unwrap_or("nowhere").to_owned() }),
            Err(_) => Err(Unreadable::LeavesGraph { host: "nowhere".into() }),
        }
    }

    /// The same for an address that carries its own authorization: our token stays here.
    pub(crate) fn call_elsewhere<'a>(&'a self, shape: CallShape, url: Url, mailbox: String) -> Request<'a> {
        Request::new(self, shape, url, Some(mailbox)).unauthorized()
    }

    /// Whether content may go to this address: only over TLS, except where Graph itself is plain (a test's loopback).
    pub(crate) fn trusts_scheme_of(&self, url: &Url) -> bool {
        url.scheme() == "https" || url.scheme() == self.inner.v1.scheme()
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").field("at", &self.inner.v1.as_str()).field("patience", &self.inner.patience).finish()
    }
}

/// How time passes between attempts: really, or for tests not at all but written down.
#[derive(Clone, Default)]
pub(crate) enum Waiting {
    #[default]
    Real,
    #[cfg(test)]
    Skipped(Arc<std::sync::Mutex<Vec<Duration>>>),
}

impl Waiting {
    pub(crate) async fn wait(&self, wait: Duration) {
        match self {
            Self::Real => tokio::time::sleep(wait).await,
            #[cfg(test)]
            Self::Skipped(waits) => waits.lock().unwrap().push(wait),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Real => Instant::now(),
            #[cfg(test)]
            Self::Skipped(waits) => Instant::now() + waits.lock().unwrap().iter().sum::<Duration>(),
        }
    }
}
