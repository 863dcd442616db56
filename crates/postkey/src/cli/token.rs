//! `postkey token`: a fresh access token for scripts.

use clap::{Args, ValueEnum};
use postkey_identity::TokenSource;
use postkey_setup::explain::explain;

use crate::{failure::Failure, output, settings::Settings, wiring};

/// A fresh access token of a sender's app, on standard output and nowhere else.
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The sender (default: the only one)
    sender: Option<String>,
    /// What the token is for
    #[arg(long = "for", value_enum, default_value_t = Resource::Graph)]
    resource: Resource,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Resource {
    /// Microsoft Graph
    Graph,
    /// SMTP, IMAP and POP
    Mail,
}

impl Token {
    pub(crate) async fn run(self, settings: &Settings, json: bool) -> Result<(), Failure> {
        let outside = wiring::open(settings).await?;
        let connection = match &self.sender {
            Some(name) => outside.sender(name).await?,
            None => outside.only_sender().await?,
        };
        let token = match self.resource {
            Resource::Graph => connection.app.graph_tokens().token().await,
            Resource::Mail => connection.app.mail_tokens().token().await,
        };
        let token = match token {
            Ok(token) => token,
            Err(error) => return Err(Failure::explained(explain(&connection, &settings.command(), &error).await)),
        };
        if json {
            output::json(&serde_json::json!({ "access_token": token.expose(), "user": connection.mailbox }));
        } else {
            output::line(token.expose());
        }
        Ok(())
    }
}
