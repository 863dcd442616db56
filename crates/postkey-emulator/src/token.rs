//! Access tokens and ID tokens: the keys that sign them, how they are made, and how Graph and Exchange check them.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{self, KeyPair as _, RsaPublicKeyComponents},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use uuid::Uuid;

use crate::{
    directory::{EXCHANGE_APP_ID, GRAPH_APP_ID},
    request::Caller,
    world::World,
};

/// The keys tokens are signed with. The first signs; all are published, as several are active at once in reality.
pub struct SigningKeys {
    keys: Vec<SigningKey>,
    /// Claims of tokens whose signature was found good: a client shows the same one with every request.
    verified: Mutex<HashMap<String, Arc<Value>>>,
}

/// More than are in use at once; beyond it all are verified anew.
const VERIFIED_KEPT: usize = 4_096;

struct SigningKey {
    pair: KeyPair,
    /// Equal to `x5t`: base64url of the certificate's SHA-1.
    kid: String,
    certificate: Vec<u8>,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.kid)).finish()
    }
}

/// The machine could not make or use a key.
#[derive(Debug, thiserror::Error)]
#[error("making a token signing key failed: {0}")]
pub struct KeyError(String);

impl SigningKeys {
    /// Keys for a test that signs nothing: making real ones takes a moment.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { keys: Vec::new(), verified: Mutex::default() }
    }

    /// Two fresh keys.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        Ok(Self { keys: vec![SigningKey::generate()?, SigningKey::generate()?], verified: Mutex::default() })
    }

    /// The `keys` array of a JWKS whose keys carry this issuer.
    pub(crate) fn jwks(&self, issuer: &str) -> Vec<Value> {
        self.keys
            .iter()
            .map(|key| {
                let public = key.pair.public_key();
                json!({
                    "kty": "RSA",
                    "use": "sig",
                    "kid": key.kid,
                    "x5t": key.kid,
                    "n": URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
                    "e": URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
                    "x5c": [base64::engine::general_purpose::STANDARD.encode(&key.certificate)],
                    "issuer": issuer,
                })
            })
            .collect()
    }

    /// A JWT over `claims`, signed RS256. `x5t` goes into the header for v1.0 tokens only.
    pub(crate) fn sign(&self, claims: &Value, x5t: bool) -> String {
        let key = &self.keys[0];
        let mut header = json!({"typ": "JWT", "alg": "RS256", "kid": key.kid});
        if x5t {
            header["x5t"] = json!(key.kid);
        }
        let mut token =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signed = vec![0; key.pair.public_modulus_len()];
        key.pair
            .sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signed)
            .expect("a 2048-bit key of our own signs any message");
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signed));
        token
    }

    /// The claims of a JWT that one of these keys signed.
    pub(crate) fn verify(&self, token: &str) -> Option<Arc<Value>> {
        let verified = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = verified().get(token) {
            return Some(Arc::clone(claims));
        }
        let claims = Arc::new(self.verify_signature(token)?);
        let mut verified = verified();
        if verified.len() >= VERIFIED_KEPT {
            verified.clear();
        }
        verified.insert(token.to_owned(), Arc::clone(&claims));
        Some(claims)
    }

    fn verify_signature(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header["alg"] != "RS256" {
            return None;
        }
        let key = self.keys.iter().find(|key| header["kid"] == key.kid.as_str())?;
        let public = key.pair.public_key();
        RsaPublicKeyComponents {
            n: public.modulus().big_endian_without_leading_zero(),
            e: public.exponent().big_endian_without_leading_zero(),
        }
        .verify(&signature::RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?)
        .ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }
}

