//! What a mailbox holds: folders, messages with their two kinds of id, and the rights other people have in it.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::{access::Rights, delivery::Pending};

/// What a mailbox may receive and send without an administrator's change: Exchange Online's default.
const DEFAULT_MESSAGE_BYTES: usize = 35 * 1024 * 1024;
/// `RecipientLimits` of a mailbox by default.
const DEFAULT_RECIPIENT_LIMIT: usize = 500;
/// A memory bound for one mailbox of the emulator; a real one has 50 GB.
const DEFAULT_QUOTA_BYTES: usize = 1024 * 1024 * 1024;

/// Whose mailbox it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailboxKind {
    /// Of a person who can sign in.
    User,
    /// Used by several people, signed into by none.
    Shared,
}

/// One mailbox.
#[derive(Debug)]
pub struct Mailbox {
    /// Object id of the user it belongs to.
    pub owner: Uuid,
    /// Shown in addresses that the service writes.
    pub display_name: String,
    /// Its addresses; the first is the primary one.
    pub addresses: Vec<String>,
    /// Of a person, or shared.
    pub kind: MailboxKind,
    /// Well-known folders first.
    pub folders: Vec<Folder>,
    /// Oldest first, in the order of arrival.
    pub messages: Vec<StoredMessage>,
    /// What others may do here.
    pub rights: Rights,
    /// `Set-CASMailbox -SmtpClientAuthenticationDisabled`; None inherits the organization's switch.
    pub smtp_auth_disabled: Option<bool>,
    /// A reply that every submission by SMTP gets, e.g. `550 5.2.252 …` while the mailbox is throttled for continuous
    /// errors, or `550 5.1.8 Bad outbound sender`.
    pub submission_refusal: Option<String>,
    /// `MaxSendSize` in bytes of MIME.
    pub max_send_bytes: usize,
    /// `MaxReceiveSize` in bytes of MIME.
    pub max_receive_bytes: usize,
    /// Recipients per message.
    pub recipient_limit: usize,
    /// Refuses to store more than this.
    pub quota_bytes: usize,
    /// `MessageCopyForSMTPClientSubmissionEnabled`.
    pub copies_smtp_submissions: bool,
    /// `MessageCopyForSentAsEnabled` / `MessageCopyForSendOnBehalfEnabled`.
    pub copies_sent_as: bool,
    change_counter: u64,
    /// Never less than what is stored: added to whenever a message comes or changes, counted anew when it seems too much.
    stored_at_most: usize,
}

/// A mail folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Constant.
    pub id: String,
    /// As people see it.
    pub display_name: String,
    /// Lower case, e.g. `inbox`.
    pub well_known: Option<&'static str>,
    /// None only for the root and for what lies outside the visible tree.
    pub parent: Option<String>,
    /// Left out of listings unless asked for.
    pub hidden: bool,
}

/// A message in a folder.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// Stays while the message is in this mailbox.
    pub immutable_id: String,
    /// Changes when the message moves.
    pub rest_id: String,
    /// Id of its folder.
    pub folder: String,
    /// What it says.
    pub letter: Letter,
    /// The bytes as received or sent; None while it is made of properties only.
    pub mime: Option<Bytes>,
    /// Not sent yet.
    pub is_draft: bool,
    /// Seen by its owner.
    pub is_read: bool,
    /// `followupFlag` as Graph shows it.
    pub flag: Value,
    /// Colour categories.
    pub categories: Vec<String>,
    /// `focused` or `other`.
    pub inference: &'static str,
    /// When the item was made.
    pub created: Timestamp,
    /// When it last changed.
    pub modified: Timestamp,
    /// When it arrived here.
    pub received: Timestamp,
    /// When it was sent.
    pub sent: Timestamp,
    /// Part of the change key.
    pub change: u64,
    /// Single-value extended properties: (id, value).
    pub extended: Vec<(String, String)>,
    /// Handed to transport, not picked up yet.
    pub pending: Option<Pending>,
}

/// What a message says, whoever holds it.
#[derive(Debug, Clone, Default)]
pub struct Letter {
    /// Decoded.
    pub subject: String,
    /// Text or HTML.
    pub body: ItemBody,
    /// Author.
    pub from: Option<Recipient>,
    /// Who really sent it.
    pub sender: Option<Recipient>,
    /// To.
    pub to: Vec<Recipient>,
    /// Cc.
    pub cc: Vec<Recipient>,
    /// Bcc: on the sender's copy only.
    pub bcc: Vec<Recipient>,
    /// Reply-To.
    pub reply_to: Vec<Recipient>,
    /// Of a draft: its custom `x-` headers. Of a received message: every header.
    pub headers: Vec<(String, String)>,
    /// In-Reply-To and References that the service itself sets on replies.
    pub thread_headers: Vec<(String, String)>,
    /// In angle brackets.
    pub message_id: Option<String>,
    /// The Date header.
    pub date: Option<Timestamp>,
    /// `low`, `normal` or `high`.
    pub importance: Importance,
    /// Disposition-Notification-To.
    pub read_receipt: bool,
    /// Return-Receipt-To.
    pub delivery_receipt: bool,
    /// In order.
    pub attachments: Vec<Attachment>,
    /// `method` of a calendar part: such a message is an event message, not mail alone.
    pub calendar_method: Option<String>,
    /// Messages of one conversation share it.
    pub conversation: String,
}

