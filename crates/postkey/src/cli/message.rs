//! `postkey message`: what was accepted, where it stands and why, and what a person can do about it.

use std::{io::Write as _, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use postkey_base::{EmailAddress, Who, diagnose::plain};
use postkey_queue::{Listed, Outbox, Shown, ShownState};
use postkey_setup::connection::Outside;
use postkey_store::{
    Hold, HoldScope, MessageFilter, MessageId, MessageState, Priority, QueuedEnvelope, SenderId, SubmitterId, Via,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    pause::{self, PauseArgs},
    sender, submitter,
    values::{ago, brief, brief_size, moment, point},
};
use crate::{
    failure::Failure,
    output::{self, BAD, FAINT, GOOD, STRONG, WARN, styled},
    settings::Settings,
    wiring,
};

/// Messages that were accepted; works whether or not a server runs. Ids may be shortened as long as they name one message.
#[derive(Debug, Subcommand)]
pub(crate) enum Message {
    /// The newest, or those that match
    List(Box<List>),
    /// Where one stands, why, and who must do what
    Show {
        /// Its id
        id: String,
    },
    /// What happened to one, line by line
    Trace {
        /// Its id
        id: String,
    },
    /// Send again what failed, waits, was withdrawn or is unknown
    Retry {
        /// Their ids
        #[arg(required_unless_present = "failed")]
        ids: Vec<String>,
        /// Everything that failed; with --sender only as this one
        #[arg(long, conflicts_with = "ids")]
        failed: bool,
        /// Only what goes out as this sender
        #[arg(long, value_name = "NAME", requires = "failed")]
        sender: Option<String>,
    },
    /// Withdraw what has not left
    Cancel {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// One as it was handed in, as an .eml file
    Export {
        /// Its id
        id: String,
        /// Write it to this file instead of standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Hold what goes to a domain
    Pause {
        /// The domain
        #[arg(long, value_name = "DOMAIN")]
        domain: String,
        #[command(flatten)]
        how: PauseArgs,
    },
    /// Let it go
    Resume {
        /// The domain
        #[arg(long, value_name = "DOMAIN")]
        domain: String,
    },
}

/// Which ones.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// In this state; may be given again
    #[arg(long, value_enum, value_delimiter = ',')]
    state: Vec<StateChoice>,
    /// Going out as this sender
    #[arg(long, value_name = "NAME")]
    sender: Option<String>,
    /// Handed in by this submitter
    #[arg(long, value_name = "NAME")]
    submitter: Option<String>,
    /// To this recipient
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// With this in the subject
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
    /// With this Message-ID
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// With this in the subject, the Message-ID or an address
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Accepted since
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Accepted before
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only those older than this one: the next page
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
}

/// States as they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateChoice {
    /// Waits for its turn
    Queued,
    /// Waits for the time it was given
    Scheduled,
    /// Its sender, app, tenant, submitter or a recipient's domain is held
    Held,
    /// On its way out
    Sending,
    /// Will be tried again later
    Deferred,
    /// Nobody knows whether it went out
    Unknown,
    /// Exchange Online has it
    Accepted,
    /// It will not go out by itself
    Failed,
    /// Somebody withdrew it
    Cancelled,
}

impl From<StateChoice> for ShownState {
    fn from(choice: StateChoice) -> Self {
        match choice {
            StateChoice::Queued => Self::Queued,
            StateChoice::Scheduled => Self::Scheduled,
            StateChoice::Held => Self::Held,
            StateChoice::Sending => Self::Sending,
            StateChoice::Deferred => Self::Deferred,
            StateChoice::Unknown => Self::Unknown,
            StateChoice::Accepted => Self::Accepted,
            StateChoice::Failed => Self::Failed,
            StateChoice::Cancelled => Self::Cancelled,
        }
    }
}

/// As the API and the documentation say it.
pub(crate) fn word(state: ShownState) -> &'static str {
    match state {
        ShownState::Queued => "queued",
        ShownState::Scheduled => "scheduled",
        ShownState::Held => "held",
        ShownState::Sending => "sending",
        ShownState::Deferred => "deferred",
        ShownState::Unknown => "unknown",
        ShownState::Accepted => "accepted",
        ShownState::Failed => "failed",
        ShownState::Cancelled => "cancelled",
    }
}

