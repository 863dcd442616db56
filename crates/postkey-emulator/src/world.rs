//! The whole state of the emulator: one value behind one lock. Handlers are plain functions over it.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{clock::EmulatorClock, directory::Directory};

/// Everything the emulator knows.
#[derive(Debug)]
pub struct World {
    pub clock: EmulatorClock,
    pub tenants: Vec<Tenant>,
    /// Every secret this emulator ever issued (client secrets, tokens, codes, passwords), so a test can look for leaks.
    pub issued_secrets: Vec<String>,
}

/// One tenant.
#[derive(Debug)]
pub struct Tenant {
    pub id: Uuid,
    /// The initial verified domain.
    pub domain: String,
    pub display_name: String,
    pub directory: Directory,
    /// Mailboxes by the object id of their user: filled by the exchange rooms.
    pub mailboxes: BTreeMap<Uuid, ()>,
}
