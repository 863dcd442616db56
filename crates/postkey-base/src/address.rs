//! An email address as Exchange Online takes it for a mailbox.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// `local@domain`, a mailbox or a recipient. Compared without regard to case, as Exchange does; shown as written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress(String);

impl EmailAddress {
    /// The address as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the last `@`.
    pub fn local(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(local, _)| local)
    }

    /// What stands after the last `@`.
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error("an email address is missing")]
    Empty,
    /// No `@`, or nothing on one side of it.
    #[error("{0:?} is not an email address: it needs a name, an @ and a domain")]
    Shape(String),
    /// A blank, a control character or one of `<>(),;:"\[]`.
    #[error("{0:?} is not an email address: {1:?} may not stand in it")]
    Character(String, char),
    /// RFC 5321 §4.5.3.1: 64 octets before the `@`, 255 behind it.
    #[error("{0:?} is longer than an email address may be")]
    Length(String),
}

impl FromStr for EmailAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        let shape = || AddressError::Shape(text.to_owned());
        let (local, domain) = text.rsplit_once('@').ok_or_else(shape)?;
        if let Some(bad) = text.chars().find(|&c| c.is_whitespace() || c.is_control() || "<>(),;:\"\\[]".contains(c)) {
            return Err(AddressError::Character(text.to_owned(), bad));
        }
        // RFC 5321 §4.5.3.1.1 and §4.5.3.1.2
        if local.len() > 64 || domain.len() > 255 {
            return Err(AddressError::Length(text.to_owned()));
        }
        let labels_hold =
            domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
        if local.is_empty() || local.contains('@') || !labels_hold {
            return Err(shape());
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> Self {
        address.0
    }
}

impl PartialEq for EmailAddress {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_lowercase() == other.0.to_lowercase()
    }
}

impl Eq for EmailAddress {}

impl std::hash::Hash for EmailAddress {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_lowercase().hash(state);
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmailAddress({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mailbox_address_parses() {
        for (text, good) in [
            ("noreply@contoso.example", true),
            (" alice@contoso.example ", true),
            ("jörg@köln.example", true),
            ("o'brien+tag@contoso.example", true),
            ("alice", false),
            ("@contoso.example", false),
            ("alice@", false),
            ("a@b@contoso.example", false),
            ("alice@contoso..example", false),
            ("alice@contoso.example>\r\nRCPT TO:<x@y.example", false),
            ("al ice@contoso.example", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<EmailAddress>().is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn case_does_not_tell_addresses_apart() {
        let (a, b): (EmailAddress, EmailAddress) =
            ("NoReply@Contoso.example".parse().unwrap(), "noreply@contoso.EXAMPLE".parse().unwrap());
        assert_eq!(a, b);
        assert_eq!(a.as_str(), "NoReply@Contoso.example");
    }
}
