//! Targeted repairs of a message before it leaves. Each has a name, is listed, and can be undone; every other byte stays.

use bytes::Bytes;
use jiff::Timestamp;
use postkey_base::{Diagnose, EmailAddress, Who};
use uuid::Uuid;

use crate::{envelope::Envelope, message::Message, reencode};

#[path = "repair_encoding.rs"]
mod encoding;

/// What will carry the bytes: the two read recipients from different places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Graph has no envelope: it delivers to the To, Cc and Bcc headers, so these must name the envelope, no more, no less.
    Graph,
    /// SMTP delivers to the envelope; Bcc must not be seen by anybody.
    Smtp,
    /// The same to a server that takes no byte above 127 (no 8BITMIME).
    SmtpSevenBit,
}

impl Carrier {
    fn is_smtp(self) -> bool {
        self != Self::Graph
    }
}

/// What a repair writes where something is missing.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// Our id of this submission, for the `X-Postkey-Id` header and a missing Message-ID. The same at every attempt.
    pub id: Uuid,
    /// For a missing Date. The time of acceptance, the same at every attempt.
    pub at: Timestamp,
}

/// Which repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepairKind {
    /// The line a mailbox file puts before each message (`From a@b Mon …`) was taken off.
    DropMailboxLine,
    /// Bcc fields were taken out; their addresses stay in the envelope.
    StripBcc,
    /// A Bcc field was added for the recipients that only the envelope names.
    AddBcc,
    /// Addresses that the envelope does not name were taken out of To or Cc.
    DropHeaderRecipients,
    /// A missing From was added.
    AddFrom,
    /// A missing Date was added.
    AddDate,
    /// A missing Message-ID was added.
    AddMessageId,
    /// `X-Postkey-Id` was added.
    StampId,
    /// Lines that ended with LF alone end with CR LF.
    EndLinesWithCrlf,
    /// The last line got an end.
    EndLastLine,
    /// A name beside an address held a bare `@` and was quoted.
    QuoteDisplayName,
    /// A header line over 998 octets was folded.
    FoldHeader,
    /// Bytes above 127 in a header became encoded words.
    EncodeHeaderWords,
    /// A part was written as quoted-printable.
    EncodeQuotedPrintable,
    /// A part was written as base64.
    EncodeBase64,
    /// Overlong lines of an encoded part were broken where the encoding allows it.
    BreakLines,
}

impl RepairKind {
    /// Its stable name, as in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::DropMailboxLine => "drop-mailbox-line",
            Self::StripBcc => "strip-bcc",
            Self::AddBcc => "add-bcc",
            Self::DropHeaderRecipients => "drop-header-recipients",
            Self::AddFrom => "add-from",
            Self::AddDate => "add-date",
            Self::AddMessageId => "add-message-id",
            Self::StampId => "stamp-id",
            Self::EndLinesWithCrlf => "end-lines-with-crlf",
            Self::EndLastLine => "end-last-line",
            Self::QuoteDisplayName => "quote-display-name",
            Self::FoldHeader => "fold-header",
            Self::EncodeHeaderWords => "encode-header-words",
            Self::EncodeQuotedPrintable => "encode-quoted-printable",
            Self::EncodeBase64 => "encode-base64",
            Self::BreakLines => "break-lines",
        }
    }
}

/// One repair that was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Repair {
    /// Which.
    pub kind: RepairKind,
    /// What exactly, for people.
    pub detail: String,
}

/// A message ready for its carrier, and what was done to it.
#[derive(Debug, Clone)]
pub struct Prepared {
    bytes: Bytes,
    repairs: Vec<Repair>,
    splices: Vec<Splice>,
    /// Offsets in `bytes` of each CR that [`RepairKind::EndLinesWithCrlf`] inserted.
    carriage_returns: Vec<usize>,
    message_id: String,
}

/// One place of the message that was changed.
#[derive(Debug, Clone)]
struct Splice {
    /// Offset in the message as it came.
    at: usize,
    removed: Vec<u8>,
    inserted: Vec<u8>,
}

/// The message cannot be made ready for this carrier without harm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepairError {
    /// A signed message whose headers name somebody that the envelope does not.
    #[error("the message is signed and its headers name {} that must not receive it", people(.0))]
    SignedHeaderRecipients(Vec<EmailAddress>),
    /// Line ends SMTP cannot carry and a repair would harm.
    #[error("the message has line ends that SMTP cannot carry ({lf} bare LF, {cr} bare CR)")]
    LineEnds {
        /// LF alone.
        lf: usize,
        /// CR alone.
        cr: usize,
    },
}

