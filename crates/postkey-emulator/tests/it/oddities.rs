//! Requests that are off the beaten track: each is answered, in the shape of its host.

use std::time::Duration;

use postkey_emulator::visitor::Ended;
use rustls_pki_types::{ServerName, pem::PemObject};
use serde_json::{Value, json};

use crate::support::{Box, GRAPH};

fn device_form<'a>(client_id: &'a str, scope: &'a str) -> [(&'a str, &'a str); 2] {
    [("client_id", client_id), ("scope", scope)]
}

#[tokio::test]
async fn a_device_that_asks_for_what_is_granted_already_needs_no_administrator() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let client_id = sample.client_id.to_string();
    let url = tenant.login("oauth2/v2.0/devicecode");
    let (_, device) = tenant.post(&url, &device_form(&client_id, "https://graph.microsoft.com/.default")).await;
    let (page, code) = (device["verification_uri"].as_str().unwrap(), device["user_code"].as_str().unwrap());
    let mut alice = tenant.emulator.visitor(&sample.user_name, &sample.user_password).unwrap();
    let ended = alice.enter_device_code(page, code).await.unwrap();
    assert!(matches!(&ended, Ended::Page { status: 200, text } if text.contains("You have signed in")), "{ended:?}");
    tenant.emulator.shutdown().await;
}

#[tokio::test]
async fn a_form_is_one_in_any_spelling_and_two_resources_are_one_too_many() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let form = |scope: &str| {
        form_urlencoded(&[
            ("grant_type", "client_credentials"),
            ("client_id", &sample.client_id.to_string()),
            ("client_secret", &sample.client_secret),
            ("scope", scope),
        ])
    };
    let both = format!("{GRAPH} https://outlook.office365.com/.default");
    for (kind, scope, want) in [
        ("Application/X-WWW-Form-Urlencoded", GRAPH, json!(null)),
        ("application/x-www-form-urlencoded ; charset=utf-8", GRAPH, json!(null)),
        ("application/json", GRAPH, json!([900144])),
        ("application/x-www-form-urlencoded", &both, json!([700022])),
        ("application/x-www-form-urlencoded", &format!("{GRAPH} offline_access"), json!([1002012])),
    ] {
        let request = tenant.client.post(tenant.login("oauth2/v2.0/token")).header("content-type", kind);
        let answer = request.body(form(scope)).send().await.unwrap();
        let cookies = answer.headers().get_all("set-cookie").iter().count();
        let body: Value = answer.json().await.unwrap();
        assert_eq!((&body["error_codes"], cookies), (&want, 3), "{kind} {scope}: {body}");
    }
    tenant.emulator.shutdown().await;
}

fn form_urlencoded(pairs: &[(&str, &str)]) -> String {
    reqwest::Url::parse_with_params("http://x/", pairs).unwrap().query().unwrap().to_owned()
}

#[tokio::test]
async fn version_one_of_admin_consent_serves_common_and_further_path_segments() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let query = [
        ("client_id", sample.client_id.to_string()),
        ("redirect_uri", "http://localhost:5000/myapps/more/x".to_owned()),
        ("state", "1".to_owned()),
    ];
    let url = format!("{}/common/adminconsent", tenant.emulator.authority());
    let url = reqwest::Url::parse_with_params(&url, &query).unwrap();
    let page = tenant.client.get(url.clone()).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Contoso mail"), "{page}");
    let mut admin = tenant.emulator.visitor(&sample.admin_user, &sample.admin_password).unwrap();
    let ended = admin.visit(url.as_str()).await.unwrap();
    assert_eq!(ended.parameter("tenant"), Some(tenant.emulator.tenant_id().to_string()), "{ended:?}");
    tenant.emulator.shutdown().await;
}

async fn graph(tenant: &Box, token: &str, path: &str) -> (u16, Value) {
    let url = format!("{}{path}", tenant.emulator.graph());
    let answer = tenant.client.get(url).bearer_auth(token).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn what_a_list_of_messages_does_not_know_is_refused() {
    let tenant = Box::start().await;
    let token = tenant.app_token(GRAPH).await;
    let sender = &tenant.emulator.sample().sender;
    for (path, want) in [
        ("messages?$orderby=nope", "RequestBroker--ParseUri"),
        ("messages?$expand=nope", "RequestBroker--ParseUri"),
        ("messages/delta", "BadRequest"),
        ("mailFolders/inbox/messages/delta", "BadRequest"),
    ] {
        let (status, body) = graph(&tenant, &token, &format!("/users/{sender}/{path}")).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!(want)), "{path}: {body}");
    }
    for path in [
        "messages?$orderby=from/emailAddress/name desc",
        "messages?$expand=attachments",
        "messages?$expand=singleValueExtendedProperties($filter=id eq 'String 0x1')",
    ] {
        assert_eq!(graph(&tenant, &token, &format!("/users/{sender}/{path}")).await.0, 200, "{path}");
    }
    tenant.emulator.shutdown().await;
}

