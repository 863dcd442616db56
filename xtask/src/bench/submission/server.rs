//! The postkey that is measured: an emulator with its limits lifted, senders in it, and `postkey serve` in a folder of its own.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::load::{Load, Speaks};
use super::postfix::{free_address, wait_for};
use super::{SMALL, cpu};
use crate::Outcome;
use crate::bench::emulator::Emulator;
use crate::bench::postkey;
use crate::bench::process::{Folder, memory};
use crate::guardian::Guardian;
use crate::run::{output, run};

/// Far more than the slowest run needs; what takes this long has stopped.
const PATIENCE: Duration = Duration::from_secs(300);

/// What becomes of what was taken in.
pub(super) enum Delivery {
    /// It waits: the sender is paused.
    Paused,
    /// It goes to so many mailboxes' lanes, through a Graph that takes its time.
    Runs { latency_ms: u32, mailboxes: usize },
}

pub(super) struct Bench<'a> {
    guardian: &'a Guardian,
    emulator: Emulator<'a>,
    home: Folder,
    serve: Option<Child>,
    smtp: SocketAddr,
    http: SocketAddr,
    store: Option<String>,
    /// One submitter and its mailbox for each lane.
    logins: Vec<Login>,
    key: String,
}

struct Login {
    word: String,
    mailbox: String,
}

impl<'a> Bench<'a> {
    pub(super) fn start(guardian: &'a Guardian, delivery: Delivery, store: Option<String>) -> Outcome<Bench<'a>> {
        let (latency_ms, mailboxes) = match delivery {
            Delivery::Paused => (0, 1),
            Delivery::Runs { latency_ms, mailboxes } => (latency_ms, mailboxes),
        };
        let latency = latency_ms.to_string();
        let emulator = Emulator::start(
            guardian,
            postkey(&[
                "emulator",
                "--limits",
                "lifted",
                "--keep",
                "none",
                "--graph-latency-ms",
                &latency,
                "--mailboxes",
                &mailboxes.to_string(),
            ]),
        )?;
        let home = Folder::make(guardian)?;
        let mut bench = Bench {
            guardian,
            emulator,
            home,
            serve: None,
            smtp: free_address()?,
            http: free_address()?,
            store,
            logins: Vec::new(),
            key: String::new(),
        };
        let settings = format!(
            "data = \"data\"\nmaster_key_file = \"keys/master.key\"\n[http]\nlisten = \"{}\"\n\
             [[smtp]]\nname = \"bench\"\nlisten = \"{}\"\nmode = \"starttls\"\n[limits]\nmessages_per_minute = 0\n\
             requests_per_10_minutes = 0\nrecipients_per_day = 0\n\
             upload_bytes_per_5_minutes = 0\n",
            bench.http, bench.smtp
        );
        let file = bench.home.path().join("postkey.toml");
        std::fs::write(&file, settings).map_err(|e| format!("{}: {e}", file.display()))?;
        bench.make_senders(mailboxes)?;
        if matches!(delivery, Delivery::Paused) {
            run(guardian, bench.postkey(&["sender", "pause", "bench-0", "--reason", "bench"]).stdout(Stdio::null()))?;
        }
        bench.serve()?;
        Ok(bench)
    }

    fn make_senders(&mut self, mailboxes: usize) -> Outcome {
        for number in 0..mailboxes {
            let name = format!("bench-{number}");
            let mailbox = self.mailbox(number)?;
            let mut add = self.postkey(&["sender", "add", &name, "--mailbox", &mailbox]);
            let add = self.emulator.as_sample_app(&mut add, self.home.path())?;
            run(self.guardian, add.stdout(Stdio::null()).stderr(Stdio::null()))?;
            let made = self.json(&["submitter", "add", &name, "--sender", &name, "--json"])?;
            let password = made["password"].as_str().ok_or("submitter add printed no password")?;
            let word = base64(format!("\0{name}\0{password}").as_bytes());
            self.logins.push(Login { word, mailbox });
        }
        let made = self.json(&["api-key", "add", "bench", "--submitter", "bench-0", "--scope", "send", "--json"])?;
        self.key = made["key"].as_str().ok_or("api-key add printed no key")?.to_owned();
        Ok(())
    }

    /// The emulator's own people first come, then those that `--mailboxes` made.
    fn mailbox(&self, number: usize) -> Outcome<String> {
        let domain = self.emulator.variable("SENDER")?.split_once('@').ok_or("the sender's address has no domain")?.1;
        Ok(format!("box-{number}@{domain}"))
    }

    fn json(&self, words: &[&str]) -> Outcome<serde_json::Value> {
        let text = output(self.guardian, self.postkey(words).stderr(Stdio::null()))?;
        serde_json::from_str(&text).map_err(|e| format!("postkey {} printed no JSON: {e}", words.join(" ")))
    }

    fn postkey(&self, words: &[&str]) -> Command {
        let mut command = postkey(words);
        command.arg("--dir").arg(self.home.path());
        self.with_store(&mut command);
        command
    }

    fn with_store(&self, command: &mut Command) {
        if let Some(url) = &self.store {
            command.env("POSTKEY_STORE", url);
        }
    }

    fn serve(&mut self) -> Outcome {
        let mut serve = self.postkey(&["serve"]);
        serve.env("POSTKEY_LOG", "error").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = serve.process_group(0).spawn().map_err(|e| format!("postkey serve does not start: {e}"))?;
        self.guardian.watch_group(process.id());
        self.serve = Some(process);
        wait_for(self.smtp)?;
        wait_for(self.http)
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.serve.take() {
            if let Some(id) = i32::try_from(process.id()).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
            }
            let _ = process.wait();
            self.guardian.forget_group(process.id());
        }
    }

