//! Registrations and their credentials.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{Bench, id};

#[test]
fn an_application_is_created_found_changed_and_deleted() {
    let mut bench = Bench::new();
    let app = bench.application("Mail");
    let (id, app_id) = (id(&app), app["appId"].as_str().unwrap().to_owned());
    assert_ne!(id, app_id);
    assert_eq!(app["@odata.context"], "https://127.0.0.1:8443/v1.0/$metadata#applications/$entity");
    for path in [
        format!("/applications/{id}"),
        format!("//applications(appId='{app_id}')"),
        format!("/applications(appId=%27{app_id}%27)"),
    ] {
        assert_eq!(bench.get(&path).expect(200)["displayName"], "Mail", "{path}");
    }
    bench
        .patch(&format!("/applications/{id}"), json!({ "web": { "redirectUris": ["http://localhost"] }, "notes": "n" }))
        .expect(204);
    bench
        .patch(&format!("/applications/{id}"), json!({ "web": { "logoutUrl": "https://x.example" }, "notes": null }))
        .expect(204);
    let seen = bench.get(&format!("/applications/{id}?$select=web,notes")).expect(200);
    assert_eq!(seen["web"]["redirectUris"], json!(["http://localhost"]));
    assert_eq!(seen["web"]["logoutUrl"], "https://x.example");
    assert_eq!(seen["notes"], Value::Null);
    assert_eq!(seen["@odata.context"], "https://127.0.0.1:8443/v1.0/$metadata#applications(web,notes)/$entity");
    bench.delete(&format!("/applications/{id}")).expect(204);
    let gone = bench.get(&format!("/applications/{id}"));
    gone.refused(404, "Request_ResourceNotFound");
    assert!(gone.message().contains(&id));
    assert!(gone.body["error"]["innerError"]["request-id"].is_string());

    bench.get(&format!("/directory/deletedItems/{id}")).expect(200);
    bench.post(&format!("/directory/deletedItems/{id}/restore"), json!({})).expect(200);
    bench.get(&format!("/applications/{id}")).expect(200);
}

#[test]
fn a_body_that_graph_would_not_take_is_refused() {
    let mut bench = Bench::new();
    let app = id(&bench.application("Mail"));
    for (body, told) in [
        (json!({}), "displayName"),
        (json!({ "displayName": "x", "displayname": "x" }), "Invalid property 'displayname'."),
        (json!({ "displayName": 1 }), "displayName"),
        (json!({ "displayName": "" }), "displayName"),
        (json!({ "displayName": "x".repeat(121) }), "maximum length"),
        (json!({ "displayName": "x", "signInAudience": "Everyone" }), "signInAudience"),
        (json!({ "displayName": "x", "appId": "631a96bc-a705-4eda-9f99-fdaf9f54f6a2" }), "read-only"),
        (json!({ "displayName": "x", "web": { "redirectUris": ["http://contoso.example/"] } }), "redirect URI"),
        (json!({ "displayName": "x", "web": { "redirectUri": [] } }), "Invalid property 'redirectUri'."),
        (
            json!({ "displayName": "x", "requiredResourceAccess": [{ "resourceAppId": "no guid", "resourceAccess": [] }] }),
            "resourceAppId",
        ),
        (
            json!({ "displayName": "x", "keyCredentials": [{ "type": "AsymmetricX509Cert", "usage": "Verify", "key": "bm8=" }] }),
            "'key'",
        ),
    ] {
        let seen = bench.post("/applications", body.clone());
        seen.refused(400, "Request_BadRequest");
        assert!(seen.message().contains(told), "{body} → {}", seen.message());
    }
    bench
        .post(
            "/applications",
            json!({ "displayName": "x", "@odata.type": "#microsoft.graph.application", "api@odata.type": "#x" }),
        )
        .expect(201);
    bench
        .patch(&format!("/applications/{app}"), json!({ "passwordCredentials": [] }))
        .refused(400, "Request_BadRequest");
    bench
        .call("POST", "/applications", &[("content-type", "text/plain")], Some(json!({ "displayName": "x" })))
        .refused(415, "Request_BadRequest");
    bench.call("POST", "/applications", &[], None).refused(400, "Request_BadRequest");
    bench.delete("/applications").refused(405, "Request_BadRequest");
    bench.get("/aplications").refused(400, "BadRequest");
}

