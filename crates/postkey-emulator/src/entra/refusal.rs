//! An answer of the login host that is no token: its number, HTTP status, `error`, `suberror` and text, and its body.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

/// An answer that is no token.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) code: u32,
    pub(crate) http: u16,
    pub(crate) error: &'static str,
    pub(crate) suberror: Option<&'static str>,
    pub(crate) text: String,
    /// A JSON string for the next authorize request.
    pub(crate) claims: Option<String>,
    pub(crate) retry_after: Option<u32>,
}

impl Refusal {
    pub(super) fn new(code: u32, http: u16, error: &'static str, text: impl Into<String>) -> Self {
        Self { code, http, error, suberror: None, text: text.into(), claims: None, retry_after: None }
    }

    pub(super) fn suberror(mut self, suberror: &'static str) -> Self {
        self.suberror = Some(suberror);
        self
    }

    /// `AADSTS…: … Trace ID: … Correlation ID: … Timestamp: …`, separated by one space as since November 2023.
    pub(crate) fn description(&self, trace: &Uuid, correlation: &str, now: Timestamp) -> String {
        format!(
            "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {}",
            self.code,
            self.text,
            stamp(now)
        )
    }

    /// The body at the token endpoint.
    pub(crate) fn body(&self, origin: &str, trace: &Uuid, correlation: &str, now: Timestamp) -> Value {
        let mut body = json!({
            "error": self.error,
            "error_description": self.description(trace, correlation, now),
            "error_codes": [self.code],
            "timestamp": stamp(now),
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("{origin}/error?code={}", self.code),
        });
        if let Some(suberror) = self.suberror {
            body["suberror"] = json!(suberror);
        }
        if let Some(claims) = &self.claims {
            body["claims"] = json!(claims);
        }
        body
    }

    /// What a fault asked for.
    pub(crate) fn injected(status: u16, error: Option<&str>, aadsts: Option<u32>, message: Option<&str>) -> Self {
        const ERRORS: [&str; 11] = [
            "invalid_client",
            "invalid_grant",
            "invalid_request",
            "unauthorized_client",
            "invalid_resource",
            "invalid_scope",
            "invalid_tenant",
            "interaction_required",
            "temporarily_unavailable",
            "server_error",
            "consent_required",
        ];
        let by_status = match status {
            401 => "invalid_client",
            429 | 503 | 504 => "temporarily_unavailable",
            500.. => "server_error",
            _ => "invalid_request",
        };
        let error = ERRORS.into_iter().find(|known| Some(*known) == error).unwrap_or(by_status);
        let code = aadsts.unwrap_or(if status >= 500 { 90033 } else { 90055 });
        Self::new(code, status, error, message.unwrap_or("A transient error has occurred. Please try again."))
    }
}

/// `YYYY-MM-DD HH:MM:SSZ`.
pub(crate) fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}
