//! Sign-in in a browser, consent, device code, refresh.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use postkey_emulator::visitor::{Decision, Ended};
use sha2::{Digest, Sha256};

use crate::support::{Box, claims};

const CLI: &str = "14d82eec-204b-4c2f-b7e8-296a70dab67e";
const REDIRECT: &str = "http://localhost:54321";
const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters-0123";

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

/// An authorize URL of the sample mail application, with changes; an empty value leaves a parameter out.
fn authorize(tenant: &Box, changes: &[(&str, &str)]) -> String {
    let client_id = tenant.emulator.sample().client_id.to_string();
    let challenge = challenge();
    let good = [
        ("client_id", client_id.as_str()),
        ("response_type", "code"),
        ("redirect_uri", REDIRECT),
        ("scope", "https://graph.microsoft.com/Mail.Send offline_access openid profile"),
        ("state", "s t&te"),
        ("nonce", "n-1"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in good {
        if !changes.iter().any(|(changed, _)| *changed == name) {
            query.append_pair(name, value);
        }
    }
    for (name, value) in changes.iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    format!("{}?{}", tenant.login("oauth2/v2.0/authorize"), query.finish())
}

async fn visit(tenant: &Box, url: &str) -> Ended {
    let sample = tenant.emulator.sample().clone();
    tenant.emulator.visitor(&sample.user_name, &sample.user_password).unwrap().visit(url).await.unwrap()
}

async fn redeem(tenant: &Box, code: &str, changes: &[(&str, &str)]) -> (u16, serde_json::Value) {
    let sample = tenant.emulator.sample().clone();
    let client_id = sample.client_id.to_string();
    let good = [
        ("grant_type", "authorization_code"),
        ("client_id", client_id.as_str()),
        ("client_secret", &sample.client_secret),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_info", "1"),
    ];
    let mut form: Vec<(&str, &str)> =
        good.into_iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name)).collect();
    form.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    tenant.token(&form).await
}

