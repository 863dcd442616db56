//! `setup --plan` is the truth: setup makes the calls it lists, in that order, and no others; so does the script.

use std::time::Duration;

use postkey_emulator::journal::Call;
use serde_json::Value;

use crate::harness::said;
use crate::setups::{Setup, Tenant, ended};

/// What `setup --plan --json` lists.
pub(crate) struct Plan {
    calls: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    administrator: bool,
    method: String,
    /// As printed.
    target: String,
    /// `login` or `graph`.
    host: &'static str,
    /// The path as the host sees it, with `{…}` for what is known only later.
    path: String,
    reason: String,
    conditional: bool,
}

impl Planned {
    fn read(call: &Value) -> Self {
        let text = |name: &str| call[name].as_str().unwrap_or_default().to_owned();
        let target = text("target");
        let (host, path) = match target.strip_prefix("https://") {
            None if target.starts_with("smtp://") => ("smtp", String::new()),
            Some(address) => ("login", format!("/{}", address.split_once('/').expect("it has a path").1)),
            None => ("graph", format!("/v1.0{target}")),
        };
        Self {
            administrator: call["caller"] == "administrator",
            method: text("method"),
            host,
            path: path.split('?').next().expect("split yields one part at least").to_owned(),
            target,
            reason: text("reason"),
            conditional: call["only_if"].is_string(),
        }
    }

    fn is(&self, call: &Call) -> bool {
        call.host == self.host && call.method == self.method && fits(&self.path, &call.path)
    }
}

/// Whether a path is this one, each `{…}` standing for one or more characters of a segment.
fn fits(pattern: &str, path: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('{') else { return pattern == path };
    let (_, after) = rest.split_once('}').expect("a placeholder ends");
    let Some(path) = path.strip_prefix(before) else { return false };
    let value = path.split(['/', '\'']).next().expect("split yields one part at least").len();
    (1..=value).any(|taken| path.get(taken..).is_some_and(|path| fits(after, path)))
}

impl Plan {
    pub(crate) async fn of(setup: &Setup<'_>) -> Self {
        let mut command = setup.command_of_setup();
        command.args(["--plan", "--json"]);
        let output = ended(command).await;
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        Self { calls: plan["calls"].as_array().expect("it lists calls").iter().map(Planned::read).collect() }
    }

    /// The same for any setup with these options, whatever its name.
    pub(crate) fn for_any_name(mut self) -> Self {
        for call in &mut self.calls {
            if let Some((before, rest)) = call.path.split_once("(uniqueName='") {
                let (_, after) = rest.split_once('\'').expect("the name ends");
                call.path = format!("{before}(uniqueName='{{unique-name}}'{after}");
            }
        }
        self
    }

    /// Every call is one of the list, in whatever order: a run that goes on where another was interrupted.
    pub(crate) fn assert_lists(&self, calls: &[Call], what: &str) {
        for call in calls {
            let listed = self.calls.iter().any(|planned| planned.is(call));
            assert!(listed, "{what}: {} {} is not in the plan:\n{}", call.method, call.path, self.in_words());
        }
    }

    /// The calls are those of the list, in its order: conditional ones may be left out, and a call may be repeated.
    fn assert_followed_by(&self, calls: &[Call], what: &str) {
        let mut next = 0;
        for call in calls {
            if next > 0
                && self.calls[next - 1].is(call)
                && !self.calls.get(next).is_some_and(|planned| planned.is(call))
            {
                continue;
            }
            let ahead = self.calls[next..].iter().position(|planned| planned.is(call));
            let ahead = ahead.unwrap_or_else(|| {
                panic!("{what}: {} {} is not in the plan at this place:\n{}", call.method, call.path, self.in_words())
            });
            self.assert_may_skip(next..next + ahead, what);
            next += ahead + 1;
        }
        self.assert_may_skip(next..self.calls.len(), what);
    }

    fn assert_may_skip(&self, skipped: std::ops::Range<usize>, what: &str) {
        for planned in &self.calls[skipped] {
            assert!(planned.conditional, "{what}: {} {} was planned and not made", planned.method, planned.target);
        }
    }

    fn in_words(&self) -> String {
        self.calls.iter().map(|planned| format!("{} {} {}\n", planned.host, planned.method, planned.path)).collect()
    }
}

