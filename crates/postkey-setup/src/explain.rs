//! What a refusal means for this very sender, and which of postkey's own commands comes next: the rooms below know neither
//! the sender's name nor what else its app may do.

use postkey_base::{Diagnose, Diagnosis, Who, powershell};
use postkey_graph::GraphError;
use postkey_identity::{PortalPage, TokenError, TokenSource, claims::AccessClaims};
use postkey_store::{Origin, Reach};
use postkey_transport::{
    TransportError,
    outcome::{SessionError, Unknown},
};

use crate::{connection::SenderConnection, error::SetupError};

/// A failure that may have a token error or a refused mailbox at its bottom.
pub trait Bottom: Diagnose {
    /// Why there was no token.
    fn token_error(&self) -> Option<&TokenError> {
        None
    }

    /// The mailbox may not be sent from.
    fn sending_denied(&self) -> bool {
        false
    }
}

impl Bottom for TokenError {
    fn token_error(&self) -> Option<&TokenError> {
        Some(self)
    }
}

impl Bottom for GraphError {
    fn token_error(&self) -> Option<&TokenError> {
        match self {
            Self::Token(error) => Some(error),
            _ => None,
        }
    }

    fn sending_denied(&self) -> bool {
        matches!(self, Self::AccessDenied(answer) if answer.call.is_mail() && answer.call.permissions == ["Mail.Send"])
    }
}

impl Bottom for TransportError {
    fn token_error(&self) -> Option<&TokenError> {
        match self {
            Self::Graph(error) => error.token_error(),
            Self::Session(SessionError::Token(error)) => Some(error),
            _ => None,
        }
    }

    fn sending_denied(&self) -> bool {
        matches!(self, Self::Graph(error) if error.sending_denied())
    }
}

impl Bottom for Unknown {}

impl Bottom for SetupError {
    fn token_error(&self) -> Option<&TokenError> {
        match self {
            Self::Token(error) => Some(error),
            Self::Graph { cause, .. } | Self::NotSettled { cause, .. } => cause.token_error(),
            Self::Test(cause) => cause.token_error(),
            _ => None,
        }
    }

    fn sending_denied(&self) -> bool {
        match self {
            Self::MayNotSend { limited: false, cause: Some(cause), .. } => cause.sending_denied(),
            Self::Test(cause) => cause.sending_denied(),
            _ => false,
        }
    }
}

/// The diagnosis of a sender's failure. `command` is how this installation's program is called.
pub async fn explain(connection: &SenderConnection, command: &str, failure: &(dyn Bottom + Sync)) -> Diagnosis {
    let mut found = failure.diagnosis();
    let name = &connection.sender.values.name;
    let origin = connection.app.app.origin;
    if let Some(step) = failure.token_error().and_then(|error| credential_step(error, origin, command, name)) {
        found.remedy = format!("{} {step}", found.remedy);
    }
    if failure.sending_denied() {
        explain_denial(connection, command, &mut found).await;
    }
    let mine = [("sender", name.clone()), ("mailbox", connection.mailbox.to_string())];
    found.evidence.splice(0..0, mine.map(|(name, value)| (name.to_owned(), value)));
    found
}

/// How a new credential gets to postkey.
fn credential_step(error: &TokenError, origin: Origin, command: &str, name: &str) -> Option<String> {
    match error {
        TokenError::SecretExpired { .. } | TokenError::SecretWrong { .. } | TokenError::CredentialMissing(_) => {
            Some(format!("The command: `{command} sender add {name} --secret-file FILE`."))
        }
        // An app that somebody else registered is theirs to change.
        TokenError::CertificateUnknown(_) | TokenError::CertificateUnusable(_) if origin == Origin::Given => {
            Some(format!("The command for a new one: `{command} sender add {name} --certificate FILE`."))
        }
        TokenError::CertificateUnknown(_) | TokenError::CertificateUnusable(_) => {
            Some(format!("`{command} setup {name}` makes a new one and uploads it."))
        }
        _ => None,
    }
}

