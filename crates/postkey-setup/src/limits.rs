//! Limiting an app to its mailboxes: the commands for an Exchange administrator, since Graph offers none, and the probe
//! that tells what the app can do today. The token is not read for that: RBAC for Applications leaves no trace in it.

use postkey_base::powershell::{doubled, quoted};
use postkey_base::{ClientId, EmailAddress, ServicePrincipalId};
use postkey_graph::{Graph, GraphError, send_mail};

/// What the commands are about.
#[derive(Debug, Clone)]
pub struct Limit<'a> {
    /// The app's client id.
    pub client: ClientId,
    /// Object id of the *enterprise application*: the registration's object id is refused by Exchange in silence.
    pub principal: ServicePrincipalId,
    /// The app's name, for display.
    pub app: &'a str,
    /// The mailboxes it may send from.
    pub mailboxes: &'a [EmailAddress],
    /// Whether SMTP is wanted beside Graph.
    pub smtp: bool,
    /// Whether reading Sent Items and drafts is wanted.
    pub read_write: bool,
}

/// Commands for Exchange Online PowerShell, in order. Exchange: New-ServicePrincipal, New-ManagementScope,
/// New-ManagementRoleAssignment, Test-ServicePrincipalAuthorization.
pub fn commands(limit: &Limit<'_>) -> Vec<String> {
    let Limit { client, principal, app, mailboxes, smtp, read_write } = limit;
    let scope = quoted(&format!("{app} mailboxes"));
    // unverified: the filter by address; Microsoft's own examples filter by group membership.
    let filter: Vec<String> =
        mailboxes.iter().map(|mailbox| format!("PrimarySmtpAddress -eq '{}'", doubled(mailbox.as_str()))).collect();
    let mut lines = vec![
        "Connect-ExchangeOnline".to_owned(),
        format!("New-ServicePrincipal -AppId {client} -ObjectId {principal} -DisplayName {}", quoted(app)),
        format!("New-ManagementScope -Name {scope} -RecipientRestrictionFilter {}", quoted(&filter.join(" -or "))),
    ];
    let roles = [
        Some("Application Mail.Send"),
        smtp.then_some("Application SMTP.SendAsApp"),
        read_write.then_some("Application Mail.ReadWrite"),
    ];
    for role in roles.into_iter().flatten() {
        lines.push(format!(
            "New-ManagementRoleAssignment -App {principal} -Role {} -CustomResourceScope {scope}",
            quoted(role)
        ));
    }
    for mailbox in *mailboxes {
        lines.push(format!(
            "Test-ServicePrincipalAuthorization -Identity {principal} -Resource {}",
            quoted(mailbox.as_str())
        ));
    }
    lines
}

/// Commands that let an app with the tenant-wide SMTP.SendAsApp permission use one mailbox over SMTP.
pub fn smtp_commands(
    client: ClientId,
    principal: ServicePrincipalId,
    app: &str,
    mailbox: &EmailAddress,
) -> Vec<String> {
    vec![
        "Connect-ExchangeOnline".to_owned(),
        format!("New-ServicePrincipal -AppId {client} -ObjectId {principal} -DisplayName {}", quoted(app)),
        format!(
            "Add-MailboxPermission -Identity {} -User {principal} -AccessRights FullAccess",
            quoted(mailbox.as_str())
        ),
        format!("Set-CASMailbox -Identity {} -SmtpClientAuthenticationDisabled $false", quoted(mailbox.as_str())),
    ]
}

/// What a mailbox answers to a send that cannot deliver anything.
#[derive(Debug)]
pub enum Probed {
    /// The app may send as this mailbox.
    Allowed,
    /// It may not: no permission, or the mailbox is outside its limits.
    Refused(GraphError),
    /// Neither is proved.
    Unknown(Option<GraphError>),
}

/// Asks without sending: a message without recipients is refused for its recipients only where sending is allowed.
pub async fn probe(graph: &Graph, mailbox: &EmailAddress) -> Probed {
    match send_mail::probe(graph, mailbox).await {
        Err(GraphError::InvalidRecipients { .. }) => Probed::Allowed,
        Err(error @ (GraphError::AccessDenied { .. } | GraphError::SendAsDenied { .. })) => Probed::Refused(error),
        Err(error) => Probed::Unknown(Some(error)),
        // Acceptance of a message to nobody proves nothing, and is not what Exchange does.
        Ok(_) => Probed::Unknown(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_name_the_enterprise_application_and_quote_for_powershell() {
        let mailboxes = ["o'brien@contoso.example".parse().unwrap()];
        assert_eq!(
            quoted("a'b\u{2019}; Remove-Mailbox x"),
            "'a''b\u{2019}\u{2019}; Remove-Mailbox x'",
            "no quote ends it"
        );
        let lines = commands(&Limit {
            client: "11111111-1111-4111-8111-111111111111".parse().unwrap(),
            principal: "22222222-2222-4222-8222-222222222222".parse().unwrap(),
            app: "postkey reports",
            mailboxes: &mailboxes,
            smtp: true,
            read_write: false,
        });
        assert_eq!(
            lines,
            [
                "Connect-ExchangeOnline",
                "New-ServicePrincipal -AppId 11111111-1111-4111-8111-111111111111 -ObjectId 22222222-2222-4222-8222-222222222222 -DisplayName 'postkey reports'",
                "New-ManagementScope -Name 'postkey reports mailboxes' -RecipientRestrictionFilter 'PrimarySmtpAddress -eq ''o''''brien@contoso.example'''",
                "New-ManagementRoleAssignment -App 22222222-2222-4222-8222-222222222222 -Role 'Application Mail.Send' -CustomResourceScope 'postkey reports mailboxes'",
                "New-ManagementRoleAssignment -App 22222222-2222-4222-8222-222222222222 -Role 'Application SMTP.SendAsApp' -CustomResourceScope 'postkey reports mailboxes'",
                "Test-ServicePrincipalAuthorization -Identity 22222222-2222-4222-8222-222222222222 -Resource 'o''brien@contoso.example'",
            ]
        );
    }
}
