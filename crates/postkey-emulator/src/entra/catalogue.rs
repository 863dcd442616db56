//! Every AADSTS answer the login host gives: number, HTTP status, `error`, `suberror` and text in one place.

use jiff::Timestamp;

use super::refusal::{Refusal, stamp};

impl Refusal {
    // The application's credential: contract 9.1.

    pub(crate) fn wrong_secret(app: &str) -> Self {
        Self::new(
            7000215,
            401,
            "invalid_client",
            format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{app}'."
            ),
        )
    }

    pub(crate) fn expired_secret(app: &str) -> Self {
        Self::new(
            7000222,
            401,
            "invalid_client",
            format!(
                "The provided client secret keys for app '{app}' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds."
            ),
        )
    }

    pub(crate) fn credential_missing() -> Self {
        Self::new(
            7000218,
            401,
            "invalid_client",
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        )
    }

    pub(crate) fn client_is_public() -> Self {
        Self::new(
            700025,
            401,
            "invalid_client",
            "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
        )
    }

    pub(crate) fn assertion_signature(app: &str, reason: &str) -> Self {
        Self::new(
            700027,
            401,
            "invalid_client",
            format!(
                "Client assertion contains an invalid signature. [Reason - {reason}, Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see configured keys for app Id '{app}'.]"
            ),
        )
    }

    pub(crate) fn assertion_time(now: Timestamp, from: Option<i64>, until: Option<i64>) -> Self {
        let say = |at: Option<i64>| {
            at.and_then(|at| Timestamp::from_second(at).ok()).map_or("?".to_owned(), |at| at.to_string())
        };
        Self::new(
            700024,
            401,
            "invalid_client",
            format!(
                "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {}, expiry time of assertion {}.",
                say(from),
                say(until)
            ),
        )
    }

    pub(crate) fn certificate_dates() -> Self {
        Self::new(
            1000502,
            401,
            "invalid_client",
            "The provided certificate is not within its specified validity period.",
        )
    }

    pub(crate) fn assertion_malformed(reason: &str) -> Self {
        Self::new(50027, 401, "invalid_client", format!("JWT token is invalid or malformed. {reason}"))
    }

    pub(crate) fn assertion_subject() -> Self {
        Self::new(
            50048,
            401,
            "invalid_client",
            "SubjectMismatchesIssuer - Subject mismatches Issuer claim in the client assertion.",
        )
    }

    // unverified: the contract names no number for a federated assertion that matches nothing.
    pub(crate) fn no_federated_credential(issuer: &str, subject: &str, audience: &str) -> Self {
        Self::new(
            70021,
            401,
            "invalid_client",
            format!(
                "No matching federated identity record found for presented assertion. Assertion Issuer: '{issuer}'. Assertion Subject: '{subject}'. Assertion Audience: '{audience}'."
            ),
        )
    }

    // Application, tenant, resource: contract 9.2.

    pub(crate) fn unknown_application(app: &str, tenant: &str) -> Self {
        Self::new(
            700016,
            400,
            "unauthorized_client",
            format!(
                "Application with identifier '{app}' was not found in the directory '{tenant}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."
            ),
        )
    }

    pub(crate) fn unknown_tenant(tenant: &str) -> Self {
        Self::new(
            90002,
            400,
            "invalid_tenant",
            format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant."
            ),
        )
    }

    pub(crate) fn malformed_tenant(tenant: &str) -> Self {
        Self::new(
            900023,
            400,
            "invalid_request",
            format!("Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid external domain."),
        )
    }

    pub(crate) fn unknown_instance() -> Self {
        Self::new(50049, 400, "invalid_instance", "Unknown or invalid instance.")
    }

    pub(crate) fn no_tenant_named() -> Self {
        Self::new(
            50059,
            400,
            "invalid_request",
            "No tenant-identifying information found in either the request or implied by any provided credentials.",
        )
    }

    pub(crate) fn not_multitenant(app: &str, name: &str, created: Timestamp) -> Self {
        Self::new(
            50194,
            400,
            "invalid_request",
            format!(
                "Application '{app}'({name}) isn't configured as a multitenant application. Usage of the /common endpoint isn't supported for such applications created after '{}'. Use a tenant-specific endpoint or configure the application to be multitenant.",
                stamp(created)
            ),
        )
    }

    pub(crate) fn not_over_consumers() -> Self {
        Self::new(
            9001023,
            400,
            "invalid_request",
            "The grant type isn't supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific endpoint.",
        )
    }

    pub(crate) fn application_disabled(app: &str, name: &str) -> Self {
        Self::new(7000112, 400, "unauthorized_client", format!("Application '{app}'({name}) is disabled."))
    }

    pub(crate) fn unknown_resource(resource: &str, tenant: &str) -> Self {
        Self::new(
            500011,
            400,
            "invalid_resource",
            format!(
                "The resource principal named {resource} was not found in the tenant named {tenant}. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant."
            ),
        )
    }

    pub(crate) fn not_assigned(app: &str, name: &str, resource: &str, resource_name: &str) -> Self {
        Self::new(
            501051,
            400,
            "invalid_grant",
            format!(
                "Application '{app}'({name}) is not assigned to a role for the application '{resource}'({resource_name})."
            ),
        )
    }

    pub(crate) fn scope_needs_default(scope: &str) -> Self {
        Self::new(
            1002012,
            400,
            "invalid_scope",
            format!(
                "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."
            ),
        )
    }

    pub(crate) fn bad_scope(scope: &str) -> Self {
        Self::new(
            70011,
            400,
            "invalid_scope",
            format!("The provided value for the input parameter 'scope' is not valid. The scope {scope} is not valid."),
        )
    }

    pub(crate) fn several_resources() -> Self {
        Self::new(
            700022,
            400,
            "invalid_request",
            "The provided value for the input parameter 'scope' isn't valid because it contains more than one resource.",
        )
    }

    pub(crate) fn resource_parameter() -> Self {
        Self::new(901002, 400, "invalid_request", "The 'resource' request parameter isn't supported.")
    }

    // Consent, redirect, sign-in: contract 9.3.

    pub(crate) fn no_consent(app: &str, name: &str) -> Self {
        Self::new(65001, 400, "invalid_grant", format!(
            "The user or administrator has not consented to use the application with ID '{app}' named '{name}'. Send an interactive authorization request for this user and resource."
        ))
        .suberror("consent_required")
    }

    pub(crate) fn consent_declined() -> Self {
        Self::new(65004, 400, "access_denied", "User declined to consent to access the app.")
    }

    pub(crate) fn admin_consent_declined() -> Self {
        Self::new(65004, 400, "consent_required", "The resource owner or authorization server denied the request.")
    }

    pub(crate) fn administrator_must_consent(name: &str) -> Self {
        Self::new(
            90094,
            400,
            "access_denied",
            format!(
                "AdminConsentRequired. {name} needs permission to access resources in your organization that only an admin can grant."
            ),
        )
    }

    pub(crate) fn redirect_mismatch(uri: &str, app: &str) -> Self {
        Self::new(
            50011,
            400,
            "invalid_client",
            format!(
                "The redirect URI '{uri}' specified in the request does not match the redirect URIs configured for the application '{app}'. Make sure the redirect URI sent in the request matches one added to your application in the Azure portal. Navigate to https://aka.ms/redirectUriMismatchError to learn more about how to fix this."
            ),
        )
    }

    pub(crate) fn no_redirect() -> Self {
        Self::new(900971, 400, "invalid_request", "No reply address provided.")
    }

    pub(crate) fn unknown_user(name: &str, tenant: &str) -> Self {
        Self::new(
            50034,
            400,
            "invalid_grant",
            format!(
                "The user account {name} does not exist in the {tenant} directory. To sign into this application, the account must be added to the directory."
            ),
        )
    }

    pub(crate) fn wrong_password() -> Self {
        Self::new(50126, 400, "invalid_grant", "Error validating credentials due to invalid username or password.")
    }

    // Codes and refresh tokens: contract 9.4.

    pub(crate) fn code_redeemed() -> Self {
        Self::new(
            54005,
            400,
            "invalid_grant",
            "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.",
        )
    }

    pub(crate) fn grant_expired() -> Self {
        Self::new(
            70008,
            400,
            "invalid_grant",
            "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource.",
        )
    }

    pub(crate) fn other_tenants_code() -> Self {
        Self::new(
            700005,
            400,
            "invalid_grant",
            "Provided Authorization Code is intended to use against other tenant, thus rejected. OAuth2 Authorization Code must be redeemed against same tenant it was acquired for.",
        )
    }

    pub(crate) fn verifier_mismatch() -> Self {
        Self::new(
            501481,
            400,
            "invalid_grant",
            "The Code_Verifier doesn't match the code_challenge supplied in the authorization request.",
        )
    }

    pub(crate) fn challenge_size() -> Self {
        Self::new(50147, 400, "invalid_request", "The size of the Code_Challenge parameter isn't valid.")
    }

    pub(crate) fn challenge_malformed() -> Self {
        Self::new(
            501491,
            400,
            "invalid_request",
            "InvalidCodeChallengeMethodInvalidSize - Invalid size of Code_Challenge parameter.",
        )
    }

    /// A code that this service never issued, or issued to another application.
    pub(crate) fn malformed_code() -> Self {
        Self::new(9002313, 400, "invalid_grant", "Invalid request. Request is malformed or invalid.")
    }

    pub(crate) fn invalid_grant() -> Self {
        Self::new(70000, 400, "invalid_grant", "InvalidGrant - authentication failed, the refresh token isn't valid.")
    }

    pub(crate) fn garbage_token() -> Self {
        Self::new(9002313, 400, "invalid_grant", "Invalid request. Request is malformed or invalid.")
            .suberror("bad_token")
    }

    pub(crate) fn idle_refresh(issued: Timestamp) -> Self {
        Self::new(
            700082,
            400,
            "invalid_grant",
            format!(
                "The refresh token has expired due to inactivity. The token was issued on {issued} and was inactive for 90.00:00:00."
            ),
        )
    }

    pub(crate) fn single_page_refresh(issued: Timestamp) -> Self {
        Self::new(
            700084,
            400,
            "invalid_grant",
            format!(
                "The refresh token was issued to a single page app (SPA), and therefore has a fixed, limited lifetime of 1.00:00:00, which can't be extended. It is now expired and a new sign in request must be sent by the SPA to the sign in page. The token was issued on {issued}."
            ),
        )
    }

    pub(crate) fn revoked(issued: Timestamp, valid_from: Timestamp) -> Self {
        Self::new(
            50173,
            400,
            "invalid_grant",
            format!(
                "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password. The grant was issued on '{issued}' and the TokensValidFrom date (before which tokens are not valid) for this user is '{valid_from}'."
            ),
        )
    }

    // Malformed requests, throttling: contract 9.5.

    pub(crate) fn missing(name: &str) -> Self {
        Self::new(
            900144,
            400,
            "invalid_request",
            format!("The request body must contain the following parameter: '{name}'."),
        )
    }

    pub(crate) fn malformed() -> Self {
        Self::new(9002313, 400, "invalid_request", "Invalid request. Request is malformed or invalid.")
    }

    pub(crate) fn invalid_field(name: &str) -> Self {
        Self::new(90023, 400, "invalid_request", format!("Invalid STS request. The value of '{name}' isn't valid."))
    }

    pub(crate) fn unsupported_grant(grant: &str) -> Self {
        Self::new(
            70003,
            400,
            "unsupported_grant_type",
            format!("The app requested an unsupported grant type '{grant}'."),
        )
    }

    pub(crate) fn unsupported_response_type(kind: &str) -> Self {
        Self::new(
            700054,
            400,
            "unsupported_response_type",
            format!("response_type '{kind}' isn't enabled for the application."),
        )
    }

    pub(crate) fn wrong_verb(valid: &str, received: &str) -> Self {
        Self::new(
            900561,
            400,
            "invalid_request",
            format!("The endpoint only accepts {valid} requests. Received a {received} request."),
        )
    }

    pub(crate) fn cross_origin_needed() -> Self {
        Self::new(
            9002327,
            400,
            "invalid_request",
            "Tokens issued for the 'Single-Page Application' client-type may only be redeemed via cross-origin requests.",
        )
    }

    pub(crate) fn cross_origin_refused() -> Self {
        Self::new(
            9002326,
            400,
            "invalid_request",
            "Cross-origin token redemption is permitted only for the 'Single-Page Application' client-type.",
        )
    }

    pub(crate) fn challenge_needed() -> Self {
        Self::new(
            9002325,
            400,
            "invalid_request",
            "Proof Key for Code Exchange is required for cross-origin authorization code redemption.",
        )
    }

    pub(crate) fn looping() -> Self {
        let mut refusal = Self::new(
            50196,
            429,
            "temporarily_unavailable",
            "The server terminated an operation because it encountered a client request loop (repeated identical requests of one application).",
        );
        refusal.retry_after = Some(60);
        refusal
    }

    // Device code: contract 5. The number beside `authorization_declined` and `expired_token` is unverified.

    pub(crate) fn device_pending() -> Self {
        Self::new(
            70016,
            400,
            "authorization_pending",
            "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
        )
    }

    pub(crate) fn device_declined() -> Self {
        Self::new(65004, 400, "authorization_declined", "User declined to consent to access the app.")
    }

    pub(crate) fn device_unknown() -> Self {
        Self::new(
            70018,
            400,
            "bad_verification_code",
            "Bad verification code. User entered a wrong user code or the device code isn't known.",
        )
    }

    pub(crate) fn device_expired() -> Self {
        Self::new(
            70020,
            400,
            "expired_token",
            "The provided value for the input parameter 'device_code' isn't valid: it has expired.",
        )
    }

    pub(crate) fn login_required() -> Self {
        Self::new(50058, 400, "login_required", "A silent sign-in request was sent but no user is signed in.")
    }

    pub(crate) fn interaction_required(app: &str, name: &str) -> Self {
        Self { error: "interaction_required", suberror: None, ..Self::no_consent(app, name) }
    }
}
