//! What follows from an attempt: where the message stands now, what it says about its lane, and who must hear of it. Pure.

use std::time::Duration;

use jiff::Timestamp;
use postkey_base::{Diagnose, Diagnosis};
use postkey_graph::{GraphError, send_mail};
use postkey_identity::{Class, TokenError};
use postkey_store::{MessageState, QueuedEnvelope, QueuedMessage, QueuedRecipient, RecipientOutcome, RecipientState};
use postkey_transport::{
    Outcome, OutcomeClass, RecipientResult, Report, SessionError, SmtpMeaning, SmtpRefusal, TransportError, Unknown,
};
use serde_json::{Value, json};

use crate::{
    governor::Lesson,
    schedule::{self, after},
};

/// An attempt that has ended.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    /// The message as it was before.
    pub(crate) message: &'a QueuedMessage,
    /// What the transport reports.
    pub(crate) report: &'a Report,
    /// The time.
    pub(crate) now: Timestamp,
    /// How long a message is tried.
    pub(crate) give_up_after: Duration,
    /// After how long it is late.
    pub(crate) late_after: Duration,
    /// For jitter, 0..1.
    pub(crate) random: f64,
}

/// What to write down and what to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    /// Where the message stands.
    pub(crate) to: MessageState,
    /// When it is due again.
    pub(crate) due_at: Option<Timestamp>,
    /// Whether the attempt counts.
    pub(crate) burns: bool,
    /// The envelope with what is known of each recipient, if that changed.
    pub(crate) envelope: Option<QueuedEnvelope>,
    /// The line of the timeline.
    pub(crate) kind: &'static str,
    /// Its detail, which is also the message's last outcome.
    pub(crate) detail: Value,
    /// What the governor learns.
    pub(crate) lesson: Lesson,
    /// How long the mailbox wants to be left alone though nothing was throttled.
    pub(crate) rest: Option<Duration>,
    /// What it says about the lane.
    pub(crate) lane: LaneWord,
    /// Recipients that will not get it, as of this attempt: the sender hears of them.
    pub(crate) failed: Vec<QueuedRecipient>,
    /// Recipients for whom it was taken in this attempt.
    pub(crate) taken: Vec<QueuedRecipient>,
    /// It has just become late: whoever asked for it hears of that, once.
    pub(crate) newly_late: bool,
}

/// What an attempt says about its lane.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LaneWord {
    /// It works.
    Works,
    /// Nothing.
    Nothing,
    /// The way there does not work.
    Network(Diagnosis),
    /// It cannot send now.
    Hold(HoldRequest),
}

/// A hold that an outcome asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HoldRequest {
    /// Whom the cause hits.
    pub(crate) scope: ScopeKind,
    /// The outcome class.
    pub(crate) class: OutcomeClass,
    /// What happened, what to do and who must do it.
    pub(crate) diagnosis: Diagnosis,
    /// How the lane is tried meanwhile.
    pub(crate) probes: Probes,
}

/// Whom a cause hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScopeKind {
    /// This sender.
    Sender,
    /// Every sender of its app.
    App,
    /// Every sender of its tenant.
    Tenant,
}

/// How a held lane is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probes {
    /// The cause may end at any moment.
    Soon,
    /// A quota must run off.
    Quota,
    /// Not at all: a person lifts the hold.
    Never,
}

