//! Who may still guess: growing delays and a lockout per name and network, and per network. Pure; the time comes in.
//!
//! Guessing locks the guesser, never the device. A name is locked only for the network it was guessed from, so the device
//! on another network does not notice. Whoever signed in lately from the very same address is never locked at all: its
//! right password is taken at once, whatever others did beside it; only wrong ones wait. All memory is bounded.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hash},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

/// How patient the house is.
#[derive(Debug, Clone)]
pub struct LockoutSettings {
    /// Wrong passwords for one name from one network before that network may no longer try that name.
    pub per_name: u32,
    /// Wrong passwords from one network, whatever the names, before it may try only what it has used before.
    pub per_network: u32,
    /// How long a lock lasts.
    pub locked_for: Duration,
    /// One failure is forgotten after each of these.
    pub forgets_one_every: Duration,
    /// The wait before the second refusal; it doubles with each one.
    pub first_delay: Duration,
    /// The longest wait before a refusal.
    pub longest_delay: Duration,
    /// Whoever signed in so lately counts as the rightful one at its address.
    pub rightful_for: Duration,
    /// Names, networks and rightful devices remembered, each.
    pub remembered: usize,
}

impl Default for LockoutSettings {
    /// A person mistypes three times; a device with an old password tries every minute and must get in soon after it was
    /// mended; a program guesses thousands of times.
    fn default() -> Self {
        Self {
            per_name: 10,
            per_network: 40,
            locked_for: Duration::from_secs(15 * 60),
            forgets_one_every: Duration::from_secs(60),
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(8),
            rightful_for: Duration::from_secs(30 * 24 * 3600),
            remembered: 10_000,
        }
    }
}

/// What may be tried now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The password may be looked at.
    Open,
    /// Not even the right one is taken.
    Locked {
        /// Until then.
        until: Timestamp,
    },
}

/// An IPv4 /24 or an IPv6 /64: what one customer usually has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(IpAddr);

impl Network {
    /// The network of an address. An IPv4 address in IPv6 clothes is an IPv4 address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !0xff)),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        })
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0, if self.0.is_ipv4() { 24 } else { 64 })
    }
}

/// What is remembered of failures and successes.
#[derive(Debug)]
pub struct Lockout {
    settings: LockoutSettings,
    hasher: RandomState,
    names: HashMap<(u64, Network), Failures>,
    networks: HashMap<Network, Failures>,
    rightful: HashMap<(u64, IpAddr), Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    /// The last one that was counted, or when one was last forgotten.
    at: Timestamp,
    locked_until: Option<Timestamp>,
}

impl Lockout {
    /// Nothing remembered.
    pub fn new(settings: LockoutSettings) -> Self {
        Self {
            settings,
            hasher: RandomState::new(),
            names: HashMap::new(),
            networks: HashMap::new(),
            rightful: HashMap::new(),
        }
    }

    /// Whether a password for `name` may be looked at that comes from `address`.
    pub fn gate(&self, name: &str, address: IpAddr, now: Timestamp) -> Gate {
        let (name, address) = (self.name(name), address.to_canonical());
        if self.is_rightful(name, address, now) {
            return Gate::Open;
        }
        let network = Network::of(address);
        let locks = [self.names.get(&(name, network)), self.networks.get(&network)];
        match locks.into_iter().flatten().filter_map(|failures| failures.locked_until).max() {
            Some(until) if until > now => Gate::Locked { until },
            _ => Gate::Open,
        }
    }

    /// The password was wrong, or there is no such name. The refusal is said after the wait that this returns.
    pub fn failed(&mut self, name: &str, address: IpAddr, now: Timestamp) -> Duration {
        let (name, address) = (self.name(name), address.to_canonical());
        let network = Network::of(address);
        make_room(&mut self.names, self.settings.remembered, |failures| failures.at);
        make_room(&mut self.networks, self.settings.remembered, |failures| failures.at);
        let by_name = count_one(&mut self.names, (name, network), self.settings.per_name, &self.settings, now);
        let by_network = count_one(&mut self.networks, network, self.settings.per_network, &self.settings, now);
        // A network's own count weighs as its limit is larger: an office's few mistakes slow nobody down.
        let weight = by_name.max(by_network / (self.settings.per_network / self.settings.per_name.max(1)).max(1));
        match weight {
            0 | 1 => Duration::ZERO,
            more => self
                .settings
                .first_delay
                .saturating_mul(1_u32.checked_shl(more - 2).unwrap_or(u32::MAX))
                .min(self.settings.longest_delay),
        }
    }

    /// The right password came from this address: it is the rightful one's for some time. Failures of the network stay
    /// counted, or whoever holds one password could guess others without end.
    pub fn succeeded(&mut self, name: &str, address: IpAddr, now: Timestamp) {
        let (name, address) = (self.name(name), address.to_canonical());
        self.names.remove(&(name, Network::of(address)));
        make_room(&mut self.rightful, self.settings.remembered, |&at| at);
        self.rightful.insert((name, address), now);
    }

    fn is_rightful(&self, name: u64, address: IpAddr, now: Timestamp) -> bool {
        let lately = |&at: &Timestamp| now.duration_since(at) <= signed(self.settings.rightful_for);
        self.rightful.get(&(name, address)).is_some_and(lately)
    }

    /// Names are kept as a keyed hash: of one size, and no list of names to be stolen from memory.
    fn name(&self, name: &str) -> u64 {
        self.hasher.hash_one(name.to_lowercase())
    }
}

fn count_one<K: Eq + Hash>(
    failures: &mut HashMap<K, Failures>,
    key: K,
    most: u32,
    settings: &LockoutSettings,
    now: Timestamp,
) -> u32 {
    let one = failures.entry(key).or_insert(Failures { count: 0, at: now, locked_until: None });
    // A clock set back forgets nothing.
    let passed = now.duration_since(one.at).max(SignedDuration::ZERO).as_millis();
    let forgotten = passed / i128::try_from(settings.forgets_one_every.as_millis().max(1)).unwrap_or(i128::MAX);
    one.count = one.count.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX)).saturating_add(1);
    one.at = now;
    let locked_now = one.locked_until.is_some_and(|until| until > now);
    if one.count >= most && !locked_now {
        // Failures while it is locked do not lengthen the lock: a device with an old password gets its next try.
        one.locked_until = Some(now.saturating_add(signed(settings.locked_for)).unwrap_or(Timestamp::MAX));
    }
    one.count
}

/// Forgets the oldest quarter when full: seldom, and so cheap on the average.
fn make_room<K: Eq + Hash, V>(entries: &mut HashMap<K, V>, most: usize, at: impl Fn(&V) -> Timestamp) {
    if entries.len() < most.max(4) {
        return;
    }
    let mut times: Vec<_> = entries.values().map(&at).collect();
    let quarter = times.len() / 4;
    let (_, &mut oldest_kept, _) = times.select_nth_unstable(quarter);
    let mut to_drop = quarter.max(1);
    entries.retain(|_, value| {
        let drop = to_drop > 0 && at(value) <= oldest_kept;
        to_drop -= usize::from(drop);
        !drop
    });
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
#[path = "lockout_tests.rs"]
mod tests;
