//! What people do to messages: send again, withdraw, give another time.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use postkey_store::{MessageId, NewMessageEvent, Scope};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    caller::Caller,
    extract::{FromPath, FromQuery, JSON, NoQuery, accepts, answer},
    order,
    refusal::Refusal,
    refusals::Ordering,
    routes::outbox::{MessageAndTimeline, own, shown_whole},
};

/// Send a message again
///
/// One that failed, was withdrawn, waits for its next attempt, or whose outcome is unknown. It is due at once.
#[utoipa::path(
    post,
    path = "/v1/outbox/{id}/retry",
    tag = "outbox",
    operation_id = "outbox_retry",
    params(("id" = Uuid, Path, description = "The message's id.")),
    responses((status = 200, description = "It is queued again.", body = MessageAndTimeline), Ordering),
    security(("api_key" = [])),
)]
pub(crate) async fn retry(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
    FromPath(id): FromPath<String>,
) -> Result<Response, Refusal> {
    let id = ordered(&api, &caller, &id, &headers).await?;
    match api.outbox.retry(&[id], caller.name()).await?.is_empty() {
        false => Ok(answer(StatusCode::OK, &shown_whole(&api, id).await?)),
        true => Err(wrong_state(&api, id, "sent again").await),
    }
}

/// Withdraw a message
///
/// One that waits. What is on its way out or gone cannot be called back.
#[utoipa::path(
    post,
    path = "/v1/outbox/{id}/cancel",
    tag = "outbox",
    operation_id = "outbox_cancel",
    params(("id" = Uuid, Path, description = "The message's id.")),
    responses((status = 200, description = "It will not be sent.", body = MessageAndTimeline), Ordering),
    security(("api_key" = [])),
)]
pub(crate) async fn cancel(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
    FromPath(id): FromPath<String>,
) -> Result<Response, Refusal> {
    let id = ordered(&api, &caller, &id, &headers).await?;
    match api.outbox.cancel(&[id], caller.name()).await?.is_empty() {
        false => Ok(answer(StatusCode::OK, &shown_whole(&api, id).await?)),
        true => Err(wrong_state(&api, id, "cancelled").await),
    }
}

/// The message that the caller may change.
async fn ordered(api: &Api, caller: &Caller, id: &str, headers: &HeaderMap) -> Result<MessageId, Refusal> {
    caller.must(Scope::OutboxManage)?;
    accepts(headers, JSON)?;
    Ok(own(api, caller, id).await?.id)
}

async fn wrong_state(api: &Api, id: MessageId, step: &'static str) -> Refusal {
    match api.store.message(id).await {
        Ok(Some(message)) => Refusal::WrongState { id: id.to_string(), state: message.state.to_string(), step },
        Ok(None) => Refusal::NoSuchMessage { id: id.to_string() },
        Err(error) => error.into(),
    }
}

/// Another time.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"not_before": "2026-11-24T07:05:00Z"}))]
pub(crate) struct Reschedule {
    /// Not to be sent before this time; a time that is past means at once.
    #[schema(value_type = String, format = DateTime)]
    pub not_before: Timestamp,
}

/// Give a message another time
///
/// One that waits.
#[utoipa::path(
    patch,
    path = "/v1/outbox/{id}",
    tag = "outbox",
    operation_id = "outbox_reschedule",
    params(("id" = Uuid, Path, description = "The message's id.")),
    request_body = Reschedule,
    responses((status = 200, description = "It has another time.", body = MessageAndTimeline), Ordering),
    security(("api_key" = [])),
)]
pub(crate) async fn reschedule(
    State(api): State<Arc<Api>>,
    caller: Caller,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
    FromPath(id): FromPath<String>,
    request: Request,
) -> Result<Response, Refusal> {
    caller.must(Scope::OutboxManage)?;
    accepts(request.headers(), JSON)?;
    let Reschedule { not_before } = order::read(&api, request).await?;
    let id = own(&api, &caller, &id).await?.id;
    let event =
        NewMessageEvent { kind: "rescheduled", detail: json!({ "by": caller.name(), "not_before": not_before }) };
    if !api.store.reschedule_message(id, not_before, &event).await? {
        return Err(wrong_state(&api, id, "given another time").await);
    }
    Ok(answer(StatusCode::OK, &shown_whole(&api, id).await?))
}

/// Which messages to send again.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    /// Their ids.
    #[schema(min_items = 1, max_items = 500)]
    pub ids: Vec<Uuid>,
}

/// What was done to many.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Retried {
    /// These are queued again.
    pub retried: Vec<Uuid>,
    /// These are not: no such message, or in a state that does not allow it.
    pub unchanged: Vec<Uuid>,
}

/// More ids than are given at once would hold the store for long.
const MOST: usize = 500;

/// Send many messages again
///
/// Those of the list that failed, were withdrawn, wait for their next attempt, or whose outcome is unknown.
#[utoipa::path(
    post,
    path = "/v1/outbox/retry",
    tag = "outbox",
    operation_id = "outbox_retry_many",
    request_body = Retry,
    responses((status = 200, description = "What was done to each.", body = Retried), Ordering),
    security(("api_key" = [])),
)]
pub(crate) async fn retry_many(
    State(api): State<Arc<Api>>,
    caller: Caller,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
    request: Request,
) -> Result<Response, Refusal> {
    caller.must(Scope::OutboxManage)?;
    accepts(request.headers(), JSON)?;
    let Retry { ids } = order::read(&api, request).await?;
    if !(1..=MOST).contains(&ids.len()) {
        return Err(Refusal::Shape(format!("ids: there must be 1 to {MOST}")));
    }
    let mut own = Vec::with_capacity(ids.len());
    for &id in &ids {
        let message = api.store.message(MessageId::from(id)).await?;
        let is_own = message.is_some_and(|one| caller.sees().is_none_or(|owner| one.submitter == Some(owner)));
        if is_own && !own.contains(&MessageId::from(id)) {
            own.push(MessageId::from(id));
        }
    }
    let changed = if own.is_empty() { Vec::new() } else { api.outbox.retry(&own, caller.name()).await? };
    let (retried, unchanged) = ids.into_iter().partition(|&id| changed.contains(&MessageId::from(id)));
    Ok(answer(StatusCode::OK, &Retried { retried, unchanged }))
}
