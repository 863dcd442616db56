//! Holds: whom they keep back, and when a lane is tried.

use postkey_base::{Diagnosis, Who};
use postkey_transport::OutcomeClass;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn facts() -> SenderFacts {
    SenderFacts {
        name: "noreply".into(),
        tenant: Some(uuid::Uuid::from_u128(1).into()),
        app: Some(LocalAppId::random()),
        lane: None,
        fingerprint: 0,
    }
}

fn pause(scope: HoldScope, until: Option<&str>) -> Hold {
    Hold {
        scope,
        cause: HoldCause::Paused,
        class: None,
        code: None,
        reason: "maintenance".into(),
        remedy: None,
        who: None,
        since: at("2026-03-01T10:00:00Z"),
        until: until.map(at),
        by: Some("ops".into()),
    }
}

fn request(probes: Probes, code: &str) -> HoldRequest {
    let diagnosis = Diagnosis {
        code: code.into(),
        what: "the secret has expired".into(),
        why: None,
        remedy: "Save a new one.".into(),
        who: Who::AppOwner,
        evidence: Vec::new(),
    };
    HoldRequest { scope: ScopeKind::App, class: OutcomeClass::Credential, diagnosis, probes }
}

#[test]
fn a_hold_of_every_scope_keeps_back_whom_it_names() {
    let (id, facts, submitter) = (SenderId::random(), facts(), SubmitterId::random());
    let now = at("2026-03-01T10:00:00Z");
    let tenant = facts.tenant.unwrap();
    for (scope, hits) in [
        (HoldScope::Sender(id), true),
        (HoldScope::Sender(SenderId::random()), false),
        (HoldScope::App(facts.app.unwrap()), true),
        (HoldScope::Tenant(tenant), true),
        (HoldScope::Submitter(submitter), true),
        (HoldScope::Submitter(SubmitterId::random()), false),
    ] {
        let mut holds = Holds::default();
        holds.read(vec![pause(scope.clone(), None)], now, 0.0);
        assert_eq!(holds.over(id, &facts, Some(submitter), now).is_some(), hits, "{scope:?}");
    }
    let mut holds = Holds::default();
    holds.read(vec![pause(HoldScope::Domain("fabrikam.example".into()), None)], now, 0.0);
    let (theirs, others) = ("a@Fabrikam.example".parse().unwrap(), "a@x.example".parse().unwrap());
    assert!(holds.over_domains([&others, &theirs].into_iter(), now).is_some());
    assert!(holds.over_domains([&others].into_iter(), now).is_none());
}

#[test]
fn a_pause_ends_by_itself() {
    let (id, facts) = (SenderId::random(), facts());
    let mut holds = Holds::default();
    let now = at("2026-03-01T10:00:00Z");
    holds.read(vec![pause(HoldScope::Sender(id), Some("2026-03-01T11:00:00Z"))], now, 0.0);
    assert_eq!(holds.next(), Some(at("2026-03-01T11:00:00Z")));
    assert!(holds.over(id, &facts, None, at("2026-03-01T10:59:59Z")).is_some());
    assert!(holds.over(id, &facts, None, at("2026-03-01T11:00:00Z")).is_none());
    assert_eq!(holds.ended(at("2026-03-01T11:00:00Z")).len(), 1);
}

#[test]
fn an_outage_is_tried_at_growing_intervals_until_it_ends() {
    let (id, facts) = (SenderId::random(), facts());
    let scope = HoldScope::App(facts.app.unwrap());
    let mut holds = Holds::default();
    let mut now = at("2026-03-01T10:00:00Z");
    let hold = holds.begin_outage(scope.clone(), &request(Probes::Soon, "identity.secret_expired"), now, 0.0).unwrap();
    assert_eq!(hold.until, Some(at("2026-03-01T10:00:05Z")));
    // The same again changes nothing.
    assert_eq!(holds.begin_outage(scope.clone(), &request(Probes::Soon, "identity.secret_expired"), now, 0.0), None);
    let mut waits = Vec::new();
    for _ in 0..9 {
        let next = holds.next().unwrap();
        waits.push(next.duration_since(now).as_secs());
        now = next;
        assert_eq!(holds.due(now), std::slice::from_ref(&scope));
        holds.outage(&scope).unwrap().probing = true;
        assert!(holds.due(now).is_empty() && holds.next().is_none());
        holds.still_out(&scope, now, 0.0);
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    assert!(holds.over(id, &facts, None, now).is_some());
    holds.end_outage(&scope).unwrap();
    assert!(holds.over(id, &facts, None, now).is_none());
}

#[test]
fn a_stop_waits_for_a_person() {
    let scope = HoldScope::Sender(SenderId::random());
    let mut holds = Holds::default();
    let now = at("2026-03-01T10:00:00Z");
    let hold = holds.begin_outage(scope.clone(), &request(Probes::Never, "smtp.stop_sending"), now, 0.0).unwrap();
    assert_eq!((hold.until, holds.next()), (None, None));
    assert_eq!(holds.begin_outage(scope.clone(), &request(Probes::Soon, "graph.network"), now, 0.0), None);
    // The person removes the row.
    let changes = holds.read(Vec::new(), now, 0.0);
    assert_eq!((changes.changed, changes.lifted), (true, vec![scope]));
}

#[test]
fn an_outage_of_an_earlier_run_is_tried_soon() {
    let mut holds = Holds::default();
    let now = at("2026-03-01T10:00:00Z");
    let scope = HoldScope::Sender(SenderId::random());
    let mut hold = pause(scope.clone(), Some("2026-03-01T10:04:00Z"));
    hold.cause = HoldCause::Outage;
    assert!(holds.read(vec![hold.clone()], now, 0.0).changed);
    assert_eq!(holds.next(), Some(at("2026-03-01T10:00:05Z")));
    // Read again, it stays as it is.
    assert!(!holds.read(vec![hold], now, 0.0).changed);
}
