//! The program as a service beside a tenant in this process: started, asked, killed and started again.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};

use crate::disk::SmallDisk;
use crate::harness::{postkey, said};
use crate::setups::{PATIENCE, Tenant, ended};

/// One installation: its folder, its settings and where it listens.
pub(crate) struct Installation<'a> {
    pub(crate) tenant: &'a Tenant,
    home: PathBuf,
    hosts: Vec<String>,
    variables: Vec<(String, String)>,
    pub(crate) ports: Ports,
    disk: Option<&'a SmallDisk>,
}

/// Where it listens, on loopback.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) smtp: u16,
    pub(crate) smtps: u16,
}

/// Settings for a far side whose own limits are lifted: only so many requests at once. What has no answer is looked for no
/// longer than the emulator takes to deliver.
pub(crate) const UNPACED: &str = "\
[limits]
messages_per_minute = 0
requests_per_10_minutes = 0
upload_bytes_per_5_minutes = 0
smtp_messages_per_minute = 0
recipients_per_day = 0
[queue]
unknown_settle_s = 1
";

/// What a submitter needs to hand in mail.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) password: String,
    pub(crate) api_key: String,
}

impl<'a> Installation<'a> {
    /// A fresh installation with these settings beside its ports.
    pub(crate) fn new(tenant: &'a Tenant, name: &str, settings: &str) -> Self {
        let home = tenant.folder().join(name);
        std::fs::create_dir_all(&home).expect("the folder is writable");
        std::fs::write(home.join("postkey.toml"), settings).expect("the folder is writable");
        // Bound together, so that they differ; free again when this returns.
        let held: Vec<_> = (0..3).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")).collect();
        let port = |at: usize| held[at].local_addr().expect("it is bound").port();
        let ports = Ports { http: port(0), smtp: port(1), smtps: port(2) };
        let variables = [
            ("POSTKEY_HTTP_LISTEN", format!("127.0.0.1:{}", ports.http)),
            ("POSTKEY_SMTP_LISTEN", format!("127.0.0.1:{}", ports.smtp)),
            ("POSTKEY_SMTPS_LISTEN", format!("127.0.0.1:{}", ports.smtps)),
        ];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { tenant, home, hosts: tenant.hosts(), variables, ports, disk: None }
    }

    /// Another environment variable for every command.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Everything on the tenant's clock: what turns that turns this.
    pub(crate) fn on_its_clock(self) -> Self {
        let clock = self.tenant.folder().join("emulator").join("clock");
        self.with("POSTKEY_TEST_CLOCK", clock.to_str().expect("temporary paths are plain"))
    }

    /// Its senders go to other hosts than the tenant's.
    pub(crate) fn with_hosts(mut self, hosts: Vec<String>) -> Self {
        self.hosts = hosts;
        self
    }

    /// Its data lie on this disk.
    pub(crate) fn on_disk(mut self, disk: &'a SmallDisk) -> Self {
        self.disk = Some(disk);
        self
    }

    /// Where this process finds its data folder.
    pub(crate) fn data(&self) -> PathBuf {
        let data = self.home.join("data");
        self.disk.map_or_else(|| data.clone(), |disk| disk.seen_from_here(&data))
    }

    /// The database that `POSTKEY_STORE` names, if it does.
    pub(crate) fn store(&self) -> Option<&str> {
        self.variables.iter().find(|(name, _)| name == "POSTKEY_STORE").map(|(_, address)| address.as_str())
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Any command of this installation.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut call = postkey(&["--dir"]);
        call.arg(&self.home).args(arguments).envs(self.variables.iter().cloned());
        let mut command = Command::from(match self.disk {
            Some(disk) => disk.inside(call),
            None => call,
        });
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs a command that must succeed, and reads its JSON.
    pub(crate) async fn told(&self, arguments: &[&str]) -> Value {
        let output = ended(self.command(&[arguments, &["--json"]].concat())).await;
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{arguments:?} says no JSON: {}", said(&output)))
    }

    /// A sender of the sample application, which may send as every mailbox and read it.
    pub(crate) async fn reading_sender(&self, name: &str, mailbox: &str) {
        let sample = self.tenant.emulator.sample();
        let secret = self.home.join("secret");
        std::fs::write(&secret, &sample.client_secret).expect("the folder is writable");
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).expect("it is ours");
        let mut command = self.command(&["sender", "add", name, "--mailbox", mailbox, "--expires", "2099-01-31"]);
        command.args(["--tenant", &sample.tenant_id.to_string(), "--client-id", &sample.client_id.to_string()]);
        command.arg("--secret-file").arg(&secret).args(&self.hosts);
        let output = ended(command).await;
        assert!(output.status.success(), "sender add {name}: {}", said(&output));
    }

