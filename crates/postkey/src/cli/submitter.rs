//! `postkey submitter`: programs and devices that may hand in mail, with what each may do.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use jiff::Timestamp;
use postkey_base::{EmailAddress, Who};
use postkey_setup::connection::{ConnectionError, Outside};
use postkey_store::{
    Hold, HoldScope, LocalSecret, NewSubmitter, Scope, Sender, Submitter as Saved, SubmitterId, SubmitterRules,
};
use postkey_submission::EMPTY_PATH;
use postkey_submission::passwords::{LocalPassword, new_api_key, new_password};
use serde::Serialize;
use serde_json::json;

use super::{
    pause::{self, PauseArgs},
    values::{Size, ago, size},
};
use crate::{
    failure::Failure,
    output::{self, BAD, FAINT, GOOD, STRONG, WARN, styled},
    serve::places::Places,
    settings::Settings,
    wiring,
};

/// Submitters: programs and devices that may hand in mail.
#[derive(Debug, Subcommand)]
pub(crate) enum Submitter {
    /// Add one, and show its password once with everything its form asks for
    Add(Box<Add>),
    /// Change what one may do; what is not named stays
    Change(Box<Change>),
    /// All of them
    List,
    /// One of them: rules, passwords with their last use
    Show {
        /// Its name
        name: String,
    },
    /// Give it a second password; both work until the older one is retired
    Rotate {
        /// Its name
        name: String,
        /// Drop the older password, once the newer one has been used
        #[arg(long)]
        retire_old: bool,
        /// Do it even if the newer one was never used, or drop the oldest of two to make a third
        #[arg(long)]
        force: bool,
    },
    /// Refuse what it hands in, until it is enabled again
    Disable {
        /// Its name
        name: String,
    },
    /// Take its mail again
    Enable {
        /// Its name
        name: String,
    },
    /// Go on taking its mail, but hold it
    Pause {
        /// Its name
        name: String,
        #[command(flatten)]
        how: PauseArgs,
    },
    /// Let what is held go
    Resume {
        /// Its name
        name: String,
    },
    /// Forget it with its passwords and API keys; what it handed in stays
    Remove {
        /// Its name
        name: String,
    },
}

/// A new submitter.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Its name, and its user name; a short one fits every device
    name: String,
    /// Sender it may use; may be given again, the first is its default (default: the only sender)
    #[arg(long, value_name = "NAME")]
    sender: Vec<String>,
    #[command(flatten)]
    rules: Rules,
    /// Make an API key as well, with the scopes send and outbox.read
    #[arg(long)]
    api_key: bool,
}

/// What is to change.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Its name
    name: String,
    /// Senders it may use from now on, all of them; the first is its default
    #[arg(long, value_name = "NAME")]
    sender: Vec<String>,
    #[command(flatten)]
    rules: Rules,
}

/// What a submitter may do. Of options that may be given again, those of one call replace all that were.
#[derive(Debug, Args)]
struct Rules {
    /// More addresses, or @domain, that it may send as, beyond its senders' mailboxes; <> for reports without a
    /// reverse-path; may be given again
    #[arg(long, value_name = "ADDRESS|@DOMAIN")]
    also_as: Vec<String>,
    /// Domain it may send to; may be given again (default: any)
    #[arg(long, value_name = "DOMAIN")]
    recipient_domain: Vec<String>,
    /// Network its password and keys may be used from; may be given again (default: any)
    #[arg(long, value_name = "CIDR")]
    network: Vec<String>,
    /// Network from which it needs no password, for old devices; with --force-from, --recipient-domain and --per-day
    #[arg(long, value_name = "CIDR")]
    no_auth_from: Vec<String>,
    /// Write this address into MAIL FROM and From, whatever the device says
    #[arg(long, value_name = "ADDRESS")]
    force_from: Option<String>,
    /// Messages in any minute
    #[arg(long, value_name = "NUMBER")]
    per_minute: Option<u32>,
    /// Messages in any 24 hours
    #[arg(long, value_name = "NUMBER")]
    per_day: Option<u32>,
    /// Recipients in any 24 hours
    #[arg(long, value_name = "NUMBER")]
    recipients_per_day: Option<u32>,
    /// Bytes in any 24 hours, such as 500MB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    bytes_per_day: Option<Size>,
    /// Bytes of one message, such as 20MB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    message_size: Option<Size>,
    /// Recipients of one message
    #[arg(long, value_name = "NUMBER")]
    recipients_per_message: Option<u32>,
    /// How its messages rank, unless one says otherwise
    #[arg(long, value_enum)]
    priority: Option<super::values::Rank>,
}

