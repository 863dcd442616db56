//! Reply, reply to all, forward; at once, or as drafts to be sent later.

use serde_json::Value;

use super::{
    delivery,
    graph::{Context, optional_object},
    json_read::{self, Marks},
    mailbox::{Letter, Mailbox, Recipient, StoredMessage},
    messages::{self, find, mailbox, mailbox_mut},
    refusal::Refusal,
    send_mail,
};
use crate::{request::ApiResponse, world::World};

/// Which answer to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    forward: bool,
    all: bool,
    as_draft: bool,
}

impl Kind {
    pub(crate) const REPLY: Self = Self { forward: false, all: false, as_draft: false };
    pub(crate) const REPLY_ALL: Self = Self { forward: false, all: true, as_draft: false };
    pub(crate) const FORWARD: Self = Self { forward: true, all: false, as_draft: false };

    /// The `create…` form.
    pub(crate) const fn draft(self) -> Self {
        Self { as_draft: true, ..self }
    }
}

pub(crate) fn serve(world: &mut World, context: &Context<'_>, id: &str, kind: Kind) -> Result<ApiResponse, Refusal> {
    let now = world.clock.now();
    let position = find(world, context, id)?;
    let mailbox = mailbox(world, context)?;
    let original = &mailbox.messages[position];
    let (letter, mime, marks) = if send_mail::is_mime(context.request) {
        let mime = send_mail::decode_mime(&context.request.body)?;
        let mut letter = send_mail::read_mime(&mime, now)?;
        address(&mut letter, mailbox, original, kind);
        (letter, Some(mime), Marks::default())
    } else {
        let (letter, marks) = from_json(context, mailbox, original, kind)?;
        (letter, None, marks)
    };
    if !kind.as_draft {
        return send_mail::send(world, context.caller, context.allowed, letter, mime, true);
    }
    let mailbox = mailbox_mut(world, context)?;
    let domain = mailbox.address().rsplit_once('@').map_or("invalid", |(_, domain)| domain).to_owned();
    let mut letter = letter;
    letter.message_id.get_or_insert_with(|| delivery::new_message_id(&domain));
    let position = mailbox.store("drafts", letter, mime, now);
    mailbox.messages[position].is_draft = true;
    mailbox.messages[position].is_read = true;
    messages::mark(&mut mailbox.messages[position], marks);
    messages::answer(world, context, position, 201)
}

fn from_json(
    context: &Context<'_>,
    mailbox: &Mailbox,
    original: &StoredMessage,
    kind: Kind,
) -> Result<(Letter, Marks), Refusal> {
    let body = optional_object(context.request)?;
    let known: &[&str] = if kind.forward { &["message", "comment", "toRecipients"] } else { &["message", "comment"] };
    json_read::only_parameters(&body, known)?;
    let comment = json_read::parameter(&body, "comment").and_then(Value::as_str);
    let message = json_read::parameter(&body, "message").and_then(Value::as_object);
    let own_body = message.is_some_and(|message| message.contains_key("body"));
    if comment.is_some() && own_body {
        // unverified: code and text
        return Err(Refusal::bad_request("Specify either comment or the body of the message, not both."));
    }
    let mut letter = Letter { conversation: original.letter.conversation.clone(), ..Letter::default() };
    address(&mut letter, mailbox, original, kind);
    quote(&mut letter, original, comment.unwrap_or_default());
    if kind.forward {
        letter.attachments.clone_from(&original.letter.attachments);
        let listed = json_read::parameter(&body, "toRecipients");
        let inside = message.and_then(|message| message.get("toRecipients"));
        match (listed, inside) {
            (Some(list), None) => letter.to = json_read::recipients(list)?,
            (None, Some(_)) => {}
            (None, None) if kind.as_draft => {} // the draft's recipients can be set later
            _ => {
                // unverified: code and text
                return Err(Refusal::bad_request("Specify either toRecipients or message.toRecipients, one of them."));
            }
        }
    }
    let marks = match message {
        Some(message) => json_read::apply(&mut letter, message, true, original.modified)?,
        None => Marks::default(),
    };
    Ok((letter, marks))
}

/// Subject, recipients and threading, where the letter does not say otherwise.
fn address(letter: &mut Letter, mailbox: &Mailbox, original: &StoredMessage, kind: Kind) {
    let source = &original.letter;
    let prefix = if kind.forward { "FW: " } else { "RE: " };
    if letter.subject.is_empty() {
        let repeated = source.subject.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        letter.subject = if repeated { source.subject.clone() } else { format!("{prefix}{}", source.subject) };
    }
    letter.conversation.clone_from(&source.conversation);
    if let Some(id) = &source.message_id {
        letter.thread_headers = vec![("In-Reply-To".into(), id.clone()), ("References".into(), id.clone())];
    }
    if kind.forward {
        return;
    }
    let others = |list: &[Recipient]| -> Vec<Recipient> {
        list.iter().filter(|person| !mailbox.has_address(&person.address)).cloned().collect()
    };
    letter.to =
        if source.reply_to.is_empty() { source.from.iter().cloned().collect() } else { source.reply_to.clone() };
    if kind.all {
        letter.to.extend(others(&source.to));
        letter.cc = others(&source.cc);
    } else {
        letter.cc.clear();
    }
    letter.bcc.clear();
}

fn quote(letter: &mut Letter, original: &StoredMessage, comment: &str) {
    let source = &original.letter;
    let from = source.from.as_ref().map_or("", |from| from.address.as_str());
    letter.body.html = source.body.html;
    letter.body.content = if source.body.html {
        let escaped = comment.replace('&', "&amp;").replace('<', "&lt;");
        format!(
            "<div>{escaped}</div><hr><div><b>From:</b> {from}<br><b>Subject:</b> {}</div>{}",
            source.subject, source.body.content
        )
    } else {
        format!(
            "{comment}\r\n________________________________\r\nFrom: {from}\r\nSubject: {}\r\n\r\n{}",
            source.subject, source.body.content
        )
    };
}
