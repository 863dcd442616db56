//! The mailbox: whether it exists, whether the app may send as it, how far that reaches, SMTP, and how much can leave.

use std::time::Duration;

use postkey_base::{Diagnose, Who, powershell};
use postkey_graph::{Graph, GraphError, users};
use postkey_identity::{AccessClaims, NetworkError, PortalPage};
use postkey_store::{Reach, RoutePreference};
use postkey_transport::{
    Abilities, Deadlines, Preference, Remedy, SmtpMeaning, SmtpRefusal, SmtpRoute, TransportError,
};

use super::{Check, CheckResult, Held, failure, finding, network::size, permission::Answered};
use crate::{
    connection::SenderConnection,
    limits::{self, Limit, Probed},
};

pub(super) const EXISTS: (&str, &str) = ("mailbox.exists", "the mailbox exists in Exchange Online");
pub(super) const PROBE: (&str, &str) = ("send.probe", "the app may send from the mailbox");
pub(super) const REACH: (&str, &str) = ("permission.reach", "the app may send only from what it needs");
pub(super) const SMTP: (&str, &str) = ("smtp.submission", "SMTP lets the app sign in to the mailbox");
pub(super) const SIZE: (&str, &str) = ("route.size", "messages of a useful size can leave");

/// Submission answers a command within a second or two; ten times that is no answer.
const SMTP_COMMAND: Duration = Duration::from_secs(20);
/// The whole sign-in, three commands and a handshake.
const SMTP_ALL: Duration = Duration::from_secs(60);

/// What the probe says about permission.
pub(super) fn answered(probed: &Probed) -> Answered {
    match probed {
        Probed::Allowed => Answered::Allowed,
        Probed::Refused(_) => Answered::Refused,
        Probed::Unknown(_) => Answered::Unclear,
    }
}

/// Whether there is a mailbox: the probe tells unless it was refused; then the directory, where the app may ask it.
pub(super) async fn exists(
    connection: &SenderConnection,
    graph: &Graph,
    probed: &Probed,
    claims: &AccessClaims,
) -> Check {
    let (name, title) = EXISTS;
    let check = match probed {
        Probed::Allowed => Check::passed(name, title),
        Probed::Unknown(Some(error @ (GraphError::MailboxMissing(_) | GraphError::NotFound(_)))) => {
            failure(name, title, error)
        }
        Probed::Unknown(Some(error)) => Check::skipped(name, title, format!("Exchange did not get that far: {error}")),
        Probed::Unknown(None) => Check::skipped(name, title, "Exchange's answer says nothing about it"),
        Probed::Refused(_) if claims.carries("User.Read.All") || claims.carries("Directory.Read.All") => {
            match users::get(graph, &connection.mailbox).await {
                Ok(user) if user.mail.is_some() => Check::passed(name, title).with("user", user.id),
                Ok(user) => Check::warning(
                    name,
                    title,
                    finding(
                        "mailbox.no_address",
                        format!("{} is a user without a mail address", connection.mailbox),
                        None,
                        "Give the user an Exchange Online licence; a new mailbox takes about 15 minutes.",
                        Who::TenantAdministrator,
                    ),
                )
                .with("user", user.id),
                Err(GraphError::NotFound(_)) => Check::skipped(
                    name,
                    title,
                    "no user has it as sign-in name; it may still be another address of one",
                ),
                Err(error) => Check::skipped(name, title, format!("the directory did not tell: {error}")),
            }
        }
        Probed::Refused(_) => Check::skipped(name, title, "Exchange does not tell whoever may not send"),
    };
    check.with("mailbox", &connection.mailbox)
}

