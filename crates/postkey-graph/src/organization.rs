//! The tenant itself.

use postkey_base::TenantId;
use serde::{Deserialize, Serialize};

use crate::{
    error::{GraphError, Unreadable},
    graph::Graph,
    json,
    shape::{CallShape, Effect, Verb},
};

/// A list of exactly one.
pub const GET: CallShape = CallShape::new(Verb::Get, "/organization", Effect::Reads, &["Organization.Read.All"]);

const SELECT: &str = "id,displayName,tenantType,verifiedDomains";

/// A tenant as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Organization {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    #[serde(default, deserialize_with = "json::or_default")]
    pub display_name: String,
    /// `AAD` for an ordinary one.
    #[serde(default)]
    pub tenant_type: Option<String>,
    /// Its domains.
    #[serde(default, deserialize_with = "json::or_default")]
    pub verified_domains: Vec<VerifiedDomain>,
}

/// One domain of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedDomain {
    /// `contoso.example`
    #[serde(default, deserialize_with = "json::or_default")]
    pub name: String,
    /// New users get it.
    #[serde(default, deserialize_with = "json::or_default")]
    pub is_default: bool,
    /// The one ending in `.onmicrosoft.com` that the tenant began with.
    #[serde(default, deserialize_with = "json::or_default")]
    pub is_initial: bool,
}

/// The tenant that the token is for.
///
/// # Errors
/// Any.
pub async fn get(graph: &Graph) -> Result<Organization, GraphError> {
    #[derive(Deserialize)]
    struct Page {
        value: Vec<Organization>,
    }
    let reply = graph.call(GET, &[]).query("$select", SELECT).send().await?;
    let page: Page = reply.json()?;
    page.value.into_iter().next().ok_or_else(|| reply.unreadable(Unreadable::Lacks("organization")))
}
