//! What each failure of a call tells the person who meets it: code, next step, who must take it.

use std::time::Duration;

use postkey_base::{Diagnose, Who};

use crate::{answer::Answer, error::GraphError};

impl Diagnose for GraphError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "graph.not_found",
            Self::AccessDenied(_) => "graph.access_denied",
            Self::SendAsDenied(_) => "graph.send_as_denied",
            Self::MailboxMissing(_) => "graph.mailbox_missing",
            Self::MailboxFull(_) => "graph.mailbox_full",
            Self::SendingLimit(_) => "graph.sending_limit",
            Self::InvalidRecipients(_) => "graph.invalid_recipients",
            Self::InvalidMessage(_) => "graph.invalid_message",
            Self::TooLarge(_) => "graph.too_large",
            Self::OverRequestLimit { .. } => "graph.over_request_limit",
            Self::Conflict(_) => "graph.conflict",
            Self::Concurrency { .. } => "graph.concurrency",
            Self::PolicyForbidsCredential(_) => "graph.policy_forbids_credential",
            Self::DirectoryFull(_) => "graph.directory_full",
            Self::NotReplicatedYet(_) => "graph.not_replicated_yet",
            Self::Throttled { .. } => "graph.throttled",
            Self::HeldBack { .. } => "graph.held_back",
            Self::Unavailable { .. } => "graph.unavailable",
            Self::Unauthenticated { .. } => "graph.unauthenticated",
            Self::Token(cause) => cause.code(),
            Self::Network { cause, .. } => cause.code(),
            Self::UnexpectedSuccess(_) => "graph.unexpected_success",
            Self::Unreadable { .. } => "graph.unreadable",
            Self::Unknown(_) => "graph.unknown",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::NotFound(_) => "Check the id and the tenant; an object that was only just created appears within a \
                                  few minutes."
                .into(),
            Self::AccessDenied(answer) => access_denied_remedy(answer),
            Self::SendAsDenied(_) => "Send from the mailbox's own address, or let an Exchange administrator run: \
                                      Add-RecipientPermission <sender address> -AccessRights SendAs -Trustee <mailbox>"
                .into(),
            Self::MailboxMissing(_) => "Check the address. A user needs an Exchange Online licence, and a new mailbox \
                                        needs about 15 minutes; a group or an on-premises mailbox cannot send this way."
                .into(),
            Self::MailboxFull(_) => "Make room in the mailbox, its Sent Items first, or give it a larger quota.".into(),
            Self::SendingLimit(_) => "Wait until the mailbox's 24-hour window has room again, or spread the mail over \
                                      more mailboxes."
                .into(),
            Self::InvalidRecipients(_) => "Correct the recipients' addresses; there must be at least one.".into(),
            Self::InvalidMessage(_) => "Correct the message: its MIME structure, its base64, or custom headers (at \
                                        most five, names beginning with x-)."
                .into(),
            Self::TooLarge(_) => "Send it smaller, or let an Exchange administrator raise MaxSendSize of the mailbox."
                .into(),
            Self::OverRequestLimit { .. } => "Send it by SMTP, or grant Mail.ReadWrite so that it can go by draft and \
                                              upload session; else make it smaller."
                .into(),
            Self::Conflict(_) => "Read the object again and repeat the change, or remove what already has its name."
                .into(),
            Self::Concurrency { .. } => format!("Nothing was changed. Repeat it {}.", after(self.retry_after())),
            Self::PolicyForbidsCredential(_) => "Use a certificate or a shorter lifetime, or ask for an exemption from \
                                                 the tenant's application management policy."
                .into(),
            Self::DirectoryFull(_) => "Delete objects that nobody needs, the deleted ones too, or verify a domain of \
                                       the tenant to raise its quota."
                .into(),
            Self::NotReplicatedYet(_) => "Wait a minute and repeat it.".into(),
            Self::Throttled { .. } | Self::HeldBack { .. } => format!("Come again {}.", after(self.retry_after())),
            Self::Unavailable { .. } => {
                format!("Come again {}; https://status.cloud.microsoft tells of outages.", after(self.retry_after()))
            }
            Self::Unauthenticated { claims: Some(_), .. } => {
                "A Conditional Access policy wants more of this sign-in: exempt the app from it, or sign in again."
                    .into()
            }
            Self::Unauthenticated { .. } => "Check that tenant, cloud and Graph's address belong together, and this \
                                             machine's clock."
                .into(),
            Self::Token(cause) => cause.remedy(),
            Self::Network { cause, .. } => cause.remedy(),
            Self::UnexpectedSuccess(_) | Self::Unreadable { .. } => {
                "Check whether a proxy answers in Microsoft's place, and what the call left behind before you repeat it."
                    .into()
            }
            Self::Unknown(_) => "See what Graph says, and search Microsoft's documentation for its code; the ids below \
                                 are what its support asks for."
                .into(),
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::AccessDenied(answer) if answer.call.is_mail() => Who::ExchangeAdministrator,
            Self::AccessDenied(_) | Self::PolicyForbidsCredential(_) | Self::DirectoryFull(_) => {
                Who::TenantAdministrator
            }
            Self::Unauthenticated { claims: Some(_), .. } => Who::TenantAdministrator,
            Self::SendAsDenied(_) | Self::MailboxMissing(_) => Who::ExchangeAdministrator,
            Self::MailboxFull(_) => Who::User,
            Self::Concurrency { .. }
            | Self::NotReplicatedYet(_)
            | Self::Throttled { .. }
            | Self::HeldBack { .. }
            | Self::SendingLimit(_)
            | Self::Unavailable { .. } => Who::Wait,
            Self::Token(cause) => cause.who(),
            Self::Network { cause, .. } => cause.who(),
            Self::UnexpectedSuccess(_) | Self::Unreadable { .. } => Who::NetworkAdministrator,
            Self::NotFound(_)
            | Self::InvalidRecipients(_)
            | Self::InvalidMessage(_)
            | Self::TooLarge(_)
            | Self::OverRequestLimit { .. }
            | Self::Conflict(_)
            | Self::Unauthenticated { .. }
            | Self::Unknown(_) => Who::You,
        }
    }

    fn evidence(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Token(cause) => cause.evidence(),
            Self::Network { call, client_request_id, .. } | Self::Unreadable { call, client_request_id, .. } => {
                vec![("call", call.to_string()), ("client-request-id", client_request_id.to_string())]
            }
            Self::OverRequestLimit { call, .. } | Self::HeldBack { call, .. } => vec![("call", call.to_string())],
            _ => self.answer().map(Answer::evidence).unwrap_or_default(),
        }
    }
}

fn access_denied_remedy(answer: &Answer) -> String {
    let needed = match answer.call.permissions {
        [] => String::from("a permission for this call"),
        permissions => permissions.join(" and "),
    };
    if answer.call.is_mail() {
        format!(
            "Grant the app {needed} with admin consent, or bring the mailbox into the scope of its Exchange role. \
             Test-ServicePrincipalAuthorization -Identity <app> -Resource <mailbox> shows which is missing; a change \
             takes up to two hours."
        )
    } else {
        format!(
            "Whoever signed in needs {needed}, and must own the app or be a Cloud Application Administrator; a new \
             role takes up to 15 minutes."
        )
    }
}

fn after(wait: Option<Duration>) -> String {
    match wait.map(|wait| wait.as_secs()) {
        None => "in a minute".into(),
        Some(0) => "now".into(),
        Some(seconds) if seconds < 120 => format!("in {seconds} s"),
        Some(seconds) => format!("in {} min", seconds.div_ceil(60)),
    }
}
