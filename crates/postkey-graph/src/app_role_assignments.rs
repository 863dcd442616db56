//! Application permissions granted to an app: app role assignments of its service principal.

use jiff::Timestamp;
use postkey_base::{AppRoleId, ServicePrincipalId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    error::GraphError,
    graph::Graph,
    paging::Pages,
    shape::{CallShape, Effect, Verb},
};

const READ: &[&str] = &["Application.Read.All"];

/// What an app has been granted.
pub const LIST: CallShape =
    CallShape::new(Verb::Get, "/servicePrincipals/{id}/appRoleAssignments", Effect::Reads, READ);
/// Grants one permission: admin consent for it, at once.
pub const GRANT: CallShape = CallShape::new(
    Verb::Post,
    "/servicePrincipals/{apiId}/appRoleAssignedTo",
    Effect::Adds,
    &["AppRoleAssignment.ReadWrite.All", "Application.Read.All"],
);
/// Takes one permission away.
pub const REVOKE: CallShape = CallShape::new(
    Verb::Delete,
    "/servicePrincipals/{apiId}/appRoleAssignedTo/{assignmentId}",
    Effect::Settles,
    &["AppRoleAssignment.ReadWrite.All"],
);

/// Graph: at most 1,500 app role assignments per principal.
pub const MOST_PER_APP: usize = 1_500;

/// One granted application permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppRoleAssignment {
    /// Base64url text, not a GUID.
    pub id: String,
    /// The permission.
    pub app_role_id: AppRoleId,
    /// Who holds it.
    pub principal_id: ServicePrincipalId,
    /// The API it is good for.
    #[serde(rename = "resourceId")]
    pub api_id: ServicePrincipalId,
    /// The API's name.
    #[serde(default, rename = "resourceDisplayName")]
    pub api_name: Option<String>,
    /// When it was granted.
    #[serde(default, rename = "createdDateTime")]
    pub created: Option<Timestamp>,
}

/// What `principal` has been granted, at one API or at all.
///
/// # Errors
/// [`GraphError::NotFound`] for a while after the service principal was made.
pub async fn list(
    graph: &Graph,
    principal: ServicePrincipalId,
    api: Option<ServicePrincipalId>,
) -> Result<Vec<AppRoleAssignment>, GraphError> {
    let mut first = graph.call(LIST, &[&principal.to_string()]);
    if let Some(api) = api {
        first = first.query("$filter", &format!("resourceId eq {api}"));
    }
    Pages::new(graph, first).all(MOST_PER_APP).await
}

/// Grants `role` of `api` to `principal`. Granting twice is an error: [`list`] first.
///
/// # Errors
/// [`GraphError::may_be_replication_lag`] holds for a while after either service principal was made.
pub async fn grant(
    graph: &Graph,
    principal: ServicePrincipalId,
    api: ServicePrincipalId,
    role: AppRoleId,
) -> Result<AppRoleAssignment, GraphError> {
    let body = json!({ "principalId": principal, "resourceId": api, "appRoleId": role });
    graph.call(GRANT, &[&api.to_string()]).json(&body).expect(&[201]).send().await?.json()
}

/// Grants `role` unless it is granted already: up to three calls, and safe to repeat.
///
/// # Errors
/// As [`list`] and [`grant`].
pub async fn ensure(
    graph: &Graph,
    principal: ServicePrincipalId,
    api: ServicePrincipalId,
    role: AppRoleId,
) -> Result<AppRoleAssignment, GraphError> {
    let granted = |held: Vec<AppRoleAssignment>| held.into_iter().find(|held| held.app_role_id == role);
    if let Some(held) = granted(list(graph, principal, Some(api)).await?) {
        return Ok(held);
    }
    match grant(graph, principal, api, role).await {
        // The list lags behind the write, or an earlier try went through: Graph has one code for many refusals, so look.
        Err(error @ GraphError::Unknown(_)) => granted(list(graph, principal, Some(api)).await?).ok_or(error),
        answered => answered,
    }
}

/// Takes an assignment away. Tokens that show it stay valid until they end.
///
/// # Errors
/// [`GraphError::NotFound`] when there is none.
pub async fn revoke(graph: &Graph, api: ServicePrincipalId, assignment: &str) -> Result<(), GraphError> {
    graph.call(REVOKE, &[&api.to_string(), assignment]).expect(&[204]).without_body().send().await.map(drop)
}