impl Submitter {
    pub(crate) async fn run(self, settings: &Settings, json: bool) -> Result<(), Failure> {
        let outside = wiring::open(settings).await?;
        match self {
            Self::Add(add) => add.run(settings, &outside, json).await,
            Self::Change(change) => change.run(&outside, json).await,
            Self::List => list(&outside, json).await,
            Self::Show { name } => {
                let submitter = find(&outside, &name).await?;
                show(&outside, &submitter, json).await
            }
            Self::Rotate { name, retire_old: true, force } => retire(&outside, &name, force, json).await,
            Self::Rotate { name, retire_old: false, force } => rotate(settings, &outside, &name, force, json).await,
            Self::Disable { name } => switch(&outside, &name, true, json).await,
            Self::Enable { name } => switch(&outside, &name, false, json).await,
            Self::Pause { name, how } => {
                let submitter = find(&outside, &name).await?;
                let what = format!("mail of submitter {}", submitter.name);
                pause::pause(&outside, HoldScope::Submitter(submitter.id), &what, how, json).await
            }
            Self::Resume { name } => {
                let submitter = find(&outside, &name).await?;
                let what = format!("mail of submitter {}", submitter.name);
                pause::resume(&outside, HoldScope::Submitter(submitter.id), &what, json).await
            }
            Self::Remove { name } => {
                if !outside.store.remove_submitter(&name).await? {
                    return Err(unknown(&name));
                }
                output::note(format_args!("submitter {name} is forgotten; what it handed in is still delivered"));
                Ok(())
            }
        }
    }
}

impl Add {
    async fn run(self, settings: &Settings, outside: &Outside, json: bool) -> Result<(), Failure> {
        check_name(&self.name)?;
        let senders = match self.sender.is_empty() {
            true => vec![outside.only_sender().await.map_err(which_sender)?.sender.values.name],
            false => self.sender,
        };
        expect_senders(outside, &senders).await?;
        let rules = self.rules.applied_to(SubmitterRules::default())?;
        if outside.store.submitter(&self.name).await?.is_some() {
            return Err(Failure::new(
                "submitter.exists",
                format!("there is a submitter {:?} already", self.name),
                format!(
                    "Choose another name, change this one with `{0} submitter change {1}`, or give it a new password with `{0} submitter rotate {1}`.",
                    settings.command(),
                    self.name
                ),
                Who::You,
            ));
        }
        // A device that is known by its network has no password to lose.
        let with_password = rules.unauthenticated_from.is_empty();
        let key = outside.store.local_secret_key().await?;
        let (password, mac) = new_password(&key);
        let (api_key, api_mac) = new_api_key(&key);
        let new = NewSubmitter { name: self.name.clone(), senders, rules };
        let with_api_key = self.api_key;
        let saved = outside
            .store
            .transaction("submitter.add", async |transaction| {
                let saved = transaction.add_submitter(&new).await?;
                if with_password {
                    transaction.add_password(&new.name, &mac, false).await?;
                }
                if with_api_key {
                    let scopes = [Scope::Send, Scope::OutboxRead];
                    transaction.add_api_key(&new.name, Some(&new.name), &scopes, &api_mac, None).await?;
                }
                Ok(saved)
            })
            .await?;
        let handed = Handed {
            password: with_password.then_some(&password),
            api_key: with_api_key.then_some(&api_key),
            second: false,
        };
        hand_over(settings, outside, &saved, &handed, json).await
    }
}

