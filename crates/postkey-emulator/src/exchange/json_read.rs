//! Graph's JSON to a letter, strictly: an unknown property is refused, case of enum values is forgiven.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    mailbox::{Attachment, AttachmentContent, Importance, ItemBody, Letter, Recipient, item_id},
    mime_write,
    refusal::Refusal,
};

/// What a JSON message sets besides the letter itself.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub(crate) is_read: Option<bool>,
    pub(crate) flag: Option<Value>,
    pub(crate) categories: Option<Vec<String>>,
    pub(crate) inference: Option<&'static str>,
    pub(crate) extended: Vec<(String, String)>,
}

/// Properties of a message that only the service sets; sending them back is allowed and means nothing.
const READ_ONLY: [&str; 16] = [
    "id",
    "changekey",
    "createddatetime",
    "lastmodifieddatetime",
    "receiveddatetime",
    "sentdatetime",
    "hasattachments",
    "bodypreview",
    "parentfolderid",
    "conversationid",
    "conversationindex",
    "isdraft",
    "uniquebody",
    "weblink",
    "extensions",
    "multivalueextendedproperties",
];

/// `Edm.Binary` as Microsoft's own examples write it: with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Five custom headers at most (observed).
const CUSTOM_HEADERS: usize = 5;

/// Parses a JSON body as an object whose members start with a small letter: the service takes `Body` for `body`, as
/// Microsoft's own examples write some.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(small_letters(object)),
        _ => Err(Refusal::new(
            400,
            "BadRequest",
            "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON \
             format.",
        )),
    }
}

/// The parser bounds how deep this goes.
fn small_letters(object: Map<String, Value>) -> Map<String, Value> {
    fn inside(value: Value) -> Value {
        match value {
            Value::Object(object) => Value::Object(small_letters(object)),
            Value::Array(list) => list.into_iter().map(inside).collect(),
            other => other,
        }
    }
    let small = |mut key: String| {
        if let Some(first) = key.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        key
    };
    object.into_iter().map(|(key, value)| (small(key), inside(value))).collect()
}

/// A property of an action's body, in either case of its first letter.
pub(crate) fn parameter<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    body.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).filter(|value| !value.is_null())
}

/// Refuses parameters that the action does not have.
pub(crate) fn only_parameters(body: &Map<String, Value>, names: &[&str]) -> Result<(), Refusal> {
    match body.keys().find(|key| !key.starts_with('@') && !names.iter().any(|name| key.eq_ignore_ascii_case(name))) {
        // unverified: text
        Some(key) => Err(Refusal::bad_request(format!(
            "The parameter '{key}' in the request payload is not a valid parameter for the operation."
        ))),
        None => Ok(()),
    }
}

/// true, false, or either as a string.
pub(crate) fn boolean(value: &Value, name: &str) -> Result<bool, Refusal> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(Refusal::bad_request(format!(
            "Cannot convert the value of '{name}' to the expected type 'Edm.Boolean'."
        ))),
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    value.as_str().ok_or_else(|| {
        Refusal::bad_request(format!("Cannot convert the value of '{name}' to the expected type 'Edm.String'."))
    })
}

fn unknown(property: &str, kind: &str) -> Refusal {
    Refusal::bad_request(format!(
        "The property '{property}' does not exist on type 'microsoft.graph.{kind}'. Make sure to only use property names \
         that are defined by the type."
    ))
}

/// Changes a letter by the properties of a message; `new` = the message is being created.
pub(crate) fn apply(
    letter: &mut Letter,
    properties: &Map<String, Value>,
    new: bool,
    now: Timestamp,
) -> Result<Marks, Refusal> {
    let mut marks = Marks::default();
    for (name, value) in properties {
        if name.contains('@') || READ_ONLY.contains(&name.to_ascii_lowercase().as_str()) {
            continue;
        }
        match name.as_str() {
            "subject" => letter.subject = if value.is_null() { String::new() } else { text(value, name)?.to_owned() },
            "body" => letter.body = item_body(value)?,
            "from" => letter.from = optional_recipient(value)?,
            "sender" => letter.sender = optional_recipient(value)?,
            "toRecipients" => letter.to = recipients(value)?,
            "ccRecipients" => letter.cc = recipients(value)?,
            "bccRecipients" => letter.bcc = recipients(value)?,
            "replyTo" => letter.reply_to = recipients(value)?,
            "importance" => letter.importance = importance(value)?,
            "internetMessageId" => letter.message_id = Some(message_id(value)?),
            "internetMessageHeaders" if new => letter.headers = custom_headers(value)?,
            "internetMessageHeaders" => {} // read-only after creation
            "isDeliveryReceiptRequested" => letter.delivery_receipt = !value.is_null() && boolean(value, name)?,
            "isReadReceiptRequested" => letter.read_receipt = !value.is_null() && boolean(value, name)?,
            "attachments" if new => letter.attachments = attachments(value, now)?,
            "attachments" => return Err(unknown(name, "message")),
            "isRead" => marks.is_read = Some(boolean(value, name)?),
            "flag" => marks.flag = Some(flag(value)?),
            "categories" => marks.categories = Some(strings(value, name)?),
            "inferenceClassification" => {
                marks.inference = match text(value, name)?.to_ascii_lowercase().as_str() {
                    "focused" => Some("focused"),
                    "other" => Some("other"),
                    _ => return Err(invalid(name)),
                }
            }
            "singleValueExtendedProperties" => marks.extended = extended(value)?,
            _ => return Err(unknown(name, "message")),
        }
    }
    Ok(marks)
}

