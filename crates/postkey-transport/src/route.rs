//! Which way a message goes: a pure choice from what the message is and what the sender may do.

use std::fmt;

use postkey_base::{Diagnose, EmailAddress, Who};
use serde::{Deserialize, Serialize};

use crate::{
    envelope::Envelope,
    message::{MAX_SIZE, Message},
    repair::{header_recipients_beyond, smtp_carries_lines},
};

/// A way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// `sendMail` with the MIME itself: byte-true, up to Graph's request limit.
    GraphMime,
    /// A draft made from the message's parts, attachments by upload session: large, but Graph writes the MIME anew.
    GraphDraftUpload,
    /// `sendMail` with the message described in JSON: only when asked, since Graph writes the MIME anew.
    GraphJson,
    /// SMTP submission with XOAUTH2: byte-true, and the envelope decides.
    Smtp,
}

impl Route {
    /// Whether Graph carries it.
    pub fn is_graph(self) -> bool {
        self != Self::Smtp
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GraphMime => "Graph sendMail",
            Self::GraphDraftUpload => "Graph draft and upload session",
            Self::GraphJson => "Graph sendMail as JSON",
            Self::Smtp => "SMTP XOAUTH2",
        })
    }
}

/// What the sender wants, where there is a choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preference {
    /// Graph for what it carries faithfully, SMTP for the rest.
    #[default]
    Auto,
    /// Graph alone.
    Graph,
    /// SMTP alone.
    Smtp,
}

/// What whoever submitted a message asks of its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SendWish {
    /// Graph's JSON instead of MIME, where that does no harm and fits; else the usual way.
    pub graph_json: bool,
}

/// What a sender may do today.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Abilities {
    /// Mail.Send for this mailbox.
    pub graph_send: bool,
    /// Mail.ReadWrite for this mailbox: drafts and upload sessions, and looking into Sent Items.
    pub graph_read_write: bool,
    /// SMTP.SendAsApp (or its RBAC role) for this mailbox, and SMTP AUTH switched on.
    pub smtp: bool,
    /// Which of them is wanted.
    pub preference: Preference,
    /// Bytes of one request to Graph, base64 included.
    pub graph_request_limit: u64,
    /// Bytes of a message that the tenant takes. Unknown until a server teaches a lower one: an administrator may set
    /// anything from 35 MB (the default) to 150 MB.
    pub message_limit: u64,
}

impl Default for Abilities {
    fn default() -> Self {
        Self {
            graph_send: false,
            graph_read_write: false,
            smtp: false,
            preference: Preference::Auto,
            graph_request_limit: postkey_graph::REQUEST_LIMIT,
            message_limit: MAX_SIZE,
        }
    }
}

impl Abilities {
    /// Bytes of a message that fit into one `sendMail` request: base64 makes four of three, without line breaks.
    pub fn graph_mime_limit(&self) -> u64 {
        (self.graph_request_limit / 4 * 3).min(self.message_limit)
    }

    /// Bytes of the largest message that may leave byte-true: what a listener can announce as SIZE.
    pub fn faithful_limit(&self) -> u64 {
        if self.uses_smtp() {
            self.message_limit
        } else if self.uses_graph() {
            self.graph_mime_limit()
        } else {
            0
        }
    }

    fn uses_graph(&self) -> bool {
        self.graph_send && self.preference != Preference::Smtp
    }

    fn uses_smtp(&self) -> bool {
        self.smtp && self.preference != Preference::Graph
    }

    fn uses_drafts(&self) -> bool {
        self.uses_graph() && self.graph_read_write
    }
}

/// What a message is, as far as the route depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traits {
    /// Bytes, as it came.
    pub size: u64,
    /// Bytes that repairs may add.
    pub room: u64,
    /// A part is signed.
    pub signed: bool,
    /// A part is encrypted.
    pub encrypted: bool,
    /// An invitation or an answer to one.
    pub calendar: bool,
    /// A message within the message, or a report.
    pub nested: bool,
    /// Visible header addresses that must get no copy.
    pub header_recipients_beyond: Vec<EmailAddress>,
    /// SMTP can carry its line ends.
    pub smtp_carries_lines: bool,
    /// Decoded bytes of its text and HTML bodies.
    pub text_bytes: u64,
    /// Decoded bytes of its largest attachment.
    pub largest_attachment: u64,
    /// Decoded bytes of all its attachments.
    pub attachment_bytes: u64,
    /// What a draft cannot carry: see [`losses`].
    pub losses: Vec<String>,
}

