//! Service principals, permissions granted, and who may do what.

use serde_json::json;

use super::{Bench, MAIL_SEND, id};

#[test]
fn admin_consent_needs_no_browser() {
    let mut bench = Bench::new();
    let app = bench.application("Mail");
    let principal = bench.post("/servicePrincipals", json!({ "appId": app["appId"] })).expect(201);
    bench
        .post("/servicePrincipals", json!({ "appId": app["appId"] }))
        .refused(409, "Request_MultipleObjectsWithSameKeyValue");
    let graph =
        bench.get("/servicePrincipals(appId='00000003-0000-0000-c000-000000000000')?$select=id,appRoles").expect(200);
    assert_eq!(graph["appRoles"][0]["value"], "Mail.Send");

    let wish = json!({ "principalId": principal["id"], "resourceId": graph["id"], "appRoleId": MAIL_SEND });
    let path = format!("/servicePrincipals/{}/appRoleAssignedTo", id(&graph));
    let made = bench.post(&path, wish.clone()).expect(201);
    assert_eq!(made["principalDisplayName"], "Mail");
    assert!(uuid::Uuid::try_parse(&id(&made)).is_err());
    let twice = bench.post(&path, wish.clone());
    twice.refused(400, "Request_BadRequest");
    assert_eq!(twice.message(), "Permission being assigned already exists on the object");
    let held = format!("/servicePrincipals/{}/appRoleAssignments", id(&principal));
    let listed = bench.get(&format!("{held}?$filter=resourceId eq {}", id(&graph))).expect(200);
    assert_eq!(listed["value"][0]["id"], made["id"]);
    let stray = json!({ "principalId": uuid::Uuid::new_v4(), "resourceId": graph["id"], "appRoleId": MAIL_SEND });
    let refused = bench.post(&path, stray);
    assert_eq!((refused.status, refused.message()), (400, "Not a valid reference update."));
    bench.delete(&format!("{held}/{}", id(&made))).expect(204);
    assert_eq!(bench.get(&held).expect(200)["value"], json!([]));

    let wish = json!({ "clientId": principal["id"], "consentType": "AllPrincipals", "resourceId": graph["id"], "scope": "Mail.Send User.Read" });
    let grant = bench.post("/oauth2PermissionGrants", wish.clone()).expect(201);
    bench.post("/oauth2PermissionGrants", wish).refused(409, "Request_MultipleObjectsWithSameKeyValue");
    let path = format!("/oauth2PermissionGrants/{}", id(&grant));
    bench.patch(&path, json!({ "scope": "Mail.Send" })).expect(204);
    assert_eq!(bench.get(&path).expect(200)["scope"], "Mail.Send");
    let found =
        format!("/oauth2PermissionGrants?$filter=clientId eq '{}' and consentType eq 'AllPrincipals'", id(&principal));
    assert_eq!(bench.get(&found).expect(200)["value"].as_array().unwrap().len(), 1);
    let wrong =
        json!({ "clientId": principal["id"], "consentType": "Principal", "resourceId": graph["id"], "scope": "" });
    bench.post("/oauth2PermissionGrants", wrong).refused(400, "Request_BadRequest");

    bench.patch(&format!("/servicePrincipals/{}", id(&principal)), json!({ "accountEnabled": false })).expect(204);
    assert_eq!(bench.get(&format!("/servicePrincipals/{}", id(&principal))).expect(200)["accountEnabled"], false);
    bench.delete(&format!("/servicePrincipals/{}", id(&principal))).expect(204);
    bench.get(&path).refused(404, "Request_ResourceNotFound");
}

#[test]
fn a_service_principal_has_credentials_of_its_own() {
    let mut bench = Bench::new();
    let app = bench.application("Mail");
    let principal = bench.post("/servicePrincipals", json!({ "appId": app["appId"] })).expect(201);
    let path = format!("/servicePrincipals/{}", id(&principal));
    let secret = bench.post(&format!("{path}/addPassword"), json!({})).expect(200);
    assert_eq!(bench.get(&path).expect(200)["passwordCredentials"][0]["keyId"], secret["keyId"]);
    assert_eq!(bench.get(&format!("/applications/{}", id(&app))).expect(200)["passwordCredentials"], json!([]));
    bench.post(&format!("{path}/removePassword"), json!({ "keyId": secret["keyId"] })).expect(204);
}

