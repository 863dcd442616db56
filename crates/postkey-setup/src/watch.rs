//! What a setup tells whoever watches it, while it works.

use std::time::Duration;

use jiff::Timestamp;
use url::Url;

/// Shows a setup's progress. Called from the task that does the work, so it must not wait.
pub trait Watcher: Send + Sync {
    /// Something began, went on or ended.
    fn notice(&self, event: Event<'_>);
}

/// One thing worth showing.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// One of the phases begins.
    Phase {
        /// Counted from 1.
        number: usize,
        /// How many there are.
        of: usize,
        /// Its name.
        title: &'a str,
    },
    /// A step begins.
    Begun {
        /// In words, such as "register the application".
        what: &'a str,
    },
    /// The tenant has not caught up yet; the step is tried again.
    Waiting {
        /// For what.
        what: &'a str,
        /// How long it has taken so far.
        waited: Duration,
        /// When setup gives up.
        until: Timestamp,
    },
    /// The step is done.
    Done {
        /// What holds now.
        what: &'a str,
        /// An id or a date that belongs to it.
        detail: Option<&'a str>,
    },
    /// Something the person should know.
    Note(&'a str),
    /// Something the person should think about.
    Warning(&'a str),
    /// Sign in here, in a browser on this machine.
    OpenBrowser(&'a Url),
    /// Sign in anywhere with this code.
    DeviceCode {
        /// Where.
        address: &'a Url,
        /// What to type.
        code: &'a str,
        /// Until when it is good.
        until: Timestamp,
    },
    /// Commands for somebody else to run.
    Commands {
        /// Who, and why.
        heading: &'a str,
        /// One command a line.
        lines: &'a [String],
    },
}

/// Watches nothing.
pub struct Unwatched;

impl Watcher for Unwatched {
    fn notice(&self, _event: Event<'_>) {}
}
