//! How much a submitter has sent lately: sliding windows in memory, one set a submitter. Pure; the time comes in.
//!
//! Counted by this process alone: several nodes on one database each allow the quota. What was sent before a start is read
//! from the store.

use std::{collections::VecDeque, fmt, time::Duration};

use jiff::Timestamp;
use postkey_store::SubmitterRules;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quota {
    /// Messages in 60 seconds.
    MessagesPerMinute,
    /// Messages in 24 hours.
    MessagesPerDay,
    /// Recipients in 24 hours.
    RecipientsPerDay,
    /// Bytes in 24 hours.
    BytesPerDay,
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessagesPerMinute => "messages a minute",
            Self::MessagesPerDay => "messages a day",
            Self::RecipientsPerDay => "recipients a day",
            Self::BytesPerDay => "bytes a day",
        })
    }
}

/// What one message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Messages: 1, or 0 to ask about the rest alone.
    pub messages: u64,
    /// Recipients.
    pub recipients: u64,
    /// Bytes.
    pub bytes: u64,
}

/// There is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    /// Which quota.
    pub quota: Quota,
    /// What it allows.
    pub limit: u64,
    /// What was asked.
    pub needed: u64,
    /// When there is room; `None`: never.
    pub again: Option<Timestamp>,
}

/// Whether anything is to be counted.
pub(crate) fn has_quotas(rules: &SubmitterRules) -> bool {
    rules.messages_per_minute.is_some()
        || rules.messages_per_day.is_some()
        || rules.recipients_per_day.is_some()
        || rules.bytes_per_day.is_some()
}

/// What a submitter has used.
#[derive(Debug)]
pub struct Usage {
    minute: Window,
    messages: Window,
    recipients: Window,
    bytes: Window,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            minute: Window::new(Duration::from_secs(1), 60),
            messages: Window::new(DAY_SLOT, DAY_SLOTS),
            recipients: Window::new(DAY_SLOT, DAY_SLOTS),
            bytes: Window::new(DAY_SLOT, DAY_SLOTS),
        }
    }
}

/// A day is counted in quarters of an hour: what was sent leaves the count at most so much late.
const DAY_SLOT: Duration = Duration::from_secs(15 * 60);
const DAY_SLOTS: i64 = 96;

impl Usage {
    /// Whether there is room for `load` now.
    ///
    /// # Errors
    /// The quota that has no room for the longest time.
    pub fn check(&mut self, rules: &SubmitterRules, load: Load, now: Timestamp) -> Result<(), NoRoom> {
        let checks = [
            (Quota::MessagesPerMinute, &mut self.minute, rules.messages_per_minute.map(u64::from), load.messages),
            (Quota::MessagesPerDay, &mut self.messages, rules.messages_per_day.map(u64::from), load.messages),
            (Quota::RecipientsPerDay, &mut self.recipients, rules.recipients_per_day.map(u64::from), load.recipients),
            (Quota::BytesPerDay, &mut self.bytes, rules.bytes_per_day, load.bytes),
        ];
        let mut worst: Option<NoRoom> = None;
        for (quota, window, limit, needed) in checks {
            let Some(limit) = limit else { continue };
            if needed == 0 || window.sum(now) + needed <= limit {
                continue;
            }
            let found = NoRoom { quota, limit, needed, again: window.room_at(limit, needed) };
            // `None` is never, which is later than any time.
            let later = |one: &NoRoom| one.again.unwrap_or(Timestamp::MAX);
            if worst.as_ref().is_none_or(|worst| later(&found) > later(worst)) {
                worst = Some(found);
            }
        }
        worst.map_or(Ok(()), Err)
    }

    /// Counts what was taken.
    pub fn charge(&mut self, load: Load, now: Timestamp) {
        for (window, amount) in self.windows(load) {
            window.add(amount, now);
        }
    }

    /// Takes back what was charged at `at` and then not accepted.
    pub fn refund(&mut self, load: Load, at: Timestamp) {
        for (window, amount) in self.windows(load) {
            window.take_back(amount, at);
        }
    }

    fn windows(&mut self, load: Load) -> [(&mut Window, u64); 4] {
        [
            (&mut self.minute, load.messages),
            (&mut self.messages, load.messages),
            (&mut self.recipients, load.recipients),
            (&mut self.bytes, load.bytes),
        ]
    }
}

/// A sum over the last `slots` slots, the present one beside them.
#[derive(Debug)]
struct Window {
    slot: i64,
    slots: i64,
    counts: VecDeque<(i64, u64)>,
    sum: u64,
}

impl Window {
    fn new(slot: Duration, slots: i64) -> Self {
        Self { slot: i64::try_from(slot.as_secs()).unwrap_or(i64::MAX), slots, counts: VecDeque::new(), sum: 0 }
    }

    fn sum(&mut self, now: Timestamp) -> u64 {
        self.turn_to(now);
        self.sum
    }

    fn add(&mut self, amount: u64, now: Timestamp) {
        if amount == 0 {
            return;
        }
        let slot = self.turn_to(now);
        self.sum += amount;
        match self.counts.back_mut() {
            Some((last, count)) if *last == slot => *count += amount,
            _ => self.counts.push_back((slot, amount)),
        }
    }

