//! What may come in: the rules of a submitter applied to an envelope and to a message. Pure, and the same for SMTP and HTTP.
//!
//! `MAIL FROM:<>` is taken only from a submitter whose addresses name `<>`; others get `550 5.7.1` with that remedy. Exchange
//! Online submits only as a mailbox, so such mail leaves in the name of its sender's mailbox.
//!
//! No header field is added here: a message arrives as it was handed in. What a rule changes is listed in
//! [`Admitted::rewritings`].

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use postkey_base::EmailAddress;
use postkey_store::Priority;
use postkey_transport::{Abilities, Envelope, Message, RouteError, Traits, choose};

use crate::{
    known::{Known, KnownSender},
    quota::{Load, Usage, has_quotas},
    refusal::{Place, Refusal, until},
    rewrite::{Rewriting, RewritingKind, force_from, take_field},
};

/// A message that may be queued.
#[derive(Debug)]
pub struct Admitted {
    /// The sender that carries it.
    pub sender: Arc<KnownSender>,
    /// The reverse-path; `None` is `<>`.
    pub from: Option<EmailAddress>,
    /// The message, rewritten where a rule says so.
    pub message: Message,
    /// What was rewritten.
    pub rewritings: Vec<Rewriting>,
    /// What its field [`IDEMPOTENCY_FIELD`] said; the field itself was taken out.
    pub idempotency_key: Option<String>,
    /// How it ranks.
    pub priority: Priority,
    /// Its share of the quotas.
    pub charge: Charge,
}

/// A share of a submitter's quotas, given back unless [`Charge::keep`] is called: only what was queued counts.
#[derive(Debug)]
#[must_use]
pub struct Charge {
    usage: Option<Arc<Mutex<Usage>>>,
    load: Load,
    at: Timestamp,
}

impl Charge {
    /// The message is queued.
    pub fn keep(mut self) {
        self.usage = None;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(usage) = &self.usage {
            usage.lock().unwrap_or_else(PoisonError::into_inner).refund(self.load, self.at);
        }
    }
}

/// The field by which an SMTP client makes a repeated submission recognisable, as `Idempotency-Key` does over HTTP.
pub const IDEMPOTENCY_FIELD: &str = "X-Postkey-Idempotency-Key";

impl Known {
    /// `MAIL FROM`: whether it may begin a message. Gives the reverse-path that goes with it.
    ///
    /// # Errors
    /// The address is not its own, its quotas are used up, or what is announced is larger than any sender of it carries.
    pub fn mail_from(
        &self,
        from: Option<&EmailAddress>,
        announced: Option<u64>,
        now: Timestamp,
    ) -> Result<Option<EmailAddress>, Refusal> {
        let from = self.reverse_path(from)?;
        let sender = self.carrier(from.as_ref(), &[])?;
        if let Some(size) = announced {
            self.check_size(size)?;
            if let Some(abilities) = sender.abilities() {
                let announced = Traits { size, smtp_carries_lines: true, ..Traits::default() };
                carried(&announced, &abilities)?;
            }
        }
        self.check_quota(Load { messages: 1, recipients: 0, bytes: announced.unwrap_or(0) }, now)?;
        Ok(from)
    }

    /// `RCPT TO`: whether this may be the next recipient; `already` were taken before it.
    ///
    /// # Errors
    /// A domain it may not write to, or too many.
    pub fn rcpt_to(&self, to: &EmailAddress, already: usize, now: Timestamp) -> Result<(), Refusal> {
        if !self.may_send_to(to) {
            return Err(Refusal::Recipient {
                submitter: self.name().to_owned(),
                address: to.to_string(),
                allowed: self.submitter.rules.recipient_domains.clone(),
            });
        }
        let count = already as u64 + 1;
        self.check_count(count)?;
        self.check_quota(Load { messages: 0, recipients: count, bytes: 0 }, now)
    }