/// Exchange says no more than "denied". The app's own token tells which of its causes it can be.
async fn explain_denial(connection: &SenderConnection, command: &str, found: &mut Diagnosis) {
    let (app, mailbox, name) = (&connection.app, &connection.mailbox, &connection.sender.values.name);
    let token = app.graph_tokens().token().await.ok();
    let Some(claims) = token.as_ref().and_then(AccessClaims::of) else { return };
    let said = found.why.take().map(|why| format!(" Exchange says: {why}")).unwrap_or_default();
    let limited = connection.sender.reach == Reach::Limited;
    let (why, remedy, who) = denial(
        claims.carries("Mail.Send"),
        limited,
        &Denied {
            command,
            name,
            mailbox: mailbox.as_str(),
            client: &app.app.client_id.to_string(),
            permissions: app.cloud.portal_link(PortalPage::ApiPermissions(app.app.client_id)).as_str(),
        },
    );
    found.what = format!("the app may not send from {mailbox}");
    found.why = Some(format!("{why}{said}"));
    found.remedy = remedy;
    found.who = who;
}

struct Denied<'a> {
    command: &'a str,
    name: &'a str,
    mailbox: &'a str,
    client: &'a str,
    permissions: &'a str,
}

/// Why, what to do, who.
fn denial(carries_permission: bool, limited: bool, denied: &Denied<'_>) -> (&'static str, String, Who) {
    let Denied { command, name, mailbox, client, permissions } = denied;
    if carries_permission {
        // Exchange: New-ApplicationAccessPolicy limits even what Entra has granted.
        return (
            "The app's token carries Mail.Send, so it is Exchange that keeps it from this mailbox: an application access policy.",
            format!(
                "In Exchange Online PowerShell: Test-ApplicationAccessPolicy -AppId {client} -Identity {} confirms it, \
                 Get-ApplicationAccessPolicy names the policy; add the mailbox to its group, or change the policy.",
                powershell::word(mailbox)
            ),
            Who::ExchangeAdministrator,
        );
    }
    if limited {
        return (
            "The app is limited in Exchange to named mailboxes, and this one is not in the scope of its role any more.",
            format!(
                "In Exchange Online PowerShell: Test-ServicePrincipalAuthorization -Identity {client} -Resource {} shows it. \
                 `{command} sender limit {name}` prints the commands that bring the mailbox into the scope; they take 30 minutes \
                 to 2 hours to work.",
                powershell::word(mailbox)
            ),
            Who::ExchangeAdministrator,
        );
    }
    (
        "The app's token carries no Mail.Send: nobody has consented to that application permission (a delegated one does not \
         count), or the app is limited in Exchange to other mailboxes.",
        format!(
            "If it is meant to send as anyone: App registrations > (the app) > API permissions ({permissions}): Mail.Send must stand \
             there with Type Application and Status Granted; press Grant admin consent. If it is limited to named mailboxes: \
             `{command} sender limit {name}` prints the commands with which an Exchange administrator adds this one. \
             `{command} doctor {name}` looks closer."
        ),
        Who::TenantAdministrator,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_put_down_to_entra_or_to_exchange_by_what_the_token_carries() {
        let denied = Denied {
            command: "postkey --dir /srv",
            name: "reports",
            mailbox: "noreply@contoso.example",
            client: "11111111-1111-4111-8111-111111111111",
            permissions: "https://entra.microsoft.com/#permissions",
        };
        for (carries, limited, who, parts) in [
            (
                true,
                false,
                Who::ExchangeAdministrator,
                ["Test-ApplicationAccessPolicy -AppId 1111", "noreply@contoso.example"],
            ),
            (false, true, Who::ExchangeAdministrator, ["Test-ServicePrincipalAuthorization", "sender limit reports"]),
            (
                false,
                false,
                Who::TenantAdministrator,
                ["https://entra.microsoft.com/#permissions", "postkey --dir /srv sender limit reports"],
            ),
        ] {
            let (_, remedy, whose) = denial(carries, limited, &denied);
            assert_eq!(whose, who);
            assert!(parts.iter().all(|part| remedy.contains(part)), "{remedy}");
        }
    }
}
