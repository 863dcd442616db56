//! Dialogs as text files, for the pure session and for a server behind a socket alike (by `#[path]`).
//!
//! ```text
//! # A sentence that says what this is.
//! ! size 1000                   a setting; see `Dialog::setting` for all of them
//! ! user printer sesame         who may sign in
//! ! answer rcpt 550 5.7.1 No    what the driver says to the next RCPT; also auth, mail, data, message
//! S: 220 *                      one line of the server; `*` at the end stands for anything
//! C: EHLO printer               one line of the client, CRLF is added; lines without S between leave in one packet
//! S: 250 ...                    a whole reply of any number of lines
//! R: a\n.\n                     bytes of the client as they are
//! ! packet                      what was said so far leaves as a packet of its own
//! ! handshake                   here both sides make the TLS handshake
//! E: <a@b.example> <c@d.example>   a message has come in: sender, recipients
//! M: Subject: x                 its lines
//! ! dropped TooLarge            the transaction ended without a message
//! ! closed                      the server closes
//! ```
//!
//! In C, R and M stand `\r \n \t \0 \\ \xHH` for a byte, `{base64 …}` for base64 and `{repeat 500 x}` for many of them.

use std::collections::VecDeque;

use base64::{Engine, engine::general_purpose::STANDARD};
use postkey_smtp::{
    EnhancedCode, Reply,
    server::{AuthOffer, SessionSettings, TlsState},
};

/// One file.
#[derive(Debug, Clone)]
pub(crate) struct Dialog {
    /// The file's name without its ending.
    pub(crate) name: String,
    /// How the server is set up.
    pub(crate) settings: SessionSettings,
    /// Name and password of those who may sign in.
    pub(crate) users: Vec<(String, String)>,
    /// Answers that a policy would give; where there are some, only a driver that takes them can play the dialog.
    pub(crate) answers: VecDeque<(String, Reply)>,
    /// What happens, in order.
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The client sends these bytes, as one packet.
    Send(Vec<u8>),
    /// The server says this line.
    Line(String),
    /// The server says a whole reply with this code.
    Reply(String),
    /// Both make the TLS handshake.
    Handshake,
    /// The server has a message.
    Message { from: String, to: Vec<String>, body: Option<Vec<u8>> },
    /// A transaction ended without a message.
    Dropped(String),
    /// The server closes the connection.
    Closed,
}

impl Dialog {
    /// Every dialog of a folder, by name.
    pub(crate) fn all(folder: &str) -> Vec<Self> {
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
        files.sort();
        let read = |file: &std::path::PathBuf| {
            let name = file.file_stem().unwrap().to_str().unwrap();
            Self::parse(name, &std::fs::read_to_string(file).unwrap())
        };
        files.iter().map(read).collect()
    }

