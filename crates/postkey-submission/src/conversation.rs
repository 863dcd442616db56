//! What one session is told: each question of the SMTP session answered from the directory, the rules and the queue.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use postkey_base::{Diagnose, EmailAddress};
use postkey_queue::Submission;
use postkey_smtp::{
    EnhancedCode, Path, Reply,
    server::{self, Answer, Credentials, Mail, Received, Recipient, Session},
};
use postkey_store::{QueuedEnvelope, QueuedRecipient, Via};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    admission::Admitted,
    directory::{Directory, SignedIn},
    doorway::{BytesInHand, Doorway},
    known::Known,
    link::TlsFacts,
    login::LoginRefusal,
    refusal::Refusal,
    service::House,
    settings::Mode,
    tally::one_more,
};

/// One session's side of the talk.
pub(crate) struct Conversation {
    house: Arc<House>,
    listener: Arc<str>,
    mode: Mode,
    client: IpAddr,
    by_network: bool,
    began: Instant,
    tls: Option<TlsFacts>,
    signed_in: Option<SignedIn>,
    /// PLAIN, LOGIN or network.
    how: Option<&'static str>,
    failed_logins: u32,
    open: Option<Open>,
    in_hand: Option<BytesInHand>,
    queued: u32,
    refused: u32,
}

/// A transaction that MAIL began.
struct Open {
    known: Arc<Known>,
    from: Option<EmailAddress>,
    recipients: Vec<QueuedRecipient>,
    ret: Option<postkey_store::Ret>,
    envid: Option<String>,
}

/// What is to be said, and after which wait.
pub(crate) struct Said {
    pub(crate) answer: Answer,
    pub(crate) wait: Duration,
}

impl From<Answer> for Said {
    fn from(answer: Answer) -> Self {
        Self { answer, wait: Duration::ZERO }
    }
}

impl From<Reply> for Said {
    fn from(reply: Reply) -> Self {
        Answer::Say(reply).into()
    }
}

impl Conversation {
    /// Somebody known by its network is signed in from the start; `by_network` is false where the address is only a proxy's.
    pub(crate) fn new(house: Arc<House>, listener: Arc<str>, mode: Mode, client: IpAddr, by_network: bool) -> Self {
        let mut conversation = Self {
            house,
            listener,
            mode,
            client,
            by_network,
            began: Instant::now(),
            tls: None,
            signed_in: None,
            how: None,
            failed_logins: 0,
            open: None,
            in_hand: None,
            queued: 0,
            refused: 0,
        };
        conversation.greet();
        conversation
    }

    /// Whether MAIL needs AUTH. On a plain listener nobody can sign in, so MAIL itself says why nothing is taken.
    pub(crate) fn needs_sign_in(&self) -> bool {
        self.signed_in.is_none() && self.mode != Mode::Plain
    }

    pub(crate) fn is_signed_in(&self) -> bool {
        self.signed_in.is_some()
    }

    /// What EHLO announces as SIZE.
    pub(crate) fn announces(&self) -> u64 {
        match &self.signed_in {
            Some(signed_in) => signed_in.known.largest(),
            None => self.house.directory.largest(),
        }
    }

    /// After the handshake. A sign-in before it is forgotten (RFC 3207 §4.2); who is known by its network stays so.
    pub(crate) fn secured(&mut self, tls: TlsFacts) {
        self.tls = Some(tls);
        if self.signed_in.as_ref().is_some_and(|signed_in| signed_in.secret.is_some()) {
            self.greet();
        }
    }

    fn greet(&mut self) {
        let known = self.by_network.then(|| self.house.directory.by_network(self.client)).flatten();
        self.how = known.as_ref().map(|_| "network");
        self.signed_in = known.map(|known| SignedIn { known, secret: None });
    }

