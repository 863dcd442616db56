//! Why nobody is let in: wrong, locked out, ended, or not from there.

use std::time::Duration;

use jiff::Timestamp;
use postkey_base::{Diagnose, Who};
use postkey_smtp::{EnhancedCode, Reply};

use crate::{
    lockout::Network,
    refusal::{Refusal, spoken},
};

/// Nobody is let in with this name and password, or with this key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginRefusal {
    /// No such name, or not its password.
    #[error("the name or the password is wrong")]
    Wrong {
        /// Wait so long before saying it.
        wait: Duration,
    },
    /// No such key.
    #[error("the API key is unknown")]
    UnknownKey {
        /// Wait so long before saying it.
        wait: Duration,
    },
    /// Too many failures from there.
    #[error("too many failed sign-ins from {network}; the next one is looked at in {}", spoken(*.wait))]
    Locked {
        /// From where.
        network: Network,
        /// Until when.
        until: Timestamp,
        /// The same, from now.
        wait: Duration,
    },
    /// The key has ended.
    #[error("the API key {name} ended on {ended:.0}")]
    KeyEnded {
        /// Its name.
        name: String,
        /// When.
        ended: Timestamp,
    },
    /// The key is switched off.
    #[error("the API key {name} is disabled")]
    KeyDisabled {
        /// Its name.
        name: String,
    },
    /// The right password, and still not: disabled, or from the wrong network.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl LoginRefusal {
    /// Wait so long before saying it: each failure costs the guesser more.
    pub fn delay(&self) -> Duration {
        match self {
            Self::Wrong { wait } | Self::UnknownKey { wait } => *wait,
            _ => Duration::ZERO,
        }
    }

    /// After so long the same may be let in; `None` when waiting does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Locked { wait, .. } => Some(*wait),
            _ => None,
        }
    }

    /// What an SMTP client is told.
    pub fn smtp_reply(&self) -> Reply {
        let (code, enhanced) = match self {
            // RFC 4954 §6
            Self::Wrong { .. } | Self::UnknownKey { .. } => (535, "5.7.8"),
            Self::Locked { .. } => (454, "4.7.0"),
            // RFC 5248 §2.4
            Self::KeyDisabled { .. } | Self::KeyEnded { .. } => (525, "5.7.13"),
            Self::Refused(Refusal::Disabled { .. }) => (525, "5.7.13"),
            Self::Refused(refusal) => return refusal.smtp_reply(),
        };
        let text = format!("{self}. {}", self.remedy());
        Reply::new(code, EnhancedCode::parse(enhanced), [text])
    }

    /// What an HTTP client is told.
    pub fn http_status(&self) -> u16 {
        match self {
            Self::Locked { .. } => 429,
            Self::Refused(refusal) => refusal.http_status(),
            _ => 401,
        }
    }
}

impl Diagnose for LoginRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::Wrong { .. } => "submission.wrong_password",
            Self::UnknownKey { .. } => "submission.unknown_key",
            Self::Locked { .. } => "submission.locked_out",
            Self::KeyEnded { .. } => "submission.key_ended",
            Self::KeyDisabled { .. } => "submission.key_disabled",
            Self::Refused(refusal) => refusal.code(),
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Wrong { .. } => "Check both; a lost password is replaced by `postkey submitter rotate NAME`.".into(),
            Self::UnknownKey { .. } => "Check it; `postkey api-key list` shows which there are.".into(),
            Self::Locked { .. } => "Correct the password meanwhile; the lock ends by itself.".into(),
            Self::KeyEnded { .. } | Self::KeyDisabled { .. } => "Make another: `postkey api-key add`.".into(),
            Self::Refused(refusal) => refusal.remedy(),
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::Locked { .. } => Who::Wait,
            Self::Refused(refusal) => refusal.who(),
            _ => Who::You,
        }
    }
}
