use postkey_base::CorrelationId;
use reqwest::{StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use super::*;
use crate::{app_role_assignments, applications, messages, send_mail, service_principals, shape::CallShape, users};

fn read(call: CallShape, status: u16, body: &Value) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    let id = CorrelationId::random();
    Answer::read(call, status, &HeaderMap::new(), body.to_string().as_bytes(), id, is_known)
}

fn situation(call: CallShape, status: u16, body: &Value) -> GraphError {
    of_answer(read(call, status, body), None, None)
}

/// The variant's name, which is what the tables are about.
fn name(error: &GraphError) -> String {
    format!("{error:?}").split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned()
}

#[test]
fn codes_and_statuses_lead_to_situations() {
    use OutcomeClass::{Credential, Mailbox, Message, Network, Recipient, Tenant};
    let send = send_mail::SEND;
    for (call, status, code, situation_name, class) in [
        (send, 400, "ErrorInvalidRecipients", "InvalidRecipients", Recipient),
        (send, 400, "ErrorMimeContentInvalidBase64String", "InvalidMessage", Message),
        (send, 400, "InvalidInternetMessageHeader", "InvalidMessage", Message),
        (send, 400, "RequestBodyRead", "Unknown", Message),
        (send, 401, "InvalidAuthenticationToken", "Unauthenticated", Credential),
        (send, 403, "ErrorAccessDenied", "AccessDenied", Mailbox),
        (send, 403, "ErrorSendAsDenied", "SendAsDenied", Mailbox),
        (send, 403, "insufficient_claims", "Unauthenticated", Credential),
        (send, 403, "SomethingNew", "AccessDenied", Mailbox),
        (send, 404, "MailboxNotEnabledForRESTAPI", "MailboxMissing", Mailbox),
        (send, 404, "ErrorNonExistentMailbox", "MailboxMissing", Mailbox),
        (send, 404, "ErrorInvalidUser", "MailboxMissing", Mailbox),
        (send, 404, "ResourceNotFound", "MailboxMissing", Mailbox),
        (send, 404, "Request_ResourceNotFound", "MailboxMissing", Mailbox),
        (messages::GET, 404, "ErrorItemNotFound", "NotFound", Message),
        (messages::UPDATE, 409, "ErrorIrresolvableConflict", "Conflict", Message),
        (messages::UPDATE, 412, "", "Conflict", Message),
        (send, 413, "RequestEntityTooLarge", "TooLarge", Message),
        (send, 400, "ErrorMessageSizeExceeded", "TooLarge", Message),
        (send, 429, "ApplicationThrottled", "Throttled", Mailbox),
        (send, 429, "ErrorExceededMessageLimit", "Throttled", Mailbox),
        (send, 403, "ErrorExceededMessageLimit", "SendingLimit", Mailbox),
        (send, 507, "ErrorQuotaExceeded", "MailboxFull", Mailbox),
        (send, 500, "ErrorInternalServerError", "Unavailable", Network),
        (send, 503, "ErrorServerBusy", "Unavailable", Network),
        (send, 504, "", "Unavailable", Network),
        (send, 202, "", "UnexpectedSuccess", Network),
        (users::GET, 404, "Request_ResourceNotFound", "NotFound", Tenant),
        (applications::UPDATE, 404, "Request_ResourceNotFound", "NotFound", Tenant),
        (applications::CREATE, 403, "Authorization_RequestDenied", "AccessDenied", Credential),
        (applications::ADD_PASSWORD, 409, "Directory_ConcurrencyViolation", "Concurrency", Tenant),
        (
            applications::ADD_PASSWORD,
            400,
            "CredentialInvalidLifetimeAsPerAppPolicy",
            "PolicyForbidsCredential",
            Credential,
        ),
        (
            applications::ADD_PASSWORD,
            403,
            "CredentialTypeNotAllowedAsPerAppPolicy",
            "PolicyForbidsCredential",
            Credential,
        ),
        (applications::ADD_KEY, 401, "Authentication_MissingOrMalformed", "Unauthenticated", Credential),
        (applications::ADD_KEY, 400, "Authentication_MissingOrMalformed", "Unknown", Tenant),
        (applications::CREATE, 400, "Directory_QuotaExceeded", "DirectoryFull", Tenant),
        (applications::CREATE, 409, "Request_MultipleObjectsWithSameKeyValue", "Conflict", Tenant),
        (app_role_assignments::GRANT, 400, "Request_BadRequest", "Unknown", Tenant),
        (applications::LIST, 429, "TooManyRequests", "Throttled", Tenant),
        (applications::LIST, 302, "", "Unknown", Tenant),
    ] {
        let error = situation(call, status, &json!({ "error": { "code": code, "message": "m" } }));
        assert_eq!((name(&error).as_str(), error.class()), (situation_name, class), "{status} {code}");
    }
}

