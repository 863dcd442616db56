//! Messages of a mailbox: drafts, and finding what became of a message that we sent.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use postkey_base::EmailAddress;
use reqwest::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    attachments::FileAttachment,
    call::Request,
    error::GraphError,
    folders::Folder,
    graph::Graph,
    json,
    mailbox::Mailbox,
    paging::Pages,
    send_mail::Accepted,
    shape::{CallShape, Effect, Verb, quoted},
};

const READ: &[&str] = &["Mail.ReadBasic"];
const WRITE: &[&str] = &["Mail.ReadWrite"];

/// Makes a draft, from JSON or MIME.
pub const CREATE_DRAFT: CallShape = CallShape::new(Verb::Post, "/users/{mailbox}/messages", Effect::Adds, WRITE);
/// Changes a draft.
pub const UPDATE: CallShape =
    CallShape::new(Verb::Patch, "/users/{mailbox}/messages/{message}", Effect::Settles, WRITE);
/// Messages of the whole mailbox.
pub const LIST: CallShape = CallShape::new(Verb::Get, "/users/{mailbox}/messages", Effect::Reads, READ);
/// Messages of one folder.
pub const LIST_IN_FOLDER: CallShape =
    CallShape::new(Verb::Get, "/users/{mailbox}/mailFolders/{folder}/messages", Effect::Reads, READ);
/// One message.
pub const GET: CallShape = CallShape::new(Verb::Get, "/users/{mailbox}/messages/{message}", Effect::Reads, READ);
/// One message as MIME.
pub const MIME: CallShape =
    CallShape::new(Verb::Get, "/users/{mailbox}/messages/{message}/$value", Effect::Reads, &["Mail.Read"]);
/// Moves it to Deleted Items.
pub const DELETE: CallShape =
    CallShape::new(Verb::Delete, "/users/{mailbox}/messages/{message}", Effect::Settles, WRITE);
/// Sends a draft.
pub const SEND_DRAFT: CallShape =
    CallShape::new(Verb::Post, "/users/{mailbox}/messages/{message}/send", Effect::Sends, &["Mail.Send"]);

/// What tells a message and its fate. Headers come only when asked for.
const SELECT: &str = "id,internetMessageId,subject,isDraft,parentFolderId,sentDateTime,receivedDateTime,\
                      hasAttachments,internetMessageHeaders";
/// A Message-ID stands for one message; its copies in several folders are few.
const MOST_FOUND: usize = 50;
/// The largest message that Exchange Online can be set to carry, in base64.
pub const MIME_ANSWER_LIMIT: u64 = 220 * 1024 * 1024;

/// A message, without what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Its id; the same in every folder, since we ask for immutable ones.
    pub id: String,
    /// `Message-ID`, with its angle brackets.
    #[serde(default)]
    pub internet_message_id: Option<String>,
    /// Subject.
    #[serde(default)]
    pub subject: Option<String>,
    /// Still a draft, or on its way.
    #[serde(default, deserialize_with = "json::or_default")]
    pub is_draft: bool,
    /// The folder it is in.
    #[serde(default)]
    pub parent_folder_id: Option<String>,
    /// When it was sent.
    #[serde(default, rename = "sentDateTime")]
    pub sent: Option<Timestamp>,
    /// When it arrived.
    #[serde(default, rename = "receivedDateTime")]
    pub received: Option<Timestamp>,
    /// Inline ones do not count.
    #[serde(default, deserialize_with = "json::or_default")]
    pub has_attachments: bool,
    /// Its headers, as far as they are told.
    #[serde(default, deserialize_with = "json::or_default")]
    pub internet_message_headers: Vec<MessageHeader>,
}

impl Message {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.internet_message_headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(&header.value)
    }
}

/// One header field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageHeader {
    /// Of our own making: must begin with `x-`, and a message takes five.
    pub name: String,
    /// Its text.
    #[serde(default, deserialize_with = "json::or_default")]
    pub value: String,
}

/// A message for Exchange to make.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutgoingMessage {
    /// Subject.
    pub subject: String,
    /// What it says.
    pub body: Body,
    /// The sender, when it is not the mailbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Recipient>,
    /// To.
    #[serde(rename = "toRecipients")]
    pub to: Vec<Recipient>,
    /// Cc.
    #[serde(rename = "ccRecipients", skip_serializing_if = "Vec::is_empty")]
    pub cc: Vec<Recipient>,
    /// Bcc.
    #[serde(rename = "bccRecipients", skip_serializing_if = "Vec::is_empty")]
    pub bcc: Vec<Recipient>,
    /// Reply-To.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reply_to: Vec<Recipient>,
    /// A `Message-ID` of our own, in angle brackets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internet_message_id: Option<String>,
    /// Headers beginning with `x-`, at most five.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub internet_message_headers: Vec<MessageHeader>,
    /// Importance, when it is not normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance: Option<Importance>,
    /// Attachments small enough to come along.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<FileAttachment>,
}

/// What a message says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Body {
    /// How.
    #[serde(rename = "contentType")]
    pub kind: BodyKind,
    /// What.
    pub content: String,
}

/// Plain text or HTML.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BodyKind {
    /// Plain text.
    #[default]
    Text,
    /// HTML; Exchange strips what it finds unsafe when it is read.
    Html,
}

/// How urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Importance {
    /// Can wait.
    Low,
    /// Ordinary.
    Normal,
    /// Cannot.
    High,
}

/// An address with an optional name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Where to.
    pub address: EmailAddress,
    /// Shown beside it.
    pub name: Option<String>,
}

impl From<EmailAddress> for Recipient {
    fn from(address: EmailAddress) -> Self {
        Self { address, name: None }
    }
}

