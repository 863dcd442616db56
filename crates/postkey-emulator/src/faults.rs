//! Faults a test asks for: which request they meet, how often, and what happens instead of the answer.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What happens to a request that a fault meets.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Action {
    /// Answers with this status.
    Status {
        /// HTTP status.
        status: u16,
        /// Graph's `error.code`, or the token endpoint's `error`.
        #[serde(default)]
        code: Option<String>,
        /// The AADSTS number, on the login host.
        #[serde(default)]
        aadsts: Option<u32>,
        /// What the answer says.
        #[serde(default)]
        message: Option<String>,
        /// `Retry-After`, in seconds.
        #[serde(default)]
        retry_after_seconds: Option<u32>,
        /// Whether `Retry-After` is written as an HTTP date instead of seconds.
        #[serde(default)]
        retry_after_as_date: bool,
    },
    /// Answers as usual, but only after so long.
    Delay {
        /// In milliseconds, at most ten minutes.
        ms: u64,
    },
    /// Cuts the connection without an answer.
    Drop,
    /// Sends the head and half of the body, then cuts the connection.
    Truncate,
    /// Never answers, until the fault is cleared or the client goes away.
    Hang,
}

/// One fault.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Given by the emulator.
    #[serde(default)]
    pub id: u64,
    /// The operation's name (`sendMail`, `token`, …). With `path` absent too: every operation.
    #[serde(default)]
    pub operation: Option<String>,
    /// A path with `*` for anything, compared with the request's path without its query.
    #[serde(default)]
    pub path: Option<String>,
    /// Only the call with this number in the journal.
    #[serde(default)]
    pub call: Option<u64>,
    /// Only this tenant's requests.
    #[serde(default)]
    pub tenant: Option<Uuid>,
    /// Lets so many matching requests pass first.
    #[serde(default)]
    pub after: u32,
    /// How many requests it meets; absent = until it is removed.
    #[serde(default)]
    pub times: Option<u32>,
    /// Whether the request takes effect before the answer is spoilt.
    #[serde(default)]
    pub after_effect: bool,
    /// What happens.
    pub action: Action,
}

impl Fault {
    /// A fault of one operation that lasts until it is removed.
    pub fn of(operation: &str, action: Action) -> Self {
        Self {
            id: 0,
            operation: Some(operation.to_owned()),
            path: None,
            call: None,
            tenant: None,
            after: 0,
            times: None,
            after_effect: false,
            action,
        }
    }

    /// Only so many requests.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// The request takes effect before its answer is spoilt.
    pub fn after_effect(mut self) -> Self {
        self.after_effect = true;
        self
    }

    fn meets(&self, request: &FaultKey<'_>) -> bool {
        self.operation.as_deref().is_none_or(|operation| operation == request.operation)
            && self.path.as_deref().is_none_or(|pattern| matches_glob(pattern, request.path))
            && self.call.is_none_or(|call| call == request.seq)
            && self.tenant.is_none_or(|tenant| Some(tenant) == request.tenant)
    }
}

/// What a request shows to the faults.
#[derive(Debug)]
pub(crate) struct FaultKey<'a> {
    pub(crate) seq: u64,
    pub(crate) operation: &'a str,
    pub(crate) path: &'a str,
    pub(crate) tenant: Option<Uuid>,
}

/// The faults in force, oldest first; the oldest that matches a request decides.
#[derive(Debug, Default)]
pub struct FaultBook {
    faults: Vec<Fault>,
    last_id: u64,
    /// Faults that were used up but still hold a request.
    holding: Vec<u64>,
}

/// A test needs a handful; a thousand is a mistake.
const FAULTS_KEPT: usize = 1_000;

impl FaultBook {
    /// Puts a fault in force and returns its id; None when there are too many.
    pub fn add(&mut self, mut fault: Fault) -> Option<u64> {
        if self.faults.len() == FAULTS_KEPT {
            return None;
        }
        self.last_id += 1;
        fault.id = self.last_id;
        self.faults.push(fault);
        Some(self.last_id)
    }

    /// Takes a fault out of force; false when there is none with this id.
    pub fn remove(&mut self, id: u64) -> bool {
        let before = self.faults.len() + self.holding.len();
        self.faults.retain(|fault| fault.id != id);
        self.holding.retain(|&held| held != id);
        self.faults.len() + self.holding.len() != before
    }

    /// Takes every fault out of force.
    pub fn clear(&mut self) {
        self.faults.clear();
        self.holding.clear();
    }

    /// Whether a hanging request may go on: its fault has been taken out of force.
    pub(crate) fn released(&self, id: u64) -> bool {
        !self.holding.contains(&id)
    }

    /// The faults in force, oldest first.
    pub fn list(&self) -> &[Fault] {
        &self.faults
    }

    /// The fault that this request meets, which is thereby used once.
    pub(crate) fn take(&mut self, request: &FaultKey<'_>) -> Option<Fault> {
        let mut met = None;
        for (at, fault) in self.faults.iter_mut().enumerate() {
            if !fault.meets(request) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            met = Some(at);
            break;
        }
        let at = met?;
        let fault = self.faults[at].clone();
        if fault.action == Action::Hang && !self.holding.contains(&fault.id) {
            self.holding.push(fault.id);
        }
        if let Some(times) = &mut self.faults[at].times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.faults.remove(at);
            }
        }
        Some(fault)
    }
}

/// `*` stands for any characters, slashes included.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_path_stands_for_anything() {
        for (pattern, text, want) in [
            ("/v1.0/users/*/sendMail", "/v1.0/users/alice@contoso.example/sendMail", true),
            ("/v1.0/users/*/sendMail", "/v1.0/users/alice@contoso.example/messages", false),
            ("*", "/anything", true),
            ("/v1.0/me", "/v1.0/me", true),
            ("/v1.0/me", "/v1.0/me/messages", false),
            ("*applications*", "/v1.0/applications/1/addPassword", true),
        ] {
            assert_eq!(matches_glob(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn a_fault_meets_as_many_requests_as_it_says_and_lets_the_first_pass_when_told() {
        let mut book = FaultBook::default();
        let mut fault = Fault::of("sendMail", Action::Drop).times(2);
        fault.after = 1;
        book.add(fault);
        let key = |seq| FaultKey { seq, operation: "sendMail", path: "/v1.0/me/sendMail", tenant: None };
        let met: Vec<bool> = (1..=5).map(|seq| book.take(&key(seq)).is_some()).collect();
        assert_eq!(met, [false, true, true, false, false]);
        assert!(book.list().is_empty());
    }
}
