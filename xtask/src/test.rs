//! `cargo xtask test`: everything the tests need, then the tests, then nothing left behind.

use std::path::PathBuf;
use std::process::Command;

use crate::guardian::Guardian;
use crate::postgres::{self, Postgres};
use crate::prerequisites::{self, Part};
use crate::run::{Stages, cargo, find_program, run, run_and_look, shown, target, workspace};
use crate::{Outcome, clients};

/// Where the end-to-end tests find the program under test.
const BINARY_VARIABLE: &str = "POSTKEY_BINARY";

/// The program's feature that lets a test turn its clock; a release build does not have it.
const TEST_FEATURE: &str = "test-clock";

#[derive(Default, Debug, PartialEq)]
struct Options {
    only: Option<String>,
    skip_postgres: bool,
    skip_clients: bool,
    skip_doc: bool,
    runner: Vec<String>,
    /// More variables for the tests.
    environment: Vec<(&'static str, String)>,
}

/// Runs all tests, or those asked for.
pub(crate) fn test(words: &[&str]) -> Outcome {
    run_tests(Options::parse(words)?)
}

/// Runs the tests with this in their names, with one more variable and all that they print.
pub(crate) fn test_with(name: &str, variable: (&'static str, String), skip_postgres: bool) -> Outcome {
    let environment = vec![
        variable,
        // nextest shows what a test printed only if asked.
        ("NEXTEST_SUCCESS_OUTPUT", "immediate".to_owned()),
        // Both series at once would share the processors, and the figures would say less.
        ("NEXTEST_TEST_THREADS", "1".to_owned()),
    ];
    let runner = if find_program("cargo-nextest").is_some() { Vec::new() } else { vec!["--nocapture".to_owned()] };
    run_tests(Options {
        only: Some(name.to_owned()),
        skip_postgres,
        skip_doc: true,
        skip_clients: true,
        runner,
        environment,
    })
}

fn run_tests(mut options: Options) -> Outcome {
    let scope = Scope::of(options.only.as_deref());
    if let Scope::Crate(name) = &scope {
        options.skip_clients |= name != "postkey-e2e";
        options.skip_postgres |= !matches!(name.as_str(), "postkey-e2e" | "postkey-store" | "postkey");
    }
    let mut stages = Stages::start()?;
    let counts = everything(&mut stages, &options, &scope);
    eprint!("\n{}", stages.report());
    let counts = counts?;
    println!("{} passed, {} failed", counts.passed, counts.failed);
    match counts {
        Counts { passed: 0, failed: 0 } => Err("no test ran".to_owned()),
        Counts { failed: 0, .. } => Ok(()),
        Counts { .. } => Err("there are failures; see above".to_owned()),
    }
}

fn everything(stages: &mut Stages, options: &Options, scope: &Scope) -> Outcome<Counts> {
    let mut parts = Vec::new();
    if !options.skip_postgres {
        parts.push(Part::Postgres);
    }
    if !options.skip_clients {
        parts.extend([Part::Clients, Part::Servers]);
    }
    stages.stage("prerequisites", |guardian| prerequisites::ensure(guardian, &parts))?;

    let mut environment: Vec<(&str, PathBuf)> = vec![(BINARY_VARIABLE, target().join("debug/postkey"))];
    if !options.skip_clients {
        let clients = stages.stage("clients from their registries", clients::ensure)?;
        environment.push((clients::PYTHON_VARIABLE, clients.python));
        environment.push((clients::NODE_VARIABLE, clients.node));
    }
    stages.stage("build", |guardian| build(guardian, scope))?;

    let postgres = match options.skip_postgres {
        true => None,
        false => Some(stages.stage("PostgreSQL", Postgres::start)?),
    };
    if let Some(postgres) = &postgres {
        environment.push((postgres::VARIABLE, postgres.url().into()));
    }
    environment.extend(options.environment.iter().map(|(name, value)| (*name, PathBuf::from(value))));
    let mut counts = Counts::default();
    let tests = stages.stage("tests", |guardian| {
        let mut runner = runner(scope, &options.runner);
        runner.envs(environment.iter().map(|(name, value)| (name, value)));
        tally(guardian, &mut runner, &mut counts)
    });
    // Neither the doc tests nor a failure needs it any longer.
    if let Some(postgres) = postgres {
        postgres.stop(&stages.guardian);
    }
    tests?;
    if !options.skip_doc && scope.has_doc_tests() {
        stages.stage("doc tests", |guardian| {
            let mut runner = cargo();
            runner.args(["test", "--doc", "--no-fail-fast"]).args(scope.selection());
            tally(guardian, &mut runner, &mut counts)
        })?;
    }
    Ok(counts)
}

/// Builds every test, and the program they start, with one set of features so that nothing is built twice.
fn build(guardian: &Guardian, scope: &Scope) -> Outcome {
    if let Scope::Crate(name) = scope
        && name == "postkey-e2e"
    {
        run(guardian, cargo().args(["build", "--package", "postkey"]).args(feature()))?;
    }
    run(guardian, cargo().args(["build", "--all-targets"]).args(scope.selection()))
}

/// nextest where it is installed: it runs the tests of all crates side by side. Plain cargo otherwise.
fn runner(scope: &Scope, arguments: &[String]) -> Command {
    let mut runner = cargo();
    let nextest = find_program("cargo-nextest").is_some();
    match nextest {
        true => runner.args(["nextest", "run", "--no-fail-fast", "--no-tests=pass"]).args(scope.selection()),
        false => runner.args(["test", "--no-fail-fast", "--all-targets"]).args(scope.selection()),
    };
    if let Scope::Name(part) = scope {
        runner.arg(part);
    }
    if !arguments.is_empty() {
        runner.arg("--").args(arguments);
    }
    runner
}

/// Runs a test runner and counts what it says. A runner that fails without naming a failed test counts as one: what
/// could not run has not passed.
fn tally(guardian: &Guardian, runner: &mut Command, counts: &mut Counts) -> Outcome {
    let mut seen = Counts::default();
    let status = run_and_look(guardian, runner, |line| seen.read(line))?;
    if !status.success() && seen.failed == 0 {
        eprintln!("xtask: {} failed ({status})", shown(runner));
        seen.failed = 1;
    }
    counts.passed += seen.passed;
    counts.failed += seen.failed;
    Ok(())
}

/// How much of the workspace is meant.
enum Scope {
    Everything,
    Crate(String),
    Name(String),
}

impl Scope {
    fn of(only: Option<&str>) -> Scope {
        match only {
            None => Scope::Everything,
            Some("xtask") => Scope::Crate("xtask".to_owned()),
            Some(name) if workspace().join("crates").join(name).is_dir() => Scope::Crate(name.to_owned()),
            Some(part) => Scope::Name(part.to_owned()),
        }
    }

    /// Doc tests live in libraries, and are not chosen by name.
    fn has_doc_tests(&self) -> bool {
        match self {
            Scope::Everything => true,
            Scope::Crate(name) => workspace().join("crates").join(name).join("src/lib.rs").is_file(),
            Scope::Name(_) => false,
        }
    }

    /// The words that select it for cargo.
    fn selection(&self) -> Vec<String> {
        match self {
            Scope::Crate(name) if name == "postkey" => [vec!["--package".to_owned(), name.clone()], feature()].concat(),
            Scope::Crate(name) => vec!["--package".to_owned(), name.clone()],
            Scope::Everything | Scope::Name(_) => [vec!["--workspace".to_owned()], feature()].concat(),
        }
    }
}

/// The words that switch the program's test feature on.
pub(crate) fn feature() -> Vec<String> {
    let manifest = std::fs::read_to_string(workspace().join("crates/postkey/Cargo.toml")).unwrap_or_default();
    let has_it = manifest.lines().any(|line| line.split('=').next().is_some_and(|key| key.trim() == TEST_FEATURE));
    if has_it { vec!["--features".to_owned(), format!("postkey/{TEST_FEATURE}")] } else { Vec::new() }
}

impl Options {
    fn parse(words: &[&str]) -> Outcome<Options> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--only" => {
                    let name = words.next().ok_or("--only wants the name of a crate or a part of a test's name")?;
                    options.only = Some((*name).to_owned());
                }
                "--skip-postgres" => options.skip_postgres = true,
                "--skip-clients" => options.skip_clients = true,
                "--skip-doc" => options.skip_doc = true,
                "--" => options.runner = words.by_ref().map(|word| (*word).to_owned()).collect(),
                other => return Err(format!("test does not know {other:?}; see cargo xtask help")),
            }
        }
        Ok(options)
    }
}

