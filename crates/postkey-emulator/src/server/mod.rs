//! The ports: sockets, TLS, HTTP, faults and the journal. What an answer says is decided elsewhere, in plain functions
//! over the world; here it is carried, delayed, spoilt or withheld.

mod body;
mod graph;
mod login;
pub(crate) mod proxy;
mod wire;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub(crate) use body::AnswerBody;
pub(crate) use wire::{http_date, made, pairs, segments};

use crate::{
    faults::{Action, Fault, FaultKey},
    journal::Call,
    world::World,
};

/// What all ports share.
pub(crate) struct Shared {
    world: Mutex<World>,
    /// Counts up at every change a waiter may be waiting for.
    changes: watch::Sender<u64>,
    /// Stop accepting and finish what is in hand.
    pub(crate) stop: CancellationToken,
    /// Finish at once.
    pub(crate) abort: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// File that carries the clock's offset, in milliseconds, for others.
    pub(crate) clock_file: Option<std::path::PathBuf>,
    /// The offset last written there.
    written: Mutex<Option<i64>>,
}

impl Shared {
    pub(crate) fn new(world: World, clock_file: Option<std::path::PathBuf>) -> Self {
        Self {
            world: Mutex::new(world),
            changes: watch::Sender::new(0),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
            clock_file,
            written: Mutex::new(None),
        }
    }

    /// The world, locked; never held across an await.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits for a change.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Writes the clock's offset for others to follow, when there is a folder.
    pub(crate) fn write_clock(&self) {
        let Some(path) = &self.clock_file else { return };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = self.world().clock.offset_ms();
        if *written == Some(offset) {
            return;
        }
        *written = Some(offset);
        if let Err(cause) = crate::environment::replace(path, format!("{offset}\n").as_bytes(), 0o644) {
            tracing::warn!(%cause, path = %path.display(), "the clock's offset could not be written");
        }
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// Which host a port plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    Login,
    Graph,
    Management,
}

impl Face {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Graph => "graph",
            Self::Management => "management",
        }
    }
}

/// A port and what stands behind it.
pub(crate) struct Port {
    pub(crate) face: Face,
    pub(crate) shared: Arc<Shared>,
    /// None = clear text.
    pub(crate) tls: Option<TlsAcceptor>,
    /// `Host` values answered to, lower case; others are refused, so that no web page reaches a port by its own name.
    pub(crate) hosts: Vec<String>,
}

/// A request whose body has arrived.
pub(crate) struct Arrived {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) origin: String,
    pub(crate) request_id: Uuid,
}

/// What a face answers, before faults.
pub(crate) struct Answered {
    pub(crate) response: Response<Bytes>,
    pub(crate) app_id: Option<Uuid>,
    pub(crate) tenant: Option<Uuid>,
    /// Cut the connection instead: the request took effect, its answer is lost.
    pub(crate) cut: bool,
}

/// The connection is to be cut without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut on purpose")]
pub(crate) struct Cut;

/// Connections of one port at a time.
const CONNECTIONS: usize = 1_024;
/// A client that has not finished its TLS handshake by then never will.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(20);
/// How long a connection may stay without a request; longer than clients keep theirs.
const IDLE_DEADLINE: Duration = Duration::from_secs(300);
/// How long a body may take.
const BODY_DEADLINE: Duration = Duration::from_secs(300);
/// No room takes more; each states its own, smaller limit.
const BODY_LIMIT: usize = 64 * 1024 * 1024;
/// Request line and headers together.
const HEAD_LIMIT: usize = 128 * 1024;

