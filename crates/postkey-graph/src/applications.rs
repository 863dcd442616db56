//! App registrations: `/applications` of the tenant they are registered in.

use jiff::Timestamp;
use postkey_base::{AppObjectId, ClientAssertion, ClientId, KeyId};
use reqwest::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    credentials::{AddedPassword, KeyCredential, NewCertificate, NewSecret, PasswordCredential},
    error::{GraphError, Unreadable},
    graph::Graph,
    json,
    paging::Pages,
    shape::{CallShape, Effect, Verb},
};

const READ: &[&str] = &["Application.Read.All"];
const WRITE: &[&str] = &["Application.ReadWrite.All"];

/// All registrations, page by page.
pub const LIST: CallShape = CallShape::new(Verb::Get, "/applications", Effect::Reads, READ);
/// One registration by its object id.
pub const GET: CallShape = CallShape::new(Verb::Get, "/applications/{id}", Effect::Reads, READ);
/// One registration by its client id.
pub const GET_BY_CLIENT_ID: CallShape =
    CallShape::new(Verb::Get, "/applications(appId='{clientId}')", Effect::Reads, READ);
/// One registration by the unique name it was made with.
pub const GET_BY_UNIQUE_NAME: CallShape =
    CallShape::new(Verb::Get, "/applications(uniqueName='{uniqueName}')", Effect::Reads, READ);
/// A new registration each time.
pub const CREATE: CallShape = CallShape::new(Verb::Post, "/applications", Effect::Adds, &["AppRegistration.Create"]);
/// The registration of that unique name, made if it is missing (`Prefer: create-if-missing`).
pub const UPSERT: CallShape =
    CallShape::new(Verb::Patch, "/applications(uniqueName='{uniqueName}')", Effect::Settles, WRITE);
/// Changes some of its properties.
pub const UPDATE: CallShape = CallShape::new(Verb::Patch, "/applications/{id}", Effect::Settles, WRITE);
/// Puts it into the directory's deleted items for 30 days.
pub const DELETE: CallShape = CallShape::new(Verb::Delete, "/applications/{id}", Effect::Settles, WRITE);
/// Makes a client secret.
pub const ADD_PASSWORD: CallShape = CallShape::new(Verb::Post, "/applications/{id}/addPassword", Effect::Adds, WRITE);
/// Removes a client secret.
pub const REMOVE_PASSWORD: CallShape =
    CallShape::new(Verb::Post, "/applications/{id}/removePassword", Effect::Settles, WRITE);
/// Adds a certificate, proven by one that is already there: the app's own keys need no permission.
pub const ADD_KEY: CallShape = CallShape::new(Verb::Post, "/applications/{id}/addKey", Effect::Adds, &[]);
/// Removes a certificate, proven likewise.
pub const REMOVE_KEY: CallShape = CallShape::new(Verb::Post, "/applications/{id}/removeKey", Effect::Settles, &[]);

/// What we read of an application.
const SELECT: &str = "id,appId,displayName,uniqueName,createdDateTime,signInAudience,isFallbackPublicClient,web,\
                      publicClient,requiredResourceAccess,passwordCredentials,keyCredentials,tags,notes,\
                      disabledByMicrosoftStatus";
/// What a survey of credentials reads: less costs less.
const SELECT_CREDENTIALS: &str = "id,appId,displayName,uniqueName,passwordCredentials,keyCredentials";
/// Directory objects come at most 999 to a page.
const PAGE: &str = "999";

