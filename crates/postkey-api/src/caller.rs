//! Who asks: the API key of the `Authorization` header, looked up in the directory.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::extract::FromRequestParts;
use http::{HeaderMap, StatusCode, header, request::Parts};
use postkey_store::{Scope, SubmitterId};
use postkey_submission::{KeyHolder, Known, LoginRefusal};
use tokio::time::sleep;

use crate::{Api, host, refusal::Refusal};

/// The longest that a wrong key is kept waiting; what the directory asks for beyond it would only hold connections.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Whoever asks with a good key.
pub(crate) struct Caller {
    pub(crate) holder: KeyHolder,
    pub(crate) address: IpAddr,
}

impl Caller {
    /// With a scope that the operation asks for.
    pub(crate) fn must(&self, scope: Scope) -> Result<(), Refusal> {
        match self.holder.key.scopes.contains(&scope) {
            true => Ok(()),
            false => Err(Refusal::Scope { key: self.name().to_owned(), scope }),
        }
    }

    /// The key's name.
    pub(crate) fn name(&self) -> &str {
        &self.holder.key.name
    }

    /// For whom the key acts.
    pub(crate) fn submitter(&self) -> Result<&Arc<Known>, Refusal> {
        self.holder.submitter.as_ref().ok_or_else(|| Refusal::NoSubmitter { key: self.name().to_owned() })
    }

    /// Whose messages the key sees; `None`: everybody's.
    pub(crate) fn sees(&self) -> Option<SubmitterId> {
        self.holder.key.submitter
    }

    /// Only a key that sees everything may touch what concerns others, too.
    pub(crate) fn must_be_unbound(&self) -> Result<(), Refusal> {
        match &self.holder.submitter {
            None => Ok(()),
            Some(known) => Err(Refusal::Bound { key: self.name().to_owned(), submitter: known.name().to_owned() }),
        }
    }
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        let address = host::remote(parts, &api.proxies);
        let token = bearer(&parts.headers).ok_or(Refusal::NoKey)?;
        match api.directory.api_key(token, address) {
            Ok(holder) => Ok(Self { holder, address }),
            Err(refusal) => {
                sleep(refusal.delay().min(LONGEST_WAIT)).await;
                Err(refusal.into())
            }
        }
    }
}

impl From<LoginRefusal> for Refusal {
    fn from(refusal: LoginRefusal) -> Self {
        let status = match &refusal {
            // A right key is never locked out: whoever meets this has none, and is told so like all others.
            LoginRefusal::Locked { .. } => StatusCode::UNAUTHORIZED,
            _ => StatusCode::from_u16(refusal.http_status()).unwrap_or(StatusCode::UNAUTHORIZED),
        };
        Self::passed(status, &refusal, refusal.retry_after().map(whole_seconds))
    }
}

/// Rounded up: whoever waits so long finds the door open.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1); the scheme's case does not matter.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = one.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= LONGEST_TOKEN).then_some(token)
}

/// Ours have 45 characters.
const LONGEST_TOKEN: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_bearer_token_is_a_key() {
        for (values, token) in [
            (&["Bearer pk_x"][..], Some("pk_x")),
            (&["bearer  pk_x "], Some("pk_x")),
            (&["Basic cGtfeDo="], None),
            (&["Bearer"], None),
            (&["Bearer "], None),
            (&["pk_x"], None),
            (&["Bearer a", "Bearer b"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(bearer(&headers), token, "{values:?}");
        }
    }
}
