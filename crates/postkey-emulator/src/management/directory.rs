//! Turning the directory by hand: what an administrator, Microsoft or time would do to users and applications.

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{Answer, Refused, done, ok, tenant_id};
use crate::{
    directory::{AppRoleAssignment, CredentialPolicy},
    world::{World, random_text},
};

/// `POST /tenants/{id}/users/{name}`: what is left out stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserChange {
    enabled: Option<bool>,
    /// An AADSTS number that every sign-in and refresh meets: 50076, 53003, …; 0 = none.
    sign_in_refusal: Option<u32>,
    /// Refresh tokens and browser sessions up to now are revoked.
    revoke_sessions: Option<bool>,
    /// Every refresh token is as if it had never been issued (70000).
    forget_refresh_tokens: Option<bool>,
    /// A new password; revokes nothing by itself.
    password: Option<String>,
    administrator: Option<bool>,
}

pub(super) fn user(world: &mut World, tenant: Uuid, name: &str, change: UserChange) -> Answer {
    let now = world.clock.now();
    if let Some(password) = &change.password {
        world.record_secret(password);
    }
    let users = world.tenant_mut(tenant).map(|tenant| &mut tenant.directory.users);
    let named = |user: &&mut crate::directory::User| {
        user.user_principal_name.eq_ignore_ascii_case(name) || user.id.to_string() == name
    };
    let user = users.and_then(|users| users.iter_mut().find(named)).ok_or_else(|| Refused::Unknown(name.to_owned()))?;
    if let Some(enabled) = change.enabled {
        user.account_enabled = enabled;
    }
    if let Some(number) = change.sign_in_refusal {
        user.sign_in_refusal = (number != 0).then_some(number);
    }
    if change.revoke_sessions == Some(true) {
        user.tokens_valid_from = now;
    }
    if let Some(password) = change.password {
        user.password = Some(password);
    }
    if let Some(administrator) = change.administrator {
        user.administrator = administrator;
    }
    let (id, seen) =
        (user.id, json!({"id": user.id, "enabled": user.account_enabled, "sign_in_refusal": user.sign_in_refusal}));
    if change.forget_refresh_tokens == Some(true) {
        world.grants.forget_refresh_tokens(id);
    }
    Ok(ok(seen))
}

/// `POST /tenants/{id}/policy`: limits on new credentials; an empty body lifts them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyChange {
    #[serde(default)]
    secrets_forbidden: bool,
    max_secret_lifetime_days: Option<u32>,
    max_certificate_lifetime_days: Option<u32>,
}

pub(super) fn policy(world: &mut World, tenant: Uuid, change: PolicyChange) -> Answer {
    let none = !change.secrets_forbidden
        && change.max_secret_lifetime_days.is_none()
        && change.max_certificate_lifetime_days.is_none();
    if let Some(tenant) = world.tenant_mut(tenant) {
        tenant.directory.credential_policy = (!none).then_some(CredentialPolicy {
            secrets_forbidden: change.secrets_forbidden,
            max_secret_lifetime_days: change.max_secret_lifetime_days,
            max_certificate_lifetime_days: change.max_certificate_lifetime_days,
        });
    }
    Ok(done())
}

/// `POST /applications/{appId}`: each member is one thing to do; they are done in this order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApplicationChange {
    /// In which tenant; left out = the one where it is registered.
    tenant: Option<String>,
    /// Disables its service principal, or enables it again.
    disable_service_principal: Option<bool>,
    /// Deletes its service principal there, with all its permissions.
    delete_service_principal: Option<bool>,
    /// Every secret of the registration ended a minute ago.
    expire_secrets: Option<bool>,
    /// Every secret is removed.
    remove_secrets: Option<bool>,
    /// Every certificate is removed.
    remove_certificates: Option<bool>,
    /// Takes a permission away by name: as application permission and out of every delegated grant.
    remove_permission: Option<String>,
    /// Grants an application permission by name, on whichever API has it.
    add_permission: Option<String>,
    /// "Allow public client flows".
    allow_public_client: Option<bool>,
    /// An AADSTS number that its own sign-ins meet: 53003, …; 0 = none.
    sign_in_refusal: Option<u32>,
}

