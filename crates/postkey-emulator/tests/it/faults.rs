//! Faults, the journal, the clock and the management API.

use std::time::Duration;

use postkey_emulator::{
    EmulatorSettings,
    faults::{Action, Fault},
};
use serde_json::{Value, json};

use crate::support::{Box, GRAPH};

async fn manage(tenant: &Box, method: reqwest::Method, path: &str, body: Value) -> (u16, Value) {
    let url = format!("{}{path}", tenant.emulator.management());
    let mut request = tenant.client.request(method, url);
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn post(tenant: &Box, path: &str, body: Value) -> (u16, Value) {
    manage(tenant, reqwest::Method::POST, path, body).await
}

async fn get(tenant: &Box, path: &str) -> (u16, Value) {
    manage(tenant, reqwest::Method::GET, path, Value::Null).await
}

async fn me(tenant: &Box, token: &str) -> reqwest::Result<reqwest::Response> {
    let url = format!("{}/users/{}", tenant.emulator.graph(), tenant.emulator.sample().sender);
    tenant.client.get(url).bearer_auth(token).send().await
}

#[tokio::test]
async fn a_status_fault_answers_in_the_shape_of_its_host() {
    let tenant = Box::start().await;
    let token = tenant.app_token(GRAPH).await;
    let operation = {
        me(&tenant, &token).await.unwrap();
        tenant.emulator.calls_since(0).pop().unwrap().operation
    };
    for as_date in [false, true] {
        let fault = json!({"operation": operation, "times": 1, "action": {"kind": "status", "status": 429, "retry_after_seconds": 7, "retry_after_as_date": as_date}});
        assert_eq!(post(&tenant, "/faults", fault).await.0, 201);
        let answer = me(&tenant, &token).await.unwrap();
        assert_eq!(answer.status(), 429);
        let retry = answer.headers()["retry-after"].to_str().unwrap().to_owned();
        assert_eq!((retry == "7", retry.ends_with(" GMT")), (!as_date, as_date), "{retry}");
        assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], "TooManyRequests");
        assert_eq!(me(&tenant, &token).await.unwrap().status(), 200);
    }
    let fault = Fault::of(
        "token",
        Action::Status {
            status: 503,
            code: None,
            aadsts: Some(90033),
            message: None,
            retry_after_seconds: None,
            retry_after_as_date: false,
        },
    );
    tenant.emulator.fault(fault.times(1));
    let (status, body) = tenant.token(&[("grant_type", "client_credentials")]).await;
    assert_eq!(
        (status, &body["error"], &body["error_codes"][0]),
        (503, &"temporarily_unavailable".into(), &90033.into())
    );
}

#[tokio::test]
async fn an_answer_is_dropped_before_or_after_the_effect() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let token = tenant.app_token(GRAPH).await;
    let send = async || {
        let url = format!("{}/users/{}/sendMail", tenant.emulator.graph(), sample.sender);
        let mail = json!({"message": {"subject": "Disk full", "body": {"contentType": "Text", "content": "x"}, "toRecipients": [{"emailAddress": {"address": sample.user_name}}]}});
        tenant.client.post(url).bearer_auth(&token).json(&mail).send().await
    };
    let arrived = || {
        tenant.emulator.with_world(|world| world.mailbox_contents(sample.tenant_id, &sample.user_name).unwrap().len())
    };
    tenant.emulator.fault(Fault::of("sendMail", Action::Drop).times(1));
    assert!(send().await.is_err());
    assert_eq!(arrived(), 0);
    tenant.emulator.fault(Fault::of("sendMail", Action::Drop).times(1).after_effect());
    assert!(send().await.is_err());
    assert_eq!(arrived(), 1);
    assert_eq!(send().await.unwrap().status(), 202);
    let statuses: Vec<u16> = tenant
        .emulator
        .calls_since(0)
        .iter()
        .filter(|call| call.operation == "sendMail")
        .map(|call| call.status)
        .collect();
    assert_eq!(statuses, [0, 0, 202]);
    let (_, seen) = get(&tenant, &format!("/mailboxes/{}/messages", sample.user_name)).await;
    assert_eq!(seen[0]["subject"], "Disk full");
    let mime = tenant.client.get(seen[0]["mime"].as_str().unwrap()).send().await.unwrap().text().await.unwrap();
    assert!(mime.contains("Disk full"), "{mime}");
}

#[tokio::test]
async fn a_truncated_body_breaks_off_and_a_hanging_answer_waits_for_its_release() {
    let tenant = Box::start().await;
    let token = tenant.app_token(GRAPH).await;
    tenant.emulator.fault(
        Fault { path: Some("/v1.0/users/*".into()), operation: None, ..Fault::of("", Action::Truncate) }.times(1),
    );
    let answer = me(&tenant, &token).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.is_err());

    let fault = Fault { path: Some("/v1.0/users/*".into()), operation: None, ..Fault::of("", Action::Hang) }.times(1);
    let id = tenant.emulator.fault(fault);
    let held = async { me(&tenant, &token).await.unwrap().status() };
    let release = async {
        assert_eq!(get(&tenant, "/calls/wait?stalled=true").await.0, 200);
        assert_eq!(manage(&tenant, reqwest::Method::DELETE, &format!("/faults/{id}"), Value::Null).await.0, 200);
    };
    assert_eq!(tokio::join!(held, release).0, 200);

    // A client that gives up while its answer is held stands in the journal all the same.
    let before = tenant.emulator.last_call();
    tenant
        .emulator
        .fault(Fault { call: Some(before + 1), operation: None, ..Fault::of("", Action::Hang) }.after_effect());
    {
        let request = std::pin::pin!(me(&tenant, &token));
        let stalled = std::pin::pin!(get(&tenant, "/calls/wait?stalled=true"));
        futures_util::future::select(request, stalled).await;
    }
    let (status, call) = get(&tenant, &format!("/calls/wait?seq={}", before + 1)).await;
    assert_eq!((status, &call["status"], &call["fault"]), (200, &0.into(), &true.into()));
}