#[tokio::test]
async fn a_person_signs_in_and_the_app_gets_their_tokens() {
    let tenant = Box::start().await;
    let ended = visit(&tenant, &authorize(&tenant, &[])).await;
    assert_eq!(ended.parameter("state").as_deref(), Some("s t&te"));
    let Ended::Left { url, .. } = &ended else { panic!("{ended:?}") };
    assert!(url.starts_with("http://localhost:54321/?code="));
    let code = ended.parameter("code").unwrap();
    let (status, body) = redeem(&tenant, &code, &[]).await;
    assert_eq!(status, 200, "{body}");
    let (access, id) = (claims(body["access_token"].as_str().unwrap()), claims(body["id_token"].as_str().unwrap()));
    let sample = tenant.emulator.sample();
    assert_eq!(access["upn"], sample.user_name.as_str());
    assert!(access["scp"].as_str().unwrap().split(' ').any(|scope| scope == "Mail.Send"));
    assert!(access.get("roles").is_none());
    assert_eq!(id["nonce"], "n-1");
    assert_eq!(id["aud"], sample.client_id.to_string());
    assert_eq!(id["preferred_username"], sample.user_name.as_str());
    assert_eq!(id["iss"], format!("{}/{}/v2.0", tenant.emulator.authority(), sample.tenant_id));
    assert!(body["client_info"].is_string());
    assert!(body["refresh_token"].as_str().unwrap().len() > 1_000);
    let expires = body["expires_in"].as_i64().unwrap();
    assert!((3600..5400).contains(&expires));
    assert_eq!(redeem(&tenant, &code, &[]).await.1["error_codes"][0], 54005);
    let me = tenant
        .client
        .get(format!("{}/me", tenant.emulator.graph()))
        .bearer_auth(body["access_token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(me.status(), 200);
}

#[tokio::test]
async fn a_code_is_redeemed_only_as_it_was_asked_for() {
    let tenant = Box::start().await;
    for (changes, status, number) in [
        (vec![("code_verifier", "")], 400, 900144),
        (vec![("code_verifier", "another-verifier-of-at-least-forty-three-characters")], 400, 501481),
        (vec![("redirect_uri", "http://localhost:54322")], 400, 50011),
        (vec![("client_secret", "")], 401, 7000218),
        (vec![("client_secret", "wrong")], 401, 7000215),
        (vec![("scope", "https://graph.microsoft.com/Mail.Send https://outlook.office.com/SMTP.Send")], 400, 700022),
        (vec![("scope", "Group.Read.All")], 400, 65001),
    ] {
        let code = visit(&tenant, &authorize(&tenant, &[])).await.parameter("code").unwrap();
        let (got, body) = redeem(&tenant, &code, &changes).await;
        assert_eq!((got, &body["error_codes"][0]), (status, &number.into()), "{changes:?}: {body}");
    }
    let code = visit(&tenant, &authorize(&tenant, &[])).await.parameter("code").unwrap();
    tenant.emulator.advance(Duration::from_secs(601));
    assert_eq!(redeem(&tenant, &code, &[]).await.1["error_codes"][0], 70008);
}

#[tokio::test]
async fn what_is_wrong_with_the_address_is_shown_and_the_rest_is_told_to_the_app() {
    let tenant = Box::start().await;
    for (changes, number) in [
        (vec![("redirect_uri", "http://localhost/other")], "AADSTS50011"),
        (vec![("redirect_uri", "http://localhost/MyApps/")], "AADSTS50011"),
        (vec![("redirect_uri", "")], "AADSTS900971"),
        (vec![("client_id", "5b8a0dd2-3f3c-4d5b-8f8f-0f2f8b1b0e11")], "AADSTS700016"),
    ] {
        match visit(&tenant, &authorize(&tenant, &changes)).await {
            Ended::Page { status: 400, text } if text.contains(number) => {}
            other => panic!("{changes:?}: {other:?}"),
        }
    }
    // The manual's own slip of the pen: the escape of the slash is broken.
    let broken = authorize(&tenant, &[("redirect_uri", "")]) + "&redirect_uri=http%3A%2F%2Flocalhost%2myapps%2F";
    assert!(matches!(visit(&tenant, &broken).await, Ended::Page { status: 400, text } if text.contains("AADSTS50011")));
    for (changes, error) in [
        (vec![("response_type", "token")], "unsupported_response_type"),
        (vec![("response_type", "code id_token")], "unsupported_response_type"),
        (vec![("scope", "")], "invalid_request"),
        (vec![("scope", "Nonsense.Read")], "invalid_scope"),
        (vec![("scope", "https://unknown.example/x")], "invalid_resource"),
        (vec![("prompt", "none")], "login_required"),
        (vec![("code_challenge", "short")], "invalid_request"),
    ] {
        let ended = visit(&tenant, &authorize(&tenant, &changes)).await;
        assert_eq!(ended.parameter("error").as_deref(), Some(error), "{changes:?} {ended:?}");
        assert_eq!(ended.parameter("state").as_deref(), Some("s t&te"));
    }
}

#[tokio::test]
async fn a_wrong_password_or_a_refused_user_stays_on_the_page() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let url = authorize(&tenant, &[]);
    for (user, password, number) in [
        (sample.user_name.as_str(), "wrong", "AADSTS50126"),
        ("nobody@contoso.example", "x", "AADSTS50034"),
        ("carol@fabrikam.example", &sample.user_password, "AADSTS50034"),
    ] {
        let ended = tenant.emulator.visitor(user, password).unwrap().visit(&url).await.unwrap();
        assert!(matches!(&ended, Ended::Page { text, .. } if text.contains(number)), "{user}: {ended:?}");
    }
}

#[tokio::test]
async fn every_response_mode_carries_the_code() {
    let tenant = Box::start().await;
    for mode in ["query", "fragment", "form_post"] {
        let ended = visit(&tenant, &authorize(&tenant, &[("response_mode", mode)])).await;
        let Ended::Left { url, fields } = &ended else { panic!("{ended:?}") };
        assert!(ended.parameter("code").is_some());
        assert_eq!(
            (url.contains('?'), url.contains('#'), !fields.is_empty()),
            (mode == "query", mode == "fragment", mode == "form_post")
        );
    }
}

#[tokio::test]
async fn a_refresh_token_serves_other_resources_and_is_replaced_not_revoked() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let code = visit(&tenant, &authorize(&tenant, &[])).await.parameter("code").unwrap();
    let first = redeem(&tenant, &code, &[]).await.1["refresh_token"].as_str().unwrap().to_owned();
    let client_id = sample.client_id.to_string();
    let refresh = async |token: &str, scope: &str| {
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("client_id", client_id.as_str()),
            ("client_secret", &sample.client_secret),
            ("refresh_token", token),
        ];
        if !scope.is_empty() {
            form.push(("scope", scope));
        }
        tenant.token(&form).await
    };
    let (status, body) = refresh(&first, "https://outlook.office.com/SMTP.Send offline_access").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(claims(body["access_token"].as_str().unwrap())["aud"], "https://outlook.office.com");
    let second = body["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(refresh(&first, "").await.0, 200);
    for (token, number) in [("garbage", 9002313)] {
        assert_eq!(refresh(token, "").await.1["error_codes"][0], number);
    }
    tenant.emulator.with_world(|world| {
        let user = &mut world.tenants[0].directory.users[1];
        user.sign_in_refusal = Some(50076);
    });
    let body = refresh(&second, "").await.1;
    assert_eq!((&body["error_codes"][0], &body["suberror"]), (&50076.into(), &"basic_action".into()));
    tenant.emulator.with_world(|world| {
        let now = world.clock.now();
        let user = &mut world.tenants[0].directory.users[1];
        (user.sign_in_refusal, user.tokens_valid_from) = (None, now);
    });
    assert_eq!(refresh(&second, "").await.1["error_codes"][0], 50173);
    tenant.emulator.advance(Duration::from_secs(91 * 24 * 3600));
    assert_eq!(refresh(&second, "").await.1["error_codes"][0], 700082);
}

