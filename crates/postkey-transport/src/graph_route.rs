//! Hands a message to Graph: as MIME, or as a draft with its attachments uploaded one by one.

use std::time::Duration;

use postkey_base::EmailAddress;
use postkey_graph::{
    Graph, GraphError, REQUEST_LIMIT,
    attachments::{self, FileAttachment, SMALL_LIMIT},
    folders::Folder,
    messages,
    send_mail::{self, Accepted as Receipt},
};

use crate::{
    draft::Draft,
    outcome::{Accepted, Outcome, Proof, TransportError, Unknown},
    route::Route,
};

/// An upload that breaks off is taken up again this often: each time it goes on where Exchange says it stopped.
const UPLOAD_ATTEMPTS: usize = 4;
/// A server that wants a longer wait in the middle of an upload gets none: the message is tried again as a whole.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(30);
/// The JSON around an attachment's base64.
const ROOM_FOR_JSON: u64 = 2_048;

/// Sends MIME as it is.
pub async fn send_mime(graph: &Graph, mailbox: &EmailAddress, mime: &[u8]) -> Outcome {
    match send_mail::send_mime(graph, mailbox, mime).await {
        Ok(receipt) => accepted(Route::GraphMime, receipt),
        Err(error) => failed(error),
    }
}

/// Sends a message described in JSON, attachments and all, in one request.
pub async fn send_json(graph: &Graph, mailbox: &EmailAddress, draft: Draft) -> Outcome {
    let Draft { mut message, attachments } = draft;
    message.attachments = attachments;
    match send_mail::send_json(graph, mailbox, &message, true).await {
        Ok(receipt) => accepted(Route::GraphJson, receipt),
        Err(error) => failed(error),
    }
}

/// Makes a draft, attaches what belongs to it, sends it. A draft that is not sent is deleted. When the answer to its
/// sending is lost, one look at it by its immutable id may show that it has gone.
pub async fn send_draft(graph: &Graph, mailbox: &EmailAddress, draft: &Draft) -> Outcome {
    let made = match messages::create_draft(graph, mailbox, &draft.message).await {
        Ok(made) => made,
        Err(error) => {
            if error.may_have_taken_effect()
                && let Some(id) = &draft.message.internet_message_id
            {
                discard_drafts(graph, mailbox, id).await;
            }
            // Whatever became of the draft, it was not sent.
            return Outcome::Refused(error.into());
        }
    };
    for file in &draft.attachments {
        if let Err(error) = attach(graph, mailbox, &made.id, file).await {
            delete(graph, mailbox, &made.id).await;
            return Outcome::Refused(error.into());
        }
    }
    match messages::send_draft(graph, mailbox, &made.id).await {
        Ok(receipt) => accepted(Route::GraphDraftUpload, receipt),
        Err(error) if error.may_have_taken_effect() => {
            // Still a draft proves nothing: transport may be about to take it, so it is left alone.
            match messages::get(graph, mailbox, &made.id).await {
                Ok(found) if !found.is_draft => {
                    tracing::info!(%mailbox, %error, "the answer was lost, but the draft has been sent");
                    let request_id = error.request_id().map(str::to_owned);
                    let proof = Proof::Graph { request_id, client_request_id: error.client_request_id() };
                    let (route, recipients) = (Route::GraphDraftUpload, Vec::new());
                    Outcome::Accepted(Accepted { route, proof, recipients, retry_after: None })
                }
                _ => failed(error),
            }
        }
        Err(error) => {
            delete(graph, mailbox, &made.id).await;
            failed(error)
        }
    }
}

/// Deletes drafts of ours with this Message-ID: what is left of a sending whose outcome was unknown, once it is certain
/// that it did not go.
pub async fn discard_drafts(graph: &Graph, mailbox: &EmailAddress, message_id: &str) {
    if let Ok(found) = messages::find_by_internet_message_id(graph, mailbox, Some(&Folder::Drafts), message_id).await {
        for left in found.iter().filter(|one| one.is_draft) {
            delete(graph, mailbox, &left.id).await;
        }
    }
}

async fn attach(graph: &Graph, mailbox: &EmailAddress, draft: &str, file: &FileAttachment) -> Result<(), GraphError> {
    let size = file.content.len() as u64;
    // Sessions are documented for files of 3 MB and more; one a little below, which as base64 is over the request limit,
    // goes by session as well. unverified
    if size < SMALL_LIMIT && size.div_ceil(3) * 4 + ROOM_FOR_JSON <= REQUEST_LIMIT {
        return attachments::add_small(graph, mailbox, draft, file).await.map(drop);
    }
    let mut session = attachments::create_upload_session(graph, mailbox, draft, file).await?;
    let mut broke_off: Option<GraphError> = None;
    for attempt in 1.. {
        let before = session.next;
        match attachments::upload(graph, mailbox, &mut session, &file.content).await {
            Ok(_) => return Ok(()),
            Err(error) if may_go_on(&error) && (attempt < UPLOAD_ATTEMPTS || session.next > before) => {
                tracing::debug!(file = %file.name, at = session.next, %error, "the upload broke off; going on");
                tokio::time::sleep(error.retry_after().unwrap_or_default()).await;
                broke_off = Some(error);
            }
            Err(error) => {
                let _ = attachments::cancel_upload(graph, mailbox, session).await;
                // A session that cannot go on where it broke off says nothing about the message: the next attempt makes
                // another draft. What counts is why it broke off.
                return Err(broke_off.filter(|_| !error.is_transient()).unwrap_or(error));
            }
        }
    }
    Ok(())
}

/// A cut connection at once; a server that names a short wait, after it.
fn may_go_on(error: &GraphError) -> bool {
    match error.retry_after() {
        Some(wait) => error.is_transient() && wait <= UPLOAD_PATIENCE,
        None => matches!(error, GraphError::Network { .. }) && error.is_transient(),
    }
}

fn accepted(route: Route, receipt: Receipt) -> Outcome {
    let proof = Proof::Graph { request_id: receipt.request_id, client_request_id: Some(receipt.client_request_id) };
    Outcome::Accepted(Accepted { route, proof, recipients: Vec::new(), retry_after: receipt.retry_after })
}

fn failed(error: GraphError) -> Outcome {
    if error.may_have_taken_effect() {
        Outcome::Unknown(Unknown::Graph(Box::new(error)))
    } else {
        Outcome::Refused(TransportError::from(error))
    }
}

/// A draft left behind is a nuisance, not a failure: nobody waits for this to succeed.
async fn delete(graph: &Graph, mailbox: &EmailAddress, draft: &str) {
    if let Err(error) = messages::delete(graph, mailbox, draft).await {
        tracing::warn!(%mailbox, %error, "a draft that was not sent is left in Drafts");
    }
}
