//! Attachments of a message: add in one request, list, read, delete.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    graph::{Context, context_url, empty_response, json_response, list_response, option, page, raw_response},
    json_read, json_write,
    mailbox::{Attachment, AttachmentContent, Mailbox, StoredMessage},
    messages::{find, forget_mime, mailbox, mailbox_mut},
    refusal::Refusal,
};
use crate::{request::ApiResponse, world::World};

/// What may be done with attachments.
#[derive(Debug)]
pub(crate) enum Action {
    List,
    Count,
    Add,
    Get(String),
    Value(String),
    Delete(String),
}

/// unverified: the page of attachments
const PAGE: usize = 100;
/// Attachments of one message; Exchange Online allows 250.
const MOST_ATTACHMENTS: usize = 250;

pub(crate) fn serve(
    world: &mut World,
    context: &Context<'_>,
    message_id: &str,
    action: Action,
) -> Result<ApiResponse, Refusal> {
    let position = find(world, context, message_id)?;
    let place = format!("messages('{}')/attachments", percent_id(message_id));
    match action {
        Action::List => {
            let page = page(context.request, PAGE)?;
            let message = &mailbox(world, context)?.messages[position];
            let all = &message.letter.attachments;
            let items =
                all.iter().skip(page.skip).take(page.top).map(|attached| Value::Object(shown(context, attached)));
            Ok(list_response(context, &place, items.collect(), all.len(), &page))
        }
        Action::Count => {
            let count = mailbox(world, context)?.messages[position].letter.attachments.len();
            Ok(raw_response("text/plain", Bytes::from(count.to_string())))
        }
        Action::Add => {
            let now = world.clock.now();
            let limit = world.mail.limits.single_attachment_bytes;
            let body = json_read::object(&context.request.body)?;
            let attached = json_read::attachment(&Value::Object(body), now)?;
            if attached.size() >= limit {
                // unverified: the body of this answer
                return Err(Refusal::new(
                    413,
                    "RequestEntityTooLarge",
                    "The attachment is too large for a single request.",
                ));
            }
            let answer = entity(context, &place, &attached, 201);
            attach_to(mailbox_mut(world, context)?, position, attached, now)?;
            Ok(answer)
        }
        Action::Get(id) => {
            let message = &mailbox(world, context)?.messages[position];
            Ok(entity(context, &place, one(message, &id)?, 200))
        }
        Action::Value(id) => {
            let attached = one(&mailbox(world, context)?.messages[position], &id)?;
            match &attached.content {
                AttachmentContent::File(bytes) => Ok(raw_response(content_type(attached), bytes.clone())),
                AttachmentContent::Message(mime) => Ok(raw_response("text/plain", mime.clone())),
                AttachmentContent::Item(item) => Ok(raw_response("text/plain", Bytes::from(item.to_string()))),
                AttachmentContent::Reference(_) => {
                    Err(Refusal::new(405, "ErrorInvalidRequest", "A reference attachment has no content.")) // unverified: code
                }
            }
        }
        Action::Delete(id) => {
            let now = world.clock.now();
            let mailbox = mailbox_mut(world, context)?;
            one(&mailbox.messages[position], &id)?;
            mailbox.messages[position].letter.attachments.retain(|attached| attached.id != id);
            forget_mime(&mut mailbox.messages[position]);
            mailbox.touch(position, now);
            Ok(empty_response(204))
        }
    }
}

/// Adds an attachment to a draft.
pub(crate) fn attach_to(
    mailbox: &mut Mailbox,
    position: usize,
    attached: Attachment,
    now: Timestamp,
) -> Result<(), Refusal> {
    if mailbox.is_full_for(attached.size()) {
        return Err(Refusal::new(507, "ErrorQuotaExceeded", "The mailbox has exceeded its quota.")); // unverified: status
    }
    let message = &mut mailbox.messages[position];
    if message.letter.attachments.len() >= MOST_ATTACHMENTS {
        return Err(Refusal::new(400, "ErrorAttachmentSizeLimitExceeded", "The message has too many attachments."));
    }
    message.letter.attachments.push(attached);
    forget_mime(message);
    mailbox.touch(position, now);
    Ok(())
}

fn one<'a>(message: &'a StoredMessage, id: &str) -> Result<&'a Attachment, Refusal> {
    message.letter.attachments.iter().find(|attached| attached.id == id).ok_or_else(Refusal::not_found)
}

fn shown(context: &Context<'_>, attached: &Attachment) -> Map<String, Value> {
    let expands = option(context.request, "$expand")
        .is_some_and(|expand| expand.to_ascii_lowercase().contains("itemattachment/item"));
    let mut full = json_write::attachment(attached, expands, true);
    if let Some(select) = option(context.request, "$select") {
        let names: Vec<&str> =
            select.split(',').map(|name| name.trim().rsplit('/').next().unwrap_or_default()).collect();
        full.retain(|key, _| {
            key.starts_with('@') || key == "id" || names.iter().any(|name| name.eq_ignore_ascii_case(key))
        });
    }
    full
}

fn entity(context: &Context<'_>, place: &str, attached: &Attachment, status: u16) -> ApiResponse {
    let mut body = Map::new();
    body.insert("@odata.context".into(), context_url(context, &format!("{place}/$entity")).into());
    body.extend(shown(context, attached));
    json_response(status, Value::Object(body))
}

fn percent_id(id: &str) -> String {
    id.replace('=', "%3D")
}

/// The content types this answer can name; anything else is octets.
fn content_type(attached: &Attachment) -> &'static str {
    const KNOWN: [&str; 10] = [
        "text/plain",
        "text/html",
        "text/csv",
        "text/calendar",
        "application/pdf",
        "application/json",
        "image/png",
        "image/gif",
        "image/jpeg",
        "application/zip",
    ];
    let kind = attached.content_type.as_deref().unwrap_or_default();
    KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(kind)).unwrap_or("application/octet-stream")
}
