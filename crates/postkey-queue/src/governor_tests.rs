//! The governor against a server that keeps exact sliding windows, in simulated time.

use std::{cmp::Reverse, collections::BinaryHeap};

use proptest::prelude::*;

use super::*;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl Governor {
    /// Ready and under way in one.
    fn begin(&mut self, need: &Need) {
        self.reserve(need);
        assert!(self.enter(need.way));
    }

    /// Whether an attempt may be made ready and a place is free for it.
    fn free(&mut self, need: &Need, now: Moment) -> Leave {
        let at_once = match need.way {
            Way::Graph => &self.graph,
            Way::Smtp => &self.smtp,
        };
        let full = at_once.under_way >= at_once.allowed();
        match self.leave(need, now) {
            Leave::Granted if full => Leave::AfterAnother,
            leave => leave,
        }
    }
}

fn message(way: Way) -> Need {
    Need { way, requests: 1, bytes: 6_000, messages: 1, recipients: 1 }
}

/// A server with exact logs of what it took, and how it would answer one more.
#[derive(Default)]
struct Server {
    at_once: u32,
    under_way: u32,
    minute: VecDeque<Moment>,
    ten_minutes: VecDeque<Moment>,
    day: VecDeque<Moment>,
}

impl Server {
    /// `false`: 429.
    fn takes(&mut self, now: Moment, limits: &Limits) -> bool {
        let mut fits = true;
        for (log, rate) in [
            (&mut self.minute, limits.graph_messages),
            (&mut self.ten_minutes, limits.requests),
            (&mut self.day, limits.recipients),
        ] {
            let Some(rate) = rate else { continue };
            while log.front().is_some_and(|at| *at + rate.span <= now) {
                log.pop_front();
            }
            log.push_back(now);
            fits &= log.len() as u64 <= rate.amount;
        }
        self.under_way += 1;
        fits && self.under_way <= self.at_once
    }
}

/// Sends `count` messages; gives how long it took and how often the server said 429. The server sees a request somewhere
/// within its time, in turn early and late.
fn run(count: u64, limits: Limits, latency: Duration) -> (Moment, u64) {
    let mut governor = Governor::new(limits);
    let mut server = Server { at_once: limits.graph_at_once, ..Server::default() };
    let need = message(Way::Graph);
    let (mut now, mut sent, mut throttled) = (seconds(1_000), 0, 0);
    let mut events: BinaryHeap<Reverse<(Moment, u8)>> = BinaryHeap::new();
    let began = now;
    loop {
        let mut wake = None;
        while sent < count {
            match governor.free(&need, now) {
                Leave::Granted => {
                    governor.begin(&need);
                    sent += 1;
                    let arrives = now + latency.mul_f64(if sent % 2 == 0 { 0.9 } else { 0.1 });
                    events.push(Reverse((arrives, 0)));
                    events.push(Reverse((now + latency, 1)));
                }
                Leave::AfterAnother => break,
                Leave::NotBefore(at) => {
                    wake = Some(at);
                    break;
                }
            }
        }
        let next = events.peek().map(|Reverse((at, _))| *at);
        now = match (next, wake) {
            (None, None) => return (now - began, throttled),
            (Some(at), None) | (None, Some(at)) => at,
            (Some(a), Some(b)) => a.min(b),
        };
        while let Some(Reverse((at, kind))) = events.peek().copied()
            && at <= now
        {
            events.pop();
            if kind == 0 {
                throttled += u64::from(!server.takes(at, &limits));
            } else {
                server.under_way -= 1;
                governor.end(&need, Lesson::Fine, at);
            }
        }
    }
}

#[test]
fn ten_thousand_messages_run_at_98_percent_of_the_quota_and_are_never_throttled() {
    let (took, throttled) = run(10_000, Limits::DOCUMENTED, Duration::from_millis(200));
    // 30 at once, then 30 each minute.
    let best = seconds(60) * (10_000 / 30 - 1);
    let share = best.as_secs_f64() / took.as_secs_f64();
    assert!(throttled == 0 && share >= 0.98, "{share} of the quota, {throttled} throttled");
}

