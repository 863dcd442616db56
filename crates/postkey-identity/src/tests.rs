//! The grants over a real socket.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use postkey_base::{AccessToken, ClientId, ClientSecret, Clock, Diagnose, KeyId, RefreshToken};
use serde_json::json;

use crate::{
    AppTokens, AuthorizationCode, AuthorizationParameters, AuthorizationRequest, ClientCredential, FixedToken,
    Freshness, HeldCredential, Network, NetworkError, Scope, SignInReason, TenantRef, TokenCache, TokenEndpoint,
    TokenError, TokenSource,
    loopback::{Loopback, Reply, trusting_one_ca},
};

const SECRET: &str = "Zx9~the-secret+of&the=app";

fn tenant() -> TenantRef {
    "contoso.example".parse().unwrap()
}

fn client() -> ClientId {
    "11111111-1111-4111-8111-111111111111".parse().unwrap()
}

fn scope() -> Scope {
    Scope::default_of("https://graph.microsoft.com")
}

fn secret(text: &str) -> ClientCredential {
    ClientCredential::Secret(ClientSecret::new(text.into()))
}

fn fields(body: &str) -> HashMap<String, String> {
    form_urlencoded::parse(body.as_bytes()).into_owned().collect()
}

async fn ask(endpoint: &TokenEndpoint) -> Result<crate::Token, TokenError> {
    endpoint.client_credentials(&tenant(), client(), &secret(SECRET), &scope(), None).await
}

#[tokio::test]
async fn an_app_gets_its_token_by_secret() {
    let host = Loopback::answering([Reply::token("t1")]).await;
    let token = ask(&host.endpoint(Clock::real())).await.unwrap();
    assert_eq!(token.access.expose(), "t1");
    assert_eq!(token.expires_at.duration_since(token.received_at), SignedDuration::from_secs(3599));
    let [(line, body)] = &host.asked()[..] else { panic!() };
    assert_eq!(line, "POST /contoso.example/oauth2/v2.0/token HTTP/1.1");
    let sent = fields(body);
    assert_eq!(sent["grant_type"], "client_credentials");
    assert_eq!(sent["client_secret"], SECRET);
    assert_eq!(sent["scope"], "https://graph.microsoft.com/.default");
    assert_eq!(sent.len(), 4);
}

#[tokio::test]
async fn only_what_may_be_repeated_is_repeated() {
    let date = "Date: Sun, 01 Mar 2026 10:00:00 GMT\r\n";
    for (first, requests, outcome) in [
        (Reply::refusal(503, "temporarily_unavailable", 90033), 2, "ok"),
        (Reply { status: 502, headers: "", body: "<html>bad gateway</html>".into() }, 2, "ok"),
        (Reply::refusal(429, "invalid_request", 50196).with("Retry-After: 1\r\n"), 2, "ok"),
        (Reply::refusal(429, "invalid_request", 50196).with("Retry-After: 60\r\n"), 1, "identity.throttled"),
        (Reply::refusal(503, "temporarily_unavailable", 90033).with("Retry-After: 120\r\n"), 1, "identity.unavailable"),
        (Reply::refusal(401, "invalid_client", 7_000_222).with(date), 1, "identity.secret_expired"),
        (Reply::refusal(400, "unauthorized_client", 700_016), 1, "identity.app_not_found"),
        (
            Reply { status: 302, headers: "Location: http://127.0.0.1:1/\r\n", body: String::new() },
            1,
            "identity.unexpected_answer",
        ),
        (Reply { status: 200, headers: "", body: "<html>hotel</html>".into() }, 1, "identity.unexpected_answer"),
        (Reply { status: 200, headers: "", body: "x".repeat(300_000) }, 1, "identity.unexpected_answer"),
    ] {
        let host = Loopback::answering([first, Reply::token("t")]).await;
        let got = ask(&host.endpoint(Clock::real())).await;
        let said = got.as_ref().map_or_else(|error| error.code(), |_| "ok");
        assert_eq!((said, host.asked().len()), (outcome, requests), "{got:?}");
        assert!(!format!("{got:?}").contains("the-secret"));
    }
}

