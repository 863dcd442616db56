//! What an SMTP session asks the organization: does this token open this mailbox, may it send this message.

use bytes::Bytes;
use jiff::SignedDuration;
use uuid::Uuid;

use super::{
    access::{self, Representation, Sender},
    address_faults::{self, FaultKind, SLOW_MS},
    delivery::{self, Outgoing},
    limits, mime_read,
    smtp::{Envelope, TOO_LARGE, unsuccessful},
};
use crate::{
    request::Caller,
    token::{self, Audience},
    world::World,
};

/// An authenticated connection. Give it back with [`leave`].
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) tenant: usize,
    pub(crate) mailbox: Uuid,
    pub(crate) app_id: Uuid,
    /// As it stood in `user=`.
    user: String,
    actors: Vec<Uuid>,
}

/// The answer to a message.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) reply: String,
    /// Cut the connection instead of answering.
    pub(crate) cut: bool,
    /// Answer so much later.
    pub(crate) delay_ms: u64,
}

/// Judges XOAUTH2 credentials; the error is the reply.
pub(crate) fn authenticate(world: &mut World, host: &str, user: &str, bearer: &str) -> Result<Login, String> {
    let refused = || unsuccessful(host);
    let caller = token::validate(world, bearer, Audience::Exchange).map_err(|_| refused())?;
    let tenant_index = access::tenant_index(world, caller.tenant).ok_or_else(refused)?;
    let tenant = &world.tenants[tenant_index];
    let mailbox = tenant.mailbox(user).ok_or_else(refused)?;
    if mailbox.smtp_auth_disabled.unwrap_or(tenant.exchange.smtp_auth_disabled) {
        let of = if mailbox.smtp_auth_disabled.is_some() { "Mailbox" } else { "Tenant" };
        return Err(format!(
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the {of}. Visit \
             https://aka.ms/smtp_auth_disabled for more information. [{host}]"
        ));
    }
    if !opens(world, tenant_index, &caller, mailbox.owner) {
        return Err(refused());
    }
    let owner = mailbox.owner;
    let open = world.mail.smtp_connections.entry(owner).or_default();
    let tally = world.mail.tallies.of(owner);
    if *open >= world.mail.limits.smtp_connections {
        tally.smtp_refused += 1;
        return Err(format!("432 4.3.2 Concurrent connections limit exceeded [{host}]")); // unverified: at which command
    }
    *open += 1;
    tally.smtp_sign_ins += 1;
    tally.smtp_connections = *open;
    tally.most_smtp_connections = tally.most_smtp_connections.max(*open);
    let actors = vec![caller.user.unwrap_or(caller.service_principal), owner];
    Ok(Login { tenant: tenant_index, mailbox: owner, app_id: caller.app_id, user: user.to_owned(), actors })
}

/// Whether the caller may submit through this mailbox.
fn opens(world: &World, tenant: usize, caller: &Caller, owner: Uuid) -> bool {
    let tenant = &world.tenants[tenant];
    let Some(mailbox) = tenant.mailboxes.get(&owner) else { return false };
    let full_access = |who: &Uuid| mailbox.rights.full_access.contains(who);
    if let Some(user) = caller.user {
        return caller.scopes.contains("SMTP.Send") && (user == owner || full_access(&user));
    }
    if !caller.roles.contains("SMTP.SendAsApp") {
        return access::in_role_scope(tenant, caller.service_principal, mailbox, "SMTP.SendAsApp", world.clock.now());
    }
    // With the claim, Exchange checks its own registration of the app and the mailbox permission.
    let registered = tenant
        .exchange
        .principals
        .iter()
        .any(|known| known.app_id == caller.app_id && known.object_id == caller.service_principal);
    registered && full_access(&caller.service_principal)
}

/// The connection is gone.
pub(crate) fn leave(world: &mut World, login: &Login) {
    if let Some(open) = world.mail.smtp_connections.get_mut(&login.mailbox) {
        *open = open.saturating_sub(1);
        world.mail.tallies.of(login.mailbox).smtp_connections = *open;
    }
}

