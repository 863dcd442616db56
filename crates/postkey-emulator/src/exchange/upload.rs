//! Upload sessions: a file of 3 to 150 MB in ordered pieces, by a URL that carries its own authority.

use bytes::Bytes;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    address_faults, attachments,
    graph::{Context, empty_response, json_response},
    json_read,
    mailbox::{Attachment, AttachmentContent, item_id},
    messages::{find, mailbox},
    refusal::Refusal,
    send_mail,
};
use crate::{
    request::{ApiRequest, ApiResponse, Body},
    world::{World, random_text},
};

/// A file on its way.
#[derive(Debug)]
pub(crate) struct UploadSession {
    token: String,
    tenant: usize,
    mailbox: Uuid,
    message: String,
    name: String,
    content_type: Option<String>,
    content_id: Option<String>,
    inline: bool,
    size: usize,
    received: Vec<u8>,
    expires: Timestamp,
    /// A recipient asked for the first range to be lost: before it is stored, or (true) only its answer.
    losable: Option<bool>,
    /// It has been lost.
    lost: bool,
}

/// First segment of an upload URL's path.
const PREFIX: &str = "emulator-upload";
/// unverified: how long a session lives; the documented examples show about this
const LIFETIME: SignedDuration = SignedDuration::from_hours(1);
/// Each range stays under 4 MB.
const RANGE_BYTES: usize = 4 * 1024 * 1024;
/// Sessions at once in the whole emulator; the oldest goes.
const SESSIONS: usize = 200;

/// Whether a URL's path is an upload URL of ours: such a request needs no token and goes to [`handle_upload`].
pub(crate) fn is_upload_path(path: &str) -> bool {
    path.trim_start_matches('/').split('/').next() == Some(PREFIX)
}

/// `POST …/attachments/createUploadSession`
pub(crate) fn create(world: &mut World, context: &Context<'_>, message_id: &str) -> Result<ApiResponse, Refusal> {
    let now = world.clock.now();
    let position = find(world, context, message_id)?;
    let body = json_read::object(&context.request.body)?;
    json_read::only_parameters(&body, &["AttachmentItem"])?;
    let item = json_read::parameter(&body, "AttachmentItem")
        .and_then(Value::as_object)
        .ok_or_else(|| Refusal::bad_request("The parameter 'AttachmentItem' is required."))?;
    json_read::only_parameters(item, &["attachmentType", "name", "size", "isInline", "contentId", "contentType"])?;
    let text = |name: &str| json_read::parameter(item, name).and_then(Value::as_str).map(str::to_owned);
    let name =
        text("name").filter(|name| !name.is_empty()).ok_or_else(|| Refusal::bad_request("The item needs a name."))?;
    if !text("attachmentType").is_some_and(|kind| kind.eq_ignore_ascii_case("file")) {
        return Err(Refusal::bad_request("Only file attachments can be uploaded.")); // unverified: text
    }
    let size = json_read::parameter(item, "size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|size| *size > 0).ok_or_else(|| Refusal::bad_request("The item needs a size."))?;
    if size > world.mail.limits.session_attachment_bytes {
        // unverified: status and code
        return Err(Refusal::new(
            400,
            "ErrorAttachmentSizeLimitExceeded",
            "The attachment exceeds the maximum supported size.",
        ));
    }
    let draft = &mailbox(world, context)?.messages[position];
    let message = draft.immutable_id.clone();
    let asked = |address: &String| {
        address_faults::parse(address).filter(|fault| fault.kind == address_faults::FaultKind::ChunkLost)
    };
    let losable = draft.letter.recipients().iter().find_map(asked).map(|fault| fault.delivered);
    let token = random_text(48);
    world.record_secret(&token);
    let expires = now + LIFETIME;
    let upload_url = format!("{}/{PREFIX}/{token}", context.request.origin);
    if world.mail.uploads.len() >= SESSIONS {
        world.mail.uploads.remove(0);
    }
    world.mail.uploads.push(UploadSession {
        token,
        tenant: context.allowed.tenant,
        mailbox: context.allowed.mailbox,
        message,
        name,
        content_type: text("contentType"),
        content_id: text("contentId"),
        inline: match json_read::parameter(item, "isInline") {
            Some(value) => json_read::boolean(value, "isInline")?,
            None => false,
        },
        size,
        received: Vec::new(),
        expires,
        losable,
        lost: false,
    });
    let body = json!({
        "@odata.context": format!("{}/{}/$metadata#microsoft.graph.uploadSession", context.request.origin, context.request.version),
        "uploadUrl": upload_url,
        "expirationDateTime": fine_time(expires),
        "nextExpectedRanges": ["0-"],
    });
    Ok(json_response(201, body))
}

/// Seven digits after the second, as these answers show.
fn fine_time(at: Timestamp) -> String {
    format!("{}.{:07}Z", at.strftime("%Y-%m-%dT%H:%M:%S"), at.subsec_nanosecond() / 100)
}

/// `PUT` and `DELETE` of an upload URL; `request.path` ends in the token, `caller` is not looked at.
pub(crate) fn handle_upload(world: &mut World, request: &ApiRequest) -> ApiResponse {
    let now = world.clock.now();
    let served = match request.method {
        Method::PUT => put(world, request),
        Method::DELETE => position(world, request).map(|position| {
            world.mail.uploads.remove(position);
            empty_response(204)
        }),
        _ => Err(Refusal::new(405, "ErrorInvalidRequest", "An upload URL takes PUT and DELETE.")),
    };
    served.unwrap_or_else(|refusal| refusal.answer(request, now))
}

fn position(world: &mut World, request: &ApiRequest) -> Result<usize, Refusal> {
    let now = world.clock.now();
    world.mail.uploads.retain(|session| session.expires > now);
    let token = request.path.last().map_or("", String::as_str);
    // unverified: what an expired or finished session answers
    world
        .mail
        .uploads
        .iter()
        .position(|session| session.token == token)
        .ok_or_else(|| Refusal::new(404, "ErrorItemNotFound", "The upload session was not found or has expired."))
}

/// `bytes {first}-{last}/{total}`
fn content_range(text: &str) -> Option<(usize, usize, usize)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?, total.trim().parse().ok()?))
}

