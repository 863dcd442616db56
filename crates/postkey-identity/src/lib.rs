//! Tokens: one file per grant, assertions, the cache, the AADSTS catalogue, clouds.
