//! What a server offers in answer to EHLO (RFC 5321 §4.1.1.1), and what a message may miss there.

use std::fmt;

use crate::reply::Reply;

/// An extension the server did not offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// STARTTLS: we send nothing in clear text.
    StartTls,
    /// AUTH XOAUTH2; these mechanisms were offered instead.
    Xoauth2(Vec<String>),
    /// 8BITMIME, for a message with bytes above 127.
    EightBit,
    /// SMTPUTF8, for an address that is not ASCII.
    Utf8,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartTls => f.write_str("STARTTLS"),
            Self::Xoauth2(others) if others.is_empty() => f.write_str("AUTH XOAUTH2 (no AUTH at all)"),
            Self::Xoauth2(others) => write!(f, "AUTH XOAUTH2 (only {})", others.join(", ")),
            Self::EightBit => f.write_str("8BITMIME"),
            Self::Utf8 => f.write_str("SMTPUTF8"),
        }
    }
}

/// What the server's EHLO reply offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offers {
    /// STARTTLS.
    pub start_tls: bool,
    /// Mechanisms of AUTH, upper case.
    pub auth: Vec<String>,
    /// SIZE: `None` not offered, `Some(0)` no fixed limit.
    pub size: Option<u64>,
    /// 8BITMIME.
    pub eight_bit: bool,
    /// SMTPUTF8.
    pub utf8: bool,
    /// PIPELINING.
    pub pipelining: bool,
}

impl Offers {
    /// Reads the keywords of an EHLO reply; its first line is the server's name.
    pub fn read(reply: &Reply) -> Self {
        let mut offers = Self::default();
        for line in reply.lines().iter().skip(1) {
            // Old servers write `AUTH=LOGIN`.
            let line = line.to_ascii_uppercase();
            let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
            match words.next() {
                Some("STARTTLS") => offers.start_tls = true,
                Some("AUTH") => offers.auth.extend(words.map(str::to_owned)),
                Some("SIZE") => offers.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0)),
                Some("8BITMIME") => offers.eight_bit = true,
                Some("SMTPUTF8") => offers.utf8 = true,
                Some("PIPELINING") => offers.pipelining = true,
                _ => {}
            }
        }
        offers
    }
}
