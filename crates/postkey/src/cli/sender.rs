//! `postkey sender`: what every product calls its mail server configuration.

use std::{
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use postkey_base::EmailAddress;
use postkey_setup::{
    automatic::Patience,
    connection::{Outside, SenderConnection, in_words},
    explain::explain,
    given::{self, GivenCredential, Pasted},
    options::Reach,
    proof::{Proof, Prover},
    sender::{self as senders, Given},
};
use postkey_store::{HoldScope, Missing, OnUnknown, Sender as Saved, Stage};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    CloudArgs, limit,
    pause::{self, PauseArgs},
    sender_work::Work,
};
use crate::{
    failure::Failure,
    output::{self, GOOD, STRONG, WARN, styled},
    progress::Progress,
    settings::Settings,
    wiring,
};

/// Senders: tenant, app, mailbox and route under one name.
#[derive(Debug, Subcommand)]
pub(crate) enum Sender {
    /// Save one from given values, in any order and over several calls: incomplete, then ready, then verified
    Add(Box<Add>),
    /// All of them
    List,
    /// One of them
    Show {
        /// Its name
        name: String,
    },
    /// Send a test message and look whether it went out: ready becomes verified
    Test {
        /// Its name
        name: String,
        /// Who receives it (default: the mailbox itself)
        #[arg(long, value_name = "ADDRESS")]
        to: Option<String>,
    },
    /// Commands that limit its app to its mailbox, and a probe of what it can do today
    Limit {
        /// Its name
        name: String,
        /// A mailbox that ought to be refused; probed without sending anything
        #[arg(long, value_name = "ADDRESS")]
        denied: Option<String>,
    },
    /// Hold its mail; what is accepted for it waits
    Pause {
        /// Its name
        name: String,
        #[command(flatten)]
        how: PauseArgs,
    },
    /// Let its mail go
    Resume {
        /// Its name
        name: String,
    },
    /// What becomes of a message whose answer was lost and that cannot be looked for
    OnUnknown {
        /// Its name
        name: String,
        /// Send it again, and perhaps twice; or not, and perhaps never
        #[arg(value_enum)]
        policy: UnknownPolicy,
    },
    /// Forget one; its app and credential stay
    Remove {
        /// Its name
        name: String,
    },
}

/// What to do with a message of which nobody knows whether it went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UnknownPolicy {
    /// Send it again: it may arrive twice
    AtLeastOnce,
    /// Do not send it again: it may never arrive
    AtMostOnce,
}

impl From<UnknownPolicy> for OnUnknown {
    fn from(policy: UnknownPolicy) -> Self {
        match policy {
            UnknownPolicy::AtLeastOnce => Self::AtLeastOnce,
            UnknownPolicy::AtMostOnce => Self::AtMostOnce,
        }
    }
}

/// The four values of other products' forms, and where the tenant is.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Its name
    name: String,
    /// OAuth Client ID: the portal's Application (client) ID
    #[arg(long, value_name = "GUID")]
    client_id: Option<String>,
    /// Tenant ID: the portal's Directory (tenant) ID, or a domain of the tenant
    #[arg(long, visible_alias = "tenant-id", value_name = "TENANT")]
    tenant: Option<String>,
    /// Email Address: the mailbox that sends
    #[arg(long, visible_alias = "email", value_name = "ADDRESS")]
    mailbox: Option<String>,
    /// Secret Key: a file that holds the secret's Value (- for standard input)
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// In place of the secret: a certificate of the app with its private key (PEM; - for standard input)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret_file", "expires"])]
    certificate: Option<PathBuf>,
    /// The certificate's private key, where it lies in a file of its own
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// In place of the secret: a file with the token of another issuer that the app trusts, read anew at each use
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret_file", "certificate", "expires"])]
    federated_token_file: Option<PathBuf>,
    /// When the secret ends, as the portal shows it: 2028-11-24
    #[arg(long, value_name = "DATE")]
    expires: Option<String>,
    #[command(flatten)]
    cloud: CloudArgs,
}

impl Sender {
    pub(crate) async fn run(self, settings: &Settings, json: bool) -> Result<(), Failure> {
        let outside = wiring::open(settings).await?;
        match self {
            Self::Add(add) => add.run(settings, &outside, json).await,
            Self::List => list(&outside, json).await,
            Self::Show { name } => {
                let sender = find(&outside, &name).await?;
                let work = Work::read(&outside).await?;
                if json {
                    output::json(&work.beside(&sender));
                } else {
                    print(&sender);
                    work.print(&sender, outside.clock.now());
                }
                Ok(())
            }
            Self::Pause { name, how } => {
                let sender = find(&outside, &name).await?;
                pause::pause(&outside, HoldScope::Sender(sender.id), &format!("mail of sender {name}"), how, json).await
            }
            Self::Resume { name } => {
                let sender = find(&outside, &name).await?;
                pause::resume(&outside, HoldScope::Sender(sender.id), &format!("mail of sender {name}"), json).await
            }
            Self::OnUnknown { name, policy } => {
                find(&outside, &name).await?;
                outside.store.set_on_unknown(&name, policy.into()).await?;
                if json {
                    output::json(&find(&outside, &name).await?);
                    return Ok(());
                }
                output::note(match policy {
                    UnknownPolicy::AtLeastOnce => {
                        format!("a message of {name} whose answer was lost is sent again: it may arrive twice")
                    }
                    UnknownPolicy::AtMostOnce => {
                        format!("a message of {name} whose answer was lost is not sent again: it may never arrive")
                    }
                });
                Ok(())
            }
            Self::Test { name, to } => test(settings, &outside, &name, to, json).await,
            Self::Limit { name, denied } => limit::run(&outside, &name, denied, json).await,
            Self::Remove { name } => {
                if !outside.store.remove_sender(&name).await? {
                    find(&outside, &name).await?;
                }
                output::note(format_args!(
                    "sender {name} is forgotten; its app registration still exists in the tenant"
                ));
                Ok(())
            }
        }
    }
}