impl Serialize for Recipient {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut inner = serde_json::Map::new();
        inner.insert("address".into(), self.address.as_str().into());
        if let Some(name) = &self.name {
            inner.insert("name".into(), name.as_str().into());
        }
        serde_json::json!({ "emailAddress": inner }).serialize(to)
    }
}

/// Makes a draft in the Drafts folder.
///
/// # Errors
/// When it [may have taken effect](GraphError::may_have_taken_effect), look for it by its `Message-ID`.
pub async fn create_draft(
    graph: &Graph,
    mailbox: impl Into<Mailbox>,
    message: &OutgoingMessage,
) -> Result<Message, GraphError> {
    immutable(graph.call(CREATE_DRAFT, &[mailbox.into().as_str()])).json(message).expect(&[201]).send().await?.json()
}

/// Makes a draft from MIME; above [`crate::send_mail::MIME_LIMIT`] bytes it is refused.
///
/// # Errors
/// As [`create_draft`].
pub async fn create_draft_mime(graph: &Graph, mailbox: impl Into<Mailbox>, mime: &[u8]) -> Result<Message, GraphError> {
    let request = immutable(graph.call(CREATE_DRAFT, &[mailbox.into().as_str()]));
    let request = request.bytes("text/plain", Bytes::from(BASE64_STANDARD.encode(mime)));
    request.expect(&[201]).send().await?.json()
}

/// Changes properties of a draft, such as `internetMessageId`.
///
/// # Errors
/// [`GraphError::Conflict`] when it changed meanwhile.
pub async fn update(
    graph: &Graph,
    mailbox: impl Into<Mailbox>,
    message: &str,
    properties: &Value,
) -> Result<Message, GraphError> {
    immutable(graph.call(UPDATE, &[mailbox.into().as_str(), message])).json(properties).send().await?.json()
}

/// One message.
///
/// # Errors
/// [`GraphError::NotFound`] when there is none, or none that this app may see.
pub async fn get(graph: &Graph, mailbox: impl Into<Mailbox>, message: &str) -> Result<Message, GraphError> {
    let request = immutable(graph.call(GET, &[mailbox.into().as_str(), message]));
    request.query("$select", SELECT).send().await?.json()
}

/// The messages with this `Message-ID` (angle brackets included), in one folder or in the whole mailbox.
///
/// # Errors
/// [`GraphError::AccessDenied`] without a permission to read mail.
pub async fn find_by_internet_message_id(
    graph: &Graph,
    mailbox: impl Into<Mailbox>,
    folder: Option<&Folder>,
    internet_message_id: &str,
) -> Result<Vec<Message>, GraphError> {
    let mailbox = mailbox.into();
    let request = match folder {
        Some(folder) => graph.call(LIST_IN_FOLDER, &[mailbox.as_str(), folder.as_str()]),
        None => graph.call(LIST, &[mailbox.as_str()]),
    };
    let filter = format!("internetMessageId eq '{}'", quoted(internet_message_id));
    let first = immutable(request).query("$filter", &filter).query("$select", SELECT);
    Pages::new(graph, first).all(MOST_FOUND).await
}

/// The newest messages of a folder, or of the whole mailbox: as many as asked for.
///
/// # Errors
/// Any.
pub async fn newest(
    graph: &Graph,
    mailbox: impl Into<Mailbox>,
    folder: Option<&Folder>,
    count: usize,
) -> Result<Vec<Message>, GraphError> {
    let mailbox = mailbox.into();
    let request = match folder {
        Some(folder) => graph.call(LIST_IN_FOLDER, &[mailbox.as_str(), folder.as_str()]),
        None => graph.call(LIST, &[mailbox.as_str()]),
    };
    let top = count.clamp(1, 1_000).to_string();
    let first = immutable(request).query("$orderby", "receivedDateTime desc").query("$top", &top);
    Pages::new(graph, first.query("$select", SELECT)).first(count).await
}

/// A message as MIME, byte for byte as Exchange keeps it.
///
/// # Errors
/// [`GraphError::NotFound`] when there is none.
pub async fn mime(graph: &Graph, mailbox: impl Into<Mailbox>, message: &str) -> Result<Bytes, GraphError> {
    let request = immutable(graph.call(MIME, &[mailbox.into().as_str(), message])).answer_limit(MIME_ANSWER_LIMIT);
    request.send().await.map(|reply| reply.body)
}

/// Moves a message to Deleted Items.
///
/// # Errors
/// [`GraphError::NotFound`] when there is none.
pub async fn delete(graph: &Graph, mailbox: impl Into<Mailbox>, message: &str) -> Result<(), GraphError> {
    let request = immutable(graph.call(DELETE, &[mailbox.into().as_str(), message]));
    request.expect(&[204]).without_body().send().await.map(drop)
}

/// Sends a draft. Only 202 is acceptance.
///
/// # Errors
/// Never repeated here. Sending the same draft again makes no second message object, but ask
/// [`GraphError::may_have_taken_effect`] and [`get`] it first.
pub async fn send_draft(graph: &Graph, mailbox: impl Into<Mailbox>, message: &str) -> Result<Accepted, GraphError> {
    let request = immutable(graph.call(SEND_DRAFT, &[mailbox.into().as_str(), message]));
    let reply = request.expect(&[202]).without_body().send().await?;
    Ok(Accepted::of(&reply))
}

/// Ids that stay when a message moves from Drafts to Sent Items.
pub(crate) fn immutable(request: Request<'_>) -> Request<'_> {
    request.header(HeaderName::from_static("prefer"), HeaderValue::from_static("IdType=\"ImmutableId\""))
}
