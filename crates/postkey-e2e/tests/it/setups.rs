//! Setups by the real program against a tenant in this process, which a test can hold up, look into and change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use postkey_emulator::faults::{Action, Fault};
use postkey_emulator::{Emulator, EmulatorSettings};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::harness::{postkey, said};

/// A whole setup takes less than a second; on two busy cores with lag, ten.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A tenant in this process.
pub(crate) struct Tenant {
    pub(crate) emulator: Emulator,
    folder: TempDir,
}

/// Which side of a call's effect it is held up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    BeforeItTakesEffect,
    BeforeItIsAnswered,
}

impl Moment {
    pub(crate) const BOTH: [Self; 2] = [Self::BeforeItTakesEffect, Self::BeforeItIsAnswered];
}

impl Tenant {
    /// A tenant where whatever is written is seen everywhere after `lag`.
    pub(crate) async fn start(lag: Duration) -> Self {
        let folder = TempDir::with_prefix("postkey-setups-").expect("a temporary folder can be made");
        let settings = EmulatorSettings {
            dir: Some(folder.path().join("emulator")),
            replication_lag: lag,
            acceptance_lag: lag,
            ..EmulatorSettings::default()
        };
        Self { emulator: Emulator::start(settings).await.expect("the emulator starts"), folder }
    }

    /// A folder that lives as long as the tenant.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Lets other users of this machine reach its folder: temporary ones are their maker's alone.
    pub(crate) fn is_open_to_everybody(&self) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.folder.path(), mode).expect("it is ours");
    }

    /// The options that lead any command here.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let ca = self.emulator.ca_path().expect("it has a folder").display().to_string();
        [
            ("--cloud", "custom".to_owned()),
            ("--login-url", self.emulator.authority()),
            ("--graph-url", self.emulator.graph()),
            ("--smtp-host", self.emulator.smtp()),
            ("--cloud-ca", ca),
        ]
        .into_iter()
        .flat_map(|(option, value)| [option.to_owned(), value])
        .collect()
    }

    /// An installation of its own that is to set up `name`.
    pub(crate) fn setup(&self, name: &str, options: &[&str]) -> Setup<'_> {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let sample = self.emulator.sample();
        let home = self.folder.path().join(name);
        Setup { tenant: self, name: name.to_owned(), home, options, named: sample.tenant_id.to_string() }
    }

    /// What the directory holds of the app of setup `name`.
    pub(crate) fn holds(&self, name: &str) -> Holds {
        self.emulator.with_world(|world| {
            let directory = &world.tenant(self.emulator.tenant_id()).expect("the sample tenant stays").directory;
            let ending = format!("-{name}");
            let ours = |app: &&postkey_emulator::directory::Application| {
                app.unique_name.as_deref().is_some_and(|unique| unique.ends_with(&ending))
                    || app.display_name == format!("postkey {name}")
            };
            let apps: Vec<_> = directory.applications.iter().filter(ours).collect();
            let gone = directory.deleted_applications.iter().map(|(_, app)| app).filter(ours).count();
            let client_ids: BTreeSet<_> = apps.iter().map(|app| app.app_id).collect();
            let principals: Vec<_> = directory
                .service_principals
                .iter()
                .filter(|one| client_ids.contains(&one.app_id) || one.display_name == format!("postkey {name}"))
                .collect();
            let secrets = apps.iter().flat_map(|app| &app.secrets).map(|secret| (secret.key_id.to_string(), None));
            let certificates = apps.iter().flat_map(|app| &app.keys).map(|key| {
                let thumbprint = key.custom_key_identifier.iter().map(|byte| format!("{byte:02X}")).collect();
                (key.key_id.to_string(), Some(thumbprint))
            });
            let elsewhere =
                principals.iter().filter(|one| directory.service_principal_credentials.contains_key(&one.id));
            let mut roles = Vec::new();
            for held in &directory.app_role_assignments {
                if principals.iter().any(|one| one.id == held.principal_id) {
                    let api = directory.service_principals.iter().find(|api| api.id == held.resource_id);
                    let role = api.and_then(|api| {
                        api.app_roles.iter().find(|role| role["id"] == held.app_role_id.to_string().as_str())
                    });
                    let role = role.and_then(|role| role["value"].as_str()).unwrap_or("a role of no API");
                    roles.push(role.to_owned());
                }
            }
            roles.sort();
            Holds {
                apps: apps.len(),
                deleted_apps: gone,
                principals: principals.len(),
                credentials: secrets.chain(certificates).collect(),
                credentials_elsewhere: elsewhere.count(),
                roles,
            }
        })
    }

    /// An Exchange administrator who opens the sender's mailbox to every new app of this tenant as soon as it is there.
    pub(crate) async fn exchange_administrator(&self) {
        let tenant = self.emulator.tenant_id();
        let sender = self.emulator.sample().sender.clone();
        let mut seen: BTreeSet<_> = self.principals().into_keys().collect();
        loop {
            self.emulator
                .until(|world| {
                    let known = world.tenant(tenant).expect("the sample tenant stays");
                    known.directory.service_principals.iter().any(|one| !seen.contains(&one.id))
                })
                .await;
            for (principal, app) in self.principals() {
                if seen.insert(principal) {
                    self.emulator.with_world(|world| {
                        let known = world.tenant_mut(tenant).expect("the sample tenant stays");
                        known.register_mail_principal(app, principal);
                        for role in ["Application Mail.Send", "Application Mail.ReadWrite"] {
                            world.assign_mail_role(tenant, principal, role, Some(&[&sender]));
                        }
                    });
                }
            }
        }
    }

    fn principals(&self) -> BTreeMap<uuid::Uuid, uuid::Uuid> {
        self.emulator.with_world(|world| {
            let known = world.tenant(self.emulator.tenant_id()).expect("the sample tenant stays");
            known.directory.service_principals.iter().map(|one| (one.id, one.app_id)).collect()
        })
    }

    /// How many messages with this subject lie in a folder of a mailbox.
    pub(crate) fn received(&self, mailbox: &str, subject: &str) -> usize {
        let seen = self.emulator.with_world(|world| world.mailbox_contents(self.emulator.tenant_id(), mailbox));
        let seen = seen.unwrap_or_default();
        seen.iter().filter(|one| one.subject == subject && one.folder == "Inbox").count()
    }
}

