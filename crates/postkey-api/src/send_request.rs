//! The JSON of `POST /v1/send` as a message: pure, so that any bytes may be thrown at it.

use std::collections::BTreeMap;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jiff::Timestamp;
use postkey_base::EmailAddress;
use postkey_transport::{
    AttachedFile, Composition, EmbeddedFile, EnvelopeError, Message, compose, compose::is_content_id,
    envelope::MAX_RECIPIENTS,
};
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};
use uuid::Uuid;

use crate::refusal::Refusal;

/// A message to send.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "from": "noreply@contoso.example",
    "from_name": "Contoso",
    "to": ["ada@fabrikam.example"],
    "subject": "Your invoice",
    "text": "Please find it attached.",
    "attachments": [{"name": "invoice.txt", "content": "VG90YWw6IDQyCg=="}]
}))]
pub struct SendRequest {
    /// Who writes. Default: the mailbox of the sender.
    #[serde(default)]
    #[schema(inline)]
    pub from: Option<Address>,
    /// A name beside it.
    #[serde(default)]
    #[schema(pattern = "ONE_LINE", max_length = 200)]
    pub from_name: Option<String>,
    /// Recipients. At least one of `to`, `cc` and `bcc` names somebody.
    #[serde(default)]
    #[schema(max_items = 1000, required = false)]
    pub to: Vec<Address>,
    /// Recipients of a copy.
    #[serde(default)]
    #[schema(max_items = 1000, required = false)]
    pub cc: Vec<Address>,
    /// Recipients of a copy whom no other recipient sees.
    #[serde(default)]
    #[schema(max_items = 1000, required = false)]
    pub bcc: Vec<Address>,
    /// Where answers shall go.
    #[serde(default)]
    #[schema(max_items = 100, required = false)]
    pub reply_to: Vec<Address>,
    /// The subject.
    #[serde(default)]
    #[schema(pattern = "ONE_LINE", max_length = 900, required = false)]
    pub subject: String,
    /// The text body.
    #[serde(default)]
    pub text: Option<String>,
    /// The HTML body. With `text` as well, readers choose.
    #[serde(default)]
    pub html: Option<String>,
    /// Files.
    #[serde(default, deserialize_with = "crate::extract::list_of_fields")]
    #[schema(max_items = 250, required = false)]
    pub attachments: Vec<Attachment>,
    /// More header fields; only `X-` ones, and none of postkey's own.
    #[serde(default)]
    #[schema(schema_with = extra_headers, required = false)]
    pub headers: BTreeMap<String, String>,
    /// Which of the submitter's senders carries it. Default: its first.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    pub sender: Option<String>,
    /// Not to be sent before this time.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_before: Option<Timestamp>,
    /// Which of the messages that wait goes first. Default: the submitter's own.
    #[serde(default)]
    pub priority: Option<Importance>,
    /// Of what the writer wants to be told. Default: of failures.
    #[serde(default, deserialize_with = "crate::extract::optional_fields")]
    pub dsn: Option<Dsn>,
    /// Hand the message to Graph as JSON instead of MIME. Graph then writes the MIME itself, and header fields are lost.
    #[serde(default)]
    #[schema(required = false)]
    pub as_json: bool,
}

/// A file to attach.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Its name, without a path.
    #[schema(pattern = "ONE_LINE", min_length = 1, max_length = 255)]
    pub name: String,
    /// Its type. Default: what its name says.
    #[serde(default)]
    #[schema(pattern = "MEDIA_TYPE", max_length = 127)]
    pub content_type: Option<String>,
    /// Its bytes in base64.
    #[schema(value_type = String, pattern = "BASE64", content_encoding = "base64")]
    pub content: Base64,
    /// How the HTML body names it: `<img src="cid:…">`.
    #[serde(default)]
    #[schema(pattern = "CONTENT_ID", max_length = 200)]
    pub content_id: Option<String>,
    /// Whether it belongs into the HTML body instead of beside it. Default: when it has a `content_id`.
    #[serde(default)]
    pub inline: Option<bool>,
}

