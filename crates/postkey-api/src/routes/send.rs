//! `POST /v1/send`: a message as JSON or as it is. `202` is sent after the commit, never before.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use postkey_base::{Diagnose, EmailAddress};
use postkey_queue::{AcceptError, Receipt, Submission};
use postkey_store::{Notify, QueuedEnvelope, QueuedRecipient, Ret, Via};
use postkey_submission::{Known, KnownSender, admission::check_idempotency_key};
use postkey_transport::{Envelope, Message};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    body::{self, Limit},
    caller::{Caller, whole_seconds},
    extract::{JSON, accepts, media_type, shortened},
    refusal::Refusal,
    refusals::Sending,
    routes::outbox::Links,
    send_query::SendQuery,
    send_request::{Address, Dsn, NotifyOf, Return, SendRequest},
};

/// A message as it travels.
pub(crate) const MESSAGE: &str = "message/rfc822";
/// The same key with the same body is the same message.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Tells a repetition from the first time.
const REPLAYED: &str = "idempotency-replayed";

/// A message that is durable now.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "019aa8f1-6c1e-7a55-9d0f-0d2c0e4b7a11",
    "message_id": "<019aa8f16c1e7a559d0f0d2c0e4b7a11@contoso.example>",
    "state": "queued",
    "links": {
        "self": "/v1/outbox/019aa8f1-6c1e-7a55-9d0f-0d2c0e4b7a11",
        "content": "/v1/outbox/019aa8f1-6c1e-7a55-9d0f-0d2c0e4b7a11/content",
        "retry": "/v1/outbox/019aa8f1-6c1e-7a55-9d0f-0d2c0e4b7a11/retry",
        "cancel": "/v1/outbox/019aa8f1-6c1e-7a55-9d0f-0d2c0e4b7a11/cancel"
    }
}))]
pub(crate) struct Taken {
    /// Its id here.
    pub id: Uuid,
    /// Its `Message-ID`, with brackets: how mail programs know it.
    pub message_id: String,
    /// Where it stands: durable, and waiting for its turn.
    pub state: TakenState,
    /// Where to ask for it.
    pub links: Links,
}

/// Where a message stands that was just taken.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TakenState {
    /// Waits for its turn.
    Queued,
    /// Waits for the time it was given.
    Scheduled,
}

/// Send a message
///
/// The message is durable when `202` is answered. With an `Idempotency-Key`, the same request may be sent again and
/// again: it is taken once.
#[utoipa::path(
    post,
    path = "/v1/send",
    tag = "send",
    operation_id = "send",
    params(
        ("to" = inline(Option<Vec<Address>>), Query, style = Form, explode = true, min_items = 1, max_items = 100,
            description = "Who receives it, instead of those whom the message names. May stand more than once."),
        ("from" = Option<String>, Query, pattern = "ADDRESS", max_length = 254,
            description = "The reverse-path, instead of the writer of the message."),
        ("sender" = Option<String>, Query, min_length = 1, max_length = 200, pattern = "NAME",
            description = "Which of the submitter's senders carries it. Default: the one of the reverse-path, else its first."),
        ("not_before" = Option<String>, Query, format = DateTime, description = "Not to be sent before this time."),
        ("priority" = inline(Option<crate::send_request::Importance>), Query,
            description = "Which of the messages that wait goes first; never before what the submitter's rules allow."),
        ("Idempotency-Key" = Option<String>, Header, pattern = "IDEMPOTENCY_KEY", min_length = 1, max_length = 255,
            description = "The same key with the same request is the same message; with another one it is refused."),
    ),
    request_body(content((SendRequest = "application/json"), (String = "message/rfc822"))),
    responses(
        (status = 202, description = "The message is durable and will be sent.", body = Taken,
            headers(
                ("Location" = String, description = "Where to ask for it."),
            ),
            links(
                ("message" = (operation_id = "outbox_show", parameters(("id" = "$response.body#/id")))),
                ("content" = (operation_id = "outbox_content", parameters(("id" = "$response.body#/id")))),
                ("reschedule" = (operation_id = "outbox_reschedule", parameters(("id" = "$response.body#/id")))),
                ("cancel" = (operation_id = "outbox_cancel", parameters(("id" = "$response.body#/id")))),
                ("retry" = (operation_id = "outbox_retry", parameters(("id" = "$response.body#/id")))),
            )),
        Sending,
    ),
    security(("api_key" = [])),
)]
pub(crate) async fn send(State(api): State<Arc<Api>>, caller: Caller, request: Request) -> Result<Response, Refusal> {
    caller.must(postkey_store::Scope::Send)?;
    let known = caller.submitter()?;
    let (head, body) = request.into_parts();
    accepts(&head.headers, JSON)?;
    let query = SendQuery::parse(head.uri.query().unwrap_or_default())?;
    let key = idempotency_key(&head.headers)?;
    let kind = media_type(&head.headers);
    let is_json = match kind.as_str() {
        JSON => true,
        MESSAGE => false,
        _ => {
            let wanted = "application/json or message/rfc822";
            return Err(Refusal::ContentType { found: shortened(&kind), wanted });
        }
    };
    let largest = known.largest();
    // In JSON the attachments are in base64 as they will be in the message; the rest is for escapes and names.
    let most = if is_json { largest + largest / 8 + ROOM_FOR_JSON } else { largest };
    let (body, _share) =
        body::read(&api.bodies, &head.headers, body, Limit::Message { body: most, message: largest }).await?;
    let now = api.clock.now();
    // Only what the client sent tells a repetition: ids and boundaries of a composed message are new each time.
    let fingerprint = key.is_some().then(|| fingerprint(&kind, head.uri.query(), &body));
    let draft = if is_json { Draft::composed(&body, query, known, now)? } else { Draft::given(body, query, known)? };
    let facts = serde_json::json!({
        "api_key": caller.name(),
        "user_agent": head.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).map(shortened),
    });
    let accepted = draft.submitted(&api, &caller, known, key, fingerprint, facts, now).await?;
    Ok(accepted.answer())
}