impl Add {
    async fn run(self, settings: &Settings, outside: &Outside, json: bool) -> Result<(), Failure> {
        let cloud = self.cloud.cloud()?;
        let complete_but_for_secret = match outside.store.sender(&self.name).await? {
            Some(known) => {
                let values = &known.values;
                (self.client_id.is_some() || values.client_id.is_some())
                    && (self.tenant.is_some() || values.tenant.is_some())
            }
            None => self.client_id.is_some() && self.tenant.is_some(),
        };
        let credential = match self.credential()? {
            Some(given) => Some(given),
            None if complete_but_for_secret && std::io::stdin().is_terminal() && !json => {
                ask_secret("Secret Key (the Value; empty to give it later)")?.map(GivenCredential::Secret)
            }
            None => None,
        };
        let given = Given {
            client_id: self.client_id,
            tenant: self.tenant,
            mailbox: self.mailbox,
            credential,
            expires: self.expires.as_deref().map(end_of).transpose()?,
        };
        let has_secret = matches!(given.credential, Some(GivenCredential::Secret(_)));
        let saved = senders::add(outside, &self.name, &cloud, given).await?;
        if json {
            output::json(&saved);
            return Ok(());
        }
        print(&saved);
        let current = match saved.values.app {
            Some(app) => outside.store.current_credential(app).await?,
            None => None,
        };
        if has_secret && current.is_some_and(|credential| credential.ends_at.is_none()) {
            output::note(format_args!(
                "\n{} when the secret ends is unknown: give --expires with the date that the portal shows beside it",
                styled(WARN, "!")
            ));
        }
        let command = settings.command();
        match &saved.stage {
            Stage::Incomplete { missing } => {
                output::note(format_args!(
                    "\nStill missing: {}. Give it with: {command} sender add {} {}",
                    in_words(missing),
                    self.name,
                    options_for(missing)
                ));
            }
            Stage::Ready => output::note(format_args!("\nNext: {command} sender test {}", self.name)),
            Stage::Verified { .. } => {}
        }
        Ok(())
    }
}

impl Add {
    /// What the options name, with all that is in the files.
    fn credential(&self) -> Result<Option<GivenCredential>, Failure> {
        if let Some(path) = &self.secret_file {
            return Ok(Some(GivenCredential::Secret(Pasted::new(read_secret(path)?))));
        }
        if let Some(path) = &self.certificate {
            let key = self.key.as_deref().map(read).transpose()?;
            let certificate = given::certificate(&read(path)?, key.as_ref().map(|key| key.as_slice()))?;
            return Ok(Some(GivenCredential::Certificate(certificate)));
        }
        let Some(path) = &self.federated_token_file else { return Ok(None) };
        // It is read again and again, from wherever postkey will run then.
        let path = std::path::absolute(path).map_err(|cause| Failure::file(path, "found", cause))?;
        Ok(Some(GivenCredential::Federated(path)))
    }
}

/// The options that give what is missing.
fn options_for(missing: &[Missing]) -> String {
    let options = missing.iter().map(|one| match one {
        Missing::ClientId => "--client-id GUID",
        Missing::Tenant => "--tenant TENANT",
        Missing::Mailbox => "--mailbox ADDRESS",
        Missing::Credential => "--secret-file FILE",
    });
    options.collect::<Vec<_>>().join(" ")
}

/// The secret, which never stands on a command line: other users of the machine can read those.
fn read_secret(path: &Path) -> Result<String, Failure> {
    let bytes = read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(std::io::Error::other);
    Ok(text.map_err(|cause| Failure::file(path, "read as text", cause))?.to_owned())
}

/// All of a small file, or of standard input for `-`.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    /// A chain of certificates and a key are some kilobytes, a secret is less; a wrong file is not read to its end.
    const LIMIT: u64 = 64 * 1024;
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT as usize));
    let done = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(LIMIT).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes))
    };
    done.map_err(|cause| Failure::file(path, "read", cause))?;
    Ok(bytes)
}

fn ask_secret(prompt: &str) -> Result<Option<Pasted>, Failure> {
    let typed = dialoguer::Password::new().with_prompt(prompt).allow_empty_password(true).interact();
    let typed = typed.map_err(|cause| {
        Failure::usage(format!("the secret could not be read: {cause}"), "Give it with --secret-file.")
    })?;
    Ok((!typed.is_empty()).then(|| Pasted::new(typed)))
}

