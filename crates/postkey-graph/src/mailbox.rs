//! Whose mail: the `{user-id}` of every path below `/users`.

use std::fmt;

use postkey_base::{EmailAddress, UserObjectId};

/// A mailbox as a path names it: by its user principal name or by the user's object id.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Mailbox(String);

impl Mailbox {
    /// As it stands in a path, not yet encoded.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&EmailAddress> for Mailbox {
    fn from(address: &EmailAddress) -> Self {
        Self(address.as_str().to_owned())
    }
}

impl From<EmailAddress> for Mailbox {
    fn from(address: EmailAddress) -> Self {
        Self(address.into())
    }
}

impl From<UserObjectId> for Mailbox {
    fn from(id: UserObjectId) -> Self {
        Self(id.to_string())
    }
}

impl From<&Mailbox> for Mailbox {
    fn from(mailbox: &Mailbox) -> Self {
        mailbox.clone()
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({})", self.0)
    }
}
