//! Where callers get tokens from, without knowing how.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use postkey_base::{AccessToken, ClientId, Clock, KeyId};

use crate::{
    cache::{Freshness, TokenCache, TokenKey},
    credential::{ClientCredential, CredentialError},
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

/// Tokens of an app by client credentials: the newest credential first, and another one when it is refused.
pub struct AppTokens {
    endpoint: TokenEndpoint,
    cache: Arc<TokenCache>,
    tenant: TenantRef,
    client: ClientId,
    scope: Scope,
    freshness: Freshness,
    candidates: RwLock<Arc<[Candidate]>>,
}

struct Candidate {
    held: HeldCredential,
    key: TokenKey,
    /// Unix second until which Entra's refusal is taken for a fact; 0: never refused.
    refused_until: AtomicI64,
}

/// A new credential is known everywhere in Entra within about a minute.
const REFUSAL_HOLDS_SECONDS: i64 = 60;
/// An app has one credential, or two while they are being exchanged.
const MOST_TRIED: usize = 3;

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
        let none: Arc<[Candidate]> = Arc::new([]);
        let tokens = Self { endpoint, cache, tenant, client, scope, freshness, candidates: RwLock::new(none) };
        tokens.set_credentials(credentials);
        tokens
    }

    /// Takes the app's credentials of now; tokens got by others stay valid but are no longer looked up.
    pub fn set_credentials(&self, mut credentials: Vec<HeldCredential>) {
        // Newest first; of two that start together, the one that lasts.
        credentials.sort_by_key(|held| std::cmp::Reverse((held.starts, held.ends)));
        let candidate = |held: HeldCredential| Candidate {
            key: TokenKey::app(self.endpoint.cloud(), self.tenant.clone(), self.client, held.id, self.scope.clone()),
            held,
            refused_until: AtomicI64::new(0),
        };
        let candidates = credentials.into_iter().map(candidate).collect();
        *self.candidates.write().unwrap_or_else(PoisonError::into_inner) = candidates;
    }

    fn candidates(&self) -> Arc<[Candidate]> {
        self.candidates.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(&self) -> Result<AccessToken, TokenError> {
        let candidates = self.candidates();
        let now = self.endpoint.clock().now();
        let mut order: Vec<&Candidate> = candidates.iter().collect();
        // Those that look good first; the others too, because our record of them may be wrong. Stable: newest first.
        order.sort_by_key(|candidate| candidate.doubts(now));
        let mut first_refusal = None;
        for candidate in order.into_iter().take(MOST_TRIED) {
            let credential = &candidate.held.credential;
            let fetched = self.cache.token(&candidate.key, self.freshness, |claims| async move {
                let claims = claims.as_deref();
                self.endpoint.client_credentials(&self.tenant, self.client, credential, &self.scope, claims).await
            });
            match fetched.await {
                Ok(token) => {
                    candidate.refused_until.store(0, Ordering::Relaxed);
                    return Ok(token);
                }
                Err(error) if error.concerns_credential() => {
                    candidate.refused_until.store(now.as_second() + REFUSAL_HOLDS_SECONDS, Ordering::Relaxed);
                    // A date still to come was noted wrongly: Entra knows better.
                    let ended = candidate.held.ends.filter(|ends| *ends <= now);
                    first_refusal.get_or_insert(error.of_credential_ending(ended));
                }
                Err(error) => return Err(error),
            }
        }
        Err(first_refusal.unwrap_or(TokenError::Credential(CredentialError::None)))
    }
}

impl Candidate {
    /// 0: nothing speaks against it.
    fn doubts(&self, now: Timestamp) -> u8 {
        let ended = self.held.ends.is_some_and(|ends| ends <= now);
        let early = self.held.starts.is_some_and(|starts| now < starts);
        let refused = now.as_second() < self.refused_until.load(Ordering::Relaxed);
        u8::from(refused) + 2 * u8::from(ended || early)
    }
}

impl TokenSource for AppTokens {
    fn token(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        let now = self.endpoint.clock().now();
        let best = self.candidates();
        let best = best.iter().min_by_key(|candidate| candidate.doubts(now));
        match best.and_then(|candidate| self.cache.peek(&candidate.key, self.freshness)) {
            Some(token) => Box::pin(std::future::ready(Ok(token))),
            None => Box::pin(self.fetch()),
        }
    }

    fn disown<'a>(&'a self, token: &'a AccessToken, claims: Option<String>) -> BoxFuture<'a, ()> {
        for candidate in self.candidates().iter() {
            self.cache.disown(&candidate.key, token, claims.clone());
        }
        Box::pin(std::future::ready(()))
    }
}

impl fmt::Debug for AppTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppTokens({} in {}, {})", self.client, self.tenant, self.scope)
    }
}

/// A token held in memory and never stored: an administrator's during setup.
pub struct FixedToken {
    token: AccessToken,
    expires_at: Timestamp,
    clock: Clock,
    refused: AtomicBool,
}

impl FixedToken {
    /// Good until `expires_at`.
    pub fn new(token: AccessToken, expires_at: Timestamp, clock: Clock) -> Self {
        Self { token, expires_at, clock, refused: AtomicBool::new(false) }
    }
}

impl TokenSource for FixedToken {
    fn token(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        let ended = self.refused.load(Ordering::Relaxed) || self.expires_at <= self.clock.now();
        let token = if ended { Err(TokenError::FixedTokenEnded) } else { Ok(self.token.clone()) };
        Box::pin(std::future::ready(token))
    }

    fn disown<'a>(&'a self, token: &'a AccessToken, _claims: Option<String>) -> BoxFuture<'a, ()> {
        if token.expose() == self.token.expose() {
            self.refused.store(true, Ordering::Relaxed);
        }
        Box::pin(std::future::ready(()))
    }
}

impl fmt::Debug for FixedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FixedToken(until {})", self.expires_at)
    }
}
