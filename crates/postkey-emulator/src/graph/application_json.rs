//! The `application` resource: its properties, what a body may set, and how a registration looks on the wire.

use serde_json::{Map, Value, json};

use super::{
    credentials::secret_json,
    errors::Refusal,
    keys::key_json,
    odata::Resource,
    shape::{GUIDS, Kind, Property, TEXTS, THINGS, firm, open, shown},
};
use crate::directory::{Application, ClientSecret};

pub(crate) const APPLICATION: Resource = Resource {
    entity: "application",
    properties: &[
        "id",
        "deletedDateTime",
        "addIns",
        "api",
        "appId",
        "applicationTemplateId",
        "appRoles",
        "authenticationBehaviors",
        "certification",
        "createdByAppId",
        "createdDateTime",
        "defaultRedirectUri",
        "description",
        "disabledByMicrosoftStatus",
        "displayName",
        "groupMembershipClaims",
        "identifierUris",
        "info",
        "isDeviceOnlyAuthSupported",
        "isDisabled",
        "isFallbackPublicClient",
        "keyCredentials",
        "logo",
        "managerApplications",
        "nativeAuthenticationApisEnabled",
        "notes",
        "oauth2RequirePostResponse",
        "optionalClaims",
        "parentalControlSettings",
        "passwordCredentials",
        "publicClient",
        "publisherDomain",
        "requestSignatureVerification",
        "requiredResourceAccess",
        "samlMetadataUrl",
        "serviceManagementReference",
        "servicePrincipalLockConfiguration",
        "signInAudience",
        "spa",
        "tags",
        "tokenEncryptionKeyId",
        "uniqueName",
        "verifiedPublisher",
        "web",
    ],
    defaults: &[],
    filterable: &[
        "id",
        "appId",
        "displayName",
        "createdDateTime",
        "identifierUris",
        "publisherDomain",
        "signInAudience",
        "tags",
        "keyCredentials",
        "requiredResourceAccess",
        "uniqueName",
    ],
    directory: true,
    default_page: 100,
    largest_page: 999,
};

/// `redirectUris` is all that `spa` and `publicClient` hold.
const REDIRECTS: &[Property] = &[firm("redirectUris", TEXTS)];

const WEB: &[Property] = &[
    firm("redirectUris", TEXTS),
    open("homePageUrl", Kind::Text),
    open("logoutUrl", Kind::Text),
    open(
        "implicitGrantSettings",
        Kind::Object(&[open("enableIdTokenIssuance", Kind::Flag), open("enableAccessTokenIssuance", Kind::Flag)]),
    ),
    firm("redirectUriSettings", THINGS),
];

/// Application permissions that an API offers.
pub(crate) const APP_ROLES: Kind = Kind::List(&Kind::Object(&[
    firm("allowedMemberTypes", TEXTS),
    open("description", Kind::Text),
    open("displayName", Kind::Text),
    firm("id", Kind::Guid),
    firm("isEnabled", Kind::Flag),
    open("origin", Kind::Text),
    open("value", Kind::Text),
]));

/// Delegated permissions that an API offers.
pub(crate) const SCOPES: Kind = Kind::List(&Kind::Object(&[
    open("adminConsentDescription", Kind::Text),
    open("adminConsentDisplayName", Kind::Text),
    firm("id", Kind::Guid),
    firm("isEnabled", Kind::Flag),
    open("origin", Kind::Text),
    open("type", Kind::Text),
    open("userConsentDescription", Kind::Text),
    open("userConsentDisplayName", Kind::Text),
    open("value", Kind::Text),
]));

const API: &[Property] = &[
    open("acceptMappedClaims", Kind::Flag),
    firm("knownClientApplications", GUIDS),
    firm("oauth2PermissionScopes", SCOPES),
    firm("preAuthorizedApplications", THINGS),
    open("requestedAccessTokenVersion", Kind::Number),
];

const INFO: &[Property] = &[
    open("logoUrl", Kind::Text),
    open("marketingUrl", Kind::Text),
    open("privacyStatementUrl", Kind::Text),
    open("supportUrl", Kind::Text),
    open("termsOfServiceUrl", Kind::Text),
];

