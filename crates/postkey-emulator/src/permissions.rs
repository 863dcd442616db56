//! The permissions of Microsoft Graph and Office 365 Exchange Online with their real ids, and the service principals
//! that carry them in every tenant.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::directory::{EXCHANGE_APP_ID, GRAPH_APP_ID, MICROSOFT_TENANT_ID, ServicePrincipal};

/// One permission: name, id as app role, id as delegated scope, whether the scope needs an administrator, what it allows.
type Permission = (&'static str, Option<&'static str>, Option<&'static str>, bool, &'static str);

const GRAPH: &[Permission] = &[
    (
        "Mail.Send",
        Some("b633e1c5-b582-4048-a93e-9f11b44c7e96"),
        Some("e383f46e-2787-4529-855e-0e479a3ffac0"),
        false,
        "Send mail",
    ),
    ("Mail.Send.Shared", None, Some("a367ab51-6b49-43bf-a716-a1fb06d2a174"), false, "Send mail on behalf of others"),
    (
        "Mail.ReadWrite",
        Some("e2a3a72e-5f79-4c64-b1b1-878b674786c9"),
        Some("024d486e-b451-40bb-833d-3e66d98c5c73"),
        false,
        "Read and write mail",
    ),
    ("Mail.ReadWrite.Shared", None, Some("5df07973-7d5d-46ed-9847-1271055cbd51"), false, "Read and write shared mail"),
    (
        "Mail.Read",
        Some("810c84a8-4a9e-49e6-bf7d-12d183f40d01"),
        Some("570282fd-fa5c-430d-a7fd-fc8dc98a9dca"),
        false,
        "Read mail",
    ),
    ("Mail.Read.Shared", None, Some("7b9103a5-4610-446b-9670-80643382c1fa"), false, "Read shared mail"),
    (
        "Mail.ReadBasic",
        Some("6be147d2-ea4f-4b5a-a3fa-3eab6f3c140a"),
        Some("a4b8392a-d8d1-4954-a029-8e668a39a170"),
        false,
        "Read basic mail",
    ),
    (
        "Mail.ReadBasic.All",
        Some("693c5e45-0940-467d-9b8a-1022fb9d42ef"),
        None,
        false,
        "Read basic mail in all mailboxes",
    ),
    (
        "MailboxSettings.Read",
        Some("40f97065-369a-49f4-947c-6a255697ae91"),
        Some("87f447af-9fa4-4c32-9dfa-4a57a73d18ce"),
        false,
        "Read mailbox settings",
    ),
    (
        "MailboxSettings.ReadWrite",
        Some("6931bccd-447a-43d1-b442-00a195474933"),
        Some("818c620a-27a9-40bd-a6a5-d96f7d610b4b"),
        false,
        "Read and write mailbox settings",
    ),
    (
        "Calendars.ReadWrite",
        Some("ef54d2bf-783f-4e0f-bca1-3210c0444d99"),
        Some("1ec239c2-d7c9-4623-a91a-a9775856bb36"),
        false,
        "Read and write calendars",
    ),
    (
        "Contacts.ReadWrite",
        Some("6918b873-d17a-4dc1-b314-35f528134491"),
        Some("d56682ec-c09e-4743-aaf4-1a3aac4caa21"),
        false,
        "Read and write contacts",
    ),
    (
        "Group.ReadWrite.All",
        Some("62a82d76-70ea-41e2-9197-370581804d09"),
        Some("4e46008b-f24c-477d-8fff-7bb4ec7aafe0"),
        true,
        "Read and write all groups",
    ),
    (
        "Group.Read.All",
        Some("5b567255-7703-4780-807c-7be8301ae99b"),
        Some("5f8c59db-677d-491f-a6b8-5f174b11ec1d"),
        true,
        "Read all groups",
    ),
    ("User.Read", None, Some("e1fe6dd8-ba31-4d61-89e7-88639da4683d"), false, "Sign in and read user profile"),
    (
        "User.Read.All",
        Some("df021288-bdef-4463-88db-98f22de89214"),
        Some("a154be20-db9c-4678-8ab7-66f6cc099a59"),
        true,
        "Read all users' full profiles",
    ),
    (
        "offline_access",
        None,
        Some("7427e0e9-2fba-42fe-b0c0-848c9e6a8182"),
        false,
        "Maintain access to data you have given it access to",
    ),
    ("openid", None, Some("37f7f235-527c-4136-accd-4a02d197296e"), false, "Sign users in"),
    ("profile", None, Some("14dad69e-099b-42c9-810b-d002981feec1"), false, "View users' basic profile"),
    ("email", None, Some("64a6cdd6-aab1-4aaf-94b8-3cc8405e90d0"), false, "View users' email address"),
    (
        "SMTP.Send",
        None,
        Some("258f6531-6087-4cc4-bb90-092c5fb3ed3f"),
        false,
        "Send emails from mailboxes using SMTP AUTH",
    ),
    (
        "IMAP.AccessAsUser.All",
        None,
        Some("652390e4-393a-48de-9484-05f9b1212954"),
        false,
        "Read and write access to mailboxes via IMAP",
    ),
    (
        "POP.AccessAsUser.All",
        None,
        Some("d7b7f2d9-0f45-4ea1-9d42-e50810c06991"),
        false,
        "Read and write access to mailboxes via POP",
    ),
    (
        "EWS.AccessAsUser.All",
        None,
        Some("9769c687-087d-48ac-9cb3-c37dde652038"),
        false,
        "Access mailboxes via Exchange Web Services",
    ),
    (
        "Application.Read.All",
        Some("9a5d68dd-52b0-4cc2-bd40-abcf44ac3a30"),
        Some("c79f8feb-a9db-4090-85f9-90d820caa0eb"),
        true,
        "Read all applications",
    ),
    (
        "Application.ReadWrite.All",
        Some("1bfefb4e-e0b5-418b-a88f-73c46d2cc8e9"),
        Some("bdfbf15f-ee85-4955-8675-146e8e5296b5"),
        true,
        "Read and write all applications",
    ),
    (
        "Application.ReadWrite.OwnedBy",
        Some("18a4783c-866b-4cc7-a460-3d5e5662c884"),
        None,
        false,
        "Manage apps that this app creates or owns",
    ),
    (
        "AppRoleAssignment.ReadWrite.All",
        Some("06b708a9-e830-4db3-a914-8e69da51d44f"),
        Some("84bccea3-f856-4a8a-967b-dbe0a3d53a64"),
        true,
        "Manage app permission grants and app role assignments",
    ),
    (
        "DelegatedPermissionGrant.ReadWrite.All",
        Some("8e8e4742-1d95-4f68-9d56-6ee75648c72a"),
        Some("41ce6ca6-6826-4807-84f1-1c82854f7ee5"),
        true,
        "Manage all delegated permission grants",
    ),
    (
        "AuditLog.Read.All",
        Some("b0afded3-3588-46d8-8b3d-9842eff778da"),
        Some("e4c9e354-4dc5-45b8-9e7c-e1393b0b1a20"),
        true,
        "Read audit log data",
    ),
    (
        "Directory.Read.All",
        Some("7ab1d382-f21e-4acd-a863-ba3e13f7da61"),
        Some("06da0dbc-49e2-44d2-8312-53f166ab848a"),
        true,
        "Read directory data",
    ),
    (
        "Directory.ReadWrite.All",
        Some("19dbc75e-c2e2-444c-a770-ec69d8559fc7"),
        Some("c5366453-9fb0-48a5-a156-24f0c49a4b84"),
        true,
        "Read and write directory data",
    ),
    (
        "Organization.Read.All",
        Some("498476ce-e0fe-48b0-b801-37ba7e2685c6"),
        Some("4908d5b9-3fb2-4b1e-9336-1888b7937185"),
        true,
        "Read organization information",
    ),
    (
        "Domain.Read.All",
        Some("dbb9058a-0e50-45d7-ae91-66909b5d4664"),
        Some("2f9ee017-59c1-4f1d-9472-bd5529a7b311"),
        true,
        "Read domains",
    ),
    (
        "Policy.Read.All",
        Some("246dd0d5-5bd0-4def-940b-0421030a5b68"),
        Some("572fea84-0151-49b2-9301-11cb16974376"),
        true,
        "Read your organization's policies",
    ),
    (
        "Policy.ReadWrite.ApplicationConfiguration",
        Some("be74164b-cff1-491c-8741-e671cb536e13"),
        Some("b27add92-efb2-4f16-84f5-8108ba77985c"),
        true,
        "Read and write your organization's application configuration policies",
    ),
    (
        "CrossTenantInformation.ReadBasic.All",
        Some("cac88765-0581-4025-9725-5ebc13f729ee"),
        Some("81594d25-e88e-49cf-ac8c-fecbff49f994"),
        true,
        "Read cross-tenant basic information",
    ),
];

