//! The order of a session: what may come when, and who waits for whom.

mod commands;
mod transfer;

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use zeroize::Zeroize;

use super::{
    auth::Exchange,
    body::Body,
    event::{Answer, Dropped, End, Envelope, Event, Expects, Hello, Mail, Received, Recipient},
    settings::{SessionSettings, TlsState},
    write::{self, Words, encode_reply, words},
};
use crate::reply::Reply;

/// One session. See the module's page for how to drive it.
pub struct Session {
    settings: SessionSettings,
    state: State,
    /// Read and not yet understood: from `start` on.
    input: Vec<u8>,
    start: usize,
    /// So many bytes behind `start` hold no line feed.
    searched: usize,
    output: BytesMut,
    /// The greeting has left.
    greeted: bool,
    /// The driver was told to read, and has not fed since.
    hungry: bool,
    /// A message that was completed while it was fed.
    ready: Option<Event>,
    dropped: Option<Dropped>,
    hello: Option<Hello>,
    authenticated: bool,
    envelope: Option<Envelope>,
    /// A message that comes in chunks, between two of them.
    chunks: Option<Box<Body>>,
    commands: u32,
    bad_commands: u32,
}

enum State {
    Command,
    Sasl(Exchange),
    /// The rest of a line that is too long; so many bytes of it went by.
    LongLine {
        gone: usize,
    },
    Data(Box<Body>),
    Chunk {
        body: Box<Body>,
        left: u64,
        last: bool,
        octets: u64,
    },
    /// The rest of a chunk that is refused, with what is said at its end.
    RefusedChunk {
        left: u64,
        reply: BytesMut,
        closes: bool,
    },
    Waiting(Pending),
    Handshake {
        discarded: usize,
    },
    Over(End),
}

/// What the driver was asked.
enum Pending {
    Authenticate,
    Mail(Mail),
    Rcpt(Recipient),
    Data,
    Chunk(super::bdat::Chunk),
    Message,
}

/// Octets of a command line, CRLF included. RFC 5321 §4.5.3.1.4 wants 512 and more for each extension.
const MAX_COMMAND: usize = 4096;
/// RFC 4954 §4.
const MAX_AUTH: usize = 12_288;
/// A line that is too long is read to its end, but not for ever.
const ENDLESS: usize = 64 * 1024;
/// What may wait unread when more is fed unasked.
const MAX_AHEAD: usize = 64 * 1024;
/// A session that waits for input keeps no larger buffer than this.
const IDLE_BUFFER: usize = 4096;

impl Session {
    /// A session whose greeting waits to be written.
    pub fn new(settings: SessionSettings) -> Self {
        let mut output = BytesMut::new();
        write::line(&mut output, 220, b' ', "", &format!("{} ESMTP postkey", settings.host_name));
        Self {
            settings,
            state: State::Command,
            input: Vec::new(),
            start: 0,
            searched: 0,
            output,
            greeted: false,
            hungry: false,
            ready: None,
            dropped: None,
            hello: None,
            authenticated: false,
            envelope: None,
            chunks: None,
            commands: 0,
            bad_commands: 0,
        }
    }

