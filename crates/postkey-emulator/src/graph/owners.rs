//! Owners of applications and service principals.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Call, applications,
    errors::{Answer, Refusal, no_content},
    odata::{self, Options, Resource},
    path_key, service_principals, shape,
};
use crate::directory::Directory;

const OWNERS: Resource = Resource {
    entity: "directoryObject",
    properties: &["id", "deletedDateTime", "displayName", "userPrincipalName", "mail", "appId"],
    defaults: &[],
    filterable: &[],
    directory: true,
    default_page: 100,
    largest_page: 999,
};

/// Most owners of one application.
const MOST: usize = 100;

pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &OWNERS)?;
    let owners = if applications_path(call) {
        call.directory().applications[applications::named(call)?].owners.clone()
    } else {
        call.directory().service_principals[service_principals::named(call)?].owners.clone()
    };
    odata::collection(call.request, &OWNERS, "directoryObjects", &options, owners_json(call.directory(), &owners))
}

pub(crate) fn add(call: &mut Call<'_>) -> Answer {
    let reference = referenced(call)?;
    let directory = call.directory();
    let known = directory.users.iter().any(|user| user.id == reference)
        || directory
            .service_principals
            .iter()
            .any(|principal| principal.id == reference && principal.visible_from <= call.now);
    if !known {
        return Err(Refusal::not_found(&reference.to_string()));
    }
    let owners = owners_to_change(call)?;
    if owners.contains(&reference) {
        // (unverified wording)
        return Err(Refusal::bad_request(
            "One or more added object references already exist for the following modified properties: 'owners'.",
        ));
    }
    if owners.len() >= MOST {
        return Err(Refusal::new(400, "Directory_QuotaExceeded", "The application already has 100 owners.")); // (unverified)
    }
    owners.push(reference);
    Ok(no_content())
}

pub(crate) fn remove(call: &mut Call<'_>) -> Answer {
    let id = call.behind_key(1).to_owned();
    let owners = owners_to_change(call)?;
    let wanted = Uuid::try_parse(&id).ok();
    let at = owners.iter().position(|owner| Some(*owner) == wanted).ok_or_else(|| Refusal::not_found(&id))?;
    owners.remove(at);
    Ok(no_content())
}

fn applications_path(call: &Call<'_>) -> bool {
    path_key(&call.request.path).0 == "applications"
}

fn owners_to_change<'a>(call: &'a mut Call<'_>) -> Result<&'a mut Vec<Uuid>, Refusal> {
    if applications_path(call) {
        let at = applications::named_to_change(call)?;
        Ok(&mut call.directory_mut().applications[at].owners)
    } else {
        let at = service_principals::named_to_change(call)?;
        Ok(&mut call.directory_mut().service_principals[at].owners)
    }
}

/// The object that `{"@odata.id": "https://…/directoryObjects/{id}"}` names.
pub(crate) fn referenced(call: &Call<'_>) -> Result<Uuid, Refusal> {
    // The one body whose only member is an annotation.
    shape::body(call.request)?;
    let body: Value = serde_json::from_slice(&call.request.body).unwrap_or_default();
    body["@odata.id"]
        .as_str()
        .and_then(|link| link.trim_end_matches('/').rsplit('/').next())
        .and_then(|id| Uuid::try_parse(id).ok())
        // (unverified wording)
        .ok_or_else(|| Refusal::bad_request("Invalid reference: '@odata.id' must name an object of the directory."))
}

/// Owners as directory objects of their own type.
pub(crate) fn owners_json(directory: &Directory, owners: &[Uuid]) -> Vec<Value> {
    let one = |id: &Uuid| {
        if let Some(user) = directory.users.iter().find(|user| user.id == *id) {
            return Some(json!({
                "@odata.type": "#microsoft.graph.user", "id": user.id, "displayName": user.display_name,
                "userPrincipalName": user.user_principal_name, "mail": user.user_principal_name,
            }));
        }
        let principal = directory.service_principals.iter().find(|principal| principal.id == *id)?;
        Some(json!({
            "@odata.type": "#microsoft.graph.servicePrincipal", "id": principal.id, "appId": principal.app_id,
            "displayName": principal.display_name,
        }))
    };
    owners.iter().filter_map(one).collect()
}
