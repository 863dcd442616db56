//! The load: so many sessions at once, each sending one message after the other by SMTP or HTTP, and what each took.
//!
//! Plain threads and blocking sockets: the generator shares the cores with what it measures, and this is what costs least.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Outcome;

/// No answer within this time is a failure of what is measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is sent, to whom, how.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) target: SocketAddr,
    pub(super) sessions: usize,
    pub(super) messages: usize,
    /// Bytes of a message, header included.
    pub(super) size: usize,
    /// A new session for each message instead of kept ones.
    pub(super) fresh: bool,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) speaks: Speaks,
}

#[derive(Clone)]
pub(super) enum Speaks {
    /// `AUTH PLAIN` with this base64 word, if any; MAIL, RCPT and DATA in one write (PIPELINING).
    Smtp { login: Option<String> },
    /// `POST /v1/send` as `message/rfc822` with this API key.
    Http { key: String },
}

/// How it went.
pub(super) struct Ran {
    pub(super) messages: usize,
    pub(super) took: Duration,
    /// From the first byte of a message to its receipt, sorted.
    latencies: Vec<Duration>,
}

impl Ran {
    pub(super) fn rate(&self) -> f64 {
        self.messages as f64 / self.took.as_secs_f64()
    }

    pub(super) fn percentile(&self, of_hundred: usize) -> Duration {
        let at = (self.latencies.len() * of_hundred / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

/// Several loads at once.
pub(super) fn run_all(loads: &[Load]) -> Outcome {
    std::thread::scope(|all| {
        let running: Vec<_> = loads.iter().map(|load| all.spawn(|| load.run().map(drop))).collect();
        running.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| Err("a load broke".into())))
    })
}

impl Load {
    /// Sends them all; one refusal fails the whole, since a rate of refusals says nothing.
    pub(super) fn run(&self) -> Outcome<Ran> {
        let next = AtomicUsize::new(0);
        let started = Instant::now();
        let workers: Vec<Outcome<Vec<Duration>>> = std::thread::scope(|all| {
            let running: Vec<_> = (0..self.sessions).map(|_| all.spawn(|| self.work(&next))).collect();
            running.into_iter().map(|one| one.join().unwrap_or_else(|_| Err("a session broke".into()))).collect()
        });
        let took = started.elapsed();
        let mut latencies = Vec::with_capacity(self.messages);
        for worker in workers {
            latencies.extend(worker?);
        }
        latencies.sort_unstable();
        Ok(Ran { messages: self.messages, took, latencies })
    }

    fn work(&self, next: &AtomicUsize) -> Outcome<Vec<Duration>> {
        let mut latencies = Vec::with_capacity(self.messages / self.sessions + 1);
        let mut kept: Option<Session> = None;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.messages {
                if let Some(session) = kept {
                    session.quit(&self.speaks);
                }
                return Ok(latencies);
            }
            let began = Instant::now();
            let mut session = match kept.take() {
                Some(session) => session,
                None => Session::open(self).map_err(|e| format!("{}: {e}", self.target))?,
            };
            let sent = match &self.speaks {
                Speaks::Smtp { .. } => session.submit(self, number),
                Speaks::Http { key } => session.post(self, key, number),
            };
            sent.map_err(|e| format!("message {number} to {}: {e}", self.target))?;
            latencies.push(began.elapsed());
            if self.fresh {
                session.quit(&self.speaks);
            } else {
                kept = Some(session);
            }
        }
    }

    fn message(&self, number: usize, into: &mut Vec<u8>) {
        let start = into.len();
        let _ = write!(
            into,
            "From: <{}>\r\nTo: <{}>\r\nSubject: load {number}\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\
             Message-ID: <load-{number}-{}@bench.example>\r\n\r\n",
            self.from,
            self.to,
            std::process::id()
        );
        const LINE: &[u8] = b"The quick brown fox jumps over the lazy dog, and does so again and again.\r\n";
        while into.len() - start + LINE.len() <= self.size {
            into.extend_from_slice(LINE);
        }
    }
}

struct Session {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    buffer: Vec<u8>,
    line: String,
}

impl Session {
    fn open(load: &Load) -> io::Result<Session> {
        let stream = TcpStream::connect(load.target)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let reader = BufReader::with_capacity(1024, stream.try_clone()?);
        let mut session = Session { stream, reader, buffer: Vec::with_capacity(load.size + 512), line: String::new() };
        if let Speaks::Smtp { login } = &load.speaks {
            session.expect("220")?;
            session.stream.write_all(b"EHLO bench.example\r\n")?;
            session.expect("250")?;
            if let Some(word) = login {
                session.stream.write_all(format!("AUTH PLAIN {word}\r\n").as_bytes())?;
                session.expect("235")?;
            }
        }
        Ok(session)
    }

    fn submit(&mut self, load: &Load, number: usize) -> io::Result<()> {
        self.buffer.clear();
        let _ = write!(self.buffer, "MAIL FROM:<{}>\r\nRCPT TO:<{}>\r\nDATA\r\n", load.from, load.to);
        self.stream.write_all(&self.buffer)?;
        self.expect("250")?;
        self.expect("250")?;
        self.expect("354")?;
        self.buffer.clear();
        load.message(number, &mut self.buffer);
        self.buffer.extend_from_slice(b".\r\n");
        self.stream.write_all(&self.buffer)?;
        self.expect("250")
    }

    fn post(&mut self, load: &Load, key: &str, number: usize) -> io::Result<()> {
        let mut message = Vec::with_capacity(load.size);
        load.message(number, &mut message);
        self.buffer.clear();
        let _ = write!(
            self.buffer,
            "POST /v1/send HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\nContent-Type: message/rfc822\r\n\
             Content-Length: {}\r\n\r\n",
            load.target,
            message.len()
        );
        self.buffer.extend_from_slice(&message);
        self.stream.write_all(&self.buffer)?;
        self.read_line()?;
        let status = self.line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            self.read_line()?;
            let line = self.line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        io::Read::read_exact(&mut self.reader, &mut body)?;
        match status.as_str() {
            "202" => Ok(()),
            _ => Err(io::Error::other(format!("{status} {}", String::from_utf8_lossy(&body)))),
        }
    }

    /// Reads one reply, all its lines.
    fn expect(&mut self, code: &str) -> io::Result<()> {
        loop {
            self.read_line()?;
            if !self.line.starts_with(code) {
                return Err(io::Error::other(format!("{code} expected: {}", self.line.trim_end())));
            }
            if self.line.as_bytes().get(3) != Some(&b'-') {
                return Ok(());
            }
        }
    }

    fn read_line(&mut self) -> io::Result<()> {
        self.line.clear();
        match self.reader.read_line(&mut self.line)? {
            0 => Err(io::Error::other("the connection was closed")),
            _ => Ok(()),
        }
    }

    fn quit(mut self, speaks: &Speaks) {
        if matches!(speaks, Speaks::Smtp { .. }) && self.stream.write_all(b"QUIT\r\n").is_ok() {
            let _ = self.expect("221");
        }
    }
}