fn invalid(name: &str) -> Refusal {
    Refusal::bad_request(format!("Invalid value specified for property '{name}'."))
}

fn members<'a>(value: &'a Value, kind: &str, known: &[&str]) -> Result<&'a Map<String, Value>, Refusal> {
    let object = value.as_object().ok_or_else(|| invalid(kind))?;
    match object.keys().find(|key| !key.contains('@') && !known.contains(&key.as_str())) {
        Some(key) => Err(unknown(key, kind)),
        None => Ok(object),
    }
}

fn item_body(value: &Value) -> Result<ItemBody, Refusal> {
    if value.is_null() {
        return Ok(ItemBody::default());
    }
    let object = members(value, "itemBody", &["contentType", "content"])?;
    let html = match object.get("contentType").and_then(Value::as_str).unwrap_or("text").to_ascii_lowercase().as_str() {
        "html" => true,
        "text" | "" => false,
        _ => return Err(invalid("contentType")),
    };
    let content = object.get("content").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(ItemBody { html, content })
}

fn optional_recipient(value: &Value) -> Result<Option<Recipient>, Refusal> {
    if value.is_null() { Ok(None) } else { recipient(value).map(Some) }
}

fn recipient(value: &Value) -> Result<Recipient, Refusal> {
    let object = members(value, "recipient", &["emailAddress"])?;
    let email = members(
        object.get("emailAddress").ok_or_else(|| invalid("emailAddress"))?,
        "emailAddress",
        &["name", "address"],
    )?;
    let part = |key: &str| email.get(key).and_then(Value::as_str).map(str::to_owned);
    let address = part("address").unwrap_or_default();
    if address.contains(['\r', '\n', '<', '>']) || part("name").is_some_and(|name| name.contains(['\r', '\n'])) {
        return Err(unresolved(&address));
    }
    Ok(Recipient { name: part("name").filter(|name| !name.is_empty()), address })
}

/// A list of recipients.
pub(crate) fn recipients(value: &Value) -> Result<Vec<Recipient>, Refusal> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => list.iter().map(recipient).collect(),
        _ => Err(invalid("recipient")),
    }
}

/// The observed text for an address that is none.
pub(crate) fn unresolved(address: &str) -> Refusal {
    Refusal::new(
        400,
        "ErrorInvalidRecipients",
        format!(
            "At least one recipient isn't valid., Recipient '{address}' isn't resolved. All recipients must be resolved \
             before a message can be submitted."
        ),
    )
}

fn importance(value: &Value) -> Result<Importance, Refusal> {
    match value.as_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "low" => Ok(Importance::Low),
        "normal" => Ok(Importance::Normal),
        "high" => Ok(Importance::High),
        _ if value.is_null() => Ok(Importance::Normal),
        _ => Err(invalid("importance")),
    }
}

fn message_id(value: &Value) -> Result<String, Refusal> {
    let id = text(value, "internetMessageId")?.trim();
    let inside = id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).unwrap_or(id);
    if inside.is_empty() || !inside.bytes().all(|byte| (33..127).contains(&byte) && !b"<>".contains(&byte)) {
        return Err(invalid("internetMessageId"));
    }
    Ok(format!("<{inside}>"))
}

fn custom_headers(value: &Value) -> Result<Vec<(String, String)>, Refusal> {
    let list = value.as_array().ok_or_else(|| invalid("internetMessageHeaders"))?;
    let mut headers = Vec::new();
    for entry in list {
        let entry = members(entry, "internetMessageHeader", &["name", "value"])?;
        let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
        let value = entry.get("value").and_then(Value::as_str).unwrap_or_default();
        if !name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-"))
            || !name.bytes().all(|byte| (33..127).contains(&byte) && byte != b':')
        {
            return Err(Refusal::new(
                400,
                "InvalidInternetMessageHeader",
                format!("The internet message header name '{name}' should start with 'x-' or 'X-'."),
            ));
        }
        if value.contains(['\r', '\n']) {
            return Err(Refusal::new(
                400,
                "InvalidInternetMessageHeader",
                format!("The value of '{name}' is invalid."),
            ));
        }
        headers.push((name.to_owned(), value.to_owned()));
    }
    if headers.len() > CUSTOM_HEADERS {
        return Err(Refusal::new(
            400,
            "InvalidInternetMessageHeaderCollection",
            format!("Maximum number of headers in one message should be less than or equal to {CUSTOM_HEADERS}."),
        ));
    }
    Ok(headers)
}

