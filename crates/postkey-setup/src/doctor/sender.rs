//! One sender's chain in the order in which its links depend on each other.

use postkey_identity::{AccessClaims, Cloud, TokenSource};
use postkey_store::{App, Sender, Stage};
use postkey_transport::Abilities;

use super::{
    Check, Held, Round, app, credentials, failure, mailbox,
    network::Way,
    permission::{self, Facts},
};
use crate::{
    abilities::{self, Found},
    connection::{ConnectionError, Outside, SenderConnection},
    limits,
};

const COMPLETE: (&str, &str) = ("sender.complete", "all values of the sender are known");
const USABLE: (&str, &str) = ("credential.usable", "a credential that has worked can be opened");

/// One sender and what belongs to it, as far as the store knows.
pub(super) struct Chain {
    pub(super) sender: Sender,
    /// Where its tenant is; the worldwide cloud as long as nobody has said which tenant.
    pub(super) cloud: Cloud,
    app: Option<App>,
    connected: Result<SenderConnection, ConnectionError>,
}

impl Chain {
    pub(super) async fn open(outside: &Outside, sender: &Sender) -> Self {
        let app = match sender.values.app {
            Some(id) => outside.app_and_cloud(id).await.ok(),
            None => None,
        };
        let cloud = match (&app, sender.values.tenant) {
            (Some((_, cloud)), _) => cloud.clone(),
            (None, Some(tenant)) => {
                let known = outside.store.tenant(tenant).await.ok().flatten();
                known.and_then(|tenant| serde_json::from_value(tenant.cloud).ok()).unwrap_or_else(Cloud::global)
            }
            (None, None) => Cloud::global(),
        };
        let connected = outside.sender(&sender.values.name).await;
        Self { sender: sender.clone(), cloud, app: app.map(|(app, _)| app), connected }
    }

    pub(super) fn may_want_smtp(&self) -> bool {
        let permissions = self.app.as_ref().map(|app| app.permissions.as_slice()).unwrap_or_default();
        mailbox::wants_smtp(self.sender.values.route, permissions, self.proved().smtp)
    }

    /// Whether it is known which hosts it needs.
    pub(super) fn has_place(&self) -> bool {
        self.sender.values.tenant.is_some()
    }

    /// What the last proof showed.
    fn proved(&self) -> Found {
        let proof = self.sender.last_proof.as_ref();
        proof.and_then(|proof| serde_json::from_value(proof["found"].clone()).ok()).unwrap_or_default()
    }
}

pub(super) async fn examine(outside: &Outside, chain: &Chain, way: Way, round: &mut Round<'_>) {
    let complete = round.add(complete(chain));
    let tenant = match (way.login, chain.sender.values.tenant) {
        (_, None) => round.skip(app::TENANT.0, app::TENANT.1, COMPLETE.0),
        (Err(because), _) => round.skip(app::TENANT.0, app::TENANT.1, because),
        (Ok(()), Some(tenant)) => {
            let check = match outside.endpoint(&chain.cloud) {
                Ok(endpoint) => app::tenant(&endpoint, tenant).await,
                Err(error) => failure(app::TENANT.0, app::TENANT.1, &error),
            };
            round.add(check)
        }
    };
    if let Some(known) = &chain.app {
        match outside.store.credentials(known.id).await {
            Ok(all) => {
                let now = outside.clock.now();
                for check in credentials::examine(now, known, &chain.cloud, &all, &chain.sender.values.name) {
                    let _ = round.add(check);
                }
            }
            Err(error) => drop(round.add(failure(credentials::DATES.0, credentials::DATES.1, &error))),
        }
    }
    let connection = match (complete.and(tenant), &chain.connected) {
        (Err(because), _) => return skip_from(app::FOUND.0, because, round),
        (Ok(()), Err(error)) => {
            let _ = round.add(failure(USABLE.0, USABLE.1, error));
            return skip_from(app::FOUND.0, USABLE.0, round);
        }
        (Ok(()), Ok(connection)) => connection,
    };
    let answer = connection.app.graph_tokens().token().await;
    let found = round.add(app::found(&answer).with("client_id", connection.app.app.client_id));
    if let (
        Err(because),
        Err(postkey_identity::TokenError::AppNotFound(_) | postkey_identity::TokenError::AppDisabled(_)),
    ) = (found, &answer)
    {
        return skip_from(app::GRAPH.0, because, round);
    }
    let claims = answer.as_ref().ok().and_then(AccessClaims::of);
    let token = round.add(app::token(app::GRAPH, &answer, claims.as_ref()));
    let sends = match token.and(way.graph) {
        Ok(()) => permissions_and_mailbox(chain, connection, claims.as_ref(), round).await,
        Err(because) => {
            for (name, title) in [
                permission::DECLARED,
                permission::CONSENTED,
                permission::MISTAKE,
                mailbox::EXISTS,
                mailbox::PROBE,
                mailbox::REACH,
            ] {
                let _ = round.skip(name, title, because);
            }
            Err(because)
        }
    };
    let smtp = smtp(chain, connection, way.login, sends.is_ok(), round).await;
    let carries = |permission: &str| claims.as_ref().is_some_and(|claims| claims.carries(permission));
    let abilities = Abilities {
        graph_send: sends.is_ok(),
        graph_read_write: carries("Mail.ReadWrite") || chain.proved().graph_read_write,
        smtp: smtp.is_ok(),
        preference: abilities::preference(&chain.sender),
        ..Abilities::default()
    };
    let _ = match (abilities.faithful_limit(), sends) {
        (0, Err(because)) => round.skip(mailbox::SIZE.0, mailbox::SIZE.1, because),
        (0, Ok(())) => round.skip(mailbox::SIZE.0, mailbox::SIZE.1, mailbox::SMTP.0),
        _ => round.add(mailbox::route_size(&abilities)),
    };
}

