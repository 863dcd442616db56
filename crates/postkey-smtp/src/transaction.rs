//! MAIL, the RCPTs and DATA of one message from the client's side: one after the other, or in groups where the server
//! takes PIPELINING (RFC 2920).

use std::collections::VecDeque;

use crate::{
    client::{End, RecipientOutcome, Stage, Utf8Need},
    command::{Command, CommandError, Path},
    offers::Offers,
    reply::Reply,
};

/// What one message says in MAIL and RCPT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The reverse-path; `None` is `<>`.
    pub from: Option<Path>,
    /// The forward-paths, each tried and answered on its own.
    pub recipients: Vec<Path>,
    /// Bytes of the message, line ends included, dots not stuffed.
    pub size: u64,
    /// The message holds bytes above 127.
    pub eight_bit: bool,
    /// Whether SMTPUTF8 is asked for.
    pub utf8: Utf8Need,
}

/// Commands of one group: their answers must fit what the two ends buffer, since nothing is read while we write.
const GROUP: usize = 100;

/// A command whose answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Reset,
    Mail,
    Rcpt,
    Data,
}

/// What an answer leads to.
#[derive(Debug)]
pub(crate) enum Next {
    /// More answers, or more to say.
    On,
    /// The message may come.
    Body,
    /// It is over; the connection can carry another message after RSET.
    Ended(End),
    /// It is over, but the server waits for a message that has no recipients: a lone dot first.
    Abandoned(End),
    /// The server closes the connection.
    Closed(End),
}

/// One message on its way to the final dot.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// RSET first: something was begun and not ended before.
    reset: bool,
    /// Commands said so far.
    said: usize,
    awaiting: VecDeque<Step>,
    mail_refusal: Option<Reply>,
    outcomes: Vec<RecipientOutcome>,
}

impl Transaction {
    pub(crate) fn new(reset: bool) -> Self {
        Self { reset, said: 0, awaiting: VecDeque::new(), mail_refusal: None, outcomes: Vec::new() }
    }

    pub(crate) fn into_outcomes(self) -> Vec<RecipientOutcome> {
        self.outcomes
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.awaiting.front() {
            Some(Step::Reset | Step::Mail) | None => Stage::Mail,
            Some(Step::Rcpt) => Stage::Rcpt,
            Some(Step::Data) => Stage::DataStart,
        }
    }

    /// The next commands, when every answer so far is there; an end instead where there is nothing left to say.
    pub(crate) fn say(&mut self, mail: &Mail, offers: &Offers, out: &mut Vec<u8>) -> Result<Option<End>, CommandError> {
        if !self.awaiting.is_empty() {
            return Ok(None);
        }
        if let Some(end) = self.refusal() {
            return Ok(Some(end));
        }
        let group = if offers.pipelining { GROUP } else { 1 };
        while self.awaiting.len() < group {
            let Some(step) = self.step(mail) else { break };
            if step == Step::Data && !offers.pipelining && !self.accepted_any() {
                break;
            }
            let command = match step {
                Step::Reset => Command::Reset,
                Step::Mail => Command::Mail {
                    from: mail.from.as_ref(),
                    size: offers.size.map(|_| mail.size),
                    eight_bit: mail.eight_bit && offers.eight_bit,
                    utf8: mail.utf8 > Utf8Need::No && offers.utf8,
                },
                Step::Rcpt => Command::Rcpt(&mail.recipients[self.rcpts_said()]),
                Step::Data => Command::Data,
            };
            out.extend_from_slice(&command.encode()?);
            self.awaiting.push_back(step);
            self.said += 1;
        }
        Ok(if self.awaiting.is_empty() { self.all_refused() } else { None })
    }

    /// RCPTs said so far.
    fn rcpts_said(&self) -> usize {
        self.said.saturating_sub(1 + usize::from(self.reset))
    }

    /// The command that comes after those said.
    fn step(&self, mail: &Mail) -> Option<Step> {
        match (self.said, self.reset) {
            (0, true) => Some(Step::Reset),
            (0, false) | (1, true) => Some(Step::Mail),
            _ => match self.rcpts_said() {
                said if said < mail.recipients.len() => Some(Step::Rcpt),
                said if said == mail.recipients.len() => Some(Step::Data),
                _ => None,
            },
        }
    }

    pub(crate) fn hear(&mut self, mail: &Mail, reply: Reply) -> Next {
        let stage = self.stage();
        let Some(step) = self.awaiting.pop_front() else { return Next::On };
        // 421 is about the connection, whatever it answers.
        if reply.code() == 421 {
            return Next::Closed(End::Refused { stage, reply, recipients: std::mem::take(&mut self.outcomes) });
        }
        match step {
            Step::Reset | Step::Mail if !reply.is_positive() => {
                // The rest of the group is refused for want of MAIL; only this answer tells why.
                self.mail_refusal.get_or_insert(reply);
                Next::On
            }
            Step::Reset | Step::Mail => Next::On,
            Step::Rcpt => {
                if let Some(path) = mail.recipients.get(self.outcomes.len()).cloned() {
                    self.outcomes.push(RecipientOutcome { path, reply });
                }
                Next::On
            }
            Step::Data if self.mail_refusal.is_some() || !self.accepted_any() => {
                let end = self.refusal().or_else(|| self.all_refused());
                let end = end.unwrap_or(End::BadPlan(CommandError::Path(String::new())));
                if reply.code() == 354 { Next::Abandoned(end) } else { Next::Ended(end) }
            }
            Step::Data if reply.code() == 354 => Next::Body,
            Step::Data => {
                let recipients = std::mem::take(&mut self.outcomes);
                Next::Ended(End::Refused { stage: Stage::DataStart, reply, recipients })
            }
        }
    }

    fn accepted_any(&self) -> bool {
        self.outcomes.iter().any(RecipientOutcome::is_accepted)
    }

    fn refusal(&mut self) -> Option<End> {
        let reply = self.mail_refusal.take()?;
        Some(End::Refused { stage: Stage::Mail, reply, recipients: Vec::new() })
    }

    fn all_refused(&mut self) -> Option<End> {
        let recipients = std::mem::take(&mut self.outcomes);
        let reply = recipients.first()?.reply.clone();
        Some(End::Refused { stage: Stage::Rcpt, reply, recipients })
    }
}
