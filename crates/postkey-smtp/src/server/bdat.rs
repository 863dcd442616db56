//! `BDAT size [LAST]` (RFC 3030).

/// One chunk, as its command announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) octets: u64,
    pub(super) last: bool,
}

/// A chunk that is refused is read to its end all the same; more than this is not worth the line.
const LARGEST: u64 = 1 << 31;

/// Reads the argument. `None`: nobody can tell how much of what follows is the chunk.
pub(super) fn read(argument: &str) -> Option<Chunk> {
    let mut words = argument.split_ascii_whitespace();
    let size = words.next()?;
    let plain = size.len() <= 20 && size.bytes().all(|byte| byte.is_ascii_digit());
    let octets = size.parse::<u64>().ok().filter(|octets| plain && *octets <= LARGEST)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some(Chunk { octets, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_says_its_octets_and_whether_it_is_the_last() {
        for (argument, want) in [
            ("0", Some(Chunk { octets: 0, last: false })),
            ("0 last", Some(Chunk { octets: 0, last: true })),
            ("1000  LAST", Some(Chunk { octets: 1000, last: true })),
            ("", None),
            ("LAST", None),
            ("+5", None),
            ("-5", None),
            ("5 FIRST", None),
            ("5 LAST LAST", None),
            ("4294967296", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(read(argument), want, "{argument:?}");
        }
    }
}