#[tokio::test]
async fn a_message_may_be_written_in_pascal_case() {
    let tenant = Box::start().await;
    let token = tenant.app_token(GRAPH).await;
    let sample = tenant.emulator.sample().clone();
    let message = json!({"Message": {"Subject": "Hello", "Body": {"ContentType": "Text", "Content": "x"},
        "ToRecipients": [{"EmailAddress": {"Address": sample.user_name}}]}, "SaveToSentItems": "false"});
    let url = format!("{}/users/{}/sendMail", tenant.emulator.graph(), sample.sender);
    let answer = tenant.client.post(url).bearer_auth(&token).json(&message).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let held = tenant.emulator.with_world(|world| world.mailbox_contents(sample.tenant_id, &sample.user_name).unwrap());
    assert_eq!(held.len(), 1);
    tenant.emulator.shutdown().await;
}

/// Waits no longer than any sane answer takes.
async fn early(request: reqwest::RequestBuilder) -> (u16, Value, bool) {
    let answer = request.timeout(Duration::from_secs(60)).send().await.unwrap();
    let named = ["request-id", "x-ms-request-id"].iter().any(|name| answer.headers().contains_key(*name));
    (answer.status().as_u16(), answer.json().await.unwrap(), named)
}

#[tokio::test]
async fn what_is_refused_at_the_door_is_refused_in_the_shape_of_the_host() {
    let tenant = Box::start().await;
    let token = tenant.app_token(GRAPH).await;
    let url = format!("{}/users", tenant.emulator.graph());
    let large = vec![b'x'; 64 * 1024 * 1024 + 1];
    let request = tenant.client.get(&url).header("host", "elsewhere.example");
    let (status, body, named) = early(request).await;
    assert_eq!((status, body["error"]["innerError"]["request-id"].is_string(), named), (421, true, true), "{body}");
    let request = tenant.client.post(&url).bearer_auth(&token).body(large.clone());
    let (status, body, named) = early(request).await;
    assert_eq!((status, &body["error"]["code"], named), (413, &json!("RequestEntityTooLarge"), true), "{body}");
    let request = tenant.client.post(tenant.login("oauth2/v2.0/token")).body(large);
    let (status, body, named) = early(request).await;
    assert_eq!((status, &body["error"], named), (413, &json!("invalid_request"), true), "{body}");
    tenant.emulator.shutdown().await;
}

#[tokio::test]
async fn a_part_of_a_batch_may_name_the_whole_url_that_the_batch_was_sent_to() {
    let tenant = Box::start().await;
    let token = tenant.app_token(GRAPH).await;
    let graph = tenant.emulator.graph();
    let sender = tenant.emulator.sample().sender.replace('@', "%40");
    let part = |id: &str, url: String| json!({"id": id, "method": "GET", "url": url});
    let body = json!({"requests": [
        part("whole", format!("{graph}/users/{sender}?$select=id")),
        part("relative", format!("/users/{sender}?$select=id")),
        part("other version", format!("{}/users/{sender}", graph.replace("v1.0", "v1.05"))),
        part("other host", format!("https://elsewhere.example/v1.0/users/{sender}")),
    ]});
    let answer = tenant.client.post(format!("{graph}/$batch")).bearer_auth(&token).json(&body).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    let status = |id: &str| {
        let parts = answer["responses"].as_array().unwrap();
        parts.iter().find(|part| part["id"] == id).unwrap()["status"].as_u64().unwrap()
    };
    assert_eq!(["whole", "relative", "other version", "other host"].map(status), [200, 200, 400, 400], "{answer}");
    tenant.emulator.shutdown().await;
}

#[tokio::test]
async fn a_body_that_breaks_its_framing_or_promises_too_much_is_answered_at_once() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let tenant = Box::start().await;
    let ca = rustls_pki_types::CertificateDer::from_pem_slice(tenant.emulator.ca_pem().as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca).unwrap();
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls));
    let url = reqwest::Url::parse(&tenant.emulator.graph()).unwrap();
    let host = format!("localhost:{}", url.port().unwrap());
    for (framing, body, status) in
        [("Transfer-Encoding: chunked", "zz\r\n\r\n", 400), ("Content-Length: 99999999999", "", 413)]
    {
        let stream = tokio::net::TcpStream::connect(("localhost", url.port().unwrap())).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        let request = format!("POST /v1.0/users HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 1_024];
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{framing}: {answer}");
        assert!(answer.contains("request-id: "), "{framing}: {answer}");
    }
    tenant.emulator.shutdown().await;
}

#[tokio::test]
async fn the_management_api_refuses_what_would_break_a_protocol() {
    let tenant = Box::start().await;
    let sender = &tenant.emulator.sample().sender;
    let mailbox = format!("/exchange/mailboxes/{sender}");
    let fault = |status: u16| json!({"operation": "token", "action": {"kind": "status", "status": status}});
    for (path, body, want) in [
        ("/faults", fault(101), 400),
        ("/faults", fault(0), 400),
        ("/faults", fault(600), 400),
        ("/faults", fault(599), 201),
        (mailbox.as_str(), json!({"submission_refusal": "550 5.1.8 Bad outbound sender\r\n250 2.0.0 OK"}), 400),
        (mailbox.as_str(), json!({"submission_refusal": "250 2.0.0 OK"}), 400),
        (mailbox.as_str(), json!({"submission_refusal": "550 5.1.8 Bad outbound sender"}), 200),
        (mailbox.as_str(), json!({"submission_refusal": ""}), 200),
    ] {
        let url = format!("{}{path}", tenant.emulator.management());
        let answer = tenant.client.post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), want, "{path} {body}");
    }
    tenant.emulator.shutdown().await;
}
