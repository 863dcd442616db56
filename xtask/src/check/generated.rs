//! Files that are generated from the code must be the ones in the tree.
//!
//! The list lives in the program, beside what it describes: its hidden command `postkey generate FOLDER` writes every
//! generated file below FOLDER under the path it has in the tree (`docs/cli.md`, `docs/errors.md`, completions, …).
//! A new generated file is added there and nowhere else.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::guardian::Guardian;
use crate::run::{cargo, run, target, workspace};

/// Generates everything anew and compares, or with `write` puts it in place.
pub(crate) fn findings(guardian: &Guardian, write: bool) -> Outcome<Vec<String>> {
    let fresh = target().join("generated");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).map_err(|e| format!("{}: {e}", fresh.display()))?;
    }
    std::fs::create_dir_all(&fresh).map_err(|e| format!("{}: {e}", fresh.display()))?;
    run(guardian, cargo().args(["build", "--quiet", "--package", "postkey"]))?;
    let program = target().join("debug/postkey");
    run(guardian, Command::new(program).arg("generate").arg(&fresh))?;

    let mut findings = Vec::new();
    let files = files_below(&fresh)?;
    if files.is_empty() {
        findings.push("postkey generate wrote no file".to_owned());
    }
    for file in files {
        let name = file.strip_prefix(&fresh).expect("it was found below that folder").to_path_buf();
        let (wanted, place) = (read(&file)?, workspace().join(&name));
        if std::fs::read(&place).is_ok_and(|found| found == wanted) {
            continue;
        }
        if write {
            let folder = place.parent().expect("a file lies in a folder");
            std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::write(&place, wanted))
                .map_err(|e| format!("{}: {e}", place.display()))?;
            eprintln!("written: {}", name.display());
        } else {
            findings.push(format!("{} is not what the code says; run: cargo xtask check --write", name.display()));
        }
    }
    Ok(findings)
}

fn files_below(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for path in entries.map_while(Result::ok).map(|entry| entry.path()) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))
}
