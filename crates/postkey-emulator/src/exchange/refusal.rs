//! An error on its way to becoming Graph's JSON.

use jiff::Timestamp;
use serde_json::json;

use crate::request::{ApiRequest, ApiResponse, Body};

/// Why a request is not served.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), headers: Vec::new() }
    }

    /// No permission for this call (observed text).
    pub(crate) fn access_denied() -> Self {
        Self::new(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
    }

    /// Absent, or not permitted (observed text).
    pub(crate) fn not_found() -> Self {
        Self::new(
            404,
            "ErrorItemNotFound",
            "The specified object was not found in the store., The process failed to get the correct properties.",
        )
    }

    /// No such path. unverified: text
    pub(crate) fn no_segment(segment: &str) -> Self {
        Self::new(400, "BadRequest", format!("Resource not found for the segment '{segment}'."))
    }

    /// Malformed input. unverified: the code; status and shape as for every bad request
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "RequestBodyRead", message)
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The answer, with the correlation ids repeated inside.
    pub(crate) fn answer(self, request: &ApiRequest, now: Timestamp) -> ApiResponse {
        let body = json!({"error": {
            "code": self.code,
            "message": self.message,
            "innerError": {
                "date": now.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
                "request-id": request.request_id.to_string(),
                "client-request-id": request.client_request_id,
            },
        }});
        ApiResponse { status: self.status, headers: self.headers, body: Body::Json(body) }
    }
}
