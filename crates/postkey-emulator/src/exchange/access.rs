//! Who may do what in a mailbox: roles of the token, RBAC for Applications, application access policies, delegated
//! scopes, and the Exchange rights Send As, Send on Behalf and Full Access.

use std::collections::BTreeSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::{mailbox::Mailbox, refusal::Refusal};
use crate::{
    request::Caller,
    world::{Tenant, World},
};

/// Rights in one mailbox, by object id of a user or of a service principal.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    /// May send as this mailbox.
    pub send_as: BTreeSet<Uuid>,
    /// May send on its behalf.
    pub send_on_behalf: BTreeSet<Uuid>,
    /// May open it.
    pub full_access: BTreeSet<Uuid>,
}

/// An app that Exchange knows by `New-ServicePrincipal`.
#[derive(Debug, Clone)]
pub struct MailboxPrincipal {
    /// Client id.
    pub app_id: Uuid,
    /// As the administrator gave it: right only when it is the enterprise application's object id.
    pub object_id: Uuid,
}

/// `New-ManagementRoleAssignment -App … -Role … -CustomResourceScope …`.
#[derive(Debug, Clone)]
pub struct RoleAssignment {
    /// Object id of the service principal.
    pub service_principal: Uuid,
    /// E.g. `Application Mail.Send`.
    pub role: String,
    /// Addresses of the mailboxes in scope, lower case; None = the whole organization.
    pub scope: Option<BTreeSet<String>>,
    /// Caches answer by it from here on.
    pub effective_from: Timestamp,
}

/// `New-ApplicationAccessPolicy`.
#[derive(Debug, Clone)]
pub struct AccessPolicy {
    /// Client id.
    pub app_id: Uuid,
    /// Addresses of the group's members, lower case.
    pub members: BTreeSet<String>,
    /// `DenyAccess`, else `RestrictAccess`.
    pub deny: bool,
}

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Send mail.
    Send,
    /// List and read, without bodies if the caller has no more.
    ReadBasic,
    /// Read bodies and attachments.
    Read,
    /// Create, change, move, delete.
    Write,
    /// Move attachments' bytes into a message or an event.
    Upload,
    /// Change ids from one form to the other.
    Translate,
}

impl Need {
    /// Application permissions that allow it (graph-exchange.openapi.yaml, x-permissions).
    fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Send => &["Mail.Send"],
            Self::ReadBasic => &["Mail.ReadBasic", "Mail.ReadBasic.All", "Mail.Read", "Mail.ReadWrite"],
            Self::Read => &["Mail.Read", "Mail.ReadWrite"],
            Self::Write => &["Mail.ReadWrite"],
            Self::Upload => &["Mail.ReadWrite", "Calendars.ReadWrite"],
            Self::Translate => &["User.Read.All", "User.ReadWrite.All"],
        }
    }

    /// Delegated permissions for one's own mailbox.
    fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Send => &["Mail.Send", "Mail.Send.Shared"],
            Self::ReadBasic => &[
                "Mail.ReadBasic",
                "Mail.Read",
                "Mail.ReadWrite",
                "Mail.ReadBasic.Shared",
                "Mail.Read.Shared",
                "Mail.ReadWrite.Shared",
            ],
            Self::Read => &["Mail.Read", "Mail.ReadWrite", "Mail.Read.Shared", "Mail.ReadWrite.Shared"],
            Self::Write => &["Mail.ReadWrite", "Mail.ReadWrite.Shared"],
            Self::Upload => &["Mail.ReadWrite", "Calendars.ReadWrite"],
            Self::Translate => {
                &["User.Read", "User.ReadBasic.All", "User.Read.All", "User.ReadWrite", "User.ReadWrite.All"]
            }
        }
    }

    /// Delegated permissions for a mailbox shared with the user. An upload session has none: 403, a known issue.
    fn shared_scopes(self) -> &'static [&'static str] {
        match self {
            Self::Send => &["Mail.Send.Shared"],
            Self::ReadBasic => &["Mail.ReadBasic.Shared", "Mail.Read.Shared", "Mail.ReadWrite.Shared"],
            Self::Read => &["Mail.Read.Shared", "Mail.ReadWrite.Shared"],
            Self::Write => &["Mail.ReadWrite.Shared"],
            Self::Upload => &[],
            Self::Translate => &["User.ReadBasic.All", "User.Read.All", "User.ReadWrite.All"],
        }
    }

    /// RBAC roles that allow it, without the word "Application ".
    fn exchange_roles(self) -> &'static [&'static str] {
        match self {
            Self::Send => &["Mail.Send", "Mail Full Access", "Exchange Full Access"],
            Self::ReadBasic => {
                &["Mail.ReadBasic", "Mail.Read", "Mail.ReadWrite", "Mail Full Access", "Exchange Full Access"]
            }
            Self::Read => &["Mail.Read", "Mail.ReadWrite", "Mail Full Access", "Exchange Full Access"],
            Self::Write | Self::Upload => &["Mail.ReadWrite", "Mail Full Access", "Exchange Full Access"],
            Self::Translate => &[],
        }
    }
}

