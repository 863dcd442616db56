//! The outage law: whatever fails beyond a message's own fault, and for however long, it waits, burns no attempt, and leaves by
//! itself when the cause ends; paced, so that we cause no throttling.

use std::time::Duration;

use postkey_emulator::exchange::limits::Limits;
use postkey_emulator::exchange::state::Keep;
use postkey_emulator::faults::{Action, Fault};

use crate::disk::SmallDisk;
use crate::load::hand_in_all;
use crate::rows::Rows;
use crate::serving::{Installation, Login, UNPACED, until};
use crate::setups::Tenant;
use crate::submit::{NotTaken, SmtpClient};

/// A debug build sends some hundred messages a second beside its emulator.
const DRAINING: Duration = Duration::from_secs(180);

/// Between two steps of a clock that a test turns: what wakes up at the new hour gets time to do something.
const STEP: Duration = Duration::from_millis(300);

/// What Microsoft documents for one app and mailbox.
const AT_ONCE: usize = 4;

const MAILBOXES: usize = 40;

const HOUR: Duration = Duration::from_secs(3_600);

/// Many mailboxes and their senders, all of the sample application.
struct Office<'a> {
    tenant: &'a Tenant,
    installation: Installation<'a>,
    login: Login,
    mailboxes: Vec<String>,
}

impl<'a> Office<'a> {
    async fn open(tenant: &'a Tenant, installation: Installation<'a>, mailboxes: usize) -> Office<'a> {
        // Bodies would fill the memory; what arrived is counted one by one all the same.
        tenant.emulator.with_world(|world| world.mail.keep = Keep::Ids);
        let (mut addresses, mut names) = (Vec::new(), Vec::new());
        for number in 0..mailboxes {
            let name = format!("office-{number}");
            let address = tenant.add_person(&name);
            installation.reading_sender(&name, &address).await;
            addresses.push(address);
            names.push(name);
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let login = installation.submitter("office", &names).await;
        tenant.emulator.with_world(|world| {
            world.mail.arrivals.clear();
            world.mail.tallies.set_back();
        });
        Office { tenant, installation, login, mailboxes: addresses }
    }

    async fn hand_in(&self, count: usize) -> Vec<String> {
        let recipient = &self.tenant.emulator.sample().user_name;
        hand_in_all(self.installation.ports.smtp, &self.login, &self.mailboxes, recipient, count).await
    }

    /// Turns the clocks on, hour by hour or so: what sleeps until then wakes up on the way.
    async fn let_pass(&self, span: Duration, by: Duration) {
        for _ in 0..span.as_secs() / by.as_secs() {
            self.tenant.emulator.advance(by);
            tokio::time::sleep(STEP).await;
        }
    }

    fn arrived(&self) -> usize {
        self.tenant.emulator.with_world(|world| world.mail.arrivals.totals().messages)
    }

    /// Nothing failed, nothing was given up, and no attempt counted against a message.
    async fn waits(&self, rows: &Rows, count: usize, during: &str) {
        let states = rows.states().await;
        let waiting: i64 =
            ["queued", "deferred", "sending", "unknown"].iter().filter_map(|state| states.get(*state)).sum();
        assert_eq!(usize::try_from(waiting).expect("a count"), count, "{during}: {states:?}");
    }

    /// All of it arrives, each message once; in flight never more than documented, and no 429 that we caused.
    async fn drains(&self, rows: &Rows, ids: &[String], after: &str) {
        rows.settles(DRAINING, None).await;
        let states = rows.states().await;
        assert_eq!(states.get("accepted"), Some(&i64::try_from(ids.len()).expect("a count")), "{after}: {states:?}");
        self.each_came_once(ids, after);
    }

