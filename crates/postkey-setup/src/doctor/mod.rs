//! Every link of the chain as a named check, from the store's disk to the mailbox, each with what was seen and, where it
//! does not hold, who must do what. Nothing is sent: the only mail request is the probe that cannot deliver.

mod app;
mod certificate;
mod credentials;
mod mailbox;
mod network;
mod permission;
mod sender;
mod store;

use postkey_base::{Clock, Diagnose, Diagnosis, Who};
use postkey_identity::{Cloud, Network};
use postkey_store::Sender;
use serde::{Serialize, Serializer};

use crate::connection::Outside;

/// One link of the chain, looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Stable, dotted: `clock.skew`.
    pub name: &'static str,
    /// What holds when it passes.
    pub title: &'static str,
    /// The sender whose chain it belongs to; none for this machine and its network.
    pub sender: Option<String>,
    /// Which of several: a host, a credential.
    pub subject: Option<String>,
    /// What came out.
    #[serde(flatten)]
    pub result: CheckResult,
    /// What was seen.
    #[serde(serialize_with = "as_map")]
    pub evidence: Vec<(&'static str, String)>,
    /// What to do about it; for failures and warnings.
    pub diagnosis: Option<Diagnosis>,
}

/// What came out of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum CheckResult {
    /// It holds.
    Passed,
    /// It holds, but somebody should look.
    Warning,
    /// It does not hold.
    Failed,
    /// It was not looked at.
    Skipped {
        /// The check that failed before it, or why it does not matter here.
        why: String,
    },
}

fn as_map<S: Serializer>(evidence: &[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(evidence.iter().map(|(name, value)| (name, value)))
}

impl Check {
    fn new(name: &'static str, title: &'static str, result: CheckResult, diagnosis: Option<Diagnosis>) -> Self {
        Self { name, title, sender: None, subject: None, result, evidence: Vec::new(), diagnosis }
    }

    /// It holds.
    pub fn passed(name: &'static str, title: &'static str) -> Self {
        Self::new(name, title, CheckResult::Passed, None)
    }

    /// It holds, but somebody should look.
    pub fn warning(name: &'static str, title: &'static str, diagnosis: Diagnosis) -> Self {
        Self::new(name, title, CheckResult::Warning, Some(diagnosis))
    }

    /// It does not hold.
    pub fn failed(name: &'static str, title: &'static str, diagnosis: Diagnosis) -> Self {
        Self::new(name, title, CheckResult::Failed, Some(diagnosis))
    }

    /// It was not looked at.
    pub fn skipped(name: &'static str, title: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, title, CheckResult::Skipped { why: why.into() }, None)
    }

    /// Names which of several it is about.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Adds what was seen.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.evidence.push((name, value.to_string()));
        self
    }

    /// Whether what depends on it may be looked at.
    fn holds(&self) -> bool {
        !matches!(self.result, CheckResult::Failed | CheckResult::Skipped { .. })
    }
}

/// How many checks came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// They hold.
    pub passed: usize,
    /// They hold, but somebody should look.
    pub warnings: usize,
    /// They do not hold.
    pub failed: usize,
    /// They were not looked at.
    pub skipped: usize,
}

impl Summary {
    /// Counts.
    pub fn of(checks: &[Check]) -> Self {
        let mut summary = Self::default();
        for check in checks {
            match check.result {
                CheckResult::Passed => summary.passed += 1,
                CheckResult::Warning => summary.warnings += 1,
                CheckResult::Failed => summary.failed += 1,
                CheckResult::Skipped { .. } => summary.skipped += 1,
            }
        }
        summary
    }
}

/// Who is told of each check as it is finished.
pub type Told<'a> = &'a mut (dyn FnMut(&Check) + Send);

