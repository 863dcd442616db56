//! The way of a browser from a request to its end: sign-in, consent, answer. One [`Flow`] is what the service remembers
//! between two pages; pages carry only its key.

use jiff::SignedDuration;
use uuid::Uuid;

use super::{
    LoginRequest, LoginResponse, Refusal, TenantKey, admin_consent,
    admin_consent::AdminConsent,
    authorize::{self, Authorize},
    client::Proof,
    consent, device,
    grants::{Scopes, Session},
    pages::{self, ForAll},
    scopes, sign_in_log, token_endpoint,
};
use crate::{
    directory::{Application, User},
    world::{Tenant, World},
};

/// A browser on its way.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) key: TenantKey,
    pub(crate) app_id: Uuid,
    pub(crate) kind: Kind,
    /// Tenant and object id of whoever has signed in on this way.
    pub(crate) user: Option<(Uuid, Uuid)>,
}

/// Where the way leads.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Authorize(Authorize),
    /// The device code.
    Device(String),
    AdminConsent(AdminConsent),
}

/// A browser stays signed in for a day.
const SESSION_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
const COOKIE: &str = "ESTSAUTHPERSISTENT";
const KEY_LENGTH: usize = 43;

/// A redirect of the browser.
pub(super) fn redirect(url: &str) -> LoginResponse {
    LoginResponse { status: 302, headers: vec![("location", url.to_owned())], body: bytes::Bytes::new(), app_id: None }
        .never_stored()
}

/// An error shown on the page, not redirected.
pub(super) fn error_page(world: &World, request: &LoginRequest, refusal: &Refusal) -> LoginResponse {
    let description = refusal.description(&request.trace_id, &request.correlation_id, world.clock.now());
    pages::error(refusal.http, &description)
}

/// The first page of a way.
pub(super) fn start(world: &mut World, request: &LoginRequest, mut flow: Flow) -> LoginResponse {
    let session = session(world, request).filter(|session| may_use(&flow, session.tenant));
    let (prompt, hint) = match &flow.kind {
        Kind::Authorize(asked) => (asked.prompt.as_str(), asked.hint.as_str()),
        _ => ("", ""),
    };
    // A hint names somebody else than the one who is signed in: ask.
    let hinted = |world: &World, session: &Session| {
        hint.is_empty()
            || user(world, session.tenant, session.user)
                .is_some_and(|user| user.user_principal_name.eq_ignore_ascii_case(hint))
    };
    let silent = session.filter(|session| !["login", "select_account"].contains(&prompt) && hinted(world, session));
    if let Some(session) = silent {
        flow.user = Some((session.tenant, session.user));
        return next(world, request, flow);
    }
    if prompt == "none" {
        return refuse(world, request, &flow, &Refusal::login_required());
    }
    let pick = session.filter(|_| prompt != "login").and_then(|session| user(world, session.tenant, session.user));
    sign_in_page(world, flow, pick.as_ref(), None)
}

fn sign_in_page(world: &mut World, flow: Flow, pick: Option<&User>, error: Option<&str>) -> LoginResponse {
    let name = app_name(world, &flow);
    let hint = match &flow.kind {
        Kind::Authorize(asked) => asked.hint.clone(),
        _ => String::new(),
    };
    let context = world.grants.flows.keep("", KEY_LENGTH, flow);
    pages::sign_in(&context, &name, &hint, pick.map(|user| user.user_principal_name.as_str()), error)
}

fn app_name(world: &World, flow: &Flow) -> String {
    let id = flow.app_id.to_string();
    let known = |tenant: &Tenant| token_endpoint::application(world, tenant.id, &id).ok();
    // Version 1 of admin consent serves a single tenant's app at `common` too.
    let app = flow.key.one(world).and_then(known).or_else(|| world.tenants.iter().find_map(known));
    app.map_or(id, |app| app.display_name)
}

