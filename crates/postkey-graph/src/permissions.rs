//! Well-known ids of Microsoft's APIs and their permissions: the one home of each number.

use postkey_base::{AppRoleId, ClientId};
use uuid::{Uuid, uuid};

/// Microsoft Graph's own application.
pub const GRAPH: ClientId = ClientId::new(uuid!("00000003-0000-0000-c000-000000000000"));

/// Office 365 Exchange Online's own application.
pub const EXCHANGE: ClientId = ClientId::new(uuid!("00000002-0000-0ff1-ce00-000000000000"));

/// Azure AD Graph: no API of ours, but the audience that a proof of possession for `addKey` must name.
pub const PROOF_AUDIENCE: ClientId = ClientId::new(uuid!("00000002-0000-0000-c000-000000000000"));

/// The API that a permission belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    /// Microsoft Graph.
    Graph,
    /// Office 365 Exchange Online: SMTP, IMAP and POP.
    Exchange,
}

impl Api {
    /// The client id of the API's application, the same in every tenant.
    pub const fn client_id(self) -> ClientId {
        match self {
            Self::Graph => GRAPH,
            Self::Exchange => EXCHANGE,
        }
    }

    /// The API's name as the portal lists it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Graph => "Microsoft Graph",
            Self::Exchange => "Office 365 Exchange Online",
        }
    }
}

/// One permission: the application form, the delegated form, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// `Mail.Send`; the `value` of the app role or scope.
    pub name: &'static str,
    /// Where it belongs.
    pub api: Api,
    /// Which forms there are.
    pub kinds: Kinds,
    /// Id of the app role. None where the form does not exist, and always for Exchange, whose ids are looked up by
    /// name in the tenant's service principal.
    pub application_id: Option<AppRoleId>,
    /// Id of the scope; None as above.
    pub delegated_id: Option<Uuid>,
    /// Whether the delegated form needs an administrator's consent. The application form always does.
    pub needs_admin: bool,
}

/// The forms of a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// Only an app acting as itself.
    Application,
    /// Only an app acting for a signed-in user.
    Delegated,
    /// Either.
    Both,
}

/// The permission called `name` on `api`, whatever its case.
pub fn named(api: Api, name: &str) -> Option<&'static Permission> {
    ALL.iter().find(|permission| permission.api == api && permission.name.eq_ignore_ascii_case(name))
}

const fn both(name: &'static str, application: Uuid, delegated: Uuid, needs_admin: bool) -> Permission {
    Permission {
        name,
        api: Api::Graph,
        kinds: Kinds::Both,
        application_id: Some(AppRoleId::new(application)),
        delegated_id: Some(delegated),
        needs_admin,
    }
}

const fn application(name: &'static str, id: Uuid) -> Permission {
    Permission {
        name,
        api: Api::Graph,
        kinds: Kinds::Application,
        application_id: Some(AppRoleId::new(id)),
        delegated_id: None,
        needs_admin: true,
    }
}

const fn delegated(name: &'static str, id: Uuid) -> Permission {
    Permission {
        name,
        api: Api::Graph,
        kinds: Kinds::Delegated,
        application_id: None,
        delegated_id: Some(id),
        needs_admin: false,
    }
}

const fn exchange(name: &'static str, kinds: Kinds) -> Permission {
    Permission {
        name,
        api: Api::Exchange,
        kinds,
        application_id: None,
        delegated_id: None,
        needs_admin: matches!(kinds, Kinds::Application),
    }
}

