//! Drives SMTP sessions over sockets: TLS, deadlines, a bound on connections, an orderly end.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use super::{
    mime_write,
    smtp::{Ask, Session, Surroundings},
    submission::{self, Login},
};
use crate::{
    faults::{Action, Fault, FaultKey},
    journal::Call,
    server::{Shared, hang},
};

/// Open connections to this port; more wait in the listener's queue.
const CONNECTIONS: usize = 500;
/// A silent client is sent away; Exchange Online waits about this long for a command (unverified).
const IDLE: Duration = Duration::from_secs(300);
/// A client that cannot take an answer for so long is gone.
const WRITING: Duration = Duration::from_secs(60);
/// A handshake takes well under a second; a stalled one holds a place.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// One read.
const READ_BYTES: usize = 64 * 1024;
/// The front end that this port claims to be.
const HOST: &str = "EM0P282CA0001.emulator.outlook.office365.com";

/// Accepts connections until told to stop, then closes them.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, tls: TlsAcceptor) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Both futures lose nothing when dropped: an accepted socket is returned or still queued.
        let place = tokio::select! {
            () = shared.stop.cancelled() => return,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok(place) = place else { return };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(cause) => {
                // Out of file descriptors, most likely: it passes when connections end.
                tracing::warn!(%cause, "accepting an SMTP connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (inner, tls) = (Arc::clone(&shared), tls.clone());
        shared.tasks.spawn(async move {
            let _place = place;
            let stop = inner.stop.clone();
            // What is in hand is in memory only: a connection may end between any two awaits.
            tokio::select! {
                () = stop.cancelled() => {}
                () = converse(socket, &inner, &tls) => {}
            }
        });
    }
}

/// Gives the mailbox's place back however the connection ends.
struct Guard<'a> {
    shared: &'a Shared,
    login: Option<Login>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(login) = self.login.take() {
            submission::leave(&mut self.shared.world(), &login);
        }
    }
}

async fn converse(socket: TcpStream, shared: &Shared, tls: &TlsAcceptor) {
    let peer = socket.peer_addr().map_or_else(|_| "unknown".into(), |address| address.ip().to_string());
    let around = {
        let world = shared.world();
        Surroundings {
            host: HOST.into(),
            peer,
            date: mime_write::rfc5322_date(world.clock.now()),
            session_id: Uuid::new_v4().simple().to_string()[..16].to_uppercase(),
            size: world.mail.limits.smtp_size,
        }
    };
    let mut session = Session::new(around);
    let mut guard = Guard { shared, login: None };
    let mut socket = socket;
    if !matches!(talk(&mut socket, &mut session, &mut guard).await, Some(Ask::Handshake)) {
        return;
    }
    let Ok(Ok(mut secured)) = timeout(HANDSHAKE, tls.accept(socket)).await else { return };
    session.tls_started();
    talk(&mut secured, &mut session, &mut guard).await;
    let _ = timeout(WRITING, secured.shutdown()).await;
}

/// Runs until the session wants something that this stream cannot give; None = the connection is over.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    session: &mut Session,
    guard: &mut Guard<'_>,
) -> Option<Ask> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let ask = session.next();
        if matches!(ask, Ask::Input | Ask::Handshake | Ask::Close) {
            let output = session.take_output();
            if !output.is_empty() {
                timeout(WRITING, stream.write_all(&output)).await.ok()?.ok()?;
                timeout(WRITING, stream.flush()).await.ok()?.ok()?;
            }
        }
        match ask {
            Ask::Input => {
                let read = timeout(IDLE, stream.read(&mut buffer)).await.ok()?.ok()?;
                if read == 0 {
                    return None;
                }
                session.feed(&buffer[..read]);
            }
            Ask::Handshake => return Some(Ask::Handshake),
            Ask::Close => return None,
            Ask::Authenticate { user, token } => {
                let call = Began::new(guard, "AUTH");
                let spoilt = call.spoilt(guard, stream, session).await?;
                let judged = match spoilt {
                    Some(reply) => Err(reply),
                    None => submission::authenticate(&mut guard.shared.world(), HOST, &user, &token),
                };
                let judged = judged.map(|login| guard.login = Some(login));
                call.ended(guard, judged.as_ref().err().map_or("235", String::as_str));
                session.authenticated(judged);
            }
            Ask::Recipient(address) => {
                let login = guard.login.clone()?;
                let taken = session.recipients_taken();
                let judged = submission::recipient(&mut guard.shared.world(), &login, taken, &address);
                session.answer_recipient(judged);
            }
            Ask::Message(envelope) => {
                let login = guard.login.clone()?;
                let call = Began::new(guard, "DATA");
                let submit = |envelope| submission::submit(&mut guard.shared.world(), HOST, &login, envelope);
                let mut envelope = Some(envelope);
                let mut submitted = None;
                if call.after_effect() {
                    submitted = envelope.take().map(&submit);
                }
                let spoilt = call.spoilt(guard, stream, session).await?;
                if spoilt.is_none()
                    && let Some(envelope) = envelope
                {
                    submitted = Some(submit(envelope));
                }
                let (cut, delay_ms) = submitted.as_ref().map_or((false, 0), |done| (done.cut, done.delay_ms));
                let reply = spoilt.or(submitted.map(|done| done.reply)).unwrap_or_default();
                call.ended(guard, if cut { "" } else { &reply });
                if cut {
                    return None;
                }
                let late = Duration::from_millis(delay_ms) + guard.shared.world().mail.smtp_latency;
                if !late.is_zero() {
                    tokio::time::sleep(late).await;
                }
                session.answer_message(&reply);
            }
        }
    }
}