fn session(world: &World, request: &LoginRequest) -> Option<Session> {
    let session = *world.grants.sessions.find(request.cookie(COOKIE)?)?;
    let user = user(world, session.tenant, session.user)?;
    let alive = session.signed_in + SESSION_LIFETIME > world.clock.now() && user.tokens_valid_from <= session.signed_in;
    alive.then_some(session)
}

fn may_use(flow: &Flow, tenant: Uuid) -> bool {
    match flow.key {
        TenantKey::One(id) => id == tenant,
        TenantKey::Common | TenantKey::Organizations => true,
        TenantKey::Consumers => false,
    }
}

fn user(world: &World, tenant: Uuid, id: Uuid) -> Option<User> {
    world.tenant(tenant)?.directory.users.iter().find(|user| user.id == id).cloned()
}

/// The sign-in form came back.
pub(super) fn sign_in(world: &mut World, request: &LoginRequest) -> LoginResponse {
    let Some(mut flow) = request.field("ctx").and_then(|key| world.grants.flows.find(key)).cloned() else {
        return error_page(world, request, &Refusal::malformed());
    };
    if request.field("account").is_some() {
        return match session(world, request).filter(|session| may_use(&flow, session.tenant)) {
            Some(session) => {
                flow.user = Some((session.tenant, session.user));
                next(world, request, flow)
            }
            None => sign_in_page(world, flow, None, None),
        };
    }
    let name = request.field("login").unwrap_or_default().trim().to_owned();
    let password = request.field("passwd").unwrap_or_default();
    let found = world.tenants.iter().find_map(|tenant| {
        let user = tenant.directory.users.iter().find(|user| user.user_principal_name.eq_ignore_ascii_case(&name))?;
        may_use(&flow, tenant.id).then(|| (tenant.id, user.clone()))
    });
    let Some((tenant, user)) = found else {
        let whose = flow.key.one(world).map_or("Microsoft Services", |tenant| tenant.display_name.as_str());
        let refusal = Refusal::unknown_user(&name, whose);
        return sign_in_again(world, request, flow, &refusal);
    };
    let refusal = match user.sign_in_refusal {
        // A second factor and enrolling for it are given here and now.
        Some(50076 | 50079) => None,
        Some(code) => Some(Refusal::sign_in(code, &flow.app_id.to_string())),
        None if !user.account_enabled => Some(Refusal::sign_in(50057, &flow.app_id.to_string())),
        None if user.password.as_deref() != Some(password) => Some(Refusal::wrong_password()),
        None => None,
    };
    if let Some(refusal) = refusal {
        log_refused(world, request, &flow, tenant, user.id, &refusal);
        if refusal.code == 50126 {
            return sign_in_again(world, request, flow, &refusal);
        }
        return error_page(world, request, &refusal);
    }
    if user.password.as_deref() != Some(password) {
        return sign_in_again(world, request, flow, &Refusal::wrong_password());
    }
    if let Some(known) =
        world.tenant_mut(tenant).and_then(|tenant| tenant.directory.users.iter_mut().find(|known| known.id == user.id))
    {
        known.sign_in_refusal = None;
    }
    let signed_in = world.clock.now();
    let cookie = world.grants.sessions.keep("", KEY_LENGTH, Session { tenant, user: user.id, signed_in });
    world.record_secret(&cookie);
    flow.user = Some((tenant, user.id));
    next(world, request, flow).with("set-cookie", format!("{COOKIE}={cookie}; Path=/; Secure; HttpOnly; SameSite=None"))
}

fn sign_in_again(world: &mut World, request: &LoginRequest, flow: Flow, refusal: &Refusal) -> LoginResponse {
    let text = refusal.description(&request.trace_id, &request.correlation_id, world.clock.now());
    sign_in_page(world, flow, None, Some(&text))
}

