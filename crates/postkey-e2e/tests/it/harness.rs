//! What the stories share: the program under test, and a running emulator with its environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The slowest start seen, a debug build on two busy cores, makes its keys in 3 s.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// The program under test: what `cargo xtask test` names, else what cargo built beside this test.
pub(crate) fn binary() -> PathBuf {
    let named = std::env::var_os("POSTKEY_BINARY").map(PathBuf::from);
    let program = named.unwrap_or_else(|| {
        let test = std::env::current_exe().expect("a running test has a path");
        let folder = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
        folder.join("postkey")
    });
    assert!(program.is_file(), "{} is not built; run: cargo xtask test", program.display());
    program
}

/// A call of the program with none of this machine's settings. A proxy must not come between it and loopback.
pub(crate) fn postkey(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTKEY_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).env("NO_PROXY", "localhost,127.0.0.1").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A running `postkey emulator --env FILE`. Dropping it ends it and removes its folder.
pub(crate) struct Emulator {
    process: Child,
    folder: TempDir,
    environment: BTreeMap<String, String>,
}

impl Emulator {
    /// Starts the emulator in a folder of its own and returns once everything is listening.
    pub(crate) fn start() -> Emulator {
        Emulator::start_with(&[])
    }

    /// The same with more options.
    pub(crate) fn start_with(options: &[&str]) -> Emulator {
        let folder = TempDir::with_prefix("postkey-e2e-").expect("a temporary folder can be made");
        let file = folder.path().join("emulator.env");
        let log = std::fs::File::create(folder.path().join("emulator.log")).expect("the folder is writable");
        let mut command = postkey(&["emulator", "--env"]);
        command.arg(&file).arg("--dir").arg(folder.path().join("emulator")).args(options);
        command.stdout(Stdio::null()).stderr(log);
        let process = command.spawn().expect("the program under test starts");
        let mut emulator = Emulator { process, folder, environment: BTreeMap::new() };
        emulator.wait_for(&file);
        let text = std::fs::read_to_string(&file).expect("the environment file is readable");
        emulator.environment = assignments(&text);
        emulator
    }

    /// The file is renamed into place when all is listening, so its sight is the event.
    fn wait_for(&mut self, file: &Path) {
        let started = Instant::now();
        while !file.exists() {
            if let Ok(Some(status)) = self.process.try_wait() {
                panic!("the emulator ended before it was ready ({status}):\n{}", self.log());
            }
            assert!(
                started.elapsed() < START_PATIENCE,
                "the emulator is not ready after {START_PATIENCE:?}:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// One of the variables it wrote.
    pub(crate) fn variable(&self, name: &str) -> &str {
        self.environment.get(name).unwrap_or_else(|| panic!("the environment file has no {name}"))
    }

    /// All of them.
    pub(crate) fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// A folder that lives as long as the emulator.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("emulator.log")).unwrap_or_default()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Only this process: it is our child and not yet waited for, so its number is still its own.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the emulator said:\n{}", self.log());
        }
    }
}

/// The variables of a file of shell assignments: `NAME='value'`, a quote inside written as `'\''`.
pub(crate) fn assignments(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{line:?} assigns nothing"));
            let value = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
            let value = value.unwrap_or_else(|| panic!("the value of {name} is not in single quotes"));
            (name.to_owned(), value.replace(r"'\''", "'"))
        })
        .collect()
}

/// What a program said, for the message of a failed test.
pub(crate) fn said(output: &Output) -> String {
    format!("{}\n{}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn shell_quoting_is_undone() {
    let read = assignments("# comment\nA='1 2'\n\nexport B='it'\\''s'\nC=''\n");
    let expected = [("A", "1 2"), ("B", "it's"), ("C", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(read, BTreeMap::from(expected));
}
