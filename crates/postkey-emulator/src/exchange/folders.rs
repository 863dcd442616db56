//! Mail folders: list, read, create, rename, move, copy, delete.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{
    graph::{Context, context_url, empty_response, json_response, list_response, option, page, raw_response},
    json_read, json_write,
    mailbox::{Folder, Mailbox, StoredMessage, new_folder},
    messages::{mailbox, mailbox_mut},
    refusal::Refusal,
};
use crate::{request::ApiResponse, world::World};

/// What may be done with folders; a parent of None is the root.
#[derive(Debug)]
pub(crate) enum Action {
    List(Option<String>),
    Count(Option<String>),
    Create(Option<String>),
    Get(String),
    Rename(String),
    Delete(String),
    PermanentDelete(String),
    Move(String),
    Copy(String),
}

/// unverified: the page of folders
const PAGE: usize = 10;
/// Folders of one mailbox.
const MOST_FOLDERS: usize = 10_000;

/// The id of a folder by id or well-known name.
pub(crate) fn find(world: &World, context: &Context<'_>, key: &str) -> Result<String, Refusal> {
    mailbox(world, context)?.folder(key).map(|folder| folder.id.clone()).ok_or_else(Refusal::not_found)
}

fn parent_id(world: &World, context: &Context<'_>, parent: Option<&str>) -> Result<String, Refusal> {
    find(world, context, parent.unwrap_or("msgfolderroot"))
}

fn children<'a>(mailbox: &'a Mailbox, context: &Context<'_>, parent: &str) -> Vec<&'a Folder> {
    let hidden =
        option(context.request, "includeHiddenFolders").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    mailbox
        .folders
        .iter()
        .filter(|folder| folder.parent.as_deref() == Some(parent) && (hidden || !folder.hidden))
        .collect()
}

pub(crate) fn serve(world: &mut World, context: &Context<'_>, action: Action) -> Result<ApiResponse, Refusal> {
    match action {
        Action::List(parent) => list(world, context, parent.as_deref()),
        Action::Count(parent) => {
            let parent = parent_id(world, context, parent.as_deref())?;
            let count = children(mailbox(world, context)?, context, &parent).len();
            Ok(raw_response("text/plain", Bytes::from(count.to_string())))
        }
        Action::Create(parent) => create(world, context, parent.as_deref()),
        Action::Get(key) => {
            let id = find(world, context, &key)?;
            answer(world, context, &id, 200)
        }
        Action::Rename(key) => rename(world, context, &key),
        Action::Delete(key) | Action::PermanentDelete(key) => delete(world, context, &key),
        Action::Move(key) => relocate(world, context, &key, false),
        Action::Copy(key) => relocate(world, context, &key, true),
    }
}

fn shown(context: &Context<'_>, mailbox: &Mailbox, folder: &Folder) -> Map<String, Value> {
    let mut full = json_write::folder(mailbox, folder);
    if let Some(select) = option(context.request, "$select") {
        let names: Vec<&str> = select.split(',').map(str::trim).collect();
        full.retain(|key, _| key == "id" || names.iter().any(|name| name.eq_ignore_ascii_case(key)));
    }
    full
}

fn answer(world: &World, context: &Context<'_>, id: &str, status: u16) -> Result<ApiResponse, Refusal> {
    let mailbox = mailbox(world, context)?;
    let folder = mailbox.folder(id).ok_or_else(Refusal::not_found)?;
    let mut body = Map::new();
    body.insert("@odata.context".into(), context_url(context, "mailFolders/$entity").into());
    body.extend(shown(context, mailbox, folder));
    Ok(json_response(status, Value::Object(body)))
}

fn list(world: &World, context: &Context<'_>, parent: Option<&str>) -> Result<ApiResponse, Refusal> {
    let parent = parent_id(world, context, parent)?;
    let mailbox = mailbox(world, context)?;
    let page = page(context.request, PAGE)?;
    let mut all = children(mailbox, context, &parent);
    if let Some(filter) = option(context.request, "$filter") {
        let wanted =
            filter.strip_prefix("displayName eq '").and_then(|rest| rest.strip_suffix('\'')).ok_or_else(|| {
                Refusal::new(400, "BadRequest", format!("Invalid filter clause: syntax error in '{filter}'."))
            })?;
        let wanted = wanted.replace("''", "'");
        all.retain(|folder| folder.display_name.eq_ignore_ascii_case(&wanted));
    }
    let items = all
        .iter()
        .skip(page.skip)
        .take(page.top)
        .map(|folder| Value::Object(shown(context, mailbox, folder)))
        .collect();
    Ok(list_response(context, "mailFolders", items, all.len(), &page))
}

fn check_name(mailbox: &Mailbox, parent: &str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::new(400, "ErrorInvalidRequest", "The folder needs a displayName.")); // unverified: code
    }
    let taken = mailbox
        .folders
        .iter()
        .any(|folder| folder.parent.as_deref() == Some(parent) && folder.display_name.eq_ignore_ascii_case(name));
    if taken {
        // unverified: status
        return Err(Refusal::new(409, "ErrorFolderExists", "A folder with the specified name already exists."));
    }
    Ok(())
}