impl Prepared {
    /// What to send.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The repairs, in the order of [`RepairKind`].
    pub fn repairs(&self) -> &[Repair] {
        &self.repairs
    }

    /// Its Message-ID, with angle brackets.
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// The message as it came: every listed repair undone.
    pub fn undone(&self) -> Vec<u8> {
        let mut spliced = Vec::with_capacity(self.bytes.len());
        let mut next = 0;
        for &at in &self.carriage_returns {
            spliced.extend_from_slice(&self.bytes[next..at]);
            next = at + 1;
        }
        spliced.extend_from_slice(&self.bytes[next..]);
        let mut original = Vec::with_capacity(spliced.len());
        let mut from = 0;
        for splice in &self.splices {
            let kept = splice.at - original.len();
            original.extend_from_slice(&spliced[from..from + kept]);
            original.extend_from_slice(&splice.removed);
            from += kept + splice.inserted.len();
        }
        original.extend_from_slice(&spliced[from..]);
        original
    }
}

/// Makes the message ready for its carrier. `envelope` says who receives.
pub fn prepare(
    message: &Message,
    envelope: &Envelope,
    carrier: Carrier,
    stamp: &Stamp,
) -> Result<Prepared, RepairError> {
    let mut work = Work { message, envelope, repairs: Vec::new(), splices: Vec::new(), top: Vec::new() };
    work.drop_mailbox_line();
    match carrier {
        Carrier::Smtp | Carrier::SmtpSevenBit => work.strip_bcc(),
        Carrier::Graph => {
            work.drop_header_recipients()?;
            work.name_envelope_in_bcc();
        }
    }
    work.add_from();
    work.add_date(stamp);
    let message_id = work.add_message_id(stamp);
    work.stamp_id(stamp);
    if carrier == Carrier::SmtpSevenBit {
        work.encode_header_words();
    }
    work.quote_display_names();
    if carrier.is_smtp() {
        work.write_parts_anew(carrier == Carrier::SmtpSevenBit);
        work.fold_headers();
        work.end_last_line();
    }
    let whole_lines = work.line_ends();
    let prepared = work.finish(message_id, whole_lines);
    let ends = message.shape().line_ends;
    let suspect = ends.lf > 0 || ends.cr > 0;
    if carrier.is_smtp() && suspect && !reencode::has_whole_line_ends(prepared.bytes()) {
        return Err(RepairError::LineEnds { lf: ends.lf, cr: ends.cr });
    }
    Ok(prepared)
}

/// Whether every bare LF may become CR LF. A message that has no CR LF at all was written with Unix line ends: its
/// canonical form is meant, signed or not. In a mixed one a bare LF may be content: of a signature, or of a binary part.
pub fn line_ends_are_repairable(message: &Message) -> bool {
    let shape = message.shape();
    let all_unix = shape.line_ends.crlf == 0;
    !shape.binary && (all_unix || !(shape.signed || shape.encrypted))
}

/// Whether SMTP can carry the message's lines, repaired where that is safe.
pub fn smtp_carries_lines(message: &Message) -> bool {
    let ends = message.shape().line_ends;
    ends.cr == 0 && (ends.lf == 0 || line_ends_are_repairable(message)) || can_be_written_anew(message)
}

/// Tries it: whom it goes to makes no difference.
fn can_be_written_anew(message: &Message) -> bool {
    let nobody = || "nobody@postkey.invalid".parse::<EmailAddress>().ok();
    let envelope = nobody().zip(nobody()).and_then(|(from, to)| Envelope::new(from, [to]).ok());
    let stamp = Stamp { id: Uuid::nil(), at: Timestamp::UNIX_EPOCH };
    !reencode::is_forbidden(message)
        && envelope.is_some_and(|envelope| prepare(message, &envelope, Carrier::Smtp, &stamp).is_ok())
}

/// Addresses of To and Cc that the envelope does not name. Graph would send them a copy.
pub fn header_recipients_beyond(message: &Message, envelope: &Envelope) -> Vec<EmailAddress> {
    let mut beyond: Vec<EmailAddress> = Vec::new();
    for address in ["To", "Cc"].into_iter().flat_map(|field| message.addresses(field)) {
        if !envelope.names(&address) && !beyond.contains(&address) {
            beyond.push(address);
        }
    }
    beyond
}

struct Work<'a> {
    message: &'a Message,
    envelope: &'a Envelope,
    repairs: Vec<Repair>,
    splices: Vec<Splice>,
    /// Fields to stand at the top.
    top: Vec<u8>,
}

