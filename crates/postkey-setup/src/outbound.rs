//! The way out for the queue: a sender's connection, kept from message to message, and what the sender can carry.
//!
//! Nothing here asks the network while a message waits for it, but for the first one of a sender: what its tokens carry is
//! kept, whether SMTP lets it in is found out beside the mail, and what was kept goes when the store changes.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use postkey_base::Diagnose;
use postkey_graph::{Graph, GraphError, OutcomeClass, Pacer};
use postkey_identity::{TokenError, TokenSource, claims::AccessClaims};
use postkey_queue::{BoxFuture, Connected, LaneKey, Outbound, OutboundError};
use postkey_store::{LocalAppId, Sender, SenderId, StoreError};
use postkey_submission::Carries;
use postkey_transport::{Abilities, Preference, Transport, TransportError, smtp_route::SmtpRoute};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    abilities::{self, preference, proved},
    connection::{ConnectionError, Outside, SenderConnection},
    explain::explain,
};

/// Connections of all senders of one process. Cheap to clone.
#[derive(Clone)]
pub struct SenderOutbound {
    shared: Arc<Shared>,
}

struct Shared {
    outside: Outside,
    /// How this installation's program is called, for hints.
    command: String,
    senders: Mutex<HashMap<SenderId, Arc<Known>>>,
    apps: Mutex<HashMap<LocalAppId, Ways>>,
    seen: Mutex<HashMap<SenderId, u64>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What all senders of an app share: one pool of connections, one set of tokens.
#[derive(Clone)]
struct Ways {
    print: u64,
    graph: Graph,
    smtp: Option<SmtpRoute>,
}

/// A sender that has connected.
struct Known {
    connection: SenderConnection,
    ways: Ways,
    can: RwLock<Can>,
    checking: AtomicBool,
}

#[derive(Clone)]
struct Can {
    abilities: Abilities,
    may_read: bool,
    checked: Instant,
    /// SMTP is granted and nobody has signed in yet.
    smtp_unproved: bool,
}

/// Tokens carry new permissions, and SMTP is switched on, without the store learning of it.
const CHECK_AGAIN_AFTER: Duration = Duration::from_secs(15 * 60);
/// A token for SMTP is an extra: mail by Graph does not wait longer for it.
const PATIENCE_FOR_OTHER_TOKEN: Duration = Duration::from_secs(5);
/// How often the store is asked whether a command has changed something.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Senders kept at once; beyond it all are connected anew when they are next used.
const MOST_KEPT: usize = 20_000;

impl SenderOutbound {
    /// `command` is how this installation's program is called.
    pub fn new(outside: Outside, command: String) -> Self {
        let shared = Shared {
            outside,
            command,
            senders: Mutex::default(),
            apps: Mutex::default(),
            seen: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Forgets senders whose values or credentials a command has changed, and tells of each, until closed.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn follow(&self, changed: impl Fn(SenderId) + Send + Sync + 'static) -> Result<(), StoreError> {
        let changes = self.shared.outside.store.changes();
        *lock(&self.shared.seen) = self.prints().await?;
        let this = self.clone();
        self.shared.tasks.spawn(async move {
            let mut look = tokio::time::interval(LOOK_EVERY);
            look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                // Neither loses anything when dropped.
                tokio::select! {
                    () = this.shared.stop.cancelled() => return,
                    _ = look.tick() => {}
                }
                if !changes.poll().await {
                    continue;
                }
                match this.prints().await {
                    Ok(prints) => {
                        for sender in this.take_over(prints) {
                            this.forget(sender);
                            changed(sender);
                        }
                    }
                    Err(error) => tracing::debug!(%error, "the senders could not be read"),
                }
            }
        });
        Ok(())
    }

    /// Ends what runs beside the mail.
    pub async fn close(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// The senders that differ from what was seen before.
    fn take_over(&self, prints: HashMap<SenderId, u64>) -> Vec<SenderId> {
        let mut seen = lock(&self.shared.seen);
        let differs = |id: &SenderId| seen.get(id) != prints.get(id);
        let changed = prints.keys().chain(seen.keys().filter(|id| !prints.contains_key(id))).copied().filter(differs);
        let changed = changed.collect();
        *seen = prints;
        changed
    }

    /// What a sender's connection is made of, in one number each: its values, its app, that app's credentials and hosts.
    async fn prints(&self) -> Result<HashMap<SenderId, u64>, StoreError> {
        let store = &self.shared.outside.store;
        let tenants = store.tenants().await?;
        let mut apps = HashMap::new();
        for app in store.apps().await? {
            let credentials = store.credentials(app.id).await?;
            let hosts = tenants.iter().find(|tenant| tenant.id == app.tenant).map(|tenant| &tenant.cloud);
            apps.insert(app.id, print(&(&app, &credentials, hosts)));
        }
        let senders = store.senders().await?;
        Ok(senders
            .into_iter()
            .map(|sender| (sender.id, print(&(&sender, sender.values.app.map(|id| apps.get(&id))))))
            .collect())
    }

    async fn known(&self, id: SenderId) -> Result<Arc<Known>, OutboundError> {
        if let Some(known) = lock(&self.shared.senders).get(&id) {
            return Ok(Arc::clone(known));
        }
        let known = Arc::new(self.connect_anew(id).await?);
        let mut senders = lock(&self.shared.senders);
        if senders.len() >= MOST_KEPT {
            senders.clear();
        }
        senders.insert(id, Arc::clone(&known));
        Ok(known)
    }

    async fn connect_anew(&self, id: SenderId) -> Result<Known, OutboundError> {
        let connection = self.connection(id).await.map_err(|error| refused(&error))?;
        let ways = self.ways(&connection).map_err(|error| refused(&error))?;
        let can = match self.ask(&connection).await {
            Ok(can) => can,
            Err(error) => return Err(self.no_token(&connection, error).await),
        };
        tracing::debug!(sender = connection.sender.values.name, abilities = ?can.abilities, "a sender is connected");
        Ok(Known { connection, ways, can: RwLock::new(can), checking: AtomicBool::new(false) })
    }

    async fn connection(&self, id: SenderId) -> Result<SenderConnection, ConnectionError> {
        let outside = &self.shared.outside;
        match outside.store.sender_by_id(id).await? {
            Some(sender) => outside.connect(sender).await,
            None => Err(ConnectionError::NoSender(id.to_string())),
        }
    }

    /// One client an app, whoever asks: senders of an app share connections and tokens.
    fn ways(&self, connection: &SenderConnection) -> Result<Ways, ConnectionError> {
        let app = &connection.app;
        let (print, by_smtp) = (app.print(), preference(&connection.sender) != Preference::Graph);
        let fits = |ways: &&Ways| ways.print == print && (ways.smtp.is_some() || !by_smtp);
        if let Some(ways) = lock(&self.shared.apps).get(&app.app.id).filter(fits) {
            return Ok(ways.clone());
        }
        // The queue paces: a second governor would only hide what the server says.
        let graph = app.graph()?.with_pacer(Pacer::idle());
        let ways = Ways { print, graph, smtp: if by_smtp { Some(app.smtp()?.keeping_connections()) } else { None } };
        let mut apps = lock(&self.shared.apps);
        if apps.len() >= MOST_KEPT {
            apps.clear();
        }
        apps.insert(app.app.id, ways.clone());
        Ok(ways)
    }

    /// What the app's tokens say that the sender may do. Only the token it cannot do without may fail.
    async fn ask(&self, connection: &SenderConnection) -> Result<Can, TokenError> {
        let app = &connection.app;
        let wanted = preference(&connection.sender);
        let proved = proved(&connection.sender);
        let graph = async {
            match wanted {
                // Only to look into Sent Items for what SMTP left unknown: mail goes without it.
                Preference::Smtp => {
                    Ok(timeout(PATIENCE_FOR_OTHER_TOKEN, app.graph_tokens().token()).await.ok().and_then(Result::ok))
                }
                Preference::Graph | Preference::Auto => app.graph_tokens().token().await.map(Some),
            }
        };
        let mail = async {
            match wanted {
                Preference::Graph => Ok(None),
                Preference::Smtp => app.mail_tokens().token().await.map(Some),
                Preference::Auto => {
                    Ok(timeout(PATIENCE_FOR_OTHER_TOKEN, app.mail_tokens().token()).await.ok().and_then(Result::ok))
                }
            }
        };
        let (graph, mail) = tokio::join!(graph, mail);
        let claims = |token: Option<postkey_base::AccessToken>| token.as_ref().and_then(AccessClaims::of);
        let (graph, mail) = (claims(graph?), claims(mail?));
        let carries =
            |claims: &Option<AccessClaims>, name: &str| claims.as_ref().is_some_and(|claims| claims.carries(name));
        let granted_smtp = carries(&mail, "SMTP.SendAsApp");
        let graph_read_write = carries(&graph, "Mail.ReadWrite") || proved.graph_read_write;
        Ok(Can {
            abilities: Abilities {
                graph_send: wanted != Preference::Smtp,
                graph_read_write,
                // Not refused yet is good enough: Graph goes first wherever it can, and a refusal is followed by it.
                smtp: wanted != Preference::Graph && (granted_smtp || proved.smtp),
                preference: wanted,
                ..Abilities::default()
            },
            may_read: graph_read_write || carries(&graph, "Mail.Read"),
            checked: Instant::now(),
            smtp_unproved: wanted == Preference::Auto && granted_smtp && !proved.smtp,
        })
    }

    async fn no_token(&self, connection: &SenderConnection, error: TokenError) -> OutboundError {
        let error = TransportError::from(GraphError::Token(error));
        OutboundError {
            class: error.class(),
            transient: error.is_transient(),
            diagnosis: explain(connection, &self.shared.command, &error).await,
        }
    }

    /// Looks again at what may have changed outside, beside the mail.
    fn check_again(&self, id: SenderId, known: &Arc<Known>) {
        let due = {
            let can = known.can.read().unwrap_or_else(PoisonError::into_inner);
            can.smtp_unproved || can.checked.elapsed() > CHECK_AGAIN_AFTER
        };
        if !due || known.checking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (this, known) = (self.clone(), Arc::clone(known));
        self.shared.tasks.spawn(async move {
            let stop = this.shared.stop.clone();
            let looked = stop.run_until_cancelled(this.look(&known)).await;
            if let Some(Ok(can)) = looked {
                let lets_in = can.abilities.smtp;
                *known.can.write().unwrap_or_else(PoisonError::into_inner) = can;
                tracing::debug!(sender.id = %id, smtp = lets_in, "a sender's abilities were looked at again");
            }
            known.checking.store(false, Ordering::Release);
        });
    }

    async fn look(&self, known: &Known) -> Result<Can, TokenError> {
        let mut can = self.ask(&known.connection).await?;
        if can.smtp_unproved {
            can.abilities.smtp = abilities::smtp_lets_in(&known.connection).await;
            can.smtp_unproved = false;
        }
        Ok(can)
    }
}

impl Known {
    fn can(&self) -> Can {
        self.can.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn connected(&self) -> Connected {
        let (connection, can) = (&self.connection, self.can());
        let app = &connection.app.app;
        Connected {
            lane: LaneKey { tenant: app.tenant, client_id: app.client_id, mailbox: connection.mailbox.clone() },
            app: app.id,
            transport: Transport {
                mailbox: connection.mailbox.clone(),
                abilities: can.abilities,
                graph: Some(self.ways.graph.clone()),
                smtp: self.ways.smtp.clone(),
            },
            may_read: can.may_read,
            on_unknown: connection.sender.on_unknown,
            name: connection.sender.values.name.clone(),
        }
    }
}

impl Outbound for SenderOutbound {
    fn connect(&self, sender: SenderId) -> BoxFuture<'_, Result<Connected, OutboundError>> {
        Box::pin(async move {
            let known = self.known(sender).await?;
            self.check_again(sender, &known);
            Ok(known.connected())
        })
    }

    fn forget(&self, sender: SenderId) {
        lock(&self.shared.senders).remove(&sender);
    }
}

impl Carries for SenderOutbound {
    fn abilities(&self, sender: SenderId) -> Pin<Box<dyn Future<Output = Option<Abilities>> + Send + '_>> {
        Box::pin(async move {
            let known = lock(&self.shared.senders).get(&sender).cloned();
            if let Some(known) = known {
                return Some(known.can().abilities);
            }
            let saved = self.shared.outside.store.sender_by_id(sender).await.ok()??;
            if let Some(abilities) = as_proved(&saved) {
                return Some(abilities);
            }
            self.known(sender).await.ok().map(|known| known.can().abilities)
        })
    }
}

/// What a sender could do when it was last proved: good enough to announce a size by, and it costs no token.
fn as_proved(sender: &Sender) -> Option<Abilities> {
    sender.last_proof.as_ref()?.get("found")?;
    let (found, wanted) = (proved(sender), preference(sender));
    Some(Abilities {
        graph_send: wanted != Preference::Smtp,
        graph_read_write: found.graph_read_write,
        smtp: wanted != Preference::Graph && found.smtp,
        preference: wanted,
        ..Abilities::default()
    })
}

/// What a sender without a connection means for its mail.
fn refused(error: &ConnectionError) -> OutboundError {
    let (class, transient) = match error {
        ConnectionError::Store(_) => (OutcomeClass::Network, true),
        ConnectionError::Network(_) => (OutcomeClass::Network, false),
        ConnectionError::Certificate(_) | ConnectionError::NoCredential { .. } | ConnectionError::Incomplete { .. } => {
            (OutcomeClass::Credential, false)
        }
        ConnectionError::NoSender(_) | ConnectionError::NoSenders | ConnectionError::WhichSender(_) => {
            (OutcomeClass::Mailbox, false)
        }
        ConnectionError::Lost { .. } => (OutcomeClass::Tenant, false),
    };
    OutboundError { class, diagnosis: error.diagnosis(), transient }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept under these locks is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value in one number: enough to tell that it has changed.
pub(crate) fn print(value: &impl serde::Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(value).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}