impl Change {
    async fn run(self, outside: &Outside, json: bool) -> Result<(), Failure> {
        let known = find(outside, &self.name).await?;
        let senders = match self.sender.is_empty() {
            true => names(outside, &known).await?,
            false => self.sender,
        };
        expect_senders(outside, &senders).await?;
        let rules = self.rules.applied_to(known.rules)?;
        let saved = outside.store.update_submitter(&known.name, &senders, &rules).await?;
        show(outside, &saved, json).await
    }
}

impl Rules {
    /// What is named here in place of what was there.
    fn applied_to(self, mut rules: SubmitterRules) -> Result<SubmitterRules, Failure> {
        fn replace<T>(place: &mut T, given: Option<T>) {
            if let Some(given) = given {
                *place = given;
            }
        }
        let given = |list: Vec<String>| (!list.is_empty()).then_some(list);
        replace(&mut rules.also_as, given(self.also_as));
        replace(&mut rules.recipient_domains, given(self.recipient_domain));
        replace(&mut rules.networks, given(self.network));
        replace(&mut rules.unauthenticated_from, given(self.no_auth_from));
        if let Some(text) = self.force_from {
            rules.force_from = Some(address(&text, "--force-from")?);
        }
        rules.messages_per_minute = self.per_minute.or(rules.messages_per_minute);
        rules.messages_per_day = self.per_day.or(rules.messages_per_day);
        rules.recipients_per_day = self.recipients_per_day.or(rules.recipients_per_day);
        rules.bytes_per_day = self.bytes_per_day.map(Size::bytes).or(rules.bytes_per_day);
        rules.message_bytes = self.message_size.map(Size::bytes).or(rules.message_bytes);
        rules.recipients_per_message = self.recipients_per_message.or(rules.recipients_per_message);
        replace(&mut rules.priority, self.priority.map(Into::into));
        settle(&mut rules)?;
        Ok(rules)
    }
}

/// Checks what a submitter may do, and writes it as it is compared later: domains in lower case, networks by their base.
fn settle(rules: &mut SubmitterRules) -> Result<(), Failure> {
    for entry in &mut rules.also_as {
        *entry = match entry.strip_prefix('@') {
            // MAIL FROM:<>, for a program that sends reports.
            None if *entry == EMPTY_PATH => continue,
            Some(name) => format!("@{}", domain(name, "--also-as")?),
            None => address(entry, "--also-as")?.to_string(),
        };
    }
    for entry in &mut rules.recipient_domains {
        *entry = domain(entry.trim_start_matches('@'), "--recipient-domain")?;
    }
    for (list, option) in [(&mut rules.networks, "--network"), (&mut rules.unauthenticated_from, "--no-auth-from")] {
        for entry in list {
            *entry = network(entry, option)?.to_string();
        }
    }
    if rules.unauthenticated_from.is_empty() {
        return Ok(());
    }
    let missing: Vec<&str> = [
        (rules.force_from.is_none(), "--force-from ADDRESS"),
        (rules.recipient_domains.is_empty(), "--recipient-domain DOMAIN"),
        (rules.messages_per_day.is_none(), "--per-day NUMBER"),
    ]
    .into_iter()
    .filter_map(|(missing, option)| missing.then_some(option))
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(
        "without a password anyone in the network can send, so the sender, the recipients and the amount must be limited",
        format!("Give as well: {}.", missing.join(", ")),
    ))
}

fn address(text: &str, option: &str) -> Result<EmailAddress, Failure> {
    text.parse().map_err(|error: postkey_base::address::AddressError| {
        Failure::usage(error.to_string(), format!("Give {option} as name@domain."))
    })
}

