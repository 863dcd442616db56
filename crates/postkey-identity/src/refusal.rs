//! An error answer of the login host as it came, and what we had asked for.

use std::{fmt, sync::Arc, time::Duration};

use jiff::SignedDuration;
use postkey_base::{ClientId, CorrelationId};

use crate::{aadsts, cloud::Cloud, endpoint::host_of, error::TokenError, tenant::TenantRef};

/// Which grant was asked for: an app's own failure never becomes a user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grant {
    /// The app for itself.
    ClientCredentials,
    /// A user's sign-in being completed.
    AuthorizationCode,
    /// A user's consent being used again.
    RefreshToken,
    /// A user's sign-in on another device.
    DeviceCode,
    /// None: the tenant's public description was asked for.
    Discovery,
}

/// What was asked, where, for whom.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Cloud, for links.
    pub cloud: Arc<Cloud>,
    /// Tenant as asked.
    pub tenant: TenantRef,
    /// App.
    pub client: ClientId,
    /// Grant.
    pub grant: Grant,
    /// Scope as asked, empty where none was.
    pub scope: String,
    /// Redirect URI, where one was sent.
    pub redirect: Option<String>,
}

/// The fields of an OAuth error answer (RFC 6749 §5.2, with Entra's own).
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What was asked.
    pub context: RequestContext,
    /// HTTP status; `None` when the refusal came by redirect.
    pub status: Option<u16>,
    /// `error`: what programs branch on.
    pub error: String,
    /// `suberror`, which names the step a person must take.
    pub suberror: Option<String>,
    /// `error_codes`, AADSTS numbers. They refine a message and may change at any time.
    pub codes: Vec<u32>,
    /// The sentence of `error_description`, without the ids that trail it.
    pub text: String,
    /// `claims`: to be passed through in the next authorize request.
    pub claims: Option<String>,
    /// Ours, as echoed.
    pub correlation_id: Option<CorrelationId>,
    /// Entra's id of the request.
    pub trace_id: Option<String>,
    /// Entra's time of the request, as written.
    pub timestamp: Option<String>,
    /// From `Retry-After`.
    pub retry_after: Option<Duration>,
    /// How far our clock was ahead of the answer's `Date`.
    pub skew: Option<SignedDuration>,
}

impl RequestContext {
    pub(crate) fn unexpected(&self, status: u16, problem: &'static str) -> TokenError {
        TokenError::UnexpectedAnswer { host: host_of(&self.cloud.login), status, problem }
    }
}

impl Refusal {
    /// What the catalogue says about the first known number.
    pub fn entry(&self) -> Option<&'static aadsts::Entry> {
        self.codes.iter().find_map(|&code| aadsts::lookup(code))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.codes.first() {
            write!(f, "AADSTS{code}: ")?;
        } else {
            write!(f, "{}: ", self.error)?;
        }
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}
