//! What time it is. Time comes in as an argument, so a test may turn it; a release build cannot be told the time.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

/// Where a [`Clock`] reads the time.
pub trait TimeSource: Send + Sync {
    /// The time now, UTC.
    fn now(&self) -> Timestamp;
}

/// A handle on the time, cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn TimeSource>);

impl Clock {
    /// The machine's clock.
    pub fn real() -> Self {
        Self(Arc::new(Machine))
    }

    /// A clock that follows `source`: an emulator's, or a test's.
    pub fn following(source: Arc<dyn TimeSource>) -> Self {
        Self(source)
    }

    /// The time now, UTC.
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

struct Machine;

impl TimeSource for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
