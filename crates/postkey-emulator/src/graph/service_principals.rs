//! `/servicePrincipals`: applications as they exist inside this tenant.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Call, Key,
    application_json::{APP_ROLES, SCOPES},
    applications::forget_dangling,
    credentials::secret_json,
    errors::{Answer, Refusal, no_content},
    keys::key_json,
    odata::{self, Options, Resource},
    path_key,
    permissions::only_owned_by,
    shape::{self, Kind, Property, TEXTS, THINGS, firm, open, shown},
};
use crate::{
    directory::{
        Application, ClientSecret, EXCHANGE_APP_ID, GRAPH_APP_ID, MICROSOFT_TENANT_ID, OwnCredentials, ServicePrincipal,
    },
    permissions,
};

pub(crate) const SERVICE_PRINCIPAL: Resource = Resource {
    entity: "servicePrincipal",
    properties: &[
        "id",
        "deletedDateTime",
        "accountEnabled",
        "addIns",
        "alternativeNames",
        "appDescription",
        "appDisplayName",
        "appId",
        "applicationTemplateId",
        "appOwnerOrganizationId",
        "appRoleAssignmentRequired",
        "appRoles",
        "createdByAppId",
        "customSecurityAttributes",
        "description",
        "disabledByMicrosoftStatus",
        "displayName",
        "homepage",
        "info",
        "isDisabled",
        "keyCredentials",
        "loginUrl",
        "logoutUrl",
        "notes",
        "notificationEmailAddresses",
        "oauth2PermissionScopes",
        "passwordCredentials",
        "preferredSingleSignOnMode",
        "preferredTokenSigningKeyThumbprint",
        "replyUrls",
        "resourceSpecificApplicationPermissions",
        "samlSingleSignOnSettings",
        "servicePrincipalNames",
        "servicePrincipalType",
        "signInAudience",
        "tags",
        "tokenEncryptionKeyId",
        "verifiedPublisher",
    ],
    defaults: &[],
    filterable: &[
        "id",
        "accountEnabled",
        "alternativeNames",
        "appDisplayName",
        "appId",
        "appOwnerOrganizationId",
        "applicationTemplateId",
        "createdByAppId",
        "displayName",
        "servicePrincipalNames",
        "servicePrincipalType",
        "tags",
        "signInAudience",
        "replyUrls",
        "homepage",
        "keyCredentials",
    ],
    directory: true,
    default_page: 100,
    largest_page: 999,
};

const WRITABLE: &[Property] = &[
    shown("id"),
    shown("deletedDateTime"),
    shown("appDescription"),
    shown("appDisplayName"),
    shown("applicationTemplateId"),
    shown("appOwnerOrganizationId"),
    shown("createdByAppId"),
    shown("disabledByMicrosoftStatus"),
    shown("isDisabled"),
    shown("signInAudience"),
    shown("verifiedPublisher"),
    shown("passwordCredentials"),
    shown("resourceSpecificApplicationPermissions"),
    firm("appId", Kind::Guid),
    open("accountEnabled", Kind::Flag),
    firm("addIns", THINGS),
    firm("alternativeNames", TEXTS),
    firm("appRoleAssignmentRequired", Kind::Flag),
    firm("appRoles", APP_ROLES),
    open("customSecurityAttributes", Kind::Anything),
    open("description", Kind::Text),
    open("displayName", Kind::Text),
    open("homepage", Kind::Text),
    open("info", Kind::Anything),
    firm("keyCredentials", THINGS),
    open("loginUrl", Kind::Text),
    open("logoutUrl", Kind::Text),
    open("notes", Kind::Text),
    firm("notificationEmailAddresses", TEXTS),
    firm("oauth2PermissionScopes", SCOPES),
    open("preferredSingleSignOnMode", Kind::Text),
    open("preferredTokenSigningKeyThumbprint", Kind::Text),
    firm("replyUrls", TEXTS),
    open("samlSingleSignOnSettings", Kind::Anything),
    firm("servicePrincipalNames", TEXTS),
    open("servicePrincipalType", Kind::Text),
    firm("tags", TEXTS),
    open("tokenEncryptionKeyId", Kind::Guid),
];

