//! Before anything secret is in memory: no core dump may ever hold it.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

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
