//! The REST API: routes, problem details (RFC 9457), OpenAPI.

pub mod host;
pub mod serve;

use axum::Router;
use postkey_base::Clock;
use postkey_store::Store;

pub use host::Hosts;
pub use serve::{Listening, serve};

/// What the API works with.
#[derive(Debug, Clone)]
pub struct ApiParts {
    /// Messages, senders, pauses.
    pub store: Store,
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

/// All routes. [`serve`] serves them.
pub fn router(parts: ApiParts) -> Router {
    let _ = parts;
    Router::new()
}
