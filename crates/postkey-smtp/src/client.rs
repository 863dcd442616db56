//! One submission from the client's side, without a socket: bytes in, [`Action`]s out.
//!
//! The owner of the socket asks [`Session::next`] what to do, does it, and tells the session: [`Session::feed`] what was
//! read, [`Session::secured`] after the handshake, [`Session::body_written`] after the message, [`Session::lost`] when the
//! connection ended or a deadline passed. Only a 250 after the final dot is acceptance; a connection lost once that dot may
//! have left is [`End::Unknown`], before it [`End::Lost`].
//!
//! A session made with [`Session::keeping`] stays after a message: [`Session::is_open`] says so, [`Session::begin`] starts
//! the next one, [`Session::leave`] says QUIT.

use std::fmt;

use crate::{
    command::{Command, CommandError, Path},
    offers::{Missing, Offers},
    reply::{Reply, ReplyError, ReplyParser},
    transaction::{Mail, Next, Transaction},
    xoauth2::Xoauth2,
};

/// What one session is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Our name for EHLO: a host name or an address literal.
    pub name: String,
    /// Whether the session starts in clear text.
    pub protection: Protection,
    /// Who we are. Without it nothing is authenticated.
    pub auth: Option<Xoauth2>,
    /// Send the response with the AUTH command rather than after its `334`. Both are documented; two steps keep the
    /// command line short.
    pub auth_in_one_line: bool,
    /// The reverse-path; `None` is `<>`.
    pub from: Option<Path>,
    /// The forward-paths, each tried and answered on its own. With none the session signs in and leaves again.
    pub recipients: Vec<Path>,
    /// Bytes of the message, line ends included, dots not stuffed.
    pub size: u64,
    /// The message holds bytes above 127.
    pub eight_bit: bool,
    /// Whether SMTPUTF8 is asked for.
    pub utf8: Utf8Need,
}

/// How the session is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Begins in clear text; STARTTLS is demanded before anything else is said.
    StartTls,
    /// TLS from the first byte, or a connection that needs none (loopback).
    Already,
}

/// Whether a message asks for SMTPUTF8 (RFC 6531).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Utf8Need {
    /// All ASCII.
    No,
    /// Raw UTF-8 in headers: asked for where the server offers it.
    IfOffered,
    /// An address of the envelope is not ASCII: cannot travel without.
    Required,
}

/// What the owner of the socket must do next.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// Write these bytes. They may hold a token: `Debug` shows their number only.
    Write(Vec<u8>),
    /// Read some bytes, within the deadline of this stage.
    Read(Stage),
    /// Make the TLS handshake and check the certificate, then call [`Session::secured`].
    StartTls,
    /// Write the message through a [`crate::DotStuffer`], then call [`Session::body_written`].
    SendBody,
    /// Close the connection: this is how it ended.
    Finished(Box<End>),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(bytes) => write!(f, "Write({} bytes)", bytes.len()),
            Self::Read(stage) => write!(f, "Read({stage:?})"),
            Self::StartTls => f.write_str("StartTls"),
            Self::SendBody => f.write_str("SendBody"),
            Self::Finished(end) => write!(f, "Finished({end:?})"),
        }
    }
}

/// Where in the session something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The server's first line.
    Greeting,
    /// EHLO.
    Ehlo,
    /// STARTTLS, or the handshake after it.
    StartTls,
    /// AUTH and what it exchanges.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA and its 354.
    DataStart,
    /// The message itself, before the final dot.
    Body,
    /// The reply to the final dot.
    DataEnd,
    /// QUIT.
    Quit,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "the greeting",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH XOAUTH2",
            Self::Mail => "MAIL FROM",
            Self::Rcpt => "RCPT TO",
            Self::DataStart => "DATA",
            Self::Body => "the message body",
            Self::DataEnd => "the end of the message",
            Self::Quit => "QUIT",
        })
    }
}

/// What the server said to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientOutcome {
    /// The forward-path.
    pub path: Path,
    /// The answer to its RCPT.
    pub reply: Reply,
}

