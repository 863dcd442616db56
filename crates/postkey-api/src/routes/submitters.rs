//! `/v1/submitters`: who may hand in mail, and what. Never a secret.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use postkey_store::{Scope, Submitter};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    Api,
    caller::Caller,
    extract::{FromPath, FromQuery, JSON, NoQuery, accepts, answer, shortened},
    names::Names,
    refusal::Refusal,
    refusals::{Reading, ReadingOne},
    send_request::Importance,
};

/// A submitter: a program or device that may hand in mail.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SubmitterShown {
    /// Its name.
    pub name: String,
    /// The senders it may use; the first is its default.
    pub senders: Vec<String>,
    /// Whether it may be used.
    pub enabled: bool,
    /// Its passwords: when each was made and last used.
    pub passwords: Vec<Password>,
    /// What it may do.
    pub rules: Rules,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// When a password was made and last used.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Password {
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last used.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
}

/// What a submitter may do.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Rules {
    /// Addresses and domains that it may send as, beyond its senders' mailboxes.
    pub also_as: Vec<String>,
    /// Domains it may send to; empty: any.
    pub recipient_domains: Vec<String>,
    /// Networks from where it may be used; empty: any.
    pub networks: Vec<String>,
    /// Networks from where it needs no password.
    pub unauthenticated_from: Vec<String>,
    /// As whom all of its mail goes out.
    pub force_from: Option<String>,
    /// Messages in any minute.
    #[schema(minimum = 0)]
    pub messages_per_minute: Option<u32>,
    /// Messages in any 24 hours.
    #[schema(minimum = 0)]
    pub messages_per_day: Option<u32>,
    /// Recipients in any 24 hours.
    #[schema(minimum = 0)]
    pub recipients_per_day: Option<u32>,
    /// Bytes in any 24 hours.
    #[schema(minimum = 0)]
    pub bytes_per_day: Option<u64>,
    /// Bytes of one message.
    #[schema(minimum = 0)]
    pub message_bytes: Option<u64>,
    /// Recipients of one message.
    #[schema(minimum = 0)]
    pub recipients_per_message: Option<u32>,
    /// How its messages rank.
    pub priority: Importance,
}

/// Submitters.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SubmitterList {
    /// By name.
    pub submitters: Vec<SubmitterShown>,
}

/// List submitters
///
/// Who may hand in mail. A key that is bound to a submitter sees only that one.
#[utoipa::path(
    get,
    path = "/v1/submitters",
    tag = "submitters",
    operation_id = "submitters_list",
    responses((status = 200, description = "The submitters.", body = SubmitterList), Reading),
    security(("api_key" = [])),
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
) -> Result<Response, Refusal> {
    caller.must(Scope::OutboxRead)?;
    accepts(&headers, JSON)?;
    let names = Names::read(&api.store).await?;
    let mut submitters = api.store.submitters().await?;
    submitters.retain(|submitter| caller.sees().is_none_or(|own| own == submitter.id));
    let submitters = submitters.into_iter().map(|submitter| shown(submitter, &names)).collect();
    Ok(answer(StatusCode::OK, &SubmitterList { submitters }))
}

/// Show a submitter
///
/// What it may do, and when its passwords were last used.
#[utoipa::path(
    get,
    path = "/v1/submitters/{name}",
    tag = "submitters",
    operation_id = "submitters_show",
    params(("name" = String, Path, description = "Its name.", min_length = 1, max_length = 200, pattern = "NAME")),
    responses((status = 200, description = "The submitter.", body = SubmitterShown), ReadingOne),
    security(("api_key" = [])),
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    FromQuery(NoQuery {}): FromQuery<NoQuery>,
    FromPath(name): FromPath<String>,
) -> Result<Response, Refusal> {
    caller.must(Scope::OutboxRead)?;
    accepts(&headers, JSON)?;
    let missing = || Refusal::NoSuchThing { what: "submitter", name: shortened(&name) };
    if name.contains(char::is_control) {
        return Err(missing());
    }
    let found = api.store.submitter(&name).await?.filter(|one| caller.sees().is_none_or(|own| own == one.id));
    let names = Names::read(&api.store).await?;
    Ok(answer(StatusCode::OK, &shown(found.ok_or_else(missing)?, &names)))
}

fn shown(submitter: Submitter, names: &Names) -> SubmitterShown {
    let rules = submitter.rules;
    let password = |secret: postkey_store::LocalSecret| Password {
        created_at: secret.created_at,
        last_used_at: secret.last_used_at,
    };
    SubmitterShown {
        senders: submitter.senders.into_iter().map(|id| names.sender(id)).collect(),
        enabled: submitter.disabled_at.is_none(),
        passwords: submitter.passwords.into_iter().map(password).collect(),
        rules: Rules {
            also_as: rules.also_as,
            recipient_domains: rules.recipient_domains,
            networks: rules.networks,
            unauthenticated_from: rules.unauthenticated_from,
            force_from: rules.force_from.map(|address| address.to_string()),
            messages_per_minute: rules.messages_per_minute,
            messages_per_day: rules.messages_per_day,
            recipients_per_day: rules.recipients_per_day,
            bytes_per_day: rules.bytes_per_day,
            message_bytes: rules.message_bytes,
            recipients_per_message: rules.recipients_per_message,
            priority: rules.priority.into(),
        },
        created_at: submitter.created_at,
        name: submitter.name,
    }
}
