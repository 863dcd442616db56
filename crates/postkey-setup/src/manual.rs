//! The portal's steps in the portal's words, one at a time, with a deep link each and a check of each value.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use postkey_base::ClientId;
use postkey_identity::{Cloud, PortalPage};
use url::Url;
use zeroize::Zeroizing;

use crate::{
    given::{GivenCredential, Pasted},
    pasted::{self, Field, PasteError},
    sender::Given,
};

/// A value the portal shows and postkey needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// *Application (client) ID*.
    ClientId,
    /// *Directory (tenant) ID*.
    Tenant,
    /// *Value* of the client secret.
    Secret,
    /// *Expires* of the client secret.
    Expires,
    /// The mailbox.
    Mailbox,
}

impl Value {
    /// How it is asked for.
    pub fn prompt(self) -> &'static str {
        match self {
            Self::ClientId => "Application (client) ID",
            Self::Tenant => "Directory (tenant) ID",
            Self::Secret => "Value of the client secret",
            Self::Expires => "Expires, as year-month-day (empty if you did not note it)",
            Self::Mailbox => "Email address of the mailbox that sends",
        }
    }
}

/// What somebody typed; it may be a secret.
pub struct Typed(Zeroizing<String>);

impl Typed {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

/// One step in the portal.
pub struct PortalStep {
    /// What it is for.
    pub title: &'static str,
    /// What to do, in the portal's words.
    pub instructions: &'static [&'static str],
    /// What it yields.
    pub asks: Option<Value>,
    page: Page,
}

#[derive(Clone, Copy)]
enum Page {
    New,
    Overview,
    Credentials,
    Permissions,
    None,
}

/// Why a typed value is refused.
pub type Refusal = PasteError;

/// The walk through one cloud's portal.
pub struct Walk<'a> {
    cloud: &'a Cloud,
}

impl<'a> Walk<'a> {
    /// Links lead into this cloud's admin center.
    pub fn new(cloud: &'a Cloud) -> Self {
        Self { cloud }
    }

    /// The steps in order.
    pub fn steps(&self) -> &'static [PortalStep] {
        STEPS
    }

    /// Where a step happens; the app's own pages once its client id is known.
    pub fn link(&self, step: &PortalStep, client: Option<ClientId>) -> Option<Url> {
        let page = match (step.page, client) {
            (Page::None, _) => return None,
            (Page::New, _) => PortalPage::NewRegistration,
            (Page::Overview, Some(client)) => PortalPage::AppOverview(client),
            (Page::Credentials, Some(client)) => PortalPage::Credentials(client),
            (Page::Permissions, Some(client)) => PortalPage::ApiPermissions(client),
            (Page::Overview | Page::Credentials | Page::Permissions, _) => PortalPage::AppRegistrations,
        };
        Some(self.cloud.portal_link(page))
    }

    /// Checks a typed value by itself and notes it.
    ///
    /// # Errors
    /// What was typed instead.
    pub fn take(&self, value: Value, typed: Typed, given: &mut Given) -> Result<(), Refusal> {
        let text = typed.0.trim();
        match value {
            Value::ClientId => {
                pasted::client_id(text)?;
                given.client_id = Some(text.to_owned());
            }
            Value::Tenant => {
                let tenant = pasted::tenant(text)?;
                if let Some(client) = given.client_id.as_deref().and_then(|text| pasted::client_id(text).ok()) {
                    pasted::ids_differ(client, &tenant)?;
                }
                given.tenant = Some(text.to_owned());
            }
            Value::Secret => {
                pasted::secret(text)?;
                given.credential = Some(GivenCredential::Secret(Pasted::new(text.to_owned())));
            }
            Value::Expires if text.is_empty() => {}
            Value::Expires => given.expires = Some(day(text).ok_or(PasteError::NotADate)?),
            Value::Mailbox if text.is_empty() && given.mailbox.is_some() => {}
            Value::Mailbox if text.is_empty() => return Err(PasteError::Blank(Field::Mailbox)),
            Value::Mailbox => given.mailbox = Some(text.to_owned()),
        }
        Ok(())
    }

    /// Takes a value back that was refused together with the others. Ids are asked for as a pair, so both go.
    pub fn forget(&self, value: Value, given: &mut Given) {
        match value {
            Value::ClientId => given.client_id = None,
            Value::Tenant => given.tenant = None,
            Value::Secret => given.credential = None,
            Value::Expires => given.expires = None,
            Value::Mailbox => given.mailbox = None,
        }
    }
}

