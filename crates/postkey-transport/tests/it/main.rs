//! Messages over real sockets on loopback, and a corpus of awkward ones.

mod corpus;
mod emulated;
mod faults;
mod graph;
mod kept;
mod repair_law;
mod repair_mutation;
mod smtp;
mod support;
