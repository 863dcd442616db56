//! Mail folders, by the names that hold in every language.

use serde::{Deserialize, Serialize};

use crate::{
    error::GraphError,
    graph::Graph,
    json,
    mailbox::Mailbox,
    messages::immutable,
    paging::Pages,
    shape::{CallShape, Effect, Verb},
};

const READ: &[&str] = &["Mail.ReadBasic"];

/// One folder.
pub const GET: CallShape = CallShape::new(Verb::Get, "/users/{mailbox}/mailFolders/{folder}", Effect::Reads, READ);
/// The folders at the top.
pub const LIST: CallShape = CallShape::new(Verb::Get, "/users/{mailbox}/mailFolders", Effect::Reads, READ);

/// Folders of one level that we are ready to hold.
const MOST_FOLDERS: usize = 10_000;

/// A folder as a path names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Folder {
    /// Where mail arrives.
    Inbox,
    /// Where messages are made, and wait until transport has taken them.
    Drafts,
    /// Where they go then.
    SentItems,
    /// Where deleted ones go.
    DeletedItems,
    /// Where Exchange puts what it takes for junk.
    JunkEmail,
    /// Messages under way.
    Outbox,
    /// Any other, by its id.
    Id(String),
}

impl Folder {
    /// The name in a path.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Inbox => "inbox",
            Self::Drafts => "drafts",
            Self::SentItems => "sentitems",
            Self::DeletedItems => "deleteditems",
            Self::JunkEmail => "junkemail",
            Self::Outbox => "outbox",
            Self::Id(id) => id,
        }
    }
}

/// A folder and its counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailFolder {
    /// Its id, which never changes.
    pub id: String,
    /// Its name in the mailbox's language.
    #[serde(default, deserialize_with = "json::or_default")]
    pub display_name: String,
    /// The folder around it.
    #[serde(default)]
    pub parent_folder_id: Option<String>,
    /// Messages in it.
    #[serde(default, rename = "totalItemCount", deserialize_with = "json::or_default")]
    pub total: u64,
    /// Unread ones.
    #[serde(default, rename = "unreadItemCount", deserialize_with = "json::or_default")]
    pub unread: u64,
}

/// One folder.
///
/// # Errors
/// [`GraphError::MailboxMissing`] when the address has no mailbox: this is the cheapest way to learn it.
pub async fn get(graph: &Graph, mailbox: impl Into<Mailbox>, folder: &Folder) -> Result<MailFolder, GraphError> {
    immutable(graph.call(GET, &[mailbox.into().as_str(), folder.as_str()])).send().await?.json()
}

/// The folders at the top of the mailbox.
///
/// # Errors
/// Any.
pub async fn list(graph: &Graph, mailbox: impl Into<Mailbox>) -> Result<Vec<MailFolder>, GraphError> {
    Pages::new(graph, graph.call(LIST, &[mailbox.into().as_str()]).query("$top", "100")).all(MOST_FOLDERS).await
}
