//! What the project does to itself: test, soak, bench, check. `cargo xtask help` lists it.
//!
//! Everything started here is written down with a guardian process first (see `guardian`), so nothing is left
//! behind, however this program ends.

mod bench;
mod check;
mod clients;
mod guardian;
mod postgres;
mod prerequisites;
mod run;
mod soak;
mod test;

use std::process::ExitCode;

/// Whatever stops a task: one sentence that says what to do about it. Nothing here branches on the kind.
pub(crate) type Outcome<T = ()> = Result<T, String>;

const HELP: &str = "\
cargo xtask COMMAND

  test [--only NAME] [--skip-postgres] [--skip-clients] [--skip-doc] [-- ARGUMENTS]
                     all tests: installs what they need (apt, when root on Debian; otherwise names it), starts
                     PostgreSQL on a free port, builds, runs, and removes what it started.
                     NAME is a crate or a part of a test's name; ARGUMENTS go to the test runner.
  soak [--kills N] [--skip-postgres]
                     kills the service N times (default 1000) at random under load, on SQLite and on PostgreSQL, and
                     prints what became of every message: the figures of docs/reliability.md
  bench [--skip-speed]
                     builds for release, measures, prints the first tables of docs/performance.md
  bench submission [--only PART] [--messages NUMBER]
                     the same for handing in and delivering mail, beside Postfix where it is installed (root). PART is
                     database, acceptance, relay, latency, idle or backlog.
  check [--write]    generated files are fresh (--write renews them), the crates' arrows run downward,
                     no path of one machine stands in the tree
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test", options @ ..] => test::test(options),
        ["soak", options @ ..] => soak::soak(options),
        ["bench", options @ ..] => bench::bench(options),
        ["check", options @ ..] => check::check(options),
        [guardian::COMMAND] => guardian::watch(),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        [other, ..] => Err(format!("there is no task {other:?}\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}
