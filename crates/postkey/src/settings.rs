//! Where postkey keeps its things and how it reaches the network: one TOML file, `POSTKEY_*`, and defaults that work.
//! Precedence: command line, environment, file, default.

use std::{
    env,
    path::{Path, PathBuf},
};

use postkey_base::{Diagnose, Who};
use serde::Deserialize;

pub(crate) mod listeners;
pub(crate) mod queue;

use self::{
    listeners::{Http, Listeners, Serve, SmtpListener, SmtpTls},
    queue::{LimitsSection, QueueSection, Queueing, WebhooksSection},
};
use crate::failure::Failure;

/// What the settings file may say. Paths are relative to the file's folder.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsFile {
    /// Folder of the database. Default: `data` beside the file, or `./postkey-data`, or `$STATE_DIRECTORY`.
    data: Option<PathBuf>,
    /// `postgres://…` when several nodes share the work. Default: SQLite in the data folder.
    store: Option<String>,
    /// The master key that seals secrets; outside the data folder and every backup.
    master_key_file: Option<PathBuf>,
    /// HTTP CONNECT proxy for Entra, Graph and SMTP: `http://proxy.example:3128`.
    proxy: Option<String>,
    /// PEM file of a CA to trust beside the platform's, for networks that intercept TLS.
    ca_file: Option<PathBuf>,
    /// Public client that an administrator signs in with. Default: Microsoft Graph Command Line Tools.
    bootstrap_client_id: Option<String>,
    /// `[serve]`: the program as a service.
    #[serde(default)]
    serve: Serve,
    /// `[http]`: REST and health.
    #[serde(default)]
    http: Http,
    /// `[[smtp]]`: SMTP ports. Default: 127.0.0.1:2525 with STARTTLS and 127.0.0.1:2465 with implicit TLS.
    smtp: Option<Vec<SmtpListener>>,
    /// `[smtp_tls]`: what they present.
    #[serde(default)]
    smtp_tls: SmtpTls,
    /// `[limits]`: what each mailbox may do.
    #[serde(default)]
    limits: LimitsSection,
    /// `[queue]`: how long things are tried and kept.
    #[serde(default)]
    queue: QueueSection,
    /// `[webhooks]`: where they may be.
    #[serde(default)]
    webhooks: WebhooksSection,
}

/// The settings in force.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Folder of the database.
    pub(crate) data: PathBuf,
    /// `postgres://…`, if any. May carry a password: never printed.
    pub(crate) store: Option<String>,
    /// File of the master key.
    pub(crate) master_key_file: PathBuf,
    /// HTTP CONNECT proxy. May carry a password: never printed.
    pub(crate) proxy: Option<String>,
    /// Additional CA.
    pub(crate) ca_file: Option<PathBuf>,
    /// Public client for an administrator's sign-in.
    pub(crate) bootstrap_client_id: Option<String>,
    /// Where `postkey serve` listens.
    pub(crate) listeners: Listeners,
    /// How its queue keeps, paces and tells.
    pub(crate) queueing: Queueing,
    /// The file they were read from, whether it is there or not.
    pub(crate) file: PathBuf,
    /// The home folder when one was given: commands in hints then carry `--dir`.
    pub(crate) home: Option<PathBuf>,
}

/// Every setting with its default, as a file.
pub(crate) const REFERENCE: &str = include_str!("settings/reference.toml");

