//! SASL XOAUTH2: a mailbox and a bearer token in one base64 line.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};

/// `base64("user=" user ^A "auth=Bearer " token ^A ^A)`. As good as the token itself: `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Xoauth2(String);

/// A user or token that would change the meaning of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Xoauth2Error {
    /// Empty, or with a control character.
    #[error("the mailbox for XOAUTH2 is empty or holds a control character")]
    User,
    /// Empty, or with a character no bearer token has (RFC 6750 §2.1).
    #[error("the access token for XOAUTH2 is empty or holds a character no token has")]
    Token,
}

impl Xoauth2 {
    /// For `user`, the mailbox to use (a shared mailbox's address, not the person's who holds the token).
    pub fn new(user: &str, token: &str) -> Result<Self, Xoauth2Error> {
        if user.is_empty() || user.contains(char::is_control) {
            return Err(Xoauth2Error::User);
        }
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Xoauth2Error::Token);
        }
        Ok(Self(STANDARD.encode(format!("user={user}\x01auth=Bearer {token}\x01\x01"))))
    }

    /// The base64 line for the wire. Every call of this method is a place to audit.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Xoauth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Xoauth2(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_vector_is_met_byte_for_byte() {
        let made = Xoauth2::new("test@contoso.onmicrosoft.com", "EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA").unwrap();
        assert_eq!(
            made.expose(),
            "dXNlcj10ZXN0QGNvbnRvc28ub25taWNyb3NvZnQuY29tAWF1dGg9QmVhcmVyIEV3QkFBbDNCQUFVRkZwVUFvN0ozVmUwYmpMQldaV0NjbFJDM0VvQUEBAQ=="
        );
        assert_eq!(format!("{made:?}"), "Xoauth2(..)");
    }

    #[test]
    fn neither_user_nor_token_can_add_a_field() {
        for (user, token, error) in [
            ("", "t", Xoauth2Error::User),
            ("a@b.example\x01auth=Bearer x", "t", Xoauth2Error::User),
            ("a@b.example\r\n", "t", Xoauth2Error::User),
            ("a@b.example", "", Xoauth2Error::Token),
            ("a@b.example", "t\x01user=c@d.example", Xoauth2Error::Token),
            ("a@b.example", "two words", Xoauth2Error::Token),
        ] {
            assert_eq!(Xoauth2::new(user, token).unwrap_err(), error, "{user:?} {token:?}");
        }
    }
}
