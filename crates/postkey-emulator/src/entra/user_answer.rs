//! The answer to a user's grant, whichever it was: access token, refresh token, ID token.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Refusal,
    client::Proof,
    grants::{Refresh, Scopes},
    mint, scopes,
    sign_in_log::{self, Row},
    token_endpoint::{Asked, tenant, version_1},
};
use crate::{directory::User, world::World};

/// The user behind a grant, unless something stands against signing in.
pub(super) fn user_who_may(world: &mut World, asked: &Asked<'_>, id: Uuid, resource: Uuid) -> Result<User, Refusal> {
    let tenant = tenant(world, asked.tenant)?;
    let user = tenant.directory.users.iter().find(|user| user.id == id).cloned();
    let user = user.ok_or_else(|| Refusal::unknown_user(&id.to_string(), &tenant.display_name))?;
    let refused = match user.sign_in_refusal {
        Some(code) => Some(code),
        None if !user.account_enabled => Some(50057),
        None => None,
    };
    match refused {
        None => Ok(user),
        Some(code) => {
            let mut refusal = Refusal::sign_in(code, &resource.to_string());
            if !asked.v2 && code == 50076 {
                refusal.error = "interaction_required";
            }
            sign_in_log::write(
                world,
                &Row {
                    tenant: asked.tenant,
                    app_id: asked.app.app_id,
                    app_name: &asked.app.display_name,
                    user: Some(id),
                    interactive: false,
                    resource: Some(resource),
                    error: refusal.code,
                    reason: &refusal.text,
                    proof: &Proof::None,
                    unique_id: "",
                    correlation_id: &asked.request.correlation_id,
                },
            );
            Err(refusal)
        }
    }
}

/// A single page app's refresh tokens end so long after sign-in.
const SINGLE_PAGE_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// About what Entra's refresh tokens measure.
pub(super) const REFRESH_LENGTH: usize = 1_060;
/// How Entra's refresh tokens begin.
pub(super) const REFRESH_PREFIX: &str = "1.AX0A";

/// One user's grant, checked.
pub(super) struct UserGrant<'a> {
    pub(super) scopes: &'a Scopes,
    pub(super) nonce: Option<&'a str>,
    pub(super) signed_in: Timestamp,
    pub(super) single_page: bool,
    pub(super) fixed_end: Option<Timestamp>,
    pub(super) confidential: bool,
    pub(super) interactive: bool,
}

/// The answer to any user's grant, once everything else has been checked.
pub(super) fn user_answer(
    world: &mut World,
    asked: &Asked<'_>,
    proof: &Proof,
    user: &User,
    grant: &UserGrant<'_>,
) -> Result<Value, Refusal> {
    let app = &asked.app;
    let app_name = app.app_id.to_string();
    let wanted = grant.scopes;
    let directory = &tenant(world, asked.tenant)?.directory;
    if let Some(principal) = directory.service_principal_by_app_id(app.app_id)
        && !principal.account_enabled
    {
        return Err(Refusal::application_disabled(&app_name, &app.display_name));
    }
    if !scopes::lacking(directory, app.app_id, wanted, user.id).is_empty() {
        return Err(Refusal::no_consent(&app_name, &app.display_name));
    }
    // A token carries everything that is granted for its resource, not only what was asked for.
    let held = scopes::granted(directory, app.app_id, wanted.resource, user.id);
    let mut carried: Vec<String> = held.iter().filter(|name| !scopes::OIDC.contains(&name.as_str())).cloned().collect();
    carried.extend(wanted.oidc.iter().filter(|name| *name != "offline_access").cloned());
    let who = mint::Principal { tenant: asked.tenant, app_id: app.app_id, app_name: &app.display_name, proof };
    let minted = mint::user_token(world, &who, &wanted.audience, user, &carried);
    let spelt: Vec<String> = carried
        .iter()
        .map(|name| match wanted.prefix.as_str() {
            prefix if prefix.is_empty() || scopes::OIDC.contains(&name.as_str()) => name.clone(),
            prefix => format!("{prefix}/{name}"),
        })
        .collect();
    let mut body = json!({
        "token_type": "Bearer",
        "scope": spelt.join(" "),
        "expires_in": minted.expires_in,
        "ext_expires_in": minted.expires_in,
        "access_token": minted.token,
    });
    if !asked.v2 {
        version_1(&mut body, world.clock.now(), &wanted.audience);
    }
    if wanted.wants("offline_access") || !asked.v2 {
        let now = world.clock.now();
        let fixed_end = grant.single_page.then(|| grant.fixed_end.unwrap_or(grant.signed_in + SINGLE_PAGE_LIFETIME));
        let refresh = Refresh {
            tenant: asked.tenant,
            app_id: app.app_id,
            user: user.id,
            issued: now,
            signed_in: grant.signed_in,
            fixed_end,
            confidential: grant.confidential,
            revoked: false,
            scopes: wanted.clone(),
        };
        let text = world.grants.refresh_tokens.keep(REFRESH_PREFIX, REFRESH_LENGTH, refresh);
        world.record_secret(&text);
        body["refresh_token"] = json!(text);
        if let Some(end) = fixed_end {
            body["refresh_token_expires_in"] = json!(end.as_second() - now.as_second());
        }
    }
    if wanted.wants("openid") || !asked.v2 {
        let token =
            mint::id_token(world, &asked.request.origin, asked.tenant, app.app_id, user, wanted, grant.nonce, None);
        body["id_token"] = json!(token);
    }
    if asked.request.field("client_info") == Some("1") {
        body["client_info"] = json!(mint::client_info(asked.tenant, user.id));
    }
    sign_in_log::write(
        world,
        &Row {
            tenant: asked.tenant,
            app_id: app.app_id,
            app_name: &app.display_name,
            user: Some(user.id),
            interactive: grant.interactive,
            resource: Some(wanted.resource),
            error: 0,
            reason: "",
            proof,
            unique_id: &minted.unique_id,
            correlation_id: &asked.request.correlation_id,
        },
    );
    Ok(body)
}
