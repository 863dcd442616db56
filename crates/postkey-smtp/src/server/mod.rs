//! The server's side of one submission session (RFC 6409 over RFC 5321), without socket, clock or policy.
//!
//! The owner of the socket asks [`Session::next`] what to do, does it, and tells the session: [`Session::feed`] what was
//! read, [`Session::secured`] after the handshake, [`Session::answer`] to whatever asks for a decision. Replies leave in
//! the order of their commands, also under PIPELINING: what stands behind a command that waits for its answer stays
//! unread. The request grammar is our own: smtp-proto takes a lone line feed for the end of a command, skips carriage
//! returns within its words, knows paths in angle brackets only, and takes parameters that we do not offer.

mod auth;
mod bdat;
mod body;
mod event;
mod parameters;
mod path;
mod request;
mod session;
mod settings;
mod write;

pub use event::{
    Answer, BodyKind, Credentials, Dropped, End, Envelope, Event, Expects, Hello, Mail, Mechanism, Notify, Password,
    Quirks, Received, Recipient, Ret,
};
pub use session::Session;
pub use settings::{AuthOffer, SessionSettings, TlsState};
pub use write::encode_reply;

#[cfg(test)]
mod tests;
