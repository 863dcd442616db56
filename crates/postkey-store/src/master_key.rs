//! The master key: versions of 32 random bytes, kept outside the store; the newest seals, all open.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use postkey_base::{Diagnose, Who};
use zeroize::Zeroizing;

/// Where the master key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file of mode 0600, one line per version; the only source that [`rotate_master_key`](crate::rotate_master_key) can write.
    File(PathBuf),
    /// The name of an environment variable that holds the lines (separated by line ends, blanks or commas).
    Environment(String),
    /// A file below `$CREDENTIALS_DIRECTORY`, put there by systemd, which guards it by its own means.
    SystemdCredential(PathBuf),
}

impl KeySource {
    /// `POSTKEY_MASTER_KEY`, where a container gets its key from.
    pub const VARIABLE: &'static str = "POSTKEY_MASTER_KEY";
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::SystemdCredential(path) => path.display().fmt(f),
            Self::Environment(name) => write!(f, "${name}"),
        }
    }
}

/// Why there is no usable master key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not there.
    #[error("there is no master key at {from}")]
    Missing {
        /// Where it was looked for.
        from: KeySource,
    },
    /// There, but it could not be read or written.
    #[error("the master key at {} cannot be read or written", path.display())]
    Io {
        /// The file or its folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Others may read it.
    #[error("the master key at {} may be read by others than its owner (mode {mode:04o})", path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A line that is no key. The line itself is not repeated.
    #[error("line {line} of the master key at {from} makes no sense: {problem}")]
    Malformed {
        /// Which key.
        from: KeySource,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// No line at all.
    #[error("the master key at {from} is empty")]
    Empty {
        /// Which key.
        from: KeySource,
    },
}

impl Diagnose for KeyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "master_key.missing",
            Self::Io { .. } => "master_key.unreadable",
            Self::OpenToOthers { .. } => "master_key.open_to_others",
            Self::Malformed { .. } => "master_key.malformed",
            Self::Empty { .. } => "master_key.empty",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Missing { from } => {
                format!(
                    "Restore the master key to {from} from where it is kept; a store that exists opens with no other."
                )
            }
            Self::Io { path, .. } => format!("Let the user that runs postkey own {} and its folder.", path.display()),
            Self::OpenToOthers { path, .. } => {
                format!(
                    "Run `chmod 600 {}`; if others may have read it, run `postkey key rotate` as well.",
                    path.display()
                )
            }
            Self::Malformed { .. } | Self::Empty { .. } => {
                "Restore it from where it is kept: one line per version, a number, a colon and 32 bytes in Base64."
                    .into()
            }
        }
    }

    fn who(&self) -> Who {
        Who::You
    }
}

/// One version of the key.
#[derive(Clone)]
pub(crate) struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl Key {
    fn random() -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(bytes.as_mut_slice());
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// All versions of the master key. Prints as nothing but its version numbers.
#[derive(Clone)]
pub struct MasterKeys {
    versions: BTreeMap<u32, Key>,
    source: Option<KeySource>,
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKeys(versions {:?})", self.versions.keys().collect::<Vec<_>>())
    }
}

impl MasterKeys {
    /// Reads the key. A file that others may read is refused.
    pub fn load(source: KeySource) -> Result<Self, KeyError> {
        let text = match &source {
            KeySource::File(path) => {
                let text = read(path, &source)?;
                let mode =
                    std::fs::metadata(path).map_err(|cause| io_error(path, cause))?.permissions().mode() & 0o7777;
                if mode & 0o077 != 0 {
                    return Err(KeyError::OpenToOthers { path: path.clone(), mode });
                }
                text
            }
            KeySource::SystemdCredential(path) => read(path, &source)?,
            KeySource::Environment(name) => match std::env::var(name) {
                Ok(text) => Zeroizing::new(text),
                Err(_) => return Err(KeyError::Missing { from: source }),
            },
        };
        Ok(Self { versions: parse(&text, &source)?, source: Some(source) })
    }

