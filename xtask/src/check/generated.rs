//! Pages that are generated from the code must be the ones in the tree.

use std::process::Command;

use crate::Outcome;
use crate::guardian::Guardian;
use crate::run::{cargo, output, run, target, workspace};

/// Each generated page, and the words after which the program prints it. The program's hidden command `reference`
/// knows every page; a new one gets its line here.
const PAGES: &[(&str, &[&str])] = &[
    ("docs/cli.md", &["reference", "cli"]),
    ("docs/environment.md", &["reference", "environment"]),
    ("docs/errors.md", &["reference", "errors"]),
];

/// Generates everything anew and compares, or with `write` puts it in place.
pub(crate) fn findings(guardian: &Guardian, write: bool) -> Outcome<Vec<String>> {
    run(guardian, cargo().args(["build", "--quiet", "--package", "postkey"]))?;
    let mut findings = Vec::new();
    for (page, words) in PAGES {
        let mut program = Command::new(target().join("debug/postkey"));
        // The page must not depend on who asks: no settings, no colour, no terminal's width.
        program.args(*words).env_clear().env("NO_COLOR", "1").current_dir(target());
        let fresh = match output(guardian, &mut program) {
            Ok(fresh) if !fresh.trim().is_empty() => fresh,
            Ok(_) => return Err(format!("postkey {} printed nothing", words.join(" "))),
            Err(reason) => return Err(reason),
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