#[derive(Default, Debug, PartialEq)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    /// Adds what one line of a runner's output says: nextest's `Summary […] 3 tests run: 2 passed, 1 failed, 1 timed
    /// out, 0 skipped`, or cargo's `test result: ok. 2 passed; 1 failed; 0 ignored; …` once per binary.
    fn read(&mut self, line: &str) {
        let line = line.trim_start();
        let totals = match (line.strip_prefix("test result:"), line.strip_prefix("Summary [")) {
            (Some(result), _) => result.split_once(". ").map(|(_, totals)| totals),
            (_, Some(summary)) => summary.split_once("run: ").map(|(_, totals)| totals),
            _ => None,
        };
        for total in totals.unwrap_or_default().split([',', ';']) {
            let mut words = total.split_whitespace();
            let Some(number) = words.next().and_then(|number| number.parse::<u64>().ok()) else { continue };
            match words.collect::<Vec<_>>().as_slice() {
                ["passed", ..] => self.passed += number,
                ["failed" | "timed" | "exec", ..] => self.failed += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Options};

    #[test]
    fn the_summaries_of_both_runners_are_understood() {
        for (line, passed, failed) in [
            ("     Summary [   0.134s] 3 tests run: 3 passed, 0 skipped", 3, 0),
            (
                "     Summary [   1.2s] 9 tests run: 5 passed (1 slow), 2 failed, 1 timed out, 1 exec failed, 4 skipped",
                5,
                4,
            ),
            ("     Summary [   1.2s] 2/9 tests run: 1 passed, 1 failed, 0 skipped", 1, 1),
            ("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s", 12, 0),
            ("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", 1, 2),
            ("test it_says_summary ... ok", 0, 0),
        ] {
            let mut counts = Counts::default();
            counts.read(line);
            assert_eq!(counts, Counts { passed, failed }, "{line}");
        }
    }

    #[test]
    fn what_follows_two_dashes_goes_to_the_runner() {
        let options = Options::parse(&["--only", "postkey-base", "--skip-doc", "--", "--nocapture"]).unwrap();
        assert_eq!(options.only.as_deref(), Some("postkey-base"));
        assert!(options.skip_doc && !options.skip_clients);
        assert_eq!(options.runner, ["--nocapture"]);
        assert!(Options::parse(&["--sometimes"]).is_err());
    }
}
