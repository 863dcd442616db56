//! A disk of a test's own, which can be full.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A small disk over a folder, in a mount namespace of its own: whatever happens to this test, it vanishes with its keeper.
pub(crate) struct SmallDisk {
    keeper: Child,
    folder: PathBuf,
}

impl SmallDisk {
    /// `size` as mount(8) takes it. None where this machine lets nobody have a disk of their own.
    pub(crate) fn over(folder: &Path, size: &str) -> Option<SmallDisk> {
        fs::create_dir_all(folder).expect("the folder can be made");
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--mount", "sh", "-ec"]);
        unshare.arg("mount -t tmpfs -o size=\"$1\",mode=700 none \"$0\"; echo ready; read -r end || true");
        unshare.arg(folder).arg(size);
        let keeper = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut disk = SmallDisk { keeper, folder: folder.to_owned() };
        let mut said = String::new();
        let output = disk.keeper.stdout.take().expect("it is a pipe");
        let ready = BufReader::new(output).read_line(&mut said).is_ok() && said == "ready\n";
        // A namespace that cannot be entered again is of no use.
        (ready && disk.inside(Command::new("true")).status().is_ok_and(|status| status.success())).then_some(disk)
    }

    /// The call, made where the disk is.
    pub(crate) fn inside(&self, call: Command) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.keeper.id().to_string(), "--user", "--mount", "--preserve-credentials"]);
        nsenter.arg(call.get_program()).args(call.get_args());
        for (name, value) in call.get_envs() {
            match value {
                Some(value) => nsenter.env(name, value),
                None => nsenter.env_remove(name),
            };
        }
        nsenter
    }

    fn shell(&self, script: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(self.folder.join("filler"));
        let done = self.inside(shell).output().expect("a shell starts");
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Takes every free block.
    pub(crate) fn fill(&self) {
        self.shell("dd if=/dev/zero of=\"$0\" bs=4096 2>&1 || true");
    }

    /// Gives them back.
    pub(crate) fn free(&self) {
        self.shell("rm \"$0\"");
    }

    /// A path on the disk as a process outside of its namespace reaches it.
    pub(crate) fn seen_from_here(&self, path: &Path) -> PathBuf {
        let root = format!("/proc/{}/root", self.keeper.id());
        PathBuf::from(root).join(path.strip_prefix("/").unwrap_or(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Only this process: it is our child and not yet waited for, so its number is still its own.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
