//! Attachments of a draft: small ones in one call, large ones range by range through an upload session.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use postkey_base::CorrelationId;
use reqwest::header::{CONTENT_RANGE, HeaderValue, LOCATION};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use crate::{
    call::Reply,
    error::{GraphError, Unreadable},
    graph::Graph,
    mailbox::Mailbox,
    messages::immutable,
    shape::{CallShape, Effect, Verb},
};

const WRITE: &[&str] = &["Mail.ReadWrite"];

/// Adds a file below 3 MB.
pub const ADD: CallShape =
    CallShape::new(Verb::Post, "/users/{mailbox}/messages/{message}/attachments", Effect::Adds, WRITE);
/// Opens an upload session for a file of 3 to 150 MB.
pub const CREATE_UPLOAD_SESSION: CallShape = CallShape::new(
    Verb::Post,
    "/users/{mailbox}/messages/{message}/attachments/createUploadSession",
    Effect::Adds,
    WRITE,
);
/// One range of the file, to the address that the session gave: not Graph's, and without our token.
pub const UPLOAD_RANGE: CallShape = CallShape::new(Verb::Put, "{uploadUrl}", Effect::Settles, &[]);
/// Ends an upload session without an attachment.
pub const CANCEL_UPLOAD: CallShape = CallShape::new(Verb::Delete, "{uploadUrl}", Effect::Settles, &[]);

/// Files at least this large need an upload session. The page says 3 MB; the smaller reading is the safe one.
pub const SMALL_LIMIT: u64 = 3_000_000;
/// The largest file of an upload session.
pub const LARGEST: u64 = 150_000_000;
/// Bytes per range: the largest multiple of 320 KiB, which OneDrive asks for and Outlook does not mind, below 4 MB.
pub const RANGE: u64 = 327_680 * 12;

/// A file to attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAttachment {
    /// File name.
    pub name: String,
    /// Media type.
    pub content_type: String,
    /// The file.
    pub content: Bytes,
    /// `Content-ID` of an inline part, without angle brackets.
    pub content_id: Option<String>,
}

impl Serialize for FileAttachment {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut body = json!({
            "@odata.type": "#microsoft.graph.fileAttachment",
            "name": self.name,
            "contentType": self.content_type,
            "contentBytes": BASE64_STANDARD.encode(&self.content),
        });
        if let Some(content_id) = &self.content_id {
            body["isInline"] = json!(true);
            body["contentId"] = json!(content_id);
        }
        body.serialize(to)
    }
}

/// A session under way. Its address is as good as a token for this one upload: it is not printed.
#[derive(Clone)]
pub struct UploadSession {
    url: Url,
    /// When the session ends; uploading does not move it.
    pub expires: Option<Timestamp>,
    /// The next byte that Exchange waits for.
    pub next: u64,
    /// A range was sent off and its answer did not come: Exchange may have it.
    in_doubt: bool,
}

impl fmt::Debug for UploadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadSession")
            .field("expires", &self.expires)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// Adds a file below [`SMALL_LIMIT`]; returns the attachment's id.
///
/// # Errors
/// [`GraphError::OverRequestLimit`] for larger ones. When it [may have taken effect](
/// GraphError::may_have_taken_effect), the file may be there: make the draft anew rather than attach it twice.
pub async fn add_small(
    graph: &Graph,
    mailbox: impl Into<Mailbox>,
    message: &str,
    file: &FileAttachment,
) -> Result<String, GraphError> {
    #[derive(Deserialize)]
    struct Added {
        id: String,
    }
    let size = file.content.len() as u64;
    if size >= SMALL_LIMIT {
        return Err(GraphError::OverRequestLimit { call: ADD, size, limit: SMALL_LIMIT - 1 });
    }
    let request = immutable(graph.call(ADD, &[mailbox.into().as_str(), message])).json(file).expect(&[201]);
    request.send().await?.json::<Added>().map(|added| added.id)
}

/// Opens an upload session for a file.
///
/// # Errors
/// [`GraphError::AccessDenied`] for a user's token on somebody else's mailbox, which Microsoft lists as a known issue.
pub async fn create_upload_session(
    graph: &Graph,
    mailbox: impl Into<Mailbox>,
    message: &str,
    file: &FileAttachment,
) -> Result<UploadSession, GraphError> {
    let size = file.content.len() as u64;
    if size > LARGEST {
        return Err(GraphError::OverRequestLimit { call: CREATE_UPLOAD_SESSION, size, limit: LARGEST });
    }
    let mut item =
        json!({ "attachmentType": "file", "name": file.name, "size": size, "contentType": file.content_type });
    if let Some(content_id) = &file.content_id {
        item["isInline"] = json!(true);
        item["contentId"] = json!(content_id);
    }
    let request = immutable(graph.call(CREATE_UPLOAD_SESSION, &[mailbox.into().as_str(), message]));
    // 201 is documented for Outlook, 200 for its relatives.
    let reply = request.json(&json!({ "AttachmentItem": item })).expect(&[200, 201]).send().await?;
    let body: Value = reply.json()?;
    let url = member(&body, "uploadUrl").and_then(Value::as_str).and_then(|url| Url::parse(url).ok());
    let url = url.filter(|url| graph.trusts_scheme_of(url));
    Ok(UploadSession {
        url: url.ok_or_else(|| reply.unreadable(Unreadable::Lacks("usable uploadUrl")))?,
        expires: member(&body, "expirationDateTime").and_then(Value::as_str).and_then(|time| time.parse().ok()),
        next: next_expected(&body).unwrap_or(0),
        in_doubt: false,
    })
}

