//! Any bytes at the start of a proxied connection: a header is read or refused, and the same from every prefix that
//! holds it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/postkey-smtp/tests/it/properties.rs"]
#[allow(dead_code)] // each target uses a part of it
mod properties;

fuzz_target!(|bytes: &[u8]| properties::header_holds(bytes, &properties::cuts_of(bytes)));
