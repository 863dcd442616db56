//! What one transaction takes on, and what each change makes of the row that it finds. Pure.

use std::collections::HashSet;

use super::{Accepted, Begin, Job, Reply, Settlement};
use crate::{
    MessageId, MessageState, NewMessage, SenderId, StoreError, SubmitterId,
    messages::{Counting, Ledger, Usage, envelope_json, signed},
    row::milliseconds,
};
use jiff::Timestamp;

/// The jobs of one transaction.
#[derive(Default)]
pub(super) struct Group {
    pub(super) accepts: Vec<(Box<NewMessage>, Reply<Accepted>)>,
    pub(super) begins: Vec<(Begin, Reply<bool>)>,
    pub(super) settles: Vec<(Box<Settlement>, Reply<()>)>,
    bytes: usize,
    /// Each message is changed once in a transaction.
    changed: HashSet<MessageId>,
}

impl Group {
    pub(super) fn len(&self) -> usize {
        self.accepts.len() + self.begins.len() + self.settles.len()
    }

    /// Bytes of the bodies in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a job on, or gives it back for the next transaction.
    pub(super) fn take(&mut self, job: Job) -> Option<Job> {
        if self.len() >= MOST_JOBS || self.bytes >= MOST_BYTES {
            return Some(job);
        }
        match job {
            Job::Accept(message, reply) => {
                self.bytes += message.body.len();
                self.accepts.push((message, reply));
            }
            Job::Begin(begin, reply) if self.changed.insert(begin.id) => self.begins.push((begin, reply)),
            Job::Settle(settlement, reply) if self.changed.insert(settlement.id) => {
                self.bytes += settlement.messages.iter().map(|message| message.body.len()).sum::<usize>();
                self.settles.push((settlement, reply));
            }
            job => return Some(job),
        }
        None
    }

    /// A group for each of the jobs.
    pub(super) fn one_by_one(self) -> impl Iterator<Item = Self> {
        let accepts = self.accepts.into_iter().map(|job| Self { accepts: vec![job], ..Self::default() });
        let begins = self.begins.into_iter().map(|job| Self { begins: vec![job], ..Self::default() });
        let settles = self.settles.into_iter().map(|job| Self { settles: vec![job], ..Self::default() });
        accepts.chain(begins).chain(settles)
    }

    /// Gives every caller the same error.
    pub(super) fn fail(self, error: StoreError) {
        let again = || error.for_all();
        // A caller that no longer waits needs no answer.
        for (_, reply) in self.accepts {
            let _ = again().map(|error| reply.send(Err(error)));
        }
        for (_, reply) in self.begins {
            let _ = again().map(|error| reply.send(Err(error)));
        }
        for (_, reply) in self.settles {
            let _ = again().map(|error| reply.send(Err(error)));
        }
    }

    /// Gives the one caller of a group of one the error that it caused.
    pub(super) fn refuse(mut self, error: StoreError) {
        // A caller that no longer waits needs no answer.
        if let Some((_, reply)) = self.accepts.pop() {
            let _ = reply.send(Err(error));
        } else if let Some((_, reply)) = self.begins.pop() {
            let _ = reply.send(Err(error));
        } else if let Some((_, reply)) = self.settles.pop() {
            let _ = reply.send(Err(error));
        }
    }

    /// Answers, after the commit.
    pub(super) fn answer(self, verdicts: Verdicts) {
        // A caller that no longer waits needs no answer.
        for ((_, reply), verdict) in self.accepts.into_iter().zip(verdicts.accepts) {
            let _ = reply.send(verdict);
        }
        for ((_, reply), verdict) in self.begins.into_iter().zip(verdicts.begins) {
            let _ = reply.send(Ok(verdict));
        }
        for ((_, reply), verdict) in self.settles.into_iter().zip(verdicts.settles) {
            let _ = reply.send(verdict);
        }
    }
}

/// What each caller will be told, in the order of the jobs.
#[derive(Default)]
pub(super) struct Verdicts {
    pub(super) accepts: Vec<Result<Accepted, StoreError>>,
    pub(super) begins: Vec<bool>,
    pub(super) settles: Vec<Result<(), StoreError>>,
}

