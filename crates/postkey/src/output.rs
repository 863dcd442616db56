//! What people see: colour only on a terminal, errors as what, why, remedy, tables that fit.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use postkey_base::{Diagnosis, diagnose::plain};

/// Things worth finding: addresses, ids, results.
pub(crate) const STRONG: Style = Style::new().bold();
/// What one may skip.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// It holds.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// It does not hold.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Worth a look.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();

/// A line to standard output; a closed pipe is not an error worth a panic.
pub(crate) fn line(text: impl std::fmt::Display) {
    let _ = writeln!(anstream::stdout(), "{text}");
}

/// A line to standard error.
pub(crate) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// A value as JSON, for `--json`.
pub(crate) fn json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(text),
        Err(error) => note(format_args!("the answer cannot be shown as JSON: {error}")),
    }
}

/// `text` in `style`, reset behind it.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Whether a person looks at standard error right now: progress may overwrite itself there.
pub(crate) fn someone_watches() -> bool {
    std::io::stderr().is_terminal()
}

/// What, why, what to do, who; then the ids for a support case.
pub(crate) fn failure(found: &Diagnosis) {
    note(format_args!("{} {}", styled(BAD, "error:"), found.what));
    details(found, "  ");
}

/// Everything below the first line of a diagnosis.
pub(crate) fn details(found: &Diagnosis, indent: &str) {
    if let Some(why) = &found.why {
        note(format_args!("{indent}{} {why}", styled(FAINT, "why:")));
    }
    note(format_args!("{indent}{} {}", styled(STRONG, "do: "), found.remedy));
    note(format_args!("{indent}{} {}", styled(FAINT, "who:"), found.who));
    let ids: Vec<String> = found.evidence.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let ids = if ids.is_empty() { String::new() } else { format!("  {}", ids.join(", ")) };
    note(format_args!("{indent}{}", styled(FAINT, format_args!("[{}]{ids}", found.code))));
}

/// Names and values below each other, indented.
pub(crate) fn fields(rows: &[(&str, String)]) {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, value) in rows {
        line(format_args!("  {}  {value}", styled(FAINT, format_args!("{name:<width$}"))));
    }
}

/// Rows under headings, columns as wide as they need.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    // Names come from the tenant as well.
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lay = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
        }
        text.trim_end().to_owned()
    };
    line(styled(FAINT, lay(&mut headings.iter().copied())));
    for row in &rows {
        line(lay(&mut row.iter().map(String::as_str)));
    }
}
