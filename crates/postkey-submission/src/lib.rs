//! Taking mail in: who may hand over what, and the SMTP submission service (RFC 6409).

pub mod admission;
mod conversation;
pub mod directory;
mod doorway;
mod driver;
mod intake;
mod known;
mod link;
mod listener;
pub mod lockout;
mod login;
pub mod passwords;
pub mod quota;
mod refusal;
mod rewrite;
mod service;
mod settings;
mod tally;
pub mod tls;
mod view;

pub use admission::{Admitted, Charge, IDEMPOTENCY_FIELD};
pub use directory::{Carries, CarriesUnknown, Directory, KeyHolder, SignedIn};
pub use intake::Intake;
pub use known::{EMPTY_PATH, Known, KnownSender};
pub use lockout::LockoutSettings;
pub use login::LoginRefusal;
pub use passwords::{LocalPassword, SecretMac, api_key_mac, new_api_key, new_password, password_mac};
pub use refusal::{Place, Refusal};
pub use rewrite::{Rewriting, RewritingKind};
pub use service::{StartError, Submission, SubmissionParts};
pub use settings::{Listener, Mode, SubmissionSettings};
pub use tls::{Reloaded, ReloadingTls, TlsError, TlsFiles};
