//! SMTP AUTH submission as Exchange Online speaks it (contract 5): bytes in, bytes and questions out. No sockets, no
//! clock, no mailboxes; whoever drives the session answers its questions.

use super::{
    smtp_data::{Data, Progress},
    smtp_grammar::{parse_xoauth2, path},
};

/// What the session needs to know about its surroundings.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// The server's name in greetings and errors.
    pub(crate) host: String,
    /// The client's address as EHLO's answer shows it.
    pub(crate) peer: String,
    /// RFC 5322 date for the greeting.
    pub(crate) date: String,
    /// 16 hex digits at the end of the greeting.
    pub(crate) session_id: String,
    /// Advertised SIZE.
    pub(crate) size: usize,
}

/// What the session wants next; answers go back by the method named with each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// More bytes: [`Session::feed`].
    Input,
    /// Send the output, do the handshake, then [`Session::tls_started`].
    Handshake,
    /// Judge the token: [`Session::authenticated`].
    Authenticate { user: String, token: String },
    /// Judge a recipient: [`Session::answer_recipient`].
    Recipient(String),
    /// Take the message: [`Session::answer_message`].
    Message(Envelope),
    /// Send the output and close.
    Close,
}

/// A message as submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// Empty = the null reverse-path.
    pub(crate) from: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) mime: Vec<u8>,
}

/// Token lines are long; 512 octets broke real clients.
const AUTH_LINE: usize = 12_288;
/// RFC 5321 §4.5.3.1.4 asks for 512 at least; parameters lengthen MAIL and RCPT.
const COMMAND_LINE: usize = 2_048;
/// unverified: how many errors Exchange tolerates on one connection
const MOST_ERRORS: usize = 20;
/// More recipients than any mailbox may address at once are refused here already.
const MOST_RECIPIENTS: usize = 1_000;

#[derive(Debug, PartialEq, Eq)]
enum State {
    Command,
    /// After `334` to XOAUTH2.
    Xoauth2Response,
    /// Name, then password, of a LOGIN that will be refused.
    LoginName,
    LoginPassword,
    /// A question is open.
    Waiting(Waiting),
    Data(Data),
    /// Bytes still to come of a BDAT chunk, and whether it is the last.
    Chunk {
        left: usize,
        last: bool,
    },
    /// The rest of a line that was too long.
    SkipLine,
    Closed,
}

#[derive(Debug, PartialEq, Eq)]
enum Waiting {
    Handshake,
    Authentication,
    Recipient(String),
    Message,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    around: Surroundings,
    input: Vec<u8>,
    output: Vec<u8>,
    state: State,
    tls: bool,
    greeted: bool,
    authenticated: bool,
    reverse_path: Option<String>,
    recipients: Vec<String>,
    /// Collected by BDAT; None = no chunk yet.
    chunks: Option<Vec<u8>>,
    oversize: bool,
    errors: usize,
}

impl Session {
    /// A new connection; its greeting is in the output.
    pub(crate) fn new(around: Surroundings) -> Self {
        let greeting = format!(
            "220 {} Microsoft ESMTP MAIL Service ready at {} [{}]\r\n",
            around.host, around.date, around.session_id
        );
        Self {
            around,
            input: Vec::new(),
            output: greeting.into_bytes(),
            state: State::Command,
            tls: false,
            greeted: false,
            authenticated: false,
            reverse_path: None,
            recipients: Vec::new(),
            chunks: None,
            oversize: false,
            errors: 0,
        }
    }

    /// Bytes from the client.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Bytes for the client.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The handshake is done: everything starts anew.
    pub(crate) fn tls_started(&mut self) {
        self.tls = true;
        self.greeted = false;
        self.input.clear();
        self.state = State::Command;
    }

    /// Whether the token opened the mailbox; else the reply to give.
    pub(crate) fn authenticated(&mut self, judged: Result<(), String>) {
        self.state = State::Command;
        match judged {
            Ok(()) => {
                self.authenticated = true;
                self.say("235 2.7.0 Authentication successful");
            }
            Err(reply) => self.fail(&reply),
        }
    }

    /// Whether a recipient is taken; else the reply to give.
    pub(crate) fn answer_recipient(&mut self, judged: Result<(), String>) {
        if let State::Waiting(Waiting::Recipient(address)) = std::mem::replace(&mut self.state, State::Command) {
            match judged {
                Ok(()) => {
                    self.recipients.push(address);
                    self.say("250 2.1.5 Recipient OK");
                }
                Err(reply) => self.fail(&reply),
            }
        }
    }

