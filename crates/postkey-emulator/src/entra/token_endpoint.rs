//! `POST /{tenant}/oauth2/v2.0/token`: every grant.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    LoginRequest, LoginResponse, Refusal, TenantKey,
    client::{self, Proof},
    grants::{Challenge, Code, DeviceState, RedirectKind, Scopes},
    mint, scopes,
    sign_in_log::{self, Row},
    user_answer::{REFRESH_LENGTH, REFRESH_PREFIX, UserGrant, user_answer, user_who_may},
};
use crate::{
    directory::Application,
    world::{Tenant, World},
};

/// A refresh token idle for longer is dead.
const REFRESH_IDLE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// An authorization code lives about ten minutes.
const CODE_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// A device code lives fifteen minutes.
pub(crate) const DEVICE_LIFETIME: SignedDuration = SignedDuration::from_mins(15);

/// Answers a token request.
pub(super) fn handle(world: &mut World, request: &LoginRequest, key: &str) -> LoginResponse {
    if request.method == http::Method::OPTIONS {
        return cross_origin(LoginResponse::json(200, &Value::Null));
    }
    if request.method != http::Method::POST {
        let refusal = Refusal::wrong_verb("POST", request.method.as_str());
        return LoginResponse::refused(world, request, &refusal);
    }
    let (presented, _) = client::presented(request);
    let app_id = presented.as_deref().and_then(|text| Uuid::try_parse(text).ok());
    let mut answer = match grant(world, request, key, presented.as_deref()) {
        Ok(body) => LoginResponse::json(200, &body).never_stored(),
        Err(refusal) => LoginResponse::refused(world, request, &refusal),
    };
    answer.app_id = app_id;
    // As observed: clients that keep cookies must not mind them.
    for cookie in [
        "fpc=emulator; path=/; secure; HttpOnly; SameSite=None",
        "x-ms-gateway-slice=estsfd; path=/; secure; HttpOnly",
        "stsservicecookie=estsfd; path=/; secure; HttpOnly",
    ] {
        answer = answer.with("set-cookie", cookie);
    }
    if request.header("origin").is_some() { cross_origin(answer) } else { answer }
}

fn cross_origin(answer: LoginResponse) -> LoginResponse {
    answer
        .with("access-control-allow-origin", "*")
        .with("access-control-allow-methods", "POST, OPTIONS")
        .with("access-control-allow-headers", "*")
}

/// One token request, its tenant and application found.
pub(super) struct Asked<'a> {
    pub(super) request: &'a LoginRequest,
    pub(super) tenant: Uuid,
    pub(super) app: Application,
    pub(super) v2: bool,
}

fn grant(world: &mut World, request: &LoginRequest, key: &str, client_id: Option<&str>) -> Result<Value, Refusal> {
    let grant_type =
        request.field("grant_type").filter(|text| !text.is_empty()).ok_or_else(|| Refusal::missing("grant_type"))?;
    let v2 = request.path.iter().any(|segment| segment == "v2.0");
    if v2 && request.field("resource").is_some() {
        return Err(Refusal::resource_parameter());
    }
    let client_id = client_id.filter(|text| !text.is_empty()).ok_or_else(|| Refusal::missing("client_id"))?;
    let tenant_key = TenantKey::parse(world, key)?;
    let tenant = match (tenant_key, grant_type) {
        (TenantKey::One(id), _) => id,
        (TenantKey::Consumers, _) => return Err(Refusal::not_over_consumers()),
        (_, "client_credentials") => return Err(Refusal::no_tenant_named()),
        // The grant itself says whose it is.
        _ => tenant_of_grant(world, request).unwrap_or_else(|| world.tenants[0].id),
    };
    let app = application(world, tenant, client_id)?;
    if tenant_key.one(world).is_none() && app.sign_in_audience == "AzureADMyOrg" {
        return Err(Refusal::not_multitenant(client_id, &app.display_name, app.created));
    }
    let asked = Asked { request, tenant, app, v2 };
    throttle(world, &asked, grant_type)?;
    match grant_type {
        "client_credentials" => client_credentials(world, &asked),
        "authorization_code" => authorization_code(world, &asked),
        "refresh_token" => refresh_token(world, &asked),
        "urn:ietf:params:oauth:grant-type:device_code" | "device_code" => device_code(world, &asked),
        other => Err(Refusal::unsupported_grant(other)),
    }
}

/// The application with this client id in a tenant, or 700016.
pub(super) fn application(world: &World, tenant: Uuid, client_id: &str) -> Result<Application, Refusal> {
    let tenant = world.tenant(tenant).ok_or_else(|| Refusal::unknown_tenant(&tenant.to_string()))?;
    Uuid::try_parse(client_id)
        .ok()
        .and_then(|app_id| client::find_application(world, tenant, app_id))
        .cloned()
        .ok_or_else(|| Refusal::unknown_application(client_id, &tenant.display_name))
}

