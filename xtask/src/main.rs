//! What the project does to itself: test, bench, check.

fn main() {}