impl Message {
    pub(crate) async fn run(self, settings: &Settings, json: bool) -> Result<(), Failure> {
        let outside = wiring::open(settings).await?;
        let outbox = Outbox::new(outside.store.clone(), outside.clock.clone());
        match self {
            Self::List(list) => list.run(&outside, &outbox, json).await,
            Self::Show { id } => {
                let shown = find(&outside, &outbox, &id).await?;
                let names = Names::read(&outside).await?;
                if json {
                    output::json(&as_json(&shown.listed, &names));
                } else {
                    show(&shown, &names, outside.clock.now(), settings);
                }
                Ok(())
            }
            Self::Trace { id } => {
                let shown = find(&outside, &outbox, &id).await?;
                if json {
                    output::json(&json!({ "id": shown.listed.message.id, "events": shown.events }));
                } else {
                    trace(&shown);
                }
                Ok(())
            }
            Self::Retry { ids, failed, sender } => {
                let ids = match failed {
                    true => all_failed(&outside, sender.as_deref()).await?,
                    false => resolve(&outside, &ids).await?,
                };
                let done = outbox.retry(&ids, "command line").await?;
                conclude(
                    "sent again",
                    "cannot be sent again as they stand, or their bodies are not kept any more",
                    &ids,
                    &done,
                    json,
                )
            }
            Self::Cancel { ids } => {
                let ids = resolve(&outside, &ids).await?;
                let done = outbox.cancel(&ids, "command line").await?;
                conclude("withdrawn", "have left, or are settled already", &ids, &done, json)
            }
            Self::Export { id, output } => {
                let id = resolve(&outside, &[id]).await?[0];
                let Some(bytes) = outbox.export(id).await? else {
                    return Err(Failure::new(
                        "message.body_gone",
                        format!("the body of message {id} is not kept any more"),
                        "Bodies are kept for the days that the settings name: queue.keep_accepted_days and queue.keep_failed_days.",
                        Who::You,
                    ));
                };
                match output {
                    Some(path) => {
                        std::fs::write(&path, &bytes).map_err(|cause| Failure::file(&path, "written to", cause))?;
                        output::note(format_args!("{} written to {}", brief_size(bytes.len() as u64), path.display()));
                    }
                    // A closed pipe is the reader's affair.
                    None => drop(std::io::stdout().lock().write_all(&bytes)),
                }
                Ok(())
            }
            Self::Pause { domain, how } => {
                let domain = domain.trim_start_matches('@').to_lowercase();
                let what = format!("mail to {domain}");
                pause::pause(&outside, HoldScope::Domain(domain), &what, how, json).await
            }
            Self::Resume { domain } => {
                let domain = domain.trim_start_matches('@').to_lowercase();
                let what = format!("mail to {domain}");
                pause::resume(&outside, HoldScope::Domain(domain), &what, json).await
            }
        }
    }
}

/// Senders and submitters by name: a message knows them by id.
struct Names {
    senders: Vec<(SenderId, String)>,
    submitters: Vec<(SubmitterId, String)>,
}

impl Names {
    async fn read(outside: &Outside) -> Result<Self, Failure> {
        let senders = outside.store.senders().await?.into_iter().map(|sender| (sender.id, sender.values.name));
        let submitters = outside.store.submitters().await?.into_iter().map(|submitter| (submitter.id, submitter.name));
        Ok(Self { senders: senders.collect(), submitters: submitters.collect() })
    }

    fn sender(&self, id: SenderId) -> String {
        let found = self.senders.iter().find(|(known, _)| *known == id);
        found.map_or_else(|| format!("{} (removed)", short(&id)), |(_, name)| name.clone())
    }

    fn submitter(&self, id: Option<SubmitterId>) -> String {
        let Some(id) = id else { return "postkey itself".into() };
        let found = self.submitters.iter().find(|(known, _)| *known == id);
        found.map_or_else(|| format!("{} (removed)", short(&id)), |(_, name)| name.clone())
    }
}

