//! Which refusals each kind of operation may answer with, for the OpenAPI document.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{
        ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type, schema::SchemaFormat,
    },
};

use crate::problem::CONTENT_TYPE;

/// Of an operation that reads.
pub(crate) struct Reading;
/// Of an operation that names one thing and reads it.
pub(crate) struct ReadingOne;
/// Of an operation that takes an order about one thing, in its path or its body.
pub(crate) struct Ordering;
/// Of `POST /v1/send`.
pub(crate) struct Sending;
/// Of an operation that needs no key.
pub(crate) struct Open;

const OPEN: &[u16] = &[400, 406, 421, 500, 503];
const READING: &[u16] = &[401, 403];
const WRITING: &[u16] = &[408, 409, 413, 415, 422, 507];
const QUOTAS: &[u16] = &[429];

impl IntoResponses for Open {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        of(&[OPEN])
    }
}

impl IntoResponses for Reading {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        of(&[OPEN, READING])
    }
}

impl IntoResponses for ReadingOne {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        of(&[OPEN, READING, &[404]])
    }
}

impl IntoResponses for Ordering {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        of(&[OPEN, READING, &[404], WRITING])
    }
}

impl IntoResponses for Sending {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        of(&[OPEN, READING, WRITING, QUOTAS])
    }
}

fn of(lists: &[&[u16]]) -> BTreeMap<String, RefOr<Response>> {
    lists.concat().into_iter().map(|status| (status.to_string(), RefOr::T(response(status)))).collect()
}

fn response(status: u16) -> Response {
    let text = match status {
        400 => "A parameter, a header or the JSON cannot be read.",
        401 => {
            "No API key, or one that is not known, has ended or is disabled. After many failures with `Retry-After`."
        }
        403 => "The API key may not do this.",
        404 => "There is no such thing, or this key does not see it.",
        406 => "The answer is not written in what the client accepts.",
        408 => "The body did not arrive in time.",
        409 => "The present state does not allow it.",
        413 => "Too large; the detail names the limit.",
        415 => "The content type is not understood here.",
        421 => "This server does not answer for the host that the request names.",
        422 => "The content can be read but not carried out.",
        429 => "A quota is used up, or the queue is full; see `Retry-After`.",
        500 => "A defect of postkey.",
        503 => "The store cannot be reached, or the server is stopping.",
        507 => "There is no room left to store it.",
        _ => "Refused.",
    };
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let mut response = ResponseBuilder::new().description(text).content(CONTENT_TYPE, content);
    if status == 401 {
        let value = ObjectBuilder::new().schema_type(Type::String);
        let header = HeaderBuilder::new().schema(Some(value)).description(Some("How to sign in."));
        response = response.header("WWW-Authenticate", header.build());
    }
    if matches!(status, 429 | 507) {
        let value = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::Int64)))
            .minimum(Some(0));
        let header = HeaderBuilder::new().schema(Some(value)).description(Some("Seconds to wait."));
        response = response.header("Retry-After", header.build());
    }
    response.build()
}
