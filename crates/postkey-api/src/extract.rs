//! What handlers take out of a request, each refusal in our own words.

use std::marker::PhantomData;

use axum::{
    extract::{FromRequestParts, Path, Query},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::refusal::Refusal;

/// Values of the path.
pub(crate) struct FromPath<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for FromPath<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(error) => Err(Refusal::Parameter { what: format!("the path: {}", plain(&error.body_text())) }),
        }
    }
}

/// The query as a whole; a name that the operation does not know is refused.
pub(crate) struct FromQuery<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for FromQuery<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(value)) => Ok(Self(value)),
            Err(error) => Err(Refusal::Parameter { what: format!("the query: {}", plain(&error.body_text())) }),
        }
    }
}

/// Without what axum puts before it.
fn plain(text: &str) -> String {
    let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text);
    shortened(text.strip_prefix("Invalid URL: ").unwrap_or(text))
}

/// An operation that takes no query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoQuery {}

/// Reads a JSON object: what is no JSON is a bad request, what has another shape cannot be processed.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map(|Fields(value)| value).map_err(|error| {
        let text = shortened(&error.to_string());
        match error.classify() {
            serde_json::error::Category::Data => Refusal::Shape(text),
            _ => Refusal::NotJson(text),
        }
    })
}

/// A structure that is read from an object only: serde would take its fields in a list, too.
pub(crate) struct Fields<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Fields<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = Fields<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fields<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Fields)
            }
        }
        from.deserialize_map(Object(PhantomData))
    }
}

/// For a field that is a list of structures.
pub(crate) fn list_of_fields<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::<Fields<T>>::deserialize(from)?;
    Ok(list.into_iter().map(|Fields(value)| value).collect())
}

/// For a field that is a structure or null.
pub(crate) fn optional_fields<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    let value = Option::<Fields<T>>::deserialize(from)?;
    Ok(value.map(|Fields(value)| value))
}

/// An answer in JSON.
pub(crate) fn answer(status: StatusCode, value: &impl Serialize) -> Response {
    // The types of this crate are plain structures with text keys.
    let body = serde_json::to_vec(value).expect("an answer is plain JSON");
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(JSON))], Bytes::from(body)).into_response()
}

/// `application/json`.
pub(crate) const JSON: &str = "application/json";

/// The media type of the body, without its parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The body must be JSON.
pub(crate) fn wants_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let found = media_type(headers);
    if found == JSON { Ok(()) } else { Err(Refusal::ContentType { found: shortened(&found), wanted: JSON }) }
}

/// Whether the client takes an answer of this type (RFC 9110 §12.5.1). Problems are sent whatever it takes.
pub(crate) fn accepts(headers: &HeaderMap, offered: &'static str) -> Result<(), Refusal> {
    let mut all = headers.get_all(header::ACCEPT).iter().peekable();
    if all.peek().is_none() {
        return Ok(());
    }
    let main = offered.split('/').next().unwrap_or_default();
    let mut seen = String::new();
    for value in all {
        let text = value.to_str().unwrap_or_default();
        for range in text.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let refused =
                parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0)));
            let fits = name == "*/*"
                || name.eq_ignore_ascii_case(offered)
                || name.split_once('/').is_some_and(|(a, b)| b == "*" && a.eq_ignore_ascii_case(main));
            if fits && !refused {
                return Ok(());
            }
        }
        seen.push_str(text);
    }
    Err(Refusal::NotAcceptable { accept: shortened(&seen), offered })
}

/// Another's words, at a length that a reader takes in.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_written_only_as_the_client_takes_it() {
        for (accept, taken) in [
            (None, true),
            (Some("*/*"), true),
            (Some("application/json"), true),
            (Some("text/html, application/*;q=0.8"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("text/html"), false),
            (Some("application/json;q=0"), false),
            (Some("application/xml, */*;q=0.0"), false),
            (Some(""), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(accepts(&headers, JSON).is_ok(), taken, "{accept:?}");
        }
    }
}
