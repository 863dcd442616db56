//! Who may hand in messages, with which passwords and keys; what is held and told; and how others hear of a change.

use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};
use postkey_base::{Diagnose, TenantId};
use postkey_store::{
    GroupCommit, Hold, HoldCause, HoldScope, KeySource, MasterKeys, MessageId, MessageState, NewNotice, NewSubmitter,
    NewWebhook, NoticeEnd, OnUnknown, Scope, SenderId, SenderValues, Settlement, Store, SubmitterRules,
    rotate_master_key,
};
use serde_json::json;

use crate::{
    place::{Place, on_both_databases},
    queue::{a_message, event},
};

on_both_databases!(
    a_submitter_is_known_by_its_name_in_any_case,
    a_submitter_has_two_passwords_at_most_and_keeps_none_of_them,
    an_api_key_goes_with_its_submitter,
    a_hold_is_put_once_for_each_scope_and_cause,
    a_notice_is_written_with_what_it_tells_of_and_goes_when_it_was_told,
    a_change_by_a_person_is_noticed_and_the_queues_own_writing_is_not,
    a_sender_says_what_happens_when_nobody_knows,
    a_restarted_holder_takes_its_own_leases_again,
    the_key_of_the_passwords_and_the_secret_of_a_webhook_outlive_a_rotation,
);

async fn with_senders(store: &Store) -> [SenderId; 2] {
    let first = store.save_sender(&SenderValues::named("billing")).await.unwrap();
    let second = store.save_sender(&SenderValues::named("alerts")).await.unwrap();
    [first.id, second.id]
}

fn new(name: &str) -> NewSubmitter {
    let rules = SubmitterRules { messages_per_day: Some(500), ..SubmitterRules::default() };
    NewSubmitter { name: name.into(), senders: vec!["alerts".into(), "billing".into(), "alerts".into()], rules }
}

async fn a_submitter_is_known_by_its_name_in_any_case(place: Place) {
    let store = place.store().await;
    let [billing, alerts] = with_senders(&store).await;
    let added = store.add_submitter(&new("Printer@contoso.example")).await.unwrap();
    assert_eq!(added.senders, [alerts, billing], "the first is the default");
    assert_eq!(store.submitter("printer@CONTOSO.example").await.unwrap().as_ref(), Some(&added));
    assert_eq!(store.submitter("other").await.unwrap(), None);
    for (refused, code) in [
        (store.add_submitter(&new("PRINTER@contoso.example")).await, "store.exists"),
        (store.add_submitter(&NewSubmitter { senders: vec!["x".into()], ..new("scanner") }).await, "store.not_found"),
        (store.update_submitter("other", &[], &SubmitterRules::default()).await, "store.not_found"),
        (store.disable_submitter("other", true).await, "store.not_found"),
    ] {
        assert_eq!(refused.unwrap_err().code(), code);
    }
    assert_eq!(store.submitter("scanner").await.unwrap(), None, "nothing of a refused one is left");
    assert_eq!(store.remove_sender("billing").await.unwrap_err().code(), "store.not_allowed");

    let rules = SubmitterRules { force_from: "ops@contoso.example".parse().ok(), ..SubmitterRules::default() };
    let updated = store.update_submitter("printer@contoso.example", &["billing".into()], &rules).await.unwrap();
    assert_eq!((updated.id, &updated.name, &updated.senders), (added.id, &added.name, &vec![billing]));
    assert_eq!(updated.rules, rules);
    assert!(store.disable_submitter("printer@contoso.example", true).await.unwrap().disabled_at.is_some());
    assert_eq!(store.disable_submitter("printer@contoso.example", false).await.unwrap().disabled_at, None);
    store.add_submitter(&new("a")).await.unwrap();
    let names: Vec<_> = store.submitters().await.unwrap().into_iter().map(|submitter| submitter.name).collect();
    assert_eq!(names, ["a", "Printer@contoso.example"]);
    assert!(store.remove_submitter("A").await.unwrap());
    assert!(!store.remove_submitter("a").await.unwrap());
}

