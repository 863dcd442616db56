//! `/v1/outbox`: what was taken, where it stands, what happened to it, and its bytes.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use postkey_queue::{Listed, ShownState};
use postkey_store::{MessageEvent, MessageFilter, MessageId, MessageState, QueuedMessage, RecipientState, Scope, Via};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    Api,
    caller::Caller,
    extract::{FromPath, FromQuery, JSON, NoQuery, accepts, answer, shortened},
    names::Names,
    refusal::Refusal,
    refusals::{Reading, ReadingOne},
    routes::{pauses::Held, send::MESSAGE},
    send_query::is_name,
    send_request::{Address, Importance},
};

/// Where to ask for a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Links {
    /// The message and its timeline.
    #[serde(rename = "self")]
    pub itself: String,
    /// Its bytes.
    pub content: String,
    /// To send it again.
    pub retry: String,
    /// To withdraw it.
    pub cancel: String,
}

impl Links {
    pub(crate) fn of(id: MessageId) -> Self {
        let itself = format!("/v1/outbox/{id}");
        Self {
            content: format!("{itself}/content"),
            retry: format!("{itself}/retry"),
            cancel: format!("{itself}/cancel"),
            itself,
        }
    }
}

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Waits for its turn.
    Queued,
    /// Waits for the time it was given.
    Scheduled,
    /// Waits: its sender, app, tenant, submitter or a recipient's domain cannot send now. Goes on by itself.
    Held,
    /// On its way out.
    Sending,
    /// Will be tried again later.
    Deferred,
    /// The request left, and no trustworthy answer came.
    Unknown,
    /// Exchange Online has it.
    Accepted,
    /// It will not go out by itself.
    Failed,
    /// Somebody withdrew it.
    Cancelled,
}

/// A message.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Message {
    /// Its id here.
    pub id: Uuid,
    /// Where it stands.
    pub state: Standing,
    /// Why it waits, when it is held.
    pub held: Option<Held>,
    /// The name of the sender that carries it.
    pub sender: String,
    /// The name of the submitter that handed it in; `null` for postkey's own.
    pub submitter: Option<String>,
    /// Its reverse-path; `null` for the empty one.
    pub from: Option<String>,
    /// Who receives it.
    pub recipients: Vec<Recipient>,
    /// Its subject.
    pub subject: Option<String>,
    /// Its `Message-ID`, with brackets.
    pub message_id: Option<String>,
    /// Its bytes.
    #[schema(minimum = 0)]
    pub size: u64,
    /// Which of those that wait goes first.
    pub priority: Importance,
    /// How it came.
    pub via: CameBy,
    /// When it was taken.
    #[schema(value_type = String, format = DateTime)]
    pub accepted_at: Timestamp,
    /// When it is due, while it waits.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Timestamp>,
    /// When it came to its end.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub settled_at: Option<Timestamp>,
    /// Attempts that counted.
    #[schema(minimum = 0)]
    pub attempts: u32,
    /// The last outcome, as the timeline has it.
    #[schema(value_type = Option<Object>)]
    pub outcome: Option<Value>,
    /// Where to ask for it.
    pub links: Links,
}

/// How a message came.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CameBy {
    /// By SMTP.
    Smtp,
    /// By HTTP.
    Http,
    /// Postkey wrote it: a report.
    Own,
}

/// One recipient, and what became of the message for it, where the route tells.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Recipient {
    /// Its address.
    pub address: String,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub state: Option<RecipientOutcome>,
    /// The far end's status code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub status: Option<String>,
    /// The far end's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub text: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub at: Option<Timestamp>,
}

/// What became of one recipient.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecipientOutcome {
    /// The far end took it for this recipient.
    Accepted,
    /// It will be tried again.
    Deferred,
    /// The far end refused this recipient for good.
    Refused,
    /// It was taken, and came back later.
    Bounced,
}