fn log_refused(world: &mut World, request: &LoginRequest, flow: &Flow, tenant: Uuid, user: Uuid, refusal: &Refusal) {
    let app_name = app_name(world, flow);
    sign_in_log::write(
        world,
        &sign_in_log::Row {
            tenant,
            app_id: flow.app_id,
            app_name: &app_name,
            user: Some(user),
            interactive: true,
            resource: None,
            error: refusal.code,
            reason: &refusal.text,
            proof: &Proof::None,
            unique_id: "",
            correlation_id: &request.correlation_id,
        },
    );
}

/// Somebody has signed in: consent, or the end.
fn next(world: &mut World, request: &LoginRequest, flow: Flow) -> LoginResponse {
    let Some((tenant, user_id)) = flow.user else { return error_page(world, request, &Refusal::malformed()) };
    let (app, wanted) = match asked(world, &flow, tenant) {
        Ok(found) => found,
        Err(refusal) => return refuse(world, request, &flow, &refusal),
    };
    let Some(user) = user(world, tenant, user_id) else {
        return error_page(world, request, &Refusal::malformed());
    };
    let principal = world.tenant(tenant).and_then(|tenant| tenant.directory.service_principal_by_app_id(app.app_id));
    if principal.is_some_and(|principal| !principal.account_enabled) {
        let refusal = Refusal::application_disabled(&app.app_id.to_string(), &app.display_name);
        return error_page(world, request, &refusal);
    }
    let with_roles = matches!(flow.kind, Kind::AdminConsent(_));
    let list = consent::list(world, tenant, &app, &wanted, with_roles);
    let needed = match &flow.kind {
        Kind::AdminConsent(_) => {
            if !user.administrator {
                let refusal = Refusal::administrator_must_consent(&app.display_name);
                return error_page(world, request, &refusal);
            }
            true
        }
        Kind::Authorize(asked) => {
            asked.prompt == "consent" || consent::needed(world, tenant, app.app_id, user_id, &wanted)
        }
        Kind::Device(_) => consent::needed(world, tenant, app.app_id, user_id, &wanted),
    };
    let silent = matches!(&flow.kind, Kind::Authorize(asked) if asked.prompt == "none");
    if needed && silent {
        let refusal = Refusal::interaction_required(&app.app_id.to_string(), &app.display_name);
        return refuse(world, request, &flow, &refusal);
    }
    if needed && !user.administrator && list.iter().any(|one| one.administrator) {
        let refusal = Refusal::administrator_must_consent(&app.display_name);
        log_refused(world, request, &flow, tenant, user_id, &refusal);
        return error_page(world, request, &refusal);
    }
    let for_all = match &flow.kind {
        Kind::AdminConsent(_) => ForAll::Always,
        _ if user.administrator => ForAll::Offered,
        _ => ForAll::No,
    };
    match &flow.kind {
        _ if needed => {
            let context = world.grants.flows.keep("", KEY_LENGTH, flow);
            pages::consent(&context, &app.display_name, &user.user_principal_name, &list, for_all)
        }
        Kind::Device(_) => {
            let context = world.grants.flows.keep("", KEY_LENGTH, flow);
            pages::device_confirmation(&context, &app.display_name, &user.user_principal_name)
        }
        _ => finish(world, request, flow),
    }
}

/// The application and the APIs that a way is about, as the person's tenant knows them.
fn asked(world: &World, flow: &Flow, tenant: Uuid) -> Result<(Application, Vec<Scopes>), Refusal> {
    let app = token_endpoint::application(world, tenant, &flow.app_id.to_string())?;
    let Some(tenant) = world.tenant(tenant) else { return Err(Refusal::malformed()) };
    let wanted = match &flow.kind {
        Kind::Authorize(asked) => authorize::wanted(world, tenant, asked)?,
        Kind::Device(code) => {
            let device = world.grants.devices.find(code).ok_or_else(Refusal::device_unknown)?;
            scopes::parse(world, tenant, &device.scope)?
        }
        Kind::AdminConsent(asked) => scopes::parse(world, tenant, &asked.scope)?,
    };
    Ok((app, wanted))
}

