//! What each [`TokenError`] tells the person who meets it: stable code, who must act, and the exact step with a link into
//! the right cloud's portal.

use jiff::SignedDuration;
use postkey_base::{Diagnose, Who};

use crate::{
    error::{SignInReason, TokenError},
    portal::PortalPage,
    refusal::{Grant, Refusal},
};

impl Diagnose for TokenError {
    fn code(&self) -> &'static str {
        match self {
            Self::SecretExpired { .. } => "identity.secret_expired",
            Self::SecretWrong { looks_like_id: true, .. } => "identity.secret_id_given",
            Self::SecretWrong { .. } => "identity.secret_wrong",
            Self::CredentialMissing(_) => "identity.credential_missing",
            Self::ClientIsPublic(_) => "identity.client_is_public",
            Self::CertificateUnknown(_) => "identity.certificate_unknown",
            Self::CertificateUnusable(_) => "identity.certificate_unusable",
            Self::AssertionTime { .. } => "identity.clock_skew",
            Self::CredentialRefused(_) => "identity.credential_refused",
            Self::AppNotFound(_) => "identity.app_not_found",
            Self::AppDisabled(_) => "identity.app_disabled",
            Self::AppNotAllowed(_) => "identity.app_not_allowed",
            Self::TenantNotFound(_) => "identity.tenant_not_found",
            Self::TenantRequired(_) => "identity.tenant_required",
            Self::WrongLoginHost(_) => "identity.wrong_login_host",
            Self::InvalidResource(_) => "identity.invalid_resource",
            Self::RoleRequired(_) => "identity.role_required",
            Self::InvalidScope(_) => "identity.invalid_scope",
            Self::ConsentMissing(_) => "identity.consent_missing",
            Self::AdminConsentRequired(_) => "identity.admin_consent_required",
            Self::ConsentDeclined(_) => "identity.consent_declined",
            Self::ConditionalAccess(_) => "identity.conditional_access",
            Self::NeedsSignIn { .. } => "identity.needs_sign_in",
            Self::AccountRefused(_) => "identity.account_refused",
            Self::RedirectMismatch(_) => "identity.redirect_mismatch",
            Self::RequestLoop(_) => "identity.request_loop",
            Self::MalformedRequest(_) => "identity.malformed_request",
            Self::Unclassified(_) => "identity.unknown_refusal",
            Self::DeviceCodeDeclined(_) => "identity.device_code_declined",
            Self::DeviceCodeExpired => "identity.device_code_expired",
            Self::Cancelled => "identity.cancelled",
            Self::Throttled { .. } => "identity.throttled",
            Self::Unavailable { .. } => "identity.unavailable",
            Self::Network(error) => error.code(),
            Self::UnexpectedAnswer { .. } => "identity.unexpected_answer",
            Self::IdTokenRejected { .. } => "identity.id_token_rejected",
            Self::StateMismatch => "identity.state_mismatch",
            Self::Credential(_) => "identity.credential_unusable",
            Self::FixedTokenEnded => "identity.sign_in_ended",
            Self::DisownedAgain => "identity.token_refused_again",
        }
    }

    fn why(&self) -> Option<String> {
        match self {
            Self::UnexpectedAnswer { problem, .. } => return Some((*problem).to_owned()),
            Self::Network(error) => {
                return Some(error.why().map_or_else(|| error.to_string(), |why| format!("{error}: {why}")));
            }
            Self::Credential(error) => {
                let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
                return Some(format!("{error}{}", cause.unwrap_or_default()));
            }
            _ => {}
        }
        // The catalogue's sentence is for people, Entra's own for whoever searches for it.
        let refusal = self.refusal()?;
        Some(match refusal.entry() {
            Some(entry) => format!("{} ({refusal})", entry.sentence),
            None => refusal.to_string(),
        })
    }

    fn remedy(&self) -> String {
        match self.refusal() {
            Some(refusal) => self.remedy_at(refusal),
            None => self.remedy_alone(),
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::SecretExpired { .. }
            | Self::SecretWrong { .. }
            | Self::CertificateUnknown(_)
            | Self::CertificateUnusable(_)
            | Self::CredentialRefused(_)
            | Self::ClientIsPublic(_)
            | Self::RedirectMismatch(_) => Who::AppOwner,
            Self::AppNotFound(_)
            | Self::TenantNotFound(_)
            | Self::TenantRequired(_)
            | Self::WrongLoginHost(_)
            | Self::InvalidScope(_)
            | Self::CredentialMissing(_)
            | Self::Credential(_)
            | Self::DeviceCodeExpired
            | Self::DeviceCodeDeclined(_)
            | Self::Cancelled
            | Self::StateMismatch
            | Self::FixedTokenEnded => Who::You,
            Self::AppDisabled(_)
            | Self::AppNotAllowed(_)
            | Self::InvalidResource(_)
            | Self::RoleRequired(_)
            | Self::AdminConsentRequired(_)
            | Self::ConditionalAccess(_)
            | Self::AccountRefused(_) => Who::TenantAdministrator,
            Self::AssertionTime { .. } | Self::UnexpectedAnswer { .. } => Who::NetworkAdministrator,
            Self::ConsentMissing(refusal) | Self::NeedsSignIn { refusal, .. } | Self::ConsentDeclined(refusal) => {
                match refusal.context.grant {
                    Grant::ClientCredentials => Who::TenantAdministrator,
                    _ => Who::User,
                }
            }
            Self::RequestLoop(_) | Self::Throttled { .. } | Self::Unavailable { .. } | Self::DisownedAgain => Who::Wait,
            Self::MalformedRequest(_) | Self::Unclassified(_) | Self::IdTokenRejected { .. } => Who::Postkey,
            Self::Network(error) => error.who(),
        }
    }

    fn evidence(&self) -> Vec<(&'static str, String)> {
        let Some(refusal) = self.refusal() else { return Vec::new() };
        let mut facts = vec![("error", refusal.error.clone())];
        if !refusal.codes.is_empty() {
            let codes: Vec<String> = refusal.codes.iter().map(|code| format!("AADSTS{code}")).collect();
            facts.push(("codes", codes.join(" ")));
        }
        let optional = [
            ("suberror", refusal.suberror.clone()),
            ("status", refusal.status.map(|status| status.to_string())),
            ("correlation id", refusal.correlation_id.map(|id| id.to_string())),
            ("trace id", refusal.trace_id.clone()),
            ("timestamp", refusal.timestamp.clone()),
            (
                "clock ahead by",
                refusal.skew.filter(|skew| is_notable(*skew)).map(|skew| format!("{} s", skew.as_secs())),
            ),
        ];
        facts.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
        facts
    }
}