/// The place of the service principal that `key` names, once it has reached the node that answers.
pub(crate) fn find(call: &Call<'_>, key: &Key) -> Result<usize, Refusal> {
    let matches = |principal: &ServicePrincipal| match key {
        Key::Id(id) => Uuid::try_parse(id).is_ok_and(|id| principal.id == id),
        Key::AppId(id) => Uuid::try_parse(id).is_ok_and(|id| principal.app_id == id),
        Key::UniqueName(_) => false,
    };
    call.directory()
        .service_principals
        .iter()
        .position(|principal| matches(principal) && principal.visible_from <= call.now)
        .ok_or_else(|| Refusal::not_found(key.text()))
}

pub(crate) fn named(call: &Call<'_>) -> Result<usize, Refusal> {
    let (_, key) = path_key(&call.request.path);
    find(call, &key.ok_or_else(|| Refusal::bad_request("Invalid object identifier."))?)
}

/// The same, refused unless the caller's permissions reach it. Owning the application is owning its instance.
pub(crate) fn named_to_change(call: &mut Call<'_>) -> Result<usize, Refusal> {
    let at = named(call)?;
    let principal = &call.directory().service_principals[at];
    let mut owners = principal.owners.clone();
    if let Some(app) = call.directory().application_by_app_id(principal.app_id) {
        owners.extend(&app.owners);
    }
    call.must_reach(&owners)?;
    Ok(at)
}

pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &SERVICE_PRINCIPAL)?;
    let items = call
        .directory()
        .service_principals
        .iter()
        .filter(|principal| principal.visible_from <= call.now)
        .map(|principal| show(call, principal, &options, false))
        .collect();
    if call.segment(1) == "$count" {
        return odata::count_only(&options, items);
    }
    odata::collection(call.request, &SERVICE_PRINCIPAL, "servicePrincipals", &options, items)
}

pub(crate) fn get(call: &mut Call<'_>) -> Answer {
    let at = named(call)?;
    let options = Options::read(call.request, &SERVICE_PRINCIPAL)?;
    let with_keys = options.select.as_ref().is_some_and(|names| names.iter().any(|name| name == "keyCredentials"));
    let item = show(call, &call.directory().service_principals[at], &options, with_keys);
    odata::entity(200, call.request, &SERVICE_PRINCIPAL, "servicePrincipals", &options, item)
}

pub(crate) fn create(call: &mut Call<'_>) -> Answer {
    let body = shape::body(call.request)?;
    shape::check(&body, WRITABLE, "ServicePrincipal")?;
    let app_id =
        body.get("appId").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok()).ok_or_else(|| {
            Refusal::bad_request("A value is required for property 'appId' of resource 'ServicePrincipal'.")
        })?; // (unverified wording)
    if call.directory().service_principal_by_app_id(app_id).is_some() {
        // (unverified status and code)
        return Err(Refusal::new(
            409,
            "Request_MultipleObjectsWithSameKeyValue",
            format!(
                "The service principal cannot be created, updated, or restored because the service principal name {app_id} is already in use."
            ),
        ));
    }
    let mut principal = match app_id {
        // Microsoft's own APIs, for a tenant that lacks them.
        EXCHANGE_APP_ID => permissions::exchange_principal(call.now),
        GRAPH_APP_ID => permissions::graph_principal(call.now),
        _ => instance(&backing_application(call, app_id)?, call.now),
    };
    principal.visible_from = call.world.replicated_from();
    principal.owners = vec![call.caller.user.unwrap_or(call.caller.service_principal)];
    change(&mut principal, &body);
    let item = show(call, &principal, &Options::default(), false);
    call.directory_mut().service_principals.push(principal);
    odata::entity(201, call.request, &SERVICE_PRINCIPAL, "servicePrincipals", &Options::default(), item)
}

