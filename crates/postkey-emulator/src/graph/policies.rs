//! Policies that restrict new credentials: the tenant's default and custom ones for single objects.

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Call, applications,
    credentials::CredentialLimits,
    errors::{Answer, Refusal, no_content},
    odata::{self, Options, Resource},
    owners::referenced,
    shape::{self, Kind, Property, THINGS, firm, open, shown},
};
use crate::directory::{CredentialPolicy, Directory};

const POLICY: Resource = Resource {
    entity: "appManagementPolicy",
    properties: &[
        "id",
        "deletedDateTime",
        "displayName",
        "description",
        "isEnabled",
        "restrictions",
        "applicationRestrictions",
        "servicePrincipalRestrictions",
    ],
    defaults: &[],
    filterable: &[],
    directory: true,
    default_page: 100,
    largest_page: 999,
};

const RESTRICTION: &[Property] = &[
    open("restrictionType", Kind::Text),
    open("state", Kind::Text),
    open("maxLifetime", Kind::Text),
    open("restrictForAppsCreatedAfterDateTime", Kind::Moment),
    open("excludeActors", Kind::Anything),
    // Beta's restrictions carry them.
    open("certificateBasedApplicationConfigurationIds", THINGS),
];

const RESTRICTIONS: Kind = Kind::Object(&[
    firm("passwordCredentials", Kind::List(&Kind::Object(RESTRICTION))),
    firm("keyCredentials", Kind::List(&Kind::Object(RESTRICTION))),
    open("identifierUris", Kind::Anything),
    open("applicationRestrictions", Kind::Anything),
    open("servicePrincipalRestrictions", Kind::Anything),
]);

const CUSTOM: &[Property] = &[
    shown("id"),
    shown("deletedDateTime"),
    firm("displayName", Kind::Text),
    open("description", Kind::Text),
    firm("isEnabled", Kind::Flag),
    open("restrictions", RESTRICTIONS),
];

const DEFAULT: &[Property] = &[
    shown("id"),
    shown("deletedDateTime"),
    open("displayName", Kind::Text),
    open("description", Kind::Text),
    firm("isEnabled", Kind::Flag),
    open("applicationRestrictions", RESTRICTIONS),
    open("servicePrincipalRestrictions", RESTRICTIONS),
];

/// Custom policies of a tenant; more than any test makes.
const MOST: usize = 1_000;

pub(crate) fn get_default(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &POLICY)?;
    let item = default_policy(call.directory());
    odata::entity(200, call.request, &POLICY, "policies/defaultAppManagementPolicy", &options, item)
}

pub(crate) fn update_default(call: &mut Call<'_>) -> Answer {
    let body = shape::body(call.request)?;
    shape::check(&body, DEFAULT, "TenantAppManagementPolicy")?;
    for name in ["applicationRestrictions", "servicePrincipalRestrictions"] {
        body.get(name).map_or(Ok(()), each_once)?;
    }
    let Value::Object(mut policy) = default_policy(call.directory()) else { return Err(Refusal::denied()) };
    policy.extend(body);
    let directory = call.directory_mut();
    // From here on the document decides, not the short form that a test sets.
    directory.credential_policy = None;
    directory.default_management_policy = Some(policy);
    Ok(no_content())
}

/// The default policy as a document: as written, else from the short form, else switched off.
fn default_policy(directory: &Directory) -> Value {
    let mut bare = json!({
        "id": "00000000-0000-0000-0000-000000000000",
        "displayName": "Default app management tenant policy",
        "description": "Default tenant policy that enforces app management restrictions on applications and service principals.",
        "isEnabled": false,
        "applicationRestrictions": { "passwordCredentials": [], "keyCredentials": [] },
        "servicePrincipalRestrictions": { "passwordCredentials": [], "keyCredentials": [] },
    });
    match (&directory.credential_policy, &directory.default_management_policy) {
        (Some(short), _) => {
            let restrictions = written(short);
            bare["isEnabled"] = json!(true);
            bare["applicationRestrictions"] = restrictions.clone();
            bare["servicePrincipalRestrictions"] = restrictions;
            bare
        }
        (None, Some(policy)) => Value::Object(policy.clone()),
        (None, None) => bare,
    }
}

