//! How messages are found by people: by id, or by what is known of them, newest first.

use bytes::Bytes;
use jiff::Timestamp;
use postkey_base::EmailAddress;

use crate::{
    MessageId, MessageState, QueuedMessage, SenderId, Store, StoreError, SubmitterId, Transaction,
    messages::submitter_key, store::delegate,
};

/// Which messages to list; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageFilter {
    /// In this state.
    pub state: Option<MessageState>,
    /// Going out as this sender.
    pub sender: Option<SenderId>,
    /// Handed in by this one (`Some(None)`: by us).
    pub submitter: Option<Option<SubmitterId>>,
    /// To this recipient.
    pub recipient: Option<EmailAddress>,
    /// With this in the subject, without regard to ASCII case.
    pub subject: Option<String>,
    /// With this `Message-ID`, with brackets.
    pub message_id: Option<String>,
    /// With this in the subject, the `Message-ID` or an address of the envelope.
    pub text: Option<String>,
    /// Accepted from then on.
    pub since: Option<Timestamp>,
    /// Accepted before then.
    pub until: Option<Timestamp>,
    /// Older than this one: the last of the page before.
    pub before: Option<MessageId>,
    /// At most so many; 0 means [`MessageFilter::MOST`], and more are never given.
    pub limit: u32,
}

impl MessageFilter {
    /// So many messages are given at once.
    pub const MOST: u32 = 500;
}

impl Transaction {
    /// A message by id.
    pub async fn message(&mut self, id: MessageId) -> Result<Option<QueuedMessage>, StoreError> {
        let query = sqlx::query(
            "-- message.find
             SELECT id, sender_id, submitter_id, priority, state, due_at, attempts, epoch, size, accepted_at, settled_at,
                    via, remote, graph_json, subject, message_id, outcome, envelope
             FROM messages WHERE id = $1",
        )
        .bind(id.to_string());
        self.fetch_optional("messages", "id", query).await?.map(QueuedMessage::try_from).transpose()
    }

    /// A message's body; `None` if there is no such message, or it was removed after its time.
    pub async fn message_body(&mut self, id: MessageId) -> Result<Option<Bytes>, StoreError> {
        let query = sqlx::query(
            "-- message_body.find
             SELECT id, body FROM message_bodies WHERE id = $1",
        )
        .bind(id.to_string());
        let row = self.fetch_optional("message_bodies", "id", query).await?;
        row.map(|row| row.bytes("body").map(Bytes::from)).transpose()
    }

    /// The messages that match, newest first.
    pub async fn search_messages(&mut self, filter: &MessageFilter) -> Result<Vec<QueuedMessage>, StoreError> {
        let newest_first = sqlx::query(
            "-- message.search
             SELECT id, sender_id, submitter_id, priority, state, due_at, attempts, epoch, size, accepted_at, settled_at,
                    via, remote, graph_json, subject, message_id, outcome, envelope
             FROM messages
             WHERE id >= $1 AND id < $2 AND ($3 = '' OR state = $3) AND ($4 = '' OR sender_id = $4)
                   AND ($5 = '*' OR submitter_id = $5) AND ($6 = '' OR message_id = $6)
                   AND ($7 = '' OR LOWER(COALESCE(subject, '')) LIKE $7 ESCAPE '\\')
                   AND ($8 = '' OR LOWER(envelope) LIKE $8 ESCAPE '\\')
                   AND ($9 = '' OR LOWER(COALESCE(subject, '') || ' ' || COALESCE(message_id, '') || ' ' || envelope)
                        LIKE $9 ESCAPE '\\')
             ORDER BY id DESC LIMIT $10",
        );
        let standing_out = sqlx::query(
            "-- message.search_by_state
             SELECT id, sender_id, submitter_id, priority, state, due_at, attempts, epoch, size, accepted_at, settled_at,
                    via, remote, graph_json, subject, message_id, outcome, envelope
             FROM messages
             WHERE state IN ('sending', 'deferred', 'unknown', 'failed', 'cancelled') AND state = $3
                   AND id >= $1 AND id < $2 AND ($4 = '' OR sender_id = $4)
                   AND ($5 = '*' OR submitter_id = $5) AND ($6 = '' OR message_id = $6)
                   AND ($7 = '' OR LOWER(COALESCE(subject, '')) LIKE $7 ESCAPE '\\')
                   AND ($8 = '' OR LOWER(envelope) LIKE $8 ESCAPE '\\')
                   AND ($9 = '' OR LOWER(COALESCE(subject, '') || ' ' || COALESCE(message_id, '') || ' ' || envelope)
                        LIKE $9 ESCAPE '\\')
             ORDER BY id DESC LIMIT $10",
        );
        let query = match filter.state {
            None | Some(MessageState::Queued | MessageState::Accepted) => newest_first,
            Some(_) => standing_out,
        };
        let limit = if filter.limit == 0 { MessageFilter::MOST } else { filter.limit.min(MessageFilter::MOST) };
        let until = filter.until.map_or_else(|| BEHIND_ALL.to_owned(), MessageId::floor);
        let before = filter.before.map_or_else(|| BEHIND_ALL.to_owned(), |id| id.to_string());
        // The envelope is JSON: the address stands in it between quotes.
        let recipient = filter.recipient.as_ref().map(|address| format!("\"address\":\"{}\"", address.as_str()));
        let query = query
            .bind(filter.since.map_or_else(String::new, MessageId::floor))
            .bind(until.min(before))
            .bind(filter.state.map_or("", MessageState::word))
            .bind(filter.sender.map_or_else(String::new, |id| id.to_string()))
            .bind(filter.submitter.map_or_else(|| "*".to_owned(), submitter_key))
            .bind(filter.message_id.clone().unwrap_or_default())
            .bind(pattern(filter.subject.as_deref()))
            .bind(pattern(recipient.as_deref()))
            .bind(pattern(filter.text.as_deref()))
            .bind(i64::from(limit));
        self.fetch_all("messages", "id", query).await?.into_iter().map(QueuedMessage::try_from).collect()
    }
}

impl Store {
    delegate! {
        read message(id: MessageId) -> Option<QueuedMessage>;
        read message_body(id: MessageId) -> Option<Bytes>;
        read search_messages(filter: &MessageFilter) -> Vec<QueuedMessage>;
    }
}

/// `LIKE`: the text anywhere. Only ASCII is lowered, as SQLite does.
fn pattern(text: Option<&str>) -> String {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return String::new() };
    let mut pattern = String::from("%");
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character.to_ascii_lowercase());
    }
    pattern.push('%');
    pattern
}

/// No id is larger: ids begin with a hexadecimal digit.
const BEHIND_ALL: &str = "g";
