//! The listener: connections in, requests to the router, and the way down: finish what is in hand, then close.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use postkey_submission::ReloadingTls;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// A client that says nothing for this long, between requests or within a request's head, is let go.
const SILENCE: Duration = Duration::from_secs(75);
/// A handshake that takes longer is no client's.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Open connections; more wait in the system's own queue.
const CONNECTIONS: usize = 4_096;
/// Without file descriptors `accept` fails at once and again; a pause keeps the processor for those who are served.
const NO_DESCRIPTORS: Duration = Duration::from_millis(100);

/// Where to serve, and how to end.
#[derive(Debug)]
pub struct Listening {
    /// Already bound.
    pub listener: TcpListener,
    /// With it the listener speaks https only.
    pub tls: Option<Arc<ReloadingTls>>,
    /// Cancelled: no more connections, requests in hand are finished.
    pub stop: CancellationToken,
    /// How long requests in hand may still take.
    pub within: Duration,
}

/// Serves `router` until told to stop. Returns when all connections are closed.
pub async fn serve(listening: Listening, router: Router) {
    let Listening { listener, tls, stop, within } = listening;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        // Both futures lose nothing when dropped: a permit goes back, a connection stays in the system's queue.
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
                (listener.accept().await, slot)
            } => accepted,
        };
        let (stream, peer, slot) = match accepted {
            (Ok((stream, peer)), slot) => (stream, peer, slot),
            (Err(error), _) => {
                if !is_the_clients(&error) {
                    tracing::warn!(error = %error, "a connection could not be taken");
                    sleep(NO_DESCRIPTORS).await;
                }
                continue;
            }
        };
        let (router, stop, tls) = (router.clone(), stop.clone(), tls.as_ref().map(|tls| tls.config()));
        connections.spawn(async move {
            let _slot = slot;
            // Answers are written whole; waiting for more to send only delays them.
            let _ = stream.set_nodelay(true);
            match tls {
                None => converse(stream, peer, router, stop).await,
                Some(config) => {
                    let handshake = TlsAcceptor::from(config).accept(stream);
                    match timeout(HANDSHAKE, handshake).await {
                        Ok(Ok(stream)) => converse(stream, peer, router, stop).await,
                        Ok(Err(error)) => tracing::debug!(remote = %peer, error = %error, "no TLS session"),
                        Err(_) => tracing::debug!(remote = %peer, "the TLS handshake took too long"),
                    }
                }
            }
        });
    }
    drop(listener);
    connections.close();
    if timeout(within, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests were cut off: they took longer than the stop allows");
    }
}

async fn converse<S>(stream: S, peer: SocketAddr, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(SILENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(remote = %peer, error = %error, "the connection broke");
    }
}

async fn answer(router: Router, request: hyper::Request<Incoming>) -> axum::response::Response {
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Gone before it was taken: nothing is wrong here.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
