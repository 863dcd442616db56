//! The REST API: routes, problem details (RFC 9457), OpenAPI.

mod body;
mod caller;
mod extract;
mod guard;
pub mod host;
mod names;
mod openapi;
mod order;
pub mod problem;
pub mod refusal;
mod refusals;
mod routes;
mod send_query;
pub mod send_request;
pub mod serve;

use std::{fmt, sync::Arc};

use axum::{
    Router,
    extract::State,
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use postkey_base::Clock;
use postkey_queue::{Outbox, Queue};
use postkey_store::Store;
use postkey_submission::Directory;

use crate::{
    body::Bodies,
    extract::{FromQuery, JSON, NoQuery, accepts},
    refusal::Refusal,
    routes::{health, metrics, outbox, outbox_steps, pauses, send, senders, submitters},
};

pub use host::Hosts;
pub use openapi::document;
pub use problem::Problem;
pub use serve::{Listening, serve};

/// What the API works with.
#[derive(Clone)]
pub struct ApiParts {
    /// Messages, senders, pauses.
    pub store: Store,
    /// Takes messages.
    pub queue: Queue,
    /// Who may do what.
    pub directory: Directory,
    /// The time.
    pub clock: Clock,
    /// How it answers.
    pub settings: ApiSettings,
}

/// How the API answers.
#[derive(Debug, Clone, Default)]
pub struct ApiSettings {
    /// For which host names.
    pub hosts: Hosts,
    /// Reverse proxies whose `X-Forwarded-For` counts.
    pub proxies: Vec<ipnet::IpNet>,
}

impl fmt::Debug for ApiParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiParts").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What every handler sees. One for all requests.
pub(crate) struct Api {
    store: Store,
    queue: Queue,
    directory: Directory,
    outbox: Outbox,
    clock: Clock,
    hosts: Hosts,
    proxies: Vec<ipnet::IpNet>,
    bodies: Bodies,
    document: Bytes,
}

/// All routes. [`serve()`] serves them.
pub fn router(parts: ApiParts) -> Router {
    let ApiParts { store, queue, directory, clock, settings } = parts;
    let api = Arc::new(Api {
        outbox: Outbox::new(store.clone(), clock.clone()),
        store,
        queue,
        directory,
        clock,
        hosts: settings.hosts,
        proxies: settings.proxies,
        bodies: Bodies::new(),
        document: document().to_string().into(),
    });
    Router::new()
        .route("/v1/send", post(send::send))
        .route("/v1/outbox", get(outbox::search))
        .route("/v1/outbox/retry", post(outbox_steps::retry_many))
        .route("/v1/outbox/{id}", get(outbox::show).patch(outbox_steps::reschedule))
        .route("/v1/outbox/{id}/content", get(outbox::content))
        .route("/v1/outbox/{id}/retry", post(outbox_steps::retry))
        .route("/v1/outbox/{id}/cancel", post(outbox_steps::cancel))
        .route("/v1/senders", get(senders::list))
        .route("/v1/senders/{name}", get(senders::show))
        .route("/v1/senders/{name}/pause", post(senders::pause))
        .route("/v1/senders/{name}/resume", post(senders::resume))
        .route("/v1/pauses", get(pauses::list).post(pauses::add))
        .route("/v1/pauses/{scope}/{name}", delete(pauses::end))
        .route("/v1/submitters", get(submitters::list))
        .route("/v1/submitters/{name}", get(submitters::show))
        .route("/healthz", get(health::health))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi_json))
        .fallback(guard::no_such_path)
        .method_not_allowed_fallback(guard::no_such_method)
        .layer(from_fn_with_state(Arc::clone(&api), guard::guard))
        .with_state(api)
}

async fn openapi_json(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
) -> Result<Response, Refusal> {
    accepts(&headers, JSON)?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(JSON))], api.document.clone()).into_response())
}
