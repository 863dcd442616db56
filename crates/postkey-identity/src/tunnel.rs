//! A TCP connection to a host, through the HTTP proxy by CONNECT when there is one. For protocols other than HTTP.

use std::{io, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    cloud::HostPort,
    network::{CONNECT_TIMEOUT, Network, NetworkError, ProxyUrl},
};

/// A proxy that answers CONNECT with more than this is no proxy.
const ANSWER_LIMIT: usize = 8192;

impl Network {
    /// Connects to `target` within [`CONNECT_TIMEOUT`], by the proxy when one is set.
    ///
    /// # Errors
    /// Any [`NetworkError`] but those of TLS.
    pub async fn connect(&self, target: &HostPort) -> Result<TcpStream, NetworkError> {
        let late = || NetworkError::Timeout { host: target.to_string(), waited: CONNECT_TIMEOUT };
        let connecting = async {
            match &self.proxy {
                None => open(&target.host, target.port).await,
                Some(proxy) => through(proxy, target)
                    .await
                    .map_err(|cause| NetworkError::Proxy { host: target.to_string(), cause: Arc::new(cause) }),
            }
        };
        timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| late())?
    }
}

async fn open(host: &str, port: u16) -> Result<TcpStream, NetworkError> {
    let dns = |cause: io::Error| NetworkError::Dns { host: host.to_owned(), cause: Arc::new(cause) };
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await.map_err(dns)?.collect();
    if addresses.is_empty() {
        return Err(dns(io::Error::new(io::ErrorKind::NotFound, "no address")));
    }
    let named = format!("{host}:{port}");
    TcpStream::connect(&*addresses).await.map_err(|error| NetworkError::of_io(&named, CONNECT_TIMEOUT, error))
}

async fn through(proxy: &ProxyUrl, target: &HostPort) -> io::Result<TcpStream> {
    let url = proxy.expose();
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let mut stream = TcpStream::connect((host, url.port_or_known_default().unwrap_or(80))).await?;
    let mut request = zeroize::Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n")); // RFC 9110 §9.3.6
    if !url.username().is_empty() {
        let pair = zeroize::Zeroizing::new(format!(
            "{}:{}",
            percent_decoded(url.username()),
            percent_decoded(url.password().unwrap_or_default())
        ));
        request.push_str("Proxy-Authorization: Basic ");
        request.push_str(&STANDARD.encode(pair.as_bytes()));
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    // Octet by octet: whatever follows the head belongs to the target's protocol, which may speak first.
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == ANSWER_LIMIT {
            return Err(io::Error::other("its answer to CONNECT does not end"));
        }
        head.push(stream.read_u8().await?);
    }
    match status(&head) {
        Some(200..=299) => Ok(stream),
        Some(407) => Err(io::Error::other("it wants a name and password, or other ones (407)")),
        Some(status) => Err(io::Error::other(format!("it answered CONNECT with status {status}"))),
        None => Err(io::Error::other("it does not speak HTTP")),
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|&b| b == b'\r').next()?).ok()?;
    let rest = line.strip_prefix("HTTP/1.")?;
    rest.split(' ').nth(1)?.parse().ok()
}

fn percent_decoded(text: &str) -> String {
    // A plus stands for itself in the user part of an address, unlike in a form.
    let form = format!("x={}", text.replace('+', "%2B"));
    form_urlencoded::parse(form.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A proxy that reads one CONNECT and answers it with `answer`.
    async fn proxy_answering(answer: &'static str) -> (Network, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://user:p%40ss@{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        });
        (Network { proxy: Some(url.parse().unwrap()), extra_ca: None }, task)
    }

    #[tokio::test]
    async fn connect_gives_the_stream_right_behind_the_proxys_answer() {
        let (network, proxy) = proxy_answering("HTTP/1.1 200 Connection established\r\n\r\n220 mail").await;
        let mut stream = network.connect(&"smtp.office365.com:587".parse().unwrap()).await.unwrap();
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting).await.unwrap();
        assert_eq!(greeting, "220 mail");
        let head = proxy.await.unwrap();
        assert!(head.starts_with("CONNECT smtp.office365.com:587 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwQHNz\r\n"), "{head}");
    }

    #[tokio::test]
    async fn a_refusing_proxy_is_named_and_its_password_is_not() {
        let (network, _proxy) = proxy_answering("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        let error = network.connect(&"smtp.office365.com:587".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, NetworkError::Proxy { .. }), "{error:?}");
        assert!(!format!("{error:?} {error} {network:?}").contains("p@ss"));
        assert!(!format!("{network:?}").contains("p%40ss"));
    }
}
