//! Why there is no token: one variant per situation. Programs ask the enum, never the text.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{
    credential::CredentialError,
    network::NetworkError,
    refusal::{Grant, Refusal},
};

/// Entra's own pause for a request loop.
const LOOP_PAUSE: Duration = Duration::from_secs(60);

/// Whose failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The app's registration, credential or permissions: users do nothing, mail is held.
    App,
    /// One user must sign in or consent.
    User,
    /// The tenant's policy or existence.
    Tenant,
    /// The way there.
    Network,
    /// It passes by itself.
    Wait,
}

/// Why a person must sign in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignInReason {
    /// Multi-factor authentication is asked for.
    MultiFactor,
    /// The code was used twice, is too old, or belongs elsewhere.
    CodeSpent,
    /// The refresh token has aged out.
    TokenExpired,
    /// The refresh token is broken or not for this.
    TokenInvalid,
    /// Sessions were revoked, or the password changed.
    Revoked,
    /// A policy asks for a sign-in from time to time.
    SignInFrequency,
    /// Wrong name or password.
    Password,
    /// Entra wants a person and does not say why.
    Unspecified,
}

/// Why the login host gave us no token.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(clippy::large_enum_variant)]
pub enum TokenError {
    /// The secret presented is past its end date.
    #[error("the client secret of app {} has expired{}", .refusal.context.client, on_day(*.ended))]
    SecretExpired {
        /// When, as far as we know.
        ended: Option<Timestamp>,
        /// The answer.
        #[source]
        refusal: Box<Refusal>,
    },
    /// Not a secret of this app: mistyped, removed, or too new.
    #[error("Entra does not accept the client secret of app {}", .refusal.context.client)]
    SecretWrong {
        /// What was presented looks like a Secret ID, not like a Value.
        looks_like_id: bool,
        /// The answer.
        #[source]
        refusal: Box<Refusal>,
    },
    /// The app needs a credential and none was sent.
    #[error("app {} needs a credential, and none was sent", .0.context.client)]
    CredentialMissing(#[source] Box<Refusal>),
    /// The app is registered as public.
    #[error("app {} is registered as a public client and may not present a credential", .0.context.client)]
    ClientIsPublic(#[source] Box<Refusal>),
    /// The certificate is not on the app.
    #[error("Entra does not know the certificate of app {}", .0.context.client)]
    CertificateUnknown(#[source] Box<Refusal>),
    /// Revoked, out of its dates, or its subject is not allowed.
    #[error("Entra no longer accepts the certificate of app {}", .0.context.client)]
    CertificateUnusable(#[source] Box<Refusal>),
    /// The assertion's times do not hold: the clock is off.
    #[error("Entra finds the signed request outside its valid time{}", clock_is_off(*.skew))]
    AssertionTime {
        /// How far our clock is ahead.
        skew: Option<SignedDuration>,
        /// The answer.
        #[source]
        refusal: Box<Refusal>,
    },
    /// Any other `invalid_client`.
    #[error("Entra refused the credential of app {}", .0.context.client)]
    CredentialRefused(#[source] Box<Refusal>),
    /// No such app in the tenant.
    #[error("there is no app {} in tenant {}", .0.context.client, .0.context.tenant)]
    AppNotFound(#[source] Box<Refusal>),
    /// The app or its service principal is disabled.
    #[error("app {} is disabled in tenant {}", .0.context.client, .0.context.tenant)]
    AppDisabled(#[source] Box<Refusal>),
    /// Any other `unauthorized_client`.
    #[error("app {} may not do this", .0.context.client)]
    AppNotAllowed(#[source] Box<Refusal>),
    /// No such tenant in this cloud.
    #[error("there is no tenant {} in the {} cloud", .0.context.tenant, .0.context.cloud.name)]
    TenantNotFound(#[source] Box<Refusal>),
    /// The request needs one tenant, not `organizations` or `common`.
    #[error("this sign-in needs the tenant's own address instead of {}", .0.context.tenant)]
    TenantRequired(#[source] Box<Refusal>),
    /// The login host does not know itself by that name.
    #[error("{} is not a login host of this cloud", .0.context.cloud.login)]
    WrongLoginHost(#[source] Box<Refusal>),
    /// The API is unknown or off in the tenant.
    #[error("the API in scope {:?} is not available in tenant {}", .0.context.scope, .0.context.tenant)]
    InvalidResource(#[source] Box<Refusal>),
    /// The API gives tokens only to apps with a role.
    #[error("app {} holds no role at the API in scope {:?}", .0.context.client, .0.context.scope)]
    RoleRequired(#[source] Box<Refusal>),
    /// The scope is wrong.
    #[error("scope {:?} is not valid", .0.context.scope)]
    InvalidScope(#[source] Box<Refusal>),
    /// Nobody has consented.
    #[error("nobody has consented to app {}", .0.context.client)]
    ConsentMissing(#[source] Box<Refusal>),
    /// Only an administrator can consent.
    #[error("app {} needs the consent of an administrator", .0.context.client)]
    AdminConsentRequired(#[source] Box<Refusal>),
    /// A person declined.
    #[error("the sign-in or consent for app {} was declined", .0.context.client)]
    ConsentDeclined(#[source] Box<Refusal>),
    /// A policy of the tenant.
    #[error("a policy of tenant {} blocks the sign-in", .0.context.tenant)]
    ConditionalAccess(#[source] Box<Refusal>),
    /// The user must sign in.
    #[error("the user must sign in again")]
    NeedsSignIn {
        /// Why.
        reason: SignInReason,
        /// The answer.
        #[source]
        refusal: Box<Refusal>,
    },
    /// The account does not exist here, is locked, disabled or not assigned.
    #[error("the account cannot sign in to tenant {}", .0.context.tenant)]
    AccountRefused(#[source] Box<Refusal>),
    /// The redirect URI is not registered, or under another platform.
    #[error("the redirect URI {} is not registered for app {}", .0.context.redirect.as_deref().unwrap_or("(none)"), .0.context.client)]
    RedirectMismatch(#[source] Box<Refusal>),
    /// We asked too often without using what we got.
    #[error("Entra stopped a request loop of app {}", .0.context.client)]
    RequestLoop(#[source] Box<Refusal>),
    /// Entra would not take the request as written.
    #[error("Entra refused the request as malformed")]
    MalformedRequest(#[source] Box<Refusal>),
    /// An `error` this version does not know.
    #[error("Entra refused with {:?}", .0.error)]
    Unclassified(#[source] Box<Refusal>),
    /// The person at the device said no.
    #[error("the device sign-in was declined")]
    DeviceCodeDeclined(#[source] Box<Refusal>),
    /// Nobody typed the code in time.
    #[error("the device code was not used in time")]
    DeviceCodeExpired,
    /// The caller gave up.
    #[error("the sign-in was cancelled")]
    Cancelled,
    /// 429.
    #[error("Entra is throttling the app")]
    Throttled {
        /// Wait at least so long.
        retry_after: Duration,
        /// The answer, when it had a body to read.
        #[source]
        refusal: Option<Box<Refusal>>,
    },
    /// 5xx, `temporarily_unavailable`, `server_error`.
    #[error("Entra is unavailable{}", status_said(*.status))]
    Unavailable {
        /// HTTP status.
        status: Option<u16>,
        /// From `Retry-After`.
        retry_after: Option<Duration>,
        /// The answer, when it had a body to read.
        #[source]
        refusal: Option<Box<Refusal>>,
    },
    /// No answer.
    #[error("the login host cannot be reached")]
    Network(#[source] NetworkError),
    /// The answer is not what the protocol promises.
    #[error("{host} answered with something that is no token answer (HTTP {status})")]
    UnexpectedAnswer {
        /// Login host.
        host: String,
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The ID token is not for us.
    #[error("the ID token does not fit the sign-in: {problem}")]
    IdTokenRejected {
        /// What does not fit.
        problem: &'static str,
    },
    /// An answer to a sign-in that was not ours.
    #[error("the browser brought the answer to another sign-in")]
    StateMismatch,
    /// A credential of ours could not even be presented.
    #[error("the app's credential cannot be presented")]
    Credential(#[source] CredentialError),
    /// The token held in memory has ended or was refused.
    #[error("the administrator's sign-in has ended")]
    FixedTokenEnded,
    /// The login host gave again a token that the API has refused.
    #[error("Entra gave the same token again that the API had refused")]
    DisownedAgain,
}

impl TokenError {
    /// Whose failure it is. An app-only grant's failure is never a user's.
    pub fn class(&self) -> Class {
        let class = match self {
            Self::SecretExpired { .. }
            | Self::SecretWrong { .. }
            | Self::CredentialMissing(_)
            | Self::ClientIsPublic(_)
            | Self::CertificateUnknown(_)
            | Self::CertificateUnusable(_)
            | Self::AssertionTime { .. }
            | Self::CredentialRefused(_)
            | Self::AppNotFound(_)
            | Self::AppDisabled(_)
            | Self::AppNotAllowed(_)
            | Self::TenantRequired(_)
            | Self::WrongLoginHost(_)
            | Self::InvalidResource(_)
            | Self::RoleRequired(_)
            | Self::InvalidScope(_)
            | Self::RedirectMismatch(_)
            | Self::MalformedRequest(_)
            | Self::Unclassified(_)
            | Self::IdTokenRejected { .. }
            | Self::Credential(_) => Class::App,
            Self::TenantNotFound(_) | Self::ConditionalAccess(_) | Self::AdminConsentRequired(_) => Class::Tenant,
            Self::ConsentMissing(_)
            | Self::ConsentDeclined(_)
            | Self::NeedsSignIn { .. }
            | Self::AccountRefused(_)
            | Self::DeviceCodeDeclined(_)
            | Self::DeviceCodeExpired
            | Self::Cancelled
            | Self::StateMismatch
            | Self::FixedTokenEnded => Class::User,
            Self::RequestLoop(_) | Self::Throttled { .. } | Self::Unavailable { .. } | Self::DisownedAgain => {
                Class::Wait
            }
            Self::Network(_) | Self::UnexpectedAnswer { .. } => Class::Network,
        };
        match (class, self.refusal().map(|refusal| refusal.context.grant)) {
            (Class::User, Some(Grant::ClientCredentials)) => Class::App,
            _ => class,
        }
    }

    /// Whether the same request may succeed by itself later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Network(error) => error.is_transient(),
            // A 5xx without JSON is `Unavailable`; anything else unreadable is something else answering.
            Self::UnexpectedAnswer { .. } => false,
            _ => self.class() == Class::Wait,
        }
    }

    /// Wait at least so long before the next request.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } => Some(*retry_after),
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::RequestLoop(refusal) => Some(refusal.retry_after.unwrap_or(LOOP_PAUSE)),
            _ => None,
        }
    }

    /// Whether another credential of the same app may do better (RFC 6749 `invalid_client`, or ours cannot be shown).
    pub fn concerns_credential(&self) -> bool {
        matches!(
            self,
            Self::SecretExpired { .. }
                | Self::SecretWrong { .. }
                | Self::CertificateUnknown(_)
                | Self::CertificateUnusable(_)
                | Self::CredentialRefused(_)
                | Self::Credential(_)
        )
    }

    /// The same, with what is known of the credential that was presented.
    #[must_use]
    pub fn of_credential_ending(mut self, ends: Option<Timestamp>) -> Self {
        if let Self::SecretExpired { ended, .. } = &mut self {
            *ended = ended.or(ends);
        }
        self
    }

    /// The answer behind it, with correlation id, trace id, claims and suberror.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::SecretExpired { refusal, .. }
            | Self::SecretWrong { refusal, .. }
            | Self::CredentialMissing(refusal)
            | Self::ClientIsPublic(refusal)
            | Self::CertificateUnknown(refusal)
            | Self::CertificateUnusable(refusal)
            | Self::AssertionTime { refusal, .. }
            | Self::CredentialRefused(refusal)
            | Self::AppNotFound(refusal)
            | Self::AppDisabled(refusal)
            | Self::AppNotAllowed(refusal)
            | Self::TenantNotFound(refusal)
            | Self::TenantRequired(refusal)
            | Self::WrongLoginHost(refusal)
            | Self::InvalidResource(refusal)
            | Self::RoleRequired(refusal)
            | Self::InvalidScope(refusal)
            | Self::ConsentMissing(refusal)
            | Self::AdminConsentRequired(refusal)
            | Self::ConsentDeclined(refusal)
            | Self::ConditionalAccess(refusal)
            | Self::NeedsSignIn { refusal, .. }
            | Self::AccountRefused(refusal)
            | Self::RedirectMismatch(refusal)
            | Self::RequestLoop(refusal)
            | Self::MalformedRequest(refusal)
            | Self::Unclassified(refusal)
            | Self::DeviceCodeDeclined(refusal) => Some(refusal),
            Self::Throttled { refusal, .. } | Self::Unavailable { refusal, .. } => refusal.as_deref(),
            Self::DeviceCodeExpired
            | Self::Cancelled
            | Self::Network(_)
            | Self::UnexpectedAnswer { .. }
            | Self::IdTokenRejected { .. }
            | Self::StateMismatch
            | Self::Credential(_)
            | Self::FixedTokenEnded
            | Self::DisownedAgain => None,
        }
    }
}

fn on_day(ended: Option<Timestamp>) -> String {
    ended.map_or_else(String::new, |ended| format!(" on {}", ended.strftime("%Y-%m-%d")))
}

fn status_said(status: Option<u16>) -> String {
    status.map_or_else(String::new, |status| format!(" (HTTP {status})"))
}

fn clock_is_off(skew: Option<SignedDuration>) -> String {
    skew.map_or_else(String::new, |skew| format!(": this machine's clock differs by {} s", skew.as_secs()))
}
