//! `postkey setup`: the three phases, automatically, by hand beside the portal, or as a script for somebody else.

use std::{io::IsTerminal, path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};
use postkey_base::EmailAddress;
use postkey_identity::{Cloud, CustomCloud, TenantRef};
use postkey_setup::{
    automatic::{Automatic, Done, Patience},
    options::{CredentialChoice, Lifetime, Reach, SetupName, SetupOptions},
    plan::{self, Caller, PlannedCall},
    sign_in,
};

use super::{CloudArgs, CloudChoice, administrator::SignInArgs, by_hand, hand_over};
use crate::{
    failure::Failure,
    output::{self, FAINT, GOOD, STRONG, styled},
    progress::Progress,
    settings::Settings,
    wiring,
};

/// Register an app, make its credential, get consent, and prove it with a message.
///
/// Runs again where it stopped: nothing is made twice.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// Name of the sender this makes
    #[arg(default_value = "default")]
    name: String,
    /// The tenant: its id or one of its domains
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// The mailbox that sends
    #[arg(long, visible_alias = "from", value_name = "ADDRESS")]
    mailbox: Option<String>,
    /// Who receives the test message (default: the mailbox itself)
    #[arg(long, value_name = "ADDRESS")]
    test_to: Option<String>,
    #[command(flatten)]
    cloud: CloudArgs,
    /// What the app proves itself with: a certificate renews itself, a secret needs an administrator each time
    #[arg(long, value_enum, default_value_t = Kind::Certificate)]
    credential: Kind,
    /// How long the credential lives: 12mo, 90d; at most 24mo
    #[arg(long, value_name = "TIME", default_value = "12mo")]
    lifetime: String,
    /// How far the app may reach: as every mailbox of the tenant, or as named ones only
    #[arg(long, value_enum)]
    reach: Option<ReachChoice>,
    /// Also SMTP.SendAsApp, for mail that Graph cannot carry as it is
    #[arg(long)]
    smtp: bool,
    /// Also Mail.ReadWrite, for large attachments by upload and for seeing Sent Items
    #[arg(long)]
    read_write: bool,
    #[command(flatten)]
    sign_in: SignInArgs,
    /// Print every call that would be made, and make none
    #[arg(long, conflicts_with_all = ["manual", "script"])]
    plan: bool,
    /// Walk through the portal, step by step, and check each value
    #[arg(long, conflicts_with = "script")]
    manual: bool,
    /// Write a PowerShell script that makes the planned calls, for an administrator who may not run postkey (- for standard output)
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Give up waiting for an Exchange administrator after so many minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 120, value_parser = clap::value_parser!(u64).range(..=LONGEST_WAIT))]
    wait: u64,
}

/// A week, in minutes: whoever needs longer runs the command again.
const LONGEST_WAIT: u64 = 7 * 24 * 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Certificate,
    Secret,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReachChoice {
    /// Mail.Send granted in Entra: it can send as anyone in the tenant
    TenantWide,
    /// No grant in Entra; an Exchange administrator opens named mailboxes
    Limited,
}

impl Setup {
    pub(crate) async fn run(self, settings: &Settings, json: bool) -> Result<(), Failure> {
        let cloud = self.cloud.cloud()?;
        if self.manual {
            let name = SetupName::from_str(&self.name)?;
            return by_hand::walk(settings, &name, cloud, self.mailbox, self.test_to).await;
        }
        let options = self.options(cloud)?;
        let outside = wiring::open(settings).await?;
        let calls = plan::plan(&options, outside.store.installation().await?);
        if self.plan {
            print_plan(&options, &calls, json);
            return Ok(());
        }
        if let Some(path) = &self.script {
            return hand_over::write(settings, &options, &calls, path, outside.clock.now()).await;
        }
        let progress = Progress::new();
        let endpoint = outside.endpoint(&options.cloud)?;
        let administrator = self.sign_in.sign_in(settings, &endpoint, &options, &progress).await?;
        if let Some(name) = &administrator.name {
            output::note(format_args!("signed in as {}", styled(STRONG, name)));
        }
        let patience = Patience { exchange: std::time::Duration::from_secs(self.wait * 60), ..Patience::default() };
        let setup = Automatic {
            options: &options,
            outside: &outside,
            administrator: &administrator,
            watcher: &progress,
            patience,
        };
        let ended = setup.run().await;
        // Whatever became of it, the consent is there now.
        let left_behind = sign_in::how_to_forget(&administrator);
        let done = match ended {
            Ok(done) => done,
            Err(error) => {
                if let Some(text) = left_behind {
                    output::note(format_args!("\n{}", styled(FAINT, text)));
                }
                let mut failure = Failure::from(error);
                failure.diagnosis.evidence.insert(0, ("mailbox".into(), options.mailbox.to_string()));
                return Err(failure);
            }
        };
        if json {
            output::json(&serde_json::json!({
                "tenant": { "id": done.organization.id, "name": done.organization.display_name },
                "app": done.app,
                "sender": done.sender,
                "proof": done.proof,
                "consent_left_behind": administrator.consented,
            }));
        } else {
            conclude(settings, &options, &done);
            if let Some(text) = left_behind {
                output::line(format_args!("\n{}", styled(FAINT, text)));
            }
        }
        outside.store.close().await;
        Ok(())
    }

