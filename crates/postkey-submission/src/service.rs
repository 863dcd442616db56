//! The submission service: its listeners opened together or not at all, its sessions ended together.
//!
//! A message is handed on as it came: no Received or other trace field is added to it. How it came (client, HELO, TLS, AUTH)
//! stands on its timeline instead.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use postkey_base::{Diagnose, Who};
use postkey_queue::Queue;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    directory::Directory,
    doorway::Doorway,
    intake::Intake,
    listener::Open,
    settings::{Listener, Mode, SubmissionSettings},
    tls::ReloadingTls,
};

/// What a submission service is made of.
pub struct SubmissionParts<Q = Queue> {
    /// Who may hand over mail.
    pub directory: Directory,
    /// Where it goes.
    pub queue: Q,
    /// Where to listen.
    pub listeners: Vec<Listener>,
    /// The certificate; without one only loopback is served, and nothing under TLS.
    pub tls: Option<Arc<ReloadingTls>>,
    /// Limits and names.
    pub settings: SubmissionSettings,
}

/// A running service.
pub struct Submission {
    house: Arc<House>,
    addresses: Vec<(String, SocketAddr)>,
}

/// What all sessions share.
pub(crate) struct House {
    pub(crate) directory: Directory,
    pub(crate) queue: Box<dyn Intake>,
    pub(crate) tls: Option<Arc<ReloadingTls>>,
    pub(crate) settings: SubmissionSettings,
    pub(crate) doorway: Arc<Doorway>,
    /// No new connection, no new transaction.
    pub(crate) stopping: CancellationToken,
    /// The time for what is in hand is over.
    pub(crate) over: CancellationToken,
    pub(crate) sessions: TaskTracker,
}

/// The service cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It would talk in clear text to the network.
    #[error(
        "the listener {name} on {address} has no TLS certificate, and {address} can be reached from other machines"
    )]
    NoTls {
        /// Its name.
        name: String,
        /// Where.
        address: SocketAddr,
    },
    /// A listener in clear text on every address.
    #[error("the listener {name} is in clear text and would listen on every address of this machine ({address})")]
    PlainEverywhere {
        /// Its name.
        name: String,
        /// Where.
        address: SocketAddr,
    },
    /// Two of one name.
    #[error("two listeners are called {name}")]
    NameTwice {
        /// The name.
        name: String,
    },
    /// The address is not to be had.
    #[error("the listener {name} cannot listen on {address}")]
    Bind {
        /// Its name.
        name: String,
        /// Where.
        address: SocketAddr,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}