impl List {
    async fn run(self, outside: &Outside, outbox: &Outbox, json: bool) -> Result<(), Failure> {
        let names = Names::read(outside).await?;
        let sender = match &self.sender {
            Some(name) => Some(sender::find(outside, name).await?.id),
            None => None,
        };
        let submitter = match &self.submitter {
            Some(name) => Some(Some(submitter::find(outside, name).await?.id)),
            None => None,
        };
        let recipient: Option<EmailAddress> = self.recipient.as_deref().map(address).transpose()?;
        let before = match &self.before {
            Some(id) => Some(resolve(outside, std::slice::from_ref(id)).await?[0]),
            None => None,
        };
        let filter = MessageFilter {
            sender,
            submitter,
            recipient,
            subject: self.subject.clone(),
            message_id: self.message_id.as_deref().map(bracketed),
            text: self.text.clone(),
            since: self.since.as_deref().map(|text| moment(text, "--since")).transpose()?,
            until: self.until.as_deref().map(|text| moment(text, "--until")).transpose()?,
            before,
            limit: self.limit,
            ..MessageFilter::default()
        };
        let found = match self.state.as_slice() {
            [] => outbox.list(&filter).await?,
            [one] => outbox.list_shown(&filter, (*one).into()).await?,
            several => {
                let mut found = Vec::new();
                for state in several {
                    found.extend(outbox.list_shown(&filter, (*state).into()).await?);
                }
                found.sort_by_key(|one| std::cmp::Reverse(one.message.id));
                found.truncate(self.limit as usize);
                found
            }
        };
        if json {
            let rows: Vec<_> = found.iter().map(|one| as_json(one, &names)).collect();
            output::json(&rows);
            return Ok(());
        }
        if found.is_empty() {
            output::note("There is no such message.");
            return Ok(());
        }
        let now = outside.clock.now();
        let rows: Vec<Vec<String>> = found.iter().map(|one| row(one, &names, now)).collect();
        output::table(&["ID", "AGE", "STATE", "SENDER", "TO", "SUBJECT"], &rows);
        if found.len() == self.limit as usize
            && let Some(last) = found.last()
        {
            output::note(styled(FAINT, format_args!("There may be more: --before {}", last.message.id)));
        }
        Ok(())
    }
}

fn row(one: &Listed, names: &Names, now: Timestamp) -> Vec<String> {
    let message = &one.message;
    let mut to = message.envelope.recipients.first().map_or_else(String::new, |first| first.address.to_string());
    let more = message.envelope.recipients.len().saturating_sub(1);
    if more > 0 {
        to.push_str(&format!(" +{more}"));
    }
    vec![
        message.id.to_string(),
        brief(now.duration_since(message.accepted_at)),
        word(one.shown).to_owned(),
        names.sender(message.sender),
        to,
        shortened(message.subject.as_deref().unwrap_or("-"), 48),
    ]
}

/// A message with names for ids and the state that it is shown in.
#[derive(Serialize)]
struct AsJson<'a> {
    id: MessageId,
    state: &'static str,
    hold: Option<&'a Hold>,
    sender: String,
    submitter: Option<String>,
    envelope: &'a QueuedEnvelope,
    subject: Option<&'a str>,
    message_id: Option<&'a str>,
    size: u64,
    priority: Priority,
    attempts: u32,
    via: Via,
    remote: Option<&'a str>,
    accepted_at: Timestamp,
    due_at: Timestamp,
    settled_at: Option<Timestamp>,
    outcome: Option<&'a Value>,
}

fn as_json<'a>(one: &'a Listed, names: &Names) -> AsJson<'a> {
    let message = &one.message;
    AsJson {
        id: message.id,
        state: word(one.shown),
        hold: one.because.as_ref(),
        sender: names.sender(message.sender),
        submitter: message.submitter.map(|id| names.submitter(Some(id))),
        envelope: &message.envelope,
        subject: message.subject.as_deref(),
        message_id: message.message_id.as_deref(),
        size: message.size,
        priority: message.priority,
        attempts: message.attempts,
        via: message.via,
        remote: message.remote.as_deref(),
        accepted_at: message.accepted_at,
        due_at: message.due_at,
        settled_at: message.settled_at,
        outcome: message.outcome.as_ref(),
    }
}

