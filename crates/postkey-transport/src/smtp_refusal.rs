//! What a refusal by Exchange Online's submission service means, and who can mend it. The words decide where one code
//! stands for several things.

use postkey_base::{Diagnose, EmailAddress, Who, powershell};
use postkey_graph::OutcomeClass;
use postkey_smtp::{RecipientOutcome, Reply, Stage};

/// A refusal, with what is needed to explain it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", what(*.meaning, .mailbox))]
pub struct SmtpRefusal {
    /// What it means.
    pub meaning: SmtpMeaning,
    /// The server.
    pub host: String,
    /// The mailbox that wanted to send.
    pub mailbox: EmailAddress,
    /// The command refused.
    pub stage: Stage,
    /// The server's words.
    pub reply: Reply,
    /// Recipients asked before.
    pub recipients: Vec<RecipientOutcome>,
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SmtpMeaning {
    /// SMTP AUTH is switched off for the organization.
    AuthDisabledForTenant,
    /// SMTP AUTH is switched off for the mailbox.
    AuthDisabledForMailbox,
    /// Another policy forbids the sign-in.
    PolicyForbidsAuth,
    /// The token, the app's registration in Exchange or its right on the mailbox does not hold.
    AuthUnsuccessful,
    /// MAIL without AUTH.
    NotAuthenticated,
    /// The mailbox may not send as this sender.
    SendAsDenied,
    /// More than three submissions of the mailbox at once.
    TooManyConnections,
    /// The same failure was repeated until Exchange stopped the mailbox: sending on makes it worse.
    StopSending,
    /// The mailbox is restricted for sending spam.
    RestrictedForSpam,
    /// The mailbox has used up what it may send.
    SendingLimit,
    /// The tenant has used up what it may send, or is restricted.
    TenantLimit,
    /// The mailbox is full.
    MailboxFull,
    /// The message is too large.
    TooLarge,
    /// A recipient is refused.
    Recipient,
    /// It may work later.
    Transient,
    /// Refused for a reason this version does not know.
    Unknown,
}

impl SmtpMeaning {
    /// Reads a refusal.
    pub fn of(stage: Stage, reply: &Reply) -> Self {
        let text = reply.text().to_ascii_lowercase();
        let says = |words: &str| text.contains(words);
        let enhanced = reply.enhanced().map(|code| (code.class, code.subject, code.detail));
        match enhanced {
            Some((_, 7, 139)) if says("disabled for the tenant") => Self::AuthDisabledForTenant,
            Some((_, 7, 139)) if says("disabled for the mailbox") => Self::AuthDisabledForMailbox,
            Some((_, 7, 139 | 30)) => Self::PolicyForbidsAuth,
            // The code of a single denial is also that of the stop that follows many: the words tell.
            _ if says("sendasdenied") => Self::SendAsDenied,
            Some((_, 7, 60)) => Self::SendAsDenied,
            Some((5, 2, 251..=255)) => Self::StopSending,
            Some((_, 7, 57)) => Self::NotAuthenticated,
            Some((5, 7, 3)) => Self::AuthUnsuccessful,
            Some((5, 1, 8)) => Self::RestrictedForSpam,
            Some((5, 1, 90)) => Self::SendingLimit,
            Some((5, 2, 2)) if says("submission quota") => Self::SendingLimit,
            Some((5, 2, 2)) => Self::MailboxFull,
            Some((5, 7, 233 | 705 | 750)) => Self::TenantLimit,
            Some((5, 3, 4) | (5, 2, 3)) => Self::TooLarge,
            Some((4, 3, 2)) if says("concurrent connection") || says("thread limit") => Self::TooManyConnections,
            _ if reply.code() == 432 => Self::TooManyConnections,
            _ if reply.is_transient() => Self::Transient,
            _ if reply.code() == 552 => Self::TooLarge,
            Some((5, 1, _)) => Self::Recipient,
            _ if stage == Stage::Rcpt => Self::Recipient,
            _ if stage == Stage::Auth && reply.code() == 535 => Self::AuthUnsuccessful,
            _ => Self::Unknown,
        }
    }

    /// Whether the same may well succeed later without anybody's doing.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::TooManyConnections | Self::Transient | Self::SendingLimit)
    }

    /// Whether nothing more may be sent from the mailbox until somebody has looked.
    pub fn stops_the_mailbox(self) -> bool {
        matches!(self, Self::StopSending | Self::RestrictedForSpam)
    }
}

