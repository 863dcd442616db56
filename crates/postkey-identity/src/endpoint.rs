//! One request to the login host and its classified answer; the grants are built on it, one file each.

use jiff::SignedDuration;
use postkey_base::Clock;

use crate::cloud::Cloud;

/// The token endpoint of one cloud. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TokenEndpoint {
    #[allow(dead_code)]
    http: reqwest::Client,
    cloud: std::sync::Arc<Cloud>,
    clock: Clock,
}

impl TokenEndpoint {
    /// `http` comes from [`crate::Network::http_client`].
    pub fn new(http: reqwest::Client, cloud: Cloud, clock: Clock) -> Self {
        Self { http, cloud: std::sync::Arc::new(cloud), clock }
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
        unimplemented!()
    }
}
