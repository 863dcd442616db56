//! Service principals: what an app, ours or an API's, is within one tenant.

use postkey_base::{AppRoleId, ClientId, ServicePrincipalId, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::{
    credentials::{KeyCredential, PasswordCredential},
    error::GraphError,
    graph::Graph,
    json,
    paging::Pages,
    shape::{CallShape, Effect, Verb},
};

const READ: &[&str] = &["Application.Read.All"];
const WRITE: &[&str] = &["Application.ReadWrite.All"];

/// All service principals, page by page.
pub const LIST: CallShape = CallShape::new(Verb::Get, "/servicePrincipals", Effect::Reads, READ);
/// One by its object id.
pub const GET: CallShape = CallShape::new(Verb::Get, "/servicePrincipals/{id}", Effect::Reads, READ);
/// One by its app's client id.
pub const GET_BY_CLIENT_ID: CallShape =
    CallShape::new(Verb::Get, "/servicePrincipals(appId='{clientId}')", Effect::Reads, READ);
/// Makes the service principal of an app; a tenant holds one per app.
pub const CREATE: CallShape = CallShape::new(Verb::Post, "/servicePrincipals", Effect::Adds, WRITE);
/// Removes it, and with it all it was granted.
pub const DELETE: CallShape = CallShape::new(Verb::Delete, "/servicePrincipals/{id}", Effect::Settles, WRITE);

const SELECT: &str = "id,appId,displayName,accountEnabled,servicePrincipalType,appOwnerOrganizationId,appRoles,\
                      oauth2PermissionScopes,passwordCredentials,keyCredentials,tags,disabledByMicrosoftStatus";
const SELECT_LISTED: &str = "id,appId,displayName,accountEnabled,servicePrincipalType,appOwnerOrganizationId,\
                             passwordCredentials,keyCredentials,tags,disabledByMicrosoftStatus";
const PAGE: &str = "999";

/// An app inside one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePrincipal {
    /// Object id (the portal's *Enterprise application* object id).
    pub id: ServicePrincipalId,
    /// Client id of its app.
    #[serde(rename = "appId")]
    pub client_id: ClientId,
    /// Shown in the portal.
    #[serde(default, deserialize_with = "json::or_default")]
    pub display_name: String,
    /// Whether it may sign in; not told means yes.
    #[serde(default)]
    pub account_enabled: Option<bool>,
    /// `Application`, `ManagedIdentity` and others.
    #[serde(default)]
    pub service_principal_type: Option<String>,
    /// The tenant its app is registered in.
    #[serde(default, rename = "appOwnerOrganizationId")]
    pub owner_tenant: Option<TenantId>,
    /// Application permissions that it offers; not told in lists.
    #[serde(default, deserialize_with = "json::or_default")]
    pub app_roles: Vec<AppRole>,
    /// Delegated permissions that it offers; not told in lists.
    #[serde(default, rename = "oauth2PermissionScopes", deserialize_with = "json::or_default")]
    pub scopes: Vec<DelegatedScope>,
    /// Client secrets that work in this tenant only.
    #[serde(default, deserialize_with = "json::with_key_id")]
    pub password_credentials: Vec<PasswordCredential>,
    /// Certificates that work in this tenant only.
    #[serde(default, deserialize_with = "json::with_key_id")]
    pub key_credentials: Vec<KeyCredential>,
    /// Labels.
    #[serde(default, deserialize_with = "json::or_default")]
    pub tags: Vec<String>,
    /// Set when Microsoft has disabled it.
    #[serde(default)]
    pub disabled_by_microsoft_status: Option<String>,
}

/// An application permission that an API offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppRole {
    /// What an assignment names.
    pub id: AppRoleId,
    /// What the token's `roles` will say: `Mail.Send`.
    #[serde(default)]
    pub value: Option<String>,
    /// A sentence for consent pages.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Whether it can be assigned now.
    #[serde(default, deserialize_with = "json::or_default")]
    pub is_enabled: bool,
    /// `Application`, `User`.
    #[serde(default, deserialize_with = "json::or_default")]
    pub allowed_member_types: Vec<String>,
}

/// A delegated permission that an API offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DelegatedScope {
    /// What a declaration names.
    pub id: Uuid,
    /// What grants and tokens say: `Mail.Send`.
    #[serde(default)]
    pub value: Option<String>,
    /// `User` or `Admin`: who may consent.
    #[serde(default, rename = "type")]
    pub consent: Option<String>,
    /// Whether it can be granted now.
    #[serde(default, deserialize_with = "json::or_default")]
    pub is_enabled: bool,
}

impl ServicePrincipal {
    /// The application permission of that name that this API offers to apps.
    pub fn app_role(&self, value: &str) -> Option<&AppRole> {
        self.app_roles.iter().find(|role| {
            role.value.as_deref() == Some(value)
                && (role.allowed_member_types.is_empty()
                    || role.allowed_member_types.iter().any(|kind| kind.eq_ignore_ascii_case("Application")))
        })
    }

    /// The application permission with that id.
    pub fn app_role_with(&self, id: AppRoleId) -> Option<&AppRole> {
        self.app_roles.iter().find(|role| role.id == id)
    }

    /// The delegated permission of that name.
    pub fn scope(&self, value: &str) -> Option<&DelegatedScope> {
        self.scopes.iter().find(|scope| scope.value.as_deref() == Some(value))
    }
}

/// All service principals of the tenant.
pub fn list(graph: &Graph) -> Pages<ServicePrincipal> {
    Pages::new(graph, graph.call(LIST, &[]).query("$select", SELECT_LISTED).query("$top", PAGE))
}

/// One by its object id.
///
/// # Errors
/// [`GraphError::NotFound`] among others.
pub async fn get(graph: &Graph, id: ServicePrincipalId) -> Result<ServicePrincipal, GraphError> {
    graph.call(GET, &[&id.to_string()]).query("$select", SELECT).send().await?.json()
}

/// One by its app's client id.
///
/// # Errors
/// [`GraphError::NotFound`] when the tenant has none.
pub async fn get_by_client_id(graph: &Graph, id: ClientId) -> Result<ServicePrincipal, GraphError> {
    graph.call(GET_BY_CLIENT_ID, &[&id.to_string()]).query("$select", SELECT).send().await?.json()
}

/// Makes the service principal of an app.
///
/// # Errors
/// [`GraphError::NotReplicatedYet`] or [`GraphError::AccessDenied`] for a while after the app was registered.
pub async fn create(graph: &Graph, client_id: ClientId) -> Result<ServicePrincipal, GraphError> {
    graph.call(CREATE, &[]).json(&json!({ "appId": client_id })).expect(&[201]).send().await?.json()
}

/// Removes it.
///
/// # Errors
/// [`GraphError::NotFound`] when there is none.
pub async fn delete(graph: &Graph, id: ServicePrincipalId) -> Result<(), GraphError> {
    graph.call(DELETE, &[&id.to_string()]).expect(&[204]).without_body().send().await.map(drop)
}
