//! `postkey send`: one message, waited for, with its outcome.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use postkey_base::{Diagnosis, EmailAddress, Who};
use postkey_graph::GraphError;
use postkey_setup::{abilities, connection::SenderConnection, explain::explain};
use postkey_transport::{
    Abilities, AttachedFile, Composition, Envelope, Message, Preference, Route, Stamp, compose,
    outcome::{Outcome, Proof, Report, Unknown},
    sending::{SentCopy, Transport, seen_in_sent},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    failure::Failure,
    output::{self, BAD, FAINT, GOOD, STRONG, WARN, styled},
    settings::Settings,
    wiring,
};

/// A message larger than any tenant takes is not read to its end.
const LARGEST_FILE: u64 = 160 * 1024 * 1024;

/// Send one message, from an .eml file or from options, and wait for the outcome.
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The message, RFC 5322; - for standard input. Without it, one is made from the options
    file: Option<PathBuf>,
    /// The sender (default: the only one)
    #[arg(long, value_name = "NAME")]
    sender: Option<String>,
    /// Recipient; may be given again. With a file: the envelope, in place of its To, Cc and Bcc
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<String>,
    /// Copy; may be given again
    #[arg(long, value_name = "ADDRESS", conflicts_with = "file")]
    cc: Vec<String>,
    /// Hidden copy; may be given again
    #[arg(long, value_name = "ADDRESS", conflicts_with = "file")]
    bcc: Vec<String>,
    /// Subject
    #[arg(long, conflicts_with = "file")]
    subject: Option<String>,
    /// Text; - for standard input
    #[arg(long, conflicts_with = "file")]
    body: Option<String>,
    /// HTML file
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    html: Option<PathBuf>,
    /// File to attach; may be given again
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    attach: Vec<PathBuf>,
    /// Which way the message leaves
    #[arg(long, value_enum)]
    route: Option<RouteChoice>,
    /// Say which way it would leave and what would be changed, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// While Exchange says "later", try again for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RouteChoice {
    /// Whichever carries it unharmed
    Auto,
    /// Microsoft Graph
    Graph,
    /// SMTP with XOAUTH2
    Smtp,
}

impl Send {
    pub(crate) async fn run(self, settings: &Settings, json: bool) -> Result<(), Failure> {
        let outside = wiring::open(settings).await?;
        let connection = match &self.sender {
            Some(name) => outside.sender(name).await?,
            None => outside.only_sender().await?,
        };
        let stamp = Stamp { id: Uuid::new_v4(), at: outside.clock.now() };
        let (message, envelope) = self.message(&connection.mailbox, &stamp)?;
        let preference = match self.route {
            Some(RouteChoice::Auto) => Some(Preference::Auto),
            Some(RouteChoice::Graph) => Some(Preference::Graph),
            Some(RouteChoice::Smtp) => Some(Preference::Smtp),
            None => None,
        };
        let transport = transport(&connection, &message, &envelope, preference).await?;
        if self.dry_run {
            return dry_run(&transport, &message, &envelope, json);
        }
        let patience = Duration::from_secs(self.wait);
        let began = Instant::now();
        let mut report = deliver(&transport, &message, &envelope, &stamp, patience).await;
        let mut pause = Duration::from_secs(1);
        let found = loop {
            let left = patience.saturating_sub(began.elapsed());
            let Some(asked) = unavailable(&report) else {
                break look_for(&connection, &transport, &report, &stamp, left).await;
            };
            let wait = asked.unwrap_or(pause).max(pause);
            if wait > left {
                break None;
            }
            output::note(format_args!(
                "{} Graph is not available; in {} s the message is looked for in Sent Items, and sent again if it is not there",
                styled(WARN, "later:"),
                wait.as_secs().max(1)
            ));
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(Duration::from_secs(30));
            let found = look_for(&connection, &transport, &report, &stamp, Duration::ZERO).await;
            if found.is_some() {
                break found;
            }
            let left = patience.saturating_sub(began.elapsed());
            report = deliver(&transport, &message, &envelope, &stamp, left).await;
        };
        let diagnosis = match &report.outcome {
            Outcome::Accepted(_) => None,
            Outcome::Unknown(_) if found.is_some() => None,
            Outcome::Refused(error) => Some(explain(&connection, &settings.command(), error).await),
            Outcome::Unknown(unknown) => Some(explain(&connection, &settings.command(), unknown).await),
        };
        conclude(&connection, &message, &report, found, diagnosis, json)
    }