/// The mailbox of an operation and how the caller came to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    pub(crate) tenant: usize,
    /// Owner of the mailbox.
    pub(crate) mailbox: Uuid,
    /// The caller may see bodies and attachments.
    pub(crate) sees_content: bool,
}

/// Whether the caller may do this in the mailbox of `user_key` (an id, a name, or `me`); permission is judged before
/// anything else about the request.
pub(crate) fn authorize(world: &World, caller: &Caller, user_key: &str, need: Need) -> Result<Allowed, Refusal> {
    let tenant_index = tenant_index(world, caller.tenant).ok_or_else(Refusal::access_denied)?;
    let tenant = &world.tenants[tenant_index];
    let key = user_key.to_ascii_lowercase();
    let owner = match (key.as_str(), caller.user) {
        ("me", Some(user)) => Some(user),
        ("me", None) => {
            return Err(Refusal::new(
                400,
                "BadRequest",
                "/me request is only valid with delegated authentication flow.",
            ));
        }
        _ => owner_of(tenant, &key),
    };
    let mailbox = owner.and_then(|owner| tenant.mailboxes.get(&owner));
    let now = world.clock.now();
    if !permitted(tenant, caller, owner, mailbox, need, now)? {
        return Err(Refusal::access_denied());
    }
    let Some(owner) = owner else {
        // The directory knows no such user. unverified: which of the two codes, observed both
        return Err(if Uuid::try_parse(&key).is_ok() {
            Refusal::new(404, "ResourceNotFound", "Resource could not be discovered.")
        } else {
            Refusal::new(404, "ErrorInvalidUser", format!("The requested user '{user_key}' is invalid."))
        });
    };
    if mailbox.is_none() {
        return Err(Refusal::new(
            404,
            "MailboxNotEnabledForRESTAPI",
            "The mailbox is either inactive, soft-deleted, or is hosted on-premise.",
        ));
    }
    let sees_content = need != Need::ReadBasic || permitted(tenant, caller, Some(owner), mailbox, Need::Read, now)?;
    Ok(Allowed { tenant: tenant_index, mailbox: owner, sees_content })
}

/// Which tenant of the world this is.
pub(crate) fn tenant_index(world: &World, id: Uuid) -> Option<usize> {
    world.tenants.iter().position(|tenant| tenant.id == id)
}

/// The object id behind an id, a user principal name or an address.
pub(crate) fn owner_of(tenant: &Tenant, key: &str) -> Option<Uuid> {
    tenant.directory.user(key).map(|user| user.id).or_else(|| {
        let id = Uuid::try_parse(key).ok();
        tenant
            .mailboxes
            .values()
            .find(|mailbox| Some(mailbox.owner) == id || mailbox.has_address(key))
            .map(|mailbox| mailbox.owner)
    })
}

