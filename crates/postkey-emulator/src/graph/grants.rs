//! Permissions granted: app role assignments (application permissions) and oauth2PermissionGrants (delegated ones).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Call,
    errors::{Answer, Refusal, no_content},
    odata::{self, Options, Resource},
    service_principals,
    shape::{self, Kind, Property, firm, open, shown},
};
use crate::directory::{AppRoleAssignment, DelegatedGrant};

const ROLES: Resource = Resource {
    entity: "appRoleAssignment",
    properties: &[
        "id",
        "deletedDateTime",
        "appRoleId",
        "createdDateTime",
        "principalDisplayName",
        "principalId",
        "principalType",
        "resourceDisplayName",
        "resourceId",
    ],
    defaults: &[],
    filterable: &["resourceId", "principalId", "principalDisplayName", "appRoleId"],
    directory: true,
    default_page: 100,
    largest_page: 999,
};

const SCOPES: Resource = Resource {
    entity: "oAuth2PermissionGrant",
    properties: &["id", "clientId", "consentType", "principalId", "resourceId", "scope"],
    defaults: &[],
    filterable: &["clientId", "consentType", "principalId", "resourceId"],
    directory: true,
    default_page: 100,
    largest_page: 999,
};

const ASSIGNMENT: &[Property] = &[
    shown("id"),
    shown("createdDateTime"),
    shown("deletedDateTime"),
    shown("principalDisplayName"),
    shown("principalType"),
    shown("resourceDisplayName"),
    firm("appRoleId", Kind::Guid),
    firm("principalId", Kind::Guid),
    firm("resourceId", Kind::Guid),
];

const GRANT: &[Property] = &[
    shown("id"),
    firm("clientId", Kind::Guid),
    firm("consentType", Kind::Text),
    open("principalId", Kind::Guid),
    firm("resourceId", Kind::Guid),
    open("scope", Kind::Text),
    // The articles of the beta version send them; they have no meaning.
    open("startTime", Kind::Text),
    open("expiryTime", Kind::Text),
];

/// Role assignments of one principal.
const MOST_ROLES: usize = 1_500;
/// Characters of a delegated grant's scope.
const LONGEST_SCOPE: usize = 3_850;

/// Whether the path looks at the assignments from the resource's side.
fn from_resource(call: &Call<'_>) -> bool {
    call.behind_key(0) == "appRoleAssignedTo"
}

fn roles_of(call: &Call<'_>) -> Result<(Uuid, Vec<AppRoleAssignment>), Refusal> {
    let id = call.directory().service_principals[service_principals::named(call)?].id;
    let resource_side = from_resource(call);
    let held = call
        .directory()
        .app_role_assignments
        .iter()
        .filter(|held| if resource_side { held.resource_id == id } else { held.principal_id == id })
        .cloned()
        .collect();
    Ok((id, held))
}

fn roles_context(call: &Call<'_>, id: Uuid) -> String {
    if from_resource(call) {
        format!("servicePrincipals('{id}')/appRoleAssignedTo")
    } else {
        "appRoleAssignments".to_owned()
    }
}

pub(crate) fn list_roles(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &ROLES)?;
    let (id, held) = roles_of(call)?;
    let items = held.iter().map(|held| role_json(call, held)).collect();
    odata::collection(call.request, &ROLES, &roles_context(call, id), &options, items)
}

pub(crate) fn get_role(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &ROLES)?;
    let (id, held) = roles_of(call)?;
    let wanted = call.behind_key(1);
    let held = held.iter().find(|held| held.id == wanted).ok_or_else(|| Refusal::not_found(wanted))?;
    odata::entity(200, call.request, &ROLES, &roles_context(call, id), &options, role_json(call, held))
}

