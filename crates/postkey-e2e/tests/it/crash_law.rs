//! The crash law: whatever the moment at which `postkey serve` dies, a message that it took is accepted by the far end, and
//! twice only where its timeline says that nobody could know. The moments are enumerated: every request that it makes, on both
//! sides of the request's effect; and every system call by which it changes its database or says anything to anybody. Beside
//! that, it is killed at random under load.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use postkey_emulator::exchange::limits::Limits;
use postkey_emulator::faults::{Action, Fault};

use crate::load::{Load, Plan};
use crate::rows::Rows;
use crate::serving::{Installation, Login, Serving, UNPACED};
use crate::setups::{Moment, PATIENCE, Tenant};
use crate::strace::{Calls, Killer};
use crate::submit::SmtpClient;
use crate::submitted_messages::open_to_smtp;

/// Kills of one series under load in `cargo xtask test`; `cargo xtask soak --kills N` says another number.
const KILLS: u64 = 100;

/// Messages a second under load.
const RATE: u64 = 500;

/// The load rests while the far end is so many messages behind: a debug build beside its emulator sends less than 500 a second.
const BEHIND: u64 = 2_000;

/// Housekeeping makes the same calls at times of its own, so that the end of a message's way is not always the same call: it is
/// reached when so many cases in a row survive.
const SURVIVALS: u32 = 8;

/// How a sender's mail leaves, and whether it can look for a message that has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    GraphThatReads,
    Graph,
    Smtp,
}

