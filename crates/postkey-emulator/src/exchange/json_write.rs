//! Stored messages, attachments and folders as Graph's JSON, with Graph's names.

use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    header_block,
    mailbox::{Attachment, AttachmentContent, Folder, ItemBody, Letter, Mailbox, Recipient, StoredMessage},
};
use crate::request::ApiRequest;

/// How the caller wants to see items.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) immutable_ids: bool,
    /// `Prefer: outlook.body-content-type="text"`
    pub(crate) text_bodies: bool,
    /// `Prefer: outlook.allow-unsafe-html`
    pub(crate) unsafe_html: bool,
    /// False with Mail.ReadBasic only: no body, preview, attachments or extended properties.
    pub(crate) content: bool,
    /// `$select`, as asked.
    pub(crate) select: Option<Vec<String>>,
    /// `$expand=attachments`
    pub(crate) attachments: bool,
    /// `$expand=singleValueExtendedProperties($filter=id eq '…')`: the ids asked for
    pub(crate) extended: Vec<String>,
}

/// Properties in the order Graph shows them. The last two only when selected.
pub(crate) const MESSAGE_PROPERTIES: [&str; 33] = [
    "createdDateTime",
    "lastModifiedDateTime",
    "changeKey",
    "categories",
    "receivedDateTime",
    "sentDateTime",
    "hasAttachments",
    "internetMessageId",
    "subject",
    "bodyPreview",
    "importance",
    "parentFolderId",
    "conversationId",
    "conversationIndex",
    "isDeliveryReceiptRequested",
    "isReadReceiptRequested",
    "isRead",
    "isDraft",
    "webLink",
    "inferenceClassification",
    "body",
    "sender",
    "from",
    "toRecipients",
    "ccRecipients",
    "bccRecipients",
    "replyTo",
    "flag",
    "meetingMessageType",
    "id",
    "internetMessageHeaders",
    "uniqueBody",
    "@odata.type",
];
const ONLY_SELECTED: [&str; 2] = ["internetMessageHeaders", "uniqueBody"];
/// First 255 characters.
const PREVIEW: usize = 255;

impl View {
    /// What the request's `Prefer` asks for.
    pub(crate) fn of(request: &ApiRequest, content: bool) -> Self {
        let preferences = preferences(request);
        let has =
            |text: &str| preferences.iter().any(|preference| preference.replace('"', "").eq_ignore_ascii_case(text));
        Self {
            immutable_ids: has("IdType=ImmutableId"),
            text_bodies: has("outlook.body-content-type=text"),
            unsafe_html: has("outlook.allow-unsafe-html"),
            content,
            ..Self::default()
        }
    }

    /// `Preference-Applied`, if there is anything to say.
    pub(crate) fn applied(&self) -> Vec<(&'static str, String)> {
        let mut applied = Vec::new();
        if self.immutable_ids {
            applied.push("IdType=\"ImmutableId\"");
        }
        if self.text_bodies {
            applied.push("outlook.body-content-type=\"text\"");
        }
        if self.unsafe_html {
            applied.push("outlook.allow-unsafe-html");
        }
        if applied.is_empty() { Vec::new() } else { vec![("preference-applied", applied.join(", "))] }
    }

    pub(crate) fn id<'a>(&self, message: &'a StoredMessage) -> &'a str {
        if self.immutable_ids { &message.immutable_id } else { &message.rest_id }
    }

    fn wants(&self, property: &str) -> bool {
        if !self.content && matches!(property, "body" | "bodyPreview" | "uniqueBody") {
            return false;
        }
        match &self.select {
            None => !ONLY_SELECTED.contains(&property),
            Some(select) => {
                property == "id"
                    || property == "@odata.type"
                    || select.iter().any(|name| name.eq_ignore_ascii_case(property))
            }
        }
    }
}

/// Every preference of the request's `Prefer` headers.
pub(crate) fn preferences(request: &ApiRequest) -> Vec<String> {
    request
        .headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .map(|preference| preference.trim().to_owned())
        .filter(|preference| !preference.is_empty())
        .collect()
}

/// Graph's time, whole seconds.
pub(crate) fn time(at: Timestamp) -> Value {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

/// A message as Graph shows it.
pub(crate) fn message(mailbox: &Mailbox, message: &StoredMessage, view: &View) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("@odata.etag".into(), etag(message).into());
    out.insert("id".into(), view.id(message).into());
    for property in MESSAGE_PROPERTIES {
        if view.wants(property)
            && let Some(value) = property_of(message, view, property)
        {
            out.insert(property.into(), value);
        }
    }
    if view.attachments && view.content {
        let list = message.letter.attachments.iter().map(|attached| Value::Object(attachment(attached, false, true)));
        out.insert("attachments".into(), list.collect());
    }
    if !view.extended.is_empty() && view.content {
        let held: Vec<Value> = message
            .extended
            .iter()
            .filter(|(id, _)| view.extended.iter().any(|wanted| wanted.eq_ignore_ascii_case(id)))
            .map(|(id, value)| json!({"id": id, "value": value}))
            .collect();
        if !held.is_empty() {
            out.insert("singleValueExtendedProperties".into(), held.into());
        }
    }
    let _ = mailbox;
    out
}

