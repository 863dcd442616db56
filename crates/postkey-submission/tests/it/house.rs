//! A submission service on loopback with a store of its own, and a desk in place of the queue.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use postkey_base::{Clock, clock::TimeSource};
use postkey_queue::{AcceptError, BoxFuture, Receipt, Submission as Message};
use postkey_store::{Location, MasterKeys, MessageId, NewSubmitter, SenderValues, Store, SubmitterRules};
use postkey_submission::{
    Carries, CarriesUnknown, Directory, Intake, Listener, LockoutSettings, Mode, ReloadingTls, Submission,
    SubmissionParts, SubmissionSettings, TlsFiles, new_password, password_mac,
};
use tempfile::TempDir;

/// A clock that a test turns.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_800_000_000)))
    }

    pub(crate) fn turn(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock::following(Arc::new(self.clone()))
    }
}

impl TimeSource for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// Takes messages in place of the queue.
#[derive(Clone, Default)]
pub(crate) struct Desk(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    messages: Vec<Message>,
    keys: HashMap<String, MessageId>,
    refuses: Vec<AcceptError>,
}

impl Desk {
    /// What the next message hears.
    pub(crate) fn refuses(&self, error: AcceptError) {
        self.0.lock().unwrap().refuses.push(error);
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        self.0.lock().unwrap().messages.clone()
    }
}

impl Intake for Desk {
    fn accept(&self, message: Message) -> BoxFuture<'_, Result<Receipt, AcceptError>> {
        Box::pin(async move {
            let mut taken = self.0.lock().unwrap();
            if let Some(error) = taken.refuses.pop() {
                return Err(error);
            }
            let id = MessageId::at(Timestamp::now());
            if let Some(key) = &message.idempotency_key {
                if let Some(&first) = taken.keys.get(key) {
                    return Ok(Receipt { id: first, repeated: true });
                }
                taken.keys.insert(key.clone(), id);
            }
            taken.messages.push(message);
            Ok(Receipt { id, repeated: false })
        })
    }
}

/// What is to be built.
pub(crate) struct Plan {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) settings: SubmissionSettings,
    pub(crate) lockout: LockoutSettings,
    pub(crate) carries: Arc<dyn Carries>,
    /// `None`: a certificate that never changes.
    pub(crate) files: Option<TlsFiles>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            listeners: vec![listener("starttls", Mode::StartTls), listener("implicit", Mode::Implicit)],
            settings: SubmissionSettings::default(),
            // Refusals are heard at once, or tests would wait.
            lockout: LockoutSettings { first_delay: Duration::ZERO, ..LockoutSettings::default() },
            carries: Arc::new(CarriesUnknown),
            files: None,
        }
    }
}

pub(crate) fn listener(name: &str, mode: Mode) -> Listener {
    Listener { name: name.into(), address: "127.0.0.1:0".parse().unwrap(), mode, proxies: Vec::new() }
}

pub(crate) struct House {
    pub(crate) submission: Submission,
    pub(crate) directory: Directory,
    pub(crate) store: Store,
    pub(crate) desk: Desk,
    pub(crate) clock: TestClock,
    pub(crate) tls: Arc<ReloadingTls>,
    pub(crate) ca_pem: Vec<u8>,
    _folder: TempDir,
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::built(Plan::default()).await
    }

    pub(crate) async fn built(plan: Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        let location = Location::Sqlite(folder.path().join("postkey.db"));
        let store = Store::open(location, MasterKeys::fresh(), clock.clock()).await.unwrap();
        let sender = SenderValues {
            mailbox: Some("noreply@contoso.example".parse().unwrap()),
            ..SenderValues::named("reports")
        };
        store.save_sender(&sender).await.unwrap();
        let directory = Directory::open_with(store.clone(), clock.clock(), plan.carries, plan.lockout).await.unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let tls = Arc::new(match plan.files {
            Some(files) => ReloadingTls::load(files).unwrap(),
            None => ReloadingTls::fixed(&certificate, &key).unwrap(),
        });
        let desk = Desk::default();
        let submission = Submission::start(SubmissionParts {
            directory: directory.clone(),
            queue: desk.clone(),
            listeners: plan.listeners,
            tls: Some(Arc::clone(&tls)),
            settings: plan.settings,
        })
        .await
        .unwrap();
        let ca_pem = tls.certificate_pem();
        Self { submission, directory, store, desk, clock, tls, ca_pem, _folder: folder }
    }

    pub(crate) fn at(&self, listener: &str) -> SocketAddr {
        self.submission.address(listener).unwrap()
    }

    /// A submitter of the one sender, and its generated password.
    pub(crate) async fn submitter(&self, name: &str, rules: SubmitterRules) -> String {
        self.add(name, rules).await;
        let key = self.store.local_secret_key().await.unwrap();
        let (password, mac) = new_password(&key);
        self.store.add_password(name, &mac, false).await.unwrap();
        self.directory.refresh().await.unwrap();
        password.expose().to_owned()
    }

    /// A submitter with a password from a file.
    pub(crate) async fn submitter_with(&self, name: &str, password: &str, rules: SubmitterRules) {
        self.add(name, rules).await;
        let key = self.store.local_secret_key().await.unwrap();
        self.store.add_password(name, &password_mac(&key, password), false).await.unwrap();
        self.directory.refresh().await.unwrap();
    }

    pub(crate) async fn add(&self, name: &str, rules: SubmitterRules) {
        let new = NewSubmitter { name: name.into(), senders: vec!["reports".into()], rules };
        self.store.add_submitter(&new).await.unwrap();
        self.directory.refresh().await.unwrap();
    }

    pub(crate) async fn close(self) {
        assert!(self.submission.shutdown(Duration::from_secs(10)).await, "sessions are left");
        self.directory.close().await;
    }
}
