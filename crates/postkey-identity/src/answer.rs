//! From an answer of the login host to a [`TokenError`]: reading the body, then judging it. Pure.

use std::time::Duration;

use jiff::SignedDuration;
use postkey_base::CorrelationId;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    endpoint::host_of,
    error::{SignInReason, TokenError},
    refusal::{Refusal, RequestContext},
};

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) skew: Option<SignedDuration>,
    pub(crate) correlation: CorrelationId,
}

/// What we remember of the credential that was presented.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Presented {
    pub(crate) looks_like_id: bool,
}

/// 429 without `Retry-After`: what Entra writes when it does (contract: 60 s).
const THROTTLED_FOR: Duration = Duration::from_secs(60);
/// A sentence of Entra's is some hundred characters; a page of something else is not shown.
const TEXT_LIMIT: usize = 1000;

/// The error body as documented; every field may be absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    error: String,
    suberror: Option<String>,
    error_description: Option<String>,
    error_codes: Option<Vec<serde_json::Value>>,
    timestamp: Option<String>,
    trace_id: Option<String>,
    correlation_id: Option<String>,
    claims: Option<serde_json::Value>,
}

/// Reads and judges an answer that is no success.
pub(crate) fn judge(answer: &Answer, context: &RequestContext, presented: Presented) -> TokenError {
    let refusal = read(answer, context);
    match (answer.status, refusal) {
        (_, Some(refusal)) => classify(refusal, presented),
        (429, None) => {
            TokenError::Throttled { retry_after: answer.retry_after.unwrap_or(THROTTLED_FOR), refusal: None }
        }
        (status @ 500.., None) => {
            TokenError::Unavailable { status: Some(status), retry_after: answer.retry_after, refusal: None }
        }
        (status, None) => TokenError::UnexpectedAnswer {
            host: host_of(&context.cloud.login),
            status,
            problem: not_json(&answer.body).unwrap_or("it is not the JSON of an OAuth error"),
        },
    }
}

fn read(answer: &Answer, context: &RequestContext) -> Option<Refusal> {
    let body: Body = serde_json::from_slice(&answer.body).ok()?;
    if body.error.is_empty() {
        return None;
    }
    let described = describe(body.error_description.as_deref().unwrap_or_default());
    let numbers: Vec<u32> = body.error_codes.iter().flatten().filter_map(number).collect();
    Some(Refusal {
        context: context.clone(),
        status: Some(answer.status),
        error: body.error,
        suberror: body.suberror.filter(|text| !text.is_empty()),
        codes: if numbers.is_empty() { described.code.into_iter().collect() } else { numbers },
        text: described.text,
        claims: body.claims.and_then(claims_text),
        correlation_id: body.correlation_id.and_then(|id| id.parse().ok()).or(Some(answer.correlation)),
        trace_id: body.trace_id.or(described.trace_id),
        timestamp: body.timestamp.or(described.timestamp),
        retry_after: answer.retry_after,
        skew: answer.skew,
    })
}

/// What an answer is that is no JSON.
pub(crate) fn not_json(body: &[u8]) -> Option<&'static str> {
    body.trim_ascii_start()
        .starts_with(b"<")
        .then_some("it is a web page: a proxy or portal may have answered in Entra's place")
}

/// Reads an error that came to the redirect URI.
pub(crate) fn by_redirect<'a>(context: RequestContext, field: impl Fn(&str) -> Option<&'a str>) -> Option<Refusal> {
    let owned = |name: &str| field(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let error = owned("error")?;
    let described = describe(field("error_description").unwrap_or_default());
    Some(Refusal {
        context,
        status: None,
        error,
        suberror: owned("suberror"),
        codes: described.code.into_iter().collect(),
        text: described.text,
        claims: owned("claims"),
        correlation_id: owned("correlation_id").or(described.correlation_id).and_then(|id| id.parse().ok()),
        trace_id: owned("trace_id").or(described.trace_id),
        timestamp: owned("timestamp").or(described.timestamp),
        retry_after: None,
        skew: None,
    })
}

/// JSON in a string, as documented; the JSON itself serves as well.
fn claims_text(claims: serde_json::Value) -> Option<String> {
    match claims {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text).filter(|text| !text.is_empty()),
        other => Some(other.to_string()),
    }
}

