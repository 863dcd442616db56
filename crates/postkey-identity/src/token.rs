//! What a successful token answer holds.

use jiff::Timestamp;
use postkey_base::{AccessToken, RefreshToken, TenantId, UserObjectId};
use serde::Deserialize;

/// A successful answer.
#[derive(Debug, Clone)]
pub struct Token {
    /// For the API.
    pub access: AccessToken,
    /// When it was asked for, by our clock.
    pub received_at: Timestamp,
    /// When it ends, by our clock.
    pub expires_at: Timestamp,
    /// When Entra advises to renew, if it does.
    pub refresh_at: Option<Timestamp>,
    /// The newest refresh token: it replaces the one before.
    pub refresh: Option<RefreshToken>,
    /// Who signed in. Read over the TLS channel from the token endpoint, therefore without its signature.
    pub id: Option<IdClaims>,
    /// Granted scopes, user grants only.
    pub scope: Option<String>,
    /// Whose account, user grants only.
    pub client_info: Option<ClientInfo>,
}

/// Checked claims of an ID token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct IdClaims {
    /// The user's tenant.
    pub tid: TenantId,
    /// The user's object id there.
    pub oid: UserObjectId,
    /// Pairwise subject.
    pub sub: String,
    /// Sign-in name, for display only.
    #[serde(default)]
    pub preferred_username: Option<String>,
    /// Name, for display only.
    #[serde(default)]
    pub name: Option<String>,
    /// Email, when the account has one and it was asked for.
    #[serde(default)]
    pub email: Option<String>,
}

/// `client_info` of a user grant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ClientInfo {
    /// The user's object id in the home tenant.
    pub uid: String,
    /// The user's home tenant.
    pub utid: String,
}