#[test]
fn a_unique_name_makes_creation_idempotent() {
    let mut bench = Bench::new();
    let path = "/applications(uniqueName='postkey-1')";
    let create = [("Prefer", "create-if-missing")];
    bench.patch(path, json!({ "displayName": "x" })).refused(404, "Request_ResourceNotFound");
    let made = bench.call("PATCH", path, &create, Some(json!({ "displayName": "x" }))).expect(201);
    assert_eq!(made["uniqueName"], "postkey-1");
    bench.call("PATCH", path, &create, Some(json!({ "displayName": "y" }))).expect(204);
    assert_eq!(bench.get(path).expect(200)["displayName"], "y");
    assert_eq!(bench.get("/applications").expect(200)["value"].as_array().unwrap().len(), 1);
    bench
        .post("/applications", json!({ "displayName": "z", "uniqueName": "postkey-1" }))
        .refused(400, "Request_MultipleObjectsWithSameKeyValue");
    bench.patch(path, json!({ "uniqueName": "other" })).refused(400, "Request_BadRequest");
}

#[test]
fn a_secret_is_shown_once_and_never_again() {
    let mut bench = Bench::new();
    let app = id(&bench.application("Mail"));
    let path = format!("/applications/{app}/addPassword");
    let secret = bench.post(&path, json!({ "passwordCredential": { "displayName": "first" } })).expect(200);
    let text = secret["secretText"].as_str().unwrap();
    assert_eq!(text.len(), 40);
    assert_eq!(secret["hint"].as_str(), text.get(..3));
    assert!(bench.world.issued_secrets.iter().any(|issued| issued == text));
    let year = |value: &Value| value.as_str().unwrap()[..4].parse::<u32>().unwrap();
    assert_eq!(year(&secret["endDateTime"]), year(&secret["startDateTime"]) + 2);
    let listed = bench.get(&format!("/applications/{app}")).expect(200);
    assert_eq!(listed["passwordCredentials"][0]["secretText"], Value::Null);
    assert!(!listed.to_string().contains(text));

    bench.call("POST", &path, &[], None).expect(200);
    for wrong in [
        json!({ "passwordCredential": { "endDateTime": "2001-01-01T00:00:00Z" } }),
        json!({ "passwordCredential": { "secretText": "my own" } }),
        json!({ "passwordCredential": { "endDateTime": "tomorrow" } }),
        json!({ "displayName": "x" }),
    ] {
        bench.post(&path, wrong).refused(400, "Request_BadRequest");
    }

    let remove = format!("/applications/{app}/removePassword");
    bench.post(&remove, json!({ "keyId": secret["keyId"] })).expect(204);
    let again = bench.post(&remove, json!({ "keyId": secret["keyId"] }));
    again.refused(400, "Request_BadRequest");
    assert!(again.message().starts_with("No password credential found with keyId"));
}

#[test]
fn personal_accounts_allow_two_secrets_and_a_policy_shortens_them() {
    let mut bench = Bench::new();
    let personal = json!({ "displayName": "P", "signInAudience": "AzureADandPersonalMicrosoftAccount" });
    let app = id(&bench.post("/applications", personal).expect(201));
    let path = format!("/applications/{app}/addPassword");
    bench.post(&path, json!({})).expect(200);
    bench.post(&path, json!({})).expect(200);
    bench.post(&path, json!({})).refused(400, "Request_BadRequest");

    let app = id(&bench.application("Q"));
    let path = format!("/applications/{app}/addPassword");
    let restriction = json!({ "restrictionType": "passwordLifetime", "state": "enabled", "maxLifetime": "P90D" });
    let policy = json!({ "isEnabled": true, "applicationRestrictions": { "passwordCredentials": [restriction] } });
    bench.patch("/policies/defaultAppManagementPolicy", policy).expect(204);
    bench.post(&path, json!({})).refused(400, "CredentialInvalidLifetimeAsPerAppPolicy");
    let soon = (bench.world.clock.now() + jiff::SignedDuration::from_hours(24 * 89)).to_string();
    bench.post(&path, json!({ "passwordCredential": { "endDateTime": soon } })).expect(200);
    bench.directory().credential_policy =
        Some(crate::directory::CredentialPolicy { secrets_forbidden: true, ..Default::default() });
    bench.post(&path, json!({})).refused(400, "CredentialTypeNotAllowedAsPerAppPolicy");
    assert_eq!(bench.get("/policies/defaultAppManagementPolicy").expect(200)["isEnabled"], true);
}

