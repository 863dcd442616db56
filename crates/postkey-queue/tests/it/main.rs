//! The queue on a SQLite store, against a Graph on loopback that answers as a test asks.

mod delivery;
mod nodes;
mod outages;
mod reports;
mod support;
mod unknown;
