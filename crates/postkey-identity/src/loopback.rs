//! A login host for tests: answers on loopback from a script, and remembers what it was asked.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use postkey_base::Clock;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    cloud::{Cloud, CloudName},
    endpoint::TokenEndpoint,
    network::Network,
};

/// One answer of the script.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: &'static str,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn new(status: u16, body: &Value) -> Self {
        Self { status, headers: "", body: body.to_string() }
    }

    pub(crate) fn token(access: &str) -> Self {
        Self::new(200, &json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": access }))
    }

    pub(crate) fn refusal(status: u16, error: &str, code: u32) -> Self {
        let text = format!("AADSTS{code}: Said. Trace ID: t Correlation ID: c Timestamp: 2026-03-01 10:00:00Z");
        Self::new(status, &json!({ "error": error, "error_codes": [code], "error_description": text }))
    }

    pub(crate) fn with(mut self, headers: &'static str) -> Self {
        self.headers = headers;
        self
    }
}

/// One request: its first line and its body.
pub(crate) type Asked = (String, String);

pub(crate) struct Loopback {
    pub(crate) cloud: Cloud,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Loopback {
    /// Answers in turn; the last answer stays.
    pub(crate) async fn answering(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let login = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, script.clone(), seen.clone()));
            }
        });
        Self { cloud: Cloud { login, name: CloudName::Custom, ..Cloud::global() }, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn endpoint(&self, clock: Clock) -> TokenEndpoint {
        let (network, _folder) = trusting_one_ca();
        TokenEndpoint::new(network.http_client(&self.cloud).unwrap(), self.cloud.clone(), clock).impatient()
    }
}

/// A network with an extra CA, so that a machine without any CA can run the tests too.
pub(crate) fn trusting_one_ca() -> (Network, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, made.cert.pem()).unwrap();
    (Network { proxy: None, extra_ca: Some(path) }, folder)
}

async fn answer(stream: TcpStream, script: Arc<Mutex<VecDeque<Reply>>>, seen: Arc<Mutex<Vec<Asked>>>) {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    if stream.read_line(&mut first).await.unwrap_or(0) == 0 {
        return;
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    seen.lock().unwrap().push((first.trim().to_owned(), String::from_utf8(body).unwrap()));
    let reply = {
        let mut script = script.lock().unwrap();
        if script.len() > 1 { script.pop_front() } else { script.front().cloned() }.unwrap()
    };
    let Reply { status, headers, body } = reply;
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}
