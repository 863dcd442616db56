//! Looks for secrets in whatever a program leaves behind: as they are, and in the spellings a leak would have.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Long enough that chance does not produce it, short enough that a cut log line still shows it.
const WINDOW: usize = 16;

/// What is looked for.
#[derive(Default)]
pub(crate) struct Needles {
    windows: HashMap<[u8; WINDOW], String>,
}

impl Needles {
    /// A text that must be found nowhere: a secret, a password, a token.
    pub(crate) fn text(&mut self, name: &str, secret: &str) {
        assert!(secret.len() >= WINDOW, "{name} is too short to tell from chance");
        // A token's head says how it is signed and its middle whom it is for; its signature is what makes it one.
        let from = if secret.starts_with("eyJ") { secret.len() / 2 } else { 0 };
        self.bytes(name, secret.as_bytes(), from, WINDOW);
        let escaped = secret.bytes().fold(String::new(), |mut escaped, byte| {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => escaped.push(char::from(byte)),
                other => write!(escaped, "%{other:02X}").expect("a string takes everything"),
            }
            escaped
        });
        self.windows_of(name, "in a form", escaped.as_bytes(), from, WINDOW);
    }

    /// Bytes that must be found nowhere, from an offset on.
    pub(crate) fn bytes(&mut self, name: &str, secret: &[u8], from: usize, step: usize) {
        self.windows_of(name, "as it is", secret, from, step);
        // Inside other text the same bytes look different for each remainder of three.
        for shift in 0..3 {
            let encoded = STANDARD.encode([&b"\0\0\0"[..shift], secret].concat());
            let from = (from + shift) * 4 / 3 + 4;
            self.windows_of(name, "in base64", encoded.trim_end_matches('=').as_bytes(), from, step);
            let for_addresses = encoded.replace('+', "-").replace('/', "_");
            self.windows_of(name, "in base64url", for_addresses.trim_end_matches('=').as_bytes(), from, step);
        }
        let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        self.windows_of(name, "in hexadecimal", hexadecimal.as_bytes(), from * 2, step);
        self.windows_of(name, "in hexadecimal", hexadecimal.to_uppercase().as_bytes(), from * 2, step);
        let listed = |from: usize| format!("{:?}", &secret[from.min(secret.len())..]);
        self.windows_of(name, "as a list of numbers", listed(from).trim_matches(['[', ']']).as_bytes(), 0, step * 4);
    }

    fn windows_of(&mut self, name: &str, spelling: &str, text: &[u8], from: usize, step: usize) {
        // The last window is left out where padding or the next bytes would change it.
        let mut at = from;
        while let Some(window) = text.get(at..at + WINDOW) {
            let window = window.try_into().expect("it is as long as a window");
            self.windows.entry(window).or_insert_with(|| format!("{name} {spelling}"));
            at += step;
        }
    }

    /// What of it these bytes hold.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let windows = bytes.windows(WINDOW);
        windows.filter_map(|window| self.windows.get(window)).map(String::as_str).collect()
    }

    /// What the files below a folder hold of it, by file. How many files there are comes along.
    pub(crate) fn found_below(&self, folder: &Path) -> (BTreeMap<String, BTreeSet<&str>>, usize) {
        let mut found = BTreeMap::new();
        let mut seen = 0;
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("the folder is readable") {
                let path = entry.expect("the folder is readable").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                seen += 1;
                let here = self.found_in(&std::fs::read(&path).expect("the file is readable"));
                if !here.is_empty() {
                    found.insert(path.display().to_string(), here);
                }
            }
        }
        (found, seen)
    }
}

#[test]
fn a_secret_is_found_in_every_spelling() {
    let secret = "abc8Q~defghijklmnopqrstuvwxyz.0123456789";
    let mut needles = Needles::default();
    needles.text("the secret", secret);
    let encoded = |before: &str| STANDARD.encode(format!("user=\u{1}{before}{secret}\u{1}\u{1}"));
    let hexadecimal: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    for text in [
        format!("client_secret={secret}&x"),
        format!("client_secret={}&x", secret.replace('~', "%7E")),
        encoded(""),
        encoded("1"),
        encoded("12"),
        hexadecimal.clone(),
        hexadecimal.to_uppercase(),
        format!("{:?}", secret.as_bytes()),
        format!("cut off: {}", &secret[..20]),
    ] {
        assert!(!needles.found_in(text.as_bytes()).is_empty(), "{text}");
    }
    assert!(needles.found_in(b"a hint such as abc8Q~ shows nothing").is_empty());
}
