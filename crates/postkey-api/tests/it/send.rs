//! `POST /v1/send`.

use axum::body::Body;
use bytes::Bytes;
use futures_util::{future::join_all, stream};
use http::header;
use postkey_queue::QueueSettings;
use postkey_store::{MessageId, Priority, SubmitterRules, Via};
use postkey_transport::Message;
use serde_json::{Value, json};

use crate::house::{ALL, Answer, House, request};

async fn stored(house: &House, answer: &Answer) -> (postkey_store::QueuedMessage, Message) {
    assert_eq!(answer.status, 202, "{answer:?}");
    let id: MessageId = answer.json()["id"].as_str().unwrap().parse().unwrap();
    let queued = house.store.message(id).await.unwrap().expect("it was stored before the answer");
    let body = house.store.message_body(id).await.unwrap().expect("its body was, too");
    (queued, Message::parse(body).unwrap())
}

#[tokio::test]
async fn what_is_answered_with_202_is_stored_as_it_was_given() {
    let (house, key) = House::shop().await;
    let body = json!({
        "from": "billing@contoso.example", "from_name": "Contoso Billing",
        "to": ["ada@fabrikam.example", "Ada@fabrikam.example"], "cc": ["bob@fabrikam.example"],
        "bcc": ["audit@contoso.example"], "reply_to": ["help@contoso.example"],
        "subject": "Grüße", "text": "Hallo", "html": "<p>Hallo <img src=\"cid:logo.png\"></p>",
        "attachments": [
            {"name": "logo.png", "content": "AAEC", "inline": true},
            {"name": "a.pdf", "content_type": "application/pdf", "content": "AAECAw=="}
        ],
        "headers": {"X-Order": "4711"},
        "priority": "low",
        "dsn": {"notify": ["failure", "delay"], "ret": "headers", "envid": "order-4711"},
        "as_json": true
    });
    let answer = house.json("POST", &key, "/v1/send", &body).await;
    let (queued, message) = stored(&house, &answer).await;
    let taken = answer.json();
    assert_eq!(taken["state"], "queued");
    assert_eq!(answer.header("location"), format!("/v1/outbox/{}", queued.id));
    assert_eq!(taken["links"]["cancel"], format!("/v1/outbox/{}/cancel", queued.id));
    assert_eq!(taken["message_id"].as_str(), queued.message_id.as_deref());
    assert_eq!(queued.envelope.from, Some("billing@contoso.example".parse().unwrap()));
    let named: Vec<_> = queued.envelope.recipients.iter().map(|one| one.address.as_str()).collect();
    assert_eq!(named, ["ada@fabrikam.example", "bob@fabrikam.example", "audit@contoso.example"]);
    let notify = queued.envelope.recipients[0].notify.unwrap();
    assert_eq!((notify.success, notify.failure, notify.delay), (false, true, true));
    assert_eq!(queued.envelope.envid.as_deref(), Some("order-4711"));
    assert_eq!((queued.priority, queued.via, queued.graph_json), (Priority::Low, Via::Http, true));
    assert_eq!(queued.remote.as_deref(), Some("127.0.0.1"));
    let sender = house.store.sender("billing").await.unwrap().unwrap();
    assert_eq!(queued.sender, sender.id, "its mailbox is the reverse-path");
    assert_eq!(message.subject().as_deref(), Some("Grüße"));
    assert_eq!(message.value("X-Order"), Some(&b" 4711"[..]));
    assert_eq!(message.addresses("Reply-To"), ["help@contoso.example".parse().unwrap()]);
    let text = String::from_utf8_lossy(message.raw()).into_owned();
    assert!(text.contains("Content-ID: <logo.png>") && text.contains("filename=\"a.pdf\""), "{text}");
    house.close().await;
}

