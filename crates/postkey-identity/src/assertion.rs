//! JWTs an app signs with its certificate: the client assertion of RFC 7523 and Graph's proof of possession.

use jiff::Timestamp;
use postkey_base::{AppObjectId, ClientAssertion, ClientId, ServicePrincipalId};
use url::Url;

use crate::{certificate::Certificate, credential::CredentialError};

/// Padding and thumbprint header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AssertionStyle {
    /// PSS padding and `x5t#S256`: what the documentation asks for.
    #[default]
    Ps256,
    /// PKCS #1 v1.5 padding and `x5t`: what older clients send, still taken.
    Rs256,
}

/// Whose certificates `addKey` and `removeKey` change; its object id is the issuer of the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofIssuer {
    /// An app registration.
    App(AppObjectId),
    /// A service principal.
    ServicePrincipal(ServicePrincipalId),
}

/// Signs a client assertion for `audience`, the token URL as it will be called. Signing runs off the reactor.
///
/// # Errors
/// [`CredentialError::Signing`].
pub async fn client_assertion(
    certificate: &Certificate,
    client: ClientId,
    audience: &Url,
    now: Timestamp,
    style: AssertionStyle,
) -> Result<ClientAssertion, CredentialError> {
    let _ = (certificate, client, audience, now, style);
    unimplemented!()
}

/// Signs the `proof` that Graph's addKey and removeKey want, by a certificate already on the object and still valid.
///
/// # Errors
/// [`CredentialError::Signing`].
pub async fn proof_of_possession(
    certificate: &Certificate,
    issuer: ProofIssuer,
    now: Timestamp,
) -> Result<ClientAssertion, CredentialError> {
    let _ = (certificate, issuer, now);
    unimplemented!()
}