impl TokenError {
    fn remedy_at(&self, refusal: &Refusal) -> String {
        let context = &refusal.context;
        let client = context.client;
        let go = |page: PortalPage| format!("{} ({})", page.path(), page.link(&context.cloud));
        let credentials = || go(PortalPage::Credentials(client));
        let consent = || {
            // Application permissions are granted by a `.default` scope only.
            let asked = context.scope.parse().ok().filter(|_| context.scope.ends_with("/.default"));
            let scope = asked.unwrap_or_else(|| context.cloud.graph_scope());
            context.cloud.admin_consent_url(&context.tenant, client, &scope, None, None)
        };
        match self {
            Self::SecretExpired { .. } => {
                format!("Make a new client secret under {} and give postkey its Value.", credentials())
            }
            Self::SecretWrong { looks_like_id: true, .. } => format!(
                "What was given is the Secret ID. The secret itself is in the column Value, and is shown only once: \
                 make a new client secret under {} and copy its Value.",
                credentials()
            ),
            Self::SecretWrong { .. } => format!(
                "A secret made less than a minute ago may not be known everywhere yet: wait and try again. Otherwise \
                 make a new client secret under {} and give postkey its Value, not its ID.",
                credentials()
            ),
            Self::CredentialMissing(_) if context.grant == Grant::DeviceCode => {
                format!("Switch on \"Allow public client flows\" under {}.", go(PortalPage::Authentication(client)))
            }
            Self::CredentialMissing(_) => {
                format!("Give postkey a client secret or a certificate of the app: {}.", credentials())
            }
            Self::ClientIsPublic(_) => format!(
                "Register the redirect URI under the platform Web instead of a public one: {}.",
                go(PortalPage::Authentication(client))
            ),
            Self::CertificateUnknown(_) => format!(
                "Upload the public certificate under {} and compare the thumbprints. A certificate uploaded less than a \
                 minute ago may not be known everywhere yet.",
                credentials()
            ),
            Self::CertificateUnusable(_) => format!("Make a new certificate and upload it under {}.", credentials()),
            Self::AssertionTime { skew, .. } => match skew.filter(|skew| is_notable(*skew)) {
                Some(skew) => format!(
                    "Set this machine's clock by NTP: it is {} by {} s (`timedatectl` shows it).",
                    if skew.is_positive() { "ahead" } else { "behind" },
                    skew.unsigned_abs().as_secs()
                ),
                None => "Set this machine's clock by NTP (`timedatectl` shows it) and try again.".to_owned(),
            },
            Self::CredentialRefused(_) => {
                format!("Compare the app's credentials under {} with postkey's.", credentials())
            }
            Self::AppNotFound(_) => format!(
                "Compare the Application (client) ID {client} and the Directory (tenant) ID with the app's page under {}. \
                 An app of another tenant must first be consented to: {}. An app made in the last minutes may need to wait.",
                go(PortalPage::AppRegistrations),
                consent()
            ),
            Self::AppDisabled(_) => format!("Enable the app again under {}.", go(PortalPage::EnterpriseApps)),
            Self::AppNotAllowed(_) => format!("Check what the app may do: {}.", go(PortalPage::AppOverview(client))),
            Self::TenantNotFound(_) => format!(
                "Compare the Directory (tenant) ID with {}, and check that the tenant belongs to the {} cloud.",
                go(PortalPage::TenantOverview),
                context.cloud.name
            ),
            Self::TenantRequired(_) => {
                format!("Use the Directory (tenant) ID or a domain of the tenant instead of {}.", context.tenant)
            }
            Self::WrongLoginHost(_) => {
                format!("Check the login host of the {} cloud in the settings.", context.cloud.name)
            }
            Self::InvalidResource(_) => format!(
                "Check that the API exists and is enabled in the tenant (Microsoft Graph, Office 365 Exchange Online) \
                 and that the app asks for it under {}.",
                go(PortalPage::ApiPermissions(client))
            ),
            Self::RoleRequired(_) => format!(
                "Add an application permission of that API and grant admin consent under {}.",
                go(PortalPage::ApiPermissions(client))
            ),
            Self::InvalidScope(_) => format!(
                "Ask for one API at a time: {} for Microsoft Graph, {} for Exchange Online.",
                context.cloud.graph_scope(),
                context.cloud.exchange_scope()
            ),
            Self::ConsentMissing(_) if context.grant != Grant::ClientCredentials => {
                format!("Sign in once more and accept, or let an administrator consent for all: {}.", consent())
            }
            Self::ConsentMissing(_) | Self::AdminConsentRequired(_) => format!(
                "An administrator of the tenant presses \"Grant admin consent\" under {}, or consents here: {}.",
                go(PortalPage::ApiPermissions(client)),
                consent()
            ),
            Self::ConsentDeclined(_) => {
                format!("Sign in again and accept, or let an administrator consent for all: {}.", consent())
            }
            Self::ConditionalAccess(_) => format!(
                "Exempt the app or the account from the policy that blocks it, or meet its conditions: {}.",
                go(PortalPage::ConditionalAccess)
            ),
            Self::NeedsSignIn { .. } if context.grant == Grant::ClientCredentials => format!(
                "Entra asks for a person where the app acts alone: look for a policy on workload identities under {}.",
                go(PortalPage::ConditionalAccess)
            ),
            Self::NeedsSignIn { reason, .. } => sign_in(*reason).to_owned(),
            Self::AccountRefused(_) => match refusal.entry() {
                Some(entry) => format!("{}.", entry.step),
                None => "Sign in with another account, or let an administrator look at this one.".to_owned(),
            },
            Self::RedirectMismatch(_) => format!(
                "Register exactly {} under the platform Web (upper and lower case count): {}.",
                context.redirect.as_deref().unwrap_or("the redirect URI"),
                go(PortalPage::Authentication(client))
            ),
            Self::RequestLoop(_) => "Wait a minute; nobody needs to sign in again.".to_owned(),
            Self::Throttled { retry_after, .. } => format!("Try again in {} s.", retry_after.as_secs().max(1)),
            Self::Unavailable { .. } => self.remedy_alone(),
            Self::MalformedRequest(_) | Self::Unclassified(_) => match refusal.entry() {
                Some(entry) if entry.who != Who::Postkey => format!("{}.", entry.step),
                _ => "Report this with the ids below; Entra's sentence says what it did not like.".to_owned(),
            },
            Self::DeviceCodeDeclined(_) => "Start the sign-in again.".to_owned(),
            _ => self.remedy_alone(),
        }
    }

