use std::sync::Arc;

use postkey_base::{Diagnose, Who};
use serde_json::json;

use super::*;
use crate::{
    cloud::Cloud,
    error::Class,
    refusal::Grant::{self, AuthorizationCode, ClientCredentials, RefreshToken},
};

fn context(grant: Grant) -> RequestContext {
    RequestContext {
        cloud: Arc::new(Cloud::us_gov()),
        tenant: "22222222-2222-4222-8222-222222222222".parse().unwrap(),
        client: "11111111-1111-4111-8111-111111111111".parse().unwrap(),
        grant,
        scope: "https://graph.microsoft.us/.default".into(),
        redirect: Some("http://localhost/myapps/".into()),
    }
}

fn answer(status: u16, body: &serde_json::Value) -> Answer {
    Answer {
        status,
        body: Zeroizing::new(body.to_string().into_bytes()),
        retry_after: None,
        skew: Some(SignedDuration::from_secs(600)),
        correlation: CorrelationId::random(),
    }
}

fn judged(grant: Grant, status: u16, error: &str, suberror: Option<&str>, code: u32) -> TokenError {
    let body = json!({
        "error": error, "suberror": suberror, "error_codes": [code],
        "error_description": format!("AADSTS{code}: Text of the server. Trace ID: t Correlation ID: c Timestamp: 2026-03-01 10:00:00Z"),
    });
    judge(&answer(status, &body), &context(grant), Presented::default())
}

