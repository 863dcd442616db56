//! `/v1/senders`: how far each is set up, what waits for it, and whether it is held.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use postkey_store::{HoldCause, HoldScope, MessageCount, MessageState, Missing, Scope, Sender, Stage};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Api,
    caller::Caller,
    extract::{FromPath, FromQuery, JSON, NoQuery, accepts, answer, shortened},
    names::Names,
    order,
    refusal::Refusal,
    refusals::{Ordering, Reading, ReadingOne},
    routes::pauses::{Held, check_text, is_in_force, pause as write_pause},
};

/// A sender: tenant, app and mailbox under a name.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SenderShown {
    /// Its name.
    pub name: String,
    /// How far it is set up.
    pub stage: SetUp,
    /// What it still lacks.
    pub missing: Vec<Lacks>,
    /// When a message last proved it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub verified_at: Option<Timestamp>,
    /// The mailbox it sends as.
    pub mailbox: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// The client id of its app.
    pub client_id: Option<String>,
    /// Why its mail waits, if it does.
    pub held: Vec<Held>,
    /// Messages in each state.
    pub messages: Counts,
}

/// How far a sender is set up.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SetUp {
    /// Something is missing.
    Incomplete,
    /// All is there; no message has proved it.
    Ready,
    /// A message went out.
    Verified,
}

/// A value that a sender lacks.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Lacks {
    /// The client id of its app.
    ClientId,
    /// The tenant.
    Tenant,
    /// The mailbox.
    Mailbox,
    /// A credential of the app.
    Credential,
}

/// Messages in each state.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct Counts {
    /// Waiting, held and scheduled ones included.
    #[schema(minimum = 0)]
    pub queued: u64,
    /// On their way out.
    #[schema(minimum = 0)]
    pub sending: u64,
    /// To be tried again.
    #[schema(minimum = 0)]
    pub deferred: u64,
    /// Without a trustworthy answer.
    #[schema(minimum = 0)]
    pub unknown: u64,
    /// With Exchange Online, as far as they are still kept.
    #[schema(minimum = 0)]
    pub accepted: u64,
    /// Failed, as far as they are still kept.
    #[schema(minimum = 0)]
    pub failed: u64,
    /// Withdrawn, as far as they are still kept.
    #[schema(minimum = 0)]
    pub cancelled: u64,
    /// Bytes of those that wait.
    #[schema(minimum = 0)]
    pub waiting_bytes: u64,
}

/// Senders.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SenderList {
    /// By name.
    pub senders: Vec<SenderShown>,
}

/// How long to hold back.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(example = json!({"reason": "the mailbox is being moved"}))]
pub(crate) struct Pausing {
    /// Why, for whoever wonders.
    #[schema(min_length = 1, max_length = 200, pattern = "NAME")]
    pub reason: Option<String>,
    /// When it ends by itself. Default: when somebody ends it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// List senders
///
/// How far each is set up, what waits for it, and whether it is held. A key that is bound to a submitter sees only the
/// senders of that one, and their counts include what others hand in.
#[utoipa::path(
    get,
    path = "/v1/senders",
    tag = "senders",
    operation_id = "senders_list",
    responses((status = 200, description = "The senders.", body = SenderList), Reading),
    security(("api_key" = [])),
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
) -> Result<Response, Refusal> {
    caller.must(Scope::OutboxRead)?;
    accepts(&headers, JSON)?;
    let mut senders = api.store.senders().await?;
    senders.retain(|sender| sees(&caller, sender));
    Ok(answer(StatusCode::OK, &SenderList { senders: shown(&api, senders).await? }))
}

/// Show a sender
///
/// How far it is set up, what waits for it, and whether it is held.
#[utoipa::path(
    get,
    path = "/v1/senders/{name}",
    tag = "senders",
    operation_id = "senders_show",
    params(("name" = String, Path, description = "The sender's name.", min_length = 1, max_length = 200, pattern = "NAME")),
    responses((status = 200, description = "The sender.", body = SenderShown), ReadingOne),
    security(("api_key" = [])),
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
    FromPath(name): FromPath<String>,
) -> Result<Response, Refusal> {
    caller.must(Scope::OutboxRead)?;
    accepts(&headers, JSON)?;
    one(&api, find(&api, &caller, &name).await?).await
}

/// Pause a sender
///
/// Its mail waits until somebody resumes it or the end of the pause comes. Nothing is lost.
#[utoipa::path(
    post,
    path = "/v1/senders/{name}/pause",
    tag = "senders",
    operation_id = "senders_pause",
    params(("name" = String, Path, description = "The sender's name.", min_length = 1, max_length = 200, pattern = "NAME")),
    request_body = Pausing,
    responses((status = 200, description = "It is paused.", body = SenderShown), Ordering),
    security(("api_key" = [])),
)]
pub(crate) async fn pause(
    State(api): State<Arc<Api>>,
    caller: Caller,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
    FromPath(name): FromPath<String>,
    request: Request,
) -> Result<Response, Refusal> {
    caller.must(Scope::OutboxManage)?;
    caller.must_be_unbound()?;
    accepts(request.headers(), JSON)?;
    let Pausing { reason, until } = order::read(&api, request).await?;
    check_text("reason", reason.as_ref())?;
    let sender = find(&api, &caller, &name).await?;
    write_pause(&api, &caller, HoldScope::Sender(sender.id), reason, until).await?;
    one(&api, sender).await
}

