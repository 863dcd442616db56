//! The emulator as clients meet it: over TLS, by HTTP, on its own ports.

mod contract;
mod directory;
mod mail;
mod sign_in;
mod support;
mod token;
