//! Client secrets: addPassword, removePassword, and the tenant's limits on new credentials.

use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Call, application_json,
    errors::{Answer, Refusal, json_answer, no_content},
    odata, path_key, policies,
    shape::{self, Kind, Property, firm, open, shown},
};
use crate::directory::{ClientSecret, KeyCredential, OwnCredentials};

/// Whose credentials the path means.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holder {
    /// The place of a registration.
    Application(usize),
    /// The place of a service principal.
    ServicePrincipal(usize),
}

/// The object that `/applications/…/addPassword` and its like name.
pub(crate) fn holder(call: &mut Call<'_>) -> Result<Holder, Refusal> {
    let (collection, _) = path_key(&call.request.path);
    if collection == "applications" {
        super::applications::named_to_change(call).map(Holder::Application)
    } else {
        super::service_principals::named_to_change(call).map(Holder::ServicePrincipal)
    }
}

impl Holder {
    pub(crate) fn id(self, call: &Call<'_>) -> Uuid {
        match self {
            Self::Application(at) => call.directory().applications[at].id,
            Self::ServicePrincipal(at) => call.directory().service_principals[at].id,
        }
    }

    fn app_id(self, call: &Call<'_>) -> Uuid {
        match self {
            Self::Application(at) => call.directory().applications[at].app_id,
            Self::ServicePrincipal(at) => call.directory().service_principals[at].app_id,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Application(_) => "Application",
            Self::ServicePrincipal(_) => "ServicePrincipal",
        }
    }

    pub(crate) fn secrets<'a>(self, call: &'a mut Call<'_>) -> &'a mut Vec<ClientSecret> {
        match self {
            Self::Application(at) => &mut call.directory_mut().applications[at].secrets,
            Self::ServicePrincipal(_) => &mut self.own(call).secrets,
        }
    }

    pub(crate) fn keys<'a>(self, call: &'a mut Call<'_>) -> &'a mut Vec<KeyCredential> {
        match self {
            Self::Application(at) => &mut call.directory_mut().applications[at].keys,
            Self::ServicePrincipal(_) => &mut self.own(call).keys,
        }
    }

    fn own<'a>(self, call: &'a mut Call<'_>) -> &'a mut OwnCredentials {
        let id = self.id(call);
        call.directory_mut().service_principal_credentials.entry(id).or_default()
    }

    /// Whether the application locks its instances against credentials of their own.
    fn locked(self, call: &Call<'_>) -> bool {
        let Self::ServicePrincipal(at) = self else { return false };
        let app_id = call.directory().service_principals[at].app_id;
        let lock = call.world.tenants.iter().find_map(|tenant| tenant.directory.application_by_app_id(app_id));
        lock.is_some_and(|app| {
            let lock = &app.rest.get("servicePrincipalLockConfiguration").cloned().unwrap_or_default();
            lock["isEnabled"] == true && (lock["allProperties"] == true || lock["credentialsWithUsageVerify"] == true)
        })
    }
}

const PASSWORD: &[Property] = &[
    open("customKeyIdentifier", Kind::Binary),
    open("displayName", Kind::Text),
    open("endDateTime", Kind::Moment),
    shown("hint"),
    open("keyId", Kind::Guid),
    // The service makes the secret; a null is tolerated because SDKs serialise their whole object.
    open("secretText", Kind::Text),
    open("startDateTime", Kind::Moment),
];

pub(crate) fn add_password(call: &mut Call<'_>) -> Answer {
    let holder = holder(call)?;
    // The whole body is optional.
    let body = if call.request.body.is_empty() { Map::new() } else { shape::body(call.request)? };
    shape::check(&body, &[open("passwordCredential", Kind::Object(PASSWORD))], holder.name())?;
    let wish = body.get("passwordCredential").cloned().unwrap_or_default();
    if !wish["secretText"].is_null() {
        // (unverified wording)
        return Err(Refusal::bad_request("Property 'secretText' cannot be set: the service generates the secret."));
    }
    if holder.locked(call) {
        return Err(Refusal::bad_request("The property is locked by the application's instance property lock.")); // (unverified)
    }
    let start = moment(&wish["startDateTime"]).unwrap_or(call.now);
    let end = match moment(&wish["endDateTime"]) {
        Some(end) => end,
        None => two_years_after(start)?,
    };
    if end <= start || end <= call.now {
        // (unverified wording)
        return Err(Refusal::bad_request(
            "Invalid value specified for property 'endDateTime' of resource 'PasswordCredential'.",
        ));
    }
    let id = holder.id(call);
    if let Some(policy) = policy_for(call, id) {
        policy.allow_secret(start, end)?;
    }
    check_room(call, holder)?;

    let text = call.world.make_client_secret();
    let secret = ClientSecret {
        key_id: Uuid::new_v4(),
        display_name: wish["displayName"].as_str().map(str::to_owned),
        hint: text.chars().take(3).collect(),
        start,
        end,
        text: text.clone(),
        accepted_from: call.world.credential_accepted_from(),
    };
    let mut item = secret_json(&secret, Some(&text));
    item["@odata.context"] = odata::metadata(call.request, "microsoft.graph.passwordCredential").into();
    holder.secrets(call).push(secret);
    Ok(json_answer(200, item))
}

