//! How an administrator signs in from the command line, and what that leaves behind.

use clap::{Args, ValueEnum};
use postkey_base::{ClientId, ClientSecret};
use postkey_identity::TokenEndpoint;
use postkey_setup::{
    options::SetupOptions,
    sign_in::{self, Administrator, GRAPH_COMMAND_LINE_TOOLS, SignIn},
    watch::Watcher,
};

use crate::{failure::Failure, settings::Settings};

/// The administrator's sign-in.
#[derive(Debug, Args)]
pub(crate) struct SignInArgs {
    /// How the administrator signs in
    #[arg(long, value_enum, default_value_t = Way::Browser)]
    sign_in: Way,
    /// Public client to sign in with (default: Microsoft Graph Command Line Tools)
    #[arg(long, value_name = "CLIENT_ID")]
    bootstrap_client_id: Option<String>,
    /// With --sign-in app: client id of an app that may manage applications; its secret in POSTKEY_ADMIN_CLIENT_SECRET
    #[arg(long, value_name = "CLIENT_ID")]
    admin_client_id: Option<String>,
}

/// Ways to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// A browser on this machine
    Browser,
    /// A code to type in a browser on any machine
    DeviceCode,
    /// An app instead of a person, for pipelines
    App,
}

impl SignInArgs {
    /// Signs in with no more rights than `options` need.
    pub(crate) async fn sign_in(
        &self,
        settings: &Settings,
        endpoint: &TokenEndpoint,
        options: &SetupOptions,
        watcher: &dyn Watcher,
    ) -> Result<Administrator, Failure> {
        let bootstrap = self
            .bootstrap_client_id
            .as_deref()
            .or(settings.bootstrap_client_id.as_deref())
            .unwrap_or(GRAPH_COMMAND_LINE_TOOLS);
        let client = client_id(bootstrap, "--bootstrap-client-id")?;
        let how = match self.sign_in {
            Way::Browser => SignIn::Browser { open: Box::new(open_browser) },
            Way::DeviceCode => SignIn::DeviceCode,
            Way::App => {
                let client = self.admin_client_id.as_deref().ok_or_else(|| {
                    Failure::usage(
                        "--sign-in app needs an app",
                        "Give its client id with --admin-client-id and its secret in POSTKEY_ADMIN_CLIENT_SECRET.",
                    )
                })?;
                let secret = std::env::var("POSTKEY_ADMIN_CLIENT_SECRET").ok().filter(|secret| !secret.is_empty());
                let secret = secret.ok_or_else(|| {
                    Failure::usage(
                        "the app's secret is missing",
                        "Put it in POSTKEY_ADMIN_CLIENT_SECRET; it is read from nowhere else and kept nowhere.",
                    )
                })?;
                SignIn::App { client: client_id(client, "--admin-client-id")?, secret: ClientSecret::new(secret) }
            }
        };
        let scopes = options.administrator_scopes();
        Ok(sign_in::sign_in(endpoint, &options.tenant, client, &scopes, &how, watcher).await?)
    }
}

pub(crate) fn client_id(text: &str, option: &str) -> Result<ClientId, Failure> {
    text.parse().map_err(|_| {
        Failure::usage(
            format!("{option} is not a client id"),
            "A client id is a GUID: the portal's Application (client) ID.",
        )
    })
}

/// The address is printed as well, so a machine without a browser loses nothing.
fn open_browser(url: &url::Url) {
    // Everybody's way to the user's own browser; $BROWSER first, as other tools do.
    let program =
        std::env::var("BROWSER").ok().filter(|browser| !browser.is_empty()).unwrap_or_else(|| "xdg-open".into());
    let mut browser = std::process::Command::new(program);
    // It outlives this program by days, and so would every secret among our variables.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTKEY_") {
            browser.env_remove(name);
        }
    }
    let started = browser
        .arg(url.as_str())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    if let Ok(mut browser) = started {
        // Reaped in the background: a browser may live as long as it likes.
        std::thread::spawn(move || drop(browser.wait()));
    }
}