pub(crate) fn grant_role(call: &mut Call<'_>) -> Answer {
    let at = service_principals::named(call)?;
    let named = call.directory().service_principals[at].id;
    let body = shape::body(call.request)?;
    shape::check(&body, ASSIGNMENT, "AppRoleAssignment")?;
    let id = |name: &str| {
        body.get(name).and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok()).ok_or_else(|| {
            Refusal::bad_request(format!("A value is required for property '{name}' of resource 'AppRoleAssignment'."))
        }) // (unverified wording)
    };
    let (principal_id, resource_id, app_role_id) = (id("principalId")?, id("resourceId")?, id("appRoleId")?);
    let side = if from_resource(call) { resource_id } else { principal_id };
    let principal_known =
        visible(call, principal_id) || call.directory().users.iter().any(|user| user.id == principal_id);
    if side != named || !principal_known || !visible(call, resource_id) {
        return Err(Refusal::bad_request("Not a valid reference update."));
    }
    let directory = call.directory();
    let resource = directory.service_principals.iter().find(|principal| principal.id == resource_id);
    let offered = resource.is_some_and(|resource| {
        resource
            .app_roles
            .iter()
            .any(|role| role["id"].as_str().and_then(|id| Uuid::try_parse(id).ok()) == Some(app_role_id))
    });
    // The nil role stands for access without a particular role.
    if !offered && !app_role_id.is_nil() {
        return Err(Refusal::bad_request("Permission being assigned was not found on application")); // (unverified wording)
    }
    let held: Vec<_> = directory.app_role_assignments.iter().filter(|held| held.principal_id == principal_id).collect();
    if held.iter().any(|held| held.resource_id == resource_id && held.app_role_id == app_role_id) {
        return Err(Refusal::bad_request("Permission being assigned already exists on the object"));
    }
    if held.len() >= MOST_ROLES {
        return Err(Refusal::new(
            400,
            "Directory_QuotaExceeded",
            "The principal has 1,500 app role assignments already.",
        )); // (unverified)
    }
    let assignment = AppRoleAssignment {
        id: opaque_id(&[principal_id, Uuid::new_v4()]),
        principal_id,
        resource_id,
        app_role_id,
        created: call.now,
        effective_from: call.world.replicated_from(),
    };
    let item = role_json(call, &assignment);
    call.directory_mut().app_role_assignments.push(assignment);
    odata::entity(201, call.request, &ROLES, &roles_context(call, named), &Options::default(), item)
}

pub(crate) fn remove_role(call: &mut Call<'_>) -> Answer {
    let (_, held) = roles_of(call)?;
    let wanted = call.behind_key(1).to_owned();
    if !held.iter().any(|held| held.id == wanted) {
        return Err(Refusal::not_found(&wanted));
    }
    call.directory_mut().app_role_assignments.retain(|held| held.id != wanted);
    Ok(no_content())
}

fn visible(call: &Call<'_>, id: Uuid) -> bool {
    call.directory().service_principals.iter().any(|principal| principal.id == id && principal.visible_from <= call.now)
}

/// Opaque, base64url, never a GUID.
fn opaque_id(parts: &[Uuid]) -> String {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_bytes_le()).collect();
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn role_json(call: &Call<'_>, held: &AppRoleAssignment) -> Value {
    let directory = call.directory();
    let principal = |id: Uuid| directory.service_principals.iter().find(|principal| principal.id == id);
    let user = directory.users.iter().find(|user| user.id == held.principal_id);
    let principal_name = principal(held.principal_id)
        .map(|principal| principal.display_name.clone())
        .or_else(|| user.map(|user| user.display_name.clone()));
    json!({
        "id": held.id,
        "deletedDateTime": null,
        "appRoleId": held.app_role_id,
        "createdDateTime": held.created,
        "principalDisplayName": principal_name,
        "principalId": held.principal_id,
        "principalType": if user.is_some() { "User" } else { "ServicePrincipal" },
        "resourceDisplayName": principal(held.resource_id).map(|resource| &resource.display_name),
        "resourceId": held.resource_id,
    })
}

pub(crate) fn list_scopes(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &SCOPES)?;
    let client = if call.segment(0) == "oauth2PermissionGrants" {
        None
    } else {
        Some(call.directory().service_principals[service_principals::named(call)?].id)
    };
    let items = call
        .directory()
        .delegated_grants
        .iter()
        .filter(|grant| client.is_none_or(|client| grant.client_id == client))
        .map(grant_json)
        .collect();
    odata::collection(call.request, &SCOPES, "oauth2PermissionGrants", &options, items)
}