const RESOURCE_ACCESS: Kind = Kind::List(&Kind::Object(&[
    firm("resourceAppId", Kind::Guid),
    firm("resourceAccess", Kind::List(&Kind::Object(&[firm("id", Kind::Guid), firm("type", Kind::Text)]))),
]));

/// What `POST` and `PATCH` may carry.
pub(crate) const WRITABLE: &[Property] = &[
    shown("id"),
    shown("deletedDateTime"),
    shown("appId"),
    shown("applicationTemplateId"),
    shown("certification"),
    shown("createdByAppId"),
    shown("createdDateTime"),
    shown("disabledByMicrosoftStatus"),
    shown("isDisabled"),
    shown("publisherDomain"),
    shown("verifiedPublisher"),
    firm("addIns", THINGS),
    open("api", Kind::Object(API)),
    firm("appRoles", APP_ROLES),
    open("authenticationBehaviors", Kind::Anything),
    open("defaultRedirectUri", Kind::Text),
    open("description", Kind::Text),
    firm("displayName", Kind::Text),
    open("groupMembershipClaims", Kind::Text),
    firm("identifierUris", TEXTS),
    open("info", Kind::Object(INFO)),
    open("isDeviceOnlyAuthSupported", Kind::Flag),
    open("isFallbackPublicClient", Kind::Flag),
    firm("keyCredentials", THINGS),
    open("logo", Kind::Anything),
    firm("managerApplications", GUIDS),
    open("nativeAuthenticationApisEnabled", Kind::Text),
    open("notes", Kind::Text),
    firm("oauth2RequirePostResponse", Kind::Flag),
    open("optionalClaims", Kind::Anything),
    open("parentalControlSettings", Kind::Anything),
    firm("passwordCredentials", THINGS),
    open("publicClient", Kind::Object(REDIRECTS)),
    open("requestSignatureVerification", Kind::Anything),
    firm("requiredResourceAccess", RESOURCE_ACCESS),
    open("samlMetadataUrl", Kind::Text),
    open("serviceManagementReference", Kind::Text),
    open("servicePrincipalLockConfiguration", Kind::Anything),
    open("signInAudience", Kind::Text),
    open("spa", Kind::Object(REDIRECTS)),
    firm("tags", TEXTS),
    open("tokenEncryptionKeyId", Kind::Guid),
    open("uniqueName", Kind::Text),
    open("web", Kind::Object(WEB)),
];

/// The registration as Graph shows it. `secrets` are those that the answering node knows; `with_keys` shows certificates.
pub(crate) fn application_json(app: &Application, domain: &str, secrets: &[ClientSecret], with_keys: bool) -> Value {
    let mut shown = skeleton(domain);
    for (name, value) in &app.rest {
        let slot = shown.entry(name.clone()).or_insert(Value::Null);
        super::shape::merge(slot, value);
    }
    let mut set = |name: &str, value: Value| {
        shown.insert(name.to_owned(), value);
    };
    set("id", json!(app.id));
    set("appId", json!(app.app_id));
    set("createdDateTime", json!(app.created));
    set("displayName", json!(app.display_name));
    set("signInAudience", json!(app.sign_in_audience));
    set("uniqueName", json!(app.unique_name));
    set("isFallbackPublicClient", json!(app.is_fallback_public_client));
    set("requiredResourceAccess", json!(app.required_resource_access));
    set("passwordCredentials", secrets.iter().map(|secret| secret_json(secret, None)).collect());
    set("keyCredentials", app.keys.iter().map(|key| key_json(key, with_keys)).collect());
    for (room, uris) in
        [("web", &app.web_redirect_uris), ("spa", &app.spa_redirect_uris), ("publicClient", &app.public_redirect_uris)]
    {
        if !shown[room].is_object() {
            shown.insert(room.to_owned(), json!({}));
        }
        shown[room]["redirectUris"] = json!(uris);
    }
    shown["web"]["redirectUriSettings"] =
        app.web_redirect_uris.iter().map(|uri| json!({ "uri": uri, "index": null })).collect();
    Value::Object(shown)
}

