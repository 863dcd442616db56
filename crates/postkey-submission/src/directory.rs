//! Who may hand over mail: submitters, passwords, API keys and senders, in memory and never older than a second.
//!
//! One task asks the store whether something changed and reads everything anew when it did; so a change takes effect
//! without a restart, and in sessions that are open already: they ask [`Directory::still`] before each message. Another task
//! asks what each sender can carry. Times of last use are written once a minute.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use postkey_base::{Clock, Diagnose};
use postkey_queue::Gauge;
use postkey_store::{ApiKey, ApiKeyId, LocalSecretId, MessageFilter, SenderId, Store, StoreError, SubmitterId, Via};
use postkey_transport::{Abilities, message::MAX_SIZE};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zeroize::Zeroizing;

use crate::{
    known::Known,
    lockout::{Gate, Lockout, LockoutSettings, Network},
    login::LoginRefusal,
    passwords::{api_key_mac, password_mac, same},
    quota::Load,
    refusal::{Refusal, until},
    tally::Tally,
    view::{Kept, Read, View},
};

/// Tells what a sender can do today.
pub trait Carries: Send + Sync + 'static {
    /// Its abilities; `None` when they cannot be told now (it is down, or not set up yet): then what was last known stays.
    /// May ask the network; given up after [`PATIENCE_WITH_SENDERS`].
    fn abilities(&self, sender: SenderId) -> Pin<Box<dyn Future<Output = Option<Abilities>> + Send + '_>>;
}

/// A [`Carries`] that never knows: nothing is refused for its size but by the submitter's own rule.
#[derive(Debug, Clone, Copy)]
pub struct CarriesUnknown;

impl Carries for CarriesUnknown {
    fn abilities(&self, _: SenderId) -> Pin<Box<dyn Future<Output = Option<Abilities>> + Send + '_>> {
        Box::pin(std::future::ready(None))
    }
}

/// Submitters, keys and senders. Cheap to clone.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    key: Zeroizing<[u8; 32]>,
    view: ArcSwap<View>,
    kept: Mutex<Kept>,
    /// One look at a time, or an older one could replace a newer.
    looks: tokio::sync::Mutex<()>,
    lockout: Mutex<Lockout>,
    used: Mutex<Used>,
    tally: Tally,
    carries: Arc<dyn Carries>,
    ask_senders: tokio::sync::Notify,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What was used since it was last written.
#[derive(Debug, Default)]
struct Used {
    secrets: HashMap<LocalSecretId, Timestamp>,
    keys: HashMap<ApiKeyId, Timestamp>,
}

/// Somebody signed in.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// Who.
    pub known: Arc<Known>,
    /// With which of its passwords; `None` where its network is enough.
    pub secret: Option<LocalSecretId>,
}

/// An API key, and for whom it acts.
#[derive(Debug, Clone)]
pub struct KeyHolder {
    /// The key.
    pub key: Arc<ApiKey>,
    /// `None`: for nobody in particular; it sees everything and may not send.
    pub submitter: Option<Arc<Known>>,
}