/// Which of the messages that wait goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Importance {
    /// After all others.
    Low,
    /// In turn.
    Normal,
    /// Before all others.
    High,
}

impl From<Importance> for postkey_store::Priority {
    fn from(importance: Importance) -> Self {
        match importance {
            Importance::Low => Self::Low,
            Importance::Normal => Self::Normal,
            Importance::High => Self::High,
        }
    }
}

impl From<postkey_store::Priority> for Importance {
    fn from(priority: postkey_store::Priority) -> Self {
        match priority {
            postkey_store::Priority::Low => Self::Low,
            postkey_store::Priority::Normal => Self::Normal,
            postkey_store::Priority::High => Self::High,
        }
    }
}

/// Of what the writer wants to be told (RFC 3461).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dsn {
    /// Of which events; an empty list asks for silence.
    #[serde(default)]
    #[schema(max_items = 3)]
    pub notify: Option<Vec<NotifyOf>>,
    /// How much of the message a report returns.
    #[serde(default)]
    pub ret: Option<Return>,
    /// An id of the writer's own, repeated in reports.
    #[serde(default)]
    #[schema(pattern = "ENVELOPE_ID", max_length = 100)]
    pub envid: Option<String>,
}

/// An event that the writer wants to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotifyOf {
    /// It was accepted for the recipient.
    Success,
    /// It cannot be sent.
    Failure,
    /// It waits longer than usual.
    Delay,
}

/// How much of the message a report returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Return {
    /// All of it.
    Full,
    /// The header fields.
    Headers,
}

/// An address as the API takes it: as [`EmailAddress`], and no longer than mail can name (RFC 5321 §4.5.3.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(pub EmailAddress);

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: EmailAddress =
            text.parse().map_err(|error: postkey_base::address::AddressError| error.to_string())?;
        if address.as_str().chars().count() > 254 {
            return Err(format!("{}… is longer than an email address may be", &text[..text.floor_char_boundary(40)]));
        }
        Ok(Self(address))
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Address;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an email address")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Address, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_str(Text)
    }
}

/// Bytes that travel in base64 (RFC 4648 §4), with padding or without.
#[derive(Clone, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl std::fmt::Debug for Base64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Base64({} bytes)", self.0.len())
    }
}

impl PartialSchema for Address {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("ADDRESS")).max_length(Some(254));
        text.description(Some("An email address.")).examples(["ada@fabrikam.example"]).into()
    }
}

impl ToSchema for Address {}

fn extra_headers() -> ObjectBuilder {
    let value = ObjectBuilder::new().schema_type(Type::String).pattern(Some("ONE_LINE")).max_length(Some(900));
    let name = ObjectBuilder::new().schema_type(Type::String).pattern(Some("EXTRA_HEADER")).max_length(Some(72));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(Schema::from(value)))
        .property_names(Some(Schema::from(name)))
        .max_properties(Some(50))
        .description(Some("More header fields; only `X-` ones, and none of postkey's own."))
        .examples([serde_json::json!({"X-Order": "4711"})])
}

/// Encoders differ in what they leave in the last bits; nothing hangs on them.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Base64;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text in base64")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Base64, E> {
                LENIENT.decode(text).map(Base64).map_err(|error| E::custom(format!("no valid base64: {error}")))
            }
        }
        from.deserialize_str(Text)
    }
}