fn tenant_of_grant(world: &World, request: &LoginRequest) -> Option<Uuid> {
    if let Some(code) = request.field("code") {
        return world.grants.codes.find(code).map(|code| code.tenant);
    }
    if let Some(token) = request.field("refresh_token") {
        return world.grants.refresh_tokens.find(token).map(|token| token.tenant);
    }
    match world.grants.devices.find(request.field("device_code")?)?.state {
        DeviceState::Approved { tenant, .. } => Some(tenant),
        _ => None,
    }
}

/// Contract 4.5: an app that asks in a loop is told to stop.
fn throttle(world: &mut World, asked: &Asked<'_>, grant_type: &str) -> Result<(), Refusal> {
    let Some(limit) = world.behaviour.token_requests_per_ten_seconds else { return Ok(()) };
    let now = world.clock.now();
    let recent = world.grants.recent.entry(asked.app.app_id).or_default();
    recent.retain(|&at| at + SignedDuration::from_secs(10) > now);
    if recent.len() >= limit as usize {
        let mut refusal = Refusal::looping();
        if grant_type != "client_credentials" {
            (refusal.http, refusal.error, refusal.retry_after) = (400, "invalid_grant", None);
        }
        return Err(refusal);
    }
    recent.push(now);
    Ok(())
}

fn client_credentials(world: &mut World, asked: &Asked<'_>) -> Result<Value, Refusal> {
    let mut proof = Proof::None;
    let mut resource = None;
    let answered = app_only(world, asked, &mut proof, &mut resource);
    let (error, reason, unique_id) = match &answered {
        Ok((_, unique_id)) => (0, String::new(), unique_id.clone()),
        Err(refusal) => (refusal.code, refusal.text.clone(), String::new()),
    };
    sign_in_log::write(
        world,
        &Row {
            tenant: asked.tenant,
            app_id: asked.app.app_id,
            app_name: &asked.app.display_name,
            user: None,
            interactive: false,
            resource,
            error,
            reason: &reason,
            proof: &proof,
            unique_id: &unique_id,
            correlation_id: &asked.request.correlation_id,
        },
    );
    answered.map(|(body, _)| body)
}

fn app_only(
    world: &mut World,
    asked: &Asked<'_>,
    proof: &mut Proof,
    resource: &mut Option<Uuid>,
) -> Result<(Value, String), Refusal> {
    let app = &asked.app;
    let app_name = app.app_id.to_string();
    *proof = client::authenticate(world, asked.request, asked.tenant, app.app_id)?;
    if *proof == Proof::None {
        return Err(Refusal::credential_missing());
    }
    let scope = wanted_scope(asked).ok_or_else(|| Refusal::missing(if asked.v2 { "scope" } else { "resource" }))?;
    let now = world.clock.now();
    let tenant = tenant(world, asked.tenant)?;
    let (audience, resource_app) = scopes::parse_default(world, tenant, &scope)?;
    *resource = Some(resource_app);
    let principal = tenant
        .directory
        .service_principal_by_app_id(app.app_id)
        .filter(|principal| principal.visible_from <= now)
        .ok_or_else(|| Refusal::unknown_application(&app_name, &tenant.display_name))?;
    if !principal.account_enabled {
        return Err(Refusal::application_disabled(&app_name, &app.display_name));
    }
    if let Some(&code) = world.grants.app_refusals.get(&(asked.tenant, app.app_id)) {
        return Err(Refusal::sign_in(code, &resource_app.to_string()));
    }
    let api = scopes::principal(&tenant.directory, resource_app)
        .ok_or_else(|| Refusal::unknown_resource(&audience, &tenant.display_name))?;
    let mut roles = tenant.directory.roles(principal.id, api, now);
    roles.sort();
    roles.dedup();
    if roles.is_empty() && api.app_role_assignment_required {
        return Err(Refusal::not_assigned(&app_name, &app.display_name, &api.app_id.to_string(), &api.display_name));
    }
    let service_principal = principal.id;
    let who = mint::Principal { tenant: asked.tenant, app_id: app.app_id, app_name: &app.display_name, proof };
    let minted = mint::app_token(world, &who, &audience, service_principal, &roles);
    let mut body = json!({
        "token_type": "Bearer",
        "expires_in": minted.expires_in,
        "ext_expires_in": minted.expires_in,
        "access_token": minted.token,
    });
    if !asked.v2 {
        version_1(&mut body, world.clock.now(), &audience);
    }
    Ok((body, minted.unique_id))
}

