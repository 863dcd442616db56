//! SQLite and PostgreSQL: what postkey remembers, one file per aggregate, secrets sealed.
//!
//! Every operation is a method of [`Transaction`], and most are repeated on [`Store`], where they run in a transaction
//! of their own. What must be durable together goes into one [`Store::transaction`]. Knows nothing of HTTP or Microsoft.

mod apps;
mod check;
mod credentials;
mod dialect;
mod error;
mod events;
mod installation;
mod intents;
mod leases;
mod location;
mod master_key;
mod migrate;
mod reseal;
mod row;
mod sealed;
mod senders;
mod setup_runs;
mod store;
mod tenants;
mod transaction;

pub use apps::{App, LocalAppId, Origin};
pub use check::StoreCheck;
pub use credentials::{
    Credential, CredentialState, LocalCredentialId, Material, Minted, NewCredential, NewMaterial, Opened,
};
pub use error::{Cause, StoreError};
pub use events::{Event, EventFilter, NewEvent, Retention};
pub use intents::{Intent, IntentId, IntentResult, NewIntent};
pub use leases::Lease;
pub use location::{BadLocation, Location, PostgresUrl};
pub use master_key::{KeyError, KeySource, MasterKeys};
pub use reseal::{Progress, Rotated, reseal, rotate_master_key};
pub use row::UnknownWord;
pub use senders::{Missing, Reach, RoutePreference, Sender, SenderId, SenderValues, Stage};
pub use setup_runs::SetupRun;
pub use store::{Options, Store};
pub use tenants::Tenant;
pub use transaction::Transaction;