    /// The whole message, its envelope accepted before by [`Known::mail_from`] and [`Known::rcpt_to`]. What they found may
    /// have changed since, so quotas are counted here.
    ///
    /// # Errors
    /// Any refusal: a header address that is not its own, size, quota, or no route that carries it.
    pub fn admit(
        &self,
        from: Option<&EmailAddress>,
        recipients: &[EmailAddress],
        body: impl Into<Bytes>,
        now: Timestamp,
    ) -> Result<Admitted, Refusal> {
        let body = body.into();
        self.check_size(body.len() as u64)?;
        let mut message = Message::parse(body)?;
        let mut rewritings = Vec::new();

        let path = self.reverse_path(from)?;
        if path.as_ref() != from {
            let (was, is) = (shown(from), shown(path.as_ref()));
            rewritings
                .push(Rewriting { kind: RewritingKind::ForceEnvelope, detail: format!("MAIL FROM {was} became {is}") });
        }
        let mut idempotency_key = None;
        if let Some((bytes, key)) = take_field(&message, IDEMPOTENCY_FIELD) {
            check_idempotency_key(&key)?;
            message = Message::parse(bytes)?;
            rewritings.push(Rewriting {
                kind: RewritingKind::TakeIdempotencyKey,
                detail: format!("{IDEMPOTENCY_FIELD} was taken out"),
            });
            idempotency_key = Some(key);
        }
        if let Some(forced) = &self.submitter.rules.force_from
            && let Some((bytes, changes)) = force_from(&message, forced)
        {
            message = Message::parse(bytes)?;
            rewritings.extend(changes);
        }
        self.check_headers(&message)?;
        for to in recipients {
            if !self.may_send_to(to) {
                self.rcpt_to(to, 0, now)?;
            }
        }
        self.check_count(recipients.len() as u64)?;

        let sender = Arc::clone(self.carrier(path.as_ref(), &message.addresses("From"))?);
        self.check_route(&sender, path.as_ref(), recipients, &message)?;
        let priority = rank(&message, self.submitter.rules.priority);
        let charge =
            self.charge(Load { messages: 1, recipients: recipients.len() as u64, bytes: message.size() }, now)?;
        Ok(Admitted { sender, from: path, message, rewritings, idempotency_key, priority, charge })
    }

    /// The reverse-path as it goes on.
    fn reverse_path(&self, from: Option<&EmailAddress>) -> Result<Option<EmailAddress>, Refusal> {
        if let Some(forced) = &self.submitter.rules.force_from {
            return Ok(Some(forced.clone()));
        }
        match from {
            None if self.may_send_as_nobody() => Ok(None),
            None => Err(Refusal::EmptyReversePath { submitter: self.name().to_owned() }),
            Some(address) if self.may_send_as(address) => Ok(Some(address.clone())),
            Some(address) => Err(self.not_its_address(address.to_string(), Place::Envelope)),
        }
    }

    /// From, Sender, Resent-From and Resent-Sender may hold nothing but its own addresses: whoever may send as one mailbox
    /// must not appear as another. A From without any address is added to on the way out, so it is no harm.
    fn check_headers(&self, message: &Message) -> Result<(), Refusal> {
        for place in [Place::From, Place::Sender, Place::ResentFrom, Place::ResentSender] {
            for one in message.listed(place.name()) {
                match one.address {
                    Ok(address) if self.may_send_as(&address) => {}
                    Ok(address) => return Err(self.not_its_address(address.to_string(), place)),
                    Err(text) => return Err(self.not_its_address(format!("{text:?}"), place)),
                }
            }
        }
        Ok(())
    }

    fn not_its_address(&self, address: String, place: Place) -> Refusal {
        Refusal::NotItsAddress { submitter: self.name().to_owned(), address, place, allowed: self.sends_as() }
    }

    /// Which of its senders carries the message: whose mailbox the reverse-path names, else whose From does, else the first.
    fn carrier(&self, path: Option<&EmailAddress>, from: &[EmailAddress]) -> Result<&Arc<KnownSender>, Refusal> {
        let of = |address: &EmailAddress| self.senders.iter().find(|sender| sender.mailbox == *address);
        path.and_then(of)
            .or_else(|| from.iter().find_map(of))
            .or_else(|| self.default_sender())
            .ok_or_else(|| Refusal::NoSender { submitter: self.name().to_owned() })
    }

