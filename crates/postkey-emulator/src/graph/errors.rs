//! Graph's error answers: one builder, so that every refusal has the same shape on the wire.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::request::{ApiRequest, ApiResponse, Body};

/// Why a request is refused, before it is dressed as JSON.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// `details[0].code`, where Microsoft gives one.
    pub(crate) detail: Option<&'static str>,
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// What a handler gives: an answer, or why there is none.
pub(crate) type Answer = Result<ApiResponse, Refusal>;

impl Refusal {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), detail: None, headers: Vec::new() }
    }

    /// 400 `Request_BadRequest`, the directory's answer to nearly everything that is wrong with a body or an operation.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "Request_BadRequest", message)
    }

    /// 400 `Request_UnsupportedQuery`: a query that needs the index store, or a property that cannot be filtered.
    pub(crate) fn unsupported_query(message: impl Into<String>) -> Self {
        Self::new(400, "Request_UnsupportedQuery", message)
    }

    /// 400 for a property that the resource does not have. (unverified wording)
    pub(crate) fn invalid_property(name: &str) -> Self {
        Self::bad_request(format!("Invalid property '{name}'."))
    }

    /// 400 for a property whose value cannot stand there. (unverified wording)
    pub(crate) fn invalid_value(name: &str, resource: &str) -> Self {
        Self::bad_request(format!("Invalid value specified for property '{name}' of resource '{resource}'."))
    }

    /// 403: the token carries no permission that would do.
    pub(crate) fn denied() -> Self {
        Self::new(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
    }

    /// 404 for an object that is not there, or not there yet.
    pub(crate) fn not_found(id: &str) -> Self {
        Self::new(
            404,
            "Request_ResourceNotFound",
            format!("Resource '{id}' does not exist or one of its queried reference-property objects are not present."),
        )
    }

    /// 400 for a path that names no operation. (unverified wording)
    pub(crate) fn unknown_segment(segment: &str) -> Self {
        Self::new(400, "BadRequest", format!("Resource not found for the segment '{segment}'."))
    }

    /// 405 for a known path with the wrong verb. (unverified wording)
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(405, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
    }

    /// The answer that goes on the wire.
    pub(crate) fn answer(&self, now: Timestamp, request: &ApiRequest) -> ApiResponse {
        let mut inner = correlation(now, request);
        if self.status == 429 {
            // The throttling answer nests its own texts one level deeper.
            inner["code"] = json!("429");
            inner["status"] = json!("429");
            inner["message"] = json!("Please retry after");
        }
        let mut error = json!({ "code": self.code, "message": self.message, "innerError": inner });
        if let Some(code) = self.detail {
            error["details"] = json!([{ "code": code, "message": self.message, "target": null }]);
        }
        ApiResponse { status: self.status, headers: self.headers.clone(), body: Body::Json(json!({ "error": error })) }
    }
}

/// `innerError`: UTC without `Z`, and both ids.
fn correlation(now: Timestamp, request: &ApiRequest) -> Value {
    json!({
        "date": now.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
        "request-id": request.request_id.to_string(),
        "client-request-id": request.client_request_id,
    })
}

/// 200 or 201 with a JSON body.
pub(crate) fn json_answer(status: u16, body: Value) -> ApiResponse {
    ApiResponse { status, headers: Vec::new(), body: Body::Json(body) }
}

/// 204 without a body.
pub(crate) fn no_content() -> ApiResponse {
    ApiResponse { status: 204, headers: Vec::new(), body: Body::Empty }
}
