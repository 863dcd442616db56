//! Graph's door to mailboxes: which room serves a path, what it needs, and how much of it is allowed.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    access::{self, Allowed, Need},
    attachments, delivery, folders, json_read, limits, messages,
    refusal::Refusal,
    reply, send_mail, upload,
};
use crate::{
    request::{ApiRequest, ApiResponse, Body, Caller},
    world::World,
};

/// Everything behind `/users/{user_key}/` or, with the key `me`, behind `/me/` that concerns mail.
pub(crate) fn handle(world: &mut World, request: &ApiRequest, user_key: &str, rest: &[String]) -> ApiResponse {
    delivery::settle(world);
    let served = serve(world, request, user_key, &segments(rest));
    let now = world.clock.now();
    delivery::settle(world);
    served.unwrap_or_else(|refusal| refusal.answer(request, now))
}

/// Splits keys in parentheses off: `mailFolders('inbox')` is two segments. Namespaces before actions are dropped.
pub(crate) fn segments(rest: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for segment in rest {
        let short = segment.strip_prefix("microsoft.graph.").unwrap_or(segment);
        match short.split_once('(').and_then(|(name, key)| Some((name, key.strip_suffix(')')?))) {
            Some((name, key)) if !name.is_empty() => {
                out.push(name.to_owned());
                let key = key.trim_matches('\'').replace("''", "'");
                if !key.is_empty() {
                    out.push(key);
                }
            }
            _ => out.push(short.to_owned()),
        }
    }
    out
}

/// The app and the mailbox that a request counts for, for the concurrency limit: call [`limits::begin`] when it
/// arrives and [`limits::end`] when its answer is written. `path` = the segments behind the version.
pub(crate) fn throttle_key(world: &World, caller: &Caller, path: &[String]) -> Option<(Uuid, Uuid)> {
    let path = segments(path);
    let first = path.first()?.to_ascii_lowercase();
    let tenant = world.tenants.get(access::tenant_index(world, caller.tenant)?)?;
    let (owner, rest) = match first.as_str() {
        "me" => (caller.user?, path.get(1)?),
        "users" => (access::owner_of(tenant, path.get(1)?)?, path.get(2)?),
        _ => return None,
    };
    is_mail(rest).then_some((caller.app_id, owner))
}

/// Whether the segment behind a user belongs to these rooms.
pub(crate) fn is_mail(segment: &str) -> bool {
    let name = segment.split('(').next().unwrap_or_default();
    let name = name.strip_prefix("microsoft.graph.").unwrap_or(name);
    ["sendmail", "messages", "mailfolders", "translateexchangeids"].contains(&name.to_ascii_lowercase().as_str())
}

/// What a served request knows.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) request: &'a ApiRequest,
    pub(crate) caller: &'a Caller,
    pub(crate) allowed: Allowed,
}

fn serve(world: &mut World, request: &ApiRequest, user_key: &str, path: &[String]) -> Result<ApiResponse, Refusal> {
    let Some(caller) = &request.caller else {
        return Err(Refusal::new(401, "InvalidAuthenticationToken", "Access token is empty.")
            .with_header("www-authenticate", "Bearer"));
    };
    let route = route(&request.method, path)?;
    let allowed = access::authorize(world, caller, user_key, route.need)?;
    let changes = [Method::PATCH, Method::POST, Method::PUT].contains(&request.method);
    let uploaded = if changes { request.body.len() } else { 0 };
    limits::count_request(world, caller.app_id, allowed.mailbox, uploaded)?;
    if request.body.len() > world.mail.limits.request_bytes {
        // unverified: the body of this answer
        return Err(Refusal::new(413, "RequestEntityTooLarge", "The request is too large."));
    }
    let context = Context { request, caller, allowed };
    match route.action {
        Action::SendMail => send_mail::send_mail(world, request, caller, allowed),
        Action::Translate => messages::translate(world, &context),
        Action::Folders(action) => folders::serve(world, &context, action),
        Action::Messages(folder, action) => {
            let folder = match folder {
                Some(key) => Some(folders::find(world, &context, &key)?),
                None => None,
            };
            messages::serve(world, &context, folder, action)
        }
        Action::Reply(id, kind) => reply::serve(world, &context, &id, kind),
        Action::Attachments(id, action) => attachments::serve(world, &context, &id, action),
        Action::UploadSession(id) => upload::create(world, &context, &id),
    }
}

#[derive(Debug)]
struct Route {
    need: Need,
    action: Action,
}

#[derive(Debug)]
enum Action {
    SendMail,
    Translate,
    Folders(folders::Action),
    Messages(Option<String>, messages::Action),
    Reply(String, reply::Kind),
    Attachments(String, attachments::Action),
    UploadSession(String),
}