    fn message(&self, mailbox: &EmailAddress, stamp: &Stamp) -> Result<(Message, Envelope), Failure> {
        let to = addresses(&self.to, "--to")?;
        if let Some(path) = &self.file {
            let message = parse(read(path)?)?;
            let envelope = if to.is_empty() {
                Envelope::of(&message, mailbox.clone())
            } else {
                Envelope::new(mailbox.clone(), to)
            };
            return Ok((message, envelope?));
        }
        if self.to.is_empty() && self.cc.is_empty() && self.bcc.is_empty() {
            return Err(Failure::usage(
                "there is nothing to send",
                "Give an .eml file, or --to with --subject and --body.",
            ));
        }
        let mut composition = Composition {
            to,
            cc: addresses(&self.cc, "--cc")?,
            bcc: addresses(&self.bcc, "--bcc")?,
            subject: self.subject.clone().unwrap_or_default(),
            ..Composition::new(mailbox.clone())
        };
        composition.text = match self.body.as_deref() {
            Some("-") => Some(text(read(Path::new("-"))?, "--body")?),
            Some(body) => Some(body.to_owned()),
            None => None,
        };
        if let Some(path) = &self.html {
            composition.html = Some(text(read(path)?, "--html")?);
        }
        for path in &self.attach {
            let name =
                path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_else(|| "attachment".into());
            composition.attachments.push(AttachedFile { name, content_type: None, bytes: read(path)? });
        }
        let written = compose(&composition, stamp.id, stamp.at)
            .map_err(|error| Failure::from(postkey_transport::outcome::TransportError::from(error)))?;
        let message = parse(written)?;
        let envelope = Envelope::of(&message, mailbox.clone())?;
        Ok((message, envelope))
    }
}

fn parse(bytes: Vec<u8>) -> Result<Message, Failure> {
    Ok(Message::parse(bytes)?)
}

fn addresses(given: &[String], option: &str) -> Result<Vec<EmailAddress>, Failure> {
    given
        .iter()
        .flat_map(|list| list.split(','))
        .map(|one| {
            one.parse().map_err(|error: postkey_base::address::AddressError| {
                Failure::usage(error.to_string(), format!("Give {option} as name@domain."))
            })
        })
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(LARGEST_FILE + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
    };
    read.map_err(|cause| Failure::file(path, "read", cause))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(Failure::new(
            "transport.too_large",
            format!("{} is larger than {} MB, more than any tenant takes", path.display(), LARGEST_FILE / 1024 / 1024),
            "Send a link to it instead.",
            Who::You,
        ));
    }
    Ok(bytes)
}

fn text(bytes: Vec<u8>, option: &str) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| {
        Failure::usage(format!("{option} is not UTF-8 text"), "Convert it to UTF-8, or send a whole message as a file.")
    })
}

/// The ways out of this sender for this message. What its tokens allow is asked only when plain Graph will not do.
pub(crate) async fn transport(
    connection: &SenderConnection,
    message: &Message,
    envelope: &Envelope,
    preference: Option<Preference>,
) -> Result<Transport, Failure> {
    let graph = connection.app.graph()?;
    let smtp = connection.app.smtp()?;
    let wanted = preference.unwrap_or_else(|| abilities::preference(&connection.sender));
    let mut transport = Transport {
        mailbox: connection.mailbox.clone(),
        abilities: Abilities { graph_send: true, preference: wanted, ..Abilities::default() },
        graph: Some(graph),
        smtp: Some(smtp),
    };
    let plain = wanted != Preference::Smtp
        && matches!(transport.choose(message, envelope), Ok(choice) if choice.route == Route::GraphMime);
    if !plain {
        transport.abilities = abilities::abilities(connection, wanted).await;
    }
    Ok(transport)
}

/// Sends, and again while Exchange says "later" and certainly has not taken it, for at most `patience`.
pub(crate) async fn deliver(
    transport: &Transport,
    message: &Message,
    envelope: &Envelope,
    stamp: &Stamp,
    patience: Duration,
) -> Report {
    let began = Instant::now();
    let mut pause = Duration::from_secs(1);
    loop {
        let report = transport.send(message, envelope, stamp).await;
        let Outcome::Refused(error) = &report.outcome else { return report };
        let next = error.retry_after().unwrap_or(pause).max(pause);
        if !error.is_transient() || began.elapsed() + next > patience {
            return report;
        }
        output::note(format_args!("{} {error}; next try in {} s", styled(WARN, "later:"), next.as_secs().max(1)));
        tokio::time::sleep(next).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}

/// Whether Graph said that it is down or overloaded (503), and when it wants to be asked again. That does not prove that it
/// took nothing, so the message is looked for where that is allowed; then it goes again under the same Message-ID, by
/// which a second copy would be recognised.
fn unavailable(report: &Report) -> Option<Option<Duration>> {
    match &report.outcome {
        Outcome::Unknown(Unknown::Graph(error)) => match &**error {
            GraphError::Unavailable { answer, retry_after } if answer.status == 503 => Some(*retry_after),
            _ => None,
        },
        _ => None,
    }
}

/// A message whose answer was lost may lie in Sent Items, where an app with read rights finds it.
async fn look_for(
    connection: &SenderConnection,
    transport: &Transport,
    report: &Report,
    stamp: &Stamp,
    patience: Duration,
) -> Option<SentCopy> {
    let (Outcome::Unknown(_), Some(id), Some(graph)) = (&report.outcome, &report.message_id, &transport.graph) else {
        return None;
    };
    let began = Instant::now();
    let mut pause = Duration::from_millis(500);
    loop {
        match seen_in_sent(graph, &connection.mailbox, id, Some(stamp.id)).await {
            Ok(Some(copy)) => return Some(copy),
            Ok(None) => {}
            Err(error) if error.is_transient() => {}
            // No right to read: nobody can tell.
            Err(_) => return None,
        }
        if began.elapsed() + pause > patience {
            return None;
        }
        output::note(format_args!("{} looking for the message in Sent Items", styled(WARN, "no answer:")));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(15));
    }
}

