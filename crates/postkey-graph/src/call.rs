//! Every request to Graph goes through here: token, correlation, deadline, pacing, what may be repeated and what not.

use std::time::{Duration, Instant};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use postkey_base::{AccessToken, CorrelationId};
use postkey_identity::NetworkError;
use reqwest::{
    Method, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE},
};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use crate::{
    answer::Answer,
    classify,
    error::{GraphError, Unreadable},
    graph::Graph,
    shape::{CallShape, Effect, Verb, encode_into},
    throttling,
};

/// Bytes that one request to the mail part of Graph may carry. The pages say 4 MB; the smaller reading is the safe one.
pub const REQUEST_LIMIT: u64 = 4_000_000;

/// Reads: a page of a thousand applications takes seconds; Graph's own gateway answers 504 before this.
const READ_DEADLINE: Duration = Duration::from_secs(60);
/// Writes to the directory and to drafts answer within seconds, too.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);
/// Calls that carry up to 4 MB, which a slow line needs more than half a minute for, before Exchange starts to think.
const SEND_DEADLINE: Duration = Duration::from_secs(120);
/// A whole message of the largest size over a line that uploads as slowly as above.
const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(600);
/// Bytes of a JSON answer: a page of a thousand applications with all their credentials is far below it.
const ANSWER_LIMIT: u64 = 64 * 1024 * 1024;
/// Bytes of an answer that nobody reads, or of an error; the rest is cut off.
const ASIDE_LIMIT: u64 = 64 * 1024;
/// Attempts of one call, however short the waits that the server asks for.
const MOST_ATTEMPTS: u32 = 10;
/// `client-request-id`, ours on every request.
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");

/// A request being put together.
pub(crate) struct Request<'a> {
    graph: &'a Graph,
    shape: CallShape,
    url: Url,
    mailbox: Option<String>,
    authorized: bool,
    headers: HeaderMap,
    body: Option<Bytes>,
    expected: &'static [u16],
    reads_body: bool,
    answer_limit: u64,
}