/// A registration that nobody has set anything on.
fn skeleton(domain: &str) -> Map<String, Value> {
    let bare = json!({
        "id": null, "deletedDateTime": null, "appId": null, "applicationTemplateId": null,
        "disabledByMicrosoftStatus": null, "createdByAppId": null, "createdDateTime": null, "displayName": null,
        "description": null, "groupMembershipClaims": null, "identifierUris": [], "isDeviceOnlyAuthSupported": null,
        "isDisabled": null, "isFallbackPublicClient": null, "nativeAuthenticationApisEnabled": null, "notes": null,
        "publisherDomain": domain, "serviceManagementReference": null, "signInAudience": null, "tags": [],
        "tokenEncryptionKeyId": null, "uniqueName": null, "samlMetadataUrl": null, "defaultRedirectUri": null,
        "certification": null, "optionalClaims": null, "servicePrincipalLockConfiguration": null,
        "requestSignatureVerification": null, "addIns": [],
        "api": {
            "acceptMappedClaims": null, "knownClientApplications": [], "requestedAccessTokenVersion": null,
            "oauth2PermissionScopes": [], "preAuthorizedApplications": [],
        },
        "appRoles": [],
        "info": { "logoUrl": null, "marketingUrl": null, "privacyStatementUrl": null, "supportUrl": null, "termsOfServiceUrl": null },
        "keyCredentials": [],
        "parentalControlSettings": { "countriesBlockedForMinors": [], "legalAgeGroupRule": "Allow" },
        "passwordCredentials": [],
        "publicClient": { "redirectUris": [] },
        "requiredResourceAccess": [],
        "verifiedPublisher": { "displayName": null, "verifiedPublisherId": null, "addedDateTime": null },
        "web": {
            "homePageUrl": null, "logoutUrl": null, "redirectUris": [], "redirectUriSettings": [],
            "implicitGrantSettings": { "enableAccessTokenIssuance": false, "enableIdTokenIssuance": false },
        },
        "spa": { "redirectUris": [] },
    });
    match bare {
        Value::Object(bare) => bare,
        _ => Map::new(),
    }
}

