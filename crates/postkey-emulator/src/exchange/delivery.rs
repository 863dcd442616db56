//! What happens after a send is accepted: Drafts, then Sent Items and the recipients' Inboxes, or a report back.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{
    address_faults, header_block, limits,
    mailbox::Letter,
    mime_read, mime_write,
    state::{Keep, OUTSIDE_KEPT, OutsideMail},
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
    let found = world.tenants[tenant].mailboxes.get_mut(&mailbox);
    if let Some(message) = found.and_then(|mailbox| mailbox.messages.get_mut(position)) {
        world.mail.tallies.of(mailbox).accept(now.as_second(), pending.recipients.len());
        world.mail.arrivals.accept(&message.letter, message.mime.as_deref());
        world.mail.due.insert((pending.due, tenant, mailbox, message.immutable_id.clone()));
        message.is_draft = true;
        message.is_read = true;
        message.pending = Some(pending);
    }
}

/// Addresses outside the organization.
pub(crate) fn external(world: &World, tenant: usize, addresses: &[String]) -> usize {
    addresses.iter().filter(|address| place(world, address).is_external(tenant)).count()
}

/// Delivers whatever is due. Every look at a mailbox begins with it.
pub(crate) fn settle(world: &mut World) {
    if world.mail.due.is_empty() {
        return;
    }
    let now = world.clock.now();
    while let Some((due, ..)) = world.mail.due.first()
        && *due <= now
    {
        let Some((_, tenant, owner, id)) = world.mail.due.pop_first() else { return };
        let mailbox = world.tenants.get(tenant).and_then(|tenant| tenant.mailboxes.get(&owner));
        // Deleted, or its whole mailbox taken away, before transport came.
        if let Some(position) = mailbox.and_then(|mailbox| mailbox.recent_position(&id)) {
            transport(world, tenant, owner, position, now);
        }
    }
}

const NOT_FOUND: &str = "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup";
/// Delivery-side code of the daily recipient limit.
const DAILY_LIMIT: &str =
    "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients";
/// The tenant's limit of external recipients. unverified: the words
pub(crate) const EXTERNAL_LIMIT: &str =
    "550 5.7.233 Your message can't be sent because your organization has exceeded its limit of external recipients";

/// A message that transport has picked up.
struct PickedUp {
    letter: Letter,
    mime: Bytes,
    pending: Pending,
    /// The sender's domain and address.
    domain: String,
    report_to: String,
    message_id: String,
}

fn transport(world: &mut World, tenant: usize, owner: Uuid, position: usize, now: Timestamp) {
    let Some(sent) = pick_up(world, tenant, owner, position, now) else { return };
    let recipients = sent.pending.recipients.len();
    let mut failed: Vec<(String, &str)> = Vec::new();
    let mut copies = 0;
    if limits::count_recipients(world, owner, recipients) {
        let places: Vec<(String, Place)> =
            sent.pending.recipients.iter().map(|address| (address.clone(), place(world, address))).collect();
        let external = places.iter().filter(|(_, place)| place.is_external(tenant)).count();
        let external_may = limits::count_external_recipients(world, tenant, owner, external);
        let delivered = Bytes::from(received_copy(&sent.mime, &sent.domain, now));
        let mut letter = None;
        let mut reached: Vec<Uuid> = Vec::new();
        for (address, place) in places {
            let asked = address_faults::parse(&address).and_then(|fault| fault.kind.report());
            if let Some(why) = asked.or((!external_may && place.is_external(tenant)).then_some(EXTERNAL_LIMIT)) {
                failed.push((address, why));
                continue;
            }
            match place {
                // Two addresses of one mailbox: one copy.
                Place::Inside(_, mailbox) if reached.contains(&mailbox) => {}
                Place::Inside(tenant, mailbox) => {
                    reached.push(mailbox);
                    match receive(world, tenant, mailbox, &sent, &delivered, &mut letter, now) {
                        Ok(()) => copies += 1,
                        Err(why) => failed.push((address, why)),
                    }
                }
                Place::Nowhere => failed.push((address, NOT_FOUND)),
                Place::Outside => {
                    copies += 1;
                    leave(
                        world,
                        OutsideMail { at: now, from: sent.pending.from.clone(), to: address, mime: delivered.clone() },
                    );
                }
            }
        }
    } else {
        failed.extend(sent.pending.recipients.iter().map(|address| (address.clone(), DAILY_LIMIT)));
    }
    world.mail.arrivals.deliver(&sent.letter, copies);
    if !failed.is_empty() {
        let PickedUp { report_to, letter, message_id, .. } = &sent;
        report(world, tenant, owner, report_to, &letter.subject, message_id, &failed, now);
    }
}

