//! Client assertions (RFC 7523): a JWT signed by the key of a registered certificate, or one of a federated issuer.

use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;
use sha1::{Digest, Sha1};
use sha2::Sha256;
use uuid::Uuid;

use super::{
    LoginRequest,
    client::{Proof, keys_of, registration},
    refusal::Refusal,
};
use crate::world::World;

/// Seconds a client's clock may be off: commonly taken as five minutes. // unverified
const SKEW_SECONDS: i64 = 300;

/// base64 in either alphabet, padded or not: Microsoft's own clients differ in how they write thumbprints.
fn decode(text: &str) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    URL.decode(text).or_else(|_| STANDARD.decode(text)).ok()
}

struct Jwt<'a> {
    header: Value,
    claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        Some(Self {
            header: serde_json::from_slice(&decode(header)?).ok()?,
            claims: serde_json::from_slice(&decode(claims)?).ok()?,
            signed,
            signature: decode(signature)?,
        })
    }

    fn claim(&self, name: &str) -> &str {
        self.claims[name].as_str().unwrap_or_default()
    }

    /// Seconds: a number, a float, or either as a string, as Microsoft's own clients send them.
    fn seconds(&self, name: &str) -> Option<i64> {
        let value = &self.claims[name];
        let number = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
        // Seconds fit by far; a float far beyond saturates, which is out of range anyway.
        Some(number as i64)
    }

    fn algorithm(&self) -> Option<&'static RsaParameters> {
        match self.header["alg"].as_str()? {
            "RS256" => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            "PS256" => Some(&signature::RSA_PSS_2048_8192_SHA256),
            _ => None,
        }
    }

    fn check_time(&self, world: &World) -> Result<(), Refusal> {
        let now = world.clock.now();
        let (from, until) = (self.seconds("nbf"), self.seconds("exp"));
        let Some(end) = until else { return Err(Refusal::assertion_malformed("The 'exp' claim is missing.")) };
        if end.saturating_add(SKEW_SECONDS) <= now.as_second()
            || from.is_some_and(|from| from > now.as_second() + SKEW_SECONDS)
        {
            return Err(Refusal::assertion_time(now, from, until));
        }
        Ok(())
    }

    fn audiences(&self) -> Vec<&str> {
        match &self.claims["aud"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

/// Checks the assertion of `app_id` against its registered certificates or federated credentials.
pub(super) fn check(
    world: &mut World,
    request: &LoginRequest,
    tenant: Uuid,
    app_id: Uuid,
    text: &str,
) -> Result<Proof, Refusal> {
    let jwt = Jwt::parse(text).ok_or_else(|| Refusal::assertion_malformed("It is not a signed JWT."))?;
    let algorithm =
        jwt.algorithm().ok_or_else(|| Refusal::assertion_malformed("Its 'alg' is neither PS256 nor RS256."))?;
    let app = app_id.to_string();
    let ours = |name: &str| jwt.claim(name).eq_ignore_ascii_case(&app);
    let federated = jwt.claim("iss").contains("://");
    if federated {
        return check_federated(world, tenant, app_id, &jwt, algorithm);
    }
    if !ours("iss") || !ours("sub") {
        return Err(Refusal::assertion_subject());
    }
    check_certificate(world, request, tenant, app_id, &jwt, algorithm)
}

fn check_certificate(
    world: &mut World,
    request: &LoginRequest,
    tenant: Uuid,
    app_id: Uuid,
    jwt: &Jwt<'_>,
    algorithm: &'static RsaParameters,
) -> Result<Proof, Refusal> {
    let app = app_id.to_string();
    let thumbprint = |name: &str| jwt.header[name].as_str().and_then(decode);
    let (sha1, sha256) = (thumbprint("x5t"), thumbprint("x5t#S256"));
    let named = keys_of(world, tenant, app_id).into_iter().find(|key| {
        sha256.as_deref().map_or_else(
            || sha1.as_deref() == Some(&Sha1::digest(&key.certificate)[..]),
            |print| print == &Sha256::digest(&key.certificate)[..],
        )
    });
    let Some(key) = named else { return Err(Refusal::assertion_signature(&app, "The key was not found.")) };
    if !world.accepts_credential(key.accepted_from) {
        return Err(Refusal::assertion_signature(&app, "The key was not found."));
    }
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(&key.certificate) else {
        return Err(Refusal::assertion_signature(&app, "The registered certificate cannot be read."));
    };
    let public = &certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(algorithm, public.as_ref()).verify(jwt.signed.as_bytes(), &jwt.signature).map_err(|_| {
        Refusal::assertion_signature(&app, "The key was found, but use of the key to verify the signature failed.")
    })?;
    let now = world.clock.now();
    let validity = certificate.validity();
    if key.end <= now
        || key.start > now
        || validity.not_after.timestamp() <= now.as_second()
        || validity.not_before.timestamp() > now.as_second() + SKEW_SECONDS
    {
        return Err(Refusal::certificate_dates());
    }
    jwt.check_time(world)?;
    if !jwt.audiences().iter().any(|aud| request.is_token_url(aud)) {
        return Err(Refusal::assertion_malformed("Its 'aud' is not the token endpoint it was sent to."));
    }
    let thumbprint = hex::encode_upper(Sha1::digest(&key.certificate));
    Ok(Proof::Certificate { key_id: key.key_id, thumbprint })
}

/// A token of another issuer. Its signature is checked when the issuer is this emulator itself or its keys were
/// registered by the management API (`POST /issuers`); there is no network here to fetch others, so theirs are believed.
fn check_federated(
    world: &World,
    tenant: Uuid,
    app_id: Uuid,
    jwt: &Jwt<'_>,
    algorithm: &'static RsaParameters,
) -> Result<Proof, Refusal> {
    let (issuer, subject) = (jwt.claim("iss"), jwt.claim("sub"));
    let audiences = jwt.audiences();
    let credentials = registration(world, tenant, app_id).map(|app| &app.federated[..]).unwrap_or_default();
    let found = credentials.iter().find(|held| {
        held.issuer == issuer
            && held.subject == subject
            && held.audiences.iter().any(|aud| audiences.contains(&aud.as_str()))
    });
    let Some(found) = found else {
        return Err(Refusal::no_federated_credential(issuer, subject, audiences.first().unwrap_or(&"")));
    };
    let keys = if issuer.starts_with(&world.addresses.login) {
        Some(world.keys.jwks(issuer))
    } else {
        world.grants.federated_issuers.get(issuer).cloned()
    };
    let good = keys.is_none_or(|keys| keys.iter().any(|key| verifies(jwt, algorithm, key) == Some(true)));
    if !good {
        return Err(Refusal::assertion_signature(&app_id.to_string(), "The key was not found."));
    }
    jwt.check_time(world)?;
    Ok(Proof::Federated { id: found.id })
}

fn verifies(jwt: &Jwt<'_>, algorithm: &'static RsaParameters, key: &Value) -> Option<bool> {
    let (n, e) = (decode(key["n"].as_str()?)?, decode(key["e"].as_str()?)?);
    Some(RsaPublicKeyComponents { n, e }.verify(algorithm, jwt.signed.as_bytes(), &jwt.signature).is_ok())
}