#[test]
fn every_situation_has_its_name_its_class_and_its_actor() {
    use Class::{App, Tenant, User, Wait};
    use Who::{AppOwner, NetworkAdministrator, Postkey, TenantAdministrator, You};

    #[rustfmt::skip]
    let table = [
        // The app's credential
        (ClientCredentials, 401, "invalid_client", None, 7_000_215, "identity.secret_wrong", App, AppOwner),
        (ClientCredentials, 401, "invalid_client", None, 7_000_222, "identity.secret_expired", App, AppOwner),
        (ClientCredentials, 401, "invalid_client", None, 7_000_218, "identity.credential_missing", App, You),
        (AuthorizationCode, 401, "invalid_client", None, 700_025, "identity.client_is_public", App, AppOwner),
        (ClientCredentials, 401, "invalid_client", None, 700_027, "identity.certificate_unknown", App, AppOwner),
        (ClientCredentials, 401, "invalid_client", None, 7_000_274, "identity.certificate_unknown", App, AppOwner),
        (ClientCredentials, 401, "invalid_client", None, 700_024, "identity.clock_skew", App, NetworkAdministrator),
        (ClientCredentials, 401, "invalid_client", None, 7_000_214, "identity.certificate_unusable", App, AppOwner),
        (ClientCredentials, 401, "invalid_client", None, 1_000_502, "identity.certificate_unusable", App, AppOwner),
        (ClientCredentials, 401, "invalid_client", None, 50048, "identity.credential_refused", App, AppOwner),
        (RefreshToken, 401, "invalid_client", None, 7_000_222, "identity.secret_expired", App, AppOwner),
        (RefreshToken, 401, "invalid_client", None, 999, "identity.credential_refused", App, AppOwner),
        // App, tenant, resource
        (ClientCredentials, 400, "unauthorized_client", None, 700_016, "identity.app_not_found", App, You),
        (ClientCredentials, 400, "unauthorized_client", None, 7_000_112, "identity.app_disabled", App, TenantAdministrator),
        (ClientCredentials, 400, "unauthorized_client", None, 999, "identity.app_not_allowed", App, TenantAdministrator),
        (ClientCredentials, 400, "invalid_tenant", None, 90002, "identity.tenant_not_found", Tenant, You),
        (ClientCredentials, 400, "invalid_request", None, 90002, "identity.tenant_not_found", Tenant, You),
        (ClientCredentials, 400, "invalid_request", None, 50059, "identity.tenant_required", App, You),
        (ClientCredentials, 400, "invalid_instance", None, 50049, "identity.wrong_login_host", App, You),
        (ClientCredentials, 400, "invalid_resource", None, 500_011, "identity.invalid_resource", App, TenantAdministrator),
        (ClientCredentials, 400, "invalid_grant", None, 501_051, "identity.role_required", App, TenantAdministrator),
        (RefreshToken, 400, "invalid_grant", None, 501_051, "identity.role_required", App, TenantAdministrator),
        (ClientCredentials, 401, "invalid_client", None, 501_051, "identity.role_required", App, TenantAdministrator),
        (ClientCredentials, 400, "invalid_scope", None, 1_002_012, "identity.invalid_scope", App, You),
        (ClientCredentials, 400, "invalid_scope", None, 999, "identity.invalid_scope", App, You),
        // Consent, sign-in, policy
        (RefreshToken, 400, "invalid_grant", Some("consent_required"), 65001, "identity.consent_missing", User, Who::User),
        (RefreshToken, 400, "invalid_grant", Some("consent_required"), 999, "identity.consent_missing", User, Who::User),
        (ClientCredentials, 400, "invalid_grant", None, 65001, "identity.consent_missing", App, TenantAdministrator),
        (RefreshToken, 400, "invalid_grant", Some("basic_action"), 50076, "identity.needs_sign_in", User, Who::User),
        (RefreshToken, 400, "interaction_required", None, 50079, "identity.needs_sign_in", User, Who::User),
        (RefreshToken, 400, "invalid_grant", Some("message_only"), 53003, "identity.conditional_access", Tenant, TenantAdministrator),
        (RefreshToken, 400, "invalid_grant", Some("message_only"), 999, "identity.conditional_access", Tenant, TenantAdministrator),
        (ClientCredentials, 400, "invalid_grant", None, 53003, "identity.conditional_access", Tenant, TenantAdministrator),
        (AuthorizationCode, 400, "invalid_client", None, 50011, "identity.redirect_mismatch", App, AppOwner),
        (RefreshToken, 400, "invalid_grant", None, 50057, "identity.account_refused", User, TenantAdministrator),
        // Codes and refresh tokens
        (AuthorizationCode, 400, "invalid_grant", None, 54005, "identity.needs_sign_in", User, Who::User),
        (RefreshToken, 400, "invalid_grant", None, 700_082, "identity.needs_sign_in", User, Who::User),
        (RefreshToken, 400, "invalid_grant", Some("bad_token"), 9_002_313, "identity.needs_sign_in", User, Who::User),
        (RefreshToken, 400, "invalid_grant", None, 999_999, "identity.needs_sign_in", User, Who::User),
        (ClientCredentials, 400, "invalid_grant", None, 999_999, "identity.needs_sign_in", App, TenantAdministrator),
        // Malformed, throttled, down
        (RefreshToken, 400, "invalid_request", None, 900_144, "identity.malformed_request", App, Postkey),
        (RefreshToken, 400, "unsupported_grant_type", None, 70003, "identity.malformed_request", App, Postkey),
        (RefreshToken, 400, "invalid_grant", None, 50196, "identity.request_loop", Wait, Who::Wait),
        (ClientCredentials, 429, "invalid_request", None, 50196, "identity.throttled", Wait, Who::Wait),
        (RefreshToken, 400, "temporarily_unavailable", None, 90033, "identity.unavailable", Wait, Who::Wait),
        (RefreshToken, 503, "invalid_grant", None, 70000, "identity.unavailable", Wait, Who::Wait),
        (RefreshToken, 400, "something_new", None, 1, "identity.unknown_refusal", App, Postkey),
    ];
    for (grant, status, error, suberror, code, name, class, who) in table {
        let judged = judged(grant, status, error, suberror, code);
        let row = format!("{grant:?} {status} {error} {suberror:?} {code}");
        assert_eq!((judged.code(), judged.class(), judged.who()), (name, class, who), "{row}");
        assert_eq!(judged.is_transient(), class == Wait, "{row}");
        assert!(judged.retry_after().is_none() || class == Wait, "{row}");
        let remedy = judged.remedy();
        assert!(remedy.ends_with('.') && remedy.len() > 4, "{row}: {remedy}");
        assert!(
            !remedy.contains("entra.microsoft.com") && !remedy.contains("microsoftonline.com"),
            "another cloud's link: {remedy}"
        );
        assert_eq!(judged.refusal().unwrap().trace_id.as_deref(), Some("t"), "{row}");
    }
}

#[test]
fn every_number_of_the_catalogue_agrees_with_the_class_of_its_variant() {
    for entry in crate::aadsts::catalogue() {
        // The `error` that goes with a number of this kind.
        let error = match (entry.class, entry.code) {
            (_, 9_002_313) => continue,               // either, by suberror
            (Class::Wait, 70016 | 50196) => continue, // a device's patience, a loop of ours
            (Class::Wait, _) => "temporarily_unavailable",
            (Class::User, _) | (Class::Tenant, 53000..=53003 | 530_032 | 530_035) => "invalid_grant",
            _ => "invalid_request",
        };
        let judged = judged(RefreshToken, 400, error, None, entry.code);
        let agrees = judged.class() == entry.class
            || (judged.class() == Class::App && entry.class == Class::Tenant)
            || (judged.class() == Class::Tenant && entry.class == Class::App);
        assert!(agrees, "{}: {:?} but {judged:?}", entry.code, entry.class);
    }
}

