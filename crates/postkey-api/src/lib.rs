//! The REST API: routes, problem details (RFC 9457), OpenAPI.
