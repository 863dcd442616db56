//! An answer that did not come: exactly one copy where the mailbox may be read, else what the sender's policy says.

use std::time::Duration;

use postkey_store::{MessageState, OnUnknown};

use crate::support::{Bench, Say, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_504_after_the_message_was_taken_ends_as_one_copy() {
    for say in [Say::TakeBut(504), Say::TakeAndCut, Say::TakeBut(200)] {
        let bench = Bench::start().await;
        let sender = bench.sender("noreply@contoso.example", true).await;
        bench.far_side.says([say.clone()]);
        let id = bench.submit(sender, "one").await;
        bench.reaches(id, MessageState::Unknown).await;
        bench.clock.advance(Duration::from_secs(6));
        bench.reaches(id, MessageState::Accepted).await;
        assert_eq!(bench.far_side.taken(), 1, "{say:?}");
        let events = bench.events(id).await;
        assert_eq!(events.last().unwrap().detail["seen_in_sent"]["confirmed"], true);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_in_sent_items_after_the_window_is_sent_again_with_the_same_message_id() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    bench.far_side.says([Say::Cut]);
    let id = bench.submit(sender, "one").await;
    bench.reaches(id, MessageState::Unknown).await;
    for (looked, seconds) in [(1, 10), (2, 30), (3, 120)] {
        bench.clock.advance(Duration::from_secs(seconds));
        until(|| async { bench.far_side.seen.lock().unwrap().looked >= looked }).await;
    }
    bench.clock.advance(Duration::from_secs(500));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.message(id).await.state, MessageState::Unknown, "only the end of the window proves absence");
    bench.clock.advance(Duration::from_secs(300));
    let message = bench.reaches(id, MessageState::Accepted).await;
    assert_eq!((message.attempts, bench.far_side.taken()), (2, 1));
    let seen = bench.far_side.seen.lock().unwrap();
    assert_eq!(seen.taken[0].header("Message-ID").as_deref(), Some("<one@contoso.example>"));
    assert_eq!(seen.taken[0].header("X-Postkey-Id"), Some(id.to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_read_the_policy_decides() {
    for policy in [OnUnknown::AtLeastOnce, OnUnknown::AtMostOnce] {
        let bench = Bench::start().await;
        let sender = bench.sender("noreply@contoso.example", false).await;
        let mut connected = bench.connected("noreply@contoso.example", false);
        connected.on_unknown = policy;
        bench.set_way(sender, Ok(connected));
        bench.far_side.says([Say::TakeAndCut]);
        let id = bench.submit(sender, "one").await;
        bench.reaches(id, MessageState::Unknown).await;
        bench.clock.advance(Duration::from_secs(120));
        match policy {
            OnUnknown::AtLeastOnce => {
                until(|| async {
                    bench.clock.advance(Duration::from_secs(10));
                    bench.message(id).await.state == MessageState::Accepted
                })
                .await;
                let events = bench.events(id).await;
                let resend = events.iter().find(|event| event.kind == "resend").unwrap();
                assert_eq!(resend.detail["possible_duplicate"], true);
                assert_eq!(events.last().unwrap().kind, "accepted");
                assert!(events.last().unwrap().detail["last_fact"].is_string());
            }
            OnUnknown::AtMostOnce => {
                until(|| async { bench.events(id).await.iter().any(|event| event.detail["final"] == true) }).await;
                // Its sender is told; by our own message, which is sent as any other.
                until(|| async { bench.far_side.taken() == 2 }).await;
                assert_eq!(bench.message(id).await.state, MessageState::Unknown);
                let seen = bench.far_side.seen.lock().unwrap();
                assert!(seen.taken[1].text.contains("Action: failed"), "{}", seen.taken[1].text);
                assert_eq!(seen.taken[1].header("Auto-Submitted").as_deref(), Some("auto-replied"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_a_crash_interrupted_is_looked_for() {
    let mut bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    bench.far_side.seen.lock().unwrap().latency = Duration::from_secs(2);
    let id = bench.submit(sender, "one").await;
    bench.reaches(id, MessageState::Sending).await;
    until(|| async { bench.far_side.seen.lock().unwrap().under_way == 1 }).await;
    // No time to finish: as after a crash the row stays `sending`. The far side takes the message all the same.
    bench.queue.shutdown(Duration::ZERO).await;
    bench.far_side.seen.lock().unwrap().latency = Duration::ZERO;
    bench.restart().await;
    until(|| async { bench.kinds(id).await.contains(&"unknown".to_owned()) }).await;
    until(|| async { bench.far_side.taken() == 1 }).await;
    bench.clock.advance(Duration::from_secs(6));
    bench.reaches(id, MessageState::Accepted).await;
    assert_eq!(bench.far_side.taken(), 1);
}
