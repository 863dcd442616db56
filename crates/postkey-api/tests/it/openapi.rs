//! `/openapi.json`.

use serde_json::Value;

use crate::house::House;

#[tokio::test]
async fn the_document_is_as_it_was_reviewed() {
    let (house, _) = House::shop().await;
    let answer = house.get("", "/openapi.json").await;
    assert_eq!(answer.header("content-type"), "application/json");
    let document: Value = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    insta::assert_snapshot!("openapi", serde_json::to_string_pretty(&document).unwrap());
    house.close().await;
}

#[tokio::test]
async fn every_path_of_the_document_answers_and_names_its_methods() {
    let (house, _) = House::shop().await;
    let document = house.get("", "/openapi.json").await.json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let real = path.replace("{id}", "x").replace("{name}", "x").replace("{scope}", "sender");
        let asked = crate::house::request("TRACE", &real, "").body(axum::body::Body::empty()).unwrap();
        let answer = house.ask(asked).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (405, "api.method_not_allowed"), "{path}");
        let allowed = answer.header("allow");
        for method in operations.as_object().unwrap().keys() {
            assert!(allowed.contains(&method.to_uppercase()), "{path}: {allowed}");
        }
    }
    house.close().await;
}