/// Text or HTML.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemBody {
    /// HTML, else text.
    pub html: bool,
    /// Decoded.
    pub content: String,
}

/// A name and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Display name, if any.
    pub name: Option<String>,
    /// SMTP address.
    pub address: String,
}

/// `importance`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Importance {
    /// Low.
    Low,
    /// The default.
    #[default]
    Normal,
    /// High.
    High,
}

/// Something attached.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Within its message.
    pub id: String,
    /// File name.
    pub name: String,
    /// MIME type.
    pub content_type: Option<String>,
    /// Without angle brackets.
    pub content_id: Option<String>,
    /// Content-Location.
    pub content_location: Option<String>,
    /// Shown inside the body.
    pub inline: bool,
    /// When it was attached.
    pub modified: Timestamp,
    /// What it is.
    pub content: AttachmentContent,
}

/// The kinds of attachment.
#[derive(Debug, Clone)]
pub enum AttachmentContent {
    /// A file's bytes.
    File(Bytes),
    /// A message, as MIME.
    Message(Bytes),
    /// Another item, as Graph's JSON.
    Item(Value),
    /// A link.
    Reference(Value),
}

impl Importance {
    /// Graph's word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

impl Attachment {
    /// Bytes of content.
    pub(crate) fn size(&self) -> usize {
        match &self.content {
            AttachmentContent::File(bytes) | AttachmentContent::Message(bytes) => bytes.len(),
            AttachmentContent::Item(value) | AttachmentContent::Reference(value) => value.to_string().len(),
        }
    }
}

impl Letter {
    /// To, Cc and Bcc, each address once.
    pub(crate) fn recipients(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        [&self.to, &self.cc, &self.bcc]
            .into_iter()
            .flatten()
            .filter(|recipient| seen.insert(recipient.address.to_ascii_lowercase()))
            .map(|recipient| recipient.address.clone())
            .collect()
    }
}

impl StoredMessage {
    /// Roughly what it takes to keep.
    pub(crate) fn size(&self) -> usize {
        self.mime.as_ref().map_or(0, Bytes::len)
            + self.letter.body.content.len()
            + self.letter.attachments.iter().map(Attachment::size).sum::<usize>()
    }
}

/// The visible tree of a new mailbox: well-known name and English display name.
const WELL_KNOWN: [(&str, &str); 8] = [
    ("archive", "Archive"),
    ("conversationhistory", "Conversation History"),
    ("deleteditems", "Deleted Items"),
    ("drafts", "Drafts"),
    ("inbox", "Inbox"),
    ("junkemail", "Junk Email"),
    ("outbox", "Outbox"),
    ("sentitems", "Sent Items"),
];

impl Mailbox {
    /// An empty mailbox with its well-known folders.
    pub fn new(owner: Uuid, display_name: &str, addresses: Vec<String>, kind: MailboxKind) -> Self {
        let root = Folder {
            id: folder_id(),
            display_name: "Top of Information Store".into(),
            well_known: Some("msgfolderroot"),
            parent: None,
            hidden: true,
        };
        let recoverable = Folder {
            id: folder_id(),
            display_name: "Deletions".into(),
            well_known: Some("recoverableitemsdeletions"),
            parent: None,
            hidden: true,
        };
        let visible = WELL_KNOWN.map(|(well_known, display_name)| Folder {
            id: folder_id(),
            display_name: display_name.into(),
            well_known: Some(well_known),
            parent: Some(root.id.clone()),
            hidden: false,
        });
        let folders = [root.clone(), recoverable].into_iter().chain(visible).collect();
        Self {
            owner,
            display_name: display_name.into(),
            addresses,
            kind,
            folders,
            messages: Vec::new(),
            rights: Rights::default(),
            smtp_auth_disabled: None,
            submission_refusal: None,
            max_send_bytes: DEFAULT_MESSAGE_BYTES,
            max_receive_bytes: DEFAULT_MESSAGE_BYTES,
            recipient_limit: DEFAULT_RECIPIENT_LIMIT,
            quota_bytes: DEFAULT_QUOTA_BYTES,
            copies_smtp_submissions: true,
            copies_sent_as: false,
            change_counter: 0,
            stored_at_most: 0,
        }
    }

