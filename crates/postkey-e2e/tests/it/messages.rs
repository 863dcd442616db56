//! Real messages, made by swaks, mutt, Python, nodemailer and after Outlook, arrive with identical bytes in every part.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;

use crate::clients::brought;
use crate::harness::{Emulator, said};
use crate::mime::{Part, differences, with_wire_line_ends};

/// Above this, Graph's request limit, a message cannot go as it is: 4 MB of base64.
const GRAPH_CARRIES: usize = 3_000_000;

/// What Exchange adds to every message it delivers, and nothing else may differ.
const DELIVERED: &[&str] = &[
    "gained received",
    "gained return-path",
    "gained x-ms-exchange-organization-authas",
    "gained x-ms-exchange-organization-scl",
];

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

/// Makes the messages into the emulator's folder. Returns name and bytes of each.
async fn make(emulator: &Emulator) -> Vec<(String, Vec<u8>)> {
    let folder: PathBuf = emulator.folder().join("messages");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/make_messages.py");
    let mut python = Command::new(brought("POSTKEY_TEST_PYTHON"));
    python.arg(script).arg(&folder).args([emulator.variable("SENDER"), emulator.variable("USER_NAME")]);
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
