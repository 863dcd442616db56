//! A Graph on loopback that answers as a test has written down, and remembers what it was asked.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use postkey_base::AccessToken;
use postkey_identity::{Cloud, TokenError, TokenSource};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::graph::Graph;

/// One answer of the script.
#[derive(Clone)]
pub(crate) enum Say {
    /// Status, headers, body; `{base}` in the body becomes the server's address.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The connection ends instead.
    Cut,
}

impl Say {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), String::new())
    }

    pub(crate) fn json(status: u16, body: Value) -> Self {
        Self::Answer(status, vec![("content-type", "application/json".into())], body.to_string())
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        Self::json(status, serde_json::json!({ "error": { "code": code, "message": "As the test says." } }))
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Answer(_, headers, _) = &mut self {
            headers.push((name, value.to_owned()));
        }
        self
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Tokens `token-0`, `token-1`, …: the next one after each that is disowned.
#[derive(Default)]
pub(crate) struct Tokens {
    pub(crate) disowned: Mutex<Vec<(String, Option<String>)>>,
}

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl TokenSource for Tokens {
    fn token(&self) -> Later<'_, Result<AccessToken, TokenError>> {
        let text = format!("token-{}", self.disowned.lock().unwrap().len());
        Box::pin(async move { Ok(AccessToken::new(text)) })
    }

    fn disown<'a>(&'a self, token: &'a AccessToken, claims: Option<String>) -> Later<'a, ()> {
        self.disowned.lock().unwrap().push((token.expose().to_owned(), claims));
        Box::pin(async {})
    }
}

/// The server, and a client of it that does not really wait.
pub(crate) struct Served {
    pub(crate) graph: Graph,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) waits: Arc<Mutex<Vec<Duration>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Served {
    pub(crate) async fn start(script: impl IntoIterator<Item = Say>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (tokens, waits) = (Arc::new(Tokens::default()), Arc::new(Mutex::new(Vec::new())));
        let cloud = Cloud { graph: format!("{base}/v1.0").parse().unwrap(), ..Cloud::global() };
        let graph = Graph::new(client(), cloud, Arc::clone(&tokens) as Arc<dyn TokenSource>)
            .with_patience(Duration::from_secs(60))
            .skipping_waits(Arc::clone(&waits));
        let server = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(converse(stream, base.clone(), Arc::clone(&script), Arc::clone(&seen)));
                }
            }
        });
        Self { graph, tokens, waits, seen, server }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }

    pub(crate) fn waited(&self) -> Vec<u64> {
        self.waits.lock().unwrap().iter().map(Duration::as_secs).collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

async fn converse(mut stream: TcpStream, base: String, script: Arc<Mutex<VecDeque<Say>>>, seen: Arc<Mutex<Vec<Seen>>>) {
    while let Some(request) = next_request(&mut stream).await {
        seen.lock().unwrap().push(request);
        // A script that is over answers what no test expects.
        let say = script.lock().unwrap().pop_front().unwrap_or_else(|| Say::error(418, "ScriptIsOver"));
        let Say::Answer(status, headers, body) = say else { return };
        let body = body.replace("{base}", &base);
        let mut answer = format!("HTTP/1.1 {status} As Told\r\nrequest-id: graph-{status}\r\n");
        for (name, value) in headers {
            answer.push_str(&format!("{name}: {value}\r\n"));
        }
        if status != 204 {
            answer.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        answer.push_str("\r\n");
        if status != 204 {
            answer.push_str(&body);
        }
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn next_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut read = Vec::new();
    let head_end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(read[..head_end].to_vec()).unwrap();
    let (first, rest) = head.split_once("\r\n").unwrap();
    let headers: Vec<(String, String)> = rest
        .split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = read.split_off(head_end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { line: first.trim_end_matches(" HTTP/1.1").to_owned(), headers, body })
}
