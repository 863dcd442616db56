//! `cargo xtask soak`: the crash law for hours instead of minutes.

use crate::{Outcome, test};

/// How many kills a series has when nobody says.
const KILLS: u64 = 1_000;

/// Where the test reads it.
const VARIABLE: &str = "POSTKEY_SOAK_KILLS";

/// What the names of the series have in common.
const SERIES: &str = "killed_at_random_under_load";

/// Kills the service again and again under load, and counts what became of every message.
pub(crate) fn soak(words: &[&str]) -> Outcome {
    let (mut kills, mut name, mut skip_postgres) = (KILLS, SERIES.to_owned(), false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--kills" => {
                let number = words.next().and_then(|number| number.parse().ok());
                kills = number.filter(|&number| number > 0).ok_or("--kills wants a number above 0")?;
            }
            "--skip-postgres" => {
                skip_postgres = true;
                name = format!("{SERIES}_on_sqlite");
            }
            other => return Err(format!("soak does not know {other:?}; see cargo xtask help")),
        }
    }
    test::test_with(&name, (VARIABLE, kills.to_string()), skip_postgres)
}
