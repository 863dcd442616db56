//! What happens after a send is accepted: Drafts, then Sent Items and the recipients' Inboxes, or a report back.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{
    address_faults::{self, FaultKind},
    header_block, limits,
    mailbox::Letter,
    mime_read, mime_write,
    state::{OUTSIDE_KEPT, OutsideMail},
};
use crate::world::World;

/// A message handed to transport and not yet picked up.
#[derive(Debug, Clone)]
pub struct Pending {
    /// When transport picks it up.
    pub due: Timestamp,
    /// Who gets a copy: of Graph the headers' recipients, of SMTP the envelope's.
    pub recipients: Vec<String>,
    /// Reverse-path.
    pub from: String,
    /// Whether a copy stays in Sent Items.
    pub save: bool,
    /// A mailbox that keeps a copy as well (sent as somebody who wants one).
    pub also_in: Option<Uuid>,
}

/// A message ready to go.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) letter: Letter,
    /// None: made of properties, transport builds the MIME.
    pub(crate) mime: Option<Bytes>,
    pub(crate) recipients: Vec<String>,
    pub(crate) from: String,
    pub(crate) save: bool,
    pub(crate) also_in: Option<Uuid>,
    pub(crate) delay: SignedDuration,
}

/// Step 1, the only one the caller waits for: the item stands in Drafts and transport knows of it.
pub(crate) fn submit(world: &mut World, tenant: usize, mailbox: Uuid, outgoing: Outgoing) {
    let now = world.clock.now();
    let Some(sender) = world.tenants[tenant].mailboxes.get_mut(&mailbox) else { return };
    let position = sender.store("drafts", outgoing.letter, outgoing.mime, now);
    let pending = Pending {
        due: now,
        recipients: outgoing.recipients,
        from: outgoing.from,
        save: outgoing.save,
        also_in: outgoing.also_in,
    };
    hand_over(world, tenant, mailbox, position, pending, outgoing.delay);
}

/// A draft goes to transport.
pub(crate) fn hand_over(
    world: &mut World,
    tenant: usize,
    mailbox: Uuid,
    position: usize,
    mut pending: Pending,
    delay: SignedDuration,
) {
    let now = world.clock.now();
    let settle = SignedDuration::try_from(world.mail.settle).unwrap_or(SignedDuration::MAX);
    pending.due = now.checked_add(settle).and_then(|due| due.checked_add(delay)).unwrap_or(Timestamp::MAX);
    if let Some(message) =
        world.tenants[tenant].mailboxes.get_mut(&mailbox).and_then(|mailbox| mailbox.messages.get_mut(position))
    {
        message.is_draft = true;
        message.is_read = true;
        message.pending = Some(pending);
    }
}

/// Delivers whatever is due. Every look at a mailbox begins with it.
pub(crate) fn settle(world: &mut World) {
    let now = world.clock.now();
    for tenant in 0..world.tenants.len() {
        let owners: Vec<Uuid> = world.tenants[tenant].mailboxes.keys().copied().collect();
        for owner in owners {
            while let Some(position) = world.tenants[tenant].mailboxes[&owner]
                .messages
                .iter()
                .position(|message| message.pending.as_ref().is_some_and(|pending| pending.due <= now))
            {
                transport(world, tenant, owner, position, now);
            }
        }
    }
}

fn transport(world: &mut World, tenant: usize, owner: Uuid, position: usize, now: Timestamp) {
    let Some(sender) = world.tenants[tenant].mailboxes.get_mut(&owner) else { return };
    let domain = sender.address().rsplit_once('@').map_or("invalid", |(_, domain)| domain).to_owned();
    let report_to = sender.address().to_owned();
    let message = &mut sender.messages[position];
    let Some(pending) = message.pending.take() else { return };
    let message_id = message.letter.message_id.get_or_insert_with(|| new_message_id(&domain)).clone();
    let sent_mime = match &message.mime {
        Some(mime) => completed(mime, &message_id, now),
        None => Bytes::from(mime_write::mime(&message.letter, &message_id, now, &message.immutable_id)),
    };
    message.mime = Some(sent_mime.clone());
    message.is_draft = false;
    message.is_read = true;
    message.sent = now;
    message.letter.date.get_or_insert(now);
    let subject = message.letter.subject.clone();
    let copy = pending.also_in.map(|_| message.letter.clone());
    if pending.save {
        let sent_items = sender.well_known_id("sentitems");
        sender.move_to(position, sent_items, now);
    } else {
        sender.messages.remove(position);
    }
    if let (Some(other), Some(letter)) = (pending.also_in, copy)
        && let Some(represented) = world.tenants[tenant].mailboxes.get_mut(&other)
    {
        let position = represented.store("sentitems", letter, Some(sent_mime.clone()), now);
        represented.messages[position].is_read = true;
    }

    if !limits::count_recipients(world, owner, pending.recipients.len()) {
        // Delivery-side code of the daily recipient limit.
        let failed = pending.recipients.iter().map(|address| (address.clone(), "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients")).collect::<Vec<_>>();
        report(world, tenant, owner, &report_to, &subject, &message_id, &failed, now);
        return;
    }
    let delivered = Bytes::from(received_copy(&sent_mime, &domain, now));
    let Some(letter) = mime_read::letter(&delivered, now) else { return };
    let mut failed: Vec<(String, &str)> = Vec::new();
    let mut reached: Vec<Uuid> = Vec::new();
    for address in &pending.recipients {
        if address_faults::parse(address).is_some_and(|fault| fault.kind == FaultKind::Undeliverable) {
            failed.push((
                address.clone(),
                "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
            ));
            continue;
        }
        match place(world, address) {
            Place::Inside(tenant, mailbox) => {
                if reached.contains(&mailbox) {
                    continue; // two addresses of one mailbox: one copy
                }
                reached.push(mailbox);
                let Some(recipient) = world.tenants[tenant].mailboxes.get_mut(&mailbox) else { continue };
                if delivered.len() > recipient.max_receive_bytes {
                    failed.push((
                        address.clone(),
                        "550 5.2.3 RESOLVER.RST.RecipSizeLimit; message too large for this recipient",
                    ));
                } else if recipient.is_full_for(delivered.len()) {
                    failed.push((address.clone(), "552 5.2.2 STOREDRV.Deliver; mailbox full"));
                } else {
                    recipient.store("inbox", letter.clone(), Some(delivered.clone()), now);
                }
            }
            Place::Nowhere => {
                failed.push((
                    address.clone(),
                    "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
                ));
            }
            Place::Outside => {
                let outside = &mut world.mail.outside;
                if outside.len() >= OUTSIDE_KEPT {
                    outside.remove(0);
                }
                let from = pending.from.clone();
                outside.push(OutsideMail { at: now, from, to: address.clone(), mime: delivered.clone() });
            }
        }
    }
    if !failed.is_empty() {
        report(world, tenant, owner, &report_to, &subject, &message_id, &failed, now);
    }
}

