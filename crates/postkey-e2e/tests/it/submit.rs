//! A submitter's side, by SMTP and HTTP: written for these tests alone, with nothing of the program's own in it.

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::serving::{Login, Ports};

/// A debug build beside a load generator on two cores answers within seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a message was not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// The server said so: the whole reply.
    Refused(String),
    /// The connection broke, so nobody knows.
    Cut(String),
    /// There was no connection.
    Unreachable,
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reply) => write!(f, "refused: {reply}"),
            Self::Cut(why) => write!(f, "cut: {why}"),
            Self::Unreachable => write!(f, "unreachable"),
        }
    }
}

fn cut(error: std::io::Error) -> NotTaken {
    NotTaken::Cut(error.to_string())
}

/// One SMTP connection to loopback, in clear text.
pub(crate) struct SmtpClient {
    stream: BufReader<TcpStream>,
}

impl SmtpClient {
    /// Connects and says EHLO.
    pub(crate) async fn connect(port: u16) -> Result<SmtpClient, NotTaken> {
        Self::over(TcpStream::connect(("127.0.0.1", port)).await.map_err(cut)?).await
    }

    /// The same over a connection that is there.
    pub(crate) async fn over(stream: TcpStream) -> Result<SmtpClient, NotTaken> {
        stream.set_nodelay(true).map_err(cut)?;
        let mut client = SmtpClient { stream: BufReader::new(stream) };
        client.reply("220").await?;
        client.says("EHLO localhost\r\n", "250").await?;
        Ok(client)
    }

    /// The same, signed in: on loopback that needs no TLS.
    pub(crate) async fn signed_in(port: u16, login: &Login) -> Result<SmtpClient, NotTaken> {
        let mut client = Self::connect(port).await?;
        client.sign_in(login).await?;
        Ok(client)
    }

    pub(crate) async fn sign_in(&mut self, login: &Login) -> Result<String, NotTaken> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let answer = STANDARD.encode(format!("\0{}\0{}", login.name, login.password));
        self.says(&format!("AUTH PLAIN {answer}\r\n"), "235").await
    }

    /// One message in two round trips. Returns the reply to its end.
    pub(crate) async fn send(&mut self, from: &str, to: &[&str], message: &[u8]) -> Result<String, NotTaken> {
        let eight = if message.is_ascii() { "" } else { " BODY=8BITMIME" };
        let mut commands = format!("MAIL FROM:<{from}>{eight}\r\n");
        for recipient in to {
            commands.push_str(&format!("RCPT TO:<{recipient}>\r\n"));
        }
        commands.push_str("DATA\r\n");
        self.write(commands.as_bytes()).await?;
        // All replies are read, refused or not: they belong to what was written.
        let mut first_refusal = None;
        for wanted in std::iter::repeat_n("250", 1 + to.len()).chain(["354"]) {
            if let Err(refused) = self.reply(wanted).await {
                if matches!(refused, NotTaken::Cut(_)) {
                    return Err(refused);
                }
                first_refusal.get_or_insert(refused);
            }
        }
        if let Some(refused) = first_refusal {
            return Err(refused);
        }
        self.write(&dotted(message)).await?;
        self.reply("250").await
    }

    /// Writes a command and reads its reply.
    pub(crate) async fn says(&mut self, command: &str, wanted: &str) -> Result<String, NotTaken> {
        self.write(command.as_bytes()).await?;
        self.reply(wanted).await
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), NotTaken> {
        self.stream.get_mut().write_all(bytes).await.map_err(cut)
    }

    /// Reads one reply, all its lines.
    pub(crate) async fn reply(&mut self, wanted: &str) -> Result<String, NotTaken> {
        let mut whole = String::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await;
            match read {
                Err(_) => return Err(NotTaken::Cut(format!("no reply within {PATIENCE:?} after {whole:?}"))),
                Ok(Err(error)) => return Err(cut(error)),
                Ok(Ok(0)) => return Err(NotTaken::Cut(format!("closed after {whole:?}"))),
                Ok(Ok(_)) => whole.push_str(&line),
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        if whole.starts_with(wanted) { Ok(whole) } else { Err(NotTaken::Refused(whole)) }
    }
}

/// The message as it goes after DATA: dots doubled, and the end.
fn dotted(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + 64);
    let mut starts = true;
    for &byte in message {
        if starts && byte == b'.' {
            wire.push(b'.');
        }
        wire.push(byte);
        starts = byte == b'\n';
    }
    if !starts {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// The REST API as a submitter uses it.
#[derive(Clone)]
pub(crate) struct HttpClient {
    http: reqwest::Client,
    address: String,
    key: String,
}

impl HttpClient {
    pub(crate) fn new(ports: Ports, key: &str) -> HttpClient {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client can be made");
        HttpClient { http, address: format!("http://127.0.0.1:{}/v1/send", ports.http), key: key.to_owned() }
    }

    /// Hands in a message as it is. Returns the id that the answer names.
    pub(crate) async fn send(&self, from: &str, to: &[&str], message: Vec<u8>) -> Result<String, NotTaken> {
        let mut request = self.http.post(&self.address).bearer_auth(&self.key);
        request = request.header("content-type", "message/rfc822").query(&[("from", from)]);
        for recipient in to {
            request = request.query(&[("to", recipient)]);
        }
        let answer = request.body(message).send().await.map_err(|error| match error.is_connect() {
            true => NotTaken::Unreachable,
            false => NotTaken::Cut(error.to_string()),
        })?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| NotTaken::Cut(error.to_string()))?;
        if status.as_u16() != 202 {
            return Err(NotTaken::Refused(format!("{status} {text}")));
        }
        id_in(&text).ok_or_else(|| NotTaken::Refused(format!("no id in {text}")))
    }
}

/// The id of a message in a reply: the first UUID.
pub(crate) fn id_in(reply: &str) -> Option<String> {
    let mut words = reply.split(|letter: char| !letter.is_ascii_hexdigit() && letter != '-');
    words
        .find_map(|word| (word.len() == 36).then(|| uuid::Uuid::try_parse(word).ok()).flatten())
        .map(|id| id.to_string())
}

#[test]
fn dots_are_doubled_and_an_id_is_found() {
    assert_eq!(dotted(b".a\r\n..\r\nb"), b"..a\r\n...\r\nb\r\n.\r\n");
    let id = "01939f2c-8a52-7c57-9d0b-0a2b6a1a9f11";
    assert_eq!(id_in(&format!("250 2.0.0 Ok: queued as {id}\r\n")).as_deref(), Some(id));
    assert_eq!(id_in("250 2.0.0 Ok"), None);
}
