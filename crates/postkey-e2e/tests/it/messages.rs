//! Real messages, made by swaks, mutt, Python, nodemailer and after Outlook, arrive with identical bytes in every part.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::clients::brought;
use crate::harness::{Emulator, postkey, said};
use crate::mime::{Part, contents, differences, with_wire_line_ends};

/// Above this, Graph's request limit, a message cannot go as it is: 4 MB of base64.
const GRAPH_CARRIES: usize = 3_000_000;

/// What Exchange adds to every message it delivers, and nothing else may differ.
pub(crate) const DELIVERED: &[&str] = &[
    "gained received",
    "gained return-path",
    "gained x-ms-exchange-organization-authas",
    "gained x-ms-exchange-organization-scl",
];

/// The program's own mark, by which it finds a message again.
pub(crate) const STAMPED: &str = "gained x-postkey-id";

/// The sender that the tests set up.
const SENDER: &str = "mail";

/// The message with 12 MB attached.
const LARGE: &str = "python-12-megabytes";

/// Five programs make a message of 12 MB and seventeen others; the slowest, mutt, starts in a second.
const MAKING_PATIENCE: Duration = Duration::from_secs(120);

/// The emulator delivers within milliseconds; the rest is for a busy machine.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_message_given_to_graph_as_mime_arrives_with_every_byte() {
    let emulator = Emulator::start();
    let tenant = Tenant::of(&emulator).await;
    let mut wrong = Vec::new();
    for (name, message) in make(&emulator).await {
        if message.len() > GRAPH_CARRIES {
            continue;
        }
        let sent = with_wire_line_ends(&message);
        tenant.send_mime(&sent).await;
        let arrived = tenant.arrived(&sent).await;
        let found = differences(&Part::read(&sent), &Part::read(&arrived));
        wrong.extend(found.into_iter().filter(|d| !DELIVERED.contains(&d.as_str())).map(|d| format!("{name}: {d}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_message_sent_by_the_program_arrives_with_every_byte() {
    // What Graph cannot carry unharmed goes by SMTP here: the large one.
    sent_by_the_program(&[]).await;
}

#[tokio::test]
async fn a_message_sent_by_smtp_arrives_with_every_byte() {
    sent_by_the_program(&["--route", "smtp"]).await;
}

async fn sent_by_the_program(options: &[&str]) {
    let emulator = Emulator::start();
    let (home, app) = set_up(&emulator, &["--smtp"]);
    let tenant = Tenant::of(&emulator).await;
    tenant.open_mailbox_to(&emulator, &app).await;
    let mut wrong = Vec::new();
    for (name, message) in make(&emulator).await {
        send(&emulator, &home, &name, options);
        // Bare LF is no line end on the wire: what mutt wrote into its pipe leaves with CRLF.
        let sent = with_wire_line_ends(&message);
        let arrived = tenant.arrived(&sent).await;
        let found = differences(&Part::read(&sent), &Part::read(&arrived));
        let deliberate = |change: &str| change == STAMPED || DELIVERED.contains(&change);
        wrong.extend(found.into_iter().filter(|d| !deliberate(d)).map(|d| format!("{name}: {d}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Above its request limit Graph takes a draft and builds the MIME anew: content stays, these headers do not.
#[tokio::test]
async fn a_large_message_by_graph_keeps_its_content_and_loses_only_known_headers() {
    let emulator = Emulator::start();
    let (home, _) = set_up(&emulator, &["--read-write"]);
    let tenant = Tenant::of(&emulator).await;
    let made = make(&emulator).await;
    let (name, message) = made.iter().find(|(name, _)| name == LARGE).expect("the large message is made");
    send(&emulator, &home, name, &["--route", "graph"]);
    let (sent, arrived) = (Part::read(message), Part::read(&tenant.arrived(message).await));
    assert!(contents(&sent) == contents(&arrived), "the content changed");
    let lost: Vec<String> = differences(&sent, &arrived).into_iter().filter(|d| d.starts_with("lost ")).collect();
    assert_eq!(lost, ["lost in-reply-to", "lost list-unsubscribe", "lost references"]);
}

/// Registers an app and a sender in a folder of its own. Returns the folder, and the app's client id.
fn set_up(emulator: &Emulator, reach: &[&str]) -> (PathBuf, String) {
    let home = emulator.folder().join("home");
    let mut setup = postkey(&["setup", SENDER, "--cloud", "custom", "--reach", "tenant-wide", "--sign-in", "app"]);
    for (option, variable) in [
        ("--login-url", "EMULATOR_AUTHORITY"),
        ("--graph-url", "EMULATOR_GRAPH"),
        ("--smtp-host", "EMULATOR_SMTP"),
        ("--cloud-ca", "EMULATOR_CA"),
        ("--tenant", "TENANT_ID"),
        ("--mailbox", "SENDER"),
        ("--admin-client-id", "ADMIN_CLIENT_ID"),
    ] {
        setup.args([option, emulator.variable(variable)]);
    }
    setup.env("POSTKEY_ADMIN_CLIENT_SECRET", emulator.variable("ADMIN_CLIENT_SECRET"));
    let output = setup.args(reach).arg("--json").arg("--dir").arg(&home).output().expect("the program starts");
    assert!(output.status.success(), "{}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("--json answers JSON");
    (home, answer["app"]["client_id"].as_str().expect("the app has a client id").to_owned())
}

fn send(emulator: &Emulator, home: &Path, name: &str, options: &[&str]) {
    let file = emulator.folder().join("messages").join(format!("{name}.eml"));
    let mut send = postkey(&["send", "--sender", SENDER]);
    let output = send.arg(file).args(options).arg("--dir").arg(home).output().expect("the program starts");
    assert!(output.status.success(), "{name}: {}", said(&output));
}

/// Makes the messages into the emulator's folder. Returns name and bytes of each.
async fn make(emulator: &Emulator) -> Vec<(String, Vec<u8>)> {
    let folder = emulator.folder().join("messages");
    make_into(&folder, emulator.variable("SENDER"), emulator.variable("USER_NAME")).await
}

/// Makes the messages into a folder. Returns name and bytes of each.
pub(crate) async fn make_into(folder: &Path, sender: &str, recipient: &str) -> Vec<(String, Vec<u8>)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/make_messages.py");
    let mut python = Command::new(brought("POSTKEY_TEST_PYTHON"));
    python.arg(script).arg(folder).args([sender, recipient]);
    python.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(MAKING_PATIENCE, python.output()).await.expect("the messages are made in time");
    let output = output.expect("Python starts");
    assert!(output.status.success(), "{}", said(&output));
    let names = String::from_utf8(output.stdout).expect("the names are plain text");
    let read = |name: &str| std::fs::read(folder.join(format!("{name}.eml"))).expect("each named message was written");
    let made: Vec<_> = names.lines().map(|name| (name.to_owned(), read(name))).collect();
    assert!(made.len() >= 18, "only {} messages were made", made.len());
    made
}

/// The tenant as Graph shows it to the consented application.
struct Tenant {
    http: reqwest::Client,
    graph: String,
    token: String,
    sender: String,
    recipient: String,
}

impl Tenant {
    async fn of(emulator: &Emulator) -> Tenant {
        let ca = std::fs::read(emulator.variable("EMULATOR_CA")).expect("the CA is readable");
        let ca = reqwest::Certificate::from_pem(&ca).expect("the CA is a certificate");
        let http = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().timeout(Duration::from_secs(30));
        let http = http.build().expect("a client can be made");
        let [authority, tenant] = ["EMULATOR_AUTHORITY", "TENANT_ID"].map(|name| emulator.variable(name));
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", emulator.variable("CLIENT_ID")),
            ("client_secret", emulator.variable("CLIENT_SECRET")),
            ("scope", "https://graph.microsoft.com/.default"),
        ];
        let answer = http.post(format!("{authority}/{tenant}/oauth2/v2.0/token")).form(&form).send().await;
        let answer: Value = answer.expect("the token endpoint answers").json().await.expect("with JSON");
        let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned();
        let [graph, sender, recipient] =
            ["EMULATOR_GRAPH", "SENDER", "USER_NAME"].map(|name| emulator.variable(name).to_owned());
        Tenant { http, graph, token, sender, recipient }
    }

    /// What an Exchange administrator does so that an app may sign in to a mailbox by SMTP.
    async fn open_mailbox_to(&self, emulator: &Emulator, app: &str) {
        let management = emulator.variable("EMULATOR_MANAGEMENT");
        let principal = json!({ "tenant": emulator.variable("TENANT_ID"), "app_id": app });
        let right = json!({ "right": "FullAccess", "trustee": app });
        for (path, body) in [("principals".to_owned(), principal), (format!("mailboxes/{}/rights", self.sender), right)]
        {
            let request = self.http.post(format!("{management}/exchange/{path}")).json(&body);
            let answer = request.send().await.expect("the management API answers");
            assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap_or_default());
        }
    }

    async fn send_mime(&self, message: &[u8]) {
        let address = format!("{}/users/{}/sendMail", self.graph, self.sender);
        let request = self.http.post(address).bearer_auth(&self.token).header("content-type", "text/plain");
        let answer = request.body(to_base64(message)).send().await.expect("Graph answers");
        let status = answer.status();
        assert_eq!(status.as_u16(), 202, "{}", answer.text().await.unwrap_or_default());
    }

    /// The MIME of the message in the recipient's mailbox, found by its Message-ID.
    async fn arrived(&self, sent: &[u8]) -> Vec<u8> {
        let sent = Part::read(sent);
        let id = sent.header("message-id").expect("every made message has an id");
        let started = Instant::now();
        loop {
            let address = format!("{}/users/{}/messages", self.graph, self.recipient);
            let filter = format!("internetMessageId eq '{id}'");
            let request = self.http.get(&address).query(&[("$filter", filter.as_str()), ("$select", "id")]);
            let answer = request.bearer_auth(&self.token).send().await.expect("Graph answers");
            let answer: Value = answer.json().await.expect("with JSON");
            let found = answer["value"].as_array().unwrap_or_else(|| panic!("no list: {answer}"));
            assert!(found.len() <= 1, "{id} arrived {} times", found.len());
            if let Some(found) = found.first() {
                let address = format!("{address}/{}/$value", found["id"].as_str().expect("a message has an id"));
                let answer = self.http.get(address).bearer_auth(&self.token).send().await.expect("Graph answers");
                assert_eq!(answer.status().as_u16(), 200);
                return answer.bytes().await.expect("with the message").to_vec();
            }
            assert!(started.elapsed() < DELIVERY_PATIENCE, "{id} did not arrive");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn to_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place > three.len() { '=' } else { letter });
        }
    }
    text
}
