//! What measurements and pacing tests ask of the emulator: no limits, lateness, and honest counts.

use std::time::{Duration, Instant};

use postkey_emulator::{EmulatorSettings, Keep, Limits};
use serde_json::{Value, json};

use crate::support::{Box, GRAPH};

async fn manage(tenant: &Box, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, String) {
    let url = format!("{}{path}", tenant.emulator.management());
    let request = tenant.client.request(method, url);
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn counters(tenant: &Box) -> Value {
    serde_json::from_str(&manage(tenant, reqwest::Method::GET, "/counters", None).await.1).unwrap()
}

/// So many messages at once, each with a stamp of its own; the statuses in order.
async fn send_at_once(tenant: &Box, token: &str, count: usize) -> Vec<u16> {
    let sample = tenant.emulator.sample().clone();
    let url = format!("{}/users/{}/sendMail", tenant.emulator.graph(), sample.sender);
    let sends: Vec<_> = (0..count)
        .map(|number| {
            let message = json!({"message": {
                "subject": "Hello", "body": {"contentType": "text", "content": "x"},
                "toRecipients": [{"emailAddress": {"address": sample.user_name}}],
                "internetMessageHeaders": [
                    {"name": "X-Postkey-Id", "value": format!("00000000-0000-0000-0000-{number:012}")}
                ],
            }});
            tokio::spawn(tenant.client.post(&url).bearer_auth(token).json(&message).send())
        })
        .collect();
    let mut statuses = Vec::new();
    for sent in sends {
        statuses.push(sent.await.unwrap().unwrap().status().as_u16());
    }
    statuses.sort_unstable();
    statuses
}

#[tokio::test]
async fn with_limits_lifted_nobody_is_throttled_and_every_message_is_counted() {
    let settings = EmulatorSettings {
        limits: Limits::lifted(),
        graph_latency: Duration::from_millis(100),
        keep: Keep::Ids,
        ..EmulatorSettings::default()
    };
    let tenant = Box::with(settings).await;
    let token = tenant.app_token(GRAPH).await;
    let start = Instant::now();
    assert_eq!(send_at_once(&tenant, &token, 20).await, vec![202; 20]);
    assert!(start.elapsed() >= Duration::from_millis(100), "each answer is late");
    let seen = counters(&tenant).await;
    let sender = &seen["mailboxes"][&tenant.emulator.sample().sender];
    assert_eq!((&seen["throttled"], &sender["messages"], &sender["in_flight"]), (&json!(0), &json!(20), &json!(0)));
    assert!(sender["most_in_flight"].as_u64().unwrap() > 4, "{sender}");
    let (_, totals) = manage(&tenant, reqwest::Method::GET, "/arrivals", None).await;
    let totals: Value = serde_json::from_str(&totals).unwrap();
    assert_eq!(totals, json!({"messages": 20, "accepted": 20, "copies": 20, "repeated": 0, "beyond": 0}));
    let (_, lines) = manage(&tenant, reqwest::Method::GET, "/arrivals/list", None).await;
    assert_eq!(lines.lines().count(), 20);
    assert!(lines.lines().all(|line| line.split('\t').nth(2) == Some("1")), "{lines}");
    let one = "/arrivals/00000000-0000-0000-0000-000000000007";
    let (status, one) = manage(&tenant, reqwest::Method::GET, one, None).await;
    assert_eq!((status, &serde_json::from_str::<Value>(&one).unwrap()["copies"]), (200, &json!(1)));
    tenant.emulator.shutdown().await;
}

#[tokio::test]
async fn as_documented_the_surplus_is_throttled_and_counted() {
    let settings = EmulatorSettings { graph_latency: Duration::from_millis(300), ..EmulatorSettings::default() };
    let tenant = Box::with(settings).await;
    let token = tenant.app_token(GRAPH).await;
    let statuses = send_at_once(&tenant, &token, 12).await;
    let throttled = statuses.iter().filter(|&&status| status == 429).count();
    assert!(throttled > 0, "{statuses:?}");
    let seen = counters(&tenant).await;
    assert_eq!(seen["throttled"], json!(throttled));
    assert_eq!(seen["messages"], json!(12 - throttled));
    assert_eq!(manage(&tenant, reqwest::Method::DELETE, "/counters", None).await.0, 200);
    assert_eq!(counters(&tenant).await["throttled"], json!(0));
    // The same switches while it runs.
    let change = json!({"limits": "lifted", "graph_latency_ms": 0, "keep": "none", "external_recipients_per_day": 5});
    assert_eq!(manage(&tenant, reqwest::Method::POST, "/exchange/behaviour", Some(change)).await.0, 200);
    assert_eq!(send_at_once(&tenant, &token, 12).await, vec![202; 12]);
    assert_eq!(manage(&tenant, reqwest::Method::DELETE, "/arrivals", None).await.0, 200);
    tenant.emulator.shutdown().await;
}