async fn a_submitter_has_two_passwords_at_most_and_keeps_none_of_them(place: Place) {
    let store = place.store().await;
    with_senders(&store).await;
    let submitter = store.add_submitter(&new("printer")).await.unwrap();
    let first = store.add_password("printer", &[1; 32], false).await.unwrap();
    place.clock.turn(SignedDuration::from_secs(1));
    let second = store.add_password("PRINTER", &[2; 32], false).await.unwrap();
    place.clock.turn(SignedDuration::from_secs(1));
    let refused = store.add_password("printer", &[3; 32], false).await.unwrap_err();
    assert_eq!(refused.code(), "store.not_allowed");
    let third = store.add_password("printer", &[3; 32], true).await.unwrap();
    let macs = store.submitter_secrets().await.unwrap();
    assert_eq!(macs, [(submitter.id, second, [2; 32]), (submitter.id, third, [3; 32])], "{first} went");
    let at = submitter.created_at + SignedDuration::from_secs(90);
    store.secret_used(third, at).await.unwrap();
    let listed = store.submitters().await.unwrap().remove(0).passwords;
    assert_eq!(listed, store.submitter("printer").await.unwrap().unwrap().passwords);
    let used: Vec<_> = listed.iter().map(|password| (password.id, password.last_used_at)).collect();
    assert_eq!(used, [(second, None), (third, Some(at))]);
    assert!(store.remove_password("printer", second).await.unwrap());
    assert!(!store.remove_password("printer", second).await.unwrap());
    store.remove_submitter("printer").await.unwrap();
    assert_eq!(store.submitter_secrets().await.unwrap(), []);

    let key = store.local_secret_key().await.unwrap();
    store.close().await;
    assert_eq!(place.store().await.local_secret_key().await.unwrap(), key);
}

async fn an_api_key_goes_with_its_submitter(place: Place) {
    let store = place.store().await;
    with_senders(&store).await;
    let submitter = store.add_submitter(&new("shop")).await.unwrap();
    let ends = Some(submitter.created_at + SignedDuration::from_hours(1));
    let scopes = [Scope::Send, Scope::OutboxRead];
    let key = store.add_api_key("shop-1", Some("SHOP"), &scopes, &[1; 32], ends).await.unwrap();
    assert_eq!((key.submitter, key.expires_at, &key.scopes[..]), (Some(submitter.id), ends, &scopes[..]));
    let all = store.add_api_key("monitoring", None, &[Scope::Metrics], &[2; 32], None).await.unwrap();
    assert_eq!(all.submitter, None);
    for (refused, code) in [
        (store.add_api_key("SHOP-1", None, &[], &[3; 32], None).await, "store.exists"),
        (store.add_api_key("x", Some("nobody"), &[], &[3; 32], None).await, "store.not_found"),
        (store.disable_api_key("x", true).await, "store.not_found"),
    ] {
        assert_eq!(refused.unwrap_err().code(), code);
    }
    let mut macs = store.api_key_macs().await.unwrap();
    macs.sort_by_key(|(_, mac)| *mac);
    assert_eq!(macs, [(key.id, [1; 32]), (all.id, [2; 32])]);
    store.api_key_used(key.id, key.created_at).await.unwrap();
    assert!(store.disable_api_key("shop-1", true).await.unwrap().disabled_at.is_some());
    let names: Vec<_> = store.api_keys().await.unwrap().into_iter().map(|key| (key.name, key.last_used_at)).collect();
    assert_eq!(names, [("monitoring".into(), None), ("shop-1".into(), Some(key.created_at))]);
    store.remove_submitter("shop").await.unwrap();
    assert!(store.remove_api_key("Monitoring").await.unwrap());
    assert_eq!(store.api_keys().await.unwrap(), []);
}

async fn a_hold_is_put_once_for_each_scope_and_cause(place: Place) {
    let store = place.store().await;
    let since: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let hold = |scope, cause, reason: &str| Hold {
        scope,
        cause,
        class: Some("credential".into()),
        code: None,
        reason: reason.into(),
        remedy: None,
        who: None,
        since,
        until: None,
        by: Some("ada".into()),
    };
    let scopes = [
        HoldScope::Sender(SenderId::random()),
        HoldScope::App(postkey_store::LocalAppId::random()),
        HoldScope::Tenant(TenantId::random()),
        HoldScope::Submitter(postkey_store::SubmitterId::random()),
        HoldScope::Domain("fabrikam.example".into()),
    ];
    for scope in &scopes {
        store.put_hold(&hold(scope.clone(), HoldCause::Outage, "the secret expired")).await.unwrap();
    }
    store.put_hold(&hold(scopes[0].clone(), HoldCause::Paused, "maintenance")).await.unwrap();
    let mut again = hold(scopes[0].clone(), HoldCause::Outage, "it is still expired");
    again.since += SignedDuration::from_hours(1);
    again.until = Some(again.since);
    store.put_hold(&again).await.unwrap();
    let holds = store.holds().await.unwrap();
    assert_eq!(holds.len(), 6);
    let found = holds.iter().find(|found| found.reason == again.reason).unwrap();
    assert_eq!((found.since, found.until, &found.scope), (since, again.until, &scopes[0]));
    assert!(scopes.iter().all(|scope| holds.iter().any(|hold| hold.scope == *scope)));
    let domain = HoldScope::Domain("Fabrikam.EXAMPLE".into());
    assert!(store.lift_hold(&domain, HoldCause::Outage).await.unwrap());
    assert!(!store.lift_hold(&domain, HoldCause::Outage).await.unwrap());
    assert!(store.lift_hold(&scopes[0], HoldCause::Paused).await.unwrap());
    assert_eq!(store.holds().await.unwrap().len(), 4);
}

