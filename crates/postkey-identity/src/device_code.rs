//! The device code grant: a code to type in a browser anywhere, and patient polling.

use std::{fmt, future::Future, time::Duration};

use jiff::Timestamp;
use postkey_base::ClientId;
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    answer::Presented,
    endpoint::{Form, TokenEndpoint, text},
    error::TokenError,
    refusal::Grant,
    scope::Scope,
    tenant::TenantRef,
    token::Token,
};

/// RFC 8628 §3.2, when the answer names none.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// RFC 8628 §3.5: added for good after `slow_down`.
const SLOWER_BY: Duration = Duration::from_secs(5);
/// While the network is out.
const SLOWEST: Duration = Duration::from_secs(30);
/// An answer that asks for no pause at all must not make us spin.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);
/// One that asks for more than this would outlast the code.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// Fifteen minutes are usual.
const LONGEST_LIFE: Duration = Duration::from_secs(86_400);

#[derive(Deserialize)]
struct Body {
    user_code: String,
    device_code: String,
    verification_uri: Url,
    expires_in: u64,
    #[serde(default)]
    interval: Option<u64>,
    #[serde(default)]
    message: String,
}

/// A started device sign-in.
#[derive(Clone)]
pub struct DeviceCode {
    /// What the person types.
    pub user_code: String,
    /// Where.
    pub verification_uri: Url,
    /// Entra's own sentence saying both.
    pub message: String,
    /// Until when.
    pub expires_at: Timestamp,
    /// Least time between polls.
    pub interval: Duration,
    device_code: Zeroizing<String>,
    tenant: TenantRef,
    client: ClientId,
    scope: Scope,
}

impl TokenEndpoint {
    /// Asks for a code to show.
    ///
    /// # Errors
    /// What Entra refused, classified.
    pub async fn start_device_code(
        &self,
        tenant: &TenantRef,
        client: ClientId,
        scope: &Scope,
    ) -> Result<DeviceCode, TokenError> {
        let context = self.context(tenant, client, Grant::DeviceCode, Some(scope));
        let url = self.cloud().device_endpoint(tenant);
        let fields = vec![("client_id", text(&client.to_string())), ("scope", text(scope.as_str()))];
        let form = Form { url, context, fields, repeatable: true, presented: Presented::default(), nonce: None };
        let asked_at = self.clock().now();
        let answer = self.exchange(&form).await?;
        let bad = |problem| form.context.unexpected(answer.status, problem);
        let body: Body = serde_json::from_slice(&answer.body).map_err(|_| bad("it is no device code answer"))?;
        let life = Duration::from_secs(body.expires_in.min(LONGEST_LIFE.as_secs()));
        Ok(DeviceCode {
            user_code: body.user_code,
            verification_uri: body.verification_uri,
            message: body.message,
            expires_at: asked_at.checked_add(life).map_err(|_| bad("its expires_in is out of range"))?,
            interval: body.interval.map_or(DEFAULT_INTERVAL, interval),
            device_code: Zeroizing::new(body.device_code),
            tenant: tenant.clone(),
            client,
            scope: scope.clone(),
        })
    }

    /// Polls until the person has signed in, declined, or the code has expired. Ends with [`TokenError::Cancelled`]
    /// as soon as `cancel` is ready; pass [`std::future::pending`] never to.
    ///
    /// # Errors
    /// [`TokenError::DeviceCodeDeclined`], [`TokenError::DeviceCodeExpired`], or what Entra refused, classified.
    pub async fn await_device_code(
        &self,
        code: &DeviceCode,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<Token, TokenError> {
        let form = Form {
            url: self.cloud().token_endpoint(&code.tenant),
            context: self.context(&code.tenant, code.client, Grant::DeviceCode, Some(&code.scope)),
            fields: vec![
                ("grant_type", text("urn:ietf:params:oauth:grant-type:device_code")),
                ("client_id", text(&code.client.to_string())),
                ("device_code", code.device_code.clone()),
                ("client_info", text("1")),
            ],
            repeatable: false, // the next poll is the repetition
            presented: Presented::default(),
            nonce: None,
        };
        tokio::pin!(cancel);
        let mut interval = code.interval;
        loop {
            // Dropping a sleep loses nothing; the request itself is never dropped half-way.
            tokio::select! {
                biased;
                () = &mut cancel => return Err(TokenError::Cancelled),
                () = tokio::time::sleep(interval) => {}
            }
            if code.expires_at <= self.clock().now() {
                return Err(TokenError::DeviceCodeExpired);
            }
            match (self.ask_token(&form).await, &mut interval) {
                (Ok(token), _) => return Ok(token),
                (Err(error), interval) => *interval = next_poll(error, *interval)?,
            }
        }
    }
}

impl fmt::Debug for DeviceCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceCode({}, until {})", self.verification_uri, self.expires_at)
    }
}

/// The server's wish within reason.
fn interval(seconds: u64) -> Duration {
    Duration::from_secs(seconds).clamp(LEAST_INTERVAL, LONGEST_INTERVAL)
}

/// When to poll next, or why not to. RFC 8628 §3.5.
fn next_poll(error: TokenError, interval: Duration) -> Result<Duration, TokenError> {
    let said = error.refusal().map(|refusal| refusal.error.as_str());
    match (&error, said) {
        (_, Some("authorization_pending")) => Ok(interval),
        (_, Some("slow_down")) => Ok((interval + SLOWER_BY).min(LONGEST_INTERVAL)),
        (TokenError::Throttled { retry_after, .. }, _) => Ok(interval.max(*retry_after)),
        // The person may be typing: what passes by itself does not end the sign-in, its expiry does.
        _ if error.is_transient() => Ok((interval * 2).min(SLOWEST)),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_makes_us_spin_or_sleep_past_the_code() {
        for (seconds, wait) in [(0, LEAST_INTERVAL), (5, Duration::from_secs(5)), (u64::MAX, LONGEST_INTERVAL)] {
            assert_eq!(interval(seconds), wait, "{seconds}");
        }
    }
}