/// Puts a checked body's properties on the registration; credentials are not its business.
pub(crate) fn apply(app: &mut Application, body: &Map<String, Value>) -> Result<(), Refusal> {
    for (name, value) in body {
        match name.as_str() {
            "displayName" => app.display_name = text(value),
            "signInAudience" => {
                app.sign_in_audience = if value.is_null() { DEFAULT_AUDIENCE.to_owned() } else { text(value) }
            }
            "uniqueName" => set_unique_name(app, value)?,
            "isFallbackPublicClient" => app.is_fallback_public_client = value.as_bool(),
            "requiredResourceAccess" => app.required_resource_access = value.as_array().cloned().unwrap_or_default(),
            "keyCredentials" | "passwordCredentials" => {}
            "web" | "spa" | "publicClient" => {
                if let Some(uris) = value.get("redirectUris") {
                    let uris = uris.as_array().into_iter().flatten().map(text).collect();
                    match name.as_str() {
                        "web" => app.web_redirect_uris = uris,
                        "spa" => app.spa_redirect_uris = uris,
                        _ => app.public_redirect_uris = uris,
                    }
                }
                if name == "web" {
                    super::shape::merge(app.rest.entry(name.clone()).or_insert(json!({})), value);
                }
            }
            _ => super::shape::merge(app.rest.entry(name.clone()).or_insert(Value::Null), value),
        }
    }
    check(app)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// An alternate key, set once.
fn set_unique_name(app: &mut Application, value: &Value) -> Result<(), Refusal> {
    let name = value.as_str().map(str::to_owned);
    if app.unique_name.is_some() && app.unique_name != name {
        // (unverified wording)
        return Err(Refusal::bad_request("Property 'uniqueName' is immutable and cannot be changed."));
    }
    app.unique_name = name;
    Ok(())
}

/// The documented default of `signInAudience`.
pub(crate) const DEFAULT_AUDIENCE: &str = "AzureADMyOrg";

const AUDIENCES: [&str; 4] =
    [DEFAULT_AUDIENCE, "AzureADMultipleOrgs", "AzureADandPersonalMicrosoftAccount", "PersonalMicrosoftAccount"];

/// Whether personal Microsoft accounts may use the application, which tightens several limits.
pub(crate) fn personal(app: &Application) -> bool {
    app.sign_in_audience.contains("PersonalMicrosoftAccount")
}

/// Every limit that does not depend on other objects. All wordings are unverified.
fn check(app: &Application) -> Result<(), Refusal> {
    let longest = if personal(app) { 90 } else { 120 };
    if app.display_name.is_empty() {
        return Err(Refusal::invalid_value("displayName", "Application"));
    }
    if app.display_name.chars().count() > longest {
        return Err(Refusal::bad_request(format!("Property 'displayName' exceeds the maximum length of {longest}.")));
    }
    if !AUDIENCES.contains(&app.sign_in_audience.as_str()) {
        return Err(Refusal::invalid_value("signInAudience", "Application"));
    }
    check_redirects(app)?;
    let (apis, permissions, each) = if personal(app) { (50, 200, 30) } else { (50, 400, 400) };
    let counts: Vec<usize> =
        app.required_resource_access.iter().map(|api| api["resourceAccess"].as_array().map_or(0, Vec::len)).collect();
    if counts.len() > apis || counts.iter().sum::<usize>() > permissions || counts.iter().any(|count| *count > each) {
        return Err(Refusal::bad_request("The application requests more permissions than it may."));
    }
    let kinds =
        app.required_resource_access.iter().flat_map(|api| api["resourceAccess"].as_array().into_iter().flatten());
    for access in kinds {
        if !matches!(access["type"].as_str(), Some("Scope" | "Role")) {
            return Err(Refusal::invalid_value("requiredResourceAccess", "Application"));
        }
    }
    let entries = app.secrets.len() + app.keys.len() + counts.iter().sum::<usize>() + redirects(app).count();
    if entries > ENTRIES {
        return Err(Refusal::new(
            400,
            "Directory_QuotaExceeded",
            "The size of the object has exceeded its limit. Please reduce the number of values and retry your request.",
        ));
    }
    Ok(())
}

/// Entries across the collections of one application; articles say about 1,000 and 1,200.
pub(crate) const ENTRIES: usize = 1_200;

fn redirects(app: &Application) -> impl Iterator<Item = &String> {
    app.web_redirect_uris.iter().chain(&app.spa_redirect_uris).chain(&app.public_redirect_uris)
}

fn check_redirects(app: &Application) -> Result<(), Refusal> {
    let most = if personal(app) { 100 } else { 256 };
    if redirects(app).count() > most {
        return Err(Refusal::bad_request(format!("The application has more than {most} redirect URIs.")));
    }
    let work_only = !personal(app);
    for (uri, native) in app
        .web_redirect_uris
        .iter()
        .chain(&app.spa_redirect_uris)
        .map(|uri| (uri, false))
        .chain(app.public_redirect_uris.iter().map(|uri| (uri, true)))
    {
        if !redirect_holds(uri, native, work_only) {
            return Err(Refusal::bad_request(format!("The redirect URI '{uri}' is not valid.")));
        }
    }
    Ok(())
}

/// https, or http on loopback; native clients may also have schemes of their own.
fn redirect_holds(uri: &str, native: bool, work_only: bool) -> bool {
    let Ok(url) = url::Url::parse(uri) else { return false };
    let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1"));
    let scheme = match url.scheme() {
        "https" => true,
        "http" => loopback,
        _ => native,
    };
    scheme
        && uri.len() <= 256
        && !uri.contains(['!', '$', '\'', '(', ')', ',', ';'])
        && !uri.contains('*')
        && url.fragment().is_none()
        && (url.query().is_none() || work_only)
        && url.host_str() != Some("[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_is_https_or_loopback() {
        for (uri, native, good) in [
            ("https://app.contoso.example/callback", false, true),
            ("http://localhost", false, true),
            ("http://localhost/myapps/", false, true),
            ("http://127.0.0.1:8025/oauth/callback", false, true),
            ("http://app.contoso.example/", false, false),
            ("http://[::1]/", false, false),
            ("https://app.contoso.example/a(b)", false, false),
            ("https://app.contoso.example/#part", false, false),
            ("myapp://auth", false, false),
            ("myapp://auth", true, true),
            ("localhost", false, false),
        ] {
            assert_eq!(redirect_holds(uri, native, true), good, "{uri}");
        }
    }
}