fn domain(text: &str, option: &str) -> Result<String, Failure> {
    let good = !text.is_empty()
        && text.contains('.')
        && text.split('.').all(|label| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-'));
    match good {
        true => Ok(text.to_lowercase()),
        false => {
            Err(Failure::usage(format!("{text:?} is no domain"), format!("Give {option} such as contoso.example.")))
        }
    }
}

/// `10.1.0.0/16`, or one address.
fn network(text: &str, option: &str) -> Result<IpNet, Failure> {
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    match parsed {
        Ok(network) => Ok(network.trunc()),
        Err(_) => Err(Failure::usage(
            format!("{text:?} is no network"),
            format!("Give {option} as address/bits, such as 192.0.2.0/24 or 2001:db8::/32, or as one address."),
        )),
    }
}

fn check_name(name: &str) -> Result<(), Failure> {
    /// Longer ones fit into no device, and into no table.
    const LONGEST: usize = 64;
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
    if !name.is_empty() && name.len() <= LONGEST && name.chars().all(good) {
        return Ok(());
    }
    Err(Failure::usage(
        format!("{name:?} is no name for a submitter"),
        format!("Use at most {LONGEST} letters, digits and - _ . @ +; at most 20 fit every device."),
    ))
}

fn which_sender(error: ConnectionError) -> Failure {
    match error {
        ConnectionError::WhichSender(names) => Failure::usage(
            format!("there are several senders: {}", names.join(", ")),
            "Name those that it may use with --sender.",
        ),
        other => other.into(),
    }
}

async fn expect_senders(outside: &Outside, names: &[String]) -> Result<(), Failure> {
    for name in names {
        super::sender::find(outside, name).await?;
    }
    Ok(())
}

pub(crate) fn unknown(name: &str) -> Failure {
    Failure::new(
        "submitter.unknown",
        format!("there is no submitter {name:?}"),
        "See `postkey submitter list`, or add it with `postkey submitter add`.",
        Who::You,
    )
}

pub(super) async fn find(outside: &Outside, name: &str) -> Result<Saved, Failure> {
    outside.store.submitter(name).await?.ok_or_else(|| unknown(name))
}

async fn names(outside: &Outside, submitter: &Saved) -> Result<Vec<String>, Failure> {
    let all = outside.store.senders().await?;
    Ok(sender_names(submitter, &all))
}

/// In the submitter's order; one that was removed is left out.
fn sender_names(submitter: &Saved, all: &[Sender]) -> Vec<String> {
    let name = |id| all.iter().find(|sender| sender.id == id).map(|sender| sender.values.name.clone());
    submitter.senders.iter().filter_map(|&id| name(id)).collect()
}

/// What is shown once.
struct Handed<'a> {
    password: Option<&'a LocalPassword>,
    api_key: Option<&'a LocalPassword>,
    /// Another password works beside it.
    second: bool,
}

