//! `/applications`: list, read, create, change, upsert by unique name, delete.

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    Call, Key,
    application_json::{APPLICATION, DEFAULT_AUDIENCE, WRITABLE, application_json, apply, personal},
    credentials,
    errors::{Answer, Refusal, json_answer, no_content},
    keys, odata,
    odata::Options,
    path_key, shape,
};
use crate::{
    directory::{Application, ClientSecret},
    world::later,
};

/// The place of the registration that `key` names, once it has reached the node that answers.
pub(crate) fn find(call: &Call<'_>, key: &Key) -> Result<usize, Refusal> {
    let matches = |app: &Application| match key {
        Key::Id(id) => Uuid::try_parse(id).is_ok_and(|id| app.id == id),
        Key::AppId(id) => Uuid::try_parse(id).is_ok_and(|id| app.app_id == id),
        Key::UniqueName(name) => app.unique_name.as_deref() == Some(name),
    };
    call.directory()
        .applications
        .iter()
        .position(|app| matches(app) && app.visible_from <= call.now)
        .ok_or_else(|| Refusal::not_found(key.text()))
}

/// The registration that the path names.
pub(crate) fn named(call: &Call<'_>) -> Result<usize, Refusal> {
    let (_, key) = path_key(&call.request.path);
    find(call, &key.ok_or_else(|| Refusal::bad_request("Invalid object identifier."))?)
}

/// The same, refused unless the caller's permissions reach it.
pub(crate) fn named_to_change(call: &mut Call<'_>) -> Result<usize, Refusal> {
    let at = named(call)?;
    call.must_reach(&call.directory().applications[at].owners)?;
    if personal(&call.directory().applications[at]) {
        let (app, tenant, now) = (call.caller.app_id, call.caller.tenant, call.now);
        call.directory_mut().usage.count_personal_write(app, tenant, now)?;
    }
    Ok(at)
}

pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &APPLICATION)?;
    let mut items = Vec::new();
    for at in 0..call.directory().applications.len() {
        if call.directory().applications[at].visible_from <= call.now {
            items.push(show(call, at, &options, false));
        }
    }
    if call.segment(1) == "$count" {
        return odata::count_only(&options, items);
    }
    odata::collection(call.request, &APPLICATION, "applications", &options, items)
}

pub(crate) fn get(call: &mut Call<'_>) -> Answer {
    let at = named(call)?;
    let options = Options::read(call.request, &APPLICATION)?;
    let with_keys = options.select.as_ref().is_some_and(|names| names.iter().any(|name| name == "keyCredentials"));
    let item = show(call, at, &options, with_keys);
    odata::entity(200, call.request, &APPLICATION, "applications", &options, item)
}

pub(crate) fn create(call: &mut Call<'_>) -> Answer {
    let body = shape::body(call.request)?;
    let unique_name = body.get("uniqueName").and_then(Value::as_str);
    if unique_name.is_some_and(|name| name_taken(call, name)) {
        return Err(same_key_value());
    }
    create_from(call, &body)
}

pub(crate) fn update(call: &mut Call<'_>) -> Answer {
    let at = named_to_change(call)?;
    let body = shape::body(call.request)?;
    update_from(call, at, &body)
}

/// `PATCH /applications(uniqueName='…')`: with `Prefer: create-if-missing` it creates what is not there.
pub(crate) fn upsert(call: &mut Call<'_>) -> Answer {
    let (_, key) = path_key(&call.request.path);
    let Some(Key::UniqueName(name)) = key else { return Err(Refusal::bad_request("Invalid alternate key.")) };
    let existing = call.directory().applications.iter().any(|app| app.unique_name.as_deref() == Some(&name));
    if existing {
        return update(call);
    }
    let may_create = call
        .request
        .headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case("create-if-missing")));
    if !may_create {
        return Err(Refusal::not_found(&name));
    }
    let mut body = shape::body(call.request)?;
    match body.get("uniqueName").and_then(Value::as_str) {
        Some(other) if other != name => {
            return Err(Refusal::bad_request("The alternate key in the URL and in the body differ."));
        } // (unverified wording)
        _ => body.insert("uniqueName".to_owned(), Value::String(name)),
    };
    create_from(call, &body)
}

pub(crate) fn delete(call: &mut Call<'_>) -> Answer {
    let at = named_to_change(call)?;
    let now = call.now;
    let directory = call.directory_mut();
    let app = directory.applications.remove(at);
    // Its instance in the home tenant goes with it; those in other tenants stay.
    directory.service_principals.retain(|principal| principal.app_id != app.app_id);
    forget_dangling(directory);
    directory.deleted_applications.push((now, app));
    if directory.deleted_applications.len() > DELETED_KEPT {
        directory.deleted_applications.remove(0);
    }
    Ok(no_content())
}

/// More deleted applications than any test makes.
const DELETED_KEPT: usize = 10_000;

/// Grants whose service principal is gone go too.
pub(crate) fn forget_dangling(directory: &mut crate::directory::Directory) {
    let there: Vec<Uuid> = directory.service_principals.iter().map(|principal| principal.id).collect();
    let users: Vec<Uuid> = directory.users.iter().map(|user| user.id).collect();
    directory.app_role_assignments.retain(|held| {
        there.contains(&held.resource_id) && (there.contains(&held.principal_id) || users.contains(&held.principal_id))
    });
    directory.delegated_grants.retain(|grant| there.contains(&grant.client_id) && there.contains(&grant.resource_id));
    directory.service_principal_credentials.retain(|id, _| there.contains(id));
}

