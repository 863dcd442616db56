//! One look at the store: every submitter, password, key and sender as they were at one moment. Replaced whole.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use ipnet::IpNet;
use postkey_store::{ApiKey, ApiKeyId, LocalSecretId, Sender, SenderId, Store, StoreError, Submitter, SubmitterId};

use crate::{
    SecretMac,
    known::{Known, KnownSender, LastAbilities},
    quota::{Usage, has_quotas},
};

/// What the store said.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Read {
    submitters: Vec<Submitter>,
    secrets: Vec<(SubmitterId, LocalSecretId, SecretMac)>,
    keys: Vec<ApiKey>,
    key_macs: Vec<(ApiKeyId, SecretMac)>,
    senders: Vec<Sender>,
}

impl Read {
    /// In one transaction, so that a password and its submitter come from the same moment.
    pub(crate) async fn from(store: &Store) -> Result<Self, StoreError> {
        let mut read = store
            .transaction("directory.read", async |transaction| {
                Ok(Self {
                    submitters: transaction.submitters().await?,
                    secrets: transaction.submitter_secrets().await?,
                    keys: transaction.api_keys().await?,
                    key_macs: transaction.api_key_macs().await?,
                    senders: transaction.senders().await?,
                })
            })
            .await?;
        read.forget_uses();
        Ok(read)
    }

    /// When something was last used changes nothing of what may be done.
    fn forget_uses(&mut self) {
        for secret in self.submitters.iter_mut().flat_map(|submitter| &mut submitter.passwords) {
            secret.last_used_at = None;
        }
        for key in &mut self.keys {
            key.last_used_at = None;
        }
    }

    pub(crate) fn senders(&self) -> impl Iterator<Item = SenderId> {
        self.senders.iter().map(|sender| sender.id)
    }
}

/// The same, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct View {
    by_name: HashMap<String, Arc<Known>>,
    by_id: HashMap<SubmitterId, Arc<Known>>,
    secrets: HashMap<SubmitterId, Vec<(LocalSecretId, SecretMac)>>,
    keys: HashMap<SecretMac, Arc<ApiKey>>,
    unauthenticated: Vec<(IpNet, Arc<Known>)>,
    pub(crate) read: Read,
}

/// What outlives a look: what each submitter has used, and what each sender can do.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Of submitters that have quotas.
    usage: HashMap<SubmitterId, Arc<Mutex<Usage>>>,
    abilities: HashMap<SenderId, Arc<LastAbilities>>,
}

impl Kept {
    /// What this submitter has sent was read from the store and is counted from now on.
    pub(crate) fn counts(&mut self, known: &Known) {
        self.usage.insert(known.submitter.id, known.usage());
    }

    pub(crate) fn abilities(&mut self, sender: SenderId) -> Arc<LastAbilities> {
        Arc::clone(self.abilities.entry(sender).or_default())
    }

    /// Nothing is counted for a submitter without quotas: gets it one, the store knows what it has sent.
    fn forget_the_gone(&mut self, read: &Read) {
        let counted = |id| read.submitters.iter().any(|one| one.id == id && has_quotas(&one.rules));
        self.usage.retain(|id, _| counted(*id));
        self.abilities.retain(|id, _| read.senders.iter().any(|one| one.id == *id));
    }
}

impl View {
    /// And the submitters whose use is still to be read from the store.
    pub(crate) fn of(read: Read, kept: &mut Kept) -> (Self, Vec<Arc<Known>>) {
        kept.forget_the_gone(&read);
        let (mut view, mut uncounted) = (Self::default(), Vec::new());
        let senders: HashMap<SenderId, Arc<KnownSender>> = read
            .senders
            .iter()
            .filter_map(|sender| Some((sender.id, Arc::new(KnownSender::of(sender, kept.abilities(sender.id))?))))
            .collect();
        for submitter in &read.submitters {
            let its_senders = submitter.senders.iter().filter_map(|id| senders.get(id).cloned()).collect();
            let counted = kept.usage.get(&submitter.id).cloned();
            let usage = counted.clone().unwrap_or_default();
            let known = Arc::new(Known::of(submitter.clone(), its_senders, Arc::clone(&usage)));
            if counted.is_none() && has_quotas(&submitter.rules) {
                uncounted.push(Arc::clone(&known));
            }
            if submitter.disabled_at.is_none() {
                for network in known.unauthenticated() {
                    view.unauthenticated.push((*network, Arc::clone(&known)));
                }
            }
            view.by_name.insert(submitter.name.to_lowercase(), Arc::clone(&known));
            view.by_id.insert(submitter.id, known);
        }
        // The narrowest network first; of two equal ones the first submitter by name.
        view.unauthenticated.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        for &(submitter, id, mac) in &read.secrets {
            view.secrets.entry(submitter).or_default().push((id, mac));
        }
        let keys: HashMap<ApiKeyId, &ApiKey> = read.keys.iter().map(|key| (key.id, key)).collect();
        for (id, mac) in &read.key_macs {
            if let Some(&key) = keys.get(id) {
                view.keys.insert(*mac, Arc::new(key.clone()));
            }
        }
        view.read = read;
        (view, uncounted)
    }

    /// By its name, or by `name@domain` whatever the domain: some devices insist on an address.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Known>> {
        let name = name.trim().to_lowercase();
        self.by_name.get(&name).or_else(|| self.by_name.get(name.rsplit_once('@')?.0))
    }

    pub(crate) fn known(&self, id: SubmitterId) -> Option<&Arc<Known>> {
        self.by_id.get(&id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Known>> {
        self.by_id.values()
    }

    pub(crate) fn secrets(&self, id: SubmitterId) -> &[(LocalSecretId, SecretMac)] {
        self.secrets.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The MAC is a pseudo-random function of what was sent, so how long looking it up takes tells nothing of others.
    pub(crate) fn key(&self, mac: &SecretMac) -> Option<&Arc<ApiKey>> {
        self.keys.get(mac)
    }

    pub(crate) fn by_network(&self, address: IpAddr) -> Option<&Arc<Known>> {
        let address = address.to_canonical();
        self.unauthenticated.iter().find(|(network, _)| network.contains(&address)).map(|(_, known)| known)
    }
}
