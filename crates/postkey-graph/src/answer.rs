//! What Graph said when it did not do as asked: the error body, read once and kept for whoever must explain it.

use std::fmt;

use jiff::{Timestamp, civil::DateTime};
use postkey_base::CorrelationId;
use reqwest::{StatusCode, header::HeaderMap};
use serde_json::Value;

use crate::{shape::CallShape, throttling};

/// Nested `innerError`s are followed this deep; Graph's own stop at two.
const DEEPEST: usize = 8;

/// Characters kept of a message: Graph's are sentences.
const LONGEST_MESSAGE: usize = 1_000;

/// Details kept of one error; more have not been seen.
const MOST_DETAILS: usize = 16;

/// An answer that was no success, without anything secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The call it answers.
    pub call: CallShape,
    /// HTTP status.
    pub status: u16,
    /// The innermost code that we know, else the outermost one. Empty when the body was no Graph error.
    pub code: String,
    /// Graph's words for a person; never branched on.
    pub message: String,
    /// Codes of `error.details[]`.
    pub details: Vec<String>,
    /// Microsoft's id of the request, what its support asks for.
    pub request_id: Option<String>,
    /// Our id of the request.
    pub client_request_id: CorrelationId,
    /// When Graph answered, by its own clock.
    pub date: Option<Timestamp>,
}

impl Answer {
    /// Reads an answer. `known` tells which codes mean something to us: the innermost such one wins.
    pub(crate) fn read(
        call: CallShape,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        client_request_id: CorrelationId,
        known: impl Fn(&str) -> bool,
    ) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        // The documented shape has `error` as an object; a gateway in between may answer anything.
        let error = body.get("error").unwrap_or(&Value::Null);
        let layers = layers(error);
        let codes: Vec<&str> = layers.iter().filter_map(|layer| text(layer, "code")).collect();
        let code = codes.iter().rev().find(|code| known(code)).or(codes.first()).copied().unwrap_or_default();
        let innermost = |name: &str| layers.iter().rev().find_map(|layer| text(layer, name));
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
        Self {
            call,
            status: status.as_u16(),
            code: code.to_owned(),
            message: text(error, "message").unwrap_or_default().chars().take(LONGEST_MESSAGE).collect(),
            details: details.filter_map(|detail| text(detail, "code")).take(MOST_DETAILS).map(str::to_owned).collect(),
            request_id: innermost("request-id").or_else(|| header("request-id")).map(str::to_owned),
            client_request_id,
            date: innermost("date").and_then(utc).or_else(|| header("date").and_then(throttling::http_date)),
        }
    }

    /// Whether the body or one of its details names this code, whatever its case.
    pub fn says(&self, code: &str) -> bool {
        self.code.eq_ignore_ascii_case(code) || self.details.iter().any(|detail| detail.eq_ignore_ascii_case(code))
    }

    /// The facts a support case needs.
    pub fn evidence(&self) -> Vec<(&'static str, String)> {
        let mut evidence = vec![("call", self.call.to_string()), ("status", self.status.to_string())];
        if !self.code.is_empty() {
            evidence.push(("code", self.code.clone()));
        }
        if let Some(request_id) = &self.request_id {
            evidence.push(("request-id", request_id.clone()));
        }
        evidence.push(("client-request-id", self.client_request_id.to_string()));
        if let Some(date) = self.date {
            evidence.push(("date", date.to_string()));
        }
        evidence
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.message.is_empty(), self.code.is_empty()) {
            (false, false) => write!(f, "{} ({} {})", self.message.trim_end(), self.status, self.code),
            (false, true) => write!(f, "{} ({})", self.message.trim_end(), self.status),
            (true, false) => write!(f, "{} {}", self.status, self.code),
            (true, true) => write!(f, "status {} without an explanation", self.status),
        }
    }
}

impl std::error::Error for Answer {}

/// The error object and all it contains, outermost first. Microsoft writes the key in two ways.
fn layers(error: &Value) -> Vec<&Value> {
    let mut layers = vec![error];
    while layers.len() < DEEPEST {
        let inner = layers[layers.len() - 1].as_object().and_then(|members| {
            members.iter().find(|(name, _)| name.eq_ignore_ascii_case("innererror")).map(|(_, inner)| inner)
        });
        match inner {
            Some(inner) if inner.is_object() => layers.push(inner),
            _ => break,
        }
    }
    layers
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// Graph writes UTC without saying so; read it with and without its `Z`.
fn utc(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        civil.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}
