//! The login host: discovery, sign-in and consent pages, the token endpoint. Plain functions over the world; the server
//! in front does sockets, faults and the journal.

mod admin_consent;
mod assertion;
mod authorize;
mod catalogue;
mod client;
mod consent;
mod device;
mod discovery;
mod flow;
pub(crate) mod grants;
mod mint;
mod pages;
mod redirect;
mod refusal;
mod refused_sign_in;
mod scopes;
mod sign_in_log;
mod token_endpoint;
mod user_answer;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;
use uuid::Uuid;

pub(crate) use refusal::Refusal;

use crate::world::{Tenant, World};

/// A request to the login host.
#[derive(Debug, Clone)]
pub(crate) struct LoginRequest {
    pub(crate) method: Method,
    /// Decoded, empty segments dropped.
    pub(crate) path: Vec<String>,
    /// Decoded, in order.
    pub(crate) query: Vec<(String, String)>,
    /// The form in the body, decoded, in order.
    pub(crate) form: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    /// As the client called it, without a trailing slash.
    pub(crate) origin: String,
    pub(crate) trace_id: Uuid,
    /// `client-request-id` as sent, else a fresh one.
    pub(crate) correlation_id: String,
}

impl LoginRequest {
    /// A field of the body. Query strings of the token endpoint are ignored, as there.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        find(&self.form, name)
    }

    /// A parameter of the query, or of the body of a posted authorize request.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.query, name).or_else(|| find(&self.form, name))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.header("cookie")?.split(';').find_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == name).then_some(value)
        })
    }

    /// Whether an assertion's audience is this token endpoint, however the loopback host is spelt, or the tenant's issuer.
    fn is_token_url(&self, aud: &str) -> bool {
        let spell = |url: &str| url.replacen("://127.0.0.1", "://localhost", 1).replacen("://[::1]", "://localhost", 1);
        let called = spell(&format!("{}/{}", self.origin, self.path.join("/")));
        let tenant = spell(&format!("{}/{}", self.origin, self.path.first().map_or("", String::as_str)));
        let aud = spell(aud);
        [called, format!("{tenant}/oauth2/v2.0/token"), format!("{tenant}/oauth2/token"), format!("{tenant}/v2.0")]
            .iter()
            .any(|good| aud.trim_end_matches('/').eq_ignore_ascii_case(good))
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// An answer of the login host.
#[derive(Debug, Clone)]
pub(crate) struct LoginResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    /// Client id of the app concerned, for the journal.
    pub(crate) app_id: Option<Uuid>,
}

impl LoginResponse {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json; charset=utf-8".to_owned())],
            body: Bytes::from(body.to_string()),
            app_id: None,
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The JSON answer of a refusal, with the token endpoint's headers.
    pub(crate) fn refused(world: &World, request: &LoginRequest, refusal: &Refusal) -> Self {
        let body = refusal.body(&request.origin, &request.trace_id, &request.correlation_id, world.clock.now());
        let answer = Self::json(refusal.http, &body).never_stored();
        match refusal.retry_after {
            Some(seconds) => answer.with("retry-after", seconds.to_string()),
            None => answer,
        }
    }

    /// Contract 4.3: the headers of every token answer.
    pub(crate) fn never_stored(self) -> Self {
        self.with("cache-control", "no-store, no-cache")
            .with("pragma", "no-cache")
            .with("expires", "-1")
            .with("p3p", "CP=\"DSP CUR OTPi IND OTRi ONL FIN\"")
    }
}

/// What `{tenant}` in a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TenantKey {
    One(Uuid),
    Common,
    Organizations,
    Consumers,
}

impl TenantKey {
    pub(crate) fn parse(world: &World, key: &str) -> Result<Self, Refusal> {
        match key.to_ascii_lowercase().as_str() {
            "common" => return Ok(Self::Common),
            "organizations" => return Ok(Self::Organizations),
            // The tenant of personal accounts goes by its id too.
            "consumers" | "9188040d-6c67-4c5b-b112-36a304b66dad" => return Ok(Self::Consumers),
            _ => {}
        }
        if let Some(tenant) = world.tenant_by_key(key) {
            return Ok(Self::One(tenant.id));
        }
        let shaped = Uuid::try_parse(key).is_ok()
            || (key.contains('.') && key.chars().all(|c| c.is_alphanumeric() || ".-".contains(c)));
        Err(if shaped { Refusal::unknown_tenant(key) } else { Refusal::malformed_tenant(key) })
    }

    /// The tenant itself, if it is a single one.
    pub(crate) fn one(self, world: &World) -> Option<&Tenant> {
        match self {
            Self::One(id) => world.tenant(id),
            _ => None,
        }
    }
}

/// The operation's name, for faults and the journal.
pub(crate) fn operation_name(path: &[String]) -> &'static str {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        [_, "discovery", "instance"] => "instance",
        [_, ref rest @ ..] => match rest {
            ["v2.0", ".well-known", "openid-configuration"] | [".well-known", "openid-configuration"] => "discovery",
            ["discovery", "v2.0", "keys"] | ["discovery", "keys"] => "keys",
            ["oauth2", "v2.0", "token"] | ["oauth2", "token"] => "token",
            ["oauth2", "v2.0", "authorize"] | ["oauth2", "authorize"] => "authorize",
            ["oauth2", "v2.0", "devicecode"] | ["oauth2", "devicecode"] => "devicecode",
            ["oauth2", "deviceauth"] => "deviceauth",
            ["v2.0", "adminconsent"] | ["adminconsent"] => "adminconsent",
            ["oauth2", "v2.0", "logout"] | ["oauth2", "logout"] => "logout",
            ["sign-in"] => "signin",
            ["consent"] => "consent",
            _ => "unknown",
        },
        [] => "unknown",
    }
}

/// The tenant a path names, for faults and the journal.
pub(crate) fn tenant_of(world: &World, path: &[String]) -> Option<Uuid> {
    world.tenant_by_key(path.first()?).map(|tenant| tenant.id)
}

/// Answers a request to the login host.
pub(crate) fn handle(world: &mut World, request: &LoginRequest) -> LoginResponse {
    let tenant = request.path.first().map_or("", String::as_str);
    match operation_name(&request.path) {
        "instance" => discovery::instance(world, request),
        "discovery" => discovery::configuration(world, request, tenant),
        "keys" => discovery::keys(world, request, tenant),
        "token" => token_endpoint::handle(world, request, tenant),
        "authorize" => authorize::handle(world, request, tenant),
        "devicecode" => device::authorization(world, request, tenant),
        "deviceauth" => device::page(world, request),
        "adminconsent" => admin_consent::handle(world, request, tenant),
        "signin" => flow::sign_in(world, request),
        "consent" => flow::decide(world, request),
        "logout" => flow::logout(world, request),
        _ => LoginResponse { status: 404, headers: Vec::new(), body: Bytes::new(), app_id: None },
    }
}
