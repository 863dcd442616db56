//! Submission by SMTP with XOAUTH2: which connection carries a message, and what its end means.

use std::{sync::Arc, time::Duration};

use postkey_base::{AccessToken, EmailAddress};
use postkey_identity::{Cloud, HostPort, Network, NetworkError, TokenSource};
use postkey_smtp::{End, Mail, Missing, Path, Plan, Protection, RecipientOutcome, Session, Stage, Utf8Need, Xoauth2};

use crate::{
    envelope::Envelope,
    outcome::{Accepted, Lost, Outcome, Proof, RecipientResult, SessionError, TransportError, Unknown},
    route::Route,
    smtp_connection::Connection,
    smtp_pool::{Keeping, Pool},
    smtp_refusal::{SmtpMeaning, SmtpRefusal},
};

/// SMTP submission of one tenant's cloud, as one app.
#[derive(Clone)]
pub struct SmtpRoute {
    network: Network,
    target: HostPort,
    tls: Arc<rustls::ClientConfig>,
    tokens: Arc<dyn TokenSource>,
    deadlines: Deadlines,
    pool: Option<Pool>,
}

/// How long each stage may take. RFC 5321 §4.5.3.2 gives minutes to servers that look for relays; a submission service
/// answers in seconds, except after the final dot, where hanging up early makes duplicates.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Greeting, EHLO, STARTTLS, AUTH, MAIL and each RCPT (RFC: 5 minutes).
    pub command: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// 354 after DATA (RFC: 2 minutes).
    pub data_start: Duration,
    /// Each block of the message (RFC: 3 minutes).
    pub block: Duration,
    /// The answer to the final dot (RFC: 10 minutes).
    pub data_end: Duration,
    /// QUIT: its answer changes nothing.
    pub quit: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            command: Duration::from_secs(60),
            handshake: Duration::from_secs(20),
            data_start: Duration::from_secs(120),
            block: Duration::from_secs(180),
            data_end: Duration::from_secs(600),
            quit: Duration::from_secs(2),
        }
    }
}

impl Deadlines {
    pub(crate) fn of(&self, stage: Stage) -> Duration {
        match stage {
            Stage::Greeting | Stage::Ehlo | Stage::StartTls | Stage::Auth | Stage::Mail | Stage::Rcpt => self.command,
            Stage::DataStart => self.data_start,
            Stage::Body => self.block,
            Stage::DataEnd => self.data_end,
            Stage::Quit => self.quit,
        }
    }
}

/// What a server offers to whoever has signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// Bytes of the largest message it takes; none where it names no limit.
    pub size: Option<u64>,
}

impl std::fmt::Debug for SmtpRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SmtpRoute({})", self.target)
    }
}

impl SmtpRoute {
    /// Submission at the cloud's SMTP host, with the machine's roots and proxy. `tokens` are for Exchange Online.
    pub fn new(network: Network, cloud: &Cloud, tokens: Arc<dyn TokenSource>) -> Result<Self, NetworkError> {
        let tls = network.tls_config(cloud)?;
        Ok(Self::with_tls(network, cloud.smtp.clone(), tls, tokens))
    }

    /// The same with TLS settings made elsewhere.
    pub fn with_tls(
        network: Network,
        target: HostPort,
        tls: Arc<rustls::ClientConfig>,
        tokens: Arc<dyn TokenSource>,
    ) -> Self {
        Self { network, target, tls, tokens, deadlines: Deadlines::default(), pool: None }
    }

    /// Keeps connections for the next message of the same mailbox, as [`Keeping::default`] says. Without it each message
    /// has a connection of its own. Clones of this route share them.
    #[must_use]
    pub fn keeping_connections(self) -> Self {
        self.keeping(Keeping::default())
    }

    /// The same with other numbers.
    #[must_use]
    pub fn keeping(mut self, keeping: Keeping) -> Self {
        self.pool = Some(Pool::new(keeping));
        self
    }

    /// Other deadlines than the default.
    #[must_use]
    pub fn with_deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// The server.
    pub fn target(&self) -> &HostPort {
        &self.target
    }