/// What the mailbox answered to a message without recipients. `known` is the check that explains a refusal.
pub(super) fn probe(
    connection: &SenderConnection,
    probed: &Probed,
    role: Option<bool>,
    claims: &AccessClaims,
    known: Option<&'static str>,
) -> Check {
    let (name, title) = PROBE;
    let mailbox = &connection.mailbox;
    let check = match probed {
        Probed::Allowed => Check::passed(name, title),
        Probed::Unknown(Some(GraphError::MailboxMissing(_) | GraphError::NotFound(_))) => {
            return Check::skipped(name, title, format!("{} does not hold", EXISTS.0));
        }
        Probed::Unknown(Some(error)) => failure(name, title, error),
        Probed::Unknown(None) => Check::warning(
            name,
            title,
            finding(
                "send.probe_unclear",
                "Exchange accepted a message to nobody, which it never does",
                None,
                "Check whether a proxy answers in Microsoft's place.",
                Who::NetworkAdministrator,
            ),
        ),
        Probed::Refused(error) => {
            let client = connection.app.app.client_id;
            let principal = connection.app.app.service_principal.map(|id| id.to_string());
            let principal = principal.or(claims.oid.map(|oid| oid.to_string())).unwrap_or_else(|| client.to_string());
            let (why, remedy) = if let Some(known) = known {
                ("It follows from the permission that is missing.", format!("Mend {known} first."))
            } else if role == Some(true) {
                (
                    "The token carries Mail.Send, so Exchange keeps the app from this mailbox: an application access policy \
                     limits it to others, or the consent is only minutes old.",
                    format!(
                        "In Exchange Online PowerShell: Test-ApplicationAccessPolicy -Identity {} -AppId {client}. If it \
                         says Denied, add the mailbox to the policy's group (Get-ApplicationAccessPolicy names it). Takes an \
                         hour or more to work.",
                        powershell::word(mailbox.as_str())
                    ),
                )
            } else {
                (
                    "No Mail.Send in the token, and no Exchange role that reaches this mailbox: its scope names other ones, or \
                     there is none.",
                    format!(
                        "In Exchange Online PowerShell: Test-ServicePrincipalAuthorization -Identity {principal} -Resource \
                         {}. InScope False: bring the mailbox into the role's scope (Get-ManagementScope), or run what \
                         `postkey sender limit {}` prints; takes 30 minutes to 2 hours. No role at all: see {}.",
                        powershell::word(mailbox.as_str()),
                        connection.sender.values.name,
                        super::permission::CONSENTED.0
                    ),
                )
            };
            let mut found = finding(
                "send.refused",
                format!("the app may not send from {mailbox}"),
                why.to_owned(),
                remedy,
                if known.is_some() { Who::TenantAdministrator } else { Who::ExchangeAdministrator },
            );
            found.evidence = error.diagnosis().evidence;
            Check::failed(name, title, found)
        }
    };
    let error = match probed {
        Probed::Refused(error) | Probed::Unknown(Some(error)) => error,
        _ => return check.with("answer", "sending is allowed; nothing was sent"),
    };
    error.answer().map(|answer| answer.to_string()).into_iter().fold(check, |check, said| check.with("answer", said))
}

/// Whom else the app may send as, as far as it can be told.
pub(super) fn reach(connection: &SenderConnection, role: Option<bool>, answered: Answered) -> Check {
    let (name, title) = REACH;
    let proved = connection.sender.reach;
    let sender = &connection.sender.values.name;
    if answered != Answered::Allowed {
        return Check::skipped(name, title, format!("{} does not hold", PROBE.0));
    }
    match (role, proved) {
        (_, Reach::Limited) => Check::passed(name, title).with("reach", "limited, proved by a mailbox that refuses"),
        (Some(true), _) | (None, Reach::TenantWide) => {
            let page = PortalPage::ApiPermissions(connection.app.app.client_id);
            Check::warning(
                name,
                title,
                finding(
                    "permission.tenant_wide",
                    "the app can send as anyone in the tenant",
                    "Mail.Send is consented to in Entra, which knows no limits; an Exchange role beside it changes nothing."
                        .to_owned(),
                    format!(
                        "`postkey sender limit {sender}` prints the commands that limit it, for an Exchange administrator; then \
                         remove Mail.Send under {} ({}). Takes 30 minutes to 2 hours.",
                        page.path(),
                        connection.app.cloud.portal_link(page)
                    ),
                    Who::TenantAdministrator,
                ),
            )
            .with("reach", "tenant-wide")
        }
        _ => Check::passed(name, title)
            .with("reach", "by an Exchange role")
            .with("to_prove_it", format!("postkey sender limit {sender} --denied <another mailbox>")),
    }
}

/// Whether SMTP is meant to work for this sender.
pub(super) fn wants_smtp(preference: RoutePreference, permissions: &[String], proved: bool) -> bool {
    match preference {
        RoutePreference::Smtp => true,
        RoutePreference::Graph => false,
        RoutePreference::Automatic => proved || permissions.iter().any(|name| name == "SMTP.SendAsApp"),
    }
}

/// Signs in by SMTP and leaves. `graph_sends`: Graph carries this sender's mail already, all but the largest.
pub(super) async fn smtp(connection: &SenderConnection, claims: &AccessClaims, graph_sends: bool) -> (Check, Held) {
    let check = sign_in(connection, claims).await;
    let held = if check.holds() { Ok(()) } else { Err(check.name) };
    let check = if graph_sends && held.is_err() && connection.sender.values.route != RoutePreference::Smtp {
        let mut check = check.with("matters", "only for messages that Graph does not carry unchanged");
        check.result = CheckResult::Warning;
        check
    } else {
        check
    };
    (check, held)
}