/// Every permission postkey may ask for or recognise.
pub const ALL: &[Permission] = &[
    both(
        "Mail.Send",
        uuid!("b633e1c5-b582-4048-a93e-9f11b44c7e96"),
        uuid!("e383f46e-2787-4529-855e-0e479a3ffac0"),
        false,
    ),
    delegated("Mail.Send.Shared", uuid!("a367ab51-6b49-43bf-a716-a1fb06d2a174")),
    both(
        "Mail.ReadWrite",
        uuid!("e2a3a72e-5f79-4c64-b1b1-878b674786c9"),
        uuid!("024d486e-b451-40bb-833d-3e66d98c5c73"),
        false,
    ),
    delegated("Mail.ReadWrite.Shared", uuid!("5df07973-7d5d-46ed-9847-1271055cbd51")),
    both(
        "Mail.Read",
        uuid!("810c84a8-4a9e-49e6-bf7d-12d183f40d01"),
        uuid!("570282fd-fa5c-430d-a7fd-fc8dc98a9dca"),
        false,
    ),
    delegated("Mail.Read.Shared", uuid!("7b9103a5-4610-446b-9670-80643382c1fa")),
    both(
        "Mail.ReadBasic",
        uuid!("6be147d2-ea4f-4b5a-a3fa-3eab6f3c140a"),
        uuid!("a4b8392a-d8d1-4954-a029-8e668a39a170"),
        false,
    ),
    application("Mail.ReadBasic.All", uuid!("693c5e45-0940-467d-9b8a-1022fb9d42ef")),
    both(
        "MailboxSettings.Read",
        uuid!("40f97065-369a-49f4-947c-6a255697ae91"),
        uuid!("87f447af-9fa4-4c32-9dfa-4a57a73d18ce"),
        false,
    ),
    both(
        "MailboxSettings.ReadWrite",
        uuid!("6931bccd-447a-43d1-b442-00a195474933"),
        uuid!("818c620a-27a9-40bd-a6a5-d96f7d610b4b"),
        false,
    ),
    both(
        "Calendars.ReadWrite",
        uuid!("ef54d2bf-783f-4e0f-bca1-3210c0444d99"),
        uuid!("1ec239c2-d7c9-4623-a91a-a9775856bb36"),
        false,
    ),
    both(
        "Contacts.ReadWrite",
        uuid!("6918b873-d17a-4dc1-b314-35f528134491"),
        uuid!("d56682ec-c09e-4743-aaf4-1a3aac4caa21"),
        false,
    ),
    both(
        "Group.ReadWrite.All",
        uuid!("62a82d76-70ea-41e2-9197-370581804d09"),
        uuid!("4e46008b-f24c-477d-8fff-7bb4ec7aafe0"),
        true,
    ),
    both(
        "Group.Read.All",
        uuid!("5b567255-7703-4780-807c-7be8301ae99b"),
        uuid!("5f8c59db-677d-491f-a6b8-5f174b11ec1d"),
        true,
    ),
    delegated("User.Read", uuid!("e1fe6dd8-ba31-4d61-89e7-88639da4683d")),
    both(
        "User.Read.All",
        uuid!("df021288-bdef-4463-88db-98f22de89214"),
        uuid!("a154be20-db9c-4678-8ab7-66f6cc099a59"),
        true,
    ),
    delegated("offline_access", uuid!("7427e0e9-2fba-42fe-b0c0-848c9e6a8182")),
    delegated("openid", uuid!("37f7f235-527c-4136-accd-4a02d197296e")),
    delegated("profile", uuid!("14dad69e-099b-42c9-810b-d002981feec1")),
    delegated("email", uuid!("64a6cdd6-aab1-4aaf-94b8-3cc8405e90d0")),
    delegated("SMTP.Send", uuid!("258f6531-6087-4cc4-bb90-092c5fb3ed3f")),
    delegated("IMAP.AccessAsUser.All", uuid!("652390e4-393a-48de-9484-05f9b1212954")),
    delegated("POP.AccessAsUser.All", uuid!("d7b7f2d9-0f45-4ea1-9d42-e50810c06991")),
    delegated("EWS.AccessAsUser.All", uuid!("9769c687-087d-48ac-9cb3-c37dde652038")),
    both(
        "Application.Read.All",
        uuid!("9a5d68dd-52b0-4cc2-bd40-abcf44ac3a30"),
        uuid!("c79f8feb-a9db-4090-85f9-90d820caa0eb"),
        true,
    ),
    both(
        "Application.ReadWrite.All",
        uuid!("1bfefb4e-e0b5-418b-a88f-73c46d2cc8e9"),
        uuid!("bdfbf15f-ee85-4955-8675-146e8e5296b5"),
        true,
    ),
    application("Application.ReadWrite.OwnedBy", uuid!("18a4783c-866b-4cc7-a460-3d5e5662c884")),
    both(
        "AppRoleAssignment.ReadWrite.All",
        uuid!("06b708a9-e830-4db3-a914-8e69da51d44f"),
        uuid!("84bccea3-f856-4a8a-967b-dbe0a3d53a64"),
        true,
    ),
    both(
        "DelegatedPermissionGrant.ReadWrite.All",
        uuid!("8e8e4742-1d95-4f68-9d56-6ee75648c72a"),
        uuid!("41ce6ca6-6826-4807-84f1-1c82854f7ee5"),
        true,
    ),
    both(
        "AuditLog.Read.All",
        uuid!("b0afded3-3588-46d8-8b3d-9842eff778da"),
        uuid!("e4c9e354-4dc5-45b8-9e7c-e1393b0b1a20"),
        true,
    ),
    both(
        "Directory.Read.All",
        uuid!("7ab1d382-f21e-4acd-a863-ba3e13f7da61"),
        uuid!("06da0dbc-49e2-44d2-8312-53f166ab848a"),
        true,
    ),
    both(
        "Directory.ReadWrite.All",
        uuid!("19dbc75e-c2e2-444c-a770-ec69d8559fc7"),
        uuid!("c5366453-9fb0-48a5-a156-24f0c49a4b84"),
        true,
    ),
    both(
        "Organization.Read.All",
        uuid!("498476ce-e0fe-48b0-b801-37ba7e2685c6"),
        uuid!("4908d5b9-3fb2-4b1e-9336-1888b7937185"),
        true,
    ),
    both(
        "Domain.Read.All",
        uuid!("dbb9058a-0e50-45d7-ae91-66909b5d4664"),
        uuid!("2f9ee017-59c1-4f1d-9472-bd5529a7b311"),
        true,
    ),
    both(
        "Policy.Read.All",
        uuid!("246dd0d5-5bd0-4def-940b-0421030a5b68"),
        uuid!("572fea84-0151-49b2-9301-11cb16974376"),
        true,
    ),
    both(
        "Policy.ReadWrite.ApplicationConfiguration",
        uuid!("be74164b-cff1-491c-8741-e671cb536e13"),
        uuid!("b27add92-efb2-4f16-84f5-8108ba77985c"),
        true,
    ),
    both(
        "CrossTenantInformation.ReadBasic.All",
        uuid!("cac88765-0581-4025-9725-5ebc13f729ee"),
        uuid!("81594d25-e88e-49cf-ac8c-fecbff49f994"),
        true,
    ),
    exchange("SMTP.SendAsApp", Kinds::Application),
    exchange("IMAP.AccessAsApp", Kinds::Application),
    exchange("POP.AccessAsApp", Kinds::Application),
    exchange("full_access_as_app", Kinds::Application),
    exchange("Exchange.ManageAsApp", Kinds::Application),
    exchange("Mail.Send", Kinds::Both),
    exchange("SMTP.Send", Kinds::Delegated),
    exchange("IMAP.AccessAsUser.All", Kinds::Delegated),
    exchange("POP.AccessAsUser.All", Kinds::Delegated),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_permission_is_found_by_its_api_and_name() {
        let send = named(Api::Graph, "mail.send").unwrap();
        assert_eq!(send.application_id.unwrap().to_string(), "b633e1c5-b582-4048-a93e-9f11b44c7e96");
        assert!(!send.needs_admin);
        assert!(named(Api::Exchange, "SMTP.SendAsApp").unwrap().application_id.is_none());
        assert!(named(Api::Graph, "SMTP.SendAsApp").is_none());
    }

    #[test]
    fn no_name_and_no_id_stands_twice() {
        let mut names = HashSet::new();
        let mut ids = HashSet::new();
        for permission in ALL {
            assert!(names.insert((permission.api, permission.name)), "{}", permission.name);
            for id in permission.application_id.map(AppRoleId::uuid).into_iter().chain(permission.delegated_id) {
                assert!(ids.insert(id), "{id}");
            }
        }
    }
}