    /// Makes a fresh key file unless there is one: mode 0600 in a folder of mode 0700, durable before this returns.
    /// `true` if it was made.
    pub fn create_file_if_missing(path: &Path) -> Result<bool, KeyError> {
        if path.exists() {
            return Ok(false);
        }
        let folder = folder_of(path);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|cause| io_error(folder, cause))?;
        write_durably(path, &Self::fresh(), Overwrite::Never)
    }

    /// A key that lives in memory only: for tests and for a store that is thrown away.
    pub fn fresh() -> Self {
        Self { versions: BTreeMap::from([(1, Key::random())]), source: None }
    }

    /// The versions there are, oldest first; never none.
    pub fn versions(&self) -> Vec<u32> {
        self.versions.keys().copied().collect()
    }

    /// The version that seals.
    pub fn newest(&self) -> u32 {
        self.versions.last_key_value().map_or(0, |(version, _)| *version)
    }

    /// Where the key came from, if from anywhere.
    pub fn source(&self) -> Option<&KeySource> {
        self.source.as_ref()
    }

    pub(crate) fn key(&self, version: u32) -> Option<&Key> {
        self.versions.get(&version)
    }

    /// The same key with one more version.
    pub(crate) fn with_new_version(&self) -> Self {
        let mut versions = self.versions.clone();
        versions.insert(self.newest() + 1, Key::random());
        Self { versions, source: self.source.clone() }
    }

    /// The same key without the versions that nothing uses any more.
    pub(crate) fn only_newest(&self) -> Self {
        let newest = self.newest();
        let versions = self.versions.iter().filter(|(version, _)| **version == newest);
        Self { versions: versions.map(|(version, key)| (*version, key.clone())).collect(), source: self.source.clone() }
    }

    /// Puts these versions into the file, durable before this returns: at every moment the file is the old one or the new one.
    pub(crate) fn replace_file(&self, path: &Path) -> Result<(), KeyError> {
        // Where the path is a link, the file that it leads to is replaced, not the link.
        let target = path.canonicalize().map_err(|cause| io_error(path, cause))?;
        write_durably(&target, self, Overwrite::Always).map(drop)
    }

    fn lines(&self) -> Zeroizing<String> {
        // Room for every line, so that no shorter copy is left behind in memory.
        let mut text = Zeroizing::new(String::with_capacity(self.versions.len() * LINE_BYTES));
        for (version, key) in &self.versions {
            text.push_str(&format!("{version}:"));
            BASE64.encode_string(key.bytes(), &mut text);
            text.push('\n');
        }
        text
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Overwrite {
    Never,
    Always,
}

/// Writes a sibling first and puts it in place when it is durable. `false` if the file is there and may not be replaced.
fn write_durably(path: &Path, keys: &MasterKeys, overwrite: Overwrite) -> Result<bool, KeyError> {
    let folder = folder_of(path);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let draft = folder.join(format!(".{name}.{}", uuid::Uuid::new_v4().simple()));
    let outcome = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(keys.lines().as_bytes())?;
        file.sync_all()?;
        match overwrite {
            Overwrite::Always => std::fs::rename(&draft, path)?,
            // A link, unlike a rename, never replaces a key that another process made meanwhile.
            Overwrite::Never => match std::fs::hard_link(&draft, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                linked => linked?,
            },
        }
        std::fs::File::open(folder)?.sync_all()?;
        Ok(true)
    })();
    if overwrite == Overwrite::Never || outcome.is_err() {
        // A draft that cannot be removed hurts nobody but the tidy: it is 0600 too.
        let _ = std::fs::remove_file(&draft);
    }
    outcome.map_err(|cause| io_error(path, cause))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn read(path: &Path, source: &KeySource) -> Result<Zeroizing<String>, KeyError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Err(KeyError::Missing { from: source.clone() }),
        Err(cause) => Err(io_error(path, cause)),
    }
}

fn io_error(path: &Path, cause: io::Error) -> KeyError {
    KeyError::Io { path: path.to_owned(), cause }
}

fn parse(text: &str, source: &KeySource) -> Result<BTreeMap<u32, Key>, KeyError> {
    let mut versions = BTreeMap::new();
    let lines = text.split(|c: char| c.is_whitespace() || c == ',').filter(|line| !line.is_empty());
    for (index, line) in lines.enumerate() {
        let malformed = |problem| KeyError::Malformed { from: source.clone(), line: index + 1, problem };
        let (version, key) = line.split_once(':').ok_or_else(|| malformed("there is no colon"))?;
        let version: u32 = version.parse().map_err(|_| malformed("what stands before the colon is no number"))?;
        let decoded =
            Zeroizing::new(BASE64.decode(key).map_err(|_| malformed("what follows the colon is not Base64"))?);
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if decoded.len() != KEY_BYTES {
            return Err(malformed("the key is not 32 bytes long"));
        }
        bytes.copy_from_slice(&decoded);
        if versions.insert(version, Key(bytes)).is_some() {
            return Err(malformed("the version stands there twice"));
        }
    }
    if versions.is_empty() {
        return Err(KeyError::Empty { from: source.clone() });
    }
    Ok(versions)
}

/// XChaCha20-Poly1305 takes 256 bits.
const KEY_BYTES: usize = 32;

/// Ten digits, a colon, 44 characters of Base64, a line end.
const LINE_BYTES: usize = 56;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    #[test]
    fn only_numbered_lines_of_32_bytes_are_a_key_and_no_message_repeats_one() {
        for (text, wanted) in [
            (format!("1:{GOOD}\n"), Ok(vec![1])),
            (format!("2:{GOOD}\n1:{GOOD}\n\n"), Ok(vec![1, 2])),
            (format!("1:{GOOD},2:{GOOD}"), Ok(vec![1, 2])),
            (GOOD.to_owned(), Err("master_key.malformed")),
            (format!("one:{GOOD}"), Err("master_key.malformed")),
            (format!("1:{}", &GOOD[4..]), Err("master_key.malformed")),
            (format!("1:{GOOD} 1:{GOOD}"), Err("master_key.malformed")),
            ("1:hush!".to_owned(), Err("master_key.malformed")),
            (" \n".to_owned(), Err("master_key.empty")),
        ] {
            let parsed = parse(&text, &KeySource::Environment("POSTKEY_MASTER_KEY".into()));
            if let Err(error) = &parsed {
                assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
            }
            let versions = parsed.map(|versions| versions.keys().copied().collect::<Vec<_>>());
            assert_eq!(versions.map_err(|error| error.code()), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_key_file_is_made_once_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/master.key");
        assert!(MasterKeys::create_file_if_missing(&path).unwrap());
        let first = std::fs::read(&path).unwrap();
        assert!(!MasterKeys::create_file_if_missing(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), first);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");

        let keys = MasterKeys::load(KeySource::File(path.clone())).unwrap();
        assert_eq!(format!("{keys:?}"), "MasterKeys(versions [1])");

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = MasterKeys::load(KeySource::File(path.clone())).unwrap_err();
        assert_eq!(refused.code(), "master_key.open_to_others");
        let missing = MasterKeys::load(KeySource::File(folder.path().join("none"))).unwrap_err();
        assert_eq!(missing.code(), "master_key.missing");
    }
}
