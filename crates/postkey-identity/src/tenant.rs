//! Which directory a request goes to, as it stands in the paths of the login host.

use std::{fmt, str::FromStr};

use postkey_base::{Diagnose, TenantId, Who};
use serde::{Deserialize, Serialize};

/// A tenant by its GUID or by one of its verified domains, or `organizations` where the tenant is not known yet.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantRef(Kind);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Kind {
    Id(TenantId),
    Domain(String),
    Organizations,
}

/// Why a text names no tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    /// Nothing there.
    #[error("the tenant is missing: give its Directory (tenant) ID or one of its domains")]
    Empty,
    /// Neither a GUID nor a domain name.
    #[error("{0:?} is neither a Directory (tenant) ID nor a domain such as contoso.onmicrosoft.com")]
    Shape(String),
    /// `common` and `consumers` let personal accounts in, which own no tenant.
    #[error("{0:?} names no tenant: give the Directory (tenant) ID or a domain of the tenant")]
    Everybody(String),
}

impl TenantRef {
    /// `organizations`: any work or school account. Good for a user's sign-in, never for client credentials.
    pub const fn organizations() -> Self {
        Self(Kind::Organizations)
    }

    /// One tenant, not `organizations`.
    pub fn is_concrete(&self) -> bool {
        !matches!(self.0, Kind::Organizations)
    }

    /// The GUID, when the tenant is named by it.
    pub fn id(&self) -> Option<TenantId> {
        match self.0 {
            Kind::Id(id) => Some(id),
            _ => None,
        }
    }
}

impl FromStr for TenantRef {
    type Err = TenantError;

    fn from_str(text: &str) -> Result<Self, TenantError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TenantError::Empty);
        }
        if let Ok(id) = text.parse::<TenantId>() {
            return Ok(Self(Kind::Id(id)));
        }
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "organizations" => return Ok(Self::organizations()),
            "common" | "consumers" => return Err(TenantError::Everybody(lower)),
            _ => {}
        }
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63 // RFC 1035 §2.3.4
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        if lower.len() <= 253 && lower.contains('.') && lower.split('.').all(label) {
            return Ok(Self(Kind::Domain(lower)));
        }
        // A secret pasted here must not come back in the message.
        let shown = if text.chars().count() > 12 {
            format!("{}…", text.chars().take(4).collect::<String>())
        } else {
            text.to_owned()
        };
        Err(TenantError::Shape(shown))
    }
}

impl From<TenantId> for TenantRef {
    fn from(id: TenantId) -> Self {
        Self(Kind::Id(id))
    }
}

impl TryFrom<String> for TenantRef {
    type Error = TenantError;

    fn try_from(text: String) -> Result<Self, TenantError> {
        text.parse()
    }
}

impl From<TenantRef> for String {
    fn from(tenant: TenantRef) -> Self {
        tenant.to_string()
    }
}

impl fmt::Display for TenantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Id(id) => id.fmt(f),
            Kind::Domain(domain) => f.write_str(domain),
            Kind::Organizations => f.write_str("organizations"),
        }
    }
}

impl fmt::Debug for TenantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantRef({self})")
    }
}

impl Diagnose for TenantError {
    fn code(&self) -> &'static str {
        "identity.tenant_malformed"
    }

    fn remedy(&self) -> String {
        "Copy the Directory (tenant) ID from the app's Overview page in the portal, or give one of the tenant's domains."
            .to_owned()
    }

    fn who(&self) -> Who {
        Who::You
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_a_guid_a_domain_or_organizations() {
        for (text, good) in [
            ("3fa85f64-5717-4562-b3fc-2c963f66afa6", true),
            (" Contoso.OnMicrosoft.com ", true),
            ("organizations", true),
            ("common", false),
            ("consumers", false),
            ("contoso", false),
            ("contoso..com", false),
            ("contoso.com/oauth2", false),
            ("contoso.com?x", false),
            ("../admin.x", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<TenantRef>().is_ok(), good, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_parses_prints_to_the_same_tenant(text in "[a-zA-Z0-9.-]{1,40}") {
            if let Ok(tenant) = text.parse::<TenantRef>() {
                let again: TenantRef = tenant.to_string().parse().unwrap();
                proptest::prop_assert_eq!(again, tenant);
            }
        }
    }
}