/// An app registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Application {
    /// Object id.
    pub id: AppObjectId,
    /// Client id.
    #[serde(rename = "appId")]
    pub client_id: ClientId,
    /// Shown in the portal.
    #[serde(default, deserialize_with = "json::or_default")]
    pub display_name: String,
    /// Alternate key, never changed.
    #[serde(default)]
    pub unique_name: Option<String>,
    /// When it was registered.
    #[serde(default, rename = "createdDateTime")]
    pub created: Option<Timestamp>,
    /// Whose accounts it serves.
    #[serde(default)]
    pub sign_in_audience: Option<String>,
    /// Whether public client flows are allowed.
    #[serde(default, deserialize_with = "json::or_default")]
    pub is_fallback_public_client: bool,
    /// Web platform.
    #[serde(default, deserialize_with = "json::or_default")]
    pub web: RedirectUris,
    /// Mobile and desktop platform.
    #[serde(default, deserialize_with = "json::or_default")]
    pub public_client: RedirectUris,
    /// Permissions it declares; declaring grants nothing.
    #[serde(default, deserialize_with = "json::or_default")]
    pub required_resource_access: Vec<RequiredResource>,
    /// Client secrets, without their text.
    #[serde(default, deserialize_with = "json::with_key_id")]
    pub password_credentials: Vec<PasswordCredential>,
    /// Certificates.
    #[serde(default, deserialize_with = "json::with_key_id")]
    pub key_credentials: Vec<KeyCredential>,
    /// Labels.
    #[serde(default, deserialize_with = "json::or_default")]
    pub tags: Vec<String>,
    /// Free text for administrators.
    #[serde(default)]
    pub notes: Option<String>,
    /// Set when Microsoft has disabled it.
    #[serde(default)]
    pub disabled_by_microsoft_status: Option<String>,
}

/// Redirect URIs of one platform.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RedirectUris {
    /// As registered.
    #[serde(default, deserialize_with = "json::or_default")]
    pub redirect_uris: Vec<String>,
}

/// Permissions declared on one API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequiredResource {
    /// Client id of the API.
    #[serde(rename = "resourceAppId")]
    pub api: ClientId,
    /// The permissions.
    #[serde(default, rename = "resourceAccess", deserialize_with = "json::or_default")]
    pub access: Vec<RequiredAccess>,
}

/// One declared permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredAccess {
    /// Id of the app role or scope.
    pub id: Uuid,
    /// Which of the two.
    #[serde(rename = "type")]
    pub kind: AccessKind,
}

/// Application or delegated permission, as a registration declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessKind {
    /// Application permission.
    Role,
    /// Delegated permission.
    Scope,
}

/// Whose accounts may sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// This tenant's.
    #[serde(rename = "AzureADMyOrg")]
    MyTenant,
    /// Any tenant's.
    #[serde(rename = "AzureADMultipleOrgs")]
    AnyTenant,
    /// Any tenant's, and personal ones; such an app may hold two client secrets at most.
    #[serde(rename = "AzureADandPersonalMicrosoftAccount")]
    AnyTenantAndPersonal,
    /// Personal ones.
    #[serde(rename = "PersonalMicrosoftAccount")]
    Personal,
}

/// Properties to write; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationProperties {
    /// Shown in the portal; 120 characters at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Always give it when creating: documentation and service disagree on what happens without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_in_audience: Option<Audience>,
    /// Web platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web: Option<RedirectUris>,
    /// Mobile and desktop platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_client: Option<RedirectUris>,
    /// Whether public client flows are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_fallback_public_client: Option<bool>,
    /// Declared permissions: the whole list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_resource_access: Option<Vec<RequiredResource>>,
    /// Labels: the whole list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Free text for administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

/// What an upsert did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upserted {
    /// It was missing; here it is.
    Created(Box<Application>),
    /// It was there and has been updated; Graph does not show it.
    Updated,
}

/// All registrations with their credentials, page by page. Secrets cannot be filtered by date, so a survey reads all.
pub fn list(graph: &Graph) -> Pages<Application> {
    let first = graph.call(LIST, &[]).query("$select", SELECT_CREDENTIALS).query("$top", PAGE);
    Pages::new(graph, first)
}

