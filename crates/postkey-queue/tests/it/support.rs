//! A Graph on loopback with a memory of what it took, a store in a temporary folder, and a clock to turn.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use postkey_base::{AccessToken, ClientId, Clock, Diagnosis, EmailAddress, TenantId, Who, clock::TimeSource};
use postkey_graph::{Graph, Pacer};
use postkey_identity::{Cloud, TokenError, TokenSource};
use postkey_queue::{
    BoxFuture, Connected, LaneKey, Outbound, OutboundError, Outbox, Queue, QueueParts, QueueSettings, Receipt,
    Submission,
};
use postkey_store::{
    Location, MasterKeys, MessageEvent, MessageId, MessageState, OnUnknown, Priority, QueuedEnvelope, QueuedMessage,
    QueuedRecipient, SenderId, SenderValues, Store, SubmitterId, Via,
};
use postkey_transport::{Abilities, Message, OutcomeClass, Transport};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// A clock that goes on by itself from a fixed time, and can be turned.
pub(crate) struct TestClock {
    began: Instant,
    turned: Mutex<SignedDuration>,
}

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), turned: Mutex::default() })
    }

    pub(crate) fn set_back(&self, by: Duration) {
        *self.turned.lock().unwrap() -= SignedDuration::try_from(by).unwrap();
    }

    pub(crate) fn advance(&self, by: Duration) {
        *self.turned.lock().unwrap() += SignedDuration::try_from(by).unwrap();
    }
}

impl TimeSource for TestClock {
    fn now(&self) -> Timestamp {
        let start: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        let passed = SignedDuration::try_from(self.began.elapsed()).unwrap();
        start + passed + *self.turned.lock().unwrap()
    }
}

pub(crate) fn address(text: &str) -> EmailAddress {
    text.parse().unwrap()
}

/// What the Graph on loopback does with a message.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    /// 202.
    Take,
    /// This status and code; nothing is taken.
    Refuse(u16, &'static str),
    /// The same with `Retry-After`.
    RefuseFor(u16, &'static str, u32),
    /// Takes it and answers this status.
    TakeBut(u16),
    /// Takes it and cuts the connection.
    TakeAndCut,
    /// Cuts the connection.
    Cut,
}

/// What the Graph has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) script: VecDeque<Say>,
    /// What it does when the script is at its end; `None`: takes everything.
    pub(crate) always: Option<Say>,
    pub(crate) taken: Vec<Taken>,
    pub(crate) asked: u32,
    pub(crate) knocked: u32,
    pub(crate) looked: u32,
    pub(crate) under_way: u32,
    pub(crate) most_under_way: u32,
    pub(crate) latency: Duration,
    pub(crate) reports: Vec<(String, String)>,
}

pub(crate) struct Taken {
    pub(crate) mailbox: String,
    pub(crate) text: String,
    pub(crate) at: Instant,
}

impl Taken {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let prefix = format!("{}:", name.to_ascii_lowercase());
        let line = self.text.lines().find(|line| line.to_ascii_lowercase().starts_with(&prefix))?;
        Some(line[prefix.len()..].trim().to_owned())
    }
}

#[derive(Clone)]
pub(crate) struct FarSide {
    base: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

impl FarSide {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let far_side = Self { base, seen: Arc::clone(&seen) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, Arc::clone(&seen)));
            }
        });
        far_side
    }

    pub(crate) fn says(&self, script: impl IntoIterator<Item = Say>) {
        self.seen.lock().unwrap().script.extend(script);
    }

    pub(crate) fn always(&self, say: Option<Say>) {
        self.seen.lock().unwrap().always = say;
    }

    pub(crate) fn taken(&self) -> usize {
        self.seen.lock().unwrap().taken.len()
    }

    fn client(&self) -> Graph {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let cloud = Cloud { graph: format!("{}/v1.0", self.base).parse().unwrap(), ..Cloud::global() };
        Graph::new(http, cloud, Arc::new(Tokens)).with_pacer(Pacer::idle())
    }
}