enum Place {
    Inside(usize, Uuid),
    /// A domain of ours, an address of nobody.
    Nowhere,
    Outside,
}

fn place(world: &World, address: &str) -> Place {
    let find = |address: &str| {
        world.tenants.iter().enumerate().find_map(|(index, tenant)| {
            let mailbox = tenant.mailboxes.values().find(|mailbox| mailbox.has_address(address))?;
            Some(Place::Inside(index, mailbox.owner))
        })
    };
    if let Some(place) = find(address).or_else(|| find(&address_faults::without_tag(address)?)) {
        return place;
    }
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    if world.tenants.iter().any(|tenant| tenant.domain.eq_ignore_ascii_case(domain)) {
        Place::Nowhere
    } else {
        Place::Outside
    }
}

/// In angle brackets, as the service makes them.
pub(crate) fn new_message_id(domain: &str) -> String {
    format!("<{}@{domain}>", Uuid::new_v4().simple().to_string().to_uppercase())
}

/// The sender's copy: what it lacked on top (Message-ID, Date), every other byte as it was.
fn completed(mime: &Bytes, message_id: &str, now: Timestamp) -> Bytes {
    let fields = header_block::fields(mime);
    let mut added = String::new();
    if !fields.iter().any(|field| field.is("Message-ID")) {
        added.push_str(&format!("Message-ID: {message_id}\r\n"));
    }
    if !fields.iter().any(|field| field.is("Date")) {
        added.push_str(&format!("Date: {}\r\n", mime_write::rfc5322_date(now))); // unverified
    }
    if added.is_empty() { mime.clone() } else { Bytes::from([added.as_bytes(), mime].concat()) }
}

/// A recipient's copy: no Bcc, and the traces of its way on top. The names of the added fields are Exchange's, their
/// number and order are unverified.
fn received_copy(mime: &[u8], domain: &str, now: Timestamp) -> Vec<u8> {
    let trace = format!(
        "Received: from emulator.{domain} (::1) by emulator.{domain} (::1) with\r\n Microsoft SMTP Server; {}\r\n\
         X-MS-Exchange-Organization-AuthAs: Internal\r\n\
         X-MS-Exchange-Organization-SCL: -1\r\n",
        mime_write::rfc5322_date(now)
    );
    [trace.into_bytes(), header_block::without(mime, &["Bcc"])].concat()
}

/// A non-delivery report in the sender's Inbox.
#[allow(clippy::too_many_arguments)] // all of them go into one text
fn report(
    world: &mut World,
    tenant: usize,
    owner: Uuid,
    report_to: &str,
    subject: &str,
    message_id: &str,
    failed: &[(String, &str)],
    now: Timestamp,
) {
    let domain = report_to.rsplit_once('@').map_or("invalid", |(_, domain)| domain);
    let id = Uuid::new_v4().simple();
    let boundary = format!("report_{id}");
    let list: String = failed.iter().map(|(address, why)| format!("{address}\r\n{why}\r\n\r\n")).collect();
    let status: String = failed
        .iter()
        .map(|(address, why)| {
            let code = why.split_whitespace().nth(1).unwrap_or("5.0.0");
            format!(
                "\r\nFinal-Recipient: rfc822;{address}\r\nAction: failed\r\nStatus: {code}\r\n\
                 Diagnostic-Code: smtp;{why}\r\n"
            )
        })
        .collect();
    let one_line = subject.replace(['\r', '\n'], " ");
    let letter_subject = if one_line.is_ascii() { one_line } else { "your message".into() };
    let mime = format!(
        "From: \"Microsoft Outlook\" <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@{domain}>\r\n\
         To: <{report_to}>\r\n\
         Subject: Undeliverable: {letter_subject}\r\n\
         Date: {}\r\n\
         Message-ID: <{id}@{domain}>\r\n\
         In-Reply-To: {message_id}\r\n\
         References: {message_id}\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\r\n\
         --{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
         Delivery has failed to these recipients or groups:\r\n\r\n{list}\
         \r\n--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns;emulator.{domain}\r\n{status}\
         \r\n--{boundary}--\r\n",
        mime_write::rfc5322_date(now)
    );
    let mime = Bytes::from(mime);
    let Some(letter) = mime_read::letter(&mime, now) else { return };
    if let Some(mailbox) = world.tenants[tenant].mailboxes.get_mut(&owner) {
        mailbox.store("inbox", letter, Some(mime), now);
    }
}
