//! What one run of a program costs.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::guardian::Guardian;
use crate::run::shown;

/// Time from start to end, and the most memory it ever held.
pub(crate) struct Cost {
    pub(crate) took: Duration,
    pub(crate) peak_kib: u64,
}

/// Runs a program to its successful end.
pub(crate) fn measured(guardian: &Guardian, command: &mut Command) -> Outcome<Cost> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let started = Instant::now();
    let mut child = command.spawn().map_err(|e| format!("{} does not start: {e}", shown(command)))?;
    guardian.watch_group(child.id());
    let mut peak_kib = 0;
    // The kernel forgets a process's peak when it ends, so it is read again and again until then. It only grows: a
    // look each 0.2 ms misses little.
    let status = loop {
        peak_kib = memory(child.id(), "VmHWM").unwrap_or(peak_kib).max(peak_kib);
        if let Some(status) = child.try_wait().map_err(|e| format!("{} cannot be waited for: {e}", shown(command)))? {
            break status;
        }
        std::thread::sleep(Duration::from_micros(200));
    };
    let took = started.elapsed();
    guardian.forget_group(child.id());
    match status.success() {
        true => Ok(Cost { took, peak_kib }),
        false => Err(format!("{} failed ({status})", shown(command))),
    }
}

/// A line of a process's status in KiB: `VmRSS` now, `VmHWM` at most.
pub(crate) fn memory(process: u32, line: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A temporary folder, removed when dropped.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn make(guardian: &Guardian) -> Outcome<Folder> {
        let mut command = Command::new("mktemp");
        let made = command.args(["-d", "-t", "postkey-bench-XXXXXXXX"]).output().map_err(|e| format!("mktemp: {e}"))?;
        let path = PathBuf::from(String::from_utf8_lossy(&made.stdout).trim_end());
        if !path.is_dir() {
            return Err("mktemp made no folder".to_owned());
        }
        guardian.watch_folder(&path);
        Ok(Folder { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
