//! Reverse-paths and forward-paths as clients write them (RFC 5321 §4.1.2), old devices included.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    event::Quirks,
    write::{Words, words},
};
use crate::command::Path;

/// A path, what followed it, and the liberties taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written<'a> {
    /// `None` is `<>`.
    pub(super) path: Option<Path>,
    pub(super) parameters: &'a str,
    pub(super) quirks: Quirks,
}

/// Why there is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadPath {
    /// Not `FROM:<…>` or `TO:<…>`.
    Syntax,
    /// No mailbox.
    Mailbox,
    /// A local part alone.
    NoDomain,
}

impl BadPath {
    /// The reply, for MAIL or for RCPT.
    pub(super) fn words(self, mail: bool) -> Words {
        match (self, mail) {
            (Self::Syntax, true) => words(501, "5.5.4", "Write it as MAIL FROM:<address>"),
            (Self::Syntax, false) => words(501, "5.5.4", "Write it as RCPT TO:<address>"),
            (Self::Mailbox, true) => words(501, "5.1.7", "The sender is not an email address"),
            (Self::Mailbox, false) => words(501, "5.1.3", "The recipient is not an email address"),
            (Self::NoDomain, true) => words(553, "5.1.7", "The sender needs a domain: write name@domain"),
            (Self::NoDomain, false) => words(553, "5.1.3", "The recipient needs a domain: write name@domain"),
        }
    }
}

/// Reads what follows MAIL or RCPT: `keyword` is `FROM` or `TO`.
pub(super) fn read<'a>(argument: &'a str, keyword: &str, tolerant: bool) -> Result<Written<'a>, BadPath> {
    let mut quirks = Quirks::default();
    let (head, rest) = argument.split_at_checked(keyword.len()).ok_or(BadPath::Syntax)?;
    if !head.eq_ignore_ascii_case(keyword) {
        return Err(BadPath::Syntax);
    }
    let before_colon = if tolerant { rest.trim_start_matches(BLANK) } else { rest };
    let behind = before_colon.strip_prefix(':').ok_or(BadPath::Syntax)?;
    let text = behind.trim_start_matches(BLANK);
    quirks.blank_after_colon = text.len() < behind.len();
    let (inside, rest) = match text.strip_prefix('<') {
        Some(inside) => {
            let end = find_outside_quotes(inside, |c| c == '>').ok_or(BadPath::Syntax)?;
            (&inside[..end], &inside[end + 1..])
        }
        None => {
            quirks.no_brackets = true;
            text.split_at(find_outside_quotes(text, |c| BLANK.contains(&c)).unwrap_or(text.len()))
        }
    };
    if !tolerant && (quirks.blank_after_colon || quirks.no_brackets) || quirks.no_brackets && inside.is_empty() {
        return Err(BadPath::Syntax);
    }
    let parameters = rest.trim_matches(BLANK);
    if !rest.is_empty() && !rest.starts_with(BLANK) {
        return Err(BadPath::Syntax);
    }
    if inside.is_empty() {
        return Ok(Written { path: None, parameters, quirks });
    }
    let address = match inside.starts_with('@') {
        true => {
            quirks.source_route = true;
            behind_route(inside).ok_or(BadPath::Mailbox)?
        }
        false => inside,
    };
    Ok(Written { path: Some(mailbox(address)?), parameters, quirks })
}

pub(super) const BLANK: [char; 2] = [' ', '\t'];

/// `local@domain` or `local@[address]`, stricter than [`Path::parse`], which must take what others accepted.
pub(super) fn mailbox(address: &str) -> Result<Path, BadPath> {
    let Some((local, domain)) = address.rsplit_once('@') else {
        return Err(if address.is_empty() { BadPath::Mailbox } else { BadPath::NoDomain });
    };
    // RFC 5321 §4.5.3.1.1; Path holds the 254 octets of the whole.
    if local.len() > 64 || !(is_literal(domain) || is_domain(domain)) {
        return Err(BadPath::Mailbox);
    }
    Path::parse(address).map_err(|_| BadPath::Mailbox)
}

fn is_domain(text: &str) -> bool {
    text.len() <= 255
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                // An underscore is no host name, yet stands in many an internal domain.
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || !c.is_ascii())
        })
}

/// RFC 5321 §4.1.3.
fn is_literal(text: &str) -> bool {
    let Some(inside) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return false };
    match inside.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => address.parse::<Ipv6Addr>().is_ok(),
        _ => inside.parse::<Ipv4Addr>().is_ok(),
    }
}

