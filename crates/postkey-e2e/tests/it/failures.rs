//! What goes wrong at Microsoft's side, provoked on purpose: what happened, why, what to do and who must do it.

use serde_json::{Value, json};

use crate::story::{HOSTS, Story};

const HELLO: &[&str] = &["--to", "alice@contoso.example", "--subject", "Hello", "--body", "Hello."];

fn send<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["send"], more, HELLO].concat()
}

#[test]
fn a_secret_that_expired_is_named_with_the_page_that_makes_a_new_one() {
    let mut story = Story::with_sender();
    story.note("The secret reaches its end.");
    story.change_app(&json!({ "expire_secrets": true }));
    story.run(&send(&[]));
    story.run(&send(&["--json"]));
    story.run(&["token", "mail"]);
    story.run_doctor(&[], &["mail"]);
    let secret = story.secret_file(&story.variable("CLIENT_SECRET"));
    story.run(&[
        "sender",
        "add",
        "other",
        HOSTS,
        "--tenant",
        &story.variable("TENANT_ID"),
        "--client-id",
        &story.variable("CLIENT_ID"),
        "--secret-file",
        &secret,
    ]);
    story.shows("secret_expired");
}

#[test]
fn a_tenant_that_does_not_exist_and_an_app_that_it_does_not_know_are_told_apart() {
    let mut story = Story::begin();
    let secret = story.secret_file(&story.variable("CLIENT_SECRET"));
    let (tenant, client) = (story.variable("TENANT_ID"), story.variable("CLIENT_ID"));
    let unknown = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d";
    let add = |name: &'static str, tenant: &str, client: &str| {
        [
            "sender",
            "add",
            name,
            HOSTS,
            "--tenant",
            tenant,
            "--client-id",
            client,
            "--mailbox",
            "noreply@contoso.example",
            "--secret-file",
            &secret,
        ]
        .map(str::to_owned)
    };
    for (note, name, tenant, client) in [
        ("A tenant id that nobody has.", "no-tenant", unknown, client.as_str()),
        ("A domain that nobody has verified.", "no-domain", "fabrikam.invalid", &client),
        ("Another organisation's tenant.", "other-tenant", "fabrikam.example", &client),
        ("An app that was never registered.", "no-app", &tenant, unknown),
    ] {
        story.note(note);
        let arguments = add(name, tenant, client);
        story.run(&arguments.each_ref().map(String::as_str));
    }
    story.note("What is kept of all that: no secret.");
    story.run(&["sender", "list"]);
    story.shows("wrong_tenant_and_unknown_app");
}

/// Registers an app with one permission on Microsoft Graph, `Role` or `Scope`, and gives it a secret. Nobody consents.
fn register_app(story: &Story, permission: &str, kind: &str) -> (String, String, String) {
    const GRAPH: &str = "00000003-0000-0000-c000-000000000000";
    let app = story.administer(
        "POST",
        "/applications",
        &json!({
            "displayName": "Reports",
            "signInAudience": "AzureADMyOrg",
            "requiredResourceAccess": [
                { "resourceAppId": GRAPH, "resourceAccess": [{ "id": permission, "type": kind }] }
            ],
        }),
        201,
    );
    let text = |value: &Value| value.as_str().expect("an id").to_owned();
    let (object, client) = (text(&app["id"]), text(&app["appId"]));
    let principal = story.administer("POST", "/servicePrincipals", &json!({ "appId": client }), 201);
    let credential = json!({ "passwordCredential": { "displayName": "made by hand" } });
    let secret = story.administer("POST", &format!("/applications/{object}/addPassword"), &credential, 200);
    (client, text(&principal["id"]), text(&secret["secretText"]))
}

/// Saves such an app as sender `reports`.
fn add_reports(story: &mut Story, client: &str, secret: &str) {
    let secret = story.secret_file(secret);
    let tenant = story.variable("TENANT_ID");
    let arguments = [
        "sender",
        "add",
        "reports",
        HOSTS,
        "--tenant",
        &tenant,
        "--client-id",
        client,
        "--mailbox",
        "noreply@contoso.example",
        "--expires",
        "2099-01-31",
        "--secret-file",
        &secret,
    ];
    story.run(&arguments);
}

#[test]
fn a_permission_that_nobody_consented_to_is_named_with_the_button_to_press() {
    let mut story = Story::begin();
    // Microsoft Graph's application permission Mail.Send.
    let (client, _, secret) = register_app(&story, "b633e1c5-b582-4048-a93e-9f11b44c7e96", "Role");
    story.note("An app asks for the application permission Mail.Send; nobody has consented.");
    add_reports(&mut story, &client, &secret);
    story.run(&send(&[]));
    story.run_doctor(&[], &["reports"]);
    story.note("The app may read the directory besides: then doctor can tell.");
    story.manage(&format!("/applications/{client}"), &json!({ "add_permission": "Application.Read.All" }));
    story.run_doctor(&[], &["reports"]);
    story.shows("no_consent");
}