/// Every combination of the options that change what is called.
fn combinations() -> Vec<Vec<&'static str>> {
    let mut all = vec![vec![]];
    for choices in [
        [&["--credential", "certificate"][..], &["--credential", "secret"]],
        [&["--reach", "tenant-wide"], &["--reach", "limited"]],
        [&[], &["--smtp"]],
        [&[], &["--read-write"]],
    ] {
        all = all.iter().flat_map(|options| choices.map(|choice| [&options[..], choice].concat())).collect();
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setup_makes_the_calls_of_its_plan_in_that_order_and_no_others() {
    let tenant = Tenant::start(Duration::ZERO).await;
    let runs = async {
        for (number, options) in combinations().into_iter().enumerate() {
            let setup = tenant.setup(&format!("planned-{number}"), &options);
            let before = tenant.emulator.last_call();
            let plan = Plan::of(&setup).await;
            assert_eq!(tenant.emulator.last_call(), before, "planning calls nobody");
            setup.run().await;
            plan.assert_followed_by(&tenant.emulator.calls_since(before), &options.join(" "));
            let before = tenant.emulator.last_call();
            setup.run().await;
            plan.assert_lists(&tenant.emulator.calls_since(before), "a second run");
        }
    };
    tokio::select! {
        () = runs => {}
        () = tenant.exchange_administrator() => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plan_holds_for_a_tenant_that_is_named_by_its_domain() {
    let tenant = Tenant::start(Duration::ZERO).await;
    let domain = tenant.emulator.domain().to_owned();
    let setup = tenant.setup("by-domain", &["--reach", "tenant-wide"]).in_tenant(&domain);
    let plan = Plan::of(&setup).await;
    let before = tenant.emulator.last_call();
    setup.run().await;
    plan.assert_followed_by(&tenant.emulator.calls_since(before), "by domain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_makes_every_call_of_the_plan_that_is_the_administrators() {
    let tenant = Tenant::start(Duration::ZERO).await;
    for (number, options) in combinations().into_iter().enumerate() {
        if options.contains(&"certificate") {
            continue;
        }
        let setup = tenant.setup(&format!("scripted-{number}"), &options);
        let plan = Plan::of(&setup).await;
        let mut command = setup.command_of_setup();
        command.args(["--script", "-"]);
        let output = ended(command).await;
        assert!(output.status.success(), "{}", said(&output));
        let script = String::from_utf8(output.stdout).expect("a script is text");
        let mut invoked = 0;
        for (number, planned) in plan.calls.iter().enumerate() {
            let heading = format!("# call {}: {}\n", number + 1, planned.reason);
            let place = script.split_once(&heading);
            assert_eq!(place.is_some(), planned.administrator, "{heading}");
            let Some((_, below)) = place else { continue };
            let statement = below.split("\n\n").next().expect("split yields one part at least");
            if statement.starts_with("# (") {
                let left_to_others = planned.host == "login" || planned.reason.contains("interrupted run");
                assert!(left_to_others, "{heading}{statement}");
                continue;
            }
            invoked += 1;
            let known = planned.target.split('{').next().expect("split yields one part at least").replace('$', "`$");
            let invocation = format!("Invoke-Tenant -Method {} -Uri \"/v1.0{known}", planned.method);
            assert!(statement.contains(&invocation), "{heading}{statement}");
        }
        assert_eq!(script.matches("Invoke-Tenant -Method").count(), invoked, "no call but the planned ones");
    }
}

#[test]
fn a_placeholder_stands_for_part_of_a_segment() {
    for (pattern, path, want) in [
        ("/v1.0/applications/{id}", "/v1.0/applications/1", true),
        ("/v1.0/applications/{id}", "/v1.0/applications/1/addPassword", false),
        ("/v1.0/applications/{id}/addPassword", "/v1.0/applications/1/addPassword", true),
        ("/v1.0/servicePrincipals(appId='{id}')", "/v1.0/servicePrincipals(appId='1')", true),
        ("/v1.0/servicePrincipals(appId='{id}')", "/v1.0/servicePrincipals/1", false),
        ("/v1.0/applications/{id}", "/v1.0/applications/", false),
    ] {
        assert_eq!(fits(pattern, path), want, "{pattern} {path}");
    }
}
