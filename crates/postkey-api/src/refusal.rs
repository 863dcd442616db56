//! Why this API refuses a request, with the HTTP status of each reason.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use postkey_base::{Diagnose, Diagnosis, Who};
use postkey_store::{Scope, StoreError};

use crate::problem::Problem;

/// A request that is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No `Authorization` header, or none we understand.
    #[error("the request carries no API key")]
    NoKey,
    /// The key lacks a scope.
    #[error("the API key {key:?} has no scope {}", .scope.word())]
    Scope {
        /// The key's name.
        key: String,
        /// The scope that the operation asks for.
        scope: Scope,
    },
    /// A key that sees everything cannot send: no rules, senders and quotas belong to it.
    #[error("the API key {key:?} is bound to no submitter, so it cannot send")]
    NoSubmitter {
        /// The key's name.
        key: String,
    },
    /// A key of one submitter may not touch what concerns others.
    #[error("the API key {key:?} is bound to the submitter {submitter:?} and may not change this")]
    Bound {
        /// The key's name.
        key: String,
        /// Its submitter's name.
        submitter: String,
    },
    /// The sender is not one of the submitter's.
    #[error("there is no sender {sender:?} that this API key may use")]
    SenderNotAllowed {
        /// What the request names.
        sender: String,
    },
    /// The `Host` header is not on the list: somebody's page may have been led here (DNS rebinding).
    #[error("this server does not answer for the host {host:?}")]
    Host {
        /// What the request names.
        host: String,
    },
    /// No such path.
    #[error("there is nothing at {path}")]
    NoSuchPath {
        /// The path.
        path: String,
    },
    /// The path has other methods.
    #[error("{path} cannot be asked with {method}")]
    Method {
        /// The method.
        method: String,
        /// The path.
        path: String,
    },
    /// A parameter of the query or the path, or a header, is not as the OpenAPI document says.
    #[error("{what}")]
    Parameter {
        /// Which and why.
        what: String,
    },
    /// The body is no JSON.
    #[error("the body is no valid JSON: {0}")]
    NotJson(String),
    /// The body is JSON but not what the OpenAPI document asks for.
    #[error("the body is not as this operation wants it: {0}")]
    Shape(String),
    /// Something else than JSON or a message.
    #[error("the content type {found:?} is not understood here")]
    ContentType {
        /// What the request names.
        found: String,
        /// What would be understood.
        wanted: &'static str,
    },
    /// The client takes no content type that we write.
    #[error("the answer cannot be written as {accept:?}")]
    NotAcceptable {
        /// The `Accept` header.
        accept: String,
        /// What we would write.
        offered: &'static str,
    },
    /// Larger than this submitter's sender can carry.
    #[error("the message has {size} bytes; this sender carries at most {most}")]
    MessageTooLarge {
        /// Its size; the `Content-Length` where the body was not read.
        size: u64,
        /// The limit.
        most: u64,
    },
    /// A body that is far larger than the operation needs.
    #[error("the body is larger than the {most} bytes that this operation takes")]
    BodyTooLarge {
        /// The limit.
        most: u64,
    },
    /// The body did not come in time.
    #[error("the body did not arrive within {seconds} s")]
    Slow {
        /// The deadline.
        seconds: u64,
    },
    /// The connection broke while the body was read.
    #[error("the body broke off")]
    Broken,
    /// Too many bytes are being taken in at once.
    #[error("too many large messages are being taken in at this moment")]
    Busy,
    /// A pause that would have ended before it began.
    #[error("the pause would end at {until}, and that is past")]
    Past {
        /// Its end.
        until: jiff::Timestamp,
    },
    /// The store did not answer in time.
    #[error("the store did not answer within {seconds} s")]
    StoreSlow {
        /// The deadline.
        seconds: u64,
    },
    /// No such message, or not the caller's.
    #[error("there is no message {id:?}")]
    NoSuchMessage {
        /// What the path says.
        id: String,
    },
    /// There is none of that name, or not for this caller.
    #[error("there is no {what} {name:?}")]
    NoSuchThing {
        /// Sender, submitter, tenant, pause.
        what: &'static str,
        /// What the request names.
        name: String,
    },
    /// The message's state does not allow the step.
    #[error("the message {id} is {state} and cannot be {step}")]
    WrongState {
        /// Which message.
        id: String,
        /// Its state.
        state: String,
        /// retried, cancelled, changed.
        step: &'static str,
    },
    /// Another room refused; it says why itself.
    #[error("{}", .0.diagnosis.what)]
    Passed(Box<Passed>),
}

