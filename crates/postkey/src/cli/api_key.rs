//! `postkey api-key`: keys for the REST API.

use clap::{Subcommand, ValueEnum};
use postkey_base::Who;
use postkey_setup::connection::Outside;
use postkey_store::{ApiKey as Saved, Scope};
use postkey_submission::passwords::{LocalPassword, new_api_key};
use serde_json::json;

use super::{
    submitter,
    values::{ago, moment},
};
use crate::{
    failure::Failure,
    output::{self, GOOD, STRONG, WARN, styled},
    serve::places::Places,
    settings::Settings,
    wiring,
};

/// Keys for the REST API.
#[derive(Debug, Subcommand)]
pub(crate) enum ApiKey {
    /// Make one, and show it once
    Add {
        /// Its name
        name: String,
        /// The submitter whose rules it keeps and whose messages it sees (default: none; it sees everything)
        #[arg(long, value_name = "NAME")]
        submitter: Option<String>,
        /// What it may do; may be given again
        #[arg(long, value_enum, value_delimiter = ',', default_values = ["send", "outbox.read"])]
        scope: Vec<ScopeChoice>,
        /// It ends at this time, such as 2027-11-24
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// All of them, never their values
    List,
    /// Refuse it, until it is enabled again
    Disable {
        /// Its name
        name: String,
    },
    /// Take it again
    Enable {
        /// Its name
        name: String,
    },
    /// Forget one
    Remove {
        /// Its name
        name: String,
    },
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScopeChoice {
    /// Hand in messages
    #[value(name = "send")]
    Send,
    /// See messages and their timelines
    #[value(name = "outbox.read")]
    OutboxRead,
    /// Retry and cancel messages
    #[value(name = "outbox.manage")]
    OutboxManage,
    /// Read the gauges at /metrics
    #[value(name = "metrics")]
    Metrics,
}

impl From<ScopeChoice> for Scope {
    fn from(choice: ScopeChoice) -> Self {
        match choice {
            ScopeChoice::Send => Self::Send,
            ScopeChoice::OutboxRead => Self::OutboxRead,
            ScopeChoice::OutboxManage => Self::OutboxManage,
            ScopeChoice::Metrics => Self::Metrics,
        }
    }
}

impl ApiKey {
    pub(crate) async fn run(self, settings: &Settings, json: bool) -> Result<(), Failure> {
        let outside = wiring::open(settings).await?;
        match self {
            Self::Add { name, submitter, scope, expires } => {
                let expires = expires.map(|text| moment(&text, "--expires")).transpose()?;
                add(settings, &outside, &name, submitter.as_deref(), &scope, expires, json).await
            }
            Self::List => list(&outside, json).await,
            Self::Disable { name } => switch(&outside, &name, true).await,
            Self::Enable { name } => switch(&outside, &name, false).await,
            Self::Remove { name } => {
                if !outside.store.remove_api_key(&name).await? {
                    return Err(unknown(&name));
                }
                output::note(format_args!("API key {name} is forgotten"));
                Ok(())
            }
        }
    }
}

async fn add(
    settings: &Settings,
    outside: &Outside,
    name: &str,
    of: Option<&str>,
    scope: &[ScopeChoice],
    expires: Option<jiff::Timestamp>,
    json: bool,
) -> Result<(), Failure> {
    let store = &outside.store;
    if let Some(of) = of {
        submitter::find(outside, of).await?;
    }
    if of.is_none() && scope.contains(&ScopeChoice::Send) {
        return Err(Failure::usage(
            "a key that hands in messages must belong to a submitter",
            "Name it with --submitter, or leave out the scope send: --scope outbox.read.",
        ));
    }
    if expires.is_some_and(|at| at <= outside.clock.now()) {
        return Err(Failure::usage("the key would have ended already", "Give --expires a time to come."));
    }
    if store.api_key(name).await?.is_some() {
        return Err(Failure::new(
            "api_key.exists",
            format!("there is an API key {name:?} already"),
            format!("Choose another name, or remove that one with `{} api-key remove {name}`.", settings.command()),
            Who::You,
        ));
    }
    let mut scopes: Vec<Scope> = scope.iter().map(|&scope| scope.into()).collect();
    scopes.dedup();
    let (key, mac) = new_api_key(&*store.local_secret_key().await?);
    let saved = store.add_api_key(name, of, &scopes, &mac, expires).await?;
    let places = Places::of(settings);
    if json {
        output::json(&json!({ "api_key": saved, "key": key.expose(), "http": places.http }));
        return Ok(());
    }
    show_once(&saved, &key, &places);
    Ok(())
}

fn show_once(saved: &Saved, key: &LocalPassword, places: &Places) {
    output::line(format_args!("{} API key {} is ready\n", styled(GOOD, "✓"), styled(STRONG, &saved.name)));
    let mut rows = vec![("API key", styled(STRONG, key.expose())), ("may", words(&saved.scopes))];
    rows.extend(saved.expires_at.map(|at| ("until", at.strftime("%Y-%m-%d %H:%M UTC").to_string())));
    rows.extend(places.http.as_ref().map(|url| ("HTTP", url.clone())));
    rows.push(("header", "Authorization: Bearer (the key)".into()));
    output::fields(&rows);
    output::note(format_args!("\n{} shown once and kept by nobody", styled(WARN, "!")));
}

fn words(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.word()).collect::<Vec<_>>().join(", ")
}

fn unknown(name: &str) -> Failure {
    Failure::new("api_key.unknown", format!("there is no API key {name:?}"), "See `postkey api-key list`.", Who::You)
}

async fn switch(outside: &Outside, name: &str, off: bool) -> Result<(), Failure> {
    if outside.store.api_key(name).await?.is_none() {
        return Err(unknown(name));
    }
    let saved = outside.store.disable_api_key(name, off).await?;
    output::note(format_args!("API key {} is {}", saved.name, if off { "disabled" } else { "enabled" }));
    Ok(())
}

async fn list(outside: &Outside, json: bool) -> Result<(), Failure> {
    let all = outside.store.api_keys().await?;
    if json {
        output::json(&all);
        return Ok(());
    }
    if all.is_empty() {
        output::note("There is no API key yet: `postkey api-key add NAME --submitter NAME` makes one.");
        return Ok(());
    }
    let submitters = outside.store.submitters().await?;
    let now = outside.clock.now();
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|key| {
            let of = submitters.iter().find(|one| Some(one.id) == key.submitter).map(|one| one.name.clone());
            let state = match (key.disabled_at, key.expires_at) {
                (Some(_), _) => "disabled".into(),
                (None, Some(at)) if at <= now => "expired".into(),
                (None, Some(at)) => format!("until {}", at.strftime("%Y-%m-%d")),
                (None, None) => "enabled".into(),
            };
            vec![
                key.name.clone(),
                state,
                of.unwrap_or_else(|| "everything".into()),
                words(&key.scopes),
                key.last_used_at.map_or_else(|| "never".into(), |at| ago(now, at)),
            ]
        })
        .collect();
    output::table(&["NAME", "STATE", "OF SUBMITTER", "MAY", "LAST USED"], &rows);
    Ok(())
}
