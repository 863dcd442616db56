//! Every refusal as its reader gets it.

use std::fmt::Write;

use axum::body::Body;
use http::header;
use postkey_store::Scope;

use crate::house::{House, request};

#[tokio::test]
async fn every_refusal_says_what_why_what_to_do_and_who() {
    let (house, key) = House::shop().await;
    let read = house.key("read", Some("shop"), &[Scope::OutboxRead]).await;
    let unbound = house.key("unbound", None, &[Scope::Send]).await;
    let json = "application/json";
    let to = r#"{"to":["a@x.example"]}"#;
    let id = "019aa8f1-6c1e-7a55-9d0f-0d2c0e4b7a11";
    let show = format!("/v1/outbox/{id}");
    let mut text = String::new();
    for (method, path, key, kind, more, body) in [
        ("POST", "/v1/send", "", json, None, to),
        ("POST", "/v1/send", "pk_wrong", json, None, to),
        ("POST", "/v1/send", &*read, json, None, to),
        ("POST", "/v1/send", &unbound, json, None, to),
        ("POST", "/v1/send", &key, "text/plain", None, to),
        ("POST", "/v1/send", &key, "", None, to),
        ("POST", "/v1/send", &key, json, Some(("accept", "text/html")), to),
        ("POST", "/v1/send", &key, json, Some(("host", "evil.example")), to),
        ("POST", "/v1/send", &key, json, Some(("idempotency-key", "")), to),
        ("POST", "/v1/send?to=alice", &key, json, None, to),
        ("POST", "/v1/send?urgent=1", &key, json, None, to),
        ("POST", "/v1/send", &key, json, None, ""),
        ("POST", "/v1/send", &key, json, None, "{"),
        ("POST", "/v1/send", &key, json, None, "{}"),
        ("POST", "/v1/send", &key, json, None, r#"{"to":["alice"]}"#),
        ("POST", "/v1/send", &key, json, None, r#"{"to":["a@x.example"],"urgent":true}"#),
        ("POST", "/v1/send", &key, json, None, r#"{"to":["a@x.example"],"subject":"a\r\nBcc: b@x.example"}"#),
        ("POST", "/v1/send", &key, json, None, r#"{"to":["a@x.example"],"headers":{"Bcc":"b@x.example"}}"#),
        ("POST", "/v1/send", &key, json, None, r#"{"to":["a@x.example"],"attachments":[{"name":"a","content":"%"}]}"#),
        ("POST", "/v1/send", &key, json, None, r#"{"to":["a@x.example"],"from":"ceo@contoso.example"}"#),
        ("POST", "/v1/send", &key, json, None, r#"{"to":["a@x.example"],"sender":"payroll"}"#),
        ("POST", "/v1/send", &key, "message/rfc822", None, "hello there\r\n"),
        ("POST", "/v1/send", &key, "message/rfc822", None, "Subject: hello\r\n\r\n"),
        ("POST", "/v1/send", &key, "message/rfc822", None, "From: ceo@contoso.example\r\nTo: a@x.example\r\n\r\n"),
        ("GET", "/v1/outbox?limit=0", &key, "", None, ""),
        ("GET", "/v1/outbox?state=lost", &key, "", None, ""),
        ("GET", "/v1/outbox?cursor=1", &key, "", None, ""),
        ("GET", &show, &key, "", None, ""),
        ("GET", "/v1/outbox/x", &key, "", None, ""),
        ("PATCH", &show, &key, json, None, "{}"),
        ("POST", "/v1/outbox/retry", &key, json, None, r#"{"ids":[]}"#),
        ("POST", "/v1/pauses", &key, json, None, r#"{"scope":"domain","name":"x.example"}"#),
        ("DELETE", "/v1/pauses/submitter/shop", &key, "", None, ""),
        ("DELETE", "/v1/pauses/galaxy/x", &key, "", None, ""),
        ("GET", "/v1/senders/nobody", &key, "", None, ""),
        ("GET", "/v1/nothing", &key, "", None, ""),
        ("PUT", "/v1/send", &key, "", None, ""),
    ] {
        let mut asked = request(method, path, key);
        if !kind.is_empty() {
            asked = asked.header(header::CONTENT_TYPE, kind);
        }
        if let Some((name, value)) = more {
            asked = asked.header(name, value);
        }
        let answer = house.ask(asked.body(Body::from(body.to_owned())).unwrap()).await;
        let problem = answer.json();
        let field = |name: &str| problem[name].as_str().unwrap_or("-").to_owned();
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], answer.status.as_u16());
        assert_eq!(field("instance"), format!("urn:uuid:{}", answer.header("x-request-id")));
        assert_eq!(field("type"), format!("/problems/{}", field("code")));
        let shown = [kind, body].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ");
        let more = more.map_or(String::new(), |(name, value)| format!(" {name}: {value:?}"));
        let _ = writeln!(
            text,
            "{method} {path}{more} {shown:?}\n    {} {}\n    {}\n    {} ({})",
            answer.status,
            field("code"),
            field("detail"),
            field("remedy"),
            field("who")
        );
        assert_eq!(answer.header("www-authenticate").is_empty(), answer.status != 401, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    insta::assert_snapshot!("refusals", text);
    house.close().await;
}
