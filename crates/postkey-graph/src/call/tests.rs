use std::sync::Arc;

use postkey_identity::{Cloud, TokenSource};
use serde_json::json;

use super::*;
use crate::{
    applications, attachments, messages, organization, send_mail,
    testing::{Say, Served, client},
};

fn mailbox() -> postkey_base::EmailAddress {
    "noreply@contoso.example".parse().unwrap()
}

fn tenant() -> Say {
    Say::json(200, json!({ "value": [{ "id": "84841066-274d-4ec0-a5c1-276be684bdd3", "displayName": "Contoso" }] }))
}

#[tokio::test]
async fn every_request_carries_a_token_and_an_id_of_its_own() {
    let served = Served::start([tenant(), tenant()]).await;
    organization::get(&served.graph).await.unwrap();
    organization::get(&served.graph).await.unwrap();
    let seen = served.seen();
    assert_eq!(seen[0].line, "GET /v1.0/organization?$select=id%2CdisplayName%2CtenantType%2CverifiedDomains");
    assert_eq!(seen[0].header("authorization"), Some("Bearer token-0"));
    let ids: Vec<_> = seen.iter().map(|seen| seen.header("client-request-id").unwrap()).collect();
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_refused_token_is_disowned_and_replaced_once() {
    let served = Served::start([Say::error(401, "InvalidAuthenticationToken"), tenant()]).await;
    organization::get(&served.graph).await.unwrap();
    assert_eq!(served.seen()[1].header("authorization"), Some("Bearer token-1"));
    assert_eq!(*served.tokens.disowned.lock().unwrap(), [("token-0".to_owned(), None)]);

    let served = Served::start(vec![Say::error(401, "InvalidAuthenticationToken"); 2]).await;
    let error = organization::get(&served.graph).await.unwrap_err();
    assert!(matches!(error, GraphError::Unauthenticated { claims: None, .. }), "{error:?}");
    assert_eq!((served.seen().len(), served.tokens.disowned.lock().unwrap().len()), (2, 2));
}

#[tokio::test]
async fn a_claims_challenge_goes_with_the_disowned_token() {
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;
    let challenge = format!(
        r#"Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="insufficient_claims", claims="{}""#,
        BASE64_STANDARD.encode(claims)
    );
    let refused = Say::error(401, "InvalidAuthenticationToken").header("www-authenticate", &challenge);
    let served = Served::start([refused, Say::status(202)]).await;
    send_mail::send_mime(&served.graph, mailbox(), b"Subject: x\r\n\r\n").await.expect("a 401 proves nothing was sent");
    assert_eq!(*served.tokens.disowned.lock().unwrap(), [("token-0".to_owned(), Some(claims.to_owned()))]);
}

#[test]
fn only_decodable_claims_are_a_challenge() {
    for (text, claims) in [
        (format!(r#"Bearer error="insufficient_claims", claims="{}""#, BASE64_STANDARD.encode("{}")), Some("{}")),
        (format!(r#"Bearer claims="{}", error="x""#, BASE64_STANDARD.encode("{}")), Some("{}")),
        (format!(r#"Bearer xclaims="{}""#, BASE64_STANDARD.encode("{}")), None),
        (r#"Bearer claims="not base64!""#.to_owned(), None),
        (format!(r#"Bearer claims="{}""#, BASE64_STANDARD.encode("no json")), None),
        ("Bearer".to_owned(), None),
    ] {
        let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_str(&text).unwrap())]);
        assert_eq!(claims_challenge(&headers).as_deref(), claims, "{text}");
    }
}

#[tokio::test]
async fn throttled_calls_wait_as_told_within_the_callers_patience() {
    let throttled = |wait: &str| Say::error(429, "TooManyRequests").header("retry-after", wait);
    let served = Served::start([throttled("7"), throttled("20"), tenant()]).await;
    organization::get(&served.graph).await.unwrap();
    assert_eq!(served.waited(), [7, 20]);

    let served = Served::start([throttled("7"), throttled("54")]).await;
    let error = organization::get(&served.graph).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(54)), "7 + 54 is more than the minute of patience");

    let served = Served::start([throttled("1")]).await;
    let impatient = served.graph.clone().with_patience(Duration::ZERO);
    assert!(matches!(organization::get(&impatient).await.unwrap_err(), GraphError::Throttled { .. }));
    assert_eq!(served.seen().len(), 1);
}

#[tokio::test]
async fn waits_of_no_length_do_not_repeat_for_ever() {
    let served = Served::start(vec![Say::error(429, "TooManyRequests").header("retry-after", "0"); 50]).await;
    assert!(organization::get(&served.graph).await.is_err());
    assert_eq!(served.seen().len(), MOST_ATTEMPTS as usize);
}

#[tokio::test]
async fn what_adds_is_repeated_only_after_proof_that_it_did_not() {
    let application = json!({
        "id": "03ef14b0-ca33-4840-8f4f-d6e91916010e", "appId": "631a96bc-a705-4eda-9f99-fdaf9f54f6a2",
    });
    for refusal in [Say::error(429, "TooManyRequests"), Say::error(409, "Directory_ConcurrencyViolation")] {
        let served = Served::start([refusal.header("retry-after", "3"), Say::json(201, application.clone())]).await;
        applications::create(&served.graph, &Default::default()).await.unwrap();
        assert_eq!(served.waited(), [3]);
    }
    for status in [500, 502, 503, 504] {
        let served = Served::start([Say::status(status).header("retry-after", "1")]).await;
        let error = applications::create(&served.graph, &Default::default()).await.unwrap_err();
        assert!(error.may_have_taken_effect() && served.seen().len() == 1, "{error:?}");
    }
}

#[tokio::test]
async fn a_message_is_never_repeated() {
    for say in [
        Say::error(429, "ApplicationThrottled").header("retry-after", "1"),
        Say::error(503, "ErrorServerBusy").header("retry-after", "1"),
        Say::status(504),
        Say::status(500),
    ] {
        let served = Served::start([say]).await;
        let error = send_mail::send_mime(&served.graph, mailbox(), b"x").await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert_eq!(served.seen().len(), 1);
    }
}

#[tokio::test]
async fn after_a_503_the_repetition_goes_over_a_fresh_connection() {
    let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let served = Served::start([
        Say::error(503, "serviceNotAvailable").header("retry-after", "2"),
        Say::error(429, "TooManyRequests").header("retry-after", "1"),
        tenant(),
    ])
    .await;
    let graph = served.graph.clone().with_fresh_connections(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(client())
    });
    organization::get(&graph).await.unwrap();
    assert_eq!((served.waited(), made.load(std::sync::atomic::Ordering::Relaxed)), (vec![2, 1], 1));
}

#[tokio::test]
async fn a_deletion_in_doubt_that_finds_nothing_has_been_done() {
    let id = "03ef14b0-ca33-4840-8f4f-d6e91916010e".parse().unwrap();
    let gone = Say::error(404, "Request_ResourceNotFound");
    let served = Served::start([Say::status(504), gone.clone()]).await;
    applications::delete(&served.graph, id).await.unwrap();

    let served = Served::start([gone]).await;
    assert!(matches!(applications::delete(&served.graph, id).await, Err(GraphError::NotFound(_))));
}

#[tokio::test]
async fn only_202_is_acceptance() {
    let served = Served::start([Say::status(200)]).await;
    let error = send_mail::send_mime(&served.graph, mailbox(), b"x").await.unwrap_err();
    assert!(matches!(error, GraphError::UnexpectedSuccess(_)) && error.may_have_taken_effect(), "{error:?}");

    let served = Served::start([Say::status(202)]).await;
    let accepted = send_mail::send_mime(&served.graph, mailbox(), b"Subject: x\r\n\r\nbody").await.unwrap();
    assert_eq!(accepted.request_id.as_deref(), Some("graph-202"));
    let seen = &served.seen()[0];
    assert_eq!(seen.line, "POST /v1.0/users/noreply@contoso.example/sendMail");
    assert_eq!(seen.header("content-type"), Some("text/plain"));
    assert_eq!(BASE64_STANDARD.decode(&seen.body).unwrap(), b"Subject: x\r\n\r\nbody");
}

#[tokio::test]
async fn an_acceptance_that_asks_for_rest_is_an_acceptance_and_rests_the_mailbox() {
    let served = Served::start([Say::status(202).header("retry-after", "30"), Say::status(202)]).await;
    let accepted = send_mail::send_mime(&served.graph, mailbox(), b"x").await.unwrap();
    assert_eq!(accepted.retry_after, Some(Duration::from_secs(30)));
    let held = send_mail::send_mime(&served.graph, mailbox(), b"x").await.unwrap_err();
    assert!(matches!(held, GraphError::HeldBack { .. }) && !held.may_have_taken_effect(), "{held:?}");
    let other: postkey_base::EmailAddress = "alice@contoso.example".parse().unwrap();
    send_mail::send_mime(&served.graph, other, b"x").await.expect("another mailbox need not rest");
}

#[tokio::test]
async fn a_draft_is_sent_without_a_body_and_with_its_length() {
    let served = Served::start([Say::status(202)]).await;
    messages::send_draft(&served.graph, mailbox(), "AAMkADhNmAAA=").await.unwrap();
    let seen = &served.seen()[0];
    assert_eq!(seen.line, "POST /v1.0/users/noreply@contoso.example/messages/AAMkADhNmAAA=/send");
    assert_eq!(seen.header("content-length"), Some("0"));
    assert_eq!(seen.header("transfer-encoding"), None);
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_anything_is_sent() {
    let served = Served::start([Say::status(202)]).await;
    let most = vec![b'x'; usize::try_from(send_mail::MIME_LIMIT).unwrap()];
    let over = [most.as_slice(), b"x"].concat();
    let error = send_mail::send_mime(&served.graph, mailbox(), &over).await.unwrap_err();
    assert!(matches!(error, GraphError::OverRequestLimit { .. }) && served.seen().is_empty(), "{error:?}");
    send_mail::send_mime(&served.graph, mailbox(), &most).await.unwrap();
    assert!(served.seen()[0].body.len() as u64 <= REQUEST_LIMIT);
    let file = attachments::FileAttachment {
        name: "a.bin".into(),
        content_type: "application/octet-stream".into(),
        content: Bytes::from(most),
        content_id: None,
    };
    assert!(attachments::add_small(&served.graph, mailbox(), "AAMk", &file).await.is_err());
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let served = Served::start([Say::Answer(200, Vec::new(), "x".repeat(100))]).await;
    let request = served.graph.call(organization::GET, &[]).answer_limit(99);
    let error = request.send().await.unwrap_err();
    assert!(matches!(error, GraphError::Unreadable { cause: Unreadable::TooLong { limit: 99 }, .. }), "{error:?}");
}

#[tokio::test]
async fn a_cut_connection_leaves_doubt_and_a_refused_one_does_not() {
    let served = Served::start([Say::Cut]).await;
    let error = send_mail::send_mime(&served.graph, mailbox(), b"x").await.unwrap_err();
    assert!(matches!(error, GraphError::Network { .. }) && error.may_have_taken_effect(), "{error:?}");

    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let cloud = Cloud { graph: format!("http://{closed}/v1.0").parse().unwrap(), ..Cloud::global() };
    let graph = Graph::new(client(), cloud, Arc::clone(&served.tokens) as Arc<dyn TokenSource>);
    let error = send_mail::send_mime(&graph, mailbox(), b"x").await.unwrap_err();
    assert!(matches!(error, GraphError::Network { .. }) && !error.may_have_taken_effect(), "{error:?}");
}

#[tokio::test]
async fn a_read_survives_a_cut_connection() {
    let served = Served::start([Say::Cut, tenant()]).await;
    assert_eq!(organization::get(&served.graph).await.unwrap().display_name, "Contoso");
}
