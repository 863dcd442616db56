//! Why the store refused, in the words of whoever must act.

use std::{fmt, io, path::PathBuf, sync::Arc};

use postkey_base::{Diagnose, TenantId, Who};

use crate::{Location, MessageId, master_key::KeyError};

/// Why the store could not be opened, or refused an operation. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store's check value does not open: the key file belongs to another store.
    #[error("the master key does not belong to the store at {location}: key version {version} does not open it")]
    WrongKey {
        /// Which store.
        location: Location,
        /// The version that both know, with different keys.
        version: u32,
    },
    /// Something is sealed under a version that the key source does not hold.
    #[error("version {version} of the master key is missing: the store at {location} is sealed with it")]
    MissingKey {
        /// Which store.
        location: Location,
        /// The version that is missing.
        version: u32,
    },
    /// The master key itself could not be read or written.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file is no database, or its check failed.
    #[error("the database at {location} is damaged: {finding}")]
    Damaged {
        /// Which store.
        location: Location,
        /// What the database says about it.
        finding: String,
    },
    /// A healthy database, but some other program's.
    #[error("the database at {location} is not postkey's: it holds the table {table:?}")]
    Foreign {
        /// Which database.
        location: Location,
        /// One of its tables.
        table: String,
    },
    /// A newer postkey has written here.
    #[error(
        "the store at {location} has schema {found}, written by a newer postkey; this one knows schemas up to {known}"
    )]
    NewerSchema {
        /// Which store.
        location: Location,
        /// The schema found.
        found: i64,
        /// The newest schema this program knows.
        known: i64,
    },
    /// No room left.
    #[error("there is no room left to write to the store at {location}")]
    DiskFull {
        /// Which store.
        location: Location,
        /// What the database said.
        #[source]
        cause: Cause,
    },
    /// The disk failed to read or write, or a quota is used up: SQLite does not tell them apart.
    #[error("the disk did not read or write the store at {location}")]
    DiskFailed {
        /// Which store.
        location: Location,
        /// What the database said.
        #[source]
        cause: Cause,
    },
    /// The file or its folder may not be written.
    #[error("the store at {} cannot be written", path.display())]
    NotWritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Someone else held the database for longer than we wait.
    #[error("the store at {location} is locked by another program")]
    Locked {
        /// Which store.
        location: Location,
        /// What the database said.
        #[source]
        cause: Cause,
    },
    /// No connection, or it broke.
    #[error("the database at {location} cannot be reached")]
    Unreachable {
        /// Which store.
        location: Location,
        /// What the driver said.
        #[source]
        cause: Cause,
    },
    /// PostgreSQL refused our user, or lets it do too little.
    #[error("the database at {location} refuses postkey's user")]
    Refused {
        /// Which store.
        location: Location,
        /// What the database said.
        #[source]
        cause: Cause,
    },
    /// A row that makes no sense.
    #[error("table {table}, row {id}: column {column} makes no sense: {problem}")]
    Row {
        /// The table.
        table: &'static str,
        /// The row's key.
        id: String,
        /// The column.
        column: &'static str,
        /// What is wrong with it; never the value of a sealed column.
        problem: String,
    },
    /// A sealed value does not open at the place where it was found.
    #[error("table {table}, row {id}: the sealed column {column} does not open with key version {version}")]
    Sealed {
        /// The table.
        table: &'static str,
        /// The row's key.
        id: String,
        /// The column.
        column: &'static str,
        /// The key version it names.
        version: u32,
    },
    /// What the caller names is not there.
    #[error("there is no {what}")]
    NotFound {
        /// Kind and name: `sender "billing"`.
        what: String,
    },
    /// A name or id is taken.
    #[error("{what} exists already")]
    Exists {
        /// Kind and name.
        what: String,
    },
    /// A client used an idempotency key again for something else.
    #[error("the idempotency key {key:?} was used before, for another message")]
    KeyReused {
        /// The key.
        key: String,
        /// The message that was accepted under it.
        first: MessageId,
    },
    /// Compare-and-set lost: someone else changed it since it was read.
    #[error("{what} was changed by someone else meanwhile")]
    Changed {
        /// Kind and name.
        what: String,
    },
    /// The state does not allow the step.
    #[error("{what}")]
    NotAllowed {
        /// The refused step and why: `credential … is retired and cannot be verified`.
        what: String,
    },
    /// A credential of the tenant would go to other hosts than those it was given for.
    #[error("the hosts of tenant {tenant} cannot change while it holds a credential")]
    HostsFixed {
        /// The tenant.
        tenant: TenantId,
    },
    /// The lease ended or was taken over; nothing done under it may be written.
    #[error("the lease {name:?} is no longer ours")]
    LeaseLost {
        /// The lease.
        name: String,
    },
    /// Two transactions met and one must run again; seen only when that failed repeatedly.
    #[error("the transaction {operation} met others and could not be completed")]
    Contended {
        /// The transaction.
        operation: &'static str,
        /// What the database said.
        #[source]
        cause: Cause,
    },
    /// Anything else the database said: a defect of ours.
    #[error("the database did not understand {operation}")]
    Query {
        /// The transaction.
        operation: &'static str,
        /// What the database said.
        #[source]
        cause: Cause,
    },
}

