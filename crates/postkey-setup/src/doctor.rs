//! Every link of the chain as a named check.
