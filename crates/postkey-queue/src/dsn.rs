//! Delivery status notifications (RFC 3464) as RFC 3461 asks for them: to whom, about what, and their text. Pure.

use std::fmt::Write;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use postkey_base::EmailAddress;
use postkey_store::{QueuedMessage, QueuedRecipient, Ret, Via};
use postkey_transport::Message;

/// What a notification tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Telling {
    /// It will not be delivered.
    Failure,
    /// It is not delivered yet.
    Delay,
    /// It was handed on to a system that tells no more.
    Relayed,
    /// Nobody knows, and nobody will.
    Doubt,
}

impl Telling {
    fn action(self) -> &'static str {
        match self {
            Self::Failure | Self::Doubt => "failed",
            Self::Delay => "delayed",
            Self::Relayed => "relayed",
        }
    }

    fn status(self) -> &'static str {
        match self {
            Self::Failure => "5.0.0",
            Self::Delay => "4.0.0",
            Self::Relayed => "2.0.0",
            // RFC 3463: 4.4.2 bad connection, a persistent transient failure whose end nobody saw.
            Self::Doubt => "4.4.2",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Failure => "Undelivered mail returned to sender",
            Self::Delay => "Delayed mail (still being tried)",
            Self::Relayed => "Mail handed on successfully",
            Self::Doubt => "Delivery unknown: please check with the recipient",
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Failure => {
                "Your message could not be delivered to these recipients. It will not be tried again by itself."
            }
            Self::Delay => {
                "Your message has not been delivered to these recipients yet. It is still being tried; you need not send it \
                 again."
            }
            Self::Relayed => {
                "Your message was handed to Exchange Online for these recipients. No further notice of its delivery will come \
                 from here."
            }
            Self::Doubt => {
                "Your message was handed over for these recipients, but the answer did not come and it is not sent twice. It \
                 may or may not have been delivered: please check with the recipients before you send it again."
            }
        }
    }

    /// Its word in keys and timelines.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Delay => "delay",
            Self::Relayed => "relayed",
            Self::Doubt => "doubt",
        }
    }
}

/// One notification.
#[derive(Debug)]
pub(crate) struct Dsn<'a> {
    /// What it tells.
    pub(crate) telling: Telling,
    /// About which message.
    pub(crate) message: &'a QueuedMessage,
    /// About which of its recipients; never empty.
    pub(crate) recipients: &'a [QueuedRecipient],
    /// Its bytes, where they are at hand.
    pub(crate) original: Option<&'a Message>,
    /// Who sends it.
    pub(crate) from: &'a EmailAddress,
    /// Whom it is for.
    pub(crate) to: &'a EmailAddress,
    /// Why, and what to do, for people.
    pub(crate) why: Option<&'a str>,
    /// Our name.
    pub(crate) host_name: &'a str,
    /// Until when it is tried, for a delay.
    pub(crate) until: Option<Timestamp>,
    /// Now.
    pub(crate) now: Timestamp,
    /// Its own id, for Message-ID and boundary.
    pub(crate) id: uuid::Uuid,
}

/// A whole message is returned up to so many bytes; of a larger one its headers.
const RETURNED_WHOLE: u64 = 256 * 1024;

/// The recipients who asked to be told this, or whose sender is told by default. A notification about a notification, or for
/// the null reverse-path, does not exist (RFC 3461 §6.2, RFC 5321 §4.5.5).
pub(crate) fn told_of(
    telling: Telling,
    message: &QueuedMessage,
    recipients: &[QueuedRecipient],
) -> Vec<QueuedRecipient> {
    if message.via == Via::Own || message.envelope.from.is_none() {
        return Vec::new();
    }
    let asked = |recipient: &&QueuedRecipient| match (telling, recipient.notify) {
        (Telling::Failure | Telling::Doubt, None) => true,
        (Telling::Failure | Telling::Doubt, Some(notify)) => notify.failure,
        (Telling::Delay, notify) => notify.is_some_and(|notify| notify.delay),
        (Telling::Relayed, notify) => notify.is_some_and(|notify| notify.success),
    };
    recipients.iter().filter(asked).cloned().collect()
}

