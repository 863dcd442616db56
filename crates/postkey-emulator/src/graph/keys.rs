//! Certificates: the whole collection by PATCH, one at a time by addKey and removeKey with a proof.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use uuid::Uuid;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    Call, application_json,
    credentials::{CredentialLimits, holder, moment, policy_for},
    errors::{Answer, Refusal, json_answer, no_content},
    odata, proof,
    shape::{self, Kind, Property, firm, open},
};
use crate::directory::KeyCredential;

const KEY: &[Property] = &[
    open("customKeyIdentifier", Kind::Text),
    open("displayName", Kind::Text),
    open("endDateTime", Kind::Moment),
    open("key", Kind::Binary),
    open("keyId", Kind::Guid),
    open("startDateTime", Kind::Moment),
    open("type", Kind::Text),
    open("usage", Kind::Text),
];

/// What `PATCH {"keyCredentials": entries}` leaves: the new collection. Entries without a key keep the known certificate.
pub(crate) fn replaced(
    kept: &[KeyCredential],
    entries: &Value,
    now: Timestamp,
    accepted_from: Timestamp,
    policy: Option<&CredentialLimits>,
) -> Result<Vec<KeyCredential>, Refusal> {
    let mut keys: Vec<KeyCredential> = Vec::new();
    for entry in entries.as_array().into_iter().flatten() {
        let Some(members) = entry.as_object() else { return Err(invalid("keyCredentials")) };
        shape::check(members, KEY, "KeyCredential")?;
        let known = entry["keyId"]
            .as_str()
            .and_then(|id| Uuid::try_parse(id).ok())
            .and_then(|id| kept.iter().find(|key| key.key_id == id));
        let key = match known {
            Some(known) if entry["key"].is_null() => {
                let mut key = known.clone();
                // The name may change; the certificate and its dates may not.
                if let Some(name) = entry["displayName"].as_str() {
                    key.display_name = Some(cut(name));
                }
                key
            }
            _ => made(entry, now, accepted_from, policy)?,
        };
        if keys.iter().any(|other| other.key_id == key.key_id) {
            return Err(Refusal::bad_request("Duplicate values are not allowed for property 'keyId'.")); // (unverified)
        }
        keys.push(key);
    }
    if keys.len() > application_json::ENTRIES {
        return Err(Refusal::new(
            400,
            "Directory_QuotaExceeded",
            "The size of the object has exceeded its limit. Please reduce the number of values and retry your request.",
        )); // (unverified)
    }
    Ok(keys)
}

/// A new certificate from its JSON. All wordings are unverified.
fn made(
    entry: &Value,
    now: Timestamp,
    accepted_from: Timestamp,
    policy: Option<&CredentialLimits>,
) -> Result<KeyCredential, Refusal> {
    let kind = entry["type"].as_str().ok_or_else(|| invalid("type"))?;
    let usage = entry["usage"].as_str().ok_or_else(|| invalid("usage"))?;
    match (kind, usage) {
        ("AsymmetricX509Cert", "Verify") => {}
        ("X509CertAndPassword", "Sign") | ("Symmetric", _) => {
            return Err(Refusal::bad_request(format!("Key credentials of type '{kind}' are not offered here."))); // the emulator's own limit
        }
        ("AsymmetricX509Cert" | "X509CertAndPassword", _) => return Err(invalid("usage")),
        _ => return Err(invalid("type")),
    }
    let der = entry["key"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok()).ok_or_else(|| invalid("key"))?;
    // A PEM file in base64 is a frequent mistake, and works on the service: its armour is taken off.
    let der = unarmoured(der);
    let (rest, certificate) = X509Certificate::from_der(&der).map_err(|_| invalid("key"))?;
    if !rest.is_empty() {
        return Err(invalid("key"));
    }
    let from = second(certificate.validity().not_before.timestamp());
    let until = second(certificate.validity().not_after.timestamp());
    let start = moment(&entry["startDateTime"]).unwrap_or(from);
    let end = moment(&entry["endDateTime"]).unwrap_or(until);
    if start < from || start >= end {
        return Err(invalid("startDateTime"));
    }
    if end > until || end <= now {
        return Err(invalid("endDateTime"));
    }
    if let Some(policy) = policy {
        policy.allow_certificate(start, end)?;
    }
    let custom = match entry["customKeyIdentifier"].as_str() {
        Some(text) => BASE64_STANDARD.decode(text).map_err(|_| invalid("customKeyIdentifier"))?,
        None => Sha1::digest(&der).to_vec(),
    };
    Ok(KeyCredential {
        key_id: entry["keyId"].as_str().and_then(|id| Uuid::try_parse(id).ok()).unwrap_or_else(Uuid::new_v4),
        display_name: entry["displayName"].as_str().map(cut).or_else(|| Some(cut(&certificate.subject().to_string()))),
        custom_key_identifier: custom,
        start,
        end,
        kind: kind.to_owned(),
        usage: usage.to_owned(),
        certificate: der,
        accepted_from,
    })
}