/// A refusal of another room, with the status that fits it.
#[derive(Debug)]
pub struct Passed {
    /// The HTTP status.
    pub status: StatusCode,
    /// What, why, remedy, who.
    pub diagnosis: Diagnosis,
    /// Seconds after which it may work.
    pub retry_after: Option<u64>,
}

/// How long a client should wait when the store or the memory is short for a moment.
const SOON: u64 = 5;
/// How long when somebody must free disk space first.
const LATER: u64 = 60;

impl Refusal {
    /// A refusal of another room.
    pub fn passed(status: StatusCode, error: &dyn Diagnose, retry_after: Option<u64>) -> Self {
        Self::Passed(Box::new(Passed { status, diagnosis: error.diagnosis(), retry_after }))
    }

    /// What the message is made of cannot be sent. Where the other room speaks of options of the command line, the remedy is
    /// put in the words of this API.
    pub fn unprocessable(error: &dyn Diagnose) -> Self {
        let mut diagnosis = error.diagnosis();
        let remedy = match diagnosis.code.as_str() {
            "transport.no_recipient" => {
                "Name a recipient: in `to`, `cc` or `bcc`, in the query as `to`, or in a To, Cc or Bcc header."
            }
            "transport.bad_recipient" => "Correct that header, or name the recipients in the query as `to`.",
            "transport.not_a_message" => {
                "Send a whole message (header fields, an empty line, the body), or JSON as application/json."
            }
            _ => "",
        };
        if !remedy.is_empty() {
            diagnosis.remedy = remedy.to_owned();
        }
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::Passed(Box::new(Passed { status, diagnosis, retry_after: None }))
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoKey => StatusCode::UNAUTHORIZED,
            Self::Scope { .. } | Self::NoSubmitter { .. } | Self::Bound { .. } | Self::SenderNotAllowed { .. } => {
                StatusCode::FORBIDDEN
            }
            Self::Host { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::NoSuchPath { .. } | Self::NoSuchMessage { .. } | Self::NoSuchThing { .. } => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Parameter { .. } | Self::NotJson(_) | Self::Broken => StatusCode::BAD_REQUEST,
            Self::Shape(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::ContentType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAcceptable { .. } => StatusCode::NOT_ACCEPTABLE,
            Self::MessageTooLarge { .. } | Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Busy | Self::StoreSlow { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::WrongState { .. } | Self::Past { .. } => StatusCode::CONFLICT,
            Self::Passed(passed) => passed.status,
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy | Self::StoreSlow { .. } => Some(SOON),
            Self::Passed(passed) => passed.retry_after,
            _ => None,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let (status, retry_after) = store_status(&error);
        Self::passed(status, &error, retry_after)
    }
}

/// The status that fits what the store says.
pub(crate) fn store_status(error: &StoreError) -> (StatusCode, Option<u64>) {
    match error {
        StoreError::DiskFull { .. } | StoreError::DiskFailed { .. } => (StatusCode::INSUFFICIENT_STORAGE, Some(LATER)),
        StoreError::NotFound { .. } => (StatusCode::NOT_FOUND, None),
        StoreError::Exists { .. } | StoreError::Changed { .. } | StoreError::NotAllowed { .. } => {
            (StatusCode::CONFLICT, None)
        }
        StoreError::Row { .. } | StoreError::Sealed { .. } | StoreError::Query { .. } => {
            (StatusCode::INTERNAL_SERVER_ERROR, None)
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, Some(SOON)),
    }
}

impl Diagnose for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::NoKey => "api.no_key",
            Self::Scope { .. } => "api.scope_missing",
            Self::NoSubmitter { .. } => "api.no_submitter",
            Self::Bound { .. } => "api.bound_key",
            Self::SenderNotAllowed { .. } => "api.sender_not_allowed",
            Self::Host { .. } => "api.wrong_host",
            Self::NoSuchPath { .. } => "api.no_such_path",
            Self::Method { .. } => "api.method_not_allowed",
            Self::Parameter { .. } => "api.bad_parameter",
            Self::NotJson(_) => "api.bad_json",
            Self::Shape(_) => "api.bad_body",
            Self::ContentType { .. } => "api.content_type",
            Self::NotAcceptable { .. } => "api.not_acceptable",
            Self::MessageTooLarge { .. } => "api.message_too_large",
            Self::BodyTooLarge { .. } => "api.body_too_large",
            Self::Slow { .. } => "api.slow_body",
            Self::Broken => "api.broken_body",
            Self::Busy => "api.busy",
            Self::StoreSlow { .. } => "api.store_slow",
            Self::NoSuchMessage { .. } => "api.no_such_message",
            Self::NoSuchThing { .. } => "api.not_found",
            Self::WrongState { .. } => "api.wrong_state",
            Self::Past { .. } => "api.past",
            // The diagnosis that is shown has the other room's own code: see `problem`.
            Self::Passed(_) => "api.refused",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::NoKey => "Send the header `Authorization: Bearer KEY`; `postkey api-key add` makes a key.".into(),
            Self::Scope { scope, .. } => {
                format!("Use a key with the scope {0}: `postkey api-key add NAME --scope {0}`.", scope.word())
            }
            Self::NoSubmitter { .. } => {
                "Make a key for a submitter: `postkey api-key add NAME --submitter SUBMITTER --scope send`.".into()
            }
            Self::Bound { .. } => "Use a key that is bound to no submitter.".into(),
            Self::SenderNotAllowed { .. } => {
                "Name one of the submitter's senders, or none for its first; `postkey submitter show NAME` lists them."
                    .into()
            }
            Self::Host { host } => format!(
                "Ask by a name or address that the server listens on, or let it answer for {host:?}: `hosts` under \
                 [http] in postkey.toml."
            ),
            Self::NoSuchPath { .. } => "See /openapi.json for what there is.".into(),
            Self::Method { .. } => "See the `Allow` header for the methods there are.".into(),
            Self::Parameter { .. } | Self::NotJson(_) | Self::Shape(_) => {
                "Correct it; /openapi.json says what each operation takes.".into()
            }
            Self::ContentType { wanted, .. } => format!("Send it as {wanted}."),
            Self::NotAcceptable { offered, .. } => format!("Accept {offered}."),
            Self::MessageTooLarge { most, .. } => format!(
                "Send at most {most} bytes (attachments grow by a third in base64), for example a link instead of the \
                 file; or let its sender carry more: give its app Mail.ReadWrite, or SMTP.SendAsApp for the SMTP \
                 route, then run `postkey doctor`."
            ),
            Self::BodyTooLarge { .. } => "Send a smaller body.".into(),
            Self::Slow { .. } => "Send the body without pauses, or over a faster line.".into(),
            Self::Broken => "Send it again; with the same Idempotency-Key nothing goes out twice.".into(),
            Self::Busy => "Try again in a moment; with the same Idempotency-Key nothing goes out twice.".into(),
            Self::StoreSlow { .. } => "See what keeps the disk or the database busy.".into(),
            Self::NoSuchMessage { .. } => "Check the id; `GET /v1/outbox` lists the messages of this key.".into(),
            Self::NoSuchThing { .. } => "Check the name; the listings show what there is.".into(),
            Self::Past { .. } => "Give it an end to come, or none.".into(),
            Self::WrongState { .. } => "Look at it with `GET /v1/outbox/{id}`; its state has moved on.".into(),
            Self::Passed(passed) => passed.diagnosis.remedy.clone(),
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::Busy => Who::Wait,
            Self::StoreSlow { .. } => Who::NetworkAdministrator,
            Self::Passed(passed) => passed.diagnosis.who,
            _ => Who::You,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = refusal.status();
        match refusal {
            Refusal::Passed(passed) => Problem::new(status, passed.diagnosis),
            other => Problem::new(status, other.diagnosis()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status(), self.retry_after());
        let mut response = Problem::from(self).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750 §3
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"postkey\""));
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE) {
            // What is left of the body would be taken for the next request (RFC 9110 §15.5.9).
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