/// The v1 endpoint writes numbers as strings and names the resource.
pub(super) fn version_1(body: &mut Value, now: Timestamp, resource: &str) {
    let seconds = body["expires_in"].as_i64().unwrap_or_default();
    body["expires_in"] = json!(seconds.to_string());
    body["ext_expires_in"] = json!(seconds.to_string());
    body["expires_on"] = json!((now.as_second() + seconds).to_string());
    body["not_before"] = json!((now.as_second() - 300).to_string());
    body["resource"] = json!(resource);
}

/// `scope`, or on the v1 endpoint everything of `resource`.
fn wanted_scope(asked: &Asked<'_>) -> Option<String> {
    if asked.v2 {
        return asked.request.field("scope").filter(|scope| !scope.trim().is_empty()).map(str::to_owned);
    }
    asked.request.field("resource").map(|resource| format!("{}/.default", resource.trim_end_matches('/')))
}

pub(super) fn tenant(world: &World, id: Uuid) -> Result<&Tenant, Refusal> {
    world.tenant(id).ok_or_else(|| Refusal::unknown_tenant(&id.to_string()))
}

fn authorization_code(world: &mut World, asked: &Asked<'_>) -> Result<Value, Refusal> {
    let request = asked.request;
    let text = request.field("code").ok_or_else(|| Refusal::missing("code"))?;
    let redirect_uri = request.field("redirect_uri").ok_or_else(|| Refusal::missing("redirect_uri"))?;
    let code = world.grants.codes.find(text).cloned().ok_or_else(Refusal::malformed_code)?;
    if code.app_id != asked.app.app_id {
        return Err(Refusal::malformed_code());
    }
    if code.tenant != asked.tenant {
        return Err(Refusal::other_tenants_code());
    }
    let proof = client::authenticate(world, request, asked.tenant, asked.app.app_id)?;
    check_platform(&code, &proof, request)?;
    if code.redirect_uri != redirect_uri {
        return Err(Refusal::redirect_mismatch(redirect_uri, &asked.app.app_id.to_string()));
    }
    if code.redeemed {
        return Err(Refusal::code_redeemed());
    }
    if code.issued + CODE_LIFETIME <= world.clock.now() {
        return Err(Refusal::grant_expired());
    }
    check_verifier(code.challenge.as_ref(), request.field("code_verifier"))?;
    let wanted = match wanted_scope(asked) {
        Some(scope) => {
            let apis = scopes::parse(world, tenant(world, asked.tenant)?, &scope)?;
            if apis.len() > 1 {
                return Err(Refusal::several_resources());
            }
            // What sign-in asked for counts too: `offline_access` need not be repeated.
            let mut api = apis.into_iter().next().ok_or_else(|| Refusal::missing("scope"))?;
            if api.names.is_empty() {
                code.scopes.clone()
            } else {
                api.oidc.extend(
                    code.scopes.oidc.iter().filter(|name| !api.oidc.contains(name)).cloned().collect::<Vec<_>>(),
                );
                api
            }
        }
        None => code.scopes.clone(),
    };
    let user = user_who_may(world, asked, code.user, wanted.resource)?;
    let answer = user_answer(
        world,
        asked,
        &proof,
        &user,
        &UserGrant {
            scopes: &wanted,
            nonce: code.nonce.as_deref(),
            signed_in: code.issued,
            single_page: code.redirect_kind == RedirectKind::Spa,
            fixed_end: None,
            confidential: code.redirect_kind == RedirectKind::Web,
            interactive: true,
        },
    )?;
    if let Some(code) = world.grants.codes.find_mut(text) {
        code.redeemed = true;
    }
    Ok(answer)
}

/// How a code may be redeemed depends on the platform its redirect URI is registered under.
fn check_platform(code: &Code, proof: &Proof, request: &LoginRequest) -> Result<(), Refusal> {
    let cross_origin = request.header("origin").is_some();
    match code.redirect_kind {
        RedirectKind::Spa if !cross_origin => Err(Refusal::cross_origin_needed()),
        RedirectKind::Spa if *proof != Proof::None => Err(Refusal::client_is_public()),
        RedirectKind::Spa if code.challenge.is_none() => Err(Refusal::challenge_needed()),
        RedirectKind::Spa => Ok(()),
        _ if cross_origin => Err(Refusal::cross_origin_refused()),
        RedirectKind::Public if *proof != Proof::None => Err(Refusal::client_is_public()),
        RedirectKind::Public => Ok(()),
        RedirectKind::Web if *proof == Proof::None => Err(Refusal::credential_missing()),
        RedirectKind::Web => Ok(()),
    }
}

fn check_verifier(challenge: Option<&Challenge>, verifier: Option<&str>) -> Result<(), Refusal> {
    let Some(challenge) = challenge else { return Ok(()) };
    let verifier = verifier.ok_or_else(|| Refusal::missing("code_verifier"))?;
    let expected =
        if challenge.hashed { URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) } else { verifier.to_owned() };
    // RFC 7636 §4.1
    let shaped = (43..=128).contains(&verifier.len())
        && verifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    if shaped && expected == challenge.value { Ok(()) } else { Err(Refusal::verifier_mismatch()) }
}