#[test]
fn owned_by_reaches_only_what_the_caller_owns() {
    let mut bench = Bench::new();
    bench.caller.service_principal = uuid::Uuid::new_v4();
    let theirs = id(&bench.application("Theirs"));
    bench.caller.service_principal = bench.directory().service_principals[1].id;
    bench.with_roles(&["Application.ReadWrite.OwnedBy"]);
    let mine = id(&bench.application("Mine"));
    for (app, want) in [(&theirs, 403), (&mine, 200)] {
        assert_eq!(bench.post(&format!("/applications/{app}/addPassword"), json!({})).status, want);
    }
    bench
        .patch(&format!("/applications/{theirs}"), json!({ "notes": "x" }))
        .refused(403, "Authorization_RequestDenied");
    bench.get(&format!("/applications/{theirs}")).expect(200);
    bench.delete(&format!("/applications/{mine}")).expect(204);
}

#[test]
fn each_operation_needs_its_permission() {
    let mut bench = Bench::new();
    let app = id(&bench.application("Mail"));
    let graph = bench.graph;
    let (administrator, user) = (bench.administrator, bench.user);
    let read = format!("/applications/{app}");
    let grant = format!("/servicePrincipals/{graph}/appRoleAssignedTo");
    for (roles, method, path, want) in [
        (&["User.Read.All"][..], "GET", &read, 403),
        (&["Application.Read.All"], "GET", &read, 200),
        (&["Application.Read.All"], "DELETE", &read, 403),
        (&["Application.ReadWrite.All"], "POST", &grant, 403),
        (&["AppRoleAssignment.ReadWrite.All"], "POST", &grant, 403),
        (&["AppRoleAssignment.ReadWrite.All", "Application.Read.All"], "POST", &grant, 400),
        (&["Application.ReadWrite.All"], "GET", &"/oauth2PermissionGrants".to_owned(), 403),
        (&["Mail.Send"], "GET", &"/organization".to_owned(), 403),
        (&["User.Read.All"], "GET", &"/me".to_owned(), 400),
    ] {
        bench.with_roles(roles);
        let body = (method == "POST").then(|| json!({}));
        assert_eq!(bench.call(method, path, &[], body).status, want, "{roles:?} {method} {path}");
    }
    for (who, scopes, method, path, want) in [
        (user, &["Application.ReadWrite.All"][..], "POST", &format!("{read}/addPassword"), 403),
        (administrator, &["Application.ReadWrite.All"], "POST", &format!("{read}/addPassword"), 200),
        (administrator, &["User.Read"], "POST", &format!("{read}/addPassword"), 403),
        (user, &["AppRoleAssignment.ReadWrite.All", "Directory.Read.All"], "POST", &grant, 403),
        (user, &["User.Read"], "GET", &"/me".to_owned(), 200),
        (user, &["User.Read"], "GET", &"/users".to_owned(), 403),
        (user, &["User.Read"], "GET", &"/organization".to_owned(), 200),
        (user, &["User.Read"], "GET", &"/users/alice@contoso.example".to_owned(), 200),
        (user, &["User.Read"], "GET", &"/users/admin@contoso.example".to_owned(), 403),
    ] {
        bench.with_user(who, scopes);
        let body = (method == "POST").then(|| json!({}));
        assert_eq!(bench.call(method, path, &[], body).status, want, "{scopes:?} {method} {path}");
    }
}

#[test]
fn an_application_has_owners() {
    let mut bench = Bench::new();
    let path = format!("/applications/{}/owners", id(&bench.application("Mail")));
    let user = bench.user;
    assert_eq!(bench.get(&path).expect(200)["value"][0]["@odata.type"], "#microsoft.graph.servicePrincipal");
    let reference = json!({ "@odata.id": format!("https://graph.microsoft.com/v1.0/directoryObjects/{user}") });
    bench.post(&format!("{path}/$ref"), reference.clone()).expect(204);
    bench.post(&format!("{path}/$ref"), reference.clone()).refused(400, "Request_BadRequest");
    assert_eq!(bench.get(&path).expect(200)["value"].as_array().unwrap().len(), 2);
    bench.delete(&format!("{path}/{user}/$ref")).expect(204);
    bench.with_roles(&["Application.ReadWrite.OwnedBy"]);
    bench.post(&format!("{path}/$ref"), reference).refused(403, "Authorization_RequestDenied");
}
