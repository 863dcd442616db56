//! `postkey setup --manual`: the walk through the portal.

use std::io::IsTerminal;

use postkey_identity::Cloud;
use postkey_setup::{
    connection::in_words,
    manual::{self, Walk},
    options::SetupName,
    pasted::{self, PasteError},
    sender::{self as senders, Given, SenderError},
};
use postkey_store::Stage;

use super::sender;
use crate::{
    failure::Failure,
    output::{self, BAD, FAINT, GOOD, STRONG, WARN, styled},
    settings::Settings,
    wiring,
};

/// One step of the portal at a time, each value checked before the next.
pub(super) async fn walk(
    settings: &Settings,
    name: &SetupName,
    cloud: Cloud,
    mailbox: Option<String>,
    test_to: Option<String>,
) -> Result<(), Failure> {
    let (outside, name) = (wiring::open(settings).await?, name.as_str());
    let walk = Walk::new(&cloud);
    let mut given = Given { mailbox, ..Given::default() };
    let steps = walk.steps();
    let mut client = None;
    let mut number = 0;
    while let Some(step) = steps.get(number) {
        output::note(format_args!(
            "\n{} {}",
            styled(FAINT, format_args!("{}/{}", number + 1, steps.len())),
            styled(STRONG, step.title)
        ));
        if let Some(link) = walk.link(step, client) {
            output::note(format_args!("  {link}"));
        }
        for line in step.instructions {
            output::note(format_args!("  {line}"));
        }
        let Some(value) = step.asks else {
            pause()?;
            number += 1;
            continue;
        };
        let next = loop {
            let typed = ask_value(value, given.mailbox.as_deref())?;
            if let Err(error) = walk.take(value, typed, &mut given) {
                tell(&error);
                if error == PasteError::SameIds {
                    break of_client_id(steps);
                }
                continue;
            }
            // Saved and checked as far as it goes; a refused secret is asked for again.
            let mut saved = senders::add(&outside, name, &cloud, given.clone()).await;
            if let Err(SenderError::Paste(PasteError::Swapped { client, tenant })) = &saved {
                output::note(format_args!(
                    "  {} the two ids were typed into each other's place: {client} is the tenant. They are taken the right way round",
                    styled(WARN, "!")
                ));
                (given.client_id, given.tenant) = (Some(tenant.to_string()), Some(client.to_string()));
                saved = senders::add(&outside, name, &cloud, given.clone()).await;
            }
            client = given.client_id.as_deref().and_then(|text| pasted::client_id(text).ok());
            match saved {
                Ok(saved) => {
                    output::note(format_args!("  {} {}", styled(GOOD, "✓"), so_far(&saved.stage)));
                    break number + 1;
                }
                Err(error) => {
                    tell(&error);
                    walk.forget(value, &mut given);
                }
            }
        };
        number = next;
    }
    sender::test(settings, &outside, name, test_to, false).await
}

/// Which of two equal ids is the wrong one, nobody can tell: both are asked for again.
fn of_client_id(steps: &[manual::PortalStep]) -> usize {
    steps.iter().position(|step| step.asks == Some(manual::Value::ClientId)).unwrap_or(0)
}

/// How far the walk has come.
fn so_far(reached: &Stage) -> String {
    match reached {
        Stage::Incomplete { missing } => format!("taken; still to come: {}", in_words(missing)),
        Stage::Ready | Stage::Verified { .. } => "all is there".into(),
    }
}

fn tell(error: &dyn postkey_base::Diagnose) {
    let found = error.diagnosis();
    output::note(format_args!("  {} {}", styled(BAD, "✗"), found.what));
    output::details(&found, "    ");
}

fn no_terminal(cause: impl std::fmt::Display) -> Failure {
    Failure::usage(
        format!("--manual needs answers and found none: {cause}"),
        "Run it on a terminal, or feed one answer a line; or give the values with `postkey sender add`. What was taken so far is \
         saved.",
    )
}

/// A line from a pipe, or a prompt on a terminal.
fn line(prompt: &str) -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        return dialoguer::Input::<String>::new()
            .with_prompt(prompt)
            .allow_empty(true)
            .interact_text()
            .map_err(no_terminal);
    }
    output::note(format_args!("{prompt}:"));
    let mut text = String::new();
    match std::io::stdin().read_line(&mut text) {
        Ok(0) => Err(no_terminal("the input ended")),
        Ok(_) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(cause) => Err(no_terminal(cause)),
    }
}

fn pause() -> Result<(), Failure> {
    line("  Done? Press Enter").map(drop)
}

fn ask_value(value: manual::Value, suggested: Option<&str>) -> Result<manual::Typed, Failure> {
    if value == manual::Value::Secret && std::io::stdin().is_terminal() {
        let typed = dialoguer::Password::new()
            .with_prompt(format!("  {}", value.prompt()))
            .allow_empty_password(true)
            .interact();
        return typed.map(manual::Typed::new).map_err(no_terminal);
    }
    let prompt = match (value, suggested) {
        (manual::Value::Mailbox, Some(suggested)) => format!("  {} [{suggested}]", value.prompt()),
        _ => format!("  {}", value.prompt()),
    };
    line(&prompt).map(manual::Typed::new)
}
