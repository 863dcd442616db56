//! A small JSON body that asks for something.

use axum::extract::Request;
use serde::de::DeserializeOwned;

use crate::{
    Api,
    body::{self, Limit},
    extract::{json, wants_json},
    refusal::Refusal,
};

/// 500 ids, and room for blanks.
const MOST: u64 = 64 * 1024;

/// Reads it.
pub(crate) async fn read<T: DeserializeOwned>(api: &Api, request: Request) -> Result<T, Refusal> {
    let (head, body) = request.into_parts();
    wants_json(&head.headers)?;
    let (bytes, _share) = body::read(&api.bodies, &head.headers, body, Limit::Order(MOST)).await?;
    json(&bytes)
}
