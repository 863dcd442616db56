//! From acceptance to what became of a message.

use std::time::{Duration, Instant};

use postkey_store::MessageState;

use crate::support::{Bench, Say, submission, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accepted_message_goes_out_with_its_stamp_and_a_timeline() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    let id = bench.submit(sender, "one").await;
    let message = bench.reaches(id, MessageState::Accepted).await;
    assert_eq!(message.attempts, 1);
    assert_eq!(bench.kinds(id).await, ["queued", "sending", "accepted"]);
    let seen = bench.far_side.seen.lock().unwrap();
    assert_eq!(seen.taken[0].mailbox, "noreply@contoso.example");
    assert_eq!(seen.taken[0].header("X-Postkey-Id").as_deref(), Some(id.to_string().as_str()));
    assert_eq!(seen.taken[0].header("Message-ID").as_deref(), Some("<one@contoso.example>"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_goes_out_though_its_client_hung_up_before_the_answer() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    let mut accepting = Box::pin(bench.queue.accept(submission(sender, "one", None)));
    assert!(futures_util::poll!(&mut accepting).is_pending());
    drop(accepting);
    until(|| async { bench.far_side.taken() == 1 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_acceptance_to_the_request_takes_no_time_to_speak_of() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    let mut waits = Vec::new();
    for number in 0..40 {
        let id = bench.submit(sender, &format!("m{number}")).await;
        let accepted = Instant::now();
        bench.reaches(id, MessageState::Accepted).await;
        let seen = bench.far_side.seen.lock().unwrap();
        waits.push(seen.taken.last().unwrap().at.saturating_duration_since(accepted));
    }
    waits.sort();
    println!("p50 {:?} p95 {:?}", waits[20], waits[38]);
    assert!(waits[20] < Duration::from_millis(50), "{waits:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_at_once_are_kept_busy_and_never_five() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    bench.far_side.seen.lock().unwrap().latency = Duration::from_millis(100);
    let mut last = None;
    for number in 0..80 {
        last = Some(bench.submit(sender, &format!("m{number}")).await);
    }
    let started = Instant::now();
    crate::support::until(|| async { bench.far_side.taken() == 80 }).await;
    bench.reaches(last.unwrap(), MessageState::Accepted).await;
    let seen = bench.far_side.seen.lock().unwrap();
    let (first, end) = (seen.taken[0].at, seen.taken[79].at);
    println!("{:?} for 76 messages at 40/s, {:?} in all", end - first, started.elapsed());
    assert_eq!(seen.most_under_way, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_message_fails_and_says_why() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    bench.far_side.says([Say::Refuse(400, "ErrorInvalidRecipients")]);
    let id = bench.submit(sender, "one").await;
    let message = bench.reaches(id, MessageState::Failed).await;
    assert_eq!(message.outcome.unwrap()["class"], "recipient");
    // The lane goes on.
    let next = bench.submit(sender, "two").await;
    bench.reaches(next, MessageState::Accepted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_goes_out_after_a_restart() {
    let mut bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    bench.queue.shutdown(Duration::from_secs(5)).await;
    let refused = bench.queue.accept(crate::support::submission(sender, "late", None)).await;
    assert!(matches!(refused, Err(postkey_queue::AcceptError::Stopping)));
    bench.restart().await;
    let id = bench.submit(sender, "one").await;
    bench.reaches(id, MessageState::Accepted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_message_burns_no_attempt_and_goes_when_the_server_said() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    bench.far_side.says([Say::RefuseFor(429, "ApplicationThrottled", 60)]);
    let id = bench.submit(sender, "one").await;
    crate::support::until(|| async { bench.kinds(id).await.contains(&"throttled".to_owned()) }).await;
    assert_eq!(bench.message(id).await.attempts, 0);
    bench.clock.advance(Duration::from_secs(50));
    assert_eq!(bench.far_side.taken(), 0);
    bench.clock.advance(Duration::from_secs(20));
    assert_eq!(bench.reaches(id, MessageState::Accepted).await.attempts, 1);
}
