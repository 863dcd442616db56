//! Microsoft Graph: which room answers a request, what the request is called, and what every answer carries.

mod application_json;
mod applications;
mod batch;
mod credentials;
mod deleted_items;
mod errors;
mod federated;
mod filter;
mod grants;
mod keys;
mod odata;
mod operations;
mod organization;
mod owners;
mod permissions;
mod policies;
mod proof;
mod service_principals;
mod shape;
mod sign_ins;
#[cfg(test)]
mod tests;
pub(crate) mod throttling;
mod users;

use jiff::Timestamp;
use uuid::Uuid;

pub(crate) use self::operations::operation_name;
use self::{
    errors::{Answer, Refusal},
    permissions::Reach,
};
use crate::{
    directory::Directory,
    request::{ApiRequest, ApiResponse, Caller},
    world::{Tenant, World},
};

/// One request on its way through the directory's rooms.
pub(crate) struct Call<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) request: &'a ApiRequest,
    pub(crate) caller: Caller,
    pub(crate) now: Timestamp,
    /// Whose applications the permissions reach; set before an operation runs.
    pub(crate) reach: Reach,
    tenant: usize,
}

/// How a path names one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Id(String),
    AppId(String),
    UniqueName(String),
}

/// Answers a request to Graph. The server has checked the token; what it lets the caller do is checked here.
pub(crate) fn handle(world: &mut World, request: &ApiRequest) -> ApiResponse {
    let now = world.clock.now();
    if request.path.first().is_some_and(|segment| segment == "$batch") {
        return batch::handle(world, request).unwrap_or_else(|refusal| refusal.answer(now, request));
    }
    if let Some((user, rest)) = mail_path(request) {
        return crate::exchange::graph::handle(world, request, user, rest);
    }
    let mut response = match answer(world, request, now) {
        Ok(response) => response,
        Err(refusal) => refusal.answer(now, request),
    };
    response.headers.push(("x-ms-resource-unit", throttling::resource_units(request).to_string()));
    response
}

fn answer(world: &mut World, request: &ApiRequest, now: Timestamp) -> Answer {
    let unauthenticated = || Refusal::new(401, "InvalidAuthenticationToken", "Access token is empty.");
    let caller = request.caller.clone().ok_or_else(unauthenticated)?;
    let tenant = world.tenants.iter().position(|tenant| tenant.id == caller.tenant).ok_or_else(unauthenticated)?;
    let mut call = Call { world, request, caller, now, reach: Reach::Owned, tenant };

    let (app, tenant_id, users) = (call.caller.app_id, call.caller.tenant, call.directory().users.len());
    let share = call.directory_mut().usage.count(request, app, tenant_id, users, now)?;

    let operation = operation_name(&request.method, &request.path);
    let route = operations::route(&request.method, &request.path)?;
    call.reach = permissions::check(&call, &operation)?;
    let mut response = route(&mut call)?;
    if share > 0.8 {
        response.headers.push(("x-ms-throttle-limit-percentage", format!("{share:.1}")));
    }
    Ok(response)
}

impl Call<'_> {
    pub(crate) fn tenant(&self) -> &Tenant {
        &self.world.tenants[self.tenant]
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.tenant().directory
    }

    pub(crate) fn directory_mut(&mut self) -> &mut Directory {
        &mut self.world.tenants[self.tenant].directory
    }

    /// Object ids that count as the caller when it comes to owning.
    fn identities(&self) -> Vec<Uuid> {
        match self.caller.user {
            Some(user) => vec![user],
            None => vec![self.caller.service_principal],
        }
    }

    /// 403 unless the permissions reach an object with these owners.
    pub(crate) fn must_reach(&self, owners: &[Uuid]) -> Result<(), Refusal> {
        let owned = || self.identities().iter().any(|identity| owners.contains(identity));
        if self.reach == Reach::All || owned() { Ok(()) } else { Err(Refusal::denied()) }
    }

    /// The object id in the path's segment `at`, if the path is that long.
    pub(crate) fn segment(&self, at: usize) -> &str {
        self.request.path.get(at).map_or("", String::as_str)
    }

    /// Path segments counted from the collection's key, wherever the key stands.
    pub(crate) fn behind_key(&self, at: usize) -> &str {
        let start = if self.segment(0).contains('(') { 1 } else { 2 };
        self.segment(start + at)
    }

    /// Whether a credential or object that other nodes accept from `from` on is shown by the node that answers now.
    /// Until then reads disagree with each other, as replicas do.
    pub(crate) fn shows(&mut self, from: Timestamp) -> bool {
        use rand::RngExt;
        self.now >= from || (self.world.behaviour.non_monotone && self.world.chance.random_bool(0.5))
    }
}

/// The collection a path starts with, and the object it names in it: `x/{id}`, `x('id')`, `x(appId='…')`.
pub(crate) fn path_key(path: &[String]) -> (&str, Option<Key>) {
    let Some(first) = path.first() else { return ("", None) };
    match first.split_once('(') {
        Some((name, rest)) => (name, read_key(rest)),
        None => (first, path.get(1).map(|id| Key::Id(id.clone()))),
    }
}

/// `appId='…')` or `'…')`; a doubled quote is one.
fn read_key(text: &str) -> Option<Key> {
    let text = text.strip_suffix(')')?;
    let unquote = |text: &str| Some(text.trim().strip_prefix('\'')?.strip_suffix('\'')?.replace("''", "'"));
    match text.split_once('=') {
        _ if text.trim_start().starts_with('\'') => Some(Key::Id(unquote(text)?)),
        Some((name, value)) if name.trim() == "appId" => Some(Key::AppId(unquote(value)?)),
        Some((name, value)) if name.trim() == "uniqueName" => Some(Key::UniqueName(unquote(value)?)),
        Some(_) => None,
        None => Some(Key::Id(text.trim().to_owned())),
    }
}

impl Key {
    /// As messages show it.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Id(text) | Self::AppId(text) | Self::UniqueName(text) => text,
        }
    }
}

/// `/users/{key}/…` and `/me/…` beyond the user itself belong to the exchange rooms.
fn mail_path(request: &ApiRequest) -> Option<(&str, &[String])> {
    let path = &request.path;
    let first = path.first()?.as_str();
    if first == "me" {
        return (path.len() > 1).then(|| ("me", &path[1..]));
    }
    if first == "users" {
        return (path.len() > 2).then(|| (path[1].as_str(), &path[2..]));
    }
    let key = first.strip_prefix("users('")?.strip_suffix("')")?;
    (path.len() > 1).then_some((key, &path[1..]))
}
