//! What a token is asked for: `{resource}/.default`, or named delegated permissions.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One or more scopes, separated by single spaces (RFC 6749 §3.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(String);

/// Why a text is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Nothing there.
    #[error("the scope is missing")]
    Empty,
    /// RFC 6749 §3.3 allows printable ASCII but `"` and `\`.
    #[error("{0:?} may not stand in a scope")]
    Character(char),
    /// Entra refuses named scopes beside `.default` in one token request.
    #[error("{0:?} asks for .default and for named permissions at once; a token request takes one or the other")]
    Mixed(String),
}

/// Scopes of OpenID Connect that may stand beside any other.
const OIDC: [&str; 4] = ["openid", "profile", "email", "offline_access"];

impl Scope {
    /// `{resource}/.default`: everything the app has been granted there.
    pub fn default_of(resource: &str) -> Self {
        Self(format!("{}/.default", resource.trim_end_matches('/')))
    }

    /// The same with `offline_access`, so that a refresh token comes along.
    #[must_use]
    pub fn offline(self) -> Self {
        self.with("offline_access")
    }

    /// The same with `openid profile`, so that an ID token comes along.
    #[must_use]
    pub fn signed_in(self) -> Self {
        self.with("openid").with("profile")
    }

    /// As it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Each scope by itself.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ')
    }

    fn with(mut self, part: &str) -> Self {
        if !self.parts().any(|have| have == part) {
            self.0.push(' ');
            self.0.push_str(part);
        }
        self
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        if parts.is_empty() {
            return Err(ScopeError::Empty);
        }
        if let Some(bad) =
            parts.iter().flat_map(|part| part.chars()).find(|&c| !c.is_ascii_graphic() || c == '"' || c == '\\')
        {
            return Err(ScopeError::Character(bad));
        }
        let joined = parts.join(" ");
        let default = parts.iter().any(|part| part.ends_with("/.default"));
        let named = parts.iter().any(|part| !part.ends_with("/.default") && !OIDC.contains(part));
        if default && named { Err(ScopeError::Mixed(joined)) } else { Ok(Self(joined)) }
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_and_named_permissions_do_not_mix() {
        for (text, good) in [
            ("https://graph.microsoft.com/.default", true),
            ("https://graph.microsoft.com/.default offline_access openid", true),
            ("https://graph.microsoft.com/Mail.Send  offline_access", true),
            ("Mail.Send", true),
            ("https://graph.microsoft.com/.default Mail.Send", false),
            ("Mail\\Send", false),
            (" ", false),
        ] {
            assert_eq!(text.parse::<Scope>().is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn a_scope_is_added_once() {
        let scope = Scope::default_of("https://graph.microsoft.com/").offline().offline().signed_in();
        assert_eq!(scope.as_str(), "https://graph.microsoft.com/.default offline_access openid profile");
    }
}
