//! Non-delivery reports in a sender's Inbox: what they say about which recipient, and to which message they belong.

use std::{sync::Arc, time::Duration};

use mail_parser::{MessageParser, MimeHeaders};
use postkey_base::{Diagnosis, Who};
use postkey_graph::{GraphError, messages, non_delivery};
use postkey_store::{MessageFilter, MessageId, MessageState, NewMessageEvent, QueuedMessage, SenderId, StoreError};
use postkey_transport::OutcomeClass;
use serde_json::json;

use crate::{
    engine::{Engine, LaneId},
    governor::{Lesson, Need},
    outbound::Connected,
    schedule::{after, before, until},
    settings::NDR_WINDOW,
    settle::{HoldRequest, Probes, ScopeKind},
};

/// Messages of an Inbox looked at in one go.
const AT_ONCE: usize = 200;
/// A report carries at most this many recipients that are noted.
const MOST_RECIPIENTS: usize = 1_000;
/// What arrives may show up a little late in a list.
const OVERLAP: Duration = Duration::from_secs(60);

/// What a report says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Bounce {
    /// Our stamp in the message that it is about.
    pub(crate) stamp: Option<MessageId>,
    /// That message's Message-ID.
    pub(crate) message_id: Option<String>,
    /// What it says about each recipient.
    pub(crate) recipients: Vec<BouncedRecipient>,
}

/// What a report says about one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub(crate) struct BouncedRecipient {
    /// Its address.
    pub(crate) address: String,
    /// `failed`, `delayed` and so on.
    pub(crate) action: String,
    /// The enhanced status code.
    pub(crate) status: String,
    /// What the server there said.
    pub(crate) diagnostic: String,
}

/// Reads a report (RFC 3464). `None`: it is none, or tells of no recipient.
pub(crate) fn read(mime: &[u8]) -> Option<Bounce> {
    let report = MessageParser::new().parse(mime)?;
    let mut bounce = Bounce::default();
    for part in &report.parts {
        let Some(kind) = part.content_type() else { continue };
        match (
            kind.ctype().to_ascii_lowercase().as_str(),
            kind.subtype().unwrap_or_default().to_ascii_lowercase().as_str(),
        ) {
            ("message", "delivery-status" | "global-delivery-status") => {
                bounce.recipients.extend(recipients(part.contents()));
            }
            ("message", "rfc822" | "global") | ("text", "rfc822-headers") => {
                let text = String::from_utf8_lossy(part.contents()).into_owned();
                let fields = fields(&text);
                let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
                bounce.stamp = bounce.stamp.or_else(|| field("x-postkey-id")?.parse().ok());
                bounce.message_id = bounce.message_id.or_else(|| field("message-id"));
            }
            _ => {}
        }
    }
    bounce.recipients.truncate(MOST_RECIPIENTS);
    (!bounce.recipients.is_empty()).then_some(bounce)
}

/// The groups of a delivery status after the first one that name a recipient.
fn recipients(contents: &[u8]) -> Vec<BouncedRecipient> {
    let text = String::from_utf8_lossy(contents).replace("\r\n", "\n");
    let groups = text.split("\n\n").map(fields);
    let of_recipient = groups.filter_map(|fields| {
        let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let typed = |value: String| value.split_once(';').map_or(value.clone(), |(_, rest)| rest.trim().to_owned());
        let address = field("final-recipient").or_else(|| field("original-recipient")).map(typed)?;
        Some(BouncedRecipient {
            address,
            action: field("action").unwrap_or_default().to_ascii_lowercase(),
            status: field("status").unwrap_or_default().split_whitespace().next().unwrap_or_default().to_owned(),
            diagnostic: field("diagnostic-code").map(typed).unwrap_or_default().chars().take(1_000).collect(),
        })
    });
    of_recipient.collect()
}