fn unarmoured(bytes: Vec<u8>) -> Vec<u8> {
    match x509_parser::pem::parse_x509_pem(&bytes) {
        Ok((_, pem)) if pem.label == "CERTIFICATE" => pem.contents,
        _ => bytes,
    }
}

fn second(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

fn invalid(name: &str) -> Refusal {
    Refusal::invalid_value(name, "KeyCredential")
}

/// Names longer than 90 characters are cut, not refused.
fn cut(name: &str) -> String {
    name.chars().take(90).collect()
}

/// A `keyCredential`; the certificate itself only for one object that was asked for it.
pub(crate) fn key_json(key: &KeyCredential, with_certificate: bool) -> Value {
    json!({
        "customKeyIdentifier": BASE64_STANDARD.encode(&key.custom_key_identifier),
        "displayName": key.display_name,
        "endDateTime": key.end,
        "key": with_certificate.then(|| BASE64_STANDARD.encode(&key.certificate)),
        "keyId": key.key_id,
        "startDateTime": key.start,
        "type": key.kind,
        "usage": key.usage,
    })
}

pub(crate) fn add_key(call: &mut Call<'_>) -> Answer {
    let holder = holder(call)?;
    let body = shape::body(call.request)?;
    shape::check(
        &body,
        &[
            firm("keyCredential", Kind::Object(KEY)),
            open("passwordCredential", Kind::Anything),
            firm("proof", Kind::Text),
        ],
        holder.name(),
    )?;
    let entry = body.get("keyCredential").ok_or_else(|| missing("keyCredential"))?;
    let proof = body.get("proof").and_then(Value::as_str).ok_or_else(|| missing("proof"))?;
    let id = holder.id(call);
    let now = call.now;
    proof::check(proof, id, holder.keys(call), now)?;
    let accepted_from = call.world.credential_accepted_from();
    let policy = policy_for(call, id);
    let key = made(entry, now, accepted_from, policy.as_ref())?;
    let mut item = key_json(&key, false);
    item["@odata.context"] = odata::metadata(call.request, "microsoft.graph.keyCredential").into();
    let keys = holder.keys(call);
    if keys.len() >= application_json::ENTRIES || keys.iter().any(|other| other.key_id == key.key_id) {
        return Err(invalid("keyId"));
    }
    keys.push(key);
    Ok(json_answer(200, item))
}

pub(crate) fn remove_key(call: &mut Call<'_>) -> Answer {
    let holder = holder(call)?;
    let body = shape::body(call.request)?;
    shape::check(&body, &[firm("keyId", Kind::Guid), firm("proof", Kind::Text)], holder.name())?;
    let proof = body.get("proof").and_then(Value::as_str).ok_or_else(|| missing("proof"))?;
    let key_id = body.get("keyId").and_then(Value::as_str).ok_or_else(|| missing("keyId"))?;
    let id = holder.id(call);
    let now = call.now;
    let keys = holder.keys(call);
    proof::check(proof, id, keys, now)?;
    let wanted = Uuid::try_parse(key_id).ok();
    let at = keys
        .iter()
        .position(|key| Some(key.key_id) == wanted)
        // Worded like the answer for passwords. (unverified)
        .ok_or_else(|| Refusal::bad_request(format!("No key credential found with keyId {key_id}.")))?;
    keys.remove(at);
    Ok(no_content())
}

/// (unverified wording)
fn missing(name: &str) -> Refusal {
    Refusal::bad_request(format!("A value is required for property '{name}'."))
}