/// The short form in Graph's words.
fn written(policy: &CredentialPolicy) -> Value {
    let days = |days: u32| format!("P{days}D");
    let one = |kind: &str, lifetime: Option<String>| json!({ "restrictionType": kind, "state": "enabled", "maxLifetime": lifetime, "restrictForAppsCreatedAfterDateTime": null });
    let mut passwords = Vec::new();
    if policy.secrets_forbidden {
        passwords.push(one("passwordAddition", None));
    }
    passwords.extend(policy.max_secret_lifetime_days.map(|limit| one("passwordLifetime", Some(days(limit)))));
    let keys: Vec<Value> = policy
        .max_certificate_lifetime_days
        .map(|limit| one("asymmetricKeyLifetime", Some(days(limit))))
        .into_iter()
        .collect();
    json!({ "passwordCredentials": passwords, "keyCredentials": keys })
}

/// What a new credential of `object` must keep to; None = nothing.
pub(crate) fn limits(directory: &Directory, object: Uuid, now: Timestamp) -> Option<CredentialLimits> {
    let custom = directory.management_policy_of.get(&object).and_then(|id| {
        directory.management_policies.iter().find(|policy| policy["id"].as_str() == Some(&id.to_string()))
    });
    let application = directory.applications.iter().find(|app| app.id == object);
    let (policy, restrictions) = match custom {
        // A custom policy overrides the default, restriction or not.
        Some(policy) => (policy.clone(), policy["restrictions"].clone()),
        None => {
            let policy = default_policy(directory);
            let room = if application.is_some() { "applicationRestrictions" } else { "servicePrincipalRestrictions" };
            let restrictions = policy[room].clone();
            (policy, restrictions)
        }
    };
    if policy["isEnabled"] != true {
        return None;
    }
    let created = application.map_or(now, |app| app.created);
    let mut limits = CredentialLimits::default();
    let all = ["passwordCredentials", "keyCredentials"]
        .map(|name| restrictions[name].as_array().cloned().unwrap_or_default());
    for restriction in all.iter().flatten() {
        let since = super::credentials::moment(&restriction["restrictForAppsCreatedAfterDateTime"]);
        if restriction["state"] == "disabled" || since.is_some_and(|since| created < since) {
            continue;
        }
        let lifetime = restriction["maxLifetime"].as_str().and_then(duration);
        match restriction["restrictionType"].as_str() {
            Some("passwordAddition") => limits.secrets_forbidden = true,
            Some("passwordLifetime") => limits.longest_secret = lifetime,
            Some("asymmetricKeyLifetime") => limits.longest_certificate = lifetime,
            _ => {}
        }
    }
    (limits != CredentialLimits::default()).then_some(limits)
}

/// ISO 8601, days of 24 hours.
fn duration(text: &str) -> Option<SignedDuration> {
    let span: Span = text.parse().ok()?;
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()
}

/// Each kind of restriction at most once, of a known kind, with a readable lifetime.
fn each_once(restrictions: &Value) -> Result<(), Refusal> {
    const PASSWORDS: [&str; 5] = [
        "passwordAddition",
        "passwordLifetime",
        "customPasswordAddition",
        "symmetricKeyAddition",
        "symmetricKeyLifetime",
    ];
    for (room, known) in [("passwordCredentials", &PASSWORDS[..]), ("keyCredentials", &["asymmetricKeyLifetime"][..])] {
        let mut seen = Vec::new();
        for restriction in restrictions[room].as_array().into_iter().flatten() {
            let kind = restriction["restrictionType"].as_str().unwrap_or_default();
            if !known.contains(&kind) || seen.contains(&kind) {
                return Err(Refusal::invalid_value("restrictionType", "AppManagementPolicy"));
            }
            seen.push(kind);
            if restriction["maxLifetime"].as_str().is_some_and(|text| duration(text).is_none()) {
                return Err(Refusal::invalid_value("maxLifetime", "AppManagementPolicy"));
            }
        }
    }
    Ok(())
}

pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &POLICY)?;
    let items = call.directory().management_policies.clone();
    odata::collection(call.request, &POLICY, "policies/appManagementPolicies", &options, items)
}

