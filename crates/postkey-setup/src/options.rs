//! What a setup is asked to do. Everything here is checked before the first call to the tenant.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use postkey_base::{Diagnose, EmailAddress, InstallationId, Who};
use postkey_graph::permissions::{self, Api, Permission};
use postkey_identity::{Cloud, TenantRef};
use serde::{Deserialize, Serialize};

/// What one setup registers, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupOptions {
    /// Names the sender, and the app with the installation's id before it.
    pub name: SetupName,
    /// Hosts.
    pub cloud: Cloud,
    /// The tenant as the administrator named it.
    pub tenant: TenantRef,
    /// The mailbox that sends.
    pub mailbox: EmailAddress,
    /// How the app will prove who it is.
    pub credential: CredentialChoice,
    /// How far the app may reach.
    pub reach: Reach,
    /// Whether SMTP submission is wanted beside Graph (SMTP.SendAsApp).
    pub smtp: bool,
    /// Whether drafts, upload sessions and Sent Items are wanted (Mail.ReadWrite).
    pub read_write: bool,
    /// Who receives the test message.
    pub test_to: EmailAddress,
}

/// A certificate renews itself later by proof of possession; a secret needs an administrator each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialChoice {
    /// A certificate whose private key never leaves postkey.
    Certificate(Lifetime),
    /// A client secret made by Graph.
    Secret(Lifetime),
}

impl CredentialChoice {
    /// How long it is to live.
    pub fn lifetime(self) -> Lifetime {
        match self {
            Self::Certificate(lifetime) | Self::Secret(lifetime) => lifetime,
        }
    }
}

/// How far an app may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Mail.Send granted in Entra: the app can send as every mailbox of the tenant.
    TenantWide,
    /// No grant in Entra; an Exchange administrator assigns the role for named mailboxes. The two are a union, so a grant
    /// in Entra would make the limit worthless.
    Limited,
}

/// How long a credential is to live: `12mo`, `90d`, `1y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lifetime {
    count: u16,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Days,
    Months,
}

impl Lifetime {
    /// The portal recommends less than twelve months and refuses more than 24.
    pub const TWELVE_MONTHS: Self = Self { count: 12, unit: Unit::Months };

    /// The end of a credential that starts at `start`.
    pub fn after(self, start: Timestamp) -> Timestamp {
        let zoned = start.to_zoned_datetime(TimeZone::UTC);
        let span = match self.unit {
            Unit::Days => i64::from(self.count).days(),
            Unit::Months => i64::from(self.count).months(),
        };
        zoned.checked_add(span).map_or(Timestamp::MAX, |end| end.timestamp())
    }
}

impl FromStr for Lifetime {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let malformed = || OptionError::Lifetime(text.to_owned());
        let count: u16 = text[..digits].parse().map_err(|_| malformed())?;
        let (count, unit) = match text[digits..].trim() {
            "d" | "day" | "days" => (count, Unit::Days),
            "mo" | "month" | "months" => (count, Unit::Months),
            "y" | "year" | "years" => (count.saturating_mul(12), Unit::Months),
            _ => return Err(malformed()),
        };
        let days = match unit {
            Unit::Days => count,
            Unit::Months => count.saturating_mul(30),
        };
        // Entra portal: at most 24 months. 730 days are the portal's own 24 months.
        if count == 0 || days == 0 || days > 730 || (unit == Unit::Months && count > 24) {
            return Err(OptionError::LifetimeRange(text.to_owned()));
        }
        Ok(Self { count, unit })
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Days => write!(f, "{}d", self.count),
            Unit::Months => write!(f, "{}mo", self.count),
        }
    }
}

impl TryFrom<String> for Lifetime {
    type Error = OptionError;

    fn try_from(text: String) -> Result<Self, OptionError> {
        text.parse()
    }
}

impl From<Lifetime> for String {
    fn from(lifetime: Lifetime) -> Self {
        lifetime.to_string()
    }
}

/// Name of a setup and of the sender it makes: 1 to 40 of `a-z`, `0-9`, `-`, `_` and `.`, first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SetupName(String);

