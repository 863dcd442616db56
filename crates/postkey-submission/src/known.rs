//! A submitter as it is known at the door: its rules read once, its senders with what each can carry.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwapOption;
use ipnet::IpNet;
use postkey_base::EmailAddress;
use postkey_store::{Sender, SenderId, Submitter};
use postkey_transport::{Abilities, RouteError, Traits, choose, message::MAX_SIZE};

use crate::quota::Usage;

/// A submitter and what it may do.
#[derive(Debug)]
pub struct Known {
    /// As it stands in the store.
    pub submitter: Submitter,
    /// The senders it may use that are set up as far as a mailbox; the first is its default.
    pub senders: Vec<Arc<KnownSender>>,
    networks: Networks,
    unauthenticated: Networks,
    addresses: Addresses,
    recipient_domains: Domains,
    usage: Arc<Mutex<Usage>>,
}

/// A sender, and what it can really carry.
#[derive(Debug)]
pub struct KnownSender {
    /// Its id.
    pub id: SenderId,
    /// Its name.
    pub name: String,
    /// The mailbox it sends as.
    pub mailbox: EmailAddress,
    abilities: Arc<LastAbilities>,
}

/// What a sender could do when it was last to be told; kept while it is down.
pub(crate) type LastAbilities = ArcSwapOption<Abilities>;

impl KnownSender {
    /// `None` while no mailbox is known.
    pub(crate) fn of(sender: &Sender, abilities: Arc<LastAbilities>) -> Option<Self> {
        let mailbox = sender.values.mailbox.clone()?;
        Some(Self { id: sender.id, name: sender.values.name.clone(), mailbox, abilities })
    }

    /// What it can do, as far as is known. Before that is known for the first time nothing is refused for its sake: an
    /// application takes a 552 for final.
    pub fn abilities(&self) -> Option<Arc<Abilities>> {
        self.abilities.load_full()
    }

    /// Bytes of the largest message that it can carry by whatever route; what a listener announces as SIZE.
    pub fn largest(&self) -> u64 {
        let Some(abilities) = self.abilities() else { return MAX_SIZE };
        let most = abilities.message_limit.min(MAX_SIZE);
        // Plain mail of full size goes by SMTP or by draft and upload session, if either is allowed.
        let plain = Traits { size: most, smtp_carries_lines: true, ..Traits::default() };
        match choose(&plain, &abilities) {
            Ok(_) => most.saturating_sub(ROOM),
            // It can do nothing today: mail waits until it can.
            Err(RouteError::NoRoute) => MAX_SIZE,
            Err(_) => abilities.faithful_limit().saturating_sub(ROOM),
        }
    }
}

/// What repairs may add to a message on its way.
const ROOM: u64 = 2_048;

impl Known {
    /// Reads the rules. What cannot be read in them allows nothing.
    pub(crate) fn of(submitter: Submitter, senders: Vec<Arc<KnownSender>>, usage: Arc<Mutex<Usage>>) -> Self {
        let rules = &submitter.rules;
        let (networks, unauthenticated) = (Networks::of(&rules.networks), Networks::of(&rules.unauthenticated_from));
        for text in networks.unreadable.iter().chain(&unauthenticated.unreadable) {
            tracing::warn!(
                submitter.name = submitter.name,
                "the network {text:?} in the rules of the submitter {} is none and matches nobody",
                submitter.name
            );
        }
        let mut addresses = Addresses::of(&rules.also_as, rules.force_from.as_ref());
        addresses.add_mailboxes(&senders);
        let recipient_domains = Domains::of(&rules.recipient_domains);
        Self { networks, unauthenticated, addresses, recipient_domains, submitter, senders, usage }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.submitter.name
    }

    /// The sender that carries what nothing else decides.
    pub fn default_sender(&self) -> Option<&Arc<KnownSender>> {
        self.senders.first()
    }

    /// Whether its passwords and keys may be used from there.
    pub fn may_connect_from(&self, address: IpAddr) -> bool {
        self.networks.listed.is_empty() && self.networks.unreadable.is_empty() || self.networks.hold(address)
    }

    /// Whether it may use this address in an envelope or a From field.
    pub fn may_send_as(&self, address: &EmailAddress) -> bool {
        self.addresses.hold(address)
    }