#[test]
fn mail_send_added_as_a_delegated_permission_is_recognised() {
    let mut story = Story::begin();
    // Microsoft Graph's delegated permission Mail.Send.
    let (client, principal, secret) = register_app(&story, "e383f46e-2787-4529-855e-0e479a3ffac0", "Scope");
    let graph =
        story.administer("GET", "/servicePrincipals(appId='00000003-0000-0000-c000-000000000000')", &Value::Null, 200);
    let grant = json!({
        "clientId": principal, "consentType": "AllPrincipals", "resourceId": graph["id"], "scope": "Mail.Send",
    });
    story.administer("POST", "/oauth2PermissionGrants", &grant, 201);
    story.note("Mail.Send was added under Delegated permissions, and consented to for everybody.");
    add_reports(&mut story, &client, &secret);
    story.run(&send(&[]));
    story.run_doctor(&[], &["reports"]);
    story.note("The app may read the directory besides: then doctor can tell.");
    let app = format!("/applications/{client}");
    story.manage(&app, &json!({ "add_permission": "Application.Read.All" }));
    story.run_doctor(&[], &["reports"]);
    story.shows("delegated_by_mistake");
}

#[test]
fn a_mailbox_that_is_missing_is_told_from_one_that_may_not_be_used() {
    let mut story = Story::with_sender();
    story.note("The mailbox loses its licence.");
    story.manage("/exchange/mailboxes/noreply@contoso.example", &json!({ "missing": true }));
    story.run(&send(&[]));
    story.run(&["sender", "test", "mail"]);
    story.note("An address that nobody has.");
    story.run(&["sender", "add", "mail", "--mailbox", "nobody@contoso.example"]);
    story.run(&send(&[]));
    story.shows("mailbox_missing");
}

#[test]
fn a_mailbox_outside_the_scope_of_the_apps_exchange_role_is_refused_and_the_limit_is_proved() {
    let mut story = Story::with_sender();
    let (tenant, client) = (story.variable("TENANT_ID"), story.variable("CLIENT_ID"));
    story.note("An Exchange administrator limits the app to noreply@, and Mail.Send is taken away in Entra.");
    story.manage("/exchange/behaviour", &json!({ "role_cache_ms": 0 }));
    story.change_app(&json!({ "remove_permission": "Mail.Send" }));
    let role = json!({
        "tenant": tenant, "app_id": client, "role": "Application Mail.Send", "scope": ["noreply@contoso.example"],
    });
    story.manage("/exchange/role-assignments", &role);
    story.run(&send(&[]));
    story.run(&["sender", "limit", "mail", "--denied", "bob@contoso.example"]);
    story.note("A sender whose mailbox lies outside.");
    story.run(&["sender", "add", "mail", "--mailbox", "bob@contoso.example"]);
    story.run(&send(&[]));
    story.run(&["sender", "limit", "mail"]);
    story.shows("outside_the_role_scope");
}

#[test]
fn an_application_access_policy_is_told_from_a_missing_permission() {
    let mut story = Story::with_sender();
    let (tenant, client) = (story.variable("TENANT_ID"), story.variable("CLIENT_ID"));
    story.note("A policy in Exchange restricts the app to alice@, although Mail.Send is consented to in Entra.");
    let policy = json!({ "tenant": tenant, "app_id": client, "members": ["alice@contoso.example"] });
    story.manage("/exchange/access-policies", &policy);
    story.run(&send(&[]));
    story.run_doctor(&[], &["mail"]);
    story.shows("access_policy");
}

#[test]
fn what_an_app_can_reach_is_called_unlimited_or_unknown_when_it_is() {
    let mut story = Story::with_sender();
    story.note("The app holds Mail.Send in Entra.");
    story.run(&["sender", "limit", "mail", "--denied", "bob@contoso.example"]);
    story.note("Graph cannot answer for the mailbox that ought to be refused.");
    let down = json!({ "kind": "status", "status": 503, "code": "ErrorServerBusy" });
    story.manage("/faults", &json!({ "path": "*/users/bob@contoso.example/sendMail", "action": down }));
    story.run(&["sender", "limit", "mail", "--denied", "bob@contoso.example"]);
    story.run(&["sender", "limit", "mail", "--denied", "bob@contoso.example", "--json"]);
    story.shows("limit_absent_or_unknown");
}

