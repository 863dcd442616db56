//! `postkey sender limit`: the commands that limit an app to its mailboxes, and a probe of what it can do today.

use postkey_base::{EmailAddress, Who};
use postkey_identity::{TokenSource, claims::AccessClaims};
use postkey_setup::{
    connection::Outside,
    limits::{self, Limit, Probed},
};
use serde_json::json;

use crate::{
    failure::Failure,
    output::{self, BAD, FAINT, GOOD, STRONG, WARN, styled},
};

/// Prints the commands, probes both mailboxes, and writes down what came out.
pub(super) async fn run(outside: &Outside, name: &str, denied: Option<String>, json: bool) -> Result<(), Failure> {
    let connection = outside.sender(name).await?;
    let denied: Option<EmailAddress> = denied
        .map(|text| {
            text.parse().map_err(|error: postkey_base::address::AddressError| {
                Failure::usage(error.to_string(), "Give --denied as name@domain.")
            })
        })
        .transpose()?;
    let token = connection.app.graph_tokens().token().await?;
    let claims = AccessClaims::of(&token).unwrap_or_default();
    let app = &connection.app.app;
    // The token's object id is the enterprise application's; the registration's would be refused by Exchange.
    let principal = app.service_principal.or(claims.oid.map(Into::into)).ok_or_else(|| {
        Failure::new(
            "setup.principal_unknown",
            "the object id of the enterprise application is not known",
            "Copy it from Enterprise applications > (the app) > Overview: Object ID.",
            Who::You,
        )
    })?;
    // One role with one scope for all the mailboxes that this app is used for.
    let senders = outside.store.senders().await?.into_iter();
    let others = senders.filter(|other| other.values.app == Some(app.id)).filter_map(|other| other.values.mailbox);
    let mut mailboxes = vec![connection.mailbox.clone()];
    for mailbox in others {
        if !mailboxes.contains(&mailbox) {
            mailboxes.push(mailbox);
        }
    }
    let granted = postkey_setup::abilities::granted(&connection).await;
    let lines = limits::commands(&Limit {
        client: app.client_id,
        principal,
        app: &app.display_name,
        mailboxes: &mailboxes,
        smtp: granted.smtp,
        read_write: granted.graph_read_write,
    });
    let graph = connection.app.graph()?;
    let own = limits::probe(&graph, &connection.mailbox).await;
    let other = match &denied {
        Some(address) => Some(limits::probe(&graph, address).await),
        None => None,
    };
    let verdict = verdict(&own, other.as_ref());
    let reach = match (&own, &other) {
        (_, Some(Probed::Allowed)) => postkey_store::Reach::TenantWide,
        (Probed::Allowed, Some(Probed::Refused(_))) => postkey_store::Reach::Limited,
        _ => postkey_store::Reach::Unknown,
    };
    if other.is_some() {
        let mut proof = connection.sender.last_proof.clone().unwrap_or_else(|| json!({}));
        proof["limit"] =
            json!({ "allowed": connection.mailbox, "denied": denied, "verdict": verdict, "at": outside.clock.now() });
        outside.store.record_sender_reach(name, reach, &proof).await?;
    }
    let granted_in_entra = claims.roles.iter().any(|role| role == "Mail.Send");
    if json {
        output::json(&json!({
            "commands": lines,
            "granted_in_entra": granted_in_entra,
            "probes": {
                "allowed": { "mailbox": connection.mailbox, "result": probed(&own) },
                "denied": other.as_ref().map(|other| json!({ "mailbox": denied, "result": probed(other) })),
            },
            "verdict": verdict,
        }));
        return Ok(());
    }
    output::line(styled(
        STRONG,
        "For an Exchange administrator, in Exchange Online PowerShell (30 minutes to 2 hours to work):",
    ));
    output::line("");
    for line in &lines {
        output::line(format_args!("  {line}"));
    }
    if granted_in_entra {
        output::line(format_args!(
            "\n{} Mail.Send is granted in Entra as well. The two add up, so the app can send as everyone until that grant is removed:\n  {}",
            styled(WARN, "!"),
            connection.app.cloud.portal_link(postkey_identity::PortalPage::ApiPermissions(app.client_id)),
        ));
    }
    output::line(format_args!("\n{}", styled(STRONG, "What it can do today")));
    output::line(format_args!("  {:<32} {}", connection.mailbox.as_str(), shown(&own)));
    if let (Some(address), Some(other)) = (&denied, &other) {
        output::line(format_args!("  {:<32} {}", address.as_str(), shown(other)));
    }
    output::line(format_args!("\n{verdict}"));
    Ok(())
}

fn verdict(own: &Probed, other: Option<&Probed>) -> &'static str {
    match (own, other) {
        (_, Some(Probed::Allowed)) => "not limited: it can send as the mailbox that ought to be refused",
        (Probed::Allowed, Some(Probed::Refused(_))) => "limited: its own mailbox is allowed, the other is refused",
        (Probed::Refused(_), _) => "not usable: its own mailbox is refused",
        (_, Some(Probed::Unknown(_))) => "unknown: the other mailbox gave no clear answer",
        (Probed::Unknown(_), _) => "unknown: its own mailbox gave no clear answer",
        (Probed::Allowed, None) => {
            "its own mailbox is allowed; name one that ought to be refused with --denied to prove the limit"
        }
    }
}

fn probed(probe: &Probed) -> &'static str {
    match probe {
        Probed::Allowed => "allowed",
        Probed::Refused(_) => "refused",
        Probed::Unknown(_) => "unknown",
    }
}

fn shown(probe: &Probed) -> String {
    match probe {
        Probed::Allowed => styled(GOOD, "may send"),
        Probed::Refused(error) => format!("{}  {}", styled(BAD, "refused"), styled(FAINT, error)),
        Probed::Unknown(Some(error)) => format!("{}  {}", styled(WARN, "unknown"), styled(FAINT, error)),
        Probed::Unknown(None) => styled(WARN, "unknown"),
    }
}
