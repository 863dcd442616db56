//! The tenant itself: `/organization`, `/domains`, and finding a tenant by its id or domain.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Call,
    errors::{Answer, Refusal, json_answer},
    odata::{self, Options, Resource},
};
use crate::world::Tenant;

const ORGANIZATION: Resource = Resource {
    entity: "organization",
    properties: &[
        "id",
        "deletedDateTime",
        "assignedPlans",
        "businessPhones",
        "city",
        "country",
        "countryLetterCode",
        "createdDateTime",
        "defaultUsageLocation",
        "displayName",
        "marketingNotificationEmails",
        "mobileDeviceManagementAuthority",
        "onPremisesLastSyncDateTime",
        "onPremisesSyncEnabled",
        "partnerTenantType",
        "postalCode",
        "preferredLanguage",
        "privacyProfile",
        "provisionedPlans",
        "securityComplianceNotificationMails",
        "securityComplianceNotificationPhones",
        "state",
        "street",
        "technicalNotificationMails",
        "tenantType",
        "verifiedDomains",
    ],
    defaults: &[],
    filterable: &[],
    directory: true,
    default_page: 100,
    largest_page: 999,
};

const DOMAIN: Resource = Resource {
    entity: "domain",
    properties: &[
        "id",
        "authenticationType",
        "availabilityStatus",
        "isAdminManaged",
        "isDefault",
        "isInitial",
        "isRoot",
        "isVerified",
        "manufacturer",
        "model",
        "passwordNotificationWindowInDays",
        "passwordValidityPeriodInDays",
        "state",
        "supportedServices",
    ],
    defaults: &[],
    filterable: &[],
    directory: true,
    default_page: 100,
    largest_page: 999,
};

pub(crate) fn organization(call: &mut Call<'_>) -> Answer {
    let options = Options::read(call.request, &ORGANIZATION)?;
    let item = organization_json(call.tenant());
    let (_, key) = super::path_key(&call.request.path);
    match key {
        None => odata::collection(call.request, &ORGANIZATION, "organization", &options, vec![item]),
        Some(key) if Uuid::try_parse(key.text()).ok() == Some(call.caller.tenant) => {
            odata::entity(200, call.request, &ORGANIZATION, "organization", &options, item)
        }
        Some(key) => Err(Refusal::not_found(key.text())),
    }
}

fn organization_json(tenant: &Tenant) -> Value {
    // Exchange Online plan 2's service plan. (unverified; clients only look for the service's name)
    let exchange = json!({
        "assignedDateTime": "2024-01-15T09:00:00Z", "capabilityStatus": "Enabled", "service": "exchange",
        "servicePlanId": "efb87545-963c-4e0d-99df-69c6916d9eb0",
    });
    json!({
        "id": tenant.id, "deletedDateTime": null, "businessPhones": [], "city": null, "country": null,
        "countryLetterCode": "US", "createdDateTime": "2024-01-15T09:00:00Z", "defaultUsageLocation": null,
        "displayName": tenant.display_name, "marketingNotificationEmails": [], "onPremisesLastSyncDateTime": null,
        "onPremisesSyncEnabled": null, "partnerTenantType": null, "postalCode": null, "preferredLanguage": "en",
        "securityComplianceNotificationMails": [], "securityComplianceNotificationPhones": [], "state": null, "street": null,
        "technicalNotificationMails": [], "tenantType": "AAD", "privacyProfile": null, "assignedPlans": [exchange],
        "provisionedPlans": [],
        "verifiedDomains": [{
            "capabilities": "Email, OfficeCommunicationsOnline", "isDefault": true, "isInitial": true, "name": tenant.domain,
            "type": "Managed",
        }],
    })
}

/// `$top`, `$filter` and `$search` are ignored here, as on the service.
pub(crate) fn domains(call: &mut Call<'_>) -> Answer {
    let mut request = call.request.clone();
    request.query.retain(|(name, _)| name.trim_start_matches('$').eq_ignore_ascii_case("select"));
    let options = Options::read(&request, &DOMAIN)?;
    let domain = call.tenant().domain.clone();
    let item = json!({
        "id": domain, "authenticationType": "Managed", "availabilityStatus": null, "isAdminManaged": true, "isDefault": true,
        "isInitial": true, "isRoot": true, "isVerified": true, "manufacturer": null, "model": null,
        "passwordNotificationWindowInDays": 14, "passwordValidityPeriodInDays": 2_147_483_647_i64, "state": null,
        "supportedServices": ["Email", "OfficeCommunicationsOnline"],
    });
    let (_, key) = super::path_key(&call.request.path);
    match key {
        None => odata::collection(&request, &DOMAIN, "domains", &options, vec![item]),
        Some(key) if key.text().eq_ignore_ascii_case(&domain) => {
            odata::entity(200, &request, &DOMAIN, "domains", &options, item)
        }
        Some(key) => Err(Refusal::not_found(key.text())),
    }
}

pub(crate) fn find_tenant(call: &mut Call<'_>) -> Answer {
    let segment = call.segment(1).to_owned();
    let value = segment
        .split_once("='")
        .and_then(|(_, rest)| rest.strip_suffix("')"))
        .ok_or_else(|| Refusal::bad_request("Invalid function parameter."))?; // (unverified wording)
    let by_id = segment.starts_with("findTenantInformationByTenantId(tenantId=");
    let by_domain = segment.starts_with("findTenantInformationByDomainName(domainName=");
    let found = call.world.tenants.iter().find(|tenant| {
        (by_id && Uuid::try_parse(value).ok() == Some(tenant.id))
            || (by_domain && tenant.domain.eq_ignore_ascii_case(value))
    });
    let tenant = found.ok_or_else(|| Refusal::not_found(value))?;
    Ok(json_answer(
        200,
        json!({
            "@odata.context": odata::metadata(call.request, "microsoft.graph.tenantInformation"),
            "tenantId": tenant.id,
            "federationBrandName": null,
            "displayName": tenant.display_name,
            "defaultDomainName": tenant.domain,
        }),
    ))
}
