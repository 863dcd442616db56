//! SQLite and PostgreSQL: what postkey remembers, one file per aggregate, secrets sealed.
//!
//! Every operation is a method of [`Transaction`], and most are repeated on [`Store`], where they run in a transaction
//! of their own. What must be durable together goes into one [`Store::transaction`]. Knows nothing of HTTP or Microsoft.

mod api_keys;
mod apps;
mod changes;
mod check;
mod credentials;
mod dialect;
mod error;
mod events;
mod grouped;
mod holds;
mod installation;
mod intents;
mod leases;
mod local_secrets;
mod location;
mod master_key;
mod messages;
mod migrate;
mod notices;
mod reseal;
mod row;
mod sealed;
mod senders;
mod setup_runs;
mod store;
mod submitters;
mod tenants;
mod transaction;
mod webhooks;

pub use api_keys::{ApiKey, ApiKeyId, Scope};
pub use apps::{App, LocalAppId, Origin};
pub use changes::Changes;
pub use check::StoreCheck;
pub use credentials::{
    Credential, CredentialState, LocalCredentialId, Material, Minted, NewCredential, NewMaterial, Opened,
};
pub use error::{Cause, StoreError};
pub use events::{Event, EventFilter, NewEvent, Retention};
pub use grouped::{Accepted, GroupCommit, Settlement};
pub use holds::{Hold, HoldCause, HoldScope};
pub use intents::{Intent, IntentId, IntentResult, NewIntent};
pub use leases::Lease;
pub use local_secrets::{LocalSecret, LocalSecretId, MOST_PASSWORDS};
pub use location::{BadLocation, Location, PostgresUrl};
pub use master_key::{KeyError, KeySource, MasterKeys};
pub use messages::{
    IdempotencyKey, MessageCount, MessageEvent, MessageFilter, MessageId, MessageState, NewMessage, NewMessageEvent,
    Notify, Priority, QueuedEnvelope, QueuedMessage, QueuedRecipient, RecipientOutcome, RecipientState, Ret,
    UsageBucket, Via, Waiting,
};
pub use notices::{NewNotice, Notice, NoticeEnd, NoticeId};
pub use reseal::{Progress, Rotated, reseal, rotate_master_key};
pub use row::UnknownWord;
pub use senders::{Missing, OnUnknown, Reach, RoutePreference, Sender, SenderId, SenderValues, Stage};
pub use setup_runs::SetupRun;
pub use store::{Options, Store};
pub use submitters::{NewSubmitter, Submitter, SubmitterId, SubmitterRules};
pub use tenants::Tenant;
pub use transaction::Transaction;
pub use webhooks::{NewWebhook, Webhook, WebhookId};
