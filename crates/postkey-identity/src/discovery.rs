//! What the login host tells of a tenant to anybody: whether it exists, and its id.

use postkey_base::{ClientId, TenantId};
use serde::Deserialize;
use url::Url;
use uuid::Uuid;

use crate::{
    answer::{Presented, judge},
    endpoint::TokenEndpoint,
    error::TokenError,
    refusal::Grant,
    tenant::TenantRef,
};

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
        let context = self.context(tenant, ClientId::new(Uuid::nil()), Grant::ClientCredentials, None);
        let answer = self.read(&self.cloud().discovery_endpoint(tenant)).await.map_err(TokenError::Network)?;
        if answer.status != 200 {
            return Err(judge(&answer, &context, Presented::default()));
        }
        let unexpected = |problem| context.unexpected(answer.status, problem);
        let configuration: Configuration =
            serde_json::from_slice(&answer.body).map_err(|_| unexpected("it is no OpenID configuration"))?;
        // The tenant's id stands in the first segment of the token endpoint, whatever name was asked for.
        let first = configuration.token_endpoint.path_segments().and_then(|mut segments| segments.next());
        first
            .and_then(|segment| segment.parse().ok())
            .ok_or_else(|| unexpected("its token endpoint does not name a tenant"))
    }
}