fn flag(value: &Value) -> Result<Value, Refusal> {
    let known = ["flagStatus", "startDateTime", "dueDateTime", "completedDateTime"];
    let object = members(value, "followupFlag", &known)?;
    let mut kept = object.clone();
    let status = object.get("flagStatus").and_then(Value::as_str).unwrap_or("notFlagged");
    let canonical = ["notFlagged", "complete", "flagged"].into_iter().find(|word| word.eq_ignore_ascii_case(status));
    kept.insert("flagStatus".into(), canonical.ok_or_else(|| invalid("flagStatus"))?.into());
    Ok(Value::Object(kept))
}

fn strings(value: &Value, name: &str) -> Result<Vec<String>, Refusal> {
    let list = value.as_array().ok_or_else(|| invalid(name))?;
    list.iter().map(|entry| text(entry, name).map(str::to_owned)).collect()
}

fn extended(value: &Value) -> Result<Vec<(String, String)>, Refusal> {
    let list = value.as_array().ok_or_else(|| invalid("singleValueExtendedProperties"))?;
    list.iter()
        .map(|entry| {
            let entry = members(entry, "singleValueLegacyExtendedProperty", &["id", "value"])?;
            let part = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
            let id = part("id").ok_or_else(|| invalid("id"))?;
            Ok((id, part("value").unwrap_or_default()))
        })
        .collect()
}

fn attachments(value: &Value, now: Timestamp) -> Result<Vec<Attachment>, Refusal> {
    let list = value.as_array().ok_or_else(|| invalid("attachments"))?;
    list.iter().map(|entry| attachment(entry, now)).collect()
}

/// One attachment of any kind.
pub(crate) fn attachment(value: &Value, now: Timestamp) -> Result<Attachment, Refusal> {
    let kind = value["@odata.type"].as_str().unwrap_or_default().trim_start_matches('#').to_ascii_lowercase();
    let common = ["id", "name", "contentType", "size", "isInline", "lastModifiedDateTime"];
    let part = |key: &str| value[key].as_str().map(str::to_owned);
    let (content, content_type) = match kind.as_str() {
        "microsoft.graph.fileattachment" => {
            let known = [&common[..], &["contentId", "contentLocation", "contentBytes"]].concat();
            members(value, "fileAttachment", &known)?;
            let encoded = value["contentBytes"].as_str().ok_or_else(|| invalid("contentBytes"))?;
            let packed: String = encoded.split_ascii_whitespace().collect();
            let bytes = LENIENT
                .decode(packed.as_bytes())
                .map_err(|_| Refusal::bad_request("Cannot convert the literal to the expected type 'Edm.Binary'."))?;
            let guessed = part("contentType").unwrap_or_else(|| guess_type(value["name"].as_str().unwrap_or_default()));
            (AttachmentContent::File(Bytes::from(bytes)), Some(guessed))
        }
        "microsoft.graph.itemattachment" => {
            members(value, "itemAttachment", &[&common[..], &["item"]].concat())?;
            let item = value.get("item").filter(|item| item.is_object()).ok_or_else(|| invalid("item"))?;
            (item_content(item, now)?, None)
        }
        "microsoft.graph.referenceattachment" => {
            let known =
                [&common[..], &["sourceUrl", "providerType", "permission", "isFolder", "thumbnailUrl", "previewUrl"]]
                    .concat();
            members(value, "referenceAttachment", &known)?;
            (AttachmentContent::Reference(value.clone()), None)
        }
        _ => {
            // unverified: text
            return Err(Refusal::bad_request("Cannot create an abstract class."));
        }
    };
    Ok(Attachment {
        id: item_id("AAMkADExMDI2BEgAQ"),
        name: part("name").filter(|name| !name.is_empty()).ok_or_else(|| invalid("name"))?,
        content_type,
        content_id: part("contentId"),
        content_location: part("contentLocation"),
        inline: match value.get("isInline") {
            None | Some(Value::Null) => false,
            Some(value) => boolean(value, "isInline")?,
        },
        modified: now,
        content,
    })
}

/// A message travels as a message; what travels as an event or a contact is left as it is.
fn item_content(item: &Value, now: Timestamp) -> Result<AttachmentContent, Refusal> {
    let kind = item["@odata.type"].as_str().unwrap_or_default().trim_start_matches('#');
    let Some(properties) = item.as_object().filter(|_| kind.eq_ignore_ascii_case("microsoft.graph.message")) else {
        return Ok(AttachmentContent::Item(item.clone()));
    };
    if item.get("attachments").is_some() {
        return Err(invalid("attachments")); // one level is enough here
    }
    let mut letter = Letter::default();
    apply(&mut letter, properties, true, now)?;
    let id = letter.message_id.clone().unwrap_or_else(|| "<item@emulator.invalid>".into());
    Ok(AttachmentContent::Message(Bytes::from(mime_write::mime(&letter, &id, now, "item"))))
}

/// Exchange names a type by the file's ending when the client named none.
pub(crate) fn guess_type(name: &str) -> String {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    match ending.as_str() {
        "txt" => "text/plain",
        "htm" | "html" => "text/html",
        "csv" => "text/csv",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "gif" => "image/gif",
        "jpg" | "jpeg" => "image/jpeg",
        "zip" => "application/x-zip-compressed",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        _ => "application/octet-stream",
    }
    .to_owned()
}
