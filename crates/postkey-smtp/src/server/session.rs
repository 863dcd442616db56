//! The order of a session: which command may come when, and what is answered.

use bytes::Bytes;

use super::{Answer, Event, Expects, Hello, SessionSettings};
use crate::reply::Reply;

/// One session. See the module's page for how to drive it.
#[derive(Debug)]
pub struct Session {
    settings: SessionSettings,
}

impl Session {
    /// A session whose greeting waits to be written.
    pub fn new(settings: SessionSettings) -> Self {
        Self { settings }
    }

    /// What to do now. Ask again after each; an event that [`Event::asks`] is given once and wants an answer first.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Event {
        todo!()
    }

    /// What the client sent. The driver reads only after [`Event::NeedsInput`], which bounds what is kept.
    pub fn feed(&mut self, _bytes: &[u8]) {
        todo!()
    }

    /// What is to be written; empty when nothing is.
    pub fn take_output(&mut self) -> Bytes {
        todo!()
    }

    /// The decision on the event that asked. Without such an event nothing happens.
    pub fn answer(&mut self, _answer: Answer) {
        todo!()
    }

    /// The handshake is made. What was said before is forgotten (RFC 3207 §4.2).
    pub fn secured(&mut self) {
        todo!()
    }

    /// Says this (a 421, as a rule) and ends; what the client still sends is not looked at. In place of the greeting if
    /// that was not written yet.
    pub fn close(&mut self, _reply: &Reply) {
        todo!()
    }

    /// Changes the largest message, as EHLO announces it from now on and MAIL and DATA hold to it.
    pub fn set_size(&mut self, size: Option<u64>) {
        self.settings.size = size;
    }

    /// Whether MAIL needs AUTH before it: for what is known of the client only later.
    pub fn set_login_required(&mut self, required: bool) {
        self.settings.login_required = required;
    }

    /// What is awaited, for the deadline.
    pub fn expects(&self) -> Expects {
        todo!()
    }

    /// What the client called itself.
    pub fn hello(&self) -> Option<&Hello> {
        todo!()
    }

    /// Whether somebody has signed in.
    pub fn is_authenticated(&self) -> bool {
        todo!()
    }

    /// No transaction is open and nothing waits: a good moment to close when the service stops.
    pub fn is_idle(&self) -> bool {
        todo!()
    }
}