    fn options(&self, cloud: Cloud) -> Result<SetupOptions, Failure> {
        let tenant = ask(&self.tenant, "Directory (tenant) ID, or a domain of the tenant", "--tenant")?;
        let tenant: TenantRef = postkey_setup::pasted::tenant(&tenant)?;
        let mailbox: EmailAddress = address(&ask(&self.mailbox, "Mailbox that sends", "--mailbox")?, "--mailbox")?;
        let test_to = match &self.test_to {
            Some(text) => address(text, "--test-to")?,
            None => mailbox.clone(),
        };
        let lifetime = Lifetime::from_str(&self.lifetime)?;
        let reach = match self.reach {
            Some(ReachChoice::TenantWide) => Reach::TenantWide,
            Some(ReachChoice::Limited) => Reach::Limited,
            None => ask_reach(&mailbox)?,
        };
        Ok(SetupOptions {
            name: SetupName::from_str(&self.name)?,
            cloud,
            tenant,
            mailbox,
            credential: match self.credential {
                Kind::Certificate => CredentialChoice::Certificate(lifetime),
                Kind::Secret => CredentialChoice::Secret(lifetime),
            },
            reach,
            smtp: self.smtp,
            read_write: self.read_write,
            test_to,
        })
    }
}

impl CloudArgs {
    /// The hosts.
    pub(crate) fn cloud(&self) -> Result<Cloud, Failure> {
        let custom = self.login_url.is_some();
        match (self.cloud, custom) {
            (CloudChoice::Global, false) => Ok(Cloud::global()),
            (CloudChoice::Usgov, false) => Ok(Cloud::us_gov()),
            (CloudChoice::UsgovDod, false) => Ok(Cloud::us_gov_dod()),
            (CloudChoice::China, false) => Ok(Cloud::china()),
            (CloudChoice::Custom, false) => Err(Failure::usage(
                "a custom cloud needs its hosts",
                "Give --login-url, --graph-url and, for SMTP, --smtp-host; --cloud-ca names their CA.",
            )),
            (CloudChoice::Global | CloudChoice::Custom, true) => self.custom(),
            (_, true) => Err(Failure::usage(
                "--login-url goes with --cloud custom only",
                "Leave out --cloud, or leave out --login-url and --graph-url.",
            )),
        }
    }

    fn custom(&self) -> Result<Cloud, Failure> {
        let wrong = |what: &str| {
            Failure::usage(format!("{what} is not an address"), "Give it as https://host:port, and Graph's with /v1.0.")
        };
        let parse = |text: &Option<String>, what: &str| -> Result<url::Url, Failure> {
            text.as_deref().unwrap_or_default().parse().map_err(|_| wrong(what))
        };
        let login = parse(&self.login_url, "--login-url")?;
        let smtp = match &self.smtp_host {
            Some(text) => text.parse().map_err(|_| wrong("--smtp-host"))?,
            // Nobody listens there: mail that needs SMTP is refused with that reason.
            None => postkey_identity::HostPort { host: login.host_str().unwrap_or("localhost").to_owned(), port: 587 },
        };
        let ca_file = match &self.cloud_ca {
            Some(path) => Some(std::path::absolute(path).map_err(|cause| Failure::file(path, "found", cause))?),
            None => None,
        };
        let graph = parse(&self.graph_url, "--graph-url")?;
        Cloud::custom(CustomCloud {
            login,
            graph,
            smtp,
            graph_resource: None,
            exchange_resource: None,
            portal: None,
            ca_file,
        })
        .map_err(|error| {
            Failure::usage(
                error.to_string(),
                "Give --login-url as https://host:port and --graph-url as https://host:port/v1.0.",
            )
        })
    }
}