    pub(crate) fn authenticate(&mut self, credentials: &Credentials) -> Said {
        if credentials.authorization.is_some() {
            // RFC 4616 §2: to act as another is another right, which nobody has here.
            return Reply::new(535, EnhancedCode::parse("5.7.8"), ["No submitter may act for another"]).into();
        }
        let outcome = self.house.directory.login(&credentials.name, credentials.password.expose(), self.client);
        match outcome {
            Ok(signed_in) => {
                self.how = Some(match credentials.mechanism {
                    server::Mechanism::Plain => "PLAIN",
                    server::Mechanism::Login => "LOGIN",
                });
                self.signed_in = Some(signed_in);
                Answer::Accept.into()
            }
            Err(refusal) => {
                self.failed_logins += 1;
                tracing::warn!(
                    listener.name = &*self.listener,
                    client.address = %self.client,
                    submitter.name = self.as_logged(&credentials.name),
                    error.code = refusal.code(),
                    "sign-in refused: {refusal}"
                );
                let wait = refusal.delay();
                let last = self.failed_logins >= self.house.settings.most_failed_logins
                    || matches!(refusal, LoginRefusal::Locked { .. });
                let reply = refusal.smtp_reply();
                // RFC 5321 §3.8 lets a server end a session with 421; the refusal itself must still be told.
                let reply = if last {
                    let text = reply.text();
                    Reply::new(421, EnhancedCode::parse("4.7.0"), [format!("{text} Closing the connection")])
                } else {
                    reply
                };
                Said { answer: Answer::Say(reply), wait }
            }
        }
    }

    pub(crate) fn mail(&mut self, mail: &Mail) -> Said {
        self.open = None;
        let house = Arc::clone(&self.house);
        let outcome = self.begin(&house.directory, mail);
        match outcome {
            Ok(open) => {
                self.open = Some(open);
                Answer::Accept.into()
            }
            Err(refusal) => self.refuse("MAIL", &refusal),
        }
    }

    fn begin(&mut self, directory: &Directory, mail: &Mail) -> Result<Open, Refusal> {
        // What changed since the session began holds from the next message on.
        let known = match &mut self.signed_in {
            Some(signed_in) => {
                let known = directory.still(signed_in, self.client)?;
                signed_in.known = Arc::clone(&known);
                known
            }
            None => return Err(Refusal::UnknownNetwork { address: self.client }),
        };
        let forced = known.submitter.rules.force_from.as_ref();
        let from = match mail.from.as_ref().map(|path| address(path, true)) {
            // With a forced sender it does not matter what an old device writes here.
            Some(Err(_)) if forced.is_some() => forced.cloned(),
            other => other.transpose()?,
        };
        known.mail_from(from.as_ref(), mail.size, directory.now())?;
        let ret = mail.ret.map(|ret| match ret {
            server::Ret::Full => postkey_store::Ret::Full,
            server::Ret::Headers => postkey_store::Ret::Hdrs,
        });
        Ok(Open { known, from, recipients: Vec::new(), ret, envid: mail.envid.clone() })
    }

    pub(crate) fn rcpt(&mut self, recipient: &Recipient) -> Said {
        let Some(open) = &mut self.open else { return bad_sequence() };
        let now = self.house.directory.now();
        let outcome = address(&recipient.to, false).and_then(|to| {
            let doubled = open.recipients.iter().any(|one| one.address == to);
            // Named twice it is one recipient, and gets one copy.
            if !doubled {
                open.known.rcpt_to(&to, open.recipients.len(), now)?;
            }
            Ok((!doubled).then_some(to))
        });
        match outcome {
            Ok(Some(to)) => {
                open.recipients.push(QueuedRecipient {
                    orcpt: recipient.orcpt.clone(),
                    notify: recipient.notify.map(notify),
                    ..QueuedRecipient::new(to)
                });
                Answer::Accept.into()
            }
            Ok(None) => Answer::Accept.into(),
            Err(refusal) => self.refuse("RCPT", &refusal),
        }
    }

    /// Whether there is room for a message now.
    pub(crate) fn data(&mut self) -> Said {
        match Doorway::room(&self.house.doorway) {
            Some(in_hand) => {
                self.in_hand = Some(in_hand);
                Answer::Accept.into()
            }
            None => Reply::new(
                452,
                EnhancedCode::parse("4.3.1"),
                ["Too many large messages are being received, try again later"],
            )
            .into(),
        }
    }

    /// Some bytes of the message came; `false` when memory does not allow more.
    pub(crate) fn received(&mut self, bytes: usize) -> bool {
        self.in_hand.as_mut().is_none_or(|in_hand| in_hand.add(bytes))
    }

