//! Several queues on one store, restarts with much to do, and what is refused at the door.

use std::{sync::Arc, time::Duration};

use postkey_base::Clock;
use postkey_queue::{AcceptError, Queue, QueueParts, QueueSettings};
use postkey_store::{MessageState, SenderValues};

use crate::support::{Bench, Say, address, submission, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_send_each_message_once_and_a_lane_has_one_owner() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    let parts = QueueParts {
        store: bench.another_process().await,
        clock: Clock::following(bench.clock.clone()),
        outbound: Arc::new(bench.ways.clone()),
        settings: bench.settings.clone(),
        node: "other".into(),
    };
    let other = Queue::start(parts).await.unwrap();
    bench.far_side.seen.lock().unwrap().latency = Duration::from_millis(20);
    for number in 0..30 {
        bench.submit(sender, &format!("a{number}")).await;
        other.accept(submission(sender, &format!("b{number}"), None)).await.unwrap();
    }
    // What the other node took in is this one's to send: it learns of it when somebody looks, or when it takes the lane over.
    until(|| async { bench.far_side.taken() >= 30 }).await;
    bench.queue.shutdown(Duration::from_secs(5)).await;
    until(|| async {
        bench.clock.advance(Duration::from_secs(5));
        bench.far_side.taken() == 60
    })
    .await;
    let mut seen: Vec<_> =
        bench.far_side.seen.lock().unwrap().taken.iter().map(|one| one.header("X-Postkey-Id").unwrap()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 60);
    assert!(bench.far_side.seen.lock().unwrap().most_under_way <= 4);
    other.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_that_wait_go_out_after_a_restart_each_once() {
    let mut bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    bench.far_side.seen.lock().unwrap().latency = Duration::from_millis(200);
    let accepting = (0..1_000).map(|number| bench.queue.accept(submission(sender, &format!("m{number}"), None)));
    for accepted in futures_util::future::join_all(accepting).await {
        accepted.unwrap();
    }
    bench.queue.shutdown(Duration::from_secs(5)).await;
    let before = bench.far_side.taken();
    assert!(before < 100);
    bench.far_side.seen.lock().unwrap().latency = Duration::ZERO;
    bench.restart().await;
    until(|| async { bench.far_side.taken() == 1_000 }).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(bench.far_side.taken(), 1_000);
    let counts = bench.store.count_messages().await.unwrap();
    assert!(counts.iter().all(|count| count.state == MessageState::Accepted), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_goes_along_when_its_sender_moves_to_another_mailbox() {
    for restarts in [0, 2] {
        let mut bench = Bench::start().await;
        let neighbour = bench.sender("other@contoso.example", true).await;
        let first = bench.submit(neighbour, "first").await;
        bench.reaches(first, MessageState::Accepted).await;
        let sender = bench.sender("noreply@contoso.example", true).await;
        for _ in 0..restarts {
            // Each start takes the lane anew for this one.
            let more = bench.submit(sender, "more").await;
            bench.reaches(more, MessageState::Accepted).await;
            bench.restart().await;
        }
        bench.far_side.says([Say::Refuse(409, "ErrorItemSave")]);
        let id = bench.submit(sender, "second").await;
        bench.reaches(id, MessageState::Deferred).await;
        let values = SenderValues {
            mailbox: Some(address("other@contoso.example")),
            ..bench.store.sender_by_id(sender).await.unwrap().unwrap().values
        };
        bench.set_way(sender, Ok(bench.connected("other@contoso.example", true)));
        bench.store.save_sender(&values).await.unwrap();
        bench.clock.advance(Duration::from_secs(120));
        bench.reaches(id, MessageState::Accepted).await;
        let seen = bench.far_side.seen.lock().unwrap();
        let last = seen.taken.iter().find(|one| one.text.contains("Subject: second")).unwrap();
        assert_eq!(last.mailbox, "other@contoso.example");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_is_the_same_message_and_never_another() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    let keyed = |subject: &str| {
        let mut submission = submission(sender, subject, None);
        submission.idempotency_key = Some("order-17".into());
        submission
    };
    let first = bench.queue.accept(keyed("one")).await.unwrap();
    let again = bench.queue.accept(keyed("one")).await.unwrap();
    assert_eq!((again.id, first.repeated, again.repeated), (first.id, false, true));
    assert!(matches!(bench.queue.accept(keyed("two")).await, Err(AcceptError::KeyReused)));
    bench.reaches(first.id, MessageState::Accepted).await;
    assert_eq!(bench.far_side.taken(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_may_wait_is_refused_for_now() {
    let settings = QueueSettings { most_queued: Some(3), ..QueueSettings::default().without_rates() };
    let bench = Bench::with(settings).await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    bench.far_side.seen.lock().unwrap().latency = Duration::from_millis(300);
    let mut refused = None;
    for number in 0..8 {
        if let Err(error) = bench.queue.accept(submission(sender, &format!("m{number}"), None)).await {
            refused = Some(error);
        }
    }
    let refused = refused.unwrap();
    assert!(matches!(refused, AcceptError::Backlog { most: 3, .. }));
    assert_eq!((refused.smtp_reply().code, refused.http_status()), (452, 429));
    until(|| async { bench.queue.accept(submission(sender, "later", None)).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gauges_tell_what_waits_and_what_went() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    let id = bench.submit(sender, "one").await;
    bench.reaches(id, MessageState::Accepted).await;
    until(|| async {
        let gauges = bench.queue.gauges().await;
        let value = |name: &str| gauges.iter().find(|gauge| gauge.name == name).map(|gauge| gauge.value);
        value("postkey_lane_accepted_total") == Some(1.0) && value("postkey_queue_accepted_total") == Some(1.0)
    })
    .await;
}