async fn sign_in(connection: &SenderConnection, claims: &AccessClaims) -> Check {
    let (name, title) = SMTP;
    let app = &connection.app;
    let route = match SmtpRoute::new(app.network().clone(), &app.cloud, app.mail_tokens()) {
        Ok(route) => route.with_deadlines(Deadlines { command: SMTP_COMMAND, ..Deadlines::default() }),
        Err(error) => return failure(name, title, &error),
    };
    let host = route.target().to_string();
    match tokio::time::timeout(SMTP_ALL, route.check(&connection.mailbox)).await {
        Ok(Ok(signed_in)) => {
            let check = Check::passed(name, title);
            signed_in.size.into_iter().fold(check, |check, limit| check.with("takes", size(limit)))
        }
        Ok(Err(TransportError::Smtp(refusal))) if refusal.meaning == SmtpMeaning::AuthUnsuccessful => {
            not_let_in(connection, &refusal, claims)
        }
        Ok(Err(error)) => failure(name, title, &error),
        Err(_) => failure(name, title, &NetworkError::Timeout { host: host.clone(), waited: SMTP_ALL }),
    }
    .about(host)
}

/// Exchange has one answer for several reasons; what the token carries tells which commands are missing.
fn not_let_in(connection: &SenderConnection, refusal: &SmtpRefusal, claims: &AccessClaims) -> Check {
    let (name, title) = SMTP;
    let app = &connection.app.app;
    let mailbox = &connection.mailbox;
    let mut found = refusal.diagnosis();
    let principal = app.service_principal.or(claims.oid.map(Into::into));
    if let Some(principal) = principal {
        let lines = if claims.carries("SMTP.SendAsApp") {
            found.why = Some(format!(
                "The token carries SMTP.SendAsApp; with it Exchange also asks that the app is registered there and has the \
                 mailbox. {}",
                found.why.unwrap_or_default()
            ));
            limits::smtp_commands(app.client_id, principal, &app.display_name, mailbox)
        } else {
            found.why = Some(format!(
                "The token carries no SMTP.SendAsApp, so an Exchange role has to let it in. {}",
                found.why.unwrap_or_default()
            ));
            limits::commands(&Limit {
                client: app.client_id,
                principal,
                app: &app.display_name,
                mailboxes: std::slice::from_ref(mailbox),
                smtp: true,
                read_write: false,
            })
        };
        found.remedy =
            format!("In Exchange Online PowerShell, those of these that were not run yet: {}", lines.join("; "));
    }
    Check::failed(name, title, found)
}

/// The largest message that can leave, and what would make room.
pub(super) fn route_size(abilities: &Abilities) -> Check {
    let (name, title) = SIZE;
    let faithful = abilities.faithful_limit();
    let rewritten = abilities.graph_read_write && abilities.graph_send && abilities.preference != Preference::Smtp;
    let check = Check::passed(name, title).with("unchanged_up_to", size(faithful));
    let check = if rewritten {
        check.with("written_anew_up_to", format!("{} (draft and upload session)", size(abilities.message_limit)))
    } else {
        check
    };
    if faithful >= abilities.message_limit {
        return check;
    }
    let raise = if rewritten {
        Remedy::AllowSmtp.to_string()
    } else {
        format!("{}, or {}", Remedy::AllowSmtp, Remedy::AllowReadWrite)
    };
    check.with("to_send_more", raise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smtp_is_looked_at_where_somebody_wants_it() {
        let with = ["Mail.Send".to_owned(), "SMTP.SendAsApp".to_owned()];
        for (preference, permissions, proved, want) in [
            (RoutePreference::Smtp, &with[..1], false, true),
            (RoutePreference::Graph, &with[..], true, false),
            (RoutePreference::Automatic, &with[..1], false, false),
            (RoutePreference::Automatic, &with[..], false, true),
            (RoutePreference::Automatic, &with[..1], true, true),
        ] {
            assert_eq!(wants_smtp(preference, permissions, proved), want, "{preference:?} {permissions:?} {proved}");
        }
    }

    #[test]
    fn the_size_that_can_leave_comes_with_what_would_raise_it() {
        let graph = Abilities { graph_send: true, ..Abilities::default() };
        let small = route_size(&graph);
        assert!(small.evidence.iter().any(|(name, value)| *name == "to_send_more" && value.contains("Mail.ReadWrite")));
        let large = route_size(&Abilities { smtp: true, ..graph });
        assert!(large.evidence.iter().all(|(name, _)| *name != "to_send_more"), "{large:?}");
    }
}