impl Work<'_> {
    fn drop_mailbox_line(&mut self) {
        let raw = self.message.raw();
        let first = self.message.fields().first().filter(|field| field.name.is_empty());
        if let Some(field) = first
            && raw[field.value.clone()].starts_with(b"From ")
        {
            self.remove(field.whole.clone(), Vec::new());
            self.note(RepairKind::DropMailboxLine, "the line of a mailbox file before the message");
        }
    }

    fn strip_bcc(&mut self) {
        let mut count = 0;
        for field in self.message.named("Bcc") {
            count += self.message.listed_in(field).len();
            self.remove(field.whole.clone(), Vec::new());
        }
        if self.message.named("Bcc").next().is_some() {
            self.note(RepairKind::StripBcc, format!("{count} addresses, kept in the envelope"));
        }
    }

    fn drop_header_recipients(&mut self) -> Result<(), RepairError> {
        let beyond = header_recipients_beyond(self.message, self.envelope);
        if beyond.is_empty() {
            return Ok(());
        }
        if self.message.shape().signed {
            return Err(RepairError::SignedHeaderRecipients(beyond));
        }
        for field in ["To", "Cc"].into_iter().flat_map(|name| self.message.named(name)) {
            let all = self.message.listed_in(field);
            let stays = |one: &&crate::addresses::Listed| match &one.address {
                Ok(address) => self.envelope.names(address),
                Err(_) => true,
            };
            let kept: Vec<_> = all.iter().filter(stays).collect();
            if kept.len() == all.len() {
                continue;
            }
            let raw = self.message.raw();
            if kept.is_empty() {
                self.remove(field.whole.clone(), Vec::new());
                continue;
            }
            let mut value = b" ".to_vec();
            for (index, one) in kept.iter().enumerate() {
                if index > 0 {
                    value.extend_from_slice(b",\r\n ");
                }
                value.extend_from_slice(&encoding::with_quoted_name(&raw[one.at.clone()]));
            }
            self.remove(field.value.clone(), value);
        }
        self.note(RepairKind::DropHeaderRecipients, format!("{}, whom the envelope does not name", people(&beyond)));
        Ok(())
    }

    /// Exchange takes a Bcc header for recipients and keeps it off their copies (unverified, but what RFC 5322 §3.6.3 asks).
    /// Leaves Bcc as it is if it names just those whom To and Cc do not; else writes it anew.
    fn name_envelope_in_bcc(&mut self) {
        let visible: Vec<_> = ["To", "Cc"].into_iter().flat_map(|name| self.message.addresses(name)).collect();
        let hidden: Vec<_> = self.envelope.recipients().iter().filter(|one| !visible.contains(one)).collect();
        let listed = self.message.listed("Bcc");
        let named: Vec<_> = listed.iter().filter_map(|one| one.address.as_ref().ok()).collect();
        // Somebody in To as well as in Bcc is harmless: Exchange sends one copy.
        let same = named.len() == listed.len()
            && hidden.iter().all(|one| named.contains(one))
            && named.iter().all(|one| self.envelope.names(one));
        if same {
            return;
        }
        self.strip_bcc();
        if hidden.is_empty() {
            return;
        }
        let list: Vec<_> = hidden.iter().map(|one| one.as_str()).collect();
        self.top.extend_from_slice(format!("Bcc: {}\r\n", list.join(",\r\n ")).as_bytes());
        self.note(RepairKind::AddBcc, format!("{} recipients whom only the envelope names", hidden.len()));
    }

    fn add_from(&mut self) {
        if self.message.named("From").next().is_none() {
            self.top.extend_from_slice(format!("From: {}\r\n", self.envelope.from()).as_bytes());
            self.note(RepairKind::AddFrom, self.envelope.from().as_str());
        }
    }

    fn add_date(&mut self, stamp: &Stamp) {
        if self.message.named("Date").next().is_none() {
            let date = rfc5322_date(stamp.at);
            self.top.extend_from_slice(format!("Date: {date}\r\n").as_bytes());
            self.note(RepairKind::AddDate, date);
        }
    }

    fn add_message_id(&mut self, stamp: &Stamp) -> String {
        if let Some(field) = self.message.value("Message-ID") {
            // One without brackets is kept as it is: looking for it later may fail, changing it surely breaks threads.
            return self.message.message_id().unwrap_or_else(|| String::from_utf8_lossy(field).trim().to_owned());
        }
        let id = format!("<{}@{}>", stamp.id.simple(), self.envelope.from().domain());
        self.top.extend_from_slice(format!("Message-ID: {id}\r\n").as_bytes());
        self.note(RepairKind::AddMessageId, id.as_str());
        id
    }

    fn stamp_id(&mut self, stamp: &Stamp) {
        if self.message.named(ID_HEADER).next().is_none() {
            self.top.extend_from_slice(format!("{ID_HEADER}: {}\r\n", stamp.id).as_bytes());
            self.note(RepairKind::StampId, stamp.id.to_string());
        }
    }

    fn end_last_line(&mut self) {
        let raw = self.message.raw();
        if !self.message.shape().line_ends.last_is_ended && !raw.ends_with(b"\r") {
            // A header that is the last thing in the message may have been taken out with its missing line end.
            let end = raw.len();
            if self.splices.iter().all(|splice| splice.at + splice.removed.len() < end || splice.removed.is_empty()) {
                let inserted = encoding::last_line_end(self.message).to_vec();
                self.splices.push(Splice { at: end, removed: Vec::new(), inserted });
                self.note(RepairKind::EndLastLine, "SMTP ends a message only after a whole line");
            }
        }
    }

    /// Whether bare LFs are to become CR LF.
    fn line_ends(&mut self) -> bool {
        let ends = self.message.shape().line_ends;
        let repairs = ends.lf > 0 && line_ends_are_repairable(self.message);
        if repairs {
            self.note(RepairKind::EndLinesWithCrlf, format!("{} lines", ends.lf));
        }
        repairs
    }

    fn remove(&mut self, range: std::ops::Range<usize>, inserted: Vec<u8>) {
        let removed = self.message.raw()[range.clone()].to_vec();
        self.splices.push(Splice { at: range.start, removed, inserted });
    }

    fn note(&mut self, kind: RepairKind, detail: impl Into<String>) {
        self.repairs.push(Repair { kind, detail: detail.into() });
    }

    fn finish(mut self, message_id: String, whole_lines: bool) -> Prepared {
        if !self.top.is_empty() {
            self.splices.push(Splice { at: 0, removed: Vec::new(), inserted: std::mem::take(&mut self.top) });
        }
        // At the same place what is only inserted comes first.
        self.splices.sort_by_key(|splice| (splice.at, splice.removed.len()));
        self.repairs.sort_by_key(|repair| repair.kind);
        let raw = self.message.raw();
        if self.splices.is_empty() && !whole_lines {
            let bytes = raw.clone();
            return Prepared {
                bytes,
                repairs: self.repairs,
                splices: self.splices,
                carriage_returns: Vec::new(),
                message_id,
            };
        }
        let mut spliced = Vec::with_capacity(raw.len() + 512);
        let mut from = 0;
        for splice in &self.splices {
            spliced.extend_from_slice(&raw[from..splice.at]);
            spliced.extend_from_slice(&splice.inserted);
            from = splice.at + splice.removed.len();
        }
        spliced.extend_from_slice(&raw[from..]);
        let mut carriage_returns = Vec::new();
        if whole_lines {
            let mut ended = Vec::with_capacity(spliced.len() + spliced.len() / 32);
            for line in spliced.split_inclusive(|&byte| byte == b'\n') {
                match line {
                    [text @ .., b'\n'] if !text.ends_with(b"\r") => {
                        ended.extend_from_slice(text);
                        carriage_returns.push(ended.len());
                        ended.extend_from_slice(b"\r\n");
                    }
                    _ => ended.extend_from_slice(line),
                }
            }
            spliced = ended;
        }
        Prepared { bytes: spliced.into(), repairs: self.repairs, splices: self.splices, carriage_returns, message_id }
    }
}

