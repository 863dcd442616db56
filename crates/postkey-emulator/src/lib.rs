//! The tenant in a box: Entra ID, Graph and Exchange Online on loopback, strict and a little unkind on purpose.
//! It shares no types with the clients it tests: a misspelt field must fail, not agree with itself.

pub mod clock;
pub mod directory;
mod entra;
pub mod faults;
pub mod journal;
pub mod request;
pub mod token;
pub mod world;
