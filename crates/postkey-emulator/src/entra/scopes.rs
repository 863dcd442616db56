//! What a `scope` parameter asks for: which API, which permissions of it.

use uuid::Uuid;

use super::{grants::Scopes, refusal::Refusal};
use crate::{
    directory::{Directory, EXCHANGE_APP_ID, GRAPH_APP_ID, ServicePrincipal},
    world::{Tenant, World},
};

/// Scopes that belong to sign-in itself.
pub(crate) const OIDC: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// Everything one `scope` parameter asks for: one entry per API in the order of first mention, at least one.
pub(crate) fn parse(world: &World, tenant: &Tenant, scope: &str) -> Result<Vec<Scopes>, Refusal> {
    let mut oidc: Vec<String> = Vec::new();
    let mut apis: Vec<Scopes> = Vec::new();
    for item in scope.split_ascii_whitespace() {
        let lower = item.to_ascii_lowercase();
        if OIDC.contains(&lower.as_str()) {
            if !oidc.contains(&lower) {
                oidc.push(lower);
            }
            continue;
        }
        let (prefix, name) = split_resource(item);
        if name.is_empty() || name.contains('%') {
            return Err(Refusal::bad_scope(item));
        }
        let (audience, resource) = resolve(world, tenant, prefix)?;
        match apis.iter_mut().find(|api| api.resource == resource) {
            Some(api) => api.names.push(name.to_owned()),
            None => apis.push(Scopes {
                audience,
                resource,
                names: vec![name.to_owned()],
                prefix: prefix.to_owned(),
                oidc: Vec::new(),
            }),
        }
    }
    if apis.is_empty() {
        if oidc.is_empty() {
            return Err(Refusal::missing("scope"));
        }
        let (audience, resource) = resolve(world, tenant, "")?;
        apis.push(Scopes { audience, resource, names: Vec::new(), prefix: String::new(), oidc: Vec::new() });
    }
    for api in &mut apis {
        oidc.clone_into(&mut api.oidc);
        let is_default = |name: &String| name.eq_ignore_ascii_case(".default");
        // 4.1: static `.default` cannot be mixed with named scopes.
        if api.names.iter().any(is_default) && !api.names.iter().all(is_default) {
            return Err(Refusal::bad_scope(scope));
        }
        let principal = principal(&tenant.directory, api.resource);
        for name in &mut api.names {
            if name.eq_ignore_ascii_case(".default") {
                ".default".clone_into(name);
                continue;
            }
            let known =
                principal.into_iter().flat_map(|principal| &principal.scopes).filter_map(|s| s["value"].as_str());
            match known.into_iter().find(|value| value.eq_ignore_ascii_case(name)) {
                Some(value) => value.clone_into(name),
                None => return Err(Refusal::bad_scope(name)),
            }
        }
    }
    Ok(apis)
}

/// The API of a client credentials request, which must read `{resource}/.default`.
pub(crate) fn parse_default(world: &World, tenant: &Tenant, scope: &str) -> Result<(String, Uuid), Refusal> {
    let scope = scope.trim();
    let mut items = scope.split_ascii_whitespace().map(split_resource);
    let of_default = |(prefix, name): &(&str, &str)| !prefix.is_empty() && name.eq_ignore_ascii_case(".default");
    match (items.next().filter(of_default), items.next()) {
        (Some((prefix, _)), None) => resolve(world, tenant, prefix),
        (Some(_), Some(second)) if of_default(&second) && items.all(|item| of_default(&item)) => {
            Err(Refusal::several_resources())
        }
        _ => Err(Refusal::scope_needs_default(scope)),
    }
}

/// `https://host/Name` → (`https://host`, `Name`); a bare name has no resource, which means Graph.
fn split_resource(item: &str) -> (&str, &str) {
    match item.rsplit_once('/') {
        Some((resource, name)) => (resource, name),
        None => ("", item),
    }
}

fn resolve(world: &World, tenant: &Tenant, resource: &str) -> Result<(String, Uuid), Refusal> {
    let plain = resource.trim_end_matches('/');
    let known = if plain.is_empty() {
        Some(("https://graph.microsoft.com".to_owned(), GRAPH_APP_ID))
    } else {
        known_resource(world, tenant, plain)
    };
    let refused = || Refusal::unknown_resource(resource, &tenant.display_name);
    let (audience, app_id) = known.ok_or_else(refused)?;
    principal(&tenant.directory, app_id).ok_or_else(refused)?;
    Ok((audience, app_id))
}

fn known_resource(world: &World, tenant: &Tenant, resource: &str) -> Option<(String, Uuid)> {
    if let Ok(app_id) = Uuid::try_parse(resource) {
        return Some((app_id.to_string(), app_id));
    }
    let lower = resource.to_ascii_lowercase();
    match lower.as_str() {
        "https://graph.microsoft.com" => return Some((lower, GRAPH_APP_ID)),
        "https://outlook.office365.com" | "https://outlook.office.com" => return Some((lower, EXCHANGE_APP_ID)),
        _ => {}
    }
    // A cloud of custom hosts names Graph by the host it is at here.
    let (scheme, host) = lower.split_once("://").unwrap_or(("", &lower));
    if scheme == "https" && same_loopback(host, &world.addresses.graph) {
        return Some(("https://graph.microsoft.com".to_owned(), GRAPH_APP_ID));
    }
    let named = tenant.directory.applications.iter().find(|app| {
        let uris = app.rest.get("identifierUris").and_then(|uris| uris.as_array());
        uris.into_iter().flatten().any(|uri| uri.as_str().is_some_and(|uri| uri.eq_ignore_ascii_case(resource)))
            || lower == format!("api://{}", app.app_id)
    })?;
    Some((resource.to_owned(), named.app_id))
}

/// Whether `host:port` is a loopback spelling of the host and port in `address`.
fn same_loopback(host: &str, address: &str) -> bool {
    let port = |text: &str| text.rsplit_once(':').map(|(_, port)| port.to_owned());
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    ["localhost", "127.0.0.1", "[::1]"].contains(&name) && port(host) == port(address)
}

/// The service principal of an API in a tenant.
pub(crate) fn principal(directory: &Directory, app_id: Uuid) -> Option<&ServicePrincipal> {
    directory.service_principal_by_app_id(app_id)
}

/// Delegated permissions of `client` for `resource` that hold for `user`, in Graph's spelling.
pub(crate) fn granted(directory: &Directory, client: Uuid, resource: Uuid, user: Uuid) -> Vec<String> {
    let (Some(client), Some(resource)) = (principal(directory, client), principal(directory, resource)) else {
        return Vec::new();
    };
    let mut names: Vec<String> = Vec::new();
    for grant in &directory.delegated_grants {
        let holds = grant.client_id == client.id
            && grant.resource_id == resource.id
            && (grant.consent_type == "AllPrincipals" || grant.principal_id == Some(user));
        if !holds {
            continue;
        }
        for name in grant.scope.split_ascii_whitespace() {
            if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// What of `wanted` is not granted; `.default` lacks something only when nothing is granted at all.
pub(crate) fn lacking(directory: &Directory, client: Uuid, wanted: &Scopes, user: Uuid) -> Vec<String> {
    let held = granted(directory, client, wanted.resource, user);
    let holds = |name: &str| held.iter().any(|known| known.eq_ignore_ascii_case(name));
    wanted
        .names
        .iter()
        .filter(|name| {
            if name.as_str() == ".default" {
                !held.iter().any(|known| !OIDC.contains(&known.as_str()))
            } else {
                !holds(name)
            }
        })
        .cloned()
        .collect()
}