#[tokio::test]
async fn an_unreachable_host_is_the_networks_failure() {
    let host = Loopback::answering([Reply::token("t")]).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut cloud = host.cloud.clone();
    cloud.login = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let (network, _folder) = trusting_one_ca();
    let endpoint = TokenEndpoint::new(network.http_client(&cloud).unwrap(), cloud, Clock::real()).impatient();
    let error = ask(&endpoint).await.unwrap_err();
    assert!(matches!(error, TokenError::Network(NetworkError::Refused { .. })), "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn the_clocks_difference_is_seen_in_any_answer() {
    let now = Timestamp::now();
    // `Date` has whole seconds: ten minutes back.
    let then = now - SignedDuration::from_secs(600);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&then).unwrap();
    let headers: &'static str = Box::leak(format!("Date: {date}\r\n").into_boxed_str());
    let host = Loopback::answering([Reply::token("t").with(headers)]).await;
    let endpoint = host.endpoint(Clock::real());
    assert_eq!(endpoint.observed_skew(), None);
    ask(&endpoint).await.unwrap();
    let skew = endpoint.observed_skew().unwrap().as_secs();
    assert!((599..=605).contains(&skew), "{skew}");
}

#[tokio::test]
async fn a_code_is_redeemed_once_with_its_verifier() {
    let host = Loopback::answering([Reply::refusal(503, "temporarily_unavailable", 90033)]).await;
    let endpoint = host.endpoint(Clock::real());
    let request = AuthorizationRequest::new(
        &host.cloud,
        AuthorizationParameters {
            tenant: tenant(),
            client: client(),
            redirect: "http://localhost".parse().unwrap(),
            scope: scope().offline(),
            prompt: None,
            login_hint: None,
            claims: None,
        },
    );
    let got = endpoint.redeem_code(&request, &AuthorizationCode::new("the-code".into()), None).await;
    assert!(matches!(got, Err(TokenError::Unavailable { .. })), "{got:?}");
    let [(_, body)] = &host.asked()[..] else { panic!("a code is never sent twice") };
    let sent = fields(body);
    assert_eq!(sent["redirect_uri"], "http://localhost");
    assert_eq!(sent["code"], "the-code");
    assert_eq!(sent["code_verifier"].len(), 43);
    assert!(!sent.contains_key("client_secret"));
}

#[tokio::test]
async fn a_refresh_brings_the_next_refresh_token() {
    let body = json!({
        "token_type": "Bearer", "expires_in": 3599, "access_token": "a2", "refresh_token": "r2", "scope": "Mail.Send",
        "client_info": "eyJ1aWQiOiJ1IiwidXRpZCI6InQifQ",
    });
    let host = Loopback::answering([Reply::new(200, &body), Reply::refusal(400, "invalid_grant", 700_082)]).await;
    let endpoint = host.endpoint(Clock::real());
    let old = RefreshToken::new("r1".into());
    let token = endpoint.refresh(&tenant(), client(), Some(&secret(SECRET)), &old, Some(&scope())).await.unwrap();
    assert_eq!(token.refresh.unwrap().expose(), "r2");
    assert_eq!(token.client_info.unwrap().utid, "t");
    assert_eq!(fields(&host.asked()[0].1)["refresh_token"], "r1");
    let ended = endpoint.refresh(&tenant(), client(), None, &old, None).await.unwrap_err();
    assert!(matches!(ended, TokenError::NeedsSignIn { reason: SignInReason::TokenExpired, .. }), "{ended:?}");
}

fn device_start(expires_in: u64) -> Reply {
    Reply::new(
        200,
        &json!({
            "user_code": "FRWQDE7YL", "device_code": "d", "verification_uri": "https://microsoft.com/devicelogin",
            "expires_in": expires_in, "interval": 0, "message": "To sign in, …",
        }),
    )
}

#[tokio::test]
async fn a_device_is_waited_for_until_the_person_has_acted() {
    let pending = Reply::refusal(400, "authorization_pending", 70016);
    for (last, want) in [
        (Reply::token("t"), "ok"),
        (Reply::refusal(400, "authorization_declined", 65004), "identity.device_code_declined"),
        (Reply::refusal(400, "expired_token", 70020), "identity.device_code_expired"),
        (Reply::refusal(400, "bad_verification_code", 70018), "identity.needs_sign_in"),
        (Reply::refusal(401, "invalid_client", 7_000_218), "identity.credential_missing"),
    ] {
        let host = Loopback::answering([device_start(900), pending.clone(), last]).await;
        let endpoint = host.endpoint(Clock::real());
        let code = endpoint.start_device_code(&tenant(), client(), &scope()).await.unwrap();
        assert_eq!(code.user_code, "FRWQDE7YL");
        let got = endpoint.await_device_code(&code, std::future::pending()).await;
        assert_eq!(got.as_ref().map_or_else(|error| error.code(), |_| "ok"), want, "{got:?}");
        assert_eq!(host.asked().len(), 3);
        assert_eq!(host.asked()[0].0, "POST /contoso.example/oauth2/v2.0/devicecode HTTP/1.1");
    }
}

