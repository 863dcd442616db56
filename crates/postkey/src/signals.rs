//! Ctrl-C, SIGTERM and SIGHUP.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Returns when somebody asks the program to stop.
pub(crate) async fn stop_asked() {
    // Without SIGHUP: whoever closes the terminal means the end.
    Signals::ending().stop_again().await;
}

/// What somebody asks for by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Ctrl-C or SIGTERM.
    Stop,
    /// SIGHUP.
    Reload,
}

/// The signals of this process. One that could not be listened to still does what it does by default: it ends the process,
/// only less politely.
pub(crate) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hang_up: Option<Signal>,
}

impl Signals {
    /// Those that end the program.
    fn ending() -> Self {
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
            hang_up: None,
        }
    }

    /// Those of a server, which outlives its terminal.
    pub(crate) fn serving() -> Self {
        Self { hang_up: signal(SignalKind::hangup()).ok(), ..Self::ending() }
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Asked {
        // All are safe to drop: a signal not seen yet stays noted.
        tokio::select! {
            () = received(&mut self.interrupt) => Asked::Stop,
            () = received(&mut self.terminate) => Asked::Stop,
            () = received(&mut self.hang_up) => Asked::Reload,
        }
    }

    /// The next that asks to stop.
    pub(crate) async fn stop_again(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        // None: the runtime ends, and with it everything that waits.
        Some(signal) => drop(signal.recv().await),
        None => pending().await,
    }
}
