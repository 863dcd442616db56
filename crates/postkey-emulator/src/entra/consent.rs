//! Consent: what an app asks for in words, and the grants that saying yes leaves in the directory.

use serde_json::Value;
use uuid::Uuid;

use super::{
    client::find_application,
    grants::Scopes,
    scopes::{self, OIDC},
};
use crate::{
    directory::{AppRoleAssignment, Application, DelegatedGrant, GRAPH_APP_ID, MICROSOFT_TENANT_ID},
    sample::instantiate,
    world::{World, random_text},
};

/// One permission on the consent page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Client id of the API.
    pub(crate) api: Uuid,
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) description: String,
    /// An application permission, which only an administrator grants.
    pub(crate) role: Option<Uuid>,
    pub(crate) administrator: bool,
}

/// The permissions a request asks for, in words. `.default` means what the registration declares.
pub(crate) fn list(world: &World, tenant: Uuid, app: &Application, wanted: &[Scopes], with_roles: bool) -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    let Some(tenant) = world.tenant(tenant) else { return asked };
    let mut add = |one: Option<Asked>| {
        if let Some(one) = one
            && !asked.contains(&one)
        {
            asked.push(one);
        }
    };
    let scope = |api: Uuid, test: &dyn Fn(&Value) -> bool| -> Option<Asked> {
        let principal = scopes::principal(&tenant.directory, api)?;
        let found = principal.scopes.iter().find(|scope| test(scope))?;
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        Some(Asked {
            api,
            name: text("value"),
            title: text("userConsentDisplayName"),
            description: text("userConsentDescription"),
            role: None,
            administrator: found["type"] == "Admin",
        })
    };
    let role = |api: Uuid, id: &str| -> Option<Asked> {
        let principal = scopes::principal(&tenant.directory, api)?;
        let found = principal.app_roles.iter().find(|role| role["id"] == id)?;
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        Some(Asked {
            api,
            name: text("value"),
            title: text("displayName"),
            description: text("description"),
            role: Uuid::try_parse(id).ok(),
            administrator: true,
        })
    };
    for api in wanted {
        for name in &api.names {
            if name != ".default" {
                add(scope(api.resource, &|scope| scope["value"] == name.as_str()));
                continue;
            }
            for access in &app.required_resource_access {
                let Some(declared) = access["resourceAppId"].as_str().and_then(|id| Uuid::try_parse(id).ok()) else {
                    continue;
                };
                for entry in access["resourceAccess"].as_array().into_iter().flatten() {
                    let id = entry["id"].as_str().unwrap_or_default();
                    if entry["type"] == "Scope" {
                        add(scope(declared, &|scope| scope["id"] == id));
                    } else if with_roles {
                        add(role(declared, id));
                    }
                }
            }
        }
        for name in &api.oidc {
            add(scope(GRAPH_APP_ID, &|scope| scope["value"] == name.as_str()));
        }
    }
    asked
}

/// Whether a sign-in must ask for consent first.
pub(crate) fn needed(world: &World, tenant: Uuid, app_id: Uuid, user: Uuid, wanted: &[Scopes]) -> bool {
    let Some(tenant) = world.tenant(tenant) else { return true };
    let directory = &tenant.directory;
    let Some(principal) = directory.service_principal_by_app_id(app_id) else { return true };
    let anything = directory.delegated_grants.iter().any(|grant| {
        grant.client_id == principal.id && (grant.consent_type == "AllPrincipals" || grant.principal_id == Some(user))
    });
    !anything || wanted.iter().any(|api| !scopes::lacking(directory, app_id, api, user).is_empty())
}

/// Writes a yes into the directory: for one user, or with `user` None for the whole organization. The app's service
/// principal is made if the tenant has none.
pub(crate) fn grant(world: &mut World, tenant: Uuid, app_id: Uuid, user: Option<Uuid>, asked: &[Asked]) {
    let (now, visible) = (world.clock.now(), world.replicated_from());
    let home = world
        .tenants
        .iter()
        .find(|tenant| tenant.directory.application_by_app_id(app_id).is_some())
        .map_or(MICROSOFT_TENANT_ID, |tenant| tenant.id);
    let Some(app) = world.tenant(tenant).and_then(|tenant| find_application(world, tenant, app_id)).cloned() else {
        return;
    };
    let Some(tenant) = world.tenant_mut(tenant) else { return };
    let directory = &mut tenant.directory;
    let client = match directory.service_principal_by_app_id(app_id) {
        Some(principal) => principal.id,
        None => {
            let mut principal = instantiate(&app, home, now);
            principal.visible_from = visible;
            let id = principal.id;
            directory.service_principals.push(principal);
            id
        }
    };
    for one in asked {
        let Some(resource) = scopes::principal(directory, one.api).map(|principal| principal.id) else { continue };
        if let Some(role) = one.role {
            let held = directory
                .app_role_assignments
                .iter()
                .any(|held| held.principal_id == client && held.resource_id == resource && held.app_role_id == role);
            if !held {
                directory.app_role_assignments.push(AppRoleAssignment {
                    id: random_text(43),
                    principal_id: client,
                    resource_id: resource,
                    app_role_id: role,
                    created: now,
                    effective_from: visible,
                });
            }
            continue;
        }
        let consent_type = if user.is_some() { "Principal" } else { "AllPrincipals" };
        let found = directory.delegated_grants.iter_mut().find(|grant| {
            grant.client_id == client
                && grant.resource_id == resource
                && grant.consent_type == consent_type
                && grant.principal_id == user
        });
        match found {
            Some(grant) => {
                if !grant.scope.split_ascii_whitespace().any(|name| name.eq_ignore_ascii_case(&one.name)) {
                    grant.scope = format!("{} {}", grant.scope, one.name).trim().to_owned();
                }
            }
            None => directory.delegated_grants.push(DelegatedGrant {
                id: random_text(43),
                client_id: client,
                consent_type: consent_type.to_owned(),
                principal_id: user,
                resource_id: resource,
                scope: one.name.clone(),
            }),
        }
    }
}

/// Consented permissions as the admin consent answer names them.
pub(crate) fn names(asked: &[Asked], prefix: &str) -> String {
    let spelt = asked
        .iter()
        .filter(|one| one.role.is_none())
        .map(|one| if OIDC.contains(&one.name.as_str()) { one.name.clone() } else { format!("{prefix}/{}", one.name) });
    spelt.collect::<Vec<_>>().join(" ")
}