fn day(text: &str) -> Option<Timestamp> {
    let date: Date = text.parse().ok()?;
    TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()
}

const STEPS: &[PortalStep] = &[
    PortalStep {
        title: "Register the application",
        instructions: &[
            "Sign in as an administrator who may register applications.",
            "App registrations > New registration.",
            "Name: whatever your colleagues will recognise. Supported account types: this organizational directory only.",
            "Redirect URI: leave it empty, sending needs none. Press Register.",
        ],
        asks: None,
        page: Page::New,
    },
    PortalStep {
        title: "Copy the client id",
        instructions: &["The app's Overview page: Application (client) ID, with the copy button beside it."],
        asks: Some(Value::ClientId),
        page: Page::Overview,
    },
    PortalStep {
        title: "Copy the tenant id",
        instructions: &["The same page: Directory (tenant) ID."],
        asks: Some(Value::Tenant),
        page: Page::Overview,
    },
    PortalStep {
        title: "Allow it to send",
        instructions: &[
            "API permissions > Add a permission > Microsoft Graph > Application permissions (not Delegated permissions).",
            "Search for Mail.Send, tick it, press Add permissions.",
            "Press Grant admin consent and confirm: Status must say Granted.",
            "It can then send as every mailbox of the tenant; `postkey sender limit` shows how to limit it.",
        ],
        asks: None,
        page: Page::Permissions,
    },
    PortalStep {
        title: "Note when the client secret will end",
        instructions: &[
            "Certificates & secrets > Client secrets > New client secret.",
            "Description: for your own reference. Expires: at most 24 months. Press Add and stay on the page.",
        ],
        asks: Some(Value::Expires),
        page: Page::Credentials,
    },
    PortalStep {
        title: "Copy the client secret",
        instructions: &[
            "Copy the column Value, not Secret ID. It is shown only until you leave the page.",
            "It is saved once it has produced a token.",
        ],
        asks: Some(Value::Secret),
        page: Page::Credentials,
    },
    PortalStep {
        title: "Name the mailbox",
        instructions: &["It must exist in Exchange Online: a user's mailbox or a shared one."],
        asks: Some(Value::Mailbox),
        page: Page::None,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_checked_when_it_is_typed() {
        let cloud = Cloud::global();
        let walk = Walk::new(&cloud);
        let id = "3fa85f64-5717-4562-b3fc-2c963f66afa6";
        let mut given = Given::default();
        for (value, text, want) in [
            (Value::ClientId, "not a guid", Some(PasteError::NotAGuid(Field::ClientId))),
            (Value::ClientId, id, None),
            (Value::Tenant, id, Some(PasteError::SameIds)),
            (Value::Tenant, "contoso.onmicrosoft.com", None),
            (Value::Secret, id, Some(PasteError::SecretId)),
            (Value::Expires, "next year", Some(PasteError::NotADate)),
            (Value::Expires, "", None),
            (Value::Mailbox, " ", Some(PasteError::Blank(Field::Mailbox))),
        ] {
            assert_eq!(walk.take(value, Typed::new(text.into()), &mut given).err(), want, "{value:?} {text}");
        }
    }

    #[test]
    fn links_lead_to_the_apps_own_pages_of_the_right_cloud() {
        let cloud = Cloud::us_gov();
        let walk = Walk::new(&cloud);
        let client: ClientId = "3fa85f64-5717-4562-b3fc-2c963f66afa6".parse().unwrap();
        let permissions = walk.steps().iter().find(|step| step.title == "Allow it to send").unwrap();
        let link = walk.link(permissions, Some(client)).unwrap().to_string();
        assert!(link.starts_with("https://entra.microsoft.us/") && link.ends_with(&client.to_string()), "{link}");
    }
}
