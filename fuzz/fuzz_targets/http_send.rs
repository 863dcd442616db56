//! Any bytes as the JSON of `POST /v1/send`: they become a message with just the recipients that they name, or are
//! refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| postkey_api::send_request::fuzz(bytes));
