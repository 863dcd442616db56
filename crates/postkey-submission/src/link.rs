//! One connection's bytes: in clear text or under TLS, behind a PROXY header or not.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use postkey_smtp::proxy_protocol::{MAX_HEADER, Progress, ProxyError, ProxyHeader, read_header};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A TCP connection, and what was read of it too early.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    early: BytesMut,
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Link {
    Clear(Wire),
    /// Boxed: the state of a TLS session is large, and most of the code does not care.
    Secured(Box<TlsStream<Wire>>),
}

/// What TLS came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFacts {
    pub(crate) version: String,
    pub(crate) cipher: String,
}

/// Why a connection did not get as far as its greeting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the connection said nothing for {0:?}")]
    Slow(Duration),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, early: BytesMut::new() }
    }

    /// Reads the PROXY header; gives the client's own address, `None` for the proxy's own connection.
    pub(crate) async fn proxied(&mut self, within: Duration) -> Result<Option<SocketAddr>, LinkError> {
        let header = timeout(within, self.read_proxy_header()).await.map_err(|_| LinkError::Slow(within))??;
        Ok(match header {
            ProxyHeader::Proxied { source, .. } => Some(source),
            ProxyHeader::Local => None,
        })
    }

    async fn read_proxy_header(&mut self) -> Result<ProxyHeader, LinkError> {
        loop {
            match read_header(&self.early)? {
                Progress::Complete { header, length } => {
                    self.early.advance(length);
                    return Ok(header);
                }
                Progress::Incomplete if self.early.len() >= MAX_HEADER => return Err(ProxyError::TooLong.into()),
                Progress::Incomplete => {}
            }
            if self.stream.read_buf(&mut self.early).await.map_err(LinkError::Broken)? == 0 {
                return Err(LinkError::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

impl Link {
    /// The same connection under TLS. What was read ahead of the handshake is gone with the session's buffer.
    pub(crate) async fn secure(
        self,
        config: Arc<ServerConfig>,
        within: Duration,
    ) -> Result<(Self, TlsFacts), LinkError> {
        let Self::Clear(wire) = self else {
            return Err(LinkError::Handshake(io::Error::other("TLS within TLS")));
        };
        let handshake = TlsAcceptor::from(config).accept(wire);
        let stream = timeout(within, handshake).await.map_err(|_| LinkError::Slow(within))?;
        let stream = Box::new(stream.map_err(LinkError::Handshake)?);
        let session = stream.get_ref().1;
        let facts = TlsFacts {
            version: session.protocol_version().and_then(|one| one.as_str()).unwrap_or("unknown").to_owned(),
            cipher: session
                .negotiated_cipher_suite()
                .and_then(|one| one.suite().as_str())
                .unwrap_or("unknown")
                .to_owned(),
        };
        Ok((Self::Secured(stream), facts))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(into.remaining());
            into.put_slice(&self.early.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

macro_rules! writes {
    ($type:ty, $self:ident => $stream:expr) => {
        impl AsyncWrite for $type {
            fn poll_write(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                let $self = &mut *self;
                $stream.poll_write(context, bytes)
            }

            fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $self = &mut *self;
                $stream.poll_flush(context)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $self = &mut *self;
                $stream.poll_shutdown(context)
            }
        }
    };
}

writes!(Wire, wire => Pin::new(&mut wire.stream));
writes!(Link, link => Pin::new(link.bytes()));

trait Bytes: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Bytes for T {}

impl Link {
    fn bytes(&mut self) -> &mut dyn Bytes {
        match self {
            Self::Clear(wire) => wire,
            Self::Secured(stream) => stream.as_mut(),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.bytes()).poll_read(context, into)
    }
}
