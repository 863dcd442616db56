//! Listings of what postkey knows: tenants, apps, credentials.

use clap::Subcommand;
use jiff::{Timestamp, tz::TimeZone};
use postkey_base::Who;
use postkey_store::{CredentialState, HoldScope, Material, Tenant as SavedTenant};

use super::pause::{self, PauseArgs};
use crate::{failure::Failure, output, settings::Settings, wiring};

/// Tenants postkey knows.
#[derive(Debug, Subcommand)]
pub(crate) enum Tenant {
    /// All of them
    List,
    /// Hold all mail that goes out through it
    Pause {
        /// Its Directory (tenant) ID, or its domain
        tenant: String,
        #[command(flatten)]
        how: PauseArgs,
    },
    /// Let it go
    Resume {
        /// Its Directory (tenant) ID, or its domain
        tenant: String,
    },
}

/// App registrations postkey knows.
#[derive(Debug, Subcommand)]
pub(crate) enum App {
    /// All of them
    List,
}

/// Credentials of those apps.
#[derive(Debug, Subcommand)]
pub(crate) enum Credential {
    /// All that are not retired, the next to end first
    List {
        /// Retired ones too
        #[arg(long)]
        all: bool,
    },
}

impl Tenant {
    pub(crate) async fn run(self, settings: &Settings, json: bool) -> Result<(), Failure> {
        let outside = wiring::open(settings).await?;
        let tenants = outside.store.tenants().await?;
        match self {
            Self::List => {}
            Self::Pause { tenant, how } => {
                let (scope, what) = held(&tenants, &tenant)?;
                return pause::pause(&outside, scope, &what, how, json).await;
            }
            Self::Resume { tenant } => {
                let (scope, what) = held(&tenants, &tenant)?;
                return pause::resume(&outside, scope, &what, json).await;
            }
        }
        if json {
            output::json(&tenants);
            return Ok(());
        }
        let rows: Vec<Vec<String>> = tenants
            .into_iter()
            .map(|tenant| {
                let cloud = tenant.cloud["name"].as_str().unwrap_or("?").to_owned();
                vec![
                    tenant.id.to_string(),
                    tenant.display_name.unwrap_or_default(),
                    tenant.domain.unwrap_or_default(),
                    cloud,
                ]
            })
            .collect();
        output::table(&["TENANT ID", "NAME", "DOMAIN", "CLOUD"], &rows);
        Ok(())
    }
}

/// The tenant that a word names.
fn held(tenants: &[SavedTenant], named: &str) -> Result<(HoldScope, String), Failure> {
    let is = |tenant: &&SavedTenant| {
        tenant.id.to_string().eq_ignore_ascii_case(named.trim())
            || tenant.domain.as_ref().is_some_and(|domain| domain.eq_ignore_ascii_case(named.trim()))
    };
    let found = tenants.iter().find(is).ok_or_else(|| {
        Failure::new("tenant.unknown", format!("there is no tenant {named:?}"), "See `postkey tenant list`.", Who::You)
    })?;
    let name = found.domain.clone().unwrap_or_else(|| found.id.to_string());
    Ok((HoldScope::Tenant(found.id), format!("mail through tenant {name}")))
}

impl App {
    pub(crate) async fn run(self, settings: &Settings, json: bool) -> Result<(), Failure> {
        let Self::List = self;
        let apps = wiring::open(settings).await?.store.apps().await?;
        if json {
            output::json(&apps);
            return Ok(());
        }
        let rows: Vec<Vec<String>> = apps
            .into_iter()
            .map(|app| {
                let permissions = if app.permissions.is_empty() { "-".into() } else { app.permissions.join(", ") };
                vec![app.display_name, app.client_id.to_string(), app.tenant.to_string(), permissions]
            })
            .collect();
        output::table(&["NAME", "CLIENT ID", "TENANT ID", "PERMISSIONS"], &rows);
        Ok(())
    }
}

impl Credential {
    pub(crate) async fn run(self, settings: &Settings, json: bool) -> Result<(), Failure> {
        let Self::List { all } = self;
        let outside = wiring::open(settings).await?;
        let now = outside.clock.now();
        let mut found = Vec::new();
        for app in outside.store.apps().await? {
            for credential in outside.store.credentials(app.id).await? {
                if all || !matches!(credential.state, CredentialState::Retired { .. }) {
                    found.push((app.clone(), credential));
                }
            }
        }
        // Unknown ends last: there is nothing to count down.
        found.sort_by_key(|(_, credential)| (credential.ends_at.is_none(), credential.ends_at));
        if json {
            let rows: Vec<_> = found
                .iter()
                .map(|(app, credential)| {
                    serde_json::json!({
                        "app": { "display_name": app.display_name, "client_id": app.client_id, "tenant": app.tenant },
                        "credential": credential,
                        "days_left": credential.ends_at.map(|ends| days_between(now, ends)),
                    })
                })
                .collect();
            output::json(&rows);
            return Ok(());
        }
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|(app, credential)| {
                let kind = match &credential.material {
                    Material::Secret { hint: Some(hint) } => format!("secret {hint}…"),
                    Material::Secret { hint: None } => "secret".into(),
                    Material::Certificate { thumbprint, .. } => {
                        format!("certificate {}…", thumbprint.chars().take(8).collect::<String>())
                    }
                    Material::Federated { .. } => "federated".into(),
                };
                let state = match credential.state {
                    CredentialState::Intended => "intended",
                    CredentialState::Minted { .. } => "minted",
                    CredentialState::Verified { .. } => "verified",
                    CredentialState::Retired { .. } => "retired",
                };
                vec![
                    app.display_name.clone(),
                    credential.display_name.clone(),
                    kind,
                    state.into(),
                    ends(now, credential.ends_at),
                ]
            })
            .collect();
        output::table(&["APP", "CREDENTIAL", "KIND", "STATE", "ENDS"], &rows);
        Ok(())
    }
}

/// `2027-11-24 (364 days left)`, `unknown`, `2026-11-20 (expired)`.
pub(crate) fn ends(now: Timestamp, at: Option<Timestamp>) -> String {
    match at {
        None => "unknown".into(),
        Some(at) => {
            let date = at.to_zoned_datetime(TimeZone::UTC).date();
            match days_between(now, at) {
                left if at > now => format!("{date} ({left} days left)"),
                _ => format!("{date} (expired)"),
            }
        }
    }
}

fn days_between(now: Timestamp, at: Timestamp) -> i64 {
    at.duration_since(now).as_hours().div_euclid(24)
}
