//! The real program against the emulator and real clients: one file per story. Run by `cargo xtask test`, which builds
//! the program and brings the clients; without it the tests that need them fail and say so.

mod clients;
mod core_dumps;
mod crash;
mod crash_law;
mod disk;
mod failures;
mod far_ends;
mod given_credentials;
mod harness;
mod hostile;
mod leaks;
mod load;
mod machine;
mod messages;
mod mime;
mod needles;
mod openapi;
mod outage_law;
mod plan;
mod postgres;
mod rows;
mod sender_stages;
mod serve;
mod servers;
mod serving;
mod setup_by_hand;
mod setups;
mod story;
mod strace;
mod submission_clients;
mod submit;
mod submitted_messages;
mod turns;