#[test]
fn the_innermost_known_code_wins_in_either_spelling() {
    for (body, code) in [
        (json!({ "code": "badRequest", "innerError": { "code": "invalidRange", "request-id": "r" } }), "invalidRange"),
        (json!({ "code": "badRequest", "innererror": { "code": "ErrorAccessDenied" } }), "ErrorAccessDenied"),
        (
            json!({ "code": "generalException", "innerError": { "code": "x", "innererror": { "code": "ErrorItemNotFound" } } }),
            "ErrorItemNotFound",
        ),
        // The sample of the throttling article: the inner code is the status again.
        (json!({ "code": "TooManyRequests", "innerError": { "code": "429", "status": "429" } }), "TooManyRequests"),
        (json!({ "code": "SomethingNew", "innerError": { "code": "SomethingInner" } }), "SomethingNew"),
    ] {
        assert_eq!(read(send_mail::SEND, 400, &json!({ "error": body })).code, code, "{body}");
    }
}

#[test]
fn a_detail_may_say_more_than_its_code() {
    let error = situation(
        service_principals::CREATE,
        400,
        &json!({ "error": {
            "code": "Request_BadRequest",
            "message": "The appId 'x' of the service principal does not reference a valid application object.",
            "details": [{ "code": "NoBackingApplicationObject", "message": "m", "target": "appId" }],
            "innerError": { "date": "2021-05-27T14:26:47", "request-id": "r-1", "client-request-id": "c-1" },
        } }),
    );
    assert!(matches!(error, GraphError::NotReplicatedYet(_)), "{error:?}");
    assert!(error.is_transient() && error.may_be_replication_lag() && !error.may_have_taken_effect());
    let answer = error.answer().unwrap();
    assert_eq!(error.request_id(), Some("r-1"));
    assert_eq!(answer.date.unwrap().to_string(), "2021-05-27T14:26:47Z");
}

#[test]
fn whatever_a_gateway_answers_is_survived() {
    for body in ["", "<html>Bad gateway</html>", "[]", "\"error\"", r#"{"error":"text"}"#, r#"{"error":{"code":7}}"#] {
        let answer = Answer::read(
            send_mail::SEND,
            StatusCode::BAD_GATEWAY,
            &HeaderMap::new(),
            body.as_bytes(),
            CorrelationId::random(),
            is_known,
        );
        assert_eq!((answer.code.as_str(), answer.message.as_str()), ("", ""), "{body}");
        let error = of_answer(answer, None, None);
        assert!(error.may_have_taken_effect() && error.is_transient(), "{body}");
    }
}

#[test]
fn only_a_refusal_proves_that_nothing_happened() {
    for (status, doubt) in [(400, false), (401, false), (403, false), (404, false), (413, false), (429, false)]
        .into_iter()
        .chain([(200, true), (302, true), (500, true), (502, true), (503, true), (504, true)])
    {
        let error = situation(send_mail::SEND, status, &json!({}));
        assert_eq!(error.may_have_taken_effect(), doubt, "{status}");
    }
}

#[test]
fn every_situation_says_what_to_do() {
    use postkey_base::Diagnose;
    for (code, status) in CODES.iter().map(|(code, _)| (*code, 400)).chain([("", 404), ("", 500), ("", 302), ("", 200)])
    {
        let error = situation(send_mail::SEND, status, &json!({ "error": { "code": code, "message": "m" } }));
        let diagnosis = error.diagnosis();
        assert!(diagnosis.code.starts_with("graph.") && diagnosis.remedy.ends_with(['.', '>']), "{diagnosis:?}");
        assert!(diagnosis.why.is_some() && diagnosis.evidence.iter().any(|(name, _)| name == "client-request-id"));
    }
}