#[tokio::test]
async fn a_message_is_taken_byte_by_byte_for_whom_its_headers_or_the_query_name() {
    let (house, key) = House::shop().await;
    let raw = "From: Reports <noreply@contoso.example>\r\nTo: a@x.example\r\nBcc: b@x.example\r\nSubject: \
               hi\r\nMessage-ID: <1@x>\r\n\r\n.leading dot\r\n";
    for (query, from, recipients) in [
        ("", "noreply@contoso.example", vec!["a@x.example", "b@x.example"]),
        ("?to=c%40x.example&to=d@x.example", "noreply@contoso.example", vec!["c@x.example", "d@x.example"]),
        ("?from=billing@contoso.example&to=c@x.example", "billing@contoso.example", vec!["c@x.example"]),
        ("?sender=billing", "noreply@contoso.example", vec!["a@x.example", "b@x.example"]),
    ] {
        let asked = request("POST", &format!("/v1/send{query}"), &key).header(header::CONTENT_TYPE, "message/rfc822");
        let answer = house.ask(asked.body(Body::from(raw)).unwrap()).await;
        let (queued, message) = stored(&house, &answer).await;
        assert_eq!(&message.raw()[..], raw.as_bytes(), "{query}");
        assert_eq!(queued.envelope.from.as_ref().unwrap().as_str(), from, "{query}");
        let named: Vec<_> = queued.envelope.recipients.iter().map(|one| one.address.as_str()).collect();
        assert_eq!(named, recipients, "{query}");
        assert_eq!(answer.json()["message_id"], "<1@x>");
        let billing = house.store.sender("billing").await.unwrap().unwrap().id;
        assert_eq!(queued.sender == billing, query.contains("billing"), "{query}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_message_without_a_message_id_is_told_the_one_it_will_get() {
    let (house, key) = House::shop().await;
    let asked = request("POST", "/v1/send?to=a@x.example", &key).header(header::CONTENT_TYPE, "message/rfc822");
    let answer = house.ask(asked.body(Body::from("Subject: x\r\n\r\n")).unwrap()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = answer.json()["id"].as_str().unwrap().replace('-', "");
    assert_eq!(answer.json()["message_id"], format!("<{id}@contoso.example>"));
    house.close().await;
}

#[tokio::test]
async fn the_same_idempotency_key_takes_the_same_request_once() {
    let (house, key) = House::shop().await;
    house.submitter("other", SubmitterRules::default()).await;
    let other = house.key("other-key", Some("other"), &ALL).await;
    let send = async |key: &str, idempotency_key: &str, subject: &str| {
        let body = json!({"to": ["a@x.example"], "subject": subject}).to_string();
        let asked = request("POST", "/v1/send", key)
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", idempotency_key);
        house.ask(asked.body(Body::from(body)).unwrap()).await
    };
    let first = send(&key, "k-1", "one").await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (202, ""));
    let again = send(&key, "k-1", "one").await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (202, "true"));
    assert_eq!(again.json(), first.json());
    let changed = send(&key, "k-1", "two").await;
    assert_eq!((changed.status.as_u16(), changed.code().as_str()), (422, "queue.key_reused"));
    let others = send(&other, "k-1", "one").await;
    assert_eq!(others.status, 202);
    assert_ne!(others.json()["id"], first.json()["id"], "keys belong to their submitter");
    let at_once: Vec<_> = (0..8).map(|_| send(&key, "k-2", "many")).collect();
    let mut ids: Vec<Value> = Vec::new();
    for answer in join_all(at_once).await {
        assert_eq!(answer.status, 202, "{answer:?}");
        ids.push(answer.json()["id"].clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    house.close().await;
}

#[tokio::test]
async fn a_scheduled_message_says_so_and_waits() {
    let (house, key) = House::shop().await;
    let body = json!({"to": ["a@x.example"], "not_before": "2099-01-01T00:00:00Z"});
    let answer = house.json("POST", &key, "/v1/send", &body).await;
    let (queued, _) = stored(&house, &answer).await;
    assert_eq!(answer.json()["state"], "scheduled");
    assert_eq!(queued.due_at.to_string(), "2099-01-01T00:00:00Z");
    house.close().await;
}

#[tokio::test]
async fn what_the_submitters_rules_forbid_is_refused_as_over_smtp() {
    let (house, _) = House::shop().await;
    let rules = SubmitterRules {
        recipient_domains: vec!["fabrikam.example".into()],
        messages_per_day: Some(1),
        message_bytes: Some(20_000),
        ..SubmitterRules::default()
    };
    house.submitter("printer", rules).await;
    let key = house.key("printer-key", Some("printer"), &ALL).await;
    let inside = json!(["ada@fabrikam.example"]);
    for (body, status, code) in [
        (json!({"to": ["a@x.example"]}), 403, "submission.recipient_not_allowed"),
        (json!({"to": inside, "from": "ceo@contoso.example"}), 403, "submission.not_its_address"),
        (json!({"to": inside, "sender": "payroll"}), 403, "api.sender_not_allowed"),
        (json!({"to": inside, "text": "x".repeat(30_000)}), 413, "submission.too_large"),
        (json!({"to": inside}), 202, "-"),
        (json!({"to": inside}), 429, "submission.quota_used_up"),
    ] {
        let answer = house.json("POST", &key, "/v1/send", &body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{body}");
        assert_eq!(answer.header("retry-after").is_empty(), status != 429);
    }
    house.close().await;
}

#[tokio::test]
async fn a_full_queue_asks_to_come_back() {
    let house = House::with(QueueSettings { most_queued: Some(1), ..QueueSettings::default() }).await;
    house.submitter("shop", SubmitterRules::default()).await;
    let key = house.key("shop-key", Some("shop"), &ALL).await;
    house.sent(&key, "one").await;
    let answer = house.json("POST", &key, "/v1/send", &json!({"to": ["a@x.example"]})).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "queue.backlog"));
    assert_eq!(answer.header("retry-after"), "10");
    house.close().await;
}

#[tokio::test]
async fn a_body_that_is_announced_as_too_large_is_refused_before_it_is_read() {
    let (house, _) = House::shop().await;
    let rules = SubmitterRules { message_bytes: Some(1_000), ..SubmitterRules::default() };
    house.submitter("small", rules).await;
    let key = house.key("small-key", Some("small"), &ALL).await;
    let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let asked = request("POST", "/v1/send", &key)
        .header(header::CONTENT_TYPE, "message/rfc822")
        .header(header::CONTENT_LENGTH, "1001");
    let answer = house.ask(asked.body(never).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "api.message_too_large"));
    let problem = answer.json();
    assert!(problem["detail"].as_str().unwrap().contains("1001 bytes"), "{problem}");
    assert!(problem["remedy"].as_str().unwrap().contains("at most 1000 bytes"), "{problem}");
    // Without a length it is cut where it is too long.
    let chunks = [vec![b'x'; 600], vec![b'x'; 600]].map(|chunk| Ok::<_, std::io::Error>(Bytes::from(chunk)));
    let asked = request("POST", "/v1/send", &key).header(header::CONTENT_TYPE, "message/rfc822");
    let answer = house.ask(asked.body(Body::from_stream(stream::iter(chunks))).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "api.message_too_large"));
    house.close().await;
}