fn refresh_token(world: &mut World, asked: &Asked<'_>) -> Result<Value, Refusal> {
    let request = asked.request;
    let text = request.field("refresh_token").ok_or_else(|| Refusal::missing("refresh_token"))?;
    let proof = client::authenticate(world, request, asked.tenant, asked.app.app_id)?;
    let Some(held) = world.grants.refresh_tokens.find(text).cloned() else {
        let shaped = text.starts_with(REFRESH_PREFIX) && text.len() == REFRESH_LENGTH;
        return Err(if shaped { Refusal::invalid_grant() } else { Refusal::garbage_token() });
    };
    if held.app_id != asked.app.app_id || held.revoked {
        return Err(Refusal::invalid_grant());
    }
    if held.confidential && proof == Proof::None {
        return Err(Refusal::credential_missing());
    }
    let now = world.clock.now();
    if let Some(end) = held.fixed_end {
        if end <= now {
            return Err(Refusal::single_page_refresh(held.signed_in));
        }
        if request.header("origin").is_none() {
            return Err(Refusal::cross_origin_needed());
        }
    }
    if held.issued + REFRESH_IDLE <= now {
        return Err(Refusal::idle_refresh(held.issued));
    }
    let wanted = match wanted_scope(asked) {
        // Refresh tokens serve every resource; of several the first counts.
        Some(scope) => {
            let apis = scopes::parse(world, tenant(world, asked.tenant)?, &scope)?;
            let mut api = apis.into_iter().next().ok_or_else(|| Refusal::missing("scope"))?;
            if api.names.is_empty() {
                let oidc = std::mem::take(&mut api.oidc);
                api = Scopes { oidc, ..held.scopes.clone() };
            }
            if held.scopes.wants("offline_access") && !api.wants("offline_access") {
                api.oidc.push("offline_access".to_owned());
            }
            api
        }
        None => held.scopes.clone(),
    };
    let user = user_who_may(world, asked, held.user, wanted.resource)?;
    if user.tokens_valid_from > held.signed_in {
        return Err(Refusal::revoked(held.signed_in, user.tokens_valid_from));
    }
    user_answer(
        world,
        asked,
        &proof,
        &user,
        &UserGrant {
            scopes: &wanted,
            nonce: None,
            signed_in: held.signed_in,
            single_page: held.fixed_end.is_some(),
            fixed_end: held.fixed_end,
            confidential: held.confidential,
            interactive: false,
        },
    )
}

/// Whether "allow public client flows" is on: said outright, or left open with nothing but public redirects. // unverified
pub(super) fn is_public(app: &Application) -> bool {
    app.is_fallback_public_client.unwrap_or(app.web_redirect_uris.is_empty() && !app.public_redirect_uris.is_empty())
}

fn device_code(world: &mut World, asked: &Asked<'_>) -> Result<Value, Refusal> {
    let request = asked.request;
    let text = request.field("device_code").ok_or_else(|| Refusal::missing("device_code"))?;
    let proof = client::authenticate(world, request, asked.tenant, asked.app.app_id)?;
    if proof == Proof::None && !is_public(&asked.app) {
        return Err(Refusal::credential_missing());
    }
    let device = world.grants.devices.find(text).cloned().ok_or_else(Refusal::device_unknown)?;
    if device.app_id != asked.app.app_id {
        return Err(Refusal::device_unknown());
    }
    let (tenant_id, user) = match device.state {
        DeviceState::Declined => return Err(Refusal::device_declined()),
        DeviceState::Redeemed => return Err(Refusal::code_redeemed()),
        _ if device.issued + DEVICE_LIFETIME <= world.clock.now() => return Err(Refusal::device_expired()),
        DeviceState::Pending => return Err(Refusal::device_pending()),
        DeviceState::Approved { tenant, user } => (tenant, user),
    };
    let asked = &Asked { request, tenant: tenant_id, app: asked.app.clone(), v2: asked.v2 };
    let apis = scopes::parse(world, tenant(world, tenant_id)?, &device.scope)?;
    let wanted = apis.into_iter().next().ok_or_else(|| Refusal::missing("scope"))?;
    let user = user_who_may(world, asked, user, wanted.resource)?;
    let answer = user_answer(
        world,
        asked,
        &proof,
        &user,
        &UserGrant {
            scopes: &wanted,
            nonce: None,
            signed_in: world.clock.now(),
            single_page: false,
            fixed_end: None,
            confidential: false,
            interactive: true,
        },
    )?;
    if let Some(device) = world.grants.devices.find_mut(text) {
        device.state = DeviceState::Redeemed;
    }
    Ok(answer)
}
