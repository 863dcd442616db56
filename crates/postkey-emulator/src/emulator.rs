//! The handle on a running emulator: starting it, asking where it is, changing its world, stopping it.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use crate::{
    exchange,
    faults::Fault,
    journal::Call,
    sample::{self, Sample},
    server::{self, Face, Port, Shared},
    settings::EmulatorSettings,
    tls,
    token::{KeyError, SigningKeys},
    visitor::Visitor,
    world::{Addresses, Behaviour, World},
};

/// A running emulator. Dropping it stops it at once; [`Emulator::shutdown`] lets requests in hand finish.
pub struct Emulator {
    shared: Arc<Shared>,
    sample: Sample,
    addresses: Addresses,
    ca_pem: String,
    ca_path: Option<PathBuf>,
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Why an emulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings ask for an interface others can reach.
    #[error("the emulator listens on loopback only, not on {0}, unless that is allowed explicitly")]
    BeyondLoopback(IpAddr),
    /// A port is taken.
    #[error("the emulator's {what} port could not be opened on {at}")]
    Listen {
        /// Which port.
        what: &'static str,
        /// Where.
        at: SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The folder cannot be used.
    #[error("the emulator's folder {path:?} could not be written")]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// No certificates.
    #[error(transparent)]
    Certificates(#[from] tls::CertificateError),
    /// No keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A task of the start failed.
    #[error("the emulator's start was interrupted")]
    Interrupted,
}

/// How long requests in hand may take to finish at shutdown.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// A page of the emulator answers at once; a fault may hold it up for longer than anyone waits.
const VISITOR_DEADLINE: Duration = Duration::from_secs(60);

impl Emulator {
    /// Makes the world, opens every port and returns when all are listening.
    pub async fn start(settings: EmulatorSettings) -> Result<Self, StartError> {
        if !settings.listen.is_loopback() && !settings.beyond_loopback {
            return Err(StartError::BeyondLoopback(settings.listen));
        }
        let today = jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
        let hosts: &[&str] = if settings.as_microsoft { &tls::MICROSOFT_HOSTS } else { &[] };
        let beyond = (!settings.listen.is_loopback() && !settings.listen.is_unspecified()).then_some(settings.listen);
        let extra: Vec<IpAddr> = beyond.into_iter().collect();
        let certificates = tls::make(today, hosts, &extra)?;
        // Two RSA keys take a moment: off the reactor.
        let keys = tokio::task::spawn_blocking(SigningKeys::generate).await.map_err(|_| StartError::Interrupted)??;

        let open = async |what: &'static str, ip: IpAddr, port: u16| {
            let at = SocketAddr::new(ip, port);
            let listener = TcpListener::bind(at).await;
            let listener = listener.map_err(|cause| StartError::Listen { what, at, cause })?;
            let port = listener.local_addr().map_err(|cause| StartError::Listen { what, at, cause })?.port();
            Ok::<_, StartError>((listener, port))
        };
        let ports = settings.ports;
        let (login, login_port) = open("login", settings.listen, ports.login).await?;
        let (graph, graph_port) = open("Graph", settings.listen, ports.graph).await?;
        let (smtp, smtp_port) = open("SMTP", settings.listen, ports.smtp).await?;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (management, management_port) = open("management", loopback, ports.management).await?;
        let proxy = if settings.as_microsoft { Some(open("proxy", loopback, ports.proxy).await?) } else { None };

        let addresses = Addresses {
            login: format!("https://localhost:{login_port}"),
            graph: format!("https://localhost:{graph_port}"),
            management: format!("http://127.0.0.1:{management_port}"),
            smtp: format!("localhost:{smtp_port}"),
            proxy: proxy.as_ref().map(|(_, port)| format!("http://127.0.0.1:{port}")),
        };
        let behaviour = Behaviour {
            replication_lag: settings.replication_lag,
            acceptance_lag: settings.acceptance_lag,
            non_monotone: settings.non_monotone,
            token_requests_per_ten_seconds: None,
        };
        let seed = settings.seed.unwrap_or_else(rand::random);
        let mut world = World::new(seed, behaviour, keys);
        world.addresses = addresses.clone();
        world.mail.limits = settings.limits.clone();
        world.mail.graph_latency = settings.graph_latency;
        world.mail.keep = settings.keep;
        let sample = sample::fill(&mut world);

        let (ca_path, clock_file) = match &settings.dir {
            Some(dir) => {
                prepare_folder(dir)?;
                let path = dir.join("ca.pem");
                crate::environment::replace(&path, certificates.ca_pem.as_bytes(), 0o644)
                    .map_err(|cause| StartError::Folder { path: path.clone(), cause })?;
                (Some(path), Some(dir.join("clock")))
            }
            None => (None, None),
        };
        let shared = Arc::new(Shared::new(world, clock_file));
        let names = |port: u16, microsoft: &[&str]| -> Vec<String> {
            let mut names: Vec<String> =
                ["localhost", "127.0.0.1", "[::1]"].iter().map(|name| format!("{name}:{port}")).collect();
            names.extend(beyond.map(|address| SocketAddr::new(address, port).to_string()));
            if settings.as_microsoft {
                names.extend(microsoft.iter().flat_map(|name| [(*name).to_owned(), format!("{name}:443")]));
            }
            names
        };
        let https = TlsAcceptor::from(Arc::clone(&certificates.https));
        let faces = [
            (login, Face::Login, Some(https.clone()), names(login_port, &["login.microsoftonline.com"])),
            (graph, Face::Graph, Some(https), names(graph_port, &["graph.microsoft.com", "outlook.office365.com"])),
            (management, Face::Management, None, names(management_port, &[])),
        ];
        for (listener, face, tls, hosts) in faces {
            let port = Port { face, shared: Arc::clone(&shared), tls, hosts };
            shared.tasks.spawn(server::serve(listener, Arc::new(port)));
        }
        let mail_tls = TlsAcceptor::from(Arc::clone(&certificates.plain));
        shared.tasks.spawn(exchange::smtp_server::serve(smtp, Arc::clone(&shared), mail_tls));
        if let Some((listener, _)) = proxy {
            let ways = server::proxy::Ways { login: login_port, graph: graph_port, smtp: smtp_port };
            shared.tasks.spawn(server::proxy::serve(listener, Arc::clone(&shared), ways));
        }
        let emulator = Self { shared, sample, addresses, ca_pem: certificates.ca_pem, ca_path };
        emulator.shared.write_clock();
        Ok(emulator)
    }

    /// Where sign-in happens, without a tenant and without a trailing slash.
    pub fn authority(&self) -> String {
        self.addresses.login.clone()
    }

    /// Graph, ending in `/v1.0`; `/beta` stands beside it.
    pub fn graph(&self) -> String {
        format!("{}/v1.0", self.addresses.graph)
    }

    /// `host:port` of SMTP submission.
    pub fn smtp(&self) -> String {
        self.addresses.smtp.clone()
    }

    /// The management API.
    pub fn management(&self) -> String {
        self.addresses.management.clone()
    }

    /// The CONNECT proxy that leads Microsoft's names here, if the settings asked to stand in for them.
    pub fn proxy(&self) -> Option<String> {
        self.addresses.proxy.clone()
    }

    /// The certificate to trust, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Where that certificate lies, if there is a folder.
    pub fn ca_path(&self) -> Option<&Path> {
        self.ca_path.as_deref()
    }

    /// Names, ids and secrets of the sample organisation.
    pub fn sample(&self) -> &Sample {
        &self.sample
    }

    /// The sample tenant.
    pub fn tenant_id(&self) -> Uuid {
        self.sample.tenant_id
    }

    /// Its verified domain.
    pub fn domain(&self) -> &str {
        &self.sample.domain
    }

    /// Variables that tell other programs everything they need, in the order of the documentation;
    /// `EMULATOR_CA` only when there is a folder to hold the certificate.
    pub fn environment(&self) -> Vec<(String, String)> {
        let sample = &self.sample;
        let mut variables = vec![
            ("EMULATOR_AUTHORITY", self.authority()),
            ("EMULATOR_GRAPH", self.graph()),
            ("EMULATOR_SMTP", self.smtp()),
            ("EMULATOR_MANAGEMENT", self.management()),
            ("TENANT_ID", sample.tenant_id.to_string()),
            ("TENANT_DOMAIN", sample.domain.clone()),
            ("ADMIN_USER", sample.admin_user.clone()),
            ("ADMIN_PASSWORD", sample.admin_password.clone()),
            ("ADMIN_CLIENT_ID", sample.admin_client_id.to_string()),
            ("ADMIN_CLIENT_SECRET", sample.admin_client_secret.clone()),
            ("CLIENT_ID", sample.client_id.to_string()),
            ("CLIENT_SECRET", sample.client_secret.clone()),
            ("SENDER", sample.sender.clone()),
            ("USER_NAME", sample.user_name.clone()),
            ("USER_PASSWORD", sample.user_password.clone()),
        ];
        if let Some(path) = &self.ca_path {
            variables.insert(2, ("EMULATOR_CA", path.display().to_string()));
        }
        if let Some(proxy) = self.proxy() {
            variables.push(("EMULATOR_PROXY", proxy));
        }
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// An HTTP client that trusts this emulator alone and follows no redirects.
    pub fn client(&self) -> Result<reqwest::Client, reqwest::Error> {
        let ca = reqwest::Certificate::from_pem(self.ca_pem.as_bytes())?;
        reqwest::Client::builder()
            .tls_certs_only([ca])
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(VISITOR_DEADLINE)
            .build()
    }

    /// A person at a browser who signs in with this name and password.
    pub fn visitor(&self, user: &str, password: &str) -> Result<Visitor, reqwest::Error> {
        let spelt = |host: &str| self.addresses.login.replacen("localhost", host, 1);
        Ok(Visitor::new(self.client()?, vec![self.addresses.login.clone(), spelt("127.0.0.1")], user, password))
    }

    /// Reads or changes the world. Nothing is served meanwhile: be brief.
    pub fn with_world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let result = act(&mut self.shared.world());
        self.shared.write_clock();
        self.shared.changed();
        result
    }

    /// Another person with a mailbox in the first organization; returns the address.
    pub fn hire(&self, local: &str) -> String {
        self.with_world(|world| {
            let now = world.clock.now();
            world.tenant_mut(self.tenant_id()).map(|tenant| tenant.hire(local, now)).unwrap_or_default()
        })
    }

    /// Turns the tenants' clock forward.
    pub fn advance(&self, by: Duration) {
        self.with_world(|world| world.clock.advance(by));
    }

    /// The tenants' clock; it follows every turn.
    pub fn clock(&self) -> crate::clock::EmulatorClock {
        self.shared.world().clock.clone()
    }

    /// Puts a fault in force and returns its id. The book holds a thousand; beyond them this one is dropped and 0 returned.
    pub fn fault(&self, fault: Fault) -> u64 {
        self.with_world(|world| world.faults.add(fault).unwrap_or(0))
    }

    /// Takes every fault out of force and lets hanging requests go on.
    pub fn clear_faults(&self) {
        self.with_world(|world| world.faults.clear());
    }

    /// Calls with a number above `seq`, in the order they ended.
    pub fn calls_since(&self, seq: u64) -> Vec<Call> {
        self.shared.world().journal.since(seq)
    }

    /// The number of the last request that reached a protocol port.
    pub fn last_call(&self) -> u64 {
        self.shared.world().journal.started()
    }

    /// Waits until `condition` holds of the world; looks again after every request and every change.
    pub async fn until(&self, mut condition: impl FnMut(&World) -> bool) {
        let mut changes = self.shared.changes();
        while !condition(&self.shared.world()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until an operation has ended once more after call number `seq`, and says how.
    pub async fn saw(&self, operation: &str, seq: u64) -> Option<Call> {
        let find = |world: &World| world.journal.since(seq).into_iter().find(|call| call.operation == operation);
        self.until(|world| find(world).is_some()).await;
        let world = self.shared.world();
        find(&world)
    }

    /// Stops accepting, lets requests in hand finish for five seconds, then cuts the rest.
    pub async fn shutdown(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(SHUTDOWN_DEADLINE, self.shared.tasks.wait()).await.is_err() {
            self.shared.abort.cancel();
            self.shared.tasks.wait().await;
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.abort.cancel();
    }
}

fn prepare_folder(dir: &Path) -> Result<(), StartError> {
    std::fs::create_dir_all(dir).map_err(|cause| StartError::Folder { path: dir.to_owned(), cause })
}