fn put(world: &mut World, request: &ApiRequest) -> Result<ApiResponse, Refusal> {
    let now = world.clock.now();
    let position = position(world, request)?;
    let range =
        request.headers.get(http::header::CONTENT_RANGE).and_then(|value| value.to_str().ok()).and_then(content_range);
    let Some((first, last, total)) = range else {
        return Err(Refusal::new(400, "ErrorInvalidRequest", "The Content-Range header is missing or invalid."));
    };
    let session = &mut world.mail.uploads[position];
    if total != session.size || last < first || last >= total || last - first + 1 != request.body.len() {
        return Err(Refusal::new(
            400,
            "ErrorInvalidRequest",
            "The Content-Range does not fit the session or the body.",
        ));
    }
    if request.body.len() >= RANGE_BYTES {
        return Err(Refusal::new(413, "RequestEntityTooLarge", "A range must stay below 4 MB."));
    }
    if first != session.received.len() {
        // unverified: status of a piece out of order
        return Err(Refusal::new(416, "ErrorInvalidRequest", "The bytes must be sent in order."));
    }
    let lost = !session.lost && session.losable.is_some();
    session.lost |= lost;
    if lost && session.losable == Some(false) {
        return Err(send_mail::cut());
    }
    session.received.extend_from_slice(&request.body);
    if lost && session.received.len() < session.size {
        return Err(send_mail::cut());
    }
    if session.received.len() < session.size {
        let body = json!({
            "@odata.context": format!("{}/api/v2.0/$metadata#AttachmentSessions/$entity", request.origin),
            "ExpirationDateTime": fine_time(session.expires),
            "nextExpectedRanges": [session.received.len().to_string()],
        });
        return Ok(json_response(200, body));
    }
    let session = world.mail.uploads.remove(position);
    let attached = Attachment {
        id: item_id("AAMkADExMDI2BEgAQ"),
        content_type: Some(session.content_type.unwrap_or_else(|| json_read::guess_type(&session.name))),
        name: session.name,
        content_id: session.content_id,
        content_location: None,
        inline: session.inline,
        modified: now,
        content: AttachmentContent::File(Bytes::from(session.received)),
    };
    let tenant = &mut world.tenants[session.tenant];
    let tenant_id = tenant.id;
    let mailbox = tenant.mailboxes.get_mut(&session.mailbox).ok_or_else(Refusal::not_found)?;
    let at = mailbox.position(&session.message).ok_or_else(Refusal::not_found)?;
    let location = format!(
        "{}/api/v2.0/Users('{}@{tenant_id}')/Messages('{}')/Attachments('{}')",
        request.origin, session.mailbox, mailbox.messages[at].rest_id, attached.id
    );
    attachments::attach_to(mailbox, at, attached, now)?;
    Ok(ApiResponse { status: 201, headers: vec![("location", location)], body: Body::Empty })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read_strictly() {
        for (text, want) in [
            ("bytes 0-9/10", Some((0, 9, 10))),
            ("bytes 2097152-3483321/3483322", Some((2_097_152, 3_483_321, 3_483_322))),
            ("bytes */10", None),
            ("0-9/10", None),
            ("bytes 0-9", None),
        ] {
            assert_eq!(content_range(text), want, "{text}");
        }
    }
}