/// A command that the journal counts and that faults can meet, by the operations `smtp.auth` and `smtp.data`.
struct Began {
    verb: &'static str,
    seq: u64,
    fault: Option<Fault>,
}

/// Longer than any client waits.
const LONGEST_DELAY_MS: u64 = 600_000;

impl Began {
    fn new(guard: &Guard<'_>, verb: &'static str) -> Self {
        let mut world = guard.shared.world();
        let seq = world.journal.begin();
        let tenant = guard.login.as_ref().map(|login| world.tenants[login.tenant].id);
        let operation = operation(verb);
        let fault = world.faults.take(&FaultKey { seq, operation: &operation, path: "", tenant });
        drop(world);
        guard.shared.changed();
        Self { verb, seq, fault }
    }

    fn after_effect(&self) -> bool {
        self.fault.as_ref().is_some_and(|fault| fault.after_effect)
    }

    /// The reply that a fault gives instead of the right one; None outside = the connection is cut.
    async fn spoilt<S: AsyncRead + Unpin>(
        &self,
        guard: &Guard<'_>,
        stream: &mut S,
        session: &mut Session,
    ) -> Option<Option<String>> {
        let Some(fault) = &self.fault else { return Some(None) };
        match &fault.action {
            Action::Status { status, message, .. } => Some(Some(match message {
                Some(message) => format!("{status} {message}"),
                None => submission::fault_reply(*status),
            })),
            Action::Delay { ms } => {
                tokio::time::sleep(Duration::from_millis((*ms).min(LONGEST_DELAY_MS))).await;
                Some(None)
            }
            Action::Hang => {
                let mut held = std::pin::pin!(hang(guard.shared, fault.id));
                let mut buffer = vec![0; READ_BYTES];
                let mut ahead = 0;
                loop {
                    // Dropping the read loses nothing: what was not read stays in the stream.
                    let read = tokio::select! {
                        () = &mut held => return Some(None),
                        read = stream.read(&mut buffer) => read.unwrap_or(0),
                    };
                    ahead += read;
                    // The client is gone, or talks more than one that waits for an answer would.
                    if read == 0 || ahead > READ_BYTES {
                        self.ended(guard, "");
                        return None;
                    }
                    session.feed(&buffer[..read]);
                }
            }
            Action::Drop | Action::Truncate => {
                self.ended(guard, "");
                None
            }
        }
    }

    fn ended(&self, guard: &Guard<'_>, reply: &str) {
        let mut world = guard.shared.world();
        let tenant = guard.login.as_ref().map(|login| world.tenants[login.tenant].id);
        let time = world.clock.now();
        world.journal.record(Call {
            seq: self.seq,
            time,
            host: "smtp",
            method: self.verb.to_owned(),
            path: String::new(),
            operation: operation(self.verb),
            status: reply.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0),
            app_id: guard.login.as_ref().map(|login| login.app_id),
            tenant,
            fault: self.fault.is_some(),
        });
        drop(world);
        guard.shared.changed();
    }
}

fn operation(verb: &str) -> String {
    format!("smtp.{}", verb.to_ascii_lowercase())
}
