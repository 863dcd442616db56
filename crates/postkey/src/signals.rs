//! Ctrl-C and SIGTERM.

use tokio::signal::unix::{SignalKind, signal};

/// Returns when somebody asks the program to stop.
pub(crate) async fn stop_asked() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        // Without the handler SIGTERM still ends the process, only less politely.
        drop(tokio::signal::ctrl_c().await);
        return;
    };
    tokio::select! {
        // Both are safe to drop: a signal not seen here has nobody else to see it.
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
