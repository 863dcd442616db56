//! What the process asks of the system: no core dump may ever hold a secret, and a server may open enough files.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Switches core dumps off for this process and its children, and keeps other processes of the user from reading its
/// memory. Failing is no reason not to run: a container may forbid either, and then usually forbids dumps too.
pub(crate) fn forbid_core_dumps() {
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, nothing) {
        tracing::warn!(%error, "core dumps could not be switched off by limit");
    }
    // "Not dumpable" also guards /proc/PID/mem and ptrace by the same user.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "this process could not be made undumpable");
    }
}

/// Lets a server have as many connections as its hard limit allows: the soft one is 1,024 as a rule, for programs that use
/// select(2), and a thousand idle sessions must not keep the next one out.
pub(crate) fn open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(ENOUGH_FILES, |hard| hard.min(ENOUGH_FILES));
    if limit.current.is_none_or(|soft| soft >= most) {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// More than all listeners together take.
const ENOUGH_FILES: u64 = 65_536;
