//! Taking mail in: who may hand over what, and the SMTP submission service (RFC 6409).
