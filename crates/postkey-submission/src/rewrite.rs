//! What a rule changes in a message at the door: each change named and listed, every other byte as it came.

use std::ops::Range;

use bytes::Bytes;
use postkey_base::EmailAddress;
use postkey_transport::Message;
use serde::Serialize;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rewriting {
    /// Its name.
    pub kind: RewritingKind,
    /// What was changed, for people.
    pub detail: String,
}

/// Which change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RewritingKind {
    /// The reverse-path became the submitter's forced sender.
    ForceEnvelope,
    /// From or Sender became the submitter's forced sender; a display name stays.
    ForceFrom,
    /// The field that carries the idempotency key was taken out.
    TakeIdempotencyKey,
}

/// Puts `forced` into From, and into Sender where there is one. Other bytes, a display name among them, stay. `None` when
/// nothing is to be changed; a missing From is added on the way out.
pub(crate) fn force_from(message: &Message, forced: &EmailAddress) -> Option<(Bytes, Vec<Rewriting>)> {
    let mut splices = Vec::new();
    let mut rewritings = Vec::new();
    for name in ["From", "Sender"] {
        for field in message.named(name) {
            let listed = message.listed_in(field);
            if matches!(&listed[..], [only] if only.address.as_ref().is_ok_and(|address| address == forced)) {
                continue;
            }
            let value = &message.raw()[field.value.clone()];
            let kept = listed.first().map_or(&[][..], |first| display_name(&message.raw()[first.at.clone()]));
            let mut new = Vec::with_capacity(kept.len() + forced.as_str().len() + 4);
            new.push(b' ');
            if kept.is_empty() {
                new.extend_from_slice(forced.as_str().as_bytes());
            } else {
                new.extend_from_slice(kept);
                new.extend_from_slice(b" <");
                new.extend_from_slice(forced.as_str().as_bytes());
                new.push(b'>');
            }
            let old = String::from_utf8_lossy(value).trim().chars().take(200).collect::<String>();
            rewritings
                .push(Rewriting { kind: RewritingKind::ForceFrom, detail: format!("{name}: {old:?} became {forced}") });
            splices.push((field.value.clone(), new));
        }
    }
    (!splices.is_empty()).then(|| (spliced(message.raw(), splices), rewritings))
}

/// What stands before the angle bracket, trimmed: a display name as it was written.
fn display_name(mailbox: &[u8]) -> &[u8] {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in mailbox.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'<' if !quoted => return mailbox[..at].trim_ascii(),
            _ => {}
        }
    }
    &[]
}

/// Takes out every field of this name; gives the value of the first, trimmed.
pub(crate) fn take_field(message: &Message, name: &str) -> Option<(Bytes, String)> {
    let places: Vec<_> = message.named(name).map(|field| (field.whole.clone(), Vec::new())).collect();
    let value = message.value(name)?;
    let value = String::from_utf8_lossy(value).trim().to_owned();
    Some((spliced(message.raw(), places), value))
}

fn spliced(raw: &[u8], mut splices: Vec<(Range<usize>, Vec<u8>)>) -> Bytes {
    splices.sort_by_key(|(place, _)| place.start);
    let mut out = Vec::with_capacity(raw.len() + splices.iter().map(|(_, new)| new.len()).sum::<usize>());
    let mut next = 0;
    for (place, new) in splices {
        out.extend_from_slice(&raw[next..place.start]);
        out.extend_from_slice(&new);
        next = place.end;
    }
    out.extend_from_slice(&raw[next..]);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forced(headers: &str) -> Option<String> {
        let message = Message::parse(format!("{headers}\r\n\r\nbody\r\n").into_bytes()).unwrap();
        let (bytes, rewritings) = force_from(&message, &"noreply@contoso.example".parse().unwrap())?;
        assert!(!rewritings.is_empty());
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Some(text.strip_suffix("\r\n\r\nbody\r\n").expect("the body stays").to_owned())
    }

    #[test]
    fn only_the_address_of_from_and_sender_is_changed() {
        for (headers, want) in [
            (
                "To: a@x.example\r\nFrom: scan@local\r\nSubject: x",
                Some("To: a@x.example\r\nFrom: noreply@contoso.example\r\nSubject: x"),
            ),
            ("From: \"Scanner <3>\" <scan@local>", Some("From: \"Scanner <3>\" <noreply@contoso.example>")),
            (
                "From: Scanner\r\n <scan@local>, b@local\r\nTo: c@local",
                Some("From: Scanner <noreply@contoso.example>\r\nTo: c@local"),
            ),
            ("From: A <NoReply@contoso.example>", None),
            ("From:\r\nSender: root@local", Some("From: noreply@contoso.example\r\nSender: noreply@contoso.example")),
            ("Subject: no From at all", None),
            ("From: x@local\r\nFrom: y@local", Some("From: noreply@contoso.example\r\nFrom: noreply@contoso.example")),
        ] {
            assert_eq!(forced(headers).as_deref(), want, "{headers:?}");
        }
    }

    #[test]
    fn a_taken_field_leaves_no_trace_and_every_other_byte_stays() {
        let raw = "A: 1\r\nX-Key:  k 1 \r\nB: 2\r\nx-key: k2\r\n folded\r\nC: 3\r\n\r\nX-Key: body\r\n";
        let message = Message::parse(raw.as_bytes().to_vec()).unwrap();
        let (bytes, value) = take_field(&message, "X-Key").unwrap();
        assert_eq!((&bytes[..], value.as_str()), (&b"A: 1\r\nB: 2\r\nC: 3\r\n\r\nX-Key: body\r\n"[..], "k 1"));
        assert!(take_field(&message, "X-Other").is_none());
    }
}
