//! What holds of every repaired message, whatever was handed in: for the mutated corpus and for the fuzz target.

use postkey_base::EmailAddress;
use postkey_transport::{Carrier, Envelope, Message, Stamp, prepare};

/// Checks one message, as each carrier would get it.
pub(crate) fn repairs_hold(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes.to_vec()) else { return };
    let address = |text: &str| text.parse::<EmailAddress>().expect("it is written here");
    let envelope = Envelope::new(address("a@x.example"), [address("b@y.example"), address("c@z.example")]);
    let envelope = envelope.expect("it names recipients");
    let stamp = Stamp { id: uuid::Uuid::from_u128(7), at: jiff::Timestamp::UNIX_EPOCH };
    for carrier in [Carrier::Graph, Carrier::Smtp, Carrier::SmtpSevenBit] {
        let Ok(prepared) = prepare(&message, &envelope, carrier, &stamp) else { continue };
        let again = prepare(&message, &envelope, carrier, &stamp).expect("it went a moment ago");
        assert_eq!(prepared.bytes(), again.bytes(), "{carrier:?}: an attempt sends what the one before it sent");
        assert_eq!(prepared.undone(), bytes, "{carrier:?}: every change is listed");
        let repaired = Message::parse(prepared.bytes().clone()).expect("what is sent is a message");
        assert!(repaired.value("X-Postkey-Id").is_some(), "{carrier:?}: our stamp travels");
        if carrier != Carrier::Graph {
            assert!(has_whole_lines(prepared.bytes()), "{carrier:?}: a bare CR or LF would end it early");
        }
    }
}

fn has_whole_lines(bytes: &[u8]) -> bool {
    let follows = |at: usize, byte: u8| bytes.get(at + 1) == Some(&byte);
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'\r' => follows(at, b'\n'),
        b'\n' => at > 0 && bytes[at - 1] == b'\r',
        _ => true,
    })
}
