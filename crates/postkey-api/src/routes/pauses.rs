//! `/v1/pauses`: what is held and why, and what people hold back themselves.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use postkey_store::{Hold, HoldCause, HoldScope, Scope};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Api,
    caller::Caller,
    extract::{FromPath, FromQuery, JSON, NoQuery, accepts, answer, shortened},
    names::Names,
    order,
    refusal::Refusal,
    refusals::{Ordering, Reading},
    send_query::is_name,
};

/// Something that is held, and why.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Held {
    /// What kind of thing is held.
    pub scope: HeldScope,
    /// Its name: of the sender or submitter, the client id of the app, the tenant's id, the domain.
    pub name: String,
    /// Whether a person holds it back, or something is down.
    pub cause: Cause,
    /// Why.
    pub reason: String,
    /// The stable code of what is down.
    pub code: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Who must do it.
    pub who: Option<String>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// A pause ends then by itself; what is down is looked at again then.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// Who paused it.
    pub by: Option<String>,
}

/// What kind of thing is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HeldScope {
    /// What goes out as a sender.
    Sender,
    /// What goes out through an app registration.
    App,
    /// What goes out through a tenant.
    Tenant,
    /// What a submitter handed in.
    Submitter,
    /// What goes to a domain.
    Domain,
}

/// Whether a person holds it back, or something is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// A person does.
    Paused,
    /// Something is down; it goes on by itself.
    Outage,
}

impl Held {
    pub(crate) fn of(hold: Hold, names: &Names) -> Self {
        let (scope, name) = match hold.scope {
            HoldScope::Sender(id) => (HeldScope::Sender, names.sender(id)),
            HoldScope::App(id) => (HeldScope::App, names.app(id)),
            HoldScope::Tenant(id) => (HeldScope::Tenant, id.to_string()),
            HoldScope::Submitter(id) => (HeldScope::Submitter, names.submitter(id)),
            HoldScope::Domain(domain) => (HeldScope::Domain, domain),
        };
        let cause = match hold.cause {
            HoldCause::Paused => Cause::Paused,
            HoldCause::Outage => Cause::Outage,
        };
        let Hold { code, reason, remedy, who, since, until, by, .. } = hold;
        Self { scope, name, cause, reason, code, remedy, who, since, until, by }
    }
}

/// All that is held.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct HeldList {
    /// Oldest first.
    pub pauses: Vec<Held>,
}

/// What to hold back.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"scope": "domain", "name": "fabrikam.example", "reason": "their server is being moved"}))]
pub(crate) struct NewPause {
    /// What kind of thing.
    pub scope: PauseScope,
    /// Its name: of the sender or submitter, the tenant's id, the domain.
    #[schema(min_length = 1, max_length = 200, pattern = "NAME")]
    pub name: String,
    /// Why, for whoever wonders.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200, pattern = "NAME")]
    pub reason: Option<String>,
    /// When it ends by itself. Default: when somebody ends it.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// What kind of thing may be held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PauseScope {
    /// What goes out as a sender.
    Sender,
    /// What goes out through a tenant.
    Tenant,
    /// What a submitter handed in.
    Submitter,
    /// What goes to a domain.
    Domain,
}

impl PauseScope {
    fn word(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Tenant => "tenant",
            Self::Submitter => "submitter",
            Self::Domain => "domain",
        }
    }
}

/// List what is held
///
/// What people hold back, and what waits because something is down.
#[utoipa::path(
    get,
    path = "/v1/pauses",
    tag = "pauses",
    operation_id = "pauses_list",
    responses((status = 200, description = "All that is held.", body = HeldList), Reading),
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
    let names = Names::read(&api.store).await?;
    let own = caller.holder.submitter.as_ref();
    let concerns = |hold: &Hold| match (own, &hold.scope) {
        (None, _) => true,
        (Some(known), HoldScope::Submitter(id)) => known.submitter.id == *id,
        (Some(known), HoldScope::Sender(id)) => known.submitter.senders.contains(id),
        // What is down below its senders is told with each message that waits for it.
        (Some(_), HoldScope::App(_) | HoldScope::Tenant(_) | HoldScope::Domain(_)) => false,
    };
    let now = api.clock.now();
    let holds = api.store.holds().await?.into_iter().filter(concerns).filter(|hold| is_in_force(hold, now));
    Ok(answer(StatusCode::OK, &HeldList { pauses: holds.map(|hold| Held::of(hold, &names)).collect() }))
}

/// A pause whose end has come counts no more, lifted or not.
pub(crate) fn is_in_force(hold: &Hold, now: Timestamp) -> bool {
    hold.cause == HoldCause::Outage || hold.until.is_none_or(|until| until > now)
}

