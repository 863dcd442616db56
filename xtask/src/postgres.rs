//! A PostgreSQL of the tests' own: a temporary folder, a free port on loopback, gone afterwards.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::Outcome;
use crate::guardian::Guardian;
use crate::prerequisites::postgres_programs;
use crate::run::run;

/// Where the tests read its address: `postgres://…`, of a user who may create databases.
pub(crate) const VARIABLE: &str = "POSTKEY_TEST_POSTGRES";

/// Enough for every test process of one run to hold a small pool.
const CONNECTIONS: &str = "max_connections=300";

/// The running server. Dropping it stops it; the guardian removes its folder.
pub(crate) struct Postgres {
    server: Child,
    port: u16,
    password: String,
}

impl Postgres {
    /// Makes a fresh cluster and starts its server; returns once it accepts connections.
    pub(crate) fn start(guardian: &Guardian) -> Outcome<Postgres> {
        // Nothing here must survive a power cut, so nothing waits for the disk.
        Self::with(guardian, &["fsync=off", "synchronous_commit=off", "full_page_writes=off"])
    }

    /// The same, as durable as a server is by default: for measuring.
    pub(crate) fn start_durable(guardian: &Guardian) -> Outcome<Postgres> {
        Self::with(guardian, &["fsync=on", "synchronous_commit=on"])
    }

    fn with(guardian: &Guardian, settings: &[&str]) -> Outcome<Postgres> {
        let programs = postgres_programs().ok_or("PostgreSQL's server programs are not installed")?;
        let owner = Owner::choose()?;
        let password = random_word()?;
        let folder = owner.make_folder(guardian)?;
        let cluster = folder.join("cluster");
        let secret = folder.join("password");
        owner.write(&secret, &password)?;

        let mut initdb = owner.command(&programs.join("initdb"));
        initdb.args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        initdb.arg(format!("--pwfile={}", secret.display())).arg(&cluster).stdout(Stdio::null());
        run(guardian, &mut initdb)?;

        let port = free_port()?;
        let mut postgres = owner.command(&programs.join("postgres"));
        postgres.arg("-D").arg(&cluster).arg("-k").arg(&folder).args(["-h", "127.0.0.1", "-p", &port.to_string()]);
        for setting in settings.iter().chain(&[CONNECTIONS]) {
            postgres.args(["-c", setting]);
        }
        postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let mut server = postgres.spawn().map_err(|e| format!("PostgreSQL does not start: {e}"))?;
        guardian.watch_group(server.id());
        wait_until_ready(&mut server)?;
        Ok(Postgres { server, port, password })
    }

    /// The address for [`VARIABLE`].
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    /// Stops the server and waits for it.
    pub(crate) fn stop(mut self, guardian: &Guardian) {
        self.end();
        guardian.forget_group(self.server.id());
    }

    fn end(&mut self) {
        if let Some(group) = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw) {
            // SIGINT is PostgreSQL's "fast shutdown": it cuts connections instead of waiting for them.
            let _ = kill_process_group(group, Signal::INT);
        }
        let _ = self.server.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if matches!(self.server.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

/// The server's log says when it is ready; everything after that is read and dropped, or the server would stall on
/// a full pipe.
fn wait_until_ready(server: &mut Child) -> Outcome {
    let log = server.stderr.take().expect("standard error was made a pipe when the server was started");
    let mut lines = BufReader::new(log).lines();
    let mut seen = String::new();
    for line in lines.by_ref().map_while(Result::ok) {
        if line.contains("database system is ready to accept connections") {
            std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
            return Ok(());
        }
        seen.push_str(&line);
        seen.push('\n');
    }
    Err(format!("PostgreSQL ended before it was ready:\n{seen}"))
}

/// As whom the server runs: PostgreSQL refuses root, so root hands it to the user that the Debian package made.
struct Owner {
    other: Option<(u32, u32)>,
}

impl Owner {
    fn choose() -> Outcome<Owner> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Owner { other: None });
        }
        let users = std::fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
        let line = users.lines().find(|line| line.starts_with("postgres:"));
        let fields: Vec<&str> = line.unwrap_or_default().split(':').collect();
        match (fields.get(2).and_then(|id| id.parse().ok()), fields.get(3).and_then(|id| id.parse().ok())) {
            (Some(user), Some(group)) => Ok(Owner { other: Some((user, group)) }),
            _ => Err("PostgreSQL refuses to run as root, and there is no user \"postgres\" to run it as".to_owned()),
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // The messages that are looked for must be the English ones; the current folder may be closed to the other user.
        command.env("LC_ALL", "C").current_dir("/");
        if let Some((user, group)) = self.other {
            command.uid(user).gid(group);
        }
        command
    }

    /// A folder of this owner alone, outside the tree: the other user may not be able to reach that.
    fn make_folder(&self, guardian: &Guardian) -> Outcome<PathBuf> {
        let folder = std::env::temp_dir().join(format!("postkey-test-postgres-{}", random_word()?));
        guardian.watch_folder(&folder);
        std::fs::create_dir(&folder)
            .and_then(|()| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)))
            .map_err(|e| format!("{}: {e}", folder.display()))?;
        self.hand_over(&folder)?;
        Ok(folder)
    }

    fn write(&self, file: &Path, text: &str) -> Outcome {
        File::create_new(file)
            .and_then(|mut open| open.write_all(text.as_bytes()))
            .map_err(|e| format!("{}: {e}", file.display()))?;
        self.hand_over(file)
    }

    fn hand_over(&self, path: &Path) -> Outcome {
        let Some((user, group)) = self.other else { return Ok(()) };
        chown(path, Some(user), Some(group)).map_err(|e| format!("{}: {e}", path.display()))
    }
}

fn random_word() -> Outcome<String> {
    let mut bytes = [0; 12];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|e| format!("/dev/urandom: {e}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A port that was free a moment ago. Another program may take it before PostgreSQL does; then the start fails aloud.
fn free_port() -> Outcome<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|e| format!("no free port on loopback: {e}"))
}
