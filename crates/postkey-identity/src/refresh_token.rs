//! The refresh token grant.

use postkey_base::{ClientId, RefreshToken};

use crate::{
    credential::ClientCredential, endpoint::TokenEndpoint, error::TokenError, scope::Scope, tenant::TenantRef,
    token::Token,
};

impl TokenEndpoint {
    /// A fresh access token for the user; the answer's refresh token replaces the old one. `scope` may name any
    /// resource the user has consented to.
    ///
    /// # Errors
    /// What Entra refused, classified.
    pub async fn refresh(
        &self,
        tenant: &TenantRef,
        client: ClientId,
        credential: Option<&ClientCredential>,
        refresh: &RefreshToken,
        scope: Option<&Scope>,
    ) -> Result<Token, TokenError> {
        let _ = (tenant, client, credential, refresh, scope);
        unimplemented!()
    }
}
