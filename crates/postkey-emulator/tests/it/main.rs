//! The emulator as clients meet it: over TLS, by HTTP, on its own ports.

mod assertion;
mod contract;
mod directory;
mod discovery;
mod faults;
mod load;
mod mail;
mod oddities;
mod sign_in;
mod support;
mod token;
