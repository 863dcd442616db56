//! What the login host tells of a tenant to anybody: whether it exists, and its id.

use postkey_base::{ClientId, TenantId};
use serde::Deserialize;
use url::Url;
use uuid::Uuid;

use crate::{endpoint::TokenEndpoint, error::TokenError, refusal::Grant, tenant::TenantRef};

/// The part of the OpenID configuration that is read here.
#[derive(Deserialize)]
struct Configuration {
    token_endpoint: Url,
}

impl TokenEndpoint {
    /// The id of a tenant known by one of its domains, or by its id. Needs no credential.
    ///
    /// # Errors
    /// [`TokenError::TenantNotFound`] when this cloud has no such tenant.
    pub async fn tenant_id(&self, tenant: &TenantRef) -> Result<TenantId, TokenError> {
        // No app takes part: the context only names the tenant.
        let context = self.context(tenant, ClientId::new(Uuid::nil()), Grant::Discovery, None);
        let answer = self.read(self.cloud().discovery_endpoint(tenant), context.clone()).await?;
        let unexpected = |problem| context.unexpected(answer.status, problem);
        let configuration: Configuration =
            serde_json::from_slice(&answer.body).map_err(|_| unexpected("it is no OpenID configuration"))?;
        // The tenant's id stands in the path of the token endpoint, whatever name was asked for.
        let id =
            configuration.token_endpoint.path_segments().and_then(|mut path| path.find_map(|part| part.parse().ok()));
        id.ok_or_else(|| unexpected("its token endpoint does not name a tenant"))
    }
}
