//! The authorization code grant with PKCE: the address a browser goes to, what comes back, and its redemption.

use std::{fmt, str::FromStr, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use postkey_base::ClientId;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    answer::{Presented, by_redirect, classify},
    cloud::Cloud,
    credential::ClientCredential,
    endpoint::{Form, TokenEndpoint, text},
    error::TokenError,
    refusal::{Grant, RequestContext},
    scope::Scope,
    tenant::TenantRef,
    token::Token,
};

/// Entra sends about ten.
const FIELDS_LIMIT: usize = 32;

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
    nonce: String,
    verifier: Zeroizing<String>,
    parameters: AuthorizationParameters,
}

/// A code from the redirect: ten minutes, one use.
#[derive(Clone)]
pub struct AuthorizationCode(Zeroizing<String>);

impl AuthorizationRequest {
    /// Makes state, nonce and verifier, and the address to open.
    pub fn new(cloud: &Cloud, parameters: AuthorizationParameters) -> Self {
        let (state, nonce, verifier) = (random_text(), random_text(), Zeroizing::new(random_text()));
        let mut url = cloud.authorize_endpoint(&parameters.tenant);
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("client_id", &parameters.client.to_string())
                .append_pair("response_type", "code")
                .append_pair("redirect_uri", parameters.redirect.as_str())
                .append_pair("response_mode", "query")
                .append_pair("scope", parameters.scope.as_str())
                .append_pair("state", &state)
                .append_pair("nonce", &nonce)
                .append_pair("code_challenge", &challenge(&verifier))
                .append_pair("code_challenge_method", "S256");
            if let Some(prompt) = parameters.prompt {
                query.append_pair("prompt", prompt.as_str());
            }
            // Entra refuses the two together.
            if let Some(hint) =
                parameters.login_hint.as_ref().filter(|_| parameters.prompt != Some(Prompt::SelectAccount))
            {
                query.append_pair("login_hint", hint);
            }
            if let Some(claims) = &parameters.claims {
                query.append_pair("claims", claims);
            }
        }
        Self { url, state, nonce, verifier, parameters }
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
        let fields: Vec<(&str, &str)> = query.into_iter().take(FIELDS_LIMIT).collect();
        let field = |name: &str| fields.iter().find(|(have, _)| *have == name).map(|(_, value)| *value);
        if field("state") != Some(self.state.as_str()) {
            return Err(TokenError::StateMismatch);
        }
        let context = self.context(Arc::new(cloud.clone()));
        if let Some(refusal) = by_redirect(context.clone(), field) {
            return Err(classify(refusal, Presented::default()));
        }
        match field("code").filter(|code| !code.is_empty()) {
            Some(code) => Ok(AuthorizationCode(Zeroizing::new(code.to_owned()))),
            None => Err(context.unexpected(200, "the browser brought neither a code nor an error")),
        }
    }

    fn context(&self, cloud: Arc<Cloud>) -> RequestContext {
        RequestContext {
            cloud,
            tenant: self.parameters.tenant.clone(),
            client: self.parameters.client,
            grant: Grant::AuthorizationCode,
            scope: self.parameters.scope.to_string(),
            redirect: Some(self.parameters.redirect.to_string()),
        }
    }
}

impl AuthorizationCode {
    /// A code that reached us by another way than [`AuthorizationRequest::answer`].
    pub fn new(code: String) -> Self {
        Self(Zeroizing::new(code))
    }
}

impl Prompt {
    fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Consent => "consent",
            Self::SelectAccount => "select_account",
            Self::None => "none",
        }
    }
}

/// 256 random bits in 43 characters of `[A-Za-z0-9-_]`: also the least length of a verifier (RFC 7636 §4.1).
fn random_text() -> String {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    rand::fill(&mut bytes[..]);
    URL_SAFE_NO_PAD.encode(&bytes[..])
}