/// One place says what a path means and what it needs.
fn route(method: &Method, path: &[String]) -> Result<Route, Refusal> {
    let first = path.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
    match (first.as_str(), path.get(1..).unwrap_or_default()) {
        ("sendmail", []) => only(method, &Method::POST, Need::Send, Action::SendMail),
        ("translateexchangeids", []) => only(method, &Method::POST, Need::Translate, Action::Translate),
        ("messages", rest) => message_route(method, None, rest),
        ("mailfolders", rest) => folder_route(method, None, rest),
        _ => Err(Refusal::no_segment(&first)),
    }
}

fn only(method: &Method, wanted: &Method, need: Need, action: Action) -> Result<Route, Refusal> {
    if method == wanted { Ok(Route { need, action }) } else { Err(method_not_allowed()) }
}

fn method_not_allowed() -> Refusal {
    Refusal::new(405, "ErrorInvalidRequest", "The HTTP method is not allowed for this resource.") // unverified: code
}

fn folder_route(method: &Method, parent: Option<String>, rest: &[String]) -> Result<Route, Refusal> {
    use folders::Action as Folders;
    let folders = |need, action| Ok(Route { need, action: Action::Folders(action) });
    let Some((id, rest)) = rest.split_first() else {
        return match *method {
            Method::GET => folders(Need::ReadBasic, Folders::List(parent)),
            Method::POST => folders(Need::Write, Folders::Create(parent)),
            _ => Err(method_not_allowed()),
        };
    };
    if id == "$count" && rest.is_empty() {
        return folders(Need::ReadBasic, Folders::Count(parent));
    }
    let id = id.clone();
    let Some((name, rest)) = rest.split_first() else {
        return match *method {
            Method::GET => folders(Need::ReadBasic, Folders::Get(id)),
            Method::PATCH => folders(Need::Write, Folders::Rename(id)),
            Method::DELETE => folders(Need::Write, Folders::Delete(id)),
            _ => Err(method_not_allowed()),
        };
    };
    let post = |action| only(method, &Method::POST, Need::Write, Action::Folders(action));
    match name.to_ascii_lowercase().as_str() {
        "messages" => message_route(method, Some(id), rest),
        "childfolders" => folder_route(method, Some(id), rest),
        "move" => post(Folders::Move(id)),
        "copy" => post(Folders::Copy(id)),
        "permanentdelete" => post(Folders::PermanentDelete(id)),
        _ => Err(Refusal::no_segment(name)),
    }
}

fn message_route(method: &Method, folder: Option<String>, rest: &[String]) -> Result<Route, Refusal> {
    use messages::Action as Messages;
    let Some((id, rest)) = rest.split_first() else {
        return match *method {
            Method::GET => Ok(Route { need: Need::ReadBasic, action: Action::Messages(folder, Messages::List) }),
            Method::POST => Ok(Route { need: Need::Write, action: Action::Messages(folder, Messages::Create) }),
            _ => Err(method_not_allowed()),
        };
    };
    if id == "$count" && rest.is_empty() {
        return only(method, &Method::GET, Need::ReadBasic, Action::Messages(folder, Messages::Count));
    }
    if id.eq_ignore_ascii_case("delta") || id.starts_with("delta(") {
        return Err(Refusal::no_segment(id)); // not here yet
    }
    let id = id.clone();
    let Some((name, rest)) = rest.split_first() else {
        let (need, action) = match *method {
            Method::GET => (Need::ReadBasic, Messages::Get(id)),
            Method::PATCH => (Need::Write, Messages::Update(id)),
            Method::DELETE => (Need::Write, Messages::Delete(id)),
            _ => return Err(method_not_allowed()),
        };
        return Ok(Route { need, action: Action::Messages(folder, action) });
    };
    let post = |need, action| only(method, &Method::POST, need, action);
    let message = |action| Action::Messages(folder.clone(), action);
    match (name.to_ascii_lowercase().as_str(), rest) {
        ("$value", []) => only(method, &Method::GET, Need::Read, message(Messages::Mime(id))),
        ("send", []) => post(Need::Send, message(Messages::Send(id))),
        ("move", []) => post(Need::Write, message(Messages::Move(id))),
        ("copy", []) => post(Need::Write, message(Messages::Copy(id))),
        ("permanentdelete", []) => post(Need::Write, message(Messages::PermanentDelete(id))),
        ("reply", []) => post(Need::Send, Action::Reply(id, reply::Kind::REPLY)),
        ("replyall", []) => post(Need::Send, Action::Reply(id, reply::Kind::REPLY_ALL)),
        ("forward", []) => post(Need::Send, Action::Reply(id, reply::Kind::FORWARD)),
        ("createreply", []) => post(Need::Write, Action::Reply(id, reply::Kind::REPLY.draft())),
        ("createreplyall", []) => post(Need::Write, Action::Reply(id, reply::Kind::REPLY_ALL.draft())),
        ("createforward", []) => post(Need::Write, Action::Reply(id, reply::Kind::FORWARD.draft())),
        ("attachments", rest) => attachment_route(method, id, rest),
        _ => Err(Refusal::no_segment(name)),
    }
}

