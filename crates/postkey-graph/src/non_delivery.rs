//! Reports of failed deliveries in a mailbox's Inbox: which there are, by their headers alone. What one says is in its
//! MIME: [`crate::messages::mime`].

use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    error::GraphError,
    folders::Folder,
    graph::Graph,
    json,
    mailbox::Mailbox,
    messages::{LIST_IN_FOLDER, MessageHeader, immutable},
    paging::Pages,
};

/// Entries of one page: an Inbox that nobody reads is nearly empty, one that somebody reads is looked at often.
const PAGE: &str = "50";
/// What tells a report from other mail, and which message it is about.
const SELECT: &str = "id,subject,from,receivedDateTime,internetMessageHeaders";
/// The mailbox part of the address that Exchange Online's own reports come from; the domain is the tenant's.
const EXCHANGE: &str = "microsoftexchange329e71ec88ae4615bbc36ab6ce41109e@";

/// A report, as far as its headers tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonDelivery {
    /// Its id, the same in every folder.
    pub id: String,
    /// When it arrived.
    pub received: Option<Timestamp>,
    /// Its subject, in whatever language.
    pub subject: Option<String>,
    /// `Message-ID`s that it refers to, angle brackets included; the report's own text says more.
    pub about: Vec<String>,
}

/// A list of what arrived since a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// The reports among it, oldest first.
    pub reports: Vec<NonDelivery>,
    /// When the newest message of the list arrived, report or not: where to go on. `None`: nothing arrived.
    pub until: Option<Timestamp>,
    /// There was more than asked for: go on from `until` at once.
    pub more: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    id: String,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    from: Option<From>,
    #[serde(default, rename = "receivedDateTime")]
    received: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::or_default")]
    internet_message_headers: Vec<MessageHeader>,
}

#[derive(Deserialize)]
struct From {
    #[serde(rename = "emailAddress")]
    email_address: Address,
}

#[derive(Deserialize)]
struct Address {
    #[serde(default)]
    address: Option<String>,
}

impl Entry {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.internet_message_headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(found.value.as_str())
    }

    /// By its form (RFC 3464), or by Exchange's own sender, whose reports reach the Inbox in a form of their own
    /// (unverified).
    fn is_report(&self) -> bool {
        let content_type = self.header("Content-Type").unwrap_or_default().to_ascii_lowercase();
        let from = self.from.as_ref().and_then(|from| from.email_address.address.as_deref()).unwrap_or_default();
        content_type.trim_start().starts_with("multipart/report") && !content_type.contains("disposition-notification")
            || from.to_ascii_lowercase().starts_with(EXCHANGE)
    }

    /// The ids of `In-Reply-To` and `References`, each once.
    fn about(&self) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        for text in ["In-Reply-To", "References"].iter().filter_map(|name| self.header(name)) {
            for id in text.split_inclusive('>').filter_map(|piece| piece.find('<').map(|at| &piece[at..])) {
                if id.ends_with('>') && !ids.iter().any(|known| known == id) {
                    ids.push(id.to_owned());
                }
            }
        }
        ids
    }
}

/// The reports that arrived in the Inbox at `since` or later; at most `most` messages are looked at.
///
/// # Errors
/// [`GraphError::AccessDenied`] without a permission to read mail.
pub async fn arrived_since(
    graph: &Graph,
    mailbox: impl Into<Mailbox>,
    since: Timestamp,
    most: usize,
) -> Result<Arrived, GraphError> {
    let mailbox = mailbox.into();
    let request = graph.call(LIST_IN_FOLDER, &[mailbox.as_str(), Folder::Inbox.as_str()]);
    let filter = format!("receivedDateTime ge {}", since.strftime("%Y-%m-%dT%H:%M:%SZ"));
    let request = immutable(request).query("$filter", &filter).query("$orderby", "receivedDateTime");
    let first = request.query("$top", PAGE).query("$select", SELECT);
    let entries: Vec<Entry> = Pages::new(graph, first).first(most.saturating_add(1)).await?;
    let more = entries.len() > most;
    let entries = &entries[..entries.len().min(most)];
    let reports = entries.iter().filter(|entry| entry.is_report()).map(|entry| NonDelivery {
        id: entry.id.clone(),
        received: entry.received,
        subject: entry.subject.clone(),
        about: entry.about(),
    });
    Ok(Arrived { reports: reports.collect(), until: entries.iter().filter_map(|entry| entry.received).max(), more })
}

