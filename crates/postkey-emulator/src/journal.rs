//! What was called, in order, so a test can ask what a client really did and wait until it has done it.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// One request that reached a protocol port.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    /// Counts from 1 over the life of the emulator.
    pub seq: u64,
    /// By the emulator's clock.
    pub time: Timestamp,
    /// `login`, `graph` or `smtp`.
    pub host: &'static str,
    /// HTTP method, or the SMTP verb.
    pub method: String,
    /// Path without the query: queries can carry secrets.
    pub path: String,
    /// The operation's name, as faults use it.
    pub operation: String,
    /// HTTP status or SMTP reply code; 0 = the connection was cut without an answer.
    pub status: u16,
    /// Client id of the caller, where one was told.
    pub app_id: Option<Uuid>,
    /// The tenant concerned, where one was told.
    pub tenant: Option<Uuid>,
    /// Whether a fault decided the answer.
    pub fault: bool,
}

/// The last calls, newest last.
#[derive(Debug, Default)]
pub struct Journal {
    calls: VecDeque<Call>,
    started: u64,
    finished: u64,
    /// Requests that a `hang` fault is holding at this moment.
    pub(crate) hanging: u64,
}

/// More than one test makes.
const CALLS_KEPT: usize = 50_000;

impl Journal {
    /// Counts a request in and gives it its number.
    pub(crate) fn begin(&mut self) -> u64 {
        self.started += 1;
        self.started
    }

    /// Writes down how a request ended.
    pub fn record(&mut self, call: Call) {
        if self.calls.len() == CALLS_KEPT {
            self.calls.pop_front();
        }
        self.finished += 1;
        self.calls.push_back(call);
    }

    /// Calls with a number above `seq`, in the order they ended.
    pub fn since(&self, seq: u64) -> Vec<Call> {
        self.calls.iter().filter(|call| call.seq > seq).cloned().collect()
    }

    /// Requests that have reached a protocol port so far, answered or not.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Requests that a `hang` fault is holding at this moment.
    pub fn hanging(&self) -> u64 {
        self.hanging
    }

    /// Requests that have ended so far.
    pub fn finished(&self) -> u64 {
        self.finished
    }
}