#[tokio::test]
async fn a_device_sign_in_ends_when_cancelled_or_out_of_time() {
    let pending = Reply::refusal(400, "authorization_pending", 70016);
    let host = Loopback::answering([device_start(900), device_start(0), pending]).await;
    let endpoint = host.endpoint(Clock::real());
    let code = endpoint.start_device_code(&tenant(), client(), &scope()).await.unwrap();
    let got = endpoint.await_device_code(&code, std::future::ready(())).await;
    assert!(matches!(got, Err(TokenError::Cancelled)), "{got:?}");
    let code = endpoint.start_device_code(&tenant(), client(), &scope()).await.unwrap();
    let got = endpoint.await_device_code(&code, std::future::pending()).await;
    assert!(matches!(got, Err(TokenError::DeviceCodeExpired)), "{got:?}");
}

#[tokio::test]
async fn a_tenant_is_found_without_a_credential() {
    let id = "22222222-2222-4222-8222-222222222222";
    let found = Reply::new(
        200,
        &json!({
            "issuer": format!("https://login.microsoftonline.com/{id}/v2.0"),
            "token_endpoint": format!("https://login.microsoftonline.com/{id}/oauth2/v2.0/token"),
        }),
    );
    let host = Loopback::answering([found, Reply::refusal(400, "invalid_tenant", 90002)]).await;
    let endpoint = host.endpoint(Clock::real());
    assert_eq!(endpoint.tenant_id(&tenant()).await.unwrap(), id.parse().unwrap());
    assert!(host.asked()[0].0.starts_with("GET /contoso.example/v2.0/.well-known/openid-configuration"));
    let error = endpoint.tenant_id(&tenant()).await.unwrap_err();
    assert!(matches!(error, TokenError::TenantNotFound(_)), "{error:?}");
}

fn held(start: i64, text: &str) -> HeldCredential {
    HeldCredential {
        id: KeyId::random(),
        starts: Some(Timestamp::from_second(start).unwrap()),
        ends: None,
        credential: secret(text),
    }
}

fn app_tokens(endpoint: TokenEndpoint, credentials: Vec<HeldCredential>) -> AppTokens {
    let cache = Arc::new(TokenCache::new(Clock::real(), 100));
    AppTokens::new(endpoint, cache, tenant(), client(), credentials, scope(), Freshness::GRAPH)
}

#[tokio::test]
async fn the_older_credential_serves_while_the_newer_is_not_yet_known() {
    let host = Loopback::answering([Reply::refusal(401, "invalid_client", 7_000_215), Reply::token("by-old")]).await;
    let tokens = app_tokens(host.endpoint(Clock::real()), vec![held(1, "old"), held(2, "new")]);
    for _ in 0..3 {
        assert_eq!(tokens.token().await.unwrap().expose(), "by-old");
    }
    let secrets: Vec<String> = host.asked().iter().map(|(_, body)| fields(body)["client_secret"].clone()).collect();
    assert_eq!(secrets, ["new", "old"]);
}

#[tokio::test]
async fn a_failure_that_is_not_the_credentials_is_not_tried_with_another() {
    let host = Loopback::answering([Reply::refusal(400, "unauthorized_client", 700_016)]).await;
    let tokens = app_tokens(host.endpoint(Clock::real()), vec![held(1, "old"), held(2, "new")]);
    assert!(matches!(tokens.token().await, Err(TokenError::AppNotFound(_))));
    assert_eq!(host.asked().len(), 1);
}

#[tokio::test]
async fn when_all_are_refused_the_newest_ones_failure_is_told() {
    let host = Loopback::answering([
        Reply::refusal(401, "invalid_client", 7_000_215),
        Reply::refusal(401, "invalid_client", 7_000_222),
    ])
    .await;
    let tokens = app_tokens(host.endpoint(Clock::real()), vec![held(1, "old"), held(2, "new")]);
    assert!(matches!(tokens.token().await, Err(TokenError::SecretWrong { .. })));
    let expiring = HeldCredential { ends: Some("2026-02-28T09:00:00Z".parse().unwrap()), ..held(1, "s") };
    let error = app_tokens(host.endpoint(Clock::real()), vec![expiring]).token().await.unwrap_err();
    assert!(error.to_string().ends_with("has expired on 2026-02-28"), "{error}");
    let none = app_tokens(host.endpoint(Clock::real()), vec![]);
    assert_eq!(none.token().await.unwrap_err().code(), "identity.credential_unusable");
}

