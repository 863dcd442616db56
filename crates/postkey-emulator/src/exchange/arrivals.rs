//! What was accepted and what arrived, by the messages' own names: enough to tell that nothing is lost and nothing comes
//! twice, however many messages there were and whether or not their bytes were kept.

use std::{collections::HashMap, fmt::Write as _};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::mailbox::Letter;

/// The header by which a submitter's own id travels; without it the Message-ID names a message.
const STAMP: &str = "x-postkey-id";
/// Messages remembered one by one. Beyond it only the sums go on.
const MOST_REMEMBERED: usize = 2_000_000;

/// How often one message came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrival {
    /// `Message-ID`, angle brackets included.
    pub message_id: String,
    /// How often it was accepted: more than once is a duplicate.
    pub accepted: u32,
    /// Copies that reached a mailbox or left for another organization.
    pub copies: u32,
    /// SHA-256 of the MIME as first submitted; zeros where it came as JSON.
    pub digest: [u8; 32],
    /// It came again with other bytes.
    pub altered: bool,
}

/// Every message, by its stamp or else by its Message-ID.
#[derive(Debug, Default)]
pub struct Arrivals {
    by_id: HashMap<Box<str>, Arrival>,
    accepted: u64,
    copies: u64,
    repeated: u64,
    beyond: u64,
}

/// The sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Different messages.
    pub messages: usize,
    /// Acceptances.
    pub accepted: u64,
    /// Copies delivered.
    pub copies: u64,
    /// Acceptances of a message that had been accepted before.
    pub repeated: u64,
    /// Messages too many to be remembered one by one.
    pub beyond: u64,
}

/// The name of a message: its stamp, else its Message-ID.
pub(crate) fn name_of(letter: &Letter) -> Option<Box<str>> {
    let stamp = letter.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(STAMP));
    let stamp = stamp.and_then(|(_, value)| Uuid::try_parse(value.trim()).ok());
    match stamp {
        Some(stamp) => Some(stamp.to_string().into()),
        None => letter.message_id.as_deref().map(Into::into),
    }
}

impl Arrivals {
    /// A message was accepted.
    pub(crate) fn accept(&mut self, letter: &Letter, mime: Option<&[u8]>) {
        self.accepted += 1;
        let Some(name) = name_of(letter) else { return };
        if self.by_id.len() >= MOST_REMEMBERED && !self.by_id.contains_key(&name) {
            self.beyond += 1;
            return;
        }
        let digest = mime.map_or([0; 32], |mime| Sha256::digest(mime).into());
        let arrival = self.by_id.entry(name).or_insert_with(|| Arrival {
            message_id: letter.message_id.clone().unwrap_or_default(),
            digest,
            ..Arrival::default()
        });
        arrival.altered |= arrival.digest != digest;
        arrival.accepted += 1;
        self.repeated += u64::from(arrival.accepted > 1);
    }

    /// Copies of a message reached their recipients.
    pub(crate) fn deliver(&mut self, letter: &Letter, copies: u32) {
        self.copies += u64::from(copies);
        if let Some(arrival) = name_of(letter).and_then(|name| self.by_id.get_mut(&name)) {
            arrival.copies += copies;
        }
    }

    /// How often the message of this stamp or Message-ID came.
    pub fn of(&self, name: &str) -> Option<&Arrival> {
        self.by_id.get(name)
    }

    /// The sums.
    pub fn totals(&self) -> Totals {
        Totals {
            messages: self.by_id.len(),
            accepted: self.accepted,
            copies: self.copies,
            repeated: self.repeated,
            beyond: self.beyond,
        }
    }

    /// One line each: name, Message-ID, acceptances, copies, digest, `altered` or nothing; separated by tabs, in no order.
    pub fn lines(&self) -> String {
        let mut text = String::with_capacity(self.by_id.len() * 180);
        for (name, arrival) in &self.by_id {
            let Arrival { message_id, accepted, copies, digest, altered } = arrival;
            let message_id = message_id.replace(char::is_control, " ");
            let altered = if *altered { "altered" } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}\t{message_id}\t{accepted}\t{copies}\t{}\t{altered}", hex::encode(digest));
        }
        text
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(stamp: Option<&str>, message_id: &str) -> Letter {
        Letter {
            headers: stamp.map(|value| ("X-Postkey-Id".to_owned(), value.to_owned())).into_iter().collect(),
            message_id: Some(message_id.into()),
            ..Letter::default()
        }
    }

    #[test]
    fn a_message_is_counted_by_its_stamp_and_else_by_its_message_id() {
        const STAMP: &str = "00000000-0000-0000-0000-000000000007";
        let mut arrivals = Arrivals::default();
        arrivals.accept(&letter(Some(STAMP), "<1@x>"), Some(b"one"));
        arrivals.accept(&letter(Some(STAMP), "<1@x>"), Some(b"one"));
        arrivals.accept(&letter(None, "<1@x>"), Some(b"one"));
        arrivals.accept(&letter(Some("nonsense"), "<2@x>"), None);
        arrivals.deliver(&letter(Some(STAMP), "<1@x>"), 3);
        let counts = |name: &str| arrivals.of(name).map(|one| (one.accepted, one.copies, one.altered));
        assert_eq!(counts(STAMP), Some((2, 3, false)));
        assert_eq!((counts("<1@x>"), counts("<2@x>")), (Some((1, 0, false)), Some((1, 0, false))));
        let totals = Totals { messages: 3, accepted: 4, copies: 3, repeated: 1, beyond: 0 };
        assert_eq!((arrivals.totals(), arrivals.lines().lines().count()), (totals, 3));
        arrivals.accept(&letter(Some(STAMP), "<1@x>"), Some(b"other"));
        assert!(arrivals.of(STAMP).unwrap().altered);
    }
}