impl SmtpRefusal {
    /// What it says about the message, the mailbox, the app, the tenant or the way there.
    pub fn class(&self) -> OutcomeClass {
        match self.meaning {
            SmtpMeaning::AuthDisabledForTenant | SmtpMeaning::TenantLimit => OutcomeClass::Tenant,
            SmtpMeaning::AuthDisabledForMailbox
            | SmtpMeaning::SendAsDenied
            | SmtpMeaning::TooManyConnections
            | SmtpMeaning::StopSending
            | SmtpMeaning::RestrictedForSpam
            | SmtpMeaning::SendingLimit
            | SmtpMeaning::MailboxFull => OutcomeClass::Mailbox,
            SmtpMeaning::PolicyForbidsAuth | SmtpMeaning::AuthUnsuccessful | SmtpMeaning::NotAuthenticated => {
                OutcomeClass::Credential
            }
            SmtpMeaning::TooLarge => OutcomeClass::Message,
            SmtpMeaning::Recipient => OutcomeClass::Recipient,
            SmtpMeaning::Transient => OutcomeClass::Network,
            SmtpMeaning::Unknown => match self.stage {
                Stage::Auth => OutcomeClass::Credential,
                Stage::Mail => OutcomeClass::Mailbox,
                Stage::Rcpt => OutcomeClass::Recipient,
                Stage::DataStart | Stage::Body | Stage::DataEnd => OutcomeClass::Message,
                Stage::Greeting | Stage::Ehlo | Stage::StartTls | Stage::Quit => OutcomeClass::Network,
            },
        }
    }
}

fn what(meaning: SmtpMeaning, mailbox: &EmailAddress) -> String {
    match meaning {
        SmtpMeaning::AuthDisabledForTenant => "SMTP AUTH is switched off for the whole organization".into(),
        SmtpMeaning::AuthDisabledForMailbox => format!("SMTP AUTH is switched off for {mailbox}"),
        SmtpMeaning::PolicyForbidsAuth => "a policy of the tenant forbids this sign-in by SMTP".into(),
        SmtpMeaning::AuthUnsuccessful => format!("Exchange Online does not let the app sign in to {mailbox} by SMTP"),
        SmtpMeaning::NotAuthenticated => "the SMTP session was not authenticated".into(),
        SmtpMeaning::SendAsDenied => format!("{mailbox} may not send as the message's sender"),
        SmtpMeaning::TooManyConnections => format!("{mailbox} has too many SMTP submissions at once"),
        SmtpMeaning::StopSending => format!("Exchange Online has stopped {mailbox} after repeated failures"),
        SmtpMeaning::RestrictedForSpam => format!("{mailbox} is restricted from sending: it was taken for a spammer"),
        SmtpMeaning::SendingLimit => format!("{mailbox} has reached its sending limit"),
        SmtpMeaning::TenantLimit => "the tenant has reached its sending limit or is restricted".into(),
        SmtpMeaning::MailboxFull => "a mailbox is full".into(),
        SmtpMeaning::TooLarge => "the message is too large for Exchange Online".into(),
        SmtpMeaning::Recipient => "Exchange Online does not accept the recipients".into(),
        SmtpMeaning::Transient => "Exchange Online cannot take the message now".into(),
        SmtpMeaning::Unknown => "Exchange Online refused the message".into(),
    }
}