#[test]
fn a_new_application_is_unknown_until_it_has_replicated() {
    let mut bench = Bench::new();
    bench.world.behaviour.replication_lag = std::time::Duration::from_secs(60);
    let app = bench.application("Mail");
    let path = format!("/applications/{}", id(&app));
    bench.get(&path).refused(404, "Request_ResourceNotFound");
    bench.post(&format!("{path}/addPassword"), json!({})).refused(404, "Request_ResourceNotFound");
    let early = bench.post("/servicePrincipals", json!({ "appId": app["appId"] }));
    early.refused(400, "Request_BadRequest");
    assert_eq!(early.body["error"]["details"][0]["code"], "NoBackingApplicationObject");
    bench.with_roles(&["Application.ReadWrite.OwnedBy"]);
    bench.post("/servicePrincipals", json!({ "appId": app["appId"] })).refused(403, "Authorization_RequestDenied");
    bench.world.clock.advance(std::time::Duration::from_secs(60));
    bench.get(&path).expect(200);
    bench.post("/servicePrincipals", json!({ "appId": app["appId"] })).expect(201);
}

struct Certificate {
    der: Vec<u8>,
    key: aws_lc_rs::rsa::KeyPair,
}

fn certificate() -> Certificate {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let pkcs8: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let signer = rcgen::KeyPair::try_from(pkcs8.as_ref()).unwrap();
    let mut wish = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    wish.distinguished_name.push(rcgen::DnType::CommonName, "postkey");
    Certificate { der: wish.self_signed(&signer).unwrap().der().to_vec(), key }
}