#[tokio::test]
async fn a_thousand_callers_make_one_request_and_a_disowned_token_is_replaced_with_its_claims() {
    let host = Loopback::answering([Reply::token("t1"), Reply::token("t2")]).await;
    let tokens = Arc::new(app_tokens(host.endpoint(Clock::real()), vec![held(1, "s")]));
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let tokens = tokens.clone();
            tokio::spawn(async move { tokens.token().await.unwrap().expose().to_owned() })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "t1");
    }
    assert_eq!(host.asked().len(), 1);
    tokens.disown(&AccessToken::new("t1".into()), Some("{\"access_token\":{}}".into())).await;
    assert_eq!(tokens.token().await.unwrap().expose(), "t2");
    assert_eq!(fields(&host.asked()[1].1)["claims"], "{\"access_token\":{}}");
}

#[tokio::test]
async fn an_administrators_token_ends_with_its_time_or_its_refusal() {
    let token = || AccessToken::new("admin".into());
    let soon = Timestamp::now() + SignedDuration::from_secs(60);
    let fixed = FixedToken::new(token(), soon, Clock::real());
    assert!(fixed.token().await.is_ok());
    fixed.disown(&token(), None).await;
    assert!(matches!(fixed.token().await, Err(TokenError::FixedTokenEnded)));
    let ended = FixedToken::new(token(), Timestamp::now(), Clock::real());
    assert!(matches!(ended.token().await, Err(TokenError::FixedTokenEnded)));
}

/// A TLS server with a certificate of its own; gives its port and the PEM that trusts it.
async fn tls_server() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A refused handshake is what the tests are about.
            let _ = acceptor.accept(stream).await;
        }
    });
    (port, made.cert.pem())
}

#[tokio::test]
async fn a_ca_that_nobody_trusts_is_named_as_such() {
    let (port, _) = tls_server().await;
    let (network, _folder) = trusting_one_ca();
    let mut cloud = crate::Cloud::global();
    cloud.login = format!("https://localhost:{port}/").parse().unwrap();
    let endpoint = TokenEndpoint::new(network.http_client(&cloud).unwrap(), cloud.clone(), Clock::real()).impatient();
    let error = ask(&endpoint).await.unwrap_err();
    assert_eq!(error.code(), "network.unknown_ca", "{error:?}");
    assert!(!error.is_transient());
    assert!(error.remedy().contains("POSTKEY_CA_FILE"), "{}", error.remedy());

    // The same on a raw connection, as SMTP makes it.
    let config = network.tls_config(&cloud).unwrap();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let error = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap_err();
    let error = NetworkError::of_io("localhost", Duration::from_secs(1), error);
    assert!(matches!(error, NetworkError::UnknownCa { .. }), "{error:?}");
}

#[tokio::test]
async fn a_given_ca_is_trusted_and_a_wrong_name_is_not() {
    let (port, pem) = tls_server().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    let mut cloud = crate::Cloud::global();
    cloud.ca_file = Some(file);
    let config = Network::default().tls_config(&cloud).unwrap();
    for (name, good) in [("localhost", true), ("other.example", false)] {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from(name).unwrap();
        let got = tokio_rustls::TlsConnector::from(config.clone()).connect(name, stream).await;
        let error = got.map(drop).map_err(|error| NetworkError::of_io("x", Duration::from_secs(1), error));
        assert!(if good { error.is_ok() } else { matches!(error, Err(NetworkError::Tls { .. })) }, "{error:?}");
    }
}

#[tokio::test]
async fn a_ca_file_that_holds_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let network = Network { proxy: None, extra_ca: Some(file.clone()) };
    for content in [None, Some("no pem"), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let error = network.http_client(&crate::Cloud::global()).unwrap_err();
        assert!(matches!(error, NetworkError::CaFile { .. }), "{content:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_from_a_host_that_does() {
    // The script's answer to CONNECT, too.
    let proxy = Loopback::answering([Reply { status: 407, headers: "", body: String::new() }]).await;
    let address =
        proxy.cloud.login.host_str().unwrap().to_owned() + ":" + &proxy.cloud.login.port().unwrap().to_string();
    let (mut network, _folder) = trusting_one_ca();
    network.proxy = Some(format!("http://user:hush-hush@{address}").parse().unwrap());
    let cloud = crate::Cloud::global();
    let endpoint = TokenEndpoint::new(network.http_client(&cloud).unwrap(), cloud, Clock::real()).impatient();
    let error = ask(&endpoint).await.unwrap_err();
    assert_eq!(error.code(), "network.proxy", "{error:?}");
    assert_eq!(proxy.asked()[0].0, "CONNECT login.microsoftonline.com:443 HTTP/1.1");
    let all = format!("{error:?} {:?} {}", error.why(), error.remedy());
    assert!(!all.contains("hush-hush"), "{all}");
}
