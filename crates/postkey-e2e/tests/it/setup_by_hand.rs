//! Set up beside the portal: the walk in the portal's words, the plan, and the script for an administrator elsewhere.

use serde_json::json;

use crate::story::{HOSTS, Story};

/// Lines somebody types into the walk, Enter included.
fn typed(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_walk_through_the_portal_asks_for_one_value_at_a_time_and_ends_with_a_verified_sender() {
    let mut story = Story::begin();
    let [client, tenant, secret] = ["CLIENT_ID", "TENANT_ID", "CLIENT_SECRET"].map(|name| story.variable(name));
    let answers = typed(&["", &client, &tenant, "", "2099-01-31", &secret, "noreply@contoso.example"]);
    story.run_with_input(&["setup", "mail", "--manual", HOSTS, "--test-to", "alice@contoso.example"], &answers);
    story.run(&["sender", "list"]);
    story.shows("manual");
}

#[test]
fn every_mistake_on_the_walk_is_answered_at_once_and_asked_for_again() {
    let mut story = Story::begin();
    let [client, tenant, secret] = ["CLIENT_ID", "TENANT_ID", "CLIENT_SECRET"].map(|name| story.variable(name));
    let others_secret = story.variable("ADMIN_CLIENT_SECRET");
    let answers = typed(&[
        "",
        "",
        "My application",
        &client,
        &client,
        &client,
        "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d",
        &tenant,
        "",
        "next summer",
        "2020-02-29",
        "2099-01-31",
        "6f9d2c1b-3a4e-4d5f-8a7b-0c1d2e3f4a5b",
        "wZJ******************",
        &others_secret,
        &secret,
        "",
        "noreply",
        "noreply@contoso.example",
    ]);
    story.run_with_input(&["setup", "mail", "--manual", HOSTS], &answers);
    story.shows("manual_mistakes");
}

#[test]
fn ids_typed_into_each_others_fields_are_recognised_on_the_walk() {
    let mut story = Story::begin();
    let [client, tenant, secret] = ["CLIENT_ID", "TENANT_ID", "CLIENT_SECRET"].map(|name| story.variable(name));
    let answers = typed(&["", &tenant, &client, "", "", &secret, "noreply@contoso.example"]);
    story.run_with_input(&["setup", "mail", "--manual", HOSTS], &answers);
    story.shows("manual_swapped");
}

#[test]
fn a_walk_that_is_left_keeps_what_was_right() {
    let mut story = Story::begin();
    let [client, tenant] = ["CLIENT_ID", "TENANT_ID"].map(|name| story.variable(name));
    story.run_with_input(&["setup", "mail", "--manual", HOSTS], &typed(&["", &client, &tenant]));
    story.run(&["sender", "list"]);
    story.shows("manual_left");
}

#[test]
fn the_script_for_an_administrator_elsewhere_makes_the_planned_calls() {
    let mut story = Story::begin();
    let tenant = story.variable("TENANT_ID");
    let setup = ["setup", "mail", HOSTS, "--tenant", &tenant, "--mailbox", "noreply@contoso.example"];
    let secret = ["--credential", "secret", "--lifetime", "6mo", "--reach", "tenant-wide"];
    story.run(&[&setup[..], &["--plan"], &secret].concat());
    story.run(&[&setup[..], &["--script", "-"], &secret].concat());
    story.run(&[&setup[..], &["--script", "-", "--reach", "tenant-wide"]].concat());
    let calls = story.observe("/calls");
    assert_eq!(calls, json!([]), "a plan or a script made a call");
    story.shows("script");
}

#[test]
fn what_setup_cannot_do_is_said_before_or_where_it_stops() {
    let mut story = Story::begin();
    let [tenant, admin, admin_secret] =
        ["TENANT_ID", "ADMIN_CLIENT_ID", "ADMIN_CLIENT_SECRET"].map(|name| story.variable(name));
    let setup = ["setup", "mail", HOSTS, "--tenant", &tenant, "--mailbox", "noreply@contoso.example"];
    let as_app = ["--sign-in", "app", "--admin-client-id", &admin];
    let with_secret = [("POSTKEY_ADMIN_CLIENT_SECRET", admin_secret.as_str())];
    story.run(&[&setup[..], &as_app].concat());
    story.run(&[&setup[..], &["--reach", "tenant-wide"], &as_app].concat());
    story.run(&[&setup[..], &["--reach", "tenant-wide", "--lifetime", "36mo"], &as_app].concat());
    story.note("The administrator's secret is wrong.");
    let wrong = [("POSTKEY_ADMIN_CLIENT_SECRET", "abc8Q~abcdefghijklmnopqrstuvwxyz01234567")];
    story.run_with(&wrong, &[&setup[..], &["--reach", "tenant-wide"], &as_app].concat());
    story.note("The administrator may not register applications.");
    let change = format!("/applications/{admin}");
    for permission in ["Application.ReadWrite.All", "Directory.ReadWrite.All"] {
        story.manage(&change, &json!({ "remove_permission": permission }));
    }
    story.run_with(&with_secret, &[&setup[..], &["--reach", "tenant-wide"], &as_app].concat());
    story.manage(&change, &json!({ "add_permission": "Application.ReadWrite.All" }));
    story.note("A policy of the tenant forbids secrets.");
    story.manage(&format!("/tenants/{tenant}/policy"), &json!({ "secrets_forbidden": true }));
    story
        .run_with(&with_secret, &[&setup[..], &["--reach", "tenant-wide", "--credential", "secret"], &as_app].concat());
    story.note("The mailbox does not exist.");
    story.manage(&format!("/tenants/{tenant}/policy"), &json!({}));
    story.manage("/exchange/mailboxes/noreply@contoso.example", &json!({ "missing": true }));
    story.run_with(&with_secret, &[&setup[..], &["--reach", "tenant-wide"], &as_app].concat());
    story.note("It exists now, and the same command goes on from there.");
    story.manage("/exchange/mailboxes/noreply@contoso.example", &json!({ "missing": false }));
    story.run_with(&with_secret, &[&setup[..], &["--reach", "tenant-wide"], &as_app].concat());
    story.shows("setup_refused");
}

#[test]
fn a_limited_app_waits_for_an_exchange_administrator_and_says_what_to_run() {
    let mut story = Story::begin();
    story.manage("/exchange/behaviour", &json!({ "role_cache_ms": 0 }));
    let [tenant, admin, admin_secret] =
        ["TENANT_ID", "ADMIN_CLIENT_ID", "ADMIN_CLIENT_SECRET"].map(|name| story.variable(name));
    let with_secret = [("POSTKEY_ADMIN_CLIENT_SECRET", admin_secret.as_str())];
    let mut setup = vec!["setup", "mail", HOSTS, "--tenant", &tenant, "--mailbox", "noreply@contoso.example"];
    setup.extend(["--reach", "limited", "--wait", "0", "--sign-in", "app", "--admin-client-id", &admin]);
    story.note("Nobody has run the commands yet.");
    story.run_with(&with_secret, &setup);
    let apps = story.administer("GET", "/applications?$filter=displayName%20eq%20'postkey%20mail'", &json!(null), 200);
    let client = apps["value"][0]["appId"].as_str().expect("setup registered it").to_owned();
    let role = json!({
        "tenant": tenant, "app_id": client, "role": "Application Mail.Send", "scope": ["noreply@contoso.example"],
    });
    story.manage("/exchange/role-assignments", &role);
    story.note("The Exchange administrator has run them; the same command again.");
    story.run_with(&with_secret, &setup);
    story.run(&["sender", "limit", "mail", "--denied", "bob@contoso.example"]);
    story.run_with(&[], &["send", "--to", "alice@contoso.example", "--subject", "Hello", "--body", "Hello."]);
    story.note("The role is taken away.");
    story.remove("/exchange/role-assignments", &json!({ "tenant": tenant, "app_id": client }));
    story.run_with(&[], &["send", "--to", "alice@contoso.example", "--subject", "Hello", "--body", "Hello."]);
    story.shows("limited_setup");
}
