//! SQLite and PostgreSQL: what postkey remembers, one file per aggregate, secrets sealed.
