//! Why mail is not taken: one type for SMTP and HTTP alike, each with its reply code and its remedy.

use std::{net::IpAddr, time::Duration};

use jiff::{SignedDuration, Timestamp};
use postkey_base::{Diagnose, Who, address::AddressError};
use postkey_smtp::{EnhancedCode, Reply};
use postkey_transport::{MessageError, RouteError};

use crate::quota::Quota;

/// Where an address stands that a submitter uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `MAIL FROM`, or `from` of a request.
    Envelope,
    /// The `From` field.
    From,
    /// The `Sender` field.
    Sender,
    /// The `Resent-From` field.
    ResentFrom,
    /// The `Resent-Sender` field.
    ResentSender,
}

impl Place {
    /// The header field, or the command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Envelope => "MAIL FROM",
            Self::From => "From",
            Self::Sender => "Sender",
            Self::ResentFrom => "Resent-From",
            Self::ResentSender => "Resent-Sender",
        }
    }
}

/// Why mail is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An address that is none of the submitter's.
    #[error("the submitter {submitter} may not send as {address} ({})", .place.name())]
    NotItsAddress {
        /// Its name.
        submitter: String,
        /// The address, or what stands in its place.
        address: String,
        /// Where it stands.
        place: Place,
        /// What it may use.
        allowed: Vec<String>,
    },
    /// `MAIL FROM:<>`, and no rule that allows it.
    #[error("the submitter {submitter} may not send with the empty reverse-path <>")]
    EmptyReversePath {
        /// Its name.
        submitter: String,
    },
    /// A recipient outside the domains it may write to.
    #[error("the submitter {submitter} may not send to {address}")]
    Recipient {
        /// Its name.
        submitter: String,
        /// The recipient.
        address: String,
        /// The domains it may write to.
        allowed: Vec<String>,
    },
    /// What stands in the envelope is no address that Exchange Online takes.
    #[error("{address:?} is no address that can be sent to or from")]
    Address {
        /// What was written.
        address: String,
        /// Whether it is the reverse-path.
        sender: bool,
        /// What is wrong with it.
        #[source]
        cause: AddressError,
    },
    /// Its rules do not list this network.
    #[error("the submitter {submitter} may not be used from {address}")]
    Network {
        /// Its name.
        submitter: String,
        /// Where from.
        address: IpAddr,
    },
    /// Nobody is known there that needs no password.
    #[error("no submitter may send from {address} without a password")]
    UnknownNetwork {
        /// Where from.
        address: IpAddr,
    },
    /// Switched off.
    #[error("the submitter {submitter} is disabled")]
    Disabled {
        /// Its name.
        submitter: String,
    },
    /// Gone since the session began.
    #[error("the submitter {submitter} was removed")]
    Removed {
        /// Its name.
        submitter: String,
    },
    /// The password with which the session began is gone.
    #[error("the password with which the submitter {submitter} signed in was removed")]
    PasswordRemoved {
        /// Its name.
        submitter: String,
    },
    /// None of its senders is there, or set up as far as a mailbox.
    #[error("the submitter {submitter} has no sender that is set up")]
    NoSender {
        /// Its name.
        submitter: String,
    },
    /// Used up for now.
    #[error("the submitter {submitter} has used up its {quota} ({limit}); there is room again in {}", spoken(*.wait))]
    UsedUp {
        /// Its name.
        submitter: String,
        /// Which.
        quota: Quota,
        /// How much it may.
        limit: u64,
        /// When there is room.
        again: Timestamp,
        /// The same, from now.
        wait: Duration,
    },
    /// More at once than it may in all.
    #[error("{needed} is more than the {quota} of the submitter {submitter} ({limit}) ever allows")]
    OverQuota {
        /// Its name.
        submitter: String,
        /// Which.
        quota: Quota,
        /// How much it may.
        limit: u64,
        /// How much this takes.
        needed: u64,
    },
    /// More recipients than one message of it may have.
    #[error("the submitter {submitter} may send to {limit} recipients in one message")]
    TooManyRecipients {
        /// Its name.
        submitter: String,
        /// So many.
        limit: u64,
    },
    /// Larger than a message of it may be.
    #[error("the message has {size} bytes; the submitter {submitter} may send {limit}")]
    TooLarge {
        /// Its name.
        submitter: String,
        /// Bytes of the message, or what was announced.
        size: u64,
        /// So many at most.
        limit: u64,
    },
    /// No route carries it.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// It is no message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The idempotency key cannot be one.
    #[error("the idempotency key {problem}")]
    IdempotencyKey {
        /// Why.
        problem: &'static str,
    },
}