/// Every environment variable postkey reads, with its meaning: help, docs and code share this list.
pub(crate) const VARIABLES: &[(&str, &str)] = &[
    ("POSTKEY_DIR", "folder that holds postkey.toml, data/ and keys/, as --dir"),
    ("POSTKEY_SETTINGS", "settings file, as --settings"),
    ("POSTKEY_DATA", "folder of the database"),
    ("POSTKEY_STORE", "postgres://… instead of SQLite"),
    ("POSTKEY_MASTER_KEY", "the master key itself, lines of version:base64"),
    ("POSTKEY_MASTER_KEY_FILE", "file of the master key"),
    ("POSTKEY_PROXY", "HTTP CONNECT proxy for everything"),
    ("POSTKEY_CA_FILE", "PEM file of a CA to trust as well"),
    ("POSTKEY_BOOTSTRAP_CLIENT_ID", "public client that an administrator signs in with"),
    ("POSTKEY_ADMIN_CLIENT_SECRET", "secret for `setup --sign-in app`"),
    ("POSTKEY_HTTP_LISTEN", "address and port of REST and health, or off"),
    ("POSTKEY_HTTP_TLS_CERTIFICATE", "PEM file: that port speaks https"),
    ("POSTKEY_HTTP_TLS_KEY", "PEM file of its private key (default: the certificate's file)"),
    ("POSTKEY_SMTP_LISTEN", "address and port of the SMTP listener `smtp` (STARTTLS), or off"),
    ("POSTKEY_SMTPS_LISTEN", "address and port of the SMTP listener `smtps` (implicit TLS), or off"),
    (
        "POSTKEY_SMTP_TLS_CERTIFICATE",
        "PEM file that SMTP listeners present (default: one made here, with a CA of its own)",
    ),
    ("POSTKEY_SMTP_TLS_KEY", "PEM file of its private key (default: the certificate's file)"),
    ("POSTKEY_NODE", "name of this node among those that share a store"),
    ("POSTKEY_STOP_WITHIN_S", "seconds that work in hand is given after SIGTERM"),
    ("POSTKEY_LOG", "what to log to standard error: error, warn, info, debug, trace or a tracing filter"),
    ("STATE_DIRECTORY", "set by systemd: default folder of the database"),
    ("CONFIGURATION_DIRECTORY", "set by systemd: default folder of the master key"),
    ("CREDENTIALS_DIRECTORY", "set by systemd: holds the credential `postkey-master-key`, if given"),
    ("NOTIFY_SOCKET", "set by systemd: where `serve` says that it is ready, reloading or stopping"),
    ("NO_COLOR", "any value: no colour"),
];

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file named on the command line or in the environment.
    #[error("the settings file {path} cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// Not TOML, or a key that does not exist.
    #[error("the settings file {path} has a mistake in line {line}: {problem}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// As the parser says it, without the line itself: a password may stand there.
        problem: String,
    },
}

impl SettingsError {
    fn malformed(path: &Path, text: &str, mistake: &toml::de::Error) -> Self {
        let at = mistake.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count();
        Self::Malformed { path: path.to_owned(), line, problem: mistake.message().trim_end().to_owned() }
    }
}

impl Diagnose for SettingsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "settings.unreadable",
            Self::Malformed { .. } => "settings.malformed",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Unreadable { path, .. } => format!("Create {} or name another file with --settings.", path.display()),
            Self::Malformed { path, .. } => {
                format!("Mend {}: docs/settings.md lists what it may hold.", path.display())
            }
        }
    }

    fn who(&self) -> Who {
        Who::You
    }
}

impl Settings {
    /// Reads file and environment. `home` is `--dir`, `file` is `--settings`.
    ///
    /// # Errors
    /// A file that was named but is not there, or one with a mistake in it.
    pub(crate) fn load(home: Option<&Path>, file: Option<&Path>) -> Result<Self, Failure> {
        let named = file.map(Path::to_path_buf);
        let path = named.clone().unwrap_or_else(|| home.unwrap_or(Path::new(".")).join("postkey.toml"));
        let read = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|mistake| SettingsError::malformed(&path, &text, &mistake))?,
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
                SettingsFile::default()
            }
            Err(cause) => return Err(SettingsError::Unreadable { path, cause }.into()),
        };
        let folder = path.parent().unwrap_or(Path::new(".")).to_path_buf();
        let from_file = |given: Option<PathBuf>| given.map(|given| folder.join(given));
        let listeners = Listeners {
            serve: read.serve,
            http: read.http,
            smtp: read.smtp.unwrap_or_else(listeners::default_smtp),
            smtp_tls: read.smtp_tls,
        };

        let data = variable_path("POSTKEY_DATA")
            .or_else(|| from_file(read.data))
            .or_else(|| home.map(|home| home.join("data")))
            .or_else(|| variable_path("STATE_DIRECTORY"))
            .unwrap_or_else(|| PathBuf::from("postkey-data"));
        let master_key_file = variable_path("POSTKEY_MASTER_KEY_FILE")
            .or_else(|| from_file(read.master_key_file))
            .or_else(|| home.map(|home| home.join("keys").join("master.key")))
            .unwrap_or_else(default_key_file);
        Ok(Self {
            data,
            store: variable("POSTKEY_STORE").or(read.store),
            master_key_file,
            proxy: variable("POSTKEY_PROXY").or(read.proxy),
            ca_file: variable_path("POSTKEY_CA_FILE").or_else(|| from_file(read.ca_file)),
            bootstrap_client_id: variable("POSTKEY_BOOTSTRAP_CLIENT_ID").or(read.bootstrap_client_id),
            listeners: listeners.settle(&folder)?,
            queueing: Queueing { limits: read.limits, queue: read.queue, webhooks: read.webhooks },
            file: path,
            home: home.map(Path::to_path_buf),
        })
    }

    /// How a hint must begin so that it reaches this same installation.
    pub(crate) fn command(&self) -> String {
        match &self.home {
            Some(home) => format!("postkey --dir {}", shell_word(&home.display().to_string())),
            None => "postkey".to_owned(),
        }
    }
}