    /// A sender whose app may send and not read: by `postkey setup`.
    pub(crate) async fn sending_sender(&self, name: &str, mailbox: &str, options: &[&str]) {
        let sample = self.tenant.emulator.sample();
        let mut command = self.command(&["setup", name, "--reach", "tenant-wide", "--sign-in", "app"]);
        command.args(["--tenant", &sample.tenant_id.to_string(), "--mailbox", mailbox]);
        command.args(["--admin-client-id", &sample.admin_client_id.to_string()]).args(options).args(&self.hosts);
        command.env("POSTKEY_ADMIN_CLIENT_SECRET", &sample.admin_client_secret);
        let output = ended(command).await;
        assert!(output.status.success(), "setup {name}: {}", said(&output));
    }

    /// A submitter that may use these senders, the first of them by default.
    pub(crate) async fn submitter(&self, name: &str, senders: &[&str]) -> Login {
        let mut arguments = vec!["submitter", "add", name, "--api-key"];
        arguments.extend(senders.iter().flat_map(|&sender| ["--sender", sender]));
        let made = self.told(&arguments).await;
        let text = |what: &str| made[what].as_str().unwrap_or_else(|| panic!("no {what}: {made}")).to_owned();
        Login { name: name.to_owned(), password: text("password"), api_key: text("api_key") }
    }

    /// The CA that clients of its SMTP ports trust.
    pub(crate) fn ca(&self) -> PathBuf {
        self.data().join("smtp-tls/ca.pem")
    }

    /// Starts the service and returns once everything listens.
    pub(crate) async fn serve(&self) -> Serving<'_> {
        self.start(self.command(&["serve"])).await
    }

    /// The same, wrapped into another command.
    pub(crate) async fn start(&self, command: Command) -> Serving<'_> {
        Serving::begin(self, command).await.ready().await
    }
}

/// The running service.
pub(crate) struct Serving<'a> {
    installation: &'a Installation<'a>,
    process: Child,
    notices: UnixDatagram,
    log: PathBuf,
}

impl<'a> Serving<'a> {
    async fn begin(installation: &'a Installation<'a>, mut command: Command) -> Self {
        let socket = installation.home.join("notify");
        let _ = std::fs::remove_file(&socket);
        let notices = UnixDatagram::bind(&socket).expect("the folder is writable");
        let log = installation.home.join("serve.log");
        let file = std::fs::File::options().create(true).append(true).open(&log).expect("the folder is writable");
        let other = file.try_clone().expect("a file can be opened twice");
        command.env("NOTIFY_SOCKET", &socket).stdout(file).stderr(other);
        let process = command.spawn().expect("the program under test starts");
        Self { installation, process, notices, log }
    }

    /// It tells the service manager when it is ready, as it would tell systemd.
    async fn ready(mut self) -> Self {
        let mut notice = [0; 256];
        let ready = tokio::time::timeout(PATIENCE, async {
            loop {
                tokio::select! {
                    length = self.notices.recv(&mut notice) => {
                        if notice[..length.expect("a notice arrives")].starts_with(b"READY=1") {
                            return None;
                        }
                    }
                    status = self.process.wait() => return Some(status.expect("it can be waited for")),
                }
            }
        });
        match ready.await {
            Ok(None) => self,
            Ok(Some(status)) => panic!("serve ended before it was ready ({status}):\n{}", self.said()),
            Err(_) => panic!("serve is not ready after {PATIENCE:?}:\n{}", self.said()),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id().expect("it has not been waited for")
    }

    /// `kill -9`.
    pub(crate) async fn kill(mut self) {
        self.process.start_kill().expect("it is our own child, and still runs");
        self.process.wait().await.expect("it can be waited for");
    }

    /// SIGTERM; it ends by itself.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        let id =
            i32::try_from(self.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process has a number");
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it is our own child, and still runs");
        let ended = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        ended.unwrap_or_else(|_| panic!("serve does not stop:\n{}", self.said())).expect("it can be waited for")
    }

    /// Waits for its end, whoever ends it.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.process.wait().await.expect("it can be waited for")
    }

    /// What it wrote so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            eprintln!("serve in {} said last:", self.installation.home.display());
            lines[lines.len().saturating_sub(60)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Tenant {
    /// A person with a mailbox; returns the address.
    pub(crate) fn add_person(&self, local: &str) -> String {
        self.emulator.hire(local)
    }
}

/// Repeats an attempt until it gives something: what a store or a mailbox holds has no event to wait for.
pub(crate) async fn until<T>(what: &str, patience: Duration, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(began.elapsed() < patience, "{what} did not happen in {patience:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
