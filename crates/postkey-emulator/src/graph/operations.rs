//! The one place that names operations, and the table that says which function answers which path.

use http::Method;

use super::{
    Call, applications, credentials, deleted_items,
    errors::{Answer, Refusal},
    federated, grants, keys, organization, owners, policies, service_principals, sign_ins, users,
};

/// What answers an operation.
pub(crate) type Handler = fn(&mut Call<'_>) -> Answer;

/// What a path names, with ids taken out: `["applications", "{}", "addPassword"]`.
fn shape(path: &[String]) -> Vec<&str> {
    let mut shape = Vec::new();
    for (at, segment) in path.iter().enumerate() {
        match segment.split_once('(') {
            Some((name, _)) if at == 0 && !name.is_empty() => {
                shape.push(name);
                shape.push("{}");
            }
            Some((name, _)) => shape.push(name),
            None => {
                let below = shape.last().copied().unwrap_or_default();
                // Actions may carry their namespace; types, behind the deleted items, keep it.
                let segment = match segment.strip_prefix("microsoft.graph.") {
                    Some(action) if below != "deletedItems" => action,
                    _ => segment,
                };
                let keyed = COLLECTIONS.contains(&below) && !WORDS.contains(&segment);
                shape.push(if keyed { "{}" } else { segment });
            }
        }
    }
    shape
}

/// Segments after which an id follows.
const COLLECTIONS: [&str; 18] = [
    "applications",
    "servicePrincipals",
    "owners",
    "federatedIdentityCredentials",
    "appRoleAssignments",
    "appRoleAssignedTo",
    "oauth2PermissionGrants",
    "appManagementPolicies",
    "organization",
    "domains",
    "users",
    "signIns",
    "deletedItems",
    "messages",
    "mailFolders",
    "attachments",
    "childFolders",
    "directoryObjects",
];

/// Segments that are no id even there.
const WORDS: [&str; 6] =
    ["$count", "$ref", "$value", "graph.application", "microsoft.graph.application", "createUploadSession"];

/// The operation's name: what faults are asked for by, what the journal of calls shows, what permissions hang on.
pub(crate) fn operation_name(method: &Method, path: &[String]) -> String {
    let shape = shape(path);
    if shape.first() == Some(&"$batch") {
        return "batch".to_owned();
    }
    if let Some(name) = directory_operation(method, &shape, path) {
        return name.to_owned();
    }
    let rest = match shape.as_slice() {
        ["me", rest @ ..] | ["users", "{}", rest @ ..] => rest,
        rest => rest,
    };
    mail_operation(method, rest)
}

fn directory_operation(method: &Method, shape: &[&str], path: &[String]) -> Option<&'static str> {
    Some(match (method.as_str(), shape) {
        ("GET", ["applications"]) => "applications.list",
        ("GET", ["applications", "$count"]) => "applications.count",
        ("POST", ["applications"]) => "applications.create",
        ("GET", ["applications", "{}"]) => "applications.get",
        ("PATCH", ["applications", "{}"]) if path[0].contains("(uniqueName=") => "applications.upsert",
        ("PATCH", ["applications", "{}"]) => "applications.update",
        ("DELETE", ["applications", "{}"]) => "applications.delete",
        ("POST", ["applications", "{}", "addPassword"]) => "applications.addPassword",
        ("POST", ["applications", "{}", "removePassword"]) => "applications.removePassword",
        ("POST", ["applications", "{}", "addKey"]) => "applications.addKey",
        ("POST", ["applications", "{}", "removeKey"]) => "applications.removeKey",
        ("GET", ["servicePrincipals"]) => "servicePrincipals.list",
        ("GET", ["servicePrincipals", "$count"]) => "servicePrincipals.count",
        ("POST", ["servicePrincipals"]) => "servicePrincipals.create",
        ("GET", ["servicePrincipals", "{}"]) => "servicePrincipals.get",
        ("PATCH", ["servicePrincipals", "{}"]) => "servicePrincipals.update",
        ("DELETE", ["servicePrincipals", "{}"]) => "servicePrincipals.delete",
        ("POST", ["servicePrincipals", "{}", "addPassword"]) => "servicePrincipals.addPassword",
        ("POST", ["servicePrincipals", "{}", "removePassword"]) => "servicePrincipals.removePassword",
        ("POST", ["servicePrincipals", "{}", "addKey"]) => "servicePrincipals.addKey",
        ("POST", ["servicePrincipals", "{}", "removeKey"]) => "servicePrincipals.removeKey",
        ("GET", ["applications" | "servicePrincipals", "{}", "owners"]) => "owners.list",
        ("POST", ["applications" | "servicePrincipals", "{}", "owners", "$ref"]) => "owners.add",
        ("DELETE", ["applications" | "servicePrincipals", "{}", "owners", "{}", "$ref"]) => "owners.remove",
        ("GET", ["applications", "{}", "federatedIdentityCredentials"]) => "federatedIdentityCredentials.list",
        ("POST", ["applications", "{}", "federatedIdentityCredentials"]) => "federatedIdentityCredentials.create",
        ("GET", ["applications", "{}", "federatedIdentityCredentials", "{}"]) => "federatedIdentityCredentials.get",
        ("PATCH", ["applications", "{}", "federatedIdentityCredentials", "{}"]) => {
            "federatedIdentityCredentials.update"
        }
        ("DELETE", ["applications", "{}", "federatedIdentityCredentials", "{}"]) => {
            "federatedIdentityCredentials.delete"
        }
        ("GET", ["applications", "{}", "appManagementPolicies"]) => "appManagementPolicies.list",
        ("POST", ["applications", "{}", "appManagementPolicies", "$ref"]) => "appManagementPolicies.assign",
        ("DELETE", ["applications", "{}", "appManagementPolicies", "{}", "$ref"]) => "appManagementPolicies.unassign",
        ("GET", ["servicePrincipals", "{}", "appRoleAssignedTo"]) => "appRoleAssignedTo.list",
        ("POST", ["servicePrincipals", "{}", "appRoleAssignedTo"]) => "appRoleAssignedTo.create",
        ("GET", ["servicePrincipals", "{}", "appRoleAssignedTo", "{}"]) => "appRoleAssignedTo.get",
        ("DELETE", ["servicePrincipals", "{}", "appRoleAssignedTo", "{}"]) => "appRoleAssignedTo.delete",
        ("GET", ["servicePrincipals", "{}", "appRoleAssignments"]) => "appRoleAssignments.list",
        ("POST", ["servicePrincipals", "{}", "appRoleAssignments"]) => "appRoleAssignments.create",
        ("GET", ["servicePrincipals", "{}", "appRoleAssignments", "{}"]) => "appRoleAssignments.get",
        ("DELETE", ["servicePrincipals", "{}", "appRoleAssignments", "{}"]) => "appRoleAssignments.delete",
        ("GET", ["servicePrincipals", "{}", "oauth2PermissionGrants"]) => "oauth2PermissionGrants.list",
        ("GET", ["oauth2PermissionGrants"]) => "oauth2PermissionGrants.list",
        ("POST", ["oauth2PermissionGrants"]) => "oauth2PermissionGrants.create",
        ("GET", ["oauth2PermissionGrants", "{}"]) => "oauth2PermissionGrants.get",
        ("PATCH", ["oauth2PermissionGrants", "{}"]) => "oauth2PermissionGrants.update",
        ("DELETE", ["oauth2PermissionGrants", "{}"]) => "oauth2PermissionGrants.delete",
        ("GET", ["organization"]) => "organization.list",
        ("GET", ["organization", "{}"]) => "organization.get",
        ("GET", ["domains"]) => "domains.list",
        ("GET", ["domains", "{}"]) => "domains.get",
        ("GET", ["me"]) => "me.get",
        ("GET", ["users"]) => "users.list",
        ("GET", ["users", "$count"]) => "users.count",
        ("GET", ["users", "{}"]) => "users.get",
        ("GET", ["tenantRelationships", "findTenantInformationByTenantId" | "findTenantInformationByDomainName"]) => {
            "tenantRelationships.find"
        }
        ("GET", ["auditLogs", "signIns"]) => "signIns.list",
        ("GET", ["auditLogs", "signIns", "{}"]) => "signIns.get",
        ("GET", ["policies", "defaultAppManagementPolicy"]) => "policies.getDefault",
        ("PATCH", ["policies", "defaultAppManagementPolicy"]) => "policies.updateDefault",
        ("GET", ["policies", "appManagementPolicies"]) => "appManagementPolicies.list",
        ("POST", ["policies", "appManagementPolicies"]) => "appManagementPolicies.create",
        ("GET", ["policies", "appManagementPolicies", "{}"]) => "appManagementPolicies.get",
        ("PATCH", ["policies", "appManagementPolicies", "{}"]) => "appManagementPolicies.update",
        ("DELETE", ["policies", "appManagementPolicies", "{}"]) => "appManagementPolicies.delete",
        ("GET", ["directory", "deletedItems", "graph.application" | "microsoft.graph.application"]) => {
            "deletedItems.list"
        }
        ("GET", ["directory", "deletedItems", "{}"]) => "deletedItems.get",
        ("DELETE", ["directory", "deletedItems", "{}"]) => "deletedItems.delete",
        ("POST", ["directory", "deletedItems", "{}", "restore"]) => "deletedItems.restore",
        _ => return None,
    })
}

