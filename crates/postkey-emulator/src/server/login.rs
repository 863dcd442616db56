//! The login host's port: from HTTP to [`crate::entra`] and back.

use bytes::Bytes;
use http::Response;
use uuid::Uuid;

use super::{Answered, Arrived, http_date, made, pairs, segments};
use crate::{
    entra::{self, LoginRequest, LoginResponse, Refusal},
    faults::Action,
    world::World,
};

fn request(arrived: &Arrived) -> LoginRequest {
    let header = |name: &str| arrived.headers.get(name).and_then(|value| value.to_str().ok());
    let form = header("content-type").is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    });
    let correlation = header("client-request-id").map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
    LoginRequest {
        method: arrived.method.clone(),
        path: segments(&arrived.path),
        query: pairs(arrived.query.as_bytes()),
        form: if form { pairs(&arrived.body) } else { Vec::new() },
        headers: arrived.headers.clone(),
        origin: arrived.origin.clone(),
        trace_id: arrived.request_id,
        correlation_id: correlation,
    }
}

pub(super) fn answer(world: &mut World, arrived: &Arrived) -> Answered {
    let request = request(arrived);
    let tenant = entra::tenant_of(world, &request.path);
    let answer = entra::handle(world, &request);
    let app_id = answer.app_id;
    Answered { response: response(&request, answer), app_id, tenant, cut: false }
}

fn response(request: &LoginRequest, answer: LoginResponse) -> Response<Bytes> {
    let mut headers = answer.headers;
    headers.push(("strict-transport-security", "max-age=31536000; includeSubDomains".to_owned()));
    headers.push(("x-content-type-options", "nosniff".to_owned()));
    headers.push(("x-ms-request-id", request.trace_id.to_string()));
    headers.push(("x-ms-ests-server", "2.1.00000.0 - emulator".to_owned()));
    if request.header("return-client-request-id").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        headers.push(("client-request-id", request.correlation_id.clone()));
    }
    made(answer.status, &headers, answer.body)
}

/// The answer of a fault.
pub(super) fn injected(world: &World, arrived: &Arrived, action: &Action) -> Response<Bytes> {
    let request = request(arrived);
    let Action::Status { status, code, aadsts, message, retry_after_seconds, retry_after_as_date } = action else {
        return made::<&str>(500, &[], Bytes::new());
    };
    let mut refusal = Refusal::injected(*status, code.as_deref(), *aadsts, message.as_deref());
    refusal.retry_after = None;
    let mut answer = LoginResponse::refused(world, &request, &refusal);
    if let Some(seconds) = retry_after_seconds {
        answer = answer.with("retry-after", retry_after(world, *seconds, *retry_after_as_date));
    }
    response(&request, answer)
}

/// `Retry-After` in one of its two forms.
pub(super) fn retry_after(world: &World, seconds: u32, as_date: bool) -> String {
    if as_date {
        http_date(world.clock.now() + jiff::SignedDuration::from_secs(seconds.into()))
    } else {
        seconds.to_string()
    }
}