#[test]
fn the_recipients_of_a_day_are_used_up_and_not_one_more() {
    let limits = Limits { recipients: Some(Rate::within(1_000, 86_400)), ..Limits::DOCUMENTED };
    let (took, throttled) = run(3_000, limits, Duration::from_millis(200));
    let best = seconds(2 * 86_400);
    assert_eq!(throttled, 0);
    let share = best.as_secs_f64() / took.as_secs_f64();
    assert!((0.98..=1.0).contains(&share), "{share}");
}

#[test]
fn with_the_rates_lifted_four_at_once_are_kept_busy() {
    let limits = Limits { graph_messages: None, recipients: None, requests: None, ..Limits::DOCUMENTED };
    let (took, throttled) = run(4_000, limits, Duration::from_millis(200));
    let rate = 4_000.0 / took.as_secs_f64();
    assert!(throttled == 0 && rate >= 19.0, "{rate}/s");
}

#[test]
fn the_requests_of_ten_minutes_are_kept_too() {
    let limits = Limits { graph_messages: None, recipients: None, ..Limits::DOCUMENTED };
    let (took, throttled) = run(30_000, limits, Duration::from_millis(150));
    let share = seconds(1_200).as_secs_f64() / took.as_secs_f64();
    // The last ten thousand need no whole window.
    assert!(throttled == 0 && took >= seconds(1_200) && share > 0.7, "{share}");
}

#[test]
fn a_server_that_takes_two_at_once_teaches_two_and_is_asked_for_more_only_later() {
    let mut governor = Governor::new(Limits { graph_messages: None, ..Limits::DOCUMENTED });
    let need = message(Way::Graph);
    let now = seconds(100);
    for _ in 0..3 {
        assert_eq!(governor.free(&need, now), Leave::Granted);
        governor.begin(&need);
    }
    governor.end(&need, Lesson::TooManyAtOnce { wait: Some(seconds(7)) }, now);
    assert_eq!(governor.allowed_at_once(Way::Graph), 2);
    assert_eq!(governor.free(&need, now), Leave::NotBefore(now + seconds(7)));
    governor.end(&need, Lesson::Fine, now);
    governor.end(&need, Lesson::Fine, now);
    assert_eq!(governor.allowed_at_once(Way::Graph), 2, "success alone does not raise it");
    governor.recover(now + RECOVERY);
    assert_eq!(governor.allowed_at_once(Way::Graph), 3);
    // A second lesson is believed for twice as long.
    let later = now + RECOVERY;
    for _ in 0..3 {
        governor.begin(&need);
    }
    governor.end(&need, Lesson::TooManyAtOnce { wait: None }, later);
    assert_eq!(governor.leave(&need, later), Leave::NotBefore(later + BREATH));
    governor.recover(later + RECOVERY);
    assert_eq!(governor.allowed_at_once(Way::Graph), 2);
    governor.recover(later + RECOVERY * 2);
    governor.recover(later + RECOVERY * 4);
    assert_eq!(governor.allowed_at_once(Way::Graph), 4);
}

#[test]
fn a_429_about_speed_makes_the_mailbox_rest_and_then_go_slower() {
    let mut governor = Governor::new(Limits::DOCUMENTED);
    let need = message(Way::Graph);
    let now = seconds(100);
    for _ in 0..20 {
        governor.begin(&need);
        governor.end(&need, Lesson::Fine, now);
    }
    governor.begin(&need);
    governor.end(&need, Lesson::TooFast { wait: None }, now);
    assert_eq!(governor.throttled(), 1);
    assert_eq!(governor.free(&need, now), Leave::NotBefore(now + REST));
    let minute_later = now + seconds(70);
    let mut went = 0;
    while governor.free(&need, minute_later) == Leave::Granted {
        governor.begin(&need);
        governor.end(&need, Lesson::Fine, minute_later);
        went += 1;
    }
    assert_eq!(went, 21 * 9 / 10);
}