    /// Sessions are spread over the lanes, one login after the other.
    pub(super) fn smtp(&self, messages: usize) -> Load {
        let login = &self.logins[0];
        Load {
            target: self.smtp,
            sessions: 32,
            messages,
            size: SMALL,
            fresh: false,
            from: login.mailbox.clone(),
            to: "someone@elsewhere.example".into(),
            speaks: Speaks::Smtp { login: Some(login.word.clone()) },
        }
    }

    /// One load for each lane.
    pub(super) fn smtp_each(&self, messages: usize) -> Vec<Load> {
        let each = |login: &Login| Load {
            sessions: 32 / self.logins.len().min(32),
            from: login.mailbox.clone(),
            speaks: Speaks::Smtp { login: Some(login.word.clone()) },
            ..self.smtp(messages / self.logins.len())
        };
        self.logins.iter().map(each).collect()
    }

    pub(super) fn http(&self, messages: usize) -> Load {
        Load { target: self.http, speaks: Speaks::Http { key: self.key.clone() }, ..self.smtp(messages) }
    }

    pub(super) fn smtp_address(&self) -> SocketAddr {
        self.smtp
    }

    /// Returns once the tenant has taken so many messages for delivery since its start.
    pub(super) fn wait_until_accepted(&self, messages: usize) -> Outcome {
        let began = Instant::now();
        while self.emulator.submitted(self.guardian)? < messages {
            if began.elapsed() > PATIENCE {
                return Err(format!("{messages} messages did not reach the tenant within {} s", PATIENCE.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Messages put into the queue as fast as they are taken.
    pub(super) fn fill(&self, messages: usize) -> Outcome {
        Load { size: 512, ..self.smtp(messages) }.run().map(drop)
    }

    /// Ends it, starts it again, and says how long until the greeting.
    pub(super) fn restart_to_greeting(&mut self) -> Outcome<Duration> {
        self.stop();
        let began = Instant::now();
        self.serve()?;
        let mut stream = TcpStream::connect(self.smtp).map_err(|e| format!("{}: {e}", self.smtp))?;
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting).map_err(|e| format!("no greeting: {e}"))?;
        Ok(began.elapsed())
    }

    /// Sessions with TLS that do nothing, held open by one Python: a handshake by hand is no part of a bench.
    pub(super) fn idle_sessions(&self, count: usize) -> Outcome<IdleSessions> {
        const SCRIPT: &str = "\
import resource, socket, ssl, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
kept = []
for _ in range(count):
    plain = socket.create_connection((host, port))
    plain.recv(512); plain.sendall(b'EHLO idle.example\\r\\n'); plain.recv(1024)
    plain.sendall(b'STARTTLS\\r\\n'); plain.recv(512)
    kept.append(context.wrap_socket(plain))
print('ready', flush=True)
sys.stdin.read()
";
        let mut python = Command::new("python3");
        python.args(["-c", SCRIPT, &self.smtp.ip().to_string(), &self.smtp.port().to_string(), &count.to_string()]);
        python.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut process = python.spawn().map_err(|e| format!("python3 does not start: {e}"))?;
        self.guardian.watch_group(process.id());
        let mut said = [0; 5];
        let out = process.stdout.as_mut().expect("standard output was made a pipe above");
        out.read_exact(&mut said).map_err(|e| format!("the idle sessions were not opened: {e}"))?;
        Ok(IdleSessions { process })
    }

    pub(super) fn memory(&self) -> u64 {
        self.serve.as_ref().and_then(|process| memory(process.id(), "VmRSS")).unwrap_or_default()
    }

    /// Resident memory once it no longer changes.
    pub(super) fn settled_memory(&self) -> u64 {
        let mut last = 0;
        for _ in 0..50 {
            let now = self.memory();
            if now == last {
                break;
            }
            last = now;
            std::thread::sleep(Duration::from_millis(200));
        }
        last
    }

    pub(super) fn cpu(&self) -> Duration {
        self.serve.as_ref().map(|process| cpu::of(process.id())).unwrap_or_default()
    }

    pub(super) fn emulator_cpu(&self) -> Duration {
        cpu::of(self.emulator.id())
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Dropping it closes the sessions.
pub(super) struct IdleSessions {
    process: Child,
}

impl Drop for IdleSessions {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