/// What to do with the message after a refusal.
enum Action {
    /// Back to the queue, as if nothing had been tried.
    Return { kind: &'static str },
    /// Later.
    Later,
    /// Never.
    Fail,
    /// By recipient: what each was told.
    ByRecipient,
}

/// The longest diagnosis text that is kept in a timeline.
const LONGEST_TEXT: usize = 2_000;

/// Decides.
pub(crate) fn decide(case: &Case<'_>) -> Decision {
    let mut decision = decide_outcome(case);
    let said = case.message.outcome.as_ref().is_some_and(|outcome| outcome["late"] == true);
    let late = decision.to == MessageState::Deferred && case.now >= after(case.message.accepted_at, case.late_after);
    if said || late {
        decision.detail["late"] = json!(true);
    }
    decision.newly_late = late && !said;
    decision
}

fn decide_outcome(case: &Case<'_>) -> Decision {
    let rest = case.report.retry_after();
    match &case.report.outcome {
        Outcome::Accepted(accepted) => {
            let told: Vec<_> = accepted.recipients.iter().map(Told::of).collect();
            let mut detail = facts(case.report);
            detail["proof"] = match &accepted.proof {
                postkey_transport::Proof::Graph { request_id, client_request_id } => json!({
                    "request_id": request_id,
                    "client_request_id": client_request_id.map(|id| id.to_string()),
                }),
                postkey_transport::Proof::Smtp { host, reply } => json!({ "host": host, "reply": reply.to_string() }),
            };
            let mut decision = by_recipient(case, &told, RecipientState::Accepted, detail);
            (decision.lesson, decision.lane, decision.rest) = (Lesson::Fine, LaneWord::Works, rest);
            decision
        }
        Outcome::Unknown(unknown) => of_unknown(case, unknown, rest),
        Outcome::Refused(error) => of_refusal(case, error),
    }
}

fn of_unknown(case: &Case<'_>, unknown: &Unknown, rest: Option<Duration>) -> Decision {
    let diagnosis = unknown.diagnosis();
    let mut detail = facts(case.report);
    detail["diagnosis"] = told(&diagnosis);
    detail["since"] = json!(case.now);
    detail["looks"] = json!(0);
    Decision {
        to: MessageState::Unknown,
        due_at: Some(after(case.now, schedule::LOOKS[0])),
        burns: true,
        envelope: None,
        kind: "unknown",
        detail,
        lesson: Lesson::Neutral,
        rest,
        lane: LaneWord::Network(diagnosis),
        failed: Vec::new(),
        taken: Vec::new(),
        newly_late: false,
    }
}

fn of_refusal(case: &Case<'_>, error: &TransportError) -> Decision {
    let diagnosis = error.diagnosis();
    let mut detail = facts(case.report);
    detail["class"] = json!(error.class());
    detail["diagnosis"] = told(&diagnosis);
    let (action, lesson, lane) = judge(error, &diagnosis);
    // A lesson brings its own rest.
    let rest = error.retry_after().filter(|_| lesson == Lesson::Neutral);
    let stays = |to, due_at, burns, kind, detail| Decision {
        to,
        due_at,
        burns,
        envelope: None,
        kind,
        detail,
        lesson,
        rest,
        lane: lane.clone(),
        failed: Vec::new(),
        taken: Vec::new(),
        newly_late: false,
    };
    let attempts = case.message.attempts + 1;
    match action {
        Action::Return { kind } => stays(MessageState::Queued, Some(case.message.due_at), false, kind, detail),
        Action::Later if schedule::is_over(case.message.accepted_at, attempts, case.give_up_after, case.now) => {
            detail["gave_up_after_attempts"] = json!(attempts);
            let mut decision = by_recipient(case, &[], RecipientState::Refused, detail);
            (decision.lesson, decision.lane) = (lesson, lane);
            decision
        }
        Action::Later => {
            let due = after(case.now, schedule::wait_after(attempts, case.random));
            detail["next_attempt"] = json!(due);
            stays(MessageState::Deferred, Some(due), true, "deferred", detail)
        }
        Action::Fail => {
            let mut decision = by_recipient(case, &[], RecipientState::Refused, detail);
            (decision.lesson, decision.lane) = (lesson, lane);
            decision
        }
        Action::ByRecipient => {
            let (told, rest): (Vec<_>, _) = match error {
                TransportError::Smtp(refusal) => {
                    let told = refusal.recipients.iter().filter_map(Told::of_rcpt).collect();
                    // Whose RCPT was taken hears what the message was told: for now is not for good.
                    let for_now = refusal.reply.is_transient();
                    (told, if for_now { RecipientState::Deferred } else { RecipientState::Refused })
                }
                _ => (Vec::new(), RecipientState::Refused),
            };
            let mut decision = by_recipient(case, &told, rest, detail);
            (decision.lesson, decision.lane) = (lesson, lane);
            decision
        }
    }
}

/// What a refusal says about the lane alone.
pub(crate) fn lane_word(error: &TransportError) -> LaneWord {
    judge(error, &error.diagnosis()).2
}

/// The table: what a refusal means for the message, for the governor and for the lane.
fn judge(error: &TransportError, diagnosis: &Diagnosis) -> (Action, Lesson, LaneWord) {
    let class = error.class();
    let held = |scope, probes| {
        let request = HoldRequest { scope, class, diagnosis: diagnosis.clone(), probes };
        (Action::Return { kind: "held" }, Lesson::Neutral, LaneWord::Hold(request))
    };
    let network = || (Action::Later, Lesson::Neutral, LaneWord::Network(diagnosis.clone()));
    // The refusal shows that the far side answers.
    let message = |action| (action, Lesson::Neutral, LaneWord::Works);
    let throttled = |lesson| (Action::Return { kind: "throttled" }, lesson, LaneWord::Nothing);
    match error {
        _ if error.stops_the_mailbox() => held(ScopeKind::Sender, Probes::Never),
        // As itself a mailbox may always send: if not, the mailbox is ill. As another it is a matter of this message.
        TransportError::SendAsDenied(denied) if denied.from == denied.mailbox => held(ScopeKind::Sender, Probes::Soon),
        TransportError::SendAsDenied(_) => message(Action::Fail),
        TransportError::Graph(graph) => match &**graph {
            GraphError::Throttled { answer, retry_after } => {
                // The limit's name appears in the words alone (observed); a wrong guess only changes which limit is lowered.
                let at_once = answer.message.to_ascii_lowercase().contains("concurrency");
                let wait = *retry_after;
                throttled(if at_once { Lesson::TooManyAtOnce { wait } } else { Lesson::TooFast { wait } })
            }
            GraphError::HeldBack { .. } => throttled(Lesson::Neutral),
            GraphError::SendingLimit(_) => held(ScopeKind::Sender, Probes::Quota),
            GraphError::Token(cause) => of_token(cause, diagnosis, class),
            GraphError::Unauthenticated { .. } | GraphError::PolicyForbidsCredential(_) => {
                held(ScopeKind::App, Probes::Soon)
            }
            // Sending finds nothing: the mailbox is not there. A draft that is gone is made again.
            GraphError::NotFound(answer) if answer.call == send_mail::SEND => held(ScopeKind::Sender, Probes::Soon),
            GraphError::NotFound(_) | GraphError::Conflict(_) => message(Action::Later),
            GraphError::Unknown(answer) if matches!(answer.status, 408 | 423 | 425) => message(Action::Later),
            _ => by_class(class, error.is_transient(), held, network, message),
        },
        TransportError::Smtp(refusal) => of_smtp(refusal, held, network, message, throttled),
        TransportError::Session(SessionError::Token(cause)) => of_token(cause, diagnosis, class),
        TransportError::Session(SessionError::Missing { of_message: false, .. }) => {
            held(ScopeKind::Sender, Probes::Soon)
        }
        TransportError::Route(postkey_transport::RouteError::NoRoute) => held(ScopeKind::Sender, Probes::Soon),
        _ => by_class(class, error.is_transient(), held, network, message),
    }
}

type Judged = (Action, Lesson, LaneWord);

fn by_class(
    class: OutcomeClass,
    transient: bool,
    held: impl Fn(ScopeKind, Probes) -> Judged,
    network: impl Fn() -> Judged,
    message: impl Fn(Action) -> Judged,
) -> Judged {
    match class {
        OutcomeClass::Message | OutcomeClass::Recipient if transient => message(Action::Later),
        OutcomeClass::Message | OutcomeClass::Recipient => message(Action::Fail),
        OutcomeClass::Mailbox => held(ScopeKind::Sender, Probes::Soon),
        OutcomeClass::Credential => held(ScopeKind::App, Probes::Soon),
        OutcomeClass::Tenant => held(ScopeKind::Tenant, Probes::Soon),
        OutcomeClass::Network => network(),
    }
}

fn of_smtp(
    refusal: &SmtpRefusal,
    held: impl Fn(ScopeKind, Probes) -> Judged,
    network: impl Fn() -> Judged,
    message: impl Fn(Action) -> Judged,
    throttled: impl Fn(Lesson) -> Judged,
) -> Judged {
    let transient = refusal.reply.is_transient();
    match refusal.meaning {
        SmtpMeaning::TooManyConnections => throttled(Lesson::TooManyAtOnce { wait: None }),
        SmtpMeaning::SendingLimit => held(ScopeKind::Sender, Probes::Quota),
        SmtpMeaning::TenantLimit => held(ScopeKind::Tenant, Probes::Quota),
        // SMTP alone is off: other senders of the tenant may go by Graph.
        SmtpMeaning::AuthDisabledForTenant
        | SmtpMeaning::AuthDisabledForMailbox
        | SmtpMeaning::PolicyForbidsAuth
        | SmtpMeaning::AuthUnsuccessful
        | SmtpMeaning::NotAuthenticated
        | SmtpMeaning::MailboxFull => held(ScopeKind::Sender, Probes::Soon),
        SmtpMeaning::Recipient => message(Action::ByRecipient),
        SmtpMeaning::Transient if refusal.recipients.iter().any(|one| one.reply.is_permanent()) => {
            message(Action::ByRecipient)
        }
        // A recipient that is refused for now says nothing about the way there.
        SmtpMeaning::Transient if refusal.stage == postkey_smtp::Stage::Rcpt => message(Action::Later),
        SmtpMeaning::Transient => network(),
        _ => by_class(refusal.class(), transient, held, network, message),
    }
}

fn of_token(cause: &TokenError, diagnosis: &Diagnosis, class: OutcomeClass) -> Judged {
    let hold = |scope| {
        let request = HoldRequest { scope, class, diagnosis: diagnosis.clone(), probes: Probes::Soon };
        (Action::Return { kind: "held" }, Lesson::Neutral, LaneWord::Hold(request))
    };
    match cause.class() {
        Class::App => hold(ScopeKind::App),
        Class::User => hold(ScopeKind::Sender),
        Class::Tenant => hold(ScopeKind::Tenant),
        Class::Network | Class::Wait => {
            (Action::Return { kind: "held" }, Lesson::Neutral, LaneWord::Network(diagnosis.clone()))
        }
    }
}

/// What one recipient was told.
struct Told {
    address: String,
    state: RecipientState,
    status: String,
    text: String,
}

impl Told {
    fn of(result: &RecipientResult) -> Self {
        Self::by(result.address.as_str(), result.accepted, &result.reply)
    }