fn create_from(call: &mut Call<'_>, body: &Map<String, Value>) -> Answer {
    shape::check(body, WRITABLE, "Application")?;
    if !body.contains_key("displayName") {
        // (unverified wording)
        return Err(Refusal::bad_request("A value is required for property 'displayName' of resource 'Application'."));
    }
    if body
        .get("passwordCredentials")
        .is_some_and(|secrets| secrets.as_array().is_some_and(|secrets| !secrets.is_empty()))
    {
        // Whether a create may carry secrets is documented both ways; addPassword is the way that always works.
        return Err(Refusal::bad_request(
            "Adding a password credential while creating an application is not supported.",
        ));
    }
    if call.directory().applications.len() >= OBJECTS {
        return Err(Refusal::new(
            403,
            "Directory_QuotaExceeded",
            "The directory object quota limit for the Tenant has been exceeded. Please ask your administrator to increase the quota limit or delete objects to reduce the used quota.",
        )); // (unverified status and wording)
    }
    let mut app = Application {
        id: Uuid::new_v4(),
        app_id: Uuid::new_v4(),
        created: call.now,
        display_name: String::new(),
        sign_in_audience: DEFAULT_AUDIENCE.to_owned(),
        unique_name: None,
        is_fallback_public_client: None,
        web_redirect_uris: Vec::new(),
        spa_redirect_uris: Vec::new(),
        public_redirect_uris: Vec::new(),
        secrets: Vec::new(),
        keys: Vec::new(),
        federated: Vec::new(),
        required_resource_access: Vec::new(),
        // Whoever creates an application owns it.
        owners: vec![call.caller.user.unwrap_or(call.caller.service_principal)],
        visible_from: call.world.replicated_from(),
        rest: Map::new(),
    };
    app.rest.insert("createdByAppId".to_owned(), Value::String(call.caller.app_id.to_string()));
    apply(&mut app, body)?;
    if let Some(entries) = body.get("keyCredentials") {
        let accepted_from = call.world.credential_accepted_from();
        let policy = credentials::policy_for(call, app.id);
        app.keys = keys::replaced(&[], entries, call.now, accepted_from, policy.as_ref())?;
    }
    let domain = call.tenant().domain.clone();
    let item = application_json(&app, &domain, &[], false);
    call.directory_mut().applications.push(app);
    odata::entity(201, call.request, &APPLICATION, "applications", &Options::default(), item)
}

/// Applications of one tenant; far below the real quota of directory objects, and above any test.
const OBJECTS: usize = 50_000;

fn update_from(call: &mut Call<'_>, at: usize, body: &Map<String, Value>) -> Answer {
    shape::check(body, WRITABLE, "Application")?;
    if body.contains_key("passwordCredentials") {
        // (unverified wording)
        return Err(Refusal::bad_request(
            "Property 'passwordCredentials' cannot be updated. Use addPassword and removePassword.",
        ));
    }
    let mut app = call.directory().applications[at].clone();
    if body
        .get("uniqueName")
        .and_then(Value::as_str)
        .is_some_and(|name| app.unique_name.as_deref() != Some(name) && name_taken(call, name))
    {
        return Err(same_key_value());
    }
    apply(&mut app, body)?;
    if personal(&app) && app.secrets.len() > 2 {
        return Err(credentials::too_many_secrets());
    }
    if let Some(entries) = body.get("keyCredentials") {
        let accepted_from = call.world.credential_accepted_from();
        let policy = credentials::policy_for(call, app.id);
        app.keys = keys::replaced(&app.keys, entries, call.now, accepted_from, policy.as_ref())?;
    }
    let directory = call.directory_mut();
    // What the application declares, its instance in the home tenant shows.
    if let Some(principal) = directory.service_principals.iter_mut().find(|principal| principal.app_id == app.app_id) {
        super::service_principals::follow(principal, &app);
    }
    directory.applications[at] = app;
    Ok(no_content())
}

fn name_taken(call: &Call<'_>, name: &str) -> bool {
    call.directory().applications.iter().any(|app| app.unique_name.as_deref() == Some(name))
}

/// (unverified status)
fn same_key_value() -> Refusal {
    Refusal::new(
        400,
        "Request_MultipleObjectsWithSameKeyValue",
        "Another object with the same value for property uniqueName already exists.",
    )
}

fn show(call: &mut Call<'_>, at: usize, options: &Options, with_keys: bool) -> Value {
    let known: Vec<(ClientSecret, Timestamp)> =
        call.directory().applications[at].secrets.iter().map(|secret| (secret.clone(), secret.accepted_from)).collect();
    let secrets: Vec<ClientSecret> =
        known.into_iter().filter(|(_, from)| call.shows(*from)).map(|(secret, _)| secret).collect();
    let app = &call.directory().applications[at];
    let mut item = application_json(app, &call.tenant().domain, &secrets, with_keys);
    if options.expand.iter().any(|name| name == "owners") {
        item["owners"] = super::owners::owners_json(call.directory(), &app.owners).into();
    }
    item
}

/// How long a deleted application can be restored.
pub(crate) fn restorable(deleted: Timestamp, now: Timestamp) -> bool {
    now < later(deleted, std::time::Duration::from_secs(30 * 24 * 60 * 60))
}

/// 200 with an application that is being read out of the deleted items.
pub(crate) fn deleted_json(call: &Call<'_>, deleted: Timestamp, app: &Application) -> Value {
    let mut item = application_json(app, &call.tenant().domain, &app.secrets, false);
    item["deletedDateTime"] = serde_json::json!(deleted);
    item["@odata.type"] = "#microsoft.graph.application".into();
    item
}

/// The answer of `restore`.
pub(crate) fn restored(call: &Call<'_>, app: &Application) -> Answer {
    let mut item = application_json(app, &call.tenant().domain, &app.secrets, false);
    item["@odata.context"] = odata::metadata(call.request, "directoryObjects/$entity").into();
    item["@odata.type"] = "#microsoft.graph.application".into();
    Ok(json_answer(200, item))
}
