//! What is held, and when a held lane is tried. Decides without acting.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use postkey_base::{EmailAddress, TenantId};
use postkey_store::{Hold, HoldCause, HoldScope, LocalAppId, SenderId, SubmitterId};

use crate::{
    outbound::LaneKey,
    schedule::{self, after},
    settle::{HoldRequest, Probes, ScopeKind},
};

/// What the queue knows of a sender.
#[derive(Debug, Clone)]
pub(crate) struct SenderFacts {
    /// Its name.
    pub(crate) name: String,
    /// Its tenant.
    pub(crate) tenant: Option<TenantId>,
    /// Its app.
    pub(crate) app: Option<LocalAppId>,
    /// Its lane; `None` while it is incomplete.
    pub(crate) lane: Option<LaneKey>,
    /// Changes when anything does that may end an outage: its values, its app's credentials.
    pub(crate) fingerprint: u64,
}

impl SenderFacts {
    /// The scopes whose holds keep its mail back.
    pub(crate) fn scopes(&self, id: SenderId) -> impl Iterator<Item = HoldScope> {
        [Some(HoldScope::Sender(id)), self.app.map(HoldScope::App), self.tenant.map(HoldScope::Tenant)]
            .into_iter()
            .flatten()
    }
}

/// An outage that the queue works on.
#[derive(Debug, Clone)]
pub(crate) struct Outage {
    /// As it is shown.
    pub(crate) hold: Hold,
    /// How it is tried.
    pub(crate) how: Probes,
    /// Tries so far.
    pub(crate) probes: u32,
    /// When it is tried next; `None`: a person lifts it.
    pub(crate) next: Option<Timestamp>,
    /// It is being tried.
    pub(crate) probing: bool,
}

/// Every hold.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    paused: HashMap<HoldScope, Hold>,
    outages: HashMap<HoldScope, Outage>,
}

/// What reading the holds again has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HoldChanges {
    /// Pauses that are new or gone, outages that somebody lifted.
    pub(crate) changed: bool,
    /// Outages that are gone: whoever lifted them wants the lanes tried at once.
    pub(crate) lifted: Vec<HoldScope>,
}

impl Holds {
    /// Takes over what the store holds. Outages that others made (another node, an earlier run) are tried soon.
    pub(crate) fn read(&mut self, rows: Vec<Hold>, now: Timestamp, random: f64) -> HoldChanges {
        let before = self.outages.len();
        let mut paused = HashMap::new();
        let mut outages = HashMap::new();
        for hold in rows {
            match hold.cause {
                HoldCause::Paused => {
                    paused.insert(hold.scope.clone(), hold);
                }
                HoldCause::Outage => {
                    let outage = self.outages.remove(&hold.scope).unwrap_or_else(|| {
                        let how = if hold.until.is_none() { Probes::Never } else { Probes::Soon };
                        let soon = after(now, schedule::probe_wait(0, false, random));
                        let next = hold.until.map(|until| until.min(soon));
                        Outage { hold: hold.clone(), how, probes: 0, next, probing: false }
                    });
                    outages.insert(hold.scope.clone(), outage);
                }
            }
        }
        let lifted: Vec<_> = self.outages.drain().map(|(scope, _)| scope).collect();
        let changed = !lifted.is_empty() || paused != self.paused || outages.len() != before;
        (self.paused, self.outages) = (paused, outages);
        HoldChanges { changed, lifted }
    }

    /// What keeps back a sender's mail from this submitter.
    pub(crate) fn over(
        &self,
        sender: SenderId,
        facts: &SenderFacts,
        submitter: Option<SubmitterId>,
        now: Timestamp,
    ) -> Option<&Hold> {
        if self.paused.is_empty() && self.outages.is_empty() {
            return None;
        }
        let mut scopes = facts.scopes(sender).chain(submitter.map(HoldScope::Submitter));
        scopes.find_map(|scope| {
            let pause = self.paused.get(&scope).filter(|hold| is_on(hold, now));
            pause.or_else(|| self.outages.get(&scope).map(|outage| &outage.hold))
        })
    }

    /// Whether a person holds back a sender's mail from this submitter.
    pub(crate) fn is_paused(
        &self,
        sender: SenderId,
        facts: &SenderFacts,
        submitter: Option<SubmitterId>,
        now: Timestamp,
    ) -> bool {
        let mut scopes = facts.scopes(sender).chain(submitter.map(HoldScope::Submitter));
        scopes.any(|scope| self.paused.get(&scope).is_some_and(|hold| is_on(hold, now)))
    }

