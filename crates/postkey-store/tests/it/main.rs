//! The store's tests. Those about what it remembers run on SQLite and on PostgreSQL from one text.
//!
//! `POSTKEY_TEST_POSTGRES=postgres://…` names a server in which the user may make databases. Without it these tests fail;
//! whoever cannot run one says so with `POSTKEY_TEST_WITHOUT_POSTGRES=1`.

mod aggregates;
mod journal;
mod key_rotation;
mod outage;
mod place;
mod queue;
mod refusals;
mod secrecy;
mod submitters;
mod transactions;