#[tokio::test]
async fn the_clock_turns_for_everyone_and_is_written_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let settings = EmulatorSettings { dir: Some(dir.path().to_owned()), ..EmulatorSettings::default() };
    let tenant = Box::with(settings).await;
    let written = || std::fs::read_to_string(dir.path().join("clock")).unwrap();
    assert_eq!(written(), "0\n");
    let token = tenant.app_token(GRAPH).await;
    assert_eq!(post(&tenant, "/clock", json!({"advance_seconds": 7200})).await.0, 200);
    assert_eq!(written(), "7200000\n");
    let answer = me(&tenant, &token).await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(answer.headers().contains_key("www-authenticate"));
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], "InvalidAuthenticationToken");
    assert_eq!(post(&tenant, "/clock", json!({"offset_ms": -600_000})).await.0, 200);
    assert_eq!(written(), "-600000\n");
    assert_eq!(post(&tenant, "/clock", json!({"seconds": 1})).await.0, 400);
    assert_eq!(std::fs::read_to_string(tenant.emulator.ca_path().unwrap()).unwrap(), tenant.emulator.ca_pem());
}

#[tokio::test]
async fn applications_and_users_are_turned_by_hand() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let app = format!("/applications/{}", sample.client_id);
    let client_id = sample.client_id.to_string();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client_id.as_str()),
        ("client_secret", sample.client_secret.as_str()),
        ("scope", GRAPH),
    ];
    assert_eq!(post(&tenant, &app, json!({"remove_permission": "Mail.Send"})).await.0, 200);
    let token = crate::support::claims(&tenant.app_token(GRAPH).await);
    assert!(!token["roles"].as_array().unwrap().contains(&"Mail.Send".into()));
    for (change, number) in [
        (json!({"disable_service_principal": true}), Some(7000112)),
        (json!({"disable_service_principal": false}), None),
        (json!({"sign_in_refusal": 53003}), Some(53003)),
        (json!({"sign_in_refusal": 0}), None),
        (json!({"expire_secrets": true}), Some(7000222)),
        (json!({"remove_secrets": true}), Some(7000215)),
    ] {
        assert_eq!(post(&tenant, &app, change.clone()).await.0, 200);
        let (status, body) = tenant.token(&form).await;
        assert_eq!(body["error_codes"][0].as_u64(), number, "{change}: {body}");
        assert_eq!(status == 200, number.is_none());
    }
    assert_eq!(post(&tenant, &app, json!({"unheard_of": 1})).await.0, 400);
    let user = format!("/tenants/{}/users/{}", sample.domain, sample.user_name);
    assert_eq!(post(&tenant, &user, json!({"enabled": false, "sign_in_refusal": 50057})).await.0, 200);
    assert_eq!(get(&tenant, "/nowhere").await.0, 404);
}

#[tokio::test]
async fn a_new_credential_is_not_known_everywhere_at_once() {
    let lag = Duration::from_secs(10);
    let tenant = Box::with(EmulatorSettings { acceptance_lag: lag, ..EmulatorSettings::default() }).await;
    let sample = tenant.emulator.sample().clone();
    let secret = tenant.emulator.with_world(|world| {
        let text = world.make_client_secret();
        let accepted_from = world.credential_accepted_from();
        let app =
            world.tenants[0].directory.applications.iter_mut().find(|app| app.app_id == sample.client_id).unwrap();
        let fresh =
            postkey_emulator::directory::ClientSecret { text: text.clone(), accepted_from, ..app.secrets[0].clone() };
        app.secrets.push(fresh);
        text
    });
    let client_id = sample.client_id.to_string();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client_id.as_str()),
        ("client_secret", secret.as_str()),
        ("scope", GRAPH),
    ];
    assert_eq!(tenant.token(&form).await.1["error_codes"][0], 7000215);
    tenant.emulator.advance(lag);
    assert_eq!(tenant.token(&form).await.0, 200);
    tenant.emulator.with_world(|world| world.behaviour.non_monotone = true);
    let mut seen = [false; 2];
    for _ in 0..64 {
        seen[usize::from(tenant.token(&form).await.0 == 200)] = true;
    }
    assert_eq!(seen, [true, true], "accepted and refused by turns");
}

#[tokio::test]
async fn only_its_own_names_and_no_web_page_reach_a_port() {
    let tenant = Box::start().await;
    for base in [tenant.emulator.management(), tenant.emulator.authority(), tenant.emulator.graph()] {
        let answer = tenant.client.get(&base).header("host", "rebound.example").send().await.unwrap();
        assert_eq!(answer.status(), 421, "{base}");
    }
    let url = format!("{}/secrets", tenant.emulator.management());
    let answer = tenant.client.get(url).header("origin", "https://evil.example").send().await.unwrap();
    assert_eq!(answer.status(), 403);
    let open = EmulatorSettings { listen: [0, 0, 0, 0].into(), ..EmulatorSettings::default() };
    assert!(postkey_emulator::Emulator::start(open).await.is_err());
}
