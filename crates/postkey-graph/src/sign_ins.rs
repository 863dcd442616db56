//! Which credential an app signed in with: rows of the sign-in report. Only Graph's beta edition names the credential,
//! the tenant needs Entra ID P1, and rows come late.

use jiff::Timestamp;
use postkey_base::{ClientId, KeyId, ServicePrincipalId};
use serde::{Deserialize, Serialize};

use crate::{
    error::GraphError,
    graph::Graph,
    json,
    paging::Pages,
    shape::{CallShape, Effect, Verb},
};

/// Sign-ins, newest first. Five requests in ten seconds per app and tenant.
pub const LIST: CallShape =
    CallShape::new(Verb::Get, "/auditLogs/signIns", Effect::Reads, &["AuditLog.Read.All"]).beta();

/// The report's largest page.
const PAGE: usize = 1_000;

/// One sign-in of a service principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignIn {
    /// Id of the row.
    pub id: String,
    /// When.
    #[serde(rename = "createdDateTime")]
    pub at: Timestamp,
    /// The app.
    #[serde(default, rename = "appId", deserialize_with = "json::parsed")]
    pub client_id: Option<ClientId>,
    /// Its service principal.
    #[serde(default, deserialize_with = "json::parsed")]
    pub service_principal_id: Option<ServicePrincipalId>,
    /// The secret or certificate it used.
    #[serde(default, rename = "servicePrincipalCredentialKeyId", deserialize_with = "json::parsed")]
    pub key_id: Option<KeyId>,
    /// The certificate's thumbprint, where it was one.
    #[serde(default, rename = "servicePrincipalCredentialThumbprint")]
    pub thumbprint: Option<String>,
    /// `clientSecret`, `certificate`, `clientAssertion`, `federatedIdentityCredential`, `managedIdentity`, `none`.
    #[serde(default, rename = "clientCredentialType")]
    pub credential_type: Option<String>,
    /// Where from.
    #[serde(default)]
    pub ip_address: Option<String>,
    /// The API it asked for.
    #[serde(default, rename = "resourceDisplayName")]
    pub api_name: Option<String>,
    /// How it ended.
    #[serde(default)]
    pub status: Option<SignInStatus>,
}

/// How a sign-in ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignInStatus {
    /// The AADSTS number, 0 for success.
    #[serde(default)]
    pub error_code: i64,
    /// In words.
    #[serde(default)]
    pub failure_reason: Option<String>,
}

impl SignIn {
    /// Whether it gave a token.
    pub fn succeeded(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.error_code == 0)
    }
}

/// The newest `count` sign-ins of an app as itself since `since`.
///
/// # Errors
/// [`GraphError::AccessDenied`] without the permission or the licence.
pub async fn of_app(
    graph: &Graph,
    client_id: ClientId,
    since: Timestamp,
    count: usize,
) -> Result<Vec<SignIn>, GraphError> {
    let filter = format!(
        "signInEventTypes/any(t: t eq 'servicePrincipal') and appId eq '{client_id}' and createdDateTime ge {since}"
    );
    let first = graph.call(LIST, &[]).query("$filter", &filter).query("$top", &count.clamp(1, PAGE).to_string());
    Pages::new(graph, first).first(count).await
}