    pub(crate) fn bytes_received(&self) -> u64 {
        self.in_hand.as_ref().map_or(0, BytesInHand::bytes)
    }

    pub(crate) fn dropped(&mut self) {
        self.open = None;
        self.in_hand = None;
    }

    /// The whole message: rules, then the queue; `250` only after its commit.
    pub(crate) async fn message(&mut self, received: Received, session: &Session) -> Said {
        let Some(open) = self.open.take() else { return bad_sequence() };
        let in_hand = self.in_hand.take();
        let said = match self.admitted(&open, received.body).await {
            Ok(admitted) => {
                let (submission, counted) = self.submission(open, admitted, session);
                self.hand_over(submission, counted).await
            }
            Err(refusal) => self.refuse("DATA", &refusal),
        };
        drop(in_hand);
        said
    }

    /// The rules on the whole message. Reading a large one takes so long that other sessions would wait.
    async fn admitted(&self, open: &Open, body: Bytes) -> Result<Admitted, Refusal> {
        let (known, from) = (Arc::clone(&open.known), open.from.clone());
        let recipients: Vec<EmailAddress> = open.recipients.iter().map(|one| one.address.clone()).collect();
        let now = self.house.directory.now();
        if body.len() <= READ_AT_ONCE {
            return known.admit(from.as_ref(), &recipients, body, now);
        }
        tokio::task::spawn_blocking(move || known.admit(from.as_ref(), &recipients, body, now))
            .await
            .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
    }

    fn submission(&self, open: Open, admitted: Admitted, session: &Session) -> (Submission, Counted) {
        let Admitted { sender, from, message, rewritings, idempotency_key, priority, charge } = admitted;
        for rewriting in &rewritings {
            tracing::info!(
                submitter.name = open.known.name(),
                rewriting = ?rewriting.kind,
                "{}",
                rewriting.detail
            );
        }
        let mut facts = self.facts(session);
        if !rewritings.is_empty() {
            facts["rewritten"] = json!(rewritings);
        }
        let counted = Counted {
            charge,
            submitter: open.known.name().to_owned(),
            sender: sender.name.clone(),
            size: message.size(),
            recipients: open.recipients.len(),
        };
        let envelope = QueuedEnvelope { from, recipients: open.recipients, ret: open.ret, envid: open.envid };
        let submission = Submission {
            submitter: Some(open.known.submitter.id),
            sender: sender.id,
            envelope,
            message,
            priority,
            not_before: None,
            via: Via::Smtp,
            remote: Some(self.client.to_string()),
            idempotency_key,
            fingerprint: None,
            facts,
            graph_json: false,
        };
        (submission, counted)
    }

    async fn hand_over(&mut self, submission: Submission, counted: Counted) -> Said {
        let outcome = timeout(ACCEPT_WITHIN, self.house.queue.accept(submission)).await;
        match outcome {
            Ok(Ok(receipt)) => {
                self.queued += 1;
                one_more(&self.house.directory.tally().queued);
                // A repeated message was counted when it came first.
                if !receipt.repeated {
                    counted.charge.keep();
                }
                tracing::info!(
                    message.id = %receipt.id,
                    listener.name = &*self.listener,
                    client.address = %self.client,
                    submitter.name = counted.submitter,
                    sender.name = counted.sender,
                    message.bytes = counted.size,
                    message.recipients = counted.recipients,
                    repeated = receipt.repeated,
                    "message queued"
                );
                let text = if receipt.repeated {
                    format!("Queued as {} (it was queued before under this idempotency key)", receipt.id)
                } else {
                    format!("Queued as {}", receipt.id)
                };
                Reply::new(250, EnhancedCode::parse("2.0.0"), [text]).into()
            }
            Ok(Err(error)) => {
                self.refused += 1;
                one_more(&self.house.directory.tally().not_stored);
                let reply = error.smtp_reply();
                let diagnosis = error.diagnosis();
                tracing::warn!(
                    listener.name = &*self.listener,
                    client.address = %self.client,
                    submitter.name = counted.submitter,
                    error.code = diagnosis.code,
                    smtp.code = reply.code,
                    "message not queued: {}{}",
                    diagnosis.what,
                    diagnosis.why.map_or_else(String::new, |why| format!(": {why}"))
                );
                Reply::new(reply.code, EnhancedCode::parse(reply.enhanced), [reply.text]).into()
            }
            Err(_) => {
                self.refused += 1;
                one_more(&self.house.directory.tally().not_stored);
                tracing::error!(
                    listener.name = &*self.listener,
                    client.address = %self.client,
                    submitter.name = counted.submitter,
                    "message not queued: the store did not answer within {ACCEPT_WITHIN:?}; the client was told to try again"
                );
                Reply::new(451, EnhancedCode::parse("4.3.0"), ["The store does not answer, try again later"]).into()
            }
        }
    }

