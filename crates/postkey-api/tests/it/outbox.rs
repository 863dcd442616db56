//! `/v1/outbox`.

use postkey_store::SubmitterRules;
use serde_json::{Value, json};

use crate::house::{ALL, House};

fn subjects(page: &Value) -> Vec<&str> {
    page["messages"].as_array().unwrap().iter().map(|one| one["subject"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn messages_are_found_by_what_is_known_of_them_and_by_pages() {
    let (house, key) = House::shop().await;
    for subject in ["one", "two", "three"] {
        house.sent(&key, subject).await;
    }
    for (query, expected) in [
        ("", vec!["three", "two", "one"]),
        ("?subject=TWO", vec!["two"]),
        ("?text=fabrikam&limit=2", vec!["three", "two"]),
        ("?recipient=ada@fabrikam.example&state=queued", vec!["three", "two", "one"]),
        ("?recipient=bob@fabrikam.example", vec![]),
        ("?state=accepted", vec![]),
        ("?state=held", vec![]),
        ("?sender=reports&submitter=shop", vec!["three", "two", "one"]),
        ("?sender=billing", vec![]),
        ("?sender=nobody", vec![]),
        ("?submitter=nobody", vec![]),
        ("?since=2099-01-01T00:00:00Z", vec![]),
        ("?until=2099-01-01T00:00:00Z&state=queued&limit=1", vec!["three"]),
    ] {
        let answer = house.get(&key, &format!("/v1/outbox{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        assert_eq!(subjects(&answer.json()), expected, "{query}");
    }
    for query in ["limit=2", "limit=2&state=queued"] {
        let first = house.get(&key, &format!("/v1/outbox?{query}")).await.json();
        let cursor = first["next"].as_str().expect("there is more");
        let second = house.get(&key, &format!("/v1/outbox?{query}&cursor={cursor}")).await.json();
        assert_eq!((subjects(&first), subjects(&second)), (vec!["three", "two"], vec!["one"]), "{query}");
        assert_eq!(second["next"], Value::Null, "{query}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_key_of_a_submitter_sees_only_what_that_one_handed_in() {
    let (house, key) = House::shop().await;
    house.submitter("other", SubmitterRules::default()).await;
    let other = house.key("other-key", Some("other"), &ALL).await;
    let everybodys = house.key("all", None, &ALL).await;
    let id = house.sent(&key, "mine").await;
    for path in ["", "/content"] {
        let path = format!("/v1/outbox/{id}{path}");
        assert_eq!(house.get(&key, &path).await.status, 200);
        assert_eq!(house.get(&everybodys, &path).await.status, 200);
        assert_eq!(house.get(&other, &path).await.code(), "api.no_such_message");
    }
    for step in ["retry", "cancel"] {
        let answer = house.json("POST", &other, &format!("/v1/outbox/{id}/{step}"), &Value::Null).await;
        assert_eq!(answer.code(), "api.no_such_message", "{step}");
    }
    assert_eq!(house.get(&other, "/v1/outbox").await.json()["messages"], json!([]));
    assert_eq!(house.get(&other, "/v1/outbox?submitter=shop").await.json()["messages"], json!([]));
    assert_eq!(subjects(&house.get(&everybodys, "/v1/outbox").await.json()), ["mine"]);
    let many = house.json("POST", &other, "/v1/outbox/retry", &json!({"ids": [id]})).await;
    assert_eq!(many.json(), json!({"retried": [], "unchanged": [id]}));
    house.close().await;
}

#[tokio::test]
async fn a_message_is_shown_with_its_timeline_and_its_bytes() {
    let (house, key) = House::shop().await;
    let id = house.sent(&key, "hello").await;
    let shown = house.get(&key, &format!("/v1/outbox/{id}")).await.json();
    assert_eq!(shown["message"]["state"], "queued");
    assert_eq!(shown["message"]["sender"], "reports");
    assert_eq!(shown["message"]["submitter"], "shop");
    assert_eq!(shown["message"]["recipients"], json!([{"address": "ada@fabrikam.example"}]));
    assert_eq!(shown["has_content"], true);
    let event = &shown["timeline"][0];
    assert_eq!(event["number"], 1);
    assert_eq!(event["detail"]["facts"]["api_key"], "shop-key");
    let content = house.get(&key, &format!("/v1/outbox/{id}/content")).await;
    assert_eq!(content.header("content-type"), "message/rfc822");
    assert_eq!(content.header("content-disposition"), format!("attachment; filename=\"{id}.eml\""));
    assert!(String::from_utf8_lossy(&content.body).contains("Subject: hello"));
    house.close().await;
}

#[tokio::test]
async fn a_message_is_withdrawn_sent_again_and_given_another_time_only_where_its_state_allows() {
    let (house, key) = House::shop().await;
    let id = house.sent(&key, "hello").await;
    let step = async |step: &str| house.json("POST", &key, &format!("/v1/outbox/{id}/{step}"), &Value::Null).await;
    let time = json!({"not_before": "2099-01-01T00:00:00Z"});
    let path = format!("/v1/outbox/{id}");
    let rescheduled = house.json("PATCH", &key, &path, &time).await;
    assert_eq!(rescheduled.status, 200, "{rescheduled:?}");
    assert_eq!(rescheduled.json()["message"]["state"], "scheduled");
    assert_eq!(rescheduled.json()["message"]["due_at"], "2099-01-01T00:00:00Z");
    assert_eq!(subjects(&house.get(&key, "/v1/outbox?state=scheduled").await.json()), ["hello"]);
    let cancelled = step("cancel").await;
    assert_eq!((cancelled.status.as_u16(), &cancelled.json()["message"]["state"]), (200, &json!("cancelled")));
    let again = step("cancel").await;
    assert_eq!((again.status.as_u16(), again.code().as_str()), (409, "api.wrong_state"));
    assert!(again.json()["detail"].as_str().unwrap().contains("is cancelled and cannot be cancelled"));
    assert_eq!(house.json("PATCH", &key, &path, &time).await.status, 409);
    let retried = step("retry").await;
    assert_eq!((retried.status.as_u16(), &retried.json()["message"]["state"]), (200, &json!("queued")));
    let kinds: Vec<_> = retried.json()["timeline"].as_array().unwrap().iter().map(|e| e["kind"].clone()).collect();
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    step("cancel").await;
    let unknown = "019aa8f1-6c1e-7a55-9d0f-0d2c0e4b7a11";
    let many = house.json("POST", &key, "/v1/outbox/retry", &json!({"ids": [id, unknown]})).await;
    assert_eq!(many.json(), json!({"retried": [id], "unchanged": [unknown]}));
    house.close().await;
}