/// `@relay.example,@other.example:local@domain` without its route.
fn behind_route(text: &str) -> Option<&str> {
    let mut in_literal = false;
    let end = text.find(|c| {
        in_literal = match c {
            '[' => true,
            ']' => false,
            _ => in_literal,
        };
        c == ':' && !in_literal
    })?;
    let routed = text[..end].split(',').all(|relay| {
        let relay = relay.trim_matches(BLANK).strip_prefix('@');
        relay.is_some_and(|relay| is_domain(relay) || is_literal(relay))
    });
    routed.then(|| &text[end + 1..])
}

fn find_outside_quotes(text: &str, wanted: impl Fn(char) -> bool) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if !quoted && wanted(c) => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(argument: &str, tolerant: bool) -> Result<(String, String, Vec<&'static str>), BadPath> {
        read(argument, "FROM", tolerant).map(|written| {
            let path = written.path.map_or("<>".to_owned(), |path| path.to_string());
            (path, written.parameters.to_owned(), written.quirks.names().collect())
        })
    }

    #[test]
    fn paths_are_read_as_written_and_liberties_are_told() {
        let good = |path: &str, parameters: &str| Ok((path.to_owned(), parameters.to_owned(), vec![]));
        for (argument, want) in [
            ("FROM:<a@b.example>", good("a@b.example", "")),
            ("from:<a@b.example> SIZE=1  BODY=7BIT ", good("a@b.example", "SIZE=1  BODY=7BIT")),
            ("FROM:<>", good("<>", "")),
            ("FROM:<> SIZE=1", good("<>", "SIZE=1")),
            ("FROM:<a@[192.0.2.1]>", good("a@[192.0.2.1]", "")),
            ("FROM:<a@[IPv6:2001:db8::1]>", good("a@[IPv6:2001:db8::1]", "")),
            ("FROM:<\"a b\"@c.example>", good("\"a b\"@c.example", "")),
            ("FROM:<\"a@b\"@c.example>", good("\"a@b\"@c.example", "")),
            ("FROM:<a..b@c.example>", good("a..b@c.example", "")),
            ("FROM:<jörg@köln.example>", good("jörg@köln.example", "")),
            ("FROM:<scan@under_score.local>", good("scan@under_score.local", "")),
            ("FROM:<a@b.example>SIZE=1", Err(BadPath::Syntax)),
            ("FROM<a@b.example>", Err(BadPath::Syntax)),
            ("TO:<a@b.example>", Err(BadPath::Syntax)),
            ("FR", Err(BadPath::Syntax)),
            ("FROM:", Err(BadPath::Syntax)),
            ("FROM:<a@b.example", Err(BadPath::Syntax)),
            ("FROM:<\"a@b.example>", Err(BadPath::Syntax)),
            ("FROM:<\"a>b\"@c.example>", Err(BadPath::Mailbox)),
            ("FROM:<postmaster>", Err(BadPath::NoDomain)),
            ("FROM:<@b.example>", Err(BadPath::Mailbox)),
            ("FROM:<a@>", Err(BadPath::Mailbox)),
            ("FROM:<a@-b.example>", Err(BadPath::Mailbox)),
            ("FROM:<a@b..example>", Err(BadPath::Mailbox)),
            ("FROM:<a@b.example.>", Err(BadPath::Mailbox)),
            ("FROM:<a@[999.0.0.1]>", Err(BadPath::Mailbox)),
            ("FROM:<a b@c.example>", Err(BadPath::Mailbox)),
            ("FROM:<a@b@c.example>", Err(BadPath::Mailbox)),
        ] {
            assert_eq!(read_as(argument, true), want, "{argument:?}");
        }
        let long = format!("FROM:<{}@b.example>", "a".repeat(65));
        assert_eq!(read_as(&long, true), Err(BadPath::Mailbox));
    }

    #[test]
    fn old_devices_are_understood_unless_that_is_switched_off() {
        for (argument, path, quirks) in [
            ("FROM: <a@b.example>", "a@b.example", &["blank after colon"][..]),
            ("FROM:a@b.example SIZE=1", "a@b.example", &["no angle brackets"]),
            ("FROM: a@b.example", "a@b.example", &["blank after colon", "no angle brackets"]),
            ("FROM : <a@b.example>", "a@b.example", &["blank after colon"]),
        ] {
            let (found, _, told) = read_as(argument, true).unwrap();
            assert_eq!((found.as_str(), told.as_slice()), (path, quirks), "{argument:?}");
            assert_eq!(read_as(argument, false), Err(BadPath::Syntax), "{argument:?}");
        }
        for argument in ["FROM:<@r.example:a@b.example>", "FROM:<@r.example,@[IPv6:::1]:a@b.example>"] {
            let (found, _, told) = read_as(argument, false).unwrap();
            assert_eq!((found.as_str(), told.as_slice()), ("a@b.example", &["source route"][..]), "{argument:?}");
        }
    }
}
