//! The tokens of an answer: what stands in them and how long they live.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::RngExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{client::Proof, grants::Scopes};
use crate::{
    directory::User,
    world::{World, random_text},
};

/// An access token and what the answer says about it.
pub(crate) struct Minted {
    pub(crate) token: String,
    pub(crate) expires_in: i64,
    pub(crate) unique_id: String,
}

/// Whose token it is.
pub(crate) struct Principal<'a> {
    pub(crate) tenant: Uuid,
    pub(crate) app_id: Uuid,
    pub(crate) app_name: &'a str,
    pub(crate) proof: &'a Proof,
}

/// Seconds an access token lives: 60 to 90 minutes, never the same twice.
fn lifetime(world: &mut World) -> i64 {
    world.chance.random_range(3600..5400)
}

fn common(world: &World, who: &Principal<'_>, audience: &str, expires_in: i64) -> (Value, String) {
    let now = world.clock.now().as_second();
    // Entra writes `nbf` five minutes early; `iat` never lies in the future.
    let issued = now - 300;
    let unique_id = random_text(22);
    let claims = json!({
        "aud": audience,
        "iss": format!("https://sts.windows.net/{}/", who.tenant),
        "iat": issued,
        "nbf": issued,
        "exp": now + expires_in,
        "aio": random_text(48),
        "app_displayname": who.app_name,
        "appid": who.app_id,
        "appidacr": who.proof.class(),
        "idp": format!("https://sts.windows.net/{}/", who.tenant),
        "rh": format!("1.{}.", random_text(52)),
        "tenant_region_scope": "EU",
        "tid": who.tenant,
        "uti": unique_id,
        "ver": "1.0",
        "xms_ftd": random_text(64),
        "xms_idrel": "1 24",
        "xms_tcdt": 1_622_540_000,
    });
    (claims, unique_id)
}

/// An app-only token: `roles`, no `scp`; `oid` = `sub` = the client's service principal.
pub(crate) fn app_token(
    world: &mut World,
    who: &Principal<'_>,
    audience: &str,
    service_principal: Uuid,
    roles: &[String],
) -> Minted {
    let expires_in = lifetime(world);
    let (mut claims, unique_id) = common(world, who, audience, expires_in);
    claims["idtyp"] = json!("app");
    claims["oid"] = json!(service_principal);
    claims["sub"] = json!(service_principal);
    claims["wids"] = json!(["0997a1d0-0d1d-4acb-b408-d5ca73121e90"]);
    if !roles.is_empty() {
        claims["roles"] = json!(roles);
    }
    finish(world, &claims, expires_in, unique_id)
}

/// A delegated token: `scp` as one string, the user's ids and names.
pub(crate) fn user_token(
    world: &mut World,
    who: &Principal<'_>,
    audience: &str,
    user: &User,
    scopes: &[String],
) -> Minted {
    let expires_in = lifetime(world);
    let (mut claims, unique_id) = common(world, who, audience, expires_in);
    let more = json!({
        "acct": 0,
        "acr": "1",
        "amr": ["pwd"],
        "idtyp": "user",
        "ipaddr": "127.0.0.1",
        "name": user.display_name,
        "oid": user.id,
        "platf": "8",
        "puid": random_text(16),
        "scp": scopes.join(" "),
        "sid": Uuid::new_v4(),
        "signin_state": ["kmsi"],
        "sub": pairwise(user.id, who.app_id),
        "unique_name": user.user_principal_name,
        "upn": user.user_principal_name,
        "wids": if user.administrator { json!(["62e90394-69f5-4237-9190-012177145e10", "b79fbf4d-3ef9-4689-8143-76b194e85509"]) } else { json!(["b79fbf4d-3ef9-4689-8143-76b194e85509"]) },
        "xms_st": {"sub": random_text(43)},
    });
    merge(&mut claims, more);
    if let Some(name) = &user.given_name {
        claims["given_name"] = json!(name);
    }
    if let Some(name) = &user.surname {
        claims["family_name"] = json!(name);
    }
    finish(world, &claims, expires_in, unique_id)
}

fn finish(world: &mut World, claims: &Value, expires_in: i64, unique_id: String) -> Minted {
    let token = world.keys.sign(claims, true);
    world.record_secret(&token);
    Minted { token, expires_in, unique_id }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// An ID token; with `code` from the authorize endpoint itself. The nonce is echoed exactly and never invented.
#[expect(clippy::too_many_arguments, reason = "each is a claim of its own")]
pub(crate) fn id_token(
    world: &mut World,
    origin: &str,
    tenant: Uuid,
    app_id: Uuid,
    user: &User,
    scopes: &Scopes,
    nonce: Option<&str>,
    code: Option<&str>,
) -> String {
    let now = world.clock.now().as_second();
    let mut claims = json!({
        "aud": app_id,
        "iss": format!("{origin}/{tenant}/v2.0"),
        "iat": now - 300,
        "nbf": now - 300,
        "exp": now + 3600,
        "aio": random_text(48),
        "oid": user.id,
        "rh": format!("1.{}.", random_text(52)),
        "sub": pairwise(user.id, app_id),
        "tid": tenant,
        "uti": random_text(22),
        "ver": "2.0",
    });
    if scopes.wants("profile") {
        claims["name"] = json!(user.display_name);
    }
    // Microsoft's clients read it whatever was asked for.
    claims["preferred_username"] = json!(user.user_principal_name);
    if scopes.wants("email") {
        claims["email"] = json!(user.user_principal_name);
    }
    if let Some(nonce) = nonce {
        claims["nonce"] = json!(nonce);
    }
    if let Some(code) = code {
        // OpenID Connect Core §3.3.2.11: the left half of the hash.
        claims["c_hash"] = json!(URL_SAFE_NO_PAD.encode(&Sha256::digest(code)[..16]));
    }
    let token = world.keys.sign(&claims, false);
    world.record_secret(&token);
    token
}

/// `sub` differs from app to app for the same user.
fn pairwise(user: Uuid, app_id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest([user.into_bytes(), app_id.into_bytes()].concat()))
}

/// base64url of `{"uid","utid"}`, what Microsoft's clients name an account by.
pub(crate) fn client_info(tenant: Uuid, user: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(json!({"uid": user, "utid": tenant}).to_string())
}