fn address(text: &str, option: &str) -> Result<EmailAddress, Failure> {
    text.parse().map_err(|error: postkey_base::address::AddressError| {
        Failure::usage(error.to_string(), format!("Give {option} as name@domain."))
    })
}

/// A value from the command line, else from the person, else a failure that names the option.
fn ask(given: &Option<String>, what: &str, option: &str) -> Result<String, Failure> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    let missing = || Failure::usage(format!("{option} is missing"), format!("Give {option}: {what}."));
    if !std::io::stdin().is_terminal() {
        return Err(missing());
    }
    dialoguer::Input::<String>::new().with_prompt(what).interact_text().map_err(|_| missing())
}

fn ask_reach(mailbox: &EmailAddress) -> Result<Reach, Failure> {
    let missing = || {
        Failure::usage(
            "the reach is missing",
            "Give --reach tenant-wide (works at once; the app can send as anyone in the tenant) or --reach limited (an Exchange \
             administrator opens the mailbox).",
        )
    };
    if !std::io::stdin().is_terminal() {
        return Err(missing());
    }
    let limited = format!("limited: only {mailbox}; an Exchange administrator runs four commands, up to 2 hours");
    let items = ["tenant-wide: works at once; the app can send as anyone in the tenant", limited.as_str()];
    let chosen = dialoguer::Select::new()
        .with_prompt("How far may the app reach?")
        .items(items)
        .default(0)
        .interact()
        .map_err(|_| missing())?;
    Ok(if chosen == 0 { Reach::TenantWide } else { Reach::Limited })
}

fn print_plan(options: &SetupOptions, calls: &[PlannedCall], json: bool) {
    if json {
        output::json(&serde_json::json!({
            "name": options.name,
            "tenant": options.tenant,
            "administrator_scopes": options.administrator_scopes(),
            "calls": calls,
        }));
        return;
    }
    output::line(format_args!(
        "{} for {} in tenant {}. The administrator's sign-in asks for {}.",
        styled(STRONG, format_args!("Plan of setup {}", options.name)),
        options.mailbox,
        options.tenant,
        options.administrator_scopes().join(", "),
    ));
    let mut phase = None;
    for (number, call) in calls.iter().enumerate() {
        if phase != Some(call.phase) {
            phase = Some(call.phase);
            output::line(format_args!(
                "\n{}",
                styled(STRONG, format_args!("{}. {}", call.phase.number(), call.phase.title()))
            ));
        }
        let whom = match call.caller {
            Caller::Administrator => "administrator",
            Caller::App => "the app",
        };
        let condition = call.only_if.map(|condition| format!(", only if {condition}")).unwrap_or_default();
        output::line(format_args!("{:>3}  {:<5} {}", number + 1, call.method, call.target));
        output::line(format_args!("     {}", styled(FAINT, format_args!("{} (as {whom}{condition})", call.reason))));
        if let Some(body) = &call.body {
            output::line(format_args!("     {}", styled(FAINT, body)));
        }
    }
    output::line("\nReads and writes that come too early are repeated until the tenant has caught up.");
}

fn conclude(settings: &Settings, options: &SetupOptions, done: &Done) {
    let command = settings.command();
    output::line(format_args!(
        "\n{} {} sends as {}",
        styled(GOOD, "Ready."),
        styled(STRONG, &options.name),
        options.mailbox
    ));
    let rows = [
        ("tenant", format!("{}  {}", done.organization.display_name, styled(FAINT, done.organization.id))),
        ("app", format!("{}  {}", done.app.display_name, styled(FAINT, done.app.client_id))),
        ("proof", done.proof.in_words()),
    ];
    for (name, value) in rows {
        output::line(format_args!("  {name:<10} {value}"));
    }
    if done.sender.reach == postkey_store::Reach::TenantWide {
        output::line(format_args!(
            "  {:<10} every mailbox of the tenant. To limit it: {command} sender limit {}",
            "can send as", options.name
        ));
    }
    output::line(format_args!(
        "\nNext: {command} send --sender {} --to someone@example.com --subject Hello --body 'It works'",
        options.name
    ));
}