/// Hold something back
///
/// What concerns it waits until somebody ends the pause or its end comes. No attempt is made, nothing is lost.
#[utoipa::path(
    post,
    path = "/v1/pauses",
    tag = "pauses",
    operation_id = "pauses_add",
    request_body = NewPause,
    responses(
        (status = 201, description = "It is held back.", body = Held,
            headers(("Location" = String, description = "Where to end it.")),
            links(("end" = (operation_id = "pauses_end",
                parameters(("scope" = "$response.body#/scope"), ("name" = "$response.body#/name")))))),
        Ordering,
    ),
    security(("api_key" = [])),
)]
pub(crate) async fn add(
    State(api): State<Arc<Api>>,
    caller: Caller,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
    request: Request,
) -> Result<Response, Refusal> {
    caller.must(Scope::OutboxManage)?;
    accepts(request.headers(), JSON)?;
    let NewPause { scope, name, reason, until } = order::read(&api, request).await?;
    check_text("name", Some(&name))?;
    check_text("reason", reason.as_ref())?;
    let found = find(&api, &caller, scope, &name).await?;
    must_be_free_to_change(&api, &caller, &found).await?;
    let held = pause(&api, &caller, found, reason, until).await?;
    let location = format!("/v1/pauses/{}/{}", scope.word(), percent_encoded(&held.name));
    let mut response = answer(StatusCode::CREATED, &held);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// End a pause
///
/// What waited goes on, paced.
#[utoipa::path(
    delete,
    path = "/v1/pauses/{scope}/{name}",
    tag = "pauses",
    operation_id = "pauses_end",
    params(
        ("scope" = inline(PauseScope), Path, description = "What kind of thing is held back."),
        ("name" = String, Path, description = "Its name.", min_length = 1, max_length = 200, pattern = "NAME"),
    ),
    responses((status = 204, description = "It goes on."), Ordering),
    security(("api_key" = [])),
)]
pub(crate) async fn end(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
    FromPath((scope, name)): FromPath<(PauseScope, String)>,
) -> Result<Response, Refusal> {
    caller.must(Scope::OutboxManage)?;
    accepts(&headers, JSON)?;
    let missing = || Refusal::NoSuchThing { what: "pause of", name: shortened(&name) };
    if !is_name(&name) {
        return Err(missing());
    }
    let found = find(&api, &caller, scope, &name).await?;
    must_be_free_to_change(&api, &caller, &found).await?;
    let now = api.clock.now();
    let holds = api.store.holds().await?;
    let in_force = |hold: &Hold| hold.scope == found && hold.cause == HoldCause::Paused && is_in_force(hold, now);
    let was = holds.iter().any(in_force);
    // One whose end has come is cleared away, too.
    api.store.lift_hold(&found, HoldCause::Paused).await?;
    if was { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(missing()) }
}

pub(crate) fn check_text(field: &str, text: Option<&String>) -> Result<(), Refusal> {
    match text.is_none_or(|text| is_name(text)) {
        true => Ok(()),
        false => Err(Refusal::Shape(format!("{field}: it must have 1 to 200 characters, and no control characters"))),
    }
}

/// What the name stands for, if the caller may hold it back.
async fn find(api: &Api, caller: &Caller, scope: PauseScope, name: &str) -> Result<HoldScope, Refusal> {
    let missing = || Refusal::NoSuchThing { what: scope.word(), name: shortened(name) };
    match scope {
        PauseScope::Submitter => {
            let found = api.store.submitter(name).await?.ok_or_else(missing)?;
            match caller.sees() {
                Some(own) if own != found.id => Err(missing()),
                _ => Ok(HoldScope::Submitter(found.id)),
            }
        }
        PauseScope::Sender => {
            caller.must_be_unbound()?;
            let found = api.store.sender(name).await?.ok_or_else(missing)?;
            Ok(HoldScope::Sender(found.id))
        }
        PauseScope::Tenant => {
            caller.must_be_unbound()?;
            let id = name.parse().map_err(|_| missing())?;
            api.store.tenant(id).await?.map(|tenant| HoldScope::Tenant(tenant.id)).ok_or_else(missing)
        }
        PauseScope::Domain => {
            caller.must_be_unbound()?;
            // As part of an address, so that it can be one that mail goes to.
            let address = format!("x@{name}").parse::<postkey_base::EmailAddress>().map_err(|_| missing())?;
            Ok(HoldScope::Domain(address.domain().to_lowercase()))
        }
    }
}

/// What somebody else holds back, a submitter's own key neither ends nor shortens: it may have been paused for what it sends.
async fn must_be_free_to_change(api: &Api, caller: &Caller, scope: &HoldScope) -> Result<(), Refusal> {
    let now = api.clock.now();
    let by_another = |hold: &Hold| {
        hold.scope == *scope
            && hold.cause == HoldCause::Paused
            && is_in_force(hold, now)
            && hold.by.as_deref() != Some(caller.name())
    };
    match api.store.holds().await?.iter().any(by_another) {
        true => caller.must_be_unbound(),
        false => Ok(()),
    }
}

/// Writes the pause.
pub(crate) async fn pause(
    api: &Api,
    caller: &Caller,
    scope: HoldScope,
    reason: Option<String>,
    until: Option<Timestamp>,
) -> Result<Held, Refusal> {
    let now = api.clock.now();
    if let Some(until) = until.filter(|&until| until <= now) {
        return Err(Refusal::Past { until });
    }
    let hold = Hold {
        scope,
        cause: HoldCause::Paused,
        class: None,
        code: None,
        reason: reason.unwrap_or_else(|| format!("paused with the API key {}", caller.name())),
        remedy: None,
        who: None,
        since: now,
        until,
        by: Some(caller.name().to_owned()),
    };
    api.store.put_hold(&hold).await?;
    // A pause that was there before keeps its beginning.
    let kept = api.store.holds().await?.into_iter().find(|one| one.scope == hold.scope && one.cause == hold.cause);
    Ok(Held::of(kept.unwrap_or(hold), &Names::read(&api.store).await?))
}

/// For a path segment (RFC 3986 §3.3).
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