fn show(shown: &Shown, names: &Names, now: Timestamp, settings: &Settings) {
    let Listed { message, shown: state, because } = &shown.listed;
    let style = match state {
        ShownState::Accepted => GOOD,
        ShownState::Failed => BAD,
        ShownState::Held | ShownState::Deferred | ShownState::Unknown => WARN,
        _ => STRONG,
    };
    output::line(format_args!("{}  {}", styled(STRONG, message.id), styled(style, word(*state))));
    let from = message.envelope.from.as_ref().map_or_else(|| "<>".into(), ToString::to_string);
    let mut rows = vec![("from", from)];
    for (index, recipient) in message.envelope.recipients.iter().enumerate() {
        let outcome = recipient.outcome.as_ref().map(|outcome| format!("  {}", json_words(&json!(outcome))));
        rows.push((
            if index == 0 { "to" } else { "" },
            format!("{}{}", recipient.address, outcome.unwrap_or_default()),
        ));
    }
    rows.extend(message.subject.as_ref().map(|subject| ("subject", plain(subject))));
    rows.extend(message.message_id.as_ref().map(|id| ("message-id", plain(id))));
    let via = match &message.remote {
        Some(remote) => {
            format!("{}, {} from {remote}", names.submitter(message.submitter), message.via.word().to_uppercase())
        }
        None => names.submitter(message.submitter),
    };
    rows.push(("handed in", format!("{} by {via}", ago(now, message.accepted_at))));
    rows.push(("goes out", format!("as sender {}", names.sender(message.sender))));
    rows.push(("size", brief_size(message.size)));
    if message.attempts > 0 {
        rows.push(("attempts", message.attempts.to_string()));
    }
    match message.settled_at {
        Some(at) => rows.push(("settled", ago(now, at))),
        None if message.due_at > now => rows.push(("next", ago(now, message.due_at))),
        None => {}
    }
    output::fields(&rows);
    if let Some(hold) = because {
        output::line(format_args!("\n{} {}", styled(WARN, "held:"), hold.reason));
        let details = [
            ("do", hold.remedy.clone()),
            ("who", hold.who.clone()),
            ("code", hold.code.clone()),
            ("by", hold.by.clone()),
        ];
        let mut rows: Vec<_> = details.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        rows.push(("since", ago(now, hold.since)));
        rows.extend(hold.until.map(|until| (pause::ends(hold), point(now, until))));
        output::fields(&rows);
    } else if let Some(outcome) = &message.outcome {
        explain_outcome(outcome);
    }
    output::note(format_args!(
        "\n{} {} message trace {}",
        styled(FAINT, "every step:"),
        settings.command(),
        message.id
    ));
}

/// The last outcome: as a diagnosis where it has one, else its fields.
fn explain_outcome(outcome: &Value) {
    let Some(diagnosis) = outcome.get("diagnosis") else {
        let rows = flat(outcome);
        if !rows.is_empty() {
            output::line(format_args!("\n{}", styled(STRONG, "last answer")));
            output::fields(&rows.iter().map(|(name, value)| (name.as_str(), value.clone())).collect::<Vec<_>>());
        }
        return;
    };
    let text = |name: &str| diagnosis.get(name).and_then(Value::as_str).map(plain);
    output::line(format_args!("\n{} {}", styled(STRONG, "last answer:"), text("what").unwrap_or_default()));
    let who = diagnosis.get("who").and_then(|who| serde_json::from_value::<Who>(who.clone()).ok());
    let rows =
        [("why", text("why")), ("do", text("remedy")), ("who", who.map(|who| who.to_string())), ("code", text("code"))];
    output::fields(&rows.into_iter().filter_map(|(name, value)| Some((name, value?))).collect::<Vec<_>>());
}

/// What happened to a message, line by line.
pub(crate) fn trace(shown: &Shown) {
    let message = &shown.listed.message;
    output::line(format_args!(
        "{}  {}",
        styled(STRONG, message.id),
        styled(FAINT, plain(message.subject.as_deref().unwrap_or("")))
    ));
    let mut before: Option<Timestamp> = None;
    for event in &shown.events {
        let day = |at: Timestamp| at.strftime("%Y-%m-%d UTC").to_string();
        if before.is_none_or(|before| day(before) != day(event.at)) {
            output::line(format_args!("  {}", styled(FAINT, day(event.at))));
        }
        let passed = before.map_or_else(String::new, |before| since(event.at.duration_since(before)));
        before = Some(event.at);
        let mut lines = wrapped(&json_words(&event.detail)).into_iter();
        output::line(format_args!(
            "  {}  {}  {:<KIND$} {}",
            event.at.strftime("%H:%M:%S%.3f"),
            styled(FAINT, format_args!("{passed:>7}")),
            plain(&event.kind),
            lines.next().unwrap_or_default()
        ));
        for line in lines {
            output::line(format_args!("{:1$}{line}", "", 2 + 12 + 2 + 7 + 2 + KIND + 1));
        }
    }
}

/// The width of the longest kind of step that is common.
const KIND: usize = 10;

