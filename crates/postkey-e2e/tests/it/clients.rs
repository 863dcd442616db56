//! Microsoft's and others' own clients use the emulator as they would use Microsoft 365, unchanged but for the hosts,
//! the CA and the switch documented for private authorities. The scripts lie in `clients/`; each prints its checks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::harness::{Emulator, said};

/// The slowest script imports 10,000 Python files and waits out replication; on two busy cores that takes a minute.
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test]
async fn msal_for_python_gets_tokens_in_every_way() {
    python("msal_python.py").await;
}

#[tokio::test]
async fn azure_identity_for_python_gets_tokens_in_every_way() {
    python("azure_identity.py").await;
}

#[tokio::test]
async fn the_graph_sdk_for_python_manages_an_application_and_sends_a_mail() {
    python("graph_sdk.py").await;
}

#[tokio::test]
async fn msal_for_node_gets_tokens_in_every_way() {
    node("msal_node.mjs").await;
}

#[tokio::test]
async fn azure_identity_for_node_gets_tokens_in_every_way() {
    node("azure_identity_node.mjs").await;
}

#[tokio::test]
async fn nodemailer_sends_with_xoauth2() {
    node("nodemailer_send.mjs").await;
}

#[tokio::test]
async fn curl_msmtp_and_smtplib_send_with_xoauth2() {
    run(Command::new(scripts().join("smtp_clients.sh"))).await;
}

#[tokio::test]
async fn curl_replays_the_postman_request_and_its_malformed_redirect_is_refused() {
    run(Command::new(scripts().join("postman.sh"))).await;
}

async fn python(script: &str) {
    let mut command = Command::new(brought("POSTKEY_TEST_PYTHON"));
    command.arg(scripts().join(script));
    run(command).await;
}

async fn node(script: &str) {
    let mut command = Command::new("node");
    command.args(["--preserve-symlinks", "--preserve-symlinks-main"]);
    command.arg(brought("POSTKEY_TEST_NODE").join("clients").join(script));
    run(command).await;
}

/// Runs a script in the environment of an emulator of its own.
async fn run(mut command: Command) {
    let emulator = Emulator::start();
    command.envs(emulator.environment()).env("NODE_EXTRA_CA_CERTS", emulator.variable("EMULATOR_CA"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("POSTKEY_TEST_PYTHON", brought("POSTKEY_TEST_PYTHON"));
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("the client ends in time");
    let output = output.expect("the client starts");
    assert!(output.status.success(), "{}", said(&output));
    println!("{}", String::from_utf8_lossy(&output.stdout));
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// A path that `cargo xtask test` prepared.
pub(crate) fn brought(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    path.map(PathBuf::from).unwrap_or_else(|| panic!("{variable} is not set: the clients come with `cargo xtask test`"))
}
