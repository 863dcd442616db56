//! A second process that outlives this one by a moment and cleans up: it stops the process groups and removes the
//! folders that were written down with it. It acts when its standard input ends, and that happens by itself
//! however we end: done, failed, Ctrl-C, even `kill -9`. So there is one clean-up, and no signal handler.

use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::Outcome;

/// The hidden command under which this program starts itself as guardian.
pub(crate) const COMMAND: &str = "__guard";

/// How long a process group may take to end by itself; PostgreSQL's fast shutdown is the slowest and takes under 1 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// The running guardian. Dropping it makes it clean up, and waits until it has.
pub(crate) struct Guardian {
    child: Child,
    line: Mutex<Option<ChildStdin>>,
}

impl Guardian {
    /// Starts the guardian in a process group of its own, out of Ctrl-C's reach.
    pub(crate) fn start() -> Outcome<Guardian> {
        let program = std::env::current_exe().map_err(|e| format!("this program's own path is unknown: {e}"))?;
        let mut child = Command::new(program)
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|e| format!("the clean-up process does not start: {e}"))?;
        let line = Mutex::new(child.stdin.take());
        Ok(Guardian { child, line })
    }

    /// From now on this process group is ended with us.
    pub(crate) fn watch_group(&self, id: u32) {
        self.say(&format!("group {id}"));
    }

    /// This process group has ended; its number may be reused by strangers.
    pub(crate) fn forget_group(&self, id: u32) {
        self.say(&format!("ended {id}"));
    }

    /// From now on this folder is removed with us.
    pub(crate) fn watch_folder(&self, folder: &Path) {
        self.say(&format!("folder {}", folder.display()));
    }

    fn say(&self, line: &str) {
        let mut pipe = self.line.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(pipe) = pipe.as_mut() {
            // A guardian that is gone cannot be told anything; the task itself can still go on.
            let _ = writeln!(pipe, "{line}");
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.line.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let _ = self.child.wait();
    }
}

/// The guardian's own life: listen until the other side is gone, then clean up.
pub(crate) fn watch() -> Outcome {
    let mut groups: Vec<Pid> = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("group", id)) => groups.extend(process_id(id)),
            Some(("ended", id)) => groups.retain(|group| Some(*group) != process_id(id)),
            Some(("folder", folder)) => folders.push(PathBuf::from(folder)),
            _ => return Err(format!("the clean-up process does not understand {line:?}")),
        }
    }
    // Last started, first stopped: tests before the servers they use.
    for group in groups.into_iter().rev() {
        stop_group(group);
    }
    for folder in folders {
        let _ = std::fs::remove_dir_all(folder);
    }
    Ok(())
}

fn process_id(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

/// Asks a process group to end, waits, then ends it. SIGINT, since PostgreSQL takes SIGTERM as "wait for the clients".
fn stop_group(group: Pid) {
    if kill_process_group(group, Signal::INT).is_err() {
        return;
    }
    let asked = Instant::now();
    while test_kill_process_group(group).is_ok() {
        if asked.elapsed() > PATIENCE {
            let _ = kill_process_group(group, Signal::KILL);
            return;
        }
        // Nothing announces the end of a process that is not our child.
        std::thread::sleep(Duration::from_millis(20));
    }
}