/// A message with its timeline.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct MessageAndTimeline {
    /// The message.
    pub message: Message,
    /// What happened to it, oldest first.
    pub timeline: Vec<TimelineEvent>,
    /// Whether its bytes are still kept: only then can they be read, and the message be sent again.
    pub has_content: bool,
}

/// A line of the timeline.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TimelineEvent {
    /// Its place: 1, 2, 3 …
    #[schema(minimum = 1)]
    pub number: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What happened.
    pub kind: String,
    /// More about it; which fields there are depends on the kind.
    pub detail: Value,
}

/// Some of the messages that match, newest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Page {
    /// The messages.
    pub messages: Vec<Message>,
    /// The `cursor` of the next page; `null` on the last one.
    pub next: Option<Uuid>,
}

/// Which messages.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Search {
    /// In this state.
    #[param(inline)]
    state: Option<Standing>,
    /// Going out as the sender of this name.
    #[param(min_length = 1, max_length = 200, pattern = "NAME")]
    sender: Option<String>,
    /// Handed in by the submitter of this name.
    #[param(min_length = 1, max_length = 200, pattern = "NAME")]
    submitter: Option<String>,
    /// To this recipient.
    #[param(inline)]
    recipient: Option<Address>,
    /// With this in the subject.
    #[param(min_length = 1, max_length = 200, pattern = "NAME")]
    subject: Option<String>,
    /// With this `Message-ID`, brackets included.
    #[param(min_length = 1, max_length = 200, pattern = "NAME")]
    message_id: Option<String>,
    /// With this in the subject, the `Message-ID` or an address.
    #[param(min_length = 1, max_length = 200, pattern = "NAME")]
    text: Option<String>,
    /// Taken at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Taken before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Where the page before ended: its `next`.
    cursor: Option<Uuid>,
    /// At most so many.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
}

/// A page of usual size.
const USUAL: u32 = 50;

impl Search {
    fn check(&self) -> Result<(), Refusal> {
        let names = [&self.sender, &self.submitter, &self.subject, &self.message_id, &self.text];
        if names.into_iter().flatten().any(|name| !is_name(name)) {
            let what = "the query: a text is empty, too long, or holds a control character".into();
            return Err(Refusal::Parameter { what });
        }
        if !(1..=MessageFilter::MOST).contains(&self.limit.unwrap_or(USUAL)) {
            let what = format!("the query: limit: it must be 1 to {}", MessageFilter::MOST);
            return Err(Refusal::Parameter { what });
        }
        Ok(())
    }
}

/// Search the outbox
///
/// The messages that match, newest first. A key that is bound to a submitter sees only what that one handed in.
#[utoipa::path(
    get,
    path = "/v1/outbox",
    tag = "outbox",
    operation_id = "outbox_search",
    params(Search),
    responses((status = 200, description = "Some of the messages that match.", body = Page), Reading),
    security(("api_key" = [])),
)]
pub(crate) async fn search(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    FromQuery(search): FromQuery<Search>,
) -> Result<Response, Refusal> {
    caller.must(Scope::OutboxRead)?;
    accepts(&headers, JSON)?;
    search.check()?;
    let limit = search.limit.unwrap_or(USUAL);
    let nothing = || Ok(answer(StatusCode::OK, &Page { messages: Vec::new(), next: None }));
    let mut filter = MessageFilter {
        submitter: caller.sees().map(Some),
        recipient: search.recipient.map(|address| address.0),
        subject: search.subject,
        message_id: search.message_id,
        text: search.text,
        since: search.since,
        until: search.until,
        before: search.cursor.map(MessageId::from),
        limit,
        ..MessageFilter::default()
    };
    if let Some(name) = search.sender {
        let Some(sender) = api.store.sender(&name).await? else { return nothing() };
        filter.sender = Some(sender.id);
    }
    if let Some(name) = search.submitter {
        match api.store.submitter(&name).await? {
            Some(one) if caller.sees().is_none_or(|own| own == one.id) => filter.submitter = Some(Some(one.id)),
            _ => return nothing(),
        }
    }
    let (listed, next) = match search.state {
        Some(state @ (Standing::Held | Standing::Scheduled | Standing::Queued | Standing::Deferred)) => {
            waiting(&api, filter, state).await?
        }
        other => {
            filter.state = other.map(stored);
            let listed = api.outbox.list(&filter).await?;
            let full = u32::try_from(listed.len()).is_ok_and(|count| count == limit);
            let next = listed.last().filter(|_| full).map(|last| last.message.id);
            (listed, next)
        }
    };
    let names = Names::read(&api.store).await?;
    let messages = listed.into_iter().map(|one| message(one, &names)).collect();
    Ok(answer(StatusCode::OK, &Page { messages, next: next.map(MessageId::uuid) }))
}

