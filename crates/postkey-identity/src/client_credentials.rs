//! The client credentials grant: a token for the app itself.

use postkey_base::ClientId;

use crate::{
    credential::ClientCredential, endpoint::TokenEndpoint, error::TokenError, scope::Scope, tenant::TenantRef,
    token::Token,
};

impl TokenEndpoint {
    /// A token for the app. `tenant` must be one tenant, `scope` one resource's `.default`; `claims` is a claims
    /// challenge to satisfy, JSON.
    ///
    /// # Errors
    /// What Entra refused, classified.
    pub async fn client_credentials(
        &self,
        tenant: &TenantRef,
        client: ClientId,
        credential: &ClientCredential,
        scope: &Scope,
        claims: Option<&str>,
    ) -> Result<Token, TokenError> {
        let _ = (tenant, client, credential, scope, claims);
        unimplemented!()
    }
}
