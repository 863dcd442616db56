//! `/users` and `/me`: the user object only; mail below it is the exchange rooms'.

use serde_json::{Value, json};

use super::{
    Call,
    errors::{Answer, Refusal},
    odata::{self, Options, Resource},
    path_key,
};
use crate::directory::User;

const USER: Resource = Resource {
    entity: "user",
    properties: &[
        "id",
        "deletedDateTime",
        "aboutMe",
        "accountEnabled",
        "ageGroup",
        "assignedLicenses",
        "assignedPlans",
        "authorizationInfo",
        "birthday",
        "businessPhones",
        "city",
        "companyName",
        "consentProvidedForMinor",
        "country",
        "createdDateTime",
        "creationType",
        "department",
        "displayName",
        "employeeHireDate",
        "employeeId",
        "employeeLeaveDateTime",
        "employeeOrgData",
        "employeeType",
        "externalUserState",
        "externalUserStateChangeDateTime",
        "faxNumber",
        "givenName",
        "hireDate",
        "identities",
        "imAddresses",
        "interests",
        "isResourceAccount",
        "jobTitle",
        "lastPasswordChangeDateTime",
        "legalAgeGroupClassification",
        "licenseAssignmentStates",
        "mail",
        "mailNickname",
        "mailboxSettings",
        "mobilePhone",
        "mySite",
        "officeLocation",
        "onPremisesDistinguishedName",
        "onPremisesDomainName",
        "onPremisesExtensionAttributes",
        "onPremisesImmutableId",
        "onPremisesLastSyncDateTime",
        "onPremisesProvisioningErrors",
        "onPremisesSamAccountName",
        "onPremisesSecurityIdentifier",
        "onPremisesSyncEnabled",
        "onPremisesUserPrincipalName",
        "otherMails",
        "passwordPolicies",
        "passwordProfile",
        "pastProjects",
        "postalCode",
        "preferredDataLocation",
        "preferredLanguage",
        "preferredName",
        "provisionedPlans",
        "proxyAddresses",
        "responsibilities",
        "schools",
        "securityIdentifier",
        "serviceProvisioningErrors",
        "showInAddressList",
        "signInActivity",
        "signInSessionsValidFromDateTime",
        "skills",
        "state",
        "streetAddress",
        "surname",
        "usageLocation",
        "userPrincipalName",
        "userType",
    ],
    // Exactly these eleven come without $select.
    defaults: &[
        "businessPhones",
        "displayName",
        "givenName",
        "jobTitle",
        "mail",
        "mobilePhone",
        "officeLocation",
        "preferredLanguage",
        "surname",
        "userPrincipalName",
        "id",
    ],
    filterable: &[
        "id",
        "accountEnabled",
        "assignedLicenses",
        "businessPhones",
        "city",
        "companyName",
        "country",
        "createdDateTime",
        "department",
        "displayName",
        "employeeId",
        "givenName",
        "identities",
        "imAddresses",
        "jobTitle",
        "mail",
        "mailNickname",
        "mobilePhone",
        "otherMails",
        "proxyAddresses",
        "surname",
        "userPrincipalName",
        "userType",
    ],
    directory: true,
    default_page: 100,
    largest_page: 999,
};

pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &USER)?;
    let items = call.directory().users.iter().map(|user| user_json(call, user)).collect();
    if call.segment(1) == "$count" {
        return odata::count_only(&options, items);
    }
    odata::collection(call.request, &USER, "users", &options, items)
}

pub(crate) fn get(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &USER)?;
    let user = match (call.segment(0), call.caller.user) {
        ("me", Some(id)) => {
            let user = call.directory().users.iter().find(|user| user.id == id);
            user.ok_or_else(|| Refusal::not_found(&id.to_string()))?
        }
        _ => {
            let (_, key) = path_key(&call.request.path);
            let key = key.ok_or_else(|| Refusal::bad_request("Invalid object identifier."))?;
            by_id_or_name(call, key.text())?
        }
    };
    let item = user_json(call, user);
    odata::entity(200, call.request, &USER, "users", &options, item)
}

/// The object id or the principal name; other addresses of the mailbox are no key here.
fn by_id_or_name<'a>(call: &'a Call<'_>, key: &str) -> Result<&'a User, Refusal> {
    let id = uuid::Uuid::try_parse(key).ok();
    let users = &call.directory().users;
    users
        .iter()
        .find(|user| Some(user.id) == id || user.user_principal_name.eq_ignore_ascii_case(key))
        .ok_or_else(|| Refusal::not_found(key))
}

fn user_json(call: &Call<'_>, user: &User) -> Value {
    let name = &user.user_principal_name;
    let has_mailbox = call.tenant().mailboxes.contains_key(&user.id);
    let proxies: Vec<String> = if has_mailbox {
        let aliases = user.aliases.iter().map(|alias| format!("smtp:{alias}"));
        std::iter::once(format!("SMTP:{name}")).chain(aliases).collect()
    } else {
        Vec::new()
    };
    json!({
        "id": user.id,
        "deletedDateTime": null,
        "accountEnabled": user.account_enabled,
        "assignedLicenses": [],
        "assignedPlans": [],
        "businessPhones": [],
        "city": null, "companyName": null, "country": null,
        "createdDateTime": "2024-01-15T09:00:00Z",
        "department": null,
        "displayName": user.display_name,
        "employeeId": null,
        "givenName": user.given_name,
        "identities": [{ "signInType": "userPrincipalName", "issuer": call.tenant().domain, "issuerAssignedId": name }],
        "imAddresses": if has_mailbox { json!([name]) } else { json!([]) },
        "jobTitle": null,
        "mail": if has_mailbox { json!(name) } else { Value::Null },
        "mailNickname": name.split('@').next(),
        "mobilePhone": null,
        "officeLocation": null,
        "onPremisesSyncEnabled": null,
        "otherMails": [],
        "postalCode": null,
        "preferredLanguage": null,
        "proxyAddresses": proxies,
        "signInSessionsValidFromDateTime": user.tokens_valid_from,
        "state": null, "streetAddress": null,
        "surname": user.surname,
        "usageLocation": "US",
        "userPrincipalName": name,
        "userType": "Member",
    })
}