/// One property; None when this message has no such property.
pub(crate) fn property_of(message: &StoredMessage, view: &View, property: &str) -> Option<Value> {
    let letter = &message.letter;
    Some(match property {
        "id" => view.id(message).into(),
        "createdDateTime" => time(message.created),
        "lastModifiedDateTime" => time(message.modified),
        "changeKey" => change_key(message).into(),
        "categories" => json!(message.categories),
        "receivedDateTime" => time(message.received),
        "sentDateTime" => time(message.sent),
        "hasAttachments" => letter.attachments.iter().any(|attached| !attached.inline).into(),
        "internetMessageId" => letter.message_id.clone().into(),
        "subject" => letter.subject.clone().into(),
        "bodyPreview" => preview(&letter.body).into(),
        "importance" => letter.importance.word().into(),
        "parentFolderId" => message.folder.clone().into(),
        "conversationId" => conversation_id(&letter.conversation).into(),
        "conversationIndex" => conversation_index(&letter.conversation).into(),
        "isDeliveryReceiptRequested" => letter.delivery_receipt.into(),
        "isReadReceiptRequested" => letter.read_receipt.into(),
        "isRead" => message.is_read.into(),
        "isDraft" => message.is_draft.into(),
        "webLink" => format!(
            "https://outlook.office365.com/owa/?ItemID={}&exvsurl=1&viewmodel=ReadMessageItem",
            form_urlencoded::byte_serialize(message.rest_id.as_bytes()).collect::<String>()
        )
        .into(),
        "inferenceClassification" => message.inference.into(),
        "body" | "uniqueBody" => body(letter, view),
        "sender" => recipient(letter.sender.as_ref().or(letter.from.as_ref())?),
        "from" => recipient(letter.from.as_ref()?),
        "toRecipients" => recipients(&letter.to),
        "ccRecipients" => recipients(&letter.cc),
        "bccRecipients" => recipients(&letter.bcc),
        "replyTo" => recipients(&letter.reply_to),
        "flag" => message.flag.clone(),
        "internetMessageHeaders" => headers(message),
        "meetingMessageType" => meeting_type(letter)?.1.into(),
        "@odata.type" => meeting_type(letter)?.0.into(),
        _ => return None,
    })
}

/// A calendar part makes an event message of a message.
fn meeting_type(letter: &Letter) -> Option<(&'static str, &'static str)> {
    match letter.calendar_method.as_deref()? {
        "REQUEST" => Some(("#microsoft.graph.eventMessageRequest", "meetingRequest")),
        "CANCEL" => Some(("#microsoft.graph.eventMessage", "meetingCancelled")),
        "REPLY" => Some(("#microsoft.graph.eventMessageResponse", "meetingAccepted")),
        _ => Some(("#microsoft.graph.eventMessage", "none")),
    }
}

fn headers(message: &StoredMessage) -> Value {
    let fields: Vec<(String, String)> = match &message.mime {
        Some(mime) => header_block::fields(mime).iter().map(|field| (field.name.clone(), field.value(mime))).collect(),
        None => message.letter.headers.clone(),
    };
    // The Bcc field is no header of what travelled.
    let shown = fields.into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case("Bcc"));
    shown.map(|(name, value)| json!({"name": name, "value": value})).collect()
}

pub(crate) fn change_key(message: &StoredMessage) -> String {
    let digest = Sha256::digest(message.immutable_id.as_bytes());
    STANDARD.encode([b"\x09\0\0\0\x16\0\0\0", &digest[..16], &message.change.to_be_bytes()[2..]].concat())
}

pub(crate) fn etag(message: &StoredMessage) -> String {
    format!("W/\"{}\"", change_key(message))
}

fn conversation_id(conversation: &str) -> String {
    URL_SAFE.encode([b"\0\x04\x24", &Sha256::digest(conversation)[..30]].concat())
}

fn conversation_index(conversation: &str) -> String {
    STANDARD.encode([b"\x01", &Sha256::digest(conversation)[..21]].concat())
}

fn recipient(person: &Recipient) -> Value {
    json!({"emailAddress": {"name": person.name.as_deref().unwrap_or(&person.address), "address": person.address}})
}

fn recipients(people: &[Recipient]) -> Value {
    people.iter().map(recipient).collect()
}

fn as_text(body: &ItemBody) -> String {
    if body.html { mail_parser::decoders::html::html_to_text(&body.content) } else { body.content.clone() }
}

