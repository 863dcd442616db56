//! The command line: its grammar here, one file per command beside it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) mod administrator;
pub(crate) mod api_key;
mod by_hand;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod emulator;
pub(crate) mod generate;
pub(crate) mod hand_over;
pub(crate) mod key;
mod limit;
pub(crate) mod list;
pub(crate) mod message;
mod pause;
pub(crate) mod send;
pub(crate) mod sender;
mod sender_work;
pub(crate) mod serve;
pub(crate) mod setup;
pub(crate) mod submitter;
pub(crate) mod token;
pub(crate) mod values;
pub(crate) mod webhook;

/// Set up an organisation's mail through Microsoft 365, send it, and never let a key expire.
#[derive(Debug, Parser)]
#[command(name = "postkey", version, max_term_width = 110, after_help = "Start with: postkey demo")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Folder of this installation: postkey.toml, data/ and keys/
    #[arg(long, global = true, env = "POSTKEY_DIR", value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Settings file (default: postkey.toml in the folder)
    #[arg(long, global = true, env = "POSTKEY_SETTINGS", value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log what happens to standard error; twice for every detail
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything on the emulator: one command, nothing to configure
    Demo(demo::Demo),
    /// Register an app, make its credential, get consent, and prove it with a message
    Setup(Box<setup::Setup>),
    /// Senders: tenant, app, mailbox and route under one name
    #[command(subcommand)]
    Sender(sender::Sender),
    /// Take mail by SMTP and HTTP and deliver it, until told to stop
    Serve(serve::Serve),
    /// Programs and devices that may hand in mail
    #[command(subcommand)]
    Submitter(submitter::Submitter),
    /// Keys for the REST API
    #[command(subcommand)]
    ApiKey(api_key::ApiKey),
    /// Messages that were accepted: where each stands and why
    #[command(subcommand)]
    Message(message::Message),
    /// Who is told what becomes of messages
    #[command(subcommand)]
    Webhook(webhook::Webhook),
    /// Check every link of the chain; each finding says who must do what
    Doctor(doctor::Doctor),
    /// Send one message, from an .eml file or from options, through a sender
    Send(send::Send),
    /// A fresh access token of a sender's app, for scripts
    Token(token::Token),
    /// The master key that seals secrets in the store
    #[command(subcommand)]
    Key(key::Key),
    /// Tenants postkey knows
    #[command(subcommand)]
    Tenant(list::Tenant),
    /// App registrations postkey knows
    #[command(subcommand)]
    App(list::App),
    /// Credentials of those apps, with their end dates
    #[command(subcommand)]
    Credential(list::Credential),
    /// A tenant in a box: Entra ID, Graph and Exchange Online on loopback
    Emulator(emulator::Emulate),
    /// Shell completions
    Completions(generate::Completions),
    /// Manual pages
    Man(generate::Man),
    /// Reference pages of the documentation
    #[command(hide = true)]
    Reference(generate::Reference),
}

/// Which cloud a tenant is in, and its hosts where they are one's own.
#[derive(Debug, Clone, Args)]
pub(crate) struct CloudArgs {
    /// Microsoft's cloud
    #[arg(long, value_enum, default_value_t = CloudChoice::Global)]
    pub(crate) cloud: CloudChoice,
    /// Login host of a custom cloud, such as https://localhost:8443
    #[arg(long, value_name = "URL", requires = "graph_url")]
    pub(crate) login_url: Option<String>,
    /// Microsoft Graph of a custom cloud, ending in /v1.0
    #[arg(long, value_name = "URL", requires = "login_url")]
    pub(crate) graph_url: Option<String>,
    /// SMTP submission of a custom cloud
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) smtp_host: Option<String>,
    /// PEM file with the CA of a custom cloud's hosts
    #[arg(long, value_name = "FILE")]
    pub(crate) cloud_ca: Option<PathBuf>,
}

/// The clouds by the names of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CloudChoice {
    /// Worldwide, GCC included
    Global,
    /// US Government, GCC High
    Usgov,
    /// US Government, DoD
    UsgovDod,
    /// China, operated by 21Vianet
    China,
    /// Hosts of one's own, given by --login-url and --graph-url
    Custom,
}
