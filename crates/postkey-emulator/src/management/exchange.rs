//! Looking into mailboxes, and what an Exchange administrator does:
//!
//! | request | like |
//! |---|---|
//! | `POST /exchange/organizations/{tenant} {"smtp_auth_disabled"}` | `Set-TransportConfig` |
//! | `POST /exchange/mailboxes/{address} {"missing", "shared", "smtp_auth_disabled", "submission_refusal", "max_send_bytes"}` | licences, `Set-CASMailbox`, … |
//! | `POST /exchange/mailboxes/{address}/rights {"right", "trustee", "revoke"}` | `Add-RecipientPermission`, … |
//! | `POST /exchange/principals {"tenant", "app_id", "object_id"}` | `New-ServicePrincipal` |
//! | `POST`, `DELETE /exchange/role-assignments {"tenant", "app_id", "role", "scope"}` | `New-ManagementRoleAssignment` |
//! | `POST`, `DELETE /exchange/access-policies {"tenant", "app_id", "members", "deny"}` | `New-ApplicationAccessPolicy` |
//! | `POST /exchange/behaviour {"settle_ms", "role_cache_ms", …}` | numbers of the service |

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, Refused, Reply, body, done, ok, only, tenant_id};
use crate::{
    exchange::{administration::Right, limits::Limits, mailbox::MailboxKind, state::Keep},
    server::Arrived,
    world::{Tenant, World},
};

/// The tenant of an address: by its domain, else whichever knows it.
fn tenant_of(world: &World, address: &str) -> Result<Uuid, Refused> {
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    let by_domain = world.tenant_by_key(domain);
    let known = || world.tenants.iter().find(|tenant| tenant.directory.user(address).is_some());
    by_domain.or_else(known).map(|tenant| tenant.id).ok_or_else(|| Refused::Unknown(address.to_owned()))
}

fn tenant_mut(world: &mut World, id: Uuid) -> Result<&mut Tenant, Refused> {
    world.tenant_mut(id).ok_or_else(|| Refused::Unknown(id.to_string()))
}

/// `GET /mailboxes`, `/mailboxes/{address}/messages`, `/mailboxes/{address}/messages/{n}/mime`; n counts from 0.
pub(super) fn mailboxes(world: &mut World, rest: &[&str]) -> Answer {
    match *rest {
        [] => {
            let tenants: Vec<Uuid> = world.tenants.iter().map(|tenant| tenant.id).collect();
            let all = tenants.into_iter().filter_map(|id| Some((id.to_string(), world.mailboxes_json(id)?)));
            Ok(ok(Value::Object(all.collect())))
        }
        [address, "messages", ref rest @ ..] => {
            let tenant = tenant_of(world, address)?;
            let messages =
                world.mailbox_contents(tenant, address).ok_or_else(|| Refused::Unknown(address.to_owned()))?;
            match *rest {
                [] => Ok(ok(messages
                    .iter()
                    .enumerate()
                    .map(|(n, seen)| {
                        json!({
                            "n": n,
                            "folder": seen.folder,
                            "id": seen.id,
                            "subject": seen.subject,
                            "message_id": seen.message_id,
                            "is_draft": seen.is_draft,
                            "size": seen.mime.len(),
                            "mime": format!("{}/mailboxes/{address}/messages/{n}/mime", world.addresses.management),
                        })
                    })
                    .collect())),
                [n, "mime"] => {
                    let seen = n.parse().ok().and_then(|n: usize| messages.get(n));
                    seen.map(|seen| Reply::Mime(seen.mime.clone())).ok_or_else(|| Refused::Unknown(n.to_owned()))
                }
                _ => Err(Refused::Unknown(rest.join("/"))),
            }
        }
        _ => Err(Refused::Unknown(rest.join("/"))),
    }
}

/// `GET /outside`
pub(super) fn outside(world: &mut World) -> Reply {
    let mail = world.outside_mail().iter();
    ok(mail
        .map(|mail| {
            json!({"at": mail.at, "from": mail.from, "to": mail.to, "mime": String::from_utf8_lossy(&mail.mime)})
        })
        .collect())
}

