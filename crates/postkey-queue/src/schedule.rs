//! When to try again, and when to stop trying. Pure: the random part comes in as an argument.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The waits after the first, second, … attempt of a message that may go later: quick at first, because most trouble
/// passes within minutes, then every four hours up to the end of [`GIVE_UP_AFTER`].
pub const STEPS: [Duration; 12] = [
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(2 * 60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(20 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(4 * 60 * 60),
];

/// RFC 5321 §4.5.4.1: at least four to five days.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(5 * 24 * 60 * 60);

/// A message is given up only when it is old *and* has been tried this often: a clock that jumps ahead by a week must
/// not end messages that were tried once.
pub const FEWEST_ATTEMPTS: u32 = 12;

/// Looks at Sent Items after an attempt whose outcome is unknown, counted from that attempt: most copies are there after
/// seconds; the last look is at the end of the settle window.
pub const LOOKS: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(10 * 60),
];

/// The first wait before a lane that is held is tried with one message.
pub const FIRST_PROBE: Duration = Duration::from_secs(5);
/// The longest, where the cause may end at any moment.
pub const LONGEST_PROBE: Duration = Duration::from_secs(5 * 60);
/// The first wait where a quota must run off: asking sooner tells nothing.
pub const FIRST_QUOTA_PROBE: Duration = Duration::from_secs(60);
/// The longest there.
pub const LONGEST_QUOTA_PROBE: Duration = Duration::from_secs(15 * 60);

/// How long to wait after attempt number `attempts` (1 is the first). `random` in 0..1 spreads the wait over ±20 %, so
/// that messages which failed together do not come back together.
pub fn wait_after(attempts: u32, random: f64) -> Duration {
    let step = STEPS[(attempts.max(1) as usize - 1).min(STEPS.len() - 1)];
    step.mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0))
}

/// Whether a message accepted at `accepted_at` has been tried long enough.
pub fn is_over(accepted_at: Timestamp, attempts: u32, give_up_after: Duration, now: Timestamp) -> bool {
    attempts >= FEWEST_ATTEMPTS && now >= after(accepted_at, give_up_after)
}

/// When to look for a message whose attempt at `since` has an unknown outcome, after `looks` looks; the last time is the
/// end of `window`, and afterwards (a look failed) every quarter of it.
pub fn next_look(since: Timestamp, looks: u32, window: Duration, now: Timestamp) -> Timestamp {
    let end = after(since, window);
    let planned = LOOKS.iter().skip(looks as usize).map(|wait| after(since, *wait));
    let planned = planned.filter(|at| *at < end && *at > now).min();
    match planned {
        Some(at) => at,
        None if now < end => end,
        None => after(now, (window / 4).max(Duration::from_secs(1))),
    }
}

/// The wait before probe number `probes + 1` of a lane that is held; `random` in 0..1 takes off up to half, so that
/// many lanes held by one cause do not all come at once.
pub fn probe_wait(probes: u32, of_quota: bool, random: f64) -> Duration {
    let (first, longest) =
        if of_quota { (FIRST_QUOTA_PROBE, LONGEST_QUOTA_PROBE) } else { (FIRST_PROBE, LONGEST_PROBE) };
    let wait = first.saturating_mul(1 << probes.min(16)).min(longest);
    wait.mul_f64(1.0 - 0.5 * random.clamp(0.0, 1.0))
}

/// A time after another; the end of time where there is none.
pub fn after(at: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// A time before another.
pub fn before(at: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    at.saturating_sub(wait).unwrap_or(Timestamp::MIN)
}

/// How long from `from` until `until`; nothing if that has passed.
pub fn until(from: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(from)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn waits_grow_and_then_stay() {
        let mut last = Duration::ZERO;
        for attempts in 1..=40 {
            let wait = wait_after(attempts, 0.5);
            assert!(wait >= last, "{attempts}");
            last = wait;
        }
        assert_eq!(last, Duration::from_secs(4 * 60 * 60));
        assert_eq!(wait_after(0, 0.5), wait_after(1, 0.5));
    }

    #[test]
    fn five_days_hold_more_attempts_than_the_fewest() {
        let mut sum = Duration::ZERO;
        let mut attempts = 0;
        while sum < GIVE_UP_AFTER {
            attempts += 1;
            sum += wait_after(attempts, 1.0);
        }
        assert!(attempts > FEWEST_ATTEMPTS && attempts < 60, "{attempts}");
    }

    #[test]
    fn a_message_ends_only_when_it_is_old_and_was_tried() {
        let accepted = at("2026-03-01T10:00:00Z");
        for (attempts, now, over) in [
            (40, "2026-03-06T09:59:59Z", false),
            (40, "2026-03-06T10:00:00Z", true),
            (3, "2026-04-06T10:00:00Z", false),
            (12, "2026-04-06T10:00:00Z", true),
        ] {
            assert_eq!(is_over(accepted, attempts, GIVE_UP_AFTER, at(now)), over, "{attempts} {now}");
        }
    }

    #[test]
    fn looks_come_at_their_times_and_the_last_at_the_end_of_the_window() {
        let since = at("2026-03-01T10:00:00Z");
        let window = Duration::from_secs(15 * 60);
        for (looks, now, expected) in [
            (0, "2026-03-01T10:00:00Z", "2026-03-01T10:00:05Z"),
            (1, "2026-03-01T10:00:06Z", "2026-03-01T10:00:30Z"),
            (4, "2026-03-01T10:05:06Z", "2026-03-01T10:10:00Z"),
            // A look came late: the next that is still ahead.
            (1, "2026-03-01T10:02:30Z", "2026-03-01T10:05:00Z"),
            (5, "2026-03-01T10:10:06Z", "2026-03-01T10:15:00Z"),
            // After a restart the planned looks are past: the end of the window decides.
            (0, "2026-03-01T10:12:00Z", "2026-03-01T10:15:00Z"),
            // A look failed after the window: again, in a while.
            (6, "2026-03-01T10:16:00Z", "2026-03-01T10:19:45Z"),
        ] {
            assert_eq!(next_look(since, looks, window, at(now)), at(expected), "{looks} {now}");
        }
    }

    #[test]
    fn probes_grow_from_seconds_to_minutes() {
        assert_eq!(probe_wait(0, false, 0.0), FIRST_PROBE);
        assert_eq!(probe_wait(30, false, 0.0), LONGEST_PROBE);
        assert_eq!(probe_wait(0, true, 0.0), FIRST_QUOTA_PROBE);
        assert_eq!(probe_wait(30, true, 1.0), LONGEST_QUOTA_PROBE / 2);
    }

    proptest! {
        #[test]
        fn a_wait_stays_near_its_step(attempts in 0u32..1000, random in -1.0f64..2.0) {
            let wait = wait_after(attempts, random);
            prop_assert!(wait >= STEPS[0].mul_f64(0.79) && wait <= STEPS[11].mul_f64(1.21));
        }

        #[test]
        fn a_look_is_never_in_the_past(looks in 0u32..20, late in 0u64..10_000, window in 1u64..3_600) {
            let since = at("2026-03-01T10:00:00Z");
            let now = after(since, Duration::from_secs(late));
            prop_assert!(next_look(since, looks, Duration::from_secs(window), now) > now);
        }
    }
}