impl Dsn<'_> {
    /// The message to send.
    pub(crate) fn write(&self) -> Vec<u8> {
        let boundary = format!("postkey-{}", self.id.simple());
        let mut text = String::new();
        let mut field = |name: &str, value: &str| {
            // Addresses and words of others stand in these lines.
            let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let _ = write!(text, "{name}: {value}\r\n");
        };
        field("From", &format!("Mail Delivery System <{}>", self.from));
        field("To", &format!("<{}>", self.to));
        field("Subject", self.telling.subject());
        field("Date", &date(self.now));
        field("Message-ID", &format!("<{}@{}>", self.id.simple(), self.host_name));
        if let Some(id) = &self.message.message_id {
            field("In-Reply-To", id);
            field("References", id);
        }
        // RFC 3834 §5
        field("Auto-Submitted", "auto-replied");
        field("MIME-Version", "1.0");
        field("Content-Type", &format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\""));
        text.push_str("\r\n");
        self.write_words(&mut text, &boundary);
        self.write_status(&mut text, &boundary);
        let mut bytes = text.into_bytes();
        self.write_original(&mut bytes, &boundary);
        bytes.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        bytes
    }

    /// For people.
    fn write_words(&self, text: &mut String, boundary: &str) {
        let mut words = format!("This is postkey at {}.\r\n\r\n{}\r\n\r\n", self.host_name, self.telling.says());
        for recipient in self.recipients {
            let _ = write!(words, "  <{}>", recipient.address);
            if let Some(outcome) = recipient.outcome.as_ref().filter(|outcome| !outcome.text.is_empty()) {
                let _ = write!(words, ": {}", one_line(&outcome.text));
            }
            words.push_str("\r\n");
        }
        if let Some(why) = self.why {
            let _ = write!(words, "\r\n{}\r\n", why.trim());
        }
        if let Some(subject) = &self.message.subject {
            let _ = write!(words, "\r\nSubject: {}\r\n", one_line(subject));
        }
        let _ = write!(words, "Taken in: {}\r\nOur id: {}\r\n", date(self.message.accepted_at), self.message.id);
        let _ = write!(
            text,
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Description: Notification\r\n"
        );
        let long = words.lines().any(|line| line.len() > 900);
        if words.is_ascii() && !long {
            let _ = write!(text, "\r\n{words}\r\n");
        } else {
            let _ = write!(text, "Content-Transfer-Encoding: base64\r\n\r\n");
            let encoded = BASE64_STANDARD.encode(words);
            for line in encoded.as_bytes().chunks(76) {
                text.push_str(std::str::from_utf8(line).unwrap_or_default());
                text.push_str("\r\n");
            }
        }
    }

    /// For programs: RFC 3464 §2.
    fn write_status(&self, text: &mut String, boundary: &str) {
        let _ = write!(
            text,
            "--{boundary}\r\nContent-Type: message/delivery-status\r\nContent-Description: Delivery report\r\n\r\n\
             Reporting-MTA: dns; {}\r\n",
            self.host_name
        );
        if let Some(envid) = &self.message.envelope.envid {
            let _ = write!(text, "Original-Envelope-Id: {}\r\n", ascii(envid));
        }
        let _ = write!(text, "Arrival-Date: {}\r\n", date(self.message.accepted_at));
        for recipient in self.recipients {
            text.push_str("\r\n");
            if let Some(orcpt) = &recipient.orcpt {
                let (kind, address) = orcpt.split_once(';').unwrap_or(("rfc822", orcpt));
                let _ = write!(text, "Original-Recipient: {}; {}\r\n", ascii(kind), ascii(address));
            }
            let _ = write!(text, "Final-Recipient: rfc822; {}\r\n", ascii(recipient.address.as_str()));
            let outcome = recipient.outcome.as_ref();
            let told = outcome.and_then(|outcome| outcome.status.as_deref());
            // The class of a status follows the action.
            let class = self.telling.status().as_bytes()[0];
            let status =
                told.filter(|status| status.as_bytes().first() == Some(&class)).unwrap_or(self.telling.status());
            let _ = write!(text, "Action: {}\r\nStatus: {}\r\n", self.telling.action(), ascii(status));
            if let Some(outcome) = outcome {
                if !outcome.text.is_empty() {
                    // A reply of a server begins with its code; what else is known is no SMTP.
                    let kind = if outcome.status.is_some() { "smtp" } else { "x-postkey" };
                    let said: String = ascii(&one_line(&outcome.text)).chars().take(800).collect();
                    let _ = write!(text, "Diagnostic-Code: {kind}; {said}\r\n");
                }
                let _ = write!(text, "Last-Attempt-Date: {}\r\n", date(outcome.at));
            }
            if let (Telling::Delay, Some(until)) = (self.telling, self.until) {
                let _ = write!(text, "Will-Retry-Until: {}\r\n", date(until));
            }
        }
        text.push_str("\r\n");
    }

    /// What it is about: whole if that was asked for and is small, else its headers.
    fn write_original(&self, bytes: &mut Vec<u8>, boundary: &str) {
        let Some(original) = self.original else { return };
        let failure = matches!(self.telling, Telling::Failure | Telling::Doubt);
        // RFC 3461 §4.3: RET concerns failures alone.
        let whole = failure && self.message.envelope.ret == Some(Ret::Full) && original.size() <= RETURNED_WHOLE;
        let raw = if whole { &original.raw()[..] } else { &original.raw()[..original.body_at()] };
        let kind = if whole { "message/rfc822" } else { "text/rfc822-headers" };
        let coding = if raw.is_ascii() { "" } else { "Content-Transfer-Encoding: 8bit\r\n" };
        bytes.extend_from_slice(format!("--{boundary}\r\nContent-Type: {kind}\r\n{coding}\r\n").as_bytes());
        bytes.extend_from_slice(raw);
    }
}

fn date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Fields of a report are ASCII; what is not is shown as xtext does (RFC 3461 §4).
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_ascii() && !c.is_ascii_control() => out.push(c),
            c if c.is_ascii() => out.push(' '),
            c => {
                let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
            }
        }
    }
    out
}

#[cfg(test)]
#[path = "dsn_tests.rs"]
mod tests;
