//! Where callers get tokens from, without knowing how.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use postkey_base::{AccessToken, ClientId, Clock, KeyId};

use crate::{
    cache::{Freshness, TokenCache},
    credential::ClientCredential,
    endpoint::TokenEndpoint,
    error::TokenError,
    scope::Scope,
    tenant::TenantRef,
};

/// Hands out tokens for one app or user and one resource.
pub trait TokenSource: Send + Sync {
    /// A token that is good for now.
    fn token(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>>;

    /// The API refused `token` by 401, perhaps with a claims challenge (JSON, already decoded): it is never handed out
    /// again, and the next request for a token carries the claims.
    fn disown<'a>(&'a self, token: &'a AccessToken, claims: Option<String>) -> BoxFuture<'a, ()>;
}

/// A credential we hold for an app.
#[derive(Debug, Clone)]
pub struct HeldCredential {
    /// Graph's `keyId`, or an id of our own where Graph has not told it.
    pub id: KeyId,
    /// Valid from, when known.
    pub starts: Option<Timestamp>,
    /// Valid until, when known.
    pub ends: Option<Timestamp>,
    /// The proof itself.
    pub credential: ClientCredential,
}

/// Tokens of an app by client credentials: the newest credential first, and another valid one when it is refused.
pub struct AppTokens {
    _endpoint: TokenEndpoint,
}

impl AppTokens {
    /// Sources of one process share `cache`.
    pub fn new(
        endpoint: TokenEndpoint,
        cache: Arc<TokenCache>,
        tenant: TenantRef,
        client: ClientId,
        credentials: Vec<HeldCredential>,
        scope: Scope,
        freshness: Freshness,
    ) -> Self {
        let _ = (cache, tenant, client, credentials, scope, freshness);
        Self { _endpoint: endpoint }
    }

    /// Takes the app's credentials of now; tokens got by others stay valid but are no longer looked up.
    pub fn set_credentials(&self, credentials: Vec<HeldCredential>) {
        let _ = credentials;
        unimplemented!()
    }
}

impl TokenSource for AppTokens {
    fn token(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        unimplemented!()
    }

    fn disown<'a>(&'a self, token: &'a AccessToken, claims: Option<String>) -> BoxFuture<'a, ()> {
        let _ = (token, claims);
        unimplemented!()
    }
}

/// A token held in memory and never stored: an administrator's during setup.
pub struct FixedToken {
    _clock: Clock,
}

impl FixedToken {
    /// Good until `expires_at`.
    pub fn new(token: AccessToken, expires_at: Timestamp, clock: Clock) -> Self {
        let _ = (token, expires_at);
        Self { _clock: clock }
    }
}

impl TokenSource for FixedToken {
    fn token(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        unimplemented!()
    }

    fn disown<'a>(&'a self, token: &'a AccessToken, claims: Option<String>) -> BoxFuture<'a, ()> {
        let _ = (token, claims);
        unimplemented!()
    }
}
