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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_secret_reaches_debug_output() {
        let secret = ClientSecret::new("Zx9~hush".into());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "ClientSecret(..) Some(ClientSecret(..))");
        assert_eq!(format!("{:?}", PrivateKeyDer::new(vec![1, 2, 3])), "PrivateKeyDer(..)");
    }
}
