//! Accepted messages: from acceptance to the far end, on both databases.

use jiff::{SignedDuration, Timestamp};
use postkey_base::Diagnose;
use postkey_store::{
    Accepted, GroupCommit, IdempotencyKey, MessageFilter, MessageId, MessageState, NewMessage, NewMessageEvent,
    Priority, QueuedEnvelope, QueuedMessage, QueuedRecipient, SenderId, Settlement, Store, SubmitterId, Via,
};
use serde_json::json;

use crate::place::{Place, on_both_databases};

on_both_databases!(
    an_accepted_message_is_there_with_body_and_timeline_after_a_restart,
    many_callers_at_once_each_get_their_own_answer,
    a_message_goes_from_queued_to_accepted_and_its_timeline_says_so,
    who_lost_the_lane_can_neither_begin_nor_settle,
    a_repeated_submission_is_recognised_and_a_reused_key_refused,
    a_message_at_fault_does_not_fail_its_neighbours,
    due_messages_come_by_priority_then_by_time,
    the_work_there_is_is_told_by_sender_and_submitter,
    a_person_cancels_and_puts_back_and_the_counters_follow,
    messages_are_found_by_what_is_known_of_them,
    what_was_settled_long_ago_is_removed_with_body_and_timeline,
    a_status_notification_is_accepted_in_the_commit_that_calls_for_it,
    quotas_are_counted_from_what_was_submitted_and_sent,
    texts_that_a_database_cannot_hold_are_mended,
    what_is_asked_before_the_shutdown_is_committed,
);

pub(crate) fn event(kind: &'static str) -> NewMessageEvent {
    NewMessageEvent { kind, detail: json!({"by": "test"}) }
}

pub(crate) fn a_message(place: &Place, sender: SenderId) -> NewMessage {
    use postkey_base::clock::TimeSource;

    let now = place.clock.now();
    NewMessage {
        id: MessageId::at(now),
        submitter: None,
        sender,
        envelope: QueuedEnvelope {
            from: Some("ops@contoso.example".parse().unwrap()),
            recipients: vec![QueuedRecipient::new("Ada@fabrikam.example".parse().unwrap())],
            ret: None,
            envid: None,
        },
        body: b"Subject: Disk full\r\n\r\n\x00\xff".to_vec().into(),
        subject: Some("Disk full".into()),
        message_id: Some("<1@contoso.example>".into()),
        priority: Priority::Normal,
        due_at: None,
        via: Via::Smtp,
        remote: Some("192.0.2.1".into()),
        idempotency_key: None,
        events: vec![event("accepted")],
        accepted_at: now,
        graph_json: false,
    }
}

fn kinds(events: &[postkey_store::MessageEvent]) -> Vec<(i64, &str)> {
    events.iter().map(|event| (event.number, event.kind.as_str())).collect()
}

async fn counted(store: &Store) -> Vec<(MessageState, u64, u64)> {
    let counts = store.count_messages().await.unwrap();
    counts.into_iter().map(|count| (count.state, count.messages, count.bytes)).collect()
}

fn ids(messages: &[QueuedMessage]) -> Vec<MessageId> {
    messages.iter().map(|message| message.id).collect()
}

async fn an_accepted_message_is_there_with_body_and_timeline_after_a_restart(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let message = a_message(&place, SenderId::random());
    let accepted = writer.accept(message.clone()).await.unwrap();
    assert_eq!(accepted, Accepted { id: message.id, repeated: false });
    writer.shutdown().await;
    store.close().await;

    let store = place.store().await;
    let found = store.message(message.id).await.unwrap().unwrap();
    assert_eq!((found.state, found.size, found.attempts), (MessageState::Queued, 24, 0));
    assert_eq!((&found.envelope, &found.subject), (&message.envelope, &message.subject));
    assert_eq!((found.due_at, found.via, found.remote), (message.accepted_at, Via::Smtp, message.remote));
    assert_eq!(store.message_body(message.id).await.unwrap().unwrap(), message.body);
    assert_eq!(kinds(&store.message_events(message.id).await.unwrap()), [(1, "accepted")]);
    assert_eq!(counted(&store).await, [(MessageState::Queued, 1, 24)]);
    assert_eq!(store.message(MessageId::at(Timestamp::UNIX_EPOCH)).await.unwrap(), None);
}

