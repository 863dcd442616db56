//! `postkey serve` as people run it: started, handed mail, paused, killed, reloaded and asked by the other commands.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::harness::{assignments, postkey, said};
use crate::story::{HOSTS, Story};

/// A debug build on two busy cores does everything here within seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Free ports, and nothing that slows a test down.
const SETTINGS: &str = r#"
data = "data"
master_key_file = "keys/master.key"
[http]
listen = "127.0.0.1:0"
[[smtp]]
name = "smtp"
listen = "127.0.0.1:0"
[limits]
rates = false
[queue]
unknown_settle_s = 1
"#;

/// The running service of a story. Dropping it kills it.
struct Service {
    process: Child,
    /// What it said of itself when everything listened.
    said: Value,
}

impl Service {
    fn start(story: &Story) -> Self {
        Self::start_with(story, &[])
    }

    fn start_with(story: &Story, variables: &[(&str, &str)]) -> Self {
        let mut command = story.command(&["serve", "--json"]);
        command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("the program under test starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it was asked for");
        BufReader::new(stdout).read_line(&mut line).expect("it can be read");
        let said = serde_json::from_str(&line).unwrap_or_else(|_| panic!("serve says {line:?}"));
        Self { process, said }
    }

    fn smtp_port(&self) -> u16 {
        self.said["smtp"][0]["port"].as_u64().and_then(|port| port.try_into().ok()).expect("it listens")
    }

    fn http(&self) -> &str {
        self.said["http"].as_str().and_then(|url| url.strip_prefix("http://")).expect("it listens")
    }

    /// `kill -9`.
    fn kill(mut self) {
        self.process.kill().expect("it is our own child");
        self.process.wait().expect("it can be waited for");
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.expect("a process has a number"), signal).expect("it is our own child");
    }

    /// SIGTERM. Returns how long its end took.
    fn stop(mut self) -> Duration {
        let began = Instant::now();
        self.signal(rustix::process::Signal::TERM);
        let status = self.process.wait().expect("it can be waited for");
        assert!(status.success(), "{status}");
        began.elapsed()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Only this process: it is our child and not yet waited for, so its number is still its own.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A tenant, a sender, and settings for a service with free ports.
fn story() -> Story {
    let story = Story::with_sender();
    story.file("postkey.toml", SETTINGS.as_bytes());
    story
}

/// What is shown once to a submitter.
struct Login {
    name: String,
    password: String,
    api_key: String,
}

fn told(story: &Story, arguments: &[&str]) -> Value {
    let output = story.command(&[arguments, &["--json"]].concat()).output().expect("the program under test starts");
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {}", said(&output)))
}

fn submitter(story: &Story, name: &str) -> Login {
    let made = told(story, &["submitter", "add", name, "--api-key"]);
    let text = |what: &str| made[what].as_str().unwrap_or_else(|| panic!("no {what}: {made}")).to_owned();
    Login { name: name.to_owned(), password: text("password"), api_key: text("api_key") }
}

/// One message by SMTP, in clear text over loopback. Returns the last reply: the one to the message, or the refusal.
fn submit(port: u16, login: &Login, from: &str, to: &str, subject: &str) -> String {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).expect("it listens"));
    stream.get_ref().set_read_timeout(Some(PATIENCE)).expect("a socket takes it");
    let word = STANDARD.encode(format!("\0{}\0{}", login.name, login.password));
    let message = format!("From: <{from}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\r\nHello.\r\n");
    let lines = [
        String::new(),
        "EHLO localhost\r\n".into(),
        format!("AUTH PLAIN {word}\r\n"),
        format!("MAIL FROM:<{from}>\r\n"),
        format!("RCPT TO:<{to}>\r\n"),
        "DATA\r\n".into(),
        format!("{message}.\r\n"),
    ];
    let mut reply = String::new();
    for line in lines {
        stream.get_mut().write_all(line.as_bytes()).expect("it reads");
        loop {
            reply.clear();
            stream.read_line(&mut reply).expect("it answers");
            if reply.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        if !reply.starts_with(['2', '3']) {
            break;
        }
    }
    reply.trim_end().to_owned()
}

