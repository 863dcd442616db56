//! The proof of possession that addKey and removeKey ask for: a short JWT signed by a certificate the object already has.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::errors::Refusal;
use crate::directory::KeyCredential;

/// Azure AD Graph, whose id the audience still is.
const AUDIENCE: &str = "00000002-0000-0000-c000-000000000000";
/// Longest life of a proof.
const LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// Clocks may differ by so much. (unverified for proofs; what the token endpoint grants)
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Refuses the proof unless one of `keys`, valid now, signed it for `object`.
pub(crate) fn check(proof: &str, object: Uuid, keys: &[KeyCredential], now: Timestamp) -> Result<(), Refusal> {
    let mut parts = proof.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    // The decoder refuses `=` padding, as the service does.
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
    let parse = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).map_err(|_| malformed());
    let (head, claims, signature) = (parse(decode(header)?)?, parse(decode(payload)?)?, decode(signature)?);

    let algorithm = match head["alg"].as_str() {
        Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
        Some("PS256") => &RSA_PSS_2048_8192_SHA256,
        _ => return Err(malformed()),
    };
    let signed = &proof.as_bytes()[..header.len() + 1 + payload.len()];
    let held = keys.iter().filter(|key| key.start <= now && now < key.end).any(|key| {
        X509Certificate::from_der(&key.certificate).is_ok_and(|(_, certificate)| {
            UnparsedPublicKey::new(algorithm, &certificate.public_key().subject_public_key.data)
                .verify(signed, &signature)
                .is_ok()
        })
    });
    if !held || !claims_hold(&claims, object, now) {
        return Err(malformed());
    }
    Ok(())
}

fn claims_hold(claims: &Value, object: Uuid, now: Timestamp) -> bool {
    let time = |name: &str| claims[name].as_f64().and_then(|seconds| Timestamp::from_second(seconds as i64).ok());
    let (Some(from), Some(until)) = (time("nbf"), time("exp")) else { return false };
    claims["aud"] == AUDIENCE
        && claims["iss"].as_str().is_some_and(|issuer| issuer.eq_ignore_ascii_case(&object.to_string()))
        && from < until
        && until.duration_since(from) <= LIFETIME
        && from <= now + SKEW
        && now < until
}

/// The documented code for a padded proof; for the other faults of a proof it is unverified.
fn malformed() -> Refusal {
    Refusal::new(401, "Authentication_MissingOrMalformed", "Access Token missing or malformed.")
}