fn proof(signer: &Certificate, claims: &Value) -> String {
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": "PS256", "typ": "JWT" })), part(claims));
    let mut signature = vec![0; signer.key.public_modulus_len()];
    let random = aws_lc_rs::rand::SystemRandom::new();
    signer.key.sign(&aws_lc_rs::signature::RSA_PSS_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_certificate_rolls_itself_with_a_proof_and_without_permissions() {
    let mut bench = Bench::new();
    let app = bench.application("Mail");
    let path = format!("/applications/{}", id(&app));
    let (first, second) = (certificate(), certificate());
    let entry = |certificate: &Certificate, name: &str| {
        json!({
            "type": "AsymmetricX509Cert", "usage": "Verify", "key": BASE64_STANDARD.encode(&certificate.der), "displayName": name,
            "endDateTime": null, "startDateTime": null, "customKeyIdentifier": null, "keyId": null,
        })
    };
    let soon = (bench.world.clock.now() + jiff::SignedDuration::from_hours(24 * 400)).to_string();
    let mut short = entry(&first, "first");
    short["endDateTime"] = json!(soon);
    bench.patch(&path, json!({ "keyCredentials": [short] })).expect(204);
    let listed = bench.get(&path).expect(200)["keyCredentials"][0].clone();
    assert_eq!(listed["key"], Value::Null);
    assert!(listed["customKeyIdentifier"].is_string());
    let shown = bench.get(&format!("{path}?$select=keyCredentials")).expect(200);
    assert_eq!(shown["keyCredentials"][0]["key"], json!(BASE64_STANDARD.encode(&first.der)));

    // Clients send the collection back as they read it: the known key stays, the new one joins it.
    bench.patch(&path, json!({ "keyCredentials": [listed, entry(&second, "second")] })).expect(204);
    let both = bench.get(&path).expect(200)["keyCredentials"].clone();
    assert_eq!(both.as_array().unwrap().len(), 2);
    assert_eq!(both[0]["keyId"], listed["keyId"]);
    bench.patch(&path, json!({ "keyCredentials": [both[0]] })).expect(204);

    // The application itself, without any permission.
    bench.caller.app_id = app["appId"].as_str().unwrap().parse().unwrap();
    bench.with_roles(&[]);
    let now = bench.world.clock.now().as_second();
    let claims =
        json!({ "aud": "00000002-0000-0000-c000-000000000000", "iss": id(&app), "nbf": now, "exp": now + 600 });
    let add =
        |proof: &str| json!({ "keyCredential": entry(&second, "second"), "passwordCredential": null, "proof": proof });
    let good = proof(&first, &claims);
    let change = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    for wrong in [
        format!("{good}=="),
        good.replacen('.', "=.", 1),
        "nonsense".to_owned(),
        proof(&second, &claims),
        proof(&first, &change("aud", json!("https://graph.microsoft.com"))),
        proof(&first, &change("iss", app["appId"].clone())),
        proof(&first, &change("exp", json!(now + 601))),
        proof(&first, &change("nbf", json!(now - 1200))),
    ] {
        bench.post(&format!("{path}/addKey"), add(&wrong)).refused(401, "Authentication_MissingOrMalformed");
    }
    let added = bench.post(&format!("{path}/addKey"), add(&good)).expect(200);
    let newer = proof(&second, &claims);
    bench.post(&format!("{path}/removeKey"), json!({ "keyId": both[0]["keyId"], "proof": newer })).expect(204);
    bench
        .post(&format!("{path}/removeKey"), json!({ "keyId": both[0]["keyId"], "proof": newer }))
        .refused(400, "Request_BadRequest");
    let app = bench.directory().applications[0].clone();
    assert_eq!(
        app.keys.iter().map(|key| key.key_id.to_string()).collect::<Vec<_>>(),
        [added["keyId"].as_str().unwrap()]
    );
    // The key is its own affair; everything else still needs a permission.
    bench.post(&format!("{path}/addPassword"), json!({})).refused(403, "Authorization_RequestDenied");
}

#[test]
fn an_application_trusts_at_most_twenty_other_issuers() {
    let mut bench = Bench::new();
    let path = format!("/applications/{}/federatedIdentityCredentials", id(&bench.application("Mail")));
    let wish = |name: &str, subject: &str| json!({ "name": name, "issuer": "https://token.example", "subject": subject, "audiences": ["api://AzureADTokenExchange"] });
    let made = bench.post(&format!("{path}/"), wish("one", "a")).expect(201);
    bench.post(&path, wish("two", "a")).refused(400, "Request_BadRequest");
    bench.post(&path, wish(&"x".repeat(121), "b")).refused(400, "Request_BadRequest");
    bench.patch(&format!("{path}/{}", id(&made)), json!({ "subject": "c", "description": "d" })).expect(204);
    assert_eq!(bench.get(&format!("{path}/one")).expect(200)["subject"], "c");
    for count in 1..20 {
        bench.post(&path, wish(&format!("n{count}"), &format!("s{count}"))).expect(201);
    }
    bench.post(&path, wish("last", "last")).refused(400, "Request_BadRequest");
    bench.delete(&format!("{path}/{}", id(&made))).expect(204);
    assert_eq!(bench.get(&path).expect(200)["value"].as_array().unwrap().len(), 19);
}

#[test]
fn a_certificate_sets_the_bounds_of_its_entry() {
    let mut bench = Bench::new();
    let path = format!("/applications/{}", id(&bench.application("Mail")));
    let der = BASE64_STANDARD.encode(certificate().der);
    let entry = |name: &str, value: Value| {
        let mut entry = json!({ "type": "AsymmetricX509Cert", "usage": "Verify", "key": der });
        entry[name] = value;
        json!({ "keyCredentials": [entry] })
    };
    for (name, value) in [
        ("usage", json!("Sign")),
        ("usage", json!(null)),
        ("type", json!("Asymmetric")),
        ("key", json!(null)),
        ("key", json!("not base64!")),
        ("startDateTime", json!("1900-01-01T00:00:00Z")),
        ("endDateTime", json!("5000-01-01T00:00:00Z")),
        ("endDateTime", json!("2001-01-01T00:00:00Z")),
        ("keyid", json!("x")),
    ] {
        bench.patch(&path, entry(name, value)).refused(400, "Request_BadRequest");
    }
    bench.patch(&path, entry("displayName", json!("n".repeat(200)))).expect(204);
    let key = bench.get(&path).expect(200)["keyCredentials"][0].clone();
    assert_eq!(key["displayName"].as_str().unwrap().len(), 90);
    let limits = crate::directory::CredentialPolicy { max_certificate_lifetime_days: Some(90), ..Default::default() };
    bench.directory().credential_policy = Some(limits);
    bench.patch(&path, entry("displayName", json!("long"))).refused(400, "CredentialInvalidLifetimeAsPerAppPolicy");
    // What is there already stays.
    bench.patch(&path, json!({ "keyCredentials": [key] })).expect(204);
}

#[test]
fn multi_tenant_applications_are_instantiated_elsewhere() {
    let mut bench = Bench::new();
    let single = bench.application("Single");
    let wish = json!({ "displayName": "Multi", "signInAudience": "AzureADMultipleOrgs" });
    let multi = bench.post("/applications", wish).expect(201);
    let mut other = Bench::new();
    let tenant = bench.world.tenants.remove(0);
    other.world.tenants.push(tenant);
    let refused = other.post("/servicePrincipals", json!({ "appId": single["appId"] }));
    assert_eq!(refused.body["error"]["details"][0]["code"], "NoBackingApplicationObject");
    let principal = other.post("/servicePrincipals", json!({ "appId": multi["appId"] })).expect(201);
    assert_eq!(principal["appOwnerOrganizationId"], json!(bench.caller.tenant));
    other
        .get(&format!("/applications(appId='{}')", multi["appId"].as_str().unwrap()))
        .refused(404, "Request_ResourceNotFound");
    // Microsoft's own API, for a tenant that has never used it.
    let exchange = json!({ "appId": "00000002-0000-0ff1-ce00-000000000000" });
    let exchange = other.post("/servicePrincipals", exchange).expect(201);
    assert!(exchange["appRoles"].as_array().unwrap().iter().any(|role| role["value"] == "SMTP.SendAsApp"));
}