/// What the driver said, kept so that no caller depends on the driver.
#[derive(Debug, Clone)]
pub struct Cause(Arc<sqlx::Error>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_database_error() {
            Some(said) => fmt::Display::fmt(said, f),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

/// The end of the chain: the driver's own errors repeat their sources in their text.
impl std::error::Error for Cause {}

impl From<sqlx::Error> for Cause {
    fn from(error: sqlx::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl StoreError {
    /// The same error once more, for each of several callers that waited for one transaction; `None` where the cause lies in
    /// what one of them asked for.
    pub(crate) fn for_all(&self) -> Option<Self> {
        Some(match self {
            Self::DiskFull { location, cause } => Self::DiskFull { location: location.clone(), cause: cause.clone() },
            Self::DiskFailed { location, cause } => {
                Self::DiskFailed { location: location.clone(), cause: cause.clone() }
            }
            Self::Locked { location, cause } => Self::Locked { location: location.clone(), cause: cause.clone() },
            Self::Unreachable { location, cause } => {
                Self::Unreachable { location: location.clone(), cause: cause.clone() }
            }
            Self::Refused { location, cause } => Self::Refused { location: location.clone(), cause: cause.clone() },
            Self::Contended { operation, cause } => Self::Contended { operation, cause: cause.clone() },
            Self::Damaged { location, finding } => {
                Self::Damaged { location: location.clone(), finding: finding.clone() }
            }
            Self::NotWritable { path, cause } => {
                Self::NotWritable { path: path.clone(), cause: io::Error::new(cause.kind(), cause.to_string()) }
            }
            _ => return None,
        })
    }

    /// Whether the same call may succeed later without anyone acting.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Locked { .. } | Self::Unreachable { .. } | Self::Contended { .. })
    }
}

impl Diagnose for StoreError {
    fn code(&self) -> &'static str {
        match self {
            Self::WrongKey { .. } => "store.wrong_key",
            Self::MissingKey { .. } => "store.missing_key",
            Self::Key(error) => error.code(),
            Self::Damaged { .. } => "store.damaged",
            Self::Foreign { .. } => "store.foreign",
            Self::NewerSchema { .. } => "store.newer_schema",
            Self::DiskFull { .. } => "store.disk_full",
            Self::DiskFailed { .. } => "store.disk_failed",
            Self::NotWritable { .. } => "store.not_writable",
            Self::Locked { .. } => "store.locked",
            Self::Unreachable { .. } => "store.unreachable",
            Self::Refused { .. } => "store.refused",
            Self::Row { .. } => "store.row",
            Self::Sealed { .. } => "store.sealed",
            Self::NotFound { .. } => "store.not_found",
            Self::Exists { .. } => "store.exists",
            Self::KeyReused { .. } => "store.key_reused",
            Self::Changed { .. } => "store.changed",
            Self::NotAllowed { .. } => "store.not_allowed",
            Self::HostsFixed { .. } => "store.hosts_fixed",
            Self::LeaseLost { .. } => "store.lease_lost",
            Self::Contended { .. } => "store.contended",
            Self::Query { .. } => "store.query",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::WrongKey { location, .. } => format!(
                "Name the key that was made together with {location} (`master_key_file` in postkey.toml, or \
                 POSTKEY_MASTER_KEY_FILE), or restore it from where it is kept. Nothing was changed; without that key nobody can \
                 read the sealed secrets."
            ),
            Self::MissingKey { version, .. } => format!(
                "Add the line that begins with `{version}:` back to the master key, from where it is kept. Nothing was changed."
            ),
            Self::Key(error) => error.remedy(),
            Self::Damaged { location, .. } => format!(
                "Stop every postkey that uses it, keep a copy of {location}, and restore the last backup of the data folder."
            ),
            Self::Foreign { location, .. } => {
                format!("Give postkey a database of its own instead of {location}. Nothing was changed in this one.")
            }
            Self::NewerSchema { .. } => {
                "Run the newer postkey, or restore the backup that was made before the upgrade. Nothing was changed."
                    .into()
            }
            Self::DiskFull { location, .. } => {
                format!(
                    "Free some space where {location} lies (`df -h`; a quota counts too: `quota`, `ulimit -f`), then try again. What \
                     was stored before is intact."
                )
            }
            Self::DiskFailed { location, .. } => format!(
                "See whether a quota is used up where {location} lies (`quota`, `ulimit -f`), and whether the kernel reports \
                 errors of the disk (`dmesg`)."
            ),
            Self::NotWritable { path, .. } => format!(
                "Let the user that runs postkey own and write {}, or choose another data folder.",
                path.display()
            ),
            Self::Locked { location, .. } => {
                format!("See which program holds it (`fuser {location}`), end it, or try again in a moment.")
            }
            Self::Unreachable { location, .. } => {
                format!(
                    "Check that the server of {location} runs and that this machine can connect to it, then try again."
                )
            }
            Self::Refused { location, .. } => format!(
                "Check user, password and database name of {location}; the user must own the database or may create tables in it."
            ),
            Self::Row { .. } | Self::Sealed { .. } => {
                "Someone or something changed the row by hand. Restore the last backup, or report it with this message."
                    .into()
            }
            Self::NotFound { .. } => "Check the name; the `list` commands show what there is.".into(),
            Self::Exists { .. } => "Choose another name, or change the existing one.".into(),
            Self::KeyReused { .. } => {
                "Use a fresh key for each message, and the same key only to repeat the same one.".into()
            }
            Self::Changed { .. } => "Look at it again and repeat the step.".into(),
            Self::NotAllowed { .. } => "Look at its present state with the `show` command.".into(),
            Self::HostsFixed { .. } => {
                "Give the hosts it was entered with. If it has really moved, begin a new installation for it \
                                        (another --dir) and set it up there."
                    .into()
            }
            Self::LeaseLost { .. } => "Nothing to do: whoever holds it now continues the work.".into(),
            Self::Contended { .. } => "Try again in a moment.".into(),
            Self::Query { .. } => "Please report it with this message.".into(),
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::Key(error) => error.who(),
            Self::DiskFull { .. }
            | Self::DiskFailed { .. }
            | Self::NotWritable { .. }
            | Self::Unreachable { .. }
            | Self::Refused { .. } => Who::NetworkAdministrator,
            Self::LeaseLost { .. } | Self::Contended { .. } => Who::Wait,
            Self::Query { .. } => Who::Postkey,
            _ => Who::You,
        }
    }
}