/// The portal shows a day; the secret is good until that day begins at the latest, so the earliest reading is the safe one.
fn end_of(text: &str) -> Result<Timestamp, Failure> {
    let malformed =
        || Failure::usage(format!("{text:?} is not a date"), "Give --expires as year-month-day, such as 2028-11-24.");
    if let Ok(at) = text.trim().parse::<Timestamp>() {
        return Ok(at);
    }
    let date: Date = text.trim().parse().map_err(|_| malformed())?;
    TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).map_err(|_| malformed())
}

pub(super) async fn find(outside: &Outside, name: &str) -> Result<Saved, Failure> {
    let found = outside.store.sender(name).await?;
    found.ok_or_else(|| postkey_setup::connection::ConnectionError::NoSender(name.to_owned()).into())
}

async fn list(outside: &Outside, json: bool) -> Result<(), Failure> {
    let all = outside.store.senders().await?;
    let work = Work::read(outside).await?;
    if json {
        output::json(&all.iter().map(|sender| work.beside(sender)).collect::<Vec<_>>());
        return Ok(());
    }
    if all.is_empty() {
        output::note("There is no sender yet: `postkey setup` makes one, or `postkey sender add` from given values.");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|sender| {
            let shown = |value: Option<String>| value.unwrap_or_else(|| "-".into());
            vec![
                sender.values.name.clone(),
                shown(sender.values.mailbox.as_ref().map(ToString::to_string)),
                stage(&sender.stage),
                work.in_words(sender),
                shown(sender.values.client_id.map(|id| id.to_string())),
                shown(sender.values.tenant.map(|id| id.to_string())),
            ]
        })
        .collect();
    output::table(&["NAME", "MAILBOX", "STAGE", "MAIL", "CLIENT ID", "TENANT ID"], &rows);
    Ok(())
}

fn stage(stage: &Stage) -> String {
    match stage {
        Stage::Incomplete { missing } => format!("incomplete: {}", in_words(missing)),
        Stage::Ready => "ready".into(),
        Stage::Verified { at } => format!("verified {}", at.strftime("%Y-%m-%d %H:%M UTC")),
    }
}

fn print(sender: &Saved) {
    let values = &sender.values;
    let style = match sender.stage {
        Stage::Incomplete { .. } => WARN,
        Stage::Ready => STRONG,
        Stage::Verified { .. } => GOOD,
    };
    output::line(format_args!("{}  {}", styled(STRONG, &values.name), styled(style, stage(&sender.stage))));
    let shown = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let secret = match (&sender.stage, sender.staged_secret) {
        (_, true) => "kept, not tried yet",
        (Stage::Incomplete { missing }, _) if missing.contains(&postkey_store::Missing::Credential) => "-",
        _ => "has produced a token",
    };
    output::fields(&[
        ("Email Address", shown(values.mailbox.as_ref().map(ToString::to_string))),
        ("OAuth Client ID", shown(values.client_id.map(|id| id.to_string()))),
        ("Tenant ID", shown(values.tenant.map(|id| id.to_string()))),
        ("Credential", secret.into()),
    ]);
}

pub(super) async fn test(
    settings: &Settings,
    outside: &Outside,
    name: &str,
    to: Option<String>,
    json: bool,
) -> Result<(), Failure> {
    let connection = outside.sender(name).await?;
    let to = match to {
        Some(text) => text.parse().map_err(|error: postkey_base::address::AddressError| {
            Failure::usage(error.to_string(), "Give --to as name@domain.")
        })?,
        None => connection.mailbox.clone(),
    };
    let proof = prove(settings, outside, &connection, &to).await?;
    if json {
        output::json(&json!({ "sender": find(outside, name).await?, "proof": proof }));
    } else {
        output::line(format_args!("{} {}", styled(GOOD, "verified:"), proof.in_words()));
        output::note(format_args!(
            "\nNext: {} send --sender {name} --to someone@example.com --subject Hello --body 'It works'",
            settings.command()
        ));
    }
    Ok(())
}

/// Without long waits: what a person pasted is settled or wrong.
async fn prove(
    settings: &Settings,
    outside: &Outside,
    connection: &SenderConnection,
    to: &EmailAddress,
) -> Result<Proof, Failure> {
    let progress = Progress::new();
    let granted = postkey_setup::abilities::granted(connection).await;
    let brief = std::time::Duration::from_secs(30);
    let prover = Prover {
        connection: &connection.app,
        outside,
        mailbox: &connection.mailbox,
        test_to: to,
        sender: &connection.sender.values.name,
        reach: Reach::TenantWide,
        smtp: granted.smtp,
        read_write: granted.graph_read_write,
        watcher: &progress,
        patience: Patience { consent: brief, exchange: brief, ..Patience::default() },
    };
    match prover.prove().await {
        Ok(proof) => Ok(proof),
        Err(error) => Err(Failure::explained(explain(connection, &settings.command(), &error).await)),
    }
}