fn attachment_route(method: &Method, id: String, rest: &[String]) -> Result<Route, Refusal> {
    use attachments::Action as Attachments;
    let route = |need, action| Ok(Route { need, action: Action::Attachments(id.clone(), action) });
    match (rest, method.clone()) {
        ([], Method::GET) => route(Need::Read, Attachments::List),
        ([], Method::POST) => route(Need::Write, Attachments::Add),
        ([name], _) if name.eq_ignore_ascii_case("createUploadSession") => {
            only(method, &Method::POST, Need::Upload, Action::UploadSession(id))
        }
        ([name], Method::GET) if name == "$count" => route(Need::Read, Attachments::Count),
        ([attached], Method::GET) => route(Need::Read, Attachments::Get(attached.clone())),
        ([attached], Method::DELETE) => route(Need::Write, Attachments::Delete(attached.clone())),
        ([attached, value], Method::GET) if value == "$value" => {
            route(Need::Read, Attachments::Value(attached.clone()))
        }
        ([] | [_], _) => Err(method_not_allowed()),
        _ => Err(Refusal::no_segment(rest.last().map_or("", String::as_str))),
    }
}

/// A JSON answer.
pub(crate) fn json_response(status: u16, body: Value) -> ApiResponse {
    ApiResponse { status, headers: Vec::new(), body: Body::Json(body) }
}

/// An answer without a body.
pub(crate) fn empty_response(status: u16) -> ApiResponse {
    ApiResponse { status, headers: Vec::new(), body: Body::Empty }
}

/// An answer of bytes.
pub(crate) fn raw_response(content_type: &'static str, bytes: Bytes) -> ApiResponse {
    ApiResponse { status: 200, headers: Vec::new(), body: Body::Raw { content_type, bytes } }
}

/// A query option's value.
pub(crate) fn option<'a>(request: &'a ApiRequest, name: &str) -> Option<&'a str> {
    request.query.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// `{origin}/{version}/$metadata#users('{oid}')/…`
pub(crate) fn context_url(context: &Context<'_>, rest: &str) -> String {
    let request = context.request;
    format!("{}/{}/$metadata#users('{}')/{rest}", request.origin, request.version, context.allowed.mailbox)
}

/// One page of a list.
pub(crate) struct Page {
    pub(crate) skip: usize,
    pub(crate) top: usize,
}

/// `$top` 1 to 1000, `odata.maxpagesize`, `$skip`.
pub(crate) fn page(request: &ApiRequest, default: usize) -> Result<Page, Refusal> {
    let number = |name: &str| match option(request, name) {
        Some(text) => text.parse::<usize>().map(Some).map_err(|_| {
            Refusal::new(400, "BadRequest", format!("Invalid value '{text}' for {name} query option found."))
        }),
        None => Ok(None),
    };
    let preferred = super::json_write::preferences(request)
        .iter()
        .find_map(|preference| preference.strip_prefix("odata.maxpagesize=")?.parse().ok());
    let top = number("$top")?.or(preferred).unwrap_or(default);
    if !(1..=1000).contains(&top) {
        return Err(Refusal::new(
            400,
            "BadRequest",
            "The limit of '1000' for Top query has been exceeded or is not positive. Use a value from 1 to 1000.",
        ));
    }
    Ok(Page { skip: number("$skip")?.unwrap_or(0), top })
}

/// `@odata.nextLink`: absolute, on the host that the client called, with its other options kept.
pub(crate) fn next_link(request: &ApiRequest, skip: usize) -> String {
    let path: Vec<String> = request.path.iter().map(|segment| percent(segment)).collect();
    let query: Vec<String> = request
        .query
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("$skip"))
        .map(|(name, value)| format!("{name}={}", percent(value)))
        .chain([format!("$skip={skip}")])
        .collect();
    format!("{}/{}/{}?{}", request.origin, request.version, path.join("/"), query.join("&"))
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            b'-' | b'.' | b'_' | b'~' | b'@' | b'(' | b')' | b'\'' | b',' | b'$' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The answer of a list.
pub(crate) fn list_response(
    context: &Context<'_>,
    context_rest: &str,
    items: Vec<Value>,
    total: usize,
    page: &Page,
) -> ApiResponse {
    let mut body = json!({"@odata.context": context_url(context, context_rest)});
    if option(context.request, "$count").is_some_and(|count| count.eq_ignore_ascii_case("true")) {
        body["@odata.count"] = total.into();
    }
    let shown = page.skip + items.len();
    body["value"] = items.into();
    if shown < total {
        body["@odata.nextLink"] = next_link(context.request, shown).into();
    }
    json_response(200, body)
}

/// The request's JSON object; an absent body is an empty one.
pub(crate) fn optional_object(request: &ApiRequest) -> Result<serde_json::Map<String, Value>, Refusal> {
    if request.body.is_empty() { Ok(serde_json::Map::new()) } else { json_read::object(&request.body) }
}