    /// Submits a message that was prepared for SMTP, signed in to `mailbox`. A token that the server does not take is
    /// replaced once.
    pub async fn send(&self, mailbox: &EmailAddress, envelope: &Envelope, message: &[u8]) -> Outcome {
        let mut token = match self.tokens.token().await {
            Ok(token) => token,
            Err(error) => return refused(SessionError::Token(error)),
        };
        let outcome = self.attempt(mailbox, envelope, message, &token).await;
        let stale = |refusal: &SmtpRefusal| refusal.meaning == SmtpMeaning::AuthUnsuccessful;
        if !matches!(&outcome, Outcome::Refused(TransportError::Smtp(refusal)) if stale(refusal)) {
            return outcome;
        }
        tracing::debug!(server = %self.target, "SMTP AUTH was refused; trying once with a fresh token");
        let old = token;
        self.tokens.disown(&old, None).await;
        token = match self.tokens.token().await {
            Ok(token) if token.expose() != old.expose() => token,
            // The refusal says more than the lack of another token.
            _ => return outcome,
        };
        self.attempt(mailbox, envelope, message, &token).await
    }

    /// Connects, secures and signs in to `mailbox`, and leaves again: no message is begun.
    ///
    /// # Errors
    /// Whatever would have kept a message from being sent up to there.
    pub async fn check(&self, mailbox: &EmailAddress) -> Result<SignedIn, TransportError> {
        let token = self.tokens.token().await.map_err(SessionError::Token)?;
        let own = |error: crate::EnvelopeError| SessionError::Unspeakable(error.to_string());
        let envelope = Envelope::new(mailbox.clone(), vec![mailbox.clone()]).map_err(own)?;
        let mut plan = plan(mailbox, &envelope, b"", &token)?;
        plan.recipients.clear();
        match self.open(plan, &token, false).await?.converse(b"").await? {
            (End::SignedIn { size }, _) => Ok(SignedIn { size }),
            (end, cause) => match self.outcome(mailbox, end, cause) {
                Outcome::Refused(error) => Err(error),
                // Without a message there is nothing to accept, nor to be unsure of.
                Outcome::Accepted(_) | Outcome::Unknown(_) => {
                    Err(SessionError::Unspeakable("the session ended where none can end".into()).into())
                }
            },
        }
    }

    async fn attempt(
        &self,
        mailbox: &EmailAddress,
        envelope: &Envelope,
        message: &[u8],
        token: &AccessToken,
    ) -> Outcome {
        let plan = match plan(mailbox, envelope, message, token) {
            Ok(plan) => plan,
            Err(error) => return refused(error),
        };
        let Some(pool) = &self.pool else {
            return match self.open(plan, token, false).await {
                Ok(mut connection) => self.judged(mailbox, connection.converse(message).await),
                Err(error) => refused(error),
            };
        };
        let (_place, kept) = pool.take(mailbox).await;
        if let Some(mut connection) = kept {
            if connection.signed_in_with(token) {
                let said = connection.carry(mail_of(&plan), message).await;
                if !matches!(&said, Ok((end, _)) if connection.was_stale(end)) {
                    pool.give_back(mailbox, connection);
                    return self.judged(mailbox, said);
                }
                // Nothing of the message was heard: the server had closed the connection. Once more, on a fresh one.
                tracing::debug!(server = %self.target, "a kept connection was dead; opening another");
            } else {
                connection.leave().await;
            }
        }
        match self.open(plan, token, true).await {
            Ok(mut connection) => {
                let said = connection.converse(message).await;
                pool.give_back(mailbox, connection);
                self.judged(mailbox, said)
            }
            Err(error) => refused(error),
        }
    }

    async fn open(&self, mut plan: Plan, token: &AccessToken, keep: bool) -> Result<Connection, SessionError> {
        let socket = self.network.connect(&self.target).await.map_err(SessionError::Network)?;
        plan.name = socket.local_addr().map_or_else(|_| "[127.0.0.1]".to_owned(), |at| literal(at.ip()));
        let session = if keep { Session::new(plan).keeping() } else { Session::new(plan) };
        let (target, tls) = (self.target.clone(), Arc::clone(&self.tls));
        Ok(Connection::new(socket, session, target, tls, self.deadlines, token.clone()))
    }

    fn judged(&self, mailbox: &EmailAddress, said: Result<(End, Option<Lost>), SessionError>) -> Outcome {
        match said {
            Ok((end, cause)) => self.outcome(mailbox, end, cause),
            Err(error) => refused(error),
        }
    }