    fn take_back(&mut self, amount: u64, at: Timestamp) {
        let slot = self.slot_of(at);
        if let Some((_, count)) = self.counts.iter_mut().rev().find(|(one, _)| *one <= slot) {
            let taken = amount.min(*count);
            *count -= taken;
            self.sum -= taken;
        }
    }

    /// Drops what has left the window; says which slot is now.
    fn turn_to(&mut self, now: Timestamp) -> i64 {
        let slot = self.slot_of(now);
        // After the clock was set back, what lies ahead counts as of now: it must leave the window some day.
        let mut ahead = 0;
        while let Some(&(last, count)) = self.counts.back()
            && last > slot
        {
            ahead += count;
            self.counts.pop_back();
        }
        if ahead > 0 {
            match self.counts.back_mut() {
                Some((last, count)) if *last == slot => *count += ahead,
                _ => self.counts.push_back((slot, ahead)),
            }
        }
        while let Some(&(first, count)) = self.counts.front()
            && first < slot - self.slots
        {
            self.sum -= count;
            self.counts.pop_front();
        }
        slot
    }

    /// When `needed` fits; `None` when it never does.
    fn room_at(&self, limit: u64, needed: u64) -> Option<Timestamp> {
        let allowed = limit.checked_sub(needed)?;
        let mut sum = self.sum;
        for &(slot, count) in &self.counts {
            sum -= count;
            if sum <= allowed {
                return Timestamp::from_second((slot + self.slots + 1).saturating_mul(self.slot)).ok();
            }
        }
        None
    }

    fn slot_of(&self, at: Timestamp) -> i64 {
        at.as_second().div_euclid(self.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn message(recipients: u64, bytes: u64) -> Load {
        Load { messages: 1, recipients, bytes }
    }

    #[test]
    fn room_comes_back_when_it_was_promised_and_not_before() {
        let rules = SubmitterRules { messages_per_minute: Some(2), ..SubmitterRules::default() };
        let mut usage = Usage::default();
        for second in [0, 10] {
            usage.check(&rules, message(1, 1), at(second)).unwrap();
            usage.charge(message(1, 1), at(second));
        }
        let refused = usage.check(&rules, message(1, 1), at(20)).unwrap_err();
        assert_eq!((refused.quota, refused.limit, refused.again), (Quota::MessagesPerMinute, 2, Some(at(61))));
        assert!(usage.check(&rules, message(1, 1), at(60)).is_err());
        usage.check(&rules, message(1, 1), at(61)).unwrap();
    }

    #[test]
    fn each_quota_of_a_day_is_its_own_and_the_longest_wait_is_told() {
        let rules = SubmitterRules {
            messages_per_day: Some(3),
            recipients_per_day: Some(10),
            bytes_per_day: Some(1_000),
            ..SubmitterRules::default()
        };
        for (used, asked, quota) in [
            (
                vec![(0, message(1, 1)), (1, message(1, 1)), (2, message(1, 1))],
                message(1, 1),
                Some(Quota::MessagesPerDay),
            ),
            (vec![(0, message(10, 1))], message(1, 1), Some(Quota::RecipientsPerDay)),
            (vec![(0, message(1, 999))], message(1, 2), Some(Quota::BytesPerDay)),
            (vec![(0, message(9, 999))], message(1, 1), None),
            (vec![(0, message(9, 1)), (3_600, message(1, 990))], message(1, 600), Some(Quota::BytesPerDay)),
            (vec![], message(11, 1), Some(Quota::RecipientsPerDay)),
        ] {
            let mut usage = Usage::default();
            for &(second, load) in &used {
                usage.charge(load, at(second));
            }
            let refused = usage.check(&rules, asked, at(7_200)).err();
            assert_eq!(refused.map(|one| one.quota), quota, "{used:?} {asked:?}");
            if let Some(again) = refused.and_then(|one| one.again) {
                assert!(usage.check(&rules, asked, again).is_ok(), "{used:?} {asked:?}");
            } else if quota.is_some() {
                assert!(asked.recipients > 10, "only what never fits has no time");
            }
        }
    }

    #[test]
    fn what_was_not_accepted_is_given_back() {
        let rules = SubmitterRules { messages_per_day: Some(1), ..SubmitterRules::default() };
        let mut usage = Usage::default();
        usage.charge(message(1, 1), at(0));
        assert!(usage.check(&rules, message(1, 1), at(1)).is_err());
        usage.refund(message(1, 1), at(0));
        usage.check(&rules, message(1, 1), at(1)).unwrap();
    }

    #[test]
    fn a_clock_set_back_neither_frees_nor_blocks_for_ever() {
        let rules = SubmitterRules { messages_per_minute: Some(1), ..SubmitterRules::default() };
        let mut usage = Usage::default();
        usage.charge(message(1, 1), at(1_000_000));
        let refused = usage.check(&rules, message(1, 1), at(0)).unwrap_err();
        assert_eq!(refused.again, Some(at(61)));
        usage.check(&rules, message(1, 1), at(61)).unwrap();
    }

    #[test]
    fn without_quotas_everything_fits_and_memory_stays_small() {
        let mut usage = Usage::default();
        for second in 0..200_000 {
            usage.charge(message(5, 5), at(second));
        }
        usage.check(&SubmitterRules::default(), message(1_000_000, u64::MAX / 2), at(200_000)).unwrap();
        assert!(usage.bytes.counts.len() <= 98 && usage.minute.counts.len() <= 62);
    }
}
