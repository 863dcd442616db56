//! Admin consent, in both versions: an administrator says yes for the whole organization.

use uuid::Uuid;

use super::{
    LoginRequest, LoginResponse, Refusal, TenantKey, authorize, consent,
    flow::{self, Flow, Kind},
    redirect::{self, ResponseMode},
    scopes, token_endpoint,
};
use crate::world::World;

/// A checked request.
#[derive(Debug, Clone)]
pub(crate) struct AdminConsent {
    pub(crate) v2: bool,
    pub(crate) scope: String,
    pub(crate) redirect_uri: String,
    pub(crate) state: Option<String>,
}

/// `GET /{tenant}/v2.0/adminconsent` and `GET /{tenant}/adminconsent`.
pub(super) fn handle(world: &mut World, request: &LoginRequest, key: &str) -> LoginResponse {
    match begin(world, request, key) {
        Ok(flow) => flow::start(world, request, flow),
        Err(refusal) => flow::error_page(world, request, &refusal),
    }
}

fn begin(world: &World, request: &LoginRequest, key: &str) -> Result<Flow, Refusal> {
    let v2 = request.path.iter().any(|segment| segment == "v2.0");
    let key = TenantKey::parse(world, key)?;
    if key == TenantKey::Consumers || (v2 && key == TenantKey::Common) {
        return Err(Refusal::not_over_consumers());
    }
    let client_id =
        request.parameter("client_id").filter(|id| !id.is_empty()).ok_or_else(|| Refusal::missing("client_id"))?;
    let app = match key {
        // `common` of version 1 is for every tenant's own apps too: who signs in says which.
        TenantKey::Common => world
            .tenants
            .iter()
            .find_map(|tenant| token_endpoint::application(world, tenant.id, client_id).ok())
            .ok_or_else(|| Refusal::unknown_application(client_id, "Microsoft Services"))?,
        _ => authorize::application(world, key, client_id)?,
    };
    let redirect_uri = match request.parameter("redirect_uri") {
        Some(uri) if !uri.is_empty() => uri.to_owned(),
        _ => return Err(Refusal::no_redirect()),
    };
    let extends = |uri: &str| {
        let registered = app.web_redirect_uris.iter().chain(&app.spa_redirect_uris).chain(&app.public_redirect_uris);
        registered.into_iter().any(|known| redirect::extends(known, uri))
    };
    // Version 1 allows extra path segments behind a registered URI.
    if redirect::registered(&app, &redirect_uri).is_none() && (v2 || !extends(&redirect_uri)) {
        return Err(Refusal::redirect_mismatch(&redirect_uri, client_id));
    }
    let scope = match request.parameter("scope").filter(|scope| v2 && !scope.trim().is_empty()) {
        Some(scope) => scope.to_owned(),
        None if v2 => return Err(Refusal::missing("scope")),
        None => "https://graph.microsoft.com/.default".to_owned(),
    };
    if let Some(tenant) = key.one(world) {
        scopes::parse(world, tenant, &scope)?;
    }
    let state = request.parameter("state").map(str::to_owned);
    let asked = AdminConsent { v2, scope, redirect_uri, state };
    Ok(Flow { key, app_id: app.app_id, kind: Kind::AdminConsent(asked), user: None })
}

fn answer(asked: &AdminConsent, mut parameters: Vec<(&'static str, String)>) -> LoginResponse {
    if let Some(state) = &asked.state {
        parameters.push(("state", state.clone()));
    }
    flow::redirect(&redirect::url(&asked.redirect_uri, ResponseMode::Query, &parameters))
}

/// The administrator said no.
pub(super) fn refuse(world: &World, request: &LoginRequest, asked: &AdminConsent) -> LoginResponse {
    if !asked.v2 {
        let description = "The admin canceled the request".to_owned();
        return answer(asked, vec![("error", "permission_denied".to_owned()), ("error_description", description)]);
    }
    let refusal = Refusal::admin_consent_declined();
    let description = refusal.description(&request.trace_id, &request.correlation_id, world.clock.now());
    answer(
        asked,
        vec![
            // It stands there on refusals too.
            ("admin_consent", "True".to_owned()),
            ("error", refusal.error.to_owned()),
            ("error_description", description),
        ],
    )
}

/// The administrator said yes; the grants are written.
pub(super) fn finish(world: &World, flow: &Flow, asked: &AdminConsent, tenant: Uuid) -> LoginResponse {
    if !asked.v2 {
        return answer(asked, vec![("tenant", tenant.to_string()), ("admin_consent", "True".to_owned())]);
    }
    let granted = token_endpoint::application(world, tenant, &flow.app_id.to_string()).ok().and_then(|app| {
        let wanted = scopes::parse(world, world.tenant(tenant)?, &asked.scope).ok()?;
        let prefix = wanted.first().map_or("https://graph.microsoft.com", |api| api.audience.as_str());
        Some(consent::names(&consent::list(world, tenant, &app, &wanted, false), prefix))
    });
    answer(
        asked,
        vec![
            ("admin_consent", "True".to_owned()),
            ("tenant", tenant.to_string()),
            ("scope", granted.unwrap_or_default()),
        ],
    )
}