impl Traits {
    /// Reads them off the message.
    pub fn of(message: &Message, envelope: &Envelope) -> Self {
        let shape = message.shape();
        let unix = if shape.line_ends.crlf == 0 { shape.line_ends.lf as u64 } else { 0 };
        let hidden_room: usize = envelope.recipients().iter().map(|one| one.as_str().len() + 4).sum();
        Self {
            size: message.size(),
            room: unix + hidden_room as u64 + ROOM_FOR_ADDED_FIELDS,
            signed: shape.signed,
            encrypted: shape.encrypted,
            calendar: shape.calendar,
            nested: shape.nested,
            header_recipients_beyond: header_recipients_beyond(message, envelope),
            smtp_carries_lines: smtp_carries_lines(message),
            text_bytes: shape.text_bytes,
            largest_attachment: shape.attachments.iter().map(|one| one.size).max().unwrap_or(0),
            attachment_bytes: shape.attachments.iter().map(|one| one.size).sum(),
            losses: losses(message),
        }
    }

    /// Bytes of a request that describes it in JSON, at most: a byte of text may take six when it is escaped, but text
    /// that does so all over is none; twice is generous.
    fn json_bytes(&self) -> u64 {
        self.text_bytes * 2 + self.attachment_bytes.div_ceil(3) * 4 + self.room + ROOM_FOR_JSON
    }

    /// Why Graph must not write this message anew.
    pub fn harms(&self) -> Vec<&'static str> {
        [
            (self.signed, "signed"),
            (self.encrypted, "encrypted"),
            (self.calendar, "an invitation"),
            (self.nested, "carrying another message"),
        ]
        .into_iter()
        .filter_map(|(is, word)| is.then_some(word))
        .collect()
    }
}

/// From, Date, Message-ID and our stamp, at their longest.
const ROOM_FOR_ADDED_FIELDS: u64 = 1_024;
/// The names of properties, and every recipient with a name.
const ROOM_FOR_JSON: u64 = 200_000;
/// An attachment by upload session.
const UPLOAD_LIMIT: u64 = 150_000_000;
/// The draft's JSON holds the bodies (escaped) and the recipients.
const DRAFT_TEXT_LIMIT: u64 = 2_000_000;
/// Custom headers that a draft takes; ours is one of them.
pub const DRAFT_CUSTOM_HEADERS: usize = 5;

/// What a draft has no place for, by the name of the field; and a text beside an HTML body, which Graph makes anew.
/// Date becomes the time of sending. Received lines are the service's to write and are not counted.
pub fn losses(message: &Message) -> Vec<String> {
    let mut custom = 1;
    let mut losses: Vec<String> = Vec::new();
    for field in message.fields() {
        let name = message.name(field);
        let lower = name.to_ascii_lowercase();
        let kept = match lower.as_str() {
            "" | "from" | "to" | "cc" | "bcc" | "reply-to" | "subject" | "message-id" | "importance"
            | "mime-version" | "received" | "x-postkey-id" => true,
            _ if lower.starts_with("content-") => true,
            _ if lower.starts_with("x-") => {
                custom += 1;
                custom <= DRAFT_CUSTOM_HEADERS
            }
            _ => false,
        };
        if !kept && !losses.iter().any(|loss| loss.eq_ignore_ascii_case(name)) {
            losses.push(name.to_owned());
        }
    }
    if message.shape().alternative {
        losses.push("the text beside the HTML".into());
    }
    losses
}

/// The way chosen, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The way.
    pub route: Route,
    /// Why this one.
    pub reason: RouteReason,
    /// What will be lost on it: see [`losses`].
    pub losses: Vec<String>,
}

/// Why a route was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteReason {
    /// It fits one request to Graph.
    FitsOneRequest,
    /// Only SMTP is permitted or wanted.
    OnlySmtp,
    /// Too large for one request to Graph.
    TooLargeForOneRequest,
    /// Its headers name people who must get no copy: only SMTP goes by the envelope.
    EnvelopeDiffersFromHeaders,
    /// Whoever submitted it asked for JSON.
    AskedForJson,
}

