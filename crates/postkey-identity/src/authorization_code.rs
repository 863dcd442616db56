//! The authorization code grant with PKCE: the address a browser goes to, what comes back, and its redemption.

use std::{fmt, str::FromStr};

use postkey_base::ClientId;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    cloud::Cloud, credential::ClientCredential, endpoint::TokenEndpoint, error::TokenError, scope::Scope,
    tenant::TenantRef, token::Token,
};

/// A redirect URI exactly as registered and sent: Entra compares it letter by letter, so it is never normalised.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RedirectUri(String);

/// Why a text is no redirect URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{uri:?} cannot be a redirect URI: {reason}")]
pub struct RedirectError {
    uri: String,
    reason: &'static str,
}

/// Which page Entra shows first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// Ask for the password even with a session.
    Login,
    /// Show the consent page.
    Consent,
    /// Let the user choose an account.
    SelectAccount,
    /// Show nothing; fail if something must be shown.
    None,
}

/// What a sign-in asks for.
#[derive(Debug, Clone)]
pub struct AuthorizationParameters {
    /// Where to sign in.
    pub tenant: TenantRef,
    /// For which app.
    pub client: ClientId,
    /// Where the browser comes back to.
    pub redirect: RedirectUri,
    /// What for.
    pub scope: Scope,
    /// Which page first.
    pub prompt: Option<Prompt>,
    /// Account to fill in; not together with [`Prompt::SelectAccount`].
    pub login_hint: Option<String>,
    /// A claims challenge to satisfy, JSON as received.
    pub claims: Option<String>,
}

/// A started sign-in: keep it until the browser comes back.
#[derive(Clone)]
pub struct AuthorizationRequest {
    /// Where the browser goes.
    pub url: Url,
    /// What must come back.
    pub state: String,
    pub(crate) nonce: String,
    pub(crate) verifier: zeroize::Zeroizing<String>,
    pub(crate) parameters: AuthorizationParameters,
}

/// A code from the redirect: ten minutes, one use.
#[derive(Clone)]
pub struct AuthorizationCode(zeroize::Zeroizing<String>);

impl AuthorizationRequest {
    /// Makes state, nonce and verifier, and the address to open.
    pub fn new(cloud: &Cloud, parameters: AuthorizationParameters) -> Self {
        let _ = (cloud, parameters);
        unimplemented!()
    }

    /// Reads the query (or form) that the browser brought back to the redirect URI.
    ///
    /// # Errors
    /// [`TokenError::StateMismatch`] for an answer to another sign-in, else what Entra reported.
    pub fn answer<'a>(
        &self,
        cloud: &Cloud,
        query: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<AuthorizationCode, TokenError> {
        let _ = (cloud, query.into_iter());
        unimplemented!()
    }
}

impl TokenEndpoint {
    /// Redeems a code. `credential` is none for public clients. The ID token's audience, issuer, nonce and expiry are
    /// checked when one comes.
    ///
    /// # Errors
    /// What Entra refused, classified.
    pub async fn redeem_code(
        &self,
        request: &AuthorizationRequest,
        code: &AuthorizationCode,
        credential: Option<&ClientCredential>,
    ) -> Result<Token, TokenError> {
        let _ = (request, code, credential);
        unimplemented!()
    }
}

impl fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationRequest").field("parameters", &self.parameters).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthorizationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorizationCode(..)")
    }
}

impl RedirectUri {
    /// As it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RedirectUri {
    type Err = RedirectError;

    fn from_str(text: &str) -> Result<Self, RedirectError> {
        let bad = |reason| RedirectError { uri: text.to_owned(), reason };
        let url = Url::parse(text).map_err(|_| bad("it is not an address"))?;
        let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1"));
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(bad("it must be https, or http on localhost or 127.0.0.1"));
        }
        if text.len() > 256 {
            return Err(bad("it is longer than 256 characters"));
        }
        if url.fragment().is_some() {
            return Err(bad("it may not carry a fragment"));
        }
        if text.contains(|c: char| "!$'(),; ".contains(c) || c.is_control()) {
            return Err(bad("one of its characters is not allowed"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for RedirectUri {
    type Error = RedirectError;

    fn try_from(text: String) -> Result<Self, RedirectError> {
        text.parse()
    }
}

impl From<RedirectUri> for String {
    fn from(uri: RedirectUri) -> Self {
        uri.0
    }
}

impl fmt::Display for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
