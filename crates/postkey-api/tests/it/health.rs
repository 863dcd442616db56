//! `/healthz`, `/readyz`, `/metrics`.

use std::net::SocketAddr;

use axum::{body::Body, extract::ConnectInfo};
use postkey_store::Scope;
use serde_json::json;

use crate::house::{House, request};

#[tokio::test]
async fn whoever_watches_needs_no_key() {
    let (house, _) = House::shop().await;
    for path in ["/healthz", "/readyz"] {
        let answer = house.get("", path).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"status": "ok"})), "{path}");
    }
    house.close().await;
}

#[tokio::test]
async fn numbers_are_given_on_the_machine_itself_and_to_keys_with_that_scope() {
    let (house, _) = House::shop().await;
    let metrics = house.key("metrics", None, &[Scope::Metrics]).await;
    let send = house.key("send", Some("shop"), &[Scope::Send]).await;
    for (peer, forwarded, key, status) in [
        ("127.0.0.1:1", None, "", 200),
        ("[::1]:1", None, "", 200),
        ("[::ffff:127.0.0.1]:1", None, "", 200),
        ("127.0.0.1:1", Some("198.51.100.1"), "", 401),
        ("10.0.0.1:1", Some("127.0.0.1"), "", 401),
        ("192.0.2.1:1", None, "", 401),
        ("192.0.2.1:1", None, &send, 403),
        ("127.0.0.1:1", None, &send, 403),
        ("127.0.0.1:1", None, "pk_wrong", 401),
        ("192.0.2.1:1", None, &metrics, 200),
        ("10.0.0.1:1", Some("198.51.100.1"), &metrics, 200),
    ] {
        let mut asked = request("GET", "/metrics", key);
        if let Some(forwarded) = forwarded {
            asked = asked.header("X-Forwarded-For", forwarded);
        }
        let mut asked = asked.body(Body::empty()).unwrap();
        asked.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        let answer = house.ask(asked).await;
        assert_eq!(answer.status, status, "{peer} {forwarded:?} {key}: {answer:?}");
        if status == 200 {
            assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
            assert!(String::from_utf8_lossy(&answer.body).contains("# TYPE postkey_"), "{answer:?}");
        }
    }
    house.close().await;
}
