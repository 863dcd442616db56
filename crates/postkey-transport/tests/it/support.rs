//! A Graph and a submission server on loopback that answer as a test has written down.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
};

use postkey_base::{AccessToken, EmailAddress};
use postkey_graph::Graph;
use postkey_identity::{Cloud, HostPort, Network, ProxyUrl, TokenError, TokenSource};
use postkey_transport::{Abilities, SmtpRoute, Stamp, Transport};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

pub(crate) fn address(text: &str) -> EmailAddress {
    text.parse().unwrap()
}

pub(crate) fn stamp() -> Stamp {
    Stamp { id: Uuid::from_u128(7), at: "2026-11-24T07:05:00Z".parse().unwrap() }
}

/// A sender that may do everything, with these ways.
pub(crate) fn transport(graph: Option<&GraphServer>, smtp: Option<&SmtpServer>) -> Transport {
    Transport {
        mailbox: address("noreply@contoso.example"),
        abilities: Abilities { graph_send: true, graph_read_write: true, smtp: true, ..Abilities::default() },
        graph: graph.map(GraphServer::client),
        smtp: smtp.map(SmtpServer::route),
    }
}

/// Tokens `token-0`, `token-1`, …: the next one after each that is disowned.
#[derive(Default)]
pub(crate) struct Tokens {
    pub(crate) disowned: Mutex<Vec<String>>,
}

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl TokenSource for Tokens {
    fn token(&self) -> Later<'_, Result<AccessToken, TokenError>> {
        let text = format!("token-{}", self.disowned.lock().unwrap().len());
        Box::pin(async move { Ok(AccessToken::new(text)) })
    }

    fn disown<'a>(&'a self, token: &'a AccessToken, _claims: Option<String>) -> Later<'a, ()> {
        self.disowned.lock().unwrap().push(token.expose().to_owned());
        Box::pin(async {})
    }
}

/// Status, `location` header, body; `{base}` becomes the server's address. Status 0 ends the connection instead.
pub(crate) type Say = (u16, &'static str, &'static str);

/// `METHOD path` of a request, and its body.
type Asked = (String, Vec<u8>);

pub(crate) struct GraphServer {
    base: String,
    seen: Arc<Mutex<Vec<Asked>>>,
}

impl GraphServer {
    pub(crate) async fn start(script: impl IntoIterator<Item = Say>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = Self { base: base.clone(), seen: Arc::clone(&seen) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, base.clone(), Arc::clone(&script), Arc::clone(&seen)));
            }
        });
        server
    }

    pub(crate) fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|(line, _)| line).collect()
    }

    pub(crate) fn client(&self) -> Graph {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let cloud = Cloud { graph: format!("{}/v1.0", self.base).parse().unwrap(), ..Cloud::global() };
        Graph::new(http, cloud, Arc::new(Tokens::default()))
    }
}

async fn answer(stream: TcpStream, base: String, script: Arc<Mutex<VecDeque<Say>>>, seen: Arc<Mutex<Vec<Asked>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            if first.is_empty() {
                first = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
            } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        seen.lock().unwrap().push((first, body));
        let (status, location, body) = script.lock().unwrap().pop_front().unwrap_or((418, "", "{}"));
        if status == 0 {
            return;
        }
        let body = body.replace("{base}", &base);
        let length = if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let head = format!(
            "HTTP/1.1 {status} As Told\r\nrequest-id: microsoft-{status}\r\nlocation: {location}\r\n{length}\
             content-type: application/json\r\n\r\n"
        );
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// How a submission server behaves. An empty reply ends the connection.
#[derive(Clone)]
pub(crate) struct Manners {
    pub(crate) offers: &'static str,
    /// The answer to each user's authentication in turn; the last one holds for all that follow.
    pub(crate) auth: Vec<&'static str>,
    pub(crate) mail: &'static str,
    pub(crate) rcpt: fn(&str) -> &'static str,
    pub(crate) after_data: &'static str,
    pub(crate) start_tls: &'static str,
    /// Messages that a connection carries before the server closes it without a word.
    pub(crate) patience: usize,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            offers: "SIZE 157286400\nPIPELINING\nENHANCEDSTATUSCODES\nAUTH LOGIN XOAUTH2\n8BITMIME\nSMTPUTF8",
            auth: vec!["235 2.7.0 Authentication successful"],
            mail: "250 2.1.0 Sender OK",
            rcpt: |_| "250 2.1.5 Recipient OK",
            after_data: "250 2.0.0 OK <taken@server>",
            start_tls: "220 2.0.0 SMTP server ready",
            patience: usize::MAX,
        }
    }
}

/// What a submission server heard.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) lines: Vec<String>,
    pub(crate) messages: Vec<Vec<u8>>,
    pub(crate) connections: usize,
    /// Connections at this moment, and the most of them.
    pub(crate) open: usize,
    pub(crate) most_open: usize,
}

pub(crate) struct SmtpServer {
    target: HostPort,
    client: Arc<rustls::ClientConfig>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) heard: Arc<Mutex<Heard>>,
}

