//! Running other programs: in process groups of their own, known to the guardian, with their time taken.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::guardian::Guardian;

/// The folder of the workspace, whatever the current one is.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies inside the workspace").to_path_buf()
}

/// Cargo's target folder, where everything built or installed for tests lies.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => workspace().join(folder),
        None => workspace().join("target"),
    }
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    // Set by the `cargo run` around us for our own package; they would make every crate look changed.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Finds a program the way a shell would.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What the tasks share: the guardian, and how long each stage took.
pub(crate) struct Stages {
    pub(crate) guardian: Guardian,
    durations: Vec<(String, Duration)>,
}

impl Stages {
    pub(crate) fn start() -> Outcome<Stages> {
        Ok(Stages { guardian: Guardian::start()?, durations: Vec::new() })
    }

    /// Runs one named stage and takes its time.
    pub(crate) fn stage<T>(&mut self, name: &str, work: impl FnOnce(&Guardian) -> Outcome<T>) -> Outcome<T> {
        eprintln!("── {name}");
        let started = Instant::now();
        let outcome = work(&self.guardian);
        self.durations.push((name.to_owned(), started.elapsed()));
        outcome.map_err(|reason| format!("{name}: {reason}"))
    }

    /// The durations, one line per stage.
    pub(crate) fn report(&self) -> String {
        let lines = self.durations.iter().map(|(name, took)| format!("{:>8.1} s  {name}\n", took.as_secs_f64()));
        let total: Duration = self.durations.iter().map(|(_, took)| *took).sum();
        lines.collect::<String>() + &format!("{:>8.1} s  in all\n", total.as_secs_f64())
    }
}

/// Runs a program to its end with our own output; anything but success is an error.
pub(crate) fn run(guardian: &Guardian, command: &mut Command) -> Outcome {
    let status = watched(guardian, command.stdin(Stdio::null()), |_| ())?.0;
    succeeded(command, status)
}

/// Runs a program to its end and returns what it wrote to standard output.
pub(crate) fn output(guardian: &Guardian, command: &mut Command) -> Outcome<String> {
    let (status, text) = watched(guardian, command.stdin(Stdio::null()).stdout(Stdio::piped()), |child| {
        let mut text = String::new();
        let pipe = child.stdout.as_mut().expect("standard output was made a pipe above");
        pipe.read_to_string(&mut text).map(|_| text)
    })?;
    succeeded(command, status)?;
    text.map_err(|e| format!("{} wrote something that is no text: {e}", shown(command)))
}

/// Runs a program to its end, passes its output on line by line, and shows each line to `look` as well.
pub(crate) fn run_and_look(
    guardian: &Guardian,
    command: &mut Command,
    look: impl FnMut(&str) + Send,
) -> Outcome<ExitStatus> {
    let look = Mutex::new(look);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (status, ()) = watched(guardian, command, |child| {
        let (out, error) = (child.stdout.take(), child.stderr.take());
        std::thread::scope(|both| {
            both.spawn(|| pass_on(error, &mut std::io::stderr(), &look));
            pass_on(out, &mut std::io::stdout(), &look);
        });
    })?;
    Ok(status)
}

fn pass_on(pipe: Option<impl Read>, to: &mut impl Write, look: &Mutex<impl FnMut(&str)>) {
    let Some(pipe) = pipe else { return };
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        // A closed terminal must not stop the tests' clean end.
        let _ = to.write_all(&line);
        let text = without_colour(&String::from_utf8_lossy(&line));
        let mut look = look.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        look(text.trim_end());
        line.clear();
    }
}

/// The line without its `ESC [ … m` sequences.
fn without_colour(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

fn watched<T>(
    guardian: &Guardian,
    command: &mut Command,
    meanwhile: impl FnOnce(&mut std::process::Child) -> T,
) -> Outcome<(ExitStatus, T)> {
    let mut child = command.process_group(0).spawn().map_err(|e| format!("{} does not start: {e}", shown(command)))?;
    guardian.watch_group(child.id());
    let seen = meanwhile(&mut child);
    let status = child.wait();
    guardian.forget_group(child.id());
    Ok((status.map_err(|e| format!("{} cannot be waited for: {e}", shown(command)))?, seen))
}

fn succeeded(command: &Command, status: ExitStatus) -> Outcome {
    if status.success() { Ok(()) } else { Err(format!("{} failed ({status})", shown(command))) }
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::without_colour;

    #[test]
    fn a_coloured_summary_reads_like_a_plain_one() {
        let coloured = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.1s] \u{1b}[1m3\u{1b}[0m tests run";
        assert_eq!(without_colour(coloured), "     Summary [   0.1s] 3 tests run");
    }
}