    /// Recipients of the message at hand so far.
    pub(crate) fn recipients_taken(&self) -> usize {
        self.recipients.len()
    }

    /// The reply to a message.
    pub(crate) fn answer_message(&mut self, reply: &str) {
        self.state = State::Command;
        self.say(reply);
    }

    /// Goes on as far as it can without the driver.
    pub(crate) fn next(&mut self) -> Ask {
        loop {
            match &mut self.state {
                State::Closed => return Ask::Close,
                State::Waiting(_) => return Ask::Input,
                State::Data(data) => {
                    let (used, progress) = data.feed(&self.input);
                    self.input.drain(..used);
                    match progress {
                        Progress::More => return Ask::Input,
                        Progress::End(message) => {
                            if let Some(ask) = self.whole_message(message) {
                                return ask;
                            }
                        }
                    }
                }
                State::Chunk { left, last } => {
                    let take = self.input.len().min(*left);
                    let (rest, last) = (*left - take, *last);
                    let bytes: Vec<u8> = self.input.drain(..take).collect();
                    let chunks = self.chunks.get_or_insert_with(Vec::new);
                    if chunks.len() + bytes.len() > self.around.size {
                        self.oversize = true; // keep reading, or the rest is taken for commands
                    } else {
                        chunks.extend_from_slice(&bytes);
                    }
                    if rest > 0 {
                        self.state = State::Chunk { left: rest, last };
                        return Ask::Input;
                    }
                    self.state = State::Command;
                    if !last {
                        self.say("250 2.6.0 CHUNK received OK");
                    } else {
                        let message = if self.oversize { None } else { self.chunks.take() };
                        if let Some(ask) = self.whole_message(message) {
                            return ask;
                        }
                    }
                }
                State::Command | State::Xoauth2Response | State::LoginName | State::LoginPassword | State::SkipLine => {
                    match self.line() {
                        Line::Incomplete => return Ask::Input,
                        Line::Skipped => {}
                        Line::Bad(reply) => self.fail(reply),
                        Line::Whole(line) => {
                            if let Some(ask) = self.obey(&line) {
                                return ask;
                            }
                        }
                    }
                }
            }
        }
    }

