//! Register, credential, permissions and consent, and the proof; senders from given values; limits; the doctor.
//!
//! `plan` lists every call that `automatic` may make; `script` writes the list down for an administrator; `manual` walks a
//! person through the portal. Knows nothing of terminals: whoever watches is told by `watch`.

pub mod abilities;
pub mod automatic;
mod clients;
pub mod connection;
mod credential;
pub mod doctor;
pub mod error;
pub mod explain;
pub mod given;
pub mod limits;
pub mod manual;
pub mod options;
pub mod outbound;
pub mod pasted;
pub mod plan;
pub mod proof;
pub mod script;
pub mod sender;
pub mod sign_in;
mod turn;
pub mod watch;
