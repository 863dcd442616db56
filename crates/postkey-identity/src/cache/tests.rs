use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use postkey_base::clock::TimeSource;

use super::*;

/// A clock the test turns.
pub(crate) struct Turned(Mutex<Timestamp>);

impl Turned {
    fn at_start() -> (Arc<Self>, Clock) {
        let turned = Arc::new(Self(Mutex::new("2026-03-01T10:00:00Z".parse().unwrap())));
        (turned.clone(), Clock::following(turned))
    }

    fn by(&self, seconds: i64) {
        let mut now = self.0.lock().unwrap();
        *now += SignedDuration::from_secs(seconds);
    }
}

impl TimeSource for Turned {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

fn key() -> TokenKey {
    let client = "11111111-1111-4111-8111-111111111111".parse().unwrap();
    let id = "22222222-2222-4222-8222-222222222222".parse().unwrap();
    TokenKey::app(&Cloud::global(), TenantRef::organizations(), client, id, Cloud::global().graph_scope())
}

/// A token of an hour, named.
fn token(name: &str, clock: &Clock) -> Token {
    Token {
        access: AccessToken::new(name.into()),
        received_at: clock.now(),
        expires_at: clock.now() + SignedDuration::from_secs(3600),
        refresh_at: None,
        refresh: None,
        id: None,
        scope: None,
        client_info: None,
    }
}

fn throttled(seconds: u64) -> TokenError {
    TokenError::Throttled { retry_after: Duration::from_secs(seconds), refusal: None }
}

fn down() -> TokenError {
    TokenError::Unavailable { status: Some(503), retry_after: None, refusal: None }
}

/// Asks the cache; `answer` is what a fetch would bring. Says what came, and with which claims a fetch was made.
async fn ask(
    cache: &TokenCache,
    answer: Result<Token, TokenError>,
) -> (Result<String, TokenError>, Option<Option<String>>) {
    let fetched = Mutex::new(None);
    let got = cache
        .token(&key(), Freshness::GRAPH, |claims| {
            *fetched.lock().unwrap() = Some(claims);
            async { answer }
        })
        .await;
    (got.map(|token| token.expose().to_owned()), fetched.into_inner().unwrap())
}

#[tokio::test]
async fn a_thousand_callers_of_a_cold_key_make_one_request() {
    let (_, clock) = Turned::at_start();
    let cache = Arc::new(TokenCache::new(clock.clone(), 100));
    let requests = Arc::new(AtomicUsize::new(0));
    let open = Arc::new(tokio::sync::Notify::new());
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let (cache, requests, open, clock) = (cache.clone(), requests.clone(), open.clone(), clock.clone());
            tokio::spawn(async move {
                let fetch = |_| async {
                    requests.fetch_add(1, Ordering::SeqCst);
                    open.notified().await;
                    Ok(token("one", &clock))
                };
                cache.token(&key(), Freshness::GRAPH, fetch).await.unwrap().expose().to_owned()
            })
        })
        .collect();
    while requests.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    open.notify_one();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "one");
    }
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn those_who_wait_for_a_failing_request_share_its_failure() {
    let (_, clock) = Turned::at_start();
    let cache = Arc::new(TokenCache::new(clock, 100));
    let requests = Arc::new(AtomicUsize::new(0));
    let open = Arc::new(tokio::sync::Semaphore::new(0));
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (cache, requests, open) = (cache.clone(), requests.clone(), open.clone());
            tokio::spawn(async move {
                let fetch = |_| async {
                    requests.fetch_add(1, Ordering::SeqCst);
                    let _open = open.acquire().await;
                    Err(down())
                };
                cache.token(&key(), Freshness::GRAPH, fetch).await
            })
        })
        .collect();
    while requests.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // On one thread, all callers have come by the time the first has asked and this task runs again.
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    open.add_permits(1);
    for caller in callers {
        assert!(matches!(caller.await.unwrap(), Err(TokenError::Unavailable { .. })));
    }
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_token_is_renewed_ahead_and_the_old_one_serves_until_then() {
    let (time, clock) = Turned::at_start();
    let cache = TokenCache::new(clock.clone(), 100);
    assert_eq!(ask(&cache, Ok(token("first", &clock))).await.0.unwrap(), "first");
    for (turn, answer, want, asked) in [
        (2870, Ok("unused"), "first", false),
        (20, Err(down()), "first", true), // after 80 %: the renewal fails, the old one serves
        (10, Ok("unused"), "first", false), // and nobody asks again at once
        (30, Ok("second"), "second", true),
        (10, Ok("unused"), "second", false),
        (3700, Ok("third"), "third", true), // spent
        (3540, Err(down()), "third", true), // within the margin, still valid
    ] {
        time.by(turn);
        let (got, fetched) = ask(&cache, answer.map(|name| token(name, &clock))).await;
        assert_eq!((got.unwrap().as_str(), fetched.is_some()), (want, asked), "after {turn} s more");
    }
    time.by(60);
    assert!(ask(&cache, Err(down())).await.0.is_err(), "an ended token is not handed out");
}

