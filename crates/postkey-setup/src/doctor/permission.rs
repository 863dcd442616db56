//! Whether the permission to send is declared, consented to, and of the right kind: a pure verdict from what the token
//! shows, what the registration says where it may be read, and what the mailbox answers to a send that cannot deliver.
//! The token alone decides nothing, since an Exchange role (RBAC for Applications) leaves no trace in it.

use postkey_base::{ClientId, Diagnosis, Who};
use postkey_graph::{
    Graph, GraphError, app_role_assignments, applications,
    applications::AccessKind,
    delegated_grants,
    permissions::{self, Api},
    service_principals,
};
use postkey_identity::{AccessClaims, Cloud, PortalPage};

use super::{Check, Held, Round, finding};

pub(super) const DECLARED: (&str, &str) = ("permission.declared", "the app asks for the permission to send");
pub(super) const CONSENTED: (&str, &str) = ("permission.consented", "an administrator has consented to it");
pub(super) const MISTAKE: (&str, &str) = ("permission.delegated_by_mistake", "it is an application permission");

const SEND: &str = "Mail.Send";
/// Any of these lets an app read its own registration.
const READERS: [&str; 4] =
    ["Application.Read.All", "Application.ReadWrite.All", "Application.ReadWrite.OwnedBy", "Directory.Read.All"];

/// What the app's own registration says about Mail.Send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Registration {
    pub(super) declared: bool,
    pub(super) declared_delegated: bool,
    pub(super) consented: bool,
    pub(super) consented_delegated: bool,
}

/// What the mailbox answered to the probe, as far as permissions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    Allowed,
    Refused,
    /// No mailbox, no answer, or one that says nothing about permission.
    Unclear,
}

/// All that the verdict depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whether the token carries the role; none when it cannot be read.
    pub(super) role: Option<bool>,
    pub(super) registration: Option<Registration>,
    pub(super) answered: Answered,
    /// Set up to be limited by an Exchange role, without consent in Entra.
    pub(super) limited: bool,
}

/// What came out for one of the three checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    Holds(&'static str),
    Untold(&'static str),
    Doubtful(Cause),
    Broken(Cause),
}

/// Why the app may not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing more can be seen: not consented, delegated, or limited elsewhere.
    OneOfThree,
    NotDeclared,
    NotConsented,
    DelegatedInstead,
    /// Consented a moment ago.
    TokenOlder,
    /// No role in the token, and the mailbox did not say.
    NoRole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) declared: Finding,
    pub(super) consented: Finding,
    pub(super) mistake: Finding,
}

pub(super) fn judge(facts: &Facts) -> Verdict {
    use Answered::{Allowed, Refused};
    use Finding::{Broken, Doubtful, Holds, Untold};
    let all = |how| Verdict { declared: Holds(how), consented: Holds(how), mistake: Holds(how) };
    if facts.role == Some(true) {
        return all("the token carries it");
    }
    if facts.answered == Allowed {
        return all("an Exchange role allows it; Entra need not");
    }
    let Some(registration) = facts.registration else {
        const UNREAD: &str = "the app may not read its own registration";
        let consented = match facts.answered {
            // send.probe tells what is wrong with the role's scope.
            Refused if facts.limited => Untold("an Exchange role was arranged in its place"),
            Refused => Broken(Cause::OneOfThree),
            _ => Doubtful(Cause::NoRole),
        };
        let mistake = match consented {
            Broken(_) => "only the registration tells; see permission.consented",
            _ => UNREAD,
        };
        return Verdict { declared: Untold(UNREAD), consented, mistake: Untold(mistake) };
    };
    let delegated = registration.declared_delegated || registration.consented_delegated;
    if registration.consented {
        let right = Holds("as an application permission");
        return Verdict { declared: right, consented: Doubtful(Cause::TokenOlder), mistake: right };
    }
    if registration.declared {
        let right = Holds("as an application permission");
        return Verdict { declared: right, consented: Broken(Cause::NotConsented), mistake: right };
    }
    if delegated {
        return Verdict {
            declared: Broken(Cause::NotDeclared),
            consented: Untold("permission.declared does not hold"),
            mistake: Broken(Cause::DelegatedInstead),
        };
    }
    let declared =
        if facts.limited { Untold("an Exchange role was arranged in its place") } else { Broken(Cause::NotDeclared) };
    Verdict {
        declared,
        consented: Untold("nothing is declared"),
        mistake: Holds("it was not added as a delegated one"),
    }
}