struct Tokens;

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl TokenSource for Tokens {
    fn token(&self) -> Later<'_, Result<AccessToken, TokenError>> {
        Box::pin(async { Ok(AccessToken::new("token".to_owned())) })
    }

    fn disown<'a>(&'a self, _token: &'a AccessToken, _claims: Option<String>) -> Later<'a, ()> {
        Box::pin(async {})
    }
}

async fn serve(stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length, mut json) = (String::new(), 0, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if first.is_empty() {
                first = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
            } else if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            } else if lower.starts_with("content-type: application/json") {
                json = true;
            }
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let mailbox = first.split('/').nth(3).unwrap_or_default().to_owned();
        let sends = first.contains("/sendMail");
        let latency = {
            let mut seen = seen.lock().unwrap();
            seen.under_way += 1;
            seen.most_under_way = seen.most_under_way.max(seen.under_way);
            seen.latency
        };
        if sends && !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let answer = if sends {
            send_mail(&mut seen.lock().unwrap(), mailbox, &body, json)
        } else {
            look(&mut seen.lock().unwrap(), &first)
        };
        seen.lock().unwrap().under_way -= 1;
        let Some((status, extra, body)) = answer else { return };
        let head = format!(
            "HTTP/1.1 {status} As Told\r\nrequest-id: r-{status}\r\n{extra}content-length: {}\r\ncontent-type: \
             application/json\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
    }
}

type Answer = Option<(u16, String, String)>;

fn error(status: u16, code: &str, extra: String) -> Answer {
    Some((status, extra, json!({ "error": { "code": code, "message": format!("told to say {code}") } }).to_string()))
}

fn send_mail(seen: &mut Seen, mailbox: String, body: &[u8], json: bool) -> Answer {
    if json {
        seen.knocked += 1;
        return match seen.script.front().cloned().or(seen.always.clone()).unwrap_or(Say::Take) {
            Say::Refuse(status, code) => error(status, code, String::new()),
            Say::TakeBut(status) if status >= 500 => error(status, "", String::new()),
            Say::Cut => None,
            _ => error(400, "ErrorInvalidRecipients", String::new()),
        };
    }
    seen.asked += 1;
    let say = seen.script.pop_front().or(seen.always.clone()).unwrap_or(Say::Take);
    let text = String::from_utf8(BASE64_STANDARD.decode(body).unwrap()).unwrap();
    let mut take = || seen.taken.push(Taken { mailbox: mailbox.clone(), text: text.clone(), at: Instant::now() });
    match say {
        Say::Take => {
            take();
            Some((202, String::new(), String::new()))
        }
        Say::Refuse(status, code) => error(status, code, String::new()),
        Say::RefuseFor(status, code, wait) => error(status, code, format!("retry-after: {wait}\r\n")),
        Say::TakeBut(status) => {
            take();
            error(status, "", String::new())
        }
        Say::TakeAndCut => {
            take();
            None
        }
        Say::Cut => None,
    }
}

fn look(seen: &mut Seen, first: &str) -> Answer {
    let page = |value: Vec<Value>| Some((200, String::new(), json!({ "value": value }).to_string()));
    if first.contains("/sentitems/") {
        seen.looked += 1;
        let found = seen.taken.iter().filter(|one| {
            let id = one.header("Message-ID").unwrap_or_default();
            first.contains(&id.trim_matches(['<', '>']).replace('@', "%40"))
                || first.contains(id.trim_matches(['<', '>']))
        });
        let found = found.map(|one| {
            json!({
                "id": "AAMk",
                "internetMessageId": one.header("Message-ID"),
                "isDraft": false,
                "internetMessageHeaders": [{ "name": "X-Postkey-Id", "value": one.header("X-Postkey-Id") }],
            })
        });
        return page(found.collect());
    }
    if first.contains("/$value") {
        let (_, mime) = seen.reports.iter().find(|(id, _)| first.contains(&format!("/{id}/")))?;
        return Some((200, String::new(), mime.clone()));
    }
    if first.contains("/inbox/") {
        let reports = seen.reports.iter().map(|(id, _)| {
            json!({
                "id": id, "subject": "Undeliverable", "receivedDateTime": "2026-03-01T10:01:00Z",
                "internetMessageHeaders": [{ "name": "Content-Type", "value": "multipart/report; report-type=delivery-status" }],
            })
        });
        return page(reports.collect());
    }
    page(Vec::new())
}

