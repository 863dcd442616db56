//! From a row to the values of the domain. What makes no sense is an error that names table, column and row.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::{
    Decode, Row as _, Type,
    any::{Any, AnyRow},
};

use crate::{StoreError, sealed::Place};

/// A row together with what an error about it must say.
pub(crate) struct Row {
    table: &'static str,
    id: String,
    inner: AnyRow,
}

impl Row {
    /// `key` is the column that identifies the row: a text or a number.
    pub(crate) fn new(table: &'static str, key: &'static str, inner: AnyRow) -> Self {
        let id = inner
            .try_get::<String, _>(key)
            .or_else(|_| inner.try_get::<i64, _>(key).map(|number| number.to_string()))
            .unwrap_or_else(|_| "(unreadable)".into());
        Self { table, id, inner }
    }

    /// An error about one column.
    pub(crate) fn nonsense(&self, column: &'static str, problem: impl fmt::Display) -> StoreError {
        StoreError::Row { table: self.table, id: self.id.clone(), column, problem: problem.to_string() }
    }

    /// Where a sealed column of this row stands.
    pub(crate) fn place(&self, column: &'static str) -> Place {
        Place { table: self.table, row: self.id.clone(), column }
    }

    fn value<'r, T: Decode<'r, Any> + Type<Any>>(&'r self, column: &'static str) -> Result<T, StoreError> {
        self.inner.try_get(column).map_err(|_| self.nonsense(column, "it is missing or of another type"))
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.value(column)
    }

    pub(crate) fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        self.value(column)
    }

    pub(crate) fn optional_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.value(column)
    }

    pub(crate) fn number(&self, column: &'static str) -> Result<i64, StoreError> {
        self.value(column)
    }

    pub(crate) fn optional_number(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.value(column)
    }

    pub(crate) fn parse<T: FromStr<Err: fmt::Display>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|error| self.nonsense(column, error))
    }

    pub(crate) fn optional<T: FromStr<Err: fmt::Display>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let text = self.optional_text(column)?;
        text.map(|text| text.parse()).transpose().map_err(|error| self.nonsense(column, error))
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        Timestamp::from_millisecond(self.number(column)?).map_err(|error| self.nonsense(column, error))
    }

    pub(crate) fn optional_time(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        let number = self.optional_number(column)?;
        number.map(Timestamp::from_millisecond).transpose().map_err(|error| self.nonsense(column, error))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|error| self.nonsense(column, error))
    }

    pub(crate) fn optional_json<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let text = self.optional_text(column)?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| self.nonsense(column, error))
    }
}

/// The store's unit of time: whole milliseconds since 1970.
pub(crate) fn milliseconds(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// An enum whose variants are stored as words.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $name {
            /// The word that stands for it in the store and in JSON.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::row::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(crate::row::UnknownWord { text: text.to_owned(), known: &[$($word),+] }),
                }
            }
        }
    };
}
pub(crate) use words;

/// A text that is none of the words it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is none of {}", known.join(", "))]
pub struct UnknownWord {
    pub(crate) text: String,
    pub(crate) known: &'static [&'static str],
}

/// A random id that only this store knows.
macro_rules! local_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// A fresh id.
            pub fn random() -> Self {
                Self(uuid::Uuid::new_v4())
            }

            /// The GUID itself.
            pub const fn uuid(self) -> uuid::Uuid {
                self.0
            }
        }

        impl From<uuid::Uuid> for $name {
            fn from(id: uuid::Uuid) -> Self {
                Self(id)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                uuid::Uuid::try_parse(text.trim()).map(Self)
            }
        }
    };
}
pub(crate) use local_id;