    /// What keeps back mail to one of these.
    pub(crate) fn over_domains<'a>(
        &self,
        mut recipients: impl Iterator<Item = &'a EmailAddress>,
        now: Timestamp,
    ) -> Option<&Hold> {
        if !self.paused.keys().any(|scope| matches!(scope, HoldScope::Domain(_))) {
            return None;
        }
        recipients.find_map(|address| {
            let scope = HoldScope::Domain(address.domain().to_ascii_lowercase());
            self.paused.get(&scope).filter(|hold| is_on(hold, now))
        })
    }

    /// Pauses whose end has come.
    pub(crate) fn ended(&self, now: Timestamp) -> Vec<Hold> {
        self.paused.values().filter(|hold| !is_on(hold, now)).cloned().collect()
    }

    /// When the next pause ends or the next outage is tried.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let pauses = self.paused.values().filter_map(|hold| hold.until);
        let outages = self.outages.values().filter(|outage| !outage.probing).filter_map(|outage| outage.next);
        pauses.chain(outages).min()
    }

    /// Forgets a pause whose end was written down.
    pub(crate) fn end_pause(&mut self, scope: &HoldScope) {
        self.paused.remove(scope);
    }

    /// Something is out. Gives the hold to write, unless it is held for that already.
    pub(crate) fn begin_outage(
        &mut self,
        scope: HoldScope,
        request: &HoldRequest,
        now: Timestamp,
        random: f64,
    ) -> Option<Hold> {
        let diagnosis = &request.diagnosis;
        if let Some(known) = self.outages.get(&scope)
            && (known.how == Probes::Never || known.hold.code.as_deref() == Some(&diagnosis.code))
        {
            return None;
        }
        let class = request.class.to_string();
        let known = self.outages.get(&scope);
        // The same trouble in other words goes on where it was.
        let same = known.filter(|known| known.how == request.probes && known.hold.class.as_ref() == Some(&class));
        let probes = same.map_or(0, |known| known.probes);
        let next = match (request.probes, same.and_then(|known| known.next)) {
            (Probes::Never, _) => None,
            (_, Some(next)) => Some(next),
            (how, None) => Some(after(now, schedule::probe_wait(probes, how == Probes::Quota, random))),
        };
        let hold = Hold {
            scope: scope.clone(),
            cause: HoldCause::Outage,
            class: Some(class),
            code: Some(diagnosis.code.clone()),
            reason: diagnosis
                .why
                .as_ref()
                .map_or_else(|| diagnosis.what.clone(), |why| format!("{}: {why}", diagnosis.what)),
            remedy: Some(diagnosis.remedy.clone()),
            who: Some(diagnosis.who.to_string()),
            since: self.outages.get(&scope).map_or(now, |known| known.hold.since),
            until: next,
            by: None,
        };
        let probing = self.outages.get(&scope).is_some_and(|known| known.probing);
        let outage = Outage { hold: hold.clone(), how: request.probes, probes, next, probing };
        self.outages.insert(scope, outage);
        Some(hold)
    }

    /// Outages that are to be tried now.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<HoldScope> {
        self.outages
            .iter()
            .filter(|(_, outage)| !outage.probing && outage.next.is_some_and(|next| next <= now))
            .map(|(scope, _)| scope.clone())
            .collect()
    }

    /// An outage.
    pub(crate) fn outage(&mut self, scope: &HoldScope) -> Option<&mut Outage> {
        self.outages.get_mut(scope)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.paused.len() + self.outages.len()
    }

    /// All outages.
    pub(crate) fn outages(&self) -> impl Iterator<Item = (&HoldScope, &Outage)> {
        self.outages.iter()
    }

    /// The clock was set back by so much.
    pub(crate) fn set_back(&mut self, by: Duration) {
        for outage in self.outages.values_mut() {
            outage.next = outage.next.map(|at| schedule::before(at, by));
        }
    }

    /// A try has failed: the next one is later. Gives the hold to write.
    pub(crate) fn still_out(&mut self, scope: &HoldScope, now: Timestamp, random: f64) -> Option<Hold> {
        let outage = self.outages.get_mut(scope)?;
        outage.probing = false;
        outage.probes += 1;
        if outage.how != Probes::Never {
            let wait = schedule::probe_wait(outage.probes, outage.how == Probes::Quota, random);
            outage.next = Some(after(now, wait));
        }
        outage.hold.until = outage.next;
        Some(outage.hold.clone())
    }

    /// It works again.
    pub(crate) fn end_outage(&mut self, scope: &HoldScope) -> Option<Outage> {
        self.outages.remove(scope)
    }
}

/// Whom a cause hits.
pub(crate) fn scope_of(kind: ScopeKind, sender: SenderId, facts: &SenderFacts) -> HoldScope {
    match (kind, facts.app, facts.tenant) {
        (ScopeKind::App, Some(app), _) => HoldScope::App(app),
        (ScopeKind::Tenant, _, Some(tenant)) => HoldScope::Tenant(tenant),
        _ => HoldScope::Sender(sender),
    }
}

/// A pause ends by itself.
pub(crate) fn is_on(hold: &Hold, now: Timestamp) -> bool {
    hold.cause == HoldCause::Outage || hold.until.is_none_or(|until| until > now)
}

#[cfg(test)]
#[path = "holds_tests.rs"]
mod tests;
