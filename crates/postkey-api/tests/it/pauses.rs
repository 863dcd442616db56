//! `/v1/pauses`.

use axum::body::Body;
use postkey_store::SubmitterRules;
use serde_json::{Value, json};

use crate::house::{ALL, House, request};

#[tokio::test]
async fn what_is_paused_is_listed_holds_its_mail_and_can_be_ended() {
    let (house, key) = House::shop().await;
    let all = house.key("all", None, &ALL).await;
    house.sent(&key, "hello").await;
    for (scope, name, shown) in [
        ("sender", "reports", "reports"),
        ("submitter", "shop", "shop"),
        ("domain", "Fabrikam.example", "fabrikam.example"),
    ] {
        let body = json!({"scope": scope, "name": name, "reason": "moving", "until": "2099-01-01T00:00:00Z"});
        let made = house.json("POST", &all, "/v1/pauses", &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(made.header("location"), format!("/v1/pauses/{scope}/{shown}"));
        let pause = made.json();
        assert_eq!((&pause["name"], &pause["cause"], &pause["by"]), (&json!(shown), &json!("paused"), &json!("all")));
        let list = house.get(&all, "/v1/pauses").await.json();
        assert_eq!(list["pauses"], json!([pause]));
        let held = house.get(&key, "/v1/outbox?state=held").await.json();
        assert_eq!(held["messages"][0]["held"]["reason"], "moving", "{scope}: {held}");
        let ended = house.ask(request("DELETE", made.header("location"), &all).body(Body::empty()).unwrap()).await;
        assert_eq!(ended.status, 204, "{ended:?}");
        let gone = house.ask(request("DELETE", made.header("location"), &all).body(Body::empty()).unwrap()).await;
        assert_eq!(gone.code(), "api.not_found");
        assert_eq!(house.get(&key, "/v1/outbox?state=held").await.json()["messages"], json!([]));
    }
    house.close().await;
}

#[tokio::test]
async fn what_is_not_there_cannot_be_paused_and_a_submitters_key_pauses_only_its_own_mail() {
    let (house, key) = House::shop().await;
    house.submitter("other", SubmitterRules::default()).await;
    let all = house.key("all", None, &ALL).await;
    for (key, scope, name, status) in [
        (&all, "sender", "nobody", 404),
        (&all, "submitter", "nobody", 404),
        (&all, "tenant", "contoso.example", 404),
        (&all, "tenant", "3fa85f64-5717-4562-b3fc-2c963f66afa6", 404),
        (&all, "domain", "-", 404),
        (&key, "sender", "reports", 403),
        (&key, "domain", "fabrikam.example", 403),
        (&key, "submitter", "other", 404),
        (&key, "submitter", "shop", 201),
    ] {
        let answer = house.json("POST", key, "/v1/pauses", &json!({"scope": scope, "name": name})).await;
        assert_eq!(answer.status, status, "{scope} {name}: {answer:?}");
    }
    let past = json!({"scope": "submitter", "name": "shop", "until": "2001-01-01T00:00:00Z"});
    assert_eq!(house.json("POST", &key, "/v1/pauses", &past).await.code(), "api.past");
    let listed = house.get(&key, "/v1/pauses").await.json();
    assert_eq!(listed["pauses"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["pauses"][0]["reason"], "paused with the API key shop-key");
    assert_eq!(listed["pauses"][0]["until"], Value::Null);
    house.close().await;
}

#[tokio::test]
async fn a_submitters_key_ends_its_own_pause_and_nobody_elses() {
    let (house, key) = House::shop().await;
    let all = house.key("all", None, &ALL).await;
    let shop = "/v1/pauses/submitter/shop";
    for (by, ends, status) in [(&key, &key, 204), (&key, &all, 204), (&all, &key, 403), (&all, &all, 204)] {
        let made = house.json("POST", by, "/v1/pauses", &json!({"scope": "submitter", "name": "shop"})).await;
        assert_eq!(made.status, 201, "{made:?}");
        let ended = house.ask(request("DELETE", shop, ends).body(Body::empty()).unwrap()).await;
        assert_eq!(ended.status, status, "{ended:?}");
        if status == 403 {
            assert_eq!(ended.code(), "api.bound_key");
            let soon = json!({"scope": "submitter", "name": "shop", "until": "2099-01-01T00:00:00Z"});
            assert_eq!(house.json("POST", ends, "/v1/pauses", &soon).await.code(), "api.bound_key");
            assert_eq!(house.get(&all, "/v1/pauses").await.json()["pauses"][0]["until"], Value::Null);
        }
    }
    house.close().await;
}
