//! Files that tell other programs where everything is: written whole or not at all.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

/// Shell assignments, one a line, each value in single quotes.
pub fn assignments(variables: &[(String, String)]) -> String {
    variables.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect()
}

/// A value in single quotes for a POSIX shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

/// Writes assignments to a file that only its owner may read; whoever sees the file sees all of it.
pub fn write(path: &Path, variables: &[(String, String)]) -> io::Result<()> {
    // A pipe or a device is written to; renaming a file over /dev/null would be the end of it.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return fs::write(path, assignments(variables));
    }
    replace(path, assignments(variables).as_bytes(), 0o600)
}

/// Puts a file in place in one step, with this mode.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = path.with_file_name(name);
    let written = create(&fresh, mode).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    });
    if written.is_err() {
        // Best effort: the error that counts is the first one.
        let _ = fs::remove_file(&fresh);
    }
    written
}

#[cfg(unix)]
fn create(path: &Path, mode: u32) -> io::Result<fs::File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    // A leftover of a crashed run keeps its old mode otherwise.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}

#[cfg(not(unix))]
fn create(path: &Path, _mode: u32) -> io::Result<fs::File> {
    OpenOptions::new().write(true).create(true).truncate(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_written() {
        let odd = "it's $HOME `x` \"y\" \\ z\n2";
        assert_eq!(quoted("plain"), "'plain'");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        write(&path, &[("ODD".to_owned(), odd.to_owned())]).unwrap();
        let script = format!(". '{}'; printf %s \"$ODD\"", path.display());
        let said = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), odd);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "old").unwrap();
        write(&path, &[]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
