//! `/v1/submitters`.

use postkey_store::SubmitterRules;
use postkey_submission::new_password;
use serde_json::json;

use crate::house::{ALL, House};

#[tokio::test]
async fn submitters_are_shown_with_their_rules_and_without_their_secrets() {
    let (house, key) = House::shop().await;
    let rules = SubmitterRules { messages_per_day: Some(7), ..SubmitterRules::default() };
    house.submitter("printer", rules).await;
    let secret = house.store.local_secret_key().await.unwrap();
    let (password, mac) = new_password(&secret);
    house.store.add_password("printer", &mac, false).await.unwrap();
    let all = house.key("all", None, &ALL).await;
    let answer = house.get(&all, "/v1/submitters").await;
    let names: Vec<_> = answer.json()["submitters"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["printer", "shop"]);
    let shown = house.get(&all, "/v1/submitters/Printer").await;
    assert_eq!(shown.json()["rules"]["messages_per_day"], 7);
    assert_eq!(shown.json()["senders"], json!(["reports", "billing"]));
    assert_eq!(shown.json()["passwords"].as_array().map(Vec::len), Some(1));
    assert!(!String::from_utf8_lossy(&shown.body).contains(password.expose()));
    assert_eq!(house.get(&key, "/v1/submitters/printer").await.code(), "api.not_found");
    assert_eq!(house.get(&key, "/v1/submitters").await.json()["submitters"].as_array().map(Vec::len), Some(1));
    house.close().await;
}