/// The registration behind an appId: this tenant's, Microsoft's own, or a multi-tenant one of another tenant.
fn backing_application(call: &mut Call<'_>, app_id: Uuid) -> Result<Application, Refusal> {
    let missing = Refusal {
        detail: Some("NoBackingApplicationObject"),
        ..Refusal::bad_request(format!(
            "The appId '{app_id}' of the service principal does not reference a valid application object."
        ))
    };
    let not_local = Refusal::new(
        403,
        "Authorization_RequestDenied",
        "When using this permission, the backing application of the service principal being created must in the local tenant",
    );
    let owned_only = only_owned_by(&call.caller);
    if let Some(app) = call.directory().application_by_app_id(app_id) {
        if app.visible_from > call.now {
            // Until it has replicated, the node that answers cannot know whose it is.
            return Err(if owned_only { not_local } else { missing });
        }
        call.must_reach(&app.owners)?;
        return Ok(app.clone());
    }
    let elsewhere = call
        .world
        .first_party_applications
        .iter()
        .chain(call.world.tenants.iter().flat_map(|tenant| &tenant.directory.applications))
        .find(|app| app.app_id == app_id && app.sign_in_audience != "AzureADMyOrg")
        .cloned();
    match elsewhere {
        Some(_) if owned_only => Err(not_local),
        Some(app) => Ok(app),
        None => Err(missing),
    }
}

/// A service principal as it comes into being from a registration.
fn instance(app: &Application, now: jiff::Timestamp) -> ServicePrincipal {
    let mut principal = ServicePrincipal {
        id: Uuid::new_v4(),
        app_id: app.app_id,
        display_name: app.display_name.clone(),
        account_enabled: true,
        app_role_assignment_required: false,
        app_roles: Vec::new(),
        scopes: Vec::new(),
        owners: Vec::new(),
        created: now,
        visible_from: now,
        rest: Map::new(),
    };
    follow(&mut principal, app);
    principal
}

/// Copies what an instance shows of its application.
pub(crate) fn follow(principal: &mut ServicePrincipal, app: &Application) {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    principal.app_roles = list(app.rest.get("appRoles"));
    principal.scopes = list(app.rest.get("api").map(|api| &api["oauth2PermissionScopes"]));
    let mut names = vec![json!(app.app_id)];
    names.extend(list(app.rest.get("identifierUris")));
    let replies: Vec<&String> =
        app.web_redirect_uris.iter().chain(&app.spa_redirect_uris).chain(&app.public_redirect_uris).collect();
    principal.rest.insert("servicePrincipalNames".into(), names.into());
    principal.rest.insert("replyUrls".into(), json!(replies));
    principal.rest.insert("signInAudience".into(), json!(app.sign_in_audience));
    principal.rest.insert("appDisplayName".into(), json!(app.display_name));
    for (name, value) in [("info", app.rest.get("info")), ("notes", app.rest.get("notes"))] {
        if let Some(value) = value {
            principal.rest.insert(name.into(), value.clone());
        }
    }
    for (name, member) in [("homepage", "homePageUrl"), ("logoutUrl", "logoutUrl")] {
        if let Some(value) = app.rest.get("web").map(|web| &web[member]).filter(|value| !value.is_null()) {
            principal.rest.insert(name.into(), value.clone());
        }
    }
}

pub(crate) fn update(call: &mut Call<'_>) -> Answer {
    let at = named_to_change(call)?;
    let body = shape::body(call.request)?;
    shape::check(&body, WRITABLE, "ServicePrincipal")?;
    let mut principal = call.directory().service_principals[at].clone();
    if body.get("appId").and_then(Value::as_str).is_some_and(|id| Uuid::try_parse(id).ok() != Some(principal.app_id)) {
        // (unverified wording)
        return Err(Refusal::bad_request("Property 'appId' is read-only and cannot be set."));
    }
    if let Some(entries) = body.get("keyCredentials") {
        let accepted_from = call.world.credential_accepted_from();
        let policy = super::credentials::policy_for(call, principal.id);
        let now = call.now;
        let own = call.directory_mut().service_principal_credentials.entry(principal.id).or_default();
        own.keys = super::keys::replaced(&own.keys, entries, now, accepted_from, policy.as_ref())?;
    }
    change(&mut principal, &body);
    call.directory_mut().service_principals[at] = principal;
    Ok(no_content())
}

