//! The store: whole, private, sealed with one master key, with room on its disk.

use postkey_base::Who;
use postkey_store::{Store, StoreCheck};

use super::{Check, Round, failure, finding};

const INTEGRITY: (&str, &str) = ("store.integrity", "the store is whole");
const SPACE: (&str, &str) = ("store.space", "its disk has room");
const PRIVACY: (&str, &str) = ("store.privacy", "nobody else can read it");
const KEY: (&str, &str) = ("store.key", "the master key opens it");

/// Below this the journal of a set-up may still be written, but a week of events may not.
const LITTLE_ROOM: u64 = 100 << 20;
/// Below this the next commit may fail.
const NO_ROOM: u64 = 10 << 20;

pub(super) async fn examine(store: &Store, round: &mut Round<'_>) {
    let seen = match store.check().await {
        Ok(seen) => seen,
        Err(error) => {
            let held = round.add(failure(INTEGRITY.0, INTEGRITY.1, &error));
            for (name, title) in [SPACE, PRIVACY, KEY] {
                let _ = held.or_else(|because| round.skip(name, title, because));
            }
            return;
        }
    };
    for check in [integrity(&seen), space(&seen), privacy(&seen), key(&seen)] {
        let _ = round.add(check);
    }
}

fn integrity(seen: &StoreCheck) -> Check {
    let (name, title) = INTEGRITY;
    let check = match &seen.damage {
        None => Check::passed(name, title),
        Some(damage) => Check::failed(
            name,
            title,
            finding(
                "store.damaged",
                "the database is damaged",
                damage.clone(),
                "Stop postkey, keep a copy of the damaged file, and restore the last backup.",
                Who::You,
            ),
        ),
    };
    check.with("location", &seen.location).with("schema", format!("{} of {}", seen.schema, seen.newest_schema))
}

fn space(seen: &StoreCheck) -> Check {
    let (name, title) = SPACE;
    let Some(free) = seen.free_bytes else {
        return Check::skipped(name, title, "the database server looks after its own disk");
    };
    let short = |code, what: &str| {
        finding(
            code,
            what,
            None,
            "Make room on the disk of the data folder, or move the folder.",
            Who::NetworkAdministrator,
        )
    };
    let check = match free {
        ..NO_ROOM => {
            Check::failed(name, title, short("store.no_room", "the disk is full: the next thing to remember is lost"))
        }
        NO_ROOM..LITTLE_ROOM => Check::warning(name, title, short("store.little_room", "the disk is almost full")),
        _ => Check::passed(name, title),
    };
    check.with("free", super::network::size(free))
}

fn privacy(seen: &StoreCheck) -> Check {
    let (name, title) = PRIVACY;
    match seen.open_to_others {
        None => Check::skipped(name, title, "the database server guards it"),
        Some(false) => Check::passed(name, title),
        Some(true) => Check::warning(
            name,
            title,
            finding(
                "store.open_to_others",
                "other users of this machine can read the database",
                "Its secrets are sealed, but names, addresses and ids are not.".to_owned(),
                format!("chmod 600 {}", seen.location.trim_start_matches("sqlite:")),
                Who::You,
            ),
        ),
    }
}

fn key(seen: &StoreCheck) -> Check {
    let (name, title) = KEY;
    let versions: Vec<String> = seen.key_versions.iter().map(u32::to_string).collect();
    let check = if versions.len() > 1 {
        Check::warning(
            name,
            title,
            finding(
                "store.key_rotation_unfinished",
                "some secrets are still sealed with an older master key",
                "A rotation of the master key was not finished.".to_owned(),
                "Run `postkey key rotate` again: it goes on where it stopped.",
                Who::You,
            ),
        )
    } else {
        Check::passed(name, title)
    };
    check.with("versions", versions.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckResult;

    fn seen() -> StoreCheck {
        StoreCheck {
            location: "sqlite:/d/postkey.db".into(),
            engine: "sqlite".into(),
            schema: 1,
            newest_schema: 1,
            key_versions: vec![1],
            size_bytes: Some(1),
            free_bytes: Some(1 << 30),
            open_to_others: Some(false),
            damage: None,
        }
    }

    #[test]
    fn room_on_the_disk_is_judged_before_it_runs_out() {
        for (free, want) in [(0, "failed"), (NO_ROOM, "warning"), (LITTLE_ROOM, "passed")] {
            let check = space(&StoreCheck { free_bytes: Some(free), ..seen() });
            assert_eq!(serde_json::to_value(&check).unwrap()["result"], want, "{free}");
        }
    }

    #[test]
    fn damage_fails_and_an_unfinished_rotation_warns() {
        assert_eq!(integrity(&seen()).result, CheckResult::Passed);
        let damaged = StoreCheck { damage: Some("page 3".into()), ..seen() };
        assert_eq!(integrity(&damaged).result, CheckResult::Failed);
        assert_eq!(key(&StoreCheck { key_versions: vec![1, 2], ..seen() }).result, CheckResult::Warning);
    }
}
