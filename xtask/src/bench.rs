//! `cargo xtask bench`: the numbers of docs/performance.md, measured on this machine with the release build.

mod emulator;
mod process;
mod submission;

use std::process::Command;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::guardian::Guardian;
use crate::run::{Stages, cargo, output, run, target};
use emulator::Emulator;
use process::{Cost, measured};

/// How often a thing that takes part of a second is measured; the table shows the median and the extremes.
const REPEATS: usize = 7;

/// Apps that are set up one after another.
const APPS: usize = 50;

/// Builds for release, measures, prints.
pub(crate) fn bench(words: &[&str]) -> Outcome {
    let skip_speed = match words {
        ["submission", options @ ..] => return submission::bench(options),
        [] => false,
        ["--skip-speed"] => true,
        other => return Err(format!("bench does not know {other:?}; see cargo xtask help")),
    };
    let mut stages = Stages::start()?;
    stages.stage("release build", |guardian| {
        run(guardian, cargo().args(["build", "--release", "--package", "postkey"]))
    })?;
    let mut rows = stages.stage("demo", demo)?;
    rows.extend(stages.stage("emulator", emulator_alone)?);
    rows.extend(stages.stage("send", send)?);
    rows.extend(stages.stage("apps", apps)?);
    let speed = match skip_speed {
        true => String::new(),
        false => stages.stage("token cache", token_cache)?,
    };
    println!("{}", table(&rows));
    if !speed.is_empty() {
        println!("Token cache, one process:\n\n{}", speed.trim_end());
    }
    eprint!("\n{}", stages.report());
    Ok(())
}

/// One line of the table.
struct Row {
    what: &'static str,
    value: String,
}

fn row(what: &'static str, value: impl Into<String>) -> Row {
    Row { what, value: value.into() }
}

fn demo(guardian: &Guardian) -> Outcome<Vec<Row>> {
    let costs = repeat(|| {
        let folder = process::Folder::make(guardian)?;
        measured(guardian, postkey(&["demo", "--once"]).arg("--dir").arg(folder.path()))
    })?;
    let (ready, idle) = ready_and_idle(guardian, &["demo"])?;
    Ok(vec![
        row("`demo --once`, from start to end", seconds(&costs)),
        row("`demo --once`, peak memory", peak(&costs)),
        row("`demo`, from start to ready", durations(&ready)),
        row("`demo`, idle memory (RSS)", mebibytes(idle)),
    ])
}

fn emulator_alone(guardian: &Guardian) -> Outcome<Vec<Row>> {
    let (ready, idle) = ready_and_idle(guardian, &["emulator"])?;
    Ok(vec![
        row("`emulator`, from start to ready", durations(&ready)),
        row("`emulator`, idle memory (RSS)", mebibytes(idle)),
    ])
}

/// Starts a command that stays until it is stopped, several times.
fn ready_and_idle(guardian: &Guardian, words: &[&str]) -> Outcome<(Vec<Duration>, u64)> {
    let (mut ready, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        let started = Instant::now();
        let running = Emulator::start(guardian, postkey(words))?;
        ready.push(started.elapsed());
        idle.push(running.settled_memory()?);
    }
    idle.sort_unstable();
    Ok((ready, idle[idle.len() / 2]))
}

/// A message of one line through a sender that is set up: the whole program from start to accepted.
fn send(guardian: &Guardian) -> Outcome<Vec<Row>> {
    let emulator = Emulator::start(guardian, postkey(&["emulator"]))?;
    let home = process::Folder::make(guardian)?;
    run(guardian, emulator.setup("bench", &home)?.stdout(std::process::Stdio::null()))?;
    let to = emulator.variable("USER_NAME")?.to_owned();
    let costs = repeat(|| {
        let words = ["send", "--sender", "bench", "--to", &to, "--subject", "bench", "--body", "one line"];
        measured(guardian, postkey(&words).arg("--dir").arg(home.path()))
    })?;
    let by_curl = repeat(|| measured(guardian, &mut emulator.send_by_curl()?))?;
    let ratio = median(&costs).as_secs_f64() / median(&by_curl).as_secs_f64();
    Ok(vec![
        row("`send`, one small message", seconds(&costs)),
        row("`send`, peak memory", peak(&costs)),
        row("the same two requests by `curl` in a shell", seconds(&by_curl)),
        row("`send` to `curl`", format!("{ratio:.2} times as long")),
    ])
}

/// Many apps, and how many requests the tenant saw for them.
fn apps(guardian: &Guardian) -> Outcome<Vec<Row>> {
    let emulator = Emulator::start(guardian, postkey(&["emulator"]))?;
    let home = process::Folder::make(guardian)?;
    let before = emulator.calls(guardian)?;
    let started = Instant::now();
    for number in 0..APPS {
        run(guardian, emulator.setup(&format!("bench-{number}"), &home)?.stdout(std::process::Stdio::null()))?;
    }
    let took = started.elapsed();
    let calls = emulator.calls(guardian)? - before;
    Ok(vec![
        row(
            "50 apps set up, one after another",
            format!("{:.1} s ({:.2} s each)", took.as_secs_f64(), took.as_secs_f64() / APPS as f64),
        ),
        row("50 apps set up, requests to the tenant", format!("{calls} ({:.1} each)", calls as f64 / APPS as f64)),
    ])
}

/// Look-ups a second on one core, and 1,000 callers at once on a cold key: measured inside one process.
fn token_cache(guardian: &Guardian) -> Outcome<String> {
    let words = ["run", "--quiet", "--release", "--package", "postkey-identity", "--example", "token_cache_speed"];
    output(guardian, cargo().args(words))
}

fn postkey(words: &[&str]) -> Command {
    let mut command = Command::new(target().join("release/postkey"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTKEY_") {
            command.env_remove(name);
        }
    }
    command.args(words).env("NO_PROXY", "localhost,127.0.0.1").env("NO_COLOR", "1");
    command
}

fn repeat(mut one: impl FnMut() -> Outcome<Cost>) -> Outcome<Vec<Cost>> {
    // The first run reads the program from disk; it is not what a second run costs.
    one()?;
    (0..REPEATS).map(|_| one()).collect()
}

fn median(costs: &[Cost]) -> Duration {
    let mut times: Vec<Duration> = costs.iter().map(|cost| cost.took).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn seconds(costs: &[Cost]) -> String {
    durations(&costs.iter().map(|cost| cost.took).collect::<Vec<_>>())
}

fn durations(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let ms = |at: usize| times[at].as_secs_f64() * 1000.0;
    format!("{:.0} ms ({:.0} to {:.0})", ms(times.len() / 2), ms(0), ms(times.len() - 1))
}

fn peak(costs: &[Cost]) -> String {
    mebibytes(costs.iter().map(|cost| cost.peak_kib).max().unwrap_or_default())
}

fn mebibytes(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

fn table(rows: &[Row]) -> String {
    let lines = rows.iter().map(|row| format!("| {} | {} |\n", row.what, row.value));
    format!("| what | measured |\n|---|---|\n{}", lines.collect::<String>())
}
