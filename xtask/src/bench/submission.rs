//! `cargo xtask bench submission`: how fast mail is taken in and passed on, beside Postfix and the database alone, in one run.

mod cpu;
mod load;
mod postfix;
mod server;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Row, mebibytes, row, table};
use crate::Outcome;
use crate::guardian::Guardian;
use crate::postgres::Postgres;
use crate::run::{Stages, cargo, output, run};
use load::{Load, Ran, Speaks};
use postfix::{Onward, Postfix, Sink};
use server::{Bench, Delivery};

const SMALL: usize = 4 * 1024;
const LARGE: usize = 100 * 1024;

/// Builds for release, measures, prints. `only` names one part.
pub(crate) fn bench(words: &[&str]) -> Outcome {
    let (messages, only) = match words {
        [] => (30_000, None),
        ["--messages", count] => (count.parse().map_err(|_| format!("{count:?} is no number"))?, None),
        ["--only", part] => (30_000, Some(*part)),
        ["--only", part, "--messages", count] | ["--messages", count, "--only", part] => {
            (count.parse().map_err(|_| format!("{count:?} is no number"))?, Some(*part))
        }
        other => return Err(format!("bench submission does not know {other:?}; see cargo xtask help")),
    };
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    let mut stages = Stages::start()?;
    stages.stage("release build", |guardian| {
        run(guardian, cargo().args(["build", "--release", "--package", "postkey"]))
    })?;
    let mut rows = Vec::new();
    if wanted("database") {
        println!("{}", stages.stage("the disk and the database alone", database_alone)?);
    }
    let postfix = match (wanted("acceptance") || wanted("relay"), postfix::installed()) {
        (false, _) => None,
        (true, true) => Some(stages.stage("Postfix", |guardian| beside_postfix(guardian, messages))?),
        (true, false) => {
            eprintln!("no Postfix to compare with: it needs root, the package postfix, and smtp-sink");
            None
        }
    };
    if let Some(postfix) = &postfix {
        rows.extend(postfix.rows());
    }
    if wanted("acceptance") {
        rows.extend(stages.stage("acceptance, SQLite", |guardian| acceptance(guardian, messages, postfix.as_ref()))?);
        rows.extend(
            stages.stage("acceptance, PostgreSQL", |guardian| on_postgres(guardian, messages, postfix.as_ref()))?,
        );
    }
    if wanted("relay") {
        rows.extend(stages.stage("end to end", |guardian| end_to_end(guardian, messages, postfix.as_ref()))?);
    }
    if wanted("latency") {
        rows.extend(stages.stage("Graph answering in 200 ms", slow_graph)?);
    }
    if wanted("idle") {
        rows.extend(stages.stage("idle", idle)?);
    }
    if wanted("backlog") {
        rows.extend(stages.stage("a million queued", |guardian| backlog(guardian, messages))?);
    }
    println!("{}", table(&rows));
    eprint!("\n{}", stages.report());
    Ok(())
}

/// Printed by the store's own example, as ratios.
fn database_alone(guardian: &Guardian) -> Outcome<String> {
    let mut example = cargo();
    example.args(["run", "--quiet", "--release", "--package", "postkey-store", "--example", "accept_speed"]);
    output(guardian, &mut example)
}

/// What Postfix did on this machine in this run.
struct BesidePostfix {
    kept: Ran,
    fresh: Ran,
    large: Ran,
    relayed: f64,
    relay_cpu: Duration,
}

impl BesidePostfix {
    fn rows(&self) -> Vec<Row> {
        vec![
            row("Postfix, 32 kept sessions, 4 KiB", speed(&self.kept)),
            row("Postfix, 32 at a time, new sessions, 4 KiB", speed(&self.fresh)),
            row("Postfix, 32 kept sessions, 100 KiB", speed(&self.large)),
            row(
                "Postfix, accepted and relayed to a sink",
                format!("{:.0}/s, {} of CPU each", self.relayed, micro(self.relay_cpu)),
            ),
        ]
    }
}

