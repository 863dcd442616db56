//! Accepted messages: lanes, limits, attempts, and what became of each.
