//! The index of error codes, docs/errors.md: read from the `impl Diagnose` of each error and from the comments of its
//! variants, where both have their one home. It reads text as rustfmt leaves it; no parser is needed for that.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::Outcome;
use crate::run::workspace;

const HEAD: &str = "\
# Error codes

Generated from the code. Every failure that a person can meet carries one of these codes; the message around it says
what happened, why, what to do next and who must do it. Codes stay as they are once released.

| code | when |
|---|---|
";

/// The whole page.
pub(crate) fn page() -> Outcome<String> {
    let crates = workspace().join("crates");
    let folders = std::fs::read_dir(&crates).map_err(|e| format!("{}: {e}", crates.display()))?;
    let mut meanings = BTreeMap::new();
    for folder in folders.map_while(Result::ok) {
        let mut sources = Vec::new();
        read_sources(&folder.path().join("src"), &mut sources);
        meanings.extend(codes(&sources));
    }
    let mut page = HEAD.to_owned();
    for (code, meaning) in meanings {
        let _ = writeln!(page, "| `{code}` | {} |", meaning.replace('|', "\\|"));
    }
    Ok(page)
}

fn read_sources(folder: &Path, sources: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map_while(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            sources.extend(std::fs::read_to_string(path));
        }
    }
}

/// Each code of one crate with what its variant's comment says.
fn codes(sources: &[String]) -> BTreeMap<String, String> {
    let mut comments = BTreeMap::new();
    for source in sources {
        collect_comments(source, &mut comments);
    }
    let mut found = BTreeMap::new();
    for source in sources {
        let without_tests = source.split("#[cfg(test)]").next().unwrap_or_default();
        for implementation in without_tests.split("impl Diagnose for ").skip(1) {
            let kind: String = implementation.chars().take_while(|c| c.is_alphanumeric()).collect();
            let function = implementation.split("fn code(&self)").nth(1).unwrap_or_default();
            let function = function.split("\n    }\n").next().unwrap_or_default();
            read_arms(function, &kind, &comments, &mut found);
        }
    }
    found
}

/// Comments of types and of their variants, by `Type` and `Type::Variant`.
fn collect_comments(source: &str, comments: &mut BTreeMap<String, String>) {
    let mut comment = String::new();
    let mut kind = String::new();
    for line in source.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(more) = text.strip_prefix("///") {
            comment = format!("{comment} {}", more.trim()).trim().to_owned();
            continue;
        }
        if text.starts_with("#[") || text.is_empty() {
            continue;
        }
        let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric()).collect::<String>();
        if indent == 0 {
            let declared = ["pub enum ", "pub struct ", "pub(crate) enum ", "pub(crate) struct ", "enum ", "struct "];
            kind = declared.iter().find_map(|words| text.strip_prefix(words)).map(name).unwrap_or_default();
            if !kind.is_empty() && !comment.is_empty() {
                comments.insert(kind.clone(), comment.clone());
            }
        } else if indent == 4 && !kind.is_empty() && text.starts_with(char::is_uppercase) && !comment.is_empty() {
            comments.insert(format!("{kind}::{}", name(text)), comment.clone());
        }
        comment.clear();
    }
}

/// Each string of `fn code` is a code; the names before it are the variants that carry it.
fn read_arms(function: &str, kind: &str, comments: &BTreeMap<String, String>, found: &mut BTreeMap<String, String>) {
    let mut pieces = function.split('"');
    while let (Some(before), Some(code)) = (pieces.next(), pieces.next()) {
        if !code.contains('.') || !code.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '.') {
            continue;
        }
        // Arms that pass on to an inner error end in a comma, too.
        let pattern = before.rsplit(",\n").next().unwrap_or(before);
        let named = pattern.split(|c: char| !c.is_alphanumeric() && c != ':').filter(|word| word.contains("::"));
        let meanings = named.filter_map(|word| comments.get(&word.replace("Self::", &format!("{kind}::"))));
        let mut meaning = meanings.cloned().collect::<Vec<_>>().join(" Or: ");
        if meaning.is_empty() {
            meaning = comments.get(kind).cloned().unwrap_or_default();
        }
        found.insert(code.to_owned(), meaning);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::codes;

    const SOURCE: &str = r#"
/// Why no key.
#[derive(Debug)]
pub enum KeyError {
    /// The file is not there,
    /// or empty.
    #[error("{path} is missing")]
    Missing { path: PathBuf },
    /// Too short.
    Short(usize),
    /// Too long.
    Long(usize),
    Inner(Other),
}

impl Diagnose for KeyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "key.missing",
            Self::Inner(error) => error.code(),
            Self::Short(_) | Self::Long(_) => "key.size",
            _ => self.inner().map_or("key.failed", Diagnose::code),
        }
    }

    fn remedy(&self) -> String {
        "not.a_code".into()
    }
}
"#;

    #[test]
    fn each_code_has_its_variants_comment() {
        let expected = [
            ("key.failed", "Why no key."),
            ("key.missing", "The file is not there, or empty."),
            ("key.size", "Too short. Or: Too long."),
        ];
        let expected = expected.map(|(code, meaning)| (code.to_owned(), meaning.to_owned()));
        assert_eq!(codes(&[SOURCE.to_owned()]), BTreeMap::from(expected));
    }
}
