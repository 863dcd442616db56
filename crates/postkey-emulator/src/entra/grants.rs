//! What sign-ins leave behind: authorization codes, refresh tokens, device codes and the browser's session.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use crate::world::random_text;

/// The resource and delegated permissions a sign-in is for.
#[derive(Debug, Clone)]
pub(crate) struct Scopes {
    /// `aud` of the token.
    pub(crate) audience: String,
    /// Client id of the API.
    pub(crate) resource: Uuid,
    /// Names asked for, without the resource; `.default` stands for whatever is granted.
    pub(crate) names: Vec<String>,
    /// How the resource was spelt before each name; empty = not spelt.
    pub(crate) prefix: String,
    /// `openid`, `profile`, `email` and `offline_access` as asked for.
    pub(crate) oidc: Vec<String>,
}

impl Scopes {
    pub(crate) fn wants(&self, oidc: &str) -> bool {
        self.oidc.iter().any(|name| name == oidc)
    }
}

/// An authorization code.
#[derive(Debug, Clone)]
pub(crate) struct Code {
    pub(crate) tenant: Uuid,
    pub(crate) app_id: Uuid,
    pub(crate) user: Uuid,
    pub(crate) redirect_uri: String,
    pub(crate) redirect_kind: RedirectKind,
    pub(crate) scopes: Scopes,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) nonce: Option<String>,
    pub(crate) issued: Timestamp,
    pub(crate) redeemed: bool,
}

/// A PKCE challenge.
#[derive(Debug, Clone)]
pub(crate) struct Challenge {
    pub(crate) value: String,
    /// Method S256; else plain.
    pub(crate) hashed: bool,
}

/// Under which platform a redirect URI is registered; it decides how a code may be redeemed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RedirectKind {
    Web,
    Spa,
    Public,
}

/// A refresh token.
#[derive(Debug, Clone)]
pub(crate) struct Refresh {
    pub(crate) tenant: Uuid,
    pub(crate) app_id: Uuid,
    pub(crate) user: Uuid,
    pub(crate) issued: Timestamp,
    /// When the user signed in; what is revoked counts from here.
    pub(crate) signed_in: Timestamp,
    /// Single page app: fixed end 24 hours after sign-in.
    pub(crate) fixed_end: Option<Timestamp>,
    /// Won by a client that had to prove itself, and so must whoever redeems this.
    pub(crate) confidential: bool,
    /// Revoked by the administrator or by a test.
    pub(crate) revoked: bool,
    pub(crate) scopes: Scopes,
}

/// A device code.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) tenant_key: String,
    pub(crate) app_id: Uuid,
    pub(crate) scope: String,
    pub(crate) user_code: String,
    pub(crate) issued: Timestamp,
    pub(crate) state: DeviceState,
}

/// How far a device sign-in has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceState {
    Pending,
    Declined,
    Approved { tenant: Uuid, user: Uuid },
    Redeemed,
}

/// A browser that has signed in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) tenant: Uuid,
    pub(crate) user: Uuid,
    pub(crate) signed_in: Timestamp,
}

/// All of them, each under its secret text.
#[derive(Debug, Default)]
pub struct Grants {
    pub(crate) codes: Kept<Code>,
    pub(crate) refresh_tokens: Kept<Refresh>,
    pub(crate) devices: Kept<Device>,
    pub(crate) sessions: Kept<Session>,
    /// Browsers between two pages.
    pub(crate) flows: Kept<super::flow::Flow>,
    /// Moments of token requests, per app, for throttling.
    pub(crate) recent: BTreeMap<Uuid, Vec<Timestamp>>,
    /// Keys (JWKS entries) of issuers whose federated tokens are to be verified.
    pub(crate) federated_issuers: BTreeMap<String, Vec<serde_json::Value>>,
    /// What a sign-in of an app meets in a tenant, for tests: e.g. 53003.
    pub(crate) app_refusals: BTreeMap<(Uuid, Uuid), u32>,
}

impl Grants {
    /// Federated tokens of this issuer must be signed with one of these keys from now on.
    pub fn trust_issuer(&mut self, issuer: String, keys: Vec<serde_json::Value>) {
        self.federated_issuers.insert(issuer, keys);
    }

    /// Every refresh token of a user is worthless from now on (70000).
    pub fn forget_refresh_tokens(&mut self, user: Uuid) {
        for token in self.refresh_tokens.values_mut().filter(|token| token.user == user) {
            token.revoked = true;
        }
    }

    /// What an app's own sign-ins in a tenant meet; None = nothing.
    pub fn refuse_app(&mut self, tenant: Uuid, app_id: Uuid, number: Option<u32>) {
        match number {
            Some(number) => self.app_refusals.insert((tenant, app_id), number),
            None => self.app_refusals.remove(&(tenant, app_id)),
        };
    }
}

/// How many of each are kept; beyond it the oldest go.
const KEPT: usize = 20_000;

/// Values under random keys, bounded, the oldest forgotten first.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    values: BTreeMap<String, (u64, T)>,
    order: std::collections::VecDeque<String>,
    next: u64,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), order: std::collections::VecDeque::new(), next: 0 }
    }
}

impl<T> Kept<T> {
    /// Keeps a value under a fresh key that starts with `prefix` and is `length` characters long.
    pub(crate) fn keep(&mut self, prefix: &str, length: usize, value: T) -> String {
        let key = format!("{prefix}{}", random_text(length.saturating_sub(prefix.len())));
        if self.order.len() == KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
        self.next += 1;
        self.order.push_back(key.clone());
        self.values.insert(key.clone(), (self.next, value));
        key
    }

    pub(crate) fn find(&self, key: &str) -> Option<&T> {
        self.values.get(key).map(|(_, value)| value)
    }

    pub(crate) fn find_mut(&mut self, key: &str) -> Option<&mut T> {
        self.values.get_mut(key).map(|(_, value)| value)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &T)> {
        self.values.iter().map(|(key, (_, value))| (key.as_str(), value))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.values_mut().map(|(_, value)| value)
    }
}
