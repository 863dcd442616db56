//! SMTP dialogs kept as text, run through the pure session at every split of the client's bytes.

use crate::exchange::smtp::{Ask, Session, Surroundings, unsuccessful};

const TOKEN: &str = "EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA";

fn session() -> Session {
    Session::new(Surroundings {
        host: "mail.example".into(),
        peer: "203.0.113.7".into(),
        date: "Sun, 23 Nov 2025 11:12:20 +0000".into(),
        session_id: "08DE2A6028D26C22".into(),
        size: 200,
    })
}

/// Goes on until it needs bytes; true = it wants a handshake.
fn run(session: &mut Session) -> bool {
    loop {
        match session.next() {
            Ask::Input | Ask::Close => return false,
            Ask::Handshake => return true,
            Ask::Authenticate { token, .. } => {
                session.authenticated(if token == TOKEN { Ok(()) } else { Err(unsuccessful("mail.example")) });
            }
            Ask::Recipient(address) => session.answer_recipient(if address.starts_with("refused") {
                Err("550 5.1.10 Recipient not found".into())
            } else {
                Ok(())
            }),
            Ask::Message(envelope) => session.answer_message(&format!(
                "250 2.0.0 OK {} [{}] {:?}",
                envelope.from,
                envelope.recipients.join(","),
                String::from_utf8(envelope.mime).unwrap()
            )),
        }
    }
}

/// One part of a dialog, up to a handshake: what the client sends and what it must get back.
fn parts(dialog: &str) -> Vec<(Vec<u8>, String)> {
    let mut parts = vec![(Vec::new(), String::new())];
    for line in dialog.lines() {
        let (bytes, want) = parts.last_mut().unwrap();
        if let Some(sent) = line.strip_prefix("C: ") {
            bytes.extend_from_slice(sent.replace("\\r", "\r").replace("\\n", "\n").as_bytes());
            bytes.extend_from_slice(b"\r\n");
        } else if let Some(answer) = line.strip_prefix("S: ") {
            want.push_str(answer);
            want.push_str("\r\n");
        } else if line == "TLS" {
            parts.push((Vec::new(), String::new()));
        } else {
            assert!(line.starts_with('#') || line.is_empty(), "{line}");
        }
    }
    parts
}

#[test]
fn dialogs_go_as_written_however_the_bytes_arrive() {
    for (name, dialog) in [
        ("greeting-and-tls", include_str!("dialogs/greeting-and-tls.txt")),
        ("authentication", include_str!("dialogs/authentication.txt")),
        ("submission", include_str!("dialogs/submission.txt")),
    ] {
        let parts = parts(dialog);
        let longest = parts.iter().map(|(bytes, _)| bytes.len()).max().unwrap();
        for cut in 0..=longest {
            let mut session = session();
            for (index, (bytes, want)) in parts.iter().enumerate() {
                if index > 0 {
                    session.tls_started();
                }
                let (first, second) = bytes.split_at(cut.min(bytes.len()));
                let mut handshake = false;
                for piece in [first, second] {
                    // Bytes behind STARTTLS belong to the handshake, not to the session.
                    if !handshake {
                        session.feed(piece);
                        handshake = run(&mut session);
                    }
                }
                assert_eq!(handshake, index + 1 < parts.len(), "{name} cut at {cut}");
                let got = String::from_utf8(session.take_output()).unwrap();
                assert_eq!(&got, want, "{name} cut at {cut}");
            }
        }
    }
}

#[test]
fn lines_have_a_limit_and_tokens_a_larger_one() {
    let mut session = session();
    session.feed(b"HELO c\r\nSTARTTLS\r\n");
    assert!(run(&mut session));
    session.tls_started();
    session.take_output();
    for (line, want) in [
        (format!("HELO {}", "x".repeat(3_000)), "500 5.5.2"),
        ("HELO c".into(), "250 "),
        (format!("AUTH XOAUTH2 {}", "A".repeat(12_000)), "535 5.7.3"),
        (format!("AUTH XOAUTH2 {}", "A".repeat(13_000)), "500 5.5.2"),
        ("NOOP".into(), "250 2.0.0 OK"),
    ] {
        session.feed(format!("{line}\r\n").as_bytes());
        run(&mut session);
        let got = String::from_utf8(session.take_output()).unwrap();
        assert!(got.starts_with(want) && got.matches("\r\n").count() == 1, "{want} {got}");
    }
}

#[test]
fn endless_mistakes_end_the_connection() {
    let mut session = session();
    session.feed("WHAT\r\n".repeat(100).as_bytes());
    run(&mut session);
    let got = String::from_utf8(session.take_output()).unwrap();
    assert!(got.ends_with("closing transmission channel\r\n"), "{got}");
    assert_eq!(session.next(), Ask::Close);
}
