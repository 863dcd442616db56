//! The authorize endpoint: what a request asks for, what is wrong with it and who is told, and the code at its end.

use rand::RngExt;
use uuid::Uuid;

use super::{
    LoginRequest, LoginResponse, Refusal, TenantKey,
    flow::{self, Flow, Kind},
    grants::{Challenge, Code, RedirectKind, Scopes},
    mint, pages,
    redirect::{self, ResponseMode},
    scopes, token_endpoint,
};
use crate::{
    directory::Application,
    world::{Tenant, World},
};

/// About what Entra's codes measure.
const CODE_LENGTH: usize = 700;

/// A checked authorize request, kept while the person signs in.
#[derive(Debug, Clone)]
pub(crate) struct Authorize {
    pub(crate) redirect_uri: String,
    pub(crate) redirect_kind: RedirectKind,
    pub(crate) mode: ResponseMode,
    pub(crate) state: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) scope: String,
    pub(crate) with_id_token: bool,
    pub(crate) with_client_info: bool,
    pub(crate) prompt: String,
    pub(crate) hint: String,
}

/// `GET` or `POST /{tenant}/oauth2/v2.0/authorize`.
pub(super) fn handle(world: &mut World, request: &LoginRequest, key: &str) -> LoginResponse {
    let (tenant, app, redirect_uri, kind) = match trustworthy(world, request, key) {
        Ok(found) => found,
        // Nobody can be redirected: the request does not say to whom in a way that can be trusted.
        Err(refusal) => return flow::error_page(world, request, &refusal),
    };
    let mode = match request.parameter("response_mode") {
        Some("fragment") => ResponseMode::Fragment,
        Some("form_post") => ResponseMode::FormPost,
        Some("query") => ResponseMode::Query,
        _ if request.parameter("response_type").is_some_and(|kind| kind.contains("token")) => ResponseMode::Fragment,
        _ => ResponseMode::Query,
    };
    let text = |name: &str| request.parameter(name).map(str::to_owned);
    let mut asked = Authorize {
        redirect_uri,
        redirect_kind: kind,
        mode,
        state: text("state").map(|state| without_tags(&state)),
        nonce: text("nonce"),
        challenge: None,
        scope: String::new(),
        with_id_token: false,
        with_client_info: request.parameter("client_info") == Some("1"),
        prompt: text("prompt").unwrap_or_default(),
        hint: text("login_hint").unwrap_or_default(),
    };
    if let Err(refusal) = complete(world, request, tenant, &app, &mut asked) {
        return refuse(world, request, &asked, &refusal);
    }
    let flow = Flow { key: tenant, app_id: app.app_id, kind: Kind::Authorize(asked), user: None };
    flow::start(world, request, flow)
}

/// Tenant, application and redirect URI: what must be right before anything is sent to the redirect URI.
fn trustworthy(
    world: &World,
    request: &LoginRequest,
    key: &str,
) -> Result<(TenantKey, Application, String, RedirectKind), Refusal> {
    let tenant = TenantKey::parse(world, key)?;
    let client_id =
        request.parameter("client_id").filter(|id| !id.is_empty()).ok_or_else(|| Refusal::missing("client_id"))?;
    let app = application(world, tenant, client_id)?;
    let redirect_uri = match request.parameter("redirect_uri") {
        Some(uri) if !uri.is_empty() => uri.to_owned(),
        _ => return Err(Refusal::no_redirect()),
    };
    let kind = redirect::registered(&app, &redirect_uri)
        .ok_or_else(|| Refusal::redirect_mismatch(&redirect_uri, &app.app_id.to_string()))?;
    Ok((tenant, app, redirect_uri, kind))
}

/// The application, seen from the tenant or, where several are meant, from any that knows it.
pub(super) fn application(world: &World, key: TenantKey, client_id: &str) -> Result<Application, Refusal> {
    if let Some(tenant) = key.one(world) {
        return token_endpoint::application(world, tenant.id, client_id);
    }
    let found = world.tenants.iter().find_map(|tenant| token_endpoint::application(world, tenant.id, client_id).ok());
    let app = found.ok_or_else(|| Refusal::unknown_application(client_id, "Microsoft Services"))?;
    if app.sign_in_audience == "AzureADMyOrg" {
        return Err(Refusal::not_multitenant(client_id, &app.display_name, app.created));
    }
    Ok(app)
}

/// Everything else, of which the app is told.
fn complete(
    world: &World,
    request: &LoginRequest,
    key: TenantKey,
    app: &Application,
    asked: &mut Authorize,
) -> Result<(), Refusal> {
    let kinds = request.parameter("response_type").ok_or_else(|| Refusal::missing("response_type"))?;
    let kinds: Vec<&str> = kinds.split_ascii_whitespace().collect();
    if let Some(other) = kinds.iter().find(|kind| !["code", "id_token"].contains(kind)) {
        return Err(Refusal::unsupported_response_type(other));
    }
    if !kinds.contains(&"code") {
        return Err(Refusal::unsupported_response_type(&kinds.join(" ")));
    }
    if kinds.contains(&"id_token") {
        if !issues_id_tokens(app) {
            return Err(Refusal::unsupported_response_type("id_token"));
        }
        if asked.nonce.is_none() {
            return Err(Refusal::missing("nonce"));
        }
        if request.parameter("response_mode") == Some("query") {
            return Err(Refusal::invalid_field("response_mode"));
        }
        asked.with_id_token = true;
    }
    if !["", "login", "none", "consent", "select_account", "create"].contains(&asked.prompt.as_str()) {
        return Err(Refusal::invalid_field("prompt"));
    }
    if !["", "query", "fragment", "form_post"].contains(&request.parameter("response_mode").unwrap_or("")) {
        return Err(Refusal::invalid_field("response_mode"));
    }
    asked.challenge = challenge(request, asked.redirect_kind)?;
    asked.scope = scope(request)?;
    // What a tenant does not know is refused before anybody signs in; where several are meant, afterwards.
    if let Some(tenant) = key.one(world) {
        scopes::parse(world, tenant, &asked.scope)?;
    }
    Ok(())
}

