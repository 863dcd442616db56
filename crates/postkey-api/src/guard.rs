//! What every request passes: host list, request id, security headers, the body of a problem, one log line.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, header};
use uuid::Uuid;

use crate::{Api, host, problem::Problem, refusal::Refusal};

/// Ours on every answer, and the `instance` of a problem.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Nothing here is a page: nothing may be loaded, framed, guessed or kept.
const SECURITY: [(HeaderName, HeaderValue); 5] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

pub(crate) async fn guard(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = Uuid::now_v7();
    let method = request.method().clone();
    let uri = request.uri().clone();
    let host = host::named(&uri, request.headers());
    let mut response =
        if api.hosts.allow(&host) { next.run(request).await } else { Refusal::Host { host }.into_response() };
    let code = finish(&mut response, id);
    // The path only: a query may hold addresses.
    tracing::info!(
        http.method = method.as_str(),
        http.path = uri.path(),
        http.status = response.status().as_u16(),
        http.code = code.as_deref(),
        http.request_id = %id,
        took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        "answered"
    );
    response
}

/// Id, security headers and, when it is one, the problem's body. Answers the problem's code.
fn finish(response: &mut Response, id: Uuid) -> Option<String> {
    let mut code = None;
    if let Some(mut problem) = response.extensions_mut().remove::<Problem>() {
        problem.instance = Some(id.urn().to_string());
        code = Some(problem.code.clone());
        problem.fill(response);
    }
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = id.hyphenated().encode_lower(&mut text);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(REQUEST_ID, value);
    }
    for (name, value) in SECURITY {
        headers.entry(name).or_insert(value);
    }
    code
}

/// For a path that is not there.
pub(crate) async fn no_such_path(request: Request) -> Refusal {
    Refusal::NoSuchPath { path: shortened(request.uri().path()) }
}

/// For a method that a path does not have; axum adds `Allow`.
pub(crate) async fn no_such_method(request: Request) -> Refusal {
    Refusal::Method { method: shortened(request.method().as_str()), path: shortened(request.uri().path()) }
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}