/// RFC 7636 §4.2, S256.
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(verifier))
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
        let AuthorizationParameters { tenant, client, redirect, scope, .. } = &request.parameters;
        let url = self.cloud().token_endpoint(tenant);
        let mut fields = vec![
            ("grant_type", text("authorization_code")),
            ("client_id", text(&client.to_string())),
            ("code", code.0.clone()),
            ("redirect_uri", text(redirect.as_str())),
            ("code_verifier", request.verifier.clone()),
            ("scope", text(scope.as_str())),
            ("client_info", text("1")),
        ];
        let presented = match credential {
            Some(credential) => {
                self.present(credential, *client, &url, &mut fields).await.map_err(TokenError::Credential)?
            }
            None => Presented::default(),
        };
        let context = request.context(Arc::new(self.cloud().clone()));
        // A code is good for one use: a request whose answer got lost may have used it.
        let form = Form { url, context, fields, repeatable: false, presented, nonce: Some(request.nonce.clone()) };
        self.ask_token(&form).await
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> AuthorizationParameters {
        AuthorizationParameters {
            tenant: TenantRef::organizations(),
            client: "11111111-1111-4111-8111-111111111111".parse().unwrap(),
            redirect: "http://localhost:4711".parse().unwrap(),
            scope: "https://graph.microsoft.com/Mail.Send offline_access".parse().unwrap(),
            prompt: Some(Prompt::SelectAccount),
            login_hint: Some("alice@contoso.example".into()),
            claims: None,
        }
    }

    #[test]
    fn the_challenge_is_the_rfcs() {
        // RFC 7636 appendix B
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn the_address_carries_what_entra_wants_and_not_the_verifier() {
        let request = AuthorizationRequest::new(&Cloud::global(), parameters());
        let query: std::collections::HashMap<_, _> = request.url.query_pairs().into_owned().collect();
        assert_eq!(query["redirect_uri"], "http://localhost:4711", "not normalised: no slash is added");
        assert_eq!(query["response_type"], "code");
        assert_eq!(query["code_challenge_method"], "S256");
        assert_eq!(query["code_challenge"], challenge(&request.verifier));
        assert_eq!(query["state"], request.state);
        assert!(!query.contains_key("login_hint"), "not together with select_account");
        assert!(!request.url.as_str().contains(&*request.verifier));
        assert!((43..=128).contains(&request.verifier.len()));
        assert!(!format!("{request:?}").contains(&*request.verifier));
        let another = AuthorizationRequest::new(&Cloud::global(), parameters());
        assert_ne!((another.state, another.nonce, another.verifier), (request.state, request.nonce, request.verifier));
    }

    #[test]
    fn an_answer_counts_only_with_our_state() {
        let request = AuthorizationRequest::new(&Cloud::global(), parameters());
        let cloud = Cloud::global();
        let state = request.state.as_str();
        assert!(request.answer(&cloud, [("code", "c"), ("state", state)]).is_ok());
        for query in [vec![("code", "c")], vec![("code", "c"), ("state", "other")], vec![("error", "x"), ("state", "")]]
        {
            assert!(matches!(request.answer(&cloud, query), Err(TokenError::StateMismatch)));
        }
        let declined = request.answer(
            &cloud,
            [
                ("error", "access_denied"),
                ("error_description", "AADSTS65004: User declined to consent to access the app.\r\nTrace ID: t1\r\nCorrelation ID: 55555555-5555-4555-8555-555555555555\r\nTimestamp: 2023-05-06 06:03:00Z"),
                ("state", state),
            ],
        );
        let Err(TokenError::ConsentDeclined(refusal)) = declined else { panic!("{declined:?}") };
        assert_eq!(refusal.codes, [65004]);
        assert_eq!(refusal.trace_id.as_deref(), Some("t1"));
        assert!(refusal.correlation_id.is_some());
        assert!(matches!(request.answer(&cloud, [("state", state)]), Err(TokenError::UnexpectedAnswer { .. })));
    }

    #[test]
    fn a_redirect_uri_is_https_or_loopback() {
        for (uri, good) in [
            ("http://localhost", true),
            ("http://127.0.0.1:4711/callback", true),
            ("https://mail.contoso.example/oauth/callback", true),
            ("http://mail.contoso.example/", false),
            ("https://mail.contoso.example/#x", false),
            ("https://mail.contoso.example/(x)", false),
            ("urn:ietf:wg:oauth:2.0:oob", false),
        ] {
            assert_eq!(uri.parse::<RedirectUri>().is_ok(), good, "{uri}");
        }
    }
}
