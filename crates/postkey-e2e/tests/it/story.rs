//! A story: an installation of the program beside a tenant in a box, what is done to both, and all that the user sees.
//! Ids, times, ports and folders are masked, so that the same story reads the same each time.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Emulator, postkey};

/// Stands for the options that name the emulator's hosts and its CA.
pub(crate) const HOSTS: &str = "HOSTS";

/// The installation, the tenant, and what was said so far.
pub(crate) struct Story {
    pub(crate) tenant: Emulator,
    home: TempDir,
    runtime: tokio::runtime::Runtime,
    told: String,
    masks: Vec<(String, String)>,
}

impl Story {
    /// A tenant with its sample application, and nothing installed yet.
    pub(crate) fn begin() -> Story {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let home = TempDir::with_prefix("postkey-story-").expect("a temporary folder can be made");
        Story { tenant: Emulator::start(), home, runtime, told: String::new(), masks: Vec::new() }
    }

    /// The same with a sender named `mail` that has the sample application's right values.
    pub(crate) fn with_sender() -> Story {
        let mut story = Story::begin();
        story.add_sender("mail");
        story.forget();
        story
    }

    /// Saves the sample application as a sender and expects that to work.
    pub(crate) fn add_sender(&mut self, name: &str) {
        let secret = self.secret_file(&self.variable("CLIENT_SECRET"));
        let [tenant, client, mailbox] = ["TENANT_ID", "CLIENT_ID", "SENDER"].map(|name| self.variable(name));
        let values = ["--tenant", &tenant, "--client-id", &client, "--mailbox", &mailbox, "--expires", "2099-01-31"];
        let mut arguments = vec!["sender", "add", name, HOSTS, "--secret-file", &secret];
        arguments.extend(values);
        assert_eq!(self.run(&arguments), 0, "{}", self.told);
    }

    /// The same with an app that `setup` registers and gives a certificate: nothing of it is told.
    pub(crate) fn with_certificate_sender() -> Story {
        let mut story = Story::begin();
        let [tenant, admin, mailbox] = ["TENANT_ID", "ADMIN_CLIENT_ID", "SENDER"].map(|name| story.variable(name));
        let mut arguments = vec!["setup", "mail", HOSTS, "--tenant", &tenant, "--mailbox", &mailbox];
        arguments.extend(["--reach", "tenant-wide", "--sign-in", "app", "--admin-client-id", &admin]);
        let secret = story.variable("ADMIN_CLIENT_SECRET");
        let mut command = story.command(&arguments);
        command.env("POSTKEY_ADMIN_CLIENT_SECRET", secret);
        assert_eq!(story.tell(command, None), 0, "{}", story.told);
        story.forget();
        story
    }

    /// All that was told so far, nothing masked.
    pub(crate) fn said(&self) -> &str {
        &self.told
    }

    /// Begins to tell anew.
    pub(crate) fn forget(&mut self) {
        self.told.clear();
    }

