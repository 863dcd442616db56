//! `cargo xtask check`: what a compiler cannot see. Generated files are fresh, the crates' arrows run downward, and
//! nothing in the tree belongs to one machine.

mod arrows;
mod errors;
mod generated;
mod tree;

use crate::Outcome;
use crate::run::Stages;

/// Runs every check and names all that is wrong, not only the first.
pub(crate) fn check(words: &[&str]) -> Outcome {
    let write = match words {
        [] => false,
        ["--write"] => true,
        other => return Err(format!("check does not know {other:?}; see cargo xtask help")),
    };
    let mut stages = Stages::start()?;
    let findings = [
        stages.stage("tree", tree::findings)?,
        stages.stage("arrows", |_| arrows::findings())?,
        stages.stage("generated files", |guardian| generated::findings(guardian, write))?,
    ]
    .concat();
    if findings.is_empty() {
        return Ok(());
    }
    Err(format!("{} finding(s)\n  {}", findings.len(), findings.join("\n  ")))
}
