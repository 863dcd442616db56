//! Tells the service manager how far the program is: systemd's datagram protocol, sd_notify(3).

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::Path,
};

/// What the service manager is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Everything listens.
    Ready,
    /// Settings are being read again; `Ready` follows.
    Reloading,
    /// The end has begun.
    Stopping,
}

/// Tells it, if there is one. Failing is no reason to stop: the service manager then waits in vain, and says so itself.
pub(crate) fn tell(phase: Phase) {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET").filter(|place| !place.is_empty()) else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| {
        let address = match place.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(Path::new(&place))?,
        };
        socket.send_to_addr(text(phase, monotonic_microseconds()).as_bytes(), &address)
    });
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

fn text(phase: Phase, monotonic_microseconds: u128) -> String {
    match phase {
        Phase::Ready => "READY=1".into(),
        // Type=notify-reload takes a notice only with the time of its sending.
        Phase::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={monotonic_microseconds}"),
        Phase::Stopping => "STOPPING=1".into(),
    }
}

fn monotonic_microseconds() -> u128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u128::from(now.tv_sec.unsigned_abs()) * 1_000_000 + u128::from(now.tv_nsec.unsigned_abs()) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_is_told_with_its_time() {
        assert_eq!(text(Phase::Ready, 7), "READY=1");
        assert_eq!(text(Phase::Reloading, 7), "RELOADING=1\nMONOTONIC_USEC=7");
    }
}
