//! What clients read before they do anything, and whom they trust.

use serde_json::Value;

use crate::support::{Box, GRAPH};

async fn get(tenant: &Box, path: &str) -> (reqwest::header::HeaderMap, u16, Value) {
    let answer = tenant.client.get(format!("{}{path}", tenant.emulator.authority())).send().await.unwrap();
    (answer.headers().clone(), answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn discovery_names_the_tenant_by_its_id_and_every_endpoint_absolutely() {
    let tenant = Box::start().await;
    let (authority, id) = (tenant.emulator.authority(), tenant.emulator.tenant_id());
    for key in [id.to_string(), tenant.emulator.domain().to_owned()] {
        let (headers, status, body) = get(&tenant, &format!("/{key}/v2.0/.well-known/openid-configuration")).await;
        assert_eq!(status, 200);
        assert_eq!(headers["cache-control"], "max-age=86400, private");
        assert_eq!(body["issuer"], format!("{authority}/{id}/v2.0"));
        assert_eq!(body["token_endpoint"], format!("{authority}/{id}/oauth2/v2.0/token"));
        assert_eq!(body["device_authorization_endpoint"], format!("{authority}/{id}/oauth2/v2.0/devicecode"));
        assert_eq!(
            body["userinfo_endpoint"],
            format!("{}/oidc/userinfo", tenant.emulator.graph().trim_end_matches("/v1.0"))
        );
    }
    let (_, _, body) = get(&tenant, "/common/v2.0/.well-known/openid-configuration").await;
    assert_eq!(body["issuer"], format!("{authority}/{{tenantid}}/v2.0"));
    let (_, status, body) = get(&tenant, "/unknown.example/v2.0/.well-known/openid-configuration").await;
    assert_eq!((status, &body["error"]), (400, &"invalid_tenant".into()));
}

#[tokio::test]
async fn a_tokens_key_is_published_and_a_private_host_is_no_known_instance() {
    let tenant = Box::start().await;
    let token = tenant.app_token(GRAPH).await;
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    let (_, _, keys) = get(&tenant, &format!("/{}/discovery/v2.0/keys", tenant.emulator.tenant_id())).await;
    let keys = keys["keys"].as_array().unwrap();
    assert!(keys.len() > 1);
    assert!(keys.iter().any(|key| key["kid"] == header["kid"] && key["x5t"] == key["kid"]));
    let asked = |host: &str| {
        format!(
            "/common/discovery/instance?api-version=1.1&authorization_endpoint=https%3A%2F%2F{host}%2Fcommon%2Foauth2%2Fv2.0%2Fauthorize"
        )
    };
    assert_eq!(get(&tenant, &asked("login.microsoftonline.com")).await.1, 200);
    let (_, status, body) = get(&tenant, &asked("localhost%3A1")).await;
    assert_eq!((status, &body["error"], &body["error_codes"][0]), (400, &"invalid_instance".into(), &50049.into()));
}

#[tokio::test]
async fn the_correlation_id_comes_back() {
    let tenant = Box::start().await;
    let sent = "2f1a6cbe-6f5b-4e0c-9d55-0a2b6a0d7a11";
    let answer = tenant
        .client
        .post(tenant.login("oauth2/v2.0/token"))
        .header("client-request-id", sent)
        .header("return-client-request-id", "true")
        .form(&[("grant_type", "client_credentials")])
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["client-request-id"], sent);
    let trace = answer.headers()["x-ms-request-id"].to_str().unwrap().to_owned();
    let body: Value = answer.json().await.unwrap();
    assert_eq!((body["correlation_id"].as_str(), body["trace_id"].as_str()), (Some(sent), Some(trace.as_str())));
    let answer = tenant.client.get(tenant.login("oauth2/v2.0/token")).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["error_codes"][0], 900561);
}

/// Python's `ssl` is OpenSSL with its own idea of strictness.
#[tokio::test]
async fn python_and_openssl_trust_the_constrained_authority() {
    let dir = tempfile::tempdir().unwrap();
    let settings = postkey_emulator::EmulatorSettings { dir: Some(dir.path().to_owned()), ..Default::default() };
    let tenant = Box::with(settings).await;
    let script = "import ssl,sys,urllib.request as u\nc=ssl.create_default_context(cafile=sys.argv[1])\nc.verify_flags|=ssl.VERIFY_X509_STRICT\nfor host in ('localhost','127.0.0.1'):\n  print(u.build_opener(u.ProxyHandler({}),u.HTTPSHandler(context=c)).open(sys.argv[2].replace('localhost',host)).status)";
    let url = tenant.login("v2.0/.well-known/openid-configuration");
    let ca = tenant.emulator.ca_path().unwrap().to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        std::process::Command::new("python3").arg("-c").arg(script).arg(ca).arg(url).output()
    });
    match ran.await.unwrap() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "200\n200\n", "{said}");
        }
        Err(cause) => panic!("python3 is needed for this test: {cause}"),
    }
}

#[tokio::test]
async fn microsofts_own_names_lead_here_behind_the_proxy() {
    let settings = postkey_emulator::EmulatorSettings { as_microsoft: true, ..Default::default() };
    let tenant = Box::with(settings).await;
    let ca = reqwest::Certificate::from_pem(tenant.emulator.ca_pem().as_bytes()).unwrap();
    let proxy = reqwest::Proxy::https(tenant.emulator.proxy().unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).proxy(proxy).build().unwrap();
    let url = format!(
        "https://login.microsoftonline.com/{}/v2.0/.well-known/openid-configuration",
        tenant.emulator.tenant_id()
    );
    let body: Value = client.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(body["msgraph_host"], "graph.microsoft.com");
    assert!(body["issuer"].as_str().unwrap().starts_with("https://login.microsoftonline.com/"));
    assert_eq!(client.get("https://graph.microsoft.com/v1.0/me").send().await.unwrap().status(), 401);
    assert!(client.get("https://elsewhere.example/").send().await.is_err());
}
