//! Statements with many rows, and scripts of several: one text for each of a few shapes, so that the database prepares each of
//! them only once.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use crate::dialect::Dialect;

/// A statement whose middle is a list of rows.
pub(super) struct ManyRows {
    /// Up to the rows.
    pub(super) before: &'static str,
    /// Values in a row; 0: the statement has no rows, and is `before`.
    pub(super) columns: usize,
    /// What stands at the end of every row: values that are always the same.
    pub(super) always: &'static str,
    /// What follows the rows.
    pub(super) after: &'static str,
}

/// A statement and how many rows it has.
pub(super) type Shape = (&'static ManyRows, usize);

/// The texts made so far.
pub(super) struct Texts {
    dialect: Dialect,
    statements: HashMap<Key, Arc<str>>,
    scripts: HashMap<Vec<Key>, Arc<str>>,
}

type Key = (&'static str, usize);

impl Texts {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, statements: HashMap::new(), scripts: HashMap::new() }
    }

    /// One statement.
    pub(super) fn statement(&mut self, shape: Shape) -> Arc<str> {
        let (dialect, (statement, rows)) = (self.dialect, shape);
        let text = self.statements.entry((statement.before, rows)).or_insert_with(|| text(dialect, shape).into());
        Arc::clone(text)
    }

    /// Several statements as one text; `None`: this combination is new, and there are enough of them.
    pub(super) fn script(&mut self, shapes: &[Shape]) -> Option<Arc<str>> {
        if let [shape] = shapes {
            return Some(self.statement(*shape));
        }
        let key: Vec<Key> = shapes.iter().map(|(statement, rows)| (statement.before, *rows)).collect();
        if let Some(text) = self.scripts.get(&key) {
            return Some(Arc::clone(text));
        }
        if self.scripts.len() >= MOST_SCRIPTS {
            return None;
        }
        let texts: Vec<_> = shapes.iter().map(|shape| self.statement(*shape)).collect();
        let text: Arc<str> = texts.join(";\n").into();
        self.scripts.insert(key, Arc::clone(&text));
        Some(text)
    }
}

/// How many rows the next statement takes of so many that are left: the largest size that fits.
pub(super) fn next_size(left: usize) -> usize {
    SIZES.into_iter().find(|&size| size <= left).unwrap_or(1)
}

fn text(dialect: Dialect, (statement, rows): Shape) -> String {
    let mut text = String::from(statement.before);
    if statement.columns == 0 {
        return text;
    }
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..statement.columns {
            if column > 0 {
                text.push_str(", ");
            }
            match dialect {
                // Values without a number: sqlx looks a numbered one up by its name, among all the others.
                Dialect::Sqlite => text.push('?'),
                Dialect::Postgres => {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "${}", row * statement.columns + column + 1);
                }
            }
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

/// sqlx keeps 100 statements prepared, and a script counts as one. With many senders and submitters the combinations never end.
const MOST_SCRIPTS: usize = 40;

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
        static ROWS: ManyRows =
            ManyRows { before: "INSERT INTO t VALUES ", columns: 2, always: ", 0", after: " RETURNING a" };
        static END: ManyRows = ManyRows { before: "COMMIT", columns: 0, always: "", after: "" };
        let numbered = text(Dialect::Postgres, (&ROWS, 2));
        assert_eq!(numbered, "INSERT INTO t VALUES ($1, $2, 0), ($3, $4, 0) RETURNING a");
        let script = Texts::new(Dialect::Sqlite).script(&[(&ROWS, 1), (&END, 1)]);
        assert_eq!(script.as_deref(), Some("INSERT INTO t VALUES (?, ?, 0) RETURNING a;\nCOMMIT"));
    }
}