/// What the exchange rooms' operations are called; `rest` is the path behind the user.
fn mail_operation(method: &Method, rest: &[&str]) -> String {
    let verb = |one: bool| match method.as_str() {
        "GET" if one => "get",
        "GET" => "list",
        "POST" => "create",
        "PATCH" => "update",
        "PUT" => "put",
        "DELETE" => "delete",
        _ => "other",
    };
    match rest {
        [] => "unknown".to_owned(),
        ["sendMail"] => "sendMail".to_owned(),
        [.., "createUploadSession"] => "upload.create".to_owned(),
        [.., "messages", "{}", "$value"] => "messages.value".to_owned(),
        [.., "messages", "{}", action] if !COLLECTIONS.contains(action) => format!("messages.{action}"),
        [.., collection, "{}"] if COLLECTIONS.contains(collection) => format!("{collection}.{}", verb(true)),
        [.., collection, "$count"] => format!("{collection}.count"),
        [.., collection] if COLLECTIONS.contains(collection) => format!("{collection}.{}", verb(false)),
        // Whatever else carries bytes is an upload URL: they have paths of their own.
        _ if method == Method::PUT => "upload.put".to_owned(),
        [.., last] => format!("{last}.{}", verb(true)),
    }
}

/// The function that answers a path of the directory.
pub(crate) fn route(method: &Method, path: &[String]) -> Result<Handler, Refusal> {
    let shape = shape(path);
    let Some(name) = directory_operation(method, &shape, path) else { return Err(unroutable(&shape, path)) };
    let handler: Handler = match name {
        "applications.list" | "applications.count" => applications::list,
        "applications.create" => applications::create,
        "applications.get" => applications::get,
        "applications.update" => applications::update,
        "applications.upsert" => applications::upsert,
        "applications.delete" => applications::delete,
        "applications.addPassword" | "servicePrincipals.addPassword" => credentials::add_password,
        "applications.removePassword" | "servicePrincipals.removePassword" => credentials::remove_password,
        "applications.addKey" | "servicePrincipals.addKey" => keys::add_key,
        "applications.removeKey" | "servicePrincipals.removeKey" => keys::remove_key,
        "servicePrincipals.list" | "servicePrincipals.count" => service_principals::list,
        "servicePrincipals.create" => service_principals::create,
        "servicePrincipals.get" => service_principals::get,
        "servicePrincipals.update" => service_principals::update,
        "servicePrincipals.delete" => service_principals::delete,
        "owners.list" => owners::list,
        "owners.add" => owners::add,
        "owners.remove" => owners::remove,
        "federatedIdentityCredentials.list" => federated::list,
        "federatedIdentityCredentials.create" => federated::create,
        "federatedIdentityCredentials.get" => federated::get,
        "federatedIdentityCredentials.update" => federated::update,
        "federatedIdentityCredentials.delete" => federated::delete,
        "appRoleAssignedTo.list" | "appRoleAssignments.list" => grants::list_roles,
        "appRoleAssignedTo.create" | "appRoleAssignments.create" => grants::grant_role,
        "appRoleAssignedTo.get" | "appRoleAssignments.get" => grants::get_role,
        "appRoleAssignedTo.delete" | "appRoleAssignments.delete" => grants::remove_role,
        "oauth2PermissionGrants.list" => grants::list_scopes,
        "oauth2PermissionGrants.create" => grants::grant_scopes,
        "oauth2PermissionGrants.get" => grants::get_scopes,
        "oauth2PermissionGrants.update" => grants::update_scopes,
        "oauth2PermissionGrants.delete" => grants::remove_scopes,
        "organization.list" | "organization.get" => organization::organization,
        "domains.list" | "domains.get" => organization::domains,
        "tenantRelationships.find" => organization::find_tenant,
        "me.get" | "users.get" => users::get,
        "users.list" | "users.count" => users::list,
        "signIns.list" | "signIns.get" => sign_ins::list,
        "policies.getDefault" => policies::get_default,
        "policies.updateDefault" => policies::update_default,
        "appManagementPolicies.list" if shape[0] == "applications" => policies::list_assigned,
        "appManagementPolicies.list" => policies::list,
        "appManagementPolicies.create" => policies::create,
        "appManagementPolicies.get" => policies::get,
        "appManagementPolicies.update" => policies::update,
        "appManagementPolicies.delete" => policies::delete,
        "appManagementPolicies.assign" => policies::assign,
        "appManagementPolicies.unassign" => policies::unassign,
        "deletedItems.list" => deleted_items::list,
        "deletedItems.get" => deleted_items::get,
        "deletedItems.delete" => deleted_items::delete,
        "deletedItems.restore" => deleted_items::restore,
        _ => return Err(unroutable(&shape, path)),
    };
    Ok(handler)
}

