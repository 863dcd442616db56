//! Which application speaks, and its proof: a client secret, a certificate, a federated token.

use base64::{Engine, engine::general_purpose::STANDARD};
use uuid::Uuid;

use super::{LoginRequest, assertion, refusal::Refusal};
use crate::{
    directory::{Application, ClientSecret, KeyCredential, OwnCredentials},
    world::{Tenant, World},
};

/// How an application proved itself; goes into `appidacr` and the sign-in log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    None,
    Secret { key_id: Uuid },
    Certificate { key_id: Uuid, thumbprint: String },
    Federated { id: Uuid },
}

impl Proof {
    /// `0` public, `1` secret, `2` certificate or federated.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::None => "0",
            Self::Secret { .. } => "1",
            Self::Certificate { .. } | Self::Federated { .. } => "2",
        }
    }
}

/// A registration as seen from a tenant: its own, a multi-tenant one of another tenant, or Microsoft's.
pub(crate) fn find_application<'a>(world: &'a World, tenant: &Tenant, app_id: Uuid) -> Option<&'a Application> {
    let now = world.clock.now();
    let home = world.tenants.iter().find_map(|home| Some((home.id, home.directory.application_by_app_id(app_id)?)));
    let found = match home {
        Some((home, app)) if home == tenant.id || app.sign_in_audience != "AzureADMyOrg" => Some(app),
        Some(_) => None,
        None => world.first_party_applications.iter().find(|app| app.app_id == app_id),
    };
    found.filter(|app| app.visible_from <= now)
}

/// `client_id` and `client_secret` from the body or from HTTP Basic.
pub(crate) fn presented(request: &LoginRequest) -> (Option<String>, Option<String>) {
    let basic = request.header("authorization").and_then(|value| {
        let (scheme, encoded) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (id, secret) = text.split_once(':')?;
        // RFC 6749 §2.3.1: both are form-encoded before base64.
        Some((form_decode(id), form_decode(secret)))
    });
    let (basic_id, basic_secret) = basic.unzip();
    (
        request.field("client_id").map(str::to_owned).or(basic_id),
        request.field("client_secret").map(str::to_owned).or(basic_secret),
    )
}

fn form_decode(text: &str) -> String {
    let pair = format!("v={text}");
    form_urlencoded::parse(pair.as_bytes()).next().map_or_else(String::new, |(_, value)| value.into_owned())
}

/// Checks whatever proof came with a request. No proof at all is [`Proof::None`]: the caller decides whether that will do.
pub(crate) fn authenticate(
    world: &mut World,
    request: &LoginRequest,
    tenant: Uuid,
    app_id: Uuid,
) -> Result<Proof, Refusal> {
    let (_, secret) = presented(request);
    if let Some(jwt) = request.field("client_assertion") {
        if request.field("client_assertion_type") != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
            return Err(Refusal::missing("client_assertion_type"));
        }
        return assertion::check(world, request, tenant, app_id, jwt);
    }
    match secret {
        Some(secret) if !secret.is_empty() => check_secret(world, tenant, app_id, &secret),
        _ => Ok(Proof::None),
    }
}

fn check_secret(world: &mut World, tenant: Uuid, app_id: Uuid, secret: &str) -> Result<Proof, Refusal> {
    let app_name = app_id.to_string();
    let now = world.clock.now();
    let Some(held) = secrets_of(world, tenant, app_id).into_iter().find(|held| held.text == secret) else {
        return Err(Refusal::wrong_secret(&app_name));
    };
    // A credential that the token nodes have not heard of yet is like a wrong one.
    if held.start > now || !world.accepts_credential(held.accepted_from) {
        return Err(Refusal::wrong_secret(&app_name));
    }
    if held.end <= now {
        return Err(Refusal::expired_secret(&app_name));
    }
    Ok(Proof::Secret { key_id: held.key_id })
}

/// The registration of a client as its tenant sees it.
pub(crate) fn registration(world: &World, tenant: Uuid, app_id: Uuid) -> Option<&Application> {
    find_application(world, world.tenant(tenant)?, app_id)
}

fn own_credentials(world: &World, tenant: Uuid, app_id: Uuid) -> Option<&OwnCredentials> {
    let directory = &world.tenant(tenant)?.directory;
    let principal = directory.service_principal_by_app_id(app_id)?;
    directory.service_principal_credentials.get(&principal.id)
}

/// The secrets that prove a client in a tenant: its registration's and its service principal's there.
fn secrets_of(world: &World, tenant: Uuid, app_id: Uuid) -> Vec<ClientSecret> {
    let registered = registration(world, tenant, app_id).into_iter().flat_map(|app| &app.secrets);
    let own = own_credentials(world, tenant, app_id).into_iter().flat_map(|own| &own.secrets);
    let now = world.clock.now();
    let lingering = world.tenants.iter().flat_map(|tenant| &tenant.directory.lingering_secrets);
    let lingering = lingering.filter(|(app, _, until)| *app == app_id && *until > now).map(|(_, secret, _)| secret);
    registered.chain(own).chain(lingering).cloned().collect()
}

/// The certificates that prove a client in a tenant.
pub(crate) fn keys_of(world: &World, tenant: Uuid, app_id: Uuid) -> Vec<KeyCredential> {
    let registered = registration(world, tenant, app_id).into_iter().flat_map(|app| &app.keys);
    let own = own_credentials(world, tenant, app_id).into_iter().flat_map(|own| &own.keys);
    registered.chain(own).cloned().collect()
}