    fn remedy_alone(&self) -> String {
        match self {
            Self::Network(error) => error.remedy(),
            Self::Credential(error) => match error {
                crate::CredentialError::FederatedFile { file, .. }
                | crate::CredentialError::FederatedShape { file } => {
                    format!(
                        "Let whoever issues the federated token write it to {}, readable by postkey.",
                        file.display()
                    )
                }
                crate::CredentialError::Signing { .. } => {
                    "Give postkey the certificate with its private key again.".to_owned()
                }
                crate::CredentialError::None => "Give postkey a credential of the app that has not ended.".to_owned(),
            },
            Self::UnexpectedAnswer { host, .. } => {
                format!("Look at who answers for {host}: a proxy's login page or a wrong host name looks like this.")
            }
            Self::Throttled { retry_after, .. } => format!("Try again in {} s.", retry_after.as_secs().max(1)),
            Self::Unavailable { retry_after, .. } => format!(
                "Try again {}; https://status.cloud.microsoft tells of outages.",
                retry_after.map_or_else(|| "in a minute".to_owned(), |wait| format!("in {} s", wait.as_secs().max(1)))
            ),
            Self::DisownedAgain => "Try again in a minute.".to_owned(),
            Self::IdTokenRejected { .. } => "Start the sign-in again; if it stays so, report it.".to_owned(),
            Self::FixedTokenEnded => "Run the command again: what was done already is not done twice.".to_owned(),
            _ => "Start the sign-in again.".to_owned(),
        }
    }
}

fn sign_in(reason: SignInReason) -> &'static str {
    match reason {
        SignInReason::MultiFactor => "Sign in again in a browser and pass the second factor.",
        SignInReason::CodeSpent => "Start the sign-in again, once, in one browser window.",
        SignInReason::TokenExpired => "Sign in again; an account that is used stays signed in.",
        SignInReason::TokenInvalid | SignInReason::Unspecified => "Sign in again.",
        SignInReason::Revoked => "Sign in again: the password was changed or the sessions were ended.",
        SignInReason::SignInFrequency => {
            "Sign in again. A policy of the tenant asks for this from time to time; an app with its own permission is free of it."
        }
        SignInReason::Password => "Sign in again with the right password, or renew it first.",
    }
}

/// Entra's tolerance is commonly taken as five minutes (unverified); from one minute on it is worth saying.
fn is_notable(skew: SignedDuration) -> bool {
    skew.unsigned_abs().as_secs() >= 60
}
