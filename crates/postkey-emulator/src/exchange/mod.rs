//! Exchange Online: mailboxes, sending, delivery, and who may do what in them. Graph and SMTP are two doors to the same store.

pub mod access;
mod address_faults;
pub mod administration;
pub mod arrivals;
mod attachments;
mod delivery;
mod filter;
mod folders;
pub(crate) mod graph;
mod header_block;
mod json_read;
mod json_write;
pub mod limits;
mod listing;
pub mod mailbox;
mod messages;
mod mime_read;
mod mime_write;
mod refusal;
mod reply;
mod send_mail;
mod smtp;
mod smtp_data;
mod smtp_grammar;
pub(crate) mod smtp_server;
pub mod state;
mod submission;
pub mod tally;
mod upload;

#[cfg(test)]
mod tests;

pub(crate) use upload::{handle_upload, is_upload_path};
