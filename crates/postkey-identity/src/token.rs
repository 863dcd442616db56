//! What a successful token answer holds.

use std::time::Duration;

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jiff::Timestamp;
use postkey_base::{AccessToken, RefreshToken, TenantId, UserObjectId};
use serde::{Deserialize, de::DeserializeOwned};
use url::Url;

use crate::{
    answer::not_json,
    cloud::{Cloud, CloudName},
    error::TokenError,
    refusal::RequestContext,
};

/// Longer lives are not documented (CAE: 28 h); a wrong number must not make a token immortal.
const LONGEST_LIFE: Duration = Duration::from_secs(7 * 86_400);
/// What clocks may differ by (unverified: the common practice).
const ID_TOKEN_SKEW_SECONDS: i64 = 300;
/// Entra's parts of a JWT come without padding; nothing is lost by taking it.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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
    /// Who signed in. Read over the TLS channel from the token endpoint, therefore without its signature
    /// (OpenID Connect Core §3.1.3.7 no. 6).
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

/// The success body of the token endpoint.
#[derive(Deserialize)]
struct Body {
    token_type: String,
    expires_in: Number,
    access_token: String,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    id_token: Option<String>,
    #[serde(default)]
    client_info: Option<String>,
    #[serde(default)]
    refresh_in: Option<Number>,
}

/// A number, or one in a string, as some answers have it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

/// What an ID token must say besides [`IdClaims`].
#[derive(Deserialize)]
struct IdChecks {
    aud: String,
    iss: String,
    exp: i64,
    #[serde(default)]
    nonce: Option<String>,
}

impl Token {
    /// Reads a success body. `nonce` is what the ID token must repeat, where one was sent.
    pub(crate) fn read(
        body: &[u8],
        asked_at: Timestamp,
        context: &RequestContext,
        nonce: Option<&str>,
    ) -> Result<Self, TokenError> {
        let bad = |problem| context.unexpected(200, problem);
        let body: Body = serde_json::from_slice(body)
            .map_err(|_| bad(not_json(body).unwrap_or("a success without token_type, expires_in and access_token")))?;
        if !body.token_type.eq_ignore_ascii_case("Bearer") {
            return Err(bad("the token is no bearer token"));
        }
        if body.access_token.is_empty() {
            return Err(bad("the access token is empty"));
        }
        let life = body.expires_in.seconds().ok_or_else(|| bad("expires_in is no number"))?;
        let after = |life: Duration| asked_at.checked_add(life).map_err(|_| bad("expires_in is out of range"));
        let id = match &body.id_token {
            Some(token) => Some(
                id_claims(token, asked_at, context, nonce)
                    .map_err(|problem| TokenError::IdTokenRejected { problem })?,
            ),
            None => None,
        };
        let refresh_at = body.refresh_in.as_ref().and_then(Number::seconds).map(after).transpose()?;
        let client_info = body.client_info.and_then(|text| serde_json::from_slice(&BASE64URL.decode(text).ok()?).ok());
        Ok(Self {
            access: AccessToken::new(body.access_token),
            received_at: asked_at,
            expires_at: after(life)?,
            refresh_at,
            refresh: body.refresh_token.filter(|text| !text.is_empty()).map(RefreshToken::new),
            id,
            scope: body.scope,
            client_info,
        })
    }
}

impl Number {
    fn seconds(&self) -> Option<Duration> {
        let seconds = match self {
            Self::Number(number) => *number,
            Self::Text(text) => text.parse().ok()?,
        };
        Some(Duration::from_secs(seconds).min(LONGEST_LIFE))
    }
}

fn id_claims(
    token: &str,
    now: Timestamp,
    context: &RequestContext,
    nonce: Option<&str>,
) -> Result<IdClaims, &'static str> {
    let checks: IdChecks = jwt_payload(token).ok_or("it cannot be read")?;
    let claims: IdClaims = jwt_payload(token).ok_or("it names no user (tid, oid, sub)")?;
    if checks.aud != context.client.to_string() {
        return Err("it is for another app");
    }
    if !issued_by(&checks.iss, &context.cloud, claims.tid) {
        return Err("its issuer is not the login host of this cloud");
    }
    if context.tenant.id().is_some_and(|tenant| tenant != claims.tid) {
        return Err("it is from another tenant");
    }
    if checks.exp.saturating_add(ID_TOKEN_SKEW_SECONDS) < now.as_second() {
        return Err("it has expired");
    }
    if nonce.is_some() && checks.nonce.as_deref() != nonce {
        return Err("its nonce is not ours");
    }
    Ok(claims)
}

