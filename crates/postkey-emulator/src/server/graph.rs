//! Graph's port: from HTTP to [`ApiRequest`], the bearer token, and the correlation headers of the answer.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answered, Arrived, Shared, login::retry_after, made, pairs, segments};
use crate::{
    exchange::limits,
    faults::Action,
    request::{ApiRequest, ApiResponse, Body, Caller},
    token::{self, Audience, TokenRefusal},
    world::World,
};

/// The operation's name, for faults and the journal.
pub(super) fn operation(arrived: &Arrived) -> String {
    let path = segments(&arrived.path);
    if crate::exchange::is_upload_path(&arrived.path) {
        return if arrived.method == http::Method::PUT { "upload.put" } else { "upload" }.to_owned();
    }
    match path.split_first() {
        Some((version, rest)) if is_version(version) => crate::graph::operation_name(&arrived.method, rest),
        Some((first, rest)) if first == "oidc" && rest == ["userinfo"] => "userinfo".to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// The tenant of the token that came along, for faults and the journal.
pub(super) fn tenant(world: &World, arrived: &Arrived) -> Option<Uuid> {
    token::validate(world, bearer(arrived)?, Audience::Graph).ok().map(|caller| caller.tenant)
}

/// A request that counts for its mailbox's concurrency limit as long as this lives.
pub(super) struct Busy<'a> {
    shared: &'a Shared,
    key: Option<(Uuid, Uuid)>,
}

impl<'a> Busy<'a> {
    pub(super) fn begin(shared: &'a Shared, arrived: &Arrived) -> Self {
        let mut world = shared.world();
        let key = bearer(arrived).and_then(|token| {
            let caller = token::validate(&world, token, Audience::Graph).ok()?;
            let path = segments(&arrived.path);
            crate::exchange::graph::throttle_key(&world, &caller, path.get(1..)?)
        });
        if let Some((app, mailbox)) = key {
            limits::begin(&mut world, app, mailbox);
        }
        Self { shared, key }
    }

    /// Whether it counts for a mailbox.
    pub(super) fn counts(&self) -> bool {
        self.key.is_some()
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some((app, mailbox)) = self.key {
            limits::end(&mut self.shared.world(), app, mailbox);
        }
    }
}

fn is_version(segment: &str) -> bool {
    segment == "v1.0" || segment == "beta"
}

fn bearer(arrived: &Arrived) -> Option<&str> {
    let (scheme, token) = arrived.headers.get("authorization")?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn client_request_id(arrived: &Arrived) -> String {
    let sent = arrived.headers.get("client-request-id").and_then(|value| value.to_str().ok());
    sent.map_or_else(|| arrived.request_id.to_string(), str::to_owned)
}

pub(super) fn answer(world: &mut World, arrived: &Arrived) -> Answered {
    let mut path = segments(&arrived.path);
    let upload = crate::exchange::is_upload_path(&arrived.path);
    let caller = match bearer(arrived) {
        // An upload URL carries its own authority, and tolerates a token it does not want.
        _ if upload => None,
        Some(token) => Some(token::validate(world, token, Audience::Graph)),
        None => Some(Err(TokenRefusal::Missing)),
    };
    let (caller, refusal) = match caller {
        None => (None, None),
        Some(Ok(caller)) => (Some(caller), None),
        Some(Err(refusal)) => (None, Some(refusal)),
    };
    let (app_id, tenant) = (caller.as_ref().map(|caller| caller.app_id), caller.as_ref().map(|caller| caller.tenant));
    let answered = |response| Answered { response, app_id, tenant, cut: false };
    if let Some(refusal) = refusal {
        return answered(unauthorized(world, arrived, refusal));
    }
    if path == ["oidc", "userinfo"]
        && let Some(caller) = &caller
    {
        return answered(user_info(world, arrived, caller));
    }
    let version = if upload { "v1.0".to_owned() } else { path.first().cloned().unwrap_or_default() };
    if !upload {
        if !is_version(&version) {
            let body = error(world, arrived, "BadRequest", "Invalid version.");
            return answered(finish(arrived, 400, Vec::new(), &Body::Json(body)));
        }
        path.remove(0);
    }
    let request = ApiRequest {
        method: arrived.method.clone(),
        version,
        path,
        query: pairs(arrived.query.as_bytes()),
        headers: arrived.headers.clone(),
        body: arrived.body.clone(),
        caller,
        origin: arrived.origin.clone(),
        request_id: arrived.request_id,
        client_request_id: client_request_id(arrived),
    };
    let ApiResponse { status, headers, body } =
        if upload { crate::exchange::handle_upload(world, &request) } else { crate::graph::handle(world, &request) };
    let cut = headers.iter().any(|(name, _)| *name == "x-emulator-drop");
    Answered { response: finish(arrived, status, headers, &body), app_id, tenant, cut }
}

fn finish(arrived: &Arrived, status: u16, mut headers: Vec<(&'static str, String)>, body: &Body) -> Response<Bytes> {
    headers.push(("request-id", arrived.request_id.to_string()));
    headers.push(("client-request-id", client_request_id(arrived)));
    headers.push(("strict-transport-security", "max-age=31536000".to_owned()));
    // Its presence is unverified; support asks for it.
    let diagnostic = json!({"ServerInfo": {"DataCenter": "Emulator", "Slice": "E", "Ring": "1", "ScaleUnit": "000", "RoleInstance": "EM000001"}});
    headers.push(("x-ms-ags-diagnostic", diagnostic.to_string()));
    let bytes = match body {
        Body::Empty => Bytes::new(),
        Body::Json(value) => {
            let kind =
                "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8";
            headers.push(("content-type", kind.to_owned()));
            Bytes::from(value.to_string())
        }
        Body::Raw { content_type, bytes } => {
            headers.push(("content-type", (*content_type).to_owned()));
            bytes.clone()
        }
    };
    made(status, &headers, bytes)
}

/// Contract: Graph's errors repeat the ids and the date, UTC without `Z`.
fn error(world: &World, arrived: &Arrived, code: &str, message: &str) -> Value {
    json!({"error": {
        "code": code,
        "message": message,
        "innerError": {
            "date": world.clock.now().strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            "request-id": arrived.request_id,
            "client-request-id": client_request_id(arrived),
        },
    }})
}

fn unauthorized(world: &World, arrived: &Arrived, refusal: TokenRefusal) -> Response<Bytes> {
    let challenge = "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", client_id=\"00000003-0000-0000-c000-000000000000\"";
    let headers = vec![("www-authenticate", challenge.to_owned())];
    let body = error(world, arrived, "InvalidAuthenticationToken", &refusal.to_string());
    finish(arrived, 401, headers, &Body::Json(body))
}

fn user_info(world: &World, arrived: &Arrived, caller: &Caller) -> Response<Bytes> {
    let user = world
        .tenant(caller.tenant)
        .zip(caller.user)
        .and_then(|(tenant, id)| tenant.directory.users.iter().find(|user| user.id == id));
    let Some(user) = user else { return unauthorized(world, arrived, TokenRefusal::Audience) };
    let body = json!({
        "sub": user.id,
        "name": user.display_name,
        "given_name": user.given_name,
        "family_name": user.surname,
        "email": user.user_principal_name,
        "picture": "https://graph.microsoft.com/v1.0/me/photo/$value",
    });
    finish(arrived, 200, Vec::new(), &Body::Json(body))
}

/// The answer of a fault.
pub(super) fn injected(world: &World, arrived: &Arrived, action: &Action) -> Response<Bytes> {
    let Action::Status { status, code, message, retry_after_seconds, retry_after_as_date, .. } = action else {
        return made::<&str>(500, &[], Bytes::new());
    };
    let (default_code, default_message) = match status {
        401 => ("InvalidAuthenticationToken", "Lifetime validation failed, the token is expired."),
        403 => ("Authorization_RequestDenied", "Insufficient privileges to complete the operation."),
        404 => ("Request_ResourceNotFound", "The resource does not exist."),
        409 => (
            "Directory_ConcurrencyViolation",
            "Error due to concurrent requests being made to the tenant. Please wait briefly and retry.",
        ),
        429 => ("TooManyRequests", "Please retry again later."),
        503 => ("serviceNotAvailable", "The service is unavailable."),
        504 => ("UnknownError", "The gateway timed out."),
        500.. => ("Service_InternalServerError", "The service failed."),
        _ => ("Request_BadRequest", "The request is invalid."),
    };
    let body =
        error(world, arrived, code.as_deref().unwrap_or(default_code), message.as_deref().unwrap_or(default_message));
    let mut headers = Vec::new();
    if let Some(seconds) = retry_after_seconds {
        headers.push(("retry-after", retry_after(world, *seconds, *retry_after_as_date)));
    }
    finish(arrived, *status, headers, &Body::Json(body))
}
