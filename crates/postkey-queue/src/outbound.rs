//! How the queue reaches the outside: a sender's connection, made by whoever knows tenants, apps and credentials.

use std::{fmt, future::Future, pin::Pin};

use postkey_base::{ClientId, Diagnosis, EmailAddress, TenantId};
use postkey_store::{LocalAppId, OnUnknown, SenderId};
use postkey_transport::{OutcomeClass, Transport};

/// A future in a box: what a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where messages go out.
pub trait Outbound: Send + Sync + 'static {
    /// The sender's connection, from a cache where it holds. The queue paces: a Graph in it should carry
    /// [`postkey_graph::Pacer::idle`].
    fn connect(&self, sender: SenderId) -> BoxFuture<'_, Result<Connected, OutboundError>>;

    /// Drops what is cached of the sender: the next [`Outbound::connect`] looks at the store and asks for a token anew.
    fn forget(&self, sender: SenderId);
}

/// What Exchange counts together: one app on one mailbox.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LaneKey {
    /// The tenant.
    pub tenant: TenantId,
    /// The app.
    pub client_id: ClientId,
    /// The mailbox; compared without regard to case.
    pub mailbox: EmailAddress,
}

impl LaneKey {
    /// The name of its lease.
    pub fn lease(&self) -> String {
        format!("{LEASE_PREFIX}{}/{}/{}", self.tenant, self.client_id, self.mailbox.as_str().to_lowercase())
    }
}

/// What the names of all lanes' leases begin with.
pub(crate) const LEASE_PREFIX: &str = "lane/";

impl fmt::Display for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.mailbox, f)
    }
}

impl fmt::Debug for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaneKey({})", self.lease())
    }
}

/// A sender that can send.
#[derive(Debug, Clone)]
pub struct Connected {
    /// The lane its mail belongs to.
    pub lane: LaneKey,
    /// Its app, as far as it is known to the store.
    pub app: LocalAppId,
    /// How its mail leaves.
    pub transport: Transport,
    /// Whether it may read its mailbox: only then can a lost answer be settled.
    pub may_read: bool,
    /// What to do with a message whose outcome stays unknown.
    pub on_unknown: OnUnknown,
    /// The sender's name.
    pub name: String,
}

/// Why a sender cannot send now.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .diagnosis.what)]
pub struct OutboundError {
    /// What it says about the mailbox, the app, the tenant or the way there.
    pub class: OutcomeClass,
    /// What happened, why, what to do and who must do it.
    pub diagnosis: Diagnosis,
    /// Whether it may pass by itself.
    pub transient: bool,
}
