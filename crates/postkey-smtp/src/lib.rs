//! SMTP grammar without I/O: replies, commands, dot-stuffing, SASL XOAUTH2, the client's side of one session, and the
//! server's side in [`server`].
//!
//! Bytes go in, bytes and wishes come out; whoever owns the socket brings the deadlines.

pub mod client;
pub mod command;
pub mod data;
pub mod offers;
pub mod proxy_protocol;
pub mod reply;
pub mod server;
mod transaction;
pub mod xoauth2;

pub use client::{Action, End, Plan, Protection, RecipientOutcome, Session, Stage, Utf8Need};
pub use command::{Command, CommandError, Path};
pub use data::{DataError, DotStuffer};
pub use offers::{Missing, Offers};
pub use reply::{EnhancedCode, Reply, ReplyError, ReplyParser};
pub use transaction::Mail;
pub use xoauth2::{Xoauth2, Xoauth2Error};