    fn refuse(&mut self, command: &'static str, refusal: &Refusal) -> Said {
        self.refused += 1;
        one_more(&self.house.directory.tally().refused);
        let reply = refusal.smtp_reply();
        tracing::info!(
            listener.name = &*self.listener,
            client.address = %self.client,
            submitter.name = self.submitter(),
            smtp.command = command,
            smtp.code = reply.code(),
            error.code = refusal.code(),
            "refused: {refusal}"
        );
        reply.into()
    }

    /// A name as it may stand in a log: some people put the password where the name belongs.
    fn as_logged(&self, name: &str) -> String {
        let length = name.chars().count();
        if length <= SHOWN_OF_A_NAME || name.contains('@') || self.house.directory.submitter(name).is_some() {
            return name.chars().take(SHOWN_OF_AN_ADDRESS).collect();
        }
        format!("(unknown, {length} characters)")
    }

    fn submitter(&self) -> Option<&str> {
        self.signed_in.as_ref().map(|signed_in| signed_in.known.name())
    }

    /// How the message came, for its timeline.
    fn facts(&self, session: &Session) -> Value {
        json!({
            "listener": &*self.listener,
            "client": self.client,
            "helo": session.hello().map(|hello| hello.name.as_str()),
            "tls": self.tls.as_ref().map(|tls| json!({ "version": tls.version, "cipher": tls.cipher })),
            "auth": self.how,
        })
    }

    /// The last line about a session.
    pub(crate) fn ended(&self, session: &Session, why: &str) {
        let seconds = self.began.elapsed().as_secs_f32();
        tracing::info!(
            listener.name = &*self.listener,
            client.address = %self.client,
            client.helo = session.hello().map(|hello| hello.name.as_str()),
            submitter.name = self.submitter(),
            tls.version = self.tls.as_ref().map(|tls| tls.version.as_str()),
            auth.mechanism = self.how,
            auth.failures = self.failed_logins,
            messages.queued = self.queued,
            messages.refused = self.refused,
            session.seconds = seconds,
            "session ended: {why}"
        );
    }
}

/// What a message costs and is called, while the queue has it.
struct Counted {
    charge: crate::admission::Charge,
    submitter: String,
    sender: String,
    size: u64,
    recipients: usize,
}

fn address(path: &Path, sender: bool) -> Result<EmailAddress, Refusal> {
    path.as_str().parse().map_err(|cause| Refusal::Address { address: path.as_str().to_owned(), sender, cause })
}

fn notify(notify: server::Notify) -> postkey_store::Notify {
    match notify {
        server::Notify::Never => postkey_store::Notify::default(),
        server::Notify::On { success, failure, delay } => postkey_store::Notify { success, failure, delay },
    }
}

/// The session keeps the order of commands, so this is never heard.
fn bad_sequence() -> Said {
    Reply::new(503, EnhancedCode::parse("5.5.1"), ["MAIL first"]).into()
}

/// A message of this size is read in less than a millisecond.
const READ_AT_ONCE: usize = 128 * 1024;
/// Longer than any local name, shorter than any generated password.
const SHOWN_OF_A_NAME: usize = 20;
/// Of `name@domain`, or a name we know.
const SHOWN_OF_AN_ADDRESS: usize = 100;
/// RFC 5321 §4.5.3.2.6: a client waits 10 minutes for the answer to its message. A commit takes milliseconds.
const ACCEPT_WITHIN: Duration = Duration::from_secs(120);