/// The registrations called `display_name`: names are not unique.
pub fn list_named(graph: &Graph, display_name: &str) -> Pages<Application> {
    let filter = format!("displayName eq '{}'", crate::shape::quoted(display_name));
    Pages::new(graph, graph.call(LIST, &[]).query("$select", SELECT).query("$filter", &filter))
}

/// One registration by its object id.
///
/// # Errors
/// [`GraphError::NotFound`] among others.
pub async fn get(graph: &Graph, id: AppObjectId) -> Result<Application, GraphError> {
    graph.call(GET, &[&id.to_string()]).query("$select", SELECT).send().await?.json()
}

/// One registration by its client id.
///
/// # Errors
/// [`GraphError::NotFound`] among others.
pub async fn get_by_client_id(graph: &Graph, id: ClientId) -> Result<Application, GraphError> {
    graph.call(GET_BY_CLIENT_ID, &[&id.to_string()]).query("$select", SELECT).send().await?.json()
}

/// One registration by its unique name.
///
/// # Errors
/// [`GraphError::NotFound`] among others.
pub async fn get_by_unique_name(graph: &Graph, unique_name: &str) -> Result<Application, GraphError> {
    graph.call(GET_BY_UNIQUE_NAME, &[unique_name]).query("$select", SELECT).send().await?.json()
}

/// Makes a registration. Repeated, it makes another: prefer [`upsert`].
///
/// # Errors
/// Ask [`GraphError::may_have_taken_effect`] before repeating it.
pub async fn create(graph: &Graph, properties: &ApplicationProperties) -> Result<Application, GraphError> {
    graph.call(CREATE, &[]).json(properties).expect(&[201]).send().await?.json()
}

/// Makes the registration of this unique name, or updates it.
///
/// # Errors
/// Any; repeating it is safe.
pub async fn upsert(
    graph: &Graph,
    unique_name: &str,
    properties: &ApplicationProperties,
) -> Result<Upserted, GraphError> {
    let prefer = (HeaderName::from_static("prefer"), HeaderValue::from_static("create-if-missing"));
    let request = graph.call(UPSERT, &[unique_name]).json(properties).header(prefer.0, prefer.1).expect(&[201, 204]);
    let reply = request.send().await?;
    match reply.status.as_u16() {
        201 => Ok(Upserted::Created(Box::new(reply.json()?))),
        _ => Ok(Upserted::Updated),
    }
}

/// Changes properties.
///
/// # Errors
/// Any; repeating it is safe.
pub async fn update(graph: &Graph, id: AppObjectId, properties: &ApplicationProperties) -> Result<(), GraphError> {
    let request = graph.call(UPDATE, &[&id.to_string()]).json(properties).expect(&[204]).without_body();
    request.send().await.map(drop)
}

/// Deletes the registration; it can be restored for 30 days.
///
/// # Errors
/// [`GraphError::NotFound`] when there is none.
pub async fn delete(graph: &Graph, id: AppObjectId) -> Result<(), GraphError> {
    graph.call(DELETE, &[&id.to_string()]).expect(&[204]).without_body().send().await.map(drop)
}

/// Makes a client secret and returns the only copy of its text. Without `ends`, Graph gives it two years.
///
/// # Errors
/// [`GraphError::PolicyForbidsCredential`] among others. When it [may have taken effect](
/// GraphError::may_have_taken_effect), a secret may exist whose text nobody knows: find it by its display name and
/// remove it.
pub async fn add_password(
    graph: &Graph,
    id: AppObjectId,
    display_name: &str,
    ends: Option<Timestamp>,
) -> Result<NewSecret, GraphError> {
    let mut credential = json!({ "displayName": display_name });
    if let Some(ends) = ends {
        credential["endDateTime"] = json!(ends);
    }
    let request = graph.call(ADD_PASSWORD, &[&id.to_string()]).json(&json!({ "passwordCredential": credential }));
    let reply = request.send().await?;
    let added: AddedPassword = reply.json()?;
    added.into_secret().ok_or_else(|| reply.unreadable(Unreadable::Lacks("secretText")))
}

