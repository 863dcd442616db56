//! What came in and what did not, counted for `/metrics`.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use postkey_queue::Gauge;

use crate::login::LoginRefusal;

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sessions: AtomicI64,
    pub(crate) connections: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) queued: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) not_stored: AtomicU64,
    signed_in: AtomicU64,
    wrong: AtomicU64,
    locked_out: AtomicU64,
    not_allowed: AtomicU64,
}

pub(crate) fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One open session; counted until it is dropped, by a panic as well.
pub(crate) struct Inside<'a>(&'a AtomicI64);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tally {
    pub(crate) fn session(&self) -> Inside<'_> {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Inside(&self.sessions)
    }

    pub(crate) fn login<T>(&self, outcome: &Result<T, LoginRefusal>) {
        one_more(match outcome {
            Ok(_) => &self.signed_in,
            Err(LoginRefusal::Wrong { .. } | LoginRefusal::UnknownKey { .. }) => &self.wrong,
            Err(LoginRefusal::Locked { .. }) => &self.locked_out,
            Err(_) => &self.not_allowed,
        });
    }

    pub(crate) fn gauges(&self) -> Vec<Gauge> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let outcome = |word: &str| vec![("outcome", word.to_owned())];
        let mut gauges = vec![
            Gauge::gauge(
                "postkey_smtp_sessions",
                "SMTP sessions that are open.",
                Vec::new(),
                self.sessions.load(Ordering::Relaxed) as f64,
            ),
            Gauge::counter(
                "postkey_smtp_connections_total",
                "SMTP connections taken.",
                Vec::new(),
                count(&self.connections),
            ),
            Gauge::counter(
                "postkey_smtp_turned_away_total",
                "SMTP connections over a limit.",
                Vec::new(),
                count(&self.turned_away),
            ),
        ];
        for (word, counter) in [("queued", &self.queued), ("refused", &self.refused), ("not_stored", &self.not_stored)]
        {
            gauges.push(Gauge::counter(
                "postkey_smtp_messages_total",
                "Messages by SMTP, and commands refused by a rule.",
                outcome(word),
                count(counter),
            ));
        }
        for (word, counter) in [
            ("accepted", &self.signed_in),
            ("wrong", &self.wrong),
            ("locked_out", &self.locked_out),
            ("not_allowed", &self.not_allowed),
        ] {
            gauges.push(Gauge::counter(
                "postkey_sign_ins_total",
                "Sign-ins by SMTP, and uses of API keys.",
                outcome(word),
                count(counter),
            ));
        }
        gauges
    }
}
