//! The server's session as its driver and its clients see it.

#[path = "../dialogs/dialog.rs"]
mod dialog;
mod dialogs;
mod mutation;
mod properties;
