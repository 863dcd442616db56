//! Every id is its own type: a client id pasted where a tenant id belongs does not compile.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a GUID that is known to be one of these.
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// A fresh random id.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// The GUID itself.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NotAGuid;

            fn from_str(text: &str) -> Result<Self, NotAGuid> {
                parse_guid(text).map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    };
}

uuid_id!(
    /// One Entra directory (the portal's *Directory (tenant) ID*).
    TenantId
);
uuid_id!(
    /// An app registration's Graph `id` (the portal's *Object ID*); never its client id.
    AppObjectId
);
uuid_id!(
    /// An app registration's `appId` (the portal's *Application (client) ID*).
    ClientId
);
uuid_id!(
    /// Graph's `keyId` of one credential (the portal's *Secret ID*).
    KeyId
);
uuid_id!(
    /// Object id of an app inside one tenant (the portal's *Enterprise application* object id).
    ServicePrincipalId
);
uuid_id!(
    /// Graph's `id` of one app role of an API.
    AppRoleId
);
uuid_id!(
    /// Object id of a user.
    UserObjectId
);
uuid_id!(
    /// `client-request-id`: ours on every request, repeated by Entra and Graph in their answers.
    CorrelationId
);
uuid_id!(
    /// This installation of postkey; part of the unique name of every app it registers.
    InstallationId
);

/// The text is not a GUID in the 8-4-4-4-12 form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a GUID such as 3fa85f64-5717-4562-b3fc-2c963f66afa6")]
pub struct NotAGuid {
    text: String,
}

/// Only the hyphenated form, as the portal shows and copies it; surrounding blanks from a paste are no fault.
fn parse_guid(text: &str) -> Result<Uuid, NotAGuid> {
    let trimmed = text.trim();
    let shaped = trimmed.len() == 36 && [8, 13, 18, 23].iter().all(|&at| trimmed.as_bytes()[at] == b'-');
    match Uuid::try_parse(trimmed) {
        Ok(id) if shaped => Ok(id),
        // A secret pasted into an id field must not come back in the message.
        _ => Err(NotAGuid {
            text: if trimmed.len() > 8 { format!("{}…", first(trimmed, 4)) } else { trimmed.to_owned() },
        }),
    }
}

fn first(text: &str, count: usize) -> String {
    text.chars().take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_accepted_only_in_the_portals_form() {
        for (text, good) in [
            ("3fa85f64-5717-4562-b3fc-2c963f66afa6", true),
            ("  3FA85F64-5717-4562-b3fc-2c963f66afa6\n", true),
            ("3fa85f6457174562b3fc2c963f66afa6", false),
            ("{3fa85f64-5717-4562-b3fc-2c963f66afa6}", false),
            ("contoso.example", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<TenantId>().is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn a_secret_pasted_for_an_id_is_not_repeated() {
        let said = "q7~8Q-long-secret-value-of-an-app-0001".parse::<ClientId>().unwrap_err().to_string();
        assert!(!said.contains("secret-value"), "{said}");
    }
}