fn dry_run(transport: &Transport, message: &Message, envelope: &Envelope, json: bool) -> Result<(), Failure> {
    let choice = transport.choose(message, envelope)?;
    if json {
        output::json(
            &json!({ "route": choice.route, "reason": choice.reason.to_string(), "losses": choice.losses, "size": message.size() }),
        );
    } else {
        output::line(format_args!("{} would carry it: {}", styled(STRONG, choice.route), choice.reason));
        for loss in &choice.losses {
            output::line(format_args!("  {} {loss}", styled(WARN, "lost:")));
        }
    }
    Ok(())
}

fn conclude(
    connection: &SenderConnection,
    message: &Message,
    report: &Report,
    found: Option<SentCopy>,
    diagnosis: Option<Diagnosis>,
    json: bool,
) -> Result<(), Failure> {
    if json {
        print_json(connection, message, report, found.as_ref(), diagnosis.as_ref());
    } else {
        if let Some(copy) = &found {
            let at = copy.sent.map(|at| format!(" at {}", at.strftime("%H:%M:%S UTC"))).unwrap_or_default();
            output::line(format_args!(
                "{} its answer was lost; it was sent{at} and lies in Sent Items",
                styled(GOOD, "✓ accepted:")
            ));
        } else if matches!(report.outcome, Outcome::Refused(_)) {
            output::line(styled(BAD, "✗ not sent"));
        } else if matches!(report.outcome, Outcome::Unknown(_)) {
            output::line(styled(WARN, "? perhaps sent"));
        }
        print_report(message, report);
    }
    match diagnosis {
        None => Ok(()),
        Some(diagnosis) => Err(Failure::explained(diagnosis)),
    }
}

fn print_json(
    connection: &SenderConnection,
    message: &Message,
    report: &Report,
    found: Option<&SentCopy>,
    diagnosis: Option<&Diagnosis>,
) {
    let (state, proof, recipients) = match &report.outcome {
        Outcome::Unknown(_) if found.is_some() => ("accepted", None, [].as_slice()),
        Outcome::Accepted(accepted) => ("accepted", Some(&accepted.proof), accepted.recipients.as_slice()),
        Outcome::Refused(_) => ("refused", None, [].as_slice()),
        Outcome::Unknown(_) => ("unknown", None, [].as_slice()),
    };
    let proof = proof.map(|proof| match proof {
        Proof::Graph { request_id, client_request_id } => {
            json!({ "request_id": request_id, "client_request_id": client_request_id })
        }
        Proof::Smtp { host, reply } => json!({ "host": host, "reply": reply.to_string() }),
    });
    let recipients: Vec<_> = recipients
        .iter()
        .map(|one| json!({ "address": one.address, "accepted": one.accepted, "reply": one.reply.to_string() }))
        .collect();
    let choice = report.choice.as_ref();
    output::json(&json!({
        "state": state,
        "sender": connection.sender.values.name,
        "mailbox": connection.mailbox,
        "message_id": report.message_id,
        "size": message.size(),
        "route": choice.map(|choice| choice.route),
        "reason": choice.map(|choice| choice.reason.to_string()),
        "header_losses": choice.map(|choice| &choice.losses),
        "repairs": report.repairs.iter().map(|repair| json!({ "repair": repair.kind, "detail": repair.detail })).collect::<Vec<_>>(),
        "proof": proof,
        "seen_in_sent_items": found.map(|copy| copy.sent),
        "recipients": recipients,
        "diagnosis": diagnosis,
    }));
}

/// What a person wants to know, most important first.
pub(crate) fn print_report(message: &Message, report: &Report) {
    if let Outcome::Accepted(accepted) = &report.outcome {
        let proof = match &accepted.proof {
            Proof::Graph { request_id: Some(id), .. } => format!("request-id {id}"),
            Proof::Graph { request_id: None, .. } => "202".into(),
            Proof::Smtp { host, reply } => format!("{host}: {reply}"),
        };
        output::line(format_args!("{} by {}  {}", styled(GOOD, "✓ accepted"), accepted.route, styled(FAINT, proof)));
        for recipient in accepted.refused_recipients() {
            output::line(format_args!("  {} {}: {}", styled(BAD, "refused"), recipient.address, recipient.reply));
        }
    }
    if let Some(choice) = &report.choice {
        output::line(format_args!("  {} {}", styled(FAINT, "route     "), choice.reason));
        for loss in &choice.losses {
            output::line(format_args!("  {} {loss}", styled(WARN, "lost      ")));
        }
    }
    if let Some(id) = &report.message_id {
        output::line(format_args!("  {} {id}", styled(FAINT, "message-id")));
    }
    output::line(format_args!("  {} {} bytes", styled(FAINT, "size      "), message.size()));
    for repair in &report.repairs {
        output::line(format_args!("  {} {}: {}", styled(FAINT, "changed   "), repair.kind.name(), repair.detail));
    }
}