/// Lines of at most so many characters, broken between two facts.
fn wrapped(text: &str) -> Vec<String> {
    const WIDTH: usize = 80;
    let mut lines = vec![String::new()];
    for fact in text.split_inclusive(", ") {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + fact.trim_end().chars().count() > WIDTH {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(fact);
        }
    }
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

/// `+12 ms`, `+3 s`, `+2 h`.
fn since(length: jiff::SignedDuration) -> String {
    match length.as_millis() {
        ..0 => String::new(),
        milliseconds @ 0..1_000 => format!("+{milliseconds} ms"),
        _ => format!("+{}", brief(length)),
    }
}

/// `attempt 1, route graph-mime`: an object in words.
fn json_words(value: &Value) -> String {
    match value {
        Value::Object(_) => flat(value)
            .iter()
            .map(|(name, value)| format!("{name} {value}").trim().to_owned())
            .collect::<Vec<_>>()
            .join(", "),
        Value::Array(list) => list.iter().map(in_a_list).collect::<Vec<_>>().join(" and "),
        Value::String(text) => plain(text),
        Value::Null => String::new(),
        other => plain(&other.to_string()),
    }
}

/// The fields of an object with what is nested laid flat; of a diagnosis what happened and why.
fn flat(value: &Value) -> Vec<(String, String)> {
    let Value::Object(fields) = value else { return Vec::new() };
    let mut rows = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Null => {}
            Value::Array(list) if list.is_empty() => {}
            Value::Object(inner) if name == "diagnosis" => {
                let why = inner.get("why").and_then(Value::as_str).map(|why| format!(" ({why})")).unwrap_or_default();
                let what = inner.get("what").and_then(Value::as_str).unwrap_or_default();
                rows.push((String::new(), plain(&format!("{what}{why}"))));
            }
            Value::Object(_) => rows.extend(flat(value)),
            other => rows.push((name.replace('_', " "), json_words(other))),
        }
    }
    rows
}

/// What is one of several is named by its kind.
fn in_a_list(value: &Value) -> String {
    value.get("kind").and_then(Value::as_str).map_or_else(|| json_words(value), plain)
}

fn conclude(
    done_word: &str,
    why_not: &str,
    asked: &[MessageId],
    done: &[MessageId],
    json: bool,
) -> Result<(), Failure> {
    let left: Vec<String> = asked.iter().filter(|id| !done.contains(id)).map(ToString::to_string).collect();
    if json {
        output::json(&json!({ "changed": done, "unchanged": left }));
    } else {
        for id in done {
            output::line(format_args!("{} {id} {done_word}", styled(GOOD, "✓")));
        }
        if asked.is_empty() {
            output::note("There is no such message.");
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        "message.unchanged",
        format!("not {done_word}: {} of {} messages {why_not}", left.len(), asked.len()),
        format!("Look at each with `postkey message show`: {}.", left.join(", ")),
        Who::You,
    ))
}

async fn find(outside: &Outside, outbox: &Outbox, id: &str) -> Result<Shown, Failure> {
    let id = resolve(outside, &[id.to_owned()]).await?[0];
    outbox.show(id).await?.ok_or_else(|| unknown(&id.to_string()))
}

/// Whole ids, from ids that may be shortened.
async fn resolve(outside: &Outside, given: &[String]) -> Result<Vec<MessageId>, Failure> {
    let mut ids = Vec::new();
    for text in given {
        let text = text.trim().to_ascii_lowercase();
        if let Ok(id) = text.parse::<MessageId>() {
            ids.push(id);
            continue;
        }
        let found = match times_of(&text) {
            Some((since, until)) => starting(outside, &text, since, until).await?,
            None => Vec::new(),
        };
        match found.as_slice() {
            [one] => ids.push(*one),
            [] => return Err(unknown(&text)),
            _ => {
                return Err(Failure::usage(
                    format!("several messages have an id that begins with {text}"),
                    "Give more of it; `postkey message list` shows whole ids.",
                ));
            }
        }
    }
    Ok(ids)
}

/// When messages were accepted whose ids begin so: the first 48 bits of a UUIDv7 are its milliseconds (RFC 9562 §5.7).
fn times_of(beginning: &str) -> Option<(Timestamp, Timestamp)> {
    /// Fewer digits stand for days on end.
    const FEWEST: usize = 6;
    const DIGITS: usize = 12;
    let digits: String = beginning.chars().filter(|c| *c != '-').take(DIGITS).collect();
    if digits.len() < FEWEST || !beginning.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return None;
    }
    let open = 4 * (DIGITS - digits.len());
    let first = i64::from_str_radix(&digits, 16).ok()? << open;
    let at = |milliseconds| Timestamp::from_millisecond(milliseconds).ok();
    Some((at(first)?, at(first + (1 << open))?))
}

