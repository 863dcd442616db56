//! What a body may contain: the properties of each resource with their kinds, so that a misspelt one is refused.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::errors::Refusal;
use crate::request::ApiRequest;

/// What may stand as a property's value. `null` is checked apart, by [`Property::null`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Flag,
    Number,
    Guid,
    Moment,
    Binary,
    Object(&'static [Property]),
    List(&'static Kind),
    /// Kept as it comes: a part of Graph without behaviour here.
    Anything,
}

/// One property of a resource.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Property {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) null: bool,
    pub(crate) writable: bool,
}

/// A property that a client may set, and may set to null.
pub(crate) const fn open(name: &'static str, kind: Kind) -> Property {
    Property { name, kind, null: true, writable: true }
}

/// A property that a client may set, but not to null.
pub(crate) const fn firm(name: &'static str, kind: Kind) -> Property {
    Property { name, kind, null: false, writable: true }
}

/// A property that only the service sets.
pub(crate) const fn shown(name: &'static str) -> Property {
    Property { name, kind: Kind::Anything, null: true, writable: false }
}

pub(crate) const TEXTS: Kind = Kind::List(&Kind::Text);
pub(crate) const GUIDS: Kind = Kind::List(&Kind::Guid);
pub(crate) const THINGS: Kind = Kind::List(&Kind::Anything);

/// The JSON object a request carries. `@odata.*` members are annotations and left out.
pub(crate) fn body(request: &ApiRequest) -> Result<Map<String, Value>, Refusal> {
    if request.body.is_empty() {
        return Err(Refusal::bad_request("Empty Payload. JSON content expected."));
    }
    let content_type = request.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.to_ascii_lowercase().starts_with("application/json") {
        // (unverified wording)
        return Err(Refusal::new(415, "Request_BadRequest", "The request's content type is not application/json."));
    }
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(body)) => Ok(body.into_iter().filter(|(name, _)| !is_annotation(name)).collect()),
        // (unverified wording)
        _ => Err(Refusal::bad_request(
            "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format.",
        )),
    }
}

/// `@odata.type` and `web@odata.type` alike.
pub(crate) fn is_annotation(name: &str) -> bool {
    name.contains("@odata.")
}

/// Refuses what `properties` does not know, does not let a client set, or holds a value of the wrong kind.
pub(crate) fn check(body: &Map<String, Value>, properties: &[Property], resource: &str) -> Result<(), Refusal> {
    for (name, value) in body.iter().filter(|(name, _)| !is_annotation(name)) {
        let property =
            properties.iter().find(|known| known.name == name).ok_or_else(|| Refusal::invalid_property(name))?;
        if !property.writable {
            // (unverified wording)
            return Err(Refusal::bad_request(format!("Property '{name}' is read-only and cannot be set.")));
        }
        if value.is_null() {
            if !property.null {
                return Err(Refusal::invalid_value(name, resource));
            }
            continue;
        }
        check_value(name, value, property.kind, resource)?;
    }
    Ok(())
}

fn check_value(name: &str, value: &Value, kind: Kind, resource: &str) -> Result<(), Refusal> {
    let fits = match kind {
        Kind::Text => value.is_string(),
        Kind::Flag => value.is_boolean(),
        Kind::Number => value.is_number(),
        Kind::Guid => value.as_str().is_some_and(|text| Uuid::try_parse(text).is_ok()),
        Kind::Moment => value.as_str().is_some_and(|text| text.parse::<Timestamp>().is_ok()),
        Kind::Binary => value.as_str().is_some_and(|text| BASE64_STANDARD.decode(text).is_ok()),
        Kind::Anything => true,
        Kind::List(inner) => match value.as_array() {
            Some(values) => {
                for value in values {
                    check_value(name, value, *inner, resource)?;
                }
                true
            }
            None => false,
        },
        Kind::Object(properties) => match value.as_object() {
            Some(inner) => {
                check(inner, properties, resource)?;
                true
            }
            None => false,
        },
    };
    if fits { Ok(()) } else { Err(Refusal::invalid_value(name, resource)) }
}

/// Lays `change` over `kept`: objects member by member, everything else as a whole.
pub(crate) fn merge(kept: &mut Value, change: &Value) {
    match (kept, change) {
        (Value::Object(kept), Value::Object(change)) => {
            for (name, value) in change.iter().filter(|(name, _)| !is_annotation(name)) {
                merge(kept.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (kept, change) => *kept = change.clone(),
    }
}
