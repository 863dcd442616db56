//! The management API: what a test or a curious person changes and reads besides the protocols. Plain HTTP and JSON on
//! loopback; everything here can also be done in-process through [`crate::Emulator`].
//!
//! | request | what it does |
//! |---|---|
//! | `GET /state` | tenants, addresses, clock, behaviour |
//! | `GET /faults`, `POST /faults`, `DELETE /faults`, `DELETE /faults/{id}` | faults in force: see [`crate::faults::Fault`] |
//! | `GET /calls?since=N` | the journal of calls with a number above N |
//! | `GET /calls/wait?after=N&operation=NAME`, `?stalled=true`, `&timeout_ms=` | waits for a call to end, or to hang |
//! | `GET /clock`, `POST /clock {"advance_seconds"}` or `{"offset_ms"}` | the tenants' clock |
//! | `POST /replication {"replication_lag_ms", "acceptance_lag_ms", "lag_ms", "non_monotone"}` | eventual consistency |
//! | `POST /throttling {"token_requests_per_ten_seconds"}` | the token endpoint's patience; null = endless |
//! | `POST /tenants/{id}/users/{name} {…}` | see [`directory::UserChange`] |
//! | `POST /tenants/{id}/policy {…}` | see [`directory::PolicyChange`] |
//! | `POST /applications/{appId} {…}` | see [`directory::ApplicationChange`] |
//! | `POST /issuers {"issuer", "keys"}` | keys (JWKS entries) that federated tokens of an issuer must be signed with |
//! | `GET /mailboxes`, `GET /mailboxes/{address}/messages`, `…/messages/{n}/mime` | what arrived |
//! | `GET /outside` | mail that left for other organizations |
//! | `GET /arrivals`, `GET /arrivals/list`, `DELETE /arrivals` | how often each message was accepted and delivered |
//! | `GET /counters`, `DELETE /counters` | how hard each mailbox was worked |
//! | `POST /exchange/…` | see [`exchange`] |
//! | `GET /secrets` | every secret ever issued |

mod calls;
mod directory;
mod exchange;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    faults::{Action, Fault},
    server::{Arrived, Shared, made, pairs, segments},
    world::World,
};

/// What the API answers.
#[derive(Debug)]
pub(super) enum Reply {
    Json(u16, Value),
    Mime(Bytes),
    Text(String),
}

