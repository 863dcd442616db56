//! What follows from a look.

use super::*;
use crate::settle::tests::message;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn what_is_found_or_not_found_decides() {
    let copy = || Found::Sent(SentCopy { id: "AAMk".into(), sent: None, confirmed: true });
    let (least, most) = (OnUnknown::AtLeastOnce, OnUnknown::AtMostOnce);
    let again = |possible_duplicate| Resolution::Again { possible_duplicate };
    let wait = |text: &str| Resolution::Wait(at(text));
    let window = Duration::from_secs(15 * 60);
    for (found, policy, looks, now, expected) in [
        (copy(), least, 0, "2026-03-01T10:00:05Z", Resolution::Accepted),
        (copy(), most, 3, "2026-03-01T12:00:00Z", Resolution::Accepted),
        (Found::Nothing, least, 0, "2026-03-01T10:00:05Z", wait("2026-03-01T10:00:30Z")),
        (Found::Nothing, least, 4, "2026-03-01T10:10:00Z", wait("2026-03-01T10:15:00Z")),
        (Found::Nothing, least, 5, "2026-03-01T10:15:00Z", again(false)),
        (Found::Nothing, most, 5, "2026-03-01T10:15:00Z", again(false)),
        // Only a look that succeeded proves that nothing is there.
        (Found::Failed, least, 5, "2026-03-01T10:15:00Z", wait("2026-03-01T10:18:45Z")),
        (Found::Failed, most, 50, "2026-03-02T10:15:00Z", wait("2026-03-02T10:18:45Z")),
        (Found::Draft, least, 6, "2026-03-01T10:20:00Z", wait("2026-03-01T10:23:45Z")),
        (Found::Draft, least, 60, "2026-03-01T14:00:00Z", again(true)),
        (Found::Blind, most, 0, "2026-03-01T10:00:05Z", Resolution::Final),
        (Found::Blind, least, 0, "2026-03-01T10:00:05Z", wait("2026-03-01T10:00:30Z")),
        (Found::Blind, least, 1, "2026-03-01T10:00:30Z", again(true)),
    ] {
        let message = QueuedMessage { attempts: 1, ..message(&["a@x.example"]) };
        let doubt = Doubt { since: at("2026-03-01T10:00:00Z"), looks, message_id: None };
        let times = (window, schedule::GIVE_UP_AFTER);
        assert_eq!(resolve(&message, &doubt, &found, policy, times, at(now), 0.5), expected, "{found:?} {looks} {now}");
    }
}

#[test]
fn a_message_that_is_lost_again_and_again_is_given_up_in_the_end() {
    let message = QueuedMessage { attempts: 40, ..message(&["a@x.example"]) };
    let doubt = Doubt { since: at("2026-03-06T10:00:00Z"), looks: 5, message_id: None };
    let times = (Duration::from_secs(900), schedule::GIVE_UP_AFTER);
    let now = at("2026-03-06T10:15:00Z");
    let resolved = resolve(&message, &doubt, &Found::Nothing, OnUnknown::AtLeastOnce, times, now, 0.5);
    assert_eq!(resolved, Resolution::GiveUp);
}

#[test]
fn a_doubt_is_read_from_the_last_outcome() {
    let mut message = message(&["a@x.example"]);
    let now = at("2026-03-01T11:00:00Z");
    assert_eq!(Doubt::of(&message, now), Doubt { since: now, looks: 0, message_id: None });
    message.outcome = Some(json!({ "since": "2026-03-01T10:00:00Z", "looks": 3, "message_id": "<1@contoso.example>" }));
    let since = at("2026-03-01T10:00:00Z");
    assert_eq!(Doubt::of(&message, now), Doubt { since, looks: 3, message_id: Some("<1@contoso.example>".into()) });
}
