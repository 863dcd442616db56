//! What a call looks like before it is made: method, path, permission, and whether it may be repeated.
//! Each shape is the one home of its path; the function beside it makes the request from it, and a plan prints it.

use std::fmt;

/// One kind of request to Graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallShape {
    /// HTTP method.
    pub method: Verb,
    /// Path below the edition, with `{name}` where a value belongs: `/applications/{id}/addPassword`.
    pub path: &'static str,
    /// All permissions that together allow it, least privileged choice each. Empty: none is needed, or the token's own.
    pub permissions: &'static [&'static str],
    /// What it does to the tenant, hence whether it may be sent again.
    pub effect: Effect,
    /// The part of Graph it lives in.
    pub edition: Edition,
}

impl CallShape {
    pub(crate) const fn new(
        method: Verb,
        path: &'static str,
        effect: Effect,
        permissions: &'static [&'static str],
    ) -> Self {
        Self { method, path, permissions, effect, edition: Edition::V1 }
    }

    pub(crate) const fn beta(self) -> Self {
        Self { edition: Edition::Beta, ..self }
    }

    /// The path with its places filled in order, encoded as Graph expects it. Missing values keep their place's name,
    /// which is what a plan shows for an id that the tenant has yet to give.
    pub fn path_with(&self, values: &[&str]) -> String {
        let mut path = String::with_capacity(self.path.len() + 64);
        let mut values = values.iter();
        let mut rest = self.path;
        while let Some((before, place)) = rest.split_once('{') {
            let (name, after) = place.split_once('}').expect("every shape's path closes what it opens");
            path.push_str(before);
            match values.next() {
                None => {
                    path.push('{');
                    path.push_str(name);
                    path.push('}');
                }
                Some(value) if before.ends_with('\'') => encode_into(&mut path, &quoted(value)),
                // The slash form of a name that starts with $ would be read as an OData operator.
                Some(value) if value.starts_with('$') && path.ends_with('/') => {
                    path.pop();
                    path.push_str("('");
                    encode_into(&mut path, &quoted(value));
                    path.push_str("')");
                }
                Some(value) => encode_into(&mut path, value),
            }
            rest = after;
        }
        path.push_str(rest);
        path
    }

    /// Whether the call is served by a mailbox, not by the directory.
    pub fn is_mail(&self) -> bool {
        self.path.starts_with("/users/{mailbox}/") || self.path.starts_with("{uploadUrl}")
    }
}

impl fmt::Display for CallShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// HTTP methods that Graph uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Creates, or performs an action.
    Post,
    /// Changes some members.
    Patch,
    /// Stores bytes.
    Put,
    /// Removes.
    Delete,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        })
    }
}

/// What a call leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: repeat at will.
    Reads,
    /// The same state however often it is sent: repeat at will.
    Settles,
    /// One more thing each time: repeated only after an answer that proves it was not taken (429, a refused write).
    Adds,
    /// A message on its way: never repeated here, whoever queued it decides.
    Sends,
}

/// Which Graph: the stable one, or the one that alone has some reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// `/v1.0`
    V1,
    /// `/beta`
    Beta,
}

/// A text for an OData string literal: quotes doubled.
pub(crate) fn quoted(value: &str) -> String {
    value.replace('\'', "''")
}

/// Percent-encodes all but unreserved characters and the three that Graph's own examples leave bare in a segment.
pub(crate) fn encode_into(path: &mut String, value: &str) {
    for &byte in value.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' | b'=' | b'\'' => {
                path.push(char::from(byte));
            }
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                path.push('%');
                path.push(char::from(HEX[usize::from(byte >> 4)]));
                path.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_where_they_stand() {
        const USER: CallShape = CallShape::new(Verb::Get, "/users/{mailbox}/messages/{id}", Effect::Reads, &[]);
        const NAMED: CallShape = CallShape::new(Verb::Get, "/applications(uniqueName='{name}')", Effect::Reads, &[]);
        for (shape, values, path) in [
            (USER, &["noreply@contoso.example", "AAMk="][..], "/users/noreply@contoso.example/messages/AAMk="),
            (USER, &["$ops@contoso.example", "1"][..], "/users('$ops@contoso.example')/messages/1"),
            (USER, &["o'brien@contoso.example", "a/b?c"][..], "/users/o'brien@contoso.example/messages/a%2Fb%3Fc"),
            (USER, &["jörg@contoso.example"][..], "/users/j%C3%B6rg@contoso.example/messages/{id}"),
            (NAMED, &["it's"][..], "/applications(uniqueName='it''s')"),
            (NAMED, &[][..], "/applications(uniqueName='{name}')"),
        ] {
            // The dollar sign itself is encoded: inside the quotes it is data.
            assert_eq!(shape.path_with(values).replace("%24", "$"), path);
        }
    }
}
