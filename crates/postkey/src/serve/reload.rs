//! What changes while the server runs: certificates. Other settings say that they need a restart; everything in the store
//! (submitters, keys, senders, webhooks, pauses) is followed elsewhere.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use postkey_submission::ReloadingTls;

use super::{own_certificate::OwnCertificate, places};
use crate::{failure::Failure, settings::Settings, wiring};

/// Looks at the files of the settings.
pub(super) struct Reloading {
    /// As they are in force.
    now: Settings,
    tls: Vec<(Arc<ReloadingTls>, Option<String>)>,
    seen: Vec<(PathBuf, Stamp)>,
    look: tokio::time::Interval,
}

type Stamp = Option<(SystemTime, u64)>;

/// A file that was replaced is noticed so soon.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Reloading {
    pub(super) fn new(settings: &Settings, tls: Vec<Arc<ReloadingTls>>) -> Self {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let tls = tls.into_iter().map(|tls| (tls, None)).collect();
        let mut this = Self { now: settings.clone(), tls, seen: Vec::new(), look };
        this.seen = this.stamps();
        this
    }

    /// Returns when a file of the settings has changed. Certificates are read again here, as soon as they fit their keys.
    pub(super) async fn changed(&mut self) {
        loop {
            self.look.tick().await;
            self.renew_own_certificate();
            for (tls, told) in &mut self.tls {
                tls.reload_and_tell(told);
            }
            let stamps = self.stamps();
            if stamps != self.seen {
                self.seen = stamps;
                return;
            }
        }
    }

    /// Reads the settings again, and puts into force what can change.
    pub(super) fn reload(&mut self, started: &Settings) {
        for (tls, told) in &mut self.tls {
            tls.reload_and_tell(told);
        }
        self.seen = self.stamps();
        let file = self.now.file.exists().then_some(self.now.file.as_path());
        match Settings::load(self.now.home.as_deref(), file) {
            Ok(settings) => self.take(started, settings),
            Err(failure) => refused(&failure),
        }
    }

    fn take(&mut self, started: &Settings, settings: Settings) {
        let fixed = |settings: &Settings| {
            let places =
                (settings.data.clone(), settings.store.clone(), settings.proxy.clone(), settings.ca_file.clone());
            (settings.listeners.clone(), settings.queueing.clone(), places)
        };
        if fixed(&settings) != fixed(started) {
            tracing::warn!(
                "the settings have changed; what they say of listeners, limits, queue and store needs a restart"
            );
        }
        self.now = settings;
    }

    /// The certificate made here is replaced before its end; nobody else would do it.
    fn renew_own_certificate(&self) {
        let given = &self.now.listeners.smtp_tls;
        if given.certificate.is_some() {
            return;
        }
        let folder = places::own_certificate(&self.now.data);
        if let Err(failure) = OwnCertificate::ensure(&folder, &given.names, wiring::clock().now()) {
            refused(&failure);
        }
    }

    fn stamps(&self) -> Vec<(PathBuf, Stamp)> {
        vec![(self.now.file.clone(), stamp(&self.now.file))]
    }
}

fn stamp(path: &Path) -> Stamp {
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len()))
}

fn refused(failure: &Failure) {
    let found = &failure.diagnosis;
    tracing::error!(
        code = found.code,
        why = found.why.as_deref(),
        remedy = found.remedy,
        "the settings stay as they were: {}",
        found.what
    );
}