fn number(value: &serde_json::Value) -> Option<u32> {
    value.as_u64().and_then(|n| u32::try_from(n).ok()).or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

/// `error_description` taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) code: Option<u32>,
    pub(crate) text: String,
    pub(crate) trace_id: Option<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) timestamp: Option<String>,
}

/// `AADSTS<code>: <text>`, then `Trace ID: … Correlation ID: … Timestamp: …`, separated by CRLF until August 2023 and by
/// a single space since November 2023.
pub(crate) fn describe(description: &str) -> Described {
    let (mut text, trailer) = match description.find("Trace ID: ") {
        Some(at) => description.split_at(at),
        None => (description, ""),
    };
    let after = |label: &str, words: usize| {
        let rest = trailer.split_once(label)?.1;
        let value = rest.split_ascii_whitespace().take(words).collect::<Vec<_>>().join(" ");
        (!value.is_empty()).then_some(value)
    };
    let mut code = None;
    if let Some(rest) = text.strip_prefix("AADSTS") {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        code = rest[..digits].parse().ok();
        text = rest[digits..].trim_start_matches(':');
    }
    let clean = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    Described {
        code,
        text: clean.chars().take(TEXT_LIMIT).collect(),
        trace_id: after("Trace ID: ", 1),
        correlation_id: after("Correlation ID: ", 1),
        timestamp: after("Timestamp: ", 2),
    }
}

/// The situation. Status, `error` and `suberror` decide; the number only refines.
pub(crate) fn classify(refusal: Refusal, presented: Presented) -> TokenError {
    let status = refusal.status;
    let retry_after = refusal.retry_after;
    let refusal = Box::new(refusal);
    if status == Some(429) {
        return TokenError::Throttled { retry_after: retry_after.unwrap_or(THROTTLED_FOR), refusal: Some(refusal) };
    }
    if status.is_some_and(|status| status >= 500)
        || matches!(refusal.error.as_str(), "temporarily_unavailable" | "server_error")
    {
        return TokenError::Unavailable { status, retry_after, refusal: Some(refusal) };
    }
    match refusal.error.as_str() {
        "invalid_client" => configuration(refusal, presented).unwrap_or_else(TokenError::CredentialRefused),
        "unauthorized_client" => configuration(refusal, presented).unwrap_or_else(TokenError::AppNotAllowed),
        "invalid_tenant" => configuration(refusal, presented).unwrap_or_else(TokenError::TenantNotFound),
        "invalid_resource" => configuration(refusal, presented).unwrap_or_else(TokenError::InvalidResource),
        "invalid_scope" => configuration(refusal, presented).unwrap_or_else(TokenError::InvalidScope),
        "invalid_instance" => TokenError::WrongLoginHost(refusal),
        "invalid_request" | "unsupported_grant_type" | "unsupported_response_type" => {
            configuration(refusal, presented).unwrap_or_else(TokenError::MalformedRequest)
        }
        "access_denied" | "permission_denied" => TokenError::ConsentDeclined(refusal),
        "authorization_declined" => TokenError::DeviceCodeDeclined(refusal),
        "expired_token" => TokenError::DeviceCodeExpired,
        "consent_required" if refusal.codes.contains(&65004) => TokenError::ConsentDeclined(refusal),
        "consent_required" => TokenError::ConsentMissing(refusal),
        "invalid_grant" | "interaction_required" | "login_required" | "bad_verification_code" => person(refusal),
        _ => TokenError::Unclassified(refusal),
    }
}

