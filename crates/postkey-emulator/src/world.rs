//! The whole state of the emulator: one value behind one lock. Handlers are plain functions over it.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use crate::{
    clock::EmulatorClock,
    directory::{Application, Directory},
    entra::grants::Grants,
    exchange::{
        mailbox::Mailbox,
        state::{MailState, Organization},
    },
    faults::FaultBook,
    journal::Journal,
    token::SigningKeys,
};

/// Everything the emulator knows.
#[derive(Debug)]
pub struct World {
    /// The tenants' clock.
    pub clock: EmulatorClock,
    /// Every tenant.
    pub tenants: Vec<Tenant>,
    /// Applications that belong to Microsoft itself and exist for every tenant: an application here is instantiated
    /// (gets a service principal) in a tenant at its first consent there.
    pub first_party_applications: Vec<Application>,
    /// Every secret this emulator ever issued (client secrets, tokens, codes, passwords), so a test can look for leaks.
    /// Add to it by [`World::record_secret`], which keeps it bounded.
    pub issued_secrets: Vec<String>,
    /// How unkind the service is.
    pub behaviour: Behaviour,
    /// Where its listeners are.
    pub addresses: Addresses,
    /// Chance that decides nothing secret (lifetimes, non-monotone acceptance); seeded, so a run can be repeated.
    pub chance: StdRng,
    /// Keys that sign tokens.
    pub keys: SigningKeys,
    /// Authorization codes, refresh tokens, device codes and browser sessions.
    pub grants: Grants,
    /// Faults asked for by a test.
    pub faults: FaultBook,
    /// What was called.
    pub journal: Journal,
    /// What the mail service keeps beside the mailboxes.
    pub mail: MailState,
}

/// How unkind the service is; the management API changes it while it runs.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// How long a new object stays invisible to other nodes (`visible_from`, `effective_from`).
    pub replication_lag: Duration,
    /// How long a new credential is unknown to the token endpoint (`accepted_from`).
    pub acceptance_lag: Duration,
    /// Whether a new credential is refused now and then for as long again after its first acceptance.
    pub non_monotone: bool,
    /// Token requests of one app in ten seconds above which client credentials answer 429; None = never.
    pub token_requests_per_ten_seconds: Option<u32>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            replication_lag: Duration::ZERO,
            acceptance_lag: Duration::ZERO,
            non_monotone: false,
            token_requests_per_ten_seconds: None,
        }
    }
}

/// Addresses of the listeners, each `scheme://host:port` without a trailing slash unless its name says otherwise.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// The login host.
    pub login: String,
    /// The Graph host, without a version.
    pub graph: String,
    /// The management API.
    pub management: String,
    /// `host:port` of SMTP submission.
    pub smtp: String,
    /// `http://host:port` of the CONNECT proxy that leads Microsoft's names here, if one was asked for.
    pub proxy: Option<String>,
}

/// One tenant.
#[derive(Debug)]
pub struct Tenant {
    /// The directory (tenant) id.
    pub id: Uuid,
    /// The initial verified domain.
    pub domain: String,
    /// What people call it.
    pub display_name: String,
    /// Its objects.
    pub directory: Directory,
    /// Mailboxes by the object id of their user: filled by the exchange rooms.
    pub mailboxes: BTreeMap<Uuid, Mailbox>,
    /// The organization's settings in Exchange.
    pub exchange: Organization,
}

/// More than any test issues; beyond it the oldest half is forgotten.
const SECRETS_KEPT: usize = 200_000;

impl World {
    /// An empty world whose chance starts from `seed`.
    pub(crate) fn new(seed: u64, behaviour: Behaviour, keys: SigningKeys) -> Self {
        Self {
            clock: EmulatorClock::default(),
            tenants: Vec::new(),
            first_party_applications: Vec::new(),
            issued_secrets: Vec::new(),
            behaviour,
            addresses: Addresses::default(),
            chance: StdRng::seed_from_u64(seed),
            keys,
            grants: Grants::default(),
            faults: FaultBook::default(),
            journal: Journal::default(),
            mail: MailState::default(),
        }
    }

    /// The tenant with this id.
    pub fn tenant(&self, id: Uuid) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.id == id)
    }

    /// The tenant with this id, to change it.
    pub fn tenant_mut(&mut self, id: Uuid) -> Option<&mut Tenant> {
        self.tenants.iter_mut().find(|tenant| tenant.id == id)
    }

    /// The tenant with this id or verified domain, as it stands in a URL.
    pub fn tenant_by_key(&self, key: &str) -> Option<&Tenant> {
        let id = Uuid::try_parse(key).ok();
        self.tenants.iter().find(|tenant| Some(tenant.id) == id || tenant.domain.eq_ignore_ascii_case(key))
    }

    /// Remembers a secret as issued.
    pub fn record_secret(&mut self, secret: &str) {
        if self.issued_secrets.len() >= SECRETS_KEPT {
            self.issued_secrets.drain(..SECRETS_KEPT / 2);
        }
        self.issued_secrets.push(secret.to_owned());
    }

    /// A new client secret as Entra makes them, recorded as issued: 40 characters of which the fourth and fifth are fixed.
    pub fn make_client_secret(&mut self) -> String {
        let text = random_text(40);
        let secret = format!("{}8Q~{}", &text[..3], &text[6..]);
        self.record_secret(&secret);
        secret
    }

    /// `accepted_from` for a credential made now.
    pub fn credential_accepted_from(&self) -> jiff::Timestamp {
        later(self.clock.now(), self.behaviour.acceptance_lag)
    }

    /// `visible_from` and `effective_from` for an object made now.
    pub fn replicated_from(&self) -> jiff::Timestamp {
        later(self.clock.now(), self.behaviour.replication_lag)
    }

    /// Whether the token endpoint takes a credential accepted from `accepted_from` on, this time: with non-monotone
    /// acceptance it is refused every other time for one more lag.
    pub(crate) fn accepts_credential(&mut self, accepted_from: jiff::Timestamp) -> bool {
        let now = self.clock.now();
        if now < accepted_from {
            return false;
        }
        let unsure = self.behaviour.non_monotone && now < later(accepted_from, self.behaviour.acceptance_lag);
        !unsure || self.chance.random_bool(0.5)
    }
}

/// A moment so much later.
pub(crate) fn later(at: jiff::Timestamp, by: Duration) -> jiff::Timestamp {
    jiff::SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(jiff::Timestamp::MAX)
}

/// Letters and digits nobody can guess.
pub(crate) fn random_text(length: usize) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..length).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}