    /// What to do now. Ask again after each; an event that [`Event::asks`] is given once and wants its answer first.
    #[allow(clippy::should_implement_trait, reason = "it never ends, and it borrows")]
    pub fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.ready.take() {
                return event;
            }
            if let Some(dropped) = self.dropped.take() {
                return Event::Dropped(dropped);
            }
            let may_go_on = match &mut self.state {
                State::Over(_) | State::Handshake { .. } if !self.output.is_empty() => return Event::Write,
                State::Over(end) => return Event::Closed(*end),
                State::Handshake { discarded } => {
                    return Event::StartTls { discarded: std::mem::take(discarded) };
                }
                State::Waiting(_) => false,
                State::Data(_) | State::Chunk { .. } | State::RefusedChunk { .. } => self.continue_transfer(),
                State::Command | State::Sasl(_) | State::LongLine { .. } => self.continue_line(),
            };
            if !may_go_on {
                return self.starve();
            }
        }
    }

    /// Nothing can be done with what is there.
    fn starve(&mut self) -> Event {
        if !self.output.is_empty() {
            return Event::Write;
        }
        self.hungry = true;
        self.compact();
        Event::NeedsInput
    }

    /// What the client sent. The driver reads only after [`Event::NeedsInput`], which bounds what is kept.
    pub fn feed(&mut self, bytes: &[u8]) {
        let asked_for = std::mem::take(&mut self.hungry);
        if matches!(self.state, State::Over(_) | State::Handshake { .. }) {
            return;
        }
        let mut bytes = bytes;
        if self.start == self.input.len() {
            // Straight into the message, without the detour of the buffer.
            bytes = &bytes[self.transfer(bytes)..];
        } else if !asked_for && self.input.len() - self.start > MAX_AHEAD {
            let flooded = words(421, "4.7.0", "Too much was sent ahead; this session ends");
            return self.end(End::Flooded, Some(&flooded));
        }
        if !bytes.is_empty() {
            self.compact();
            self.input.extend_from_slice(bytes);
        }
    }

    /// What is to be written; empty when nothing is.
    pub fn take_output(&mut self) -> Bytes {
        self.greeted = true;
        self.output.split().freeze()
    }

    /// The decision on the event that asked. Without such an event nothing happens.
    pub fn answer(&mut self, answer: Answer) {
        match std::mem::replace(&mut self.state, State::Command) {
            State::Waiting(pending) => self.answered(pending, answer),
            state => self.state = state,
        }
    }

    /// The handshake is made. What was said before is forgotten (RFC 3207 §4.2).
    pub fn secured(&mut self) {
        if matches!(self.state, State::Handshake { .. }) {
            self.state = State::Command;
            self.settings.tls = TlsState::Secured;
            self.hello = None;
            self.authenticated = false;
        }
    }

    /// Says this (a 421, as a rule) and ends; what the client still sends is not looked at. In place of the greeting if
    /// that was not written yet.
    pub fn close(&mut self, reply: &Reply) {
        if matches!(self.state, State::Over(_)) {
            return;
        }
        if !self.greeted {
            self.output.clear();
        }
        encode_reply(reply, &mut self.output);
        self.end(End::Ours, None);
    }

    /// Changes the largest message, as EHLO announces it from now on and MAIL and what comes after hold to it.
    pub fn set_size(&mut self, size: Option<u64>) {
        self.settings.size = size;
    }

    /// Whether MAIL needs AUTH before it, where that is known later than the session begins.
    pub fn set_login_required(&mut self, required: bool) {
        self.settings.login_required = required;
    }

    /// How many recipients a message may have, where that is known later than the session begins.
    pub fn set_max_recipients(&mut self, most: usize) {
        self.settings.max_recipients = most;
    }

    /// What is awaited, for the deadline.
    pub fn expects(&self) -> Expects {
        match self.state {
            State::Command | State::LongLine { .. } => Expects::Command,
            State::Sasl(_) => Expects::SaslResponse,
            State::Data(_) | State::Chunk { .. } | State::RefusedChunk { .. } => Expects::Message,
            State::Waiting(_) | State::Handshake { .. } | State::Over(_) => Expects::Nothing,
        }
    }

    /// What the client called itself.
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// Whether the connection is under TLS, as far as the session was told.
    pub fn is_secured(&self) -> bool {
        self.settings.tls == TlsState::Secured
    }

    /// Whether somebody has signed in.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// No transaction is open and nothing waits: a good moment to close when the service stops.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Command)
            && self.envelope.is_none()
            && self.start == self.input.len()
            && self.output.is_empty()
            && self.ready.is_none()
    }

    /// The next line, if it is there. Says whether something was done.
    fn continue_line(&mut self) -> bool {
        let waiting = &self.input[self.start..];
        let found = memchr(b'\n', &waiting[self.searched..]).map(|at| at + self.searched + 1);
        if let State::LongLine { gone } = &mut self.state {
            let length = found.unwrap_or(waiting.len());
            *gone += length;
            let endless = *gone > ENDLESS;
            self.consume(length);
            return match (endless, found) {
                (true, _) => self.endless(),
                (false, Some(_)) => self.long_line(),
                (false, None) => false,
            };
        }
        let in_sasl = matches!(self.state, State::Sasl(_));
        let verb = waiting.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"));
        let most = if in_sasl || verb { MAX_AUTH } else { MAX_COMMAND };
        match found {
            Some(length) if length > ENDLESS => self.endless(),
            Some(length) if length > most => {
                self.consume(length);
                self.long_line()
            }
            Some(length) => {
                self.line(length);
                true
            }
            None if waiting.len() > most => {
                let gone = waiting.len();
                self.consume(gone);
                self.state = State::LongLine { gone };
                if gone > ENDLESS { self.endless() } else { false }
            }
            None => {
                self.searched = waiting.len();
                false
            }
        }
    }

    /// One line of `length` octets, LF included, is there.
    fn line(&mut self, length: usize) {
        // Out of the buffer while it is looked at; what is left of it goes back below.
        let mut input = std::mem::take(&mut self.input);
        let whole = &mut input[self.start..self.start + length];
        let exchange = match std::mem::replace(&mut self.state, State::Command) {
            State::Sasl(exchange) => Some(exchange),
            _ => None,
        };
        let secret = exchange.is_some() || whole.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"));
        match (whole.strip_suffix(b"\r\n"), exchange) {
            // RFC 5321 §2.3.8: and what stands before a lone line feed must not be taken for a command by some and for
            // half a command by others.
            (None, _) => self.refuse(&words(500, "5.5.2", "A line ends with CR LF, not with a line feed alone")),
            (Some(line), Some(exchange)) => self.sasl_line(exchange, line),
            (Some(line), None) => self.command(line),
        }
        if secret {
            whole.zeroize();
        }
        let discards = matches!(self.state, State::Handshake { .. } | State::Over(_));
        if let State::Handshake { discarded } = &mut self.state {
            *discarded = input.len() - self.start - length;
        }
        self.input = input;
        if discards { self.forget_input() } else { self.consume(length) }
    }

    fn long_line(&mut self) -> bool {
        self.state = State::Command;
        self.refuse(&words(500, "5.5.6", "The line is too long"));
        true
    }

    fn endless(&mut self) -> bool {
        self.end(End::EndlessLine, Some(&words(421, "4.7.0", "The line does not end; this session does")));
        true
    }

    fn consume(&mut self, octets: usize) {
        self.start += octets;
        self.searched = 0;
        if self.start == self.input.len() {
            self.input.clear();
            self.start = 0;
        }
    }

    fn forget_input(&mut self) {
        self.input.zeroize();
        self.start = 0;
        self.searched = 0;
    }

    fn compact(&mut self) {
        if self.start > 0 {
            self.input.drain(..self.start);
            self.start = 0;
        }
        if self.input.is_empty() && self.input.capacity() > IDLE_BUFFER {
            self.input = Vec::new();
        }
    }

    fn say(&mut self, words: &Words) {
        words.write(&mut self.output);
    }

    /// A complaint about the client; one too many ends the session.
    fn refuse(&mut self, complaint: &Words) {
        self.bad_commands += 1;
        if self.bad_commands > self.settings.max_bad_commands {
            self.too_many_bad_commands();
        } else {
            self.say(complaint);
        }
    }

    fn too_many_bad_commands(&mut self) {
        let enough = words(421, "4.7.0", "Too many commands were wrong; this session ends");
        self.end(End::TooManyBadCommands, Some(&enough));
    }

    fn end(&mut self, end: End, last: Option<&Words>) {
        if let Some(last) = last {
            self.say(last);
        }
        self.drop_transaction(Dropped::Closed);
        self.ready = None;
        self.forget_input();
        self.state = State::Over(end);
    }

    fn drop_transaction(&mut self, why: Dropped) {
        self.chunks = None;
        if self.envelope.take().is_some() {
            self.dropped = Some(why);
        }
    }

    fn ask(&mut self, pending: Pending, event: Event) {
        self.state = State::Waiting(pending);
        self.ready = Some(event);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session(expects {:?}, {} bytes to write)", self.expects(), self.output.len())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A password may stand in a line that never ended.
        self.input.zeroize();
    }
}
