//! One request to the login host and its classified answer; the grants are built on it, one file each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use postkey_base::{ClientId, Clock, CorrelationId};
use url::Url;
use zeroize::Zeroizing;

use crate::{
    answer::{Answer, Presented, judge},
    assertion,
    cloud::Cloud,
    credential::{ClientCredential, CredentialError},
    error::TokenError,
    network::{NetworkError, REQUEST_TIMEOUT},
    refusal::{Grant, RequestContext},
    scope::Scope,
    tenant::TenantRef,
    token::Token,
};

/// Microsoft's own clients repeat a 5xx once, a second later.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// A throttled request is repeated here only when the wait is short; a longer one is the caller's to plan.
const PATIENCE: Duration = Duration::from_secs(5);
/// A token with every claim is some kilobytes.
const ANSWER_LIMIT: usize = 256 * 1024;
/// A federated token is some kilobytes.
const FEDERATED_LIMIT: u64 = 64 * 1024;
const UNKNOWN_SKEW: i64 = i64::MIN;

/// The token endpoint of one cloud. Cheap to clone; clones share the observed skew.
#[derive(Debug, Clone)]
pub struct TokenEndpoint {
    http: reqwest::Client,
    cloud: Arc<Cloud>,
    clock: Clock,
    skew_seconds: Arc<AtomicI64>,
    retry_pause: Duration,
}

/// One form on its way.
pub(crate) struct Form {
    pub(crate) url: Url,
    pub(crate) context: RequestContext,
    pub(crate) fields: Vec<(&'static str, Zeroizing<String>)>,
    /// Repeating it after an unclear failure does no harm.
    pub(crate) repeatable: bool,
    pub(crate) presented: Presented,
    /// What an ID token must repeat.
    pub(crate) nonce: Option<String>,
}

/// Fields whose values nobody else may learn.
const SECRET_FIELDS: [&str; 6] =
    ["client_secret", "client_assertion", "code", "code_verifier", "refresh_token", "device_code"];

impl Form {
    fn secrets(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(|(name, _)| SECRET_FIELDS.contains(name)).map(|(_, value)| value.as_str())
    }
}

impl TokenEndpoint {
    /// `http` comes from [`crate::Network::http_client`].
    pub fn new(http: reqwest::Client, cloud: Cloud, clock: Clock) -> Self {
        let skew_seconds = Arc::new(AtomicI64::new(UNKNOWN_SKEW));
        Self { http, cloud: Arc::new(cloud), clock, skew_seconds, retry_pause: RETRY_PAUSE }
    }

    /// The same, repeating at once.
    #[cfg(test)]
    pub(crate) fn impatient(mut self) -> Self {
        self.retry_pause = Duration::ZERO;
        self
    }

    /// The cloud it belongs to.
    pub fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    /// The clock it reads.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How far our clock was ahead of the login host's at its last answer (negative: behind), from its `Date` header;
    /// good to about a second. `None` before the first answer.
    pub fn observed_skew(&self) -> Option<SignedDuration> {
        match self.skew_seconds.load(Ordering::Relaxed) {
            UNKNOWN_SKEW => None,
            seconds => Some(SignedDuration::from_secs(seconds)),
        }
    }

    pub(crate) fn context(
        &self,
        tenant: &TenantRef,
        client: ClientId,
        grant: Grant,
        scope: Option<&Scope>,
    ) -> RequestContext {
        RequestContext {
            cloud: self.cloud.clone(),
            tenant: tenant.clone(),
            client,
            grant,
            scope: scope.map(ToString::to_string).unwrap_or_default(),
            redirect: None,
        }
    }

    /// Sends a grant and reads the token.
    pub(crate) async fn ask_token(&self, form: &Form) -> Result<Token, TokenError> {
        let asked_at = self.clock.now();
        let answer = self.exchange(form).await?;
        Token::read(&answer.body, asked_at, &form.context, form.nonce.as_deref())
    }

    /// Reads what the login host shows to anybody.
    pub(crate) async fn read(&self, url: Url, context: RequestContext) -> Result<Answer, TokenError> {
        let presented = Presented::default();
        self.exchange(&Form { url, context, fields: Vec::new(), repeatable: true, presented, nonce: None }).await
    }