/// Everything the device's form asks for.
async fn hand_over(
    settings: &Settings,
    outside: &Outside,
    submitter: &Saved,
    handed: &Handed<'_>,
    json: bool,
) -> Result<(), Failure> {
    let places = Places::of(settings);
    let from = outside
        .store
        .senders()
        .await?
        .into_iter()
        .find(|sender| submitter.senders.first() == Some(&sender.id))
        .and_then(|sender| sender.values.mailbox);
    if json {
        output::json(&json!({
            "submitter": described(submitter, names(outside, submitter).await?, &[]),
            "user_name": submitter.name,
            "password": handed.password.map(LocalPassword::expose),
            "api_key": handed.api_key.map(LocalPassword::expose),
            "from": submitter.rules.force_from.as_ref().or(from.as_ref()),
            "smtp": places.smtp.iter().map(|place| json!({
                "name": place.name, "host": place.host, "port": place.port, "tls": place.mode.word(),
            })).collect::<Vec<_>>(),
            "http": places.http,
            "ca_file": places.ca,
        }));
        return Ok(());
    }
    let title = if handed.second { "has a second password" } else { "is ready" };
    output::line(format_args!("{} submitter {} {title}\n", styled(GOOD, "✓"), styled(STRONG, &submitter.name)));
    let mut rows = Vec::new();
    for place in &places.smtp {
        rows.push(("SMTP server", format!("{}  port {}  {}", place.host, place.port, place.mode.in_words())));
    }
    match handed.password {
        Some(password) => {
            rows.push(("User name", submitter.name.clone()));
            rows.push(("Password", styled(STRONG, password.expose())));
        }
        None => rows.push(("Sign-in", format!("none from {}", submitter.rules.unauthenticated_from.join(", ")))),
    }
    if let Some(from) = submitter.rules.force_from.as_ref().or(from.as_ref()) {
        rows.push(("From address", from.to_string()));
    }
    if let (Some(url), Some(key)) = (&places.http, handed.api_key) {
        rows.push(("HTTP", format!("POST {url}/v1/send")));
        rows.push(("API key", styled(STRONG, key.expose())));
    }
    if let Some(ca) = &places.ca {
        rows.push(("CA to trust", ca.display().to_string()));
    }
    output::fields(&rows);
    if handed.password.is_some() || handed.api_key.is_some() {
        output::note(format_args!(
            "\n{} shown once and kept by nobody: write it into the device now",
            styled(WARN, "!")
        ));
    }
    if handed.second {
        output::note(format_args!(
            "  {} both passwords work; once the device uses this one: {} submitter rotate {} --retire-old",
            styled(FAINT, "·"),
            settings.command(),
            submitter.name
        ));
    }
    Ok(())
}

async fn rotate(settings: &Settings, outside: &Outside, name: &str, force: bool, json: bool) -> Result<(), Failure> {
    let known = find(outside, name).await?;
    if known.passwords.len() >= 2 && !force {
        let now = outside.clock.now();
        let used: Vec<String> = known.passwords.iter().map(|secret| last_use(secret, now)).collect();
        return Err(Failure::new(
            "submitter.two_passwords",
            format!(
                "submitter {:?} has two passwords already: the older {}, the newer {}",
                known.name, used[0], used[1]
            ),
            format!(
                "Drop the older one with `{0} submitter rotate {1} --retire-old`, or let a third replace it with --force.",
                settings.command(),
                known.name
            ),
            Who::You,
        ));
    }
    let key = outside.store.local_secret_key().await?;
    let (password, mac) = new_password(&key);
    outside.store.add_password(&known.name, &mac, force).await?;
    let saved = find(outside, name).await?;
    let handed = Handed { password: Some(&password), api_key: None, second: saved.passwords.len() > 1 };
    hand_over(settings, outside, &saved, &handed, json).await
}

async fn retire(outside: &Outside, name: &str, force: bool, json: bool) -> Result<(), Failure> {
    let known = find(outside, name).await?;
    let [older, newer] = known.passwords.as_slice() else {
        return Err(Failure::new(
            "submitter.one_password",
            format!("submitter {:?} has no older password to drop", known.name),
            "Nothing is to be done. `postkey submitter rotate` makes a second one.",
            Who::You,
        ));
    };
    if newer.last_used_at.is_none() && !force {
        let now = outside.clock.now();
        return Err(Failure::new(
            "submitter.new_password_unused",
            format!(
                "the newer password of {:?}, made {}, was never used; the older one was {}",
                known.name,
                ago(now, newer.created_at),
                last_use(older, now)
            ),
            "Write the newer password into the device first. With --force the older one goes all the same, and whoever uses it is refused.",
            Who::You,
        ));
    }
    outside.store.remove_password(&known.name, older.id).await?;
    show(outside, &find(outside, name).await?, json).await
}

fn last_use(secret: &LocalSecret, now: Timestamp) -> String {
    match secret.last_used_at {
        Some(at) => format!("used {}", ago(now, at)),
        None => "never used".into(),
    }
}