fn beside_postfix(guardian: &Guardian, messages: usize) -> Outcome<BesidePostfix> {
    let messages = messages / 4;
    let (kept, fresh, large) = {
        let server = Postfix::start(guardian, &Onward::Kept)?;
        let load = to_postfix(server.address, messages);
        (
            load.run()?,
            Load { fresh: true, ..load.clone() }.run()?,
            Load { size: LARGE, messages: messages / 8, ..load }.run()?,
        )
    };
    let sink = Sink::start(guardian)?;
    let server = Postfix::start(guardian, &Onward::Sink(sink.address))?;
    let cpu = server.cpu();
    let began = Instant::now();
    to_postfix(server.address, messages).run()?;
    server.wait_until_empty()?;
    let relayed = messages as f64 / began.elapsed().as_secs_f64();
    let relay_cpu = (server.cpu() - cpu) / u32::try_from(messages).unwrap_or(u32::MAX);
    Ok(BesidePostfix { kept, fresh, large, relayed, relay_cpu })
}

fn to_postfix(target: SocketAddr, messages: usize) -> Load {
    Load {
        target,
        sessions: 32,
        messages,
        size: SMALL,
        fresh: false,
        from: "noreply@bench.example".into(),
        to: "someone@elsewhere.example".into(),
        speaks: Speaks::Smtp { login: None },
    }
}

/// With the sender paused, so that nothing but acceptance runs.
fn acceptance(guardian: &Guardian, messages: usize, beside: Option<&BesidePostfix>) -> Outcome<Vec<Row>> {
    let bench = Bench::start(guardian, Delivery::Paused, None)?;
    let load = bench.smtp(messages);
    let kept = load.run()?;
    let fresh = Load { fresh: true, messages: messages / 2, ..load.clone() }.run()?;
    let large = Load { size: LARGE, messages: messages / 16, ..load.clone() }.run()?;
    let one = Load { sessions: 1, messages: messages / 20, ..load.clone() }.run()?;
    let http = bench.http(messages).run()?;
    Ok(vec![
        row("postkey, 32 kept sessions, 4 KiB", speed_beside(&kept, beside.map(|postfix| &postfix.kept))),
        row("postkey, 32 at a time, new sessions, 4 KiB", speed_beside(&fresh, beside.map(|postfix| &postfix.fresh))),
        row("postkey, 32 kept sessions, 100 KiB", speed_beside(&large, beside.map(|postfix| &postfix.large))),
        row("postkey, one session, 4 KiB", speed(&one)),
        row("postkey, POST /v1/send, 32 connections, 4 KiB", speed(&http)),
        row("postkey, memory after it", mebibytes(bench.memory())),
    ])
}

fn on_postgres(guardian: &Guardian, messages: usize, beside: Option<&BesidePostfix>) -> Outcome<Vec<Row>> {
    let database = Postgres::start_durable(guardian)?;
    let rows = {
        let bench = Bench::start(guardian, Delivery::Paused, Some(database.url()))?;
        let kept = bench.smtp(messages).run()?;
        let http = bench.http(messages / 2).run()?;
        vec![
            row(
                "postkey on PostgreSQL, 32 kept sessions, 4 KiB",
                speed_beside(&kept, beside.map(|postfix| &postfix.kept)),
            ),
            row("postkey on PostgreSQL, POST /v1/send, 32 connections", speed(&http)),
        ]
    };
    database.stop(guardian);
    Ok(rows)
}

/// Through Graph on the emulator, its limits lifted; the emulator's own share of the cores is told apart.
fn end_to_end(guardian: &Guardian, messages: usize, beside: Option<&BesidePostfix>) -> Outcome<Vec<Row>> {
    let messages = messages / 4;
    let bench = Bench::start(guardian, Delivery::Runs { latency_ms: 0, mailboxes: 8 }, None)?;
    let (own, emulators) = (bench.cpu(), bench.emulator_cpu());
    let began = Instant::now();
    load::run_all(&bench.smtp_each(messages))?;
    bench.wait_until_accepted(messages)?;
    let rate = messages as f64 / began.elapsed().as_secs_f64();
    let each = |spent: Duration| spent / u32::try_from(messages).unwrap_or(u32::MAX);
    let (own, emulators) = (each(bench.cpu() - own), each(bench.emulator_cpu() - emulators));
    let ratio = |of: f64| format!("{of:.2}");
    let mut rows = vec![
        row("postkey, accepted and delivered through Graph", format!("{rate:.0}/s, {} of CPU each", micro(own))),
        row("the emulator's share", format!("{} of CPU each", micro(emulators))),
    ];
    if let Some(postfix) = beside {
        rows.push(row("rate, times Postfix's", ratio(rate / postfix.relayed)));
        rows.push(row("CPU, times Postfix's", ratio(own.as_secs_f64() / postfix.relay_cpu.as_secs_f64())));
    }
    Ok(rows)
}

