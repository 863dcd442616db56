//! A running emulator (alone or inside the demo) that is being measured, or measured against.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::postkey;
use super::process::{Folder, memory};
use crate::Outcome;
use crate::guardian::Guardian;
use crate::run::{output, shown};

/// Far more than the slowest start; a start that takes this long has failed.
const START_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Emulator<'a> {
    process: Child,
    guardian: &'a Guardian,
    /// Its environment file and its own folder lie here; removed after it has ended.
    folder: Folder,
    variables: BTreeMap<String, String>,
}

impl<'a> Emulator<'a> {
    /// Starts a command that takes `--env` and `--dir`; returns once the environment file is there.
    pub(crate) fn start(guardian: &'a Guardian, mut command: Command) -> Outcome<Emulator<'a>> {
        let folder = Folder::make(guardian)?;
        let file = folder.path().join("environment");
        command.arg("--env").arg(&file).arg("--dir").arg(folder.path().join("home"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let process = command.spawn().map_err(|e| format!("{} does not start: {e}", shown(&command)))?;
        guardian.watch_group(process.id());
        let mut emulator = Emulator { process, guardian, folder, variables: BTreeMap::new() };
        let started = Instant::now();
        while !file.exists() {
            if emulator.process.try_wait().is_ok_and(|status| status.is_some()) || started.elapsed() > START_PATIENCE {
                return Err(format!("{} did not become ready", shown(&command)));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let lines = text.lines().filter_map(|line| line.split_once('='));
        emulator.variables =
            lines.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').replace(r"'\''", "'"))).collect();
        Ok(emulator)
    }

    pub(crate) fn variable(&self, name: &str) -> Outcome<&str> {
        self.variables.get(name).map(String::as_str).ok_or_else(|| format!("the environment file has no {name}"))
    }

    /// Resident memory in KiB once nothing happens any more.
    pub(crate) fn settled_memory(&self) -> Outcome<u64> {
        let mut last = 0;
        for _ in 0..50 {
            let now = memory(self.process.id(), "VmRSS").ok_or("it ended while its memory was measured")?;
            if now == last {
                return Ok(now);
            }
            last = now;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(last)
    }

    /// `postkey setup NAME` against this emulator, signed in as the app that may manage applications.
    pub(crate) fn setup(&self, name: &str, home: &Folder) -> Outcome<Command> {
        let mut setup = postkey(&["setup", name, "--reach", "tenant-wide", "--sign-in", "app"]);
        self.hosts(&mut setup)?;
        for (option, variable) in
            [("--tenant", "TENANT_ID"), ("--mailbox", "SENDER"), ("--admin-client-id", "ADMIN_CLIENT_ID")]
        {
            setup.args([option, self.variable(variable)?]);
        }
        setup.env("POSTKEY_ADMIN_CLIENT_SECRET", self.variable("ADMIN_CLIENT_SECRET")?);
        setup.arg("--dir").arg(home.path()).stderr(Stdio::null());
        Ok(setup)
    }

    /// Completes `postkey sender add … --secret-file` with the sample app, which may send as every mailbox and read it. The
    /// secret is written into `folder`.
    pub(crate) fn as_sample_app<'c>(&self, add: &'c mut Command, folder: &Path) -> Outcome<&'c mut Command> {
        let secret = folder.join("sample-app.secret");
        std::fs::write(&secret, self.variable("CLIENT_SECRET")?)
            .and_then(|()| std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)))
            .map_err(|e| format!("{}: {e}", secret.display()))?;
        add.arg("--secret-file").arg(&secret).args(["--expires", "2099-01-31"]);
        for (option, variable) in [("--client-id", "CLIENT_ID"), ("--tenant", "TENANT_ID")] {
            add.args([option, self.variable(variable)?]);
        }
        self.hosts(add)?;
        Ok(add)
    }

    /// The options by which a command finds this tenant's hosts.
    fn hosts(&self, command: &mut Command) -> Outcome {
        command.args(["--cloud", "custom"]);
        for (option, variable) in [
            ("--login-url", "EMULATOR_AUTHORITY"),
            ("--graph-url", "EMULATOR_GRAPH"),
            ("--smtp-host", "EMULATOR_SMTP"),
            ("--cloud-ca", "EMULATOR_CA"),
        ] {
            command.args([option, self.variable(variable)?]);
        }
        Ok(())
    }

    /// What `send` asks of the tenant, by other means: a token with the sample app's secret, and one sendMail. The
    /// comparison is a little unfair to `send`, which also opens its store and signs with a certificate.
    pub(crate) fn send_by_curl(&self) -> Outcome<Command> {
        const SCRIPT: &str = r#"
            set -eu
            token=$(printf 'grant_type=client_credentials&client_id=%s&client_secret=%s&scope=https%%3A%%2F%%2Fgraph.microsoft.com%%2F.default' \
                "$CLIENT_ID" "$CLIENT_SECRET" |
                curl --silent --fail --cacert "$EMULATOR_CA" --data @- "$EMULATOR_AUTHORITY/$TENANT_ID/oauth2/v2.0/token" |
                sed 's/.*"access_token":"\([^"]*\)".*/\1/')
            printf '{"message":{"subject":"bench","body":{"contentType":"text","content":"one line"},"toRecipients":[{"emailAddress":{"address":"%s"}}]}}' "$USER_NAME" |
                curl --silent --fail --cacert "$EMULATOR_CA" --header "Authorization: Bearer $token" \
                    --header 'Content-Type: application/json' --data @- "$EMULATOR_GRAPH/users/$SENDER/sendMail"
        "#;
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).env("no_proxy", "localhost,127.0.0.1");
        for name in [
            "CLIENT_ID",
            "CLIENT_SECRET",
            "EMULATOR_CA",
            "EMULATOR_AUTHORITY",
            "EMULATOR_GRAPH",
            "TENANT_ID",
            "USER_NAME",
            "SENDER",
        ] {
            command.env(name, self.variable(name)?);
        }
        Ok(command)
    }

    /// How many requests the tenant has answered so far.
    pub(crate) fn calls(&self, guardian: &Guardian) -> Outcome<u64> {
        let answer = self.ask(guardian, "calls")?;
        let list = answer.as_array().ok_or("the emulator's journal is no list")?;
        // The journal keeps the last calls only; their numbers go on.
        Ok(list.last().and_then(|call| call["seq"].as_u64()).unwrap_or_default())
    }

    /// How many messages its mailboxes have taken for delivery so far.
    pub(crate) fn submitted(&self, guardian: &Guardian) -> Outcome<usize> {
        let count = self.ask(guardian, "counters")?["messages"].as_u64().ok_or("the emulator counts no messages")?;
        usize::try_from(count).map_err(|e| e.to_string())
    }

    fn ask(&self, guardian: &Guardian, what: &str) -> Outcome<serde_json::Value> {
        let address = format!("{}/{what}", self.variable("EMULATOR_MANAGEMENT")?);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--show-error", "--max-time", "30", "--noproxy", "*", "--cacert"]);
        let answer = output(guardian, curl.arg(self.variable("EMULATOR_CA")?).arg(&address))?;
        serde_json::from_str(&answer).map_err(|e| format!("{address}: {e}"))
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Emulator<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.guardian.forget_group(self.process.id());
        let _ = &self.folder;
    }
}