/// Held, scheduled, queued and deferred are told apart only by what else is known: all that wait are looked through.
async fn waiting(
    api: &Api,
    mut filter: MessageFilter,
    wanted: Standing,
) -> Result<(Vec<Listed>, Option<MessageId>), Refusal> {
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    filter.limit = MessageFilter::MOST;
    let mut all = Vec::new();
    // Below this id some of one state may not have been looked at.
    let mut floor: Option<MessageId> = None;
    for state in [MessageState::Queued, MessageState::Deferred] {
        filter.state = Some(state);
        let listed = api.outbox.list(&filter).await?;
        if listed.len() as u64 == u64::from(MessageFilter::MOST) {
            floor = floor.max(listed.last().map(|last| last.message.id));
        }
        all.extend(listed);
    }
    all.retain(|one| floor.is_none_or(|floor| one.message.id >= floor));
    all.sort_by_key(|one| std::cmp::Reverse(one.message.id));
    all.retain(|one| shown(one.shown) == wanted);
    let next = match all.get(limit) {
        Some(_) => all.get(limit.saturating_sub(1)).map(|last| last.message.id),
        None => floor,
    };
    all.truncate(limit);
    Ok((all, next))
}

/// Show a message
///
/// The message, where it stands, and what happened to it.
#[utoipa::path(
    get,
    path = "/v1/outbox/{id}",
    tag = "outbox",
    operation_id = "outbox_show",
    params(("id" = Uuid, Path, description = "The message's id.")),
    responses((status = 200, description = "The message.", body = MessageAndTimeline), ReadingOne),
    security(("api_key" = [])),
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
    FromPath(id): FromPath<String>,
) -> Result<Response, Refusal> {
    caller.must(Scope::OutboxRead)?;
    accepts(&headers, JSON)?;
    let id = own(&api, &caller, &id).await?.id;
    Ok(answer(StatusCode::OK, &shown_whole(&api, id).await?))
}

/// A message with its timeline, as it is now.
pub(crate) async fn shown_whole(api: &Api, id: MessageId) -> Result<MessageAndTimeline, Refusal> {
    let missing = || Refusal::NoSuchMessage { id: id.to_string() };
    let shown = api.outbox.show(id).await?.ok_or_else(missing)?;
    let names = Names::read(&api.store).await?;
    Ok(MessageAndTimeline {
        message: message(shown.listed, &names),
        timeline: shown.events.into_iter().map(event).collect(),
        has_content: shown.has_body,
    })
}

