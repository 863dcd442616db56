//! What time it is. Time comes in as an argument, so a test may turn it; a release build cannot be told the time.

use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use jiff::Timestamp;

/// Where a [`Clock`] reads the time.
pub trait TimeSource: Send + Sync {
    /// The time now, UTC.
    fn now(&self) -> Timestamp;

    /// Time that has passed since some fixed moment, for pacing: what measures it should not step when the clock is set.
    fn steady(&self) -> Duration {
        Duration::try_from(self.now().duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default()
    }
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

    /// Time that has passed since some fixed moment. The machine's never steps, even when its clock is set.
    pub fn steady(&self) -> Duration {
        self.0.steady()
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

    fn steady(&self) -> Duration {
        BEGINNING.elapsed()
    }
}

/// When the machine's steady time was first asked for.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
