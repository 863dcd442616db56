//! The sign-in log: one row per token request, in the shape Graph's /beta shows.

use serde_json::json;
use uuid::Uuid;

use super::client::Proof;
use crate::{
    directory::{Directory, SignIn},
    world::World,
};

/// One sign-in, good or bad.
pub(crate) struct Row<'a> {
    pub(crate) tenant: Uuid,
    pub(crate) app_id: Uuid,
    pub(crate) app_name: &'a str,
    /// The user's object id; None = the app itself.
    pub(crate) user: Option<Uuid>,
    /// Whether a person was at it, or a token was renewed.
    pub(crate) interactive: bool,
    pub(crate) resource: Option<Uuid>,
    /// The AADSTS number; 0 = good.
    pub(crate) error: u32,
    pub(crate) reason: &'a str,
    pub(crate) proof: &'a Proof,
    pub(crate) unique_id: &'a str,
    pub(crate) correlation_id: &'a str,
}

/// Rows kept per tenant; the oldest half goes beyond it.
const ROWS_KEPT: usize = 20_000;

pub(crate) fn write(world: &mut World, row: &Row<'_>) {
    let now = world.clock.now();
    let Some(tenant) = world.tenant_mut(row.tenant) else { return };
    let directory: &mut Directory = &mut tenant.directory;
    let principal = directory.service_principal_by_app_id(row.app_id).map(|principal| principal.id);
    let resource = row.resource.and_then(|app_id| directory.service_principal_by_app_id(app_id));
    let user = row.user.and_then(|id| directory.users.iter().find(|user| user.id == id));
    let (kind, key_id, thumbprint, federated) = match row.proof {
        Proof::None => ("none", None, None, None),
        Proof::Secret { key_id } => ("clientSecret", Some(*key_id), None, None),
        Proof::Certificate { key_id, thumbprint } => ("certificate", Some(*key_id), Some(thumbprint.as_str()), None),
        Proof::Federated { id } => ("federatedIdentityCredential", None, None, Some(*id)),
    };
    let event = match (row.user, row.interactive) {
        (None, _) => "servicePrincipal",
        (Some(_), true) => "interactiveUser",
        (Some(_), false) => "nonInteractiveUser",
    };
    let text = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    let body = json!({
        "id": Uuid::new_v4(),
        "createdDateTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "userDisplayName": user.map_or("", |user| &user.display_name),
        "userPrincipalName": user.map_or("", |user| &user.user_principal_name),
        "userId": text(row.user),
        "appId": row.app_id,
        "appDisplayName": row.app_name,
        "ipAddress": "127.0.0.1",
        "clientAppUsed": "",
        "correlationId": row.correlation_id,
        "isInteractive": row.interactive,
        "conditionalAccessStatus": "notApplied",
        "resourceDisplayName": resource.map_or("", |resource| &resource.display_name),
        "resourceId": text(row.resource),
        "resourceServicePrincipalId": text(resource.map(|resource| resource.id)),
        "servicePrincipalId": if row.user.is_none() { text(principal) } else { String::new() },
        "servicePrincipalName": if row.user.is_none() { row.app_name } else { "" },
        "servicePrincipalCredentialKeyId": text(key_id),
        "servicePrincipalCredentialThumbprint": thumbprint.unwrap_or(""),
        "federatedCredentialId": text(federated),
        "clientCredentialType": kind,
        "signInEventTypes": [event],
        "uniqueTokenIdentifier": row.unique_id,
        "status": {
            "errorCode": row.error,
            "failureReason": if row.error == 0 { "Other." } else { row.reason },
            "additionalDetails": null,
        },
    });
    if directory.sign_ins.len() >= ROWS_KEPT {
        directory.sign_ins.drain(..ROWS_KEPT / 2);
    }
    directory.sign_ins.push(SignIn { created: now, body });
}
