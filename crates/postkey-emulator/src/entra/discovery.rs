//! The documents a client reads before it does anything: OpenID configuration, instance discovery, signing keys.

use serde_json::{Value, json};

use super::{LoginRequest, LoginResponse, Refusal, TenantKey};
use crate::world::World;

/// `GET /{tenant}/v2.0/.well-known/openid-configuration`, and the v1 document without `/v2.0`.
pub(super) fn configuration(world: &World, request: &LoginRequest, key: &str) -> LoginResponse {
    let tenant = match TenantKey::parse(world, key) {
        Ok(tenant) => tenant,
        Err(refusal) => return LoginResponse::refused(world, request, &refusal),
    };
    let v2 = request.path.get(1).is_some_and(|segment| segment == "v2.0");
    public(LoginResponse::json(200, &document(world, &request.origin, tenant, key, v2)))
}

fn document(world: &World, origin: &str, tenant: TenantKey, key: &str, v2: bool) -> Value {
    // A domain in the path is answered with the tenant's id, `common` and the like with themselves.
    let (path, issuer) = match tenant {
        TenantKey::One(id) => (id.to_string(), id.to_string()),
        _ => (key.to_ascii_lowercase(), "{tenantid}".to_owned()),
    };
    let graph_host = world.addresses.graph.trim_start_matches("https://");
    let graph = if origin.ends_with("microsoftonline.com") { "graph.microsoft.com" } else { graph_host };
    let oauth2 = if v2 { "oauth2/v2.0" } else { "oauth2" };
    let keys = if v2 { "discovery/v2.0/keys" } else { "discovery/keys" };
    let issuer = if v2 { format!("{origin}/{issuer}/v2.0") } else { format!("https://sts.windows.net/{issuer}/") };
    json!({
        "token_endpoint": format!("{origin}/{path}/{oauth2}/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": format!("{origin}/{path}/{keys}"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": issuer,
        "request_uri_parameter_supported": false,
        "userinfo_endpoint": format!("https://{graph}/oidc/userinfo"),
        "authorization_endpoint": format!("{origin}/{path}/{oauth2}/authorize"),
        "device_authorization_endpoint": format!("{origin}/{path}/{oauth2}/devicecode"),
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "end_session_endpoint": format!("{origin}/{path}/{oauth2}/logout"),
        "claims_supported": [
            "sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name", "msgraph_host",
            "aud", "exp", "iat", "auth_time", "acr", "nonce", "preferred_username", "name", "tid", "ver", "at_hash",
            "c_hash", "email"
        ],
        "tenant_region_scope": if matches!(tenant, TenantKey::One(_)) { json!("EU") } else { Value::Null },
        "cloud_instance_name": "microsoftonline.com",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": graph,
        "rbac_url": "https://pas.windows.net",
    })
}

/// `GET /{tenant}/discovery/v2.0/keys`.
pub(super) fn keys(world: &World, request: &LoginRequest, key: &str) -> LoginResponse {
    let issuer = match TenantKey::parse(world, key) {
        Ok(TenantKey::One(id)) => id.to_string(),
        Ok(_) => "{tenantid}".to_owned(),
        Err(refusal) => return LoginResponse::refused(world, request, &refusal),
    };
    let issuer = format!("{}/{issuer}/v2.0", request.origin);
    public(LoginResponse::json(200, &json!({"keys": world.keys.jwks(&issuer)})))
}

/// `GET /common/discovery/instance`: Microsoft's list, in which this private host does not stand.
pub(super) fn instance(world: &World, request: &LoginRequest) -> LoginResponse {
    let Some(asked) = request.parameter("authorization_endpoint") else {
        return LoginResponse::refused(world, request, &Refusal::missing("authorization_endpoint"));
    };
    let Some((host, path)) = asked.strip_prefix("https://").and_then(|rest| rest.split_once('/')) else {
        return LoginResponse::refused(world, request, &Refusal::unknown_instance());
    };
    let entry = |preferred: &str, cache: &str, aliases: &[&str]| json!({"preferred_network": preferred, "preferred_cache": cache, "aliases": aliases});
    let clouds = [
        entry(
            "login.microsoftonline.com",
            "login.windows.net",
            &["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"],
        ),
        entry(
            "login.partner.microsoftonline.cn",
            "login.partner.microsoftonline.cn",
            &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"],
        ),
        entry("login.microsoftonline.de", "login.microsoftonline.de", &["login.microsoftonline.de"]),
        entry(
            "login.microsoftonline.us",
            "login.microsoftonline.us",
            &["login.microsoftonline.us", "login.usgovcloudapi.net"],
        ),
        entry("login-us.microsoftonline.com", "login-us.microsoftonline.com", &["login-us.microsoftonline.com"]),
    ];
    let known = clouds
        .iter()
        .any(|cloud| cloud["aliases"].as_array().is_some_and(|names| names.iter().any(|name| name == host)));
    if !known {
        return LoginResponse::refused(world, request, &Refusal::unknown_instance());
    }
    let tenant = path.split('/').next().unwrap_or_default();
    let body = json!({
        "tenant_discovery_endpoint": format!("https://{host}/{tenant}/v2.0/.well-known/openid-configuration"),
        "api-version": request.parameter("api-version").unwrap_or("1.1"),
        "metadata": clouds,
    });
    public(LoginResponse::json(200, &body))
}

/// Contract 2.1: the headers of a discovery answer.
fn public(answer: LoginResponse) -> LoginResponse {
    answer
        .with("cache-control", "max-age=86400, private")
        .with("access-control-allow-origin", "*")
        .with("access-control-allow-methods", "GET, OPTIONS")
}
