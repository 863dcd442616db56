//! `/healthz`: the process answers. `/readyz`: it can take and send mail.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::{
    Api,
    extract::{FromQuery, JSON, NoQuery, accepts, answer},
    refusal::Refusal,
    refusals::Open,
};

/// It is well.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct Health {
    /// Always this word.
    pub status: Well,
}

/// How it is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Well {
    /// It is well.
    Ok,
}

/// Whether the process answers
///
/// For whoever restarts a program that hangs. Says nothing of the store.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    operation_id = "health",
    responses((status = 200, description = "It answers.", body = Health), Open),
    security(()),
)]
pub(crate) async fn health(headers: HeaderMap, FromQuery(NoQuery {}): FromQuery<NoQuery>) -> Result<Response, Refusal> {
    accepts(&headers, JSON)?;
    Ok(answer(StatusCode::OK, &Health { status: Well::Ok }))
}

/// Whether mail can be taken
///
/// The store can be read and the queue runs. For whoever decides where to send requests.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    operation_id = "ready",
    responses((status = 200, description = "Mail can be taken.", body = Health), Open),
    security(()),
)]
pub(crate) async fn ready(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
) -> Result<Response, Refusal> {
    accepts(&headers, JSON)?;
    timeout(PATIENCE, api.store.holds()).await.map_err(|_| Refusal::StoreSlow { seconds: PATIENCE.as_secs() })??;
    Ok(answer(StatusCode::OK, &Health { status: Well::Ok }))
}

/// Whoever asks gives up after some seconds itself; a store that takes longer takes no mail in time either.
const PATIENCE: Duration = Duration::from_secs(3);
