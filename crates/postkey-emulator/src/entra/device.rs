//! Device code: the endpoint that hands one out, and the page where a person types it in.

use rand::RngExt;
use serde_json::json;
use uuid::Uuid;

use super::{
    LoginRequest, LoginResponse, Refusal, TenantKey, authorize, client,
    flow::{self, Flow, Kind},
    grants::{Device, DeviceState},
    pages, scopes,
    token_endpoint::DEVICE_LIFETIME,
};
use crate::world::World;

/// `POST /{tenant}/oauth2/v2.0/devicecode`
pub(super) fn authorization(world: &mut World, request: &LoginRequest, key: &str) -> LoginResponse {
    if request.method != http::Method::POST {
        let refusal = Refusal::wrong_verb("POST", request.method.as_str());
        return LoginResponse::refused(world, request, &refusal);
    }
    match begin(world, request, key) {
        Ok(answer) => answer,
        Err(refusal) => LoginResponse::refused(world, request, &refusal),
    }
}

fn begin(world: &mut World, request: &LoginRequest, key: &str) -> Result<LoginResponse, Refusal> {
    let client_id =
        client::presented(request).0.filter(|id| !id.is_empty()).ok_or_else(|| Refusal::missing("client_id"))?;
    let tenant_key = TenantKey::parse(world, key)?;
    if tenant_key == TenantKey::Consumers {
        return Err(Refusal::not_over_consumers());
    }
    let app = authorize::application(world, tenant_key, &client_id)?;
    let scope = match request.field("scope").filter(|scope| !scope.trim().is_empty()) {
        Some(scope) => scope.to_owned(),
        None => match request.field("resource") {
            Some(resource) => format!("{}/.default openid profile offline_access", resource.trim_end_matches('/')),
            None => return Err(Refusal::missing("scope")),
        },
    };
    if let Some(tenant) = tenant_key.one(world) {
        scopes::parse(world, tenant, &scope)?;
    }
    let user_code = user_code();
    let device = Device {
        tenant_key: key.to_owned(),
        app_id: app.app_id,
        scope,
        user_code: user_code.clone(),
        issued: world.clock.now(),
        state: DeviceState::Pending,
    };
    let device_code = world.grants.devices.keep("", 160, device);
    world.record_secret(&device_code);
    let page = format!("{}/common/oauth2/deviceauth", request.origin);
    let body = json!({
        "user_code": user_code,
        "device_code": device_code,
        "verification_uri": page,
        "expires_in": DEVICE_LIFETIME.as_secs(),
        "interval": 5,
        "message": format!(
            "To sign in, use a web browser to open the page {page} and enter the code {user_code} to authenticate."
        ),
    });
    let mut answer = LoginResponse::json(200, &body).never_stored();
    answer.app_id = Some(app.app_id);
    Ok(answer)
}

/// Nine letters and digits that cannot be mistaken for each other.
fn user_code() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut random = rand::rng();
    (0..9).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

/// `/common/oauth2/deviceauth`: asks for the code, then leads to sign-in.
pub(super) fn page(world: &mut World, request: &LoginRequest) -> LoginResponse {
    let typed = request.parameter("otc").unwrap_or_default().trim().to_owned();
    if request.method != http::Method::POST {
        return pages::device_code(&typed, None);
    }
    let now = world.clock.now();
    let found = world.grants.devices.entries().find(|(_, device)| {
        device.user_code.eq_ignore_ascii_case(&typed)
            && device.state == DeviceState::Pending
            && device.issued + DEVICE_LIFETIME > now
    });
    let Some((code, device)) = found else {
        return pages::device_code(&typed, Some("That code didn't work. Check the code and try again."));
    };
    let (code, app_id, key) = (code.to_owned(), device.app_id, device.tenant_key.clone());
    match TenantKey::parse(world, &key) {
        Ok(key) => flow::start(world, request, Flow { key, app_id, kind: Kind::Device(code), user: None }),
        Err(refusal) => flow::error_page(world, request, &refusal),
    }
}

/// The person let the device in.
pub(super) fn approve(world: &mut World, code: &str, app: &str, tenant: Uuid, user: Uuid) -> LoginResponse {
    if let Some(device) = world.grants.devices.find_mut(code) {
        device.state = DeviceState::Approved { tenant, user };
    }
    let text = format!("You have signed in to the {app} application on your device. You may now close this window.");
    pages::notice(app, &text)
}

/// The person did not.
pub(super) fn decline(world: &mut World, code: &str) -> LoginResponse {
    if let Some(device) = world.grants.devices.find_mut(code) {
        device.state = DeviceState::Declined;
    }
    pages::notice("Sign-in cancelled", "You have declined the sign-in on your device. You may now close this window.")
}