impl SendRequest {
    /// Reads the JSON.
    ///
    /// # Errors
    /// No JSON, or not of this shape.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        crate::extract::json(body)
    }

    /// Everybody who receives it, in the order of To, Cc and Bcc.
    pub fn recipients(&self) -> impl Iterator<Item = &EmailAddress> {
        self.to.iter().chain(&self.cc).chain(&self.bcc).map(|address| &address.0)
    }

    /// The message as bytes. `mailbox` writes it unless it names a writer itself.
    ///
    /// # Errors
    /// Nobody receives it, too many do, or something in it may not stand where it stands.
    pub fn composed(self, mailbox: &EmailAddress, id: Uuid, at: Timestamp) -> Result<Vec<u8>, Refusal> {
        // How many there are in all is counted where each counts once.
        if let Some(list) = [&self.to, &self.cc, &self.bcc].into_iter().find(|list| list.len() > MAX_RECIPIENTS) {
            return Err(Refusal::unprocessable(&EnvelopeError::TooMany(list.len())));
        }
        check_length("subject", &self.subject, 0, 900)?;
        check_length("from_name", self.from_name.as_deref().unwrap_or(""), 0, 200)?;
        if self.headers.len() > 50 {
            return Err(Refusal::Shape("headers: more than 50".into()));
        }
        for value in self.headers.values() {
            check_length("headers", value, 0, 900)?;
        }
        if self.reply_to.len() > 100 {
            return Err(Refusal::Shape("reply_to: more than 100 addresses".into()));
        }
        let (mut attachments, mut embedded) = (Vec::new(), Vec::new());
        if self.attachments.len() > 250 {
            return Err(Refusal::Shape("attachments: more than 250".into()));
        }
        for Attachment { name, content_type, content, content_id, inline } in self.attachments {
            check_length("attachments: name", &name, 1, 255)?;
            check_length("attachments: content_type", content_type.as_deref().unwrap_or(""), 0, 127)?;
            if content_id.as_deref().is_some_and(|content_id| !is_content_id(content_id)) {
                return Err(Refusal::Shape("attachments: the content_id cannot be one".into()));
            }
            let content_id_or_name = content_id.clone().unwrap_or_else(|| as_content_id(&name));
            let file = AttachedFile { name, content_type, bytes: content.0 };
            match inline.unwrap_or(content_id.is_some()) {
                true => embedded.push(EmbeddedFile { content_id: content_id_or_name, file }),
                false => attachments.push(file),
            }
        }
        let addresses = |list: Vec<Address>| list.into_iter().map(|address| address.0).collect::<Vec<_>>();
        let composition = Composition {
            from_name: self.from_name,
            to: addresses(self.to),
            cc: addresses(self.cc),
            bcc: addresses(self.bcc),
            reply_to: addresses(self.reply_to),
            subject: self.subject,
            text: self.text,
            html: self.html,
            attachments,
            embedded,
            headers: self.headers.into_iter().collect(),
            ..Composition::new(self.from.map_or_else(|| mailbox.clone(), |address| address.0))
        };
        compose(&composition, id, at).map_err(|error| Refusal::unprocessable(&error))
    }
}

fn check_length(what: &str, text: &str, least: usize, most: usize) -> Result<(), Refusal> {
    // The document counts characters, as JSON Schema does.
    match text.len() < least || (text.len() > most && text.chars().count() > most) {
        true => Err(Refusal::Shape(format!("{what}: it must have {least} to {most} characters"))),
        false => Ok(()),
    }
}

/// The HTML may name a file by its name: `<img src="cid:logo.png">`.
fn as_content_id(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii() && is_content_id(c.encode_utf8(&mut [0; 4])) { c } else { '-' };
    name.chars().take(200).map(allowed).collect()
}

/// For the fuzzer: any bytes either become a message that parses or are refused in words.
pub fn fuzz(body: &[u8]) {
    let Ok(request) = SendRequest::parse(body) else { return };
    let mailbox: EmailAddress = "noreply@contoso.example".parse().expect("it is an address");
    let Ok(bytes) = request.clone().composed(&mailbox, Uuid::nil(), Timestamp::UNIX_EPOCH) else { return };
    let message = Message::parse(bytes).expect("what is composed here has a header");
    let named: Vec<_> = ["To", "Cc", "Bcc"].into_iter().flat_map(|name| message.addresses(name)).collect();
    let wanted: Vec<_> = request.recipients().cloned().collect();
    assert_eq!(named, wanted, "nobody is added and nobody is lost");
    assert_eq!(message.named("From").count(), 1);
    assert_eq!(message.named("Subject").count(), 1);
}

#[cfg(test)]
#[path = "send_request_tests.rs"]
mod tests;
