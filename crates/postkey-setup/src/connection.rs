//! From what the store knows to something that can call Microsoft: one installation's way out, and one sender's app.

use std::sync::Arc;

use postkey_base::{Clock, Diagnose, EmailAddress, KeyId, Who};
use postkey_graph::Graph;
use postkey_identity::{
    AppTokens, Certificate, ClientCredential, Cloud, Freshness, HeldCredential, Network, Scope, TenantRef, TokenCache,
    TokenEndpoint, TokenSource,
};
use postkey_store::{
    App, Credential, CredentialState, LocalAppId, Material, Missing, Opened, Sender, Stage, Store, StoreError,
};
use postkey_transport::smtp_route::SmtpRoute;

use crate::{
    clients::{Clients, CloudClients},
    outbound::print,
};

/// Tokens of this many apps and resources are kept at once.
const TOKENS_KEPT: usize = 10_000;

/// What everything in one process shares.
#[derive(Clone)]
pub struct Outside {
    /// Where things are remembered.
    pub store: Store,
    /// Proxy and roots.
    pub network: Network,
    /// What time it is.
    pub clock: Clock,
    /// Tokens of all apps.
    pub tokens: Arc<TokenCache>,
    clients: Clients,
}

impl Outside {
    /// One per process.
    pub fn new(store: Store, network: Network, clock: Clock) -> Self {
        let tokens = Arc::new(TokenCache::new(clock.clone(), TOKENS_KEPT));
        Self { store, network, clock, tokens, clients: Clients::default() }
    }

    pub(crate) fn clients(&self, cloud: &Cloud) -> Result<Arc<CloudClients>, ConnectionError> {
        self.clients.of(&self.network, cloud, &self.clock).map_err(ConnectionError::Network)
    }

    /// The token endpoint of a cloud.
    ///
    /// # Errors
    /// When no client can be built: CA file, TLS.
    pub fn endpoint(&self, cloud: &Cloud) -> Result<TokenEndpoint, ConnectionError> {
        Ok(self.clients(cloud)?.endpoint.clone())
    }

    /// Graph as whoever `tokens` speak for.
    ///
    /// # Errors
    /// When no client can be built: CA file, TLS.
    pub fn graph(&self, cloud: &Cloud, tokens: Arc<dyn TokenSource>) -> Result<Graph, ConnectionError> {
        let http = self.clients(cloud)?.http.clone();
        let (network, profile) = (self.network.clone(), cloud.clone());
        // As Microsoft advises after a 503: the next try goes to another front end.
        let fresh = move || network.http_client(&profile).ok();
        Ok(Graph::new(http, cloud.clone(), tokens).with_fresh_connections(fresh).with_clock(self.clock.clone()))
    }

    /// An app with the credentials that have worked.
    ///
    /// # Errors
    /// When the store cannot open them, or there are none.
    pub async fn app(&self, app: &App, cloud: &Cloud) -> Result<AppConnection, ConnectionError> {
        let mut held = Vec::new();
        for credential in self.store.credentials(app.id).await? {
            if let CredentialState::Verified { at } = credential.state {
                held.push(HeldCredential {
                    id: credential.key_id.unwrap_or_else(|| KeyId::new(credential.id.uuid())),
                    // The one that came last is the one in use, also beside a certificate that is younger than its coming.
                    starts: credential.starts_at.max(Some(at)),
                    ends: credential.ends_at,
                    credential: self.open(&credential).await?,
                });
            }
        }
        if held.is_empty() {
            return Err(ConnectionError::NoCredential { app: app.display_name.clone() });
        }
        Ok(AppConnection {
            app: app.clone(),
            cloud: cloud.clone(),
            endpoint: self.endpoint(cloud)?,
            outside: self.clone(),
            held,
        })
    }

    /// A credential as the token endpoint takes it.
    ///
    /// # Errors
    /// When it has no value, or one that is no key.
    pub async fn open(&self, credential: &Credential) -> Result<ClientCredential, ConnectionError> {
        Ok(match (self.store.open_credential(credential.id).await?, &credential.material) {
            (Opened::Secret(secret), _) => ClientCredential::Secret(secret),
            (Opened::PrivateKey(key), Material::Certificate { certificate, .. }) => ClientCredential::Certificate(
                Certificate::from_parts(certificate.clone(), key).map_err(ConnectionError::Certificate)?,
            ),
            (Opened::AssertionFile(file), _) => ClientCredential::Federated { file: file.into() },
            (Opened::PrivateKey(_), _) => {
                return Err(ConnectionError::NoCredential { app: credential.display_name.clone() });
            }
        })
    }

