//! Connections kept for the next message of the same mailbox: no more at once than Exchange Online allows, none idle for
//! long.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use postkey_base::EmailAddress;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::smtp_connection::Connection;

/// How connections are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// Connections of one mailbox at once, idle ones included.
    pub most: usize,
    /// How long one waits for its next message.
    pub idle: Duration,
}

impl Default for Keeping {
    /// Three, as Exchange Online documents; half a minute, which a busy lane never lets pass and an idle one need not hold.
    fn default() -> Self {
        Self { most: 3, idle: Duration::from_secs(30) }
    }
}

/// Mailboxes remembered at most; beyond it those at rest are forgotten.
const MAILBOXES_KEPT: usize = 10_000;

/// The connections of one route.
#[derive(Clone)]
pub(crate) struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    keeping: Keeping,
    mailboxes: Mutex<HashMap<EmailAddress, Slot>>,
    /// A task looks after the idle ones.
    swept: Mutex<bool>,
}

struct Slot {
    places: Arc<Semaphore>,
    kept: Vec<Connection>,
}

/// A place among a mailbox's connections, given back when dropped.
pub(crate) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Pool {
    pub(crate) fn new(keeping: Keeping) -> Self {
        let keeping = Keeping { most: keeping.most.max(1), ..keeping };
        Self { inner: Arc::new(Inner { keeping, mailboxes: Mutex::default(), swept: Mutex::new(false) }) }
    }

    /// Waits for a place of the mailbox, and gives the connection that was used last, if one is kept. Every holder of a
    /// place has deadlines, so the wait ends.
    pub(crate) async fn take(&self, mailbox: &EmailAddress) -> (Place, Option<Connection>) {
        let places = {
            let mut mailboxes = self.inner.mailboxes();
            if mailboxes.len() >= MAILBOXES_KEPT && !mailboxes.contains_key(mailbox) {
                let most = self.inner.keeping.most;
                mailboxes.retain(|_, slot| !slot.kept.is_empty() || slot.places.available_permits() < most);
            }
            let fresh = || Slot { places: Arc::new(Semaphore::new(self.inner.keeping.most)), kept: Vec::new() };
            Arc::clone(&mailboxes.entry(mailbox.clone()).or_insert_with(fresh).places)
        };
        // Nobody closes it; and if, there would be no limit to keep.
        let permit = places.acquire_owned().await.ok();
        let kept = self.inner.mailboxes().get_mut(mailbox).and_then(|slot| slot.kept.pop());
        (Place { _permit: permit }, kept)
    }

    /// Keeps a connection for the mailbox's next message, if it is open.
    pub(crate) fn give_back(&self, mailbox: &EmailAddress, connection: Connection) {
        if !connection.is_open() {
            return;
        }
        if let Some(slot) = self.inner.mailboxes().get_mut(mailbox) {
            slot.kept.push(connection);
        }
        let mut swept = self.inner.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if !*swept {
            *swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self.inner), self.inner.keeping.idle));
        }
    }
}

impl Inner {
    fn mailboxes(&self) -> MutexGuard<'_, HashMap<EmailAddress, Slot>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what has been idle for too long.
    fn expired(&self) -> Vec<Connection> {
        let mut expired = Vec::new();
        for slot in self.mailboxes().values_mut() {
            expired.extend(slot.kept.extract_if(.., |connection| connection.idle_for() >= self.keeping.idle));
        }
        expired
    }
}

/// Closes idle connections until none are left or the route is gone.
async fn sweep(pool: Weak<Inner>, idle: Duration) {
    loop {
        // Often enough that none is held for much longer than it should be.
        tokio::time::sleep((idle / 4).max(Duration::from_millis(10))).await;
        let Some(inner) = pool.upgrade() else { return };
        for connection in inner.expired() {
            connection.leave().await;
        }
        // Under the flag's lock: whoever keeps a connection from now on starts another sweeper.
        let mut swept = inner.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.mailboxes().values().all(|slot| slot.kept.is_empty()) {
            *swept = false;
            return;
        }
    }
}