#[tokio::test]
async fn a_device_waits_until_somebody_types_its_code() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let scope = "https://graph.microsoft.com/Application.ReadWrite.All offline_access openid profile";
    let (status, device) =
        tenant.post(&tenant.login("oauth2/v2.0/devicecode"), &[("client_id", CLI), ("scope", scope)]).await;
    assert_eq!(status, 200, "{device}");
    let (page, code) = (device["verification_uri"].as_str().unwrap(), device["user_code"].as_str().unwrap());
    let poll = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", CLI),
        ("device_code", device["device_code"].as_str().unwrap()),
    ];
    let (status, body) = tenant.token(&poll).await;
    assert_eq!(
        (status, &body["error"], &body["error_codes"][0]),
        (400, &"authorization_pending".into(), &70016.into())
    );
    // Alice may not consent to that; the administrator may, for everyone.
    let mut alice = tenant.emulator.visitor(&sample.user_name, &sample.user_password).unwrap();
    let ended = alice.enter_device_code(page, code).await.unwrap();
    assert!(matches!(&ended, Ended::Page { text, .. } if text.contains("AADSTS90094")), "{ended:?}");
    let admin = tenant.emulator.visitor(&sample.admin_user, &sample.admin_password).unwrap();
    let ended = admin.deciding(Decision::AcceptForOrganization).enter_device_code(page, code).await.unwrap();
    assert!(matches!(&ended, Ended::Page { status: 200, text } if text.contains("You have signed in")), "{ended:?}");
    let (status, body) = tenant.token(&poll).await;
    assert_eq!(status, 200, "{body}");
    let token = claims(body["access_token"].as_str().unwrap());
    assert_eq!((&token["appidacr"], &token["appid"]), (&"0".into(), &CLI.into()));
    // The first consent has made its service principal.
    assert!(tenant.emulator.with_world(|world| {
        let directory = &world.tenants[0].directory;
        directory.service_principals.iter().any(|known| known.app_id.to_string() == CLI)
    }));
    let (_, body) = tenant.token(&[poll[0], poll[1], ("device_code", "unknown")]).await;
    assert_eq!(body["error"], "bad_verification_code");
}

