//! The refresh token grant.

use postkey_base::{ClientId, RefreshToken};

use crate::{
    answer::Presented,
    credential::ClientCredential,
    endpoint::{Form, TokenEndpoint, text},
    error::TokenError,
    refusal::Grant,
    scope::Scope,
    tenant::TenantRef,
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
        let url = self.cloud().token_endpoint(tenant);
        let mut fields = vec![
            ("grant_type", text("refresh_token")),
            ("client_id", text(&client.to_string())),
            ("refresh_token", text(refresh.expose())),
            ("client_info", text("1")),
        ];
        if let Some(scope) = scope {
            fields.push(("scope", text(scope.as_str())));
        }
        let presented = match credential {
            Some(credential) => {
                self.present(credential, client, &url, &mut fields).await.map_err(TokenError::Credential)?
            }
            None => Presented::default(),
        };
        let context = self.context(tenant, client, Grant::RefreshToken, scope);
        // Use does not revoke a refresh token, so an answer that got lost can be asked for again.
        self.ask_token(&Form { url, context, fields, repeatable: true, presented, nonce: None }).await
    }
}