impl SetupName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SetupName {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if starts && text.len() <= 40 && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(OptionError::Name(text.to_owned()))
        }
    }
}

impl TryFrom<String> for SetupName {
    type Error = OptionError;

    fn try_from(text: String) -> Result<Self, OptionError> {
        text.parse()
    }
}

impl From<SetupName> for String {
    fn from(name: SetupName) -> Self {
        name.0
    }
}

impl fmt::Display for SetupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an option cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Not a number with a unit.
    #[error("{0:?} is not a lifetime such as 12mo, 90d or 1y")]
    Lifetime(String),
    /// Zero, or longer than the portal allows.
    #[error("a lifetime of {0} is not possible: from 1 day to 24 months")]
    LifetimeRange(String),
    /// Characters or length.
    #[error("{0:?} is not a name: 1 to 40 of a-z, 0-9, -, _ and ., the first a letter or a digit")]
    Name(String),
}

impl Diagnose for OptionError {
    fn code(&self) -> &'static str {
        match self {
            Self::Lifetime(_) | Self::LifetimeRange(_) => "setup.lifetime",
            Self::Name(_) => "setup.name",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Lifetime(_) | Self::LifetimeRange(_) => {
                "Give --lifetime 12mo, or another one of at most 24mo.".into()
            }
            Self::Name(_) => "Choose a name such as reports or noreply-erp.".into(),
        }
    }

    fn who(&self) -> Who {
        Who::You
    }
}

impl SetupOptions {
    /// The alternate key that makes registering idempotent.
    pub fn unique_name(&self, installation: InstallationId) -> String {
        format!("postkey-{installation}-{}", self.name)
    }

    /// What the portal lists.
    pub fn display_name(&self) -> String {
        format!("postkey {}", self.name)
    }

    /// The application permissions to declare and to grant, each with the reason an administrator will ask for.
    pub fn permissions(&self) -> Vec<(&'static Permission, &'static str)> {
        let mut wanted = Vec::new();
        let mut ask = |api, name, reason| wanted.extend(permissions::named(api, name).map(|found| (found, reason)));
        if self.reach == Reach::TenantWide {
            ask(Api::Graph, "Mail.Send", "sends through Microsoft Graph, as any mailbox of the tenant");
            if self.read_write {
                ask(
                    Api::Graph,
                    "Mail.ReadWrite",
                    "uploads large attachments and checks Sent Items, in any mailbox of the tenant",
                );
            }
            if self.smtp {
                ask(
                    Api::Exchange,
                    "SMTP.SendAsApp",
                    "submits by SMTP for the mailboxes an Exchange administrator opens to it",
                );
            }
        }
        wanted
    }

    /// What an administrator's sign-in must be allowed to do: no more than this setup needs.
    pub fn administrator_scopes(&self) -> Vec<&'static str> {
        let mut scopes = vec!["Application.ReadWrite.All", "User.Read"];
        if self.reach == Reach::TenantWide {
            scopes.push("AppRoleAssignment.ReadWrite.All");
        }
        scopes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_at_most_what_the_portal_allows() {
        for (text, want) in [
            ("12mo", Some("12mo")),
            ("24mo", Some("24mo")),
            ("2y", Some("24mo")),
            ("90d", Some("90d")),
            ("730 days", Some("730d")),
            ("25mo", None),
            ("731d", None),
            ("0d", None),
            ("12", None),
            ("forever", None),
            ("99999999y", None),
        ] {
            assert_eq!(text.parse::<Lifetime>().ok().map(|l| l.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn a_month_ends_on_the_calendar() {
        let start: Timestamp = "2026-01-31T10:00:00Z".parse().unwrap();
        assert_eq!("1mo".parse::<Lifetime>().unwrap().after(start).to_string(), "2026-02-28T10:00:00Z");
    }

    #[test]
    fn a_name_fits_where_it_is_used() {
        for (text, good) in
            [("reports", true), ("noreply-erp.2", true), ("", false), ("-x", false), ("A", false), ("a'b", false)]
        {
            assert_eq!(text.parse::<SetupName>().is_ok(), good, "{text}");
        }
        assert!("x".repeat(41).parse::<SetupName>().is_err());
    }
}