fn permitted(
    tenant: &Tenant,
    caller: &Caller,
    owner: Option<Uuid>,
    mailbox: Option<&Mailbox>,
    need: Need,
    now: Timestamp,
) -> Result<bool, Refusal> {
    let holds = |wanted: &[&str], held: &BTreeSet<String>| wanted.iter().any(|name| held.contains(*name));
    let Some(user) = caller.user else {
        // A union: Entra's grant, unless an access policy takes it away, or Exchange's own assignment.
        if mailbox.is_some_and(|mailbox| has_exchange_role(tenant, caller.service_principal, mailbox, need, now)) {
            return Ok(true);
        }
        if !holds(need.roles(), &caller.roles) {
            return Ok(false);
        }
        if mailbox.is_some_and(|mailbox| blocked_by_policy(tenant, caller.app_id, mailbox)) {
            return Err(Refusal::new(
                403,
                "ErrorAccessDenied",
                "Access to OData is disabled: [RAOP] : Blocked by tenant configured AppOnly AccessPolicy settings.",
            ));
        }
        return Ok(true);
    };
    if owner == Some(user) {
        return Ok(holds(need.scopes(), &caller.scopes));
    }
    if !holds(need.shared_scopes(), &caller.scopes) {
        return Ok(false);
    }
    // Somebody else's mailbox: the sent copy and everything else lies there, so Full Access is needed as well.
    Ok(mailbox.is_none_or(|mailbox| mailbox.rights.full_access.contains(&user)))
}

fn has_exchange_role(tenant: &Tenant, principal: Uuid, mailbox: &Mailbox, need: Need, now: Timestamp) -> bool {
    need.exchange_roles().iter().any(|role| in_role_scope(tenant, principal, mailbox, role, now))
}

/// Whether an RBAC assignment of this role (without the word "Application ") covers the mailbox.
pub(crate) fn in_role_scope(tenant: &Tenant, principal: Uuid, mailbox: &Mailbox, role: &str, now: Timestamp) -> bool {
    tenant.exchange.role_assignments.iter().any(|held| {
        held.service_principal == principal
            && held.effective_from <= now
            && held.role.strip_prefix("Application ").unwrap_or(&held.role).eq_ignore_ascii_case(role)
            && held.scope.as_ref().is_none_or(|scope| covers(scope, mailbox))
    })
}

fn covers(scope: &BTreeSet<String>, mailbox: &Mailbox) -> bool {
    mailbox.addresses.iter().any(|address| scope.contains(&address.to_ascii_lowercase()))
}

/// Deny wins; else a restriction that names the mailbox grants; else any restriction of the app denies.
fn blocked_by_policy(tenant: &Tenant, app_id: Uuid, mailbox: &Mailbox) -> bool {
    let policies: Vec<&AccessPolicy> =
        tenant.exchange.access_policies.iter().filter(|policy| policy.app_id == app_id).collect();
    if policies.iter().any(|policy| policy.deny && covers(&policy.members, mailbox)) {
        return true;
    }
    if policies.iter().any(|policy| !policy.deny && covers(&policy.members, mailbox)) {
        return false;
    }
    policies.iter().any(|policy| !policy.deny)
}

/// How a message may carry its From.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Representation {
    /// From is the mailbox itself.
    Own,
    /// From and Sender are the represented mailbox.
    SendAs,
    /// Sender is the real one.
    OnBehalf,
}

/// Who sends, for the question whether this From is allowed.
#[derive(Debug, Clone)]
pub(crate) struct Sender<'a> {
    /// The signed-in user or, app-only, the service principal; the mailbox's owner where its name is used like one's own.
    pub(crate) actors: Vec<Uuid>,
    /// The mailbox that the request goes through.
    pub(crate) mailbox: &'a Mailbox,
}

/// Whether a message with this From may be sent; None = it may not.
pub(crate) fn representation(tenant: &Tenant, sender: &Sender<'_>, from: &str) -> Option<Representation> {
    // Full Access opens another's mailbox; it does not make its holder the one who owns it.
    if sender.mailbox.has_address(from) && sender.actors.contains(&sender.mailbox.owner) {
        return Some(Representation::Own);
    }
    let represented = tenant.mailboxes.values().find(|mailbox| mailbox.has_address(from))?;
    let rights = &represented.rights;
    if sender.actors.iter().any(|actor| rights.send_as.contains(actor)) {
        Some(Representation::SendAs)
    } else if sender.actors.iter().any(|actor| rights.send_on_behalf.contains(actor)) {
        Some(Representation::OnBehalf)
    } else {
        None
    }
}

/// The documented refusal of a From.
pub(crate) fn send_as_denied() -> Refusal {
    Refusal::new(
        403,
        "ErrorSendAsDenied",
        "The user account which was used to submit this request does not have the right to send mail on behalf of \
         the specified sending account. Cannot submit message.",
    )
}