impl RecipientOutcome {
    /// Whether RCPT was accepted.
    pub fn is_accepted(&self) -> bool {
        self.reply.is_positive()
    }
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// 250 after the final dot: the server has the message, for those recipients whose RCPT it accepted.
    Accepted {
        /// The 250.
        reply: Reply,
        /// One outcome per recipient asked.
        recipients: Vec<RecipientOutcome>,
    },
    /// Signed in and left again, as a plan without recipients asks.
    SignedIn {
        /// The server's limit for a message, if it named one.
        size: Option<u64>,
    },
    /// The server refused; it has no message.
    Refused {
        /// The command it refused.
        stage: Stage,
        /// Its answer. With every recipient refused, the answer to the first.
        reply: Reply,
        /// Outcomes of the recipients asked before.
        recipients: Vec<RecipientOutcome>,
    },
    /// The server lacks an extension without which this message cannot go; nothing of it was sent.
    Missing(Missing),
    /// The message is over the size the server announced; nothing of it was sent.
    TooLarge {
        /// The message.
        size: u64,
        /// The server's limit.
        limit: u64,
    },
    /// The connection ended, or a deadline passed, before the message could have been accepted.
    Lost {
        /// What was awaited.
        stage: Stage,
    },
    /// The final dot may have reached the server, its answer did not reach us.
    Unknown {
        /// Outcomes of the recipients.
        recipients: Vec<RecipientOutcome>,
    },
    /// The server does not speak SMTP as we understand it; it has no message.
    Garbled {
        /// Where.
        stage: Stage,
        /// How.
        error: ReplyError,
    },
    /// Bytes stood behind the answer to STARTTLS: somebody tampers with the connection.
    InjectedBeforeTls,
    /// A value of the plan cannot stand in a command; nothing was sent of it.
    BadPlan(CommandError),
}

/// One session. See the module's page for how to drive it.
pub struct Session {
    name: String,
    protection: Protection,
    auth: Option<Xoauth2>,
    auth_in_one_line: bool,
    mail: Mail,
    parser: ReplyParser,
    state: State,
    outbox: Vec<u8>,
    outcomes: Vec<RecipientOutcome>,
    offers: Offers,
    keep: bool,
    /// The server has answered something about the message at hand.
    heard: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session(at {}, {} bytes to write)", self.stage(), self.outbox.len())
    }
}

#[derive(Debug)]
enum State {
    Greeting,
    Ehlo,
    /// STARTTLS sent.
    StartTls,
    /// Its 220 came.
    Handshake,
    /// AUTH without response sent: a 334 is awaited.
    AuthChallenge,
    /// The response was sent. `consoled`: an error challenge came and was answered by an empty line.
    AuthResult {
        consoled: bool,
    },
    Transaction(Transaction),
    Body,
    DataEnd,
    /// A lone dot was sent after a DATA that nobody receives; how it ended is known already.
    Abandoned(Box<End>),
    /// Ended, and open for another message; whether RSET must come first.
    Open(Box<End>, bool),
    /// QUIT sent; how it ended is known already.
    Quit(Box<End>),
    Over(Box<End>),
}

impl Session {
    /// A session that has said and heard nothing yet.
    pub fn new(plan: Plan) -> Self {
        let Plan { name, protection, auth, auth_in_one_line, from, recipients, size, eight_bit, utf8 } = plan;
        Self {
            name,
            protection,
            auth,
            auth_in_one_line,
            mail: Mail { from, recipients, size, eight_bit, utf8 },
            parser: ReplyParser::new(),
            state: State::Greeting,
            outbox: Vec::new(),
            outcomes: Vec::new(),
            offers: Offers::default(),
            keep: false,
            heard: false,
        }
    }

    /// A session that stays open after a message, where the server leaves it so.
    #[must_use]
    pub fn keeping(mut self) -> Self {
        self.keep = true;
        self
    }