    fn each_came_once(&self, ids: &[String], after: &str) {
        self.tenant.emulator.with_world(|world| {
            for id in ids {
                let accepted = world.mail.arrivals.of(id).map_or(0, |arrival| arrival.accepted);
                assert_eq!(accepted, 1, "{after}: {id}");
            }
            for tally in world.mail.tallies.all().values() {
                assert!(tally.most_in_flight <= AT_ONCE, "{after}: {tally:?}");
                assert_eq!((tally.throttled, tally.smtp_refused), (0, 0), "{after}: {tally:?}");
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_messages_outlast_an_expired_secret_three_days_without_graph_and_a_token_endpoint_that_comes_and_goes()
 {
    let tenant = Tenant::start(Duration::ZERO).await;
    let office = Office::open(&tenant, Installation::new(&tenant, "long", UNPACED).on_its_clock(), MAILBOXES).await;
    let serving = office.installation.serve().await;
    let rows = Rows::of(&office.installation).await;

    // Friday evening: the secret ends. Eight hours later somebody makes a new one.
    let sample = tenant.emulator.sample().clone();
    expire_secrets(&tenant);
    let ids = office.hand_in(20_000).await;
    office.let_pass(8 * HOUR, HOUR).await;
    office.waits(&rows, ids.len(), "the secret has expired").await;
    assert_eq!(office.arrived(), 0);

    // Before that, Graph itself goes away for three days.
    let down = tenant.emulator.fault(on_graph(Action::Status {
        status: 503,
        code: Some("serviceNotAvailable".to_owned()),
        aadsts: None,
        message: None,
        retry_after_seconds: None,
        retry_after_as_date: false,
    }));
    let secret = new_secret(&tenant);
    let file = tenant.folder().join("new-secret");
    std::fs::write(&file, secret).expect("the folder is writable");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("it is ours");
    let mut renew = office.installation.command(&["sender", "add", "office-0", "--expires", "2099-01-31"]);
    renew.arg("--secret-file").arg(&file).args(["--client-id", &sample.client_id.to_string()]);
    let _ = crate::setups::ended(renew).await;
    office.let_pass(72 * HOUR, 6 * HOUR).await;
    office.waits(&rows, ids.len(), "Graph is down").await;

    // The token endpoint refuses every other request while the rest is sent, and tokens end meanwhile.
    let mut flapping = Fault::of("token", unavailable());
    flapping.after = 1;
    flapping.times = Some(1);
    for _ in 0..20 {
        tenant.emulator.fault(flapping.clone());
    }
    tenant.emulator.with_world(|world| world.faults.remove(down));
    for _ in 0..8 {
        tokio::time::sleep(STEP).await;
        tenant.emulator.advance(HOUR);
    }
    tenant.emulator.clear_faults();
    for _ in 0..4 {
        office.let_pass(HOUR, HOUR / 4).await;
    }
    office.drains(&rows, &ids, "an expired secret, Graph down and a flapping token endpoint").await;
    assert!(serving.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_outlast_a_clock_that_steps_both_ways() {
    let tenant = Tenant::start(Duration::ZERO).await;
    let office = Office::open(&tenant, Installation::new(&tenant, "clock", UNPACED).on_its_clock(), 4).await;
    let down = tenant.emulator.fault(on_graph(unavailable()));
    let serving = office.installation.serve().await;
    let rows = Rows::of(&office.installation).await;
    let mut ids = office.hand_in(200).await;
    for offset in [6 * 3_600, -6 * 3_600, 0, 48 * 3_600, 0_i64] {
        tenant.emulator.with_world(|world| world.clock.set_offset_ms(offset * 1_000));
        // The file that the program reads is written when the emulator turns its own clock.
        tenant.emulator.advance(Duration::from_secs(1));
        tokio::time::sleep(STEP).await;
        ids.extend(office.hand_in(50).await);
    }
    office.waits(&rows, ids.len(), "the clock steps").await;
    tenant.emulator.with_world(|world| world.faults.remove(down));
    tenant.emulator.advance(HOUR);
    office.drains(&rows, &ids, "a clock that stepped").await;
    assert!(serving.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mailboxes_run_at_their_documented_rate_and_are_never_throttled() {
    const A_MINUTE: usize = 30;
    let tenant = Tenant::start(Duration::ZERO).await;
    tenant.emulator.with_world(|world| world.mail.limits.graph_messages_per_minute = Some(A_MINUTE));
    let settings = "[queue]\nunknown_settle_s = 1\n";
    let office = Office::open(&tenant, Installation::new(&tenant, "paced", settings).on_its_clock(), 10).await;
    let serving = office.installation.serve().await;
    let rows = Rows::of(&office.installation).await;
    let ids = office.hand_in(10 * A_MINUTE * 5).await;
    let mut minutes = 0;
    while office.arrived() < ids.len() {
        let before = office.arrived();
        // As fast as it can, until the minute's share is used up.
        until("a standstill", DRAINING, async || {
            let now = office.arrived();
            tokio::time::sleep(STEP).await;
            (office.arrived() == now && (now > before || minutes == 0)).then_some(())
        })
        .await;
        tenant.emulator.advance(Duration::from_secs(61));
        minutes += 1;
        assert!(minutes < 10, "{} of {} in {minutes} minutes", office.arrived(), ids.len());
    }
    office.drains(&rows, &ids, "five minutes' worth of mail").await;
    tenant.emulator.with_world(|world| {
        for tally in world.mail.tallies.all().values() {
            assert!(tally.most_messages_in_a_minute <= A_MINUTE as u64, "{tally:?}");
        }
    });
    assert!(serving.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_at_its_daily_quota_goes_on_the_next_day() {
    const A_DAY: usize = 100;
    let tenant = Tenant::start(Duration::ZERO).await;
    tenant.emulator.with_world(|world| world.mail.limits.recipients_per_day = A_DAY);
    let settings = UNPACED.replace("recipients_per_day = 0", &format!("recipients_per_day = {A_DAY}"));
    let office = Office::open(&tenant, Installation::new(&tenant, "quota", &settings).on_its_clock(), 2).await;
    let serving = office.installation.serve().await;
    let rows = Rows::of(&office.installation).await;
    let ids = office.hand_in(2 * (A_DAY + A_DAY / 2)).await;
    until("the first day's share", DRAINING, async || (office.arrived() == 2 * A_DAY).then_some(())).await;
    office.let_pass(8 * HOUR, HOUR).await;
    assert_eq!(office.arrived(), 2 * A_DAY, "the day is not over");
    office.waits(&rows, ids.len() - 2 * A_DAY, "the quota is used up").await;
    office.let_pass(17 * HOUR, HOUR).await;
    office.drains(&rows, &ids, "two days").await;
    tenant.emulator.with_world(|world| {
        assert!(world.mail.tallies.all().values().all(|tally| tally.over_recipient_limit == 0));
    });
    assert!(serving.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_at_its_limit_of_external_recipients_waits_with_all_its_mailboxes() {
    const A_DAY: usize = 60;
    let tenant = Tenant::start(Duration::ZERO).await;
    tenant.emulator.with_world(|world| {
        world.mail.limits = Limits { external_recipients_per_day: A_DAY, ..Limits::lifted() };
        world.mail.limits.external_limit_refuses = true;
    });
    let office = Office::open(&tenant, Installation::new(&tenant, "terrl", UNPACED).on_its_clock(), 4).await;
    let serving = office.installation.serve().await;
    let rows = Rows::of(&office.installation).await;
    let (ports, login) = (office.installation.ports, &office.login);
    let ids = hand_in_all(ports.smtp, login, &office.mailboxes, "somebody@elsewhere.example", 2 * A_DAY).await;
    until("the day's share", DRAINING, async || (office.arrived() >= A_DAY).then_some(())).await;
    office.let_pass(6 * HOUR, HOUR).await;
    let states = rows.states().await;
    assert!(!states.contains_key("failed"), "{states:?}");
    office.let_pass(20 * HOUR, HOUR).await;
    until("the second day's share", DRAINING, async || {
        tenant.emulator.advance(HOUR);
        tokio::time::sleep(STEP).await;
        (rows.unsettled().await == 0).then_some(())
    })
    .await;
    let states = rows.states().await;
    assert_eq!(states.get("accepted"), Some(&i64::try_from(ids.len()).expect("a count")), "{states:?}");
    assert!(serving.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_mail_for_now_and_loses_none() {
    let tenant = Tenant::start(Duration::ZERO).await;
    let installation = Installation::new(&tenant, "full", UNPACED);
    let data = installation.home().join("data");
    let disk = SmallDisk::over(&data, "24m").expect("NOT TESTED: no disk of its own can be had here (unshare, mount)");
    let office = Office::open(&tenant, installation.on_disk(&disk), 2).await;
    let down = tenant.emulator.fault(on_graph(unavailable()));
    let serving = office.installation.serve().await;
    let mut ids = office.hand_in(50).await;

    disk.fill();
    let mut refused = 0;
    let recipient = &tenant.emulator.sample().user_name;
    for _ in 0..20 {
        // A device keeps what is refused for now and comes again.
        let mut client =
            SmtpClient::signed_in(office.installation.ports.smtp, &office.login).await.expect("it may sign in");
        let message =
            format!("From: {}\r\nTo: {recipient}\r\nSubject: full\r\n\r\n{}\r\n", office.mailboxes[0], "x".repeat(900));
        match client.send(&office.mailboxes[0], &[recipient], message.as_bytes()).await {
            // Pages that are allocated already may still take a few.
            Ok(reply) => ids.push(crate::submit::id_in(&reply).expect("the reply names the message")),
            Err(NotTaken::Refused(reply)) => {
                assert!(reply.starts_with("452") || reply.starts_with("451"), "{reply}");
                refused += 1;
            }
            Err(cut) => panic!("{cut}"),
        }
    }
    assert!(refused > 0, "a full disk takes no mail");
    disk.free();
    ids.extend(office.hand_in(50).await);
    tenant.emulator.with_world(|world| world.faults.remove(down));
    // Its rows lie where this process cannot read them.
    until("the arrival of all that was taken", DRAINING, async || (office.arrived() >= ids.len()).then_some(())).await;
    office.each_came_once(&ids, "a full disk");
    let failed = office.installation.told(&["message", "list", "--state", "failed"]).await;
    assert!(failed.as_array().is_some_and(Vec::is_empty) || failed["messages"] == serde_json::json!([]), "{failed}");
    assert!(serving.stop().await.success());
}

fn unavailable() -> Action {
    Action::Status {
        status: 503,
        code: None,
        aadsts: None,
        message: None,
        retry_after_seconds: None,
        retry_after_as_date: false,
    }
}

/// A fault of everything that Graph serves.
fn on_graph(action: Action) -> Fault {
    let mut fault = Fault::of("", action);
    fault.operation = None;
    fault.path = Some("/v1.0/*".to_owned());
    fault
}

fn expire_secrets(tenant: &Tenant) {
    let app = tenant.emulator.sample().client_id;
    tenant.emulator.with_world(|world| {
        let now = world.clock.now();
        let known = world.tenant_mut(tenant.emulator.tenant_id()).expect("the sample tenant stays");
        let apps = known.directory.applications.iter_mut();
        for app in apps.filter(|one| one.app_id == app) {
            app.secrets.iter_mut().for_each(|secret| secret.end = now);
        }
    });
}

fn new_secret(tenant: &Tenant) -> String {
    let app = tenant.emulator.sample().client_id;
    tenant.emulator.with_world(|world| {
        let text = world.make_client_secret();
        let known = world.tenant_mut(tenant.emulator.tenant_id()).expect("the sample tenant stays");
        let one = known.directory.applications.iter_mut().find(|one| one.app_id == app).expect("it stays");
        let mut secret = one.secrets[0].clone();
        (secret.key_id, secret.text) = (uuid::Uuid::new_v4(), text.clone());
        secret.end = jiff::Timestamp::MAX;
        one.secrets.push(secret);
        text
    })
}