/// Whether a recipient is taken: unknown ones are, and come back as reports. A fault asked for by the address is met
/// here when nothing shall be delivered.
pub(crate) fn recipient(world: &mut World, login: &Login, taken: usize, address: &str) -> Result<(), String> {
    let limit = world.tenants[login.tenant].mailboxes.get(&login.mailbox).map_or(0, |mailbox| mailbox.recipient_limit);
    if taken >= limit {
        return Err("452 4.5.3 Too many recipients".into());
    }
    match address_faults::parse(address) {
        Some(fault) if !fault.delivered => match fault.kind {
            FaultKind::Status(code) if address_faults::met(&mut world.mail, std::iter::once(address)).is_some() => {
                Err(fault_reply(code))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// What an SMTP server says for a code that a fault asks for; Graph's statuses mean a passing trouble here.
pub(crate) fn fault_reply(code: u16) -> String {
    match code {
        421 => "421 4.3.2 Service not available".into(),
        432 => "432 4.3.2 Concurrent connections limit exceeded".into(),
        450..=459 => format!("{code} 4.7.0 Temporary server error. Please try again later."),
        550 => "550 5.1.10 Recipient not found".into(),
        551..=559 => format!("{code} 5.7.1 Refused as the address asked"),
        _ => "451 4.7.0 Temporary server error. Please try again later.".into(),
    }
}

/// Takes a message.
pub(crate) fn submit(world: &mut World, host: &str, login: &Login, envelope: Envelope) -> Submitted {
    delivery::settle(world);
    let answer = |reply: String| Submitted { reply, cut: false, delay_ms: 0 };
    let now = world.clock.now();
    let mut mime = Bytes::from(envelope.mime);
    let tenant = &world.tenants[login.tenant];
    let Some(mailbox) = tenant.mailboxes.get(&login.mailbox) else {
        return answer(format!(
            "554 5.2.0 STOREDRV.Submission.Exception:MailboxUnavailableException; [Hostname={host}]"
        ));
    };
    if let Some(refusal) = &mailbox.submission_refusal {
        return answer(refusal.clone());
    }
    if mime.len() > mailbox.max_send_bytes {
        return answer(TOO_LARGE.into());
    }
    let Some(mut letter) = mime_read::letter(&mime, now) else {
        return answer("554 5.6.0 Invalid message content".into()); // unverified
    };
    if letter.from.is_none() {
        let own = mailbox.as_recipient();
        let name = own.name.as_deref().unwrap_or_default().replace('"', "");
        mime = Bytes::from([format!("From: \"{name}\" <{}>\r\n", own.address).as_bytes(), &mime].concat());
        letter.from = Some(own);
    }
    let from = letter.from.as_ref().map_or_else(String::new, |from| from.address.clone());
    let sender = Sender { actors: login.actors.clone(), mailbox };
    let mut represented = None;
    for address in [Some(&from), Some(&envelope.from).filter(|path| !path.is_empty())].into_iter().flatten() {
        match access::representation(tenant, &sender, address) {
            None => return answer(send_as_denied(&login.user, address, host)),
            Some(Representation::Own) => {}
            Some(_) => represented = tenant.mailboxes.values().find(|other| other.has_address(address)),
        }
    }
    if mailbox.is_full_for(mime.len()) {
        return answer(format!("554 5.2.0 STOREDRV.Submission.Exception:QuotaExceededException; [Hostname={host}]"));
    }
    let save = mailbox.copies_smtp_submissions;
    let also_in = represented.filter(|other| other.copies_sent_as).map(|other| other.owner);
    let sender_fault = Some(envelope.from.as_str());
    let fault = address_faults::met(
        &mut world.mail,
        sender_fault.into_iter().chain(envelope.recipients.iter().map(String::as_str)),
    );
    let mut submitted = Submitted { reply: String::new(), cut: false, delay_ms: 0 };
    let mut spoilt = None;
    if let Some(fault) = fault {
        match fault.kind {
            FaultKind::Status(code) => spoilt = Some(fault_reply(code)),
            FaultKind::Drop => submitted.cut = true,
            FaultKind::Slow => submitted.delay_ms = SLOW_MS,
            FaultKind::SendAsDenied => spoilt = Some(send_as_denied(&login.user, &from, host)),
            FaultKind::Stopped(detail) => spoilt = Some(address_faults::stopped(detail)), // unverified: at which command
            FaultKind::AcceptedButRest
            | FaultKind::Okay
            | FaultKind::ChunkLost
            | FaultKind::Undeliverable
            | FaultKind::OverExternalLimit => {}
        }
        if !fault.delivered && (spoilt.is_some() || submitted.cut) {
            submitted.reply = spoilt.unwrap_or_default();
            return submitted;
        }
    }
    if world.mail.limits.external_limit_refuses {
        let external = delivery::external(world, login.tenant, &envelope.recipients);
        if !limits::external_recipients_fit(world, login.tenant, external) {
            world.mail.tallies.of(login.mailbox).over_external_limit += 1;
            return answer(delivery::EXTERNAL_LIMIT.into());
        }
    }
    let delay: SignedDuration = limits::smtp_message_delay(world, login.mailbox);
    let message_id = letter.message_id.clone().unwrap_or_else(|| {
        let domain = from.rsplit_once('@').map_or("invalid", |(_, domain)| domain);
        delivery::new_message_id(domain)
    });
    letter.message_id.get_or_insert_with(|| message_id.clone());
    let outgoing = Outgoing {
        letter,
        mime: Some(mime),
        recipients: envelope.recipients,
        from: envelope.from,
        save,
        also_in,
        delay,
    };
    delivery::submit(world, login.tenant, login.mailbox, outgoing);
    delivery::settle(world);
    // unverified: wording
    submitted.reply = spoilt.unwrap_or_else(|| format!("250 2.0.0 OK {message_id} [Hostname={host}]"));
    submitted
}

fn send_as_denied(user: &str, from: &str, host: &str) -> String {
    format!(
        "554 5.2.252 SendAsDenied; {user} not allowed to send as {from}; \
         STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message due to \
         a permanent exception with message [BeginDiagnosticData]Cannot submit message. 0.35250:0A00EE80, \
         1.36674:0A000000[EndDiagnosticData] [Hostname={host}]"
    )
}