fn one(call: &Call<'_>) -> Result<usize, Refusal> {
    let wanted = call.segment(2);
    let policies = &call.directory().management_policies;
    policies.iter().position(|policy| policy["id"] == wanted).ok_or_else(|| Refusal::not_found(wanted))
}

pub(crate) fn get(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &POLICY)?;
    let item = call.directory().management_policies[one(call)?].clone();
    odata::entity(200, call.request, &POLICY, "policies/appManagementPolicies", &options, item)
}

pub(crate) fn create(call: &mut Call<'_>) -> Answer {
    let body = shape::body(call.request)?;
    shape::check(&body, CUSTOM, "AppManagementPolicy")?;
    body.get("restrictions").map_or(Ok(()), each_once)?;
    if !body.contains_key("displayName") {
        return Err(Refusal::bad_request(
            "A value is required for property 'displayName' of resource 'AppManagementPolicy'.",
        )); // (unverified wording)
    }
    if call.directory().management_policies.len() >= MOST {
        return Err(Refusal::new(400, "Directory_QuotaExceeded", "The tenant has too many policies.")); // (unverified)
    }
    let mut policy = Map::new();
    policy.insert("id".into(), json!(Uuid::new_v4()));
    for (name, otherwise) in [
        ("displayName", json!("")),
        ("description", Value::Null),
        ("isEnabled", json!(false)),
        ("restrictions", Value::Null),
    ] {
        policy.insert(name.into(), body.get(name).cloned().unwrap_or(otherwise));
    }
    let item = Value::Object(policy);
    call.directory_mut().management_policies.push(item.clone());
    // The article's text says 201, its example 200.
    odata::entity(201, call.request, &POLICY, "policies/appManagementPolicies", &Options::default(), item)
}

pub(crate) fn update(call: &mut Call<'_>) -> Answer {
    let at = one(call)?;
    let body = shape::body(call.request)?;
    shape::check(&body, CUSTOM, "AppManagementPolicy")?;
    body.get("restrictions").map_or(Ok(()), each_once)?;
    if let Some(policy) = call.directory_mut().management_policies[at].as_object_mut() {
        policy.extend(body);
    }
    Ok(no_content())
}

pub(crate) fn delete(call: &mut Call<'_>) -> Answer {
    let at = one(call)?;
    let directory = call.directory_mut();
    let policy = directory.management_policies.remove(at);
    directory.management_policy_of.retain(|_, id| policy["id"].as_str() != Some(&id.to_string()));
    Ok(no_content())
}

pub(crate) fn list_assigned(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &POLICY)?;
    let app = call.directory().applications[applications::named(call)?].id;
    let assigned = call.directory().management_policy_of.get(&app).map(Uuid::to_string);
    let policies = &call.directory().management_policies;
    let items = policies.iter().filter(|policy| policy["id"].as_str() == assigned.as_deref()).cloned().collect();
    odata::collection(call.request, &POLICY, "policies/appManagementPolicies", &options, items)
}

pub(crate) fn assign(call: &mut Call<'_>) -> Answer {
    let at = applications::named_to_change(call)?;
    let app = call.directory().applications[at].id;
    let policy = referenced(call)?;
    let known =
        call.directory().management_policies.iter().any(|known| known["id"].as_str() == Some(&policy.to_string()));
    if !known {
        return Err(Refusal::not_found(&policy.to_string()));
    }
    if call.directory().management_policy_of.contains_key(&app) {
        // (unverified wording)
        return Err(Refusal::bad_request("One app management policy at most can be assigned to an object."));
    }
    call.directory_mut().management_policy_of.insert(app, policy);
    Ok(no_content())
}

pub(crate) fn unassign(call: &mut Call<'_>) -> Answer {
    let at = applications::named_to_change(call)?;
    let app = call.directory().applications[at].id;
    let wanted = call.behind_key(1).to_owned();
    let assigned = call.directory().management_policy_of.get(&app).map(Uuid::to_string);
    if assigned.as_deref() != Some(wanted.as_str()) {
        return Err(Refusal::not_found(&wanted));
    }
    call.directory_mut().management_policy_of.remove(&app);
    Ok(no_content())
}
