//! Real clients hand in mail, over STARTTLS and implicit TLS, with PLAIN and LOGIN, one message a connection and twenty on a
//! kept one: all of it arrives unharmed, once. The scripts lie in `clients/submission/`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use postkey_emulator::exchange::administration::Seen;
use postkey_emulator::exchange::limits::Limits;
use tokio::process::Command;

use crate::clients::brought;
use crate::harness::said;
use crate::messages::{DELIVERED, STAMPED};
use crate::mime::{Part, contents, differences};
use crate::serving::{Installation, Login, UNPACED, until};
use crate::setups::Tenant;

/// Java compiles its script first; twenty messages take a few seconds more on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a client treats the message that it is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writes {
    /// Every byte goes out.
    AsItIs,
    /// The same with an empty line after it.
    WithAnotherLine,
    /// It composes a message of its own with this subject and text.
    Anew,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaks_submits() {
    submits(script("swaks.sh"), false, Writes::WithAnotherLine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn msmtp_submits() {
    submits(script("msmtp.sh"), false, Writes::AsItIs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_submits() {
    submits(script("curl.sh"), true, Writes::AsItIs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutt_submits() {
    submits(script("mutt.sh"), false, Writes::Anew).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_nail_submits() {
    submits(script("s-nail.sh"), false, Writes::Anew).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn php_mail_submits_through_msmtp() {
    submits(script("php.sh"), false, Writes::Anew).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn java_mail_submits() {
    submits(script("java.sh"), true, Writes::AsItIs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smtplib_submits() {
    let words = [brought("POSTKEY_TEST_PYTHON"), scripts().join("smtplib_submit.py")];
    submits(words.to_vec(), true, Writes::AsItIs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodemailer_submits() {
    let script = brought("POSTKEY_TEST_NODE").join("clients/submission/nodemailer_submit.mjs");
    let words = ["node", "--preserve-symlinks", "--preserve-symlinks-main"].map(PathBuf::from);
    submits([&words[..], &[script]].concat(), true, Writes::AsItIs).await;
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/submission")
}

fn script(name: &str) -> Vec<PathBuf> {
    vec![scripts().join(name)]
}

/// Sends in every way; `keeps` says that the client sends all messages of one call over one connection.
async fn submits(client: Vec<PathBuf>, keeps: bool, writes: Writes) {
    let tenant = Tenant::start(Duration::ZERO).await;
    tenant.emulator.with_world(|world| world.mail.limits = Limits::lifted());
    let sample = tenant.emulator.sample().clone();
    let installation = Installation::new(&tenant, "clients", UNPACED);
    installation.reading_sender("mail", &sample.sender).await;
    let login = installation.submitter("printer", &["mail"]).await;
    let serving = installation.serve().await;

    let mut sent = Vec::new();
    for (tls, mechanism, many) in
        [("starttls", "PLAIN", true), ("starttls", "LOGIN", false), ("tls", "PLAIN", false), ("tls", "LOGIN", true)]
    {
        let count = if keeps && many { 20 } else { 2 };
        let (subjects, files): (Vec<String>, Vec<PathBuf>) = (sent.len()..sent.len() + count)
            .map(|number| write_message(tenant.folder(), number, &sample.sender, &sample.user_name))
            .unzip();
        sent.extend(subjects);
        let calls: Vec<&[PathBuf]> = if keeps && many { vec![&files] } else { files.chunks(1).collect() };
        for files in calls {
            let mut command = call(&client, &installation, &login, &installation.ca());
            command.args([tls, mechanism]).args(files);
            let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("the client ends in time");
            let output = output.expect("the client starts");
            assert!(output.status.success(), "{tls} {mechanism}: {}\n{}", said(&output), serving.said());
        }
    }
    // The certificate of another CA is not taken.
    let (stranger, file) = write_message(tenant.folder(), sent.len(), &sample.sender, &sample.user_name);
    let mut command = call(&client, &installation, &login, tenant.emulator.ca_path().expect("it has a folder"));
    let refused = command.args(["tls", "PLAIN"]).arg(file).output().await.expect("the client starts");
    assert!(!refused.status.success(), "the client took a certificate of an unknown CA: {}", said(&refused));

    let arrived = until("the last message's arrival", PATIENCE, async || {
        let inbox = inbox(&tenant, &sample.user_name);
        (inbox.len() >= sent.len()).then_some(inbox)
    })
    .await;
    assert_eq!(arrived.len(), sent.len(), "each arrives once");
    assert!(arrived.iter().all(|message| message.subject != stranger));
    for (number, subject) in sent.iter().enumerate() {
        let found = arrived.iter().find(|message| message.subject == *subject);
        let found = found.unwrap_or_else(|| panic!("{subject:?} did not arrive"));
        let mut original = message(number, &sample.sender, &sample.user_name).1.into_bytes();
        if writes == Writes::WithAnotherLine {
            original.extend_from_slice(b"\r\n");
        }
        let (original, arrived) = (Part::read(&original), Part::read(&found.mime));
        match writes {
            Writes::Anew => {
                let text = |part: &Part| {
                    let text = String::from_utf8(contents(part).concat()).expect("it is UTF-8");
                    text.replace("\r\n", "\n").trim_end().to_owned()
                };
                assert_eq!(text(&arrived), text(&original), "{subject}");
            }
            _ => {
                let mut found = differences(&original, &arrived);
                found.retain(|change| change != STAMPED && !DELIVERED.contains(&change.as_str()));
                assert!(found.is_empty(), "{subject}: {found:?}");
            }
        }
    }
    assert!(serving.stop().await.success());
}

fn inbox(tenant: &Tenant, mailbox: &str) -> Vec<Seen> {
    let seen = tenant.emulator.with_world(|world| world.mailbox_contents(tenant.emulator.tenant_id(), mailbox));
    seen.unwrap_or_default().into_iter().filter(|one| one.folder == "Inbox").collect()
}

/// A call of the client with the variables that `postkey demo --env FILE` writes.
fn call(client: &[PathBuf], installation: &Installation<'_>, login: &Login, ca: &Path) -> Command {
    let (program, words) = client.split_first().expect("a client has a program");
    let sample = installation.tenant.emulator.sample();
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).kill_on_drop(true).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("DEMO_SMTP", format!("localhost:{}", installation.ports.smtp));
    command.env("DEMO_SMTPS", format!("localhost:{}", installation.ports.smtps));
    command.env("DEMO_SUBMITTER", &login.name).env("DEMO_PASSWORD", &login.password).env("DEMO_CA", ca);
    command.env("SENDER", &sample.sender).env("USER_NAME", &sample.user_name);
    command
}

fn write_message(folder: &Path, number: usize, from: &str, to: &str) -> (String, PathBuf) {
    let (subject, text) = message(number, from, to);
    let file = folder.join(format!("{number}.eml"));
    std::fs::write(&file, text).expect("the folder is writable");
    (subject, file)
}

/// A text with what clients and servers stumble over: dots, an empty line at the end, a long line, a line from a mailbox.
fn message(number: usize, from: &str, to: &str) -> (String, String) {
    let subject = format!("submitted {number} of many");
    let long = "x".repeat(900);
    let text = format!(
        "From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\nDate: Tue, 03 Nov 2026 09:30:00 +0100\r\n\
         Message-ID: <{number}.submitted@clients.example>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
         Hello.\r\n.\r\n..\r\n.hidden\r\n\r\nFrom the start of a line\r\n{long}\r\n = sign =\r\n\r\nend {number}\r\n\r\n"
    );
    (subject, text)
}