    pub(crate) fn variable(&self, name: &str) -> String {
        self.tenant.variable(name).to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file beside the installation and returns its path.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).expect("the folder is writable");
        path.to_str().expect("temporary paths are plain").to_owned()
    }

    /// A file that holds a secret, as an editor leaves it: with a line end.
    pub(crate) fn secret_file(&self, secret: &str) -> String {
        self.file("secret.txt", format!("{secret}\n").as_bytes())
    }

    /// Runs `doctor` and notes what did not hold: the links that do are told elsewhere.
    pub(crate) fn run_doctor(&mut self, variables: &[(&str, &str)], arguments: &[&str]) {
        let before = self.told.len();
        self.run_with(variables, &[&["doctor"], arguments].concat());
        let said = self.told.split_off(before);
        let mut keep = true;
        for line in said.lines() {
            // A check that holds, with the evidence below it.
            if line.starts_with("  ✓ ") {
                keep = false;
            } else if !line.starts_with("      ") {
                keep = true;
            }
            if keep {
                let _ = writeln!(self.told, "{line}");
            }
        }
    }

    /// Runs the program and notes all it says. Returns its exit code.
    pub(crate) fn run(&mut self, arguments: &[&str]) -> i32 {
        let command = self.command(arguments);
        self.note_command(arguments);
        self.tell(command, None)
    }

    /// The same with lines on standard input.
    pub(crate) fn run_with_input(&mut self, arguments: &[&str], input: &str) -> i32 {
        let command = self.command(arguments);
        self.note_command(arguments);
        self.tell(command, Some(input))
    }

    /// The same with environment variables.
    pub(crate) fn run_with(&mut self, variables: &[(&str, &str)], arguments: &[&str]) -> i32 {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        self.note_command(arguments);
        self.tell(command, None)
    }

    /// A call of the program in this installation.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = postkey(&["--dir"]);
        command.arg(self.home.path());
        for &argument in arguments {
            match argument {
                HOSTS => command.args(self.hosts(self.tenant.variable("EMULATOR_CA"))),
                _ => command.arg(argument),
            };
        }
        command
    }

    /// The options of the emulator's hosts, with this CA.
    pub(crate) fn hosts(&self, ca: &str) -> Vec<String> {
        let mut hosts = self.hosts_without_ca();
        hosts.extend(["--cloud-ca".to_owned(), ca.to_owned()]);
        hosts
    }

    /// The same, left to whichever CAs the machine trusts.
    pub(crate) fn hosts_without_ca(&self) -> Vec<String> {
        let [login, graph, smtp] =
            ["EMULATOR_AUTHORITY", "EMULATOR_GRAPH", "EMULATOR_SMTP"].map(|name| self.variable(name));
        let pairs = [("--cloud", "custom"), ("--login-url", &login), ("--graph-url", &graph), ("--smtp-host", &smtp)];
        pairs.iter().flat_map(|(option, value)| [(*option).to_owned(), (*value).to_owned()]).collect()
    }

    /// Shows something in place of a text that differs from run to run.
    pub(crate) fn mask(&mut self, text: &str, shown: &str) {
        self.masks.push((text.to_owned(), shown.to_owned()));
    }

    pub(crate) fn note_command(&mut self, arguments: &[&str]) {
        let words: Vec<String> = arguments.iter().map(|word| shell_word(word)).collect();
        let _ = writeln!(self.told, "$ postkey {}", words.join(" "));
    }

    /// Says in the story what was done to the tenant or the machine.
    pub(crate) fn note(&mut self, text: &str) {
        let gap = if self.told.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.told, "{gap}# {text}");
    }

    /// Runs a command to its end and notes what came out.
    pub(crate) fn tell(&mut self, mut command: Command, input: Option<&str>) -> i32 {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut process = command.spawn().expect("the program under test starts");
        if let (Some(text), Some(mut pipe)) = (input, process.stdin.take()) {
            // Answers that nobody asks for any more are no failure of the writer.
            let _ = pipe.write_all(text.as_bytes());
        }
        let output = process.wait_with_output().expect("the program under test ends");
        for (mark, stream) in [("", &output.stdout), ("stderr:\n", &output.stderr)] {
            if !stream.is_empty() {
                let text = String::from_utf8_lossy(stream);
                let _ = writeln!(self.told, "{mark}{}", text.trim_end_matches('\n'));
            }
        }
        let code = output.status.code().unwrap_or(-1);
        let _ = writeln!(self.told, "exit {code}\n");
        code
    }

    /// Compares the whole story with its snapshot.
    pub(crate) fn shows(&self, name: &str) {
        let told = self.masked();
        for secret in ["CLIENT_SECRET", "ADMIN_CLIENT_SECRET", "ADMIN_PASSWORD", "USER_PASSWORD"] {
            assert!(!told.contains(self.tenant.variable(secret)), "{name} shows {secret}");
        }
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        for (pattern, shown) in MASKS {
            settings.add_filter(pattern, *shown);
        }
        settings.bind(|| insta::assert_snapshot!(name, told.trim_end()));
    }

    /// Known values by their names first; what is left of ids and times has a shape.
    fn masked(&self) -> String {
        let mut told = self.told.clone();
        for (text, shown) in &self.masks {
            told = told.replace(text, shown);
        }
        for (name, shown) in [
            ("EMULATOR_CA", "[CA of the emulator]"),
            ("EMULATOR_AUTHORITY", "https://[login host]"),
            ("EMULATOR_GRAPH", "https://[Graph host]/v1.0"),
            ("EMULATOR_SMTP", "[SMTP host]"),
            ("TENANT_ID", "[tenant id]"),
            ("ADMIN_CLIENT_ID", "[administrator's client id]"),
            ("CLIENT_ID", "[client id]"),
        ] {
            told = told.replace(self.tenant.variable(name), shown);
        }
        for (name, shown) in [("EMULATOR_AUTHORITY", "[login host]"), ("EMULATOR_GRAPH", "[Graph host]")] {
            let url = self.tenant.variable(name);
            let host = url.trim_start_matches("https://").split('/').next().unwrap_or_default();
            told = told.replace(host, shown);
        }
        told.replace(&*self.home.path().to_string_lossy(), "[home]")
    }

    /// A change by the emulator's management API.
    pub(crate) fn manage(&self, path: &str, body: &Value) -> Value {
        self.ask_management(reqwest::Method::POST, path, body)
    }

    /// The removal of something by it.
    pub(crate) fn remove(&self, path: &str, body: &Value) {
        self.ask_management(reqwest::Method::DELETE, path, body);
    }

    fn ask_management(&self, method: reqwest::Method, path: &str, body: &Value) -> Value {
        let address = format!("{}{path}", self.tenant.variable("EMULATOR_MANAGEMENT"));
        self.runtime.block_on(async {
            let http = reqwest::Client::builder().no_proxy().build().expect("a client can be made");
            let answer = http.request(method, address).json(body).send().await.expect("the emulator answers");
            let status = answer.status();
            let text = answer.text().await.expect("with a body");
            assert!(status.is_success(), "{path} {body}: {status} {text}");
            serde_json::from_str(&text).expect("the management API speaks JSON")
        })
    }

    /// What the management API shows.
    pub(crate) fn observe(&self, path: &str) -> Value {
        let address = format!("{}{path}", self.tenant.variable("EMULATOR_MANAGEMENT"));
        self.runtime.block_on(async {
            let http = reqwest::Client::builder().no_proxy().build().expect("a client can be made");
            http.get(address).send().await.expect("the emulator answers").json().await.expect("with JSON")
        })
    }

    /// What an administrator or time does to the sample application.
    pub(crate) fn change_app(&self, change: &Value) {
        self.manage(&format!("/applications/{}", self.variable("CLIENT_ID")), change);
    }

    /// A fault that meets this many calls of an operation.
    pub(crate) fn fault(&self, operation: &str, times: u32, action: &Value) {
        self.manage("/faults", &json!({ "operation": operation, "times": times, "action": action }));
    }

    /// A request to Graph by the application that may manage everything. An answer must come, with this status.
    pub(crate) fn administer(&self, method: &str, path: &str, body: &Value, expected: u16) -> Value {
        self.runtime.block_on(async {
            let ca = std::fs::read(self.tenant.variable("EMULATOR_CA")).expect("the CA is readable");
            let ca = reqwest::Certificate::from_pem(&ca).expect("the CA is a certificate");
            let http =
                reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().expect("a client can be made");
            let [authority, tenant, client, secret, graph] =
                ["EMULATOR_AUTHORITY", "TENANT_ID", "ADMIN_CLIENT_ID", "ADMIN_CLIENT_SECRET", "EMULATOR_GRAPH"]
                    .map(|name| self.tenant.variable(name));
            let form = [
                ("grant_type", "client_credentials"),
                ("client_id", client),
                ("client_secret", secret),
                ("scope", "https://graph.microsoft.com/.default"),
            ];
            let answer = http.post(format!("{authority}/{tenant}/oauth2/v2.0/token")).form(&form).send().await;
            let answer: Value = answer.expect("the login host answers").json().await.expect("with JSON");
            let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned();
            let method = method.parse().expect("an HTTP method");
            let mut request = http.request(method, format!("{graph}{path}")).bearer_auth(token);
            if !body.is_null() {
                request = request.json(body);
            }
            let answer = request.send().await.expect("Graph answers");
            let status = answer.status().as_u16();
            let text = answer.text().await.expect("with a body");
            assert_eq!(status, expected, "{path}: {text}");
            serde_json::from_str(&text).unwrap_or_default()
        })
    }
}

