//! Which permission each operation needs, least privileged first, and whose objects it then reaches.

use super::{Call, errors::Refusal};
use crate::request::Caller;

/// What the caller may touch with its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Every object of the tenant.
    All,
    /// Only what the caller, or its user, owns.
    Owned,
}

/// Whose role a delegated call needs besides the scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Person {
    Anyone,
    /// An administrator reaches everything, others what they own.
    AdministratorOrOwner,
    Administrator,
}

struct Rule {
    /// Any of these suffices in a delegated token.
    delegated: &'static [&'static str],
    /// Any of these suffices in an app-only token.
    application: &'static [&'static str],
    /// And one of these, unless empty.
    also: &'static [&'static str],
    person: Person,
}

const OWNED_BY: &str = "Application.ReadWrite.OwnedBy";

const READ_APPS: Rule = Rule {
    delegated: &["Application.Read.All", "Application.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"],
    application: &[
        "Application.Read.All",
        OWNED_BY,
        "Application.ReadWrite.All",
        "Directory.Read.All",
        "Directory.ReadWrite.All",
    ],
    also: &[],
    person: Person::Anyone,
};

const WRITE_APPS: Rule = Rule {
    delegated: &["Application.ReadWrite.All", "Directory.ReadWrite.All"],
    application: &[OWNED_BY, "Application.ReadWrite.All", "Directory.ReadWrite.All"],
    also: &[],
    person: Person::AdministratorOrOwner,
};

const CREATE_APPS: Rule = Rule {
    delegated: &["AppRegistration.Create", "Application.ReadWrite.All", "Directory.ReadWrite.All"],
    application: &["AppRegistration.Create", OWNED_BY, "Application.ReadWrite.All", "Directory.ReadWrite.All"],
    also: &[],
    person: Person::Anyone,
};

/// Adding an owner needs more than owning.
const WRITE_OWNERS: Rule = Rule {
    delegated: &["Application.ReadWrite.All", "Directory.ReadWrite.All"],
    application: &["Application.ReadWrite.All", "Directory.ReadWrite.All"],
    also: &["Directory.Read.All", "Directory.ReadWrite.All"],
    person: Person::AdministratorOrOwner,
};

const GRANT_ROLES: Rule = Rule {
    delegated: &["AppRoleAssignment.ReadWrite.All"],
    application: &["AppRoleAssignment.ReadWrite.All"],
    also: &[
        "Application.Read.All",
        "Application.ReadWrite.All",
        OWNED_BY,
        "Directory.Read.All",
        "Directory.ReadWrite.All",
    ],
    person: Person::Administrator,
};

const REMOVE_ROLES: Rule = Rule { also: &[], ..GRANT_ROLES };

const READ_GRANTS: Rule = Rule {
    delegated: &["Directory.Read.All", "DelegatedPermissionGrant.ReadWrite.All", "Directory.ReadWrite.All"],
    application: &["Directory.Read.All", "DelegatedPermissionGrant.ReadWrite.All", "Directory.ReadWrite.All"],
    also: &[],
    person: Person::Anyone,
};

const WRITE_GRANTS: Rule = Rule {
    delegated: &["DelegatedPermissionGrant.ReadWrite.All", "Directory.ReadWrite.All"],
    application: &["DelegatedPermissionGrant.ReadWrite.All", "Directory.ReadWrite.All"],
    also: &[],
    person: Person::Administrator,
};

const READ_ORGANIZATION: Rule = Rule {
    delegated: &["User.Read", "Organization.Read.All", "Directory.Read.All", "Directory.ReadWrite.All"],
    application: &["Organization.Read.All", "Directory.Read.All", "Directory.ReadWrite.All"],
    also: &[],
    person: Person::Anyone,
};

const READ_DOMAINS: Rule = Rule {
    delegated: &["Domain.Read.All", "Directory.Read.All", "Directory.ReadWrite.All"],
    application: &["Domain.Read.All", "Directory.Read.All", "Directory.ReadWrite.All"],
    also: &[],
    person: Person::Anyone,
};

