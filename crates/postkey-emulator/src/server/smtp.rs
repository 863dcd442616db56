//! The SMTP submission port.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::Shared;

/// Accepts connections until told to stop.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, _tls: TlsAcceptor) {
    shared.stop.cancelled().await;
    drop(listener);
}
