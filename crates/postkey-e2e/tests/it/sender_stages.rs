//! The four values of other products' forms, pasted by people: what is recognised, what is kept, and what is never replaced.

use serde_json::json;

use crate::story::{HOSTS, Story};

const HELLO: [&str; 6] = ["--to", "alice@contoso.example", "--subject", "Hello", "--body", "Hello."];

#[test]
fn a_sender_grows_from_incomplete_through_ready_to_verified() {
    let mut story = Story::begin();
    let secret = story.secret_file(&story.variable("CLIENT_SECRET"));
    let (tenant, client) = (story.variable("TENANT_ID"), story.variable("CLIENT_ID"));
    story.run(&[&["send"][..], &HELLO].concat());
    story.run(&["sender", "add", "mail", HOSTS, "--client-id", &client]);
    story.run(&["sender", "add", "mail", HOSTS, "--tenant", &tenant]);
    story.run(&[&["send"][..], &HELLO].concat());
    story.run(&["sender", "add", "mail", "--mailbox", "noreply@contoso.example"]);
    story.run(&["sender", "add", "mail", "--secret-file", &secret]);
    story.run(&["sender", "test", "mail"]);
    story.run(&["sender", "show", "mail"]);
    story.run(&["sender", "show", "mail", "--json"]);
    story.note("The same secret once more, now with its date, is no second credential.");
    story.run(&["sender", "add", "mail", "--secret-file", &secret, "--expires", "2099-01-31"]);
    story.run(&["credential", "list"]);
    story.shows("sender_stages");
}

#[test]
fn a_secret_may_come_first_and_is_tried_as_soon_as_it_can_be() {
    let mut story = Story::begin();
    let secret = story.secret_file(&story.variable("CLIENT_SECRET"));
    let (tenant, client) = (story.variable("TENANT_ID"), story.variable("CLIENT_ID"));
    story.run(&["sender", "add", "mail", HOSTS, "--secret-file", &secret]);
    story.run(&["sender", "add", "mail", HOSTS, "--mailbox", "noreply@contoso.example", "--client-id", &client]);
    story.run(&["sender", "add", "mail", HOSTS, "--tenant", &tenant]);
    story.shows("secret_first");
}

#[test]
fn what_was_pasted_into_the_wrong_field_or_damaged_is_recognised_without_asking_anybody() {
    let mut story = Story::begin();
    let (tenant, client) = (story.variable("TENANT_ID"), story.variable("CLIENT_ID"));
    let right = story.variable("CLIENT_SECRET");
    let broken = format!("{} {}", &right[..20], &right[20..]);
    let long = right.repeat(3);
    for (note, pasted) in [
        ("The Secret ID instead of the Value.", "6f9d2c1b-3a4e-4d5f-8a7b-0c1d2e3f4a5b"),
        ("What the portal shows once the page was left.", "wZJ******************"),
        ("Cut off.", &right[..9]),
        ("Broken by a blank.", &broken),
        ("Pasted three times.", &long),
        ("A private key.", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----"),
        ("Nothing.", "  "),
    ] {
        story.note(note);
        let secret = story.secret_file(pasted);
        story.run(&[
            "sender",
            "add",
            "mail",
            HOSTS,
            "--tenant",
            &tenant,
            "--client-id",
            &client,
            "--secret-file",
            &secret,
        ]);
    }
    story.note("The two ids in each other's fields.");
    story.run(&["sender", "add", "mail", HOSTS, "--tenant", &client, "--client-id", &tenant]);
    story.note("One id in both.");
    story.run(&["sender", "add", "mail", HOSTS, "--tenant", &client, "--client-id", &client]);
    story.note("No id at all.");
    story.run(&["sender", "add", "mail", HOSTS, "--client-id", "My application"]);
    story.run(&["sender", "add", "mail", HOSTS, "--tenant", "Contoso Ltd"]);
    story.run(&["sender", "add", "mail", HOSTS, "--mailbox", "noreply"]);
    story.note("The Secret ID on standard input.");
    let from_input =
        ["sender", "add", "mail", HOSTS, "--tenant", &tenant, "--client-id", &client, "--secret-file", "-"];
    story.run_with_input(&from_input, "6f9d2c1b-3a4e-4d5f-8a7b-0c1d2e3f4a5b\n");
    story.run(&["sender", "list"]);
    let asked: Vec<_> = story.observe("/calls").as_array().cloned().unwrap_or_default();
    let tokens = asked.iter().filter(|call| call["operation"] == "token").count();
    assert_eq!(tokens, 0, "a value that cannot be right was sent to Entra");
    story.shows("pasted_wrongly");
}

#[test]
fn a_replacement_that_fails_leaves_the_secret_in_use_alone() {
    let mut story = Story::with_sender();
    story.note("The secret of another app.");
    let other = story.secret_file(&story.variable("ADMIN_CLIENT_SECRET"));
    story.run(&["sender", "add", "mail", "--secret-file", &other]);
    story.note("The login host is down just then.");
    story.fault("token", 9, &json!({ "kind": "status", "status": 503 }));
    story.run(&["sender", "add", "mail", "--secret-file", &other]);
    story.remove("/faults", &json!(null));
    story.note("The one in use still works.");
    story.run(&[&["send"][..], &HELLO].concat());
    story.run(&["credential", "list"]);
    story.note("An end that lies in the past.");
    story.run(&["sender", "add", "mail", "--expires", "2020-02-29"]);
    story.shows("failed_replacement");
}

#[test]
fn several_senders_and_none_named_are_listed_instead_of_guessed() {
    let mut story = Story::with_sender();
    story.add_sender("billing");
    story.forget();
    story.run(&[&["send"][..], &HELLO].concat());
    story.run(&[&["send", "--sender", "billings"][..], &HELLO].concat());
    story.run(&["token"]);
    story.run(&["sender", "test", "nobody"]);
    story.run(&[&["send", "--sender", "billing"][..], &HELLO].concat());
    story.run(&["sender", "list"]);
    story.shows("several_senders");
}
