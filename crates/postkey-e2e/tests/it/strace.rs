//! Kills the program at its n-th system call of a kind, by Linux's tracer: before that call takes effect, and so after the
//! one before it. The program itself knows nothing of it.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The tracer attaches within milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which system calls. They are counted thread by thread, so each kind is made by threads of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    /// All by which SQLite changes a file or makes it durable.
    Database,
    /// All by which something is said to a peer: submitter, PostgreSQL, token endpoint, Graph, SMTP.
    Network,
}

impl Calls {
    fn names(self) -> &'static str {
        match self {
            Self::Database => "pwrite64,pwritev,fdatasync,fsync,ftruncate,unlink",
            Self::Network => "sendto,sendmsg,writev",
        }
    }
}

/// A tracer that is attached to the program. Dropping it detaches it.
pub(crate) struct Killer {
    tracer: Child,
}

impl Killer {
    /// Attaches to all its threads, those to come included: whichever of them makes its `at`th call of these dies there, with
    /// the whole process.
    pub(crate) async fn attach(process: u32, calls: Calls, at: u64) -> Killer {
        let names = calls.names();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={names}")]);
        strace.args(["-e", &format!("inject={names}:signal=KILL:when={at}"), "-p", &process.to_string()]);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut tracer = strace.spawn().expect("strace is installed: cargo xtask test");
        let mut lines = BufReader::new(tracer.stderr.take().expect("it is a pipe")).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("strace attaches in time");
        match line.expect("it is text") {
            Some(line) if line.contains("attached") => {}
            other => panic!("NOT TESTED: no tracer may attach here ({other:?}); run the tests as root"),
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
