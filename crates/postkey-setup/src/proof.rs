//! The proof that a sender works: a probe that cannot deliver, then one message, then a look into Sent Items.

use std::time::Duration;

use jiff::Timestamp;
use postkey_base::{EmailAddress, ServicePrincipalId};
use postkey_graph::{Graph, GraphError};
use postkey_identity::{TokenSource, claims::AccessClaims};
use postkey_store::App;
use postkey_transport::{
    Abilities, Composition, Envelope, Message, Preference, Stamp, compose,
    outcome::{Outcome, Proof as Receipt, TransportError},
    sending::{Transport, seen_in_sent},
    smtp_route::SmtpRoute,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    abilities::{self, Found},
    automatic::{Patience, Wait},
    connection::{AppConnection, ConnectionError, Outside},
    error::SetupError,
    limits::{self, Limit, Probed},
    options::Reach,
    watch::{Event, Watcher},
};

/// How long a sent message may take to move from Drafts to Sent Items before we stop looking.
const SETTLING: Duration = Duration::from_secs(60);

/// What was seen.
#[derive(Debug, Clone, Serialize)]
pub struct Proof {
    /// When.
    pub at: Timestamp,
    /// Graph's id of the accepted request.
    pub request_id: Option<String>,
    /// The test message.
    pub message_id: String,
    /// Who got it.
    pub recipient: EmailAddress,
    /// Whether it was seen in Sent Items; none where the app may not look.
    pub seen_in_sent: Option<bool>,
    /// What the sender may do.
    pub found: Found,
}

impl Proof {
    /// One line for people.
    pub fn in_words(&self) -> String {
        let seen = match self.seen_in_sent {
            Some(true) => ", seen in Sent Items",
            Some(false) => ", not seen in Sent Items yet",
            None => "",
        };
        let id = self.request_id.as_deref().map(|id| format!(" (request {id})")).unwrap_or_default();
        format!("a message to {} was accepted{seen}{id}", self.recipient)
    }
}

/// Proves one sender.
pub struct Prover<'a> {
    /// Its app.
    pub connection: &'a AppConnection,
    /// Store, clock.
    pub outside: &'a Outside,
    /// Its mailbox.
    pub mailbox: &'a EmailAddress,
    /// Who receives the test message.
    pub test_to: &'a EmailAddress,
    /// Its name.
    pub sender: &'a str,
    /// What was arranged: decides how long a refusal may last, and whom to ask.
    pub reach: Reach,
    /// SMTP is wanted.
    pub smtp: bool,
    /// Reading and writing is wanted.
    pub read_write: bool,
    /// Who is told.
    pub watcher: &'a dyn Watcher,
    /// How long it may take.
    pub patience: Patience,
}

