//! Where the store is: a file, or a PostgreSQL database. A password in the URL is never shown.

use std::{fmt, path::PathBuf, str::FromStr};

use zeroize::Zeroizing;

/// Where the store is. Parsed from a path, or from `postgres://user:password@host/database`.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// One SQLite file; made if it is missing, in a folder of mode 0700.
    Sqlite(PathBuf),
    /// A PostgreSQL database, or one that speaks its protocol.
    Postgres(PostgresUrl),
}

/// A `postgres://` URL; what may be a password in it is hidden from `Display` and `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(Zeroizing<String>);

impl PostgresUrl {
    /// The whole URL, password included: for connecting only.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// The text is no place for a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLocation {
    /// Nothing was given.
    #[error("the place of the store is empty: give a path, or a URL that begins with postgres://")]
    Empty,
    /// A URL of another kind; only its scheme is repeated.
    #[error("{0}:// is no database that postkey can use: give a path, or a URL that begins with postgres://")]
    Scheme(String),
}

impl FromStr for Location {
    type Err = BadLocation;

    fn from_str(text: &str) -> Result<Self, BadLocation> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BadLocation::Empty);
        }
        match text.split_once("://") {
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(PostgresUrl(Zeroizing::new(text.to_owned())))),
            Some(("sqlite" | "file", "")) => Err(BadLocation::Empty),
            Some(("sqlite" | "file", path)) => Ok(Self::Sqlite(PathBuf::from(path))),
            Some((scheme, _)) => Err(BadLocation::Scheme(scheme.to_owned())),
            None => Ok(Self::Sqlite(PathBuf::from(text))),
        }
    }
}

impl TryFrom<String> for Location {
    type Error = BadLocation;

    fn try_from(text: String) -> Result<Self, BadLocation> {
        text.parse()
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::Sqlite(path)
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("postgres", ""));
        // Parameters may hold a password too (`?password=`): nothing after the question mark is shown.
        let (shown, hidden) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        match shown.rsplit_once('@') {
            Some((credentials, host)) => {
                write!(f, "{scheme}://{}@{host}", credentials.split(':').next().unwrap_or_default())
            }
            // An unencoded question mark in a password: nobody can say where the host begins.
            None if hidden.contains('@') => write!(f, "{scheme}://…"),
            None => write!(f, "{scheme}://{shown}"),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_from_a_path_or_a_url_and_shows_no_password() {
        for (text, shown) in [
            ("/var/lib/postkey/postkey.db", Ok("/var/lib/postkey/postkey.db")),
            ("sqlite:///var/lib/postkey.db", Ok("/var/lib/postkey.db")),
            ("postgres://postkey:hush@db.contoso.example/postkey", Ok("postgres://postkey@db.contoso.example/postkey")),
            ("postgres://postkey:hu@sh@db/postkey?password=hush", Ok("postgres://postkey@db/postkey")),
            ("postgresql:///postkey?user=a&password=hush", Ok("postgresql:///postkey")),
            ("postgres://postkey:pa?hush@db/postkey", Ok("postgres://…")),
            ("sqlite://", Err(BadLocation::Empty)),
            ("mysql://root:hush@db/x", Err(BadLocation::Scheme("mysql".into()))),
            ("  ", Err(BadLocation::Empty)),
        ] {
            let parsed = text.parse::<Location>();
            assert!(!format!("{parsed:?}").contains("hush"), "{parsed:?}");
            assert_eq!(parsed.map(|place| place.to_string()), shown.map(str::to_owned), "{text}");
        }
    }
}
