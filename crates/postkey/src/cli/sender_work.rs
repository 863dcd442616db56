//! What a sender has to do: how much mail waits for it, and what holds it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use postkey_setup::connection::Outside;
use postkey_store::{Hold, HoldCause, HoldScope, MessageCount, MessageState, Sender};
use serde::Serialize;

use super::{
    pause,
    values::{ago, point},
};
use crate::{
    failure::Failure,
    output::{self, BAD, WARN, styled},
};

/// Counts and holds of all senders.
pub(super) struct Work {
    counts: Vec<MessageCount>,
    holds: Vec<Hold>,
}

/// A sender with what it has to do.
#[derive(Serialize)]
pub(super) struct Beside<'a> {
    #[serde(flatten)]
    sender: &'a Sender,
    /// By state.
    messages: BTreeMap<&'static str, u64>,
    hold: Option<&'a Hold>,
}

impl Work {
    pub(super) async fn read(outside: &Outside) -> Result<Self, Failure> {
        let (counts, holds) = (outside.store.count_messages().await?, outside.store.holds().await?);
        Ok(Self { counts, holds })
    }

    fn count(&self, sender: &Sender, state: MessageState) -> u64 {
        self.counts.iter().filter(|one| one.sender == sender.id && one.state == state).map(|one| one.messages).sum()
    }

    fn waiting(&self, sender: &Sender) -> u64 {
        let waits = [MessageState::Queued, MessageState::Sending, MessageState::Deferred, MessageState::Unknown];
        waits.into_iter().map(|state| self.count(sender, state)).sum()
    }

    /// What holds all of its mail: people first.
    fn hold(&self, sender: &Sender) -> Option<&Hold> {
        let holds = |hold: &&Hold| match &hold.scope {
            HoldScope::Sender(id) => *id == sender.id,
            HoldScope::App(id) => sender.values.app == Some(*id),
            HoldScope::Tenant(id) => sender.values.tenant == Some(*id),
            HoldScope::Submitter(_) | HoldScope::Domain(_) => false,
        };
        let mut found: Vec<&Hold> = self.holds.iter().filter(holds).collect();
        found.sort_by_key(|hold| hold.cause != HoldCause::Paused);
        found.first().copied()
    }

    /// `paused, 12 waiting`; `-` when there is nothing to say.
    pub(super) fn in_words(&self, sender: &Sender) -> String {
        let held = self.hold(sender).map(|hold| match hold.cause {
            HoldCause::Paused => "paused".to_owned(),
            HoldCause::Outage => "held".to_owned(),
        });
        let count = |number: u64, word: &str| (number > 0).then(|| format!("{number} {word}"));
        let words =
            [held, count(self.waiting(sender), "waiting"), count(self.count(sender, MessageState::Failed), "failed")];
        let words: Vec<String> = words.into_iter().flatten().collect();
        if words.is_empty() { "-".into() } else { words.join(", ") }
    }

    /// The sender's JSON with it.
    pub(super) fn beside<'a>(&'a self, sender: &'a Sender) -> Beside<'a> {
        let messages = MessageState::ALL.map(|state| (state.word(), self.count(sender, state)));
        Beside { sender, messages: messages.into_iter().collect(), hold: self.hold(sender) }
    }

    pub(super) fn print(&self, sender: &Sender, now: Timestamp) {
        let states = MessageState::ALL.into_iter().filter_map(|state| {
            let number = self.count(sender, state);
            let text = format!("{number} {}", state.word());
            (number > 0).then(|| if state == MessageState::Failed { styled(BAD, text) } else { text })
        });
        let states: Vec<String> = states.collect();
        // As wide as the names of the form above.
        let mut rows = vec![("Mail           ", if states.is_empty() { "none yet".into() } else { states.join(", ") })];
        rows.push((
            "Answer lost",
            format!(
                "{} once",
                if sender.on_unknown == postkey_store::OnUnknown::AtLeastOnce { "at least" } else { "at most" }
            ),
        ));
        output::fields(&rows);
        let Some(hold) = self.hold(sender) else { return };
        let word = if hold.cause == HoldCause::Paused { "paused:" } else { "held:" };
        output::line(format_args!("\n{} {}", styled(WARN, word), hold.reason));
        let mut rows = vec![("since", ago(now, hold.since))];
        rows.extend(hold.until.map(|until| (pause::ends(hold), point(now, until))));
        rows.extend(hold.remedy.clone().map(|remedy| ("do", remedy)));
        rows.extend(hold.who.clone().map(|who| ("who", who)));
        rows.extend(hold.by.clone().map(|by| ("by", by)));
        output::fields(&rows);
    }
}
