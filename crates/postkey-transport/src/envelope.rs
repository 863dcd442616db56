//! Who sends and who receives, apart from what the headers say.

use postkey_base::{Diagnose, EmailAddress, Who};

use crate::message::Message;

/// The envelope of one message. The null reverse-path has no place here: Exchange Online submits only as a mailbox, by
/// Graph and by SMTP alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    from: EmailAddress,
    recipients: Vec<EmailAddress>,
}

/// No message can be sent to these recipients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Nobody to send to.
    #[error("the message names no recipient")]
    NoRecipient,
    /// Over [`MAX_RECIPIENTS`].
    #[error("the message has {0} recipients; Exchange Online takes at most {MAX_RECIPIENTS} in one message")]
    TooMany(usize),
    /// A header that should hold addresses holds something else.
    #[error("{text:?} in the {field} header is not an email address")]
    NotAnAddress {
        /// To, Cc or Bcc.
        field: &'static str,
        /// What stands there.
        text: String,
    },
}

/// A mailbox's limit is 500 by default and at most 1,000.
pub const MAX_RECIPIENTS: usize = 1_000;

impl Envelope {
    /// An envelope for these recipients; each is kept once, in order.
    pub fn new(from: EmailAddress, recipients: impl IntoIterator<Item = EmailAddress>) -> Result<Self, EnvelopeError> {
        let mut seen = std::collections::HashSet::new();
        let recipients: Vec<_> = recipients.into_iter().filter(|one| seen.insert(one.clone())).collect();
        match recipients.len() {
            0 => Err(EnvelopeError::NoRecipient),
            count if count > MAX_RECIPIENTS => Err(EnvelopeError::TooMany(count)),
            _ => Ok(Self { from, recipients }),
        }
    }

    /// The envelope that the To, Cc and Bcc headers ask for, as `sendmail -t` would make it.
    pub fn of(message: &Message, from: EmailAddress) -> Result<Self, EnvelopeError> {
        let mut recipients = Vec::new();
        for field in ["To", "Cc", "Bcc"] {
            for one in message.listed(field) {
                recipients.push(one.address.map_err(|text| EnvelopeError::NotAnAddress { field, text })?);
            }
        }
        Self::new(from, recipients)
    }

    /// The reverse-path: the mailbox that sends.
    pub fn from(&self) -> &EmailAddress {
        &self.from
    }

    /// The forward-paths, each once.
    pub fn recipients(&self) -> &[EmailAddress] {
        &self.recipients
    }

    /// Whether this address receives.
    pub fn names(&self, address: &EmailAddress) -> bool {
        self.recipients.contains(address)
    }
}

impl Diagnose for EnvelopeError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoRecipient => "transport.no_recipient",
            Self::TooMany(_) => "transport.too_many_recipients",
            Self::NotAnAddress { .. } => "transport.bad_recipient",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::NoRecipient => "Name a recipient: --to ADDRESS, or a To, Cc or Bcc header.".into(),
            Self::TooMany(_) => "Send it in parts, or to a distribution list (it counts as one recipient).".into(),
            Self::NotAnAddress { field, .. } => {
                format!("Correct the {field} header, or name the recipients with --to.")
            }
        }
    }

    fn who(&self) -> Who {
        Who::You
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> EmailAddress {
        text.parse().unwrap()
    }

    #[test]
    fn recipients_of_all_three_headers_are_taken_each_once() {
        let message = Message::parse(
            &b"To: A <a@x.example>, b@x.example\r\nCc: A@X.example\r\nBcc:\r\n c@x.example\r\nTo: d@x.example\r\n\r\n"
                [..],
        )
        .unwrap();
        let envelope = Envelope::of(&message, address("me@x.example")).unwrap();
        let names: Vec<_> = envelope.recipients().iter().map(EmailAddress::as_str).collect();
        assert_eq!(names, ["a@x.example", "b@x.example", "d@x.example", "c@x.example"]);
    }

    #[test]
    fn nobody_everybody_and_nonsense_are_refused() {
        let of = |headers: &str| {
            Envelope::of(&Message::parse(format!("{headers}\r\n\r\n").into_bytes()).unwrap(), address("me@x.example"))
        };
        assert_eq!(of("To: undisclosed-recipients:;"), Err(EnvelopeError::NoRecipient));
        assert!(matches!(of("To: alice"), Err(EnvelopeError::NotAnAddress { field: "To", .. })));
        let many: Vec<_> = (0..1001).map(|n| format!("a{n}@x.example")).collect();
        assert_eq!(of(&format!("To: {}", many.join(",\r\n "))), Err(EnvelopeError::TooMany(1001)));
    }
}