fn scope(request: &LoginRequest) -> Result<String, Refusal> {
    if request.path.iter().any(|segment| segment == "v2.0") {
        let scope = request.parameter("scope").filter(|scope| !scope.trim().is_empty());
        return scope.map(str::to_owned).ok_or_else(|| Refusal::missing("scope"));
    }
    let resource = request.parameter("resource").unwrap_or("https://graph.microsoft.com");
    Ok(format!("{}/.default openid profile offline_access", resource.trim_end_matches('/')))
}

fn challenge(request: &LoginRequest, kind: RedirectKind) -> Result<Option<Challenge>, Refusal> {
    let Some(value) = request.parameter("code_challenge") else {
        return if kind == RedirectKind::Spa { Err(Refusal::challenge_needed()) } else { Ok(None) };
    };
    let hashed = match request.parameter("code_challenge_method") {
        Some("S256") => true,
        Some("plain") | None => false,
        Some(_) => return Err(Refusal::challenge_malformed()),
    };
    // RFC 7636 §4.2: 43 characters for S256, as many as the verifier for plain.
    let sized = if hashed { value.len() == 43 } else { (43..=128).contains(&value.len()) };
    if !sized {
        return Err(Refusal::challenge_size());
    }
    Ok(Some(Challenge { value: value.to_owned(), hashed }))
}

/// Whether the registration allows ID tokens from this endpoint.
fn issues_id_tokens(app: &Application) -> bool {
    let web = app.rest.get("web").cloned().unwrap_or_default();
    let settings =
        app.rest.get("implicitGrantSettings").cloned().unwrap_or_else(|| web["implicitGrantSettings"].clone());
    settings["enableIdTokenIssuance"] == true
}

/// HTML in a state does not come back.
fn without_tags(state: &str) -> String {
    let mut kept = String::new();
    let mut rest = state;
    while let Some((before, behind)) = rest.split_once('<') {
        kept.push_str(before);
        match behind.split_once('>') {
            Some((_, behind)) => rest = behind,
            None => return kept,
        }
    }
    kept.push_str(rest);
    kept
}

/// The APIs a request asks for, as a tenant knows them.
pub(super) fn wanted(world: &World, tenant: &Tenant, asked: &Authorize) -> Result<Vec<Scopes>, Refusal> {
    scopes::parse(world, tenant, &asked.scope)
}

/// Takes an error to the app.
pub(super) fn refuse(world: &World, request: &LoginRequest, asked: &Authorize, refusal: &Refusal) -> LoginResponse {
    let description = refusal.description(&request.trace_id, &request.correlation_id, world.clock.now());
    let mut parameters = vec![
        ("error", refusal.error.to_owned()),
        ("error_description", description),
        ("error_uri", format!("{}/error?code={}", request.origin, refusal.code)),
    ];
    if let Some(suberror) = refusal.suberror {
        parameters.push(("suberror", suberror.to_owned()));
    }
    deliver(asked, parameters)
}

fn deliver(asked: &Authorize, mut parameters: Vec<(&'static str, String)>) -> LoginResponse {
    if let Some(state) = &asked.state {
        parameters.push(("state", state.clone()));
    }
    if asked.mode == ResponseMode::FormPost {
        return pages::form_post(&asked.redirect_uri, &parameters);
    }
    flow::redirect(&redirect::url(&asked.redirect_uri, asked.mode, &parameters))
}

/// The signed-in, consenting user's code.
pub(super) fn finish(
    world: &mut World,
    request: &LoginRequest,
    app_id: Uuid,
    asked: &Authorize,
    tenant: Uuid,
    user: Uuid,
    wanted: Scopes,
) -> LoginResponse {
    let code = Code {
        tenant,
        app_id,
        user,
        redirect_uri: asked.redirect_uri.clone(),
        redirect_kind: asked.redirect_kind,
        scopes: wanted.clone(),
        challenge: asked.challenge.clone(),
        nonce: asked.nonce.clone(),
        issued: world.clock.now(),
        redeemed: false,
    };
    let text = world.grants.codes.keep("1.AX0A", CODE_LENGTH, code);
    world.record_secret(&text);
    let mut parameters = vec![("code", text.clone())];
    if asked.with_id_token {
        let user = world.tenant(tenant).and_then(|tenant| tenant.directory.users.iter().find(|known| known.id == user));
        if let Some(user) = user.cloned() {
            let nonce = asked.nonce.as_deref();
            let token = mint::id_token(world, &request.origin, tenant, app_id, &user, &wanted, nonce, Some(&text));
            parameters.push(("id_token", token));
        }
    }
    if asked.with_client_info {
        parameters.push(("client_info", mint::client_info(tenant, user)));
    }
    let session: u128 = world.chance.random();
    parameters.push(("session_state", Uuid::from_u128(session).to_string()));
    let mut answer = deliver(asked, parameters);
    answer.app_id = Some(app_id);
    answer
}
