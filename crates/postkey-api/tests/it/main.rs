//! The API as its clients meet it: one file per resource, the router asked directly; the listener over real sockets.

mod health;
mod house;
mod openapi;
mod outbox;
mod pauses;
mod refusals;
mod send;
mod senders;
mod serving;
mod submitters;
