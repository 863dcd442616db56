//! What a refusal says about the other ways, and about limits: pure, so that a timeline can give the reason.

use std::fmt;

use postkey_graph::GraphError;
use serde::{Deserialize, Serialize};

use crate::{
    outcome::{Outcome, Report, SessionError, TransportError},
    route::{Abilities, Route},
    smtp_refusal::SmtpMeaning,
};

/// Why another way may carry what one has refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FallBackReason {
    /// SMTP AUTH is switched off, or a policy forbids it: Graph needs neither.
    SmtpAuthIsOff,
    /// The app's registration for SMTP does not hold: Graph needs none.
    SmtpSignInRefused,
    /// The submission server lacks an extension that this message needs.
    SmtpLacksExtension,
    /// Graph finds one request too large: SMTP and upload sessions have room.
    TooLargeForGraph,
    /// Graph cannot read the message: SMTP carries bytes.
    GraphCannotReadIt,
}

impl fmt::Display for FallBackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SmtpAuthIsOff => "SMTP AUTH is off, which Graph does not need",
            Self::SmtpSignInRefused => "the sign-in by SMTP was refused, which Graph does not need",
            Self::SmtpLacksExtension => "the SMTP server lacks an extension, which Graph does not need",
            Self::TooLargeForGraph => "Graph found the request too large, and another way has more room",
            Self::GraphCannotReadIt => "Graph could not read the message, which SMTP carries unread",
        })
    }
}

/// Why the way refused does not stand for all of them, if so. Only a certain refusal counts, and only one that would last:
/// what passes by itself is worth waiting for, since a second choice carries a message less faithfully. A permission that
/// was taken away is no reason either: somebody decided so and shall see it.
pub fn reason_of(route: Route, refusal: &TransportError) -> Option<FallBackReason> {
    match refusal {
        TransportError::Smtp(refused) => match refused.meaning {
            SmtpMeaning::AuthDisabledForTenant
            | SmtpMeaning::AuthDisabledForMailbox
            | SmtpMeaning::PolicyForbidsAuth => Some(FallBackReason::SmtpAuthIsOff),
            SmtpMeaning::AuthUnsuccessful => Some(FallBackReason::SmtpSignInRefused),
            _ => None,
        },
        TransportError::Session(SessionError::Missing { .. }) => Some(FallBackReason::SmtpLacksExtension),
        TransportError::Graph(error) if matches!(route, Route::GraphMime | Route::GraphJson) => match **error {
            GraphError::TooLarge(_) | GraphError::OverRequestLimit { .. } => Some(FallBackReason::TooLargeForGraph),
            GraphError::InvalidMessage(_) => Some(FallBackReason::GraphCannotReadIt),
            _ => None,
        },
        _ => None,
    }
}

/// What the sender may still do after this refusal, for one more choice; and why that is worth it. `None`: the refusal
/// holds for every way, or no other one is permitted.
pub fn fall_back(report: &Report, size: u64, abilities: &Abilities) -> Option<(Abilities, FallBackReason)> {
    let Outcome::Refused(refusal) = &report.outcome else { return None };
    let route = report.choice.as_ref()?.route;
    let because = reason_of(route, refusal)?;
    let mut left = abilities.clone();
    match because {
        FallBackReason::SmtpAuthIsOff | FallBackReason::SmtpSignInRefused | FallBackReason::SmtpLacksExtension => {
            left.smtp = false;
        }
        // Less than this message in base64: the choice goes past one request, to SMTP or to an upload session.
        FallBackReason::TooLargeForGraph => left.graph_request_limit = in_base64(size).saturating_sub(1),
        FallBackReason::GraphCannotReadIt => left.graph_send = false,
    }
    (left.faithful_limit() > 0).then_some((left, because))
}

/// A limit that a refusal has taught. Whoever keeps abilities may lower them by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lesson {
    /// The tenant takes no message above so many bytes.
    MessageLimit(u64),
    /// Graph takes no request above so many bytes.
    GraphRequestLimit(u64),
}

impl Lesson {
    /// Applies it: a limit only ever falls.
    pub fn apply(self, abilities: &mut Abilities) {
        match self {
            Self::MessageLimit(limit) => abilities.message_limit = abilities.message_limit.min(limit),
            Self::GraphRequestLimit(limit) => {
                abilities.graph_request_limit = abilities.graph_request_limit.min(limit);
            }
        }
    }
}

/// What the refusal of a message of `size` bytes teaches about limits.
pub fn lesson_of(refusal: &TransportError, size: u64) -> Option<Lesson> {
    let below = size.saturating_sub(1);
    match refusal {
        TransportError::Session(SessionError::TooLarge { limit, .. }) => Some(Lesson::MessageLimit(*limit)),
        TransportError::Smtp(refused) if refused.meaning == SmtpMeaning::TooLarge => Some(Lesson::MessageLimit(below)),
        TransportError::Graph(error) => match &**error {
            // Exchange's own word for the message; the status alone speaks of the request.
            GraphError::TooLarge(answer) if answer.says("ErrorMessageSizeExceeded") => {
                Some(Lesson::MessageLimit(below))
            }
            GraphError::TooLarge(_) => Some(Lesson::GraphRequestLimit(in_base64(size).saturating_sub(1))),
            _ => None,
        },
        _ => None,
    }
}

fn in_base64(size: u64) -> u64 {
    size.div_ceil(3) * 4
}

#[cfg(test)]
#[path = "fall_back_tests.rs"]
mod tests;