/// One request. Returns status and JSON.
fn post(host: &str, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let mut stream = TcpStream::connect(host).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes it");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{answer}"));
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}")))
}

/// Looks again and again: what a store holds has no event that another process could wait for.
fn until(what: &str, mut attempt: impl FnMut() -> bool) {
    let began = Instant::now();
    while !attempt() {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How many messages are shown in this state.
fn count(story: &Story, state: &str) -> usize {
    told(story, &["message", "list", "--state", state]).as_array().expect("a list").len()
}

fn arrived(story: &Story, subject: &str) -> usize {
    let inbox = story.observe(&format!("/mailboxes/{}/messages?folder=Inbox", story.variable("USER_NAME")));
    inbox.as_array().expect("a list").iter().filter(|message| message["subject"] == subject).count()
}

#[test]
fn mail_goes_from_both_doors_to_exchange_and_every_command_tells_of_it() {
    let mut story = story();
    assert_eq!(story.run(&["submitter", "add", "scanner", "--per-day", "100", "--api-key"]), 0);
    assert_eq!(story.run(&["submitter", "add", "scanner"]), 1);
    assert_eq!(story.run(&["submitter", "add", "printer", "--no-auth-from", "192.0.2.0/24"]), 2);
    assert_eq!(story.run(&["submitter", "add", "printer", "--network", "10.0.0.0/40"]), 2);
    assert_eq!(story.run(&["submitter", "add", "printer", "--sender", "nobody"]), 1);
    story.forget();

    let scanner = submitter(&story, "press");
    let service = Service::start(&story);
    let [from, to] = ["SENDER", "USER_NAME"].map(|name| story.variable(name));
    story.note("press hands in one message by SMTP and one by HTTP");
    let reply = submit(service.smtp_port(), &scanner, &from, &to, "By SMTP");
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    until("delivery", || count(&story, "accepted") == 1);
    let request = json!({ "to": [to], "subject": "By HTTP", "text": "Hello." });
    let (status, answer) = post(service.http(), "/v1/send", &scanner.api_key, &request);
    assert_eq!(status, 202, "{answer}");
    until("delivery", || count(&story, "accepted") == 2);
    for subject in ["By SMTP", "By HTTP"] {
        assert_eq!(arrived(&story, subject), 1, "{subject}");
    }

    story.run(&["message", "list"]);
    let by_smtp = reply.rsplit(' ').next().expect("it names the message").to_owned();
    assert_eq!(story.run(&["message", "show", &by_smtp]), 0);
    // Two messages of one second differ in their first twelve digits.
    assert_eq!(story.run(&["message", "trace", &by_smtp[..16]]), 0);
    assert_eq!(story.run(&["message", "retry", &by_smtp]), 1);
    assert_eq!(story.run(&["message", "cancel", "00000000"]), 1);
    story.run(&["sender", "show", "mail"]);
    story.run(&["submitter", "list"]);
    let file = story.path("out.eml");
    let exported = story.command(&["message", "export", &by_smtp, "--output"]).arg(&file).output().expect("it starts");
    assert!(exported.status.success(), "{}", said(&exported));
    assert!(std::fs::read_to_string(&file).expect("it was written").contains("Subject: By SMTP\r\n"));
    story.mask(&by_smtp, "[id]");
    story.mask(&by_smtp[..16], "[beginning of an id]");
    story.shows("mail_by_both_doors");
    service.stop();
}

#[test]
fn a_submitter_is_told_everything_its_device_asks_for() {
    let mut story = story();
    story.file("postkey.toml", b"");
    story.run(&[
        "submitter",
        "add",
        "scanner",
        "--per-day",
        "100",
        "--recipient-domain",
        "Contoso.Example",
        "--api-key",
    ]);
    story.run(&["submitter", "rotate", "scanner"]);
    story.run(&["submitter", "rotate", "scanner"]);
    story.run(&["submitter", "rotate", "scanner", "--retire-old"]);
    story.run(&["submitter", "rotate", "scanner", "--retire-old", "--force"]);
    let device =
        ["submitter", "add", "printer", "--no-auth-from", "192.0.2.9", "--force-from", "printer@contoso.example"];
    story.run(&device);
    story.run(&[&device[..], &["--recipient-domain", "contoso.example", "--per-day", "50"]].concat());
    story.run(&["submitter", "disable", "printer"]);
    story.run(&["submitter", "list"]);
    story.run(&["submitter", "change", "scanner", "--network", "10.1.2.3/8", "--priority", "high"]);
    story.run(&["api-key", "add", "reports", "--submitter", "scanner", "--scope", "send"]);
    story.run(&["api-key", "add", "everything", "--scope", "send"]);
    story.run(&["api-key", "add", "watch", "--scope", "metrics,outbox.read", "--expires", "2099-12-31"]);
    story.run(&["api-key", "list"]);
    story.run(&["submitter", "remove", "scanner"]);
    story.run(&["api-key", "list"]);
    story.shows("submitters");
}

#[test]
fn what_was_accepted_survives_kill_9_and_a_pause_holds_it() {
    let mut story = story();
    let login = submitter(&story, "app");
    let [from, to] = ["SENDER", "USER_NAME"].map(|name| story.variable(name));
    let service = Service::start(&story);
    story.run(&["sender", "pause", "mail", "--reason", "Migration of the mailbox", "--until", "2099-01-01"]);
    until("the pause", || {
        let reply = submit(service.smtp_port(), &login, &from, &to, "Kept");
        assert!(reply.starts_with("250 "), "{reply}");
        count(&story, "held") > 0
    });
    for _ in 0..4 {
        assert!(submit(service.smtp_port(), &login, &from, &to, "Kept").starts_with("250 "));
    }
    let accepted = told(&story, &["message", "list"]).as_array().expect("a list").len();
    let held = told(&story, &["message", "list", "--state", "held", "--limit", "1"]);
    let id = held[0]["id"].as_str().expect("an id").to_owned();
    story.run(&["message", "show", &id]);
    service.kill();

    let service = Service::start(&story);
    assert!(count(&story, "held") >= 4);
    assert_eq!(told(&story, &["message", "cancel", &id])["changed"], json!([id]));
    assert_eq!(story.run(&["sender", "resume", "mail"]), 0);
    until("delivery", || count(&story, "accepted") == accepted - 1);
    assert_eq!(arrived(&story, "Kept"), accepted - 1);
    story.run(&["message", "show", &id]);
    story.run(&["sender", "resume", "mail"]);
    story.shows("pause_and_resume");
    assert!(service.stop() < Duration::from_secs(15));
}

#[test]
fn a_new_secret_frees_what_waited_for_it() {
    let mut story = story();
    let login = submitter(&story, "app");
    let [from, to, client] = ["SENDER", "USER_NAME", "CLIENT_ID"].map(|name| story.variable(name));
    story.note("The app's secret ended overnight");
    story.change_app(&json!({ "expire_secrets": true }));
    let service = Service::start(&story);
    let reply = submit(service.smtp_port(), &login, &from, &to, "Late");
    assert!(reply.starts_with("250 "), "{reply}");
    until("the hold", || count(&story, "held") == 1);
    let id = told(&story, &["message", "list"])[0]["id"].as_str().expect("an id").to_owned();
    story.run(&["message", "show", &id]);
    story.run(&["sender", "list"]);

    story.note("Somebody makes another one");
    let credential = json!({ "passwordCredential": { "displayName": "another" } });
    let made = story.administer("POST", &format!("/applications(appId='{client}')/addPassword"), &credential, 200);
    let secret = story.secret_file(made["secretText"].as_str().expect("it is shown once"));
    let arguments = ["sender", "add", "mail", HOSTS, "--secret-file", &secret, "--expires", "2099-01-31"];
    assert_eq!(story.run(&arguments), 0);
    until("delivery", || count(&story, "accepted") == 1);
    assert_eq!(arrived(&story, "Late"), 1);
    story.run(&["message", "trace", &id]);
    story.shows("held_for_a_secret");
    service.stop();
}

#[test]
fn a_folder_is_served_once_and_loopback_is_the_border() {
    let mut story = story();
    let service = Service::start(&story);
    assert_eq!(story.run(&["serve"]), 1);
    service.stop();
    for (variable, value) in
        [("POSTKEY_HTTP_LISTEN", "0.0.0.0:0"), ("POSTKEY_SMTP_LISTEN", "0.0.0.0:0"), ("POSTKEY_SMTP_LISTEN", "25")]
    {
        story.note(&format!("with {variable}={value}"));
        assert_eq!(story.run_with(&[(variable, value)], &["serve"]), 2);
    }
    let told = story.said().to_owned();
    story.file("postkey.toml", b"[limits]\nmessages_per_hour = 1\n");
    assert_ne!(story.run(&["serve"]), 0);
    let process = told.split("process ").nth(1).and_then(|rest| rest.split(' ').next()).expect("it names the holder");
    story.mask(&format!("process {process} "), "process [number] ");
    story.shows("serve_refused");
}

#[test]
fn the_service_manager_is_told_and_a_new_certificate_is_taken() {
    let story = story();
    let socket = story.path("notify");
    let notices = UnixDatagram::bind(&socket).expect("the folder is writable");
    notices.set_read_timeout(Some(PATIENCE)).expect("a socket takes it");
    let next = || {
        let mut notice = [0; 256];
        let length = notices.recv(&mut notice).expect("a notice arrives");
        String::from_utf8_lossy(&notice[..length]).into_owned()
    };
    let service = Service::start_with(&story, &[("NOTIFY_SOCKET", socket.to_str().expect("plain"))]);
    assert_eq!(next(), "READY=1");
    // A leaf that is missing is made anew by the same CA.
    let tls = story.path("data/smtp-tls");
    let before = (read(&tls.join("ca.pem")), read(&tls.join("server.pem")));
    std::fs::remove_file(tls.join("server.pem")).expect("it is there");
    until("a new certificate", || tls.join("server.pem").exists());
    let after = (read(&tls.join("ca.pem")), read(&tls.join("server.pem")));
    assert!(before.0 == after.0 && before.1 != after.1);
    service.signal(rustix::process::Signal::HUP);
    let reloading = next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(next(), "READY=1");
    service.stop();
    assert_eq!(next(), "STOPPING=1");
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("it is readable")
}

#[test]
fn the_demo_leaves_doors_that_work() {
    let folder = tempfile::TempDir::with_prefix("postkey-demo-").expect("a temporary folder can be made");
    let file = folder.path().join("demo.env");
    let mut command = postkey(&["demo", "--env"]);
    command.arg(&file).arg("--dir").arg(folder.path().join("demo"));
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
    until("the demo", || file.exists() || process.try_wait().is_ok_and(|status| status.is_some()));
    let variables = assignments(&read(&file));
    let http = variables["DEMO_HTTP"].strip_prefix("http://").expect("it is in clear text on loopback").to_owned();
    let request = json!({ "to": [variables["USER_NAME"]], "subject": "From outside", "text": "Hello." });
    let (status, answer) = post(&http, "/v1/send", &variables["DEMO_API_KEY"], &request);
    assert_eq!(status, 202, "{answer}");
    let login = Login {
        name: variables["DEMO_SUBMITTER"].clone(),
        password: variables["DEMO_PASSWORD"].clone(),
        api_key: String::new(),
    };
    let port = variables["DEMO_SMTP"].rsplit(':').next().and_then(|port| port.parse().ok()).expect("host and port");
    let reply = submit(port, &login, &variables["SENDER"], &variables["USER_NAME"], "From outside");
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    assert!(read(Path::new(&variables["DEMO_CA"])).starts_with("-----BEGIN CERTIFICATE"));
    assert!(variables["DEMO_SMTPS"].starts_with("localhost:"));
    process.kill().expect("it is our own child");
    process.wait().expect("it can be waited for");
}
