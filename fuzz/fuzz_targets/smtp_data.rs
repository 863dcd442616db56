//! Any bytes behind DATA: the message ends at the first CRLF `.` CRLF and nowhere else, and comes in unharmed or not at
//! all.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/postkey-smtp/tests/it/properties.rs"]
#[allow(dead_code)] // each target uses a part of it
mod properties;

fuzz_target!(|bytes: &[u8]| properties::body_holds(bytes, &properties::cuts_of(bytes)));
