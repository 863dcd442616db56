//! One request to Graph as its rooms see it, and the answer they give. No sockets here.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;
use uuid::Uuid;

/// Whose token came with a request.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the comments say what is not plain")]
pub struct Caller {
    pub tenant: Uuid,
    /// Client id of the app.
    pub app_id: Uuid,
    /// Object id of the app's service principal.
    pub service_principal: Uuid,
    /// The signed-in user's object id; None = app-only.
    pub user: Option<Uuid>,
    /// `roles` of an app-only token.
    pub roles: BTreeSet<String>,
    /// `scp` of a delegated token.
    pub scopes: BTreeSet<String>,
}

/// A request to Graph after routing to a version, with a valid token of the right audience.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "HTTP words")]
pub struct ApiRequest {
    pub method: Method,
    /// `v1.0` or `beta`.
    pub version: String,
    /// Path segments behind the version, percent-decoded, empty ones collapsed, keys in parentheses kept as they stand.
    pub path: Vec<String>,
    /// Decoded, in order; `%24top` has become `$top`.
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// None only for upload URLs, which carry their own authority.
    pub caller: Option<Caller>,
    /// Scheme, host and port as the client called it, without a trailing slash; links in answers start with it.
    pub origin: String,
    /// Repeated in the answer's `request-id` header and in errors.
    pub request_id: Uuid,
    /// As sent by the client, else the request id.
    pub client_request_id: String,
}

/// What an answer carries.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "HTTP words")]
pub enum Body {
    Empty,
    Json(Value),
    Raw { content_type: &'static str, bytes: Bytes },
}

/// The answer of a room; the server adds the correlation headers.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "HTTP words")]
pub struct ApiResponse {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}
