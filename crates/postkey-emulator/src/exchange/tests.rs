//! What the rooms do together, seen from Graph's door.

mod dialogs;
mod examples;
mod mime;
mod reading;
mod sending;
mod submission;
mod uploads;

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{administration::Seen, graph, mailbox::MailboxKind, state::Keep};
use crate::{
    contract,
    directory::{Directory, User},
    request::{ApiRequest, ApiResponse, Body, Caller},
    token::SigningKeys,
    world::{Behaviour, Tenant, World},
};

pub(crate) const TENANT: Uuid = Uuid::from_u128(0x7000);
pub(crate) const APP: Uuid = Uuid::from_u128(0xa000);
pub(crate) const PRINCIPAL: Uuid = Uuid::from_u128(0xb000);
pub(crate) const ALICE: Uuid = Uuid::from_u128(1);
pub(crate) const BOB: Uuid = Uuid::from_u128(2);
pub(crate) const SHARED: Uuid = Uuid::from_u128(3);
pub(crate) const NOBODY: Uuid = Uuid::from_u128(4);

fn user(id: Uuid, name: &str) -> User {
    User {
        id,
        user_principal_name: format!("{name}@contoso.example"),
        display_name: name.to_owned(),
        given_name: None,
        surname: None,
        password: None,
        account_enabled: true,
        administrator: false,
        aliases: if name == "alice" { vec!["al@contoso.example".into()] } else { Vec::new() },
        sign_in_refusal: None,
        tokens_valid_from: Timestamp::UNIX_EPOCH,
    }
}

/// A tenant with mailboxes of alice, bob and the shared team, and a user without one.
pub(crate) fn world() -> World {
    let mut world = World::new(1, Behaviour::default(), SigningKeys::none());
    let mut tenant = Tenant {
        id: TENANT,
        domain: "contoso.example".into(),
        display_name: "Contoso".into(),
        directory: Directory {
            users: vec![user(ALICE, "alice"), user(BOB, "bob"), user(SHARED, "team"), user(NOBODY, "nomail")],
            ..Directory::default()
        },
        mailboxes: std::collections::BTreeMap::default(),
        exchange: super::state::Organization::default(),
    };
    for (name, kind) in [("alice", MailboxKind::User), ("bob", MailboxKind::User), ("team", MailboxKind::Shared)] {
        tenant.add_mailbox(&format!("{name}@contoso.example"), kind).unwrap();
    }
    world.tenants.push(tenant);
    world
}

fn words(list: &str) -> BTreeSet<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

/// An app-only token with these roles.
pub(crate) fn app(roles: &str) -> Caller {
    Caller {
        tenant: TENANT,
        app_id: APP,
        service_principal: PRINCIPAL,
        user: None,
        roles: words(roles),
        scopes: BTreeSet::new(),
    }
}

/// A user's token with these scopes.
pub(crate) fn delegated(user: Uuid, scopes: &str) -> Caller {
    Caller { user: Some(user), roles: BTreeSet::new(), scopes: words(scopes), ..app("") }
}

/// Calls Graph; `path` starts behind the version, e.g. `/users/alice@contoso.example/messages?$top=2`.
pub(crate) fn call(
    world: &mut World,
    caller: &Caller,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> ApiResponse {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let request = ApiRequest {
        method: Method::from_bytes(method.as_bytes()).unwrap(),
        version: "v1.0".into(),
        path: path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
        query: query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| part.split_once('=').map_or((part.into(), String::new()), |(k, v)| (k.into(), v.into())))
            .collect(),
        headers: map,
        body: body.into(),
        caller: Some(caller.clone()),
        origin: "https://localhost:4430".into(),
        request_id: Uuid::from_u128(0x1234),
        client_request_id: "client-id".into(),
    };
    let (key, rest) = match request.path[0].as_str() {
        "me" => ("me".to_owned(), request.path[1..].to_vec()),
        _ => (request.path[1].clone(), request.path[2..].to_vec()),
    };
    let answer = graph::handle(world, &request, &key, &rest);
    let spelt = |segment: String| match segment.to_ascii_lowercase().as_str() {
        "sendmail" => "sendMail".to_owned(),
        "mailfolders" => "mailFolders".to_owned(),
        _ => segment,
    };
    let rest = graph::segments(&rest).into_iter().map(spelt);
    let described = ["users".to_owned(), key].into_iter().chain(rest).collect::<Vec<_>>().join("/");
    match &answer.body {
        Body::Json(body) => contract::check(method, &described, answer.status, Some(body)),
        Body::Empty => contract::check(method, &described, answer.status, None),
        Body::Raw { .. } => {}
    }
    answer
}

pub(crate) fn post_json(world: &mut World, caller: &Caller, path: &str, body: &Value) -> ApiResponse {
    call(world, caller, "POST", path, &[("content-type", "application/json")], body.to_string())
}

pub(crate) fn post_mime(world: &mut World, caller: &Caller, path: &str, mime: &[u8]) -> ApiResponse {
    let encoded = STANDARD.encode(mime);
    let wrapped: String =
        encoded.as_bytes().chunks(76).map(|line| format!("{}\r\n", str::from_utf8(line).unwrap())).collect();
    call(world, caller, "POST", path, &[("content-type", "text/plain")], wrapped)
}

pub(crate) fn get(world: &mut World, caller: &Caller, path: &str) -> Value {
    let answer = call(world, caller, "GET", path, &[], "");
    assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
    body_json(&answer)
}

pub(crate) fn body_json(answer: &ApiResponse) -> Value {
    match &answer.body {
        Body::Json(value) => value.clone(),
        other => panic!("not JSON: {other:?}"),
    }
}

pub(crate) fn code(answer: &ApiResponse) -> String {
    match &answer.body {
        Body::Json(body) => body["error"]["code"].as_str().unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

pub(crate) fn folder(world: &mut World, who: &str, folder: &str) -> Vec<Seen> {
    let all = world.mailbox_contents(TENANT, who).unwrap();
    all.into_iter().filter(|message| message.folder == folder).collect()
}

/// A small message.
pub(crate) fn hello(to: &str) -> Value {
    json!({"message": {
        "subject": "Hello",
        "body": {"contentType": "Text", "content": "Hi there"},
        "toRecipients": [{"emailAddress": {"address": to}}],
    }})
}

pub(crate) const MAIL: &str = "/users/alice@contoso.example/sendMail";