const READ_ME: Rule = Rule {
    delegated: &["User.Read", "User.ReadWrite", "User.Read.All", "Directory.Read.All", "Directory.ReadWrite.All"],
    application: &[],
    also: &[],
    person: Person::Anyone,
};

const READ_USERS: Rule = Rule {
    delegated: &[
        "User.ReadBasic.All",
        "User.Read.All",
        "User.ReadWrite.All",
        "Directory.Read.All",
        "Directory.ReadWrite.All",
    ],
    application: &[
        "User.ReadBasic.All",
        "User.Read.All",
        "User.ReadWrite.All",
        "Directory.Read.All",
        "Directory.ReadWrite.All",
    ],
    also: &[],
    person: Person::Anyone,
};

const FIND_TENANT: Rule = Rule {
    delegated: &["CrossTenantInformation.ReadBasic.All"],
    application: &["CrossTenantInformation.ReadBasic.All"],
    also: &[],
    person: Person::Anyone,
};

/// Older articles ask for Directory.Read.All too; the newer ones do not.
const READ_SIGN_INS: Rule = Rule {
    delegated: &["AuditLog.Read.All"],
    application: &["AuditLog.Read.All"],
    also: &[],
    person: Person::Administrator,
};

const READ_POLICIES: Rule = Rule {
    delegated: &["Policy.Read.All", "Policy.ReadWrite.ApplicationConfiguration"],
    application: &["Policy.Read.All", "Policy.ReadWrite.ApplicationConfiguration"],
    also: &[],
    person: Person::Anyone,
};

const WRITE_POLICIES: Rule = Rule {
    delegated: &["Policy.ReadWrite.ApplicationConfiguration"],
    application: &["Policy.ReadWrite.ApplicationConfiguration"],
    also: &[],
    person: Person::Administrator,
};

/// (unverified)
const ASSIGN_POLICIES: Rule = Rule {
    delegated: &["Policy.ReadWrite.ApplicationConfiguration"],
    application: &["Policy.ReadWrite.ApplicationConfiguration"],
    also: &["Application.ReadWrite.All"],
    person: Person::Administrator,
};

/// (unverified for applications)
const RESTORE: Rule = Rule {
    delegated: &["Application.ReadWrite.All", "Directory.ReadWrite.All"],
    application: &[OWNED_BY, "Application.ReadWrite.All", "Directory.ReadWrite.All"],
    also: &[],
    person: Person::AdministratorOrOwner,
};

fn rule(operation: &str) -> Option<&'static Rule> {
    let (room, action) = operation.split_once('.')?;
    let reads = matches!(action, "list" | "get" | "count");
    Some(match room {
        "applications" | "servicePrincipals" => match action {
            "create" | "upsert" if room == "applications" => &CREATE_APPS,
            _ if reads => &READ_APPS,
            _ => &WRITE_APPS,
        },
        "owners" if reads => &READ_APPS,
        "owners" => &WRITE_OWNERS,
        "federatedIdentityCredentials" if reads => &READ_APPS,
        "federatedIdentityCredentials" => &WRITE_APPS,
        "appRoleAssignedTo" | "appRoleAssignments" if reads => &READ_APPS,
        "appRoleAssignedTo" | "appRoleAssignments" if action == "create" => &GRANT_ROLES,
        "appRoleAssignedTo" | "appRoleAssignments" => &REMOVE_ROLES,
        "oauth2PermissionGrants" if reads => &READ_GRANTS,
        "oauth2PermissionGrants" => &WRITE_GRANTS,
        "organization" => &READ_ORGANIZATION,
        "domains" => &READ_DOMAINS,
        "me" => &READ_ME,
        "users" => &READ_USERS,
        "tenantRelationships" => &FIND_TENANT,
        "signIns" => &READ_SIGN_INS,
        "policies" if action.starts_with("get") => &READ_POLICIES,
        "policies" => &WRITE_POLICIES,
        "appManagementPolicies" if reads => &READ_POLICIES,
        "appManagementPolicies" if matches!(action, "assign" | "unassign") => &ASSIGN_POLICIES,
        "appManagementPolicies" => &WRITE_POLICIES,
        "deletedItems" if reads => &READ_APPS,
        "deletedItems" => &RESTORE,
        _ => return None,
    })
}

