//! A client that says what it is told, line by line.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) struct Client {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

/// A test that waits longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: Box::new(TcpStream::connect(address).await.unwrap()), read: Vec::new() }
    }

    /// Connects, reads the greeting, says EHLO.
    pub(crate) async fn greeted(address: SocketAddr) -> Self {
        let mut client = Self::connect(address).await;
        assert_eq!(client.reply().await[..3], *"220");
        client.ask("EHLO client.example").await;
        client
    }

    /// The same under implicit TLS.
    pub(crate) async fn secured(address: SocketAddr, ca_pem: &[u8]) -> Self {
        let mut client = Self::connect(address).await.handshake(ca_pem).await;
        assert_eq!(client.reply().await[..3], *"220");
        client.ask("EHLO client.example").await;
        client
    }

    pub(crate) async fn handshake(self, ca_pem: &[u8]) -> Self {
        assert!(self.read.is_empty(), "something was said before the handshake");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, self.stream).await.unwrap();
        Self { stream: Box::new(stream), read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// One line without its end; `None` when the server closed.
    pub(crate) async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let mut piece = [0; 4096];
            match timeout(PATIENCE, self.stream.read(&mut piece)).await.expect("the server says nothing") {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.read.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// A whole reply, its lines joined by ` / `.
    pub(crate) async fn reply(&mut self) -> String {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await.unwrap_or_else(|| format!("(closed) {}", lines.join(" / ")));
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line);
            if last {
                return lines.join(" / ");
            }
        }
    }

    pub(crate) async fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes()).await;
        self.reply().await
    }

    pub(crate) async fn sign_in(&mut self, name: &str, password: &str) -> String {
        let response = STANDARD.encode(format!("\0{name}\0{password}"));
        self.ask(&format!("AUTH PLAIN {response}")).await
    }

    /// A whole transaction; the reply to the message, or the first refusal.
    pub(crate) async fn submit(&mut self, from: &str, to: &[&str], message: &str) -> String {
        let said = self.ask(&format!("MAIL FROM:<{from}>")).await;
        if !said.starts_with("250") {
            return said;
        }
        for one in to {
            let said = self.ask(&format!("RCPT TO:<{one}>")).await;
            if !said.starts_with("250") {
                self.ask("RSET").await;
                return said;
            }
        }
        let said = self.ask("DATA").await;
        if !said.starts_with("354") {
            return said;
        }
        let message = message.replace('\n', "\r\n");
        self.ask(&format!("{}\r\n.", message.strip_suffix("\r\n").unwrap_or(&message))).await
    }

    pub(crate) async fn is_closed(&mut self) -> bool {
        self.line().await.is_none()
    }
}

pub(crate) const FROM: &str = "noreply@contoso.example";
pub(crate) const MESSAGE: &str = "From: noreply@contoso.example\nSubject: hello\n\nhi\n";
