//! Pages that are generated from the code must be the ones in the tree.

use std::process::Command;

use super::errors;
use crate::Outcome;
use crate::guardian::Guardian;
use crate::run::{cargo, output, run, target, workspace};
use crate::test;

/// Where a page comes from.
enum Source {
    /// The program prints it after these words: its hidden command `reference` knows what the grammar tells.
    Program(&'static [&'static str]),
    /// It is read from the code itself.
    Code(fn() -> Outcome<String>),
}

/// Each generated page.
const PAGES: &[(&str, Source)] = &[
    ("docs/cli.md", Source::Program(&["reference", "cli"])),
    ("docs/environment.md", Source::Program(&["reference", "environment"])),
    ("docs/settings.md", Source::Program(&["reference", "settings"])),
    ("docs/errors.md", Source::Code(errors::page)),
];

/// Generates everything anew and compares, or with `write` puts it in place.
pub(crate) fn findings(guardian: &Guardian, write: bool) -> Outcome<Vec<String>> {
    // With the features of the tests: what they need is built once.
    let mut build = cargo();
    run(guardian, build.args(["build", "--quiet", "--workspace", "--bins"]).args(test::feature()))?;
    let mut findings = Vec::new();
    for (page, source) in PAGES {
        let fresh = match source {
            Source::Program(words) => printed(guardian, words)?,
            Source::Code(read) => read()?,
        };
        let place = workspace().join(page);
        if std::fs::read_to_string(&place).is_ok_and(|found| found == fresh) {
            continue;
        }
        if write {
            std::fs::write(&place, fresh).map_err(|e| format!("{}: {e}", place.display()))?;
            eprintln!("written: {page}");
        } else {
            findings.push(format!("{page} is not what the code says; run: cargo xtask check --write"));
        }
    }
    Ok(findings)
}

fn printed(guardian: &Guardian, words: &[&str]) -> Outcome<String> {
    let mut program = Command::new(target().join("debug/postkey"));
    // The page must not depend on who asks: no settings, no colour, no terminal's width.
    program.args(words).env_clear().env("NO_COLOR", "1").current_dir(target());
    let fresh = output(guardian, &mut program)?;
    if fresh.trim().is_empty() { Err(format!("postkey {} printed nothing", words.join(" "))) } else { Ok(fresh) }
}
