//! JWTs an app signs with its certificate: the client assertion of RFC 7523 and Graph's proof of possession.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use postkey_base::{AppObjectId, ClientAssertion, ClientId, ServicePrincipalId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::{
    certificate::{Certificate, Padding},
    credential::CredentialError,
};

/// Entra advises 5 to 10 minutes, and addKey takes no more than 10.
const LIFETIME_SECONDS: i64 = 600;
/// The audience of a proof of possession: the directory itself.
const DIRECTORY: &str = "00000002-0000-0000-c000-000000000000";

/// Padding and thumbprint header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
    let now = now.as_second();
    let payload = json!({
        "aud": audience.as_str(),
        "iss": client,
        "sub": client,
        "jti": Uuid::new_v4(),
        "nbf": now,
        "iat": now,
        "exp": now + LIFETIME_SECONDS,
    });
    signed(certificate, payload, style).await
}

/// Signs the `proof` that Graph's addKey and removeKey want, by a certificate already on the object and still valid.
/// Graph: application-rollkey-prooftoken.
///
/// # Errors
/// [`CredentialError::Signing`].
pub async fn proof_of_possession(
    certificate: &Certificate,
    issuer: ProofIssuer,
    now: Timestamp,
) -> Result<ClientAssertion, CredentialError> {
    let issuer = match issuer {
        ProofIssuer::App(id) => id.uuid(),
        ProofIssuer::ServicePrincipal(id) => id.uuid(),
    };
    let now = now.as_second();
    let payload = json!({ "aud": DIRECTORY, "iss": issuer, "nbf": now, "exp": now + LIFETIME_SECONDS });
    // The article names neither padding nor header; its samples sign by the older handlers, whose padding is PKCS #1. (unverified)
    signed(certificate, payload, AssertionStyle::Rs256).await
}

async fn signed(
    certificate: &Certificate,
    payload: Value,
    style: AssertionStyle,
) -> Result<ClientAssertion, CredentialError> {
    let certificate = certificate.clone();
    let failed = CredentialError::Signing { thumbprint: certificate.portal_thumbprint() };
    tokio::task::spawn_blocking(move || jwt(&certificate, &payload, style)).await.ok().flatten().ok_or(failed)
}

fn jwt(certificate: &Certificate, payload: &Value, style: AssertionStyle) -> Option<ClientAssertion> {
    let (header, padding) = match style {
        AssertionStyle::Ps256 => (
            json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": URL_SAFE_NO_PAD.encode(certificate.thumbprint_sha256()) }),
            Padding::Pss,
        ),
        AssertionStyle::Rs256 => (
            json!({ "alg": "RS256", "typ": "JWT", "x5t": URL_SAFE_NO_PAD.encode(certificate.thumbprint_sha1()) }),
            Padding::Pkcs1,
        ),
    };
    // No `=` anywhere: Graph refuses a padded proof.
    let mut token =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload.to_string()));
    let signature = certificate.sign(padding, token.as_bytes())?;
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Some(ClientAssertion::new(token))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use jsonwebtoken::{Algorithm, DecodingKey, Validation};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::certificate::KeySize;

    async fn certificate(now: Timestamp) -> Certificate {
        Certificate::generate("postkey", now, Duration::from_secs(86_400), KeySize::Rsa2048).await.unwrap()
    }

    fn decoded(certificate: &Certificate, token: &ClientAssertion, algorithm: Algorithm) -> (Value, Value) {
        let (_, parsed) = X509Certificate::from_der(certificate.der()).unwrap();
        let key = DecodingKey::from_rsa_der(parsed.public_key().subject_public_key.data.as_ref());
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims = HashSet::new();
        validation.validate_aud = false;
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Value>(token.expose(), &key, &validation).unwrap().claims;
        let header = token.expose().split('.').next().unwrap();
        (serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap(), claims)
    }

    #[tokio::test]
    async fn the_assertion_verifies_and_says_who_asks_whom() {
        let now: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        let certificate = certificate(now).await;
        let client = ClientId::random();
        let audience: Url = "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token".parse().unwrap();
        let mut ids = HashSet::new();
        for (style, algorithm, name, thumbprint) in [
            (
                AssertionStyle::Ps256,
                Algorithm::PS256,
                "x5t#S256",
                URL_SAFE_NO_PAD.encode(certificate.thumbprint_sha256()),
            ),
            (AssertionStyle::Rs256, Algorithm::RS256, "x5t", URL_SAFE_NO_PAD.encode(certificate.thumbprint_sha1())),
        ] {
            let token = client_assertion(&certificate, client, &audience, now, style).await.unwrap();
            let (header, claims) = decoded(&certificate, &token, algorithm);
            assert_eq!(header, json!({ "alg": format!("{algorithm:?}"), "typ": "JWT", name: thumbprint }));
            assert_eq!(claims["aud"], audience.as_str());
            assert_eq!((&claims["iss"], &claims["sub"]), (&json!(client), &json!(client)));
            assert_eq!(claims["nbf"], now.as_second());
            assert_eq!(claims["exp"], now.as_second() + 600);
            assert!(ids.insert(claims["jti"].as_str().unwrap().to_owned()), "jti is unique");
        }
    }

    #[tokio::test]
    async fn the_proof_names_the_object_not_the_client() {
        let now: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        let certificate = certificate(now).await;
        let object = AppObjectId::random();
        let proof = proof_of_possession(&certificate, ProofIssuer::App(object), now).await.unwrap();
        assert!(!proof.expose().contains('='));
        let (_, claims) = decoded(&certificate, &proof, Algorithm::RS256);
        assert_eq!(
            claims,
            json!({ "aud": DIRECTORY, "iss": object, "nbf": now.as_second(), "exp": now.as_second() + 600 })
        );
    }
}