fn complete(chain: &Chain) -> Check {
    let (name, title) = COMPLETE;
    let check = match (&chain.sender.stage, &chain.connected) {
        (Stage::Incomplete { .. }, Err(error)) => failure(name, title, error),
        // An app that is not known yet is a value that is missing, whatever the stage says.
        (_, Err(error @ ConnectionError::Incomplete { .. })) => failure(name, title, error),
        _ => Check::passed(name, title),
    };
    let stage = match &chain.sender.stage {
        Stage::Incomplete { .. } => "incomplete".to_owned(),
        Stage::Ready => "ready".to_owned(),
        Stage::Verified { at } => format!("verified {}", at.strftime("%Y-%m-%d")),
    };
    check.with("stage", stage)
}

/// Probes the mailbox once; everything about permission and mailbox follows from its answer.
async fn permissions_and_mailbox(
    chain: &Chain,
    connection: &SenderConnection,
    claims: Option<&AccessClaims>,
    round: &mut Round<'_>,
) -> Held {
    let graph = match connection.app.graph() {
        Ok(graph) => graph,
        Err(error) => return round.add(failure(mailbox::PROBE.0, mailbox::PROBE.1, &error)),
    };
    let role = claims.map(|claims| claims.carries("Mail.Send"));
    let opaque = AccessClaims::default();
    let claims = claims.unwrap_or(&opaque);
    let probed = limits::probe(&graph, &connection.mailbox).await;
    let answered = mailbox::answered(&probed);
    let app = &connection.app.app;
    let facts = Facts {
        role,
        registration: permission::read(&graph, claims, app.client_id).await,
        answered,
        limited: is_limited(chain, app),
    };
    let permitted = permission::report(&permission::judge(&facts), app.client_id, &connection.app.cloud, round);
    // Where the registration could be read, the cause is known, and the refusal follows from it.
    let known = permitted.err().filter(|_| facts.registration.is_some());
    let _ = round.add(mailbox::exists(connection, &graph, &probed, claims).await);
    let probe = round.add(mailbox::probe(connection, &probed, role, claims, known));
    let _ = round.add(mailbox::reach(connection, role, answered));
    probe
}

/// Whether it was set up for an Exchange role instead of consent in Entra.
fn is_limited(chain: &Chain, app: &App) -> bool {
    let registered = app.origin == postkey_store::Origin::Registered;
    chain.sender.reach == postkey_store::Reach::Limited
        || (registered && !app.permissions.iter().any(|name| name == "Mail.Send"))
}

async fn smtp(
    chain: &Chain,
    connection: &SenderConnection,
    login: Held,
    graph_sends: bool,
    round: &mut Round<'_>,
) -> Held {
    if !chain.may_want_smtp() {
        for (name, title) in [app::MAIL, mailbox::SMTP] {
            let _ = round.add(Check::skipped(name, title, "this sender does not use SMTP"));
        }
        return Err(mailbox::SMTP.0);
    }
    if let Err(because) = login {
        let _ = round.skip(app::MAIL.0, app::MAIL.1, because);
        return round.skip(mailbox::SMTP.0, mailbox::SMTP.1, because);
    }
    let answer = connection.app.mail_tokens().token().await;
    let claims = answer.as_ref().ok().and_then(AccessClaims::of);
    match round.add(app::token(app::MAIL, &answer, claims.as_ref())) {
        Ok(()) => {
            let (check, held) = mailbox::smtp(connection, &claims.unwrap_or_default(), graph_sends).await;
            let _ = round.add(check);
            held
        }
        Err(because) => round.skip(mailbox::SMTP.0, mailbox::SMTP.1, because),
    }
}

/// Names every link that was not reached.
fn skip_from(first: &'static str, because: &'static str, round: &mut Round<'_>) {
    let links = [
        app::FOUND,
        app::GRAPH,
        permission::DECLARED,
        permission::CONSENTED,
        permission::MISTAKE,
        mailbox::EXISTS,
        mailbox::PROBE,
        mailbox::REACH,
        app::MAIL,
        mailbox::SMTP,
        mailbox::SIZE,
    ];
    for (name, title) in links.into_iter().skip_while(|(name, _)| *name != first) {
        let _ = round.skip(name, title, because);
    }
}