impl SigningKey {
    fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|cause| KeyError(cause.to_string()))?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|cause| KeyError(cause.to_string()))?;
        let for_certificate = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &rustls_pki_types::PrivatePkcs8KeyDer::from(der.as_ref()),
            &rcgen::PKCS_RSA_SHA256,
        )
        .map_err(|cause| KeyError(cause.to_string()))?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "accounts.accesscontrol.emulator");
        let certificate =
            params.self_signed(&for_certificate).map_err(|cause| KeyError(cause.to_string()))?.der().to_vec();
        Ok(Self { pair, kid: URL_SAFE_NO_PAD.encode(Sha1::digest(&certificate)), certificate })
    }
}

/// Which API a token must be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Microsoft Graph.
    Graph,
    /// Office 365 Exchange Online, for SMTP, IMAP and POP.
    Exchange,
}

impl Audience {
    /// Whether a token's `aud` names this API.
    fn covers(self, aud: &str) -> bool {
        let aud = aud.trim_end_matches('/');
        match self {
            Self::Graph => aud == "https://graph.microsoft.com" || aud == GRAPH_APP_ID.to_string(),
            Self::Exchange => {
                ["https://outlook.office365.com", "https://outlook.office.com"].contains(&aud)
                    || aud == EXCHANGE_APP_ID.to_string()
            }
        }
    }
}

/// Why a bearer token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// There is none.
    #[error("Access token is empty.")]
    Missing,
    /// Not a JWT, or not signed by this emulator.
    #[error("CompactToken parsing failed with error code: 80049217")]
    Malformed,
    /// Too old.
    #[error("Lifetime validation failed, the token is expired.")]
    Expired,
    /// Too young.
    #[error("Lifetime validation failed, the token is not yet valid.")]
    NotYetValid,
    /// For another API.
    #[error("Access token validation failure. Invalid audience.")]
    Audience,
    /// Of a tenant that does not exist.
    #[error("Invalid tenant.")]
    Tenant,
}

/// Seconds a token may lie ahead of the clock.
const SKEW_SECONDS: i64 = 300;

/// Checks a bearer token of an API and says whose it is. Reads nothing but the token: a permission taken away later stays
/// in it until it expires, as in reality.
pub fn validate(world: &World, token: &str, audience: Audience) -> Result<Caller, TokenRefusal> {
    if token.is_empty() {
        return Err(TokenRefusal::Missing);
    }
    let claims = world.keys.verify(token).ok_or(TokenRefusal::Malformed)?;
    if !claims["aud"].as_str().is_some_and(|aud| audience.covers(aud)) {
        return Err(TokenRefusal::Audience);
    }
    let now = world.clock.now().as_second();
    if claims["exp"].as_i64().is_none_or(|exp| exp <= now) {
        return Err(TokenRefusal::Expired);
    }
    if claims["nbf"].as_i64().is_none_or(|nbf| nbf > now + SKEW_SECONDS) {
        return Err(TokenRefusal::NotYetValid);
    }
    let uuid = |claim: &str| claims[claim].as_str().and_then(|text| Uuid::try_parse(text).ok());
    let tenant = uuid("tid").and_then(|id| world.tenant(id)).ok_or(TokenRefusal::Tenant)?;
    let app_id = uuid("appid").ok_or(TokenRefusal::Malformed)?;
    let oid = uuid("oid").ok_or(TokenRefusal::Malformed)?;
    let (user, service_principal) = if claims["idtyp"] == "app" {
        (None, oid)
    } else {
        let principal = tenant.directory.service_principal_by_app_id(app_id);
        (Some(oid), principal.map_or(Uuid::nil(), |principal| principal.id))
    };
    let roles: BTreeSet<String> =
        claims["roles"].as_array().into_iter().flatten().filter_map(|role| Some(role.as_str()?.to_owned())).collect();
    let scopes = claims["scp"].as_str().unwrap_or_default().split(' ').filter(|scope| !scope.is_empty());
    Ok(Caller {
        tenant: tenant.id,
        app_id,
        service_principal,
        user,
        scopes: scopes.map(str::to_owned).collect(),
        // App roles in a user's token are the user's own and open nothing in Graph.
        roles: if user.is_none() { roles } else { BTreeSet::new() },
    })
}
