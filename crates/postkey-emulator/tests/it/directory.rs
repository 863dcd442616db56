//! The directory over the wire: what unit tests of its rooms cannot show.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{contract, support::Box};

struct Directory {
    tenant: Box,
    token: String,
}

impl Directory {
    async fn start() -> Self {
        let tenant = Box::start().await;
        let sample = tenant.emulator.sample().clone();
        let client_id = sample.admin_client_id.to_string();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &client_id),
            ("client_secret", &sample.admin_client_secret),
            ("scope", "https://graph.microsoft.com/.default"),
        ];
        let (status, body) = tenant.token(&form).await;
        assert_eq!(status, 200, "{body}");
        let token = body["access_token"].as_str().unwrap().to_owned();
        Self { tenant, token }
    }

    /// Sends, checks the answer against Microsoft's description, and gives status and body.
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}{path}", self.tenant.emulator.graph());
        let mut request = self.tenant.client.request(method.clone(), &url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        assert!(answer.headers().contains_key("request-id"));
        let text = answer.text().await.unwrap();
        let seen = (!text.is_empty()).then(|| serde_json::from_str::<Value>(&text).unwrap());
        contract::check(method.as_str(), path.split('?').next().unwrap(), status, seen.as_ref());
        (status, seen.unwrap_or_default())
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(body)).await
    }
}

#[tokio::test]
async fn an_application_made_over_the_wire_gets_a_token_of_its_own() {
    let directory = Directory::start().await;
    let (status, app) =
        directory.post("/applications", json!({ "displayName": "Wire", "signInAudience": "AzureADMyOrg" })).await;
    assert_eq!(status, 201);
    let id = app["id"].as_str().unwrap();
    let (_, secret) = directory.post(&format!("/applications/{id}/addPassword"), json!({})).await;
    let (status, principal) = directory.post("/servicePrincipals", json!({ "appId": app["appId"] })).await;
    assert_eq!(status, 201);
    let graph = "/servicePrincipals(appId='00000003-0000-0000-c000-000000000000')?$select=id,appRoles";
    let (_, graph) = directory.call(Method::GET, graph, None).await;
    let roles = graph["appRoles"].as_array().unwrap();
    let role = roles.iter().find(|role| role["value"] == "Organization.Read.All").unwrap();
    let wish = json!({ "principalId": principal["id"], "resourceId": graph["id"], "appRoleId": role["id"] });
    let (status, _) =
        directory.post(&format!("/servicePrincipals/{}/appRoleAssignedTo", graph["id"].as_str().unwrap()), wish).await;
    assert_eq!(status, 201);

    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", app["appId"].as_str().unwrap()),
        ("client_secret", secret["secretText"].as_str().unwrap()),
        ("scope", "https://graph.microsoft.com/.default"),
    ];
    let (status, token) = directory.tenant.token(&form).await;
    assert_eq!(status, 200, "{token}");
    let token = token["access_token"].as_str().unwrap().to_owned();
    let directory = Directory { token, ..directory };
    assert_eq!(directory.call(Method::GET, "/organization", None).await.0, 200);
    let (status, refused) = directory.call(Method::GET, "/applications", None).await;
    assert_eq!((status, &refused["error"]["code"]), (403, &json!("Authorization_RequestDenied")));
}

#[tokio::test]
async fn pages_link_to_where_the_client_called() {
    let directory = Directory::start().await;
    let graph = directory.tenant.emulator.graph();
    let mut path = "/users?$select=id,userPrincipalName&$top=2".to_owned();
    let mut names = Vec::new();
    loop {
        let (status, page) = directory.call(Method::GET, &path, None).await;
        assert_eq!(status, 200);
        names.extend(page["value"].as_array().unwrap().iter().map(|user| user["userPrincipalName"].clone()));
        let Some(link) = page["@odata.nextLink"].as_str() else { break };
        path = link.strip_prefix(&graph).unwrap().to_owned();
    }
    let people = directory.tenant.emulator.with_world(|world| world.tenants[0].directory.users.len());
    assert_eq!(names.len(), people);
}

#[tokio::test]
async fn a_caller_without_a_token_is_told_where_to_get_one() {
    let directory = Directory::start().await;
    let answer = directory
        .tenant
        .client
        .get(format!("{}/applications", directory.tenant.emulator.graph()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 401);
    assert!(answer.headers().contains_key("www-authenticate"));
    let body: Value = answer.json().await.unwrap();
    contract::check("GET", "/applications", 401, Some(&body));
    assert_eq!(body["error"]["code"], "InvalidAuthenticationToken");
}

#[tokio::test]
async fn a_secret_is_taken_late_and_given_up_late() {
    let directory = Directory::start().await;
    let lag = std::time::Duration::from_secs(20);
    directory.tenant.emulator.with_world(|world| world.behaviour.acceptance_lag = lag);
    let (_, app) =
        directory.post("/applications", json!({ "displayName": "Slow", "signInAudience": "AzureADMyOrg" })).await;
    directory.post("/servicePrincipals", json!({ "appId": app["appId"] })).await;
    let path = format!("/applications/{}", app["id"].as_str().unwrap());
    let (_, secret) = directory.post(&format!("{path}/addPassword"), json!({})).await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", app["appId"].as_str().unwrap()),
        ("client_secret", secret["secretText"].as_str().unwrap()),
        ("scope", "https://graph.microsoft.com/.default"),
    ];
    let remove = json!({ "keyId": secret["keyId"] });
    assert_eq!(directory.tenant.token(&form).await.0, 401);
    assert_eq!(directory.post(&format!("{path}/removePassword"), remove.clone()).await.0, 400);
    directory.tenant.emulator.advance(lag);
    assert_eq!(directory.tenant.token(&form).await.0, 200);
    assert_eq!(directory.post(&format!("{path}/removePassword"), remove).await.0, 204);
    assert_eq!(directory.tenant.token(&form).await.0, 200);
    directory.tenant.emulator.advance(lag);
    assert_eq!(directory.tenant.token(&form).await.0, 401);
}