fn grant_at(call: &Call<'_>) -> Result<usize, Refusal> {
    let wanted = super::path_key(&call.request.path).1;
    let wanted = wanted.as_ref().map_or("", super::Key::text);
    let grants = &call.directory().delegated_grants;
    grants.iter().position(|grant| grant.id == wanted).ok_or_else(|| Refusal::not_found(wanted))
}

pub(crate) fn get_scopes(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &SCOPES)?;
    let item = grant_json(&call.directory().delegated_grants[grant_at(call)?]);
    odata::entity(200, call.request, &SCOPES, "oauth2PermissionGrants", &options, item)
}

pub(crate) fn grant_scopes(call: &mut Call<'_>) -> Answer {
    let body = shape::body(call.request)?;
    shape::check(&body, GRANT, "OAuth2PermissionGrant")?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let required = |name: &str| {
        text(name).ok_or_else(|| {
            Refusal::bad_request(format!(
                "A value is required for property '{name}' of resource 'OAuth2PermissionGrant'."
            ))
        }) // (unverified wording)
    };
    let id = |text: &str| Uuid::try_parse(text).map_err(|_| Refusal::bad_request("Invalid object identifier."));
    let (client_id, resource_id) = (id(required("clientId")?)?, id(required("resourceId")?)?);
    let consent_type = required("consentType")?;
    let principal_id = text("principalId").map(id).transpose()?;
    match (consent_type, principal_id) {
        ("AllPrincipals", None) | ("Principal", Some(_)) => {}
        ("AllPrincipals" | "Principal", _) => {
            return Err(Refusal::invalid_value("principalId", "OAuth2PermissionGrant"));
        }
        _ => return Err(Refusal::invalid_value("consentType", "OAuth2PermissionGrant")),
    }
    let user_known = principal_id.is_none_or(|id| call.directory().users.iter().any(|user| user.id == id));
    if !visible(call, client_id) || !visible(call, resource_id) || !user_known {
        return Err(Refusal::bad_request("Not a valid reference update."));
    }
    let scope = checked_scope(text("scope").unwrap_or_default())?;
    let twin = |grant: &DelegatedGrant| {
        grant.client_id == client_id
            && grant.resource_id == resource_id
            && grant.consent_type == consent_type
            && grant.principal_id == principal_id
    };
    if call.directory().delegated_grants.iter().any(twin) {
        // (unverified status, code and wording)
        return Err(Refusal::new(409, "Request_MultipleObjectsWithSameKeyValue", "Permission entry already exists."));
    }
    let mut parts = vec![client_id, resource_id];
    parts.extend(principal_id);
    let grant = DelegatedGrant {
        id: opaque_id(&parts),
        client_id,
        consent_type: consent_type.to_owned(),
        principal_id,
        resource_id,
        scope,
    };
    let item = grant_json(&grant);
    call.directory_mut().delegated_grants.push(grant);
    odata::entity(201, call.request, &SCOPES, "oauth2PermissionGrants", &Options::default(), item)
}

pub(crate) fn update_scopes(call: &mut Call<'_>) -> Answer {
    let at = grant_at(call)?;
    let body = shape::body(call.request)?;
    shape::check(&body, &[open("scope", Kind::Text)], "OAuth2PermissionGrant")?;
    // The list is replaced, not added to.
    if let Some(scope) = body.get("scope") {
        call.directory_mut().delegated_grants[at].scope = checked_scope(scope.as_str().unwrap_or_default())?;
    }
    Ok(no_content())
}

pub(crate) fn remove_scopes(call: &mut Call<'_>) -> Answer {
    let at = grant_at(call)?;
    call.directory_mut().delegated_grants.remove(at);
    Ok(no_content())
}

fn checked_scope(scope: &str) -> Result<String, Refusal> {
    if scope.chars().count() > LONGEST_SCOPE {
        return Err(Refusal::invalid_value("scope", "OAuth2PermissionGrant"));
    }
    Ok(scope.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn grant_json(grant: &DelegatedGrant) -> Value {
    json!({
        "id": grant.id,
        "clientId": grant.client_id,
        "consentType": grant.consent_type,
        "principalId": grant.principal_id,
        "resourceId": grant.resource_id,
        "scope": grant.scope,
    })
}
