//! The one place that knows a token's age. One request per key at a time, renewal ahead of expiry, and no token again
//! once an API has refused it.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use postkey_base::{AccessToken, ClientId, Clock, KeyId, UserObjectId};
use sha2::Digest;

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

/// Tokens by key, bounded. One per process.
pub struct TokenCache {
    clock: Clock,
    shards: [RwLock<HashMap<TokenKey, Arc<Slot>>>; SHARDS],
    shard_capacity: usize,
}

/// Few enough to be small, enough that threads seldom meet.
const SHARDS: usize = 16;

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
    /// At most about `capacity` keys; the ones whose token ends first make room.
    pub fn new(clock: Clock, capacity: usize) -> Self {
        Self { clock, shards: Default::default(), shard_capacity: capacity.div_ceil(SHARDS).max(1) }
    }

    /// The cached token if it is fresh enough, without ever asking for one.
    pub fn peek(&self, key: &TokenKey, freshness: Freshness) -> Option<AccessToken> {
        let slot = self.slot(key)?;
        match slot.look(freshness, self.clock.now()) {
            Look::Fresh(token) => Some(token),
            Look::Renew(_) | Look::Spent => None,
        }
    }

    /// The cached token, or what `fetch` brings; `fetch` gets the claims challenge to satisfy, if one is open.
    ///
    /// One caller per key fetches and the others wait for it, but while the old token lives they get that. A fetch that
    /// fails early leaves the old token in use. A failure is shared by those who waited for it and forgotten, except
    /// that nobody asks again before `Retry-After` has passed.
    ///
    /// # Errors
    /// What `fetch` failed with, when no valid token is left.
    pub async fn token<F, R>(&self, key: &TokenKey, freshness: Freshness, fetch: F) -> Result<AccessToken, TokenError>
    where
        F: FnOnce(Option<String>) -> R + Send,
        R: Future<Output = Result<Token, TokenError>> + Send,
    {
        let slot = match self.slot(key) {
            Some(slot) => slot,
            None => self.make_slot(key),
        };
        let (look, seen) = {
            let held = slot.read();
            (held.look(freshness, self.clock.now()), held.finished)
        };
        let _flight = match look {
            Look::Fresh(token) => return Ok(token),
            Look::Renew(token) => match slot.flight.try_lock() {
                Ok(flight) => flight,
                Err(_) => return Ok(token),
            },
            Look::Spent => slot.flight.lock().await,
        };
        // Whoever had the flight before us may have settled it.
        let claims = {
            let held = slot.read();
            let now = self.clock.now();
            if let Look::Fresh(token) = held.look(freshness, now) {
                return Ok(token);
            }
            if let Some(error) = held.still_failing(seen, now) {
                return held.valid(now).ok_or(error);
            }
            held.claims.clone()
        };
        let fetched = fetch(claims.clone()).await;
        slot.write().settle(fetched, claims, self.clock.now())
    }

    /// Never hands `token` out again under `key`; the next fetch gets `claims`.
    pub fn disown(&self, key: &TokenKey, token: &AccessToken, claims: Option<String>) {
        if let Some(slot) = self.slot(key) {
            slot.write().disown(token, claims);
        }
    }

    /// Drops every token of the app, as when its credential has been replaced.
    pub fn forget(&self, client: ClientId) {
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).retain(|key, _| key.client != client);
        }
    }

    /// How many keys are held.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slot(&self, key: &TokenKey) -> Option<Arc<Slot>> {
        self.shard(key).read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn make_slot(&self, key: &TokenKey) -> Arc<Slot> {
        let mut shard = self.shard(key).write().unwrap_or_else(PoisonError::into_inner);
        if !shard.contains_key(key) && shard.len() >= self.shard_capacity {
            let first_to_end = shard.iter().min_by_key(|(_, slot)| slot.read().ends()).map(|(key, _)| key.clone());
            if let Some(key) = first_to_end {
                shard.remove(&key);
            }
        }
        shard.entry(key.clone()).or_default().clone()
    }

    fn shard(&self, key: &TokenKey) -> &RwLock<HashMap<TokenKey, Arc<Slot>>> {
        // Ids are random already: no hash is needed to spread them.
        let user = key.user.map_or(0, |user| user.uuid().as_u128());
        let spread = (key.client.uuid().as_u128() ^ user) as usize;
        &self.shards[spread % SHARDS]
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenCache({} keys)", self.len())
    }
}

/// One key's token, and the right to fetch the next one.
#[derive(Default)]
struct Slot {
    held: RwLock<Held>,
    flight: tokio::sync::Mutex<()>,
}

impl Slot {
    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, freshness: Freshness, now: Timestamp) -> Look {
        self.read().look(freshness, now)
    }
}

