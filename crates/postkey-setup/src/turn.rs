//! One at a time: two runs of one setup would each make a credential. Who is at it holds a lease in the store and keeps
//! extending it; a process that was killed is seen to be gone on its own machine at once, elsewhere when its lease ends.

use std::{fs, time::Duration};

use jiff::SignedDuration;
use postkey_store::{Lease, Store, StoreError};
use rustix::process::{Pid, test_kill_process};

use crate::error::SetupError;

/// So long a run that died on another machine keeps others waiting.
const LEASE: SignedDuration = SignedDuration::from_secs(60);
/// Often enough that two extensions may fail.
const EXTENDED_EVERY: Duration = Duration::from_secs(15);

/// The right to work on one setup.
pub(crate) struct Turn {
    store: Store,
    lease: Lease,
}

impl Turn {
    /// Takes the turn of the setup called `name`.
    pub(crate) async fn take(store: &Store, name: &str) -> Result<Self, SetupError> {
        let (lease, holder) = (format!("setup/{name}"), Process::current().to_string());
        if let Some(lease) = store.take_lease(&lease, &holder, LEASE).await? {
            return Ok(Self { store: store.clone(), lease });
        }
        let Some(other) = store.lease(&lease).await? else {
            return Err(StoreError::LeaseLost { name: lease }.into());
        };
        let busy = || SetupError::AlreadyRunning {
            setup: name.to_owned(),
            process: other.holder.parse().map_or(0, |process: Process| process.id),
            until: other.until,
        };
        if !other.holder.parse().is_ok_and(|process: Process| process.is_gone()) {
            return Err(busy());
        }
        tracing::info!(lease.holder = other.holder, "taking over from a run that was killed");
        // By its epoch: whoever has taken it meanwhile keeps it.
        store.release_lease(&other).await?;
        match store.take_lease(&lease, &holder, LEASE).await? {
            Some(lease) => Ok(Self { store: store.clone(), lease }),
            None => Err(busy()),
        }
    }

    /// Does the work as long as the turn is ours: when another has taken it, the work stops as if it had been killed.
    pub(crate) async fn during<T>(
        mut self,
        work: impl Future<Output = Result<T, SetupError>>,
    ) -> Result<T, SetupError> {
        let ended = tokio::select! {
            ended = work => ended,
            lost = keep(&self.store, &mut self.lease) => Err(lost.into()),
        };
        if let Err(error) = self.store.release_lease(&self.lease).await {
            tracing::warn!(%error, "the turn is given back only when its lease ends");
        }
        ended
    }
}

/// Extends the lease until it is lost.
async fn keep(store: &Store, lease: &mut Lease) -> StoreError {
    loop {
        tokio::time::sleep(EXTENDED_EVERY).await;
        match store.extend_lease(lease, LEASE).await {
            Ok(extended) => *lease = extended,
            Err(lost @ StoreError::LeaseLost { .. }) => return lost,
            // The next attempt may do better; if none does, the lease is lost in the end.
            Err(error) => tracing::warn!(%error, "the turn could not be extended"),
        }
    }
}

/// A process as nothing else is called: machine since it was started, namespace, number, and the process's own start.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    id: u32,
    machine: String,
    started: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.id, self.machine, self.started)
    }
}

impl std::str::FromStr for Process {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split(' ').collect::<Vec<_>>()[..] {
            [id, machine, started] => {
                Ok(Self { id: id.parse().map_err(drop)?, machine: machine.into(), started: started.into() })
            }
            _ => Err(()),
        }
    }
}

impl Process {
    fn current() -> Self {
        let id = std::process::id();
        Self { id, machine: machine().unwrap_or_else(unknown), started: started(id).unwrap_or_else(unknown) }
    }

    /// Whether it certainly runs no more: on this very machine, under its number, with its start.
    fn is_gone(&self) -> bool {
        if machine().is_none_or(|machine| machine != self.machine) || self.started == unknown() {
            return false;
        }
        let Some(pid) = i32::try_from(self.id).ok().and_then(Pid::from_raw) else { return false };
        match started(self.id) {
            Some(started) => started != self.started,
            // Hidden from us, or not there.
            None => test_kill_process(pid) == Err(rustix::io::Errno::SRCH),
        }
    }
}

fn unknown() -> String {
    "?".to_owned()
}

/// This machine since it was started, and the namespace that numbers its processes. None where there is no /proc.
fn machine() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let numbers = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", boot.trim(), numbers.display()))
}

/// When a process was started, in the kernel's ticks (proc_pid_stat(5), field 22); a dead one that nobody has waited for
/// counts as none. Its name, which may hold anything, stands in parentheses before.
fn started(id: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" => Some("dead".to_owned()),
        _ => fields.nth(18).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use postkey_base::Clock;
    use postkey_store::{Location, MasterKeys};

    use super::*;

    async fn store(folder: &tempfile::TempDir) -> Store {
        let place = Location::Sqlite(folder.path().join("postkey.db"));
        Store::open(place, MasterKeys::fresh(), Clock::real()).await.unwrap()
    }

    #[tokio::test]
    async fn a_second_run_of_a_setup_is_turned_away_and_another_setup_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let turn = Turn::take(&store, "reports").await.unwrap();
        let refused = Turn::take(&store, "reports").await.err().unwrap();
        let ours = std::process::id();
        assert!(matches!(refused, SetupError::AlreadyRunning { process, .. } if process == ours), "{refused:?}");
        Turn::take(&store, "alerts").await.unwrap();
        turn.during(async { Ok(()) }).await.unwrap();
        Turn::take(&store, "reports").await.unwrap();
    }

    #[tokio::test]
    async fn the_turn_of_a_killed_process_is_taken_over_on_its_own_machine_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let here = Process::current();
        for (name, holder, free) in [
            ("gone", Process { started: "1".into(), ..here.clone() }, true),
            ("alive", here.clone(), false),
            ("elsewhere", Process { machine: "another/pid:[1]".into(), started: "1".into(), ..here.clone() }, false),
        ] {
            store.take_lease(&format!("setup/{name}"), &holder.to_string(), LEASE).await.unwrap().unwrap();
            assert_eq!(Turn::take(&store, name).await.is_ok(), free, "{name}");
        }
        store.take_lease("setup/strange", "somebody", LEASE).await.unwrap().unwrap();
        assert!(Turn::take(&store, "strange").await.is_err());
    }

    #[tokio::test]
    async fn a_turn_that_was_lost_ends_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let turn = Turn::take(&store, "reports").await.unwrap();
        store.release_lease(&turn.lease).await.unwrap();
        store.take_lease("setup/reports", "somebody", LEASE).await.unwrap().unwrap();
        tokio::time::pause();
        let lost = turn.during(std::future::pending::<Result<(), _>>()).await.unwrap_err();
        assert!(matches!(lost, SetupError::Store(StoreError::LeaseLost { .. })), "{lost:?}");
        // The store's own deadlines run by the same clock.
        tokio::time::resume();
        assert_eq!(store.lease("setup/reports").await.unwrap().unwrap().holder, "somebody");
    }
}