impl SmtpServer {
    pub(crate) async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let client = Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
        let server =
            rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let heard = Arc::new(Mutex::new(Heard::default()));
        tokio::spawn({
            let heard = Arc::clone(&heard);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let number = {
                        let mut heard = heard.lock().unwrap();
                        heard.connections += 1;
                        heard.open += 1;
                        heard.most_open = heard.most_open.max(heard.open);
                        heard.connections
                    };
                    let (acceptor, manners, heard) = (acceptor.clone(), manners.clone(), Arc::clone(&heard));
                    tokio::spawn(async move {
                        converse(stream, acceptor, manners, number, Arc::clone(&heard)).await;
                        heard.lock().unwrap().open -= 1;
                    });
                }
            }
        });
        Self { target: HostPort { host: "127.0.0.1".into(), port }, client, tokens: Arc::default(), heard }
    }

    pub(crate) fn route(&self) -> SmtpRoute {
        self.route_to(self.target.clone())
    }

    /// Another server to the same client.
    pub(crate) fn route_to(&self, target: HostPort) -> SmtpRoute {
        let tokens = Arc::clone(&self.tokens) as Arc<dyn TokenSource>;
        SmtpRoute::with_tls(Network::default(), target, Arc::clone(&self.client), tokens)
    }

    /// The same server behind a proxy.
    pub(crate) fn route_through(&self, proxy: ProxyUrl) -> SmtpRoute {
        let tokens = Arc::clone(&self.tokens) as Arc<dyn TokenSource>;
        let network = Network { proxy: Some(proxy), ..Network::default() };
        SmtpRoute::with_tls(network, self.target.clone(), Arc::clone(&self.client), tokens)
    }

    /// The same server to a client that does not know its CA.
    pub(crate) fn route_without_its_ca(&self) -> SmtpRoute {
        let nobody = rustls::RootCertStore::empty();
        let client = rustls::ClientConfig::builder().with_root_certificates(nobody).with_no_client_auth();
        SmtpRoute::with_tls(
            Network::default(),
            self.target.clone(),
            Arc::new(client),
            Arc::clone(&self.tokens) as Arc<dyn TokenSource>,
        )
    }
}

async fn converse(stream: TcpStream, acceptor: TlsAcceptor, manners: Manners, number: usize, heard: Arc<Mutex<Heard>>) {
    let mut clear = BufReader::new(stream);
    let _ = clear.write_all(b"220 server ready\r\n").await;
    loop {
        let Some(line) = next_line(&mut clear, &heard).await else { return };
        let answer = match line.split(' ').next().unwrap() {
            "EHLO" => "250-server\r\n250-SIZE 157286400\r\n250 STARTTLS\r\n".to_owned(),
            _ => format!("{}\r\n", manners.start_tls),
        };
        let _ = clear.write_all(answer.as_bytes()).await;
        if line == "STARTTLS" && manners.start_tls.starts_with("220") {
            break;
        }
    }
    let Ok(secure) = acceptor.accept(clear.into_inner()).await else { return };
    let mut secure = BufReader::new(secure);
    let mut carried = 0;
    loop {
        let Some(line) = next_line(&mut secure, &heard).await else { return };
        let verb = line.split([' ', ':']).next().unwrap();
        let mut answers = vec![match verb {
            "EHLO" => {
                let lines: Vec<_> = manners.offers.split('\n').collect();
                let (last, rest) = lines.split_last().unwrap();
                let rest: String = rest.iter().map(|line| format!("250-{line}\r\n")).collect();
                format!("250-server\r\n{rest}250 {last}")
            }
            "AUTH" => "334 ".to_owned(),
            "MAIL" => manners.mail.to_owned(),
            "RCPT" => (manners.rcpt)(&line).to_owned(),
            "DATA" => "354 Start mail input; end with <CRLF>.<CRLF>".to_owned(),
            "RSET" => "250 2.0.0 Resetting".to_owned(),
            "QUIT" => "221 2.0.0 Bye".to_owned(),
            _ => manners.auth[(number - 1).min(manners.auth.len() - 1)].to_owned(),
        }];
        if verb == "DATA" {
            let _ = secure.write_all(format!("{}\r\n", answers.remove(0)).as_bytes()).await;
            let Some(message) = read_message(&mut secure).await else { return };
            heard.lock().unwrap().messages.push(message);
            answers.push(manners.after_data.to_owned());
        }
        if answers[0].is_empty() {
            return;
        }
        let _ = secure.write_all(format!("{}\r\n", answers[0]).as_bytes()).await;
        carried += usize::from(verb == "DATA");
        if answers[0].starts_with("421") || verb == "QUIT" || carried == manners.patience {
            return;
        }
    }
}

async fn next_line<S: tokio::io::AsyncRead + Unpin>(stream: &mut BufReader<S>, heard: &Mutex<Heard>) -> Option<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let line = line.trim_end_matches(['\r', '\n']).to_owned();
    heard.lock().unwrap().lines.push(line.clone());
    Some(line)
}

/// The message with its dots unstuffed.
async fn read_message<S: tokio::io::AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await.ok()? == 0 {
            return None;
        }
        if line == b".\r\n" {
            return Some(message);
        }
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

/// An HTTP proxy that connects wherever it is asked to, and its record of the requests.
pub(crate) async fn proxy() -> (ProxyUrl, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    tokio::spawn({
        let asked = Arc::clone(&asked);
        async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.split(' ').nth(1).unwrap().to_owned();
                asked.lock().unwrap().push(head);
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(target).await.unwrap();
                    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
                });
            }
        }
    });
    (url, asked)
}