    pub(crate) fn parse(name: &str, text: &str) -> Self {
        let mut dialog = Self {
            name: name.to_owned(),
            settings: SessionSettings { size: Some(1_000_000), ..SessionSettings::new("mx.example") },
            users: Vec::new(),
            answers: VecDeque::new(),
            steps: Vec::new(),
        };
        let mut packet = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let place = format!("{name}.txt:{}: {line}", number + 1);
            let (mark, rest) = line.split_at(line.len().min(2));
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            match mark {
                "" | "# " | "#" => {}
                "C:" => packet.extend([unescaped(rest), b"\r\n".to_vec()].concat()),
                "R:" => packet.extend(unescaped(rest)),
                _ => {
                    if !packet.is_empty() && mark != "M:" {
                        dialog.steps.push(Step::Send(std::mem::take(&mut packet)));
                    }
                    match mark {
                        "S:" => dialog.steps.push(match rest.strip_suffix(" ...") {
                            Some(code) => Step::Reply(code.to_owned()),
                            None => Step::Line(rest.to_owned()),
                        }),
                        "E:" => {
                            let mut paths = rest.split(' ').map(str::to_owned);
                            let from = paths.next().expect(&place);
                            dialog.steps.push(Step::Message { from, to: paths.collect(), body: None });
                        }
                        "M:" => {
                            let Some(Step::Message { body, .. }) = dialog.steps.last_mut() else { panic!("{place}") };
                            let line = [unescaped(rest), b"\r\n".to_vec()].concat();
                            body.get_or_insert_default().extend(line);
                        }
                        "! " => dialog.directive(rest, &place),
                        _ => panic!("{place}"),
                    }
                }
            }
        }
        if !packet.is_empty() {
            dialog.steps.push(Step::Send(packet));
        }
        dialog
    }

    fn directive(&mut self, line: &str, place: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["user", name, password] => self.users.push((name.to_owned(), password.to_owned())),
            ["answer", event, code, enhanced, ..] => {
                let reply = Reply::new(
                    code.parse().expect(place),
                    Some(EnhancedCode::parse(enhanced).expect(place)),
                    [words[4..].join(" ")],
                );
                self.answers.push_back((event.to_owned(), reply));
            }
            ["packet"] => {}
            ["handshake"] => self.steps.push(Step::Handshake),
            ["dropped", why] => self.steps.push(Step::Dropped(why.to_owned())),
            ["closed"] => self.steps.push(Step::Closed),
            _ => self.setting(&words, place),
        }
    }

    /// Settings, before the first step.
    fn setting(&mut self, words: &[&str], place: &str) {
        let settings = &mut self.settings;
        assert!(self.steps.is_empty(), "{place}: a setting stands before the first line of the dialog");
        match *words {
            ["tls"] => settings.tls = TlsState::Secured,
            ["no-login"] => settings.login_required = false,
            ["auth", "never"] => settings.auth = AuthOffer::Never,
            ["auth", "always"] => settings.auth = AuthOffer::Always,
            ["strict"] => settings.tolerant = false,
            ["without", "starttls"] => settings.tls = TlsState::Plain { starttls: false },
            ["without", "pipelining"] => settings.pipelining = false,
            ["without", "chunking"] => settings.chunking = false,
            ["without", "utf8"] => settings.utf8 = false,
            ["without", "dsn"] => settings.dsn = false,
            ["size", octets] => settings.size = Some(octets.parse().expect(place)),
            ["max-recipients", most] => settings.max_recipients = most.parse().expect(place),
            ["max-commands", most] => settings.max_commands = most.parse().expect(place),
            ["max-bad-commands", most] => settings.max_bad_commands = most.parse().expect(place),
            ["max-message-line", most] => settings.max_message_line = most.parse().expect(place),
            _ => panic!("{place}: no such directive"),
        }
    }
}

/// Whether a line of the server is as the file says.
pub(crate) fn matches(said: &str, wanted: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(start) => said.starts_with(start),
        None => said == wanted,
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '{']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        if let Some(inside) = rest.strip_prefix("{base64 ") {
            let (inside, behind) = inside.split_once('}').unwrap();
            bytes.extend_from_slice(STANDARD.encode(unescaped(inside)).as_bytes());
            rest = behind;
        } else if let Some(inside) = rest.strip_prefix("{repeat ") {
            let (inside, behind) = inside.split_once('}').unwrap();
            let (times, what) = inside.split_once(' ').unwrap();
            bytes.extend(unescaped(what).repeat(times.parse().unwrap()));
            rest = behind;
        } else if let Some(hex) = rest.strip_prefix("\\x") {
            bytes.push(u8::from_str_radix(&hex[..2], 16).unwrap());
            rest = &hex[2..];
        } else {
            let (byte, length) = match rest.as_bytes() {
                [b'\\', b'r', ..] => (b'\r', 2),
                [b'\\', b'n', ..] => (b'\n', 2),
                [b'\\', b't', ..] => (b'\t', 2),
                [b'\\', b'0', ..] => (0, 2),
                [b'\\', b'\\', ..] => (b'\\', 2),
                [other, ..] => (*other, 1),
                [] => unreachable!(),
            };
            bytes.push(byte);
            rest = &rest[length..];
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