/// Escapes and field names of JSON, beyond an eighth for text that is escaped.
const ROOM_FOR_JSON: u64 = 256 * 1024;

/// A message with its envelope, not yet checked.
struct Draft {
    from: EmailAddress,
    recipients: Vec<EmailAddress>,
    bytes: Bytes,
    sender: Option<Arc<KnownSender>>,
    not_before: Option<Timestamp>,
    priority: Option<postkey_store::Priority>,
    dsn: Option<Dsn>,
    graph_json: bool,
}

impl Draft {
    fn composed(body: &[u8], query: SendQuery, known: &Known, now: Timestamp) -> Result<Self, Refusal> {
        let mut request = SendRequest::parse(body)?;
        let sender = chosen(known, request.sender.take().or(query.sender))?;
        let mailbox = match &sender {
            Some(sender) => sender.mailbox.clone(),
            None => default_mailbox(known)?,
        };
        let from = query.from.or_else(|| request.from.as_ref().map(|from| from.0.clone()));
        let recipients = match query.to.is_empty() {
            true => request.recipients().cloned().collect(),
            false => query.to,
        };
        let (dsn, graph_json) = (request.dsn.take(), request.as_json);
        let not_before = request.not_before.or(query.not_before);
        let priority = request.priority.or(query.priority).map(Into::into);
        let bytes = request.composed(&mailbox, Uuid::now_v7(), now)?.into();
        let from = from.unwrap_or(mailbox);
        Ok(Self { from, recipients, bytes, sender, not_before, priority, dsn, graph_json })
    }

    fn given(body: Bytes, query: SendQuery, known: &Known) -> Result<Self, Refusal> {
        // The queue keeps the message: it must not keep the connection's whole buffer with it.
        let body = if body.len() < COPIED { Bytes::copy_from_slice(&body) } else { body };
        let sender = chosen(known, query.sender)?;
        let (mut from, mut recipients) = (query.from, query.to);
        if from.is_none() || recipients.is_empty() {
            let message = Message::parse(body.clone()).map_err(|error| unprocessable(&error))?;
            from = from.or_else(|| message.sender()).or_else(|| message.from());
            if recipients.is_empty() {
                let writer = from.clone().map_or_else(|| default_mailbox(known), Ok)?;
                let envelope = Envelope::of(&message, writer).map_err(|error| unprocessable(&error))?;
                recipients = envelope.recipients().to_vec();
            }
        }
        let from = match (from, &sender) {
            (Some(from), _) => from,
            (None, Some(sender)) => sender.mailbox.clone(),
            (None, None) => default_mailbox(known)?,
        };
        let (not_before, priority) = (query.not_before, query.priority.map(Into::into));
        Ok(Self { from, recipients, bytes: body, sender, not_before, priority, dsn: None, graph_json: false })
    }