/// What the directory holds of one app.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holds {
    pub(crate) apps: usize,
    pub(crate) deleted_apps: usize,
    pub(crate) principals: usize,
    /// Key id, and thumbprint of a certificate.
    pub(crate) credentials: Vec<(String, Option<String>)>,
    /// On the service principal, where no portal shows them.
    pub(crate) credentials_elsewhere: usize,
    pub(crate) roles: Vec<String>,
}

/// One installation and the setup it is asked for.
pub(crate) struct Setup<'a> {
    tenant: &'a Tenant,
    name: String,
    home: PathBuf,
    options: Vec<String>,
    /// How it names the tenant.
    named: String,
}

impl Setup<'_> {
    /// Names the tenant otherwise than by its id.
    pub(crate) fn in_tenant(mut self, named: &str) -> Self {
        named.clone_into(&mut self.named);
        self
    }

    /// The name of the sender it makes.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The folder that holds its data and keys.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Any command of this installation.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::from(postkey(&["--dir"]));
        // Nobody signs in at this machine.
        command.env("BROWSER", "true");
        command.arg(&self.home).args(arguments).kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `postkey setup NAME …` by an app that may administer.
    pub(crate) fn command_of_setup(&self) -> Command {
        let sample = self.tenant.emulator.sample();
        let mut command = self.command_of_setup_by("app");
        command.args(["--admin-client-id", &sample.admin_client_id.to_string()]);
        command.env("POSTKEY_ADMIN_CLIENT_SECRET", &sample.admin_client_secret);
        command
    }

    /// The same by another way to sign in.
    pub(crate) fn command_of_setup_by(&self, way: &str) -> Command {
        let mut command = self.command(&["setup", &self.name, "--sign-in", way]);
        command.args(["--tenant", &self.named, "--mailbox", &self.tenant.emulator.sample().sender]);
        command.args(self.tenant.hosts()).args(&self.options);
        command
    }

    /// Runs it undisturbed.
    pub(crate) async fn run(&self) {
        let output = ended(self.command_of_setup()).await;
        assert!(output.status.success(), "setup {} failed: {}", self.name, said(&output));
    }

    /// Runs any command, which must succeed.
    pub(crate) async fn succeeds(&self, arguments: &[&str]) -> Output {
        let output = ended(self.command(arguments)).await;
        assert!(output.status.success(), "{arguments:?} of {} failed: {}", self.name, said(&output));
        output
    }

    /// What a listing says.
    pub(crate) async fn listing(&self, arguments: &[&str]) -> Value {
        let output = self.succeeds(arguments).await;
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {}", said(&output)))
    }

    /// Starts `command` and waits until its `at`th call is held up. None when it ended before making so many.
    pub(crate) async fn held_up(&self, mut command: Command, at: u64, moment: Moment) -> Option<HeldUp<'_>> {
        let emulator = &self.tenant.emulator;
        let mut fault = Fault::of("", Action::Hang).times(1);
        fault.operation = None;
        fault.call = Some(emulator.last_call() + at);
        fault.after_effect = moment == Moment::BeforeItIsAnswered;
        let fault = emulator.fault(fault);
        let mut process = command.spawn().expect("the program under test starts");
        let stalled = emulator.until(|world| world.journal.hanging() > 0);
        let held = tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                () = stalled => true,
                status = process.wait() => {
                    let status = status.expect("it can be waited for");
                    assert!(status.success(), "{} failed before its call {at}: {status}", self.name);
                    false
                }
            }
        });
        let held = held.await.unwrap_or_else(|_| panic!("{} neither made its call {at} nor ended", self.name));
        if !held {
            emulator.clear_faults();
        }
        held.then_some(HeldUp { process, fault, emulator })
    }
}

/// A process in the middle of a call.
pub(crate) struct HeldUp<'a> {
    process: Child,
    fault: u64,
    emulator: &'a Emulator,
}

impl HeldUp<'_> {
    /// Kills it on the spot; a request that had no effect yet dies with its connection.
    pub(crate) async fn kill(mut self) {
        self.process.start_kill().expect("it is our own child, and still runs");
        self.process.wait().await.expect("it can be waited for");
        let gone = self.emulator.until(|world| world.journal.hanging() == 0);
        tokio::time::timeout(PATIENCE, gone).await.expect("the connection of a killed process is closed");
        self.release();
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.process.id().expect("it has not been waited for")
    }

    /// Lets the call go on, and waits for the end.
    pub(crate) async fn goes_on(mut self) -> ExitStatus {
        self.release();
        let ended = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        ended.expect("it ends in time").expect("it can be waited for")
    }

    fn release(&self) {
        self.emulator.with_world(|world| world.faults.remove(self.fault));
    }
}

/// Runs a command to its end.
pub(crate) async fn ended(mut command: Command) -> Output {
    tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends in time").expect("it starts")
}