    /// A sender whose values are complete.
    ///
    /// # Errors
    /// No such sender, one that lacks something, or one whose app has no credential.
    pub async fn sender(&self, name: &str) -> Result<SenderConnection, ConnectionError> {
        let sender = self.store.sender(name).await?.ok_or_else(|| ConnectionError::NoSender(name.to_owned()))?;
        self.connect(sender).await
    }

    /// The sender to use when none was named: the only one there is.
    ///
    /// # Errors
    /// None at all, or several.
    pub async fn only_sender(&self) -> Result<SenderConnection, ConnectionError> {
        let mut senders = self.store.senders().await?;
        match senders.len() {
            0 => Err(ConnectionError::NoSenders),
            1 => self.connect(senders.remove(0)).await,
            _ => Err(ConnectionError::WhichSender(senders.into_iter().map(|sender| sender.values.name).collect())),
        }
    }

    pub(crate) async fn connect(&self, sender: Sender) -> Result<SenderConnection, ConnectionError> {
        let incomplete =
            |missing: Vec<Missing>| ConnectionError::Incomplete { sender: sender.values.name.clone(), missing };
        if let Stage::Incomplete { missing } = &sender.stage {
            return Err(incomplete(missing.clone()));
        }
        let Some(mailbox) = sender.values.mailbox.clone() else {
            return Err(incomplete(vec![Missing::Mailbox]));
        };
        let Some(id) = sender.values.app else {
            return Err(incomplete(vec![Missing::Credential]));
        };
        let (app, cloud) = self.app_and_cloud(id).await?;
        let app = self.app(&app, &cloud).await?;
        Ok(SenderConnection { sender, mailbox, app })
    }

    /// An app and the hosts of its tenant.
    ///
    /// # Errors
    /// When the store has lost one of them, or the hosts make no sense.
    pub async fn app_and_cloud(&self, id: LocalAppId) -> Result<(App, Cloud), ConnectionError> {
        let lost = |what: &str| ConnectionError::Lost { what: what.to_owned() };
        let app = self.store.app(id).await?.ok_or_else(|| lost("the app"))?;
        let tenant = self.store.tenant(app.tenant).await?.ok_or_else(|| lost("the app's tenant"))?;
        let cloud = serde_json::from_value(tenant.cloud).map_err(|_| lost("the hosts of the tenant"))?;
        Ok((app, cloud))
    }
}

/// An app that can get tokens.
#[derive(Clone)]
pub struct AppConnection {
    /// Which.
    pub app: App,
    /// Hosts of its tenant.
    pub cloud: Cloud,
    /// Its token endpoint.
    pub endpoint: TokenEndpoint,
    outside: Outside,
    held: Vec<HeldCredential>,
}

impl AppConnection {
    /// Its tokens for Graph.
    pub fn graph_tokens(&self) -> Arc<AppTokens> {
        self.tokens(self.cloud.graph_scope(), Freshness::GRAPH)
    }

    /// Its tokens for SMTP, IMAP and POP.
    pub fn mail_tokens(&self) -> Arc<AppTokens> {
        self.tokens(self.cloud.exchange_scope(), Freshness::MAIL)
    }

    /// Graph as this app.
    ///
    /// # Errors
    /// When no client can be built: CA file, TLS.
    pub fn graph(&self) -> Result<Graph, ConnectionError> {
        self.outside.graph(&self.cloud, self.graph_tokens())
    }

    /// SMTP submission as this app.
    ///
    /// # Errors
    /// When TLS cannot be set up: CA file, roots.
    pub fn smtp(&self) -> Result<SmtpRoute, ConnectionError> {
        let network = &self.outside.network;
        let tls = self.outside.clients(&self.cloud)?.tls(network).map_err(ConnectionError::Network)?;
        Ok(SmtpRoute::with_tls(network.clone(), self.cloud.smtp.clone(), tls, self.mail_tokens()))
    }

