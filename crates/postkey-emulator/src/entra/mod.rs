//! The login host: discovery, sign-in pages, the token endpoint.

pub(crate) mod grants;
