//! `postkey setup` is killed with -9 at every call it makes, before the call takes effect and before it is answered, and
//! run again: it always ends with one app, one service principal, one credential, no stray key, and mail that arrives.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::plan::Plan;
use crate::setups::{Holds, Moment, Setup, Tenant};

const NO_LAG: Duration = Duration::ZERO;

/// Longer than a program takes to start again, so that a second run meets what the first wrote too early.
const LAG: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setup_with_a_certificate_survives_being_killed_at_every_call() {
    let roles = ["Mail.ReadWrite", "Mail.Send"];
    every_call(NO_LAG, &["--reach", "tenant-wide", "--read-write"], &roles, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setup_with_a_secret_survives_being_killed_at_every_call() {
    let options = ["--reach", "tenant-wide", "--read-write", "--smtp", "--credential", "secret"];
    every_call(NO_LAG, &options, &["Mail.ReadWrite", "Mail.Send", "SMTP.SendAsApp"], 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_setup_survives_being_killed_at_every_call() {
    every_call(NO_LAG, &["--reach", "limited", "--read-write"], &[], 1).await;
    every_call(NO_LAG, &["--reach", "limited", "--credential", "secret"], &[], 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setup_survives_being_killed_while_the_tenant_lags_behind() {
    every_call(LAG, &["--reach", "tenant-wide"], &["Mail.Send"], 3).await;
    every_call(LAG, &["--reach", "tenant-wide", "--credential", "secret"], &["Mail.Send"], 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setup_that_is_killed_again_and_again_gets_through_in_the_end() {
    let tenant = Tenant::start(NO_LAG).await;
    for kind in ["certificate", "secret"] {
        let setup = tenant.setup(kind, &["--reach", "tenant-wide", "--credential", kind]);
        let mut at = 1;
        while let Some(held) = setup.held_up(setup.command_of_setup(), at, Moment::BeforeItIsAnswered).await {
            held.kill().await;
            // Every call twice: a second run must cope with what the first left as well as the first with nothing.
            if let Some(held) = setup.held_up(setup.command_of_setup(), at, Moment::BeforeItIsAnswered).await {
                held.kill().await;
            }
            at += 1;
        }
        assert_whole(&tenant, &setup, kind, &["Mail.Send"]).await;
    }
}

/// Kills at every `step`th call, on both sides of its effect, each time with a fresh installation and a fresh app.
async fn every_call(lag: Duration, options: &[&str], roles: &[&str], step: u64) {
    let next = AtomicU64::new(0);
    let left_behind = AtomicU64::new(0);
    let worker = async |number: u64| {
        let tenant = Tenant::start(lag).await;
        let undisturbed = format!("undisturbed-{number}");
        let setup = tenant.setup(&undisturbed, options);
        let before = tenant.emulator.last_call();
        let cases = async {
            let plan = Plan::of(&setup).await.for_any_name();
            setup.run().await;
            let calls = tenant.emulator.last_call() - before;
            assert_whole(&tenant, &setup, &undisturbed, roles).await;
            loop {
                let case = next.fetch_add(1, Ordering::Relaxed);
                let (at, moment) = (1 + case / 2 * step, Moment::BOTH[usize::try_from(case % 2).expect("0 or 1")]);
                let Some(unknown) = one_case(&tenant, &plan, options, roles, at, moment).await else {
                    // While it waits for replication it may ask more or less often than it did undisturbed.
                    assert!(at > calls || lag != NO_LAG, "call {at} of {calls} was not made");
                    return;
                };
                left_behind.fetch_add(u64::from(unknown), Ordering::Relaxed);
            }
        };
        tokio::select! {
            () = cases => {}
            () = tenant.exchange_administrator(), if options.contains(&"limited") => {}
        }
    };
    tokio::join!(worker(1), worker(2));
    let cases = next.into_inner();
    println!("{options:?}: {cases} kills");
    assert!(cases > 10, "a setup makes more calls than that");
    assert!(
        left_behind.into_inner() > 0 || step > 1,
        "one of the kills leaves a credential that postkey does not know"
    );
}

/// One killed run and the next, undisturbed: whether the first left a credential that postkey did not know. None when it
/// ended by itself.
async fn one_case(
    tenant: &Tenant,
    plan: &Plan,
    options: &[&str],
    roles: &[&str],
    at: u64,
    moment: Moment,
) -> Option<bool> {
    let side = if moment == Moment::BeforeItTakesEffect { "before" } else { "after" };
    let name = format!("killed-{side}-{at}");
    let setup = tenant.setup(&name, options);
    let before = tenant.emulator.last_call();
    let held = setup.held_up(setup.command_of_setup(), at, moment).await?;
    held.kill().await;
    // The store opens again, whatever was being written.
    let listed = setup.listing(&["credential", "list", "--json"]).await;
    let known = |id: &str| listed.as_array().expect("a list").iter().any(|one| one["credential"]["key_id"] == id);
    let unknown = tenant.holds(&name).credentials.iter().any(|(id, _)| !known(id));
    setup.run().await;
    plan.assert_lists(&tenant.emulator.calls_since(before), &name);
    assert_whole(tenant, &setup, &name, roles).await;
    Some(unknown)
}

/// One of everything, known to postkey, and at work.
async fn assert_whole(tenant: &Tenant, setup: &Setup<'_>, name: &str, roles: &[&str]) {
    let listed = setup.listing(&["credential", "list", "--json"]).await;
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), 1, "{name}: postkey knows one credential, {listed:?}");
    let known = &listed[0]["credential"];
    assert_eq!(known["state"]["state"], "verified", "{name}");
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let key_id = text(&known["key_id"]).unwrap_or_else(|| panic!("{name}: its key id is known"));
    let expected = Holds {
        apps: 1,
        deleted_apps: 0,
        principals: 1,
        credentials: vec![(key_id, text(&known["material"]["thumbprint"]))],
        credentials_elsewhere: 0,
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
    };
    assert_eq!(tenant.holds(name), expected, "{name}");
    let reader = tenant.emulator.sample().user_name.clone();
    setup.succeeds(&["send", "--sender", name, "--to", &reader, "--subject", name, "--body", "It works."]).await;
    assert_eq!(tenant.received(&reader, name), 1, "{name}: what is sent arrives");
}
