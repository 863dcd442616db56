//! One `postkey serve` a data folder: a lock that ends with the process, however it ends; and the node's name.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use postkey_base::Who;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use uuid::Uuid;

use crate::failure::Failure;

/// Held as long as it lives.
#[derive(Debug)]
pub(crate) struct ServeLock {
    _file: File,
}

impl ServeLock {
    /// Takes the lock of a data folder, or says who has it.
    pub(crate) fn take(data: &Path, now: Timestamp) -> Result<Self, Failure> {
        let path = data.join("serve.lock");
        let failed = |cause| Failure::file(&path, "locked", cause);
        // With a database elsewhere nothing has made the folder yet.
        DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(failed)?;
        // Never truncated before the lock is ours: the holder's words are in it.
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(held(&path, &mut file)),
            Err(error) => return Err(failed(error.into())),
        }
        let words = format!("process {} since {}\n", std::process::id(), now.strftime("%Y-%m-%d %H:%M:%S UTC"));
        file.set_len(0).and_then(|()| file.write_all(words.as_bytes())).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

impl ServeLock {
    /// Whether a server runs on a data folder.
    pub(crate) fn is_held(data: &Path) -> bool {
        let Ok(file) = File::open(data.join("serve.lock")) else { return false };
        // A shared lock keeps nobody out for longer than this look.
        matches!(flock(&file, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK))
    }
}

fn held(path: &Path, file: &mut File) -> Failure {
    /// The holder writes one line.
    const LIMIT: u64 = 200;
    let mut words = String::new();
    let _ = file.rewind().and_then(|()| file.take(LIMIT).read_to_string(&mut words));
    let holder = match words.trim() {
        "" => "another process".to_owned(),
        words => words.to_owned(),
    };
    Failure::new(
        "serve.running",
        format!("postkey already serves this folder: {holder} holds {}", path.display()),
        "Stop it first, or give this one a folder of its own with --dir. Every other command works beside it.",
        Who::You,
    )
}

/// The name under which this node holds what it works on. One that was not given is the machine's name with an id that
/// stays in the data folder: two folders on one machine are two nodes.
pub(crate) fn node_name(given: Option<&str>, data: &Path) -> Result<String, Failure> {
    if let Some(name) = given {
        return Ok(name.to_owned());
    }
    let path: PathBuf = data.join("node");
    let kept = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<Uuid>().ok(),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => None,
        Err(cause) => return Err(Failure::file(&path, "read", cause)),
    };
    let id = match kept {
        Some(id) => id,
        None => {
            let id = Uuid::new_v4();
            std::fs::write(&path, format!("{id}\n")).map_err(|cause| Failure::file(&path, "written to", cause))?;
            id
        }
    };
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(format!("{machine}/{}", id.simple().to_string().split_at(12).0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_served_once_and_the_second_learns_by_whom() {
        let folder = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let first = ServeLock::take(folder.path(), now).unwrap();
        let refused = ServeLock::take(folder.path(), now).unwrap_err().diagnosis.what.clone();
        assert!(
            refused.contains(&format!("process {} since 2026-11-24 10:00:00 UTC", std::process::id())),
            "{refused}"
        );
        drop(first);
        assert!(!ServeLock::is_held(folder.path()));
        assert!(ServeLock::take(folder.path(), now).is_ok());
    }

    #[test]
    fn a_node_keeps_its_name_and_two_folders_are_two_nodes() {
        let [one, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let name = node_name(None, one.path()).unwrap();
        assert_eq!(node_name(None, one.path()).unwrap(), name);
        assert_ne!(node_name(None, other.path()).unwrap(), name);
        assert_eq!(node_name(Some("mail-1"), one.path()).unwrap(), "mail-1");
    }
}
