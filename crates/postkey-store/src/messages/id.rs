//! A message's id: a UUIDv7, so that ids sort by time and new rows are appended where the last ones went.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One accepted message. Its stamp and everything that names it outside are made of this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Uuid);

impl MessageId {
    /// A fresh id that sorts behind those of earlier times: to a quarter of a microsecond, so that what one session hands in
    /// one after the other also goes out in that order.
    pub fn at(time: Timestamp) -> Self {
        let milliseconds = u64::try_from(time.as_millisecond()).unwrap_or(0);
        let rest = time.subsec_nanosecond().unsigned_abs() % 1_000_000;
        let mut random = [0; 10];
        rand::fill(&mut random[..]);
        // RFC 9562 §6.2, method 3: the twelve bits behind the milliseconds hold the fraction. 0..4096, so it fits.
        let fraction = u16::try_from(u64::from(rest) * 4096 / 1_000_000).unwrap_or(0xfff);
        [random[0], random[1]] = fraction.to_be_bytes();
        Self(uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid())
    }

    /// The GUID itself.
    pub const fn uuid(self) -> Uuid {
        self.0
    }

    /// The smallest id of a time and the largest of the millisecond before it lie on the two sides of this text.
    pub(crate) fn floor(time: Timestamp) -> String {
        let milliseconds = u64::try_from(time.as_millisecond()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(milliseconds, &[0; 10]).into_uuid().hyphenated().to_string()
    }
}

impl From<Uuid> for MessageId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({})", self.0)
    }
}

impl FromStr for MessageId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text.trim()).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_down_to_the_microsecond() {
        let mut last = MessageId::at(Timestamp::UNIX_EPOCH).to_string();
        for microseconds in [1, 2, 3, 999, 1_000, 1_001, 2_000_000, 1_767_225_600_000_001] {
            let id = MessageId::at(Timestamp::from_microsecond(microseconds).unwrap());
            assert_eq!(id.uuid().get_version_num(), 7);
            assert!(id.to_string() > last, "{id} after {last}");
            last = id.to_string();
        }
        let time = Timestamp::from_millisecond(1_767_225_600_000).unwrap();
        let earlier = Timestamp::from_microsecond(1_767_225_599_999_999).unwrap();
        assert!(MessageId::at(time).to_string() >= MessageId::floor(time));
        assert!(MessageId::at(earlier).to_string() < MessageId::floor(time));
    }
}