fn webhook(name: &str) -> NewWebhook {
    let (url, secret) = ("https://hooks.contoso.example/".into(), b"whsec".to_vec().into());
    NewWebhook { name: name.into(), url, events: vec!["message.failed".into()], secret }
}

async fn a_notice_is_written_with_what_it_tells_of_and_goes_when_it_was_told(place: Place) {
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let hook = store.add_webhook(&webhook("shop")).await.unwrap();
    assert_eq!(store.add_webhook(&webhook("Shop")).await.unwrap_err().code(), "store.exists");
    assert_eq!(store.webhook_secret(hook.id).await.unwrap().unwrap().as_slice(), b"whsec");
    assert!(!format!("{:?}", webhook("shop")).contains("whsec"));

    let message = a_message(&place, SenderId::random());
    writer.accept(message.clone()).await.unwrap();
    let notice = |id: Timestamp, webhook| NewNotice {
        id: MessageId::at(id),
        webhook,
        kind: "message.failed".into(),
        message: Some(message.id),
        payload: json!({"id": message.id}),
        due_at: message.accepted_at,
    };
    let now = message.accepted_at;
    let gone = notice(now, postkey_store::WebhookId::random());
    let told = notice(now + SignedDuration::from_secs(1), hook.id);
    let mut failed = Settlement::to(message.id, 1, MessageState::Failed);
    failed.notices = vec![gone.clone(), told.clone()];
    writer.settle(failed).await.unwrap();
    assert!(!store.add_notice(&notice(now, gone.webhook)).await.unwrap(), "nobody is there to be told");

    let due = store.due_notices(now, 10).await.unwrap();
    assert_eq!(due.iter().map(|notice| (notice.id, notice.attempts)).collect::<Vec<_>>(), [(told.id, 0)]);
    assert_eq!(store.next_notice().await.unwrap(), Some(now));
    store.disable_webhook("shop", true).await.unwrap();
    assert_eq!(store.due_notices(now, 10).await.unwrap(), []);
    store.disable_webhook("shop", false).await.unwrap();

    let later = NoticeEnd::Later { due_at: now + SignedDuration::from_secs(60), error: "500".into() };
    assert!(store.settle_notice(told.id, &later).await.unwrap());
    assert_eq!(store.due_notices(now, 10).await.unwrap(), []);
    assert!(store.settle_notice(told.id, &NoticeEnd::Dead { error: "410".into() }).await.unwrap());
    let dead = store.dead_notices().await.unwrap();
    assert_eq!((dead[0].attempts, dead[0].last_error.as_deref()), (2, Some("410")));
    assert_eq!(store.next_notice().await.unwrap(), None);
    assert!(store.revive_notice(told.id).await.unwrap());
    assert!(store.settle_notice(told.id, &NoticeEnd::Told).await.unwrap());
    assert!(!store.settle_notice(told.id, &NoticeEnd::Told).await.unwrap());
    store.add_notice(&told).await.unwrap();
    assert!(store.remove_webhook("SHOP").await.unwrap());
    assert_eq!(store.due_notices(now, 10).await.unwrap(), []);
    assert_eq!(store.prune_notices(now).await.unwrap(), 0);
}