    /// Refuses at once what no route of the sender carries, as far as it is known what it can do.
    fn check_route(
        &self,
        sender: &KnownSender,
        path: Option<&EmailAddress>,
        recipients: &[EmailAddress],
        message: &Message,
    ) -> Result<(), Refusal> {
        let Some(abilities) = sender.abilities() else { return Ok(()) };
        let from = path.unwrap_or(&sender.mailbox).clone();
        // No recipient or too many is answered before this, and by the queue again.
        let Ok(envelope) = Envelope::new(from, recipients.iter().cloned()) else { return Ok(()) };
        carried(&Traits::of(message, &envelope), &abilities)
    }

    fn check_size(&self, size: u64) -> Result<(), Refusal> {
        match self.submitter.rules.message_bytes {
            Some(limit) if size > limit => Err(Refusal::TooLarge { submitter: self.name().to_owned(), size, limit }),
            _ => Ok(()),
        }
    }

    fn check_count(&self, count: u64) -> Result<(), Refusal> {
        match self.submitter.rules.recipients_per_message.map(u64::from) {
            Some(limit) if count > limit => {
                Err(Refusal::TooManyRecipients { submitter: self.name().to_owned(), limit })
            }
            _ => Ok(()),
        }
    }

    fn check_quota(&self, load: Load, now: Timestamp) -> Result<(), Refusal> {
        if !has_quotas(&self.submitter.rules) {
            return Ok(());
        }
        self.with_usage(|usage| self.room(usage, load, now))
    }

    fn charge(&self, load: Load, now: Timestamp) -> Result<Charge, Refusal> {
        if !has_quotas(&self.submitter.rules) {
            return Ok(Charge { usage: None, load, at: now });
        }
        self.with_usage(|usage| {
            self.room(usage, load, now)?;
            usage.charge(load, now);
            Ok::<_, Refusal>(())
        })?;
        Ok(Charge { usage: Some(self.usage()), load, at: now })
    }

    fn room(&self, usage: &mut Usage, load: Load, now: Timestamp) -> Result<(), Refusal> {
        let submitter = || self.name().to_owned();
        usage.check(&self.submitter.rules, load, now).map_err(|full| match full.again {
            Some(again) => Refusal::UsedUp {
                submitter: submitter(),
                quota: full.quota,
                limit: full.limit,
                again,
                wait: until(again, now),
            },
            None => {
                Refusal::OverQuota { submitter: submitter(), quota: full.quota, limit: full.limit, needed: full.needed }
            }
        })
    }
}

fn carried(traits: &Traits, abilities: &Abilities) -> Result<(), Refusal> {
    match choose(traits, abilities) {
        // No way at all is the sender's trouble, and passes: the message waits for it.
        Ok(_) | Err(RouteError::NoRoute) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A key that can be one, of SMTP and HTTP alike.
///
/// # Errors
/// Empty, longer than 255 bytes, or with anything but printable ASCII.
pub fn check_idempotency_key(key: &str) -> Result<(), Refusal> {
    let problem = match key.len() {
        0 => "is empty",
        256.. => "is longer than 255 bytes",
        _ if !key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') => {
            "holds something else than printable ASCII"
        }
        _ => return Ok(()),
    };
    Err(Refusal::IdempotencyKey { problem })
}

/// The rule's priority; a message may ask for less, never for more.
fn rank(message: &Message, rule: Priority) -> Priority {
    let says = |name: &str, word: &[u8]| {
        message.value(name).is_some_and(|value| value.trim_ascii().to_ascii_lowercase().starts_with(word))
    };
    let low = says("Importance", b"low")
        || says("X-Priority", b"4")
        || says("X-Priority", b"5")
        || says("Precedence", b"bulk")
        || says("Priority", b"non-urgent");
    if low { rule.min(Priority::Low) } else { rule }
}

fn shown(path: Option<&EmailAddress>) -> String {
    format!("<{}>", path.map_or("", EmailAddress::as_str))
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