    /// Whether it may send with `MAIL FROM:<>`.
    pub fn may_send_as_nobody(&self) -> bool {
        self.addresses.empty_path
    }

    /// What it may send as, for people: its senders' mailboxes and what its rules add.
    pub fn sends_as(&self) -> Vec<String> {
        let mut list: Vec<String> = self.senders.iter().map(|sender| sender.mailbox.to_string()).collect();
        list.extend(self.submitter.rules.also_as.iter().cloned());
        list
    }

    /// Whether it may send there.
    pub fn may_send_to(&self, address: &EmailAddress) -> bool {
        self.recipient_domains.0.is_empty() || self.recipient_domains.hold(address)
    }

    /// The networks from where it needs no password. Empty unless its rules hold what such a submitter must have: a forced
    /// sender, a list of recipient domains and a quota for the day.
    pub(crate) fn unauthenticated(&self) -> &[IpNet] {
        let rules = &self.submitter.rules;
        let safe =
            rules.force_from.is_some() && !rules.recipient_domains.is_empty() && rules.messages_per_day.is_some();
        if safe { &self.unauthenticated.listed } else { &[] }
    }

    /// What it has used, for a moment.
    pub(crate) fn with_usage<T>(&self, look: impl FnOnce(&mut Usage) -> T) -> T {
        look(&mut self.usage.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn usage(&self) -> Arc<Mutex<Usage>> {
        Arc::clone(&self.usage)
    }

    /// Bytes of the largest message it may hand in and one of its senders carries.
    pub fn largest(&self) -> u64 {
        let carried = self.senders.iter().map(|sender| sender.largest()).max().unwrap_or(MAX_SIZE);
        self.submitter.rules.message_bytes.unwrap_or(u64::MAX).min(carried)
    }
}

/// Networks in CIDR form, or single addresses.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    listed: Vec<IpNet>,
    unreadable: Vec<String>,
}

impl Networks {
    pub(crate) fn of(texts: &[String]) -> Self {
        let mut networks = Self::default();
        for text in texts {
            match text.trim().parse::<IpNet>().or_else(|_| text.trim().parse::<IpAddr>().map(IpNet::from)) {
                Ok(network) => networks.listed.push(network),
                Err(_) => networks.unreadable.push(text.clone()),
            }
        }
        networks
    }

    fn hold(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.listed.iter().any(|network| network.contains(&address))
    }
}

/// Addresses and whole domains that one may send as.
#[derive(Debug, Default)]
struct Addresses {
    addresses: HashSet<EmailAddress>,
    domains: Domains,
    empty_path: bool,
}

impl Addresses {
    fn of(also_as: &[String], forced: Option<&EmailAddress>) -> Self {
        let mut held = Self::default();
        held.addresses.extend(forced.cloned());
        for text in also_as {
            let text = text.trim();
            if text == EMPTY_PATH {
                held.empty_path = true;
            } else if let Some(domain) = text.strip_prefix('@') {
                held.domains.0.push(domain.to_lowercase());
            } else if let Ok(address) = text.parse() {
                held.addresses.insert(address);
            }
        }
        held
    }

    fn add_mailboxes(&mut self, senders: &[Arc<KnownSender>]) {
        self.addresses.extend(senders.iter().map(|sender| sender.mailbox.clone()));
    }

    fn hold(&self, address: &EmailAddress) -> bool {
        self.addresses.contains(address) || self.domains.hold(address)
    }
}

/// Stands among the addresses of a submitter that may send with `MAIL FROM:<>`.
pub const EMPTY_PATH: &str = "<>";

/// Domains; `*.` or a dot before one means those below it.
#[derive(Debug, Default)]
struct Domains(Vec<String>);

impl Domains {
    fn of(texts: &[String]) -> Self {
        Self(texts.iter().map(|text| text.trim().trim_start_matches('@').to_lowercase()).collect())
    }

    fn hold(&self, address: &EmailAddress) -> bool {
        let domain = address.domain().to_lowercase();
        self.0.iter().any(|held| match held.strip_prefix("*.").or_else(|| held.strip_prefix('.')) {
            Some(above) => {
                domain.len() > above.len() + 1
                    && domain.ends_with(above)
                    && domain.as_bytes()[domain.len() - above.len() - 1] == b'.'
            }
            None => *held == domain,
        })
    }
}
