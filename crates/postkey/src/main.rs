//! The program: it parses, wires and prints; it decides nothing.

fn main() {}
