//! What holds for any bytes a client may send; shared with the fuzz targets.

use postkey_smtp::{
    proxy_protocol::{MAX_HEADER, Progress, read_header},
    server::{Answer, Event, Session, SessionSettings},
};

/// What a session made of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Played {
    pub(crate) written: Vec<u8>,
    pub(crate) events: Vec<Event>,
}

/// Settings under which all of the session can be reached.
pub(crate) fn open() -> SessionSettings {
    SessionSettings {
        login_required: false,
        auth: postkey_smtp::server::AuthOffer::Always,
        size: Some(4000),
        max_recipients: 5,
        max_commands: 60,
        max_message_line: 900,
        ..SessionSettings::new("mx.example")
    }
}

/// Feeds the pieces and says yes to everything, up to STARTTLS: what stands behind it is thrown away as it was cut.
pub(crate) fn play<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Played {
    let mut session = Session::new(open());
    let mut played = Played { written: Vec::new(), events: Vec::new() };
    let mut pieces = pieces.into_iter();
    loop {
        match session.next() {
            Event::NeedsInput => match pieces.next() {
                Some(piece) => session.feed(piece),
                None => return played,
            },
            Event::Write => {
                let output = session.take_output();
                assert!(!output.is_empty(), "told to write nothing");
                played.written.extend_from_slice(&output);
            }
            Event::StartTls { .. } => {
                played.events.push(Event::StartTls { discarded: 0 });
                return played;
            }
            event => {
                let over = matches!(event, Event::Closed(_));
                if event.asks() {
                    session.answer(Answer::Accept);
                }
                played.events.push(event);
                if over {
                    return played;
                }
            }
        }
    }
}

/// Any bytes, cut at any places: the same events, well-formed replies, and messages that hold what they promise.
pub(crate) fn holds(bytes: &[u8], cuts: &[usize]) {
    let whole = play([bytes]);
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    places.sort_unstable();
    let cut = play(places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]));
    assert_eq!(whole, cut, "{}", bytes.escape_ascii());
    replies_are_well_formed(&whole.written);
    let (mut messages, mut begun) = (0, 0);
    for event in &whole.events {
        match event {
            Event::Message(received) => {
                messages += 1;
                let body = &received.body;
                assert!(body.len() <= 4000 && received.longest_line <= 900, "{}", bytes.escape_ascii());
                assert!(line_ends_are_whole(body) && !body.contains(&0), "{}", body.escape_ascii());
                assert_eq!(received.eight_bit, !body.is_ascii());
                assert!((1..=5).contains(&received.envelope.recipients.len()));
                let mail = &received.envelope.mail;
                let paths = received.envelope.recipients.iter().map(|found| &found.to).chain(&mail.from);
                for path in paths {
                    assert!(stands_in_a_header(path.as_str()), "{path:?}");
                    assert!(mail.utf8 || path.is_ascii(), "{path:?}");
                }
                assert!(mail.envid.iter().chain(&mail.auth).all(|text| stands_in_a_header(text)));
                let orcpts = received.envelope.recipients.iter().filter_map(|found| found.orcpt.as_deref());
                assert!(orcpts.into_iter().all(stands_in_a_header));
            }
            Event::Data { .. } => begun += 1,
            Event::Authenticate(credentials) => assert!(stands_in_a_header(&credentials.name)),
            _ => {}
        }
    }
    assert!(messages <= begun);
}

/// Places to cut these bytes at, which are the same each time they are tried.
pub(crate) fn cuts_of(bytes: &[u8]) -> Vec<usize> {
    // FNV-1a
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    (0..4).map(|part| (hash >> (16 * part)) as usize & 0xffff).collect()
}

fn replies_are_well_formed(written: &[u8]) {
    let text = std::str::from_utf8(written).expect("replies are ASCII");
    assert!(text.is_empty() || text.ends_with("\r\n"));
    for line in text.split_terminator("\r\n") {
        let bytes = line.as_bytes();
        assert!((4..=510).contains(&bytes.len()), "{line:?}");
        assert!(bytes[..3].iter().all(u8::is_ascii_digit) && b" -".contains(&bytes[3]), "{line:?}");
        assert!(bytes.iter().all(|byte| (b' '..=b'~').contains(byte)), "{line:?}");
    }
}

/// Every CR before an LF, every LF behind a CR.
fn line_ends_are_whole(body: &[u8]) -> bool {
    (0..body.len()).all(|at| match body[at] {
        b'\r' => body.get(at + 1) == Some(&b'\n'),
        b'\n' => at > 0 && body[at - 1] == b'\r',
        _ => true,
    })
}

fn stands_in_a_header(text: &str) -> bool {
    !text.contains(char::is_control)
}

/// A message's body after DATA, the wire cut at any places: it ends exactly at the first CRLF `.` CRLF, what stands
/// behind it is a command again, and a reader that takes lone line ends for line ends could not disagree.
pub(crate) fn body_holds(body: &[u8], cuts: &[usize]) {
    const BEFORE: &[u8] = b"EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";
    let wire = [BEFORE, body].concat();
    let cuts: Vec<usize> = cuts.iter().map(|cut| BEFORE.len() + cut % (body.len() + 1)).collect();
    holds(&wire, &cuts);
    let messages = |wire: &[u8]| {
        play([wire])
            .events
            .into_iter()
            .filter_map(|event| match event {
                Event::Message(received) => Some(received),
                _ => None,
            })
            .next()
    };
    let ends = if body.starts_with(b".\r\n") { Some(0) } else { find(body, b"\r\n.\r\n").map(|at| at + 2) };
    let Some(ends) = ends else {
        return assert!(messages(&wire).is_none(), "{}", body.escape_ascii());
    };
    let sent = &body[..ends];
    let good = line_ends_are_whole(sent) && !sent.contains(&0) && sent.len() <= 4000;
    let got = messages(&[BEFORE, &body[..ends + 3]].concat());
    if let Some(received) = &got {
        assert!(line_ends_are_whole(sent), "{}", body.escape_ascii());
        assert_eq!(received.body, unstuffed(sent));
    } else {
        let long = sent.split(|&byte| byte == b'\n').any(|line| line.len() > 900);
        assert!(!good || long, "{}", body.escape_ascii());
    }
}

fn unstuffed(sent: &[u8]) -> Vec<u8> {
    sent.split_inclusive(|&byte| byte == b'\n')
        .flat_map(|line| line.strip_prefix(b".").unwrap_or(line))
        .copied()
        .collect()
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// A PROXY header at the start of some bytes: read or refused, and the same from every prefix that tells.
pub(crate) fn header_holds(bytes: &[u8], cuts: &[usize]) {
    let read = read_header(bytes);
    if let Ok(Progress::Complete { length, .. }) = read {
        assert!(length <= bytes.len() && length <= MAX_HEADER);
        assert_eq!(read_header(&bytes[..length]), read);
        assert_eq!(read_header(&bytes[..length - 1]), Ok(Progress::Incomplete));
    }
    // What fewer bytes told stays true with more.
    for early in cuts.iter().map(|cut| read_header(&bytes[..cut % (bytes.len() + 1)])) {
        assert!(early == Ok(Progress::Incomplete) || early == read, "{}", bytes.escape_ascii());
    }
}