/// The consent or confirmation form came back.
pub(super) fn decide(world: &mut World, request: &LoginRequest) -> LoginResponse {
    let Some(flow) = request.field("ctx").and_then(|key| world.grants.flows.find(key)).cloned() else {
        return error_page(world, request, &Refusal::malformed());
    };
    let Some((tenant, user_id)) = flow.user else { return error_page(world, request, &Refusal::malformed()) };
    if request.field("decision") != Some("accept") {
        return match &flow.kind {
            Kind::Authorize(_) => refuse(world, request, &flow, &Refusal::consent_declined()),
            Kind::Device(code) => device::decline(world, code),
            Kind::AdminConsent(asked) => admin_consent::refuse(world, request, asked),
        };
    }
    let (app, wanted) = match asked(world, &flow, tenant) {
        Ok(found) => found,
        Err(refusal) => return refuse(world, request, &flow, &refusal),
    };
    let Some(user) = user(world, tenant, user_id) else {
        return error_page(world, request, &Refusal::malformed());
    };
    let administers = matches!(flow.kind, Kind::AdminConsent(_));
    let list = consent::list(world, tenant, &app, &wanted, administers);
    let forced = matches!(&flow.kind, Kind::Authorize(asked) if asked.prompt == "consent");
    // A device's confirmation without new permissions leaves the directory alone.
    let grants = administers || forced || consent::needed(world, tenant, app.app_id, user_id, &wanted);
    if grants && !user.administrator && (administers || list.iter().any(|one| one.administrator)) {
        return error_page(world, request, &Refusal::administrator_must_consent(&app.display_name));
    }
    let for_all = administers || (user.administrator && request.field("organization") == Some("yes"));
    if grants {
        consent::grant(world, tenant, app.app_id, (!for_all).then_some(user_id), &list);
    }
    finish(world, request, flow)
}

/// Everything is said: the answer.
fn finish(world: &mut World, request: &LoginRequest, flow: Flow) -> LoginResponse {
    let Some((tenant, user)) = flow.user else { return error_page(world, request, &Refusal::malformed()) };
    match &flow.kind {
        Kind::Authorize(kept) => match asked(world, &flow, tenant).map(|(_, wanted)| wanted.into_iter().next()) {
            Ok(Some(first)) => authorize::finish(world, request, flow.app_id, kept, tenant, user, first),
            Ok(None) => error_page(world, request, &Refusal::malformed()),
            Err(refusal) => refuse(world, request, &flow, &refusal),
        },
        Kind::Device(code) => {
            let name = app_name(world, &flow);
            device::approve(world, code, &name, tenant, user)
        }
        Kind::AdminConsent(kept) => admin_consent::finish(world, &flow, kept, tenant),
    }
}

/// An error on the way: to the app where there is one to tell, else on the page.
fn refuse(world: &World, request: &LoginRequest, flow: &Flow, refusal: &Refusal) -> LoginResponse {
    match &flow.kind {
        Kind::Authorize(asked) => authorize::refuse(world, request, asked, refusal),
        _ => error_page(world, request, refusal),
    }
}

/// `GET /{tenant}/oauth2/v2.0/logout`
pub(super) fn logout(world: &World, request: &LoginRequest) -> LoginResponse {
    let target = request.parameter("post_logout_redirect_uri");
    // Only an address that some application registered is gone to.
    let known = target.filter(|uri| {
        let apps = world.tenants.iter().flat_map(|tenant| &tenant.directory.applications);
        apps.chain(&world.first_party_applications).any(|app| super::redirect::registered(app, uri).is_some())
    });
    let answer = match known {
        Some(uri) => redirect(uri),
        None => {
            pages::notice("Sign out", "You signed out of your account. It's a good idea to close all browser windows.")
        }
    };
    answer.with("set-cookie", format!("{COOKIE}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=None"))
}