    /// The primary address.
    pub fn address(&self) -> &str {
        self.addresses.first().map_or("", String::as_str)
    }

    /// Whether mail for `address` belongs here, in any case.
    pub fn has_address(&self, address: &str) -> bool {
        self.addresses.iter().any(|own| own.eq_ignore_ascii_case(address))
    }

    /// Name and primary address.
    pub(crate) fn as_recipient(&self) -> Recipient {
        Recipient { name: Some(self.display_name.clone()), address: self.address().to_owned() }
    }

    /// A folder by its id or its well-known name.
    pub fn folder(&self, key: &str) -> Option<&Folder> {
        self.folders
            .iter()
            .find(|folder| folder.id == key || folder.well_known.is_some_and(|name| name.eq_ignore_ascii_case(key)))
    }

    /// The id of a folder that every mailbox has.
    pub(crate) fn well_known_id(&self, name: &'static str) -> String {
        self.folder(name).map(|folder| folder.id.clone()).unwrap_or_default()
    }

    /// A message by either of its ids.
    pub(crate) fn position(&self, id: &str) -> Option<usize> {
        self.messages.iter().position(|message| message.rest_id == id || message.immutable_id == id)
    }

    /// Bytes of everything kept.
    pub(crate) fn stored_bytes(&self) -> usize {
        self.messages.iter().map(StoredMessage::size).sum()
    }

    /// Whether `more` bytes would overfill it.
    pub(crate) fn is_full_for(&self, more: usize) -> bool {
        // Adding up every message each time one comes would be quadratic.
        self.stored_at_most.saturating_add(more) > self.quota_bytes && self.stored_bytes() + more > self.quota_bytes
    }

    /// Puts a message into a folder and names it.
    pub(crate) fn store(&mut self, folder: &'static str, letter: Letter, mime: Option<Bytes>, now: Timestamp) -> usize {
        let folder = self.well_known_id(folder);
        self.store_in(folder, letter, mime, now)
    }

    /// Puts a message into the folder with this id and names it.
    pub(crate) fn store_in(&mut self, folder: String, letter: Letter, mime: Option<Bytes>, now: Timestamp) -> usize {
        self.change_counter += 1;
        if self.stored_at_most > self.quota_bytes {
            self.stored_at_most = self.stored_bytes();
        }
        let sent = letter.date.unwrap_or(now);
        self.messages.push(StoredMessage {
            immutable_id: item_id("AAkALgAAAAAAHYQDEapmEc2byACqAC-EWg0A"),
            rest_id: item_id("AAMkADExMDI2"),
            folder,
            letter,
            mime,
            is_draft: false,
            is_read: false,
            flag: serde_json::json!({"flagStatus": "notFlagged"}),
            categories: Vec::new(),
            inference: "focused",
            created: now,
            modified: now,
            received: now,
            sent,
            change: self.change_counter,
            extended: Vec::new(),
            pending: None,
        });
        let position = self.messages.len() - 1;
        self.stored_at_most += self.messages[position].size();
        position
    }

    /// Notes a change of one message: a new change key.
    pub(crate) fn touch(&mut self, position: usize, now: Timestamp) {
        self.change_counter += 1;
        let message = &mut self.messages[position];
        message.change = self.change_counter;
        message.modified = now;
        // Whatever it grew by is in its size now.
        self.stored_at_most = self.stored_at_most.saturating_add(message.size());
    }

    /// A message has left for good.
    pub(crate) fn take(&mut self, position: usize) -> StoredMessage {
        let taken = self.messages.remove(position);
        self.stored_at_most = self.stored_at_most.saturating_sub(taken.size());
        taken
    }

    /// The position of a message that came a moment ago.
    pub(crate) fn recent_position(&self, immutable_id: &str) -> Option<usize> {
        self.messages.iter().rposition(|message| message.immutable_id == immutable_id)
    }

    /// Moves a message; its default id changes, its immutable one does not.
    pub(crate) fn move_to(&mut self, position: usize, folder: String, now: Timestamp) {
        self.change_counter += 1;
        let message = &mut self.messages[position];
        message.change = self.change_counter;
        message.modified = now;
        message.rest_id = item_id("AAMkADExMDI2");
        message.folder = folder;
    }
}

/// A new item id: opaque, URL-safe but for its `=`, case-sensitive.
pub(crate) fn item_id(prefix: &str) -> String {
    // Unique, not secret: the thread's own generator is quick.
    format!("{prefix}{}=", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

fn folder_id() -> String {
    item_id("AQMkADYAAAIB")
}

/// A folder made by a user.
pub(crate) fn new_folder(display_name: &str, parent: String, hidden: bool) -> Folder {
    Folder { id: folder_id(), display_name: display_name.into(), well_known: None, parent: Some(parent), hidden }
}
