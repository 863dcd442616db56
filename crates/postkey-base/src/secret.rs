//! Secrets cannot be printed: no `Display`, no `Serialize`, no `PartialEq`, and one `Debug` for every build profile.
//! Clones of a text share its one place in memory, which is wiped with the last of them.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

macro_rules! text_secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Arc<Zeroizing<String>>);

        impl $name {
            /// Takes the text over; the caller keeps no copy.
            pub fn new(text: String) -> Self {
                Self(Arc::new(Zeroizing::new(text)))
            }

            /// The text for the wire or for sealing. Every call of this method is a place to audit.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

text_secret!(
    /// A client secret as Graph returned it: shown once, never again.
    ClientSecret
);
text_secret!(
    /// A bearer token for Graph or Exchange Online.
    AccessToken
);
text_secret!(
    /// What keeps a user's consent alive.
    RefreshToken
);
text_secret!(
    /// A signed JWT that proves who the app is (RFC 7523); good for minutes, and as good as the key until then.
    ClientAssertion
);

/// A private key, PKCS #8 in DER.
#[derive(Clone)]
pub struct PrivateKeyDer(Zeroizing<Vec<u8>>);

impl PrivateKeyDer {
    /// Takes the bytes over; the caller keeps no copy.
    pub fn new(der: Vec<u8>) -> Self {
        Self(Zeroizing::new(der))
    }

    /// The bytes, for signing or for sealing. Every call of this method is a place to audit.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyDer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyDer(..)")
    }
}

/// Stands where a secret was.
const REMOVED: &[u8] = b"[removed]";

/// What is shorter is no secret of Microsoft's, and may well be a word of the answer.
const SHORTEST: usize = 12;

/// An answer without the secrets it was asked with, as they are and as a form spells them: a gateway's error page may
/// repeat its request, and what an answer says is shown and logged.
pub fn without<'a>(answer: &[u8], secrets: impl IntoIterator<Item = &'a str>) -> Zeroizing<Vec<u8>> {
    let mut clean = Zeroizing::new(answer.to_vec());
    for secret in secrets.into_iter().filter(|secret| secret.len() >= SHORTEST) {
        let in_a_form = Zeroizing::new(in_a_form(secret));
        for spelling in [secret.as_bytes(), in_a_form.as_bytes()] {
            let mut from = 0;
            while let Some(at) = clean[from..].windows(spelling.len()).position(|window| window == spelling) {
                let at = from + at;
                clean.splice(at..at + spelling.len(), REMOVED.iter().copied());
                from = at + REMOVED.len();
            }
        }
    }
    clean
}

/// `application/x-www-form-urlencoded`: everything but letters, digits and `*-._` as `%XX`.
fn in_a_form(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'*' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            b' ' => "+".to_owned(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_loses_the_secrets_it_repeats() {
        for (answer, want) in [
            ("it was abc~defghijkl, twice: abc~defghijkl.", "it was [removed], twice: [removed]."),
            ("client_secret=abc%7Edefghijkl&x=1", "client_secret=[removed]&x=1"),
            ("an error of the kind abc-defghijkl", "an error of the kind abc-defghijkl"),
            ("", ""),
        ] {
            let clean = without(answer.as_bytes(), ["abc~defghijkl", "", "error"]);
            assert_eq!(std::str::from_utf8(&clean).unwrap(), want);
        }
    }

    #[test]
    fn nothing_of_a_secret_reaches_debug_output() {
        let secret = ClientSecret::new("Zx9~hush".into());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "ClientSecret(..) Some(ClientSecret(..))");
        assert_eq!(format!("{:?}", PrivateKeyDer::new(vec![1, 2, 3])), "PrivateKeyDer(..)");
    }
}
