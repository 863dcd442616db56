//! Refusals that a test asks for by their number: what stands against a sign-in, or against an application's credential.

use serde_json::json;

use super::refusal::Refusal;

impl Refusal {
    /// What a user's (or an app's) sign-in meets, by number; for tests.
    pub(crate) fn sign_in(code: u32, resource: &str) -> Self {
        match code {
            50053 => Self::new(50053, 400, "invalid_grant", "The account is locked, you've tried to sign in too many times with an incorrect user ID or password."),
            50055 => Self::new(50055, 400, "invalid_grant", "The password is expired.").suberror("user_password_expired"),
            50057 => Self::new(50057, 400, "invalid_grant", "The user account is disabled."),
            50076 => Self::new(50076, 400, "invalid_grant", format!(
                "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access '{resource}'."
            ))
            .suberror("basic_action"),
            50079 => Self::new(50079, 400, "invalid_grant", format!(
                "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multifactor authentication to access '{resource}'."
            ))
            .suberror("basic_action"),
            53003 => {
                let policies = json!({"access_token": {"capolids": {"essential": true, "values": ["7c8e3a0e-6d0f-4f47-8d3c-0f6a5f0c8a51"]}}});
                let mut refusal = Self::new(53003, 400, "invalid_grant", "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.")
                    .suberror("message_only");
                refusal.claims = Some(policies.to_string());
                refusal
            }
            50105 => Self::new(50105, 400, "invalid_grant", "Your administrator has configured the application to block users unless they are specifically granted ('assigned') access to the application."),
            90033 => Self::new(90033, 503, "temporarily_unavailable", "A transient error has occurred. Please try again."),
            other => by_number(other),
        }
    }
}

/// A number without conditions of its own: status and `error` as its kind has them, and what it means where that is known.
fn by_number(code: u32) -> Refusal {
    let (http, error, text) = match code {
        7000215 => (401, "invalid_client", "Invalid client secret provided."),
        7000222 => (401, "invalid_client", "The provided client secret keys for the app are expired."),
        7000218 => return Refusal::credential_missing(),
        700025 => return Refusal::client_is_public(),
        700027 => (401, "invalid_client", "Client assertion failed signature validation."),
        700024 => (401, "invalid_client", "Client assertion is not within its valid time range."),
        7000274 => (401, "invalid_client", "The client assertion contains an invalid signature."),
        7000214 | 7000277 => (401, "invalid_client", "The certificate has been revoked."),
        1000502 => return Refusal::certificate_dates(),
        700030 => (401, "invalid_client", "Invalid certificate - subject name in certificate isn't authorized."),
        50012 => (401, "invalid_client", "Authentication failed."),
        50027 | 50048 | 70002 => (401, "invalid_client", "The client's proof is invalid."),
        700016 => (400, "unauthorized_client", "The application was not found in the directory."),
        7000112 | 70001 => (400, "unauthorized_client", "The application is disabled."),
        500011 | 50001 | 650052 | 650054 | 650057 => (400, "invalid_resource", "The resource is not available."),
        90002 => (400, "invalid_tenant", "Tenant not found."),
        50049 => return Refusal::unknown_instance(),
        65001 => {
            return Refusal::new(65001, 400, "invalid_grant", "The user or administrator has not consented.")
                .suberror("consent_required");
        }
        50020 | 50034 | 50014 | 51004 => (400, "invalid_grant", "The account does not exist in the tenant."),
        50126 => return Refusal::wrong_password(),
        50072 | 50074 | 50078 => {
            return Refusal::new(code, 400, "invalid_grant", "Multifactor authentication is needed.")
                .suberror("basic_action"); // unverified: the suberror
        }
        53000 | 53001 => (400, "invalid_grant", "The device is not in the state that the policy asks for."),
        530032 | 530035 => (400, "invalid_grant", "Blocked by security policy."),
        50132 | 50133 => (400, "invalid_grant", "The session is not valid after a change of the password."),
        70043 => {
            (400, "invalid_grant", "The refresh token is expired by sign-in frequency checks of Conditional Access.")
        }
        50196 => return Refusal::looping(),
        90006 | 90012 | 90024 | 90055 | 50033 | 90090 => {
            (503, "temporarily_unavailable", "The service is temporarily unavailable.")
        }
        _ => (400, "invalid_grant", "The sign-in was refused."),
    };
    Refusal::new(code, http, error, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_brings_the_status_and_the_error_of_its_kind() {
        for (code, http, error, suberror) in [
            (7000215, 401, "invalid_client", None),
            (7000214, 401, "invalid_client", None),
            (1000502, 401, "invalid_client", None),
            (7000112, 400, "unauthorized_client", None),
            (650057, 400, "invalid_resource", None),
            (90002, 400, "invalid_tenant", None),
            (50076, 400, "invalid_grant", Some("basic_action")),
            (53003, 400, "invalid_grant", Some("message_only")),
            (65001, 400, "invalid_grant", Some("consent_required")),
            (70043, 400, "invalid_grant", None),
            (50196, 429, "temporarily_unavailable", None),
            (90033, 503, "temporarily_unavailable", None),
            (90024, 503, "temporarily_unavailable", None),
            (123456, 400, "invalid_grant", None),
        ] {
            let refusal = Refusal::sign_in(code, "resource");
            let got = (refusal.code, refusal.http, refusal.error, refusal.suberror);
            assert_eq!(got, (code, http, error, suberror));
        }
    }
}
