//! `/v1/senders`.

use postkey_store::{NewSubmitter, SubmitterRules};
use serde_json::{Value, json};

use crate::house::{ALL, House};

#[tokio::test]
async fn a_sender_is_shown_with_what_it_lacks_what_waits_and_what_holds_it() {
    let (house, key) = House::shop().await;
    let all = house.key("all", None, &ALL).await;
    house.sent(&key, "hello").await;
    let shown = house.get(&all, "/v1/senders/reports").await.json();
    assert_eq!((&shown["stage"], &shown["missing"]), (&json!("incomplete"), &json!(["credential"])));
    assert_eq!((&shown["messages"]["queued"], &shown["held"]), (&json!(1), &json!([])));
    let paused = house.json("POST", &all, "/v1/senders/reports/pause", &json!({"reason": "moving"})).await;
    assert_eq!(paused.status, 200, "{paused:?}");
    assert_eq!(paused.json()["held"][0]["reason"], "moving");
    let resumed = house.json("POST", &all, "/v1/senders/reports/resume", &Value::Null).await;
    assert_eq!((resumed.status.as_u16(), &resumed.json()["held"]), (200, &json!([])));
    let list = house.get(&all, "/v1/senders").await.json();
    let names: Vec<_> = list["senders"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["billing", "reports"]);
    house.close().await;
}

#[tokio::test]
async fn a_submitters_key_sees_its_senders_and_changes_none() {
    let (house, _) = House::shop().await;
    let new =
        NewSubmitter { name: "printer".into(), senders: vec!["billing".into()], rules: SubmitterRules::default() };
    house.store.add_submitter(&new).await.unwrap();
    let key = house.key("printer-key", Some("printer"), &ALL).await;
    let list = house.get(&key, "/v1/senders").await.json();
    assert_eq!(list["senders"].as_array().map(Vec::len), Some(1));
    assert_eq!(house.get(&key, "/v1/senders/reports").await.code(), "api.not_found");
    assert_eq!(house.json("POST", &key, "/v1/senders/billing/pause", &json!({})).await.code(), "api.bound_key");
    house.close().await;
}