async fn switch(outside: &Outside, name: &str, off: bool, json: bool) -> Result<(), Failure> {
    let known = find(outside, name).await?;
    let saved = outside.store.disable_submitter(&known.name, off).await?;
    show(outside, &saved, json).await
}

/// A submitter with its senders by name.
#[derive(Serialize)]
struct Described<'a> {
    id: SubmitterId,
    name: &'a str,
    senders: Vec<String>,
    rules: &'a SubmitterRules,
    disabled_at: Option<Timestamp>,
    passwords: &'a [LocalSecret],
    hold: Option<&'a Hold>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

fn described<'a>(submitter: &'a Saved, senders: Vec<String>, holds: &'a [Hold]) -> Described<'a> {
    Described {
        id: submitter.id,
        name: &submitter.name,
        senders,
        rules: &submitter.rules,
        disabled_at: submitter.disabled_at,
        passwords: &submitter.passwords,
        hold: holds.iter().find(|hold| hold.scope == HoldScope::Submitter(submitter.id)),
        created_at: submitter.created_at,
        updated_at: submitter.updated_at,
    }
}

async fn show(outside: &Outside, submitter: &Saved, json: bool) -> Result<(), Failure> {
    let senders = names(outside, submitter).await?;
    let holds: Vec<Hold> = outside.store.holds().await?;
    let hold = holds.iter().find(|hold| hold.scope == HoldScope::Submitter(submitter.id));
    if json {
        output::json(&described(submitter, senders, &holds));
        return Ok(());
    }
    let now = outside.clock.now();
    let state = match (submitter.disabled_at, hold) {
        (Some(at), _) => styled(BAD, format_args!("disabled {}", ago(now, at))),
        (None, Some(hold)) => styled(WARN, format_args!("paused {}: {}", ago(now, hold.since), hold.reason)),
        (None, None) => styled(GOOD, "enabled"),
    };
    output::line(format_args!("{}  {state}", styled(STRONG, &submitter.name)));
    let mut rows = vec![("senders", senders.join(", "))];
    for (index, secret) in submitter.passwords.iter().enumerate() {
        let name = if index == 0 { "passwords" } else { "" };
        rows.push((name, format!("made {}, {}", ago(now, secret.created_at), last_use(secret, now))));
    }
    if submitter.passwords.is_empty() {
        rows.push(("passwords", "none".into()));
    }
    rows.extend(in_words(&submitter.rules));
    output::fields(&rows);
    Ok(())
}

/// The rules that are more than their default.
fn in_words(rules: &SubmitterRules) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let lists = [
        ("also as", &rules.also_as),
        ("may send to", &rules.recipient_domains),
        ("only from", &rules.networks),
        ("no sign-in", &rules.unauthenticated_from),
    ];
    rows.extend(lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| (name, list.join(", "))));
    rows.extend(rules.force_from.as_ref().map(|from| ("always From", from.to_string())));
    let mut limits = String::new();
    for (limit, of) in [
        (rules.messages_per_minute.map(u64::from), "messages/min"),
        (rules.messages_per_day.map(u64::from), "messages/day"),
        (rules.recipients_per_day.map(u64::from), "recipients/day"),
        (rules.bytes_per_day, "bytes/day"),
        (rules.message_bytes, "bytes a message"),
        (rules.recipients_per_message.map(u64::from), "recipients a message"),
    ] {
        if let Some(limit) = limit {
            let comma = if limits.is_empty() { "" } else { ", " };
            let _ = write!(limits, "{comma}{limit} {of}");
        }
    }
    if !limits.is_empty() {
        rows.push(("limits", limits));
    }
    if rules.priority != postkey_store::Priority::default() {
        rows.push(("priority", rules.priority.word().to_owned()));
    }
    rows
}

