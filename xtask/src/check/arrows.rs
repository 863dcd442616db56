//! Which crate may use which: ARCHITECTURE.md lists them top floor first, and every dependency points downward.

use std::path::Path;

use toml::{Table, Value};

use crate::Outcome;
use crate::run::workspace;

/// The emulator stands apart: what it tests must not share its types, so only these may depend on it outside tests.
const EMULATOR: &str = "postkey-emulator";
const MAY_SHIP_THE_EMULATOR: &[&str] = &["postkey", "postkey-e2e"];

/// One crate of the workspace with the crates of the workspace that it uses.
struct Room {
    name: String,
    uses: Vec<(String, Section)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Section {
    Always,
    InTests,
}

/// Reads ARCHITECTURE.md and every crate's manifest.
pub(crate) fn findings() -> Outcome<Vec<String>> {
    let page = workspace().join("ARCHITECTURE.md");
    let page = std::fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
    Ok(judge(&page, &rooms(&workspace().join("crates"))?))
}

fn judge(page: &str, rooms: &[Room]) -> Vec<String> {
    let floors = floors(page, rooms);
    let floor = |name: &str| floors.iter().position(|floor| floor == name);
    let mut findings = Vec::new();
    for room in rooms {
        let Some(own) = floor(&room.name) else {
            findings.push(format!("ARCHITECTURE.md lists no crate {}", room.name));
            continue;
        };
        for (used, section) in &room.uses {
            if floor(used).is_some_and(|used| used <= own) {
                findings.push(format!("{} uses {used}, which ARCHITECTURE.md lists above it", room.name));
            }
            if used == EMULATOR && *section == Section::Always && !MAY_SHIP_THE_EMULATOR.contains(&room.name.as_str()) {
                findings.push(format!("{} uses {used} outside its tests; the emulator stands apart", room.name));
            }
        }
    }
    findings
}

/// The crates in the order of the page: a line that begins with a crate's name (after a list mark, a quote mark or a
/// table's bar) lists it, the first such line counts.
fn floors(page: &str, rooms: &[Room]) -> Vec<String> {
    let mut floors: Vec<String> = Vec::new();
    for line in page.lines() {
        let line = line.trim_start_matches([' ', '|', '-', '*', '`', '[']).trim_start_matches("crates/");
        let name: String = line.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        // "postkey" also begins ordinary sentences; there a small word follows, in a list two blanks or a mark do.
        let rest = &line[name.len()..];
        let listed = rest.is_empty()
            || rest.starts_with(['/', '`', '|', ']', ':'])
            || rest.starts_with("  ")
            || rest.starts_with(" |");
        if listed && rooms.iter().any(|room| room.name == name) && !floors.contains(&name) {
            floors.push(name);
        }
    }
    floors
}

fn rooms(crates: &Path) -> Outcome<Vec<Room>> {
    let folders = std::fs::read_dir(crates).map_err(|e| format!("{}: {e}", crates.display()))?;
    let mut rooms = Vec::new();
    for folder in folders.map_while(Result::ok) {
        let file = folder.path().join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let manifest: Table = text.parse().map_err(|e| format!("{}: {e}", file.display()))?;
        rooms.push(Room { name: folder.file_name().to_string_lossy().into_owned(), uses: uses(&manifest) });
    }
    rooms.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rooms)
}

fn uses(manifest: &Table) -> Vec<(String, Section)> {
    let sections = [
        ("dependencies", Section::Always),
        ("build-dependencies", Section::Always),
        ("dev-dependencies", Section::InTests),
    ];
    let mut uses = Vec::new();
    for (section, when) in sections {
        let names = manifest.get(section).and_then(Value::as_table).into_iter().flat_map(Table::keys);
        uses.extend(names.filter(|name| name.starts_with("postkey")).map(|name| (name.clone(), when)));
    }
    uses
}

#[cfg(test)]
mod tests {
    use super::{Room, Section, judge};

    const PAGE: &str = "postkey sends mail.\n\n    postkey            the program\n    postkey-graph      Graph\n\
                        - `postkey-emulator`: apart\n| postkey-base | words |\n";

    fn room(name: &str, uses: &[(&str, Section)]) -> Room {
        Room { name: name.into(), uses: uses.iter().map(|(used, when)| ((*used).to_owned(), *when)).collect() }
    }

    #[test]
    fn arrows_run_downward_and_the_emulator_stands_apart() {
        let above = [room("postkey", &[("postkey-graph", Section::Always), ("postkey-emulator", Section::Always)])];
        let below = [room("postkey-emulator", &[("postkey-base", Section::Always)]), room("postkey-base", &[])];
        for (uses, complaints) in [
            (vec![("postkey-base", Section::Always), ("postkey-emulator", Section::InTests)], vec![]),
            (
                vec![("postkey", Section::Always)],
                vec!["postkey-graph uses postkey, which ARCHITECTURE.md lists above it"],
            ),
            (
                vec![("postkey-emulator", Section::Always)],
                vec!["postkey-graph uses postkey-emulator outside its tests; the emulator stands apart"],
            ),
        ] {
            let rooms: Vec<Room> =
                above.iter().chain(&below).map(|r| Room { name: r.name.clone(), uses: r.uses.clone() }).collect();
            let rooms: Vec<Room> = rooms.into_iter().chain([room("postkey-graph", &uses)]).collect();
            assert_eq!(judge(PAGE, &rooms), complaints);
        }
    }

    #[test]
    fn a_crate_that_the_page_does_not_list_is_named() {
        assert_eq!(judge(PAGE, &[room("postkey-new", &[])]), ["ARCHITECTURE.md lists no crate postkey-new"]);
    }
}
