//! `$batch`: up to twenty requests in one, each answered as if it had come alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value, json};

use super::{
    errors::{Answer, Refusal, json_answer},
    shape,
};
use crate::{
    request::{ApiRequest, ApiResponse, Body},
    world::World,
};

/// Requests in one batch.
const MOST: usize = 20;

pub(crate) fn handle(world: &mut World, request: &ApiRequest) -> Answer {
    if request.method != Method::POST {
        return Err(Refusal::method_not_allowed());
    }
    let body = shape::body(request)?;
    let Some(parts) = body.get("requests").and_then(Value::as_array) else {
        return Err(bad("Invalid batch payload format."));
    };
    if parts.is_empty() || parts.len() > MOST {
        return Err(bad(&format!("Number of batch request steps exceeds the maximum value of {MOST}.")));
    }
    let parts = parts.iter().map(|part| Part::read(part, request)).collect::<Result<Vec<_>, _>>()?;
    let mut statuses: BTreeMap<&str, u16> = BTreeMap::new();
    for part in &parts {
        if statuses.insert(&part.id, 0).is_some() {
            return Err(bad(&format!("Request id {} is not unique.", part.id)));
        }
    }
    if let Some(stray) = parts.iter().flat_map(|part| &part.depends_on).find(|id| !statuses.contains_key(id.as_str())) {
        return Err(bad(&format!("Request {stray} that another request depends on is not in the batch.")));
    }
    // A part runs once all it depends on has run; what is left over depends on itself.
    let mut waiting: Vec<&Part> = parts.iter().collect();
    let mut responses = Vec::new();
    while !waiting.is_empty() {
        let ready = waiting.iter().position(|part| part.depends_on.iter().all(|id| statuses[id.as_str()] != 0));
        let Some(at) = ready else { return Err(bad("The requests of the batch depend on each other in a circle.")) };
        let part = waiting.remove(at);
        let failed = part.depends_on.iter().any(|id| statuses[id.as_str()] >= 400);
        let response = match (&part.request, failed) {
            (Err(refusal), _) => refusal.answer(world.clock.now(), request),
            (Ok(_), true) => {
                Refusal::new(424, "FailedDependency", "A request this one depends on has failed.") // (unverified code and wording)
                    .answer(world.clock.now(), request)
            }
            (Ok(single), false) => super::handle(world, single),
        };
        statuses.insert(&part.id, response.status);
        responses.push(shown(&part.id, response));
    }
    Ok(json_answer(200, json!({ "responses": responses })))
}

/// (unverified code and wording)
fn bad(message: &str) -> Refusal {
    Refusal::new(400, "BadRequest", message)
}

struct Part {
    id: String,
    depends_on: Vec<String>,
    request: Result<ApiRequest, Refusal>,
}

impl Part {
    /// Reads one member; others than the known ones are ignored.
    fn read(part: &Value, outer: &ApiRequest) -> Result<Self, Refusal> {
        let text = |name: &str| part[name].as_str().filter(|text| !text.is_empty());
        let id = match &part["id"] {
            Value::String(id) if !id.is_empty() => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => return Err(bad("Each request of a batch needs an id.")),
        };
        let method = text("method")
            .and_then(|method| Method::from_bytes(method.to_ascii_uppercase().as_bytes()).ok())
            .ok_or_else(|| bad("Each request of a batch needs a method."))?;
        let url = text("url").ok_or_else(|| bad("Each request of a batch needs a url."))?;
        let depends_on = match &part["dependsOn"] {
            Value::Array(ids) => ids.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        Ok(Self { id, depends_on, request: single(part, method, url, outer) })
    }
}

/// The official Python SDK writes whole URLs of the host and version it calls. (unverified: that Graph takes them)
fn relative<'a>(url: &'a str, outer: &ApiRequest) -> &'a str {
    let behind = url.strip_prefix(&outer.origin).and_then(|url| url.strip_prefix('/'));
    behind.and_then(|url| url.strip_prefix(&outer.version)).filter(|url| url.starts_with('/')).unwrap_or(url)
}

fn single(part: &Value, method: Method, url: &str, outer: &ApiRequest) -> Result<ApiRequest, Refusal> {
    let url = relative(url, outer);
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let path = crate::server::segments(path);
    if path.first().is_some_and(|segment| segment == "$batch") {
        return Err(bad("A batch cannot hold another."));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in part["headers"].as_object().into_iter().flatten() {
        let name = HeaderName::try_from(name.as_str());
        let value = HeaderValue::try_from(value.as_str().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    let body = match &part["body"] {
        Value::Null => Bytes::new(),
        _ if !headers.contains_key("content-type") => {
            // (unverified wording)
            return Err(bad("Write request id that has a body must have a Content-Type header."));
        }
        // Anything but JSON travels as base64.
        Value::String(text) => {
            use base64::{Engine, prelude::BASE64_STANDARD};
            let is_text = headers["content-type"].to_str().is_ok_and(|kind| kind.starts_with("text/plain"));
            match BASE64_STANDARD.decode(text) {
                // A MIME message is base64 text itself: it goes on as it is.
                Ok(bytes) if !is_text => bytes.into(),
                _ => Bytes::from(text.clone()),
            }
        }
        body => Bytes::from(body.to_string()),
    };
    Ok(ApiRequest {
        method,
        version: outer.version.clone(),
        path,
        query: crate::server::pairs(query.as_bytes()),
        headers,
        body,
        caller: outer.caller.clone(),
        origin: outer.origin.clone(),
        request_id: outer.request_id,
        client_request_id: outer.client_request_id.clone(),
    })
}

fn shown(id: &str, response: ApiResponse) -> Value {
    let mut headers: Map<String, Value> =
        response.headers.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
    let mut shown = json!({ "id": id, "status": response.status });
    match response.body {
        Body::Empty => {}
        Body::Json(body) => {
            headers.insert("Content-Type".into(), json!("application/json"));
            shown["body"] = body;
        }
        Body::Raw { content_type, bytes } => {
            use base64::{Engine, prelude::BASE64_STANDARD};
            headers.insert("Content-Type".into(), json!(content_type));
            shown["body"] = json!(BASE64_STANDARD.encode(bytes));
        }
    }
    shown["headers"] = Value::Object(headers);
    shown
}