/// Header-like lines, unfolded, names in lower case, up to the first empty line.
fn fields(text: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if line.is_empty() {
            break;
        }
        match (line.starts_with([' ', '\t']), fields.last_mut(), line.split_once(':')) {
            (true, Some((_, value)), _) => {
                value.push(' ');
                value.push_str(line.trim());
            }
            (false, _, Some((name, value))) => fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned())),
            _ => {}
        }
    }
    fields
}

/// Whether a code stands in a text as a word: within an address or a version it is none.
fn names(text: &str, code: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').any(|word| word.trim_matches('.') == code)
}

/// What a bounce says about more than its message.
///
/// Whoever received a message could forge a report about it, so none holds a lane until a person comes: it is tried again.
pub(crate) fn hold_of(bounce: &Bounce) -> Option<HoldRequest> {
    let failed = bounce.recipients.iter().filter(|one| one.action == "failed");
    let mut holds = failed.filter_map(|one| {
        let says = |code: &str| one.status == code || names(&one.diagnostic, code);
        let (code, what, remedy, scope, probes) = if says("5.7.233") {
            (
                "ndr.tenant_external_limit",
                "the tenant has used up the external recipients of 24 hours (TERRL)",
                "Wait until the 24-hour window has room again, or look at the tenant's external recipient rate limit in the \
                 Exchange admin center.",
                ScopeKind::Tenant,
                Probes::Quota,
            )
        } else if says("5.7.705") || says("5.7.750") {
            (
                "ndr.tenant_blocked",
                "Exchange Online has stopped the tenant from sending to the outside",
                "An administrator looks at the restriction in the Microsoft Defender portal and at what sent so much.",
                ScopeKind::Tenant,
                Probes::Quota,
            )
        // Other servers say 5.1.8 of a sender's domain that they do not find (RFC 3463 §3.2): that hits one message.
        } else if says("5.1.8") && one.diagnostic.to_ascii_lowercase().contains("outbound sender") {
            (
                "ndr.restricted_for_spam",
                "the mailbox is restricted from sending: it was taken for a spammer",
                "Find out what sent the spam, then remove the mailbox from Restricted entities in the Microsoft Defender portal; \
                 then resume the sender.",
                ScopeKind::Sender,
                Probes::Quota,
            )
        } else if says("5.1.90") {
            (
                "ndr.recipient_limit",
                "the mailbox has used up its recipients of 24 hours",
                "Wait until the 24-hour window has room again, or spread the mail over more mailboxes.",
                ScopeKind::Sender,
                Probes::Quota,
            )
        } else {
            return None;
        };
        let who = if code == "ndr.restricted_for_spam" { Who::ExchangeAdministrator } else { Who::Wait };
        let class = if scope == ScopeKind::Tenant { OutcomeClass::Tenant } else { OutcomeClass::Mailbox };
        let diagnosis = Diagnosis {
            code: code.into(),
            what: what.into(),
            why: Some(format!("a non-delivery report said: {}", one.diagnostic)),
            remedy: remedy.into(),
            who,
            evidence: Vec::new(),
        };
        Some(HoldRequest { scope, class, diagnosis, probes })
    });
    holds.next()
}

impl Engine {
    /// Looks through the Inbox of each of the lane's senders that may read it.
    pub(crate) async fn look_into_inbox(self: Arc<Self>, id: LaneId) {
        let now = self.clock.now();
        let (senders, since) = {
            let state = self.lock();
            let lane = &state.lanes[id];
            (lane.senders.clone(), lane.inbox_seen.unwrap_or_else(|| before(now, NDR_WINDOW)))
        };
        let mut seen = None;
        // All senders of a lane share the mailbox: the first that may read it is enough.
        for sender in senders {
            let Ok(connected) = self.outbound.connect(sender).await else { continue };
            if !connected.may_read || connected.transport.graph.is_none() {
                continue;
            }
            match self.read_inbox(id, sender, &connected, before(since, OVERLAP)).await {
                Ok(until) => {
                    seen = until.or(Some(now));
                    break;
                }
                Err(error) => {
                    tracing::debug!(mailbox = %connected.transport.mailbox, %error, "the Inbox could not be read")
                }
            }
        }
        {
            let lane = &mut self.lock().lanes[id];
            lane.looking = false;
            lane.inbox_seen = seen.or(lane.inbox_seen);
            let goes_on = lane.accepted_last.is_some_and(|at| until(at, now) < NDR_WINDOW);
            lane.inbox_at = goes_on.then(|| after(now, self.settings.ndr_every));
        }
        self.pump(id);
    }