/// Accepts connections until told to stop.
pub(crate) async fn serve(listener: TcpListener, port: Arc<Port>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Dropping either future loses nothing: a connection not yet accepted stays in the kernel's queue.
        let accepted = tokio::select! {
            () = port.shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(cause) => {
                // Out of file descriptors, most likely: it passes when connections end.
                tracing::warn!(face = port.face.name(), %cause, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (port, shared) = (Arc::clone(&port), Arc::clone(&port.shared));
        shared.tasks.spawn(async move {
            let abort = port.shared.abort.clone();
            abort.run_until_cancelled(connection(stream, peer, port)).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, port: Arc<Port>) {
    if let Err(cause) = stream.set_nodelay(true) {
        tracing::debug!(%cause, %peer, "setting TCP_NODELAY failed");
    }
    let Some(tls) = port.tls.clone() else { return speak(stream, port).await };
    match tokio::time::timeout(HANDSHAKE_DEADLINE, tls.accept(stream)).await {
        Ok(Ok(stream)) => speak(stream, port).await,
        Ok(Err(cause)) => tracing::debug!(%cause, %peer, "the TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, port: Arc<Port>) {
    let stop = port.shared.stop.clone();
    let service = service_fn(move |request| {
        let port = Arc::clone(&port);
        async move { answer(&port, request).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_DEADLINE)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(cause) = ended {
        tracing::debug!(%cause, "a connection ended early");
    }
}

async fn answer(port: &Port, request: Request<Incoming>) -> Result<Response<AnswerBody>, Cut> {
    let request_id = Uuid::new_v4();
    let (head, body) = request.into_parts();
    let host = head.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let scheme = if port.tls.is_some() { "https" } else { "http" };
    let mut arrived = Arrived {
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        method: head.method,
        headers: head.headers,
        body: Bytes::new(),
        origin: format!("{scheme}://{host}"),
        request_id,
    };
    let early = |arrived: &Arrived, status, code, message| {
        Ok(refused(port.face, &port.shared, arrived, status, Some(code), message).response.map(AnswerBody::whole))
    };
    if !port.hosts.contains(&host) {
        return early(&arrived, 421, "MisdirectedRequest", "This port does not answer to that host name.");
    }
    let too_large = || early(&arrived, 413, "RequestEntityTooLarge", "The request is too large.");
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return too_large();
    }
    match tokio::time::timeout(BODY_DEADLINE, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(body)) => arrived.body = body.to_bytes(),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => return too_large(),
        // Broken off or malformed; whoever broke it off does not read the answer.
        Ok(Err(_)) => return early(&arrived, 400, "BadRequest", "The request's body cannot be read."),
        Err(_) => return early(&arrived, 408, "RequestTimeout", "The request's body took too long."),
    }
    match port.face {
        Face::Management => Ok(crate::management::answer(&port.shared, &arrived).await.map(AnswerBody::whole)),
        face => protocol(face, &port.shared, &arrived).await,
    }
}

/// A request to a protocol port: journal, faults, then the room that answers.
async fn protocol(face: Face, shared: &Shared, arrived: &Arrived) -> Result<Response<AnswerBody>, Cut> {
    let (operation, path_tenant) = match face {
        Face::Login => {
            let path = segments(&arrived.path);
            (crate::entra::operation_name(&path).to_owned(), crate::entra::tenant_of(&shared.world(), &path))
        }
        _ => (graph::operation(arrived), graph::tenant(&shared.world(), arrived)),
    };
    let (seq, fault) = {
        let mut world = shared.world();
        let seq = world.journal.begin();
        let key = FaultKey { seq, operation: &operation, path: &arrived.path, tenant: path_tenant };
        (seq, world.faults.take(&key))
    };
    shared.changed();
    let mut noted = Noted {
        shared,
        seq,
        host: face.name(),
        method: arrived.method.to_string(),
        path: arrived.path.clone(),
        operation,
        status: 0,
        app_id: None,
        tenant: path_tenant,
        fault: fault.is_some(),
    };
    let busy = (face == Face::Graph).then(|| graph::Busy::begin(shared, arrived));
    let mut answered = None;
    let with_effect = fault.as_ref().is_none_or(|fault| fault.after_effect || matches!(fault.action, Action::Truncate));
    if with_effect {
        answered = Some(room(face, shared, arrived));
    }
    let mut outcome = match &fault {
        Some(fault) => spoil(face, shared, arrived, fault, answered).await,
        None => Ok((answered.unwrap_or_else(|| room(face, shared, arrived)), false)),
    };
    if busy.as_ref().is_some_and(graph::Busy::counts) {
        let latency = shared.world().mail.graph_latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }
    if let Ok((answered, _)) = &mut outcome
        && let Some(ms) = answered.response.headers_mut().remove("x-emulator-delay-ms")
        && let Some(ms) = ms.to_str().ok().and_then(|ms| ms.parse().ok())
    {
        tokio::time::sleep(Duration::from_millis(ms)).await; // an address asked for a late answer
    }
    if let Ok((answered, _)) = &outcome {
        noted.status = if answered.cut { 0 } else { answered.response.status().as_u16() };
        noted.app_id = answered.app_id;
        noted.tenant = answered.tenant.or(noted.tenant);
    }
    drop(noted);
    let now = shared.world().clock.now();
    let (answered, truncate) = outcome?;
    if answered.cut {
        return Err(Cut);
    }
    let mut response = answered.response;
    // The emulator's clock, not the machine's: clients measure their own by it. RFC 9110 §5.6.7
    if let Ok(date) = http_date(now).parse() {
        response.headers_mut().insert("date", date);
    }
    Ok(response.map(|bytes| if truncate { AnswerBody::truncated(bytes) } else { AnswerBody::whole(bytes) }))
}

/// A call on its way into the journal. It is written down when dropped, so that a call whose client went away while a
/// fault held it is not lost.
struct Noted<'a> {
    shared: &'a Shared,
    seq: u64,
    host: &'static str,
    method: String,
    path: String,
    operation: String,
    status: u16,
    app_id: Option<Uuid>,
    tenant: Option<Uuid>,
    fault: bool,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let mut world = self.shared.world();
        let call = Call {
            seq: self.seq,
            time: world.clock.now(),
            host: self.host,
            method: std::mem::take(&mut self.method),
            path: std::mem::take(&mut self.path),
            operation: std::mem::take(&mut self.operation),
            status: self.status,
            app_id: self.app_id,
            tenant: self.tenant,
            fault: self.fault,
        };
        world.journal.record(call);
        drop(world);
        self.shared.changed();
    }
}

fn room(face: Face, shared: &Shared, arrived: &Arrived) -> Answered {
    let answered = unless_it_panics(|| match face {
        Face::Login => login::answer(&mut shared.world(), arrived),
        _ => graph::answer(&mut shared.world(), arrived),
    });
    answered.unwrap_or_else(|| {
        tracing::error!(method = %arrived.method, path = %arrived.path, "answering a request failed");
        refused(face, shared, arrived, 500, None, "The service failed.")
    })
}

/// What `answer` makes, or None when it panics: a mistake in a room is answered as the real service answers its own, and
/// the next request is served. Whoever started the emulator reads of it on stderr, where the panic hook writes.
fn unless_it_panics<T>(answer: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(answer)).ok()
}

/// A refusal that no room words, in the face's own shape and with its correlation ids.
fn refused(face: Face, shared: &Shared, arrived: &Arrived, status: u16, code: Option<&str>, message: &str) -> Answered {
    let action = Action::Status {
        status,
        code: code.map(str::to_owned),
        aadsts: None,
        message: Some(message.to_owned()),
        retry_after_seconds: None,
        retry_after_as_date: false,
    };
    let response = match face {
        Face::Login => login::injected(&shared.world(), arrived, &action),
        Face::Graph => graph::injected(&shared.world(), arrived, &action),
        Face::Management => {
            made(status, &[("content-type", "text/plain; charset=utf-8")], Bytes::from(format!("{message}\n")))
        }
    };
    Answered { response, app_id: None, tenant: None, cut: false }
}

/// What a fault makes of the answer; the flag asks for a truncated body.
async fn spoil(
    face: Face,
    shared: &Shared,
    arrived: &Arrived,
    fault: &Fault,
    answered: Option<Answered>,
) -> Result<(Answered, bool), Cut> {
    let or_now = |answered: Option<Answered>| answered.unwrap_or_else(|| room(face, shared, arrived));
    match &fault.action {
        Action::Drop => Err(Cut),
        Action::Truncate => Ok((or_now(answered), true)),
        Action::Delay { ms } => {
            tokio::time::sleep(Duration::from_millis((*ms).min(600_000))).await;
            Ok((or_now(answered), false))
        }
        Action::Hang => {
            hang(shared, fault.id).await;
            Ok((or_now(answered), false))
        }
        Action::Status { .. } => {
            let world = shared.world();
            let response = match face {
                Face::Login => login::injected(&world, arrived, &fault.action),
                _ => graph::injected(&world, arrived, &fault.action),
            };
            let (app_id, tenant) = answered.map_or((None, None), |answered| (answered.app_id, answered.tenant));
            Ok((Answered { response, app_id, tenant, cut: false }, false))
        }
    }
}

/// Waits until a fault is taken out of force, the client goes away or the emulator stops.
pub(crate) async fn hang(shared: &Shared, fault: u64) {
    struct Counted<'a>(&'a Shared);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.world().journal.hanging -= 1;
            self.0.changed();
        }
    }
    let mut changes = shared.changes();
    shared.world().journal.hanging += 1;
    shared.changed();
    let _counted = Counted(shared);
    loop {
        if shared.world().faults.released(fault) {
            return;
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_a_room_does_not_stop_the_next_request() {
        let world = Mutex::new(1);
        let lock = || world.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = unless_it_panics(|| {
            let mut held = lock();
            *held += 1;
            panic!("on purpose");
        });
        assert_eq!(failed.map(|()| 0), None);
        assert_eq!(unless_it_panics(|| *lock()), Some(2));
    }
}