/// `GET /arrivals`: the sums; `/arrivals/list`: one line per message; `/arrivals/{name}`: one of them, by its stamp or
/// its Message-ID; `DELETE /arrivals` forgets all.
pub(super) fn arrivals(world: &mut World, method: &Method, rest: &[&str]) -> Answer {
    if *method == Method::DELETE && rest.is_empty() {
        world.mail.arrivals.clear();
        return Ok(done());
    }
    only(method, &Method::GET)?;
    world.settle_mail();
    match *rest {
        [] => Ok(ok(json!(world.mail.arrivals.totals()))),
        ["list"] => Ok(Reply::Text(world.mail.arrivals.lines())),
        [name] => {
            let arrival = world.mail.arrivals.of(name).ok_or_else(|| Refused::Unknown(name.to_owned()))?;
            Ok(ok(json!({
                "message_id": arrival.message_id,
                "accepted": arrival.accepted,
                "copies": arrival.copies,
                "sha256": hex::encode(arrival.digest),
                "altered": arrival.altered,
            })))
        }
        _ => Err(Refused::Unknown(rest.join("/"))),
    }
}

/// `GET /counters`; `DELETE /counters` begins to count anew.
pub(super) fn counters(world: &mut World, method: &Method) -> Answer {
    if *method == Method::DELETE {
        world.mail.tallies.set_back();
        return Ok(done());
    }
    only(method, &Method::GET)?;
    let tallies = &world.mail.tallies;
    let address = |owner: &Uuid| {
        let found = world.tenants.iter().find_map(|tenant| tenant.mailboxes.get(owner));
        found.map_or_else(|| owner.to_string(), |mailbox| mailbox.address().to_owned())
    };
    let all = tallies.all();
    Ok(ok(json!({
        "most_mailboxes_at_once": tallies.most_busy,
        "most_in_flight": all.values().map(|tally| tally.most_in_flight).max().unwrap_or(0),
        "most_smtp_connections": all.values().map(|tally| tally.most_smtp_connections).max().unwrap_or(0),
        "requests": all.values().map(|tally| tally.requests).sum::<u64>(),
        "messages": all.values().map(|tally| tally.messages).sum::<u64>(),
        "throttled": all.values().map(|tally| tally.throttled).sum::<u64>(),
        "smtp_refused": all.values().map(|tally| tally.smtp_refused).sum::<u64>(),
        "mailboxes": all.iter().map(|(owner, tally)| (address(owner), json!(tally))).collect::<serde_json::Map<_, _>>(),
    })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrganizationChange {
    smtp_auth_disabled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MailboxChange {
    /// Takes the mailbox away with all that is in it, or gives the user an empty one.
    missing: Option<bool>,
    /// The kind of a mailbox given back.
    #[serde(default)]
    shared: bool,
    /// The mailbox's own switch; null = as the organization says.
    smtp_auth_disabled: Option<Value>,
    /// A reply that every submission by SMTP gets, such as `550 5.1.8 Bad outbound sender`; empty = none.
    submission_refusal: Option<String>,
    /// The largest message it may send.
    max_send_bytes: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RightChange {
    /// `SendAs`, `SendOnBehalf` or `FullAccess`.
    right: String,
    /// Object id of a user or of an enterprise application, a user's name, or an application's client id.
    trustee: String,
    #[serde(default)]
    revoke: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrincipalChange {
    tenant: String,
    app_id: Uuid,
    /// As the administrator pastes it; left out = the right one.
    object_id: Option<Uuid>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleChange {
    tenant: String,
    app_id: Uuid,
    /// E.g. `Application Mail.Send`.
    role: Option<String>,
    /// Addresses; null = the whole organization.
    scope: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessPolicyChange {
    tenant: String,
    app_id: Uuid,
    #[serde(default)]
    members: Vec<String>,
    #[serde(default)]
    deny: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BehaviourChange {
    /// From acceptance to delivery.
    settle_ms: Option<u64>,
    /// From a change of roles to its effect.
    role_cache_ms: Option<u64>,
    concurrent_requests: Option<usize>,
    requests_per_ten_minutes: Option<usize>,
    upload_bytes_per_five_minutes: Option<usize>,
    graph_messages_per_minute: Option<usize>,
    smtp_messages_per_minute: Option<usize>,
    smtp_connections: Option<usize>,
    recipients_per_day: Option<usize>,
    external_recipients_per_day: Option<usize>,
    external_limit_refuses: Option<bool>,
    /// All numbers at once, before those that are named beside it.
    limits: Option<LimitsWord>,
    graph_latency_ms: Option<u64>,
    smtp_latency_ms: Option<u64>,
    keep: Option<Keep>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LimitsWord {
    Documented,
    Lifted,
}

pub(super) fn change(world: &mut World, arrived: &Arrived, rest: &[&str]) -> Answer {
    let removing = arrived.method == Method::DELETE;
    if !removing || !matches!(rest, ["role-assignments" | "access-policies"]) {
        only(&arrived.method, &Method::POST)?;
    }
    match *rest {
        ["organizations", tenant] => {
            let id = tenant_id(world, tenant)?;
            tenant_mut(world, id)?.exchange.smtp_auth_disabled =
                body::<OrganizationChange>(arrived)?.smtp_auth_disabled;
        }
        ["mailboxes", address] => return mailbox(world, address, body(arrived)?),
        ["mailboxes", address, "rights"] => return right(world, address, &body(arrived)?),
        ["principals"] => {
            let change: PrincipalChange = body(arrived)?;
            let id = tenant_id(world, &change.tenant)?;
            let object_id = match change.object_id {
                Some(object_id) => object_id,
                None => service_principal(world, id, change.app_id)?,
            };
            tenant_mut(world, id)?.register_mail_principal(change.app_id, object_id);
        }
        ["role-assignments"] => {
            let change: RoleChange = body(arrived)?;
            let id = tenant_id(world, &change.tenant)?;
            let principal = service_principal(world, id, change.app_id)?;
            if removing {
                let assignments = &mut tenant_mut(world, id)?.exchange.role_assignments;
                assignments.retain(|held| {
                    held.service_principal != principal || change.role.as_ref().is_some_and(|role| *role != held.role)
                });
            } else {
                let role = change.role.ok_or(Refused::Value("name a role, such as Application Mail.Send"))?;
                let scope: Option<Vec<&str>> =
                    change.scope.as_ref().map(|list| list.iter().map(String::as_str).collect());
                world.assign_mail_role(id, principal, &role, scope.as_deref());
            }
        }
        ["access-policies"] => {
            let change: AccessPolicyChange = body(arrived)?;
            let id = tenant_id(world, &change.tenant)?;
            let tenant = tenant_mut(world, id)?;
            if removing {
                tenant.exchange.access_policies.retain(|held| held.app_id != change.app_id);
            } else {
                let members: Vec<&str> = change.members.iter().map(String::as_str).collect();
                tenant.add_access_policy(change.app_id, &members, change.deny);
            }
        }
        ["behaviour"] => behaviour(world, &body(arrived)?),
        _ => return Err(Refused::Unknown(rest.join("/"))),
    }
    Ok(done())
}

fn service_principal(world: &World, tenant: Uuid, app_id: Uuid) -> Result<Uuid, Refused> {
    let found = world.tenant(tenant).and_then(|tenant| tenant.directory.service_principal_by_app_id(app_id));
    found.map(|principal| principal.id).ok_or(Refused::Value("the app has no service principal there"))
}

fn mailbox(world: &mut World, address: &str, change: MailboxChange) -> Answer {
    let tenant = tenant_of(world, address)?;
    let tenant = tenant_mut(world, tenant)?;
    match change.missing {
        Some(true) => {
            tenant.remove_mailbox(address);
            return Ok(done());
        }
        Some(false) => {
            let kind = if change.shared { MailboxKind::Shared } else { MailboxKind::User };
            tenant.add_mailbox(address, kind).ok_or_else(|| Refused::Unknown(address.to_owned()))?;
        }
        None => {}
    }
    if let Some(switch) = change.smtp_auth_disabled {
        let mailbox = tenant.mailbox_mut(address).ok_or_else(|| Refused::Unknown(address.to_owned()))?;
        mailbox.smtp_auth_disabled = switch.as_bool();
    }
    if change.submission_refusal.is_some() || change.max_send_bytes.is_some() {
        let mailbox = tenant.mailbox_mut(address).ok_or_else(|| Refused::Unknown(address.to_owned()))?;
        if let Some(reply) = change.submission_refusal {
            let replies = |reply: &str| reply.starts_with(['4', '5']) && !reply.contains(char::is_control);
            if !reply.is_empty() && !replies(&reply) {
                return Err(Refused::Value("a reply is one line that starts with 4 or 5"));
            }
            mailbox.submission_refusal = (!reply.is_empty()).then_some(reply);
        }
        if let Some(bytes) = change.max_send_bytes {
            mailbox.max_send_bytes = bytes;
        }
    }
    Ok(done())
}

fn right(world: &mut World, address: &str, change: &RightChange) -> Answer {
    let right = match change.right.as_str() {
        "SendAs" => Right::SendAs,
        "SendOnBehalf" => Right::SendOnBehalf,
        "FullAccess" => Right::FullAccess,
        _ => return Err(Refused::Value("the rights are SendAs, SendOnBehalf and FullAccess")),
    };
    let tenant = tenant_of(world, address)?;
    let tenant = tenant_mut(world, tenant)?;
    let id = Uuid::try_parse(&change.trustee).ok();
    let trustee = tenant
        .directory
        .user(&change.trustee)
        .map(|user| user.id)
        .or_else(|| tenant.directory.service_principal_by_app_id(id?).map(|principal| principal.id))
        .or(id)
        .ok_or_else(|| Refused::Unknown(change.trustee.clone()))?;
    let found =
        if change.revoke { tenant.revoke(address, right, trustee) } else { tenant.grant(address, right, trustee) };
    // Revoking what was never granted is no mistake.
    if found || change.revoke { Ok(done()) } else { Err(Refused::Unknown(address.to_owned())) }
}

fn behaviour(world: &mut World, change: &BehaviourChange) {
    if let Some(settle) = change.settle_ms {
        world.set_settle(Duration::from_millis(settle));
    }
    if let Some(cache) = change.role_cache_ms {
        world.mail.role_cache = Duration::from_millis(cache);
    }
    if let Some(latency) = change.graph_latency_ms {
        world.mail.graph_latency = Duration::from_millis(latency);
    }
    if let Some(latency) = change.smtp_latency_ms {
        world.mail.smtp_latency = Duration::from_millis(latency);
    }
    if let Some(keep) = change.keep {
        world.mail.keep = keep;
    }
    let limits = &mut world.mail.limits;
    match change.limits {
        Some(LimitsWord::Documented) => *limits = Limits::default(),
        Some(LimitsWord::Lifted) => *limits = Limits::lifted(),
        None => {}
    }
    if let Some(refuses) = change.external_limit_refuses {
        limits.external_limit_refuses = refuses;
    }
    for (limit, value) in [
        (&mut limits.concurrent_requests, change.concurrent_requests),
        (&mut limits.requests_per_ten_minutes, change.requests_per_ten_minutes),
        (&mut limits.upload_bytes_per_five_minutes, change.upload_bytes_per_five_minutes),
        (&mut limits.smtp_messages_per_minute, change.smtp_messages_per_minute),
        (&mut limits.smtp_connections, change.smtp_connections),
        (&mut limits.recipients_per_day, change.recipients_per_day),
        (&mut limits.external_recipients_per_day, change.external_recipients_per_day),
    ] {
        if let Some(value) = value {
            *limit = value;
        }
    }
    if change.graph_messages_per_minute.is_some() {
        limits.graph_messages_per_minute = change.graph_messages_per_minute;
    }
}