/// Looks at the store, the network to every cloud in use, and the whole chain of these senders.
pub async fn examine(outside: &Outside, senders: &[Sender], told: Told<'_>) -> Vec<Check> {
    let mut round = Round::new(told);
    store::examine(&outside.store, &mut round).await;
    let mut clouds: Vec<(Cloud, bool)> = Vec::new();
    let mut chains = Vec::new();
    for sender in senders {
        let chain = sender::Chain::open(outside, sender).await;
        let wants_smtp = chain.may_want_smtp();
        if !chain.has_place() {
            chains.push(chain);
            continue;
        }
        match clouds.iter_mut().find(|(cloud, _)| *cloud == chain.cloud) {
            Some((_, smtp)) => *smtp |= wants_smtp,
            None => clouds.push((chain.cloud.clone(), wants_smtp)),
        }
        chains.push(chain);
    }
    if clouds.is_empty() {
        clouds.push((Cloud::global(), false));
    }
    let mut ways = Vec::new();
    for (cloud, smtp) in clouds {
        let way = network::examine(&outside.network, &outside.clock, &cloud, smtp, &mut round).await;
        ways.push((cloud, way));
    }
    for chain in chains {
        let way = ways.iter().find(|(cloud, _)| *cloud == chain.cloud).map(|(_, way)| *way).unwrap_or_default();
        round.sender = Some(chain.sender.values.name.clone());
        sender::examine(outside, &chain, way, &mut round).await;
    }
    round.checks
}

/// Looks at what needs no store: proxy, names, connections, TLS, clock.
pub async fn examine_network(network: &Network, clock: &Clock, cloud: &Cloud, told: Told<'_>) -> Vec<Check> {
    let mut round = Round::new(told);
    network::examine(network, clock, cloud, false, &mut round).await;
    round.checks
}

/// A link that holds, or the name of the check that broke.
type Held = Result<(), &'static str>;

/// One examination under way.
struct Round<'a> {
    told: Told<'a>,
    sender: Option<String>,
    checks: Vec<Check>,
}

impl<'a> Round<'a> {
    fn new(told: Told<'a>) -> Self {
        Self { told, sender: None, checks: Vec::new() }
    }

    /// Takes a finished check; says whether what depends on it may go on.
    fn add(&mut self, mut check: Check) -> Held {
        check.sender.clone_from(&self.sender);
        let held = if check.holds() { Ok(()) } else { Err(check.name) };
        (self.told)(&check);
        self.checks.push(check);
        held
    }

    /// Takes a check that cannot be made because another failed.
    fn skip(&mut self, name: &'static str, title: &'static str, because: &'static str) -> Held {
        self.add(Check::skipped(name, title, format!("{because} does not hold"))).map_err(|_| because)
    }
}

/// A finding without an error type of its own.
fn finding(
    code: &str,
    what: impl Into<String>,
    why: impl Into<Option<String>>,
    remedy: impl Into<String>,
    who: Who,
) -> Diagnosis {
    Diagnosis {
        code: code.to_owned(),
        what: what.into(),
        why: why.into(),
        remedy: remedy.into(),
        who,
        evidence: Vec::new(),
    }
}

/// The check of a call that failed, as its error tells it.
fn failure(name: &'static str, title: &'static str, error: &dyn Diagnose) -> Check {
    Check::failed(name, title, error.diagnosis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_cannot_be_made_names_the_one_that_broke_first() {
        let mut seen = Vec::new();
        let mut told = |check: &Check| seen.push(check.name);
        let mut round = Round::new(&mut told);
        let first = round.add(Check::failed("a", "A", finding("x.y", "w", None, "r", Who::You)));
        let second = first.and(Ok(())).or_else(|because| round.skip("b", "B", because));
        assert_eq!(second, Err("a"));
        assert_eq!(round.skip("c", "C", second.unwrap_err()), Err("a"));
        assert_eq!(round.checks[2].result, CheckResult::Skipped { why: "a does not hold".into() });
        let summary = Summary::of(&round.checks);
        assert_eq!((summary.failed, summary.skipped), (1, 2));
        assert_eq!(seen, ["a", "b", "c"]);
    }

    #[test]
    fn a_check_in_json_is_flat_and_its_evidence_a_map() {
        let check = Check::skipped("network.dns", "T", "no proxy").about("login").with("address", "127.0.0.1");
        assert_eq!(
            serde_json::to_value(&check).unwrap(),
            serde_json::json!({
                "name": "network.dns", "title": "T", "sender": null, "subject": "login", "result": "skipped",
                "why": "no proxy", "evidence": { "address": "127.0.0.1" }, "diagnosis": null,
            })
        );
    }
}
