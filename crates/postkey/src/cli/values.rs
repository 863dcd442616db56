//! Values that several commands read from the command line or show: sizes, times, ranks, ages.

use clap::ValueEnum;
use jiff::{SignedDuration, Span, Timestamp, civil::DateTime, tz::TimeZone};
use postkey_store::Priority;

use crate::failure::Failure;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(u64);

impl Size {
    pub(crate) fn bytes(self) -> u64 {
        self.0
    }
}

/// `20MB`, `500k`, `1 GiB`, `1048576`.
pub(crate) fn size(text: &str) -> Result<Size, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => 0,
    };
    let number: Option<u64> = number.parse().ok();
    match number.and_then(|number| number.checked_mul(factor)) {
        Some(bytes) if bytes > 0 => Ok(Size(bytes)),
        _ => Err("give a size such as 20MB, 500k or 1GiB".into()),
    }
}

/// How a message ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rank {
    /// After all others
    Low,
    /// The usual one
    Normal,
    /// Before all others
    High,
}

impl From<Rank> for Priority {
    fn from(rank: Rank) -> Self {
        match rank {
            Rank::Low => Self::Low,
            Rank::Normal => Self::Normal,
            Rank::High => Self::High,
        }
    }
}

/// `3 min ago`, `in 2 h`, `just now`.
pub(crate) fn ago(now: Timestamp, at: Timestamp) -> String {
    let passed = now.duration_since(at);
    match passed.as_secs() {
        0 => "just now".into(),
        1.. => format!("{} ago", brief(passed)),
        // Rounded: a pause of two hours does not end in one.
        _ => format!("in {}", brief(-passed + half_a_unit(-passed))),
    }
}

/// `2026-11-24 15:00 UTC (in 2 h)`.
pub(crate) fn point(now: Timestamp, at: Timestamp) -> String {
    format!("{} ({})", at.strftime("%Y-%m-%d %H:%M UTC"), ago(now, at))
}

/// The largest unit that fits: `42 s`, `5 min`, `3 h`, `12 d`.
pub(crate) fn brief(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn half_a_unit(length: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(match length.as_secs() {
        ..60 => 0,
        60..3_600 => 30,
        3_600..172_800 => 1_800,
        _ => 43_200,
    })
}

/// `1.4 MB`, `12 kB`, `340 B`.
pub(crate) fn brief_size(bytes: u64) -> String {
    let tenths = |unit: u64| (bytes * 10 / unit) as f64 / 10.0;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{:.1} MB", tenths(1_000_000)),
        _ => format!("{:.1} GB", tenths(1_000_000_000)),
    }
}

/// A moment: `2026-11-24T15:00:00Z`, `2026-11-24 15:00` (UTC), `2026-11-24`.
pub(crate) fn moment(text: &str, option: &str) -> Result<Timestamp, Failure> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let civil = text.trim_end_matches("UTC").trim_end();
    let at = civil.parse::<DateTime>().ok().or_else(|| civil.parse::<jiff::civil::Date>().ok().map(DateTime::from));
    at.and_then(|at| TimeZone::UTC.to_timestamp(at).ok()).ok_or_else(|| {
        Failure::usage(
            format!("{text:?} is no time"),
            format!("Give {option} as 2026-11-24T15:00:00Z, or as 2026-11-24 15:00 in UTC."),
        )
    })
}

/// `2h`, `90 min`, `1d 12h`.
pub(crate) fn length(text: &str, option: &str) -> Result<SignedDuration, Failure> {
    let wrong = || {
        Failure::usage(format!("{text:?} is no length of time"), format!("Give {option} such as 30min, 2h or 1d12h."))
    };
    let span: Span = text.trim().parse().map_err(|_| wrong())?;
    // A day is 24 hours here, whatever the clocks do.
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    if length.is_positive() { Ok(length) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("20MB", Some(20_000_000)),
            ("500 k", Some(500_000)),
            ("1GiB", Some(1 << 30)),
            ("1048576", Some(1_048_576)),
            ("0", None),
            ("MB", None),
            ("5 apples", None),
            ("99999999999GB", None),
        ] {
            assert_eq!(size(text).ok().map(Size::bytes), bytes, "{text:?}");
        }
    }

    #[test]
    fn ages_are_told_in_their_largest_unit() {
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        for (at, said) in [
            ("2026-11-24T10:00:00Z", "just now"),
            ("2026-11-24T09:59:18Z", "42 s ago"),
            ("2026-11-24T09:55:00Z", "5 min ago"),
            ("2026-11-23T06:00:00Z", "28 h ago"),
            ("2026-11-12T10:00:00Z", "12 d ago"),
            ("2026-11-24T12:00:00Z", "in 2 h"),
        ] {
            assert_eq!(ago(now, at.parse().unwrap()), said);
        }
    }

    #[test]
    fn times_and_lengths_are_read_as_people_write_them() {
        let at = |text| moment(text, "--until").ok().map(|at| at.to_string());
        for text in ["2026-11-24T15:00:00Z", "2026-11-24 15:00", "2026-11-24 15:00 UTC", "2026-11-24T16:00:00+01:00"] {
            assert_eq!(at(text).as_deref(), Some("2026-11-24T15:00:00Z"), "{text}");
        }
        assert_eq!(at("2026-11-24").as_deref(), Some("2026-11-24T00:00:00Z"));
        assert_eq!(at("tomorrow"), None);
        for (text, seconds) in
            [("2h", Some(7_200)), ("90 min", Some(5_400)), ("1d12h", Some(129_600)), ("-2h", None), ("soon", None)]
        {
            assert_eq!(length(text, "--for").ok().map(|length| length.as_secs()), seconds, "{text}");
        }
    }
}
