//! `sendMail`: a message as JSON or as MIME, sent at once. What every send has in common stands here too.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::SignedDuration;
use uuid::Uuid;

use super::{
    access::{self, Allowed, Representation, Sender},
    address_faults::{self, AddressFault, FaultKind, REST, SLOW_MS},
    delivery::{self, Outgoing},
    json_read, limits,
    mailbox::{Letter, Mailbox},
    mime_read, mime_write,
    refusal::Refusal,
};
use crate::{
    request::{ApiRequest, ApiResponse, Body, Caller},
    world::World,
};

/// 202 without a body: accepted, nothing more.
pub(crate) fn accepted() -> ApiResponse {
    ApiResponse { status: 202, headers: Vec::new(), body: Body::Empty }
}

/// Whether the request's body is MIME in base64.
pub(crate) fn is_mime(request: &ApiRequest) -> bool {
    let kind = request.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("text/plain")
}

/// Decodes a MIME body.
pub(crate) fn decode_mime(body: &[u8]) -> Result<Bytes, Refusal> {
    let packed = |body: &[u8]| body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>();
    // Most clients write no line breaks; the check is quicker than the copy.
    let wrapped = body.iter().any(u8::is_ascii_whitespace);
    let decoded = if wrapped { STANDARD.decode(packed(body)) } else { STANDARD.decode(body) };
    match decoded {
        Ok(mime) if !mime.is_empty() => Ok(Bytes::from(mime)),
        _ => Err(Refusal::new(400, "ErrorMimeContentInvalidBase64String", "Invalid base64 string for MIME content.")),
    }
}

/// Reads MIME; no header at all is no message.
pub(crate) fn read_mime(mime: &[u8], now: jiff::Timestamp) -> Result<Letter, Refusal> {
    // unverified: status and text
    mime_read::letter(mime, now)
        .ok_or_else(|| Refusal::new(400, "ErrorMimeContentInvalid", "The MIME content is invalid."))
}

/// `POST /users/{id}/sendMail`
pub(crate) fn send_mail(
    world: &mut World,
    request: &ApiRequest,
    caller: &Caller,
    allowed: Allowed,
) -> Result<ApiResponse, Refusal> {
    let now = world.clock.now();
    let (letter, mime, save) = if is_mime(request) {
        let mime = decode_mime(&request.body)?;
        (read_mime(&mime, now)?, Some(mime), true)
    } else {
        let body = json_read::object(&request.body)?;
        json_read::only_parameters(&body, &["message", "saveToSentItems"])?;
        let save = match json_read::parameter(&body, "saveToSentItems") {
            Some(value) => json_read::boolean(value, "saveToSentItems")?,
            None => true,
        };
        let message = json_read::parameter(&body, "message").and_then(|message| message.as_object());
        // unverified: text
        let message = message.ok_or_else(|| Refusal::bad_request("The parameter 'message' is required."))?;
        let mut letter = Letter { conversation: super::mailbox::item_id("new"), ..Letter::default() };
        json_read::apply(&mut letter, message, true, now)?;
        (letter, None, save)
    };
    send(world, caller, allowed, letter, mime, save)
}

/// What an address fault leaves of the answer.
pub(crate) enum Spoilt {
    /// Nothing happens but this.
    Before(Result<ApiResponse, Refusal>),
    /// The effect happens, then this.
    After(Result<ApiResponse, Refusal>),
}

/// The fault that a send to these addresses meets, as an answer.
pub(crate) fn spoilt(fault: Option<AddressFault>) -> Spoilt {
    let with = |headers| Ok(ApiResponse { headers, ..accepted() });
    let Some(fault) = fault else { return Spoilt::After(with(Vec::new())) };
    let answer = match fault.kind {
        FaultKind::Status(status) => Err(status_refusal(status)),
        FaultKind::Drop => Err(cut()),
        FaultKind::Slow => with(vec![("x-emulator-delay-ms", SLOW_MS.to_string())]),
        FaultKind::AcceptedButRest => with(vec![("retry-after", REST.to_owned())]),
        FaultKind::Okay => Ok(ApiResponse { status: 200, ..accepted() }),
        FaultKind::SendAsDenied => Err(access::send_as_denied()),
        FaultKind::Stopped(_) | FaultKind::ChunkLost | FaultKind::Undeliverable | FaultKind::OverExternalLimit => {
            return Spoilt::After(with(Vec::new()));
        }
    };
    if fault.delivered { Spoilt::After(answer) } else { Spoilt::Before(answer) }
}

/// The connection is cut instead of an answer.
pub(crate) fn cut() -> Refusal {
    Refusal::new(500, "ErrorInternalServerError", "The connection is cut instead of this answer.")
        .with_header("x-emulator-drop", "1")
}

/// How long a throttled caller is told to wait, in seconds.
const RETRY_AFTER: &str = "2";