    fn of_rcpt(outcome: &postkey_smtp::RecipientOutcome) -> Option<Self> {
        // RCPT was accepted but the message was not: the refusal of the whole holds.
        (!outcome.is_accepted()).then(|| Self::by(outcome.path.as_str(), false, &outcome.reply))
    }

    fn by(address: &str, accepted: bool, reply: &postkey_smtp::Reply) -> Self {
        let state = match (accepted, reply.is_transient()) {
            (true, _) => RecipientState::Accepted,
            (false, true) => RecipientState::Deferred,
            (false, false) => RecipientState::Refused,
        };
        let class = if accepted {
            "2.0.0"
        } else if reply.is_transient() {
            "4.0.0"
        } else {
            "5.0.0"
        };
        Self {
            address: address.to_lowercase(),
            state,
            status: reply.enhanced().map_or_else(|| class.to_owned(), |code| code.to_string()),
            text: shortened(&reply.to_string()),
        }
    }
}

/// Where the message stands when each recipient was told something, or all the same (`rest`).
fn by_recipient(case: &Case<'_>, told: &[Told], rest: RecipientState, mut detail: Value) -> Decision {
    let attempts = case.message.attempts + 1;
    let over = schedule::is_over(case.message.accepted_at, attempts, case.give_up_after, case.now);
    let mut envelope = case.message.envelope.clone();
    let (mut failed, mut taken, mut deferred) = (Vec::new(), Vec::new(), 0_usize);
    let whole = detail["diagnosis"]["what"].as_str().map(shortened);
    for recipient in envelope.recipients.iter_mut().filter(|recipient| is_open(recipient)) {
        let address = recipient.address.as_str().to_lowercase();
        let mut outcome = match told.iter().find(|one| one.address == address) {
            Some(one) => RecipientOutcome {
                state: one.state,
                status: Some(one.status.clone()),
                text: one.text.clone(),
                at: case.now,
            },
            None => RecipientOutcome {
                state: rest,
                status: None,
                text: if rest == RecipientState::Accepted { String::new() } else { whole.clone().unwrap_or_default() },
                at: case.now,
            },
        };
        if outcome.state == RecipientState::Deferred && over {
            outcome.state = RecipientState::Refused;
        }
        let state = outcome.state;
        recipient.outcome = Some(outcome);
        match state {
            RecipientState::Accepted => taken.push(recipient.clone()),
            RecipientState::Deferred => deferred += 1,
            RecipientState::Refused | RecipientState::Bounced => failed.push(recipient.clone()),
        }
    }
    let any_taken = envelope.recipients.iter().any(is_taken);
    let (to, due_at, kind) = if deferred > 0 {
        let due = after(case.now, schedule::wait_after(attempts, case.random));
        detail["next_attempt"] = json!(due);
        (MessageState::Deferred, Some(due), "deferred")
    } else if any_taken {
        (MessageState::Accepted, None, "accepted")
    } else {
        (MessageState::Failed, None, "failed")
    };
    if !told.is_empty() {
        let lines = envelope.recipients.iter().filter_map(|one| {
            let outcome = one.outcome.as_ref()?;
            Some(json!({ "address": one.address, "state": outcome.state, "status": outcome.status, "text": outcome.text }))
        });
        detail["recipients"] = lines.collect();
    }
    // One outcome for all needs no words at each.
    let tells = !told.is_empty() || case.message.envelope.recipients.iter().any(|one| one.outcome.is_some());
    Decision {
        to,
        due_at,
        burns: true,
        envelope: tells.then_some(envelope),
        kind,
        detail,
        lesson: Lesson::Neutral,
        rest: None,
        lane: LaneWord::Nothing,
        failed,
        taken,
        newly_late: false,
    }
}

/// Whether something must still be done for this recipient.
pub(crate) fn is_open(recipient: &QueuedRecipient) -> bool {
    recipient.outcome.as_ref().is_none_or(|outcome| outcome.state == RecipientState::Deferred)
}

fn is_taken(recipient: &QueuedRecipient) -> bool {
    recipient.outcome.as_ref().is_some_and(|outcome| outcome.state == RecipientState::Accepted)
}

/// Whether an earlier attempt was accepted for some recipients: its copy in Sent Items has the same Message-ID, so finding
/// one proves nothing about a later attempt.
pub(crate) fn is_taken_in_part(envelope: &QueuedEnvelope) -> bool {
    envelope.recipients.iter().any(is_taken)
}

/// What an attempt was, for the timeline.
fn facts(report: &Report) -> Value {
    let mut detail = json!({});
    if let Some(choice) = &report.choice {
        detail["route"] = json!(choice.route);
        detail["reason"] = json!(choice.reason);
        if !choice.losses.is_empty() {
            detail["losses"] = json!(choice.losses);
        }
    }
    if let Some(id) = &report.message_id {
        detail["message_id"] = json!(id);
    }
    if !report.repairs.is_empty() {
        detail["repairs"] = json!(report.repairs);
    }
    if let Some(fell_back) = &report.fell_back {
        detail["fell_back"] = json!({
            "from": fell_back.from.route,
            "because": fell_back.because,
            "diagnosis": told(&fell_back.refusal.diagnosis()),
        });
    }
    detail
}

/// A diagnosis for the timeline.
pub(crate) fn told(diagnosis: &Diagnosis) -> Value {
    let mut short = diagnosis.clone();
    short.what = shortened(&short.what);
    short.why = short.why.as_deref().map(shortened);
    json!(short)
}

fn shortened(text: &str) -> String {
    postkey_base::diagnose::plain(text).chars().take(LONGEST_TEXT).collect()
}

#[cfg(test)]
#[path = "settle_tests.rs"]
pub(crate) mod tests;