    /// Whether another message can begin.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(..))
    }

    /// Begins another message on an open session; on any other it does nothing.
    pub fn begin(&mut self, mail: Mail) {
        if let State::Open(_, reset) = self.state {
            (self.mail, self.heard) = (mail, false);
            match self.lacking() {
                Some(end) => self.state = State::Open(Box::new(end), reset),
                None => {
                    self.state = State::Transaction(Transaction::new(reset));
                    self.go_on();
                }
            }
        }
    }

    /// Whether the server has answered anything since the message at hand was begun: if not, the connection may have been
    /// dead, and the message may begin anew on another.
    pub fn has_heard(&self) -> bool {
        self.heard
    }

    /// Says QUIT on an open session.
    pub fn leave(&mut self) {
        if let State::Open(end, _) = std::mem::replace(&mut self.state, State::Greeting) {
            self.say(&Command::Quit, State::Quit(end));
        }
    }

    /// What to do now. Asking again without doing it gives the same answer, except that bytes to write are given once.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Action {
        loop {
            if !self.outbox.is_empty() {
                return Action::Write(std::mem::take(&mut self.outbox));
            }
            match &self.state {
                State::Handshake => return Action::StartTls,
                State::Body => return Action::SendBody,
                State::Over(end) | State::Open(end, _) => return Action::Finished(end.clone()),
                _ => {}
            }
            match self.parser.take() {
                Ok(Some(reply)) => {
                    let reply = self.clean(reply);
                    self.hear(reply);
                }
                Ok(None) => return Action::Read(self.stage()),
                Err(error) => self.garbled(error),
            }
        }
    }

    /// What the server sent.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.parser.feed(bytes);
    }

    /// The handshake is made and the certificate holds. What the server said before is forgotten (RFC 3207 §4.2).
    pub fn secured(&mut self) {
        if matches!(self.state, State::Handshake) {
            self.offers = Offers::default();
            self.protection = Protection::Already;
            self.say_ehlo();
        }
    }

    /// The message was written, its last line ended. From here on a lost connection leaves the outcome unknown.
    pub fn body_written(&mut self) {
        if matches!(self.state, State::Body) {
            self.outbox.extend_from_slice(b".\r\n");
            self.state = State::DataEnd;
        }
    }

    /// The connection ended or a deadline passed. A reply that arrived first still counts.
    pub fn lost(&mut self) {
        let early = self.parser.take().ok().flatten().map(|reply| self.clean(reply));
        let stage = self.stage();
        let recipients = std::mem::take(&mut self.outcomes);
        let end = match std::mem::replace(&mut self.state, State::Greeting) {
            State::Over(end) | State::Quit(end) | State::Open(end, _) | State::Abandoned(end) => *end,
            State::DataEnd => End::Unknown { recipients },
            // A server that tires of a message says so while it is still coming, then closes.
            _ => match early.filter(|reply| reply.is_transient() || reply.is_permanent()) {
                Some(reply) => End::Refused { stage, reply, recipients },
                None => End::Lost { stage },
            },
        };
        self.outbox.clear();
        self.state = State::Over(Box::new(end));
    }

    /// Where the session stands.
    pub fn stage(&self) -> Stage {
        stage_of(&self.state)
    }

    /// What the last EHLO reply offered.
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// A server may repeat a command that it does not like, and ours holds a token.
    fn clean(&self, reply: Reply) -> Reply {
        match &self.auth {
            Some(response) => reply.without(response.expose()),
            None => reply,
        }
    }

    fn hear(&mut self, reply: Reply) {
        self.heard = true;
        match std::mem::replace(&mut self.state, State::Greeting) {
            State::Greeting if reply.code() == 220 => self.say_ehlo(),
            State::Ehlo if reply.is_positive() => {
                self.offers = Offers::read(&reply);
                self.after_ehlo();
            }
            State::StartTls if reply.code() == 220 => {
                if self.parser.is_drained() {
                    self.state = State::Handshake;
                } else {
                    self.state = State::Over(Box::new(End::InjectedBeforeTls));
                }
            }
            State::AuthChallenge if reply.code() == 334 => self.say_auth_response(),
            State::AuthResult { consoled: false } if reply.code() == 334 => {
                self.say(&Command::AuthEmpty, State::AuthResult { consoled: true });
            }
            State::AuthResult { .. } if reply.is_positive() => self.say_mail(),
            State::Transaction(mut transaction) => match transaction.hear(&self.mail, reply) {
                Next::On => {
                    self.state = State::Transaction(transaction);
                    self.go_on();
                }
                Next::Body => {
                    self.outcomes = transaction.into_outcomes();
                    self.state = State::Body;
                }
                Next::Ended(end) => self.end(end),
                Next::Abandoned(end) => {
                    self.outbox.extend_from_slice(b".\r\n");
                    self.state = State::Abandoned(Box::new(end));
                }
                Next::Closed(end) => self.state = State::Over(Box::new(end)),
            },
            State::Abandoned(end) => self.end(*end),
            State::DataEnd if reply.is_positive() => {
                let recipients = std::mem::take(&mut self.outcomes);
                self.end(End::Accepted { reply, recipients });
            }
            State::DataEnd if reply.is_intermediate() => {
                let recipients = std::mem::take(&mut self.outcomes);
                self.quit(End::Unknown { recipients });
            }
            // Whatever an open session hears unasked is not about a message.
            State::Quit(end) | State::Over(end) | State::Open(end, _) => self.state = State::Over(end),
            state => {
                let (stage, recipients) = (stage_of(&state), std::mem::take(&mut self.outcomes));
                let closes = reply.code() == 421;
                let end = End::Refused { stage, reply, recipients };
                if closes { self.state = State::Over(Box::new(end)) } else { self.end(end) }
            }
        }
    }

    fn garbled(&mut self, mut error: ReplyError) {
        if let (ReplyError::NotAReply(line), Some(response)) = (&mut error, &self.auth) {
            *line = line.replace(response.expose(), "[removed]");
        }
        let end = match std::mem::replace(&mut self.state, State::Greeting) {
            State::Over(end) | State::Quit(end) | State::Open(end, _) | State::Abandoned(end) => *end,
            State::DataEnd => End::Unknown { recipients: std::mem::take(&mut self.outcomes) },
            state => End::Garbled { stage: stage_of(&state), error },
        };
        self.state = State::Over(Box::new(end));
    }

    fn after_ehlo(&mut self) {
        if self.protection == Protection::StartTls {
            return if self.offers.start_tls {
                self.say(&Command::StartTls, State::StartTls);
            } else {
                self.quit(End::Missing(Missing::StartTls));
            };
        }
        let offers = &self.offers;
        if self.auth.is_some() && !offers.auth.iter().any(|mechanism| mechanism == "XOAUTH2") {
            return self.quit(End::Missing(Missing::Xoauth2(offers.auth.clone())));
        }
        match self.lacking() {
            Some(end) => self.quit(end),
            None => self.say_auth(),
        }
    }

    /// Why this message cannot go through this server.
    fn lacking(&self) -> Option<End> {
        let (mail, offers) = (&self.mail, &self.offers);
        match offers.size {
            _ if mail.eight_bit && !offers.eight_bit => Some(End::Missing(Missing::EightBit)),
            _ if mail.utf8 == Utf8Need::Required && !offers.utf8 => Some(End::Missing(Missing::Utf8)),
            Some(limit) if limit > 0 && mail.size > limit => Some(End::TooLarge { size: mail.size, limit }),
            _ => None,
        }
    }

    fn say_ehlo(&mut self) {
        let name = self.name.clone();
        self.say(&Command::Ehlo(&name), State::Ehlo);
    }

    fn say_auth(&mut self) {
        match self.auth.clone() {
            None => self.say_mail(),
            Some(response) if self.auth_in_one_line => {
                self.say(&Command::AuthXoauth2(Some(&response)), State::AuthResult { consoled: false });
            }
            Some(_) => self.say(&Command::AuthXoauth2(None), State::AuthChallenge),
        }
    }

    fn say_auth_response(&mut self) {
        if let Some(response) = self.auth.clone() {
            self.say(&Command::AuthResponse(&response), State::AuthResult { consoled: false });
        }
    }

    fn say_mail(&mut self) {
        if self.mail.recipients.is_empty() {
            return self.end(End::SignedIn { size: self.offers.size.filter(|&size| size > 0) });
        }
        self.state = State::Transaction(Transaction::new(false));
        self.go_on();
    }

    /// Says what comes next of a message, if its turn has come.
    fn go_on(&mut self) {
        if let State::Transaction(transaction) = &mut self.state {
            match transaction.say(&self.mail, &self.offers, &mut self.outbox) {
                Ok(None) => {}
                Ok(Some(end)) => self.end(end),
                Err(error) => self.state = State::Over(Box::new(End::BadPlan(error))),
            }
        }
    }

    /// A message has ended, or none was begun: stays or leaves.
    fn end(&mut self, end: End) {
        if !self.keep {
            return self.quit(end);
        }
        match &end {
            End::Accepted { .. } | End::SignedIn { .. } => self.state = State::Open(Box::new(end), false),
            End::Refused { stage: Stage::Mail | Stage::Rcpt | Stage::DataStart | Stage::DataEnd, .. } => {
                self.state = State::Open(Box::new(end), true);
            }
            _ => self.quit(end),
        }
    }

    fn quit(&mut self, end: End) {
        self.say(&Command::Quit, State::Quit(Box::new(end)));
    }

    fn say(&mut self, command: &Command<'_>, then: State) {
        match command.encode() {
            Ok(line) => {
                self.outbox.extend_from_slice(&line);
                self.state = then;
            }
            Err(error) => self.state = State::Over(Box::new(End::BadPlan(error))),
        }
    }
}

fn stage_of(state: &State) -> Stage {
    match state {
        State::Greeting => Stage::Greeting,
        State::Ehlo => Stage::Ehlo,
        State::StartTls | State::Handshake => Stage::StartTls,
        State::AuthChallenge | State::AuthResult { .. } => Stage::Auth,
        State::Transaction(transaction) => transaction.stage(),
        State::Body => Stage::Body,
        State::DataEnd => Stage::DataEnd,
        State::Abandoned(_) | State::Open(..) | State::Quit(_) | State::Over(_) => Stage::Quit,
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
