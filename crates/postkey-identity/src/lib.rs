//! Tokens of the Microsoft identity platform: one file per grant, assertions, the cache, the AADSTS catalogue, clouds.
//! Knows nothing of the store and nothing of Graph's resources.

pub mod aadsts;
mod answer;
pub mod assertion;
pub mod authorization_code;
pub mod cache;
pub mod certificate;
pub mod claims;
mod client_credentials;
pub mod cloud;
pub mod credential;
pub mod device_code;
mod discovery;
pub mod endpoint;
pub mod error;
#[cfg(test)]
mod loopback;
pub mod network;
pub mod portal;
mod refresh_token;
pub mod refusal;
mod remedy;
pub mod scope;
pub mod source;
pub mod tenant;
#[cfg(test)]
mod tests;
pub mod token;
pub mod tunnel;

pub use assertion::{AssertionStyle, ProofIssuer, proof_of_possession};
pub use authorization_code::{AuthorizationCode, AuthorizationParameters, AuthorizationRequest, Prompt, RedirectUri};
pub use cache::{Freshness, TokenCache, TokenKey};
pub use certificate::{Certificate, CertificateError, KeySize};
pub use claims::AccessClaims;
pub use cloud::{Cloud, CloudError, CloudName, CustomCloud, HostPort};
pub use credential::{ClientCredential, CredentialError};
pub use device_code::DeviceCode;
pub use endpoint::TokenEndpoint;
pub use error::{Class, SignInReason, TokenError};
pub use network::{Network, NetworkError, ProxyUrl};
pub use portal::PortalPage;
pub use refusal::{Grant, Refusal, RequestContext};
pub use scope::Scope;
pub use source::{AppTokens, FixedToken, HeldCredential, TokenSource};
pub use tenant::TenantRef;
pub use token::Token;