/// A row as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) sender: SenderId,
    pub(super) submitter: Option<SubmitterId>,
    pub(super) state: MessageState,
    pub(super) due_at: Timestamp,
    pub(super) attempts: i64,
    pub(super) epoch: i64,
    pub(super) events: i64,
    pub(super) size: i64,
}

/// What becomes of it; `outcome` and `envelope` stay as they are where they are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) state: MessageState,
    pub(super) due_at: Timestamp,
    pub(super) attempts: i64,
    pub(super) epoch: i64,
    pub(super) events: i64,
    pub(super) settled_at: Option<i64>,
    pub(super) outcome: Option<String>,
    pub(super) envelope: Option<String>,
}

/// An attempt begins; `None`: it may not.
pub(super) fn begin(found: &Found, begin: &Begin) -> Option<Changed> {
    let waits = matches!(found.state, MessageState::Queued | MessageState::Deferred);
    // The fence: who has lost the lane has the smaller epoch.
    (waits && found.epoch <= begin.epoch).then(|| Changed {
        state: MessageState::Sending,
        due_at: found.due_at,
        attempts: found.attempts,
        epoch: begin.epoch,
        events: found.events + 1,
        settled_at: None,
        outcome: None,
        envelope: None,
    })
}

/// An attempt ended, or more became known; `None`: someone else has the message, or a person withdrew it.
pub(super) fn settle(found: &Found, settlement: &Settlement, now: Timestamp) -> Result<Option<Changed>, StoreError> {
    use MessageState::{Accepted, Cancelled, Failed};
    let open = match found.state {
        // What was accepted may still come back.
        Accepted => matches!(settlement.to, Accepted | Failed),
        Failed | Cancelled => false,
        _ => true,
    };
    let moved_on = settlement.from.is_some_and(|from| from != found.state);
    if !open || moved_on || found.epoch > settlement.epoch {
        return Ok(None);
    }
    let new_events = i64::try_from(settlement.events.len()).unwrap_or(i64::MAX);
    Ok(Some(Changed {
        state: settlement.to,
        due_at: settlement.due_at.unwrap_or(found.due_at),
        attempts: found.attempts + i64::from(settlement.attempts_delta),
        epoch: settlement.epoch,
        events: found.events + new_events,
        settled_at: settlement.to.is_settled().then(|| milliseconds(now)),
        outcome: settlement.outcome.as_ref().map(ToString::to_string),
        envelope: settlement.envelope.as_ref().map(envelope_json).transpose()?,
    }))
}

/// The counters of a change.
pub(super) fn count_change(ledger: &mut Ledger, found: &Found, to: MessageState) {
    ledger.count(found.sender, found.submitter, found.state, -1, -found.size);
    ledger.count(found.sender, found.submitter, to, 1, found.size);
}

/// The counters of a message that is accepted.
pub(super) fn count_accepted(ledger: &mut Ledger, message: &NewMessage) {
    let bytes = signed(message.body.len() as u64);
    ledger.count(message.sender, message.submitter, MessageState::Queued, 1, bytes);
    if let Some(submitter) = message.submitter {
        let recipients = signed(message.envelope.recipients.len() as u64);
        let used = Counting { messages: 1, recipients, bytes };
        ledger.usage.add(Usage::Submitted(submitter), message.accepted_at, used);
    }
}

/// The counters of what the far end took.
pub(super) fn count_sent(ledger: &mut Ledger, found: &Found, settlement: &Settlement, now: Timestamp) {
    if settlement.recipients_sent > 0 {
        let used = Counting { messages: 1, recipients: i64::from(settlement.recipients_sent), bytes: found.size };
        ledger.usage.add(Usage::Sent(found.sender), now, used);
    }
}

/// More jobs wait for the next transaction.
const MOST_JOBS: usize = 128;

/// With more bytes of bodies, no job is taken on: the log of one transaction stays small.
const MOST_BYTES: usize = 8 << 20;
