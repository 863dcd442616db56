//! Words of PowerShell, for the commands that an administrator is given to run.

/// A text as it stands inside single quotes, where only the quote itself is special, and is doubled. PowerShell takes the
/// typographic quotes for quotes as well.
pub fn doubled(text: &str) -> String {
    let mut doubled = String::with_capacity(text.len());
    for c in text.chars() {
        doubled.push(c);
        if matches!(c, '\'' | '\u{2018}'..='\u{201b}') {
            doubled.push(c);
        }
    }
    doubled
}

/// A literal.
pub fn quoted(text: &str) -> String {
    format!("'{}'", doubled(text))
}

/// An argument: bare where that is safe and reads better, else a literal.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '-' | '+');
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && text.chars().all(plain) { text.to_owned() } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_own_literal() {
        for (text, want) in [
            ("noreply@contoso.example", "noreply@contoso.example"),
            ("o'brien@contoso.example", "'o''brien@contoso.example'"),
            ("o\u{2019}brien@contoso.example", "'o\u{2019}\u{2019}brien@contoso.example'"),
            ("$env:x@contoso.example", "'$env:x@contoso.example'"),
            ("-Force", "'-Force'"),
            ("", "''"),
        ] {
            assert_eq!(word(text), want);
        }
    }
}
