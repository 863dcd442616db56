//! How fast a cached token is handed out, on one core, and how many requests a thousand callers of a cold key make.
//! Run it with `--release`; `--json` prints one line for programs.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use postkey_base::{AccessToken, ClientId, Clock, KeyId};
use postkey_identity::{Cloud, Freshness, TenantRef, Token, TokenCache, TokenKey};

const LOOKUPS: u32 = 2_000_000;
const CALLERS: usize = 1000;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers always builds");
    let clock = Clock::real();
    let cache = Arc::new(TokenCache::new(clock.clone(), 1000));
    let keys: Vec<TokenKey> = (0..50).map(|_| key()).collect();

    let (each, requests) = runtime.block_on(async {
        for key in &keys {
            cache.token(key, Freshness::GRAPH, |_| async { Ok(token(&clock)) }).await.expect("the fetch succeeds");
        }
        let started = Instant::now();
        for turn in 0..LOOKUPS {
            let key = &keys[turn as usize % keys.len()];
            let unused = |_: Option<String>| async { unreachable!("the key is warm") };
            black_box(cache.token(key, Freshness::GRAPH, unused).await.expect("the key is warm"));
        }
        let each = started.elapsed() / LOOKUPS;

        let cold = key();
        let requests = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (cache, cold, requests, clock) = (cache.clone(), cold.clone(), requests.clone(), clock.clone());
                tokio::spawn(async move {
                    let fetch = |_| async {
                        requests.fetch_add(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        Ok(token(&clock))
                    };
                    cache.token(&cold, Freshness::GRAPH, fetch).await.is_ok()
                })
            })
            .collect();
        for caller in callers {
            assert!(caller.await.expect("no caller panics"));
        }
        (each, requests.load(Ordering::SeqCst))
    });

    let per_second = Duration::from_secs(1).as_nanos() / each.as_nanos().max(1);
    if std::env::args().any(|argument| argument == "--json") {
        println!(
            "{{\"lookups_per_second\":{per_second},\"nanoseconds_each\":{},\"cold_callers\":{CALLERS},\"cold_requests\":{requests}}}",
            each.as_nanos()
        );
    } else {
        println!("cached token look-ups on one core: {per_second} per second ({} ns each)", each.as_nanos());
        println!("{CALLERS} concurrent callers on a cold key: {requests} token request(s)");
    }
}

fn key() -> TokenKey {
    let tenant: TenantRef = "contoso.example".parse().expect("a domain");
    TokenKey::app(&Cloud::global(), tenant, ClientId::random(), KeyId::random(), Cloud::global().graph_scope())
}

/// As long as Entra's are.
fn token(clock: &Clock) -> Token {
    Token {
        access: AccessToken::new("x".repeat(1800)),
        received_at: clock.now(),
        expires_at: clock.now() + SignedDuration::from_secs(3600),
        refresh_at: None,
        refresh: None,
        id: None,
        scope: None,
        client_info: None,
    }
}