/// A word as one would type it.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+,".contains(c);
    if word == HOSTS {
        "[hosts of the emulator]".to_owned()
    } else if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{word}'")
    }
}

/// What differs from run to run, by its shape.
const MASKS: &[(&str, &str)] = &[
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "[id]"),
    (r"<[0-9a-f]{32}@", "<[message id]@"),
    (r"\b[0-9A-F]{40}\b", "[thumbprint]"),
    (r"certificate [0-9A-F]{8}…", "certificate [8 of it]…"),
    (r"\b20[23]\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
    (r"\b20[23]\d-\d\d-\d\d \d\d:\d\d(:\d\d)?( UTC|Z)", "[time]"),
    (r"\b20[23]\d-\d\d-\d\d\b", "[day]"),
    (r"\b\d+ passed,", "[number] passed,"),
    (r"until \d\d:\d\d UTC", "until [time]"),
    (r"sent at \d\d:\d\d:\d\d UTC", "sent at [time]"),
    (r"days_left: \d+", "days_left: [number]"),
    (r"\d+ days left", "[number] days left"),
    (r"secret \S{3}…", "secret [3 of it]…"),
    // A boundary's length is random.
    (r"\b5,?74\d,?\d{3} bytes", "[5.74 million] bytes"),
    (r"free: [\d.]+ [kMGT]B", "free: [size]"),
    // What postkey makes itself.
    (r"\b([a-z2-9]{7}-){3}[a-z2-9]{7}\b", "[password]"),
    (r"\bpk_[a-z2-9]{32}\b", "[API key]"),
    (r"\b\S+/[0-9a-f]{12}\b", "[node]"),
    // Ages, and the clock of a timeline.
    (r"(just now|\d+ (s|min) ago)", "[a moment ago]"),
    (r"  \d+ s  ", "  [age]  "),
    (r"\(in \d+ (d|h|min|s)\)", "([so long])"),
    (r" \d\d:\d\d:\d\d\.\d{3} +(\+\d+ (ms|s))? ", " [clock] "),
];
