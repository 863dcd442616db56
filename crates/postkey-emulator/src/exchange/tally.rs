//! How hard the mail service was worked, mailbox by mailbox: what a test of pacing asks for.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use uuid::Uuid;

/// One mailbox's work since the counts were last set back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Requests by Graph.
    pub requests: u64,
    /// Requests by Graph at this moment, over all apps.
    pub in_flight: usize,
    /// The most of them at once.
    pub most_in_flight: usize,
    /// Requests that met a limit and were answered 429. Faults do not count.
    pub throttled: u64,
    /// Messages accepted, by Graph and by SMTP.
    pub messages: u64,
    /// Their recipients.
    pub recipients: u64,
    /// The most messages accepted within a minute that began with the first of them.
    pub most_messages_in_a_minute: u64,
    /// SMTP connections signed in at this moment.
    pub smtp_connections: usize,
    /// The most of them at once.
    pub most_smtp_connections: usize,
    /// SMTP sign-ins, each of which opened a connection.
    pub smtp_sign_ins: u64,
    /// SMTP connections refused because there were too many: `432 4.3.2`.
    pub smtp_refused: u64,
    /// Submissions by SMTP that had to wait for another minute.
    pub smtp_delayed: u64,
    /// Messages that met the daily limit of recipients.
    pub over_recipient_limit: u64,
    /// Messages that met the tenant's limit of external recipients.
    pub over_external_limit: u64,
    #[serde(skip)]
    minute: Option<(i64, u64)>,
}

/// The tallies of all mailboxes.
#[derive(Debug, Default)]
pub struct Tallies {
    by_mailbox: BTreeMap<Uuid, Tally>,
    /// Mailboxes with a request in flight, and the most of them at once.
    busy: BTreeSet<Uuid>,
    /// The most mailboxes that had a request in flight at once.
    pub most_busy: usize,
}

impl Tallies {
    /// The mailbox's own.
    pub(crate) fn of(&mut self, mailbox: Uuid) -> &mut Tally {
        self.by_mailbox.entry(mailbox).or_default()
    }

    /// All of them, by the owners' ids.
    pub fn all(&self) -> &BTreeMap<Uuid, Tally> {
        &self.by_mailbox
    }

    /// A request has arrived.
    pub(crate) fn begin(&mut self, mailbox: Uuid) {
        let tally = self.of(mailbox);
        tally.requests += 1;
        tally.in_flight += 1;
        tally.most_in_flight = tally.most_in_flight.max(tally.in_flight);
        self.busy.insert(mailbox);
        self.most_busy = self.most_busy.max(self.busy.len());
    }

    /// Its answer is written.
    pub(crate) fn end(&mut self, mailbox: Uuid) {
        let tally = self.of(mailbox);
        tally.in_flight = tally.in_flight.saturating_sub(1);
        if tally.in_flight == 0 {
            self.busy.remove(&mailbox);
        }
    }

    /// Begins to count anew; what is under way stays.
    pub fn set_back(&mut self) {
        for tally in self.by_mailbox.values_mut() {
            let (in_flight, smtp_connections) = (tally.in_flight, tally.smtp_connections);
            *tally = Tally {
                in_flight,
                most_in_flight: in_flight,
                smtp_connections,
                most_smtp_connections: smtp_connections,
                ..Tally::default()
            };
        }
        self.most_busy = self.busy.len();
    }
}

impl Tally {
    /// A message was accepted at this second.
    pub(crate) fn accept(&mut self, second: i64, recipients: usize) {
        self.messages += 1;
        self.recipients += recipients as u64;
        let minute = match self.minute {
            Some((start, count)) if (start..start + 60).contains(&second) => (start, count + 1),
            _ => (second, 1),
        };
        self.most_messages_in_a_minute = self.most_messages_in_a_minute.max(minute.1);
        self.minute = Some(minute);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_at_once_and_the_most_in_a_minute_are_kept() {
        let mut tallies = Tallies::default();
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        for mailbox in [one, one, two] {
            tallies.begin(mailbox);
        }
        tallies.end(one);
        tallies.begin(one);
        tallies.end(two);
        for second in [0, 10, 59, 60, 61] {
            tallies.of(one).accept(second, 2);
        }
        let seen = *tallies.of(one);
        assert_eq!((seen.requests, seen.in_flight, seen.most_in_flight, tallies.most_busy), (3, 2, 2, 2));
        assert_eq!((seen.messages, seen.recipients, seen.most_messages_in_a_minute), (5, 10, 3));
        tallies.set_back();
        assert_eq!((tallies.of(one).requests, tallies.of(one).most_in_flight, tallies.most_busy), (0, 2, 1));
    }
}
