//! What the tests need from the machine, and how it gets there: by apt when root on Debian, by a person otherwise.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::guardian::Guardian;
use crate::run::{find_program, run};

/// Which part of the tests asks for a thing; a part that is skipped needs nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Postgres,
    Clients,
    /// Other mail servers, and what kills postkey at a system call.
    Servers,
}

/// How to tell whether a thing is here.
enum Seen {
    OnPath(&'static str),
    /// Not on everybody's path.
    File(&'static str),
    By(fn() -> bool),
}

/// Each thing a test starts, how to see it, and the Debian package that brings it.
const NEEDS: &[(Part, &str, Seen, &str)] = &[
    (Part::Postgres, "PostgreSQL's server", Seen::By(|| postgres_programs().is_some()), "postgresql-15"),
    (Part::Clients, "curl", Seen::OnPath("curl"), "curl"),
    (Part::Clients, "msmtp", Seen::OnPath("msmtp"), "msmtp"),
    (Part::Clients, "mutt", Seen::OnPath("mutt"), "mutt"),
    (Part::Clients, "Node.js", Seen::OnPath("node"), "nodejs"),
    (Part::Clients, "npm", Seen::OnPath("npm"), "npm"),
    (Part::Clients, "openssl", Seen::OnPath("openssl"), "openssl"),
    (Part::Clients, "swaks", Seen::OnPath("swaks"), "swaks"),
    (Part::Clients, "s-nail", Seen::OnPath("s-nail"), "s-nail"),
    (Part::Clients, "PHP", Seen::OnPath("php"), "php-cli"),
    (Part::Clients, "Java with its compiler", Seen::OnPath("javac"), "default-jdk-headless"),
    (Part::Clients, "Java Mail", Seen::File("/usr/share/java/javax.mail.jar"), "libmail-java"),
    (Part::Clients, "Python 3 with venv", Seen::By(python_makes_environments), "python3-venv"),
    (Part::Servers, "Postfix", Seen::File("/usr/sbin/postfix"), "postfix"),
    (Part::Servers, "Dovecot", Seen::File("/usr/sbin/dovecot"), "dovecot-core"),
    (Part::Servers, "strace", Seen::OnPath("strace"), "strace"),
];

/// Makes sure all that the given parts need is here.
pub(crate) fn ensure(guardian: &Guardian, parts: &[Part]) -> Outcome {
    let missing = missing(parts);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    if rustix::process::geteuid().is_root() && find_program("apt-get").is_some() {
        apt(guardian, &["update", "-qq"])?;
        let options = ["install", "-qq", "--yes", "--no-install-recommends"];
        apt(guardian, &[&options, packages.as_slice()].concat())?;
    }
    let missing = self::missing(parts);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(what, _)| *what).collect();
    Err(format!(
        "missing: {}\non Debian or Ubuntu: sudo apt-get install --no-install-recommends {}",
        names.join(", "),
        packages.join(" ")
    ))
}

fn missing(parts: &[Part]) -> Vec<(&'static str, &'static str)> {
    let here = |seen: &Seen| match seen {
        Seen::OnPath(name) => find_program(name).is_some(),
        Seen::File(path) => Path::new(path).is_file(),
        Seen::By(check) => check(),
    };
    let needed = NEEDS.iter().filter(|(part, _, seen, _)| parts.contains(part) && !here(seen));
    needed.map(|(_, what, _, package)| (*what, *package)).collect()
}

fn apt(guardian: &Guardian, words: &[&str]) -> Outcome {
    let mut apt = Command::new("apt-get");
    // In run level 1 Debian's scripts start no service: the tests start their own servers and want no other.
    apt.args(words).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    run(guardian, &mut apt)
}

/// The folder of PostgreSQL's server programs: Debian keeps them off the path, one folder per version. 15 is the
/// version the project promises; a newer one serves where there is no 15.
pub(crate) fn postgres_programs() -> Option<PathBuf> {
    let debian = (15..=20).map(|version| Path::new("/usr/lib/postgresql").join(version.to_string()).join("bin"));
    let on_path = find_program("initdb").and_then(|program| program.parent().map(Path::to_path_buf));
    debian.chain(on_path).find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

/// Debian splits `ensurepip` off into python3-venv; without it an environment gets no pip.
fn python_makes_environments() -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", "import venv, ensurepip"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
}
