//! Sending in one call: MIME as it is, or a message described in JSON. Only 202 is acceptance.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use postkey_base::CorrelationId;
use serde_json::json;

use crate::{
    call::{REQUEST_LIMIT, Reply},
    error::GraphError,
    graph::Graph,
    mailbox::Mailbox,
    messages::OutgoingMessage,
    shape::{CallShape, Effect, Verb},
};

/// Sends a message, in either form.
pub const SEND: CallShape = CallShape::new(Verb::Post, "/users/{mailbox}/sendMail", Effect::Sends, &["Mail.Send"]);

/// Bytes of MIME that fit into one call: base64 makes four of three.
pub const MIME_LIMIT: u64 = REQUEST_LIMIT / 4 * 3;

/// Exchange has taken the message: accepted, not yet delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Microsoft's id of the request.
    pub request_id: Option<String>,
    /// Ours.
    pub client_request_id: CorrelationId,
    /// How long the mailbox wants to be left alone. The message itself is not to be sent again.
    pub retry_after: Option<Duration>,
}

impl Accepted {
    pub(crate) fn of(reply: &Reply) -> Self {
        Self {
            request_id: reply.request_id().map(str::to_owned),
            client_request_id: reply.client_request_id,
            retry_after: reply.retry_after,
        }
    }
}

/// Sends a whole MIME message as it is; Exchange delivers to its To, Cc and Bcc headers. A copy goes to Sent Items.
///
/// # Errors
/// [`GraphError::OverRequestLimit`] above [`MIME_LIMIT`], before anything is sent. Never repeated here: ask
/// [`GraphError::may_have_taken_effect`].
pub async fn send_mime(graph: &Graph, mailbox: impl Into<Mailbox>, mime: &[u8]) -> Result<Accepted, GraphError> {
    let request = graph.call(SEND, &[mailbox.into().as_str()]);
    let request = request.bytes("text/plain", Bytes::from(BASE64_STANDARD.encode(mime)));
    let reply = request.expect(&[202]).without_body().send().await?;
    Ok(Accepted::of(&reply))
}

/// Sends a message that Exchange makes from its description.
///
/// # Errors
/// As [`send_mime`].
pub async fn send_json(
    graph: &Graph,
    mailbox: impl Into<Mailbox>,
    message: &OutgoingMessage,
    save_to_sent_items: bool,
) -> Result<Accepted, GraphError> {
    let body = json!({ "message": message, "saveToSentItems": save_to_sent_items });
    let request = graph.call(SEND, &[mailbox.into().as_str()]).json(&body);
    let reply = request.expect(&[202]).without_body().send().await?;
    Ok(Accepted::of(&reply))
}

/// Asks whether the app may send from a mailbox, by a request that cannot deliver: a message without recipients.
///
/// # Errors
/// Always one: [`GraphError::InvalidRecipients`] means that it may, [`GraphError::AccessDenied`] that it may not; any
/// other error, and even a success, tells nothing.
pub async fn probe(graph: &Graph, mailbox: impl Into<Mailbox>) -> Result<Accepted, GraphError> {
    send_json(graph, mailbox, &OutgoingMessage::default(), false).await
}