/// Turns the verdict into checks.
pub(super) fn report(verdict: &Verdict, client: ClientId, cloud: &Cloud, round: &mut Round<'_>) -> Held {
    let mut all = Ok(());
    for ((name, title), found) in
        [(DECLARED, verdict.declared), (CONSENTED, verdict.consented), (MISTAKE, verdict.mistake)]
    {
        let check = match found {
            Finding::Holds(how) => Check::passed(name, title).with("how", how),
            Finding::Untold(why) => Check::skipped(name, title, why),
            Finding::Doubtful(cause) => Check::warning(name, title, diagnosis(cause, client, cloud)),
            Finding::Broken(cause) => Check::failed(name, title, diagnosis(cause, client, cloud)),
        };
        let broken = matches!(found, Finding::Broken(_));
        let held = round.add(check);
        if broken {
            all = all.and(held);
        }
    }
    all
}

fn diagnosis(cause: Cause, client: ClientId, cloud: &Cloud) -> Diagnosis {
    let page = PortalPage::ApiPermissions(client);
    let place = format!("{} ({})", page.path(), cloud.portal_link(page));
    let add = "Add a permission > Microsoft Graph > Application permissions > Mail.Send, then Grant admin consent";
    let soon = "Works within minutes, in rare cases an hour.";
    match cause {
        Cause::OneOfThree => finding(
            "permission.not_in_effect",
            "the app holds no permission to send from this mailbox",
            "The token carries no Mail.Send, and Exchange refuses. One of three: Mail.Send is only declared and nobody has \
             consented; it was added as a delegated permission instead of an application permission; or an Exchange role \
             limits the app to other mailboxes."
                .to_owned(),
            format!(
                "Open {place}. If Mail.Send stands there with type Application and no green tick: Grant admin consent. If its \
                 type is Delegated, or it is missing: {add}. If the app is limited in Exchange instead: bring the mailbox into \
                 the scope of its role (send.probe has the command). {soon}"
            ),
            Who::TenantAdministrator,
        ),
        Cause::NotDeclared => finding(
            "permission.not_declared",
            "the app does not ask for Mail.Send as an application permission",
            None,
            format!("Open {place}: {add}. {soon}"),
            Who::TenantAdministrator,
        ),
        Cause::NotConsented => finding(
            "permission.not_consented",
            "Mail.Send is declared, but no administrator has consented to it",
            None,
            format!("Open {place} and press Grant admin consent. {soon}"),
            Who::TenantAdministrator,
        ),
        Cause::DelegatedInstead => finding(
            "permission.delegated_by_mistake",
            "Mail.Send was added as a delegated permission",
            "A delegated permission works only while a person is signed in; an application that sends by itself needs the \
             application permission of the same name."
                .to_owned(),
            format!("Open {place}: {add}. The delegated one may be removed. {soon}"),
            Who::TenantAdministrator,
        ),
        Cause::TokenOlder => finding(
            "permission.token_older",
            "Mail.Send has been consented to, but the token does not carry it yet",
            None,
            "Wait some minutes and run it again.",
            Who::Wait,
        ),
        Cause::NoRole => finding(
            "permission.unproved",
            "the token carries no Mail.Send",
            "An Exchange role may stand in for it; only the probe could tell, and it got no clear answer.".to_owned(),
            format!("Mend what send.probe or mailbox.exists names first. If it is the permission after all: {place}, {add}."),
            Who::You,
        ),
    }
}

/// Reads the app's own registration where the token lets it, which is rare.
pub(super) async fn read(graph: &Graph, claims: &AccessClaims, client: ClientId) -> Option<Registration> {
    if !READERS.iter().any(|reader| claims.carries(reader)) {
        return None;
    }
    registration(graph, client).await.inspect_err(|error| tracing::debug!(%error, "the registration stays unread")).ok()
}

