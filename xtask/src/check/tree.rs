//! What must not stand in any file of the tree.

use std::process::Command;

use crate::Outcome;
use crate::guardian::Guardian;
use crate::run::{output, workspace};

/// Folders of the machine a file was written on. Put together here, or this file would find itself.
const MACHINE_FOLDERS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Members of a lock file that name the server a package came from; a lock file works with any registry.
const SERVER_MEMBERS: &[&str] = &["\"resolved\"", "\"registry\""];

/// Looks through every file that git would commit.
pub(crate) fn findings(guardian: &Guardian) -> Outcome<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(workspace());
    let mut findings = Vec::new();
    for name in output(guardian, &mut git)?.split_terminator('\0') {
        // Deleted but not committed yet, or no text: nothing to read.
        let Ok(text) = std::fs::read_to_string(workspace().join(name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(what) = complaint(name, line) {
                findings.push(format!("{name}:{}: {what}", number + 1));
            }
        }
    }
    Ok(findings)
}

fn complaint(file: &str, line: &str) -> Option<String> {
    if let Some(folder) = MACHINE_FOLDERS.iter().find(|folder| starts_a_path(line, folder)) {
        return Some(format!("names a folder of one machine, {folder}"));
    }
    let is_lock = file.ends_with("package-lock.json");
    let member = SERVER_MEMBERS.iter().find(|member| is_lock && line.contains(**member))?;
    Some(format!("{member} names a registry's server; remove that line"))
}

/// Whether an absolute path begins with this folder, as against a longer path or an address that contains it.
fn starts_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '}' | ')' | '~' | '*' | '$' | '/'))
    })
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn only_paths_of_one_machine_are_complained_about() {
        let folder = super::MACHINE_FOLDERS[0];
        for (line, wrong) in [
            (format!("see {folder}main/file"), true),
            (format!("\"{folder}x\""), true),
            (format!("https://host.example{folder}x"), false),
            (format!("target{folder}x"), false),
            ("nothing here".to_owned(), false),
        ] {
            assert_eq!(complaint("README.md", &line).is_some(), wrong, "{line}");
        }
    }

    #[test]
    fn a_lock_file_names_no_server() {
        assert!(complaint("a/package-lock.json", "  \"resolved\": \"https://host.example/a.tgz\",").is_some());
        assert!(complaint("a/package-lock.json", "  \"integrity\": \"sha512-x\",").is_none());
        assert!(complaint("a/notes.md", "the \"resolved\" member").is_none());
    }
}