impl fmt::Display for RouteReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FitsOneRequest => "it fits one request",
            Self::OnlySmtp => "the sender uses SMTP only",
            Self::TooLargeForOneRequest => "it is too large for one request to Graph",
            Self::EnvelopeDiffersFromHeaders => "its headers name people who must get no copy",
            Self::AskedForJson => "its submitter asked for JSON",
        })
    }
}

/// No way out for this message; nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The sender may do nothing yet.
    #[error("the sender has no way to send: neither Mail.Send nor SMTP is available")]
    NoRoute,
    /// Larger than anything permitted carries.
    #[error("the message has {} bytes; this sender can send {}", grouped(*.size), grouped(*.limit))]
    TooLarge {
        /// Bytes of the message.
        size: u64,
        /// Bytes that would go.
        limit: u64,
        /// What would make room.
        remedies: Vec<Remedy>,
    },
    /// Larger than one request to Graph, and Graph must not write it anew.
    #[error(
        "the message has {} bytes and is {}: above {} bytes Graph would write it anew",
        grouped(*.size), .why.join(" and "), grouped(*.limit)
    )]
    WouldBeRewritten {
        /// Bytes of the message.
        size: u64,
        /// Bytes that go unchanged.
        limit: u64,
        /// What it is.
        why: Vec<&'static str>,
        /// What would let it go.
        remedies: Vec<Remedy>,
    },
    /// A signed message whose headers name people who must get no copy, and no SMTP.
    #[error("the message is signed and its headers name people who must get no copy, among them {}", .0.first().map_or("", |one| one.as_str()))]
    SignedForOthers(Vec<EmailAddress>),
    /// Line ends that SMTP cannot carry, and no Graph for it.
    #[error("the message has line ends that SMTP cannot carry")]
    LineEnds,
}

/// `12,000,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One thing that would let a message go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// Permit SMTP for the sender.
    AllowSmtp,
    /// Permit drafts and upload sessions.
    AllowReadWrite,
    /// Permit Graph at all.
    AllowGraph,
    /// Send less.
    MakeSmaller,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllowSmtp => "allow the SMTP route (SMTP.SendAsApp, and SMTP AUTH switched on for the mailbox)",
            Self::AllowReadWrite => "grant Mail.ReadWrite, so that it can go by draft and upload session",
            Self::AllowGraph => "allow the Graph route (Mail.Send)",
            Self::MakeSmaller => "make the message smaller, or send a link to the files",
        })
    }
}

/// Chooses as whoever submitted the message wishes, where that is permitted, fits and does no harm; else as [`choose`].
/// In JSON the envelope decides, as it does in a draft.
pub fn choose_wished(traits: &Traits, abilities: &Abilities, wish: &SendWish) -> Result<Choice, RouteError> {
    let json = wish.graph_json
        && abilities.uses_graph()
        && traits.harms().is_empty()
        && traits.size + traits.room <= abilities.message_limit
        && traits.json_bytes() <= abilities.graph_request_limit;
    if json {
        let losses = traits.losses.clone();
        return Ok(Choice { route: Route::GraphJson, reason: RouteReason::AskedForJson, losses });
    }
    choose(traits, abilities)
}