/// A success, as documented for the call.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) call: CallShape,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) client_request_id: CorrelationId,
    pub(crate) retry_after: Option<Duration>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(graph: &'a Graph, shape: CallShape, url: Url, mailbox: Option<String>) -> Self {
        Self {
            graph,
            shape,
            url,
            mailbox,
            authorized: true,
            headers: HeaderMap::new(),
            body: None,
            expected: &[200],
            reads_body: true,
            answer_limit: ANSWER_LIMIT,
        }
    }

    /// Without our token: the address carries an authorization of its own.
    pub(crate) fn unauthorized(mut self) -> Self {
        self.authorized = false;
        self
    }

    /// One query option. Blanks as %20: a plus sign is data to OData.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        let mut query = self.url.query().map_or_else(String::new, |query| format!("{query}&"));
        query.push_str(name);
        query.push('=');
        encode_into(&mut query, value);
        self.url.set_query(Some(&query));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn headers(mut self, headers: &HeaderMap) -> Self {
        self.headers.extend(headers.clone());
        self
    }

    pub(crate) fn json(self, body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body).expect("our own bodies have string keys and finite numbers");
        self.bytes("application/json", Bytes::from(bytes))
    }

    pub(crate) fn bytes(mut self, content_type: &'static str, bytes: Bytes) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.body = Some(bytes);
        self
    }

    /// The documented statuses of success; 200 unless told.
    pub(crate) fn expect(mut self, statuses: &'static [u16]) -> Self {
        self.expected = statuses;
        self
    }

    /// The answer's body is of no interest: a success is one even if its body breaks off.
    pub(crate) fn without_body(mut self) -> Self {
        self.reads_body = false;
        self
    }

    pub(crate) fn answer_limit(mut self, bytes: u64) -> Self {
        self.answer_limit = bytes;
        self
    }

    /// Taken apart for a list, which makes the same call for each of its pages.
    pub(crate) fn into_link(self) -> (CallShape, HeaderMap, Option<String>, String) {
        (self.shape, self.headers, self.mailbox, self.url.into())
    }

    /// Refuses a request that is larger than the mail part of Graph takes.
    fn within_limit(&self) -> Result<(), GraphError> {
        let size = self.body.as_ref().map_or(0, |body| body.len() as u64);
        if self.mailbox.is_some() && size > REQUEST_LIMIT {
            return Err(GraphError::OverRequestLimit { call: self.shape, size, limit: REQUEST_LIMIT });
        }
        Ok(())
    }

    /// Makes the call, repeating it as its effect and the patience of this Graph allow.
    pub(crate) async fn send(self) -> Result<Reply, GraphError> {
        self.within_limit()?;
        let inner = &self.graph.inner;
        let mut patience = inner.patience;
        let mut http = inner.http.clone();
        let mut in_doubt = false;
        for attempt in 0.. {
            let error = match self.attempt(&http).await {
                // An earlier attempt did it after all.
                Err(GraphError::NotFound(answer)) if in_doubt && self.shape.method == Verb::Delete => {
                    return Ok(Reply::gone(&answer));
                }
                Err(error) => error,
                Ok(reply) => return Ok(reply),
            };
            let Some(wait) = wait_before_retry(&error, self.shape.effect, attempt, patience, rand::random()) else {
                return Err(error);
            };
            tracing::debug!(call = %self.shape, attempt, wait_ms = wait.as_millis(), %error, "repeating a call to Graph");
            in_doubt |= error.may_have_taken_effect();
            if error.answer().is_some_and(|answer| answer.status == 503)
                && let Some(fresh) = inner.fresh.as_ref().and_then(|make| make())
            {
                http = fresh;
            }
            patience -= wait;
            inner.waiting.wait(wait).await;
        }
        unreachable!("attempts end before their numbers do")
    }

    /// One attempt; a refused token is disowned and replaced once.
    async fn attempt(&self, http: &reqwest::Client) -> Result<Reply, GraphError> {
        let token = self.token().await?;
        let error = match self.once(http, token.as_ref()).await {
            Err(error) => error,
            reply => return reply,
        };
        match (error, token) {
            (GraphError::Unauthenticated { claims, .. }, Some(token)) => {
                self.graph.inner.tokens.disown(&token, claims).await;
                let token = self.token().await?;
                let again = self.once(http, token.as_ref()).await;
                if let (Err(GraphError::Unauthenticated { claims, .. }), Some(token)) = (&again, &token) {
                    self.graph.inner.tokens.disown(token, claims.clone()).await;
                }
                again
            }
            (error, _) => Err(error),
        }
    }

    async fn token(&self) -> Result<Option<AccessToken>, GraphError> {
        if !self.authorized {
            return Ok(None);
        }
        self.graph.inner.tokens.token().await.map(Some).map_err(GraphError::Token)
    }

    async fn once(&self, http: &reqwest::Client, token: Option<&AccessToken>) -> Result<Reply, GraphError> {
        let inner = &self.graph.inner;
        let _turn = match &self.mailbox {
            Some(mailbox) => {
                let turn = inner.pacer.turn(mailbox, inner.waiting.now()).await;
                let bytes = self.body.as_ref().map_or(0, |body| body.len() as u64);
                let booked = inner.pacer.book(mailbox, bytes, inner.waiting.now());
                booked.map_err(|retry_after| GraphError::HeldBack { call: self.shape, retry_after })?;
                Some(turn)
            }
            None => None,
        };
        let client_request_id = CorrelationId::random();
        let deadline = self.deadline();
        let started = Instant::now();
        let response = self.build(http, token, client_request_id, deadline)?.send().await;
        let response = response.map_err(|error| self.broken(client_request_id, deadline, error))?;
        let reply = self.take(response, token, client_request_id, deadline).await;
        if let (Some(mailbox), Some(rest)) = (&self.mailbox, rest_of(&reply)) {
            inner.pacer.rest(mailbox, rest, inner.waiting.now());
        }
        tracing::debug!(
            call = %self.shape,
            client_request_id = %client_request_id,
            request_id = reply.as_ref().map_or_else(GraphError::request_id, Reply::request_id),
            status = reply.as_ref().map_or_else(|e| e.answer().map(|a| a.status), |r| Some(r.status.as_u16())),
            elapsed_ms = started.elapsed().as_millis(),
            "Graph answered"
        );
        reply
    }

    fn build(
        &self,
        http: &reqwest::Client,
        token: Option<&AccessToken>,
        client_request_id: CorrelationId,
        deadline: Duration,
    ) -> Result<reqwest::RequestBuilder, GraphError> {
        let method = match self.shape.method {
            Verb::Get => Method::GET,
            Verb::Post => Method::POST,
            Verb::Patch => Method::PATCH,
            Verb::Put => Method::PUT,
            Verb::Delete => Method::DELETE,
        };
        let id = HeaderValue::from_str(&client_request_id.to_string()).expect("a GUID is plain ASCII");
        let mut request = http.request(method, self.url.clone()).timeout(deadline).header(CLIENT_REQUEST_ID, id);
        if let Some(token) = token {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
            let mut bearer =
                bearer.map_err(|_| self.unreadable(client_request_id, Unreadable::Lacks("usable token")))?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        request = request.headers(self.headers.clone());
        Ok(match &self.body {
            Some(body) => request.body(body.clone()),
            // Exchange insists on a length even where there is nothing to measure.
            None if self.shape.method == Verb::Post => request.header(CONTENT_LENGTH, "0").body(""),
            None => request,
        })
    }

    /// Reads the answer and judges it.
    async fn take(
        &self,
        response: Response,
        token: Option<&AccessToken>,
        client_request_id: CorrelationId,
        deadline: Duration,
    ) -> Result<Reply, GraphError> {
        let (status, headers) = (response.status(), response.headers().clone());
        let retry_after = throttling::retry_after(&headers, self.graph.now());
        let expected = self.expected.contains(&status.as_u16());
        if !expected || !self.reads_body {
            let (body, _) = read(response, ASIDE_LIMIT).await;
            if expected {
                let body = Bytes::new();
                return Ok(Reply { call: self.shape, status, headers, body, client_request_id, retry_after });
            }
            // The address of an upload carries its authorization.
            let of_address = if self.authorized { None } else { self.url.query() };
            let secrets = token.map(AccessToken::expose).into_iter().chain(of_address);
            let body = postkey_base::secret::without(&body, secrets);
            let answer = Answer::read(self.shape, status, &headers, &body, client_request_id, classify::is_known);
            return Err(classify::of_answer(answer, retry_after, claims_challenge(&headers)));
        }
        let body = match read(response, self.answer_limit).await {
            (body, Ended::Whole) => body,
            (_, Ended::TooLong) => {
                return Err(self.unreadable(client_request_id, Unreadable::TooLong { limit: self.answer_limit }));
            }
            (_, Ended::Broken(error)) => return Err(self.broken(client_request_id, deadline, error)),
        };
        Ok(Reply { call: self.shape, status, headers, body, client_request_id, retry_after })
    }

    fn unreadable(&self, client_request_id: CorrelationId, cause: Unreadable) -> GraphError {
        GraphError::Unreadable { call: self.shape, client_request_id, cause }
    }

    fn broken(&self, client_request_id: CorrelationId, deadline: Duration, error: reqwest::Error) -> GraphError {
        // Only a failure to connect proves that nothing was sent.
        let may_have_arrived = !(error.is_connect() || error.is_builder());
        let host = self.url.host_str().unwrap_or_default();
        // The address of an upload carries its authorization.
        let cause = NetworkError::of_request(host, deadline, error.without_url());
        GraphError::Network { call: self.shape, client_request_id, may_have_arrived, cause }
    }

    fn deadline(&self) -> Duration {
        match self.shape.effect {
            Effect::Sends => SEND_DEADLINE,
            _ if self.body.as_ref().is_some_and(|body| body.len() > 64 * 1024) => SEND_DEADLINE,
            Effect::Reads if self.answer_limit > ANSWER_LIMIT => DOWNLOAD_DEADLINE,
            Effect::Reads => READ_DEADLINE,
            Effect::Settles | Effect::Adds => WRITE_DEADLINE,
        }
    }
}

