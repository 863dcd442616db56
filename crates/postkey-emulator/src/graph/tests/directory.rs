//! The tenant, its people and its sign-in log.

use jiff::SignedDuration;
use serde_json::json;
use uuid::Uuid;

use super::{Bench, id};
use crate::directory::SignIn;

#[test]
fn a_user_comes_with_eleven_properties_unless_more_are_asked_for() {
    let mut bench = Bench::new();
    for path in ["/users/alice@contoso.example", "/users/ALICE%40contoso.example", "/users('alice@contoso.example')"] {
        let user = bench.get(path).expect(200);
        assert_eq!(user.as_object().unwrap().keys().filter(|name| !name.starts_with('@')).count(), 11, "{path}");
    }
    let user = bench.get("/users/alice@contoso.example?$select=id,accountEnabled,proxyAddresses").expect(200);
    assert_eq!(user["accountEnabled"], true);
    assert_eq!(user["id"], json!(bench.user));
    bench.get("/users/nobody@contoso.example").refused(404, "Request_ResourceNotFound");
    assert_eq!(
        bench.get("/users?$filter=startsWith(userPrincipalName,'al')").expect(200)["value"].as_array().unwrap().len(),
        1
    );
    let user = bench.user;
    bench.with_user(user, &["User.Read"]);
    assert_eq!(bench.get("/me?$select=userPrincipalName").expect(200)["userPrincipalName"], "alice@contoso.example");
}

#[test]
fn the_organization_is_one_and_tenants_are_found_by_domain() {
    let mut bench = Bench::new();
    let listed = bench.get("/organization?$select=id,verifiedDomains").expect(200);
    assert_eq!(listed["value"].as_array().unwrap().len(), 1);
    assert_eq!(listed["value"][0]["verifiedDomains"][0]["name"], "contoso.example");
    let tenant = id(&listed["value"][0]);
    assert_eq!(bench.get("/domains?$filter=nonsense&$top=x").expect(200)["value"][0]["id"], "contoso.example");
    let find = "/tenantRelationships/findTenantInformationByDomainName(domainName='contoso.example')";
    assert_eq!(bench.get(find).expect(200)["tenantId"], json!(tenant));
    let find = format!("/tenantRelationships/findTenantInformationByTenantId(tenantId='{}')", Uuid::new_v4());
    bench.get(&find).refused(404, "Request_ResourceNotFound");
}

#[test]
fn only_beta_tells_which_credential_signed_in() {
    let mut bench = Bench::new();
    let now = bench.world.clock.now();
    for (minutes, kind, app) in [
        (30, "servicePrincipal", "a"),
        (20, "servicePrincipal", "b"),
        (10, "interactiveUser", "a"),
        (5, "servicePrincipal", "a"),
    ] {
        let created = now - SignedDuration::from_mins(minutes);
        let body = json!({
            "id": Uuid::new_v4(), "createdDateTime": created, "appId": app, "signInEventTypes": [kind],
            "isInteractive": kind == "interactiveUser", "servicePrincipalCredentialKeyId": Uuid::new_v4(), "status": { "errorCode": 0 },
        });
        bench.directory().sign_ins.push(SignIn { created, body });
    }
    let plain = bench.get("/auditLogs/signIns").expect(200);
    assert_eq!(plain["value"].as_array().unwrap().len(), 1);
    assert!(plain["value"][0].get("servicePrincipalCredentialKeyId").is_none());
    let since = now - SignedDuration::from_mins(25);
    let kind = "signInEventTypes/any(t: t eq 'servicePrincipal')";
    for (filter, want) in [
        (kind.to_owned(), 3),
        (format!("{kind} and appId eq 'a'"), 2),
        (format!("{kind} and createdDateTime ge {since} and appId eq 'a'"), 1),
    ] {
        let rows = bench.get(&format!("/beta/auditLogs/signIns?$filter={filter}")).expect(200);
        assert_eq!(rows["value"].as_array().unwrap().len(), want, "{filter}");
        assert!(rows["value"][0]["servicePrincipalCredentialKeyId"].is_string());
    }
    // Reports are rationed: five requests in ten seconds.
    bench.get("/auditLogs/signIns").expect(200);
    bench.get("/auditLogs/signIns").refused(429, "TooManyRequests");
}

#[test]
fn a_custom_policy_overrides_the_default_for_its_application() {
    let mut bench = Bench::new();
    let app = id(&bench.application("Mail"));
    let add = format!("/applications/{app}/addPassword");
    let forbid = json!({ "passwordCredentials": [{ "restrictionType": "passwordAddition", "state": "enabled", "maxLifetime": null }] });
    let policy = bench
        .post(
            "/policies/appManagementPolicies",
            json!({ "displayName": "none", "isEnabled": true, "restrictions": forbid }),
        )
        .expect(201);
    let reference = json!({ "@odata.id": format!("https://graph.microsoft.com/v1.0/policies/appManagementPolicies/{}", id(&policy)) });
    bench.with_roles(&["Application.ReadWrite.All", "Policy.ReadWrite.ApplicationConfiguration"]);
    bench.post(&format!("/applications/{app}/appManagementPolicies/$ref"), reference).expect(204);
    assert_eq!(
        bench.get(&format!("/applications/{app}/appManagementPolicies")).expect(200)["value"][0]["id"],
        policy["id"]
    );
    bench.post(&add, json!({})).refused(400, "CredentialTypeNotAllowedAsPerAppPolicy");
    bench.delete(&format!("/applications/{app}/appManagementPolicies/{}/$ref", id(&policy))).expect(204);
    bench.post(&add, json!({})).expect(200);
    let twice = json!([{ "restrictionType": "passwordLifetime", "maxLifetime": "P1D" }, { "restrictionType": "passwordLifetime", "maxLifetime": "P2D" }]);
    let twice = json!({ "applicationRestrictions": { "passwordCredentials": twice } });
    bench.patch("/policies/defaultAppManagementPolicy", twice).refused(400, "Request_BadRequest");
}