pub(super) fn application(world: &mut World, app_id: Uuid, change: &ApplicationChange) -> Answer {
    let unknown = || Refused::Unknown(app_id.to_string());
    let home = world.tenants.iter().find(|tenant| tenant.directory.application_by_app_id(app_id).is_some());
    let home = home.map(|tenant| tenant.id);
    let tenant = match &change.tenant {
        Some(key) => tenant_id(world, key)?,
        None => home.ok_or_else(unknown)?,
    };
    let (now, effective) = (world.clock.now(), world.replicated_from());
    if let Some(number) = change.sign_in_refusal {
        world.grants.refuse_app(tenant, app_id, (number != 0).then_some(number));
    }
    for own in world.tenants.iter_mut().filter(|tenant| Some(tenant.id) == home) {
        for app in own.directory.applications.iter_mut().filter(|app| app.app_id == app_id) {
            if change.expire_secrets == Some(true) {
                for secret in &mut app.secrets {
                    secret.end = now - SignedDuration::from_mins(1);
                    secret.start = secret.start.min(secret.end - SignedDuration::from_mins(1));
                }
            }
            if change.remove_secrets == Some(true) {
                app.secrets.clear();
            }
            if change.remove_certificates == Some(true) {
                app.keys.clear();
            }
            if let Some(allow) = change.allow_public_client {
                app.is_fallback_public_client = Some(allow);
            }
        }
    }
    let directory = &mut world.tenant_mut(tenant).ok_or_else(unknown)?.directory;
    let principal = directory.service_principals.iter_mut().find(|principal| principal.app_id == app_id);
    let touches_principal = change.disable_service_principal.is_some()
        || change.delete_service_principal == Some(true)
        || change.remove_permission.is_some()
        || change.add_permission.is_some();
    let Some(principal) = principal else {
        return if touches_principal {
            Err(Refused::Value("the app has no service principal there"))
        } else {
            Ok(done())
        };
    };
    if let Some(disable) = change.disable_service_principal {
        principal.account_enabled = !disable;
    }
    let id = principal.id;
    if let Some(name) = &change.remove_permission {
        let ids: Vec<(Uuid, Uuid)> = roles(directory, name);
        directory
            .app_role_assignments
            .retain(|held| held.principal_id != id || !ids.contains(&(held.resource_id, held.app_role_id)));
        for grant in directory.delegated_grants.iter_mut().filter(|grant| grant.client_id == id) {
            let kept: Vec<&str> = grant.scope.split_ascii_whitespace().filter(|scope| scope != name).collect();
            grant.scope = kept.join(" ");
        }
        directory.delegated_grants.retain(|grant| !grant.scope.is_empty());
    }
    if let Some(name) = &change.add_permission {
        let (resource, role) = *roles(directory, name)
            .first()
            .ok_or(Refused::Value("no API has an application permission of that name"))?;
        directory.app_role_assignments.push(AppRoleAssignment {
            id: random_text(43),
            principal_id: id,
            resource_id: resource,
            app_role_id: role,
            created: now,
            effective_from: effective,
        });
    }
    if change.delete_service_principal == Some(true) {
        directory.service_principals.retain(|principal| principal.id != id);
        directory.app_role_assignments.retain(|held| held.principal_id != id);
        directory.delegated_grants.retain(|grant| grant.client_id != id);
    }
    Ok(done())
}

/// Service principal and role id of every application permission of this name.
fn roles(directory: &crate::directory::Directory, name: &str) -> Vec<(Uuid, Uuid)> {
    let apis = directory.service_principals.iter();
    apis.flat_map(|api| {
        api.app_roles
            .iter()
            .filter(|role| role["value"] == name)
            .filter_map(|role| Some((api.id, Uuid::try_parse(role["id"].as_str()?).ok()?)))
    })
    .collect()
}
