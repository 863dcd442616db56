//! The device code grant: a code to type in a browser anywhere, and patient polling.

use std::{fmt, future::Future, time::Duration};

use jiff::Timestamp;
use postkey_base::ClientId;
use url::Url;

use crate::{endpoint::TokenEndpoint, error::TokenError, scope::Scope, tenant::TenantRef, token::Token};

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
    pub(crate) device_code: zeroize::Zeroizing<String>,
    pub(crate) tenant: TenantRef,
    pub(crate) client: ClientId,
    pub(crate) scope: Scope,
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
        let _ = (tenant, client, scope);
        unimplemented!()
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
        let _ = (code, cancel);
        unimplemented!()
    }
}

impl fmt::Debug for DeviceCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceCode({}, until {})", self.verification_uri, self.expires_at)
    }
}
