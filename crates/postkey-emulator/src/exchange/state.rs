//! The exchange rooms' part of the world: what an organization's administrator set, and what the whole service keeps.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    access::{AccessPolicy, MailboxPrincipal, RoleAssignment},
    arrivals::Arrivals,
    limits::{Limits, Usage},
    tally::Tallies,
    upload::UploadSession,
};

/// One organization's settings in Exchange.
#[derive(Debug, Default)]
pub struct Organization {
    /// `Set-TransportConfig -SmtpClientAuthenticationDisabled`.
    pub smtp_auth_disabled: bool,
    /// `New-ServicePrincipal`: apps that Exchange knows.
    pub principals: Vec<MailboxPrincipal>,
    /// `New-ManagementRoleAssignment -App …`.
    pub role_assignments: Vec<RoleAssignment>,
    /// `New-ApplicationAccessPolicy`.
    pub access_policies: Vec<AccessPolicy>,
}

/// What the mail service keeps beside the mailboxes.
#[derive(Debug, Default)]
pub struct MailState {
    /// Numbers a test may change.
    pub limits: Limits,
    /// From acceptance to delivery. Zero: delivered before the next look.
    pub settle: Duration,
    /// From an administrator's change of roles to its effect (Exchange: 30 minutes to 2 hours).
    pub role_cache: Duration,
    /// Mail that left for other organizations, newest last.
    pub outside: VecDeque<OutsideMail>,
    /// What is kept of mail that has been delivered.
    pub keep: Keep,
    /// What was accepted and what arrived, by the messages' own names.
    pub arrivals: Arrivals,
    /// How hard each mailbox was worked.
    pub tallies: Tallies,
    /// How late Graph answers each request that concerns mail; the work itself is done at once.
    pub graph_latency: Duration,
    /// How late SMTP answers the end of a message.
    pub smtp_latency: Duration,
    /// Messages handed to transport: when they are due, and where they lie (tenant, owner, immutable id).
    pub(crate) due: BTreeSet<(Timestamp, usize, Uuid, String)>,
    pub(crate) uploads: Vec<UploadSession>,
    pub(crate) usage: BTreeMap<(Uuid, Uuid), Usage>,
    /// How often an address fault marked `-once` was met, by address.
    pub(crate) faults_met: BTreeMap<String, u32>,
    /// Open SMTP connections per mailbox.
    pub(crate) smtp_connections: BTreeMap<Uuid, usize>,
    pub(crate) message_rate: BTreeMap<Uuid, super::limits::Window>,
    pub(crate) recipient_rate: BTreeMap<Uuid, super::limits::Window>,
    /// By tenant.
    pub(crate) external_rate: BTreeMap<Uuid, super::limits::Window>,
}

/// What is kept of mail that has been delivered. Whatever is not kept is still counted in [`Arrivals`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Every copy, whole.
    #[default]
    All,
    /// In Sent Items what a message is called (ids, subject, its headers), without a body; recipients' copies not at all.
    Ids,
    /// Nothing, not even in Sent Items.
    None,
}

/// A message that left the organization.
#[derive(Debug, Clone)]
pub struct OutsideMail {
    /// When.
    pub at: Timestamp,
    /// Reverse-path.
    pub from: String,
    /// The one recipient of this copy.
    pub to: String,
    /// As handed to the other server.
    pub mime: Bytes,
}

/// Kept copies of mail to other organizations; the oldest go first.
pub(crate) const OUTSIDE_KEPT: usize = 10_000;
