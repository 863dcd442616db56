//! Filters, pages, counts and batches.

use serde_json::{Value, json};

use super::{Bench, id};

#[test]
fn pages_are_followed_by_their_links() {
    let mut bench = Bench::new();
    for number in 0..5 {
        bench.application(&format!("app {number}"));
    }
    let mut url = "/applications?$select=id,displayName&$top=2".to_owned();
    let mut names = Vec::new();
    loop {
        let page = bench.get(&url).expect(200);
        assert_eq!(page["@odata.context"], "https://127.0.0.1:8443/v1.0/$metadata#applications(id,displayName)");
        for app in page["value"].as_array().unwrap() {
            assert_eq!(app.as_object().unwrap().len(), 2);
            names.push(app["displayName"].as_str().unwrap().to_owned());
        }
        let Some(link) = page["@odata.nextLink"].as_str() else { break };
        url = link.strip_prefix("https://127.0.0.1:8443/v1.0").unwrap().to_owned();
        assert!(url.contains("$select=id%2CdisplayName") && url.contains("$top=2"), "{url}");
    }
    assert_eq!(names, ["app 0", "app 1", "app 2", "app 3", "app 4"]);
}

#[test]
fn a_query_that_needs_the_index_says_so() {
    let mut bench = Bench::new();
    bench.application("alpha");
    bench.application("beta");
    for (url, eventual, want) in [
        ("/applications?$filter=displayName eq 'alpha'", false, Ok(1)),
        ("/applications?$filter=startswith(displayName,'a') or displayName in ('beta')", false, Ok(2)),
        ("/applications?$filter=displayName ne 'alpha'", false, Err("Request_UnsupportedQuery")),
        ("/applications?$filter=displayName ne 'alpha'", true, Err("Request_UnsupportedQuery")),
        ("/applications?$filter=displayName ne 'alpha'&$count=true", true, Ok(1)),
        ("/applications?$filter=endsWith(displayName,'a')&$count=true", true, Ok(2)),
        (
            "/applications?$filter=passwordCredentials/any(p: p/endDateTime le 2027-01-01)&$count=true",
            true,
            Err("Request_UnsupportedQuery"),
        ),
        ("/applications?$search=\"displayName:alp\"", false, Err("Request_UnsupportedQuery")),
        ("/applications?$search=\"displayName:alp\"", true, Ok(1)),
        ("/applications?$filter=displayName is 'x'", false, Err("Request_BadRequest")),
        ("/applications?$select=nonsense", false, Err("Request_BadRequest")),
        ("/applications?$top=0", false, Err("Request_BadRequest")),
        ("/applications?$top=1000", false, Err("Request_BadRequest")),
        ("/applications?$frobnicate=1", false, Err("Request_BadRequest")),
        ("/applications?%24top=1", false, Ok(1)),
        ("/applications?$expand=owners", false, Ok(2)),
        ("/applications?$expand=nonsense", false, Err("Request_BadRequest")),
        ("/applications?$orderby=displayName desc&$count=true", true, Ok(2)),
        ("/applications/$count", false, Err("Request_BadRequest")),
    ] {
        let seen = if eventual { bench.eventually(url) } else { bench.get(url) };
        match want {
            Ok(count) => assert_eq!(seen.expect(200)["value"].as_array().unwrap().len(), count, "{url}"),
            Err(code) => assert_eq!((seen.status, seen.code()), (400, code), "{url}"),
        }
    }
    assert_eq!(bench.eventually("/applications/$count").expect(200), "2");
    assert_eq!(bench.eventually("/applications?$count=true&$top=1").expect(200)["@odata.count"], 2);
    assert_eq!(bench.get("/applications?$count=true").expect(200)["@odata.count"], Value::Null);
}

#[test]
fn a_batch_answers_each_request_as_if_it_came_alone() {
    let mut bench = Bench::new();
    let app = id(&bench.application("Mail"));
    let json_type = json!({ "Content-Type": "application/json" });
    let answer = bench
        .post("/$batch", json!({ "requests": [
            { "id": "3", "method": "GET", "url": "/applications/nothing", "depends_on": ["x"] },
            { "id": "4", "method": "GET", "url": "users", "dependsOn": ["3"] },
            { "id": "2", "method": "PATCH", "url": format!("/applications/{app}"), "body": { "notes": "n" }, "headers": json_type, "dependsOn": ["1"] },
            { "id": "1", "method": "GET", "url": format!("/applications/{app}?$select=id") },
            { "id": "5", "method": "PATCH", "url": format!("/applications/{app}"), "body": { "notes": "n" } },
        ] }))
        .expect(200);
    let mut statuses: Vec<(String, u64)> = answer["responses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|response| (response["id"].as_str().unwrap().to_owned(), response["status"].as_u64().unwrap()))
        .collect();
    statuses.sort();
    let want = [("1", 200), ("2", 204), ("3", 404), ("4", 424), ("5", 400)];
    assert_eq!(statuses, want.map(|(id, status)| (id.to_owned(), status)));
    let one = |id: &str| json!({ "id": id, "method": "GET", "url": "/users" });
    bench.post("/$batch", json!({ "requests": [one("1"), one("1")] })).refused(400, "BadRequest");
    let many: Vec<Value> = (0..21).map(|number| one(&number.to_string())).collect();
    bench.post("/$batch", json!({ "requests": many })).refused(400, "BadRequest");
}

#[test]
fn limits_answer_with_retry_after() {
    let mut bench = Bench::new();
    bench.directory().usage.limits.app_writes.amount = 2;
    bench.application("one");
    bench.application("two");
    let refused = bench.post("/applications", json!({ "displayName": "three" }));
    refused.refused(429, "TooManyRequests");
    assert_eq!(refused.body["error"]["innerError"]["code"], "429");
    let header = |name: &str| refused.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    let wait: u64 = header("retry-after").unwrap().parse().unwrap();
    assert!((1..=150).contains(&wait));
    assert_eq!(header("x-ms-throttle-information").as_deref(), Some("WriteLimitExceeded"));
    bench.world.clock.advance(std::time::Duration::from_secs(wait));
    bench.application("three");
    assert!(bench.get("/users").headers.contains(&("x-ms-resource-unit", "2".into())));
}