/// Takes a message out of Drafts, into Sent Items where a copy stays.
fn pick_up(world: &mut World, tenant: usize, owner: Uuid, position: usize, now: Timestamp) -> Option<PickedUp> {
    let keep = world.mail.keep;
    let sender = world.tenants[tenant].mailboxes.get_mut(&owner)?;
    let report_to = sender.address().to_owned();
    let domain = report_to.rsplit_once('@').map_or("invalid", |(_, domain)| domain).to_owned();
    let message = &mut sender.messages[position];
    let pending = message.pending.take()?;
    let message_id = message.letter.message_id.get_or_insert_with(|| new_message_id(&domain)).clone();
    let mime = match &message.mime {
        Some(mime) => completed(mime, &message_id, now),
        None => Bytes::from(mime_write::mime(&message.letter, &message_id, now, &message.immutable_id)),
    };
    message.mime = (keep == Keep::All).then(|| mime.clone());
    message.is_draft = false;
    message.is_read = true;
    message.sent = now;
    message.letter.date.get_or_insert(now);
    let letter = if pending.save && keep != Keep::None {
        let letter = message.letter.clone();
        if keep == Keep::Ids {
            message.letter = named_only(&letter);
        }
        let sent_items = sender.well_known_id("sentitems");
        sender.move_to(position, sent_items, now);
        letter
    } else {
        sender.take(position).letter
    };
    if let Some(other) = pending.also_in.filter(|_| keep != Keep::None)
        && let Some(represented) = world.tenants[tenant].mailboxes.get_mut(&other)
    {
        let (copy, mime) = match keep {
            Keep::All => (letter.clone(), Some(mime.clone())),
            _ => (named_only(&letter), None),
        };
        let position = represented.store("sentitems", copy, mime, now);
        represented.messages[position].is_read = true;
    }
    Some(PickedUp { letter, mime, pending, domain, report_to, message_id })
}

/// What a message is called, without what it says.
fn named_only(letter: &Letter) -> Letter {
    Letter {
        subject: letter.subject.clone(),
        headers: letter
            .headers
            .iter()
            .filter(|(name, _)| name.len() > 2 && name[..2].eq_ignore_ascii_case("x-"))
            .cloned()
            .collect(),
        message_id: letter.message_id.clone(),
        date: letter.date,
        ..Letter::default()
    }
}

/// Puts a copy into an Inbox; the error goes into a report.
fn receive(
    world: &mut World,
    tenant: usize,
    mailbox: Uuid,
    sent: &PickedUp,
    delivered: &Bytes,
    letter: &mut Option<Letter>,
    now: Timestamp,
) -> Result<(), &'static str> {
    let keep = world.mail.keep;
    let Some(recipient) = world.tenants[tenant].mailboxes.get_mut(&mailbox) else { return Err(NOT_FOUND) };
    if delivered.len() > recipient.max_receive_bytes {
        return Err("550 5.2.3 RESOLVER.RST.RecipSizeLimit; message too large for this recipient");
    }
    if recipient.is_full_for(delivered.len()) {
        return Err("552 5.2.2 STOREDRV.Deliver; mailbox full");
    }
    if keep == Keep::All {
        let read = || mime_read::letter(delivered, now).unwrap_or_else(|| sent.letter.clone());
        recipient.store("inbox", letter.get_or_insert_with(read).clone(), Some(delivered.clone()), now);
    }
    Ok(())
}

fn leave(world: &mut World, mail: OutsideMail) {
    if world.mail.keep != Keep::All {
        return;
    }
    let outside = &mut world.mail.outside;
    if outside.len() >= OUTSIDE_KEPT {
        outside.pop_front();
    }
    outside.push_back(mail);
}

enum Place {
    Inside(usize, Uuid),
    /// A domain of ours, an address of nobody.
    Nowhere,
    Outside,
}

impl Place {
    /// Whether it lies outside this organization.
    fn is_external(&self, tenant: usize) -> bool {
        match self {
            Self::Inside(other, _) => *other != tenant,
            Self::Nowhere => false,
            Self::Outside => true,
        }
    }
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
