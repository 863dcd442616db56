//! Any bytes of a client: the session neither panics nor answers two cuts of them differently, and no message, address
//! or parameter it hands on holds what it promises to keep out.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/postkey-smtp/tests/it/properties.rs"]
#[allow(dead_code)] // each target uses a part of it
mod properties;

fuzz_target!(|bytes: &[u8]| properties::holds(bytes, &properties::cuts_of(bytes)));
