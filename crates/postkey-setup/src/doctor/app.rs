//! Tenant, app and tokens.

use postkey_base::{AccessToken, TenantId};
use postkey_identity::{AccessClaims, TenantRef, TokenEndpoint, TokenError};

use super::{Check, failure};

pub(super) const TENANT: (&str, &str) = ("tenant.exists", "the tenant exists in this cloud");
pub(super) const FOUND: (&str, &str) = ("app.found", "the tenant knows the app, and it is enabled");
pub(super) const GRAPH: (&str, &str) = ("token.graph", "Entra gives a token for Microsoft Graph");
pub(super) const MAIL: (&str, &str) = ("token.mail", "Entra gives a token for SMTP");

pub(super) async fn tenant(endpoint: &TokenEndpoint, tenant: TenantId) -> Check {
    let (name, title) = TENANT;
    match endpoint.tenant_id(&TenantRef::from(tenant)).await {
        Ok(_) => Check::passed(name, title),
        Err(error) => failure(name, title, &error),
    }
    .with("tenant", tenant)
    .with("cloud", endpoint.cloud().name)
}

/// What the attempt to get a token says about the app itself.
pub(super) fn found(answer: &Result<AccessToken, TokenError>) -> Check {
    let (name, title) = FOUND;
    match answer {
        Ok(_) => Check::passed(name, title),
        Err(error @ (TokenError::AppNotFound(_) | TokenError::AppDisabled(_) | TokenError::AppNotAllowed(_))) => {
            failure(name, title, error)
        }
        // Entra looks at a credential only once it has found the app.
        Err(error) if error.concerns_credential() && error.refusal().is_some() => Check::passed(name, title),
        Err(error) => Check::skipped(name, title, format!("Entra did not get that far: {error}")),
    }
}

/// The token, and what it shows. Microsoft calls tokens opaque: what is read here is shown, and decides nothing.
pub(super) fn token(
    (name, title): (&'static str, &'static str),
    answer: &Result<AccessToken, TokenError>,
    claims: Option<&AccessClaims>,
) -> Check {
    match answer {
        Ok(_) => {
            let check = Check::passed(name, title);
            match claims {
                None => check.with("roles", "the token is opaque"),
                Some(claims) if claims.roles.is_empty() => check.with("roles", "none"),
                Some(claims) => check.with("roles", claims.roles.join(" ")),
            }
        }
        Err(error) => failure(name, title, error),
    }
}