fn only_properties(body: &Map<String, Value>) -> Result<(), Refusal> {
    let known =
        ["displayName", "isHidden", "id", "parentFolderId", "childFolderCount", "unreadItemCount", "totalItemCount"];
    match body.keys().find(|key| !key.contains('@') && !known.contains(&key.as_str())) {
        Some(key) => Err(Refusal::bad_request(format!(
            "The property '{key}' does not exist on type 'microsoft.graph.mailFolder'. Make sure to only use property \
             names that are defined by the type."
        ))),
        None => Ok(()),
    }
}

fn create(world: &mut World, context: &Context<'_>, parent: Option<&str>) -> Result<ApiResponse, Refusal> {
    let body = json_read::object(&context.request.body)?;
    only_properties(&body)?;
    let parent = parent_id(world, context, parent)?;
    let name = body.get("displayName").and_then(Value::as_str).unwrap_or_default().trim();
    let hidden = body.get("isHidden").and_then(Value::as_bool).unwrap_or(false);
    let mailbox = mailbox_mut(world, context)?;
    check_name(mailbox, &parent, name)?;
    if mailbox.folders.len() >= MOST_FOLDERS {
        return Err(Refusal::new(400, "ErrorInvalidRequest", "The mailbox has too many folders."));
    }
    let folder = new_folder(name, parent, hidden);
    let id = folder.id.clone();
    mailbox.folders.push(folder);
    answer(world, context, &id, 201)
}

fn rename(world: &mut World, context: &Context<'_>, key: &str) -> Result<ApiResponse, Refusal> {
    let body = json_read::object(&context.request.body)?;
    only_properties(&body)?;
    let id = find(world, context, key)?;
    let mailbox = mailbox_mut(world, context)?;
    if let Some(name) = body.get("displayName").and_then(Value::as_str) {
        refuse_well_known(mailbox, &id)?;
        let parent = mailbox.folder(&id).and_then(|folder| folder.parent.clone()).unwrap_or_default();
        let unchanged = mailbox.folder(&id).is_some_and(|folder| folder.display_name == name);
        if !unchanged {
            check_name(mailbox, &parent, name)?;
        }
        if let Some(folder) = mailbox.folders.iter_mut().find(|folder| folder.id == id) {
            folder.display_name = name.to_owned();
        }
    }
    answer(world, context, &id, 200)
}

fn refuse_well_known(mailbox: &Mailbox, id: &str) -> Result<(), Refusal> {
    if mailbox.folder(id).is_some_and(|folder| folder.well_known.is_some()) {
        // unverified: status and text
        return Err(Refusal::new(400, "ErrorDeleteDistinguishedFolder", "Distinguished folders cannot be changed."));
    }
    Ok(())
}

/// The folder and everything below it.
fn subtree(mailbox: &Mailbox, id: &str) -> Vec<String> {
    let mut found = vec![id.to_owned()];
    let mut at = 0;
    while at < found.len() {
        let below: Vec<String> = mailbox
            .folders
            .iter()
            .filter(|folder| folder.parent.as_ref() == Some(&found[at]) && !found.contains(&folder.id))
            .map(|folder| folder.id.clone())
            .collect();
        found.extend(below);
        at += 1;
    }
    found
}

fn delete(world: &mut World, context: &Context<'_>, key: &str) -> Result<ApiResponse, Refusal> {
    let id = find(world, context, key)?;
    let mailbox = mailbox_mut(world, context)?;
    refuse_well_known(mailbox, &id)?;
    let gone = subtree(mailbox, &id);
    mailbox.messages.retain(|message| !gone.contains(&message.folder));
    mailbox.folders.retain(|folder| !gone.contains(&folder.id));
    Ok(empty_response(204)) // unverified for permanentDelete
}

fn relocate(world: &mut World, context: &Context<'_>, key: &str, copy: bool) -> Result<ApiResponse, Refusal> {
    let now = world.clock.now();
    let body = json_read::object(&context.request.body)?;
    json_read::only_parameters(&body, &["destinationId"])?;
    let destination =
        json_read::parameter(&body, "destinationId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let to = find(world, context, &destination)?;
    let id = find(world, context, key)?;
    let mailbox = mailbox_mut(world, context)?;
    let folder = mailbox.folder(&id).cloned().ok_or_else(Refusal::not_found)?;
    check_name(mailbox, &to, &folder.display_name)?;
    if !copy {
        refuse_well_known(mailbox, &id)?;
        if subtree(mailbox, &id).contains(&to) {
            return Err(Refusal::new(400, "ErrorInvalidRequest", "A folder cannot be moved into itself.")); // unverified: code
        }
        if let Some(folder) = mailbox.folders.iter_mut().find(|folder| folder.id == id) {
            folder.parent = Some(to);
        }
        return answer(world, context, &id, 200);
    }
    let made = new_folder(&folder.display_name, to, folder.hidden);
    let new_id = made.id.clone();
    mailbox.folders.push(made);
    let held: Vec<StoredMessage> = mailbox.messages.iter().filter(|message| message.folder == id).cloned().collect();
    for message in held {
        mailbox.store_in(new_id.clone(), message.letter, message.mime, now);
    }
    answer(world, context, &new_id, 200)
}
