//! What happens beside a setup: another run of it at the same time, a credential that somebody removes afterwards, a grant
//! from before.

use std::time::Duration;

use tokio::process::Command;

use crate::harness::said;
use crate::setups::{Moment, Setup, Tenant, ended};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setup_that_runs_already_turns_a_second_run_away() {
    let tenant = Tenant::start(Duration::ZERO).await;
    let setup = tenant.setup("twice", &["--reach", "tenant-wide"]);
    let first =
        setup.held_up(setup.command_of_setup(), 3, Moment::BeforeItIsAnswered).await.expect("it makes three calls");
    let second = ended(setup.command_of_setup()).await;
    let words = said(&second);
    assert_eq!(second.status.code(), Some(1), "{words}");
    assert!(words.contains("setup.already_running"), "{words}");
    assert!(words.contains(&format!("in process {}", first.id())), "{words}");
    assert!(first.goes_on().await.success());
    assert_eq!(tenant.holds("twice").credentials.len(), 1);
    setup.run().await;
    assert_eq!(tenant.holds("twice").credentials.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_somebody_removed_is_made_anew() {
    let tenant = Tenant::start(Duration::ZERO).await;
    for kind in ["certificate", "secret"] {
        let setup = tenant.setup(kind, &["--reach", "tenant-wide", "--credential", kind]);
        setup.run().await;
        let before = tenant.holds(kind).credentials;
        remove_credentials(&tenant, kind);
        // Right after the first run it might only be a tenant that lags behind.
        tenant.emulator.advance(Duration::from_secs(20 * 60));
        ends(&tenant, &setup, &["send", "--to", "alice@contoso.example"], false).await;
        let again = setup.command_of_setup();
        let output = ended(on_its_clock(&tenant, again)).await;
        assert!(output.status.success(), "{kind}: {}", said(&output));
        let after = tenant.holds(kind).credentials;
        assert_eq!(after.len(), 1, "{kind}");
        assert_ne!(after, before, "{kind}");
        ends(&tenant, &setup, &["send", "--to", "alice@contoso.example"], true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_a_grant_from_before_undoes_is_not_called_one() {
    let tenant = Tenant::start(Duration::ZERO).await;
    tenant.setup("wide", &["--reach", "tenant-wide"]).run().await;
    let output = ended(tenant.setup("wide", &["--reach", "limited"]).command_of_setup()).await;
    let words = said(&output);
    assert!(output.status.success(), "{words}");
    assert!(words.contains("the app can still send as every mailbox until that grant is removed"), "{words}");
    assert!(words.contains("every mailbox of the tenant"), "{words}");
}

fn remove_credentials(tenant: &Tenant, name: &str) {
    tenant.emulator.with_world(|world| {
        let known = world.tenant_mut(tenant.emulator.tenant_id()).expect("the sample tenant stays");
        let apps = known.directory.applications.iter_mut();
        for app in apps.filter(|app| app.display_name == format!("postkey {name}")) {
            app.keys.clear();
            app.secrets.clear();
        }
    });
}

async fn ends(tenant: &Tenant, setup: &Setup<'_>, arguments: &[&str], well: bool) {
    let output = ended(on_its_clock(tenant, setup.command(arguments))).await;
    assert_eq!(output.status.success(), well, "{arguments:?}: {}", said(&output));
}

/// The command as a machine runs it whose clock goes with the tenant's.
fn on_its_clock(tenant: &Tenant, mut command: Command) -> Command {
    command.env("POSTKEY_TEST_CLOCK", tenant.folder().join("emulator").join("clock"));
    command
}