#[tokio::test]
async fn entras_advice_to_renew_is_taken() {
    let (time, clock) = Turned::at_start();
    let cache = TokenCache::new(clock.clone(), 100);
    let advised = Token { refresh_at: Some(clock.now() + SignedDuration::from_secs(600)), ..token("first", &clock) };
    ask(&cache, Ok(advised)).await.0.unwrap();
    time.by(601);
    assert_eq!(ask(&cache, Ok(token("second", &clock))).await.0.unwrap(), "second");
}

#[tokio::test]
async fn nobody_asks_again_before_retry_after() {
    let (time, clock) = Turned::at_start();
    let cache = TokenCache::new(clock.clone(), 100);
    assert!(ask(&cache, Err(throttled(60))).await.0.is_err());
    time.by(59);
    let (got, fetched) = ask(&cache, Ok(token("early", &clock))).await;
    assert!(matches!(got, Err(TokenError::Throttled { .. })) && fetched.is_none());
    time.by(2);
    assert_eq!(ask(&cache, Ok(token("late", &clock))).await.0.unwrap(), "late");
}

#[tokio::test]
async fn other_failures_are_not_remembered() {
    let (_, clock) = Turned::at_start();
    let cache = TokenCache::new(clock.clone(), 100);
    assert!(ask(&cache, Err(down())).await.0.is_err());
    assert_eq!(ask(&cache, Ok(token("now", &clock))).await.0.unwrap(), "now");
}

#[tokio::test]
async fn a_disowned_token_never_comes_again_and_its_claims_go_along() {
    let (_, clock) = Turned::at_start();
    let cache = TokenCache::new(clock.clone(), 100);
    ask(&cache, Ok(token("bad", &clock))).await.0.unwrap();
    let bad = AccessToken::new("bad".into());
    cache.disown(&key(), &bad, Some("{\"c\":1}".into()));
    assert!(cache.peek(&key(), Freshness::GRAPH).is_none());
    let (got, fetched) = ask(&cache, Ok(token("bad", &clock))).await;
    assert!(matches!(got, Err(TokenError::DisownedAgain)), "{got:?}");
    assert_eq!(fetched, Some(Some("{\"c\":1}".into())));
    let (got, fetched) = ask(&cache, Ok(token("good", &clock))).await;
    assert_eq!((got.unwrap().as_str(), fetched), ("good", Some(Some("{\"c\":1}".into()))));
    // A latecomer disowns the old one: the new one is not touched.
    cache.disown(&key(), &bad, Some("{\"c\":2}".into()));
    assert_eq!(cache.peek(&key(), Freshness::GRAPH).unwrap().expose(), "good");
}

#[tokio::test]
async fn a_caller_who_gives_up_lets_the_next_one_ask() {
    let (_, clock) = Turned::at_start();
    let cache = TokenCache::new(clock.clone(), 100);
    let key = key();
    {
        let mut stuck = Box::pin(cache.token(&key, Freshness::GRAPH, |_| std::future::pending()));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(stuck.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(ask(&cache, Ok(token("next", &clock))).await.0.unwrap(), "next");
}

#[tokio::test]
async fn the_cache_stays_within_its_bound_and_forgets_an_app() {
    let (_, clock) = Turned::at_start();
    let cache = TokenCache::new(clock.clone(), 64);
    let mut last = ClientId::random();
    for _ in 0..500 {
        last = ClientId::random();
        let scope = Cloud::global().graph_scope();
        let key = TokenKey::app(&Cloud::global(), TenantRef::organizations(), last, KeyId::random(), scope);
        cache.token(&key, Freshness::GRAPH, |_| async { Ok(token("x", &clock)) }).await.unwrap();
    }
    let full = cache.len();
    assert!(full <= 64, "{full}");
    cache.forget(last);
    assert_eq!(cache.len(), full - 1);
}

proptest::proptest! {
    #[test]
    fn no_token_is_handed_out_past_its_end(life in 1_i64..100_000, passed in 0_i64..200_000, percent in 0_u8..=120, minimum in 0_u64..10_000) {
        let (time, clock) = Turned::at_start();
        let mut held = Held::default();
        let expires_at = clock.now() + SignedDuration::from_secs(life);
        held.token = Some(Token { expires_at, ..token("x", &clock) });
        time.by(passed);
        let freshness = Freshness { renew_after_percent: percent, minimum_left: Duration::from_secs(minimum) };
        let spent = matches!(held.look(freshness, clock.now()), Look::Spent);
        proptest::prop_assert!(spent || passed < life);
        proptest::prop_assert!(!spent || passed * 2 >= life || life - passed <= 10 || (life - passed) <= minimum as i64);
        proptest::prop_assert!(passed > 0 || !spent, "a token just got is always handed out");
    }
}
