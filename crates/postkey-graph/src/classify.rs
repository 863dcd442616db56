//! From an answer to the situation it means: the code decides, and the status where no code is known. Pure.

use std::time::Duration;

use postkey_identity::{Class, TokenError};

use crate::{
    answer::Answer,
    error::{GraphError, OutcomeClass},
};

/// What a code means, before it is known where it was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    NotFound,
    UserUnknown,
    MailboxMissing,
    MailboxFull,
    SendingLimit,
    AccessDenied,
    SendAsDenied,
    InvalidRecipients,
    InvalidMessage,
    TooLarge,
    Conflict,
    Concurrency,
    PolicyForbidsCredential,
    DirectoryFull,
    NotReplicatedYet,
    Throttled,
    Unavailable,
    Unauthenticated,
    /// A code that is known and says no more than the status does.
    AsStatus,
}

/// Every code that we understand. Exchange's own come without a prefix, the directory's with `Request_` and the like.
const CODES: &[(&str, Meaning)] = &[
    ("Request_ResourceNotFound", Meaning::UserUnknown),
    ("ResourceNotFound", Meaning::UserUnknown),
    ("ErrorItemNotFound", Meaning::NotFound),
    ("MailboxNotEnabledForRESTAPI", Meaning::MailboxMissing),
    ("ErrorNonExistentMailbox", Meaning::MailboxMissing),
    ("ErrorInvalidUser", Meaning::MailboxMissing),
    ("ErrorQuotaExceeded", Meaning::MailboxFull),
    ("ErrorExceededMessageLimit", Meaning::SendingLimit),
    ("ErrorSubmissionQuotaExceeded", Meaning::SendingLimit),
    ("ErrorAccessDenied", Meaning::AccessDenied),
    ("Authorization_RequestDenied", Meaning::AccessDenied),
    ("ErrorSendAsDenied", Meaning::SendAsDenied),
    ("ErrorInvalidRecipients", Meaning::InvalidRecipients),
    ("ErrorMimeContentInvalidBase64String", Meaning::InvalidMessage),
    ("ErrorMimeContentInvalid", Meaning::InvalidMessage),
    ("InvalidInternetMessageHeader", Meaning::InvalidMessage),
    ("InvalidInternetMessageHeaderCollection", Meaning::InvalidMessage),
    ("ErrorMessageSizeExceeded", Meaning::TooLarge),
    ("ErrorFolderExists", Meaning::Conflict),
    ("ErrorIrresolvableConflict", Meaning::Conflict),
    ("Request_MultipleObjectsWithSameKeyValue", Meaning::Conflict),
    ("Directory_ConcurrencyViolation", Meaning::Concurrency),
    ("CredentialInvalidLifetimeAsPerAppPolicy", Meaning::PolicyForbidsCredential),
    ("CredentialTypeNotAllowedAsPerAppPolicy", Meaning::PolicyForbidsCredential),
    ("Directory_QuotaExceeded", Meaning::DirectoryFull),
    ("NoBackingApplicationObject", Meaning::NotReplicatedYet),
    ("TooManyRequests", Meaning::Throttled),
    ("ApplicationThrottled", Meaning::Throttled),
    ("ErrorServerBusy", Meaning::Unavailable),
    ("ErrorMailboxStoreUnavailable", Meaning::Unavailable),
    ("ErrorMailboxMoveInProgress", Meaning::Unavailable),
    ("ErrorMailboxFailover", Meaning::Unavailable),
    ("serviceNotAvailable", Meaning::Unavailable),
    ("ErrorInternalServerError", Meaning::Unavailable),
    ("ErrorInternalServerTransientError", Meaning::Unavailable),
    ("Service_InternalServerError", Meaning::Unavailable),
    ("InvalidAuthenticationToken", Meaning::Unauthenticated),
    ("insufficient_claims", Meaning::Unauthenticated),
    // A malformed proof of addKey answers so, too: only a 401 is about the token.
    ("Authentication_MissingOrMalformed", Meaning::AsStatus),
    ("invalidRange", Meaning::AsStatus),
    ("InefficientFilter", Meaning::AsStatus),
    ("Request_BadRequest", Meaning::AsStatus),
    ("Request_UnsupportedQuery", Meaning::AsStatus),
    ("ErrorInvalidIdMalformed", Meaning::AsStatus),
];

fn meaning(code: &str) -> Option<Meaning> {
    CODES.iter().find(|(known, _)| known.eq_ignore_ascii_case(code)).map(|(_, meaning)| *meaning)
}

/// Whether a code means something to us; tells [`Answer::read`] which of several to keep.
pub(crate) fn is_known(code: &str) -> bool {
    meaning(code).is_some()
}

/// The situation of an answer that was no success.
pub(crate) fn of_answer(answer: Answer, retry_after: Option<Duration>, claims: Option<String>) -> GraphError {
    let answer = Box::new(answer);
    // A detail may be more telling than the code it stands under.
    let detail = answer.details.iter().filter_map(|code| meaning(code)).find(|&meaning| meaning != Meaning::AsStatus);
    let meaning = detail.or_else(|| meaning(&answer.code)).unwrap_or(Meaning::AsStatus);
    match meaning {
        // Throttling comes under more than one code, and a 5xx never proves what its code says: the status leads.
        _ if answer.status == 429 => GraphError::Throttled { answer, retry_after },
        Meaning::MailboxFull => GraphError::MailboxFull(answer),
        _ if answer.status >= 500 => GraphError::Unavailable { answer, retry_after },
        Meaning::UserUnknown if answer.call.is_mail() => GraphError::MailboxMissing(answer),
        Meaning::NotFound | Meaning::UserUnknown => GraphError::NotFound(answer),
        Meaning::MailboxMissing => GraphError::MailboxMissing(answer),
        Meaning::SendingLimit => GraphError::SendingLimit(answer),
        Meaning::AccessDenied => GraphError::AccessDenied(answer),
        Meaning::SendAsDenied => GraphError::SendAsDenied(answer),
        Meaning::InvalidRecipients => GraphError::InvalidRecipients(answer),
        Meaning::InvalidMessage => GraphError::InvalidMessage(answer),
        Meaning::TooLarge => GraphError::TooLarge(answer),
        Meaning::Conflict => GraphError::Conflict(answer),
        Meaning::Concurrency => GraphError::Concurrency { answer, retry_after },
        Meaning::PolicyForbidsCredential => GraphError::PolicyForbidsCredential(answer),
        Meaning::DirectoryFull => GraphError::DirectoryFull(answer),
        Meaning::NotReplicatedYet => GraphError::NotReplicatedYet(answer),
        Meaning::Throttled => GraphError::Throttled { answer, retry_after },
        Meaning::Unavailable => GraphError::Unavailable { answer, retry_after },
        Meaning::Unauthenticated => GraphError::Unauthenticated { answer, claims },
        Meaning::AsStatus => match answer.status {
            200..300 => GraphError::UnexpectedSuccess(answer),
            401 => GraphError::Unauthenticated { answer, claims },
            403 => GraphError::AccessDenied(answer),
            404 => GraphError::NotFound(answer),
            409 | 412 => GraphError::Conflict(answer),
            413 => GraphError::TooLarge(answer),
            _ => GraphError::Unknown(answer),
        },
    }
}

/// A token that was not to be had, in the words of an outcome.
pub(crate) fn of_token(error: &TokenError) -> OutcomeClass {
    match error.class() {
        Class::App | Class::User => OutcomeClass::Credential,
        Class::Tenant => OutcomeClass::Tenant,
        Class::Network | Class::Wait => OutcomeClass::Network,
    }
}

#[cfg(test)]
mod tests;
