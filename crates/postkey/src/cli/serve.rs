//! `postkey serve`: take mail by SMTP and HTTP and deliver it, until told to stop.

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::{
    failure::Failure,
    hardening,
    output::{self, FAINT, GOOD, STRONG, WARN, styled},
    serve::{Server, follow},
    settings::Settings,
};

/// Take mail by SMTP and HTTP and deliver it. SIGTERM or Ctrl-C finishes what is in hand, a second one ends at once; SIGHUP
/// reads settings and certificates again, as a change of their files does.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// How log lines are written to standard error
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One object a line
    Json,
}

impl Serve {
    pub(crate) async fn run(self, settings: Settings, json: bool) -> Result<(), Failure> {
        hardening::open_many_files();
        let server = Server::start(&settings).await?;
        if json {
            let line = json!({
                "node": server.node,
                "process": std::process::id(),
                "http": server.places.http,
                "smtp": server.places.smtp,
                "ca_file": server.places.ca,
                "store": server.store.location().to_string(),
            });
            // One line, so that whoever started the server reads one line.
            output::line(line);
        } else {
            describe(&server);
        }
        follow(server, settings).await;
        Ok(())
    }
}

fn describe(server: &Server) {
    output::line(format_args!("{} {}", styled(GOOD, "✓"), styled(STRONG, "postkey is up")));
    output::fields(&doors(server));
    if server.new_ca {
        output::note(format_args!(
            "{} a CA was made for this installation; devices that check certificates must trust the file above",
            styled(WARN, "!")
        ));
    }
    if server.submitters == 0 {
        output::note(format_args!(
            "{} nobody may hand in mail yet: {} submitter add NAME",
            styled(FAINT, "·"),
            server.command
        ));
    }
}

/// What listens where.
pub(crate) fn doors(server: &Server) -> Vec<(&'static str, String)> {
    let places = &server.places;
    let mut rows = Vec::new();
    for place in &places.smtp {
        let name = styled(FAINT, format_args!("({})", place.name));
        rows.push(("SMTP", format!("{}:{}  {}  {name}", place.host, place.port, place.mode.in_words())));
    }
    rows.extend(places.http.as_ref().map(|url| ("HTTP", url.clone())));
    rows.extend(places.ca.as_ref().map(|ca| ("CA to trust", ca.display().to_string())));
    rows.push(("store", server.store.location().to_string()));
    rows.push(("node", server.node.clone()));
    rows
}