/// Refuses the call unless its token and its user allow the operation; says whose objects it reaches.
pub(crate) fn check(call: &Call<'_>, operation: &str) -> Result<Reach, Refusal> {
    let caller = &call.caller;
    // A key of one's own needs no permission: the proof stands for it. Whose key it is, the operation itself checks.
    if matches!(
        operation,
        "applications.addKey" | "applications.removeKey" | "servicePrincipals.addKey" | "servicePrincipals.removeKey"
    ) && owns_key(call)
    {
        return Ok(Reach::All);
    }
    if operation == "me.get" && caller.user.is_none() {
        // What an app-only token gets for asking who it is. (unverified code)
        return Err(Refusal::new(400, "BadRequest", "/me request is only valid with delegated authentication flow."));
    }
    let rule = rule(operation).ok_or_else(Refusal::denied)?;
    let held = |names: &[&str]| names.iter().any(|name| holds(caller, name));
    let enough = if caller.user.is_some() { rule.delegated } else { rule.application };
    // A user without more may read its own entry with User.Read.
    let myself = operation == "users.get" && caller.user.is_some() && names_caller(call) && holds(caller, "User.Read");
    if !(held(enough) || myself) || !(rule.also.is_empty() || held(rule.also)) {
        return Err(Refusal::denied());
    }
    match caller.user {
        Some(user) => {
            let administrator = call
                .directory()
                .users
                .iter()
                .any(|known| known.id == user && known.administrator && known.account_enabled);
            match rule.person {
                Person::Anyone => Ok(Reach::All),
                _ if administrator => Ok(Reach::All),
                Person::AdministratorOrOwner => Ok(Reach::Owned),
                Person::Administrator => Err(Refusal::denied()),
            }
        }
        None => {
            let only_owned = rule.application.contains(&OWNED_BY)
                && rule.person == Person::AdministratorOrOwner
                && !enough.iter().any(|name| *name != OWNED_BY && holds(caller, name));
            Ok(if only_owned { Reach::Owned } else { Reach::All })
        }
    }
}

fn holds(caller: &Caller, permission: &str) -> bool {
    if caller.user.is_some() { caller.scopes.contains(permission) } else { caller.roles.contains(permission) }
}

/// Whether the only thing that lets the caller act on applications is `Application.ReadWrite.OwnedBy`.
pub(crate) fn only_owned_by(caller: &Caller) -> bool {
    caller.user.is_none()
        && !["Application.ReadWrite.All", "Directory.ReadWrite.All"].iter().any(|name| holds(caller, name))
}

/// Whether the path's first segments name the calling app itself, with an app-only token.
fn owns_key(call: &Call<'_>) -> bool {
    if call.caller.user.is_some() {
        return false;
    }
    let (name, key) = super::path_key(&call.request.path);
    let Some(key) = key else { return false };
    match name {
        "applications" => super::applications::find(call, &key)
            .is_ok_and(|at| call.directory().applications[at].app_id == call.caller.app_id),
        "servicePrincipals" => super::service_principals::find(call, &key)
            .is_ok_and(|at| call.directory().service_principals[at].id == call.caller.service_principal),
        _ => false,
    }
}

fn names_caller(call: &Call<'_>) -> bool {
    let (_, key) = super::path_key(&call.request.path);
    let Some(super::Key::Id(key)) = key else { return false };
    call.directory().user(&key).is_some_and(|user| Some(user.id) == call.caller.user)
}
