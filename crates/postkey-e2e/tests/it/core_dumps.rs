//! No core dump holds a secret: every process that has one is neither dumpable nor allowed to write a dump.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{binary, postkey};
use crate::setups::{Moment, PATIENCE, Tenant};

/// Any user but root will do: the kernel gives an undumpable process's files to root, which shows only on another's.
const NOBODY: u32 = 65_534;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_emulator_cannot_be_dumped() {
    let place = Place::new();
    let mut command = place.owned(Command::from(postkey(&["emulator", "--dir"])));
    command.arg(place.folder.path().join("emulator")).stdout(Stdio::piped());
    let mut emulator = command.spawn().expect("the program under test starts");
    let mut lines = BufReader::new(emulator.stdout.take().expect("it was piped")).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.expect("it prints text") {
            if line.contains("Ctrl-C") {
                return;
            }
        }
        panic!("the emulator ended before it was ready");
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("it starts in time");
    assert_undumpable(emulator.id().expect("it runs"));
    end(emulator).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setup_in_the_middle_of_a_call_cannot_be_dumped() {
    let place = Place::new();
    let tenant = Tenant::start(Duration::ZERO).await;
    tenant.is_open_to_everybody();
    let setup = tenant.setup("undumpable", &["--reach", "tenant-wide", "--credential", "secret"]);
    std::fs::create_dir(setup.home()).expect("the folder is writable");
    place.give(setup.home());
    let command = place.owned(setup.command_of_setup());
    let held = setup.held_up(command, 7, Moment::BeforeItIsAnswered).await.expect("it makes seven calls");
    assert_undumpable(held.id());
    held.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_tells_an_ordinary_process_apart() {
    let place = Place::new();
    let mut command = place.owned(Command::new("cat"));
    let process = command.stdin(Stdio::piped()).spawn().expect("coreutils are installed");
    let id = process.id().expect("it runs");
    assert_ne!(user_of(id), 0);
    assert_ne!(owner_of(id), 0, "an ordinary process's files are its user's");
    end(process).await;
}

/// Where a process may run as somebody else than root.
struct Place {
    folder: TempDir,
    as_nobody: bool,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::with_prefix("postkey-undumpable-").expect("a temporary folder can be made");
        let as_nobody = folder.path().metadata().expect("it is there").uid() == 0;
        let place = Self { folder, as_nobody };
        place.give(place.folder.path());
        place
    }

    fn give(&self, path: &Path) {
        if self.as_nobody {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("root may give things away");
        }
    }

    /// The same command, run by somebody who is not root, from a place where they may read the program: one that may
    /// not be read is undumpable for that reason alone.
    fn owned(&self, command: Command) -> Command {
        if !self.as_nobody {
            return command;
        }
        let command = command.into_std();
        let program = Path::new(command.get_program());
        let mut owned = if program == binary() {
            let copy = self.folder.path().join("postkey");
            std::fs::copy(program, &copy).expect("there is room for the program");
            std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).expect("it is ours");
            Command::new(copy)
        } else {
            Command::new(program)
        };
        owned.args(command.get_args()).current_dir(self.folder.path()).env("HOME", self.folder.path());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => owned.env(name, value),
                None => owned.env_remove(name),
            };
        }
        owned
            .uid(NOBODY)
            .gid(NOBODY)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        owned
    }
}

fn assert_undumpable(id: u32) {
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).expect("anybody may read the limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the limit is listed");
    let values: Vec<&str> = core.split_whitespace().skip(4).collect();
    assert_eq!(values, ["0", "0", "bytes"], "soft and hard limit of a core file");
    assert_ne!(user_of(id), 0, "as root nothing would show");
    assert_eq!(owner_of(id), 0, "the files of an undumpable process are root's");
}

/// The user a process runs as.
fn user_of(id: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("anybody may read the status");
    let line = status.lines().find(|line| line.starts_with("Uid:")).expect("the user is listed");
    line.split_whitespace().nth(2).expect("the effective one is second").parse().expect("it is a number")
}

/// Whom the kernel lets read a process's memory map: its user, or root alone when it is not dumpable.
fn owner_of(id: u32) -> u32 {
    std::fs::metadata(format!("/proc/{id}/maps")).expect("it is listed").uid()
}

async fn end(mut process: Child) {
    process.start_kill().expect("it is our own child, and still runs");
    process.wait().await.expect("it can be waited for");
}
