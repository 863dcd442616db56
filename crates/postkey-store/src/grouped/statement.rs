//! Statements with many rows: one text for each of a few sizes, so that the database prepares each of them only once.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use sqlx::{Any, AssertSqlSafe, any::AnyArguments, query::Query};

/// A statement whose middle is a list of rows.
pub(super) struct ManyRows {
    /// Up to the rows.
    pub(super) before: &'static str,
    /// Values in a row.
    pub(super) columns: usize,
    /// What stands at the end of every row: values that are always the same.
    pub(super) always: &'static str,
    /// What follows the rows.
    pub(super) after: &'static str,
}

/// The texts made so far.
#[derive(Default)]
pub(super) struct Texts(HashMap<(&'static str, usize), Arc<str>>);

impl Texts {
    /// The statement for so many rows.
    pub(super) fn query(&mut self, statement: &'static ManyRows, rows: usize) -> Query<'static, Any, AnyArguments> {
        let text = self.0.entry((statement.before, rows)).or_insert_with(|| text(statement, rows).into());
        sqlx::query(AssertSqlSafe(Arc::clone(text)))
    }
}

/// How many rows the next statement takes of so many that are left: the largest size that fits.
pub(super) fn next_size(left: usize) -> usize {
    SIZES.into_iter().find(|&size| size <= left).unwrap_or(1)
}

fn text(statement: &ManyRows, rows: usize) -> String {
    let mut text = String::from(statement.before);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..statement.columns {
            let separator = if column == 0 { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(text, "{separator}${}", row * statement.columns + column + 1);
        }
        text.push_str(statement.always);
        text.push(')');
    }
    text.push_str(statement.after);
    text
}

/// Few, so that they stay prepared; dense, so that a group takes two or three statements at most. 64 rows of the widest table
/// bind far fewer values than SQLite (32,766) and PostgreSQL (65,535) allow.
const SIZES: [usize; 11] = [64, 48, 32, 24, 16, 12, 8, 4, 3, 2, 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_any_size_takes_few_statements() {
        for rows in 1..=128 {
            let (mut left, mut statements) = (rows, 0);
            while left > 0 {
                left -= next_size(left);
                statements += 1;
            }
            assert!(statements <= 4, "{rows}: {statements}");
        }
    }

    #[test]
    fn values_are_numbered_through_all_rows() {
        let statement = ManyRows { before: "INSERT INTO t VALUES ", columns: 2, always: ", 0", after: " RETURNING a" };
        assert_eq!(text(&statement, 2), "INSERT INTO t VALUES ($1, $2, 0), ($3, $4, 0) RETURNING a");
    }
}