impl Reply {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, GraphError> {
        serde_json::from_slice(&self.body).map_err(|error| self.unreadable(Unreadable::Json(error)))
    }

    pub(crate) fn unreadable(&self, cause: Unreadable) -> GraphError {
        GraphError::Unreadable { call: self.call, client_request_id: self.client_request_id, cause }
    }

    pub(crate) fn request_id(&self) -> Option<&str> {
        self.headers.get("request-id")?.to_str().ok()
    }

    fn gone(answer: &Answer) -> Self {
        Self {
            call: answer.call,
            status: StatusCode::NO_CONTENT,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            client_request_id: answer.client_request_id,
            retry_after: None,
        }
    }
}

/// How long a mailbox should be left alone after this answer, if at all.
fn rest_of(reply: &Result<Reply, GraphError>) -> Option<Duration> {
    match reply {
        Ok(reply) => reply.retry_after,
        Err(GraphError::Throttled { retry_after, .. }) => *retry_after,
        Err(_) => None,
    }
}

/// How long to wait before the call is made again; `None` when it must not be, or not within this patience. Pure.
fn wait_before_retry(
    error: &GraphError,
    effect: Effect,
    attempt: u32,
    patience: Duration,
    random: f64,
) -> Option<Duration> {
    let refused_for_now =
        matches!(error, GraphError::Throttled { .. } | GraphError::Concurrency { .. } | GraphError::HeldBack { .. });
    let repeatable = match effect {
        Effect::Sends => false,
        Effect::Adds => refused_for_now,
        Effect::Reads | Effect::Settles => match error {
            GraphError::Unavailable { answer, .. } => matches!(answer.status, 500 | 502..=504 | 509),
            GraphError::Network { cause, .. } => cause.is_transient(),
            _ => refused_for_now,
        },
    };
    let wait = error.retry_after().unwrap_or_else(|| throttling::backoff(attempt, random));
    (repeatable && attempt + 1 < MOST_ATTEMPTS && wait <= patience).then_some(wait)
}

