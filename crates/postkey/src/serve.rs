//! `postkey serve` put together: lock, store, queue, listeners; and the way down again.

mod front;
pub(crate) mod lock;
pub(crate) mod notify;
pub(crate) mod own_certificate;
pub(crate) mod places;
mod reload;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use postkey_api::{ApiParts, ApiSettings, Hosts, Listening, router};
use postkey_base::Who;
use postkey_queue::{Queue, QueueParts};
use postkey_setup::{connection::Outside, outbound::SenderOutbound};
use postkey_store::Store;
use postkey_submission::{
    Directory, Listener, Mode, ReloadingTls, Submission, SubmissionParts, SubmissionSettings, TlsFiles,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::{lock::ServeLock, notify::Phase, own_certificate::OwnCertificate, places::Places, reload::Reloading};
use crate::{
    failure::Failure,
    settings::{
        Settings,
        listeners::{Http, SmtpMode},
    },
    signals::{self, Signals},
    wiring,
};

/// Everything that runs.
pub(crate) struct Server {
    /// This node among those that share the store.
    pub(crate) node: String,
    /// Where clients reach it.
    pub(crate) places: Places,
    /// The store.
    pub(crate) store: Store,
    /// How many submitters there are.
    pub(crate) submitters: usize,
    /// A CA was made at this start.
    pub(crate) new_ca: bool,
    /// How this installation's program is called.
    pub(crate) command: String,
    /// The queue.
    pub(crate) queue: Queue,
    submission: Submission,
    directory: Directory,
    outbound: SenderOutbound,
    http: Option<Serving>,
    tls: Vec<Arc<ReloadingTls>>,
    _lock: ServeLock,
}

/// The HTTP listener at work.
struct Serving {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Server {
    /// Opens everything, or nothing.
    pub(crate) async fn start(settings: &Settings) -> Result<Self, Failure> {
        settings.listeners.check()?;
        std::fs::create_dir_all(&settings.data).map_err(|cause| Failure::file(&settings.data, "created", cause))?;
        let lock = ServeLock::take(&settings.data, wiring::clock().now())?;
        let outside = wiring::open(settings).await?;
        Self::with(settings, outside, lock).await
    }

    /// The same around a store that is open already.
    pub(crate) async fn start_with(settings: &Settings, outside: Outside) -> Result<Self, Failure> {
        settings.listeners.check()?;
        let lock = ServeLock::take(&settings.data, outside.clock.now())?;
        Self::with(settings, outside, lock).await
    }

    async fn with(settings: &Settings, outside: Outside, lock: ServeLock) -> Result<Self, Failure> {
        let listeners = &settings.listeners;
        let node = lock::node_name(listeners.serve.node.as_deref(), &settings.data)?;
        let host_name = host_name(settings);
        let (store, clock) = (outside.store.clone(), outside.clock.clone());
        let (smtp_tls, new_ca) = smtp_tls(settings, &outside)?;
        let http_tls = http_tls(&listeners.http)?;
        let http_listener = bind_http(&listeners.http).await?;

        let outbound = SenderOutbound::new(outside, settings.command());
        let queue = Queue::start(QueueParts {
            store: store.clone(),
            clock: clock.clone(),
            outbound: Arc::new(outbound.clone()),
            settings: settings.queueing.settings(host_name.clone()),
            node: node.clone(),
        })
        .await?;
        let directory = Directory::open(store.clone(), clock.clone(), Arc::new(outbound.clone())).await?;
        outbound.follow(|_| {}).await?;
        let opened: Vec<_> = listeners.smtp.iter().filter_map(|one| Some((one, one.listen.address()?))).collect();
        let submission = Submission::start(SubmissionParts {
            directory: directory.clone(),
            queue: queue.clone(),
            listeners: opened
                .iter()
                .map(|(listener, address)| Listener {
                    name: listener.name.clone(),
                    address: *address,
                    mode: mode(listener.mode),
                    proxies: listener.proxies.clone(),
                })
                .collect(),
            tls: Some(Arc::clone(&smtp_tls)),
            settings: SubmissionSettings { host_name, ..SubmissionSettings::default() },
        })
        .await?;

        let at = http_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let smtp_at: Vec<_> = listeners.smtp.iter().map(|one| submission.address(&one.name)).collect();
        let places = Places::at(settings, &smtp_at, at);
        places.note(&settings.data);
        let http = http_listener.map(|listener| {
            let api = router(ApiParts {
                store: store.clone(),
                queue: queue.clone(),
                directory: directory.clone(),
                clock: clock.clone(),
                settings: ApiSettings {
                    hosts: Hosts::new(at, &listeners.http.hosts),
                    proxies: listeners.http.proxies.clone(),
                },
            });
            let stop = CancellationToken::new();
            let listening = Listening {
                listener,
                tls: http_tls.clone(),
                stop: stop.clone(),
                within: listeners.serve.stop_within(),
            };
            let api = front::only_for(&listeners.http.proxies, api);
            Serving { task: tokio::spawn(postkey_api::serve(listening, api)), stop }
        });
        let submitters = store.submitters().await?.len();
        let tls = [Some(smtp_tls), http_tls].into_iter().flatten().collect();
        let command = settings.command();
        Ok(Self {
            node,
            places,
            store,
            submitters,
            new_ca,
            command,
            queue,
            submission,
            directory,
            outbound,
            http,
            tls,
            _lock: lock,
        })
    }

    /// Stops accepting, finishes what is in hand within the time that the settings give, and ends.
    pub(crate) async fn shutdown(self, settings: &Settings) {
        let (began, within) = (Instant::now(), settings.listeners.serve.stop_within());
        let left = || within.saturating_sub(began.elapsed());
        if let Some(http) = &self.http {
            http.stop.cancel();
        }
        self.submission.shutdown(left()).await;
        if let Some(http) = self.http {
            // It cuts off what takes longer by itself.
            let _ = tokio::time::timeout(left() + GRACE, http.task).await;
        }
        self.queue.shutdown(left()).await;
        self.directory.close().await;
        self.outbound.close().await;
        Places::forget(&settings.data);
    }
}

/// A task that keeps its own deadline is given so much longer.
const GRACE: Duration = Duration::from_secs(1);

/// Serves until told to stop, and reads again what changes.
pub(crate) async fn follow(server: Server, settings: Settings) {
    let mut signals = Signals::serving();
    let mut reloading = Reloading::new(&settings, server.tls.clone());
    notify::tell(Phase::Ready);
    loop {
        // None of them loses anything when dropped: a signal not seen here stays noted, files are looked at again.
        tokio::select! {
            asked = signals.next() => match asked {
                signals::Asked::Stop => break,
                signals::Asked::Reload => {
                    notify::tell(Phase::Reloading);
                    reloading.reload(&settings);
                    notify::tell(Phase::Ready);
                }
            },
            () = reloading.changed() => reloading.reload(&settings),
        }
    }
    notify::tell(Phase::Stopping);
    tracing::info!(within_s = settings.listeners.serve.stop_within_s, "stopping: what is in hand is finished");
    tokio::select! {
        () = server.shutdown(&settings) => tracing::info!("stopped"),
        () = signals.stop_again() => tracing::warn!("stopped at once: what was in hand is settled at the next start"),
    }
}

/// What postkey calls itself towards clients and in reports.
fn host_name(settings: &Settings) -> String {
    let named = settings.listeners.smtp_tls.names.iter().find(|name| name.parse::<std::net::IpAddr>().is_err());
    let machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = named.cloned().unwrap_or_else(machine);
    if name.is_empty() { "postkey.localhost".into() } else { name }
}

fn smtp_tls(settings: &Settings, outside: &Outside) -> Result<(Arc<ReloadingTls>, bool), Failure> {
    let given = &settings.listeners.smtp_tls;
    if let Some(certificate) = &given.certificate {
        let key = given.key.as_ref().unwrap_or(certificate).clone();
        let tls = ReloadingTls::load(TlsFiles { certificate: certificate.clone(), key })?;
        return Ok((Arc::new(tls), false));
    }
    let folder = places::own_certificate(&settings.data);
    let (own, new_ca) = OwnCertificate::ensure(&folder, &given.names, outside.clock.now())?;
    let tls = ReloadingTls::load(TlsFiles { certificate: own.certificate, key: own.key })?;
    Ok((Arc::new(tls), new_ca))
}

fn http_tls(http: &Http) -> Result<Option<Arc<ReloadingTls>>, Failure> {
    let Some(certificate) = &http.tls_certificate else { return Ok(None) };
    let key = http.tls_key.as_ref().unwrap_or(certificate).clone();
    let tls = ReloadingTls::load(TlsFiles { certificate: certificate.clone(), key })?.with_alpn(&[b"http/1.1"])?;
    Ok(Some(Arc::new(tls)))
}

async fn bind_http(http: &Http) -> Result<Option<TcpListener>, Failure> {
    let Some(at) = http.listen.address() else { return Ok(None) };
    match TcpListener::bind(at).await {
        Ok(listener) => Ok(Some(listener)),
        Err(cause) => {
            let mut failure = Failure::new(
                "serve.http_listen",
                format!("HTTP cannot listen on {at}"),
                "Stop what uses the port, or name another with http.listen or POSTKEY_HTTP_LISTEN (\"off\" opens none).",
                Who::You,
            );
            failure.diagnosis.why = Some(cause.to_string());
            Err(failure)
        }
    }
}

fn mode(mode: SmtpMode) -> Mode {
    match mode {
        SmtpMode::StartTls => Mode::StartTls,
        SmtpMode::Implicit => Mode::Implicit,
        SmtpMode::Plain => Mode::Plain,
    }
}