#[test]
fn smtp_auth_switched_off_for_the_tenant_or_the_mailbox_is_named_with_its_command() {
    let mut story = Story::with_sender();
    let tenant = story.variable("TENANT_ID");
    story.run(&send(&["--route", "smtp"]));
    story.note("SMTP AUTH is switched off for the organization.");
    story.manage(&format!("/exchange/organizations/{tenant}"), &json!({ "smtp_auth_disabled": true }));
    story.run(&send(&["--route", "smtp"]));
    story.note("It is switched on again, but off for the mailbox.");
    story.manage(&format!("/exchange/organizations/{tenant}"), &json!({ "smtp_auth_disabled": false }));
    story.manage("/exchange/mailboxes/noreply@contoso.example", &json!({ "smtp_auth_disabled": true }));
    story.run(&send(&["--route", "smtp"]));
    story.shows("smtp_auth_disabled");
}

#[test]
fn throttling_is_waited_out_or_explained() {
    let mut story = Story::with_sender();
    story.note("Graph throttles twice, then takes it.");
    let busy = json!({ "kind": "status", "status": 429, "code": "ApplicationThrottled", "retry_after_seconds": 1 });
    story.fault("sendMail", 2, &busy);
    story.run(&send(&[]));
    story.note("Graph throttles for longer than one wants to wait.");
    let minutes =
        json!({ "kind": "status", "status": 429, "code": "ApplicationThrottled", "retry_after_seconds": 300 });
    story.fault("sendMail", 1, &minutes);
    story.run(&send(&[]));
    story.note("A recipient's address asks for throttling.");
    let arguments =
        ["send", "--wait", "0", "--to", "alice+429@contoso.example", "--subject", "Hello", "--body", "Hello."];
    story.run(&arguments);
    story.note("The token endpoint throttles.");
    story.fault("token", 1, &json!({ "kind": "status", "status": 429, "retry_after_seconds": 120 }));
    story.run(&["send", "--wait", "1", "--to", "alice@contoso.example", "--subject", "Hello", "--body", "Hello."]);
    story.shows("throttled");
}

#[test]
fn a_graph_that_is_down_for_a_while_is_waited_for() {
    let mut story = Story::with_sender();
    story.note("Graph is down at first, and says for how long.");
    let down = json!({ "kind": "status", "status": 503, "code": "ServiceUnavailable", "retry_after_seconds": 1 });
    story.fault("sendMail", 2, &down);
    story.run(&send(&[]));
    story.note("Graph is down for longer than one wants to wait.");
    let longer = json!({ "kind": "status", "status": 503, "code": "ServiceUnavailable", "retry_after_seconds": 30 });
    story.fault("sendMail", 1, &longer);
    story.run(&send(&["--wait", "10"]));
    story.note("The login host is down.");
    story.fault("token", 1, &json!({ "kind": "status", "status": 503, "retry_after_seconds": 30 }));
    story.run(&send(&["--wait", "10"]));
    story.shows("graph_down");
}

#[test]
fn a_message_whose_answer_is_lost_is_looked_for_and_not_sent_twice() {
    let mut story = Story::with_sender();
    let lost =
        |status: u16| json!({ "kind": "status", "status": status, "code": "UnknownError", "retry_after_seconds": 1 });
    let after_effect =
        |status: u16| json!({ "operation": "sendMail", "times": 1, "after_effect": true, "action": lost(status) });
    story.note("The answer is lost after Graph has taken the message.");
    story.manage("/faults", &after_effect(504));
    story.run(&send(&[]));
    story.note("Graph says 503, and yet it has taken the message.");
    story.manage("/faults", &after_effect(503));
    story.run(&send(&[]));
    story.note("The same for an app that may not look.");
    story.change_app(&json!({ "remove_permission": "Mail.ReadWrite" }));
    story.manage("/faults", &after_effect(504));
    story.run(&send(&[]));
    story.shows("answer_lost");
    let arrived = story.observe("/mailboxes/alice@contoso.example/messages");
    assert_eq!(arrived.as_array().map(Vec::len), Some(3), "{arrived}");
}

#[test]
fn a_message_too_large_for_every_route_is_refused_before_anything_is_sent() {
    let mut story = Story::with_sender();
    let large = story.file("large.bin", &vec![b'x'; 4 * 1024 * 1024]);
    let arguments = ["send", "--to", "alice@contoso.example", "--subject", "Hello", "--attach", &large];
    story.note("The app may neither upload nor use SMTP.");
    story.change_app(&json!({ "remove_permission": "Mail.ReadWrite" }));
    story.change_app(&json!({ "remove_permission": "SMTP.SendAsApp" }));
    story.run(&arguments);
    story.shows("oversize");
}