#[tokio::test]
async fn a_device_is_told_of_refusal_and_of_time_running_out() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let client_id = sample.client_id.to_string();
    for (decision, error) in [(Some(Decision::Cancel), "authorization_declined"), (None, "expired_token")] {
        let form = [("client_id", client_id.as_str()), ("scope", "Mail.Send")];
        let (_, device) = tenant.post(&tenant.login("oauth2/v2.0/devicecode"), &form).await;
        let (page, code) = (device["verification_uri"].as_str().unwrap(), device["user_code"].as_str().unwrap());
        match decision {
            Some(decision) => {
                let visitor = tenant.emulator.visitor(&sample.user_name, &sample.user_password).unwrap();
                visitor.deciding(decision).enter_device_code(page, code).await.unwrap();
            }
            None => tenant.emulator.advance(Duration::from_secs(901)),
        }
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", client_id.as_str()),
            ("device_code", device["device_code"].as_str().unwrap()),
        ];
        assert_eq!(tenant.token(&form).await.1["error"], error);
    }
}

#[tokio::test]
async fn an_administrator_consents_for_everyone_or_refuses() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let url = |path: &str| {
        format!(
            "{}?client_id={}&redirect_uri=http%3A%2F%2Flocalhost%3A1&state=x&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default",
            tenant.login(path),
            sample.client_id
        )
    };
    let admin =
        |decision| tenant.emulator.visitor(&sample.admin_user, &sample.admin_password).unwrap().deciding(decision);
    let ended = admin(Decision::Accept).visit(&url("v2.0/adminconsent")).await.unwrap();
    assert_eq!(ended.parameter("admin_consent").as_deref(), Some("True"));
    assert_eq!(ended.parameter("tenant"), Some(sample.tenant_id.to_string()));
    assert!(ended.parameter("scope").unwrap().contains("https://graph.microsoft.com/Mail.Send"));
    let ended = admin(Decision::Cancel).visit(&url("v2.0/adminconsent")).await.unwrap();
    assert_eq!(ended.parameter("admin_consent").as_deref(), Some("True"));
    assert_eq!(ended.parameter("error").as_deref(), Some("consent_required"));
    let ended = admin(Decision::Accept).visit(&url("adminconsent")).await.unwrap();
    assert_eq!((ended.parameter("admin_consent").as_deref(), ended.parameter("scope")), (Some("True"), None));
    let ended = admin(Decision::Cancel).visit(&url("adminconsent")).await.unwrap();
    assert_eq!(ended.parameter("error").as_deref(), Some("permission_denied"));
    let ended = visit(&tenant, &url("v2.0/adminconsent")).await;
    assert!(matches!(&ended, Ended::Page { text, .. } if text.contains("AADSTS90094")), "{ended:?}");
}

/// Changes the sample mail application.
fn reregister(tenant: &Box, change: impl FnOnce(&mut postkey_emulator::directory::Application)) {
    let client_id = tenant.emulator.sample().client_id;
    tenant.emulator.with_world(|world| {
        let apps = &mut world.tenants[0].directory.applications;
        change(apps.iter_mut().find(|app| app.app_id == client_id).unwrap());
    });
}

#[tokio::test]
async fn the_platform_of_the_redirect_decides_how_a_code_is_redeemed() {
    let tenant = Box::start().await;
    reregister(&tenant, |app| {
        app.spa_redirect_uris = vec!["https://spa.example/cb".into()];
        app.public_redirect_uris = vec!["http://localhost/native".into()];
    });
    let client_id = tenant.emulator.sample().client_id.to_string();
    let secret = tenant.emulator.sample().client_secret.clone();
    let (spa, native) = ("https://spa.example/cb", "http://localhost:7777/native");
    for (redirect, origin, with_secret, number) in [
        (native, None, false, 0),
        (native, None, true, 700025),
        (native, Some("https://spa.example"), false, 9002326),
        (spa, None, false, 9002327),
        (spa, Some("https://spa.example"), true, 700025),
        (spa, Some("https://spa.example"), false, 0),
    ] {
        let code = visit(&tenant, &authorize(&tenant, &[("redirect_uri", redirect)])).await.parameter("code").unwrap();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", client_id.as_str()),
            ("code", &code),
            ("redirect_uri", redirect),
            ("code_verifier", VERIFIER),
        ];
        if with_secret {
            form.push(("client_secret", &secret));
        }
        let mut request = tenant.client.post(tenant.login("oauth2/v2.0/token")).form(&form);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let body: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(body["error_codes"][0].as_u64().unwrap_or(0), number, "{redirect} {origin:?}: {body}");
        if number == 0 {
            assert_eq!(body["refresh_token_expires_in"].as_i64(), (redirect == spa).then_some(86_400));
        }
    }
    let ended = visit(&tenant, &authorize(&tenant, &[("redirect_uri", spa), ("code_challenge", "")])).await;
    assert_eq!(ended.parameter("error").as_deref(), Some("invalid_request"));
}