/// Removes a client secret. Tokens got with it stay valid until they end.
///
/// # Errors
/// 400 when there is no such secret, which comes as [`GraphError::Unknown`]; 404 or 409 shortly after it was made.
pub async fn remove_password(graph: &Graph, id: AppObjectId, key: KeyId) -> Result<(), GraphError> {
    let request = graph.call(REMOVE_PASSWORD, &[&id.to_string()]).json(&json!({ "keyId": key }));
    request.expect(&[204]).without_body().send().await.map(drop)
}

/// Adds a certificate. `proof` is signed with the key of a certificate that is on the application and still valid.
/// Graph's answer may not show what was added: read the application to learn its key id.
///
/// # Errors
/// Ask [`GraphError::may_have_taken_effect`] before repeating it.
pub async fn add_key(
    graph: &Graph,
    id: AppObjectId,
    certificate: &NewCertificate,
    proof: &ClientAssertion,
) -> Result<Option<KeyCredential>, GraphError> {
    let body = json!({ "keyCredential": certificate.body(), "passwordCredential": null, "proof": proof.expose() });
    let reply = graph.call(ADD_KEY, &[&id.to_string()]).json(&body).send().await?;
    Ok(reply.json().ok())
}

/// Removes a certificate, proven as for [`add_key`].
///
/// # Errors
/// Any; repeating it is safe.
pub async fn remove_key(graph: &Graph, id: AppObjectId, key: KeyId, proof: &ClientAssertion) -> Result<(), GraphError> {
    let body = json!({ "keyId": key, "proof": proof.expose() });
    graph.call(REMOVE_KEY, &[&id.to_string()]).json(&body).expect(&[204]).without_body().send().await.map(drop)
}

/// The certificates of one application with their bytes, which lists leave out.
///
/// # Errors
/// [`GraphError::NotFound`] among others.
pub async fn key_credentials(graph: &Graph, id: AppObjectId) -> Result<Vec<KeyCredential>, GraphError> {
    let reply = graph.call(GET, &[&id.to_string()]).query("$select", "id,appId,keyCredentials").send().await?;
    reply.json::<Application>().map(|application| application.key_credentials)
}

/// Adds and removes certificates without a proof, for an administrator: reads them, writes the changed list, since a
/// PATCH replaces all of it. What is there already is kept as Graph showed it, members unknown to us included. Two
/// calls; a certificate that somebody else adds between them is lost, so read again and compare afterwards.
///
/// # Errors
/// Any; repeating it is safe: a certificate that is on the application already is not added twice.
pub async fn change_key_credentials(
    graph: &Graph,
    id: AppObjectId,
    add: &[NewCertificate],
    remove: &[KeyId],
) -> Result<(), GraphError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shown {
        #[serde(default, deserialize_with = "json::or_default")]
        key_credentials: Vec<Value>,
    }
    let reply = graph.call(GET, &[&id.to_string()]).query("$select", "id,appId,keyCredentials").send().await?;
    let shown: Shown = reply.json()?;
    let merged = merged_keys(shown.key_credentials, add, remove);
    let request = graph.call(UPDATE, &[&id.to_string()]).json(&json!({ "keyCredentials": merged }));
    request.expect(&[204]).without_body().send().await.map(drop)
}

/// The list to write. Pure.
fn merged_keys(shown: Vec<Value>, add: &[NewCertificate], remove: &[KeyId]) -> Vec<Value> {
    let removed = |key: &Value| {
        let id: Option<KeyId> = key["keyId"].as_str().and_then(|id| id.parse().ok());
        id.is_some_and(|id| remove.contains(&id))
    };
    let mut keys: Vec<Value> = shown.into_iter().filter(|key| !removed(key)).collect();
    for certificate in add {
        let body = certificate.body();
        if !keys.iter().any(|key| key["key"] == body["key"]) {
            keys.push(body);
        }
    }
    keys
}

#[cfg(test)]
mod tests;