async fn a_change_by_a_person_is_noticed_and_the_queues_own_writing_is_not(place: Place) {
    let store = place.store().await;
    with_senders(&store).await;
    let (server, command) = (place.store().await, store);
    let changes = server.changes();
    assert!(changes.poll().await, "the first look");
    assert!(!changes.poll().await);
    let writer = GroupCommit::start(server.clone());
    let message = a_message(&place, SenderId::random());
    writer.accept(message.clone()).await.unwrap();
    command.take_lease("lane", "node", SignedDuration::from_secs(60)).await.unwrap();
    assert!(!changes.poll().await);
    command.add_submitter(&new("printer")).await.unwrap();
    assert!(changes.poll().await);
    assert!(!changes.poll().await);
    command.cancel_message(message.id, &event("cancelled")).await.unwrap();
    assert!(changes.poll().await);
    server.set_on_unknown("billing", OnUnknown::AtMostOnce).await.unwrap();
    assert!(changes.poll().await, "another part of the same process");
    command.save_tenant(TenantId::random(), &json!({}), None, None).await.unwrap();
    assert!(changes.poll().await, "other hosts of a tenant lead elsewhere");
    command.add_submitter(&new("PRINTER")).await.unwrap_err();
    assert!(!changes.poll().await, "what was refused changed nothing");
}

async fn a_sender_says_what_happens_when_nobody_knows(place: Place) {
    let store = place.store().await;
    let [billing, _] = with_senders(&store).await;
    let found = store.sender_by_id(billing).await.unwrap().unwrap();
    assert_eq!((found.values.name.as_str(), found.on_unknown), ("billing", OnUnknown::AtLeastOnce));
    store.set_on_unknown("billing", OnUnknown::AtMostOnce).await.unwrap();
    store.save_sender(&SenderValues::named("billing")).await.unwrap();
    assert_eq!(store.sender("billing").await.unwrap().unwrap().on_unknown, OnUnknown::AtMostOnce);
    let message = a_message(&place, billing);
    let writer = GroupCommit::start(store.clone());
    writer.accept(message.clone()).await.unwrap();
    assert_eq!(store.remove_sender("billing").await.unwrap_err().code(), "store.not_allowed");
    store.cancel_message(message.id, &event("cancelled")).await.unwrap();
    assert!(store.remove_sender("billing").await.unwrap());
    assert!(!store.remove_sender("billing").await.unwrap());
    assert_eq!(store.set_on_unknown("x", OnUnknown::AtMostOnce).await.unwrap_err().code(), "store.not_found");
    assert_eq!(store.sender_by_id(SenderId::random()).await.unwrap(), None);
}

async fn a_restarted_holder_takes_its_own_leases_again(place: Place) {
    let store = place.store().await;
    let minute = SignedDuration::from_secs(60);
    let first = store.retake_lease("lane:1", "node-a", minute).await.unwrap().unwrap();
    assert_eq!(store.retake_lease("lane:1", "node-b", minute).await.unwrap(), None);
    let again = store.retake_lease("lane:1", "node-a", minute).await.unwrap().unwrap();
    assert_eq!(again.epoch, first.epoch + 1);
    store.take_lease("lane:2", "node-a", minute).await.unwrap().unwrap();
    store.take_lease("lane:3", "node-b", minute).await.unwrap().unwrap();
    store.take_lease("rotation", "node-a", minute).await.unwrap().unwrap();
    place.clock.turn(SignedDuration::from_secs(30));
    let mut extended = store.extend_leases("node-a", "lane:", minute).await.unwrap();
    extended.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<_> = extended.iter().map(|lease| (lease.name.as_str(), lease.epoch)).collect();
    assert_eq!(names, [("lane:1", again.epoch), ("lane:2", 1)]);
    assert_eq!(extended[0].until, again.until + SignedDuration::from_secs(30));
    place.clock.turn(minute);
    assert_eq!(store.extend_leases("node-a", "lane:", minute).await.unwrap(), [], "they have ended");
    assert!(store.retake_lease("lane:1", "node-b", minute).await.unwrap().is_some());
}

async fn the_key_of_the_passwords_and_the_secret_of_a_webhook_outlive_a_rotation(mut place: Place) {
    let path = place.folder.path().join("keys/master.key");
    MasterKeys::create_file_if_missing(&path).unwrap();
    place.keys = MasterKeys::load(KeySource::File(path.clone())).unwrap();
    let store = place.store().await;
    let key = store.local_secret_key().await.unwrap();
    let hook = store.add_webhook(&webhook("shop")).await.unwrap();
    let rotated = rotate_master_key(&store, &path, |_| ControlFlow::Continue(())).await.unwrap();
    assert_eq!((rotated.resealed, rotated.finished), (2, true));
    store.close().await;
    place.keys = MasterKeys::load(KeySource::File(path)).unwrap();
    let store = place.store().await;
    assert_eq!(store.local_secret_key().await.unwrap(), key);
    assert_eq!(store.webhook_secret(hook.id).await.unwrap().unwrap().as_slice(), b"whsec");
}
