//! Any bytes as a message that is to be repaired: every change is listed, and what is sent is a message with whole lines.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/postkey-transport/tests/it/repair_law.rs"]
mod repair_law;

fuzz_target!(|bytes: &[u8]| repair_law::repairs_hold(bytes));