/// Why it refuses.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("there is no such thing here: {0}")]
    Unknown(String),
    #[error("the body is not what this request takes: {0}")]
    Body(String),
    #[error("{0}")]
    Value(&'static str),
    #[error("this takes {0}")]
    Method(&'static str),
    #[error("nothing happened within the time allowed")]
    Timeout,
    #[error("web pages may not use this API")]
    Browser,
}

impl Refused {
    fn status(&self) -> u16 {
        match self {
            Self::Unknown(_) => 404,
            Self::Body(_) | Self::Value(_) => 400,
            Self::Method(_) => 405,
            Self::Timeout => 408,
            Self::Browser => 403,
        }
    }
}

pub(super) type Answer = Result<Reply, Refused>;

/// Answers a request to the management port.
pub(crate) async fn answer(shared: &Shared, arrived: &Arrived) -> Response<Bytes> {
    // A page in somebody's browser can post to loopback; it cannot do so without saying where it comes from.
    let answered =
        if arrived.headers.contains_key("origin") { Err(Refused::Browser) } else { route(shared, arrived).await };
    match answered {
        Ok(Reply::Json(status, body)) => json_answer(status, &body),
        Ok(Reply::Text(text)) => made(200, &[("content-type", "text/plain; charset=utf-8")], Bytes::from(text)),
        Ok(Reply::Mime(bytes)) => made(200, &[("content-type", "message/rfc822")], bytes),
        Err(refused) => json_answer(refused.status(), &json!({"error": refused.to_string()})),
    }
}

fn json_answer(status: u16, body: &Value) -> Response<Bytes> {
    let headers = [("content-type", "application/json; charset=utf-8"), ("cache-control", "no-store")];
    made(status, &headers, Bytes::from(format!("{body:#}\n")))
}

async fn route(shared: &Shared, arrived: &Arrived) -> Answer {
    let path = segments(&arrived.path);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    if let ["calls", "wait"] = path[..] {
        return calls::wait(shared, &pairs(arrived.query.as_bytes())).await;
    }
    let answered = dispatch(&mut shared.world(), arrived, &path);
    if arrived.method != Method::GET {
        shared.write_clock();
        shared.changed();
    }
    answered
}

fn dispatch(world: &mut World, arrived: &Arrived, path: &[&str]) -> Answer {
    let method = &arrived.method;
    match *path {
        [] | ["state"] => only(method, &Method::GET).map(|()| ok(state(world))),
        ["faults", ref rest @ ..] => faults(world, arrived, rest),
        ["calls"] => only(method, &Method::GET).and_then(|()| calls::list(world, &pairs(arrived.query.as_bytes()))),
        ["clock"] => clock(world, arrived),
        ["replication"] => only(method, &Method::POST).and_then(|()| replication(world, arrived)),
        ["throttling"] => only(method, &Method::POST).and_then(|()| {
            world.behaviour.token_requests_per_ten_seconds =
                body::<Throttling>(arrived)?.token_requests_per_ten_seconds;
            Ok(done())
        }),
        ["secrets"] => only(method, &Method::GET).map(|()| ok(json!(world.issued_secrets))),
        ["issuers"] => only(method, &Method::POST).and_then(|()| {
            let issuer: Issuer = body(arrived)?;
            world.grants.trust_issuer(issuer.issuer, issuer.keys);
            Ok(done())
        }),
        ["tenants", tenant, "users", name] => only(method, &Method::POST)
            .and_then(|()| directory::user(world, tenant_id(world, tenant)?, name, body(arrived)?)),
        ["tenants", tenant, "policy"] => only(method, &Method::POST)
            .and_then(|()| directory::policy(world, tenant_id(world, tenant)?, body(arrived)?)),
        ["applications", app_id] => only(method, &Method::POST).and_then(|()| {
            let app_id = Uuid::try_parse(app_id).map_err(|_| Refused::Unknown(app_id.to_owned()))?;
            directory::application(world, app_id, &body(arrived)?)
        }),
        ["mailboxes", ref rest @ ..] => only(method, &Method::GET).and_then(|()| exchange::mailboxes(world, rest)),
        ["outside"] => only(method, &Method::GET).map(|()| exchange::outside(world)),
        ["arrivals", ref rest @ ..] => exchange::arrivals(world, method, rest),
        ["counters"] => exchange::counters(world, method),
        ["exchange", ref rest @ ..] => exchange::change(world, arrived, rest),
        _ => Err(Refused::Unknown(arrived.path.clone())),
    }
}

pub(super) fn only(method: &Method, allowed: &Method) -> Result<(), Refused> {
    let name = if *allowed == Method::GET { "GET" } else { "POST" };
    if method == allowed { Ok(()) } else { Err(Refused::Method(name)) }
}

pub(super) fn ok(body: Value) -> Reply {
    Reply::Json(200, body)
}

pub(super) fn done() -> Reply {
    ok(json!({"done": true}))
}

pub(super) fn body<T: DeserializeOwned>(arrived: &Arrived) -> Result<T, Refused> {
    let text = if arrived.body.is_empty() { b"{}" } else { &arrived.body[..] };
    serde_json::from_slice(text).map_err(|cause| Refused::Body(cause.to_string()))
}

/// A tenant by its id or domain.
pub(super) fn tenant_id(world: &World, key: &str) -> Result<Uuid, Refused> {
    world.tenant_by_key(key).map(|tenant| tenant.id).ok_or_else(|| Refused::Unknown(key.to_owned()))
}

fn state(world: &World) -> Value {
    let tenants: Vec<Value> = world
        .tenants
        .iter()
        .map(|tenant| {
            let directory = &tenant.directory;
            json!({
                "id": tenant.id,
                "domain": tenant.domain,
                "display_name": tenant.display_name,
                "users": directory.users.iter().map(|user| &user.user_principal_name).collect::<Vec<_>>(),
                "applications": directory.applications.iter().map(|app| json!({
                    "app_id": app.app_id,
                    "id": app.id,
                    "display_name": app.display_name,
                    "secrets": app.secrets.len(),
                    "certificates": app.keys.len(),
                })).collect::<Vec<_>>(),
                "mailboxes": tenant.mailboxes.len(),
            })
        })
        .collect();
    json!({
        "addresses": {
            "authority": world.addresses.login,
            "graph": format!("{}/v1.0", world.addresses.graph),
            "smtp": world.addresses.smtp,
            "management": world.addresses.management,
            "proxy": world.addresses.proxy,
        },
        "clock": clock_state(world),
        "behaviour": {
            "replication_lag_ms": millis(world.behaviour.replication_lag),
            "acceptance_lag_ms": millis(world.behaviour.acceptance_lag),
            "non_monotone": world.behaviour.non_monotone,
            "token_requests_per_ten_seconds": world.behaviour.token_requests_per_ten_seconds,
        },
        "calls": {"started": world.journal.started(), "finished": world.journal.finished()},
        "faults": world.faults.list(),
        "tenants": tenants,
    })
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn clock_state(world: &World) -> Value {
    json!({"now": world.clock.now(), "offset_ms": world.clock.offset_ms()})
}

fn faults(world: &mut World, arrived: &Arrived, rest: &[&str]) -> Answer {
    match (&arrived.method, rest) {
        (&Method::GET, []) => Ok(ok(json!(world.faults.list()))),
        (&Method::POST, []) => {
            let fault: Fault = body(arrived)?;
            // Others are no final answers, or none at all.
            if matches!(fault.action, Action::Status { status, .. } if !(200..600).contains(&status)) {
                return Err(Refused::Value("a status lies between 200 and 599"));
            }
            let id = world.faults.add(fault).ok_or(Refused::Value("there are too many faults; remove some"))?;
            Ok(Reply::Json(201, json!({"id": id})))
        }
        (&Method::DELETE, []) => {
            world.faults.clear();
            Ok(done())
        }
        (&Method::DELETE, [id]) => {
            let removed = id.parse().is_ok_and(|id| world.faults.remove(id));
            if removed { Ok(done()) } else { Err(Refused::Unknown((*id).to_owned())) }
        }
        (_, []) => Err(Refused::Method("GET, POST and DELETE")),
        _ => Err(Refused::Method("DELETE")),
    }
}

/// `POST /clock`: one of the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    /// Forward, from where it stands.
    advance_seconds: Option<f64>,
    /// Ahead of the machine's clock.
    offset_ms: Option<i64>,
}

/// No test turns the clock further: a hundred years, in milliseconds.
const FARTHEST_MS: i64 = 100 * 366 * 24 * 3_600_000;

fn clock(world: &World, arrived: &Arrived) -> Answer {
    if arrived.method == Method::GET {
        return Ok(ok(clock_state(world)));
    }
    only(&arrived.method, &Method::POST)?;
    let offset = match body::<ClockChange>(arrived)? {
        ClockChange { advance_seconds: Some(seconds), offset_ms: None } if seconds.is_finite() => {
            // Out of range saturates, and is refused below.
            world.clock.offset_ms().saturating_add((seconds * 1000.0) as i64)
        }
        ClockChange { advance_seconds: None, offset_ms: Some(offset) } => offset,
        _ => return Err(Refused::Value("name either advance_seconds or offset_ms")),
    };
    if offset.saturating_abs() > FARTHEST_MS {
        return Err(Refused::Value("the clock turns a hundred years at most"));
    }
    world.clock.set_offset_ms(offset);
    Ok(ok(clock_state(world)))
}

/// `POST /replication`: what is left out stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replication {
    /// Both lags at once.
    lag_ms: Option<u64>,
    replication_lag_ms: Option<u64>,
    acceptance_lag_ms: Option<u64>,
    non_monotone: Option<bool>,
}

fn replication(world: &mut World, arrived: &Arrived) -> Answer {
    let change: Replication = body(arrived)?;
    if let Some(lag) = change.replication_lag_ms.or(change.lag_ms) {
        world.behaviour.replication_lag = Duration::from_millis(lag);
    }
    if let Some(lag) = change.acceptance_lag_ms.or(change.lag_ms) {
        world.behaviour.acceptance_lag = Duration::from_millis(lag);
    }
    if let Some(non_monotone) = change.non_monotone {
        world.behaviour.non_monotone = non_monotone;
    }
    Ok(done())
}

/// `POST /throttling`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Throttling {
    token_requests_per_ten_seconds: Option<u32>,
}

/// `POST /issuers`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Issuer {
    issuer: String,
    keys: Vec<Value>,
}