#[test]
fn after_an_outage_it_begins_with_one() {
    let mut governor = Governor::new(Limits { graph_messages: None, ..Limits::DOCUMENTED });
    let need = message(Way::Graph);
    governor.start_slowly();
    for allowed in 1..=4 {
        assert_eq!(governor.allowed_at_once(Way::Graph), allowed);
        governor.begin(&need);
        governor.end(&need, Lesson::Fine, seconds(1));
    }
    assert_eq!(governor.allowed_at_once(Way::Graph), 4);
}

#[test]
fn what_was_sent_before_a_restart_counts() {
    let mut governor = Governor::new(Limits { recipients: Some(Rate::within(100, 86_400)), ..Limits::DOCUMENTED });
    let now = seconds(200_000);
    governor.seed_recipients(60, seconds(80_000), now);
    governor.seed_recipients(40, seconds(3_600), now);
    governor.seed_recipients(500, seconds(100_000), now);
    assert_eq!(governor.recipients_used(now), 100);
    let Leave::NotBefore(at) = governor.free(&message(Way::Smtp), now) else { panic!("no room is left") };
    assert!(at > now + seconds(6_000) && at < now + seconds(7_000));
    assert_eq!(governor.free(&message(Way::Smtp), at), Leave::Granted);
}

#[test]
fn a_message_larger_than_a_window_goes_when_nothing_else_counts() {
    let mut governor = Governor::new(Limits { upload: Some(Rate::within(1_000, 300)), ..Limits::DOCUMENTED });
    let need = Need { bytes: 5_000, ..message(Way::Graph) };
    let now = seconds(10);
    assert_eq!(governor.free(&need, now), Leave::Granted);
    governor.begin(&need);
    assert_eq!(governor.free(&need, now), Leave::AfterAnother);
    governor.end(&need, Lesson::Fine, now);
    let Leave::NotBefore(at) = governor.free(&need, now) else { panic!("the window is full") };
    assert!(at >= now + seconds(300));
    assert_eq!(governor.free(&need, at), Leave::Granted);
}

#[test]
fn smtp_has_its_own_places_and_rate() {
    let mut governor = Governor::new(Limits::DOCUMENTED);
    for _ in 0..4 {
        governor.begin(&message(Way::Graph));
    }
    assert_eq!(governor.free(&message(Way::Graph), seconds(1)), Leave::AfterAnother);
    for _ in 0..3 {
        assert_eq!(governor.free(&message(Way::Smtp), seconds(1)), Leave::Granted);
        governor.begin(&message(Way::Smtp));
    }
    assert_eq!(governor.free(&message(Way::Smtp), seconds(1)), Leave::AfterAnother);
    governor.end(&message(Way::Smtp), Lesson::Fine, seconds(1));
    assert_eq!(governor.free(&message(Way::Smtp), seconds(1)), Leave::Granted);
}

#[test]
fn a_few_are_made_ready_beyond_those_under_way() {
    let mut governor = Governor::new(Limits { smtp_at_once: 1, ..Limits::DOCUMENTED });
    let need = message(Way::Smtp);
    let now = seconds(1);
    for _ in 0..=AHEAD {
        assert_eq!(governor.leave(&need, now), Leave::Granted);
        governor.reserve(&need);
    }
    assert_eq!(governor.leave(&need, now), Leave::AfterAnother);
    assert!(governor.enter(Way::Smtp) && !governor.enter(Way::Smtp));
    governor.end(&need, Lesson::Fine, now);
    assert!(governor.enter(Way::Smtp));
    governor.give_back(&need);
    assert_eq!(governor.leave(&need, now), Leave::Granted);
}

proptest! {
    #[test]
    fn no_window_of_the_server_ever_holds_more_than_its_limit(
        per_minute in 1u64..60, at_once in 1u32..6, latency in 1u64..90_000, count in 1u64..300
    ) {
        let limits = Limits {
            graph_at_once: at_once,
            graph_messages: Some(Rate::within(per_minute, 60)),
            ..Limits::DOCUMENTED
        };
        let (_, throttled) = run(count, limits, Duration::from_millis(latency));
        prop_assert_eq!(throttled, 0);
    }
}
