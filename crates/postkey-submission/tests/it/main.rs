//! The submission service over real sockets: what it takes, what it refuses, and whom it serves meanwhile.

mod changes;
mod client;
#[path = "../../../postkey-smtp/tests/dialogs/dialog.rs"]
mod dialog;
mod dialogs;
mod doors;
mod guessing;
mod hand_over;
mod house;
mod patience;
mod queued;