impl Refusal {
    /// What an SMTP client is told.
    pub fn smtp_reply(&self) -> Reply {
        let (code, enhanced) = self.codes();
        let text = match self {
            Self::Route(error) => error.smtp_reply().2,
            // The remedy is written for whoever looks after the device and reads its log.
            _ => format!("{self}. {}", self.remedy()),
        };
        Reply::new(code, EnhancedCode::parse(enhanced), [text])
    }

    fn codes(&self) -> (u16, &'static str) {
        match self {
            Self::NotItsAddress { .. }
            | Self::EmptyReversePath { .. }
            | Self::Recipient { .. }
            | Self::Network { .. }
            | Self::Removed { .. }
            | Self::PasswordRemoved { .. } => (550, "5.7.1"),
            Self::UnknownNetwork { .. } => (530, "5.7.0"),
            Self::Disabled { .. } => (550, "5.7.13"),
            Self::Address { sender: true, .. } => (553, "5.1.7"),
            Self::Address { .. } => (553, "5.1.3"),
            Self::NoSender { .. } => (451, "4.3.5"),
            Self::UsedUp { quota: Quota::RecipientsPerDay, .. } => (452, "4.5.3"),
            Self::UsedUp { quota: Quota::BytesPerDay, .. } => (452, "4.7.1"),
            Self::UsedUp { .. } => (450, "4.7.1"),
            Self::OverQuota { quota: Quota::BytesPerDay, .. } | Self::TooLarge { .. } => (552, "5.3.4"),
            Self::OverQuota { .. } => (550, "5.7.1"),
            Self::TooManyRecipients { .. } => (452, "4.5.3"),
            Self::Route(error) => {
                let (code, enhanced, _) = error.smtp_reply();
                (code, enhanced)
            }
            Self::Message(MessageError::TooLarge { .. }) => (552, "5.3.4"),
            Self::Message(_) | Self::IdempotencyKey { .. } => (554, "5.6.0"),
        }
    }

    /// What an HTTP client is told.
    pub fn http_status(&self) -> u16 {
        match self {
            Self::NotItsAddress { .. }
            | Self::EmptyReversePath { .. }
            | Self::Recipient { .. }
            | Self::Network { .. }
            | Self::UnknownNetwork { .. }
            | Self::Disabled { .. }
            | Self::Removed { .. } => 403,
            Self::PasswordRemoved { .. } => 401,
            Self::NoSender { .. } | Self::Route(RouteError::NoRoute) => 503,
            Self::UsedUp { .. } => 429,
            Self::OverQuota { quota: Quota::BytesPerDay, .. }
            | Self::TooLarge { .. }
            | Self::Route(RouteError::TooLarge { .. } | RouteError::WouldBeRewritten { .. })
            | Self::Message(MessageError::TooLarge { .. }) => 413,
            Self::Address { .. }
            | Self::OverQuota { .. }
            | Self::TooManyRecipients { .. }
            | Self::Route(_)
            | Self::Message(_)
            | Self::IdempotencyKey { .. } => 422,
        }
    }

    /// After so long the same may be taken; `None` when waiting does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::UsedUp { wait, .. } => Some(*wait),
            _ => None,
        }
    }
}

/// `3 min`, `2 h 5 min`: rounded up, so that whoever waits so long finds room.
pub(crate) fn spoken(wait: Duration) -> String {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let minutes = seconds.div_ceil(60);
    match (seconds, minutes / 60, minutes % 60) {
        (..=90, ..) => format!("{seconds} s"),
        (_, 0, minutes) => format!("{minutes} min"),
        (_, hours, 0) => format!("{hours} h"),
        (_, hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// How long from `now` until `then`.
pub(crate) fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now).max(SignedDuration::ZERO)).unwrap_or_default()
}