/// Four requests in flight, 200 ms each: 20 a second for each mailbox.
fn slow_graph(guardian: &Guardian) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for (mailboxes, what) in [
        (1, "Graph in 200 ms, 1 mailbox (20/s allowed)"),
        (10, "Graph in 200 ms, 10 mailboxes (200/s allowed)"),
        (100, "Graph in 200 ms, 100 mailboxes (2,000/s allowed)"),
    ] {
        let bench = Bench::start(guardian, Delivery::Runs { latency_ms: 200, mailboxes }, None)?;
        let messages = mailboxes * 200;
        // Between a tenth and nine tenths of the way; what is handed in meanwhile is ahead all the time.
        let (from, to) = (messages / 10, messages - messages / 10);
        let loads = bench.smtp_each(messages);
        let took = std::thread::scope(|both| -> Outcome<Duration> {
            let handing_in = both.spawn(|| load::run_all(&loads));
            bench.wait_until_accepted(from)?;
            let began = Instant::now();
            bench.wait_until_accepted(to)?;
            let took = began.elapsed();
            handing_in.join().unwrap_or_else(|_| Err("a load broke".into()))?;
            Ok(took)
        })?;
        let rate = (to - from) as f64 / took.as_secs_f64();
        let allowed = mailboxes as f64 * 20.0;
        rows.push(row(what, format!("{rate:.0}/s, {:.0} % of it", 100.0 * rate / allowed)));
    }
    Ok(rows)
}

fn idle(guardian: &Guardian) -> Outcome<Vec<Row>> {
    let mut bench = Bench::start(guardian, Delivery::Paused, None)?;
    let greeting = bench.restart_to_greeting()?;
    let before = bench.settled_memory();
    let burst = burst(bench.smtp_address())?;
    let sessions = bench.idle_sessions(1_000)?;
    let with = bench.settled_memory();
    drop(sessions);
    Ok(vec![
        row("postkey, from start to greeting", format!("{} ms", greeting.as_millis())),
        row("postkey, idle memory (RSS)", mebibytes(before)),
        row("1,000 idle TLS sessions, memory above idle", mebibytes(with.saturating_sub(before))),
        row("1,000 connects at once, greeted", format!("{burst}")),
    ])
}

/// How many of 1,000 connections opened at once are greeted.
fn burst(target: SocketAddr) -> Outcome<usize> {
    let open = |_| -> Option<()> {
        let mut stream = TcpStream::connect(target).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let mut greeting = [0; 4];
        std::io::Read::read_exact(&mut stream, &mut greeting).ok()?;
        stream.write_all(b"QUIT\r\n").ok()?;
        (&greeting == b"220 ").then_some(())
    };
    std::thread::scope(|all| {
        let running: Vec<_> = (0..1_000).map(|number| all.spawn(move || open(number))).collect();
        Ok(running.into_iter().filter_map(|one| one.join().ok().flatten()).count())
    })
}

/// A million messages wait: does it start, take more and stay small?
fn backlog(guardian: &Guardian, messages: usize) -> Outcome<Vec<Row>> {
    let mut bench = Bench::start(guardian, Delivery::Paused, None)?;
    let empty = bench.smtp(messages).run()?;
    bench.fill(1_000_000)?;
    let ready = bench.restart_to_greeting()?;
    let full = bench.smtp(messages).run()?;
    Ok(vec![
        row("a million queued, from start to greeting", format!("{} ms", ready.as_millis())),
        row(
            "a million queued, acceptance",
            format!("{:.0}/s, {:.2} of that with an empty queue", full.rate(), full.rate() / empty.rate()),
        ),
        row("a million queued, memory", mebibytes(bench.memory())),
    ])
}

fn speed(ran: &Ran) -> String {
    format!("{:.0}/s (p50 {}, p99 {})", ran.rate(), milli(ran.percentile(50)), milli(ran.percentile(99)))
}

fn speed_beside(ran: &Ran, postfix: Option<&Ran>) -> String {
    match postfix {
        Some(postfix) => format!("{}; {:.1} times Postfix", speed(ran), ran.rate() / postfix.rate()),
        None => speed(ran),
    }
}

fn milli(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn micro(time: Duration) -> String {
    format!("{} µs", time.as_micros())
}