impl Way {
    /// The name of its sender.
    fn sender(self) -> &'static str {
        match self {
            Self::GraphThatReads => "reads",
            Self::Graph => "blind",
            Self::Smtp => "smtp",
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_by_graph_that_reads_survives_a_kill_at_every_request() {
    every_request(Way::GraphThatReads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_by_graph_survives_a_kill_at_every_request() {
    every_request(Way::Graph).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_by_smtp_survives_a_kill_at_every_request() {
    every_request(Way::Smtp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_by_graph_survives_a_kill_at_every_change_of_the_database() {
    every_system_call(Way::GraphThatReads, None, &[Calls::Database, Calls::Network]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_by_smtp_survives_a_kill_at_every_word_to_the_server() {
    every_system_call(Way::Smtp, None, &[Calls::Network]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_survives_a_kill_at_every_word_to_postgresql() {
    let database = crate::postgres::Database::make().await;
    every_system_call(Way::Graph, Some(database.address()), &[Calls::Network]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_it_is_killed_at_random_under_load_on_sqlite() {
    random_kills("SQLite", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_it_is_killed_at_random_under_load_on_postgresql() {
    let database = crate::postgres::Database::make().await;
    random_kills("PostgreSQL", Some(database.address())).await;
}

/// An installation with one sender of each kind, and a submitter that may use all of them.
async fn install<'a>(
    tenant: &'a Tenant,
    store: Option<&str>,
    ways: &[Way],
    more: usize,
) -> (Installation<'a>, Login, Vec<String>) {
    tenant.emulator.with_world(|world| world.mail.limits = Limits::lifted());
    // The clock is turned here: nobody shall lose a lane by that.
    let settings = format!("{UNPACED}lease_s = 864000\n");
    let mut installation = Installation::new(tenant, "law", &settings).on_its_clock().with("TOKIO_WORKER_THREADS", "1");
    if let Some(store) = store {
        installation = installation.with("POSTKEY_STORE", store);
    }
    let mut mailboxes = Vec::new();
    let mut senders = Vec::new();
    for &way in ways {
        let mailbox = tenant.add_person(way.sender());
        match way {
            Way::Graph => installation.sending_sender(way.sender(), &mailbox, &[]).await,
            _ => installation.reading_sender(way.sender(), &mailbox).await,
        }
        if way == Way::Smtp {
            open_to_smtp(tenant, &mailbox);
            Rows::send_by_smtp(&installation, way.sender()).await;
        }
        mailboxes.push(mailbox);
        senders.push(way.sender().to_owned());
    }
    for number in 0..more {
        let name = format!("reads-{number}");
        let mailbox = tenant.add_person(&name);
        installation.reading_sender(&name, &mailbox).await;
        mailboxes.push(mailbox);
        senders.push(name);
    }
    let senders: Vec<&str> = senders.iter().map(String::as_str).collect();
    let login = installation.submitter("law", &senders).await;
    // What the setups sent is not ours.
    tenant.emulator.with_world(|world| world.mail.arrivals.clear());
    (installation, login, mailboxes)
}

/// One message is handed in; the id if it was taken.
async fn hand_in(installation: &Installation<'_>, login: &Login, from: &str, subject: &str) -> Option<String> {
    let sample = installation.tenant.emulator.sample();
    let message = format!(
        "From: {from}\r\nTo: {}\r\nSubject: {subject}\r\nDate: Tue, 03 Nov 2026 09:30:00 +0100\r\n\r\nHello.\r\n",
        sample.user_name
    );
    let mut client = SmtpClient::signed_in(installation.ports.smtp, login).await.ok()?;
    let reply = client.send(from, &[&sample.user_name], message.as_bytes()).await.ok()?;
    crate::submit::id_in(&reply)
}

/// Kills at every request of the first life, on both sides of its effect, and then at every one of the second life, which has to
/// find out what the first one did.
async fn every_request(way: Way) {
    let tenant = Tenant::start(Duration::ZERO).await;
    let (installation, login, mailboxes) = install(&tenant, None, &[way], 0).await;
    let mut law = Law::default();
    'first: for first in 1.. {
        for moment in Moment::BOTH {
            'second: for second in 0.. {
                for again in Moment::BOTH {
                    // Zero: no second kill.
                    if second == 0 && again == Moment::BeforeItIsAnswered {
                        continue;
                    }
                    let serving = installation.serve().await;
                    let subject = format!("{first} {moment:?} {second} {again:?}");
                    let fault = hold(&tenant, first, moment);
                    let taken = hand_in(&installation, &login, &mailboxes[0], &subject).await;
                    law.take(taken.expect("nothing stands in its way"));
                    let held = held_or_settled(&tenant, &installation).await;
                    tenant.emulator.with_world(|world| world.faults.remove(fault));
                    if !held {
                        serving.kill().await;
                        law.check(&tenant, &installation, &subject).await;
                        break 'first;
                    }
                    law.kill(&tenant, serving).await;
                    let mut over = false;
                    if second > 0 {
                        let fault = hold(&tenant, second, again);
                        let serving = installation.serve().await;
                        let held = held_or_settled(&tenant, &installation).await;
                        tenant.emulator.with_world(|world| world.faults.remove(fault));
                        if held {
                            law.kill(&tenant, serving).await;
                        } else {
                            serving.kill().await;
                            over = true;
                        }
                    }
                    law.settle(&tenant, &installation, &subject).await;
                    if over {
                        break 'second;
                    }
                }
            }
        }
    }
    println!("every request of {way:?}: {law}");
    assert!(law.kills >= 8, "a message takes at least a token and a request, twice each: {law}");
}

/// Holds up the `at`th request from now.
fn hold(tenant: &Tenant, at: u64, moment: Moment) -> u64 {
    let mut fault = Fault::of("", Action::Hang).times(1);
    fault.operation = None;
    fault.call = Some(tenant.emulator.last_call() + at);
    fault.after_effect = moment == Moment::BeforeItIsAnswered;
    tenant.emulator.fault(fault)
}

/// Waits until a request hangs (true), or nothing is left to do.
async fn held_or_settled(tenant: &Tenant, installation: &Installation<'_>) -> bool {
    let rows = Rows::of(installation).await;
    let settled = rows.settled(tenant);
    tokio::select! {
        () = tenant.emulator.until(|world| world.journal.hanging() > 0) => true,
        () = settled => false,
    }
}

/// Kills at every system call by which one message changes the database, or by which anything is said to a server.
async fn every_system_call(way: Way, store: Option<&str>, groups: &[Calls]) {
    let tenant = Tenant::start(Duration::ZERO).await;
    let (installation, login, mailboxes) = install(&tenant, store, &[way], 0).await;
    let mut law = Law::default();
    for &calls in groups {
        let (before, mut hit, mut survivals) = (law.kills, BTreeMap::new(), 0);
        for at in 1.. {
            if survivals == SURVIVALS {
                break;
            }
            let mut serving = installation.serve().await;
            let killer = Killer::attach(serving.id(), calls, at).await;
            let subject = format!("{calls:?} {at}");
            let taken = tokio::select! {
                taken = hand_in(&installation, &login, &mailboxes[0], &subject) => taken,
                _ = serving.ended() => None,
            };
            let answered = taken.is_some();
            taken.into_iter().for_each(|id| law.take(id));
            let survived = tokio::select! {
                _ = serving.ended() => false,
                () = settled(&installation), if answered => true,
            };
            drop(killer);
            if survived {
                serving.kill().await;
                law.check(&tenant, &installation, &subject).await;
                survivals += 1;
                continue;
            }
            survivals = 0;
            law.kills += 1;
            drop(serving);
            *hit.entry(Rows::of(&installation).await.newest().await.filter(|_| answered)).or_insert(0) += 1;
            law.settle(&tenant, &installation, &subject).await;
        }
        // In which state the kill met the message; None: before its answer.
        println!("{calls:?} of a message by {way:?}: {} kills, {hit:?}", law.kills - before);
        assert!(law.kills - before >= 10, "one message makes more system calls than that");
        assert!(hit.contains_key(&Some("sending".to_owned())), "no kill met the message on its way out: {hit:?}");
    }
    println!("every system call of {way:?}: {law}");
}

async fn settled(installation: &Installation<'_>) {
    Rows::of(installation).await.settled(installation.tenant).await;
}

/// Kills again and again, at random, while mail comes in by SMTP and HTTP.
async fn random_kills(name: &str, store: Option<&str>) {
    let kills =
        std::env::var("POSTKEY_SOAK_KILLS").ok().map_or(KILLS, |kills| kills.parse().expect("a number of kills"));
    let tenant = Tenant::start(Duration::ZERO).await;
    let (installation, login, mailboxes) = install(&tenant, store, &[Way::GraphThatReads, Way::Graph], 6).await;
    tenant.emulator.with_world(|world| world.mail.keep = postkey_emulator::exchange::state::Keep::Ids);
    let plan = Plan {
        ports: installation.ports,
        login,
        senders: mailboxes,
        recipient: tenant.emulator.sample().user_name.clone(),
        rate: RATE,
    };
    let load = Load::start(&plan);
    let mut law = Law::default();
    let (mut idle, mut slowest) = (0, Duration::ZERO);
    while law.kills < kills {
        let began = Instant::now();
        let serving = installation.serve().await;
        slowest = slowest.max(began.elapsed());
        // Any moment of the first second: recovery itself is met as well.
        tokio::time::sleep(Duration::from_millis(u64::from(rand_byte()) * 3)).await;
        let arrived = tenant.emulator.with_world(|world| world.mail.arrivals.totals().messages as u64);
        let taken = load.ledger.count();
        load.ledger.rest(taken > arrived + BEHIND);
        if load.ledger.under_way() > 0 || taken > arrived {
            law.kills += 1;
        } else {
            idle += 1;
        }
        serving.kill().await;
    }
    load.ledger.rest(false);
    let ledger = load.stop().await;
    assert!(ledger.refused().is_empty(), "{:?}", ledger.refused().first());
    let taken = ledger.taken();
    let by_http = taken.values().filter(|&&by| by == "HTTP").count();
    assert!(by_http > 0 && by_http < taken.len(), "both ways are used");
    taken.into_keys().for_each(|id| law.take(id));
    law.settle(&tenant, &installation, name).await;
    println!(
        "{name}: {law}; {idle} more hit nothing; {by_http} of the messages by HTTP; {} more without an answer; \
         slowest start {slowest:?}",
        ledger.cut()
    );
}

/// What was taken, and what became of it.
#[derive(Debug, Default)]
struct Law {
    taken: BTreeSet<String>,
    kills: u64,
    arrived: usize,
    doubled: usize,
    unknown: usize,
}

impl std::fmt::Display for Law {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { taken, kills, arrived, doubled, unknown } = self;
        let taken = taken.len();
        write!(
            f,
            "{kills} kills, {taken} messages taken, {arrived} accepted by the far end, {unknown} once unknown, {doubled} twice"
        )
    }
}

impl Law {
    fn take(&mut self, id: String) {
        assert!(self.taken.insert(id), "an id is given once");
    }

    async fn kill(&mut self, tenant: &Tenant, serving: Serving<'_>) {
        serving.kill().await;
        self.kills += 1;
        let gone = tenant.emulator.until(|world| world.journal.hanging() == 0);
        tokio::time::timeout(PATIENCE, gone).await.expect("the connection of a killed process is closed");
    }

    /// Starts it once more, undisturbed, and lets it finish.
    async fn settle(&mut self, tenant: &Tenant, installation: &Installation<'_>, case: &str) {
        let serving = installation.serve().await;
        settled(installation).await;
        self.check(tenant, installation, case).await;
        assert!(serving.stop().await.success(), "{case}");
    }

    /// Nothing lost, nothing twice without its reason, nothing unexplained.
    async fn check(&mut self, tenant: &Tenant, installation: &Installation<'_>, case: &str) {
        let rows = Rows::of(installation).await;
        let (messages, unknown, senders) = (rows.messages().await, rows.once_unknown().await, rows.senders().await);
        let lost: Vec<_> = self.taken.iter().filter(|id| !messages.contains_key(*id)).collect();
        assert!(lost.is_empty(), "{case}: taken, and not in the store: {lost:?}");
        let mut doubled = 0;
        for (id, state) in &messages {
            let timeline = async || format!("{case}: {id} of {} is {state}\n{}", senders[id], rows.timeline(id).await);
            let accepted =
                tenant.emulator.with_world(|world| world.mail.arrivals.of(id).map_or(0, |arrival| arrival.accepted));
            assert!(state == "accepted", "{}", timeline().await);
            assert!(accepted > 0, "lost: {}", timeline().await);
            if accepted > 1 {
                doubled += 1;
                if self.doubled == 0 && doubled == 1 {
                    println!("the first that came twice: {}", timeline().await);
                }
                let reads = senders[id] != Way::Graph.sender();
                assert!(!reads, "{accepted} times although it may look: {}", timeline().await);
                assert!(unknown.contains(id), "{accepted} times without a reason: {}", timeline().await);
            }
        }
        let arrived = tenant.emulator.with_world(|world| world.mail.arrivals.totals().messages);
        assert_eq!(arrived, messages.len(), "{case}: what arrived is what the store knows");
        (self.arrived, self.doubled, self.unknown) = (arrived, doubled, unknown.len());
    }
}

fn rand_byte() -> u8 {
    uuid::Uuid::new_v4().as_bytes()[0]
}
