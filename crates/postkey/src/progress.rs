//! A setup as people watch it on a terminal, or read it afterwards in a log.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use postkey_base::diagnose::plain;
use postkey_setup::watch::{Event, Watcher};

use crate::output::{self, FAINT, GOOD, STRONG, WARN, styled};

/// Prints events; a step in progress turns on a terminal and is silent elsewhere.
pub(crate) struct Progress {
    spinner: Mutex<Option<ProgressBar>>,
    live: bool,
    /// Where finished steps go.
    say: fn(std::fmt::Arguments<'_>),
    /// Whether the reader is to sign in; in a demo nobody is.
    asks: bool,
}

impl Progress {
    /// Beside a result: on standard error.
    pub(crate) fn new() -> Self {
        Self { spinner: Mutex::new(None), live: output::someone_watches(), say: |text| output::note(text), asks: true }
    }

    /// As part of a story: on standard output.
    pub(crate) fn telling() -> Self {
        Self { say: |text| output::line(text), asks: false, ..Self::new() }
    }

    fn turn(&self, text: String) {
        if !self.live {
            return;
        }
        let mut spinner = self.spinner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bar = spinner.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
            bar
        });
        bar.set_message(text);
    }

    fn rest(&self) {
        if let Some(bar) = self.spinner.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

impl Watcher for Progress {
    fn notice(&self, event: Event<'_>) {
        match event {
            Event::Phase { number, of, title } => {
                self.rest();
                (self.say)(format_args!(
                    "\n{} {}",
                    styled(FAINT, format_args!("{number}/{of}")),
                    styled(STRONG, title)
                ));
            }
            Event::Begun { what } => self.turn(what.to_owned()),
            Event::Waiting { what, waited, until } => {
                let clock = until.strftime("%H:%M UTC");
                let text =
                    format!("{what}: the tenant has not caught up, {} s so far, until {clock}", waited.as_secs());
                if self.live {
                    self.turn(text);
                } else if waited.as_secs() > 0 {
                    (self.say)(format_args!("  {} {text}", styled(FAINT, "…")));
                }
            }
            Event::Done { what, detail } => {
                self.rest();
                let detail = detail.map(|detail| format!("  {}", styled(FAINT, plain(detail)))).unwrap_or_default();
                (self.say)(format_args!("  {} {}{detail}", styled(GOOD, "✓"), plain(what)));
            }
            Event::Note(text) => {
                self.rest();
                (self.say)(format_args!("  {} {text}", styled(FAINT, "·")));
            }
            Event::Warning(text) => {
                self.rest();
                (self.say)(format_args!("  {} {text}", styled(WARN, "!")));
            }
            Event::OpenBrowser(_) if !self.asks => self.turn("signing in".to_owned()),
            Event::OpenBrowser(url) => {
                self.rest();
                (self.say)(format_args!("\nSign in as an administrator of the tenant:\n\n  {url}\n"));
                self.turn("waiting for the browser to come back".to_owned());
            }
            Event::DeviceCode { address, code, until } => {
                self.rest();
                (self.say)(format_args!(
                    "\nSign in as an administrator of the tenant, in any browser:\n\n  open  {}\n  type  {}\n",
                    styled(STRONG, address),
                    styled(STRONG, code)
                ));
                self.turn(format!("waiting for the sign-in, until {}", until.strftime("%H:%M UTC")));
            }
            Event::Commands { heading, lines } => {
                self.rest();
                (self.say)(format_args!("\n  {}\n", styled(STRONG, heading)));
                for line in lines {
                    (self.say)(format_args!("    {line}"));
                }
                (self.say)(format_args!(""));
            }
        }
    }
}
