//! Where clients reach this installation, as its devices' forms ask for it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::lock::ServeLock;
use crate::settings::{
    Settings,
    listeners::{Listeners, SmtpMode},
};

/// All of its doors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Places {
    /// SMTP ports, in the order of the settings.
    pub(crate) smtp: Vec<SmtpPlace>,
    /// REST: scheme, host and port.
    pub(crate) http: Option<String>,
    /// The CA that clients must trust, where the certificate was made here.
    pub(crate) ca: Option<PathBuf>,
}

/// One SMTP port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SmtpPlace {
    /// The listener's name.
    pub(crate) name: String,
    /// What a client is to type for the server.
    pub(crate) host: String,
    /// And for the port.
    pub(crate) port: u16,
    /// And for its security.
    pub(crate) mode: SmtpMode,
}

impl Places {
    /// As the running server noted them, whose environment may differ; else as the settings say.
    pub(crate) fn of(settings: &Settings) -> Self {
        let listeners = &settings.listeners;
        let noted = || std::fs::read(noted_in(&settings.data)).ok();
        if ServeLock::is_held(&settings.data)
            && let Some(places) = noted().and_then(|bytes| serde_json::from_slice(&bytes).ok())
        {
            return places;
        }
        let smtp: Vec<_> = listeners.smtp.iter().map(|one| one.listen.address()).collect();
        Self::at(settings, &smtp, listeners.http.listen.address())
    }

    /// At these addresses, in the order of the settings' listeners.
    pub(crate) fn at(settings: &Settings, smtp: &[Option<SocketAddr>], http: Option<SocketAddr>) -> Self {
        let listeners = &settings.listeners;
        let smtp = listeners.smtp.iter().zip(smtp).filter_map(|(listener, at)| {
            let at = (*at)?;
            Some(SmtpPlace {
                name: listener.name.clone(),
                host: host(listeners, at),
                port: at.port(),
                mode: listener.mode,
            })
        });
        let scheme = if listeners.http.tls_certificate.is_some() { "https" } else { "http" };
        let http = http.map(|at| match (at.ip().is_unspecified(), listeners.http.hosts.first()) {
            (true, Some(host)) => format!("{scheme}://{host}:{}", at.port()),
            _ => format!("{scheme}://{at}"),
        });
        let ca = listeners.smtp_tls.certificate.is_none().then(|| own_certificate(&settings.data).join("ca.pem"));
        Self { smtp: smtp.collect(), http, ca: ca.map(|ca| std::path::absolute(&ca).unwrap_or(ca)) }
    }

    /// Notes them for commands beside the running server. Without the note they show the settings.
    pub(crate) fn note(&self, data: &Path) {
        let noted = serde_json::to_vec(self).map_err(std::io::Error::other);
        if let Err(error) = noted.and_then(|bytes| std::fs::write(noted_in(data), bytes)) {
            tracing::warn!(%error, "the addresses could not be noted");
        }
    }

    /// The server is gone.
    pub(crate) fn forget(data: &Path) {
        let _ = std::fs::remove_file(noted_in(data));
    }
}

fn noted_in(data: &Path) -> PathBuf {
    data.join("listening.json")
}

/// The folder of the certificate made here.
pub(crate) fn own_certificate(data: &Path) -> PathBuf {
    data.join("smtp-tls")
}

fn host(listeners: &Listeners, at: SocketAddr) -> String {
    match listeners.smtp_tls.names.first() {
        Some(name) if !at.ip().is_loopback() => name.clone(),
        _ if at.ip().is_unspecified() => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        _ => at.ip().to_string(),
    }
}