pub(crate) fn remove_password(call: &mut Call<'_>) -> Answer {
    let holder = holder(call)?;
    let body = shape::body(call.request)?;
    shape::check(&body, &[firm("keyId", Kind::Guid)], holder.name())?;
    let Some(key_id) = body.get("keyId").and_then(Value::as_str) else {
        return Err(Refusal::bad_request("A value is required for property 'keyId'.")); // (unverified wording)
    };
    let missing = || Refusal::bad_request(format!("No password credential found with keyId {key_id}."));
    let wanted = Uuid::try_parse(key_id).map_err(|_| missing())?;
    let known = holder.secrets(call).iter().position(|secret| secret.key_id == wanted);
    let at = known.ok_or_else(missing)?;
    let accepted_from = holder.secrets(call)[at].accepted_from;
    if !call.shows(accepted_from) {
        return Err(missing());
    }
    let removed = holder.secrets(call).remove(at);
    // Nodes that have not heard of it go on taking the secret for a while.
    let (now, until, app_id) = (call.now, call.world.credential_accepted_from(), holder.app_id(call));
    let lingering = &mut call.directory_mut().lingering_secrets;
    lingering.retain(|(_, _, until)| *until > now);
    if until > now {
        lingering.push((app_id, removed, until));
    }
    Ok(no_content())
}

/// Personal accounts allow two secrets at once; otherwise only the size of the object ends it.
fn check_room(call: &mut Call<'_>, holder: Holder) -> Result<(), Refusal> {
    let personal = match holder {
        Holder::Application(at) => application_json::personal(&call.directory().applications[at]),
        Holder::ServicePrincipal(_) => false,
    };
    let secrets = holder.secrets(call).len();
    if personal && secrets >= 2 {
        return Err(too_many_secrets());
    }
    if secrets + holder.keys(call).len() >= application_json::ENTRIES {
        return Err(Refusal::new(
            400,
            "Directory_QuotaExceeded",
            "The size of the object has exceeded its limit. Please reduce the number of values and retry your request.",
        )); // (unverified)
    }
    Ok(())
}

/// (unverified wording)
pub(crate) fn too_many_secrets() -> Refusal {
    Refusal::bad_request("Applications that allow personal Microsoft accounts may have at most 2 password credentials.")
}

/// The documented default lifetime.
fn two_years_after(start: Timestamp) -> Result<Timestamp, Refusal> {
    start
        .to_zoned_datetime(TimeZone::UTC)
        .checked_add(2.years())
        .map(|zoned| zoned.timestamp())
        .map_err(|_| Refusal::invalid_value("startDateTime", "PasswordCredential"))
}

pub(crate) fn moment(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(|text| text.parse().ok())
}

/// A `passwordCredential`; the text only in the answer that creates it.
pub(crate) fn secret_json(secret: &ClientSecret, text: Option<&str>) -> Value {
    json!({
        "customKeyIdentifier": null,
        "displayName": secret.display_name,
        "endDateTime": secret.end,
        "hint": secret.hint,
        "keyId": secret.key_id,
        "secretText": text,
        "startDateTime": secret.start,
    })
}

/// What the tenant allows new credentials of one object to be.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct CredentialLimits {
    pub(crate) secrets_forbidden: bool,
    pub(crate) longest_secret: Option<SignedDuration>,
    pub(crate) longest_certificate: Option<SignedDuration>,
}

impl CredentialLimits {
    fn allow_secret(&self, start: Timestamp, end: Timestamp) -> Result<(), Refusal> {
        if self.secrets_forbidden {
            // (unverified status and wording)
            return Err(Refusal::new(
                400,
                "CredentialTypeNotAllowedAsPerAppPolicy",
                "Credential type not allowed as per assigned policy",
            ));
        }
        lifetime_holds(self.longest_secret, start, end)
    }

    pub(crate) fn allow_certificate(&self, start: Timestamp, end: Timestamp) -> Result<(), Refusal> {
        lifetime_holds(self.longest_certificate, start, end)
    }
}

fn lifetime_holds(longest: Option<SignedDuration>, start: Timestamp, end: Timestamp) -> Result<(), Refusal> {
    match longest {
        Some(longest) if end.duration_since(start) > longest => Err(Refusal::new(
            400,
            "CredentialInvalidLifetimeAsPerAppPolicy",
            "Credential lifetime exceeds the max value allowed as per assigned policy",
        )),
        _ => Ok(()),
    }
}

/// The object's own policy, or the tenant's default, if either is in force.
pub(crate) fn policy_for(call: &Call<'_>, object: Uuid) -> Option<CredentialLimits> {
    policies::limits(call.directory(), object, call.now)
}