/// Uploads what is missing of `content`, range after range in order. On an error `session.next` says where to go on:
/// call it again with the same session until it expires. Returns the attachment's id where Exchange tells it.
///
/// # Errors
/// [`GraphError::NotFound`] when the session has ended.
pub async fn upload(
    graph: &Graph,
    mailbox: impl Into<Mailbox>,
    session: &mut UploadSession,
    content: &Bytes,
) -> Result<Option<String>, GraphError> {
    let (mailbox, total) = (mailbox.into(), content.len() as u64);
    // Every range moves forward, so this many answers are enough, and a few more for a server that steps back.
    let mut latest = CorrelationId::random();
    for _ in 0..=2 * total.div_ceil(RANGE) {
        let (first, end) = (session.next, total.min(session.next + RANGE));
        let reply = match put(graph, &mailbox, session, content, first, end).await {
            // It has this range: an earlier attempt went through although its answer did not. unverified: Exchange's own
            // answer to a repeated range is not documented
            Err(GraphError::Unknown(answer))
                if end < total && (answer.says("invalidRange") || session.in_doubt && answer.status == 416) =>
            {
                (session.next, session.in_doubt) = (end, false);
                continue;
            }
            Err(error) => {
                session.in_doubt |= error.may_have_taken_effect();
                return Err(error);
            }
            Ok(reply) => reply,
        };
        session.in_doubt = false;
        if reply.status.as_u16() == 201 {
            session.next = total;
            return Ok(attachment_id(&reply));
        }
        latest = reply.client_request_id;
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let next = next_expected(&body).unwrap_or(end);
        if next > total || (next == total && end == total) {
            return Err(reply.unreadable(Unreadable::Lacks("end of the upload")));
        }
        session.next = next;
    }
    Err(GraphError::Unreadable { call: UPLOAD_RANGE, client_request_id: latest, cause: Unreadable::GoesInCircles })
}

/// Ends a session whose upload will not be finished.
///
/// # Errors
/// Any; the session ends by itself, too.
pub async fn cancel_upload(
    graph: &Graph,
    mailbox: impl Into<Mailbox>,
    session: UploadSession,
) -> Result<(), GraphError> {
    let request = graph.call_elsewhere(CANCEL_UPLOAD, session.url, mailbox.into().as_str().to_owned());
    request.expect(&[204]).without_body().send().await.map(drop)
}

async fn put(
    graph: &Graph,
    mailbox: &Mailbox,
    session: &UploadSession,
    content: &Bytes,
    first: u64,
    end: u64,
) -> Result<Reply, GraphError> {
    let bounds = |at: u64| usize::try_from(at).expect("the content is in memory");
    let range = format!("bytes {first}-{}/{}", end.saturating_sub(1), content.len());
    let range = HeaderValue::from_str(&range).expect("numbers are plain ASCII");
    let request = graph.call_elsewhere(UPLOAD_RANGE, session.url.clone(), mailbox.as_str().to_owned());
    let request = request.bytes("application/octet-stream", content.slice(bounds(first)..bounds(end)));
    request.header(CONTENT_RANGE, range).expect(&[200, 201, 202]).send().await
}

/// A member whatever the case of its name: Outlook writes the same one in several ways.
fn member<'a>(body: &'a Value, name: &str) -> Option<&'a Value> {
    body.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Where Exchange wants to go on: `["2097152-"]`, `["2097152-3483321"]` or the bare `["2097152"]`.
fn next_expected(body: &Value) -> Option<u64> {
    let first = member(body, "nextExpectedRanges")?.as_array()?.first()?.as_str()?;
    first.split('-').next()?.trim().parse().ok()
}

/// The attachment's id out of `Location: …/Attachments('{id}')`: the body is empty.
fn attachment_id(reply: &Reply) -> Option<String> {
    let location = reply.headers.get(LOCATION)?.to_str().ok()?;
    let at = location.to_ascii_lowercase().rfind("attachments('")? + "attachments('".len();
    Some(location[at..].split('\'').next()?.to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests;
