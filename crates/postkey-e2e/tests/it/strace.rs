//! Kills the program at its n-th system call of a kind, by Linux's tracer: before that call takes effect, and so after the
//! one before it. The program itself knows nothing of it.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The tracer attaches within milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which system calls, and in which threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    /// All by which SQLite's threads change a file.
    Database,
    /// All by which the other threads say something to a peer: submitter, PostgreSQL, token endpoint, Graph, SMTP.
    Network,
}

impl Calls {
    fn names(self) -> &'static str {
        match self {
            Self::Database => "pwrite64,pwritev,write,fdatasync,fsync,ftruncate,unlink",
            Self::Network => "sendto,sendmsg,write,writev",
        }
    }

    fn concern(self, thread: &str) -> bool {
        // sqlx names its SQLite threads so; the kernel keeps fifteen letters.
        thread.starts_with("sqlx-sqlite") == (self == Self::Database)
    }
}

/// A tracer that is attached to the program's threads. Dropping it detaches it.
pub(crate) struct Killer {
    tracer: Child,
}

impl Killer {
    /// Attaches to the threads that are concerned: whichever of them makes its `at`th call of these dies there with the
    /// whole process.
    pub(crate) async fn attach(process: u32, calls: Calls, at: u64) -> Killer {
        let threads = threads(process, calls);
        assert!(!threads.is_empty(), "no thread of process {process} makes {calls:?} calls");
        let names = calls.names();
        let mut strace = Command::new("strace");
        strace.args(["-o", "/dev/null", "-e", &format!("trace={names}")]);
        strace.args(["-e", &format!("inject={names}:signal=KILL:when={at}")]);
        for thread in &threads {
            strace.args(["-p", thread]);
        }
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut tracer = strace.spawn().expect("strace is installed: cargo xtask test");
        let mut lines = BufReader::new(tracer.stderr.take().expect("it is a pipe")).lines();
        let mut attached = 0;
        while attached < threads.len() {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("strace attaches in time");
            match line.expect("it is text") {
                Some(line) if line.contains("attached") => attached += 1,
                Some(line) => panic!("NOT TESTED: no tracer may attach here ({line}); run the tests as root"),
                None => panic!("strace ended before it was attached"),
            }
        }
        // It goes on saying things that nobody waits for.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Killer { tracer }
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        // A tracer that dies lets its tracees go on.
        let _ = self.tracer.start_kill();
    }
}

/// The numbers of the threads that are concerned.
fn threads(process: u32, calls: Calls) -> Vec<String> {
    let folder = format!("/proc/{process}/task");
    let entries = std::fs::read_dir(&folder).expect("it runs").flatten();
    entries
        .filter(|entry| {
            std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| calls.concern(name.trim_end()))
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