/// A word for a POSIX shell: bare where that is safe, else single-quoted.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable that is more than text.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str) -> Result<Option<T>, Failure> {
    let Some(text) = variable(name) else { return Ok(None) };
    let wrong =
        |error: T::Err| Failure::usage(format!("{name} is not usable: {error}"), format!("Mend or unset {name}."));
    text.trim().parse().map(Some).map_err(wrong)
}

/// A path of the settings file, which is relative to the file's folder.
fn beside(folder: &Path, path: &mut Option<PathBuf>) {
    if let Some(given) = path {
        *given = folder.join(&*given);
    }
}

fn variable_path(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from)
}

/// Outside the data folder and every backup of it: the configuration folder of systemd, or of the user.
fn default_key_file() -> PathBuf {
    let folder = variable_path("CONFIGURATION_DIRECTORY")
        .or_else(|| variable_path("XDG_CONFIG_HOME").map(|config| config.join("postkey")))
        .or_else(|| variable_path("HOME").map(|user| user.join(".config").join("postkey")))
        .unwrap_or_else(|| PathBuf::from("postkey-keys"));
    folder.join("master.key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_names_every_setting_with_its_default() {
        let load = |text: &str| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("postkey.toml"), text).unwrap();
            Settings::load(Some(dir.path()), None).map_err(|failure| failure.diagnosis.what.clone()).unwrap()
        };
        let (said, default) = (load(REFERENCE), load(""));
        assert_eq!((said.listeners, said.queueing), (default.listeners, default.queueing));
        // Those without a default stand there as comments that hold when the mark is taken off.
        let all: String = REFERENCE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = \"") && !rest.contains(". ") => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let all = load(&all);
        assert!(all.proxy.is_some() && all.store.is_some() && all.bootstrap_client_id.is_some());
        assert!(all.listeners.serve.node.is_some() && all.listeners.smtp_tls.key.is_some());
    }

    #[test]
    fn a_shell_word_survives_the_shell() {
        for (text, want) in
            [("/tmp/demo", "/tmp/demo"), ("/tmp/my demo", "'/tmp/my demo'"), ("it's", r"'it'\''s'"), ("", "''")]
        {
            assert_eq!(shell_word(text), want);
        }
    }

    #[test]
    fn a_mistake_is_refused_with_its_line_and_without_what_stands_there() {
        for (text, line, named) in [
            ("data = \"d\"\nproxi = \"http://u:hush@p:1\"\n", "line 2", "proxi"),
            ("store = \"postgres://u:hush@db/x\n", "line 1", ""),
            ("\nstore = postgres://u:hush@db/x\n", "line 2", ""),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("postkey.toml"), text).unwrap();
            let error = Settings::load(Some(dir.path()), None).err().unwrap();
            let said = format!("{} {error:?}", error.diagnosis.what);
            assert!(said.contains(line) && said.contains(named) && !said.contains("hush"), "{said}");
        }
    }
}
