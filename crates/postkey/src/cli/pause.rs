//! What people hold and let go: `pause` and `resume` of senders, submitters, tenants and recipient domains.

use clap::Args;
use jiff::Timestamp;
use postkey_queue::Outbox;
use postkey_setup::connection::Outside;
use postkey_store::{Hold, HoldCause, HoldScope};
use serde_json::json;

use super::values::{length, moment};
use crate::{
    failure::Failure,
    output::{self, FAINT, GOOD, WARN, styled},
};

/// Why and for how long.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PauseArgs {
    /// Why, for whoever asks what became of the mail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Resume by itself at this time, such as 2026-11-24T15:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "length")]
    until: Option<String>,
    /// Resume by itself after so long, such as 2h
    #[arg(long = "for", id = "length", value_name = "LENGTH")]
    length: Option<String>,
}

impl PauseArgs {
    fn until(&self, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
        let until = match (&self.until, &self.length) {
            (Some(text), _) => moment(text, "--until")?,
            (None, Some(text)) => now.checked_add(length(text, "--for")?).map_err(|_| {
                Failure::usage(format!("{text:?} from now is beyond the calendar"), "Give a shorter --for.")
            })?,
            (None, None) => return Ok(None),
        };
        if until <= now {
            return Err(Failure::usage("the pause would have ended already", "Give --until a time to come."));
        }
        Ok(Some(until))
    }
}

/// Holds what `scope` names. What is on its way is not stopped.
pub(super) async fn pause(
    outside: &Outside,
    scope: HoldScope,
    what: &str,
    how: PauseArgs,
    json: bool,
) -> Result<(), Failure> {
    let now = outside.clock.now();
    let until = how.until(now)?;
    let by = std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "command line".into());
    let reason = how.reason.unwrap_or_else(|| "paused by hand".into());
    let hold = outbox(outside).pause(scope, &reason, until, &by).await?;
    if json {
        output::json(&hold);
        return Ok(());
    }
    let end = match until {
        Some(until) => format!("until {}", until.strftime("%Y-%m-%d %H:%M:%S UTC")),
        None => "until it is resumed".into(),
    };
    output::line(format_args!("{} {what} is held {end}", styled(WARN, "paused:")));
    output::note(styled(FAINT, "  it is still accepted, and waits; messages that are on their way now go through"));
    Ok(())
}

/// Lets go what was held, by a person or by an outage: then it is tried at once.
pub(super) async fn resume(outside: &Outside, scope: HoldScope, what: &str, json: bool) -> Result<(), Failure> {
    let resumed = outbox(outside).resume(&scope).await?;
    if json {
        output::json(&json!({ "resumed": resumed }));
        return Ok(());
    }
    match resumed {
        true => output::line(format_args!("{} {what} goes out again", styled(GOOD, "resumed:"))),
        false => output::note(format_args!("{what} was not held")),
    }
    Ok(())
}

fn outbox(outside: &Outside) -> Outbox {
    Outbox::new(outside.store.clone(), outside.clock.clone())
}

/// What comes at the end of a hold.
pub(super) fn ends(hold: &Hold) -> &'static str {
    match hold.cause {
        HoldCause::Paused => "until",
        HoldCause::Outage => "next try",
    }
}