/// A path that other verbs know is 405, any other 400.
fn unroutable(shape: &[&str], path: &[String]) -> Refusal {
    let known = ["GET", "POST", "PATCH", "DELETE"]
        .iter()
        .filter_map(|method| Method::from_bytes(method.as_bytes()).ok())
        .any(|method| directory_operation(&method, shape, path).is_some());
    if known {
        return Refusal::method_not_allowed();
    }
    let strange = shape.iter().zip(path).find(|(name, _)| !COLLECTIONS.contains(name) && **name != "{}");
    let last = path.last().map_or("", String::as_str);
    Refusal::unknown_segment(strange.map_or(last, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_one_name() {
        for (method, path, want) in [
            ("POST", "applications", "applications.create"),
            ("PATCH", "applications(uniqueName='postkey-1')", "applications.upsert"),
            ("PATCH", "applications(appId='a')", "applications.update"),
            ("POST", "applications/1/addPassword", "applications.addPassword"),
            ("POST", "applications(appId='1')/removePassword", "applications.removePassword"),
            ("POST", "applications/1/microsoft.graph.addPassword", "applications.addPassword"),
            ("GET", "directory/deletedItems/microsoft.graph.application", "deletedItems.list"),
            ("GET", "directory/deletedItems/microsoft.graph.group", "deletedItems.get"),
            ("GET", "applications/$count", "applications.count"),
            ("POST", "servicePrincipals/1/appRoleAssignedTo", "appRoleAssignedTo.create"),
            ("DELETE", "servicePrincipals/1/appRoleAssignments/2", "appRoleAssignments.delete"),
            ("POST", "applications/1/owners/$ref", "owners.add"),
            ("POST", "directory/deletedItems/1/restore", "deletedItems.restore"),
            ("GET", "auditLogs/signIns", "signIns.list"),
            ("GET", "me", "me.get"),
            ("POST", "me/sendMail", "sendMail"),
            ("POST", "users/noreply@contoso.example/sendMail", "sendMail"),
            ("POST", "users('a@b')/sendMail", "sendMail"),
            ("POST", "users/1/messages", "messages.create"),
            ("POST", "users/1/messages/2/send", "messages.send"),
            ("GET", "users/1/messages/2/$value", "messages.value"),
            ("GET", "users/1/mailFolders/Inbox/messages", "messages.list"),
            ("POST", "users/1/mailFolders/Drafts/messages", "messages.create"),
            ("POST", "users/1/messages/2/attachments", "attachments.create"),
            ("POST", "users/1/messages/2/attachments/createUploadSession", "upload.create"),
            ("GET", "users/1/mailFolders", "mailFolders.list"),
            ("POST", "$batch", "batch"),
        ] {
            let path: Vec<String> = path.split('/').map(str::to_owned).collect();
            assert_eq!(operation_name(&method.parse().unwrap(), &path), want, "{method} {path:?}");
        }
    }
}