async fn list(outside: &Outside, json: bool) -> Result<(), Failure> {
    let all = outside.store.submitters().await?;
    let (senders, holds) = (outside.store.senders().await?, outside.store.holds().await?);
    if json {
        let rows: Vec<_> = all.iter().map(|one| described(one, sender_names(one, &senders), &holds)).collect();
        output::json(&rows);
        return Ok(());
    }
    if all.is_empty() {
        output::note("There is no submitter yet: `postkey submitter add NAME` makes one.");
        return Ok(());
    }
    let now = outside.clock.now();
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|submitter| {
            let paused = holds.iter().any(|hold| hold.scope == HoldScope::Submitter(submitter.id));
            let state = match (submitter.disabled_at.is_some(), paused) {
                (true, _) => "disabled",
                (false, true) => "paused",
                (false, false) => "enabled",
            };
            let used = submitter.passwords.iter().filter_map(|secret| secret.last_used_at).max();
            vec![
                submitter.name.clone(),
                state.into(),
                sender_names(submitter, &senders).join(", "),
                submitter.passwords.len().to_string(),
                used.map_or_else(|| "never".into(), |at| ago(now, at)),
            ]
        })
        .collect();
    output::table(&["NAME", "STATE", "SENDERS", "PASSWORDS", "LAST USED"], &rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(change: impl FnOnce(&mut SubmitterRules)) -> Result<SubmitterRules, String> {
        let mut rules = SubmitterRules::default();
        change(&mut rules);
        settle(&mut rules).map_err(|failure| format!("{} {}", failure.diagnosis.what, failure.diagnosis.remedy))?;
        Ok(rules)
    }

    #[test]
    fn rules_are_written_as_they_are_compared() {
        let settled = rules(|rules| {
            rules.also_as = vec!["@Contoso.Example".into(), "alerts@contoso.example".into(), "<>".into()];
            rules.recipient_domains = vec!["@Fabrikam.example".into()];
            rules.networks = vec!["192.0.2.77/24".into(), "2001:db8::1".into()];
        })
        .unwrap();
        assert_eq!(settled.also_as, ["@contoso.example", "alerts@contoso.example", "<>"]);
        assert_eq!(settled.recipient_domains, ["fabrikam.example"]);
        assert_eq!(settled.networks, ["192.0.2.0/24", "2001:db8::1/128"]);
    }

    #[test]
    fn no_sign_in_goes_only_with_a_fixed_sender_domains_and_a_quota() {
        let from = |rules: &mut SubmitterRules| rules.unauthenticated_from = vec!["10.0.0.0/8".into()];
        let said = rules(from).unwrap_err();
        assert!(
            ["--force-from", "--recipient-domain", "--per-day"].iter().all(|option| said.contains(option)),
            "{said}"
        );
        let said = rules(|rules| {
            from(rules);
            rules.force_from = Some("printer@contoso.example".parse().unwrap());
            rules.messages_per_day = Some(100);
        })
        .unwrap_err();
        assert!(said.contains("--recipient-domain") && !said.contains("--per-day"), "{said}");
        assert!(
            rules(|rules| {
                from(rules);
                rules.force_from = Some("printer@contoso.example".parse().unwrap());
                rules.messages_per_day = Some(100);
                rules.recipient_domains = vec!["contoso.example".into()];
            })
            .is_ok()
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (change, part) in [
            (
                Box::new(|rules: &mut SubmitterRules| rules.networks = vec!["10.0.0.0/33".into()])
                    as Box<dyn FnOnce(&mut _)>,
                "no network",
            ),
            (Box::new(|rules: &mut SubmitterRules| rules.also_as = vec!["@".into()]), "no domain"),
            (
                Box::new(|rules: &mut SubmitterRules| rules.recipient_domains = vec!["contoso .example".into()]),
                "no domain",
            ),
        ] {
            let said = rules(change).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
        for (name, good) in [
            ("scanner-3", true),
            ("noreply@contoso.example", true),
            ("", false),
            ("two words", false),
            ("a\u{1b}[2J", false),
        ] {
            assert_eq!(check_name(name).is_ok(), good, "{name:?}");
        }
    }
}