// Ids from public listings of the service principal; SMTP.SendAsApp's rests on few of them. // unverified
const EXCHANGE: &[Permission] = &[
    (
        "IMAP.AccessAsApp",
        Some("5e5addcd-3e8d-4e90-baf5-964efab2b20a"),
        None,
        false,
        "IMAP access to all mailboxes it is admitted to",
    ),
    (
        "POP.AccessAsApp",
        Some("cb842b43-da6e-4506-86fe-bb12199c656d"),
        None,
        false,
        "POP access to all mailboxes it is admitted to",
    ),
    (
        "SMTP.SendAsApp",
        Some("7146a1f0-8703-45b3-9eae-527a64c00995"),
        None,
        false,
        "Send mail by SMTP AUTH as mailboxes it is admitted to",
    ),
    (
        "full_access_as_app",
        Some("dc890d15-9560-4a4c-9b7f-a736ec74ec40"),
        None,
        false,
        "Use Exchange Web Services with full access to all mailboxes",
    ),
    (
        "Exchange.ManageAsApp",
        Some("dc50a0fb-09a3-484d-be87-e023b12c6440"),
        None,
        false,
        "Manage Exchange as an application",
    ),
    (
        "Mail.Send",
        Some("b633e1c5-b582-4048-a93e-9f11b44c7e96"),
        Some("5eb43c10-865a-4259-960a-83946678f8dd"),
        false,
        "Send mail",
    ),
    (
        "SMTP.Send",
        None,
        Some("76faac2a-0f20-42f1-928a-50de5b9dbe52"),
        false,
        "Send emails from mailboxes using SMTP AUTH",
    ),
    (
        "IMAP.AccessAsUser.All",
        None,
        Some("195adc35-e27b-454b-a7ed-1ecdffa1c09f"),
        false,
        "Read and write access to mailboxes via IMAP",
    ),
    (
        "POP.AccessAsUser.All",
        None,
        Some("fb698133-92fa-453e-a9ed-688e10f2e5ac"),
        false,
        "Read and write access to mailboxes via POP",
    ),
];

