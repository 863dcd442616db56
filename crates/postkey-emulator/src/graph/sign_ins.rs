//! `/auditLogs/signIns`: which application signed in, and on /beta with which credential.

use serde_json::{Value, json};

use super::{
    Call,
    errors::{Answer, Refusal},
    filter::Filter,
    odata::{self, Options, Resource},
};

const V1: &[&str] = &[
    "id",
    "appDisplayName",
    "appId",
    "appliedConditionalAccessPolicies",
    "authenticationAppDeviceDetails",
    "clientAppUsed",
    "conditionalAccessStatus",
    "correlationId",
    "createdDateTime",
    "deviceDetail",
    "homeTenantId",
    "ipAddress",
    "isInteractive",
    "location",
    "resourceDisplayName",
    "resourceId",
    "resourceTenantId",
    "riskDetail",
    "riskEventTypes",
    "riskEventTypes_v2",
    "riskLevelAggregated",
    "riskLevelDuringSignIn",
    "riskState",
    "servicePrincipalId",
    "servicePrincipalName",
    "status",
    "userAgent",
    "userDisplayName",
    "userId",
    "userPrincipalName",
];

/// Without any credential field.
const SIGN_IN: Resource = Resource {
    entity: "signIn",
    properties: V1,
    defaults: V1,
    filterable: &[],
    directory: false,
    default_page: 1000,
    largest_page: 1000,
};

/// With the fields that tell credentials apart.
const BETA_SIGN_IN: Resource = Resource {
    properties: &[
        "id",
        "appDisplayName",
        "appId",
        "appliedConditionalAccessPolicies",
        "clientAppUsed",
        "conditionalAccessStatus",
        "correlationId",
        "createdDateTime",
        "deviceDetail",
        "homeTenantId",
        "ipAddress",
        "isInteractive",
        "location",
        "resourceDisplayName",
        "resourceId",
        "resourceTenantId",
        "riskDetail",
        "riskEventTypes",
        "riskEventTypes_v2",
        "riskLevelAggregated",
        "riskLevelDuringSignIn",
        "riskState",
        "servicePrincipalId",
        "servicePrincipalName",
        "status",
        "userAgent",
        "userDisplayName",
        "userId",
        "userPrincipalName",
        "signInEventTypes",
        "servicePrincipalCredentialKeyId",
        "servicePrincipalCredentialThumbprint",
        "clientCredentialType",
        "federatedCredentialId",
        "resourceServicePrincipalId",
        "uniqueTokenIdentifier",
        "incomingTokenType",
        "crossTenantAccessType",
    ],
    defaults: &[],
    ..SIGN_IN
};

pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let beta = call.request.version == "beta";
    let resource = if beta { &BETA_SIGN_IN } else { &SIGN_IN };
    let options = Options::read(call.request, resource)?;
    // Unless the filter asks for other kinds, only people's interactive sign-ins are listed.
    let kinds_named = beta
        && options
            .filter
            .as_ref()
            .is_some_and(|filter: &Filter| filter.uses().iter().any(|(name, _)| name == "signInEventTypes"));
    let items: Vec<Value> = call
        .directory()
        .sign_ins
        .iter()
        .rev()
        .filter(|row| row.created <= call.now && (kinds_named || interactive(&row.body)))
        .map(|row| complete(&row.body))
        .collect();
    if call.request.path.len() == 3 {
        let wanted = call.segment(2);
        let rows = &call.directory().sign_ins;
        let row = rows.iter().find(|row| row.body["id"] == wanted).ok_or_else(|| Refusal::not_found(wanted))?;
        return odata::entity(200, call.request, resource, "auditLogs/signIns", &options, complete(&row.body));
    }
    odata::collection(call.request, resource, "auditLogs/signIns", &options, items)
}

/// A row with every member it would have, whoever wrote it: nothing is known of devices and places here.
fn complete(row: &Value) -> Value {
    let mut whole = json!({
        "appliedConditionalAccessPolicies": [], "conditionalAccessStatus": "notApplied", "clientAppUsed": "",
        "correlationId": "", "homeTenantId": null, "ipAddress": "", "resourceTenantId": null, "riskDetail": "none",
        "riskEventTypes": [], "riskEventTypes_v2": [], "riskLevelAggregated": "none", "riskLevelDuringSignIn": "none",
        "riskState": "none", "userAgent": null, "resourceDisplayName": null, "resourceId": null,
        "deviceDetail": {
            "deviceId": "", "displayName": null, "operatingSystem": "", "browser": "", "isCompliant": null,
            "isManaged": null, "trustType": null,
        },
        "location": {
            "city": "", "state": null, "countryOrRegion": "",
            "geoCoordinates": { "altitude": null, "latitude": null, "longitude": null },
        },
    });
    super::shape::merge(&mut whole, row);
    whole
}

fn interactive(row: &Value) -> bool {
    match row["signInEventTypes"].as_array() {
        Some(kinds) => kinds.iter().any(|kind| kind == "interactiveUser"),
        None => row["isInteractive"] == true,
    }
}
