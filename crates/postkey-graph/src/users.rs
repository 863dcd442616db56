//! Users of the tenant, hence whose mailbox an address is.

use postkey_base::UserObjectId;
use serde::{Deserialize, Serialize};

use crate::{
    error::GraphError,
    graph::Graph,
    json,
    mailbox::Mailbox,
    shape::{CallShape, Effect, Verb},
};

/// One user by principal name or object id.
pub const GET: CallShape = CallShape::new(Verb::Get, "/users/{user}", Effect::Reads, &["User.Read.All"]);
/// Whoever signed in.
pub const ME: CallShape = CallShape::new(Verb::Get, "/me", Effect::Reads, &["User.Read"]);

/// Some of these come only when asked for.
const SELECT: &str = "id,displayName,userPrincipalName,mail,proxyAddresses,accountEnabled,userType";

/// A user, a shared mailbox or a room: the directory makes no difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Object id.
    pub id: UserObjectId,
    /// Name.
    #[serde(default, deserialize_with = "json::or_default")]
    pub display_name: String,
    /// Sign-in name; mostly, not always, the mail address.
    #[serde(default, deserialize_with = "json::or_default")]
    pub user_principal_name: String,
    /// Primary mail address.
    #[serde(default)]
    pub mail: Option<String>,
    /// All addresses: `SMTP:` marks the primary one, `smtp:` the others.
    #[serde(default, deserialize_with = "json::or_default")]
    pub proxy_addresses: Vec<String>,
    /// Whether sign-in is allowed; shared mailboxes say no.
    #[serde(default)]
    pub account_enabled: Option<bool>,
    /// `Member` or `Guest`.
    #[serde(default)]
    pub user_type: Option<String>,
}

impl User {
    /// Whether mail to `address` reaches this user.
    pub fn owns(&self, address: &str) -> bool {
        let mut all = self.mail.as_deref().into_iter().chain(self.proxy_addresses.iter().filter_map(|proxy| {
            let (kind, address) = proxy.split_once(':')?;
            kind.eq_ignore_ascii_case("smtp").then_some(address)
        }));
        all.any(|own| own.eq_ignore_ascii_case(address))
    }

    /// Whether it is a guest of another organisation, whose mailbox is elsewhere.
    pub fn is_guest(&self) -> bool {
        self.user_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("Guest"))
    }
}

/// One user. Only the principal name or the object id find it: another of its addresses does not.
///
/// # Errors
/// [`GraphError::NotFound`] when there is none.
pub async fn get(graph: &Graph, user: impl Into<Mailbox>) -> Result<User, GraphError> {
    graph.call(GET, &[user.into().as_str()]).query("$select", SELECT).send().await?.json()
}

/// Whoever the token was given to; delegated tokens only.
///
/// # Errors
/// Any.
pub async fn me(graph: &Graph) -> Result<User, GraphError> {
    graph.call(ME, &[]).query("$select", SELECT).send().await?.json()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_smtp_address_of_a_user_counts() {
        let user: User = serde_json::from_value(serde_json::json!({
            "id": "87d349ed-44d7-43e1-9a83-5f2406dee5bd", "displayName": null, "mail": "alice@contoso.example",
            "proxyAddresses": ["SMTP:alice@contoso.example", "smtp:Orders@contoso.example", "x500:/o=contoso"],
        }))
        .unwrap();
        assert!(user.owns("ALICE@contoso.example") && user.owns("orders@contoso.example"));
        assert!(!user.owns("/o=contoso") && !user.is_guest());
    }
}