    /// The app with its hosts and the credentials it is called with, in one number.
    pub(crate) fn print(&self) -> u64 {
        let held: Vec<_> = self.held.iter().map(|held| (held.id, held.starts, held.ends)).collect();
        print(&(&self.app, &self.cloud, held))
    }

    /// The proxy and roots it goes through.
    pub fn network(&self) -> &Network {
        &self.outside.network
    }

    fn tokens(&self, scope: Scope, freshness: Freshness) -> Arc<AppTokens> {
        Arc::new(AppTokens::new(
            self.endpoint.clone(),
            self.outside.tokens.clone(),
            TenantRef::from(self.app.tenant),
            self.app.client_id,
            self.held.clone(),
            scope,
            freshness,
        ))
    }
}

/// A sender that can send.
#[derive(Clone)]
pub struct SenderConnection {
    /// As saved.
    pub sender: Sender,
    /// Its mailbox.
    pub mailbox: EmailAddress,
    /// Its app.
    pub app: AppConnection,
}

/// Why nothing can be called.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// CA file, TLS.
    #[error(transparent)]
    Network(postkey_identity::NetworkError),
    /// A stored certificate that is none.
    #[error("a stored certificate cannot be used")]
    Certificate(#[source] postkey_identity::CertificateError),
    /// Not by that name.
    #[error("there is no sender {0:?}")]
    NoSender(String),
    /// None at all.
    #[error("there is no sender yet")]
    NoSenders,
    /// More than one, none named.
    #[error("there are several senders: {}", .0.join(", "))]
    WhichSender(Vec<String>),
    /// Saved in stages and not complete.
    #[error("sender {sender:?} is incomplete: it lacks {}", in_words(.missing))]
    Incomplete {
        /// Which.
        sender: String,
        /// What.
        missing: Vec<Missing>,
    },
    /// Nothing that has ever produced a token.
    #[error("app {app:?} has no credential that has worked")]
    NoCredential {
        /// Which.
        app: String,
    },
    /// The store refers to something that is not in it.
    #[error("the store has lost {what}")]
    Lost {
        /// What.
        what: String,
    },
}

/// Missing values by the names of the form.
pub fn in_words(missing: &[Missing]) -> String {
    let words: Vec<&str> = missing
        .iter()
        .map(|one| match one {
            Missing::ClientId => "the OAuth Client ID",
            Missing::Tenant => "the Tenant ID",
            Missing::Mailbox => "the Email Address",
            Missing::Credential => "the Secret Key",
        })
        .collect();
    words.join(", ")
}

impl Diagnose for ConnectionError {
    fn code(&self) -> &'static str {
        match self {
            Self::Store(cause) => cause.code(),
            Self::Network(cause) => cause.code(),
            Self::Certificate(_) => "setup.stored_certificate",
            Self::NoSender(_) | Self::NoSenders => "setup.no_sender",
            Self::WhichSender(_) => "setup.which_sender",
            Self::Incomplete { .. } => "setup.sender_incomplete",
            Self::NoCredential { .. } => "setup.no_credential",
            Self::Lost { .. } => "setup.lost",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Store(cause) => cause.remedy(),
            Self::Network(cause) => cause.remedy(),
            Self::Certificate(_) => "Run `postkey setup` for this sender again: it makes a new certificate.".into(),
            Self::NoSender(_) => {
                "See `postkey sender list`, or make one with `postkey setup` or `postkey sender add`.".into()
            }
            Self::NoSenders => {
                "Make one with `postkey setup`, or with `postkey sender add` from values you were given.".into()
            }
            Self::WhichSender(names) => {
                let first = names.first().map_or("NAME", String::as_str);
                format!("Name one: `postkey send --sender {first}`, or `postkey token {first}`.")
            }
            Self::Incomplete { sender, .. } => {
                format!(
                    "Give what is missing with `postkey sender add {sender}`; what is saved already need not be repeated."
                )
            }
            Self::NoCredential { .. } => {
                "Give a secret with `postkey sender add`, or run `postkey setup` again.".into()
            }
            Self::Lost { .. } => "Restore the store from its last backup, or set this sender up again.".into(),
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::Store(cause) => cause.who(),
            Self::Network(cause) => cause.who(),
            _ => Who::You,
        }
    }
}
