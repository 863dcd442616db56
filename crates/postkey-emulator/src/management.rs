//! The management API.
use bytes::Bytes;
use http::Response;

use crate::server::{Arrived, Shared, made};

pub(crate) async fn answer(_shared: &Shared, _arrived: &Arrived) -> Response<Bytes> {
    made::<&str>(404, &[], Bytes::new())
}
