//! Who is told: the sender by mail, webhooks by signed notices, the timeline of what came back.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use postkey_queue::{QueueSettings, sign};
use postkey_store::{MessageFilter, MessageState, NewWebhook, Via};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use crate::support::{Bench, Say, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sender_of_a_failed_message_gets_a_notification_and_none_about_that() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    bench.far_side.says([Say::Refuse(400, "ErrorInvalidRecipients"), Say::Refuse(400, "ErrorInvalidRecipients")]);
    let id = bench.submit(sender, "one").await;
    bench.reaches(id, MessageState::Failed).await;
    let kinds = bench.kinds(id).await;
    assert_eq!(kinds, ["queued", "sending", "failed", "notification"]);
    // The notification is refused as well; nobody is told of that.
    let all = || async { bench.store.search_messages(&MessageFilter::default()).await.unwrap() };
    until(|| async { all().await.iter().filter(|one| one.state == MessageState::Failed).count() == 2 }).await;
    let own = all().await.into_iter().find(|one| one.via == Via::Own).unwrap();
    assert_eq!((own.envelope.from, own.submitter), (None, None));
    assert_eq!(own.envelope.recipients[0].address.as_str(), "noreply@contoso.example");
    assert_eq!(all().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_sent_again_and_fails_again_is_told_of_again() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    bench.far_side.says([Say::Refuse(400, "ErrorInvalidRecipients")]);
    let id = bench.submit(sender, "one").await;
    for told in 1..=2 {
        bench.reaches(id, MessageState::Failed).await;
        let all = || async { bench.store.search_messages(&MessageFilter::default()).await.unwrap() };
        until(|| async {
            let sent = |one: &postkey_store::QueuedMessage| one.via == Via::Own && one.state == MessageState::Accepted;
            all().await.iter().filter(|one| sent(one)).count() == told
        })
        .await;
        if told == 1 {
            bench.far_side.says([Say::Refuse(400, "ErrorInvalidRecipients")]);
            assert_eq!(bench.outbox().retry(&[id], "test").await.unwrap(), [id]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_hears_signed_what_became_of_a_message_and_is_asked_again_when_it_fails() {
    let settings =
        QueueSettings { webhooks_to_private: true, webhooks_by_http: true, ..QueueSettings::default().without_rates() };
    let bench = Bench::with(settings).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?key=secret", listener.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(Vec::<(String, String)>::new()));
    tokio::spawn({
        let heard = Arc::clone(&heard);
        async move {
            let mut answers = ["500 No", "302 Found"].into_iter().chain(std::iter::repeat("204 Thanks"));
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let (mut signature, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).await.unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    let lower = line.to_ascii_lowercase();
                    if let Some(value) = lower.strip_prefix("x-postkey-signature:") {
                        signature = value.trim().to_owned();
                    } else if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                heard.lock().unwrap().push((signature, String::from_utf8(body).unwrap()));
                let answer = answers.next().unwrap();
                let head = format!(
                    "HTTP/1.1 {answer}\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                );
                let _ = stream.write_all(head.as_bytes()).await;
            }
        }
    });
    let new = NewWebhook {
        name: "ops".into(),
        url,
        events: vec!["message.accepted".into()],
        secret: b"shared".to_vec().into(),
    };
    bench.store.add_webhook(&new).await.unwrap();
    let sender = bench.sender("noreply@contoso.example", true).await;
    let id = bench.submit(sender, "one").await;
    bench.reaches(id, MessageState::Accepted).await;
    until(|| async { !heard.lock().unwrap().is_empty() }).await;
    until(|| async {
        bench.clock.advance(Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
        bench.store.next_notice().await.unwrap().is_none()
    })
    .await;
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 3, "refused, led elsewhere, taken");
    let (signature, body) = &heard[2];
    let seconds: i64 = signature[2..].split(',').next().unwrap().parse().unwrap();
    let at = jiff::Timestamp::from_second(seconds).unwrap();
    assert_eq!(*signature, sign(b"shared", at, body.as_bytes()));
    let told: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (told["type"].as_str(), told["message"]["id"].as_str()),
        (Some("message.accepted"), Some(id.to_string().as_str()))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_to_a_private_address_is_not_told_unless_allowed() {
    let bench = Bench::start().await;
    let new = NewWebhook {
        name: "in".into(),
        url: "https://127.0.0.1:9/".into(),
        events: vec![],
        secret: b"k".to_vec().into(),
    };
    bench.store.add_webhook(&new).await.unwrap();
    let sender = bench.sender("noreply@contoso.example", true).await;
    let id = bench.submit(sender, "one").await;
    bench.reaches(id, MessageState::Accepted).await;
    until(|| async {
        let due = bench.store.due_notices(jiff::Timestamp::MAX, 10).await.unwrap();
        due.iter().any(|notice| notice.last_error.as_deref().is_some_and(|error| error.contains("private")))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_in_the_inbox_is_noted_and_a_tenant_at_its_limit_is_held() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    let id = bench.submit(sender, "one").await;
    bench.reaches(id, MessageState::Accepted).await;
    let report = format!(
        "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: \
         dns;x\r\n\r\nFinal-Recipient: rfc822;alice@fabrikam.example\r\nAction: failed\r\nStatus: 5.7.233\r\n\
         Diagnostic-Code: smtp;550 5.7.233 tenant external recipient rate limit\r\n\r\n--b\r\nContent-Type: \
         message/rfc822\r\n\r\nX-Postkey-Id: {id}\r\nSubject: one\r\n\r\n\r\n--b--\r\n"
    );
    bench.far_side.seen.lock().unwrap().reports.push(("R1".into(), report));
    until(|| async {
        bench.clock.advance(Duration::from_secs(100));
        tokio::time::sleep(Duration::from_millis(40)).await;
        bench.kinds(id).await.contains(&"bounced".to_owned())
    })
    .await;
    until(|| async { !bench.store.holds().await.unwrap().is_empty() }).await;
    let holds = bench.store.holds().await.unwrap();
    assert_eq!(holds[0].scope, postkey_store::HoldScope::Tenant(crate::support::TENANT));
    // Seen again, it is noted once.
    bench.clock.advance(Duration::from_secs(400));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.kinds(id).await.iter().filter(|kind| *kind == "bounced").count(), 1);
}