fn status_refusal(status: u16) -> Refusal {
    match status {
        401 => Refusal::new(401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid."),
        403 => Refusal::access_denied(),
        404 => Refusal::not_found(),
        413 => Refusal::new(413, "RequestEntityTooLarge", "The request is too large."),
        429 => Refusal::new(429, "ApplicationThrottled", "Application is over its MailboxConcurrency limit.")
            .with_header("retry-after", RETRY_AFTER),
        500 => {
            Refusal::new(500, "ErrorInternalServerError", "An internal server error occurred. The operation failed.")
        }
        503 => {
            Refusal::new(503, "ErrorServerBusy", "The server cannot service this request right now. Try again later.")
                .with_header("retry-after", RETRY_AFTER)
        }
        504 => Refusal::new(504, "UnknownError", ""), // unverified: the gateway's body
        _ => Refusal::new(status, "UnknownError", ""),
    }
}

/// Sends a letter through the mailbox, unless something forbids it.
pub(crate) fn send(
    world: &mut World,
    caller: &Caller,
    allowed: Allowed,
    mut letter: Letter,
    mime: Option<Bytes>,
    save: bool,
) -> Result<ApiResponse, Refusal> {
    let checked = check(world, caller, allowed, &mut letter, mime)?;
    if let Spoilt::Before(answer) = checked.spoilt {
        return answer;
    }
    limits::count_graph_message(world, allowed.mailbox)?;
    let outgoing = Outgoing {
        recipients: letter.recipients(),
        letter,
        mime: checked.mime,
        from: checked.from,
        save: save || checked.always_saved,
        also_in: checked.also_in,
        delay: SignedDuration::ZERO,
    };
    delivery::submit(world, allowed.tenant, allowed.mailbox, outgoing);
    finish(checked.spoilt)
}

/// The answer of a send whose effect has happened.
pub(crate) fn finish(spoilt: Spoilt) -> Result<ApiResponse, Refusal> {
    match spoilt {
        Spoilt::Before(answer) | Spoilt::After(answer) => answer,
    }
}

/// A letter that may be sent.
pub(crate) struct Checked {
    pub(crate) spoilt: Spoilt,
    pub(crate) mime: Option<Bytes>,
    /// Reverse-path.
    pub(crate) from: String,
    pub(crate) also_in: Option<Uuid>,
    pub(crate) always_saved: bool,
}

/// Recipients, size, From and quota, in the order in which the service notices.
pub(crate) fn check(
    world: &mut World,
    caller: &Caller,
    allowed: Allowed,
    letter: &mut Letter,
    mime: Option<Bytes>,
) -> Result<Checked, Refusal> {
    let recipients = letter.recipients();
    let (mime, from, also_in) = {
        let tenant = &world.tenants[allowed.tenant];
        let Some(mailbox) = tenant.mailboxes.get(&allowed.mailbox) else { return Err(Refusal::not_found()) };
        if recipients.is_empty() {
            return Err(json_read::unresolved(""));
        }
        if let Some(bad) = recipients.iter().find(|address| !looks_like_address(address)) {
            return Err(json_read::unresolved(bad));
        }
        if recipients.len() > mailbox.recipient_limit {
            // unverified: code and status
            return Err(Refusal::new(
                400,
                "ErrorMessageTooManyRecipients",
                "The message has more recipients than this mailbox may address at once.",
            ));
        }
        let own = mailbox.as_recipient();
        let mut mime = mime;
        if letter.from.is_none() {
            // Where the service adds a From: on top, so that nothing else moves.
            if let Some(bytes) = &mime {
                let field = format!(
                    "From: \"{}\" <{}>\r\n",
                    own.name.as_deref().unwrap_or_default().replace('"', ""),
                    own.address
                );
                mime = Some(Bytes::from([field.as_bytes(), bytes].concat()));
            }
            letter.from = Some(own.clone());
        }
        let from = letter.from.as_ref().map_or_else(String::new, |from| from.address.clone());
        let mut actors = vec![caller.user.unwrap_or(caller.service_principal)];
        if caller.user.is_none() {
            actors.push(mailbox.owner); // an app sends through the mailbox as its owner would
        }
        let representation = access::representation(tenant, &Sender { actors, mailbox }, &from);
        let represented =
            tenant.mailboxes.values().find(|other| other.has_address(&from) && other.owner != mailbox.owner);
        if let (Some(other), Some(from)) = (represented, &mut letter.from)
            && mime.is_none()
        {
            from.name = Some(other.display_name.clone()); // the address book's name, whatever the client wrote
        }
        match representation {
            None => return Err(access::send_as_denied()),
            Some(Representation::Own) => {
                if mime.is_none() {
                    letter.from = Some(own.clone());
                    letter.sender = Some(own);
                }
            }
            Some(Representation::SendAs) => letter.sender = letter.from.clone(),
            Some(Representation::OnBehalf) => {
                // The one who really sends, through whichever mailbox.
                let real = caller.user.and_then(|user| tenant.mailboxes.get(&user));
                letter.sender = Some(real.map_or(own, Mailbox::as_recipient));
            }
        }
        let delegated_other = caller.user.is_some() && representation != Some(Representation::Own);
        if delegated_other && !caller.scopes.contains("Mail.Send.Shared") {
            return Err(Refusal::access_denied());
        }
        (mime, from, represented.filter(|other| other.copies_sent_as).map(|other| other.owner))
    };
    let size = match &mime {
        Some(mime) => mime.len(),
        None => mime_write::mime(letter, "<size@emulator>", jiff::Timestamp::UNIX_EPOCH, "size").len(),
    };
    let mailbox = &world.tenants[allowed.tenant].mailboxes[&allowed.mailbox];
    if size > mailbox.max_send_bytes {
        // unverified: status
        return Err(Refusal::new(413, "ErrorMessageSizeExceeded", "The message exceeds the maximum supported size."));
    }
    if mailbox.is_full_for(size) {
        // unverified: status
        return Err(Refusal::new(507, "ErrorQuotaExceeded", "The mailbox has exceeded its quota."));
    }
    let addresses: Vec<String> = std::iter::once(from.clone()).chain(recipients).collect();
    let fault = address_faults::met(&mut world.mail, addresses.iter().map(String::as_str));
    Ok(Checked { spoilt: spoilt(fault), mime, from, also_in, always_saved: false })
}

/// One `@` with something on both sides, nothing that cannot stand in an address.
pub(crate) fn looks_like_address(address: &str) -> bool {
    address.rsplit_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !domain.is_empty()
            && !domain.starts_with('.')
            && !domain.ends_with('.')
            && !address.chars().any(|letter| letter.is_whitespace() || letter.is_control() || "<>,;".contains(letter))
    })
}