async fn many_callers_at_once_each_get_their_own_answer(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let senders = [SenderId::random(), SenderId::random()];
    let calls: Vec<_> = (0..300)
        .map(|n| {
            let (writer, message) = (writer.clone(), a_message(&place, senders[n % 2]));
            tokio::spawn(async move { (message.id, writer.accept(message).await.unwrap()) })
        })
        .collect();
    for call in calls {
        let (id, accepted) = call.await.unwrap();
        assert_eq!(accepted, Accepted { id, repeated: false });
    }
    let counts: Vec<_> = store.count_messages().await.unwrap().iter().map(|count| count.messages).collect();
    assert_eq!(counts, [150, 150]);
    let filter = MessageFilter { limit: 500, ..MessageFilter::default() };
    assert_eq!(store.search_messages(&filter).await.unwrap().len(), 300);
}

async fn a_message_goes_from_queued_to_accepted_and_its_timeline_says_so(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let message = a_message(&place, SenderId::random());
    let id = message.id;
    writer.accept(message.clone()).await.unwrap();

    assert!(writer.begin_attempt(id, 1, event("attempt")).await.unwrap());
    assert!(!writer.begin_attempt(id, 1, event("attempt")).await.unwrap(), "it is being sent already");
    assert!(!store.cancel_message(id, &event("cancelled")).await.unwrap(), "too late");
    let due_at = message.accepted_at + SignedDuration::from_secs(60);
    let mut deferred = Settlement::to(id, 1, MessageState::Deferred);
    deferred.due_at = Some(due_at);
    deferred.attempts_delta = 1;
    deferred.outcome = Some(json!({"class": "mailbox"}));
    deferred.events = vec![event("answer"), event("deferred")];
    writer.settle(deferred).await.unwrap();
    let found = store.message(id).await.unwrap().unwrap();
    assert_eq!((found.state, found.attempts, found.due_at, found.epoch), (MessageState::Deferred, 1, due_at, 1));
    assert_eq!((found.outcome, found.settled_at), (Some(json!({"class": "mailbox"})), None));

    assert!(writer.begin_attempt(id, 1, event("attempt")).await.unwrap());
    let mut accepted = Settlement::to(id, 1, MessageState::Accepted);
    let mut envelope = message.envelope.clone();
    envelope.envid = Some("E1".into());
    accepted.envelope = Some(envelope.clone());
    accepted.events = vec![event("accepted_by_far_end")];
    writer.settle(accepted.clone()).await.unwrap();
    let found = store.message(id).await.unwrap().unwrap();
    assert_eq!((found.state, found.attempts), (MessageState::Accepted, 1));
    assert_eq!((found.envelope, found.outcome), (envelope, Some(json!({"class": "mailbox"}))));
    assert!(found.settled_at.is_some());
    let wanted =
        [(1, "accepted"), (2, "attempt"), (3, "answer"), (4, "deferred"), (5, "attempt"), (6, "accepted_by_far_end")];
    assert_eq!(kinds(&store.message_events(id).await.unwrap()), wanted);
    assert_eq!(counted(&store).await, [(MessageState::Accepted, 1, 24)]);

    // It comes back.
    let mut bounced = Settlement::to(id, 2, MessageState::Failed);
    bounced.events = vec![event("bounced")];
    writer.settle(bounced.clone()).await.unwrap();
    assert_eq!(writer.settle(bounced).await.unwrap_err().code(), "store.changed");
    assert!(!writer.begin_attempt(id, 2, event("attempt")).await.unwrap());
    assert!(store.append_message_event(id, &event("note")).await.unwrap());
    assert_eq!(store.message_events(id).await.unwrap().len(), 8);
}

