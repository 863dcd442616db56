//! What a sender may do today, as far as it can be told without sending anything.

use postkey_graph::{
    Graph, GraphError,
    folders::{self, Folder},
};
use postkey_identity::{TokenSource, claims::AccessClaims};
use postkey_transport::{Abilities, Preference};
use serde::{Deserialize, Serialize};

use crate::{
    connection::{ConnectionError, SenderConnection},
    limits::{self, Probed},
};

/// What was found, to be kept with the sender: an RBAC role shows in no token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Sending through Graph as this mailbox.
    pub graph_send: bool,
    /// Drafts, upload sessions, Sent Items.
    pub graph_read_write: bool,
    /// SMTP as this mailbox.
    pub smtp: bool,
}

/// What the app's tokens carry: enough for routes, since a token that says less than Exchange allows only costs a detour.
pub async fn granted(connection: &SenderConnection) -> Found {
    let carries = |token: Option<postkey_base::AccessToken>, permission: &str| {
        token.as_ref().and_then(AccessClaims::of).is_some_and(|claims| claims.carries(permission))
    };
    let graph = connection.app.graph_tokens().token().await.ok();
    let mail = connection.app.mail_tokens().token().await.ok();
    Found {
        graph_send: true,
        graph_read_write: carries(graph, "Mail.ReadWrite"),
        smtp: carries(mail, "SMTP.SendAsApp"),
    }
}

/// Granted permissions, and what the last proof showed beyond them. SMTP needs more than its permission: where no proof has
/// signed in, it is tried now, unless `preference` asks for SMTP anyway and its refusal is the better answer.
pub async fn abilities(connection: &SenderConnection, preference: Preference) -> Abilities {
    let proved = proved(&connection.sender);
    let granted = granted(connection).await;
    let smtp = match preference {
        Preference::Graph => false,
        Preference::Smtp => granted.smtp || proved.smtp,
        Preference::Auto => proved.smtp || (granted.smtp && smtp_lets_in(connection).await),
    };
    Abilities {
        graph_send: true,
        graph_read_write: granted.graph_read_write || proved.graph_read_write,
        smtp,
        preference,
        ..Abilities::default()
    }
}

/// What the last proof showed.
pub(crate) fn proved(sender: &postkey_store::Sender) -> Found {
    let found = sender.last_proof.as_ref().and_then(|proof| serde_json::from_value(proof["found"].clone()).ok());
    found.unwrap_or_default()
}

pub(crate) async fn smtp_lets_in(connection: &SenderConnection) -> bool {
    match connection.app.smtp() {
        Ok(route) => route.check(&connection.mailbox).await.is_ok(),
        Err(_) => false,
    }
}

/// Which way mail of a sender shall leave.
pub fn preference(sender: &postkey_store::Sender) -> Preference {
    match sender.values.route {
        postkey_store::RoutePreference::Automatic => Preference::Auto,
        postkey_store::RoutePreference::Graph => Preference::Graph,
        postkey_store::RoutePreference::Smtp => Preference::Smtp,
    }
}

/// Whether the mailbox's mail may be read, and so a sent message seen.
pub async fn may_read(graph: &Graph, mailbox: &postkey_base::EmailAddress) -> Result<bool, GraphError> {
    match folders::get(graph, mailbox, &Folder::SentItems).await {
        Ok(_) => Ok(true),
        // Graph says 404 for what one may not see, too.
        Err(GraphError::AccessDenied(_) | GraphError::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Probes sending as the mailbox without sending.
///
/// # Errors
/// When no client can be built.
pub async fn probe(connection: &SenderConnection) -> Result<Probed, ConnectionError> {
    Ok(limits::probe(&connection.app.graph()?, &connection.mailbox).await)
}
