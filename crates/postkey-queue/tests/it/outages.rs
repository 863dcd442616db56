//! What cannot go now is held, burns no attempt, and goes by itself when it can.

use std::time::Duration;

use postkey_queue::ShownState;
use postkey_store::{HoldScope, MessageFilter, MessageState, SubmitterId};
use postkey_transport::OutcomeClass;

use crate::support::{Bench, Say, out, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_of_an_app_without_a_credential_waits_and_goes_when_there_is_one() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    bench.set_way(sender, Err(out(OutcomeClass::Credential, "identity.secret_expired")));
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(bench.submit(sender, &format!("m{number}")).await);
    }
    until(|| async { !bench.store.holds().await.unwrap().is_empty() }).await;
    let hold = bench.store.holds().await.unwrap().remove(0);
    assert_eq!(hold.code.as_deref(), Some("identity.secret_expired"));
    let listed = bench.outbox().list(&MessageFilter::default()).await.unwrap();
    assert!(listed.iter().all(|one| one.shown == ShownState::Held && one.message.attempts == 0));
    // Eight hours later nothing has changed.
    for _ in 0..8 {
        bench.clock.advance(Duration::from_secs(3600));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(bench.far_side.seen.lock().unwrap().asked, 0);
    bench.set_way(sender, Ok(bench.connected("noreply@contoso.example", true)));
    bench.clock.advance(Duration::from_secs(600));
    for id in ids {
        assert_eq!(bench.reaches(id, MessageState::Accepted).await.attempts, 1);
    }
    assert!(bench.store.holds().await.unwrap().is_empty());
    assert!(bench.ways.0.lock().unwrap()[&sender].forgotten > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graph_that_is_down_for_three_days_costs_nothing() {
    let bench = Bench::start().await;
    let mut ids = Vec::new();
    bench.far_side.always(Some(Say::Refuse(503, "serviceNotAvailable")));
    for mailbox in 0..4 {
        let sender = bench.sender(&format!("m{mailbox}@contoso.example"), true).await;
        for number in 0..30 {
            ids.push(bench.submit(sender, &format!("b{mailbox}n{number}")).await);
        }
    }
    until(|| async { bench.store.holds().await.unwrap().len() == 4 }).await;
    for _ in 0..36 {
        bench.clock.advance(Duration::from_secs(2 * 3600));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = bench.far_side.seen.lock().unwrap().asked;
    assert!(asked <= 4 * 8, "{asked} messages were risked");
    bench.far_side.always(None);
    bench.far_side.seen.lock().unwrap().most_under_way = 0;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        bench.clock.advance(Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
        let counts = bench.store.count_messages().await.unwrap();
        if counts.iter().all(|count| count.state == MessageState::Accepted) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{counts:?}");
    }
    let seen = bench.far_side.seen.lock().unwrap();
    assert_eq!(seen.taken.len(), ids.len(), "each once");
    assert!(seen.most_under_way <= 16, "{}", seen.most_under_way);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_that_is_denied_does_not_stop_another() {
    let bench = Bench::start().await;
    let bad = bench.sender("bad@contoso.example", true).await;
    bench.far_side.says([Say::Refuse(403, "ErrorAccessDenied")]);
    let held = bench.submit(bad, "held").await;
    until(|| async { !bench.store.holds().await.unwrap().is_empty() }).await;
    let good = bench.sender("good@contoso.example", true).await;
    let id = bench.submit(good, "fine").await;
    bench.reaches(id, MessageState::Accepted).await;
    assert_eq!(bench.message(held).await.state, MessageState::Queued);
    let shown = bench.outbox().show(held).await.unwrap().unwrap();
    assert_eq!(shown.listed.shown, ShownState::Held);
    assert!(shown.listed.because.unwrap().remedy.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_submitter_waits_while_others_go_and_resumes_when_told() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    let submitter = SubmitterId::random();
    let elsewhere =
        postkey_queue::Outbox::new(bench.another_process().await, postkey_base::Clock::following(bench.clock.clone()));
    let scope = HoldScope::Submitter(submitter);
    elsewhere.pause(scope.clone(), "maintenance", None, "ops").await.unwrap();
    until(|| async { bench.queue.holds() == 1 }).await;
    let held = bench.submit_as(sender, "held", Some(submitter)).await.id;
    let free = bench.submit(sender, "free").await;
    bench.reaches(free, MessageState::Accepted).await;
    assert_eq!(bench.message(held).await.state, MessageState::Queued);
    assert!(elsewhere.resume(&scope).await.unwrap());
    bench.reaches(held, MessageState::Accepted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_domain_holds_only_its_mail() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    let scope = HoldScope::Domain("fabrikam.example".into());
    let end = bench.outbox().pause(scope, "their server is moving", None, "ops").await.unwrap();
    until(|| async { bench.queue.holds() == 1 }).await;
    let held = bench.submit(sender, "held").await;
    let mut other = crate::support::submission(sender, "free", None);
    other.envelope.recipients[0].address = "bob@x.example".parse().unwrap();
    let free = bench.queue.accept(other).await.unwrap().id;
    bench.reaches(free, MessageState::Accepted).await;
    assert_eq!(bench.message(held).await.state, MessageState::Queued);
    bench.outbox().resume(&end.scope).await.unwrap();
    bench.reaches(held, MessageState::Accepted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_withdrawn_or_given_a_later_time_does_not_go_before() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    let mut later = crate::support::submission(sender, "later", None);
    later.not_before = Some(bench.message_time() + jiff::SignedDuration::from_hours(1));
    let later = bench.queue.accept(later).await.unwrap().id;
    let mut never = crate::support::submission(sender, "never", None);
    never.not_before = Some(bench.message_time() + jiff::SignedDuration::from_hours(1));
    let never = bench.queue.accept(never).await.unwrap().id;
    assert_eq!(bench.outbox().show(later).await.unwrap().unwrap().listed.shown, ShownState::Scheduled);
    assert_eq!(bench.outbox().cancel(&[never], "ops").await.unwrap(), [never]);
    bench.clock.advance(Duration::from_secs(3500));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.far_side.taken(), 0);
    bench.clock.advance(Duration::from_secs(200));
    bench.reaches(later, MessageState::Accepted).await;
    assert_eq!(bench.message(never).await.state, MessageState::Cancelled);
    // Sent again by a person, it goes.
    assert_eq!(bench.outbox().retry(&[never, later], "ops").await.unwrap(), [never]);
    bench.reaches(never, MessageState::Accepted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_or_jumps_ahead_keeps_no_lane_and_fails_nothing() {
    let bench = Bench::start().await;
    let sender = bench.sender("noreply@contoso.example", true).await;
    bench.far_side.always(Some(Say::Refuse(503, "serviceNotAvailable")));
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(bench.submit(sender, &format!("m{number}")).await);
    }
    until(|| async { bench.queue.holds() == 1 }).await;
    bench.clock.advance(Duration::from_secs(8 * 24 * 3600));
    tokio::time::sleep(Duration::from_millis(300)).await;
    for number in 10..15 {
        ids.push(bench.submit(sender, &format!("m{number}")).await);
    }
    bench.clock.set_back(Duration::from_secs(3 * 24 * 3600));
    bench.far_side.always(None);
    until(|| async {
        bench.clock.advance(Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.far_side.taken() == 15
    })
    .await;
    for id in ids {
        bench.reaches(id, MessageState::Accepted).await;
    }
}
