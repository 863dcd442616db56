//! Messages over real sockets on loopback, and a corpus of awkward ones.

mod corpus;
mod graph;
mod smtp;
mod support;
