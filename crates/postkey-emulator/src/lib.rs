//! The tenant in a box: Entra ID, Graph and Exchange Online on loopback, strict and a little unkind on purpose.
//! It shares no types with the clients it tests: a misspelt field must fail, not agree with itself.
//!
//! ```no_run
//! # async fn example() -> Result<(), postkey_emulator::StartError> {
//! let emulator = postkey_emulator::Emulator::start(Default::default()).await?;
//! println!("authority {} graph {}", emulator.authority(), emulator.graph());
//! emulator.shutdown().await;
//! # Ok(()) }
//! ```

#![recursion_limit = "256"]

pub mod clock;
#[cfg(test)]
#[path = "../tests/it/contract.rs"]
mod contract;
pub mod directory;
mod emulator;
mod entra;
pub mod environment;
pub mod exchange;
pub mod faults;
pub(crate) mod graph;
pub mod journal;
mod management;
mod permissions;
pub mod request;
mod sample;
mod server;
mod settings;
mod tls;
pub mod token;
pub mod visitor;
pub mod world;

pub use emulator::{Emulator, StartError};
pub use exchange::{limits::Limits, state::Keep};
pub use sample::Sample;
pub use settings::{EmulatorSettings, Ports};
pub use tls::CertificateError;
