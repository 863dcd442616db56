//! A steady load by SMTP and HTTP, which notes every message that was taken and goes on through every crash.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::serving::{Login, Ports};
use crate::submit::{HttpClient, NotTaken, SmtpClient, id_in};

/// Kept SMTP connections, and HTTP clients beside them.
const SMTP_CLIENTS: u64 = 6;
const HTTP_CLIENTS: u64 = 2;

/// How long a client waits before it connects again to a server that is gone.
const AGAIN: Duration = Duration::from_millis(10);

/// Who sends to whom, and how much.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) ports: Ports,
    pub(crate) login: Login,
    /// Each client takes the next sender for each message.
    pub(crate) senders: Vec<String>,
    pub(crate) recipient: String,
    /// Messages a second, all clients together.
    pub(crate) rate: u64,
}

/// What was handed in so far.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Messages with a 250 or 202, by the id that the answer named; and where each came from.
    taken: Mutex<BTreeMap<String, &'static str>>,
    /// Messages whose answer never came.
    cut: AtomicU64,
    /// Refusals while the server was up, which must not happen.
    refused: Mutex<Vec<String>>,
    /// Messages on their way in at this moment.
    under_way: AtomicU64,
    /// Clients wait while it is set: the far end is behind.
    resting: AtomicBool,
    number: AtomicU64,
}

impl Ledger {
    pub(crate) fn taken(&self) -> BTreeMap<String, &'static str> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn count(&self) -> u64 {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    pub(crate) fn cut(&self) -> u64 {
        self.cut.load(Ordering::SeqCst)
    }

    pub(crate) fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::SeqCst)
    }

    pub(crate) fn refused(&self) -> Vec<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Holds the clients back, or lets them go on.
    pub(crate) fn rest(&self, rest: bool) {
        self.resting.store(rest, Ordering::SeqCst);
    }

    fn note(&self, by: &'static str, answer: Result<String, NotTaken>) -> bool {
        match answer {
            Ok(id) => {
                let again = self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), by);
                assert!(again.is_none(), "two messages got the id {id}");
                true
            }
            Err(NotTaken::Cut(_)) => {
                self.cut.fetch_add(1, Ordering::SeqCst);
                false
            }
            Err(NotTaken::Unreachable) => false,
            // A server that stops says so: the message was not taken, and its submitter knows.
            Err(NotTaken::Refused(reply)) if reply.starts_with("421") => false,
            Err(NotTaken::Refused(reply)) => {
                self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(reply);
                false
            }
        }
    }
}

/// The running load. Dropping it ends it.
pub(crate) struct Load {
    pub(crate) ledger: Arc<Ledger>,
    clients: JoinSet<()>,
    over: Arc<AtomicBool>,
}

impl Load {
    pub(crate) fn start(plan: &Plan) -> Load {
        let (ledger, over) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        for client in 0..SMTP_CLIENTS + HTTP_CLIENTS {
            let (plan, ledger, over) = (plan.clone(), ledger.clone(), over.clone());
            match client < SMTP_CLIENTS {
                true => clients.spawn(by_smtp(plan, ledger, over)),
                false => clients.spawn(by_http(plan, ledger, over)),
            };
        }
        Load { ledger, clients, over }
    }

    /// Ends the load; what is under way is waited for.
    pub(crate) async fn stop(mut self) -> Arc<Ledger> {
        self.over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("no client fails");
        }
        self.ledger.clone()
    }
}

/// Each client sends its share at even times; one that fell behind does not catch up.
fn beat(plan: &Plan) -> tokio::time::Interval {
    let every = Duration::from_secs(1) * u32::try_from(SMTP_CLIENTS + HTTP_CLIENTS).expect("a few")
        / u32::try_from(plan.rate).expect("a few thousand");
    let mut beat = tokio::time::interval(every);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    beat
}

async fn by_smtp(plan: Plan, ledger: Arc<Ledger>, over: Arc<AtomicBool>) {
    let mut beat = beat(&plan);
    let mut connection = None;
    while !over.load(Ordering::SeqCst) {
        beat.tick().await;
        if ledger.resting.load(Ordering::SeqCst) {
            continue;
        }
        let mut client = match connection.take() {
            Some(client) => client,
            None => match SmtpClient::signed_in(plan.ports.smtp, &plan.login).await {
                Ok(client) => client,
                Err(_) => {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            },
        };
        let (sender, message) = next(&plan, &ledger);
        ledger.under_way.fetch_add(1, Ordering::SeqCst);
        let answer = client.send(sender, &[&plan.recipient], &message).await;
        let answer = answer.and_then(|reply| id_in(&reply).ok_or(NotTaken::Refused(reply)));
        if ledger.note("SMTP", answer) {
            connection = Some(client);
        }
        ledger.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn by_http(plan: Plan, ledger: Arc<Ledger>, over: Arc<AtomicBool>) {
    let mut beat = beat(&plan);
    let client = HttpClient::new(plan.ports, &plan.login.api_key);
    while !over.load(Ordering::SeqCst) {
        beat.tick().await;
        if ledger.resting.load(Ordering::SeqCst) {
            continue;
        }
        let (sender, message) = next(&plan, &ledger);
        ledger.under_way.fetch_add(1, Ordering::SeqCst);
        let answer = client.send(sender, &[&plan.recipient], message).await;
        if !ledger.note("HTTP", answer) {
            tokio::time::sleep(AGAIN).await;
        }
        ledger.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The next message and whose it is: 1 KB, as most notices of programs are.
fn next<'a>(plan: &'a Plan, ledger: &Ledger) -> (&'a str, Vec<u8>) {
    let number = ledger.number.fetch_add(1, Ordering::SeqCst);
    let sender = &plan.senders[usize::try_from(number).expect("it fits") % plan.senders.len()];
    (sender, text(number, sender, &plan.recipient).into_bytes())
}

fn text(number: u64, sender: &str, recipient: &str) -> String {
    let line = "0123456789abcdef".repeat(4);
    let body = std::iter::repeat_n(line.as_str(), 10).collect::<Vec<_>>().join("\r\n");
    format!(
        "From: {sender}\r\nTo: {recipient}\r\nSubject: {number}\r\nMessage-ID: <{number}@load.example>\r\n\
         Date: Tue, 03 Nov 2026 09:30:00 +0100\r\n\r\n{body}\r\n"
    )
}

/// Hands in so many messages, from each sender in turn, as fast as they are taken. Returns their ids.
pub(crate) async fn hand_in_all(
    port: u16,
    login: &Login,
    senders: &[String],
    recipient: &str,
    count: usize,
) -> Vec<String> {
    let number = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..8.min(count) {
        let (login, senders, recipient) = (login.clone(), senders.to_owned(), recipient.to_owned());
        let number = number.clone();
        clients.spawn(async move {
            let mut client = SmtpClient::signed_in(port, &login).await.unwrap_or_else(|why| panic!("sign in: {why}"));
            let mut ids = Vec::new();
            loop {
                let number = usize::try_from(number.fetch_add(1, Ordering::SeqCst)).expect("it fits");
                if number >= count {
                    return ids;
                }
                let sender = &senders[number % senders.len()];
                let message = text(number as u64, sender, &recipient);
                let reply = client.send(sender, &[&recipient], message.as_bytes()).await;
                let reply = reply.unwrap_or_else(|why| panic!("message {number}: {why}"));
                ids.push(id_in(&reply).unwrap_or_else(|| panic!("no id in {reply}")));
            }
        });
    }
    let mut ids = Vec::with_capacity(count);
    while let Some(some) = clients.join_next().await {
        ids.extend(some.expect("no client fails"));
    }
    ids
}
