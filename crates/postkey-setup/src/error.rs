//! Why a setup stopped. Whatever was reached is kept: the same command goes on from there.

use std::time::Duration;

use jiff::Timestamp;
use postkey_base::{Diagnose, EmailAddress, Who};
use postkey_graph::GraphError;
use postkey_identity::{CertificateError, TokenError};
use postkey_store::StoreError;
use postkey_transport::TransportError;

use crate::{connection::ConnectionError, sign_in::SignInError};

/// Why a setup stopped.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Nobody signed in.
    #[error(transparent)]
    SignIn(#[from] SignInError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// CA file, TLS, an incomplete sender.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// No key could be made.
    #[error("no certificate could be made")]
    Certificate(#[source] CertificateError),
    /// Graph refused a step for good.
    #[error("postkey could not {step}")]
    Graph {
        /// In words.
        step: &'static str,
        /// What Graph said.
        #[source]
        cause: Box<GraphError>,
    },
    /// Entra refused the new credential for good, or never came to accept it.
    #[error("Entra gives no token for the new credential")]
    Token(#[source] Box<TokenError>),
    /// The tenant did not catch up in time.
    #[error("the tenant did not let postkey {step} within {} min", .waited.as_secs().div_ceil(60))]
    NotSettled {
        /// In words.
        step: &'static str,
        /// For how long it was tried.
        waited: Duration,
        /// The last answer.
        #[source]
        cause: Box<GraphError>,
    },
    /// Two at once would each make a credential.
    #[error("setup {setup:?} is running already{}", in_process(*.process))]
    AlreadyRunning {
        /// Which.
        setup: String,
        /// The process that runs it, on whichever machine; 0 when that is not known.
        process: u32,
        /// Until when it holds its turn unless it holds it longer.
        until: Timestamp,
    },
    /// The signed-in account belongs elsewhere.
    #[error("the administrator signed in to tenant {signed_in}, not to {wanted}")]
    OtherTenant {
        /// Where to.
        signed_in: String,
        /// Where it should have been.
        wanted: String,
    },
    /// An API without the role.
    #[error("{api} offers no permission {permission} in this tenant")]
    NotOffered {
        /// Which.
        permission: &'static str,
        /// Whose.
        api: &'static str,
    },
    /// The app may still not send as the mailbox.
    #[error("the app may not send as {mailbox}")]
    MayNotSend {
        /// Which.
        mailbox: EmailAddress,
        /// Whether an Exchange administrator has to allow it.
        limited: bool,
        /// What Exchange said last.
        #[source]
        cause: Option<Box<GraphError>>,
    },
    /// The test message did not go out.
    #[error("the test message was not accepted")]
    Test(#[source] Box<TransportError>),
    /// No trustworthy answer to the test message.
    #[error("it is not known whether the test message was accepted: {0}")]
    TestUnknown(String),
}

fn in_process(id: u32) -> String {
    if id == 0 { String::new() } else { format!(", in process {id}") }
}

impl SetupError {
    fn inner(&self) -> Option<&dyn Diagnose> {
        match self {
            Self::SignIn(cause) => Some(cause),
            Self::Store(cause) => Some(cause),
            Self::Connection(cause) => Some(cause),
            Self::Graph { cause, .. } | Self::NotSettled { cause, .. } => Some(&**cause),
            Self::Token(cause) => Some(&**cause),
            Self::Test(cause) => Some(&**cause),
            Self::MayNotSend { cause: Some(cause), .. } => Some(&**cause),
            _ => None,
        }
    }
}

impl Diagnose for SetupError {
    fn code(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "setup.certificate",
            Self::NotSettled { .. } => "setup.not_settled",
            Self::AlreadyRunning { .. } => "setup.already_running",
            Self::OtherTenant { .. } => "setup.other_tenant",
            Self::NotOffered { .. } => "setup.not_offered",
            Self::MayNotSend { .. } => "setup.may_not_send",
            Self::TestUnknown(_) => "setup.test_unknown",
            _ => self.inner().map_or("setup.failed", Diagnose::code),
        }
    }

    fn why(&self) -> Option<String> {
        match self {
            // These show the inner error as their own message.
            Self::SignIn(_) | Self::Store(_) | Self::Connection(_) => self.inner().and_then(Diagnose::why),
            _ => {
                let mut causes = Vec::new();
                let mut next = std::error::Error::source(self);
                while let Some(cause) = next {
                    causes.push(cause.to_string());
                    next = cause.source();
                }
                causes.dedup();
                (!causes.is_empty()).then(|| causes.join(": "))
            }
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Certificate(_) => "Run the command again.".into(),
            Self::NotSettled { .. } => {
                "Run the same command again in some minutes: it goes on where it stopped and makes nothing twice."
                    .into()
            }
            Self::AlreadyRunning { until, .. } => format!(
                "Let it end, or stop it, and run the command again. If it was killed on another machine, its turn ends at {}.",
                until.strftime("%H:%M:%S UTC")
            ),
            Self::OtherTenant { wanted, .. } => {
                format!("Sign in with an administrator's account of {wanted}, or give another --tenant.")
            }
            Self::NotOffered { permission, .. } => {
                format!("Leave {permission} out, or ask Microsoft why the tenant lacks it.")
            }
            Self::MayNotSend { limited: true, mailbox, .. } => format!(
                "Have an Exchange administrator run the commands shown above for {mailbox}; they take 30 minutes to 2 hours to \
                 work. Then run the same command again."
            ),
            Self::MayNotSend { mailbox, .. } => format!(
                "Check that {mailbox} has an Exchange Online mailbox and that no application access policy excludes it; then run the \
                 same command again."
            ),
            Self::TestUnknown(_) => {
                "Look for the test message in the recipient's mailbox, then run the same command again.".into()
            }
            _ => self.inner().map_or_else(|| "Run the command again.".to_owned(), Diagnose::remedy),
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::Certificate(_) | Self::OtherTenant { .. } | Self::TestUnknown(_) | Self::NotOffered { .. } => {
                Who::You
            }
            Self::NotSettled { .. } | Self::AlreadyRunning { .. } => Who::Wait,
            Self::MayNotSend { .. } => Who::ExchangeAdministrator,
            _ => self.inner().map_or(Who::You, Diagnose::who),
        }
    }

    fn evidence(&self) -> Vec<(&'static str, String)> {
        self.inner().map(Diagnose::evidence).unwrap_or_default()
    }
}