async fn registration(graph: &Graph, client: ClientId) -> Result<Registration, GraphError> {
    let mut found = Registration::default();
    let Some(send) = permissions::named(Api::Graph, SEND) else { return Ok(found) };
    // The registration may be another tenant's; then its service principal alone tells.
    match applications::get_by_client_id(graph, client).await {
        Ok(app) => {
            let of_graph = app.required_resource_access.iter().filter(|one| one.api == Api::Graph.client_id());
            for access in of_graph.flat_map(|one| &one.access) {
                found.declared |=
                    access.kind == AccessKind::Role && send.application_id.map(|id| id.uuid()) == Some(access.id);
                found.declared_delegated |= access.kind == AccessKind::Scope && send.delegated_id == Some(access.id);
            }
        }
        Err(GraphError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    let principal = service_principals::get_by_client_id(graph, client).await?;
    let roles = app_role_assignments::list(graph, principal.id, None).await?;
    found.consented = roles.iter().any(|role| Some(role.app_role_id) == send.application_id);
    // Reading these takes another permission: without it the declaration has to do.
    if let Ok(grants) = delegated_grants::list(graph, principal.id).await {
        found.consented_delegated =
            grants.iter().flat_map(|grant| grant.scopes()).any(|scope| scope.eq_ignore_ascii_case(SEND));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Registration =
        Registration { declared: false, declared_delegated: false, consented: false, consented_delegated: false };

    /// `+` holds, `?` untold, `!` doubtful, `-` broken; the cause that speaks.
    fn signs(facts: Facts) -> (String, Option<Cause>) {
        let verdict = judge(&facts);
        let all = [verdict.declared, verdict.consented, verdict.mistake];
        let signs = all
            .iter()
            .map(|found| match found {
                Finding::Holds(_) => '+',
                Finding::Untold(_) => '?',
                Finding::Doubtful(_) => '!',
                Finding::Broken(_) => '-',
            })
            .collect();
        let cause = all.iter().rev().find_map(|found| match found {
            Finding::Broken(cause) | Finding::Doubtful(cause) => Some(*cause),
            _ => None,
        });
        (signs, cause)
    }

    #[test]
    fn the_verdict_follows_token_registration_and_probe_together() {
        use Answered::{Allowed, Refused, Unclear};
        let declared = Registration { declared: true, ..NOTHING };
        let consented = Registration { consented: true, ..declared };
        let delegated = Registration { declared_delegated: true, consented_delegated: true, ..NOTHING };
        let both = Registration { declared_delegated: true, ..declared };
        for (role, registration, answered, limited, want, cause) in [
            (Some(true), None, Allowed, false, "+++", None),
            // The role is there and the mailbox refuses: a matter of reach, not of consent.
            (Some(true), None, Refused, false, "+++", None),
            (Some(true), Some(NOTHING), Unclear, false, "+++", None),
            // An Exchange role leaves no trace in the token.
            (Some(false), None, Allowed, true, "+++", None),
            (Some(false), Some(NOTHING), Allowed, false, "+++", None),
            (None, None, Allowed, false, "+++", None),
            (Some(false), None, Refused, false, "?-?", Some(Cause::OneOfThree)),
            (None, None, Refused, false, "?-?", Some(Cause::OneOfThree)),
            (Some(false), None, Refused, true, "???", None),
            (Some(false), None, Unclear, false, "?!?", Some(Cause::NoRole)),
            (Some(false), Some(consented), Refused, false, "+!+", Some(Cause::TokenOlder)),
            (Some(false), Some(declared), Refused, false, "+-+", Some(Cause::NotConsented)),
            (Some(false), Some(both), Refused, false, "+-+", Some(Cause::NotConsented)),
            (Some(false), Some(delegated), Refused, false, "-?-", Some(Cause::DelegatedInstead)),
            (Some(false), Some(delegated), Unclear, false, "-?-", Some(Cause::DelegatedInstead)),
            (Some(false), Some(NOTHING), Refused, false, "-?+", Some(Cause::NotDeclared)),
            (Some(false), Some(NOTHING), Refused, true, "??+", None),
        ] {
            let facts = Facts { role, registration, answered, limited };
            assert_eq!(signs(facts), (want.to_owned(), cause), "{facts:?}");
        }
    }

    #[test]
    fn every_cause_leads_to_the_page_where_it_is_mended() {
        let client: ClientId = "11111111-1111-4111-8111-111111111111".parse().unwrap();
        for cause in
            [Cause::OneOfThree, Cause::NotDeclared, Cause::NotConsented, Cause::DelegatedInstead, Cause::NoRole]
        {
            let found = diagnosis(cause, client, &Cloud::us_gov());
            assert!(found.remedy.contains("entra.microsoft.us") && found.remedy.contains("CallAnAPI"), "{found:?}");
        }
        assert!(diagnosis(Cause::OneOfThree, client, &Cloud::global()).why.unwrap().contains("delegated"));
    }
}