    async fn read_inbox(
        self: &Arc<Self>,
        id: LaneId,
        sender: SenderId,
        connected: &Connected,
        since: jiff::Timestamp,
    ) -> Result<Option<jiff::Timestamp>, GraphError> {
        let Some(graph) = &connected.transport.graph else { return Ok(None) };
        let mailbox = &connected.transport.mailbox;
        if !self.place_to_look(id).await {
            return Ok(Some(since));
        }
        let arrived = non_delivery::arrived_since(graph, mailbox, since, AT_ONCE).await;
        self.looked(id, arrived.as_ref().err());
        let arrived = arrived?;
        for report in &arrived.reports {
            if self.stop.is_cancelled() || !self.place_to_look(id).await {
                return Ok(Some(since));
            }
            let mime = messages::mime(graph, mailbox, &report.id).await;
            self.looked(id, mime.as_ref().err());
            let Some(bounce) = read(&mime?) else { continue };
            if let Err(error) = self.note_bounce(sender, &report.id, &bounce, &report.about).await {
                tracing::warn!(%error, "a non-delivery report could not be noted");
            }
        }
        Ok(arrived.until)
    }

    fn looked(&self, id: LaneId, error: Option<&GraphError>) {
        let steady = self.steady();
        let lesson = match error {
            Some(GraphError::Throttled { retry_after, .. }) => Lesson::TooFast { wait: *retry_after },
            _ => Lesson::Neutral,
        };
        let lane = &mut self.lock().lanes[id];
        lane.governor.end(&Need::LOOK, lesson, steady);
        lane.hand_on();
    }

    /// Writes on the message's timeline what came back, once; and holds what more than one message suffers from.
    async fn note_bounce(
        self: &Arc<Self>,
        sender: SenderId,
        report: &str,
        bounce: &Bounce,
        about: &[String],
    ) -> Result<(), StoreError> {
        let Some(message) = self.bounced_message(bounce, about).await? else { return Ok(()) };
        let events = self.store.message_events(message.id).await?;
        if events.iter().any(|event| event.kind == "bounced" && event.detail["report"] == report) {
            return Ok(());
        }
        let detail = json!({ "report": report, "recipients": bounce.recipients });
        tracing::info!(message = %message.id, recipients = bounce.recipients.len(), "a message came back");
        self.store
            .append_message_event(message.id, &NewMessageEvent { kind: "bounced", detail: detail.clone() })
            .await?;
        let payload = json!({
            "message": { "id": message.id, "message_id": message.message_id, "from": message.envelope.from },
            "outcome": detail,
        });
        self.notify_all("message.bounced", Some(message.id), payload).await;
        if let Some(request) = hold_of(bounce) {
            self.hold(sender, &request).await;
        }
        Ok(())
    }

    /// By our stamp, else by the Message-ID: the newest that was accepted.
    async fn bounced_message(&self, bounce: &Bounce, about: &[String]) -> Result<Option<QueuedMessage>, StoreError> {
        if let Some(id) = bounce.stamp
            && let Some(message) = self.store.message(id).await?
        {
            return Ok(Some(message));
        }
        for message_id in bounce.message_id.iter().chain(about) {
            let since = Some(before(self.clock.now(), NDR_WINDOW * 7));
            let filter =
                MessageFilter { message_id: Some(message_id.clone()), since, limit: 5, ..MessageFilter::default() };
            let found = self.store.search_messages(&filter).await?;
            let gone = |one: &QueuedMessage| matches!(one.state, MessageState::Accepted | MessageState::Unknown);
            if let Some(message) = found.into_iter().find(gone) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[path = "ndr_tests.rs"]
mod tests;
