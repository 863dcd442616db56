//! `postkey webhook`: who is told what becomes of messages.

use clap::Subcommand;
use postkey_base::Who;
use postkey_store::NewWebhook;
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    failure::Failure,
    output::{self, GOOD, STRONG, WARN, styled},
    settings::Settings,
    wiring,
};

/// Who is told what becomes of messages.
#[derive(Debug, Subcommand)]
pub(crate) enum Webhook {
    /// Add one, and show once the secret that signs what it is told
    Add {
        /// Its name
        name: String,
        /// Where it is told; https
        url: String,
        /// What it is told of, such as message.failed; may be given again (default: everything)
        #[arg(long, value_name = "KIND")]
        event: Vec<String>,
    },
    /// All of them
    List,
    /// Tell it nothing, until it is enabled again
    Disable {
        /// Its name
        name: String,
    },
    /// Tell it again
    Enable {
        /// Its name
        name: String,
    },
    /// Forget one, with what it was still to be told
    Remove {
        /// Its name
        name: String,
    },
}

impl Webhook {
    pub(crate) async fn run(self, settings: &Settings, json: bool) -> Result<(), Failure> {
        let store = wiring::open(settings).await?.store;
        let switch = |name: String, off| {
            let store = store.clone();
            async move {
                if store.webhook(&name).await?.is_none() {
                    return Err(unknown(&name));
                }
                let saved = store.disable_webhook(&name, off).await?;
                output::note(format_args!("webhook {} is {}", saved.name, if off { "disabled" } else { "enabled" }));
                Ok(())
            }
        };
        match self {
            Self::Add { name, url, event } => {
                let url = checked(&url, settings.queueing.webhooks.allow_http)?;
                if store.webhook(&name).await?.is_some() {
                    return Err(Failure::new(
                        "webhook.exists",
                        format!("there is a webhook {name:?} already"),
                        format!(
                            "Choose another name, or remove it with `{} webhook remove {name}`.",
                            settings.command()
                        ),
                        Who::You,
                    ));
                }
                let secret = secret();
                let new = NewWebhook {
                    name,
                    url: url.to_string(),
                    events: event,
                    secret: Zeroizing::new(secret.as_bytes().to_vec()),
                };
                let saved = store.add_webhook(&new).await?;
                if json {
                    output::json(&json!({ "webhook": saved, "secret": *secret }));
                    return Ok(());
                }
                output::line(format_args!("{} webhook {} is ready\n", styled(GOOD, "✓"), styled(STRONG, &saved.name)));
                output::fields(&[("URL", saved.url), ("signed with", styled(STRONG, &*secret))]);
                output::note(format_args!("\n{} shown once: write it into the receiver now", styled(WARN, "!")));
                Ok(())
            }
            Self::List => {
                let all = store.webhooks().await?;
                if json {
                    output::json(&all);
                    return Ok(());
                }
                if all.is_empty() {
                    output::note("There is no webhook yet: `postkey webhook add NAME URL` makes one.");
                    return Ok(());
                }
                let rows: Vec<Vec<String>> = all
                    .into_iter()
                    .map(|one| {
                        let state = if one.disabled_at.is_some() { "disabled" } else { "enabled" };
                        let events = if one.events.is_empty() { "everything".into() } else { one.events.join(", ") };
                        vec![one.name, state.into(), events, one.url]
                    })
                    .collect();
                output::table(&["NAME", "STATE", "TOLD OF", "URL"], &rows);
                Ok(())
            }
            Self::Disable { name } => switch(name, true).await,
            Self::Enable { name } => switch(name, false).await,
            Self::Remove { name } => {
                if !store.remove_webhook(&name).await? {
                    return Err(unknown(&name));
                }
                output::note(format_args!("webhook {name} is forgotten"));
                Ok(())
            }
        }
    }
}

fn unknown(name: &str) -> Failure {
    Failure::new("webhook.unknown", format!("there is no webhook {name:?}"), "See `postkey webhook list`.", Who::You)
}

fn checked(text: &str, allow_http: bool) -> Result<Url, Failure> {
    let wrong = |what: String, remedy: &str| Failure::usage(what, remedy);
    let url: Url =
        text.parse().map_err(|_| wrong(format!("{text:?} is no address"), "Give it as https://host/path."))?;
    match url.scheme() {
        _ if url.host().is_none() => Err(wrong(format!("{text:?} names no host"), "Give it as https://host/path.")),
        _ if !url.username().is_empty() || url.password().is_some() => Err(wrong(
            "the address carries a user or a password".into(),
            "Leave them out: the receiver knows us by the signature.",
        )),
        "https" => Ok(url),
        "http" if allow_http => Ok(url),
        _ => Err(wrong(
            format!("{text:?} is not https"),
            "Give an https address, or set allow_http = true under [webhooks] where the way there is safe.",
        )),
    }
}

/// 244 bits, in letters that survive every form.
fn secret() -> Zeroizing<String> {
    let [one, other] = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    Zeroizing::new(format!("whsec_{}{}", one.simple(), other.simple()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_goes_over_https_and_carries_no_password() {
        for (text, allow_http, good) in [
            ("https://hooks.contoso.example/mail", false, true),
            ("http://hooks.contoso.example/mail", false, false),
            ("http://hooks.contoso.example/mail", true, true),
            ("https://user:hush@hooks.contoso.example/", false, false),
            ("ftp://hooks.contoso.example/", true, false),
            ("hooks", true, false),
        ] {
            assert_eq!(checked(text, allow_http).is_ok(), good, "{text} {allow_http}");
        }
    }
}
