//! Client credentials and what the token endpoint refuses.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Box, GRAPH, claims};

#[tokio::test]
async fn a_secret_gets_a_token_that_graph_takes() {
    let tenant = Box::start().await;
    let token = tenant.app_token(GRAPH).await;
    let claims = claims(&token);
    assert_eq!(claims["aud"], "https://graph.microsoft.com");
    assert_eq!(claims["idtyp"], "app");
    assert_eq!(claims["ver"], "1.0");
    assert_eq!(claims["oid"], claims["sub"]);
    assert!(claims["roles"].as_array().unwrap().contains(&Value::from("Mail.Send")));
    assert!(claims.get("scp").is_none());
    let answer = tenant
        .client
        .get(format!("{}/users/{}", tenant.emulator.graph(), tenant.emulator.sample().sender))
        .bearer_auth(&token)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("request-id"));
    tenant.emulator.shutdown().await;
}

#[tokio::test]
async fn every_wrong_request_for_an_app_token_meets_its_number() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let (id, secret) = (sample.client_id.to_string(), sample.client_secret.clone());
    let nobody = "5b8a0dd2-3f3c-4d5b-8f8f-0f2f8b1b0e11";
    let good = [("grant_type", "client_credentials"), ("client_id", &id), ("client_secret", &secret), ("scope", GRAPH)];
    // Which parameter is replaced (empty = left out), by what; then status, error and number.
    let cases: [(&str, &str, u16, &str, u64); 14] = [
        ("client_secret", "wrong", 401, "invalid_client", 7000215),
        ("client_secret", "", 401, "invalid_client", 7000218),
        ("client_id", nobody, 400, "unauthorized_client", 700016),
        ("client_id", "not-a-guid", 400, "unauthorized_client", 700016),
        ("client_id", "", 400, "invalid_request", 900144),
        ("grant_type", "", 400, "invalid_request", 900144),
        ("grant_type", "implicit", 400, "unsupported_grant_type", 70003),
        ("scope", "", 400, "invalid_request", 900144),
        ("scope", "https://graph.microsoft.com/Mail.Send", 400, "invalid_scope", 1002012),
        ("scope", "https%3A%2F%2Fgraph.microsoft.com%2F.default", 400, "invalid_scope", 1002012),
        ("scope", "Mail.Send", 400, "invalid_scope", 1002012),
        ("scope", "https://unknown.example/.default", 400, "invalid_resource", 500011),
        ("resource", "https://graph.microsoft.com", 400, "invalid_request", 901002),
        ("client_assertion", "x.y.z", 400, "invalid_request", 900144),
    ];
    for (name, value, status, error, number) in cases {
        let mut form: Vec<(&str, &str)> = good.iter().copied().filter(|(key, _)| *key != name).collect();
        if !value.is_empty() {
            form.push((name, value));
        }
        let (got, body) = tenant.token(&form).await;
        assert_eq!(
            (got, &body["error"], &body["error_codes"][0]),
            (status, &error.into(), &number.into()),
            "{name}={value}: {body}"
        );
        let said = body["error_description"].as_str().unwrap();
        assert!(said.starts_with(&format!("AADSTS{number}: ")) && said.contains(" Trace ID: "), "{said}");
    }
    for (key, number, error) in [
        ("contoso.example.invalid", 90002, "invalid_tenant"),
        ("5b8a0dd2-3f3c-4d5b-8f8f-0f2f8b1b0e11", 90002, "invalid_tenant"),
        ("no$where", 900023, "invalid_request"),
        ("common", 50059, "invalid_request"),
        ("consumers", 9001023, "invalid_request"),
    ] {
        let url = format!("{}/{key}/oauth2/v2.0/token", tenant.emulator.authority());
        let (status, body) = tenant.post(&url, &good).await;
        assert_eq!(
            (status, &body["error"], &body["error_codes"][0]),
            (400, &error.into(), &number.into()),
            "{key}: {body}"
        );
    }
    let other = format!("{}/{}/oauth2/v2.0/token", tenant.emulator.authority(), sample.other_domain);
    assert_eq!(tenant.post(&other, &good).await.1["error_codes"][0], 700016);

    tenant.emulator.advance(Duration::from_secs(366 * 24 * 3600));
    assert_eq!(tenant.token(&good).await.1["error_codes"][0], 7000222);
}

#[tokio::test]
async fn an_api_that_requires_assignment_gives_no_token_to_an_app_without_a_role() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    tenant.emulator.with_world(|world| {
        let directory = &mut world.tenants[0].directory;
        directory.app_role_assignments.clear();
    });
    // Without a role there is a token all the same, only nothing in it.
    assert!(claims(&tenant.app_token(GRAPH).await).get("roles").is_none());
    tenant.emulator.with_world(|world| {
        for principal in &mut world.tenants[0].directory.service_principals {
            principal.app_role_assignment_required = true;
        }
        world.behaviour.token_requests_per_ten_seconds = Some(3);
    });
    let client_id = sample.client_id.to_string();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client_id.as_str()),
        ("client_secret", sample.client_secret.as_str()),
        ("scope", GRAPH),
    ];
    let (status, body) = tenant.token(&form).await;
    assert_eq!((status, &body["error"], &body["error_codes"][0]), (400, &"invalid_grant".into(), &501051.into()));
    // Asking on and on is told to stop.
    for _ in 0..2 {
        tenant.token(&form).await;
    }
    let answer = tenant.client.post(tenant.login("oauth2/v2.0/token")).form(&form).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"60".parse().unwrap()));
    assert_eq!(answer.json::<Value>().await.unwrap()["error_codes"][0], 50196);
}

#[tokio::test]
async fn the_secret_may_come_by_basic_and_the_v1_endpoint_names_a_resource() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let form = [("grant_type", "client_credentials"), ("scope", GRAPH), ("client_info", "1"), ("unknown", "x")];
    let basic = tenant
        .client
        .post(tenant.login("oauth2/v2.0/token?slice=test"))
        .basic_auth(sample.client_id, Some(sample.client_secret.replace('~', "%7E")))
        .form(&form)
        .send()
        .await
        .unwrap();
    assert_eq!(basic.status(), 200);
    assert_eq!(basic.headers()["cache-control"], "no-store, no-cache");
    let client_id = sample.client_id.to_string();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client_id.as_str()),
        ("client_secret", sample.client_secret.as_str()),
        ("resource", "https://outlook.office365.com"),
    ];
    let (status, body) = tenant.post(&tenant.login("oauth2/token"), &form).await;
    assert_eq!(status, 200, "{body}");
    assert!(body["expires_in"].is_string());
    let token = claims(body["access_token"].as_str().unwrap());
    assert_eq!(token["aud"], "https://outlook.office365.com");
    assert!(token["roles"].as_array().unwrap().contains(&"SMTP.SendAsApp".into()));
}