#[test]
fn a_description_is_taken_apart_with_either_separator() {
    for separator in ["\r\n", " "] {
        let text = format!(
            "AADSTS7000215: Invalid client secret provided. Ensure it is the value.{separator}Trace ID: 6f6c4645-0202-4486-b625-fa957dfc4700{separator}Correlation ID: 5fc87507-4086-4e77-b415-cee677eb232e{separator}Timestamp: 2023-05-06 06:03:00Z"
        );
        assert_eq!(
            describe(&text),
            Described {
                code: Some(7_000_215),
                text: "Invalid client secret provided. Ensure it is the value.".into(),
                trace_id: Some("6f6c4645-0202-4486-b625-fa957dfc4700".into()),
                correlation_id: Some("5fc87507-4086-4e77-b415-cee677eb232e".into()),
                timestamp: Some("2023-05-06 06:03:00Z".into()),
            }
        );
    }
    assert_eq!(describe("No number here"), Described { text: "No number here".into(), ..Described::default() });
}

proptest::proptest! {
    #[test]
    fn any_body_is_judged_without_panic(status in 300_u16..600, body in ".{0,200}") {
        let mut given = answer(status, &json!(null));
        *given.body = body.into_bytes();
        let judged = judge(&given, &context(RefreshToken), Presented::default());
        proptest::prop_assert!(!judged.remedy().is_empty());
    }
}

#[test]
fn what_comes_along_is_kept() {
    let body = json!({
        "error": "invalid_grant", "suberror": "message_only", "error_codes": ["53003"], "trace_id": "t2",
        "correlation_id": "5fc87507-4086-4e77-b415-cee677eb232e", "timestamp": "2026-03-01 10:00:00Z",
        "error_description": "AADSTS53003: Access has been blocked by Conditional Access policies.",
        "claims": "{\"access_token\":{\"capolids\":{\"essential\":true,\"values\":[\"p\"]}}}",
    });
    let judged = judge(&answer(400, &body), &context(RefreshToken), Presented::default());
    let refusal = judged.refusal().unwrap();
    assert_eq!(refusal.codes, [53003]);
    assert!(refusal.claims.as_deref().unwrap().contains("capolids"));
    assert_eq!(refusal.correlation_id.unwrap().to_string(), "5fc87507-4086-4e77-b415-cee677eb232e");
    let why = judged.why().unwrap();
    assert!(why.contains("AADSTS53003") && why.contains("Conditional Access"), "{why}");
}

#[test]
fn a_wrong_clock_is_measured_and_named() {
    let judged = judged(ClientCredentials, 401, "invalid_client", None, 700_024);
    assert!(judged.to_string().contains("600 s"), "{judged}");
    assert!(judged.remedy().contains("ahead by 600 s"), "{}", judged.remedy());
}

#[test]
fn a_secret_id_given_for_the_secret_is_named() {
    let body =
        json!({ "error": "invalid_client", "error_codes": [7_000_215], "error_description": "AADSTS7000215: x" });
    let given = Presented { looks_like_id: true };
    let judged = judge(&answer(401, &body), &context(ClientCredentials), given);
    assert_eq!(judged.code(), "identity.secret_id_given");
    assert!(judged.remedy().contains("column Value"));
    assert!(judged.remedy().contains("https://entra.microsoft.us/#view/"), "{}", judged.remedy());
}

#[test]
fn what_is_no_oauth_answer_is_called_so() {
    for (status, body, want) in [
        (200, "<html>sign in to the hotel's network</html>", "web page"),
        (403, "<html>blocked</html>", "web page"),
        (404, "not here", "JSON"),
        (400, "{}", "JSON"),
    ] {
        let mut given = answer(status, &json!(null));
        *given.body = body.as_bytes().to_vec();
        let judged = judge(&given, &context(RefreshToken), Presented::default());
        assert!(
            matches!(judged, TokenError::UnexpectedAnswer { .. }) && judged.why().unwrap().contains(want),
            "{judged:?}"
        );
        assert!(!judged.is_transient());
    }
}
