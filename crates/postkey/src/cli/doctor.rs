//! `postkey doctor`: every link of the chain, one line each as it is looked at, and what to do about those that broke.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use postkey_base::Diagnosis;
use postkey_identity::Cloud;
use postkey_setup::doctor::{self, Check, CheckResult, Summary};
use serde_json::json;

use crate::{
    failure::Failure,
    output::{self, BAD, FAINT, GOOD, STRONG, WARN, styled},
    settings::Settings,
    wiring,
};

/// All checks together; each has a deadline of its own, and few of them can use it up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Check every link of the chain; each finding says who must do what.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The sender (default: all of them; this machine and its network alone when there is none)
    sender: Option<String>,
}

impl Doctor {
    pub(crate) async fn run(self, settings: &Settings, json: bool) -> Result<ExitCode, Failure> {
        let mut shown = Shown { quiet: json, ..Shown::default() };
        let mut checks = Vec::new();
        let mut told = |check: &Check| shown.line(check);
        let finished = tokio::time::timeout(PATIENCE, self.examine(settings, &mut told, &mut checks)).await;
        finished.unwrap_or_else(|_| Err(too_slow()))?;
        let summary = Summary::of(&checks);
        if json {
            output::json(&json!({ "summary": summary, "checks": checks }));
        } else {
            output::line(format_args!("\n{}", in_words(summary)));
        }
        Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn examine(
        &self,
        settings: &Settings,
        told: &mut (dyn FnMut(&Check) + Send),
        checks: &mut Vec<Check>,
    ) -> Result<(), Failure> {
        let outside = match wiring::open(settings).await {
            Ok(outside) => outside,
            // A wrong command or setting is no finding.
            Err(failure) if failure.exit == 2 => return Err(failure),
            Err(failure) => {
                let check = Check::failed("store.open", "the store opens", *failure.diagnosis);
                told(&check);
                checks.push(check);
                let network = wiring::network(settings)?;
                checks.extend(doctor::examine_network(&network, &wiring::clock(), &Cloud::global(), told).await);
                return Ok(());
            }
        };
        let senders = match &self.sender {
            None => outside.store.senders().await?,
            Some(name) => match outside.store.sender(name).await? {
                Some(sender) => vec![sender],
                None => return Err(postkey_setup::connection::ConnectionError::NoSender(name.clone()).into()),
            },
        };
        checks.extend(doctor::examine(&outside, &senders, told).await);
        Ok(())
    }
}

/// The lines so far: a heading comes when the chain changes.
#[derive(Default)]
struct Shown {
    quiet: bool,
    begun: bool,
    sender: Option<String>,
}

impl Shown {
    fn line(&mut self, check: &Check) {
        if self.quiet {
            return;
        }
        if !self.begun || self.sender != check.sender {
            let heading = match &check.sender {
                None => "This machine".to_owned(),
                Some(sender) => format!("Sender {sender}"),
            };
            let gap = if self.begun { "\n" } else { "" };
            output::line(format_args!("{gap}{}", styled(STRONG, heading)));
            self.begun = true;
            self.sender.clone_from(&check.sender);
        }
        let mark = match check.result {
            CheckResult::Passed => styled(GOOD, "✓"),
            CheckResult::Warning => styled(WARN, "!"),
            CheckResult::Failed => styled(BAD, "✗"),
            CheckResult::Skipped { .. } => styled(FAINT, "–"),
        };
        // What holds, or what was found instead.
        let headline = check.diagnosis.as_ref().map_or(check.title, |found| &found.what);
        let subject = check.subject.as_ref().map(|subject| format!(" · {subject}")).unwrap_or_default();
        output::line(format_args!("  {mark} {headline}  {}", styled(FAINT, format_args!("{}{subject}", check.name))));
        if let CheckResult::Skipped { why } = &check.result {
            output::line(format_args!("      {}", styled(FAINT, format_args!("not looked at: {why}"))));
        }
        if let Some(found) = &check.diagnosis {
            details(found);
        }
        for (name, value) in &check.evidence {
            fact(name, value);
        }
    }
}

/// On standard output, unlike an error's: here the findings are the answer.
fn details(found: &Diagnosis) {
    if let Some(why) = &found.why {
        output::line(format_args!("      {} {why}", styled(FAINT, "why:")));
    }
    output::line(format_args!("      {} {}", styled(STRONG, "do: "), found.remedy));
    let code = styled(FAINT, format_args!("[{}]", found.code));
    output::line(format_args!("      {} {}  {code}", styled(FAINT, "who:"), found.who));
    for (name, value) in &found.evidence {
        fact(name, value);
    }
}

fn fact(name: &str, value: &str) {
    output::line(format_args!("      {}", styled(FAINT, format_args!("{}: {value}", name.replace('_', " ")))));
}

fn in_words(summary: Summary) -> String {
    let Summary { passed, warnings, failed, skipped } = summary;
    let verdict = match (failed, warnings) {
        (0, 0) => styled(GOOD, "All is well."),
        (0, 1) => styled(WARN, "It works; one thing is worth a look."),
        (0, many) => styled(WARN, format_args!("It works; {many} things are worth a look.")),
        (1, _) => styled(BAD, "One link is broken."),
        (many, _) => styled(BAD, format_args!("{many} links are broken.")),
    };
    let counts = format!("{passed} passed, {warnings} warned, {failed} failed, {skipped} not looked at");
    format!("{verdict}  {}", styled(FAINT, counts))
}

fn too_slow() -> Failure {
    Failure::new(
        "doctor.too_slow",
        format!("the checks did not end within {} min", PATIENCE.as_secs() / 60),
        "Name one sender, and see the last line above for what hangs.",
        postkey_base::Who::You,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_whether_anything_is_broken() {
        let summary = |passed, warnings, failed, skipped| Summary { passed, warnings, failed, skipped };
        for (summary, want) in [
            (summary(9, 0, 0, 1), "All is well."),
            (summary(9, 1, 0, 1), "one thing is worth a look."),
            (summary(9, 3, 1, 1), "One link is broken."),
            (summary(9, 3, 2, 1), "2 links are broken."),
        ] {
            assert!(in_words(summary).contains(want), "{summary:?}");
        }
    }
}