impl Prover<'_> {
    /// Waits until sending is allowed, sends, looks, and writes down that the sender is verified.
    ///
    /// # Errors
    /// Sending stays refused, or the test message is.
    pub async fn prove(&self) -> Result<Proof, SetupError> {
        let tokens = self.connection.graph_tokens();
        let graph = self.outside.graph(&self.connection.cloud, tokens.clone())?;
        self.until_allowed(&graph, &*tokens).await?;
        let (id, request_id, message_id) = self.send(&graph).await?;
        let seen_in_sent = self.seen(&graph, &message_id, id).await;
        let found = Found {
            graph_send: true,
            graph_read_write: self.read_write && seen_in_sent.is_some(),
            smtp: self.smtp && self.smtp_lets_in().await?,
        };
        let proof = Proof {
            at: self.outside.clock.now(),
            request_id,
            message_id,
            recipient: self.test_to.clone(),
            seen_in_sent,
            found,
        };
        let claims = tokens.token().await.ok().as_ref().and_then(AccessClaims::of).unwrap_or_default();
        let reach = if claims.carries("Mail.Send") {
            postkey_store::Reach::TenantWide
        } else {
            // Allowed here says nothing about elsewhere: `sender limit` probes a mailbox that ought to be refused.
            postkey_store::Reach::Unknown
        };
        let written = serde_json::to_value(&proof).expect("a proof holds nothing that JSON lacks");
        let store = &self.outside.store;
        store
            .transaction("setup.proved", async |commit| {
                commit.record_sender_verified(self.sender, &written, Some(&proof.message_id)).await?;
                commit.record_sender_reach(self.sender, reach, &written).await
            })
            .await?;
        Ok(proof)
    }

    async fn until_allowed(&self, graph: &Graph, tokens: &dyn TokenSource) -> Result<(), SetupError> {
        const STEP: &str = "send as the mailbox";
        self.watcher.notice(Event::Begun { what: STEP });
        let limited = self.reach == Reach::Limited;
        let patience = if limited { self.patience.exchange } else { self.patience.consent };
        let mut wait = Wait::new(self.outside.clock.clone(), patience);
        let mut told = false;
        loop {
            let refusal = match limits::probe(graph, self.mailbox).await {
                Probed::Allowed => break,
                Probed::Refused(error) => error,
                Probed::Unknown(Some(error)) if error.is_transient() => error,
                Probed::Unknown(Some(error)) => return Err(SetupError::Graph { step: STEP, cause: Box::new(error) }),
                Probed::Unknown(None) => {
                    return Err(SetupError::MayNotSend { mailbox: self.mailbox.clone(), limited, cause: None });
                }
            };
            if limited && !told {
                told = true;
                self.show_commands();
            }
            let tell = |waited, until| self.watcher.notice(Event::Waiting { what: STEP, waited, until });
            if !wait.again(refusal.retry_after(), tell).await {
                return Err(SetupError::MayNotSend {
                    mailbox: self.mailbox.clone(),
                    limited,
                    cause: Some(Box::new(refusal)),
                });
            }
            // A token keeps the roles it was made with: ask for a new one.
            if let Ok(stale) = tokens.token().await {
                tokens.disown(&stale, None).await;
            }
        }
        self.watcher
            .notice(Event::Done { what: "Exchange allows the app to send", detail: Some(self.mailbox.as_str()) });
        Ok(())
    }

    /// Signs in by SMTP and leaves again. Graph works already, so a refusal is only told, with who can mend it.
    async fn smtp_lets_in(&self) -> Result<bool, SetupError> {
        self.watcher.notice(Event::Begun { what: "sign in by SMTP" });
        let app = self.connection;
        let route =
            SmtpRoute::new(app.network().clone(), &app.cloud, app.mail_tokens()).map_err(ConnectionError::Network)?;
        let error = match route.check(self.mailbox).await {
            Ok(_) => {
                self.watcher.notice(Event::Done { what: "SMTP lets the app in", detail: Some(self.mailbox.as_str()) });
                return Ok(true);
            }
            Err(error) => error,
        };
        self.watcher
            .notice(Event::Warning(&format!("SMTP does not let the app in yet, mail goes by Graph alone: {error}")));
        let App { client_id, service_principal: Some(principal), display_name, .. } = &app.app else {
            return Ok(false);
        };
        if self.reach == Reach::TenantWide {
            let lines = limits::smtp_commands(*client_id, *principal, display_name, self.mailbox);
            self.watcher.notice(Event::Commands {
                heading: "To open SMTP, an Exchange administrator runs, in Exchange Online PowerShell:",
                lines: &lines,
            });
        }
        self.watcher.notice(Event::Note("then `postkey sender test` looks again"));
        Ok(false)
    }

    fn show_commands(&self) {
        let App { client_id, service_principal, display_name, .. } = &self.connection.app;
        let Some(principal) = *service_principal else { return };
        let mailboxes = [self.mailbox.clone()];
        let lines = rbac(*client_id, principal, display_name, &mailboxes, self.smtp, self.read_write);
        self.watcher.notice(Event::Commands {
            heading: "For an Exchange administrator, in Exchange Online PowerShell (they take 30 minutes to 2 hours to work):",
            lines: &lines,
        });
    }

    /// One message; our id of it, its request id and its Message-ID.
    async fn send(&self, graph: &Graph) -> Result<(Uuid, Option<String>, String), SetupError> {
        self.watcher.notice(Event::Begun { what: "send a test message" });
        let refused = |error: TransportError| SetupError::Test(Box::new(error));
        let (id, at) = (Uuid::new_v4(), self.outside.clock.now());
        let composition = Composition {
            to: vec![self.test_to.clone()],
            subject: format!("postkey: {} can send", self.sender),
            text: Some(format!(
                "This message proves that the sender {:?} works.\r\n\r\nApp: {} ({})\r\nMailbox: {}\r\nSent: {}\r\n\r\nNobody needs \
                 to answer it.\r\n",
                self.sender,
                self.connection.app.display_name,
                self.connection.app.client_id,
                self.mailbox,
                at.strftime("%Y-%m-%d %H:%M:%S UTC"),
            )),
            ..Composition::new(self.mailbox.clone())
        };
        let mime = compose(&composition, id, at).map_err(|error| refused(error.into()))?;
        let message = Message::parse(mime).map_err(|error| refused(error.into()))?;
        let envelope = Envelope::of(&message, self.mailbox.clone()).map_err(|error| refused(error.into()))?;
        let transport = Transport {
            mailbox: self.mailbox.clone(),
            abilities: Abilities { graph_send: true, preference: Preference::Graph, ..Abilities::default() },
            graph: Some(graph.clone()),
            smtp: None,
        };
        let mut wait = Wait::new(self.outside.clock.clone(), self.patience.consent);
        loop {
            let report = transport.send(&message, &envelope, &Stamp { id, at }).await;
            let error = match report.outcome {
                Outcome::Accepted(accepted) => {
                    let request_id = match accepted.proof {
                        Receipt::Graph { request_id, .. } => request_id,
                        Receipt::Smtp { .. } => None,
                    };
                    self.watcher.notice(Event::Done { what: "test message accepted", detail: request_id.as_deref() });
                    return Ok((id, request_id, report.message_id.unwrap_or_default()));
                }
                Outcome::Unknown(unknown) => return Err(SetupError::TestUnknown(unknown.to_string())),
                Outcome::Refused(error) => error,
            };
            // The probe was allowed; another of Exchange's servers may not have heard yet.
            let denied =
                matches!(&error, TransportError::Graph(cause) if matches!(**cause, GraphError::AccessDenied(_)));
            let tell =
                |waited, until| self.watcher.notice(Event::Waiting { what: "send a test message", waited, until });
            if !(denied || error.is_transient()) || !wait.again(error.retry_after(), tell).await {
                return Err(refused(error));
            }
        }
    }

    /// A draft alone proves nothing: sendMail makes one before it answers.
    async fn seen(&self, graph: &Graph, message_id: &str, stamp: Uuid) -> Option<bool> {
        if !self.read_write || !abilities::may_read(graph, self.mailbox).await.unwrap_or(false) {
            return None;
        }
        let mut wait = Wait::new(self.outside.clock.clone(), SETTLING);
        loop {
            match seen_in_sent(graph, self.mailbox, message_id, Some(stamp)).await {
                Ok(Some(_)) => {
                    self.watcher.notice(Event::Done { what: "seen in Sent Items", detail: Some(message_id) });
                    return Some(true);
                }
                Err(error) if !error.is_transient() => return None,
                _ => {}
            }
            let tell =
                |waited, until| self.watcher.notice(Event::Waiting { what: "see it in Sent Items", waited, until });
            if !wait.again(None, tell).await {
                return Some(false);
            }
        }
    }
}

/// The commands for these mailboxes.
pub(crate) fn rbac(
    client: postkey_base::ClientId,
    principal: ServicePrincipalId,
    app: &str,
    mailboxes: &[EmailAddress],
    smtp: bool,
    read_write: bool,
) -> Vec<String> {
    limits::commands(&Limit { client, principal, app, mailboxes, smtp, read_write })
}