fn preview(body: &ItemBody) -> String {
    as_text(body).trim().chars().take(PREVIEW).collect()
}

fn body(letter: &Letter, view: &View) -> Value {
    if letter.body.html && !view.text_bodies {
        let content =
            if view.unsafe_html { letter.body.content.clone() } else { without_scripts(&letter.body.content) };
        json!({"contentType": "html", "content": content})
    } else {
        json!({"contentType": "text", "content": as_text(&letter.body)})
    }
}

/// The one unsafe part that this emulator strips: `<script>` elements.
fn without_scripts(html: &str) -> String {
    let lower = html.to_ascii_lowercase();
    let mut kept = String::with_capacity(html.len());
    let mut at = 0;
    while let Some(start) = lower[at..].find("<script") {
        kept.push_str(&html[at..at + start]);
        at = lower[at + start..].find("</script>").map_or(html.len(), |end| at + start + end + "</script>".len());
    }
    kept.push_str(&html[at..]);
    kept
}

/// An attachment; `item` = `$expand=microsoft.graph.itemattachment/item`, `bytes` = with a file's content.
pub(crate) fn attachment(attached: &Attachment, item: bool, bytes: bool) -> Map<String, Value> {
    let mut out = Map::new();
    let kind = match attached.content {
        AttachmentContent::File(_) => "#microsoft.graph.fileAttachment",
        AttachmentContent::Message(_) | AttachmentContent::Item(_) => "#microsoft.graph.itemAttachment",
        AttachmentContent::Reference(_) => "#microsoft.graph.referenceAttachment",
    };
    out.insert("@odata.type".into(), kind.into());
    out.insert("id".into(), attached.id.clone().into());
    out.insert("lastModifiedDateTime".into(), time(attached.modified));
    out.insert("name".into(), attached.name.clone().into());
    let content_type = match attached.content {
        AttachmentContent::Message(_) | AttachmentContent::Item(_) => None,
        _ => attached.content_type.clone(),
    };
    out.insert("contentType".into(), content_type.into());
    out.insert("size".into(), attached.size().into());
    out.insert("isInline".into(), attached.inline.into());
    match &attached.content {
        AttachmentContent::File(content) => {
            out.insert("contentId".into(), attached.content_id.clone().into());
            out.insert("contentLocation".into(), attached.content_location.clone().into());
            if bytes {
                out.insert("contentBytes".into(), STANDARD.encode(content).into());
            }
        }
        AttachmentContent::Item(value) if item => {
            out.insert("item".into(), value.clone());
        }
        AttachmentContent::Message(mime) if item => {
            if let Some(letter) = super::mime_read::letter(mime, attached.modified) {
                out.insert("item".into(), nested_message(&letter, attached.modified));
            }
        }
        _ => {}
    }
    out
}

fn nested_message(letter: &Letter, at: Timestamp) -> Value {
    let sent = time(letter.date.unwrap_or(at));
    let mut out = json!({
        "@odata.type": "#microsoft.graph.message",
        "id": "",
        "createdDateTime": time(at),
        "lastModifiedDateTime": time(at),
        "receivedDateTime": sent,
        "sentDateTime": sent,
        "hasAttachments": letter.attachments.iter().any(|attached| !attached.inline),
        "internetMessageId": letter.message_id,
        "subject": letter.subject,
        "bodyPreview": preview(&letter.body),
        "importance": letter.importance.word(),
        "conversationId": conversation_id(&letter.conversation),
        "isRead": false,
        "isDraft": false,
        "body": body(letter, &View { content: true, ..View::default() }),
        "toRecipients": recipients(&letter.to),
        "ccRecipients": recipients(&letter.cc),
        "bccRecipients": [],
        "replyTo": recipients(&letter.reply_to),
    });
    if let Some(from) = &letter.from {
        out["from"] = recipient(from);
        out["sender"] = recipient(letter.sender.as_ref().unwrap_or(from));
    }
    out
}

/// A mail folder.
pub(crate) fn folder(mailbox: &Mailbox, folder: &Folder) -> Map<String, Value> {
    let held: Vec<&StoredMessage> = mailbox.messages.iter().filter(|message| message.folder == folder.id).collect();
    let children = mailbox.folders.iter().filter(|child| child.parent.as_deref() == Some(&folder.id)).count();
    let mut out = Map::new();
    out.insert("id".into(), folder.id.clone().into());
    out.insert("displayName".into(), folder.display_name.clone().into());
    out.insert("parentFolderId".into(), folder.parent.clone().unwrap_or_else(|| folder.id.clone()).into());
    out.insert("childFolderCount".into(), children.into());
    out.insert("unreadItemCount".into(), held.iter().filter(|message| !message.is_read).count().into());
    out.insert("totalItemCount".into(), held.len().into());
    out.insert("isHidden".into(), folder.hidden.into());
    out
}