    #[expect(clippy::too_many_arguments, reason = "everything that the submission says about itself")]
    async fn submitted(
        self,
        api: &Api,
        caller: &Caller,
        known: &Known,
        key: Option<String>,
        fingerprint: Option<[u8; 32]>,
        mut facts: serde_json::Value,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let envelope = Envelope::new(self.from, self.recipients).map_err(|error| unprocessable(&error))?;
        let admitted = known.admit(Some(envelope.from()), envelope.recipients(), self.bytes, now)?;
        if !admitted.rewritings.is_empty() {
            facts["rewritten"] = serde_json::to_value(&admitted.rewritings).unwrap_or_default();
        }
        let (notify, ret, envid) =
            self.dsn.map_or((None, None, None), |dsn| (dsn.notify.as_deref().map(notify), dsn.ret.map(ret), dsn.envid));
        let recipients = envelope.recipients().iter().map(|address| {
            let mut recipient = QueuedRecipient::new(address.clone());
            recipient.notify = notify;
            recipient
        });
        let queued = QueuedEnvelope { from: admitted.from.clone(), recipients: recipients.collect(), ret, envid };
        let given_id = admitted.message.message_id();
        let priority = self.priority.map_or(admitted.priority, |asked| asked.min(known.submitter.rules.priority));
        let sender = self.sender.unwrap_or(admitted.sender);
        let receipt = api
            .queue
            .accept(Submission {
                submitter: Some(known.submitter.id),
                sender: sender.id,
                envelope: queued,
                message: admitted.message,
                priority,
                not_before: self.not_before,
                via: Via::Http,
                remote: Some(caller.address.to_string()),
                idempotency_key: key.or(admitted.idempotency_key),
                fingerprint,
                facts,
                graph_json: self.graph_json,
            })
            .await?;
        if receipt.repeated {
            // It counted the first time: this charge goes back as it is dropped.
            let first = api.store.message(receipt.id).await?;
            let message_id = first.and_then(|message| message.message_id);
            return Ok(Accepted { receipt, message_id, from: admitted.from, scheduled: false });
        }
        admitted.charge.keep();
        let scheduled = self.not_before.is_some_and(|time| time > now);
        Ok(Accepted { receipt, message_id: given_id, from: admitted.from, scheduled })
    }
}

/// Bodies below this size are copied out of the connection's buffer.
const COPIED: usize = 64 * 1024;

struct Accepted {
    receipt: Receipt,
    message_id: Option<String>,
    from: Option<EmailAddress>,
    scheduled: bool,
}

impl Accepted {
    fn answer(self) -> Response {
        let id = self.receipt.id.uuid();
        let domain = self.from.as_ref().map_or("localhost", EmailAddress::domain);
        // One without gets this on its way out.
        let message_id = self.message_id.unwrap_or_else(|| format!("<{}@{domain}>", id.simple()));
        let links = Links::of(self.receipt.id);
        let location = HeaderValue::from_str(&links.itself);
        let state = if self.scheduled { TakenState::Scheduled } else { TakenState::Queued };
        let taken = Taken { id, message_id, state, links };
        let mut response = crate::extract::answer(StatusCode::ACCEPTED, &taken);
        if let Ok(location) = location {
            response.headers_mut().insert(header::LOCATION, location);
        }
        if self.receipt.repeated {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response.into_response()
    }
}

fn chosen(known: &Known, name: Option<String>) -> Result<Option<Arc<KnownSender>>, Refusal> {
    let Some(name) = name else { return Ok(None) };
    let found = known.senders.iter().find(|sender| sender.name == name);
    found.cloned().map(Some).ok_or_else(|| Refusal::SenderNotAllowed { sender: shortened(&name) })
}

fn default_mailbox(known: &Known) -> Result<EmailAddress, Refusal> {
    let sender = known.default_sender();
    sender
        .map(|sender| sender.mailbox.clone())
        .ok_or_else(|| postkey_submission::Refusal::NoSender { submitter: known.name().to_owned() }.into())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut all = headers.get_all(IDEMPOTENCY_KEY).iter();
    let bad = |what: &str| Refusal::Parameter { what: format!("the header Idempotency-Key {what}") };
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(bad("stands more than once")),
        (Some(one), None) => {
            let key = one.to_str().map_err(|_| bad("holds something else than printable ASCII"))?;
            check_idempotency_key(key).map_err(|refusal| Refusal::Parameter { what: refusal.to_string() })?;
            Ok(Some(key.to_owned()))
        }
    }
}

fn fingerprint(kind: &str, query: Option<&str>, body: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [kind.as_bytes(), query.unwrap_or_default().as_bytes()] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.update(body);
    digest.finalize().into()
}

fn notify(list: &[NotifyOf]) -> Notify {
    let asks = |of| list.contains(&of);
    Notify { success: asks(NotifyOf::Success), failure: asks(NotifyOf::Failure), delay: asks(NotifyOf::Delay) }
}

fn ret(ret: Return) -> Ret {
    match ret {
        Return::Full => Ret::Full,
        Return::Headers => Ret::Hdrs,
    }
}

fn unprocessable(error: &dyn Diagnose) -> Refusal {
    Refusal::unprocessable(error)
}

impl From<postkey_submission::Refusal> for Refusal {
    fn from(refusal: postkey_submission::Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.http_status()).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
        Self::passed(status, &refusal, refusal.retry_after().map(whole_seconds))
    }
}

impl From<AcceptError> for Refusal {
    fn from(error: AcceptError) -> Self {
        let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let retry_after = match &error {
            AcceptError::Store(cause) => crate::refusal::store_status(cause).1,
            AcceptError::Stopping | AcceptError::Backlog { .. } => Some(BACKLOG),
            AcceptError::KeyReused => None,
        };
        Self::passed(status, &error, retry_after)
    }
}

/// A queue that is full has room again after some attempts; a node that stops is up again within this time.
const BACKLOG: u64 = 10;