/// The claims that an API asks for, decoded: `WWW-Authenticate: Bearer …, claims="<base64 JSON>"`.
fn claims_challenge(headers: &HeaderMap) -> Option<String> {
    headers.get_all(WWW_AUTHENTICATE).iter().find_map(|value| {
        let value = value.to_str().ok()?;
        // A name of its own, not the end of another one.
        let start = value
            .match_indices("claims=\"")
            .find(|(at, _)| *at == 0 || matches!(value.as_bytes()[at - 1], b' ' | b',' | b'\t'))?;
        let encoded = value[start.0 + "claims=\"".len()..].split('"').next()?;
        let claims = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
        serde_json::from_str::<serde_json::Value>(&claims).is_ok().then_some(claims)
    })
}

enum Ended {
    Whole,
    TooLong,
    Broken(reqwest::Error),
}

/// The body up to `limit` bytes, and how it ended.
async fn read(mut response: Response, limit: u64) -> (Bytes, Ended) {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(None) => return (body.freeze(), Ended::Whole),
            Ok(Some(chunk)) if (body.len() + chunk.len()) as u64 > limit => return (body.freeze(), Ended::TooLong),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Err(error) => return (body.freeze(), Ended::Broken(error)),
        }
    }
}

#[cfg(test)]
mod tests;