impl Submission {
    /// Opens every listener; when one cannot be opened, none is.
    ///
    /// # Errors
    /// [`StartError`]: what is wrong with which listener.
    pub async fn start(parts: SubmissionParts<impl Intake>) -> Result<Self, StartError> {
        let SubmissionParts { directory, queue, listeners, tls, settings } = parts;
        check(&listeners, tls.is_some())?;
        let doorway = Doorway::new(settings.most_connections, settings.most_per_address, settings.most_bytes_in_hand);
        let house = Arc::new(House {
            directory,
            queue: Box::new(queue),
            tls,
            settings,
            doorway,
            stopping: CancellationToken::new(),
            over: CancellationToken::new(),
            sessions: TaskTracker::new(),
        });
        let mut open = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let (name, address) = (listener.name.clone(), listener.address);
            let bound = Open::bind(Arc::clone(&house), listener);
            open.push((name.clone(), bound.map_err(|cause| StartError::Bind { name, address, cause })?));
        }
        let addresses = open.iter().map(|(name, listener)| (name.clone(), listener.address)).collect();
        for (name, listener) in open {
            tracing::info!(listener.name = name, listener.address = %listener.address, "listening");
            house.sessions.spawn(listener.accept());
        }
        Ok(Self { house, addresses })
    }

    /// The listeners by name with the addresses they have; port 0 has become a number.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// The address of one listener.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.iter().find(|(one, _)| one == name).map(|(_, address)| *address)
    }

    /// Sessions that are open.
    pub fn sessions(&self) -> usize {
        self.house.doorway.count()
    }

    /// Takes no more connections, ends idle sessions with 421, lets messages that are being received finish, and cuts off
    /// what is left after `within`. `true` when nothing had to be cut off.
    pub async fn shutdown(&self, within: Duration) -> bool {
        self.house.stopping.cancel();
        self.house.sessions.close();
        let finished = timeout(within, self.house.sessions.wait()).await.is_ok();
        if !finished {
            tracing::warn!(sessions = self.sessions(), "sessions did not end within {within:?} and are cut off");
            self.house.over.cancel();
            self.house.sessions.wait().await;
        }
        finished
    }
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Passwords and mail must not cross a network in clear text because a setting was forgotten.
fn check(listeners: &[Listener], has_tls: bool) -> Result<(), StartError> {
    for (index, listener) in listeners.iter().enumerate() {
        let (name, address) = (listener.name.clone(), listener.address);
        if listeners[..index].iter().any(|other| other.name == name) {
            return Err(StartError::NameTwice { name });
        }
        let loopback = address.ip().to_canonical().is_loopback();
        match listener.mode {
            Mode::Plain if address.ip().is_unspecified() => return Err(StartError::PlainEverywhere { name, address }),
            Mode::Implicit if !has_tls => return Err(StartError::NoTls { name, address }),
            Mode::StartTls if !has_tls && !loopback => return Err(StartError::NoTls { name, address }),
            Mode::Plain | Mode::Implicit | Mode::StartTls => {}
        }
    }
    Ok(())
}

impl Diagnose for StartError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoTls { .. } => "submission.no_tls",
            Self::PlainEverywhere { .. } => "submission.plain_everywhere",
            Self::NameTwice { .. } => "submission.listener_twice",
            Self::Bind { .. } => "submission.bind",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::NoTls { .. } => {
                "Name a certificate and its key in postkey.toml, or listen on 127.0.0.1 only.".into()
            }
            Self::PlainEverywhere { .. } => {
                "Name the one address that the old devices reach (192.0.2.10:25, say); clear text is opened for nobody else."
                    .into()
            }
            Self::NameTwice { .. } => "Give each listener a name of its own.".into(),
            Self::Bind { address, cause, .. } => match cause.kind() {
                io::ErrorKind::AddrInUse => {
                    format!("See which program holds the port (`ss -ltnp 'sport = :{}'`), or choose another.", address.port())
                }
                io::ErrorKind::PermissionDenied => format!(
                    "Choose a port above 1023, or let the program bind port {} (AmbientCapabilities=CAP_NET_BIND_SERVICE \
                     under systemd).",
                    address.port()
                ),
                io::ErrorKind::AddrNotAvailable => "Name an address that this machine has (`ip address`).".into(),
                _ => "Check the address and the port.".into(),
            },
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::NameTwice { .. } => Who::You,
            _ => Who::NetworkAdministrator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_text_reaches_no_network_by_mistake() {
        for (mode, address, tls, good) in [
            (Mode::StartTls, "127.0.0.1:2525", false, true),
            (Mode::StartTls, "[::1]:2525", false, true),
            (Mode::StartTls, "0.0.0.0:587", false, false),
            (Mode::StartTls, "192.0.2.1:587", false, false),
            (Mode::StartTls, "0.0.0.0:587", true, true),
            (Mode::Implicit, "127.0.0.1:2465", false, false),
            (Mode::Implicit, "0.0.0.0:465", true, true),
            (Mode::Plain, "0.0.0.0:25", true, false),
            (Mode::Plain, "[::]:25", true, false),
            (Mode::Plain, "192.0.2.1:25", false, true),
        ] {
            let listener =
                Listener { name: "one".into(), address: address.parse().unwrap(), mode, proxies: Vec::new() };
            assert_eq!(check(std::slice::from_ref(&listener), tls).is_ok(), good, "{mode:?} {address} {tls}");
            assert!(check(&[listener.clone(), listener], true).is_err(), "a name twice");
        }
    }
}