/// A sender's connection, as a test sets it.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) connected: Result<Connected, OutboundError>,
    pub(crate) forgotten: u32,
}

#[derive(Clone, Default)]
pub(crate) struct Ways(pub(crate) Arc<Mutex<HashMap<SenderId, Way>>>);

impl Outbound for Ways {
    fn connect(&self, sender: SenderId) -> BoxFuture<'_, Result<Connected, OutboundError>> {
        let way = self.0.lock().unwrap().get(&sender).cloned().expect("the test has set this sender's way");
        Box::pin(async move { way.connected })
    }

    fn forget(&self, sender: SenderId) {
        if let Some(way) = self.0.lock().unwrap().get_mut(&sender) {
            way.forgotten += 1;
        }
    }
}

/// A queue with all that it needs.
pub(crate) struct Bench {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) store: Store,
    pub(crate) far_side: FarSide,
    pub(crate) ways: Ways,
    pub(crate) queue: Queue,
    pub(crate) settings: QueueSettings,
    location: Location,
    keys: MasterKeys,
    _folder: tempfile::TempDir,
}

pub(crate) const TENANT: TenantId = TenantId::new(uuid::Uuid::from_u128(1));
pub(crate) const CLIENT: ClientId = ClientId::new(uuid::Uuid::from_u128(2));

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with(QueueSettings::default().without_rates()).await
    }

    pub(crate) async fn with(settings: QueueSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        let (location, keys) = (Location::Sqlite(folder.path().join("data").join("postkey.db")), MasterKeys::fresh());
        let store = Store::open(location.clone(), keys.clone(), Clock::following(clock.clone())).await.unwrap();
        let far_side = FarSide::start().await;
        let ways = Ways::default();
        let queue = start_queue(&store, &clock, &ways, &settings).await;
        Self { clock, store, far_side, ways, queue, settings, location, keys, _folder: folder }
    }

    /// A sender that may send and, if asked, read.
    pub(crate) async fn sender(&self, mailbox: &str, may_read: bool) -> SenderId {
        let values = SenderValues {
            tenant: Some(TENANT),
            client_id: Some(CLIENT),
            mailbox: Some(address(mailbox)),
            ..SenderValues::named(mailbox.split('@').next().unwrap())
        };
        let id = self.store.save_sender(&values).await.unwrap().id;
        let connected = self.connected(mailbox, may_read);
        self.ways.0.lock().unwrap().insert(id, Way { connected: Ok(connected), forgotten: 0 });
        // The queue notices a new sender by the store's revision.
        until(|| async { self.queue.knows_sender(id) }).await;
        id
    }

    pub(crate) fn connected(&self, mailbox: &str, may_read: bool) -> Connected {
        let transport = Transport {
            mailbox: address(mailbox),
            abilities: Abilities { graph_send: true, ..Abilities::default() },
            graph: Some(self.far_side.client()),
            smtp: None,
        };
        let lane = LaneKey { tenant: TENANT, client_id: CLIENT, mailbox: address(mailbox) };
        let name = mailbox.split('@').next().unwrap().to_owned();
        let app = postkey_store::LocalAppId::random();
        Connected { lane, app, transport, may_read, on_unknown: OnUnknown::AtLeastOnce, name }
    }

    pub(crate) fn set_way(&self, sender: SenderId, connected: Result<Connected, OutboundError>) {
        self.ways.0.lock().unwrap().get_mut(&sender).unwrap().connected = connected;
    }

    pub(crate) async fn submit(&self, sender: SenderId, subject: &str) -> MessageId {
        self.submit_as(sender, subject, None).await.id
    }

    pub(crate) async fn submit_as(&self, sender: SenderId, subject: &str, submitter: Option<SubmitterId>) -> Receipt {
        self.queue.accept(submission(sender, subject, submitter)).await.unwrap()
    }

    pub(crate) async fn message(&self, id: MessageId) -> QueuedMessage {
        self.store.message(id).await.unwrap().unwrap()
    }

    pub(crate) async fn events(&self, id: MessageId) -> Vec<MessageEvent> {
        self.store.message_events(id).await.unwrap()
    }

    pub(crate) async fn kinds(&self, id: MessageId) -> Vec<String> {
        self.events(id).await.into_iter().map(|event| event.kind).collect()
    }

    /// Waits until the message is in this state.
    pub(crate) async fn reaches(&self, id: MessageId, state: MessageState) -> QueuedMessage {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let message = self.message(id).await;
            if message.state == state {
                return message;
            }
            if Instant::now() > deadline {
                let events = self.events(id).await;
                panic!("{id} is {:?} instead of {state:?}: {events:#?}", message.state);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn message_time(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn outbox(&self) -> Outbox {
        Outbox::new(self.store.clone(), Clock::following(self.clock.clone()))
    }

    /// Another process with the same store.
    pub(crate) async fn another_process(&self) -> Store {
        Store::open(self.location.clone(), self.keys.clone(), Clock::following(self.clock.clone())).await.unwrap()
    }

    /// Shuts the queue down and starts another.
    pub(crate) async fn restart(&mut self) {
        self.queue.shutdown(Duration::from_secs(5)).await;
        self.queue = start_queue(&self.store, &self.clock, &self.ways, &self.settings).await;
    }
}

async fn start_queue(store: &Store, clock: &Arc<TestClock>, ways: &Ways, settings: &QueueSettings) -> Queue {
    let parts = QueueParts {
        store: store.clone(),
        clock: Clock::following(clock.clone()),
        outbound: Arc::new(ways.clone()),
        settings: settings.clone(),
        node: "test".into(),
    };
    Queue::start(parts).await.unwrap()
}

pub(crate) fn submission(sender: SenderId, subject: &str, submitter: Option<SubmitterId>) -> Submission {
    let text = format!(
        "From: noreply@contoso.example\r\nTo: alice@fabrikam.example\r\nSubject: {subject}\r\nMessage-ID: \
         <{subject}@contoso.example>\r\nDate: Sun, 01 Mar 2026 10:00:00 +0000\r\n\r\nHello\r\n"
    );
    Submission {
        submitter,
        sender,
        envelope: QueuedEnvelope {
            from: Some(address("noreply@contoso.example")),
            recipients: vec![QueuedRecipient::new(address("alice@fabrikam.example"))],
            ret: None,
            envid: None,
        },
        message: Message::parse(text.into_bytes()).unwrap(),
        priority: Priority::Normal,
        not_before: None,
        via: Via::Http,
        remote: Some("127.0.0.1".into()),
        idempotency_key: None,
        fingerprint: None,
        facts: json!({}),
        graph_json: false,
    }
}

/// Waits for something that happens soon.
pub(crate) async fn until<F: Future<Output = bool>>(mut is: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is().await {
        assert!(Instant::now() < deadline, "what was waited for did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn out(class: OutcomeClass, code: &str) -> OutboundError {
    OutboundError {
        class,
        diagnosis: Diagnosis {
            code: code.into(),
            what: "it does not work".into(),
            why: None,
            remedy: "Mend it.".into(),
            who: Who::AppOwner,
            evidence: Vec::new(),
        },
        transient: false,
    }
}
