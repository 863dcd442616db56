//! SMTP grammar without I/O: replies, commands, dot-stuffing, SASL XOAUTH2.
