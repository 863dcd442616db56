//! Generated passwords and API keys: shown once, kept as HMAC-SHA-256 under a key that lies sealed in the store.
//!
//! Nobody chooses them, so no slow hash is needed: 2^138 guesses are out of reach, with the key or without.

use std::{fmt, sync::Arc};

use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The text of a generated password or API key, to be shown once. `Debug` prints nothing of it.
#[derive(Clone)]
pub struct LocalPassword(Arc<Zeroizing<String>>);

impl LocalPassword {
    /// The text, for the one who will type it. Every call of this method is a place to audit.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LocalPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalPassword(..)")
    }
}

/// What is kept of a password or an API key.
pub type SecretMac = [u8; 32];

/// A fresh password of 138 bits and what the store keeps of it: four groups of seven, 31 characters in all, so that it fits
/// the 32 that old devices take, and can be read from one screen and typed at another.
pub fn new_password(key: &[u8; 32]) -> (LocalPassword, SecretMac) {
    let mut text = Zeroizing::new(String::with_capacity(GROUPS * (GROUP + 1)));
    for group in 0..GROUPS {
        if group > 0 {
            text.push('-');
        }
        push_random(&mut text, GROUP);
    }
    let mac = password_mac(key, &text);
    (LocalPassword(Arc::new(text)), mac)
}

/// A fresh API key of 158 bits, `pk_…`, and what the store keeps of it.
pub fn new_api_key(key: &[u8; 32]) -> (LocalPassword, SecretMac) {
    let mut text = Zeroizing::new(String::with_capacity(API_KEY_PREFIX.len() + API_KEY_LENGTH));
    text.push_str(API_KEY_PREFIX);
    push_random(&mut text, API_KEY_LENGTH);
    let mac = api_key_mac(key, &text);
    (LocalPassword(Arc::new(text)), mac)
}

/// What is kept of a password. Typed without the hyphens, with blanks or in capitals it is the same one.
pub fn password_mac(key: &[u8; 32], text: &str) -> SecretMac {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    plain.extend(text.chars().filter(|c| *c != '-' && *c != ' ').map(|c| c.to_ascii_lowercase()));
    started(key, b"password", plain.as_bytes()).finalize().into_bytes().into()
}

/// What is kept of an API key.
pub fn api_key_mac(key: &[u8; 32], text: &str) -> SecretMac {
    started(key, b"api key", text.as_bytes()).finalize().into_bytes().into()
}

/// Whether two of them are the same, in a time that does not tell where they differ.
pub(crate) fn same(one: &SecretMac, other: &SecretMac) -> bool {
    one.iter().zip(other).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

/// A password is never an API key, even with the same letters.
fn started(key: &[u8; 32], kind: &[u8], text: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(kind);
    mac.update(&[0]);
    mac.update(text);
    mac
}

fn push_random(text: &mut String, count: usize) {
    let mut random = rand::rng();
    for _ in 0..count {
        text.push(char::from(LETTERS[random.random_range(0..LETTERS.len())]));
    }
}

/// What every API key begins with, so that one that leaked into a log is found by searching for it.
pub const API_KEY_PREFIX: &str = "pk_";
/// No letter that looks like another or like a digit: `i`, `l`, `o`, `0` and `1` are missing. 4.95 bits each.
const LETTERS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
const GROUPS: usize = 4;
const GROUP: usize = 7;
const API_KEY_LENGTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn a_password_is_accepted_as_people_type_it_and_nothing_else_is() {
        let (password, mac) = new_password(&KEY);
        let text = password.expose();
        let other = if text.starts_with('a') { 'b' } else { 'a' };
        for (typed, good) in [
            (text.to_owned(), true),
            (text.replace('-', ""), true),
            (text.replace('-', " "), true),
            (text.to_uppercase(), true),
            (format!("{other}{}", &text[1..]), false),
            (text[..text.len() - 1].to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(same(&password_mac(&KEY, &typed), &mac), good, "{typed:?}");
        }
        assert!(!same(&password_mac(&[8; 32], text), &mac), "another installation's key");
        assert!(!same(&api_key_mac(&KEY, &text.replace('-', "")), &mac), "a password is no API key");
    }

    #[test]
    fn what_is_generated_holds_128_bits_fits_old_devices_and_prints_nothing() {
        let (password, _) = new_password(&KEY);
        assert_eq!(password.expose().len(), 31);
        assert!((GROUPS * GROUP) as f64 * (LETTERS.len() as f64).log2() >= 128.0);
        let (key, mac) = new_api_key(&KEY);
        assert!(key.expose().starts_with("pk_"));
        assert!(same(&api_key_mac(&KEY, key.expose()), &mac));
        assert_ne!(new_password(&KEY).0.expose(), password.expose());
        assert_eq!(format!("{password:?} {key:?}"), "LocalPassword(..) LocalPassword(..)");
    }
}
