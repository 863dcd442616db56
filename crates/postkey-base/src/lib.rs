//! Words all rooms share: ids, secrets that cannot be printed, the clock, and what a failure tells its reader.
//! No I/O. A type arrives here with its third user.

pub mod address;
pub mod clock;
pub mod diagnose;
pub mod ids;
pub mod powershell;
pub mod secret;

pub use address::EmailAddress;
pub use clock::Clock;
pub use diagnose::{Diagnose, Diagnosis, Who};
pub use ids::{
    AppObjectId, AppRoleId, ClientId, CorrelationId, InstallationId, KeyId, ServicePrincipalId, TenantId, UserObjectId,
};
pub use secret::{AccessToken, ClientAssertion, ClientSecret, PrivateKeyDer, RefreshToken};