impl Directory {
    /// Reads the store and keeps what it read up to date until [`Directory::close`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open(store: Store, clock: Clock, carries: Arc<dyn Carries>) -> Result<Self, StoreError> {
        Self::open_with(store, clock, carries, LockoutSettings::default()).await
    }

    /// [`Directory::open`] with other [`LockoutSettings`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_with(
        store: Store,
        clock: Clock,
        carries: Arc<dyn Carries>,
        lockout: LockoutSettings,
    ) -> Result<Self, StoreError> {
        let key = store.local_secret_key().await?;
        let changes = store.changes();
        let directory = Self(Arc::new(Inner {
            store,
            clock,
            key,
            view: ArcSwap::default(),
            kept: Mutex::default(),
            looks: tokio::sync::Mutex::default(),
            lockout: Mutex::new(Lockout::new(lockout)),
            used: Mutex::default(),
            tally: Tally::default(),
            carries,
            ask_senders: tokio::sync::Notify::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }));
        directory.refresh().await?;
        directory.remember_the_rightful().await?;
        let follower = directory.clone();
        directory.0.tasks.spawn(async move { follower.follow(changes).await });
        let asker = directory.clone();
        directory.0.tasks.spawn(async move { asker.ask_senders().await });
        directory.0.tasks.close();
        Ok(directory)
    }

    /// Stops following and writes the last times of use.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.wait().await;
    }

    /// Looks at the store now: for whoever has just changed it and must not wait a second.
    ///
    /// # Errors
    /// When the store cannot be read; what was known stays.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.0.looks.lock().await;
        let read = Read::from(&self.0.store).await?;
        if read != self.0.view.load().read {
            let (view, uncounted) = View::of(read, &mut self.kept());
            for known in uncounted {
                self.count(&known).await?;
            }
            self.0.view.store(Arc::new(view));
            self.0.ask_senders.notify_one();
        }
        Ok(())
    }

    /// Who signs in with this name and password from there.
    ///
    /// # Errors
    /// Wrong, locked out, disabled, or from a network that is not allowed.
    pub fn login(&self, name: &str, password: &str, address: IpAddr) -> Result<SignedIn, LoginRefusal> {
        let outcome = self.try_login(name, password, address);
        self.0.tally.login(&outcome);
        outcome
    }

    fn try_login(&self, name: &str, password: &str, address: IpAddr) -> Result<SignedIn, LoginRefusal> {
        let now = self.0.clock.now();
        let view = self.0.view.load();
        let known = view.named(name);
        // Both spellings of a name are one to whoever counts failures.
        let counted = known.map_or(name, |known| known.name());
        if let Gate::Locked { until: then } = self.lockout().gate(counted, address, now) {
            let (network, wait) = (Network::of(address), until(then, now));
            return Err(LoginRefusal::Locked { network, until: then, wait });
        }
        // The same work for a name that nobody has.
        let mac = password_mac(&self.0.key, password);
        let secrets = known.map_or(&[][..], |known| view.secrets(known.submitter.id));
        let mut found = None;
        for (id, kept) in secrets {
            if same(kept, &mac) {
                found = Some(*id);
            }
        }
        let (Some(known), Some(secret)) = (known, found) else {
            return Err(LoginRefusal::Wrong { wait: self.lockout().failed(counted, address, now) });
        };
        self.lockout().succeeded(counted, address, now);
        may_be_used(known, address)?;
        self.used().secrets.insert(secret, now);
        Ok(SignedIn { known: Arc::clone(known), secret: Some(secret) })
    }

    /// Who is known by its network alone.
    pub fn by_network(&self, address: IpAddr) -> Option<Arc<Known>> {
        self.0.view.load().by_network(address).cloned()
    }

    /// Whose key this is.
    ///
    /// # Errors
    /// Unknown, ended, disabled, or from a network that is not allowed.
    pub fn api_key(&self, token: &str, address: IpAddr) -> Result<KeyHolder, LoginRefusal> {
        let outcome = self.try_api_key(token, address);
        self.0.tally.login(&outcome);
        outcome
    }

    fn try_api_key(&self, token: &str, address: IpAddr) -> Result<KeyHolder, LoginRefusal> {
        let now = self.0.clock.now();
        let view = self.0.view.load();
        let mac = api_key_mac(&self.0.key, token);
        // A key is found by its 158 bits alone and cannot be guessed, so a right one is never locked out.
        let Some(key) = view.key(&mac) else {
            let mut lockout = self.lockout();
            if let Gate::Locked { until: then } = lockout.gate(ANY_KEY, address, now) {
                let (network, wait) = (Network::of(address), until(then, now));
                return Err(LoginRefusal::Locked { network, until: then, wait });
            }
            return Err(LoginRefusal::UnknownKey { wait: lockout.failed(ANY_KEY, address, now) });
        };
        if key.disabled_at.is_some() {
            return Err(LoginRefusal::KeyDisabled { name: key.name.clone() });
        }
        if let Some(ended) = key.expires_at.filter(|&end| end <= now) {
            return Err(LoginRefusal::KeyEnded { name: key.name.clone(), ended });
        }
        let submitter = match key.submitter {
            None => None,
            Some(id) => match view.known(id) {
                Some(known) => {
                    may_be_used(known, address)?;
                    Some(Arc::clone(known))
                }
                None => return Err(Refusal::Removed { submitter: key.name.clone() }.into()),
            },
        };
        self.used().keys.insert(key.id, now);
        Ok(KeyHolder { key: Arc::clone(key), submitter })
    }

    /// The same submitter as it is now: to be asked before each message of a session. Its use is noted.
    ///
    /// # Errors
    /// It was removed, disabled or limited to other networks since, or its password was removed.
    pub fn still(&self, signed_in: &SignedIn, address: IpAddr) -> Result<Arc<Known>, Refusal> {
        let before = &signed_in.known;
        let view = self.0.view.load();
        let known = view.known(before.submitter.id);
        let known = known.ok_or_else(|| Refusal::Removed { submitter: before.name().to_owned() })?;
        match signed_in.secret {
            Some(secret) => {
                if !view.secrets(known.submitter.id).iter().any(|(id, _)| *id == secret) {
                    return Err(Refusal::PasswordRemoved { submitter: known.name().to_owned() });
                }
                may_be_used(known, address)?;
                self.used().secrets.insert(secret, self.0.clock.now());
            }
            None => {
                let by_network = view.by_network(address);
                if by_network.is_none_or(|one| one.submitter.id != known.submitter.id) {
                    return Err(Refusal::UnknownNetwork { address });
                }
            }
        }
        Ok(Arc::clone(known))
    }

    /// A submitter by name, as it is now.
    pub fn submitter(&self, name: &str) -> Option<Arc<Known>> {
        self.0.view.load().named(name).cloned()
    }

    /// A submitter by id, as it is now.
    pub fn submitter_by_id(&self, id: SubmitterId) -> Option<Arc<Known>> {
        self.0.view.load().known(id).cloned()
    }

    /// Bytes of the largest message that anybody may hand in: what is announced to whom nobody knows yet.
    pub fn largest(&self) -> u64 {
        self.0.view.load().all().map(|known| known.largest()).max().unwrap_or(MAX_SIZE)
    }

    /// Numbers about sign-ins and SMTP sessions, for `/metrics`.
    pub fn gauges(&self) -> Vec<Gauge> {
        self.0.tally.gauges()
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    async fn follow(&self, changes: postkey_store::Changes) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut write = interval(WRITE_USES_EVERY);
        write.reset();
        let mut told = None;
        loop {
            // Both ticks lose nothing when dropped.
            tokio::select! {
                () = self.0.stop.cancelled() => break,
                _ = look.tick() => {
                    let looked = if changes.poll().await { self.refresh().await } else { Ok(()) };
                    tell("the submitters cannot be read again; what was known holds", looked, &mut told);
                }
                _ = write.tick() => {
                    let written = self.write_uses().await;
                    tell("times of last use cannot be written", written, &mut None);
                }
            }
        }
        let written = timeout(LAST_WRITE, self.write_uses()).await.unwrap_or(Ok(()));
        tell("times of last use cannot be written", written, &mut None);
    }

    async fn write_uses(&self) -> Result<(), StoreError> {
        let used = std::mem::take(&mut *self.used());
        if used.secrets.is_empty() && used.keys.is_empty() {
            return Ok(());
        }
        self.0
            .store
            .transaction("directory.used", async move |transaction| {
                for (&id, &at) in &used.secrets {
                    transaction.secret_used(id, at).await?;
                }
                for (&id, &at) in &used.keys {
                    transaction.api_key_used(id, at).await?;
                }
                Ok(())
            })
            .await
    }

    async fn ask_senders(&self) {
        let mut again = interval(ASK_SENDERS_EVERY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                _ = again.tick() => {}
                () = self.0.ask_senders.notified() => {}
            }
            let senders: Vec<_> = self.0.view.load().read.senders().collect();
            for sender in senders {
                // A stop must not wait for a sender that does not answer.
                let answer = tokio::select! {
                    () = self.0.stop.cancelled() => return,
                    answer = timeout(PATIENCE_WITH_SENDERS, self.0.carries.abilities(sender)) => answer,
                };
                if let Ok(Some(abilities)) = answer {
                    self.kept().abilities(sender).store(Some(Arc::new(abilities)));
                }
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lockout(&self) -> MutexGuard<'_, Lockout> {
        self.0.lockout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was sent in the last 24 hours counts, whatever process took it. Before anybody sees the submitter, so that no use
    /// is counted twice.
    async fn count(&self, known: &Known) -> Result<(), StoreError> {
        let since = self.0.clock.now().saturating_sub(ONE_DAY).unwrap_or(Timestamp::MIN);
        let buckets = self.0.store.submitted(known.submitter.id, since).await?;
        known.with_usage(|usage| {
            for bucket in buckets {
                let load = Load { messages: bucket.messages, recipients: bucket.recipients, bytes: bucket.bytes };
                usage.charge(load, bucket.from);
            }
        });
        self.kept().counts(known);
        Ok(())
    }

    /// Where mail came from lately, devices are at home: a restart must not lock them out with those who guess.
    async fn remember_the_rightful(&self) -> Result<(), StoreError> {
        let newest = MessageFilter { limit: REMEMBERED_MESSAGES, ..MessageFilter::default() };
        let messages = self.0.store.search_messages(&newest).await?;
        let view = self.0.view.load();
        // From old to new, so that the newest time stays.
        for message in messages.iter().rev().filter(|message| message.via == Via::Smtp) {
            let known = message.submitter.and_then(|id| view.known(id));
            let address = message.remote.as_deref().and_then(|remote| remote.parse().ok());
            if let (Some(known), Some(address)) = (known, address) {
                self.lockout().succeeded(known.name(), address, message.accepted_at);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Directory(..)")
    }
}

fn may_be_used(known: &Known, address: IpAddr) -> Result<(), Refusal> {
    let submitter = || known.name().to_owned();
    if known.submitter.disabled_at.is_some() {
        return Err(Refusal::Disabled { submitter: submitter() });
    }
    if !known.may_connect_from(address) {
        return Err(Refusal::Network { submitter: submitter(), address: address.to_canonical() });
    }
    Ok(())
}

/// Logs a failure once, until it is over.
fn tell(what: &str, outcome: Result<(), StoreError>, told: &mut Option<&'static str>) {
    match outcome {
        Ok(()) => *told = None,
        Err(error) if *told == Some(error.code()) => {}
        Err(error) => {
            let diagnosis = error.diagnosis();
            tracing::warn!(error.code = diagnosis.code, "{what}: {}. {}", diagnosis.what, diagnosis.remedy);
            *told = Some(error.code());
        }
    }
}

/// Half of the second within which a change takes effect.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A time of last use is for people: to the minute is enough, and seldom enough not to be felt.
const WRITE_USES_EVERY: Duration = Duration::from_secs(60);
/// A stop waits no longer for it than this.
const LAST_WRITE: Duration = Duration::from_secs(2);
/// What the quotas of a day look back to.
const ONE_DAY: SignedDuration = SignedDuration::from_hours(24);
/// So many messages are looked at for the addresses of their devices.
const REMEMBERED_MESSAGES: u32 = MessageFilter::MOST;
/// Permissions change seldom; a change in the store asks at once.
const ASK_SENDERS_EVERY: Duration = Duration::from_secs(10 * 60);
/// Asking takes a token and perhaps a session with an SMTP server.
pub const PATIENCE_WITH_SENDERS: Duration = Duration::from_secs(30);
/// Wrong API keys name nobody; they are counted together.
const ANY_KEY: &str = "\0 any API key";
