//! Messages: list, read, create as drafts, change, move, copy, delete, send.

use bytes::Bytes;
use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use super::{
    delivery::{self, Pending},
    folders,
    graph::{Context, context_url, empty_response, json_response, raw_response},
    json_read::{self, Marks},
    json_write, limits,
    listing::{count, list, selection, view},
    mailbox::{Letter, Mailbox, StoredMessage, item_id},
    mime_write,
    refusal::Refusal,
    send_mail::{self, Spoilt},
};
use crate::{
    request::{ApiResponse, Body},
    world::World,
};

/// What may be done with messages.
#[derive(Debug)]
pub(crate) enum Action {
    List,
    Count,
    Create,
    Get(String),
    Mime(String),
    Update(String),
    Delete(String),
    PermanentDelete(String),
    Move(String),
    Copy(String),
    Send(String),
}

pub(crate) fn mailbox<'a>(world: &'a World, context: &Context<'_>) -> Result<&'a Mailbox, Refusal> {
    world.tenants[context.allowed.tenant].mailboxes.get(&context.allowed.mailbox).ok_or_else(Refusal::not_found)
}

pub(crate) fn mailbox_mut<'a>(world: &'a mut World, context: &Context<'_>) -> Result<&'a mut Mailbox, Refusal> {
    world.tenants[context.allowed.tenant].mailboxes.get_mut(&context.allowed.mailbox).ok_or_else(Refusal::not_found)
}

/// Where a message stands; 400 for what cannot be an id.
pub(crate) fn find(world: &World, context: &Context<'_>, id: &str) -> Result<usize, Refusal> {
    let well_formed = id.len() >= 8 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=+/".contains(&byte));
    if !well_formed {
        return Err(Refusal::new(400, "ErrorInvalidIdMalformed", "Id is malformed."));
    }
    mailbox(world, context)?.position(id).ok_or_else(Refusal::not_found)
}

pub(crate) fn serve(
    world: &mut World,
    context: &Context<'_>,
    folder: Option<String>,
    action: Action,
) -> Result<ApiResponse, Refusal> {
    let id = match &action {
        Action::List => return list(world, context, folder.as_deref()),
        Action::Count => return count(world, context, folder.as_deref()),
        Action::Create => return create(world, context, folder),
        Action::Get(id)
        | Action::Mime(id)
        | Action::Update(id)
        | Action::Delete(id)
        | Action::PermanentDelete(id)
        | Action::Move(id)
        | Action::Copy(id)
        | Action::Send(id) => id,
    };
    let position = find(world, context, id)?;
    if folder
        .is_some_and(|folder| mailbox(world, context).is_ok_and(|mailbox| mailbox.messages[position].folder != folder))
    {
        return Err(Refusal::not_found());
    }
    match action {
        Action::Get(_) => get(world, context, position),
        Action::Mime(_) => {
            let message = &mailbox(world, context)?.messages[position];
            Ok(raw_response("text/plain", mime_of(message)))
        }
        Action::Update(_) => update(world, context, position),
        Action::Delete(_) => delete(world, context, position),
        Action::PermanentDelete(_) => {
            mailbox_mut(world, context)?.take(position);
            Ok(empty_response(204)) // unverified: status
        }
        Action::Move(_) => relocate(world, context, position, false),
        Action::Copy(_) => relocate(world, context, position, true),
        Action::Send(_) => send(world, context, position),
        Action::List | Action::Count | Action::Create => Err(Refusal::not_found()), // answered above
    }
}

/// The MIME of a message: as it came, or made of its properties.
pub(crate) fn mime_of(message: &StoredMessage) -> Bytes {
    message.mime.clone().unwrap_or_else(|| {
        let id = message.letter.message_id.as_deref().unwrap_or("<draft@emulator.invalid>");
        Bytes::from(mime_write::mime(&message.letter, id, message.sent, &message.immutable_id))
    })
}

/// One message as an answer.
pub(crate) fn answer(
    world: &World,
    context: &Context<'_>,
    position: usize,
    status: u16,
) -> Result<ApiResponse, Refusal> {
    let view = view(context)?;
    let mailbox = mailbox(world, context)?;
    let message = &mailbox.messages[position];
    let mut body = Map::new();
    body.insert("@odata.context".into(), context_url(context, &format!("messages{}/$entity", selection(&view))).into());
    body.extend(json_write::message(mailbox, message, &view));
    let mut answer = json_response(status, Value::Object(body));
    answer.headers.extend(view.applied());
    Ok(answer)
}

fn get(world: &World, context: &Context<'_>, position: usize) -> Result<ApiResponse, Refusal> {
    answer(world, context, position, 200)
}