    fn line(&mut self) -> Line {
        let limit = match self.state {
            State::Xoauth2Response | State::LoginName | State::LoginPassword => AUTH_LINE,
            _ if self.input.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"AUTH ")) => AUTH_LINE,
            _ => COMMAND_LINE,
        };
        let end = self.input.iter().position(|byte| *byte == b'\n');
        if self.state == State::SkipLine {
            self.input.drain(..end.map_or(self.input.len(), |end| end + 1));
            if end.is_none() {
                return Line::Incomplete;
            }
            self.state = State::Command;
            return Line::Skipped;
        }
        if end.unwrap_or(self.input.len()) > limit {
            match end {
                Some(end) => {
                    self.input.drain(..=end);
                    self.state = State::Command;
                }
                None => {
                    self.input.clear();
                    self.state = State::SkipLine;
                }
            }
            return Line::Bad("500 5.5.2 Line too long"); // unverified: text
        }
        let Some(end) = end else { return Line::Incomplete };
        let mut line: Vec<u8> = self.input.drain(..=end).collect();
        line.pop();
        if line.pop() != Some(b'\r') {
            self.state = State::Command;
            return Line::Bad("500 5.5.2 Syntax error, line ends without CR"); // RFC 5321 §2.3.8; unverified: text
        }
        match String::from_utf8(line) {
            Ok(line) => Line::Whole(line),
            Err(_) => Line::Bad("500 5.5.2 Syntax error, command unrecognized"),
        }
    }

    fn say(&mut self, reply: &str) {
        self.output.extend_from_slice(reply.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    fn fail(&mut self, reply: &str) {
        self.say(reply);
        self.errors += 1;
        if self.errors > MOST_ERRORS {
            self.say("421 4.7.0 Too many errors on this connection, closing transmission channel");
            self.state = State::Closed;
        }
    }

    fn obey(&mut self, line: &str) -> Option<Ask> {
        match self.state {
            State::Xoauth2Response => {
                self.state = State::Command;
                return self.xoauth2(line);
            }
            State::LoginName => {
                self.state = State::LoginPassword;
                self.say("334 UGFzc3dvcmQ6");
                return None;
            }
            State::LoginPassword => {
                self.state = State::Command;
                self.fail(BASIC_REFUSED);
                return None;
            }
            _ => {}
        }
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" if !rest.is_empty() => {
                self.reset();
                self.greeted = true;
                self.hello();
            }
            "HELO" if !rest.is_empty() => {
                self.reset();
                self.greeted = true;
                let hello = format!("250 {} Hello [{}]", self.around.host, self.around.peer);
                self.say(&hello);
            }
            "EHLO" | "HELO" => self.fail("501 5.5.4 Invalid domain name"),
            "NOOP" => self.say("250 2.0.0 OK"),
            "RSET" => {
                self.reset();
                self.say("250 2.0.0 Resetting");
            }
            "QUIT" => {
                self.say("221 2.0.0 Service closing transmission channel");
                self.state = State::Closed;
            }
            "VRFY" => self.say("252 2.1.5 Cannot VRFY user"),
            "HELP" => self.say("214 2.0.0 See RFC 5321"),
            _ if !self.greeted
                && ["STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT"]
                    .contains(&verb.to_ascii_uppercase().as_str()) =>
            {
                self.fail("503 5.5.2 Send hello first");
            }
            "STARTTLS" => {
                if self.tls {
                    self.fail("503 5.5.2 TLS already started"); // unverified: text
                } else if !rest.is_empty() {
                    self.fail("501 5.5.4 Invalid arguments");
                } else {
                    self.say("220 2.0.0 SMTP server ready");
                    // Whatever came along in clear text was not said under TLS.
                    self.input.clear();
                    self.state = State::Waiting(Waiting::Handshake);
                    return Some(Ask::Handshake);
                }
            }
            "AUTH" => return self.auth(rest),
            "MAIL" => self.mail(rest),
            "RCPT" => return self.rcpt(rest),
            "DATA" => self.data(rest),
            "BDAT" => self.bdat(rest),
            _ => self.fail("500 5.3.3 Unrecognized command"),
        }
        None
    }

    fn hello(&mut self) {
        let mut lines = vec![
            format!("{} Hello [{}]", self.around.host, self.around.peer),
            format!("SIZE {}", self.around.size),
            "PIPELINING".into(),
            "DSN".into(),
            "ENHANCEDSTATUSCODES".into(),
        ];
        lines.push(if self.tls { "AUTH LOGIN XOAUTH2".into() } else { "STARTTLS".into() });
        lines.extend(["8BITMIME".into(), "BINARYMIME".into(), "CHUNKING".into(), "SMTPUTF8".into()]);
        let last = lines.len() - 1;
        for (index, line) in lines.iter().enumerate() {
            self.say(&format!("250{}{line}", if index == last { ' ' } else { '-' }));
        }
    }

    fn reset(&mut self) {
        self.reverse_path = None;
        self.recipients.clear();
        self.chunks = None;
        self.oversize = false;
    }

    fn auth(&mut self, rest: &str) -> Option<Ask> {
        let (mechanism, response) = rest.split_once(' ').unwrap_or((rest, ""));
        let response = response.trim();
        if !self.tls {
            self.fail("504 5.7.4 Unrecognized authentication type"); // unverified: AUTH is not offered without TLS
        } else if self.authenticated {
            self.fail("503 5.5.2 Already authenticated"); // unverified: text
        } else if self.reverse_path.is_some() {
            self.fail("503 5.5.2 AUTH is not allowed during a mail transaction"); // RFC 4954 §4
        } else {
            match mechanism.to_ascii_uppercase().as_str() {
                "XOAUTH2" if response.is_empty() => {
                    self.say("334 ");
                    self.state = State::Xoauth2Response;
                }
                "XOAUTH2" => return self.xoauth2(response),
                "LOGIN" if response.is_empty() => {
                    self.say("334 VXNlcm5hbWU6");
                    self.state = State::LoginName;
                }
                "LOGIN" => {
                    self.say("334 UGFzc3dvcmQ6");
                    self.state = State::LoginPassword;
                }
                "PLAIN" => self.fail(BASIC_REFUSED),
                _ => self.fail("504 5.7.4 Unrecognized authentication type"),
            }
        }
        None
    }

    fn xoauth2(&mut self, response: &str) -> Option<Ask> {
        if response == "*" {
            self.fail("501 5.7.0 Authentication cancelled"); // RFC 4954 §4; unverified: text
            return None;
        }
        match parse_xoauth2(response) {
            Some((user, token)) => {
                self.state = State::Waiting(Waiting::Authentication);
                Some(Ask::Authenticate { user, token })
            }
            None => {
                let reply = unsuccessful(&self.around.host);
                self.fail(&reply);
                None
            }
        }
    }

    fn mail(&mut self, rest: &str) {
        if !self.authenticated {
            return self.fail("530 5.7.57 Client not authenticated to send mail.");
        }
        if self.reverse_path.is_some() {
            return self.fail("503 5.5.2 Sender already specified");
        }
        let Some((path, parameters)) = path(rest, "FROM:") else { return self.fail("501 5.5.4 Invalid arguments") };
        if !path.is_empty() && !super::send_mail::looks_like_address(&path) {
            return self.fail("501 5.1.7 Invalid address");
        }
        for parameter in &parameters {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name.to_ascii_uppercase().as_str() {
                "SIZE" => match value.parse::<usize>() {
                    Ok(size) if size > self.around.size => return self.fail(TOO_LARGE),
                    Ok(_) => {}
                    Err(_) => return self.fail("501 5.5.4 Invalid arguments"),
                },
                "BODY" if ["7BIT", "8BITMIME", "BINARYMIME"].iter().any(|kind| value.eq_ignore_ascii_case(kind)) => {}
                "SMTPUTF8" | "RET" | "ENVID" | "AUTH" => {}
                _ => return self.fail("501 5.5.4 Invalid arguments"),
            }
        }
        self.reverse_path = Some(path);
        self.say("250 2.1.0 Sender OK");
    }

    fn rcpt(&mut self, rest: &str) -> Option<Ask> {
        if self.reverse_path.is_none() {
            self.fail("503 5.5.2 Need mail command");
            return None;
        }
        let Some((path, parameters)) = path(rest, "TO:") else {
            self.fail("501 5.5.4 Invalid arguments");
            return None;
        };
        let known = |parameter: &String| {
            let name = parameter.split('=').next().unwrap_or_default();
            name.eq_ignore_ascii_case("NOTIFY") || name.eq_ignore_ascii_case("ORCPT")
        };
        if !parameters.iter().all(known) {
            self.fail("501 5.5.4 Invalid arguments");
        } else if !super::send_mail::looks_like_address(&path) {
            self.fail("501 5.1.3 Invalid address");
        } else if self.recipients.len() >= MOST_RECIPIENTS {
            self.fail("452 4.5.3 Too many recipients");
        } else {
            self.state = State::Waiting(Waiting::Recipient(path.clone()));
            return Some(Ask::Recipient(path));
        }
        None
    }

    fn data(&mut self, rest: &str) {
        if !rest.is_empty() {
            self.fail("501 5.5.4 Invalid arguments");
        } else if self.reverse_path.is_none() {
            self.fail("503 5.5.2 Need mail command");
        } else if self.recipients.is_empty() {
            self.fail("503 5.5.2 Need rcpt command");
        } else if self.chunks.is_some() {
            self.fail("503 5.5.2 BDAT has begun"); // RFC 3030 §2
        } else {
            self.say("354 Start mail input; end with <CRLF>.<CRLF>");
            self.state = State::Data(Data::new(self.around.size));
        }
    }

    fn bdat(&mut self, rest: &str) {
        let mut words = rest.split_whitespace();
        let size = words.next().and_then(|size| size.parse::<usize>().ok());
        let last = words.next().map(|word| word.eq_ignore_ascii_case("LAST"));
        match (size, last, words.next()) {
            (Some(left), None | Some(true), None) => {
                if self.reverse_path.is_none() || self.recipients.is_empty() {
                    // The chunk follows all the same: without reading it, its bytes were taken for commands.
                    self.fail("503 5.5.2 Need mail and rcpt commands");
                    self.state = State::Closed;
                } else {
                    self.state = State::Chunk { left, last: last.is_some() };
                }
            }
            _ => self.fail("501 5.5.4 Invalid arguments"),
        }
    }

    /// None in `message` = it was too large.
    fn whole_message(&mut self, message: Option<Vec<u8>>) -> Option<Ask> {
        let (from, recipients) = (self.reverse_path.take().unwrap_or_default(), std::mem::take(&mut self.recipients));
        self.reset();
        self.state = State::Command;
        match message {
            Some(mime) => {
                self.state = State::Waiting(Waiting::Message);
                Some(Ask::Message(Envelope { from, recipients, mime }))
            }
            None => {
                self.fail(TOO_LARGE);
                None
            }
        }
    }
}

enum Line {
    Incomplete,
    Skipped,
    Bad(&'static str),
    Whole(String),
}

const BASIC_REFUSED: &str = "550 5.7.30 Basic authentication is not supported for Client Submission.";
/// unverified: wording
pub(crate) const TOO_LARGE: &str = "552 5.3.4 Message size exceeds fixed maximum message size";

/// The documented refusal of credentials: nothing about why.
pub(crate) fn unsuccessful(host: &str) -> String {
    format!("535 5.7.3 Authentication unsuccessful [{host}]")
}