/// Chooses. Graph first, since its answers are the clearer ones; SMTP for what Graph would not carry faithfully.
pub fn choose(traits: &Traits, abilities: &Abilities) -> Result<Choice, RouteError> {
    let (graph, smtp) = (abilities.uses_graph(), abilities.uses_smtp());
    let chosen = |route, reason| Ok(Choice { route, reason, losses: Vec::new() });
    if !graph && !smtp {
        return Err(RouteError::NoRoute);
    }
    let full_size = traits.size + traits.room;
    let smtp_fits = smtp && traits.smtp_carries_lines && full_size <= abilities.message_limit;
    if graph && !traits.header_recipients_beyond.is_empty() {
        if smtp_fits {
            return chosen(Route::Smtp, RouteReason::EnvelopeDiffersFromHeaders);
        }
        if traits.signed {
            return Err(RouteError::SignedForOthers(traits.header_recipients_beyond.clone()));
        }
    }
    if graph && full_size <= abilities.graph_mime_limit() {
        return chosen(Route::GraphMime, RouteReason::FitsOneRequest);
    }
    if smtp_fits {
        let reason = if graph { RouteReason::TooLargeForOneRequest } else { RouteReason::OnlySmtp };
        return chosen(Route::Smtp, reason);
    }
    if !graph && !traits.smtp_carries_lines {
        return Err(RouteError::LineEnds);
    }
    let draft_fits = full_size <= abilities.message_limit
        && traits.largest_attachment <= UPLOAD_LIMIT
        && traits.text_bytes <= DRAFT_TEXT_LIMIT;
    let harms = traits.harms();
    if abilities.uses_drafts() && draft_fits && harms.is_empty() {
        return Ok(Choice {
            route: Route::GraphDraftUpload,
            reason: RouteReason::TooLargeForOneRequest,
            losses: traits.losses.clone(),
        });
    }
    Err(refusal(traits, abilities, harms))
}

fn refusal(traits: &Traits, abilities: &Abilities, harms: Vec<&'static str>) -> RouteError {
    let (size, room) = (traits.size, traits.room);
    let within_tenant = size + room <= abilities.message_limit;
    let mut remedies = Vec::new();
    if within_tenant && !abilities.uses_smtp() && traits.smtp_carries_lines {
        remedies.push(Remedy::AllowSmtp);
    }
    let draft_helps = within_tenant && harms.is_empty() && traits.text_bytes <= DRAFT_TEXT_LIMIT;
    if draft_helps && !abilities.uses_drafts() {
        remedies.push(if abilities.uses_graph() { Remedy::AllowReadWrite } else { Remedy::AllowGraph });
    }
    remedies.push(Remedy::MakeSmaller);
    let limit = abilities.faithful_limit();
    if within_tenant && !harms.is_empty() && abilities.uses_drafts() {
        let limit = abilities.graph_mime_limit().saturating_sub(room);
        return RouteError::WouldBeRewritten { size, limit, why: harms, remedies };
    }
    let limit = if abilities.uses_drafts() && harms.is_empty() { abilities.message_limit } else { limit };
    // Lines that SMTP cannot carry leave Graph's limit as the true one.
    let limit = if traits.smtp_carries_lines { limit } else { limit.min(abilities.graph_mime_limit()) };
    RouteError::TooLarge { size, limit: limit.saturating_sub(room), remedies }
}

impl RouteError {
    /// What a listener answers to a submission it cannot pass on: code, enhanced code, text.
    pub fn smtp_reply(&self) -> (u16, &'static str, String) {
        match self {
            Self::TooLarge { .. } | Self::WouldBeRewritten { .. } => {
                (552, "5.3.4", format!("{self}. {}", self.remedy()))
            }
            Self::NoRoute => (451, "4.3.5", self.to_string()),
            Self::SignedForOthers(_) | Self::LineEnds => (554, "5.6.0", format!("{self}. {}", self.remedy())),
        }
    }
}

impl Diagnose for RouteError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoRoute => "transport.no_route",
            Self::TooLarge { .. } => "transport.too_large",
            Self::WouldBeRewritten { .. } => "transport.would_be_rewritten",
            Self::SignedForOthers(_) => "transport.signed_header_recipients",
            Self::LineEnds => "transport.line_ends",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::NoRoute => "Finish the sender's permissions: run `postkey setup` again; it goes on where it stopped.".into(),
            Self::TooLarge { remedies, .. } | Self::WouldBeRewritten { remedies, .. } => {
                let each: Vec<_> = remedies.iter().map(Remedy::to_string).collect();
                let mut sentence = each.join("; or ");
                if let Some(first) = sentence.get_mut(..1) {
                    first.make_ascii_uppercase();
                }
                sentence.push('.');
                sentence
            }
            Self::SignedForOthers(_) => {
                "Allow the SMTP route for this sender, which delivers to the envelope alone; or send to everybody whom To and \
                 Cc name."
                    .into()
            }
            Self::LineEnds => "End every line with CR LF and encode binary parts as base64; or allow the Graph route, which \
                               carries the bytes as they are."
                .into(),
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::NoRoute => Who::TenantAdministrator,
            _ => Who::You,
        }
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