/// `https://{login host}/{tid}/v2.0`. A custom cloud may copy Microsoft's issuer, as an emulator of it does.
fn issued_by(issuer: &str, cloud: &Cloud, tenant: TenantId) -> bool {
    let Ok(url) = Url::parse(issuer) else { return false };
    let origin = url.origin() == cloud.login.origin()
        || cloud.name == CloudName::Custom && url.origin() == Cloud::global().login.origin();
    origin && url.path().trim_end_matches('/').ends_with(&format!("/{tenant}/v2.0"))
}

/// The payload of a JWT, its signature unread.
pub(crate) fn jwt_payload<T: DeserializeOwned>(token: &str) -> Option<T> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&BASE64URL.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postkey_base::ClientId;
    use serde_json::{Value, json};

    use super::*;
    use crate::refusal::Grant;

    fn context(cloud: Cloud, tenant: &str) -> RequestContext {
        RequestContext {
            cloud: Arc::new(cloud),
            tenant: tenant.parse().unwrap(),
            client: "11111111-1111-4111-8111-111111111111".parse::<ClientId>().unwrap(),
            grant: Grant::AuthorizationCode,
            scope: String::new(),
            redirect: None,
        }
    }

    fn jwt(payload: &Value) -> String {
        format!("{}.{}.c2ln", BASE64URL.encode("{}"), BASE64URL.encode(payload.to_string()))
    }

    const TENANT: &str = "22222222-2222-4222-8222-222222222222";

    fn payload() -> Value {
        json!({
            "aud": "11111111-1111-4111-8111-111111111111", "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
            "exp": 2000, "nonce": "n1", "tid": TENANT, "oid": "33333333-3333-4333-8333-333333333333", "sub": "s",
            "preferred_username": "alice@contoso.example",
        })
    }

    #[test]
    fn an_id_token_must_be_for_this_sign_in() {
        let now = Timestamp::from_second(1000).unwrap();
        let other = "44444444-4444-4444-8444-444444444444";
        for (field, value, tenant, good) in [
            ("x", json!(1), TENANT, true),
            ("x", json!(1), "organizations", true),
            ("x", json!(1), other, false),
            ("aud", json!(other), TENANT, false),
            ("iss", json!(format!("https://evil.example/{TENANT}/v2.0")), TENANT, false),
            ("iss", json!(format!("https://login.microsoftonline.com/{other}/v2.0")), TENANT, false),
            ("nonce", json!("n2"), TENANT, false),
            ("nonce", Value::Null, TENANT, false),
            ("exp", json!(701), TENANT, true),
            ("exp", json!(600), TENANT, false),
            ("oid", Value::Null, TENANT, false),
        ] {
            let mut payload = payload();
            payload[field] = value;
            let body = json!({
                "token_type": "Bearer", "expires_in": "3599", "access_token": "a", "id_token": jwt(&payload),
            });
            let read = Token::read(body.to_string().as_bytes(), now, &context(Cloud::global(), tenant), Some("n1"));
            assert_eq!(read.is_ok(), good, "{payload} at {tenant}: {read:?}");
        }
    }

    #[test]
    fn a_success_is_read_with_numbers_in_either_form() {
        let now = Timestamp::from_second(1000).unwrap();
        let context = context(Cloud::global(), TENANT);
        for (body, expires) in [
            (json!({"token_type": "Bearer", "expires_in": 3599, "access_token": "a"}), Some(4599)),
            (json!({"token_type": "bearer", "expires_in": "60", "access_token": "a", "ext_expires_in": 0}), Some(1060)),
            (json!({"token_type": "pop", "expires_in": 60, "access_token": "a"}), None),
            (json!({"token_type": "Bearer", "expires_in": -1, "access_token": "a"}), None),
            (json!({"token_type": "Bearer", "expires_in": 60, "access_token": ""}), None),
            (json!({"token_type": "Bearer", "access_token": "a"}), None),
            (json!("a"), None),
        ] {
            let read = Token::read(body.to_string().as_bytes(), now, &context, None);
            assert_eq!(read.ok().map(|token| token.expires_at.as_second()), expires, "{body}");
        }
    }
}