/// Read a message
///
/// Its bytes, as they were taken in.
#[utoipa::path(
    get,
    path = "/v1/outbox/{id}/content",
    tag = "outbox",
    operation_id = "outbox_content",
    params(("id" = Uuid, Path, description = "The message's id.")),
    responses(
        (status = 200, description = "The message as it was taken in.", body = String, content_type = "message/rfc822"),
        ReadingOne,
    ),
    security(("api_key" = [])),
)]
pub(crate) async fn content(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
    FromPath(id): FromPath<String>,
) -> Result<Response, Refusal> {
    caller.must(Scope::OutboxRead)?;
    accepts(&headers, MESSAGE)?;
    let id = own(&api, &caller, &id).await?.id;
    let missing = || Refusal::NoSuchThing { what: "content of the message", name: id.to_string() };
    let bytes = api.outbox.export(id).await?.ok_or_else(missing)?;
    let name = format!("attachment; filename=\"{id}.eml\"");
    let mut response = ([(header::CONTENT_TYPE, HeaderValue::from_static(MESSAGE))], bytes).into_response();
    if let Ok(name) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// The message of the path, if the caller may see it.
pub(crate) async fn own(api: &Api, caller: &Caller, id: &str) -> Result<QueuedMessage, Refusal> {
    let missing = || Refusal::NoSuchMessage { id: shortened(id) };
    let id: MessageId = id.parse().map_err(|_| missing())?;
    let message = api.store.message(id).await?.ok_or_else(missing)?;
    match caller.sees() {
        Some(own) if message.submitter != Some(own) => Err(missing()),
        _ => Ok(message),
    }
}

pub(crate) fn message(listed: Listed, names: &Names) -> Message {
    let Listed { message, shown: state, because } = listed;
    let waits = matches!(message.state, MessageState::Queued | MessageState::Deferred | MessageState::Unknown);
    Message {
        id: message.id.uuid(),
        state: shown(state),
        held: because.map(|hold| Held::of(hold, names)),
        sender: names.sender(message.sender),
        submitter: message.submitter.map(|id| names.submitter(id)),
        from: message.envelope.from.as_ref().map(ToString::to_string),
        recipients: message.envelope.recipients.into_iter().map(recipient).collect(),
        subject: message.subject,
        message_id: message.message_id,
        size: message.size,
        priority: message.priority.into(),
        via: match message.via {
            Via::Smtp => CameBy::Smtp,
            Via::Http => CameBy::Http,
            Via::Own => CameBy::Own,
        },
        accepted_at: message.accepted_at,
        due_at: waits.then_some(message.due_at),
        settled_at: message.settled_at,
        attempts: message.attempts,
        outcome: message.outcome.map(as_object),
        links: Links::of(message.id),
    }
}

/// The document promises an object.
fn as_object(value: Value) -> Value {
    if value.is_object() { value } else { serde_json::json!({ "value": value }) }
}

fn recipient(recipient: postkey_store::QueuedRecipient) -> Recipient {
    let outcome = recipient.outcome;
    Recipient {
        address: recipient.address.to_string(),
        state: outcome.as_ref().map(|outcome| match outcome.state {
            RecipientState::Accepted => RecipientOutcome::Accepted,
            RecipientState::Deferred => RecipientOutcome::Deferred,
            RecipientState::Refused => RecipientOutcome::Refused,
            RecipientState::Bounced => RecipientOutcome::Bounced,
        }),
        status: outcome.as_ref().and_then(|outcome| outcome.status.clone()),
        text: outcome.as_ref().map(|outcome| outcome.text.clone()).filter(|text| !text.is_empty()),
        at: outcome.map(|outcome| outcome.at),
    }
}

fn event(event: MessageEvent) -> TimelineEvent {
    TimelineEvent { number: event.number, at: event.at, kind: event.kind, detail: event.detail }
}

fn shown(state: ShownState) -> Standing {
    match state {
        ShownState::Queued => Standing::Queued,
        ShownState::Scheduled => Standing::Scheduled,
        ShownState::Held => Standing::Held,
        ShownState::Sending => Standing::Sending,
        ShownState::Deferred => Standing::Deferred,
        ShownState::Unknown => Standing::Unknown,
        ShownState::Accepted => Standing::Accepted,
        ShownState::Failed => Standing::Failed,
        ShownState::Cancelled => Standing::Cancelled,
    }
}

fn stored(state: Standing) -> MessageState {
    match state {
        Standing::Queued | Standing::Scheduled | Standing::Held => MessageState::Queued,
        Standing::Sending => MessageState::Sending,
        Standing::Deferred => MessageState::Deferred,
        Standing::Unknown => MessageState::Unknown,
        Standing::Accepted => MessageState::Accepted,
        Standing::Failed => MessageState::Failed,
        Standing::Cancelled => MessageState::Cancelled,
    }
}
