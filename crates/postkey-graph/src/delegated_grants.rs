//! Delegated permissions granted to an app, for one user or for everyone: Graph's `oauth2PermissionGrants`.

use std::collections::BTreeSet;

use postkey_base::{ServicePrincipalId, UserObjectId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    error::GraphError,
    graph::Graph,
    json,
    paging::Pages,
    shape::{CallShape, Effect, Verb},
};

const WRITE: &[&str] = &["DelegatedPermissionGrant.ReadWrite.All"];

/// The grants of one app.
pub const LIST: CallShape =
    CallShape::new(Verb::Get, "/oauth2PermissionGrants", Effect::Reads, &["Directory.Read.All"]);
/// A grant for one API.
pub const CREATE: CallShape = CallShape::new(Verb::Post, "/oauth2PermissionGrants", Effect::Adds, WRITE);
/// Replaces its list of permissions.
pub const UPDATE: CallShape = CallShape::new(Verb::Patch, "/oauth2PermissionGrants/{id}", Effect::Settles, WRITE);
/// Takes it away.
pub const DELETE: CallShape = CallShape::new(Verb::Delete, "/oauth2PermissionGrants/{id}", Effect::Settles, WRITE);

/// Grants read of one app: one per API for everyone, and one per API and user who consented.
const MOST_GRANTS: usize = 10_000;

/// Delegated permissions of one app at one API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DelegatedGrant {
    /// Text, not a GUID.
    pub id: String,
    /// The app's service principal; an object id, despite its name on the wire.
    #[serde(rename = "clientId")]
    pub app: ServicePrincipalId,
    /// The API's service principal.
    #[serde(rename = "resourceId")]
    pub api: ServicePrincipalId,
    /// For whom.
    #[serde(default)]
    pub consent_type: Option<ConsentType>,
    /// The user, when it is for one.
    #[serde(default)]
    pub principal_id: Option<UserObjectId>,
    /// Permissions, separated by blanks.
    #[serde(default, deserialize_with = "json::or_default")]
    pub scope: String,
}

/// For whom a grant holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsentType {
    /// Everyone in the tenant: admin consent.
    AllPrincipals,
    /// One user.
    Principal,
    /// Not known here.
    #[serde(other)]
    Other,
}

impl DelegatedGrant {
    /// Each permission by itself.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.split_ascii_whitespace()
    }
}

/// All grants that `app` holds.
///
/// # Errors
/// Any.
pub async fn list(graph: &Graph, app: ServicePrincipalId) -> Result<Vec<DelegatedGrant>, GraphError> {
    let first = graph.call(LIST, &[]).query("$filter", &format!("clientId eq '{app}'"));
    Pages::new(graph, first).all(MOST_GRANTS).await
}

/// Grants permissions of `api` to `app` for everyone. A second grant for the same API conflicts: [`list`] first.
///
/// # Errors
/// Any.
pub async fn create_for_everyone(
    graph: &Graph,
    app: ServicePrincipalId,
    api: ServicePrincipalId,
    scopes: &[&str],
) -> Result<DelegatedGrant, GraphError> {
    let body = json!({
        "clientId": app,
        "consentType": "AllPrincipals",
        "principalId": null,
        "resourceId": api,
        "scope": scopes.join(" "),
    });
    graph.call(CREATE, &[]).json(&body).expect(&[201]).send().await?.json()
}

/// Replaces the permissions of a grant.
///
/// # Errors
/// [`GraphError::NotFound`] among others; repeating it is safe.
pub async fn replace_scopes(graph: &Graph, grant: &str, scopes: &[&str]) -> Result<(), GraphError> {
    let request = graph.call(UPDATE, &[grant]).json(&json!({ "scope": scopes.join(" ") }));
    request.expect(&[204]).without_body().send().await.map(drop)
}

/// Sees to it that everyone's grant of `app` at `api` holds these permissions besides what it holds already.
/// Up to two calls, and safe to repeat.
///
/// # Errors
/// Any.
pub async fn ensure_for_everyone(
    graph: &Graph,
    app: ServicePrincipalId,
    api: ServicePrincipalId,
    scopes: &[&str],
) -> Result<(), GraphError> {
    let held = list(graph, app).await?;
    let held = held.iter().find(|held| held.api == api && held.consent_type == Some(ConsentType::AllPrincipals));
    match held {
        None => create_for_everyone(graph, app, api, scopes).await.map(drop),
        Some(held) => match missing(held, scopes) {
            Some(all) => replace_scopes(graph, &held.id, &all).await,
            None => Ok(()),
        },
    }
}

/// The list to write so that nothing held is lost; `None` when nothing is missing. Pure.
fn missing<'a>(held: &'a DelegatedGrant, wanted: &[&'a str]) -> Option<Vec<&'a str>> {
    let holds = |scope: &str| held.scopes().any(|have| have.eq_ignore_ascii_case(scope));
    if wanted.iter().all(|scope| holds(scope)) {
        return None;
    }
    let mut all: Vec<&str> = held.scopes().collect();
    let mut added = BTreeSet::new();
    all.extend(wanted.iter().filter(|scope| !holds(scope) && added.insert(**scope)));
    Some(all)
}

/// Takes a grant away: users are asked again.
///
/// # Errors
/// [`GraphError::NotFound`] when there is none.
pub async fn delete(graph: &Graph, grant: &str) -> Result<(), GraphError> {
    graph.call(DELETE, &[grant]).expect(&[204]).without_body().send().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_grant_holds_already_is_kept() {
        let held: DelegatedGrant = serde_json::from_value(json!({
            "id": "x", "clientId": "9028d19c-26a9-4809-8e3f-20ff73e2d75e", "scope": " User.Read Mail.Send",
            "resourceId": "33ad69f9-da99-4bed-acd0-3f24235cb296", "consentType": "AllPrincipals", "principalId": null,
        }))
        .unwrap();
        assert_eq!(missing(&held, &["mail.send"]), None);
        assert_eq!(
            missing(&held, &["Mail.Read", "Mail.Send", "Mail.Read"]),
            Some(vec!["User.Read", "Mail.Send", "Mail.Read"])
        );
    }
}
