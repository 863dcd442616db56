use postkey_base::Diagnose;

use super::*;
use crate::testing::{Say, Served};

const ID: &str = "03ef14b0-ca33-4840-8f4f-d6e91916010e";

fn id() -> AppObjectId {
    ID.parse().unwrap()
}

/// The documented answer to a create, shortened.
fn documented() -> Value {
    json!({
        "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#applications/$entity",
        "id": ID, "deletedDateTime": null, "isFallbackPublicClient": null,
        "appId": "631a96bc-a705-4eda-9f99-fdaf9f54f6a2", "identifierUris": [],
        "createdDateTime": "2019-09-17T19:10:35.2742618Z", "displayName": "Display name",
        "signInAudience": "AzureADandPersonalMicrosoftAccount", "tags": [],
        "keyCredentials": [{ "keyId": null, "displayName": "x" }, {
            "keyId": "f0b0b335-1d71-4883-8f98-567911bfdca6", "customKeyIdentifier": "AQID", "key": null,
            "startDateTime": "2019-09-09T19:50:29.3086381Z", "endDateTime": "2299-12-30T20:00:00Z",
            "type": "AsymmetricX509Cert", "usage": "Verify", "displayName": null,
        }],
        "publicClient": { "redirectUris": [] }, "web": null, "passwordCredentials": null,
        "requiredResourceAccess": [],
    })
}

#[tokio::test]
async fn an_upsert_tells_created_from_updated() {
    let served = Served::start([Say::json(201, documented()), Say::status(204)]).await;
    let properties = ApplicationProperties {
        display_name: Some("postkey".into()),
        sign_in_audience: Some(Audience::MyTenant),
        ..Default::default()
    };
    let Upserted::Created(made) = upsert(&served.graph, "postkey-1-mail", &properties).await.unwrap() else {
        panic!("201 is a creation")
    };
    assert_eq!((made.id, made.is_fallback_public_client, made.web.redirect_uris.len()), (id(), false, 0));
    assert_eq!(made.key_credentials.len(), 1);
    assert_eq!(upsert(&served.graph, "postkey-1-mail", &properties).await.unwrap(), Upserted::Updated);
    let seen = &served.seen()[0];
    assert_eq!(seen.line, "PATCH /v1.0/applications(uniqueName='postkey-1-mail')");
    assert_eq!(seen.header("prefer"), Some("create-if-missing"));
    assert_eq!(seen.json(), json!({ "displayName": "postkey", "signInAudience": "AzureADMyOrg" }));
}

#[tokio::test]
async fn a_new_secret_shows_itself_only_to_whoever_asks_for_it() {
    let answer = json!({
        "customKeyIdentifier": null, "endDateTime": "2021-09-09T19:50:29.3086381Z",
        "keyId": "f0b0b335-1d71-4883-8f98-567911bfdca6", "startDateTime": "2019-09-09T19:50:29.3086381Z",
        "secretText": "[6gyXA5S20@MN+WRXAJ]I-TO7g1:h2P8", "hint": "[6g", "displayName": "Password friendly name",
    });
    let served = Served::start([Say::json(200, answer)]).await;
    let ends = "2021-09-09T19:50:29Z".parse().unwrap();
    let secret = add_password(&served.graph, id(), "Password friendly name", Some(ends)).await.unwrap();
    assert_eq!(secret.secret.expose(), "[6gyXA5S20@MN+WRXAJ]I-TO7g1:h2P8");
    assert_eq!(secret.hint.as_deref(), Some("[6g"));
    assert!(!format!("{secret:?}").contains("XA5S20"));
    assert_eq!(
        served.seen()[0].json(),
        json!({
            "passwordCredential": { "displayName": "Password friendly name", "endDateTime": "2021-09-09T19:50:29Z" },
        })
    );
}

#[tokio::test]
async fn a_secret_that_graph_does_not_show_is_a_failure_in_doubt() {
    let served =
        Served::start([Say::json(200, json!({ "keyId": "f0b0b335-1d71-4883-8f98-567911bfdca6", "secretText": null }))])
            .await;
    let error = add_password(&served.graph, id(), "x", None).await.unwrap_err();
    assert!(error.may_have_taken_effect());
    assert_eq!(error.why().as_deref(), Some("it has no secretText"));
}

#[tokio::test]
async fn an_added_key_need_not_be_shown() {
    let bare = json!({ "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#microsoft.graph.keyCredential" });
    let served = Served::start([Say::json(200, bare)]).await;
    let certificate = NewCertificate { display_name: "x".repeat(100), der: vec![1, 2, 3], starts: None, ends: None };
    let proof = ClientAssertion::new("header.payload.signature".into());
    assert_eq!(add_key(&served.graph, id(), &certificate, &proof).await.unwrap(), None);
    let sent = served.seen()[0].json();
    assert_eq!(sent["proof"], "header.payload.signature");
    assert_eq!(sent["passwordCredential"], Value::Null);
    assert_eq!(
        sent["keyCredential"],
        json!({
            "type": "AsymmetricX509Cert", "usage": "Verify", "key": "AQID", "displayName": "x".repeat(90),
        })
    );
}

#[tokio::test]
async fn certificates_there_already_survive_a_change_as_graph_showed_them() {
    let kept = json!({ "keyId": "f0b0b335-1d71-4883-8f98-567911bfdca6", "key": "AAAA", "newMember": [1] });
    let removed = json!({ "keyId": "11b0b335-1d71-4883-8f98-567911bfdca6", "key": "BBBB" });
    let shown = json!({ "id": ID, "keyCredentials": [kept, removed] });
    let served = Served::start([Say::json(200, shown), Say::status(204)]).await;
    let certificate = NewCertificate { display_name: "new".into(), der: vec![1, 2, 3], starts: None, ends: None };
    let remove = ["11b0b335-1d71-4883-8f98-567911bfdca6".parse().unwrap()];
    change_key_credentials(&served.graph, id(), &[certificate.clone(), certificate], &remove).await.unwrap();
    let sent = served.seen()[1].json();
    assert_eq!(sent["keyCredentials"][0], kept);
    assert_eq!(sent["keyCredentials"][1]["key"], "AQID");
    assert_eq!(sent["keyCredentials"].as_array().unwrap().len(), 2);
    assert_eq!(sent.as_object().unwrap().len(), 1, "nothing else is touched");
}