impl Diagnose for SmtpRefusal {
    fn code(&self) -> &'static str {
        match self.meaning {
            SmtpMeaning::AuthDisabledForTenant => "smtp.auth_disabled_for_tenant",
            SmtpMeaning::AuthDisabledForMailbox => "smtp.auth_disabled_for_mailbox",
            SmtpMeaning::PolicyForbidsAuth => "smtp.policy_forbids_auth",
            SmtpMeaning::AuthUnsuccessful => "smtp.auth_unsuccessful",
            SmtpMeaning::NotAuthenticated => "smtp.not_authenticated",
            SmtpMeaning::SendAsDenied => "smtp.send_as_denied",
            SmtpMeaning::TooManyConnections => "smtp.too_many_connections",
            SmtpMeaning::StopSending => "smtp.stop_sending",
            SmtpMeaning::RestrictedForSpam => "smtp.restricted_for_spam",
            SmtpMeaning::SendingLimit => "smtp.sending_limit",
            SmtpMeaning::TenantLimit => "smtp.tenant_limit",
            SmtpMeaning::MailboxFull => "smtp.mailbox_full",
            SmtpMeaning::TooLarge => "smtp.too_large",
            SmtpMeaning::Recipient => "smtp.recipient",
            SmtpMeaning::Transient => "smtp.transient",
            SmtpMeaning::Unknown => "smtp.refused",
        }
    }

    fn why(&self) -> Option<String> {
        // Store errors carry kilobytes of diagnostic data.
        let said: String = self.reply.to_string().chars().take(300).collect();
        Some(format!("{} answered {} with: {said}", self.host, self.stage))
    }

    fn remedy(&self) -> String {
        let mailbox = powershell::word(self.mailbox.as_str());
        match self.meaning {
            SmtpMeaning::AuthDisabledForTenant => format!(
                "For this mailbox alone: Set-CASMailbox -Identity {mailbox} -SmtpClientAuthenticationDisabled $false. For all: \
                 Set-TransportConfig -SmtpClientAuthenticationDisabled $false. Both in Exchange Online PowerShell; or send \
                 by Graph, which needs neither."
            ),
            SmtpMeaning::AuthDisabledForMailbox => format!(
                "In Exchange Online PowerShell: Set-CASMailbox -Identity {mailbox} -SmtpClientAuthenticationDisabled $false; \
                 or send by Graph, which does not need it."
            ),
            SmtpMeaning::PolicyForbidsAuth => {
                "Look at the tenant's security defaults, authentication policies (Get-AuthenticationPolicy) and conditional \
                 access for SMTP; or send by Graph."
                    .into()
            }
            SmtpMeaning::AuthUnsuccessful => format!(
                "Register the app in Exchange (New-ServicePrincipal with the object id of the enterprise application, not of \
                 the app registration) and give it the mailbox (Add-MailboxPermission -Identity {mailbox} -User <service \
                 principal> -AccessRights FullAccess), or the role Application SMTP.SendAsApp without any Entra permission. \
                 `postkey doctor` shows which is missing."
            ),
            SmtpMeaning::NotAuthenticated => "Report it with the server's answer.".into(),
            SmtpMeaning::SendAsDenied => format!(
                "Send with {mailbox} in From, or in Exchange Online PowerShell: Add-RecipientPermission <sender address> \
                 -AccessRights SendAs -Trustee {mailbox}"
            ),
            SmtpMeaning::TooManyConnections => "Nothing: it is tried again. Exchange Online allows three at a time.".into(),
            SmtpMeaning::StopSending => {
                "Mend what the answer names before anything else is sent from this mailbox; each repetition prolongs the stop, \
                 and Microsoft's support cannot lift it."
                    .into()
            }
            SmtpMeaning::RestrictedForSpam => {
                "Find out what sent the spam, then remove the mailbox from Restricted entities in the Microsoft Defender portal."
                    .into()
            }
            SmtpMeaning::SendingLimit => "Wait until the 24-hour window has room again, or spread the mail over more \
                                          mailboxes."
                .into(),
            SmtpMeaning::TenantLimit => "Look at the tenant's sending limits and restrictions in the Exchange admin center.".into(),
            SmtpMeaning::MailboxFull => "Make room in the mailbox.".into(),
            SmtpMeaning::TooLarge => format!(
                "Send it smaller, or in Exchange Online PowerShell: Set-Mailbox {mailbox} -MaxSendSize <up to 150MB>."
            ),
            SmtpMeaning::Recipient => "Correct the recipients' addresses.".into(),
            SmtpMeaning::Transient => "Nothing: it may be tried again later.".into(),
            SmtpMeaning::Unknown => "Look the answer up by its code; if it helps nobody, report it.".into(),
        }
    }

    fn who(&self) -> Who {
        match self.meaning {
            SmtpMeaning::AuthDisabledForTenant
            | SmtpMeaning::AuthDisabledForMailbox
            | SmtpMeaning::AuthUnsuccessful
            | SmtpMeaning::SendAsDenied
            | SmtpMeaning::StopSending
            | SmtpMeaning::RestrictedForSpam
            | SmtpMeaning::TenantLimit => Who::ExchangeAdministrator,
            SmtpMeaning::PolicyForbidsAuth => Who::TenantAdministrator,
            SmtpMeaning::NotAuthenticated => Who::Postkey,
            SmtpMeaning::TooManyConnections | SmtpMeaning::SendingLimit | SmtpMeaning::Transient => Who::Wait,
            SmtpMeaning::MailboxFull => Who::User,
            SmtpMeaning::TooLarge | SmtpMeaning::Recipient | SmtpMeaning::Unknown => Who::You,
        }
    }

    fn evidence(&self) -> Vec<(&'static str, String)> {
        vec![("smtp_reply", self.reply.to_string().chars().take(1_000).collect())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Reply {
        let mut parser = postkey_smtp::ReplyParser::new();
        parser.feed(format!("{text}\r\n").as_bytes());
        parser.take().unwrap().unwrap()
    }

    #[test]
    fn every_documented_reply_has_its_meaning() {
        use OutcomeClass as C;
        use SmtpMeaning as M;
        for (stage, text, meaning, class) in [
            (
                Stage::Auth,
                "535 5.7.3 Authentication unsuccessful [SN2PR00CA0018.namprd00.prod.outlook.com]",
                M::AuthUnsuccessful,
                C::Credential,
            ),
            (
                Stage::Auth,
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit https://aka.ms/smtp_auth_disabled for more information.",
                M::AuthDisabledForMailbox,
                C::Mailbox,
            ),
            (
                Stage::Auth,
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information.",
                M::AuthDisabledForTenant,
                C::Tenant,
            ),
            (
                Stage::Auth,
                "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",
                M::PolicyForbidsAuth,
                C::Credential,
            ),
            (
                Stage::Auth,
                "550 5.7.30 Basic authentication is not supported for Client Submission.",
                M::PolicyForbidsAuth,
                C::Credential,
            ),
            (Stage::Mail, "530 5.7.57 Client not authenticated to send mail.", M::NotAuthenticated, C::Credential),
            (
                Stage::DataEnd,
                "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
                M::SendAsDenied,
                C::Mailbox,
            ),
            (
                Stage::DataEnd,
                "554 5.2.252 SendAsDenied; a@x.example not allowed to send as b@x.example; STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed",
                M::SendAsDenied,
                C::Mailbox,
            ),
            (
                Stage::DataEnd,
                "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed",
                M::SendAsDenied,
                C::Mailbox,
            ),
            (
                Stage::DataEnd,
                "554 5.2.0 STOREDRV.Submission.Exception:CorruptDataException; Failed",
                M::Unknown,
                C::Message,
            ),
            (
                Stage::Mail,
                "550 5.2.252 Sender throttled due to continuous send as denied errors.",
                M::StopSending,
                C::Mailbox,
            ),
            (
                Stage::Mail,
                "550 5.2.251 Sender throttled due to continuous mailbox full errors.",
                M::StopSending,
                C::Mailbox,
            ),
            (
                Stage::Mail,
                "550 5.2.255 Sender throttled due to continuous invalid recipients errors.",
                M::StopSending,
                C::Mailbox,
            ),
            (Stage::Auth, "432 4.3.2 Concurrent connections limit exceeded", M::TooManyConnections, C::Mailbox),
            (
                Stage::DataEnd,
                "450 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded",
                M::TooManyConnections,
                C::Mailbox,
            ),
            (Stage::Greeting, "421 4.3.2 Service not available", M::Transient, C::Network),
            (Stage::Mail, "451 4.7.0 Temporary server error. Please try again later.", M::Transient, C::Network),
            (Stage::DataEnd, "550 5.1.8 Bad outbound sender", M::RestrictedForSpam, C::Mailbox),
            (Stage::DataEnd, "552 5.3.4 Message size exceeds fixed maximum message size", M::TooLarge, C::Message),
            (Stage::Mail, "552 5.2.3 Message too large", M::TooLarge, C::Message),
            (Stage::DataEnd, "550 5.2.2 Submission quota exceeded", M::SendingLimit, C::Mailbox),
            (Stage::Rcpt, "501 5.1.3 Invalid address", M::Recipient, C::Recipient),
            (Stage::Rcpt, "550 5.1.10 Recipient not found", M::Recipient, C::Recipient),
            (Stage::Rcpt, "452 4.5.3 Too many recipients", M::Transient, C::Network),
            (Stage::Auth, "504 5.7.4 Unrecognized authentication type", M::Unknown, C::Credential),
        ] {
            let reply = reply(text);
            let refusal = SmtpRefusal {
                meaning: SmtpMeaning::of(stage, &reply),
                host: "smtp.office365.com".into(),
                mailbox: "a@x.example".parse().unwrap(),
                stage,
                reply,
                recipients: Vec::new(),
            };
            assert_eq!((refusal.meaning, refusal.class()), (meaning, class), "{text}");
            assert!(!refusal.remedy().is_empty() && refusal.why().unwrap().contains("smtp.office365.com"));
        }
    }

    #[test]
    fn the_switch_that_is_off_is_named_with_its_command() {
        let reply =
            reply("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.");
        let refusal = SmtpRefusal {
            meaning: SmtpMeaning::of(Stage::Auth, &reply),
            host: "smtp.office365.com".into(),
            mailbox: "noreply@contoso.example".parse().unwrap(),
            stage: Stage::Auth,
            reply,
            recipients: Vec::new(),
        };
        assert_eq!(refusal.to_string(), "SMTP AUTH is switched off for noreply@contoso.example");
        assert!(
            refusal
                .remedy()
                .contains("Set-CASMailbox -Identity noreply@contoso.example -SmtpClientAuthenticationDisabled $false")
        );
        assert_eq!(refusal.who(), Who::ExchangeAdministrator);
    }
}