/// What a look into a slot finds.
enum Look {
    /// Hand it out.
    Fresh(AccessToken),
    /// Hand it out, but somebody should fetch the next.
    Renew(AccessToken),
    /// Nothing to hand out.
    Spent,
}

#[derive(Default)]
struct Held {
    token: Option<Token>,
    /// Digests of tokens an API has refused, newest last.
    refused: VecDeque<[u8; 32]>,
    /// The claims challenge that the next token must satisfy.
    claims: Option<String>,
    /// Fetches that have ended; tells a waiter whether one ended while it waited.
    finished: u64,
    /// The last fetch, when it failed.
    failure: Option<Failure>,
}

struct Failure {
    error: TokenError,
    /// Which fetch it was.
    number: u64,
    /// Nobody asks before this.
    not_before: Timestamp,
}

/// An API that refuses more tokens in a row than this refuses for another reason.
const REFUSED_LIMIT: usize = 8;
/// A token with less life than this may end on its way.
const LAST_SECONDS: SignedDuration = SignedDuration::from_secs(10);
/// While the old token lives, a failed renewal is not repeated at once.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

impl Held {
    /// Pure.
    fn look(&self, freshness: Freshness, now: Timestamp) -> Look {
        let Some(token) = &self.token else { return Look::Spent };
        let life = token.expires_at.duration_since(token.received_at);
        let left = token.expires_at.duration_since(now);
        // A token that lives shorter than the margin would never be handed out: half its life must do.
        let minimum = SignedDuration::try_from(freshness.minimum_left).unwrap_or(SignedDuration::MAX).min(life / 2);
        if left <= minimum || left <= LAST_SECONDS.min(life / 2) {
            return Look::Spent;
        }
        let spared = life / 100 * i32::from(100 - freshness.renew_after_percent.min(100));
        let due = left <= spared || token.refresh_at.is_some_and(|at| at <= now);
        let resting = self.failure.as_ref().is_some_and(|failure| now < failure.not_before);
        if due && !resting { Look::Renew(token.access.clone()) } else { Look::Fresh(token.access.clone()) }
    }

    /// The token if it is valid at all.
    fn valid(&self, now: Timestamp) -> Option<AccessToken> {
        let token = self.token.as_ref()?;
        (token.expires_at.duration_since(now) > LAST_SECONDS).then(|| token.access.clone())
    }

    /// The failure that answers a caller who came when `seen` fetches had ended.
    fn still_failing(&self, seen: u64, now: Timestamp) -> Option<TokenError> {
        let failure = self.failure.as_ref()?;
        let waited_for_it = failure.number > seen;
        let must_wait = failure.error.retry_after().is_some() && now < failure.not_before;
        (waited_for_it || must_wait).then(|| failure.error.clone())
    }

    fn settle(
        &mut self,
        fetched: Result<Token, TokenError>,
        claims: Option<String>,
        now: Timestamp,
    ) -> Result<AccessToken, TokenError> {
        self.finished += 1;
        let fetched = fetched.and_then(|token| {
            let again = !self.refused.is_empty() && self.refused.contains(&digest(&token.access));
            if again { Err(TokenError::DisownedAgain) } else { Ok(token) }
        });
        match fetched {
            Ok(token) => {
                let access = token.access.clone();
                self.token = Some(token);
                self.failure = None;
                if self.claims == claims {
                    self.claims = None;
                }
                Ok(access)
            }
            Err(error) => {
                let pause = error.retry_after().unwrap_or(RENEWAL_PAUSE);
                let not_before = now.checked_add(pause).unwrap_or(now);
                self.failure = Some(Failure { error: error.clone(), number: self.finished, not_before });
                let left = self.valid(now);
                if left.is_some() {
                    // Whoever asked gets a token and never learns of it, so it is told here.
                    tracing::warn!(%error, "a token could not be renewed ahead of time; the old one serves on");
                }
                left.ok_or(error)
            }
        }
    }

    fn disown(&mut self, token: &AccessToken, claims: Option<String>) {
        let digest = digest(token);
        let known = self.refused.contains(&digest);
        let current = self.token.as_ref().is_some_and(|held| held.access.expose() == token.expose());
        if current {
            self.token = None;
        }
        // An old token's challenge says nothing about the one held now.
        if claims.is_some() && (current || known && self.token.is_none()) {
            self.claims = claims;
        }
        if !known {
            if self.refused.len() == REFUSED_LIMIT {
                self.refused.pop_front();
            }
            self.refused.push_back(digest);
        }
    }

    fn ends(&self) -> Timestamp {
        self.token.as_ref().map_or(Timestamp::MIN, |token| token.expires_at)
    }
}

fn digest(token: &AccessToken) -> [u8; 32] {
    sha2::Sha256::digest(token.expose()).into()
}

#[cfg(test)]
mod tests;