/// What the number adds to a failure of configuration.
fn configuration(refusal: Box<Refusal>, presented: Presented) -> Result<TokenError, Box<Refusal>> {
    Ok(match refusal.codes.first().copied().unwrap_or_default() {
        7_000_222 => TokenError::SecretExpired { ended: None, refusal },
        7_000_215 | 70002 => TokenError::SecretWrong { looks_like_id: presented.looks_like_id, refusal },
        7_000_218 => TokenError::CredentialMissing(refusal),
        700_025 => TokenError::ClientIsPublic(refusal),
        700_027 | 7_000_274 => TokenError::CertificateUnknown(refusal),
        7_000_214 | 7_000_277 | 1_000_502 | 700_030 => TokenError::CertificateUnusable(refusal),
        700_024 => TokenError::AssertionTime { skew: refusal.skew, refusal },
        700_016 => TokenError::AppNotFound(refusal),
        7_000_112 | 70001 => TokenError::AppDisabled(refusal),
        90002 | 900_023 => TokenError::TenantNotFound(refusal),
        50059 | 90019 | 50194 | 9_001_023 | 90133 | 90010 => TokenError::TenantRequired(refusal),
        50049 => TokenError::WrongLoginHost(refusal),
        500_011 | 50001 | 650_052 | 650_054 | 650_057 => TokenError::InvalidResource(refusal),
        501_051 => TokenError::RoleRequired(refusal),
        1_002_012 | 70011 | 700_022 | 28002 | 28003 => TokenError::InvalidScope(refusal),
        50011 | 900_971 | 9_002_325 | 9_002_326 | 9_002_327 => TokenError::RedirectMismatch(refusal),
        90094 | 90095 => TokenError::AdminConsentRequired(refusal),
        9_002_313 if refusal.suberror.as_deref() == Some("bad_token") => {
            TokenError::NeedsSignIn { reason: SignInReason::TokenInvalid, refusal }
        }
        _ => return Err(refusal),
    })
}

/// Which step a person must take. `suberror` first, as Microsoft's own clients do, then the number.
fn person(refusal: Box<Refusal>) -> TokenError {
    use SignInReason::{
        CodeSpent, MultiFactor, Password, Revoked, SignInFrequency, TokenExpired, TokenInvalid, Unspecified,
    };

    let code = refusal.codes.iter().copied().find(|&code| code != 70002).unwrap_or_default();
    match refusal.suberror.as_deref() {
        Some("consent_required") => return TokenError::ConsentMissing(refusal),
        Some("bad_token") => return TokenError::NeedsSignIn { reason: TokenInvalid, refusal },
        Some("token_expired") => return TokenError::NeedsSignIn { reason: TokenExpired, refusal },
        Some("user_password_expired") => return TokenError::NeedsSignIn { reason: Password, refusal },
        _ => {}
    }
    let reason = match code {
        65001 => return TokenError::ConsentMissing(refusal),
        65004 => return TokenError::ConsentDeclined(refusal),
        90094 | 90095 => return TokenError::AdminConsentRequired(refusal),
        501_051 => return TokenError::RoleRequired(refusal),
        50196 => return TokenError::RequestLoop(refusal),
        53000..=53004 | 530_032 | 530_035 => return TokenError::ConditionalAccess(refusal),
        50105 | 50020 | 50034 | 50014 | 51004 | 500_208 | 50053 | 50057 => return TokenError::AccountRefused(refusal),
        50076 | 50079 | 50072 | 50074 | 50078 => MultiFactor,
        50055 | 50126 => Password,
        54005 | 700_005 | 501_481 | 50147 | 501_491 | 70018 => CodeSpent,
        70008 if refusal.context.grant == crate::refusal::Grant::AuthorizationCode => CodeSpent,
        70008 | 700_082 | 700_081 | 700_084 => TokenExpired,
        70000 | 9_002_313 => TokenInvalid,
        70043 => SignInFrequency,
        50173 | 50132 | 50133 => Revoked,
        _ if refusal.error == "bad_verification_code" => CodeSpent,
        _ if refusal.suberror.as_deref() == Some("message_only") => return TokenError::ConditionalAccess(refusal),
        _ => Unspecified,
    };
    TokenError::NeedsSignIn { reason, refusal }
}

#[cfg(test)]
mod tests;