async fn who_lost_the_lane_can_neither_begin_nor_settle(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let sender = SenderId::random();
    let message = a_message(&place, sender);
    let id = message.id;
    writer.accept(message).await.unwrap();
    assert!(writer.begin_attempt(id, 4, event("attempt")).await.unwrap());

    // Another takes the lane, and finds what was under way.
    assert_eq!(ids(&store.sending_before(sender, 5).await.unwrap()), [id]);
    assert_eq!(store.sending_before(sender, 4).await.unwrap(), []);
    writer.settle(Settlement::to(id, 5, MessageState::Unknown)).await.unwrap();
    let late = writer.settle(Settlement::to(id, 4, MessageState::Accepted)).await;
    assert_eq!(late.unwrap_err().code(), "store.changed");
    assert!(!writer.begin_attempt(id, 4, event("attempt")).await.unwrap());
    let now = store.message(id).await.unwrap().unwrap().due_at;
    assert_eq!(ids(&store.unknown_due(sender, now, 10).await.unwrap()), [id]);
    assert_eq!(store.next_unknown(sender).await.unwrap(), Some(now));
    assert!(
        !writer.begin_attempt(id, 5, event("attempt")).await.unwrap(),
        "what is unknown is not sent again by itself"
    );
    let again = Settlement { from: Some(MessageState::Unknown), ..Settlement::to(id, 5, MessageState::Queued) };
    writer.settle(again.clone()).await.unwrap();
    assert!(writer.begin_attempt(id, 5, event("attempt")).await.unwrap());
    let late = writer.settle(again).await;
    assert_eq!(late.unwrap_err().code(), "store.changed", "it is being sent: a second time is not begun");
    let missing = writer.settle(Settlement::to(MessageId::at(now), 5, MessageState::Accepted)).await;
    assert_eq!(missing.unwrap_err().code(), "store.changed");
}

async fn a_repeated_submission_is_recognised_and_a_reused_key_refused(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let (sender, submitters) = (SenderId::random(), [None, Some(SubmitterId::random())]);
    let with_key = |submitter, fingerprint: u8| {
        let mut message = a_message(&place, sender);
        message.submitter = submitter;
        message.idempotency_key = Some(IdempotencyKey { key: "order-17".into(), fingerprint: [fingerprint; 32] });
        message
    };
    for submitter in submitters {
        let first = with_key(submitter, 1);
        assert!(!writer.accept(first.clone()).await.unwrap().repeated);
        let again = writer.accept(with_key(submitter, 1)).await.unwrap();
        assert_eq!(again, Accepted { id: first.id, repeated: true });
        let other = writer.accept(with_key(submitter, 2)).await.unwrap_err();
        assert_eq!(other.code(), "store.key_reused");
    }
    assert_eq!(counted(&store).await.iter().map(|(_, messages, _)| messages).sum::<u64>(), 2);

    // All at once: one of them is the first, the others hear so.
    let mut calls = Vec::new();
    for n in 0..20 {
        let mut message = with_key(None, u8::from(n == 19));
        message.idempotency_key.as_mut().unwrap().key = "order-18".into();
        let writer = writer.clone();
        calls.push(tokio::spawn(async move { writer.accept(message).await }));
    }
    let (mut fresh, mut repeated, mut refused) = (Vec::new(), Vec::new(), 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(Accepted { id, repeated: false }) => fresh.push(id),
            Ok(Accepted { id, repeated: true }) => repeated.push(id),
            Err(_) => refused += 1,
        }
    }
    assert_eq!(fresh.len(), 1);
    assert!(repeated.iter().all(|id| *id == fresh[0]));
    assert!(refused == 1 || refused == 19, "{refused}");

    // Days later the key is free again.
    place.clock.turn(SignedDuration::from_hours(49));
    store.prune_messages(Timestamp::UNIX_EPOCH).await.unwrap();
    assert!(!writer.accept(with_key(None, 2)).await.unwrap().repeated);
}

async fn a_message_at_fault_does_not_fail_its_neighbours(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let first = a_message(&place, SenderId::random());
    writer.accept(first.clone()).await.unwrap();
    let mut calls = Vec::new();
    for n in 0..40 {
        let mut message = a_message(&place, first.sender);
        if n == 20 {
            message.id = first.id;
        }
        let writer = writer.clone();
        calls.push(tokio::spawn(async move { writer.accept(message).await }));
    }
    for (n, call) in calls.into_iter().enumerate() {
        match call.await.unwrap() {
            Ok(_) => assert_ne!(n, 20),
            Err(error) => assert_eq!((n, error.code()), (20, "store.exists")),
        }
    }
    assert_eq!(counted(&store).await, [(MessageState::Queued, 40, 40 * 24)]);
}

