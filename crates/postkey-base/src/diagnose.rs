//! What a failure tells the person who meets it: what happened, why, what to do, and who must do it.

use std::{error::Error, fmt};

use serde::{Deserialize, Serialize};

/// Who must act before the failed thing can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Whoever ran the command.
    You,
    /// An owner of the app registration.
    AppOwner,
    /// An administrator of the tenant (Entra).
    TenantAdministrator,
    /// An Exchange administrator.
    ExchangeAdministrator,
    /// The owner of the mailbox or account.
    User,
    /// Whoever runs the network, the proxy or this machine.
    NetworkAdministrator,
    /// Nobody: it passes by itself.
    Wait,
    /// It is a defect of postkey.
    Postkey,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::You => "you",
            Self::AppOwner => "an owner of the app registration",
            Self::TenantAdministrator => "an administrator of the tenant",
            Self::ExchangeAdministrator => "an Exchange administrator",
            Self::User => "the owner of the mailbox",
            Self::NetworkAdministrator => "whoever runs this machine or its network",
            Self::Wait => "nobody: wait",
            Self::Postkey => "the makers of postkey: please report it",
        })
    }
}

/// An error that can say what its reader needs. `Display` says *what*, the `source` chain says *why*.
pub trait Diagnose: Error {
    /// Stable, dotted, lower case: `identity.secret_expired`. The CLI, API problems and docs share it.
    fn code(&self) -> &'static str;

    /// Why it happened, in a sentence. By default the `source` chain, outermost first.
    fn why(&self) -> Option<String> {
        let mut causes = Vec::new();
        let mut next = self.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        causes.dedup();
        (!causes.is_empty()).then(|| causes.join(": "))
    }

    /// The exact next step, with a command or a link where there is one.
    fn remedy(&self) -> String;

    /// Who must take that step.
    fn who(&self) -> Who;

    /// Facts for a support case: correlation id, trace id, request id, key id. Never a secret.
    fn evidence(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// All of it, as a value that can be stored, sent and shown.
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis {
            code: self.code().to_owned(),
            what: plain(&self.to_string()),
            why: self.why().as_deref().map(plain),
            remedy: plain(&self.remedy()),
            who: self.who(),
            evidence: self.evidence().into_iter().map(|(name, value)| (name.to_owned(), plain(&value))).collect(),
        }
    }
}

/// A text as it may be shown on a terminal: a server's words may hold commands to it.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// A [`Diagnose`] taken off its error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Stable code, as [`Diagnose::code`].
    pub code: String,
    /// What happened.
    pub what: String,
    /// Why, if known.
    pub why: Option<String>,
    /// What to do.
    pub remedy: String,
    /// Who must do it.
    pub who: Who,
    /// Ids for a support case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the server said {0}")]
    struct Said(&'static str);

    impl Diagnose for Said {
        fn code(&self) -> &'static str {
            "test.said"
        }

        fn remedy(&self) -> String {
            "None.".into()
        }

        fn who(&self) -> Who {
            Who::Wait
        }
    }

    #[test]
    fn a_servers_words_give_a_terminal_no_commands() {
        assert_eq!(Said("\u{1b}[2Jno\u{9b}1m\r\nnever").diagnosis().what, "the server said  [2Jno 1m \nnever");
    }
}