impl Diagnose for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::NotItsAddress { .. } => "submission.not_its_address",
            Self::EmptyReversePath { .. } => "submission.empty_reverse_path",
            Self::Recipient { .. } => "submission.recipient_not_allowed",
            Self::Address { .. } => "submission.bad_address",
            Self::Network { .. } => "submission.network_not_allowed",
            Self::UnknownNetwork { .. } => "submission.unknown_network",
            Self::Disabled { .. } => "submission.disabled",
            Self::Removed { .. } => "submission.removed",
            Self::PasswordRemoved { .. } => "submission.password_removed",
            Self::NoSender { .. } => "submission.no_sender",
            Self::UsedUp { .. } => "submission.quota_used_up",
            Self::OverQuota { .. } => "submission.over_quota",
            Self::TooManyRecipients { .. } => "submission.too_many_recipients",
            Self::TooLarge { .. } => "submission.too_large",
            Self::Route(error) => error.code(),
            Self::Message(error) => error.code(),
            Self::IdempotencyKey { .. } => "submission.bad_idempotency_key",
        }
    }

    fn why(&self) -> Option<String> {
        match self {
            Self::Address { cause, .. } => Some(cause.to_string()),
            Self::Route(error) => error.why(),
            Self::Message(error) => error.why(),
            _ => None,
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::NotItsAddress { submitter, allowed, .. } => format!(
                "It may send as {}. Set the device or program to that, or allow more: `postkey submitter change {submitter} \
                 --also-as ADDRESS` (name those it has, too).",
                few(allowed)
            ),
            Self::EmptyReversePath { submitter } => format!(
                "Set a sender address in the device or program; or, if it has to send reports, `postkey submitter change \
                 {submitter} --also-as '<>'`: such mail goes out in the name of its sender's mailbox."
            ),
            Self::Recipient { submitter, allowed, .. } => {
                format!(
                    "It may send to {}. If more is meant: `postkey submitter change {submitter} --recipient-domain DOMAIN` (name those it has, too).",
                    few(allowed)
                )
            }
            Self::Address { .. } => "Correct the address.".into(),
            Self::Network { submitter, .. } => {
                format!(
                    "Use it from its own network, or add this one: `postkey submitter change {submitter} --network CIDR` (name those it has, too)."
                )
            }
            Self::UnknownNetwork { .. } => {
                "Sign in (AUTH, under TLS), or let a submitter be known by this network: `postkey submitter change NAME \
                 --no-auth-from CIDR`."
                    .into()
            }
            Self::Disabled { submitter } => {
                format!("Enable it (`postkey submitter enable {submitter}`), or use another.")
            }
            Self::Removed { .. } => "Use another submitter.".into(),
            Self::PasswordRemoved { .. } => "Sign in with a password that is still good.".into(),
            Self::NoSender { submitter } => {
                format!(
                    "Set its sender up (`postkey setup`), or give it another: `postkey submitter show {submitter}`."
                )
            }
            Self::UsedUp { again, .. } => format!("Try again after {again:.0}, or raise the quota."),
            Self::OverQuota { .. } => "Send it in parts, or raise the quota.".into(),
            Self::TooManyRecipients { .. } => "Send the rest in another message.".into(),
            Self::TooLarge { .. } => "Make the message smaller, or send a link to the files.".into(),
            Self::Route(error) => error.remedy(),
            Self::Message(error) => error.remedy(),
            Self::IdempotencyKey { .. } => {
                "Use 1 to 255 printable ASCII characters, another key for each message.".into()
            }
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::UsedUp { .. } => Who::Wait,
            Self::Route(error) => error.who(),
            _ => Who::You,
        }
    }

    fn evidence(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::UsedUp { again, .. } => vec![("again", again.to_string())],
            _ => Vec::new(),
        }
    }
}

/// The first few of a list.
fn few(list: &[String]) -> String {
    match list {
        [] => "nobody".into(),
        [one] => one.clone(),
        [one, two] => format!("{one} or {two}"),
        [one, two, three] => format!("{one}, {two} or {three}"),
        [one, two, three, rest @ ..] => format!("{one}, {two}, {three} or {} more", rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_spoken_and_never_too_short() {
        for (seconds, words) in [
            (0, "0 s"),
            (43, "43 s"),
            (90, "90 s"),
            (91, "2 min"),
            (3_600, "1 h"),
            (3_601, "1 h 1 min"),
            (7_500, "2 h 5 min"),
        ] {
            assert_eq!(spoken(Duration::from_secs(seconds)), words);
        }
        assert_eq!(spoken(Duration::from_millis(1_001)), "2 s");
    }

    #[test]
    fn a_refusal_tells_its_reader_what_would_be_taken() {
        let refusal = Refusal::NotItsAddress {
            submitter: "scanner".into(),
            address: "ceo@contoso.example".into(),
            place: Place::From,
            allowed: vec!["noreply@contoso.example".into(), "@reports.example".into()],
        };
        let reply = refusal.smtp_reply();
        assert_eq!(
            reply.to_string(),
            "550 5.7.1 the submitter scanner may not send as ceo@contoso.example (From). It may send as \
             noreply@contoso.example or @reports.example. Set the device or program to that, or allow more: `postkey \
             submitter change scanner --also-as ADDRESS` (name those it has, too)."
        );
        assert_eq!(refusal.http_status(), 403);
    }
}