#[tokio::test]
async fn the_hybrid_flow_needs_to_be_allowed_and_binds_its_code() {
    let tenant = Box::start().await;
    reregister(&tenant, |app| {
        let web = serde_json::json!({"implicitGrantSettings": {"enableIdTokenIssuance": true}});
        app.rest.insert("web".into(), web);
    });
    let hybrid = [("response_type", "code id_token"), ("response_mode", "form_post")];
    let ended = visit(&tenant, &authorize(&tenant, &hybrid)).await;
    let (code, id) = (ended.parameter("code").unwrap(), claims(&ended.parameter("id_token").unwrap()));
    assert_eq!(id["c_hash"], URL_SAFE_NO_PAD.encode(&Sha256::digest(&code)[..16]));
    assert_eq!(id["nonce"], "n-1");
    for (changes, error) in
        [([hybrid[0], ("nonce", "")], "invalid_request"), ([hybrid[0], ("response_mode", "query")], "invalid_request")]
    {
        assert_eq!(visit(&tenant, &authorize(&tenant, &changes)).await.parameter("error").as_deref(), Some(error));
    }
}

#[tokio::test]
async fn consent_is_asked_once_and_a_no_is_told_to_the_app() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    tenant.emulator.with_world(|world| world.tenants[0].directory.delegated_grants.clear());
    let url = authorize(&tenant, &[]);
    let visitor = || tenant.emulator.visitor(&sample.user_name, &sample.user_password).unwrap();
    let ended = visitor().deciding(Decision::Cancel).visit(&url).await.unwrap();
    assert_eq!(ended.parameter("error").as_deref(), Some("access_denied"));
    assert!(ended.parameter("error_description").unwrap().starts_with("AADSTS65004"));
    let mut alice = visitor();
    assert!(alice.visit(&url).await.unwrap().parameter("code").is_some());
    let grants = tenant.emulator.with_world(|world| {
        world.tenants[0]
            .directory
            .delegated_grants
            .iter()
            .map(|grant| (grant.consent_type.clone(), grant.scope.clone()))
            .collect::<Vec<_>>()
    });
    assert_eq!(grants.len(), 1);
    assert_eq!(grants[0].0, "Principal");
    assert!(grants[0].1.contains("Mail.Send"));
    // Signed in and consented: the next one needs no page at all, unless asked for.
    let silent = authorize(&tenant, &[("prompt", "none")]);
    assert!(alice.visit(&silent).await.unwrap().parameter("code").is_some());
    let more = authorize(&tenant, &[("prompt", "none"), ("scope", "https://graph.microsoft.com/Mail.ReadWrite")]);
    assert_eq!(alice.visit(&more).await.unwrap().parameter("error").as_deref(), Some("interaction_required"));
    let others = [("scope", "https://graph.microsoft.com/Group.Read.All")];
    let ended = alice.visit(&authorize(&tenant, &others)).await.unwrap();
    assert!(matches!(&ended, Ended::Page { text, .. } if text.contains("AADSTS90094")), "{ended:?}");
}

#[tokio::test]
async fn an_app_of_one_tenant_is_not_for_all_of_them() {
    let tenant = Box::start().await;
    let url = authorize(&tenant, &[]).replace(&tenant.emulator.tenant_id().to_string(), "common");
    let ended = visit(&tenant, &url).await;
    assert!(matches!(&ended, Ended::Page { text, .. } if text.contains("AADSTS50194")), "{ended:?}");
    reregister(&tenant, |app| app.sign_in_audience = "AzureADMultipleOrgs".into());
    assert!(visit(&tenant, &url).await.parameter("code").is_some());
}