/// Whether mail of this mailbox may be read: the cheapest call that a permission to read allows and no other does.
///
/// # Errors
/// [`GraphError::AccessDenied`] when it may not; any other error tells nothing.
pub async fn may_read(graph: &Graph, mailbox: impl Into<Mailbox>) -> Result<(), GraphError> {
    let mailbox = mailbox.into();
    let request = graph.call(LIST_IN_FOLDER, &[mailbox.as_str(), Folder::Inbox.as_str()]);
    let first = immutable(request).query("$top", "1").query("$select", "id");
    Pages::<Id>::new(graph, first).first(1).await.map(drop)
}

/// Nothing but an id.
#[derive(Deserialize)]
struct Id {
    #[serde(rename = "id")]
    _id: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Say, Served};

    fn entry(id: &str, from: &str, content_type: &str, more: serde_json::Value) -> serde_json::Value {
        let mut headers = vec![json!({"name": "Content-Type", "value": content_type})];
        headers.extend(more.as_array().cloned().unwrap_or_default());
        json!({
            "id": id, "subject": "x", "receivedDateTime": format!("2026-11-24T07:0{}:00Z", id.len()),
            "from": {"emailAddress": {"address": from}}, "internetMessageHeaders": headers,
        })
    }

    #[tokio::test]
    async fn reports_are_told_by_their_headers_and_say_what_they_are_about() {
        let report = "multipart/report; report-type=delivery-status; boundary=x";
        let ids = json!([
            {"name": "In-Reply-To", "value": "<1@x.example>"},
            {"name": "References", "value": "<0@x.example> <1@x.example>"},
        ]);
        let server = Served::start([Say::json(
            200,
            json!({"value": [
                entry("a", "postmaster@y.example", report, ids),
                entry("bb", "alice@x.example", "text/plain", json!([])),
                entry("ccc", "bob@x.example", "multipart/report; report-type=disposition-notification", json!([])),
                entry("dddd", "MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@x.example", "text/html", json!([])),
            ]}),
        )])
        .await;
        let since = "2026-11-24T07:00:00.5Z".parse().unwrap();
        let arrived = arrived_since(&server.graph, a_mailbox(), since, 100).await.unwrap();
        let found: Vec<_> = arrived.reports.iter().map(|one| (one.id.as_str(), one.about.join(" "))).collect();
        assert_eq!(found, [("a", "<1@x.example> <0@x.example>".to_owned()), ("dddd", String::new())]);
        assert_eq!((arrived.until, arrived.more), ("2026-11-24T07:04:00Z".parse().ok(), false));
        let line = &server.lines()[0];
        assert!(line.contains("/mailFolders/inbox/messages?$filter=receivedDateTime%20ge%202026-11-24T07"), "{line}");
    }

    fn a_mailbox() -> Mailbox {
        Mailbox::from("a@x.example".parse::<postkey_base::EmailAddress>().unwrap())
    }

    #[tokio::test]
    async fn more_than_was_asked_for_is_said() {
        let two = json!({"value": [
            entry("a", "alice@x.example", "text/plain", json!([])),
            entry("bb", "alice@x.example", "text/plain", json!([])),
        ]});
        let server = Served::start([Say::json(200, two)]).await;
        let since = "2026-11-24T07:00:00Z".parse().unwrap();
        let arrived = arrived_since(&server.graph, a_mailbox(), since, 1).await.unwrap();
        assert_eq!((arrived.until, arrived.more), ("2026-11-24T07:01:00Z".parse().ok(), true));
    }

    #[tokio::test]
    async fn whether_mail_may_be_read_is_asked_cheaply() {
        let server = Served::start([Say::json(200, json!({"value": []})), Say::error(403, "ErrorAccessDenied")]).await;
        may_read(&server.graph, a_mailbox()).await.unwrap();
        assert!(matches!(may_read(&server.graph, a_mailbox()).await, Err(GraphError::AccessDenied(_))));
    }
}