    fn outcome(&self, mailbox: &EmailAddress, end: End, cause: Option<Lost>) -> Outcome {
        let host = self.target.host.clone();
        match end {
            End::Accepted { reply, recipients } => Outcome::Accepted(Accepted {
                route: Route::Smtp,
                proof: Proof::Smtp { host, reply },
                recipients: results(&recipients),
                retry_after: None,
            }),
            // Every envelope names somebody.
            End::SignedIn { .. } => refused(SessionError::Unspeakable("there is no recipient".into())),
            End::Refused { stage, reply, recipients } => {
                let meaning = SmtpMeaning::of(stage, &reply);
                let refusal = SmtpRefusal { meaning, host, mailbox: mailbox.clone(), stage, reply, recipients };
                Outcome::Refused(TransportError::Smtp(Box::new(refusal)))
            }
            End::Unknown { .. } => Outcome::Unknown(Unknown::Smtp { host, cause: cause.unwrap_or(Lost::Closed) }),
            End::Lost { stage } => refused(SessionError::Lost { host, stage, cause: cause.unwrap_or(Lost::Closed) }),
            End::Missing(missing) => refused(SessionError::Missing {
                host,
                of_message: matches!(missing, Missing::EightBit | Missing::Utf8),
                missing: missing.to_string(),
            }),
            End::TooLarge { size, limit } => refused(SessionError::TooLarge { host, size, limit }),
            End::Garbled { stage, error } => {
                refused(SessionError::NotSmtp { host, detail: format!("at {stage}, {error}") })
            }
            End::InjectedBeforeTls => refused(SessionError::NotSmtp {
                host,
                detail: "it said more before TLS than it may; somebody may be tampering with the connection".into(),
            }),
            End::BadPlan(error) => refused(SessionError::Unspeakable(error.to_string())),
        }
    }
}

fn refused(error: SessionError) -> Outcome {
    Outcome::Refused(TransportError::Session(error))
}

fn mail_of(plan: &Plan) -> Mail {
    Mail {
        from: plan.from.clone(),
        recipients: plan.recipients.clone(),
        size: plan.size,
        eight_bit: plan.eight_bit,
        utf8: plan.utf8,
    }
}

fn plan(
    mailbox: &EmailAddress,
    envelope: &Envelope,
    message: &[u8],
    token: &AccessToken,
) -> Result<Plan, SessionError> {
    let path = |address: &EmailAddress| {
        Path::parse(address.as_str()).map_err(|error| SessionError::Unspeakable(error.to_string()))
    };
    let from = path(envelope.from())?;
    let recipients = envelope.recipients().iter().map(path).collect::<Result<Vec<_>, _>>()?;
    let auth =
        Xoauth2::new(mailbox.as_str(), token.expose()).map_err(|error| SessionError::Unspeakable(error.to_string()))?;
    let header_end = header_end(message);
    let utf8 = if !from.is_ascii() || !recipients.iter().all(Path::is_ascii) {
        Utf8Need::Required
    } else if !message[..header_end].is_ascii() && std::str::from_utf8(&message[..header_end]).is_ok() {
        Utf8Need::IfOffered
    } else {
        Utf8Need::No
    };
    Ok(Plan {
        name: String::new(),
        protection: Protection::StartTls,
        auth: Some(auth),
        auth_in_one_line: false,
        from: Some(from),
        recipients,
        size: message.len() as u64,
        eight_bit: !message.is_ascii(),
        utf8,
    })
}

/// Where the body begins.
fn header_end(message: &[u8]) -> usize {
    message.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(message.len())
}

/// Our name for EHLO: an address literal needs no DNS to be true (RFC 5321 §4.1.3).
fn literal(ip: std::net::IpAddr) -> String {
    match ip {
        std::net::IpAddr::V4(ip) => format!("[{ip}]"),
        std::net::IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    }
}

fn results(recipients: &[RecipientOutcome]) -> Vec<RecipientResult> {
    recipients
        .iter()
        .filter_map(|one| {
            let address = one.path.as_str().parse().ok()?;
            Some(RecipientResult { address, accepted: one.is_accepted(), reply: one.reply.clone() })
        })
        .collect()
}
