//! A refusal as its reader gets it: problem details (RFC 9457) with our stable code, what to do, and who must do it.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use postkey_base::{Diagnosis, Who};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// `application/problem+json`, RFC 9457 §3.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "/problems/api.key_unknown",
    "title": "Unauthorized",
    "status": 401,
    "detail": "the API key is not known",
    "code": "api.key_unknown",
    "remedy": "Make one with `postkey api-key add`.",
    "who": "you",
    "instance": "urn:uuid:019aa8f1-6c1e-7a55-9d0f-0d2c0e4b7a11"
}))]
pub struct Problem {
    /// Which kind of problem: a relative URI that ends with the code.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status, once more.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What happened.
    pub detail: String,
    /// Our stable code: the same in the command line, the API and the documentation.
    pub code: String,
    /// Why it happened, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What to do next.
    pub remedy: String,
    /// Who must do it.
    #[schema(value_type = WhoMustAct)]
    pub who: Who,
    /// This very request, as in its `X-Request-Id` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uri")]
    pub instance: Option<String>,
    /// Ids for a support case.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub evidence: BTreeMap<String, String>,
}

/// Who must act before the refused thing can work.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhoMustAct {
    /// Whoever sent the request.
    You,
    /// An owner of the app registration.
    AppOwner,
    /// An administrator of the tenant.
    TenantAdministrator,
    /// An Exchange administrator.
    ExchangeAdministrator,
    /// The owner of the mailbox.
    User,
    /// Whoever runs the machine or its network.
    NetworkAdministrator,
    /// Nobody: it passes by itself.
    Wait,
    /// It is a defect of postkey.
    Postkey,
}

impl Problem {
    /// The problem that tells this diagnosis.
    pub fn new(status: StatusCode, diagnosis: Diagnosis) -> Self {
        Self {
            kind: format!("/problems/{}", diagnosis.code),
            title: status.canonical_reason().unwrap_or("Refused").to_owned(),
            status: status.as_u16(),
            detail: diagnosis.what,
            code: diagnosis.code,
            why: diagnosis.why,
            remedy: diagnosis.remedy,
            who: diagnosis.who,
            instance: None,
            evidence: diagnosis.evidence.into_iter().collect(),
        }
    }

    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn body(&self) -> Bytes {
        // Strings, numbers and a map with text keys always serialize.
        serde_json::to_vec(self).expect("a problem is plain JSON").into()
    }

    /// Writes the problem into `response`, which keeps its headers.
    pub(crate) fn fill(self, response: &mut Response) {
        *response.body_mut() = self.body().into();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    }
}

/// The guard writes the body, since only it knows the request's id: the problem travels as an extension.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status_code().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
