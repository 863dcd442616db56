//! Nothing secret is left behind: with everything logged, no output, log, error, database or argument list of a whole
//! life of an installation holds a secret that the emulator ever issued, a private key, or the master key.

use std::fmt::Write;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use postkey_base::Clock;
use postkey_emulator::exchange::administration::Right;
use postkey_emulator::faults::{Action, Fault};
use postkey_emulator::visitor::Ended;
use postkey_store::{KeySource, Location, MasterKeys, Opened, Store};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::harness::{assignments, postkey};
use crate::needles::Needles;
use crate::setups::{Moment, PATIENCE, Setup, Tenant};

/// As somebody would paste it, and as no emulator issued it.
const MISTYPED: &str = "mis8Q~typed.secret.of.forty.characters~~";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_left_behind_by_a_run_with_everything_logged() {
    let tenant = Tenant::start(Duration::ZERO).await;
    let mut life = Life::new(&tenant);
    let by_secret = tenant.setup("by-secret", &["--reach", "tenant-wide", "--credential", "secret"]);
    let by_certificate = tenant.setup("by-certificate", &["--reach", "tenant-wide", "--smtp", "--read-write"]);

    life.is_watched_at_every_call(&by_secret).await;
    life.is_watched_at_every_call(&by_certificate).await;
    life.opens_the_mailbox_to_smtp(by_certificate.name());
    let by_browser = tenant.setup("by-browser", &["--reach", "tenant-wide"]);
    life.signs_in_by_browser(&by_browser).await;
    let given = tenant.setup("given", &[]);
    life.takes_given_values(&given).await;
    for setup in [&by_secret, &by_certificate, &by_browser, &given] {
        life.does_its_work(setup).await;
    }
    life.meets_echoes(&given).await;
    life.meets_an_smtp_server_that_echoes(&by_certificate).await;
    life.meets_refusals(&by_secret).await;
    life.looks_everywhere(&[&by_secret, &by_certificate, &by_browser, &given]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_left_behind_by_the_demo() {
    let folder = tempfile::TempDir::with_prefix("postkey-demo-").expect("a temporary folder can be made");
    let (home, log) = (folder.path().join("home"), folder.path().join("log"));
    let mut command = Command::from(postkey(&["demo", "--dir"]));
    command.arg(&home).arg("--env").arg(folder.path().join("env")).env("POSTKEY_LOG", "trace").kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(File::create(&log).expect("writable"));
    let mut demo = command.spawn().expect("the program under test starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("it was piped")).lines();
    let mut said = String::new();
    let to_the_end = async {
        while let Some(line) = lines.next_line().await.expect("it prints text") {
            writeln!(said, "{line}").expect("a string takes everything");
            if line.contains("Ctrl-C") {
                return;
            }
        }
        panic!("the demo ended: {said}");
    };
    tokio::time::timeout(PATIENCE, to_the_end).await.expect("it gets through in time");
    let environment = assignments(&std::fs::read_to_string(folder.path().join("env")).expect("it is there by now"));
    let secrets = format!("{}/secrets", environment["EMULATOR_MANAGEMENT"]);
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let issued = client.get(secrets).send().await.expect("it answers").bytes().await.expect("with a list");
    let issued: Vec<String> = serde_json::from_slice(&issued).expect("a list of texts");
    assert!(issued.len() > 5, "the demo takes more tokens than {}", issued.len());
    let mut needles = Needles::default();
    for (number, secret) in issued.iter().enumerate() {
        needles.text(&format!("issued secret {number} ({} characters)", secret.len()), secret);
    }
    let log = std::fs::read(&log).expect("readable");
    let mut found = needles.found_below(&home).0;
    found.insert("what it said".into(), needles.found_in(said.as_bytes()));
    found.insert("what it logged".into(), needles.found_in(&log));
    found.retain(|_, here| !here.is_empty());
    assert!(found.is_empty(), "{found:#?}");
    demo.start_kill().expect("it is our own child, and still runs");
    demo.wait().await.expect("it can be waited for");
}

/// What is done, with every word of it written down.
struct Life<'a> {
    tenant: &'a Tenant,
    /// Outputs, argument lists and copies of the database.
    evidence: PathBuf,
    /// What was said where a secret is shown on purpose.
    shown: PathBuf,
    steps: usize,
}

impl<'a> Life<'a> {
    fn new(tenant: &'a Tenant) -> Self {
        let [evidence, shown] = ["evidence", "shown"].map(|name| tenant.folder().join(name));
        for folder in [&evidence, &shown] {
            std::fs::create_dir(folder).expect("the folder is writable");
        }
        Self { tenant, evidence, shown, steps: 0 }
    }

    /// Where the next step's words go.
    fn next(&mut self, what: &str) -> PathBuf {
        self.steps += 1;
        self.evidence.join(format!("{:03}-{what}", self.steps))
    }

    /// Logs all there is, alternately as the variable and as the options ask for it.
    fn logged(&mut self, mut command: Command, what: &str) -> Command {
        let file = self.next(what);
        if self.steps.is_multiple_of(2) {
            command.arg("-vv");
        } else {
            command.env("POSTKEY_LOG", "trace");
        }
        let create = |ending| File::create(file.with_extension(ending)).expect("the folder is writable");
        command.stdout(create("out")).stderr(create("err"));
        command
    }

    async fn runs(&mut self, command: Command, what: &str) -> ExitStatus {
        let mut command = self.logged(command, what);
        tokio::time::timeout(PATIENCE, command.status()).await.expect("it ends in time").expect("it starts")
    }

    async fn succeeds(&mut self, setup: &Setup<'_>, arguments: &[&str]) {
        let status = self.runs(setup.command(arguments), &arguments[..2].join("-").replace('/', "-")).await;
        assert!(status.success(), "{arguments:?}: {status}\n{}", self.last_words());
    }

    async fn fails(&mut self, setup: &Setup<'_>, arguments: &[&str]) {
        let status = self.runs(setup.command(arguments), &arguments[..2].join("-").replace('/', "-")).await;
        assert!(!status.success(), "{arguments:?} did not fail\n{}", self.last_words());
    }

    fn last_words(&self) -> String {
        let mut files: Vec<_> =
            std::fs::read_dir(&self.evidence).expect("readable").map(|entry| entry.expect("readable").path()).collect();
        files.sort();
        let last = files.iter().rev().take(2).map(|file| std::fs::read_to_string(file).unwrap_or_default());
        last.collect()
    }

    /// Keeps a copy of everything an installation has on disk: later writes may cover what was there for a moment.
    fn copy_of(&mut self, setup: &Setup<'_>, what: &str) {
        let data = setup.home().join("data");
        let copy = self.next(what);
        let Ok(entries) = std::fs::read_dir(&data) else { return };
        std::fs::create_dir(&copy).expect("the folder is writable");
        for entry in entries {
            let entry = entry.expect("the folder is readable");
            // The write-ahead log may vanish with the process that wrote it.
            let _ = std::fs::copy(entry.path(), copy.join(entry.file_name()));
        }
    }

    /// Holds up a setup at every call, looks at the process and its files, and kills it; then lets it end.
    async fn is_watched_at_every_call(&mut self, setup: &Setup<'_>) {
        for at in 1.. {
            let command = self.logged(setup.command_of_setup(), "setup");
            let Some(held) = setup.held_up(command, at, Moment::BeforeItIsAnswered).await else { break };
            let arguments = std::fs::read(format!("/proc/{}/cmdline", held.id())).expect("it is our process");
            assert!(arguments.starts_with(b"/"), "the argument list is there");
            std::fs::write(self.next("cmdline"), arguments).expect("the folder is writable");
            self.copy_of(setup, "held");
            held.kill().await;
            self.copy_of(setup, "killed");
        }
    }

    /// What an Exchange administrator does for SMTP.
    fn opens_the_mailbox_to_smtp(&self, name: &str) {
        let emulator = &self.tenant.emulator;
        let (sender, tenant) = (&emulator.sample().sender, emulator.tenant_id());
        emulator.with_world(|world| {
            let tenant = world.tenant_mut(tenant).expect("the sample tenant stays");
            let display_name = format!("postkey {name}");
            let mut principals = tenant.directory.service_principals.iter();
            let ours = principals.find(|one| one.display_name == display_name).expect("setup made it");
            let (app, principal) = (ours.app_id, ours.id);
            tenant.register_mail_principal(app, principal);
            assert!(tenant.grant(sender, Right::FullAccess, principal));
        });
    }

    async fn signs_in_by_browser(&mut self, setup: &Setup<'_>) {
        let (browser, address) = (self.shown.join("browser"), self.shown.join("address"));
        let made = std::process::Command::new("mkfifo").arg(&address).status().expect("coreutils are installed");
        assert!(made.success());
        std::fs::write(&browser, format!("#!/bin/sh\nprintf %s \"$1\" > '{}'\n", address.display())).expect("writable");
        std::fs::set_permissions(&browser, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("it is ours");
        let mut command = setup.command_of_setup_by("browser");
        command.env("BROWSER", &browser);
        let mut command = self.logged(command, "setup-by-browser");
        let mut process = command.spawn().expect("the program under test starts");
        // Reading a pipe waits for its writer.
        let url =
            tokio::time::timeout(PATIENCE, tokio::fs::read_to_string(&address)).await.expect("a browser is opened");
        let url = url.expect("the address is text");
        let sample = self.tenant.emulator.sample();
        let mut visitor = self.tenant.emulator.visitor(&sample.admin_user, &sample.admin_password).expect("a browser");
        match visitor.visit(&url).await.expect("the pages answer") {
            Ended::Left { url, .. } => {
                let page = reqwest::Client::builder().no_proxy().build().expect("a client").get(url).send().await;
                assert!(page.expect("setup listens").status().is_success());
            }
            page @ Ended::Page { .. } => panic!("{page:?}"),
        }
        let status =
            tokio::time::timeout(PATIENCE, process.wait()).await.expect("it ends").expect("it can be waited for");
        assert!(status.success(), "{}", self.last_words());
        std::fs::remove_file(&address).expect("it is ours");
    }

    /// The four values of a form, a wrong one first.
    async fn takes_given_values(&mut self, setup: &Setup<'_>) {
        let sample = self.tenant.emulator.sample();
        let (client, tenant) = (sample.client_id.to_string(), sample.tenant_id.to_string());
        let file = self.shown.join("secret");
        let path = file.display().to_string();
        let write = |text: &str| std::fs::write(&file, text).expect("writable");
        let hosts = self.tenant.hosts();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let add = |more: &[&'static str]| [&["sender", "add", "given"], more].concat();
        let values = [&["--client-id", &client, "--tenant", &tenant, "--mailbox", &sample.sender], &hosts[..]].concat();
        self.succeeds(setup, &[&add(&[])[..], &values].concat()).await;
        for wrong in [MISTYPED, &sample.admin_client_secret, "6b1f5f0e-98a5-4a1c-a6c4-9d1a32a1c6e3"] {
            write(wrong);
            self.fails(setup, &[&add(&[])[..], &["--secret-file", &path], &hosts[..]].concat()).await;
            self.copy_of(setup, "refused");
        }
        write(&sample.client_secret);
        self.succeeds(setup, &[&add(&["--expires", "2028-11-24"])[..], &["--secret-file", &path], &hosts[..]].concat())
            .await;
    }

    /// Everything an installation is for, and every listing.
    async fn does_its_work(&mut self, setup: &Setup<'_>) {
        let reader = self.tenant.emulator.sample().user_name.clone();
        let name = setup.name();
        let large = self.shown.join("large");
        if !large.exists() {
            std::fs::write(&large, vec![b'x'; 4_000_000]).expect("writable");
        }
        let attachment = large.display().to_string();
        let send = ["send", "--sender", name, "--to", &reader, "--subject", name, "--body", "It works."];
        self.succeeds(setup, &["sender", "test", name]).await;
        self.succeeds(setup, &["sender", "limit", name]).await;
        self.succeeds(setup, &send).await;
        if name == "by-certificate" {
            for route in ["smtp", "graph"] {
                self.succeeds(setup, &[&send[..], &["--attach", &attachment, "--route", route]].concat()).await;
            }
        }
        for command in
            [["tenant", "list"], ["app", "list"], ["credential", "list"], ["sender", "list"], ["key", "list"]]
        {
            self.succeeds(setup, &command).await;
            self.succeeds(setup, &[&command[..], &["--json"]].concat()).await;
        }
        for command in [&["sender", "show", name][..], &["doctor", name]] {
            self.runs(setup.command(command), "shown").await;
            self.runs(setup.command(&[command, &["--json"]].concat()), "shown-as-json").await;
        }
        self.copy_of(setup, "before-rotation");
        self.succeeds(setup, &["key", "rotate"]).await;
        self.succeeds(setup, &send).await;
        for resource in ["graph", "mail"] {
            // Its standard output is the one place for a token.
            let mut command = self.logged(setup.command(&["token", name, "--for", resource]), "token");
            let shown = self.shown.join(format!("token-{name}-{resource}"));
            command.stdout(File::create(&shown).expect("writable"));
            let status = tokio::time::timeout(PATIENCE, command.status()).await.expect("it ends").expect("it starts");
            assert!(status.success(), "{}", self.last_words());
            assert!(std::fs::read_to_string(&shown).expect("readable").starts_with("eyJ"));
        }
    }

    /// Answers that repeat what they were sent, as a proxy's error page does.
    async fn meets_echoes(&mut self, setup: &Setup<'_>) {
        let emulator = &self.tenant.emulator;
        let sample = emulator.sample();
        let send = ["send", "--sender", setup.name(), "--to", &sample.user_name, "--subject", "echo", "--wait", "0"];
        let send = [&send[..], &["--body", "It fails."]].concat();
        let refused = |operation: &str, status: u16, message: &str| {
            let action = Action::Status {
                status,
                code: None,
                aadsts: (status == 401 && operation == "token").then_some(7_000_215),
                message: Some(message.to_owned()),
                retry_after_seconds: Some(1),
                retry_after_as_date: false,
            };
            Fault::of(operation, action)
        };
        for status in [401, 400, 503] {
            let echo = format!("This was sent: client_secret={}&grant_type=client_credentials", sample.client_secret);
            emulator.fault(refused("token", status, &echo));
            self.fails(setup, &send).await;
            self.runs(setup.command(&["doctor", setup.name()]), "doctor").await;
            emulator.clear_faults();
        }
        for status in [401, 403, 400, 503] {
            let command = self.logged(setup.command(&send), "echoed-token");
            // Its first call is for the token, which is thereby issued and not yet known to it.
            let held = setup.held_up(command, 1, Moment::BeforeItIsAnswered).await.expect("a send needs a token");
            let token = emulator.with_world(|world| world.issued_secrets.last().cloned()).expect("a token was issued");
            assert!(token.starts_with("eyJ"));
            let echo = format!("This was sent: Authorization: Bearer {token}");
            emulator.fault(refused("sendMail", status, &echo).times(1));
            let ended = held.goes_on().await;
            // A refused token is replaced once, and the message goes.
            assert_eq!(ended.success(), status == 401, "{}", self.last_words());
            emulator.clear_faults();
        }
    }

    async fn meets_an_smtp_server_that_echoes(&mut self, setup: &Setup<'_>) {
        let emulator = &self.tenant.emulator;
        let sample = emulator.sample();
        let send = ["send", "--sender", setup.name(), "--to", &sample.user_name, "--subject", "echo", "--wait", "0"];
        let command = setup.command(&[&send[..], &["--body", "It fails.", "--route", "smtp"]].concat());
        let command = self.logged(command, "echoed-by-smtp");
        let issued = emulator.with_world(|world| world.issued_secrets.len());
        // Its calls are for a token for Graph, for one for SMTP, then AUTH.
        let held = setup.held_up(command, 2, Moment::BeforeItIsAnswered).await.expect("it needs two tokens");
        let tokens = emulator.with_world(|world| world.issued_secrets[issued..].to_vec());
        let [_, token] = &tokens[..] else { panic!("{} tokens instead of two", tokens.len()) };
        let line = STANDARD.encode(format!("user={}\u{1}auth=Bearer {token}\u{1}\u{1}", sample.sender));
        emulator.with_world(|world| {
            let action = Action::Status {
                status: 454,
                code: None,
                aadsts: None,
                message: Some(format!("4.7.0 This was sent: {line}")),
                retry_after_seconds: None,
                retry_after_as_date: false,
            };
            world.faults.add(Fault::of("smtp.auth", action));
        });
        assert!(!held.goes_on().await.success());
        assert!(self.last_words().contains("This was sent"), "{}", self.last_words());
        emulator.clear_faults();
    }

    async fn meets_refusals(&mut self, setup: &Setup<'_>) {
        let emulator = &self.tenant.emulator;
        let reader = emulator.sample().user_name.clone();
        let name = setup.name();
        let send = ["send", "--sender", name, "--to", &reader, "--subject", "no", "--wait", "0", "--body", "It fails."];
        emulator.with_world(|world| {
            let now = world.clock.now();
            let directory = &mut world.tenant_mut(emulator.tenant_id()).expect("the sample tenant stays").directory;
            let ours = directory.applications.iter_mut().filter(|app| app.display_name == format!("postkey {name}"));
            for secret in ours.flat_map(|app| &mut app.secrets) {
                secret.start = now - Duration::from_secs(7_200);
                secret.end = now - Duration::from_secs(3_600);
            }
        });
        self.fails(setup, &send).await;
        self.fails(setup, &["doctor", name]).await;
        self.fails(setup, &["sender", "test", name]).await;
        self.fails(setup, &["token", name]).await;
    }

    /// The end: everything that must not be found, and everywhere it is looked for.
    async fn looks_everywhere(&self, setups: &[&Setup<'_>]) {
        let mut needles = Needles::default();
        needles.text("the mistyped secret", MISTYPED);
        let issued = self.tenant.emulator.with_world(|world| world.issued_secrets.clone());
        assert!(issued.len() > 100, "a life takes more tokens than {}", issued.len());
        for (number, secret) in issued.iter().enumerate() {
            needles.text(&format!("issued secret {number} ({} characters)", secret.len()), secret);
        }
        let mut private_keys = 0;
        for setup in setups {
            let key_file = setup.home().join("keys/master.key");
            for line in std::fs::read_to_string(&key_file).expect("the master key is there").lines() {
                let (_, key) = line.split_once(':').expect("a version and a key");
                needles.text("the master key", key);
            }
            let keys = MasterKeys::load(KeySource::File(key_file)).expect("the master key is whole");
            let place = Location::Sqlite(setup.home().join("data/postkey.db"));
            let store = Store::open(place, keys, Clock::real()).await.expect("the store opens");
            for app in store.apps().await.expect("apps") {
                for credential in store.credentials(app.id).await.expect("credentials") {
                    if let Ok(Opened::PrivateKey(key)) = store.open_credential(credential.id).await {
                        private_keys += 1;
                        // The modulus at its head stands in the certificate as well; what follows is the secret.
                        needles.bytes("a private key", key.expose(), 320, 16);
                    }
                }
            }
            store.close().await;
        }
        assert_eq!(private_keys, 2, "two of the setups have certificates");
        let (mut found, seen) = needles.found_below(&self.evidence);
        assert!(seen > 100, "{seen} files are too few to be all");
        for setup in setups {
            found.extend(needles.found_below(&setup.home().join("data")).0);
        }
        assert!(found.is_empty(), "{found:#?}");
        assert_searches(&needles, &self.shown);
    }
}

/// That the search finds what is there: a token where it is shown on purpose.
fn assert_searches(needles: &Needles, shown: &Path) {
    let (found, _) = needles.found_below(shown);
    let tokens = found.keys().filter(|file| file.contains("/token-")).count();
    assert_eq!(tokens, 8, "each of four senders shows two tokens on purpose");
}