fn create(world: &mut World, context: &Context<'_>, folder: Option<String>) -> Result<ApiResponse, Refusal> {
    let now = world.clock.now();
    let request = context.request;
    let (mut letter, mime, marks) = if send_mail::is_mime(request) {
        let mime = send_mail::decode_mime(&request.body)?;
        (send_mail::read_mime(&mime, now)?, Some(mime), Marks::default())
    } else {
        let body = json_read::object(&request.body)?;
        let mut letter = Letter { conversation: item_id("new"), ..Letter::default() };
        let marks = json_read::apply(&mut letter, &body, true, now)?;
        (letter, None, marks)
    };
    let mailbox = mailbox_mut(world, context)?;
    let domain = mailbox.address().rsplit_once('@').map_or("invalid", |(_, domain)| domain).to_owned();
    letter.message_id.get_or_insert_with(|| delivery::new_message_id(&domain));
    let size = mime.as_ref().map_or(letter.body.content.len(), Bytes::len);
    if mailbox.is_full_for(size) {
        return Err(Refusal::new(507, "ErrorQuotaExceeded", "The mailbox has exceeded its quota.")); // unverified: status
    }
    let folder = folder.unwrap_or_else(|| mailbox.well_known_id("drafts"));
    let position = mailbox.store_in(folder, letter, mime, now);
    mailbox.messages[position].is_draft = true;
    mailbox.messages[position].is_read = true;
    mark(&mut mailbox.messages[position], marks);
    let mut answer = answer(world, context, position, 201)?;
    if let Body::Json(body) = &answer.body
        && let Some(id) = body["id"].as_str()
    {
        let place = format!("{}/{}/users/{}/messages/{id}", request.origin, request.version, context.allowed.mailbox);
        answer.headers.push(("location", place));
    }
    Ok(answer)
}

/// Sets what belongs to the item and not to the letter.
pub(crate) fn mark(message: &mut StoredMessage, marks: Marks) {
    if let Some(is_read) = marks.is_read {
        message.is_read = is_read;
    }
    if let Some(flag) = marks.flag {
        message.flag = flag;
    }
    if let Some(categories) = marks.categories {
        message.categories = categories;
    }
    if let Some(inference) = marks.inference {
        message.inference = inference;
    }
    for (id, value) in marks.extended {
        match message.extended.iter_mut().find(|(held, _)| held.eq_ignore_ascii_case(&id)) {
            Some((_, held)) => *held = value,
            None => message.extended.push((id, value)),
        }
    }
}

fn if_match(context: &Context<'_>, message: &StoredMessage) -> Result<(), Refusal> {
    let wanted = context.request.headers.get(http::header::IF_MATCH).and_then(|value| value.to_str().ok());
    match wanted {
        Some(wanted) if wanted != "*" && wanted != json_write::etag(message) => Err(Refusal::new(
            412,
            "ErrorIrresolvableConflict",
            "The send or update operation could not be performed because the change key passed in the request does not \
             match the current change key for the item.",
        )),
        _ => Ok(()),
    }
}

/// Properties that only a draft may change.
const DRAFT_ONLY: [&str; 4] = ["body", "subject", "replyTo", "internetMessageId"];
/// Changing one of these leaves MIME behind: the message is made of properties from then on.
const OF_THE_ITEM: [&str; 5] =
    ["isRead", "flag", "categories", "inferenceClassification", "singleValueExtendedProperties"];

fn update(world: &mut World, context: &Context<'_>, position: usize) -> Result<ApiResponse, Refusal> {
    let now = world.clock.now();
    let body = json_read::object(&context.request.body)?;
    let mailbox = mailbox_mut(world, context)?;
    let message = &mailbox.messages[position];
    if_match(context, message)?;
    if !message.is_draft
        && let Some(name) = body.keys().find(|key| DRAFT_ONLY.contains(&key.as_str()))
    {
        // unverified: code
        return Err(Refusal::new(
            400,
            "ErrorInvalidPropertySet",
            format!("The property '{name}' can be set on drafts only."),
        ));
    }
    let mut letter = message.letter.clone();
    let marks = json_read::apply(&mut letter, &body, false, now)?;
    let changes_letter = body.keys().any(|key| !key.contains('@') && !OF_THE_ITEM.contains(&key.as_str()));
    let message = &mut mailbox.messages[position];
    message.letter = letter;
    if changes_letter && message.is_draft {
        forget_mime(message);
    }
    mark(message, marks);
    mailbox.touch(position, now);
    answer(world, context, position, 200)
}

