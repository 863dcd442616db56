//! Sessions as a driver sees them; whole dialogs stand in `tests/dialogs`.

use super::*;
use crate::Reply;

fn settings() -> SessionSettings {
    SessionSettings { login_required: false, size: Some(1000), ..SessionSettings::new("mx.example") }
}

/// Feeds the pieces, accepts everything, makes every handshake; gives all that was written and every event but the
/// mere wishes to read and to write.
fn played<'a>(settings: SessionSettings, pieces: impl IntoIterator<Item = &'a [u8]>) -> (String, Vec<Event>) {
    let (mut session, mut written, mut events) = (Session::new(settings), Vec::new(), Vec::new());
    let mut pieces = pieces.into_iter();
    loop {
        match session.next() {
            Event::NeedsInput => match pieces.next() {
                Some(piece) => session.feed(piece),
                None => break,
            },
            Event::Write => written.extend_from_slice(&session.take_output()),
            event => {
                let over = matches!(event, Event::Closed(_));
                match &event {
                    Event::StartTls { .. } => session.secured(),
                    event if event.asks() => session.answer(Answer::Accept),
                    _ => {}
                }
                events.push(event);
                if over {
                    break;
                }
            }
        }
    }
    (String::from_utf8(written).unwrap(), events)
}

fn codes(written: &str) -> Vec<&str> {
    written.lines().filter(|line| line.as_bytes()[3] == b' ').map(|line| &line[..3]).collect()
}

#[test]
fn a_message_goes_through() {
    let wire = b"EHLO a.example\r\nMAIL FROM:<a@b.example> SIZE=9\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: x\r\n\r\n..y\r\n.\r\nQUIT\r\n";
    let (written, events) = played(settings(), [&wire[..]]);
    assert_eq!(codes(&written), ["220", "250", "250", "250", "354", "250", "221"], "{written}");
    let Some(Event::Message(received)) = events.iter().find(|event| matches!(event, Event::Message(_))) else {
        panic!("{events:?}");
    };
    assert_eq!(&received.body[..], b"Subject: x\r\n\r\n.y\r\n");
    assert_eq!(received.longest_line, 10);
    assert_eq!(received.envelope.recipients[0].to.as_str(), "c@d.example");
    assert_eq!(events.last(), Some(&Event::Closed(End::Quit)));
}

#[test]
fn the_answer_does_not_depend_on_packet_boundaries() {
    for wire in [
        &b"EHLO a\r\nMAIL FROM:<ops@contoso.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\na\r\n.\r\nNOOP\r\n"[..],
        b"EHLO a\r\nMAIL FROM:<ops@contoso.example>\nRSET\r\n", // RFC 5321 2.3.8
        b"EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\na\n.\nMAIL FROM:<e@e.example>\r\n.\r\nNOOP\r\n",
        b"EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nBDAT 3\r\na\r\nBDAT 4 LAST\r\n.\r\n\rNOOP\r\n",
        b"EHLO a\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\nBDAT x\r\nNOOP\r\n",
        b"GET / HTTP/1.1\r\nHost: mx.example\r\n\r\n",
    ] {
        let whole = played(settings(), [wire]);
        for cut in 0..=wire.len() {
            assert_eq!(played(settings(), [&wire[..cut], &wire[cut..]]), whole, "{:?} cut at {cut}", wire.escape_ascii());
        }
        assert_eq!(played(settings(), wire.chunks(1)), whole, "{:?} byte by byte", wire.escape_ascii());
    }
}

#[test]
fn long_lines_are_refused_where_they_end_and_endless_ones_end_the_session() {
    for (length, want) in [(4000, "500"), (5000, "500"), (64 * 1024, "421"), (1024 * 1024, "421")] {
        let wire = [&b"EHLO a\r\nX"[..], &vec![b'x'; length], b"\r\nNOOP\r\n"].concat();
        let whole = played(settings(), [&wire[..]]);
        assert_eq!(codes(&whole.0)[2], want, "{length}");
        for size in [1000, 4096, 4097] {
            assert_eq!(played(settings(), wire.chunks(size)), whole, "{length} in pieces of {size}");
        }
    }
}

#[test]
fn what_was_said_before_tls_is_forgotten() {
    let wire = b"EHLO a\r\nMAIL FROM:<a@b.example>\r\nSTARTTLS\r\nRCPT TO:<eve@evil.example>\r\n";
    let (written, events) = played(settings(), [&wire[..], b"MAIL FROM:<a@b.example>\r\n"]);
    assert!(events.contains(&Event::StartTls { discarded: 28 }), "{events:?}");
    assert!(events.contains(&Event::Dropped(Dropped::Reset)));
    assert_eq!(codes(&written), ["220", "250", "250", "220", "503"], "{written}");
}

#[test]
fn the_driver_can_close_at_any_time_and_before_the_greeting() {
    let busy = Reply::new(421, None, ["mx.example is busy"]);
    let mut session = Session::new(settings());
    session.close(&busy);
    assert_eq!(session.next(), Event::Write);
    assert_eq!(&session.take_output()[..], b"421 mx.example is busy\r\n");
    assert_eq!(session.next(), Event::Closed(End::Ours));
    session.feed(b"NOOP\r\n");
    assert_eq!(session.next(), Event::Closed(End::Ours));
}

#[test]
fn who_is_fed_unasked_does_not_grow_without_bound() {
    let mut session = Session::new(settings());
    session.feed(b"EHLO a\r\nMAIL FROM:<a@b.example>\r\n");
    while !matches!(session.next(), Event::Mail(_)) {
        session.take_output();
    }
    for _ in 0..100 {
        session.feed(&[b'x'; 16 * 1024]);
    }
    let mut events = Vec::new();
    while !matches!(events.last(), Some(Event::Closed(_))) {
        session.take_output();
        events.push(session.next());
    }
    assert_eq!(events.last(), Some(&Event::Closed(End::Flooded)));
}

#[test]
fn an_idle_session_is_small() {
    let mut session = Session::new(settings());
    let wire = [&b"EHLO a\r\n"[..], &b"NOOP\r\n".repeat(5000)].concat();
    for piece in wire.chunks(60_000) {
        session.feed(piece);
        loop {
            match session.next() {
                Event::Write => drop(session.take_output()),
                Event::NeedsInput | Event::Closed(_) => break,
                event => panic!("{event:?}"),
            }
        }
    }
    let text = format!("{session:?}");
    assert!(text.contains("0 bytes to write"), "{text}");
    assert!(size_of::<Session>() <= 1024, "{}", size_of::<Session>());
}
