//! How many may be inside: connections in all and from each address, and bytes of messages on their way in.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Counts who is inside.
#[derive(Debug)]
pub(crate) struct Doorway {
    most: usize,
    most_per_address: usize,
    inside: Mutex<Inside>,
    most_bytes: u64,
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    doorway: Arc<Doorway>,
    address: Option<IpAddr>,
}

/// There is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("too many connections, try again later")]
    InAll,
    #[error("too many connections from your address, try again later")]
    FromThere,
}

impl Doorway {
    pub(crate) fn new(most: usize, most_per_address: usize, most_bytes: u64) -> Arc<Self> {
        Arc::new(Self { most, most_per_address, inside: Mutex::default(), most_bytes, bytes: AtomicU64::new(0) })
    }

    /// A place for a connection whose address is not known yet.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Ticket, Full> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.all >= self.most {
            return Err(Full::InAll);
        }
        inside.all += 1;
        Ok(Ticket { doorway: Arc::clone(self), address: None })
    }

    pub(crate) fn count(&self) -> usize {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// Room for so many bytes of a message.
    pub(crate) fn room(self: &Arc<Self>) -> Option<BytesInHand> {
        let free = self.bytes.load(Ordering::Relaxed) < self.most_bytes;
        free.then(|| BytesInHand { doorway: Arc::clone(self), bytes: 0 })
    }
}

impl Ticket {
    /// Whose it is. Loopback is not counted: there a whole machine of programs, or a proxy, is one address.
    pub(crate) fn is_for(&mut self, address: IpAddr) -> Result<(), Full> {
        let address = address.to_canonical();
        if address.is_loopback() {
            return Ok(());
        }
        let address = whose(address);
        let mut inside = self.doorway.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let count = inside.by_address.entry(address).or_default();
        if *count >= self.doorway.most_per_address {
            return Err(Full::FromThere);
        }
        *count += 1;
        self.address = Some(address);
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inside = self.doorway.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.all -= 1;
        if let Some(address) = self.address
            && let Some(count) = inside.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                inside.by_address.remove(&address);
            }
        }
    }
}

/// One machine has a whole IPv6 /64, and with it as many addresses as it likes.
fn whose(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

/// What one message takes of the memory while it comes in.
#[derive(Debug)]
pub(crate) struct BytesInHand {
    doorway: Arc<Doorway>,
    bytes: u64,
}

impl BytesInHand {
    /// Some more came; `false` when all messages together are far beyond what is allowed.
    pub(crate) fn add(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        self.bytes += bytes;
        let before = self.doorway.bytes.fetch_add(bytes, Ordering::Relaxed);
        // New ones are refused at the bound; those under way may finish unless all grow at once.
        before + bytes <= self.doorway.most_bytes.saturating_mul(2)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for BytesInHand {
    fn drop(&mut self) {
        self.doorway.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_by_address_and_come_back() {
        let doorway = Doorway::new(3, 1, 10);
        let there: IpAddr = "203.0.113.7".parse().unwrap();
        let mut first = doorway.enter().unwrap();
        first.is_for(there).unwrap();
        let mut second = doorway.enter().unwrap();
        assert_eq!(second.is_for("::ffff:203.0.113.7".parse().unwrap()), Err(Full::FromThere));
        second.is_for("127.0.0.1".parse().unwrap()).unwrap();
        let mut third = doorway.enter().unwrap();
        third.is_for("127.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(doorway.enter().err(), Some(Full::InAll));
        drop(first);
        let mut again = doorway.enter().unwrap();
        again.is_for(there).unwrap();
        drop((again, second, third));
        assert_eq!(doorway.count(), 0);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_together() {
        let doorway = Doorway::new(9, 1, 10);
        let mut first = doorway.enter().unwrap();
        first.is_for("2001:db8::1".parse().unwrap()).unwrap();
        assert_eq!(doorway.enter().unwrap().is_for("2001:db8::2:1".parse().unwrap()), Err(Full::FromThere));
        doorway.enter().unwrap().is_for("2001:db8:0:1::1".parse().unwrap()).unwrap();
    }

    #[test]
    fn memory_for_messages_is_bounded() {
        let doorway = Doorway::new(1, 1, 10);
        let mut one = doorway.room().unwrap();
        assert!(one.add(10));
        assert!(doorway.room().is_none());
        assert!(one.add(10));
        assert!(!one.add(1));
        drop(one);
        assert!(doorway.room().is_some());
    }
}
