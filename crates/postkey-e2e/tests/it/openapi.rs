//! The OpenAPI document keeps its word: schemathesis finds nothing against the running service, and a client generated
//! from the document works. The scripts lie in `clients/`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use postkey_emulator::exchange::limits::Limits;
use tokio::process::Command;

use crate::clients::brought;
use crate::harness::said;
use crate::serving::{Installation, UNPACED};
use crate::setups::Tenant;

/// Some thousand requests and as many cases to think of; on two busy cores that takes minutes.
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemathesis_finds_nothing() {
    against_the_service(Command::new(scripts().join("schemathesis.sh"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_client_works() {
    let mut command = Command::new(brought("POSTKEY_TEST_PYTHON"));
    command.arg(scripts().join("generated_client.py"));
    against_the_service(command).await;
}

async fn against_the_service(mut command: Command) {
    let tenant = Tenant::start(Duration::ZERO).await;
    tenant.emulator.with_world(|world| world.mail.limits = Limits::lifted());
    let sample = tenant.emulator.sample().clone();
    let installation = Installation::new(&tenant, "openapi", UNPACED);
    installation.reading_sender("mail", &sample.sender).await;
    installation.submitter("shop", &["mail"]).await;
    let everything = "send,outbox.read,outbox.manage,metrics";
    let add = ["api-key", "add", "shop-all", "--submitter", "shop", "--scope", everything];
    let key = installation.told(&add).await;
    let add = ["api-key", "add", "administrator", "--scope", "outbox.read,outbox.manage,metrics"];
    let administrator = installation.told(&add).await;
    let text = |made: &serde_json::Value| made["key"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let serving = installation.serve().await;

    command.env("OPENAPI_URL", format!("http://127.0.0.1:{}", installation.ports.http));
    command.env("OPENAPI_KEY", text(&key)).env("OPENAPI_ADMIN_KEY", text(&administrator));
    command.env("OPENAPI_SENDER", "mail").env("OPENAPI_MAILBOX", &sample.sender);
    command.env("POSTKEY_TEST_PYTHON", brought("POSTKEY_TEST_PYTHON")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("the client ends in time");
    let output = output.expect("the client starts");
    assert!(output.status.success(), "{}\n{}", said(&output), serving.said());
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(serving.stop().await.success());
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}
