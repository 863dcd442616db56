//! The real program against the emulator and real clients: one file per story. Run by `cargo xtask test`, which builds
//! the program and brings the clients; without it the tests that need them fail and say so.

mod clients;
mod harness;
mod messages;
mod mime;
