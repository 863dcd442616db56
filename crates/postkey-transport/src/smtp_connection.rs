//! One connection to a submission server: its socket, its TLS and its deadlines. What is said is
//! [`postkey_smtp::Session`]'s affair.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use postkey_base::AccessToken;
use postkey_identity::{HostPort, NetworkError};
use postkey_smtp::{Action, DotStuffer, End, Mail, Session, Stage};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    outcome::{Lost, SessionError},
    smtp_route::Deadlines,
};

/// Bytes written between two looks at the clock.
const BLOCK: usize = 64 * 1024;
/// A read of replies.
const READ: usize = 8 * 1024;

/// A connection, in clear text or not.
trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// A session on its socket.
pub(crate) struct Connection {
    /// `None` only while the handshake holds it, and for good when that failed.
    stream: Option<Box<dyn Stream>>,
    session: Session,
    target: HostPort,
    tls: Arc<rustls::ClientConfig>,
    deadlines: Deadlines,
    /// What it signed in with.
    token: AccessToken,
    /// When its last message ended.
    idle_since: Instant,
}

enum BodyError {
    Lost(Lost),
    Unfit(String),
}

impl Connection {
    pub(crate) fn new(
        socket: TcpStream,
        session: Session,
        target: HostPort,
        tls: Arc<rustls::ClientConfig>,
        deadlines: Deadlines,
        token: AccessToken,
    ) -> Self {
        Self { stream: Some(Box::new(socket)), session, target, tls, deadlines, token, idle_since: Instant::now() }
    }

    /// Whether another message can begin on it.
    pub(crate) fn is_open(&self) -> bool {
        self.session.is_open() && self.stream.is_some()
    }

    /// Whether it signed in with this very token. Exchange Online does not look at the token again, but a session outlives
    /// neither its renewal nor its withdrawal.
    pub(crate) fn signed_in_with(&self, token: &AccessToken) -> bool {
        self.token.expose() == token.expose()
    }

    pub(crate) fn idle_for(&self) -> Duration {
        self.idle_since.elapsed()
    }

    /// Carries another message.
    pub(crate) async fn carry(&mut self, mail: Mail, message: &[u8]) -> Result<(End, Option<Lost>), SessionError> {
        self.session.begin(mail);
        self.converse(message).await
    }

    /// Whether the message at hand ended because the connection had been dead for a while: nothing was heard of it, or
    /// only that the server closes.
    pub(crate) fn was_stale(&self, end: &End) -> bool {
        match end {
            End::Lost { .. } => !self.session.has_heard(),
            End::Refused { stage: Stage::Mail, reply, .. } => reply.code() == 421,
            _ => false,
        }
    }

    /// Says goodbye; nobody waits for more than a moment.
    pub(crate) async fn leave(mut self) {
        self.session.leave();
        // However this ends, the connection is over.
        let _ = timeout(self.deadlines.quit, self.converse(b"")).await;
    }

    /// Does what the session asks until it has ended; gives how, and what broke if something did.
    pub(crate) async fn converse(&mut self, message: &[u8]) -> Result<(End, Option<Lost>), SessionError> {
        let mut cause = None;
        loop {
            let limit = self.deadlines.of(self.session.stage());
            let action = self.session.next();
            let Some(stream) = &mut self.stream else {
                return Err(SessionError::Unspeakable("the connection is gone".into()));
            };
            let done = match action {
                Action::Write(bytes) => within(limit, write(stream, &bytes)).await,
                Action::Read(stage) => {
                    let mut bytes = [0; READ];
                    match within(self.deadlines.of(stage), stream.read(&mut bytes)).await {
                        Ok(0) => Err(Lost::Closed),
                        Ok(count) => {
                            self.session.feed(&bytes[..count]);
                            Ok(())
                        }
                        Err(lost) => Err(lost),
                    }
                }
                Action::StartTls => {
                    self.secure().await?;
                    self.session.secured();
                    Ok(())
                }
                Action::SendBody => match send_body(stream, message, self.deadlines.block).await {
                    Ok(()) => {
                        self.session.body_written();
                        Ok(())
                    }
                    Err(BodyError::Lost(lost)) => {
                        // A server that refuses a message while it is coming says so and closes.
                        let mut bytes = [0; READ];
                        if let Ok(Ok(count)) = timeout(self.deadlines.quit, stream.read(&mut bytes)).await {
                            self.session.feed(&bytes[..count]);
                        }
                        Err(lost)
                    }
                    Err(BodyError::Unfit(detail)) => {
                        self.stream = None;
                        return Err(SessionError::Unspeakable(detail));
                    }
                },
                Action::Finished(end) => {
                    self.idle_since = Instant::now();
                    if !self.session.is_open() {
                        let _ = timeout(self.deadlines.quit, stream.shutdown()).await;
                    }
                    return Ok((*end, cause));
                }
            };
            if let Err(lost) = done {
                self.session.lost();
                cause = Some(lost);
            }
        }
    }

    async fn secure(&mut self) -> Result<(), SessionError> {
        let host = self.target.host.clone();
        let name = ServerName::try_from(host.clone())
            .map_err(|_| SessionError::Unspeakable(format!("{host} is no host name")))?;
        let limit = self.deadlines.handshake;
        let failed = |error| SessionError::Network(NetworkError::of_io(&host, limit, error));
        let Some(stream) = self.stream.take() else { return Err(failed(io::ErrorKind::NotConnected.into())) };
        match timeout(limit, TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream)).await {
            Ok(Ok(secure)) => {
                self.stream = Some(Box::new(secure));
                Ok(())
            }
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({}, {:?})", self.target, self.session)
    }
}

async fn send_body(stream: &mut Box<dyn Stream>, message: &[u8], limit: Duration) -> Result<(), BodyError> {
    let mut stuffer = DotStuffer::new();
    let mut block = Vec::with_capacity(BLOCK + BLOCK / 8);
    for piece in message.chunks(BLOCK) {
        block.clear();
        stuffer.stuff(piece, &mut block).map_err(|error| BodyError::Unfit(error.to_string()))?;
        within(limit, write(stream, &block)).await.map_err(BodyError::Lost)?;
    }
    block.clear();
    stuffer.finish(&mut block).map_err(|error| BodyError::Unfit(error.to_string()))?;
    within(limit, write(stream, &block)).await.map_err(BodyError::Lost)
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> Result<T, Lost> {
    match timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Lost::Closed),
        Ok(Err(error)) => Err(Lost::Broken(error)),
        Err(_) => Err(Lost::Deadline(limit)),
    }
}

async fn write(stream: &mut Box<dyn Stream>, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}
