//! The tenant's clock, which a test may turn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

/// The machine's clock plus an offset that only ever a test or the management API changes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct EmulatorClock {
    offset_ms: Arc<AtomicI64>,
}

impl EmulatorClock {
    /// The tenant's time now, UTC.
    pub fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_millis(self.offset_ms.load(Ordering::SeqCst))
    }

    /// Turns the clock forward.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX / 4);
        self.offset_ms.fetch_add(by, Ordering::SeqCst);
    }

    /// How far the tenant's clock is ahead of the machine's, in milliseconds; negative when behind.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::SeqCst)
    }

    /// Sets how far the tenant's clock is ahead of the machine's, in milliseconds.
    pub fn set_offset_ms(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::SeqCst);
    }
}
