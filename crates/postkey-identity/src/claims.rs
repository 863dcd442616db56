//! What an access token seems to say. Microsoft declares access tokens opaque to clients: read them to show or to probe,
//! never to decide what an app may do, and expect any of it to be absent.

use postkey_base::{AccessToken, ClientId};
use serde::Deserialize;
use uuid::Uuid;

/// The claims a diagnosis shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AccessClaims {
    /// Audience.
    pub aud: Option<String>,
    /// Application permissions.
    pub roles: Vec<String>,
    /// Delegated permissions, space-separated.
    pub scp: Option<String>,
    /// Object id of the user, or of the app's service principal.
    pub oid: Option<Uuid>,
    /// Tenant.
    pub tid: Option<Uuid>,
    /// Client id, in v1.0 tokens.
    pub appid: Option<ClientId>,
    /// Client id, in v2.0 tokens.
    pub azp: Option<ClientId>,
    /// The user's sign-in name.
    pub upn: Option<String>,
}

impl AccessClaims {
    /// `None` when the token is not a readable JWT, which is no fault.
    pub fn of(token: &AccessToken) -> Option<Self> {
        crate::token::jwt_payload(token.expose())
    }

    /// The client the token was issued to, in either version.
    pub fn client(&self) -> Option<ClientId> {
        self.appid.or(self.azp)
    }

    /// Whether `permission` is among the app roles or the delegated scopes.
    pub fn carries(&self, permission: &str) -> bool {
        self.roles.iter().any(|role| role == permission)
            || self.scp.as_deref().is_some_and(|scp| scp.split(' ').any(|scope| scope == permission))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opaque_token_is_no_fault() {
        assert_eq!(AccessClaims::of(&AccessToken::new("EwBwA8l6BAAU".into())), None);
        // {"roles":["Mail.Send"],"appid":"11111111-1111-4111-8111-111111111111","unknown":1}
        let token = "e30.eyJyb2xlcyI6WyJNYWlsLlNlbmQiXSwiYXBwaWQiOiIxMTExMTExMS0xMTExLTQxMTEtODExMS0xMTExMTExMTExMTEiLCJ1bmtub3duIjoxfQ.c2ln";
        let claims = AccessClaims::of(&AccessToken::new(token.into())).unwrap();
        assert!(claims.carries("Mail.Send") && !claims.carries("Mail"));
        assert_eq!(claims.client().unwrap().to_string(), "11111111-1111-4111-8111-111111111111");
    }
}