/// At most two ids that begin so: a second one is as bad as many.
async fn starting(
    outside: &Outside,
    beginning: &str,
    since: Timestamp,
    until: Timestamp,
) -> Result<Vec<MessageId>, Failure> {
    let mut filter = MessageFilter { since: Some(since), until: Some(until), ..MessageFilter::default() };
    let mut found = Vec::new();
    loop {
        let page = outside.store.search_messages(&filter).await?;
        let full = page.len() == MessageFilter::MOST as usize;
        filter.before = page.last().map(|message| message.id);
        found.extend(page.iter().map(|message| message.id).filter(|id| id.to_string().starts_with(beginning)));
        if !full || found.len() > 1 {
            return Ok(found);
        }
    }
}

fn unknown(id: &str) -> Failure {
    Failure::new(
        "message.unknown",
        format!("there is no message {id}"),
        "See `postkey message list`; what was settled long ago is removed in time.",
        Who::You,
    )
}

async fn all_failed(outside: &Outside, sender: Option<&str>) -> Result<Vec<MessageId>, Failure> {
    let sender = match sender {
        Some(name) => Some(sender::find(outside, name).await?.id),
        None => None,
    };
    let mut filter = MessageFilter {
        state: Some(MessageState::Failed),
        sender,
        limit: MessageFilter::MOST,
        ..MessageFilter::default()
    };
    let mut ids = Vec::new();
    loop {
        let page = outside.store.search_messages(&filter).await?;
        filter.before = page.last().map(|message| message.id);
        ids.extend(page.iter().map(|message| message.id));
        if page.len() < MessageFilter::MOST as usize {
            return Ok(ids);
        }
    }
}

fn address(text: &str) -> Result<EmailAddress, Failure> {
    text.parse().map_err(|error: postkey_base::address::AddressError| {
        Failure::usage(error.to_string(), "Give --recipient as name@domain.")
    })
}

fn bracketed(id: &str) -> String {
    format!("<{}>", id.trim().trim_start_matches('<').trim_end_matches('>'))
}

/// The beginning of an id, as far as people need it.
fn short(id: &impl std::fmt::Display) -> String {
    id.to_string().chars().take(8).collect()
}

fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => format!("{}…", text.chars().take(most - 1).collect::<String>()),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detail_of_a_step_is_told_in_words() {
        for (detail, said) in [
            (json!({ "route": "Graph sendMail", "attempt": 1, "next_at": null }), "attempt 1, route Graph sendMail"),
            (json!({ "reply": "250 2.0.0\u{1b}[2J" }), "reply 250 2.0.0 [2J"),
            (json!({ "facts": { "tls": { "version": "TLSv1_3" } }, "size": 7 }), "version TLSv1_3, size 7"),
            (
                json!({ "repairs": [{ "kind": "stamp-id", "detail": "x" }, { "kind": "date" }] }),
                "repairs stamp-id and date",
            ),
            (json!({ "repairs": [] }), ""),
            (
                json!({ "diagnosis": { "what": "no", "why": "so", "code": "a.b" }, "class": "network" }),
                "class network, no (so)",
            ),
            (Value::Null, ""),
        ] {
            assert_eq!(json_words(&detail), said);
        }
    }

    #[test]
    fn long_steps_are_broken_between_facts() {
        let facts = ["a".repeat(50), "b".repeat(25), "c".repeat(100), "d".repeat(3)];
        let lines = wrapped(&facts.join(", "));
        assert_eq!(lines, [format!("{}, {},", facts[0], facts[1]), format!("{},", facts[2]), facts[3].clone()]);
        assert_eq!(wrapped(""), [""]);
    }

    #[test]
    fn a_shortened_id_names_the_time_of_its_message() {
        let id = MessageId::at("2026-11-24T10:00:00.123456Z".parse().unwrap()).to_string();
        for digits in [6, 8, 10, 13, 16, 35] {
            let (since, until) = times_of(&id[..digits]).unwrap();
            let at: Timestamp = "2026-11-24T10:00:00.123Z".parse().unwrap();
            assert!(since <= at && at < until, "{}: {since} to {until}", &id[..digits]);
        }
        assert_eq!(times_of("0199"), None);
        assert_eq!(times_of("bench-0001"), None);
    }

    #[test]
    fn a_state_is_asked_for_by_the_word_it_is_shown_by() {
        for choice in StateChoice::value_variants() {
            let asked = choice.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(asked.as_deref(), Some(word((*choice).into())));
        }
    }
}