/// Our id in the message, to know it again in Sent Items.
pub const ID_HEADER: &str = "X-Postkey-Id";

/// `Tue, 24 Nov 2026 07:05:00 +0000` (RFC 5322 §3.3).
pub fn rfc5322_date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// A few addresses by name, many by number.
fn people(addresses: &[EmailAddress]) -> String {
    match addresses {
        some if (1..=3).contains(&some.len()) => some.iter().map(EmailAddress::as_str).collect::<Vec<_>>().join(", "),
        [first, rest @ ..] => format!("{first} and {} others", rest.len()),
        [] => "nobody".to_owned(),
    }
}

impl Diagnose for RepairError {
    fn code(&self) -> &'static str {
        match self {
            Self::SignedHeaderRecipients(_) => "transport.signed_header_recipients",
            Self::LineEnds { .. } => "transport.line_ends",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::SignedHeaderRecipients(_) => {
                "Allow the SMTP route for this sender, which delivers to the envelope alone; or send to everybody whom To and \
                 Cc name."
                    .into()
            }
            Self::LineEnds { .. } => {
                "End every line with CR LF and encode binary parts as base64; or allow the Graph route, which carries the \
                 bytes as they are."
                    .into()
            }
        }
    }

    fn who(&self) -> Who {
        Who::You
    }
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