fn change(principal: &mut ServicePrincipal, body: &Map<String, Value>) {
    for (name, value) in body {
        match name.as_str() {
            "appId" | "keyCredentials" => {}
            "displayName" => principal.display_name = value.as_str().unwrap_or_default().to_owned(),
            "accountEnabled" => principal.account_enabled = value.as_bool().unwrap_or(true),
            "appRoleAssignmentRequired" => principal.app_role_assignment_required = value == true,
            "appRoles" => principal.app_roles = value.as_array().cloned().unwrap_or_default(),
            "oauth2PermissionScopes" => principal.scopes = value.as_array().cloned().unwrap_or_default(),
            _ => shape::merge(principal.rest.entry(name.clone()).or_insert(Value::Null), value),
        }
    }
}

pub(crate) fn delete(call: &mut Call<'_>) -> Answer {
    let at = named_to_change(call)?;
    let directory = call.directory_mut();
    directory.service_principals.remove(at);
    forget_dangling(directory);
    Ok(no_content())
}

fn show(call: &Call<'_>, principal: &ServicePrincipal, options: &Options, with_keys: bool) -> Value {
    let home = call
        .world
        .tenants
        .iter()
        .find(|tenant| tenant.directory.application_by_app_id(principal.app_id).is_some())
        .map(|tenant| tenant.id);
    let none = OwnCredentials::default();
    let own = call.directory().service_principal_credentials.get(&principal.id).unwrap_or(&none);
    let secrets: Vec<&ClientSecret> = own.secrets.iter().filter(|secret| secret.accepted_from <= call.now).collect();
    let owner = home.unwrap_or(MICROSOFT_TENANT_ID);
    let bare = json!({
        "id": principal.id, "deletedDateTime": null, "accountEnabled": principal.account_enabled,
        "alternativeNames": [], "appDisplayName": principal.display_name, "appDescription": null,
        "appId": principal.app_id, "applicationTemplateId": null, "appOwnerOrganizationId": owner,
        "appRoleAssignmentRequired": principal.app_role_assignment_required, "createdByAppId": null,
        "description": null, "disabledByMicrosoftStatus": null,
        "displayName": principal.display_name, "homepage": null, "isDisabled": null, "loginUrl": null, "logoutUrl": null,
        "notes": null, "notificationEmailAddresses": [], "preferredSingleSignOnMode": null,
        "preferredTokenSigningKeyThumbprint": null, "replyUrls": [],
        "servicePrincipalNames": [principal.app_id], "servicePrincipalType": "Application", "signInAudience": "AzureADMyOrg",
        "tags": [], "tokenEncryptionKeyId": null, "samlSingleSignOnSettings": null, "addIns": [],
        "appRoles": principal.app_roles,
        "info": { "logoUrl": null, "marketingUrl": null, "privacyStatementUrl": null, "supportUrl": null, "termsOfServiceUrl": null },
        "keyCredentials": own.keys.iter().map(|key| key_json(key, with_keys)).collect::<Vec<_>>(),
        "oauth2PermissionScopes": principal.scopes,
        "passwordCredentials": secrets.iter().map(|secret| secret_json(secret, None)).collect::<Vec<_>>(),
        "resourceSpecificApplicationPermissions": [],
        "verifiedPublisher": { "displayName": null, "verifiedPublisherId": null, "addedDateTime": null },
    });
    let Value::Object(mut item) = bare else { return bare };
    for (name, value) in &principal.rest {
        shape::merge(item.entry(name.clone()).or_insert(Value::Null), value);
    }
    if options.expand.iter().any(|name| name == "owners") {
        item.insert("owners".into(), super::owners::owners_json(call.directory(), &principal.owners).into());
    }
    Value::Object(item)
}