/// From here on the message is made of its properties: of its headers only the first five custom ones remain.
pub(crate) fn forget_mime(message: &mut StoredMessage) {
    if message.mime.take().is_some() {
        message.letter.headers.retain(|(name, _)| name.to_ascii_lowercase().starts_with("x-"));
        message.letter.headers.truncate(5);
    }
}

fn delete(world: &mut World, context: &Context<'_>, position: usize) -> Result<ApiResponse, Refusal> {
    let now = world.clock.now();
    let mailbox = mailbox_mut(world, context)?;
    if_match(context, &mailbox.messages[position])?;
    let deleted_items = mailbox.well_known_id("deleteditems");
    let to = if mailbox.messages[position].folder == deleted_items {
        mailbox.well_known_id("recoverableitemsdeletions")
    } else {
        deleted_items
    };
    mailbox.move_to(position, to, now);
    Ok(empty_response(204))
}

fn relocate(world: &mut World, context: &Context<'_>, position: usize, copy: bool) -> Result<ApiResponse, Refusal> {
    let now = world.clock.now();
    let body = json_read::object(&context.request.body)?;
    json_read::only_parameters(&body, &["destinationId"])?;
    let key = json_read::parameter(&body, "destinationId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let to = folders::find(world, context, &key)?;
    let mailbox = mailbox_mut(world, context)?;
    let position = if copy {
        let original = mailbox.messages[position].clone();
        let copied = mailbox.store_in(to, original.letter.clone(), original.mime.clone(), now);
        let message = &mut mailbox.messages[copied];
        *message = StoredMessage {
            immutable_id: message.immutable_id.clone(),
            rest_id: message.rest_id.clone(),
            folder: message.folder.clone(),
            change: message.change,
            pending: None,
            ..original
        };
        copied
    } else {
        mailbox.move_to(position, to, now);
        position
    };
    answer(world, context, position, 201)
}

fn send(world: &mut World, context: &Context<'_>, position: usize) -> Result<ApiResponse, Refusal> {
    let message = &mailbox(world, context)?.messages[position];
    if !message.is_draft || message.pending.is_some() {
        // unverified: what a second send answers
        return Err(Refusal::new(400, "ErrorInvalidRequest", "The message is not a draft."));
    }
    let mut letter = message.letter.clone();
    let checked = send_mail::check(world, context.caller, context.allowed, &mut letter, message.mime.clone())?;
    if let Spoilt::Before(answer) = checked.spoilt {
        return answer;
    }
    limits::count_graph_message(world, context.allowed.mailbox)?;
    let pending = Pending {
        due: world.clock.now(),
        recipients: letter.recipients(),
        from: checked.from,
        save: true,
        also_in: checked.also_in,
    };
    let message = &mut mailbox_mut(world, context)?.messages[position];
    message.letter = letter;
    message.mime = checked.mime;
    delivery::hand_over(
        world,
        context.allowed.tenant,
        context.allowed.mailbox,
        position,
        pending,
        SignedDuration::ZERO,
    );
    send_mail::finish(checked.spoilt)
}

/// `POST …/translateExchangeIds`
pub(crate) fn translate(world: &World, context: &Context<'_>) -> Result<ApiResponse, Refusal> {
    let body = json_read::object(&context.request.body)?;
    json_read::only_parameters(&body, &["inputIds", "sourceIdType", "targetIdType"])?;
    let word =
        |name: &str| json_read::parameter(&body, name).and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    let (source, target) = (word("sourceIdType"), word("targetIdType"));
    let known = ["entryid", "ewsid", "immutableentryid", "restid", "restimmutableentryid"];
    let ids = json_read::parameter(&body, "inputIds").and_then(Value::as_array).cloned().unwrap_or_default();
    if !known.contains(&source.as_str()) || !known.contains(&target.as_str()) || ids.is_empty() || ids.len() > 1000 {
        return Err(Refusal::bad_request("The ids to translate or their formats are invalid."));
    }
    let mailbox = mailbox(world, context)?;
    let translated: Vec<Value> = ids
        .iter()
        .filter_map(Value::as_str)
        .filter_map(|id| {
            let message = &mailbox.messages[mailbox.position(id)?];
            let to = if target.contains("immutable") { &message.immutable_id } else { &message.rest_id };
            Some(json!({"sourceId": id, "targetId": to}))
        })
        .collect();
    let context_name = format!(
        "{}/{}/$metadata#Collection(microsoft.graph.convertIdResult)",
        context.request.origin, context.request.version
    );
    Ok(json_response(200, json!({"@odata.context": context_name, "value": translated})))
}
