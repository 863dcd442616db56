//! Secrets at rest: XChaCha20-Poly1305, bound to table, row, column and key version, so a moved ciphertext does not open.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

use crate::{Location, MasterKeys, StoreError};

/// Where a sealed value stands. Part of what is authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) table: &'static str,
    pub(crate) row: String,
    pub(crate) column: &'static str,
}

impl Place {
    /// No part can hold the separator: tables and columns are ours, rows are GUIDs, numbers and our own names.
    fn associated(&self, version: u32) -> String {
        format!("{}|{}|{}|{version}", self.table, self.row, self.column)
    }

    /// Seals under the newest version: `version:base64(nonce, ciphertext, tag)`.
    pub(crate) fn seal(&self, keys: &MasterKeys, plain: &[u8]) -> String {
        let version = keys.newest();
        let key = keys.key(version).expect("the newest version is one of the versions");
        let mut sealed = vec![0; NONCE_BYTES];
        rand::fill(&mut sealed[..]);
        let nonce = XNonce::try_from(&sealed[..]).expect("the nonce was made with its length");
        let associated = self.associated(version);
        let payload = Payload { msg: plain, aad: associated.as_bytes() };
        let text = XChaCha20Poly1305::new(key.bytes().into())
            .encrypt(&nonce, payload)
            .expect("only a message of more than 256 GiB fails to seal");
        sealed.extend_from_slice(&text);
        format!("{version}:{}", BASE64.encode(sealed))
    }

    /// Opens what was sealed here.
    pub(crate) fn open(
        &self,
        keys: &MasterKeys,
        location: &Location,
        sealed: &str,
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let nonsense = || StoreError::Row {
            table: self.table,
            id: self.row.clone(),
            column: self.column,
            problem: "it is not a sealed value".into(),
        };
        let version = version_of(sealed).ok_or_else(nonsense)?;
        let key = keys.key(version).ok_or_else(|| StoreError::MissingKey { location: location.clone(), version })?;
        let bytes = sealed.split_once(':').and_then(|(_, text)| BASE64.decode(text).ok()).ok_or_else(nonsense)?;
        let (nonce, text) = bytes.split_at_checked(NONCE_BYTES).ok_or_else(nonsense)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| nonsense())?;
        let associated = self.associated(version);
        XChaCha20Poly1305::new(key.bytes().into())
            .decrypt(&nonce, Payload { msg: text, aad: associated.as_bytes() })
            .map(Zeroizing::new)
            .map_err(|_| StoreError::Sealed { table: self.table, id: self.row.clone(), column: self.column, version })
    }
}

/// The key version that a sealed value names.
pub(crate) fn version_of(sealed: &str) -> Option<u32> {
    sealed.split_once(':')?.0.parse().ok()
}

/// XChaCha20's nonce: long enough to be random for every value.
const NONCE_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(table: &'static str, row: &str, column: &'static str) -> Place {
        Place { table, row: row.into(), column }
    }

    #[test]
    fn a_sealed_value_opens_only_where_it_was_sealed() {
        let keys = MasterKeys::fresh();
        let location = Location::Sqlite("x.db".into());
        let here = place("credentials", "a", "secret");
        let sealed = here.seal(&keys, b"hush");
        assert!(!sealed.contains("hush") && sealed.starts_with("1:"));
        assert_eq!(here.open(&keys, &location, &sealed).unwrap().as_slice(), b"hush");
        assert_ne!(here.seal(&keys, b"hush"), sealed, "every nonce is another");

        let renamed = sealed.replacen("1:", "2:", 1);
        let flipped = if sealed.as_bytes()[40] == b'A' { "B" } else { "A" };
        let altered = format!("{}{flipped}{}", &sealed[..40], &sealed[41..]);
        for (elsewhere, text, keys) in [
            (place("senders", "a", "secret"), &sealed, keys.clone()),
            (place("credentials", "b", "secret"), &sealed, keys.clone()),
            (place("credentials", "a", "private_key"), &sealed, keys.clone()),
            (here.clone(), &sealed, MasterKeys::fresh()),
            (here.clone(), &renamed, keys.with_new_version()),
            (here.clone(), &altered, keys.clone()),
            (here.clone(), &"1:AAAA".to_owned(), keys.clone()),
        ] {
            assert!(elsewhere.open(&keys, &location, text).is_err(), "{elsewhere:?} {text}");
        }
    }
}
