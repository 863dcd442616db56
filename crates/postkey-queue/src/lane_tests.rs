//! Turns: between submitters, by priority, within the governor.

use std::time::Duration;

use postkey_store::{Priority, SubmitterId};

use super::*;
use crate::{governor::Limits, settle::tests::message};

fn lane() -> Lane {
    let limits = Limits { graph_messages: None, requests: None, graph_at_once: 100, ..Limits::DOCUMENTED };
    let key = LaneKey {
        tenant: uuid::Uuid::from_u128(1).into(),
        client_id: uuid::Uuid::from_u128(2).into(),
        mailbox: "noreply@contoso.example".parse().unwrap(),
    };
    Lane::new(key, Governor::new(limits), Timestamp::UNIX_EPOCH)
}

fn entry(sender: SenderId, submitter: Option<SubmitterId>, subject: &str, priority: Priority) -> Entry {
    let mut message = message(&["a@x.example"]);
    (message.sender, message.submitter, message.priority) = (sender, submitter, priority);
    message.subject = Some(subject.into());
    message.due_at = Timestamp::from_second(message.id.uuid().as_u128() as i64 & 0xff).unwrap();
    let need = Need { way: Way::Graph, requests: 1, bytes: 1, messages: 1, recipients: 1 };
    Entry { message, hot: None, need }
}

fn subjects(lane: &mut Lane, most: usize) -> String {
    let (taken, _) = lane.turn(Duration::from_secs(1), most);
    taken.iter().map(|entry| entry.message.subject.clone().unwrap()).collect::<Vec<_>>().join(" ")
}

#[test]
fn submitters_take_turns_however_much_one_has() {
    let mut lane = lane();
    let sender = SenderId::random();
    let (a, b) = (Some(SubmitterId::random()), Some(SubmitterId::random()));
    for number in 0..50 {
        let mut one = entry(sender, a, "a", Priority::Normal);
        one.message.due_at = Timestamp::from_second(number).unwrap();
        lane.put(one);
    }
    for _ in 0..3 {
        lane.put(entry(sender, b, "b", Priority::Normal));
    }
    assert_eq!(subjects(&mut lane, 8), "a b a b a b a a");
}

#[test]
fn a_high_priority_goes_first_and_does_not_starve_others() {
    let mut lane = lane();
    let sender = SenderId::random();
    let (a, b) = (Some(SubmitterId::random()), Some(SubmitterId::random()));
    for _ in 0..8 {
        lane.put(entry(sender, a, "a", Priority::Normal));
        lane.put(entry(sender, a, "A", Priority::High));
        lane.put(entry(sender, b, "b", Priority::Normal));
    }
    assert_eq!(subjects(&mut lane, 12), "A A A A b A A A A b a b");
}

#[test]
fn a_held_line_is_passed_over_and_can_be_let_go() {
    let mut lane = lane();
    let sender = SenderId::random();
    let (a, b) = (Some(SubmitterId::random()), Some(SubmitterId::random()));
    lane.put(entry(sender, a, "a", Priority::Normal));
    lane.put(entry(sender, b, "b", Priority::Normal));
    lane.line((sender, a)).held = true;
    assert_eq!(subjects(&mut lane, 5), "b");
    assert_eq!(lane.let_go(|key| key.1 == a), (0, 1));
    assert_eq!(lane.in_window, 0);
    assert!(lane.line((sender, a)).more && lane.has_work());
    lane.line((sender, a)).held = false;
    assert_eq!(lane.hungry(10), Some((sender, a)));
}

#[test]
fn places_are_handed_on_in_order_and_not_to_who_has_gone() {
    let mut lane = lane();
    lane.governor = Governor::new(Limits { graph_at_once: 1, ..Limits::DOCUMENTED });
    let need = Need { way: Way::Graph, requests: 1, bytes: 1, messages: 1, recipients: 1 };
    for _ in 0..3 {
        lane.governor.reserve(&need);
    }
    assert!(lane.enter(Way::Graph).is_ok());
    let second = lane.enter(Way::Graph).unwrap_err();
    let mut third = lane.enter(Way::Graph).unwrap_err();
    drop(second);
    lane.governor.give_back(&need);
    lane.governor.end(&need, crate::governor::Lesson::Fine, Duration::from_secs(1));
    lane.hand_on();
    assert!(third.try_recv().is_ok());
}

#[test]
fn what_becomes_due_is_read_again() {
    let mut lane = lane();
    let key = (SenderId::random(), None);
    lane.line(key).next_due = Some(Timestamp::from_second(100).unwrap());
    assert_eq!(lane.next_due(), Some(Timestamp::from_second(100).unwrap()));
    assert!(!lane.ripen(Timestamp::from_second(99).unwrap()));
    assert!(lane.ripen(Timestamp::from_second(100).unwrap()));
    assert_eq!((lane.hungry(0), lane.next_due()), (Some(key), None));
}
