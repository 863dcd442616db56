//! A TCP connection to a host, through the HTTP proxy by CONNECT when there is one. For protocols other than HTTP.

use tokio::net::TcpStream;

use crate::{
    cloud::HostPort,
    network::{Network, NetworkError},
};

impl Network {
    /// Connects to `target` within [`crate::network::CONNECT_TIMEOUT`], by the proxy when one is set.
    ///
    /// # Errors
    /// Any [`NetworkError`] but those of TLS.
    pub async fn connect(&self, target: &HostPort) -> Result<TcpStream, NetworkError> {
        let _ = target;
        unimplemented!()
    }
}
