//! Every file of `tests/dialogs`, through the pure session, the client's bytes cut in many ways.

use postkey_smtp::{
    EnhancedCode, Reply,
    server::{Answer, Credentials, Event, Received, Session},
};

use crate::dialog::{Dialog, Step, matches};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialogs");

/// A driver that lets those in who may, and takes everything unless the file says otherwise.
struct Driver {
    session: Session,
    dialog: Dialog,
    said: String,
    messages: Vec<Received>,
    dropped: Vec<String>,
    wants_handshake: bool,
    closed: bool,
}

impl Driver {
    fn run(&mut self) {
        loop {
            match self.session.next() {
                Event::NeedsInput => return,
                Event::Write => self.said.push_str(std::str::from_utf8(&self.session.take_output()).unwrap()),
                Event::StartTls { .. } => {
                    self.wants_handshake = true;
                    return;
                }
                Event::Closed(_) => {
                    self.closed = true;
                    return;
                }
                Event::Dropped(why) => self.dropped.push(format!("{why:?}")),
                Event::Authenticate(credentials) => {
                    let usual = self.signs_in(&credentials);
                    self.answer("auth", usual);
                }
                Event::Mail(_) => self.answer("mail", Answer::Accept),
                Event::Rcpt(_) => self.answer("rcpt", Answer::Accept),
                Event::Data { .. } => self.answer("data", Answer::Accept),
                Event::Message(received) => {
                    self.messages.push(*received);
                    self.answer("message", Answer::Accept);
                }
            }
        }
    }

    fn answer(&mut self, event: &str, usual: Answer) {
        let due = self.dialog.answers.pop_front_if(|(of, _)| of == event);
        self.session.answer(due.map_or(usual, |(_, reply)| Answer::Say(reply)));
    }

    fn signs_in(&self, given: &Credentials) -> Answer {
        let known = |(name, password): &(String, String)| *name == given.name && password == given.password.expose();
        if given.authorization.is_none() && self.dialog.users.iter().any(known) {
            return Answer::Accept;
        }
        Answer::Say(Reply::new(535, EnhancedCode::parse("5.7.8"), ["The name or the password is wrong"]))
    }

    fn line(&mut self) -> Option<String> {
        let (line, rest) = self.said.split_once("\r\n")?;
        let (line, rest) = (line.to_owned(), rest.to_owned());
        self.said = rest;
        Some(line)
    }
}

/// Plays a dialog, the client's packets cut by `cut`: the pieces of a packet.
fn play(dialog: &Dialog, cut: impl Fn(&[u8]) -> Vec<&[u8]>) {
    let (dialog, name) = (dialog.clone(), &dialog.name);
    let steps = dialog.steps.clone();
    let mut driver = Driver {
        session: Session::new(dialog.settings.clone()),
        dialog,
        said: String::new(),
        messages: Vec::new(),
        dropped: Vec::new(),
        wants_handshake: false,
        closed: false,
    };
    driver.run();
    for step in steps {
        match step {
            Step::Send(bytes) => {
                assert_eq!(driver.said, "", "{name}: said before {:?}", bytes.escape_ascii().to_string());
                for piece in cut(&bytes) {
                    driver.session.feed(piece);
                    driver.run();
                }
            }
            Step::Line(wanted) => {
                let said = driver.line().unwrap_or_else(|| panic!("{name}: nothing said, expected {wanted:?}"));
                assert!(matches(&said, &wanted), "{name}: said {said:?}, expected {wanted:?}");
            }
            Step::Reply(code) => loop {
                let said = driver.line().unwrap_or_else(|| panic!("{name}: nothing said, expected a {code}"));
                assert!(said.starts_with(&code), "{name}: said {said:?}, expected a {code}");
                if said.as_bytes()[3] == b' ' {
                    break;
                }
            },
            Step::Handshake => {
                assert!(driver.wants_handshake, "{name}: no handshake is due");
                driver.session.secured();
                driver.run();
            }
            Step::Message { from, to, body } => {
                assert!(!driver.messages.is_empty(), "{name}: no message came");
                let received = driver.messages.remove(0);
                let sender = received.envelope.mail.from.map_or("<>".to_owned(), |path| format!("<{path}>"));
                let paths: Vec<_> =
                    received.envelope.recipients.iter().map(|found| format!("<{}>", found.to)).collect();
                assert_eq!((sender, paths), (from, to), "{name}");
                if let Some(body) = body {
                    let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
                    assert_eq!(shown(&received.body), shown(&body), "{name}");
                }
            }
            Step::Dropped(why) => {
                assert!(!driver.dropped.is_empty(), "{name}: no transaction was dropped, expected {why}");
                assert_eq!(driver.dropped.remove(0), why, "{name}");
            }
            Step::Closed => assert!(driver.closed, "{name}: the session goes on"),
        }
    }
    assert_eq!(driver.said, "", "{name}: said at the end");
    assert!(driver.messages.is_empty(), "{name}: {:?}", driver.messages);
    assert!(driver.dialog.answers.is_empty(), "{name}: answers left: {:?}", driver.dialog.answers);
}

/// Says of every dialog that fails why it does, not of the first alone.
fn each(check: impl Fn(&Dialog)) -> usize {
    let dialogs = Dialog::all(FOLDER);
    let fails = |dialog: &&Dialog| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(dialog))).is_err();
    assert_eq!(dialogs.iter().filter(fails).count(), 0, "dialogs that failed; each says above why");
    dialogs.len()
}

#[test]
fn every_dialog_goes_as_written() {
    let played = each(|dialog| play(dialog, |bytes| vec![bytes]));
    assert!(played >= 30, "{played} dialogs");
}

#[test]
fn no_dialog_depends_on_packet_boundaries() {
    for size in [1, 2, 3, 7, 61] {
        each(|dialog| play(dialog, |bytes| bytes.chunks(size).collect()));
    }
}

#[test]
fn every_single_cut_of_a_dialog_is_harmless() {
    each(|dialog| {
        let packets = dialog.steps.iter().filter_map(|step| match step {
            Step::Send(bytes) => Some(bytes.len()),
            _ => None,
        });
        for at in 0..packets.max().unwrap_or(0).min(600) {
            play(dialog, |bytes| bytes.split_at_checked(at).map_or(vec![bytes], |(a, b)| vec![a, b]));
        }
    });
}
