//! The client credentials grant: a token for the app itself.

use postkey_base::ClientId;

use crate::{
    credential::ClientCredential,
    endpoint::{Form, TokenEndpoint, text},
    error::TokenError,
    refusal::Grant,
    scope::Scope,
    tenant::TenantRef,
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
        let url = self.cloud().token_endpoint(tenant);
        let mut fields = vec![
            ("grant_type", text("client_credentials")),
            ("client_id", text(&client.to_string())),
            ("scope", text(scope.as_str())),
        ];
        if let Some(claims) = claims {
            fields.push(("claims", text(claims)));
        }
        let presented = self.present(credential, client, &url, &mut fields).await.map_err(TokenError::Credential)?;
        let context = self.context(tenant, client, Grant::ClientCredentials, Some(scope));
        // Asking twice for an app's token has no effect but a second token.
        self.ask_token(&Form { url, context, fields, repeatable: true, presented, nonce: None }).await
    }
}
