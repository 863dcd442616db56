//! The API over a store of its own, with a far end that never answers: what is taken stays queued.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use postkey_api::{ApiParts, ApiSettings, Hosts, router};
use postkey_base::Clock;
use postkey_queue::{BoxFuture, Connected, Outbound, OutboundError, Queue, QueueParts, QueueSettings};
use postkey_store::{Location, MasterKeys, NewSubmitter, Scope, SenderId, SenderValues, Store, SubmitterRules};
use postkey_submission::{CarriesUnknown, Directory, LockoutSettings, new_api_key};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

/// Takes every order and never answers.
struct Nowhere;

impl Outbound for Nowhere {
    fn connect(&self, _: SenderId) -> BoxFuture<'_, Result<Connected, OutboundError>> {
        Box::pin(std::future::pending())
    }

    fn forget(&self, _: SenderId) {}
}

pub(crate) const ALL: [Scope; 4] = [Scope::Send, Scope::OutboxRead, Scope::OutboxManage, Scope::Metrics];

pub(crate) struct House {
    pub(crate) router: Router,
    pub(crate) store: Store,
    pub(crate) directory: Directory,
    pub(crate) queue: Queue,
    _folder: TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The problem's code; `-` when it is none.
    pub(crate) fn code(&self) -> String {
        let is_problem = self.header("content-type") == "application/problem+json";
        if is_problem { self.json()["code"].as_str().unwrap().to_owned() } else { "-".into() }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::with(QueueSettings::default()).await
    }

    pub(crate) async fn with(settings: QueueSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("postkey.db"));
        let clock = Clock::real();
        let store = Store::open(location, MasterKeys::fresh(), clock.clone()).await.unwrap();
        for (name, mailbox) in [("reports", "noreply@contoso.example"), ("billing", "billing@contoso.example")] {
            let values = SenderValues {
                tenant: Some("3fa85f64-5717-4562-b3fc-2c963f66afa6".parse().unwrap()),
                client_id: Some("7c9e6679-7425-40de-944b-e07fc1f90ae7".parse().unwrap()),
                mailbox: Some(mailbox.parse().unwrap()),
                ..SenderValues::named(name)
            };
            store.save_sender(&values).await.unwrap();
        }
        // Refusals are heard at once, or tests would wait.
        let lockout = LockoutSettings { first_delay: Duration::ZERO, ..LockoutSettings::default() };
        let directory =
            Directory::open_with(store.clone(), clock.clone(), Arc::new(CarriesUnknown), lockout).await.unwrap();
        let queue = Queue::start(QueueParts {
            store: store.clone(),
            clock: clock.clone(),
            outbound: Arc::new(Nowhere),
            settings,
            node: "test".into(),
        })
        .await
        .unwrap();
        let router = router(ApiParts {
            store: store.clone(),
            queue: queue.clone(),
            directory: directory.clone(),
            clock,
            settings: ApiSettings { hosts: Hosts::new(None, &[]), proxies: vec!["10.0.0.0/8".parse().unwrap()] },
        });
        Self { router, store, directory, queue, _folder: folder }
    }

    /// A submitter of both senders.
    pub(crate) async fn submitter(&self, name: &str, rules: SubmitterRules) {
        let new = NewSubmitter { name: name.into(), senders: vec!["reports".into(), "billing".into()], rules };
        self.store.add_submitter(&new).await.unwrap();
        self.directory.refresh().await.unwrap();
    }

    /// A key, and its text.
    pub(crate) async fn key(&self, name: &str, submitter: Option<&str>, scopes: &[Scope]) -> String {
        let secret = self.store.local_secret_key().await.unwrap();
        let (text, mac) = new_api_key(&secret);
        self.store.add_api_key(name, submitter, scopes, &mac, None).await.unwrap();
        self.directory.refresh().await.unwrap();
        text.expose().to_owned()
    }

    /// A submitter `shop` that may do everything, and its key.
    pub(crate) async fn shop() -> (Self, String) {
        let house = Self::open().await;
        house.submitter("shop", SubmitterRules::default()).await;
        let key = house.key("shop-key", Some("shop"), &ALL).await;
        (house, key)
    }

    /// Asks from loopback, unless the request says otherwise.
    pub(crate) async fn ask(&self, mut request: Request<Body>) -> Answer {
        let peer: SocketAddr = "127.0.0.1:50000".parse().unwrap();
        if request.extensions().get::<ConnectInfo<SocketAddr>>().is_none() {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        if !request.headers().contains_key(header::HOST) {
            request.headers_mut().insert(header::HOST, "localhost:8025".parse().unwrap());
        }
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    pub(crate) async fn get(&self, key: &str, path: &str) -> Answer {
        self.ask(request("GET", path, key).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn json(&self, method: &str, key: &str, path: &str, body: &Value) -> Answer {
        let request = request(method, path, key).header(header::CONTENT_TYPE, "application/json");
        self.ask(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Sends a small message; its id.
    pub(crate) async fn sent(&self, key: &str, subject: &str) -> String {
        let body = serde_json::json!({ "to": ["ada@fabrikam.example"], "subject": subject, "text": "Hello" });
        let answer = self.json("POST", key, "/v1/send", &body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn close(self) {
        self.queue.shutdown(Duration::from_secs(5)).await;
        self.directory.close().await;
    }
}

pub(crate) fn request(method: &str, path: &str, key: &str) -> http::request::Builder {
    let request = Request::builder().method(method).uri(path);
    if key.is_empty() { request } else { request.header(header::AUTHORIZATION, format!("Bearer {key}")) }
}