    /// Sends the form, once more where that does no harm, and hands back a 200 answer.
    pub(crate) async fn exchange(&self, form: &Form) -> Result<Answer, TokenError> {
        let first = self.attempt(form).await;
        let pause = match &first {
            Err(TokenError::Unavailable { retry_after, .. }) if form.repeatable => {
                retry_after.unwrap_or(self.retry_pause).max(self.retry_pause)
            }
            Err(TokenError::Throttled { retry_after, .. }) => *retry_after,
            Err(TokenError::Network(error)) if error.is_transient() && (form.repeatable || error.nothing_sent()) => {
                self.retry_pause
            }
            _ => return first,
        };
        // A timeout has used its time already.
        if pause > PATIENCE || matches!(&first, Err(TokenError::Network(NetworkError::Timeout { .. }))) {
            return first;
        }
        // Many clients fail at once; they should not come back at once.
        let jitter = Duration::from_millis(rand::random_range(0..=self.retry_pause.as_millis().min(250) as u64));
        tokio::time::sleep(pause + jitter).await;
        self.attempt(form).await
    }

    async fn attempt(&self, form: &Form) -> Result<Answer, TokenError> {
        let mut answer = self.send(form).await.map_err(TokenError::Network)?;
        if answer.status == 200 {
            return Ok(answer);
        }
        answer.body = postkey_base::secret::without(&answer.body, form.secrets());
        Err(judge(&answer, &form.context, form.presented))
    }

    async fn send(&self, form: &Form) -> Result<Answer, NetworkError> {
        if form.fields.is_empty() {
            return self.receive(&form.url, self.http.get(form.url.clone())).await;
        }
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form.fields.iter().map(|(name, value)| (name, value.as_str())))
            .finish();
        let request = self.http.post(form.url.clone()).header("Content-Type", "application/x-www-form-urlencoded");
        self.receive(&form.url, request.body(body)).await
    }

    async fn receive(&self, url: &Url, request: reqwest::RequestBuilder) -> Result<Answer, NetworkError> {
        let host = host_of(url);
        let failed = |error| NetworkError::of_request(&host, REQUEST_TIMEOUT, error);
        let correlation = CorrelationId::random();
        let mut response = request
            .header("Accept", "application/json")
            .header("client-request-id", correlation.to_string())
            .header("return-client-request-id", "true")
            .timeout(REQUEST_TIMEOUT)
            .send()
            .await
            .map_err(failed)?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let now = self.clock.now();
        let date = header("date").and_then(|date| http_date(&date));
        let retry_after = header("retry-after").and_then(|text| retry_after(&text, now));
        let skew = date.map(|date| SignedDuration::from_secs(now.as_second() - date.as_second()));
        if let Some(skew) = skew {
            self.skew_seconds.store(skew.as_secs(), Ordering::Relaxed);
        }
        let status = response.status().as_u16();
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                body.clear(); // judged as no JSON at all
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body, retry_after, skew, correlation })
    }

    /// Adds what proves the app's identity to a form for `url`.
    pub(crate) async fn present(
        &self,
        credential: &ClientCredential,
        client: ClientId,
        url: &Url,
        fields: &mut Vec<(&'static str, Zeroizing<String>)>,
    ) -> Result<Presented, CredentialError> {
        let assertion = match credential {
            ClientCredential::Secret(secret) => {
                fields.push(("client_secret", Zeroizing::new(secret.expose().to_owned())));
                // The portal shows a secret's id, a GUID, right beside its value.
                let looks_like_id = secret.expose().trim().parse::<postkey_base::KeyId>().is_ok();
                return Ok(Presented { looks_like_id });
            }
            ClientCredential::Certificate(certificate) => {
                let style = self.cloud.assertion;
                assertion::client_assertion(certificate, client, url, self.clock.now(), style).await?
            }
            ClientCredential::Federated { file } => crate::credential::federated(file, FEDERATED_LIMIT).await?,
        };
        fields.push(("client_assertion_type", text("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")));
        fields.push(("client_assertion", text(assertion.expose())));
        Ok(Presented::default())
    }
}

/// A form value.
pub(crate) fn text(value: &str) -> Zeroizing<String> {
    Zeroizing::new(value.to_owned())
}

pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    format!("{host}:{}", url.port_or_known_default().unwrap_or(443))
}

/// RFC 9110 §5.6.7; the obsolete forms are not written by anyone we ask.
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

/// RFC 9110 §10.2.3, seconds or date. Capped at an hour: whoever asks for more is asked again then.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Duration::try_from(now.duration_until(http_date(text)?)).unwrap_or(Duration::ZERO),
    };
    Some(wait.min(Duration::from_secs(3600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        for (text, want) in [
            ("60", Some(60)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:48:00 GMT", Some(0)),
            ("999999", Some(3600)),
            ("-5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, now), want.map(Duration::from_secs), "{text:?}");
        }
    }
}