async fn due_messages_come_by_priority_then_by_time(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let (sender, submitter) = (SenderId::random(), Some(SubmitterId::random()));
    let mut accepted = Vec::new();
    for (priority, seconds, submitter) in [
        (Priority::Normal, 5, None),
        (Priority::Low, 0, None),
        (Priority::Normal, 1, submitter),
        (Priority::High, 9, submitter),
        (Priority::Normal, 3, None),
        (Priority::High, 1000, None),
    ] {
        let mut message = a_message(&place, sender);
        message.priority = priority;
        message.due_at = Some(message.accepted_at + SignedDuration::from_secs(seconds));
        message.submitter = submitter;
        accepted.push(message.id);
        writer.accept(message).await.unwrap();
    }
    let now = {
        use postkey_base::clock::TimeSource;
        place.clock.now() + SignedDuration::from_secs(10)
    };
    let due = async |submitter, limit| {
        let due = ids(&store.due_messages(sender, submitter, now, limit).await.unwrap());
        due.iter().map(|id| accepted.iter().position(|other| other == id).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(due(None, 100).await, [3, 2, 4, 0, 1]);
    assert_eq!(due(None, 3).await, [3, 2, 4]);
    assert_eq!(due(Some(None), 100).await, [4, 0, 1]);
    assert_eq!(due(Some(submitter), 100).await, [3, 2]);
    assert_eq!(store.due_messages(SenderId::random(), None, now, 10).await.unwrap(), []);
}

async fn the_work_there_is_is_told_by_sender_and_submitter(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    assert_eq!(store.waiting().await.unwrap(), []);
    let (sender, submitter) = (SenderId::random(), Some(SubmitterId::random()));
    let start = a_message(&place, sender).accepted_at;
    for (seconds, submitter) in [(0, None), (60, None), (120, None), (30, submitter)] {
        let mut message = a_message(&place, sender);
        message.due_at = Some(start + SignedDuration::from_secs(seconds));
        message.submitter = submitter;
        writer.accept(message).await.unwrap();
    }
    let mut work = store.waiting().await.unwrap();
    work.sort_by_key(|waiting| waiting.submitter);
    let told: Vec<_> = work.iter().map(|w| (w.submitter, w.waiting, w.due, w.oldest, w.next_due)).collect();
    let after = |seconds| start + SignedDuration::from_secs(seconds);
    assert_eq!(told, [(None, 3, 1, start, Some(after(60))), (submitter, 1, 0, after(30), Some(after(30)))]);
    place.clock.turn(SignedDuration::from_secs(200));
    let due: Vec<_> = store.waiting().await.unwrap().iter().map(|w| (w.due, w.next_due)).collect();
    assert!(due.contains(&(3, None)) && due.contains(&(1, None)), "{due:?}");
}

async fn a_person_cancels_and_puts_back_and_the_counters_follow(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let message = a_message(&place, SenderId::random());
    let id = message.id;
    writer.accept(message.clone()).await.unwrap();
    let later = message.accepted_at + SignedDuration::from_secs(60);
    assert!(store.reschedule_message(id, later, &event("rescheduled")).await.unwrap());
    assert_eq!(store.message(id).await.unwrap().unwrap().due_at, later);
    assert!(store.cancel_message(id, &event("cancelled")).await.unwrap());
    assert!(!store.cancel_message(id, &event("cancelled")).await.unwrap());
    assert!(!store.reschedule_message(id, later, &event("rescheduled")).await.unwrap());
    assert!(!writer.begin_attempt(id, 1, event("attempt")).await.unwrap());
    assert_eq!(counted(&store).await, [(MessageState::Cancelled, 1, 24)]);
    let other = SenderId::random();
    assert!(store.redirect_message(id, other, &message.envelope, &event("redirected")).await.unwrap());
    assert!(store.requeue_message(id, &event("retried")).await.unwrap());
    assert!(!store.requeue_message(id, &event("retried")).await.unwrap());
    let found = store.message(id).await.unwrap().unwrap();
    assert_eq!((found.state, found.sender, found.settled_at), (MessageState::Queued, other, None));
    let counts = store.count_messages().await.unwrap();
    assert_eq!(
        counts.iter().map(|c| (c.sender, c.state, c.messages)).collect::<Vec<_>>(),
        [(other, MessageState::Queued, 1)]
    );
    assert_eq!(
        kinds(&store.message_events(id).await.unwrap()),
        [(1, "accepted"), (2, "rescheduled"), (3, "cancelled"), (4, "redirected"), (5, "retried")]
    );
}

async fn messages_are_found_by_what_is_known_of_them(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let (sender, submitter) = (SenderId::random(), Some(SubmitterId::random()));
    let mut made = Vec::new();
    for n in 0..4_u8 {
        place.clock.turn(SignedDuration::from_secs(1));
        let mut message = a_message(&place, if n == 0 { SenderId::random() } else { sender });
        message.subject = Some(["Disk full", "100% done", "1000 done", "Ünïcode_x"][usize::from(n)].into());
        message.message_id = Some(format!("<{n}@contoso.example>"));
        message.submitter = submitter.filter(|_| n == 2);
        message.envelope.recipients[0].address = format!("user{n}@fabrikam.example").parse().unwrap();
        made.push(message.clone());
        writer.accept(message).await.unwrap();
    }
    store.cancel_message(made[3].id, &event("cancelled")).await.unwrap();
    let all = MessageFilter::default;
    for (filter, wanted) in [
        (all(), vec![3, 2, 1, 0]),
        (MessageFilter { limit: 2, ..all() }, vec![3, 2]),
        (MessageFilter { before: Some(made[2].id), ..all() }, vec![1, 0]),
        (MessageFilter { sender: Some(sender), ..all() }, vec![3, 2, 1]),
        (MessageFilter { submitter: Some(submitter), ..all() }, vec![2]),
        (MessageFilter { submitter: Some(None), ..all() }, vec![3, 1, 0]),
        (MessageFilter { state: Some(MessageState::Cancelled), ..all() }, vec![3]),
        (MessageFilter { state: Some(MessageState::Cancelled), sender: Some(SenderId::random()), ..all() }, vec![]),
        (MessageFilter { state: Some(MessageState::Queued), ..all() }, vec![2, 1, 0]),
        (MessageFilter { subject: Some("100%".into()), ..all() }, vec![1]),
        (MessageFilter { subject: Some("disk FULL".into()), ..all() }, vec![0]),
        (MessageFilter { subject: Some("e_x".into()), ..all() }, vec![3]),
        (MessageFilter { message_id: Some("<2@contoso.example>".into()), ..all() }, vec![2]),
        (MessageFilter { recipient: Some("USER1@fabrikam.example".parse().unwrap()), ..all() }, vec![1]),
        (MessageFilter { recipient: Some("ser1@fabrikam.example".parse().unwrap()), ..all() }, vec![]),
        (MessageFilter { text: Some("user2@".into()), ..all() }, vec![2]),
        (MessageFilter { text: Some("<0@".into()), ..all() }, vec![0]),
        (MessageFilter { since: Some(made[2].accepted_at), ..all() }, vec![3, 2]),
        (MessageFilter { until: Some(made[2].accepted_at), ..all() }, vec![1, 0]),
    ] {
        let found = ids(&store.search_messages(&filter).await.unwrap());
        let wanted: Vec<_> = wanted.into_iter().map(|n: usize| made[n].id).collect();
        assert_eq!(found, wanted, "{filter:?}");
    }
}

async fn what_was_settled_long_ago_is_removed_with_body_and_timeline(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let sender = SenderId::random();
    let (old, waiting) = (a_message(&place, sender), a_message(&place, sender));
    for message in [&old, &waiting] {
        writer.accept(message.clone()).await.unwrap();
    }
    writer.begin_attempt(old.id, 1, event("attempt")).await.unwrap();
    writer.settle(Settlement::to(old.id, 1, MessageState::Accepted)).await.unwrap();
    place.clock.turn(SignedDuration::from_hours(24 * 30));
    let young = a_message(&place, sender);
    writer.accept(young.clone()).await.unwrap();
    writer.settle(Settlement::to(young.id, 1, MessageState::Failed)).await.unwrap();

    let older_than = young.accepted_at - SignedDuration::from_hours(24);
    assert_eq!(store.prune_messages(older_than).await.unwrap(), 1);
    assert_eq!(store.prune_messages(older_than).await.unwrap(), 0);
    assert_eq!(store.message(old.id).await.unwrap(), None);
    assert_eq!(store.message_body(old.id).await.unwrap(), None);
    assert_eq!(store.message_events(old.id).await.unwrap(), []);
    assert!(store.message_body(waiting.id).await.unwrap().is_some());
    assert!(store.message_body(young.id).await.unwrap().is_some(), "kept for who wants to send it again");
    assert_eq!(counted(&store).await, [(MessageState::Failed, 1, 24), (MessageState::Queued, 1, 24)]);
}

async fn a_status_notification_is_accepted_in_the_commit_that_calls_for_it(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let sender = SenderId::random();
    let message = a_message(&place, sender);
    writer.accept(message.clone()).await.unwrap();
    let mut notification = a_message(&place, sender);
    notification.via = Via::Own;
    notification.envelope.from = None;
    let mut failed = Settlement::to(message.id, 1, MessageState::Failed);
    failed.messages = vec![notification.clone()];
    writer.settle(failed.clone()).await.unwrap();
    assert_eq!(store.message(notification.id).await.unwrap().unwrap().envelope.from, None);
    assert_eq!(kinds(&store.message_events(notification.id).await.unwrap()), [(1, "accepted")]);

    // Refused, it leaves nothing behind.
    let another = a_message(&place, sender);
    failed.messages = vec![another.clone()];
    writer.settle(failed).await.unwrap_err();
    assert_eq!(store.message(another.id).await.unwrap(), None);
}

async fn quotas_are_counted_from_what_was_submitted_and_sent(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let (sender, submitter) = (SenderId::random(), SubmitterId::random());
    let start = a_message(&place, sender).accepted_at;
    for _ in 0..3 {
        let mut message = a_message(&place, sender);
        message.submitter = Some(submitter);
        let recipient = message.envelope.recipients[0].clone();
        message.envelope.recipients.push(recipient);
        let mut sent = Settlement::to(message.id, 1, MessageState::Accepted);
        sent.recipients_sent = 2;
        writer.accept(message).await.unwrap();
        writer.settle(sent).await.unwrap();
        place.clock.turn(SignedDuration::from_mins(4));
    }
    writer.shutdown().await;
    let used = |buckets: Vec<postkey_store::UsageBucket>| {
        buckets.iter().map(|bucket| (bucket.messages, bucket.recipients, bucket.bytes)).collect::<Vec<_>>()
    };
    assert_eq!(used(store.submitted(submitter, start).await.unwrap()), [(2, 4, 48), (1, 2, 24)]);
    assert_eq!(used(store.sent(sender, start).await.unwrap()), [(2, 4, 48), (1, 2, 24)]);
    let minutes = SignedDuration::from_mins(5);
    assert_eq!(store.sent_recipients(sender, start + minutes).await.unwrap(), [(start + minutes, 2)]);
    assert_eq!(store.sent_recipients(SenderId::random(), start).await.unwrap(), []);
}

async fn texts_that_a_database_cannot_hold_are_mended(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let mut message = a_message(&place, SenderId::random());
    message.subject = Some("nul \0 in it".into());
    message.events = vec![NewMessageEvent { kind: "accepted", detail: json!({"helo": "a\0b"}) }];
    writer.accept(message.clone()).await.unwrap();
    assert_eq!(store.message(message.id).await.unwrap().unwrap().subject.unwrap(), "nul \u{fffd} in it");
    assert_eq!(store.message_events(message.id).await.unwrap()[0].detail, json!({"helo": "a\0b"}));
}

async fn what_is_asked_before_the_shutdown_is_committed(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let sender = SenderId::random();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (writer, message) = (writer.clone(), a_message(&place, sender));
            tokio::spawn(async move { writer.accept(message).await })
        })
        .collect();
    tokio::task::yield_now().await;
    writer.shutdown().await;
    let mut stored = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => stored += 1,
            Err(error) => assert_eq!(error.code(), "store.not_allowed"),
        }
    }
    let counts = store.count_messages().await.unwrap();
    assert_eq!(counts.iter().map(|count| count.messages).sum::<u64>(), stored);
    let late = writer.accept(a_message(&place, sender)).await.unwrap_err();
    assert_eq!(late.code(), "store.not_allowed");
    writer.shutdown().await;
}