/// Resume a sender
///
/// What waited goes on, paced. A sender that is not paused stays as it is.
#[utoipa::path(
    post,
    path = "/v1/senders/{name}/resume",
    tag = "senders",
    operation_id = "senders_resume",
    params(("name" = String, Path, description = "The sender's name.", min_length = 1, max_length = 200, pattern = "NAME")),
    responses((status = 200, description = "It is not paused.", body = SenderShown), Ordering),
    security(("api_key" = [])),
)]
pub(crate) async fn resume(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
    FromPath(name): FromPath<String>,
) -> Result<Response, Refusal> {
    caller.must(Scope::OutboxManage)?;
    caller.must_be_unbound()?;
    accepts(&headers, JSON)?;
    let sender = find(&api, &caller, &name).await?;
    api.store.lift_hold(&HoldScope::Sender(sender.id), HoldCause::Paused).await?;
    one(&api, sender).await
}

fn sees(caller: &Caller, sender: &Sender) -> bool {
    caller.holder.submitter.as_ref().is_none_or(|known| known.submitter.senders.contains(&sender.id))
}

async fn find(api: &Api, caller: &Caller, name: &str) -> Result<Sender, Refusal> {
    let missing = || Refusal::NoSuchThing { what: "sender", name: shortened(name) };
    if name.contains(char::is_control) {
        return Err(missing());
    }
    api.store.sender(name).await?.filter(|sender| sees(caller, sender)).ok_or_else(missing)
}

async fn one(api: &Api, sender: Sender) -> Result<Response, Refusal> {
    let name = sender.values.name.clone();
    let mut all = shown(api, vec![sender]).await?;
    let missing = || Refusal::NoSuchThing { what: "sender", name };
    all.pop().map(|one| answer(StatusCode::OK, &one)).ok_or_else(missing)
}

async fn shown(api: &Api, senders: Vec<Sender>) -> Result<Vec<SenderShown>, Refusal> {
    let names = Names::read(&api.store).await?;
    let holds = api.store.holds().await?;
    let counts = api.store.count_messages().await?;
    let now = api.clock.now();
    let concerns = |sender: &Sender, scope: &HoldScope| match scope {
        HoldScope::Sender(id) => *id == sender.id,
        HoldScope::App(id) => sender.values.app == Some(*id),
        HoldScope::Tenant(id) => sender.values.tenant == Some(*id),
        HoldScope::Submitter(_) | HoldScope::Domain(_) => false,
    };
    let shown = senders.into_iter().map(|sender| {
        let held = holds.iter().filter(|hold| concerns(&sender, &hold.scope) && is_in_force(hold, now));
        let held = held.map(|hold| Held::of(hold.clone(), &names)).collect();
        let (stage, missing, verified_at) = match sender.stage {
            Stage::Incomplete { missing } => (SetUp::Incomplete, missing.into_iter().map(lacks).collect(), None),
            Stage::Ready => (SetUp::Ready, Vec::new(), None),
            Stage::Verified { at } => (SetUp::Verified, Vec::new(), Some(at)),
        };
        SenderShown {
            stage,
            missing,
            verified_at,
            held,
            messages: counted(counts.iter().filter(|count| count.sender == sender.id)),
            mailbox: sender.values.mailbox.map(|mailbox| mailbox.to_string()),
            tenant: sender.values.tenant.map(|tenant| tenant.to_string()),
            client_id: sender.values.client_id.map(|id| id.to_string()),
            name: sender.values.name,
        }
    });
    Ok(shown.collect())
}

fn lacks(missing: Missing) -> Lacks {
    match missing {
        Missing::ClientId => Lacks::ClientId,
        Missing::Tenant => Lacks::Tenant,
        Missing::Mailbox => Lacks::Mailbox,
        Missing::Credential => Lacks::Credential,
    }
}

fn counted<'a>(counts: impl Iterator<Item = &'a MessageCount>) -> Counts {
    let mut sum = Counts::default();
    for count in counts {
        let place = match count.state {
            MessageState::Queued => &mut sum.queued,
            MessageState::Sending => &mut sum.sending,
            MessageState::Deferred => &mut sum.deferred,
            MessageState::Unknown => &mut sum.unknown,
            MessageState::Accepted => &mut sum.accepted,
            MessageState::Failed => &mut sum.failed,
            MessageState::Cancelled => &mut sum.cancelled,
        };
        *place += count.messages;
        if !count.state.is_settled() {
            sum.waiting_bytes += count.bytes;
        }
    }
    sum
}