fn role(permission: &Permission) -> Option<Value> {
    let (name, Some(id), _, _, words) = permission else { return None };
    Some(json!({
        "allowedMemberTypes": ["Application"],
        "description": format!("Allows the app, without a signed-in user: {}, in the whole organization.", words.to_lowercase()),
        "displayName": format!("{words} (as an application)"),
        "id": id,
        "isEnabled": true,
        "origin": "Application",
        "value": name,
    }))
}

fn scope(permission: &Permission) -> Option<Value> {
    let (name, _, Some(id), administrator, words) = permission else { return None };
    Some(json!({
        "adminConsentDescription": format!("Allows the app, on behalf of the signed-in user: {}.", words.to_lowercase()),
        "adminConsentDisplayName": words,
        "id": id,
        "isEnabled": true,
        "type": if *administrator { "Admin" } else { "User" },
        "userConsentDescription": format!("Allows the app, on your behalf: {}.", words.to_lowercase()),
        "userConsentDisplayName": words,
        "value": name,
    }))
}

/// The id of an app role of an API, by its name.
pub(crate) fn role_id(api: Uuid, name: &str) -> Option<Uuid> {
    let table = if api == GRAPH_APP_ID { GRAPH } else { EXCHANGE };
    table.iter().find(|permission| permission.0 == name).and_then(|permission| Uuid::try_parse(permission.1?).ok())
}

/// The id of a delegated permission of an API, by its name.
pub(crate) fn scope_id(api: Uuid, name: &str) -> Option<Uuid> {
    let table = if api == GRAPH_APP_ID { GRAPH } else { EXCHANGE };
    table.iter().find(|permission| permission.0 == name).and_then(|permission| Uuid::try_parse(permission.2?).ok())
}

/// Microsoft Graph in a tenant.
pub(crate) fn graph_principal(now: Timestamp) -> ServicePrincipal {
    principal(
        GRAPH_APP_ID,
        "Microsoft Graph",
        GRAPH,
        now,
        &["https://graph.microsoft.com", "https://graph.microsoft.com/", "00000003-0000-0000-c000-000000000000"],
    )
}

/// Office 365 Exchange Online in a tenant.
pub(crate) fn exchange_principal(now: Timestamp) -> ServicePrincipal {
    principal(
        EXCHANGE_APP_ID,
        "Office 365 Exchange Online",
        EXCHANGE,
        now,
        &["https://outlook.office365.com", "https://outlook.office.com", "00000002-0000-0ff1-ce00-000000000000"],
    )
}

fn principal(app_id: Uuid, name: &str, permissions: &[Permission], now: Timestamp, names: &[&str]) -> ServicePrincipal {
    let mut rest = Map::new();
    rest.insert("appOwnerOrganizationId".to_owned(), json!(MICROSOFT_TENANT_ID));
    rest.insert("servicePrincipalNames".to_owned(), json!(names));
    rest.insert("servicePrincipalType".to_owned(), json!("Application"));
    ServicePrincipal {
        id: Uuid::new_v4(),
        app_id,
        display_name: name.to_owned(),
        account_enabled: true,
        app_role_assignment_required: false,
        app_roles: permissions.iter().filter_map(role).collect(),
        scopes: permissions.iter().filter_map(scope).collect(),
        owners: Vec::new(),
        created: now,
        visible_from: now,
        rest,
    }
}
