//! The one place that knows a token's age. One request per key at a time, renewal ahead of expiry, and no token again
//! once an API has refused it.

use std::{future::Future, time::Duration};

use postkey_base::{AccessToken, ClientId, Clock, KeyId, UserObjectId};

use crate::{cloud::Cloud, error::TokenError, scope::Scope, tenant::TenantRef, token::Token};

/// What a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenKey {
    login: String,
    tenant: TenantRef,
    client: ClientId,
    credential: Option<KeyId>,
    user: Option<UserObjectId>,
    scope: Scope,
}

/// How fresh a token must be for an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Part of the token's life, in percent, after which it is renewed ahead of time.
    pub renew_after_percent: u8,
    /// Least life left in a token that is handed out.
    pub minimum_left: Duration,
}

/// Tokens by key, bounded.
pub struct TokenCache {
    clock: Clock,
    capacity: usize,
}

impl TokenKey {
    /// An app's own token.
    pub fn app(cloud: &Cloud, tenant: TenantRef, client: ClientId, credential: KeyId, scope: Scope) -> Self {
        let login = cloud.login.to_string();
        Self { login, tenant, client, credential: Some(credential), user: None, scope }
    }

    /// A user's token.
    pub fn user(cloud: &Cloud, tenant: TenantRef, client: ClientId, user: UserObjectId, scope: Scope) -> Self {
        let login = cloud.login.to_string();
        Self { login, tenant, client, credential: None, user: Some(user), scope }
    }
}

impl Freshness {
    /// Graph checks the token once per request.
    pub const GRAPH: Self = Self { renew_after_percent: 80, minimum_left: Duration::from_secs(120) };
    /// SMTP and IMAP check it once per connection, which may be slow to come about.
    pub const MAIL: Self = Self { renew_after_percent: 80, minimum_left: Duration::from_secs(300) };
}

impl TokenCache {
    /// At most `capacity` keys.
    pub fn new(clock: Clock, capacity: usize) -> Self {
        Self { clock, capacity }
    }

    /// The cached token, or what `fetch` brings; `fetch` gets the claims challenge to satisfy, if one is open.
    ///
    /// # Errors
    /// What `fetch` failed with, when no valid token is left.
    pub async fn token<F, R>(&self, key: &TokenKey, freshness: Freshness, fetch: F) -> Result<AccessToken, TokenError>
    where
        F: FnOnce(Option<String>) -> R + Send,
        R: Future<Output = Result<Token, TokenError>> + Send,
    {
        let _ = (key, freshness, fetch, &self.clock, self.capacity);
        unimplemented!()
    }

    /// Never hands `token` out again under `key`; the next fetch gets `claims`.
    pub fn disown(&self, key: &TokenKey, token: &AccessToken, claims: Option<String>) {
        let _ = (key, token, claims);
        unimplemented!()
    }

    /// Drops every token of the app, as when its credential has been replaced.
    pub fn forget(&self, client: ClientId) {
        let _ = client;
        unimplemented!()
    }
}
