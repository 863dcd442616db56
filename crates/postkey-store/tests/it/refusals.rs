//! Every way in which the store refuses to open or to write: what it says, and that nothing was changed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use postkey_base::{Diagnose, Who};
use postkey_store::{KeySource, Location, MasterKeys, NewEvent, Options, Store, StoreError};
use serde_json::json;
use sqlx::{Connection, Executor};

use crate::place::{Place, an_app, on_both_databases};

on_both_databases!(
    the_wrong_key_is_refused_and_nothing_is_changed,
    a_missing_version_of_the_key_is_named,
    a_newer_schema_is_refused_and_nothing_is_changed,
    another_programs_database_is_left_alone,
    a_key_file_is_made_for_a_new_store_only,
    programs_that_begin_a_store_at_once_agree_on_it,
);

fn short() -> Options {
    Options { patience: Duration::from_millis(50), ..Options::default() }
}

fn file(place: &Place) -> &Path {
    match &place.location {
        Location::Sqlite(path) => path,
        Location::Postgres(url) => panic!("{url} is no file"),
    }
}

/// Name and content of each file in the store's folder; nothing for PostgreSQL.
fn files(place: &Place) -> Vec<(PathBuf, Vec<u8>)> {
    let Location::Sqlite(path) = &place.location else { return Vec::new() };
    let entries = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

async fn the_wrong_key_is_refused_and_nothing_is_changed(mut place: Place) {
    let store = place.store().await;
    let app = an_app(&store).await;
    store.close().await;
    let right = std::mem::replace(&mut place.keys, MasterKeys::fresh());
    let before = files(&place);
    let refused = place.open().await.unwrap_err();
    assert_eq!((refused.code(), refused.who()), ("store.wrong_key", Who::You));
    assert!(refused.to_string().starts_with("the master key does not belong to the store at "), "{refused}");
    assert_eq!(files(&place), before);
    place.keys = right;
    assert_eq!(place.store().await.apps().await.unwrap(), [app]);
}

async fn a_missing_version_of_the_key_is_named(place: Place) {
    let store = place.store().await;
    store.close().await;
    place.meddle("INSERT INTO key_checks (version, sealed, created_at) VALUES (7, '7:AAAA', 0)").await;
    let refused = place.open().await.unwrap_err();
    assert_eq!(refused.code(), "store.missing_key");
    assert!(refused.to_string().starts_with("version 7 of the master key is missing"), "{refused}");
}

async fn a_newer_schema_is_refused_and_nothing_is_changed(place: Place) {
    let store = place.store().await;
    let known = store.check().await.unwrap().newest_schema;
    store.close().await;
    place.meddle(&format!("INSERT INTO schema_versions (version, applied_at) VALUES ({}, 0)", known + 1)).await;
    let before = files(&place);
    let refused = place.open().await.unwrap_err();
    assert!(
        matches!(refused, StoreError::NewerSchema { found, known: mine, .. } if found == known + 1 && mine == known),
        "{refused:?}"
    );
    assert_eq!(refused.code(), "store.newer_schema");
    assert_eq!(files(&place), before);
}

async fn another_programs_database_is_left_alone(place: Place) {
    if let Location::Sqlite(path) = &place.location {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, []).unwrap();
    }
    place.meddle("CREATE TABLE invoices (id BIGINT PRIMARY KEY)").await;
    let before = files(&place);
    let refused = place.open().await.unwrap_err();
    assert!(matches!(&refused, StoreError::Foreign { table, .. } if table == "invoices"), "{refused:?}");
    assert_eq!(files(&place), before, "not even its journal mode");
}

async fn a_key_file_is_made_for_a_new_store_only(place: Place) {
    let path = place.folder.path().join("keys/master.key");
    let open = async || {
        Store::open_or_create(place.location.clone(), KeySource::File(path.clone()), place.clock.clock()).await
    };
    open().await.unwrap().close().await;
    open().await.unwrap().close().await;
    let kept = path.with_extension("kept");
    fs::rename(&path, &kept).unwrap();
    let refused = open().await.unwrap_err();
    assert_eq!(refused.code(), "master_key.missing", "{refused}");
    assert!(!path.exists());
    fs::rename(&kept, &path).unwrap();
    open().await.unwrap();
}

async fn programs_that_begin_a_store_at_once_agree_on_it(place: Place) {
    let path = place.folder.path().join("keys/master.key");
    let mut programs = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (location, source) = (place.location.clone(), KeySource::File(path.clone()));
        let clock = place.clock.clock();
        programs.spawn(async move { Store::open_or_create(location, source, clock).await?.installation().await });
    }
    let mut installations = Vec::new();
    while let Some(begun) = programs.join_next().await {
        installations.push(begun.unwrap().unwrap());
    }
    installations.dedup();
    assert_eq!(installations.len(), 1, "{installations:?}");
}

#[tokio::test]
async fn a_damaged_file_is_named_and_left_as_it_is() {
    let place = Place::sqlite();
    let store = place.store().await;
    an_app(&store).await;
    for number in 0..200 {
        store
            .begin_setup_run(&format!("run {number}"), &json!({"padding": "x".repeat(200)}), "register")
            .await
            .unwrap();
    }
    store.close().await;
    let good = fs::read(file(&place)).unwrap();
    let zeroed = |from: usize| {
        let mut bytes = good.clone();
        let to = (from + 4096).min(bytes.len());
        bytes[from..to].fill(0);
        bytes
    };
    for (how, bytes) in [
        ("text", b"this is a letter, not a database, and long enough".to_vec()),
        ("too short", b"SQLi".to_vec()),
        ("only the first words", good[..16].to_vec()),
        ("cut in half", good[..good.len() / 2 / 4096 * 4096].to_vec()),
        ("cut inside a page", good[..good.len() - 1000].to_vec()),
        ("the schema overwritten", zeroed(100)),
        ("a page overwritten", zeroed(4096 * 20)),
    ] {
        fs::write(file(&place), &bytes).unwrap();
        let before = files(&place);
        let refused = place.open().await.expect_err(how);
        assert_eq!(refused.code(), "store.damaged", "{how}: {refused} {refused:?}");
        assert!(refused.remedy().contains("restore"), "{how}");
        assert!(files(&place) == before, "{how}: something was changed");
    }
    fs::write(file(&place), good).unwrap();
    assert_eq!(place.store().await.apps().await.unwrap().len(), 1);
}

/// The limit of `Options::size_limit` makes SQLite answer SQLITE_FULL, as a full disk does.
#[tokio::test]
async fn a_full_disk_stops_the_write_and_keeps_what_was_there() {
    let place = Place::sqlite();
    let refused = place.store_with(Options { size_limit: Some(4096 * 3), ..Options::default() }).await.unwrap_err();
    assert_eq!(refused.code(), "store.disk_full", "even the schema does not fit: {refused}");
    assert_eq!(place.store().await.apps().await.unwrap(), [], "once there is room, it opens");

    let place = Place::sqlite();
    let store = place.store_with(Options { size_limit: Some(4096 * 100), ..Options::default() }).await.unwrap();
    let app = an_app(&store).await;
    let event = NewEvent {
        kind: "x".into(),
        result: "ok".into(),
        detail: Some(json!("x".repeat(4096))),
        ..NewEvent::default()
    };
    let mut written = 0;
    let refused = loop {
        match store.append_event(&event).await {
            Ok(_) => written += 1,
            Err(refused) => break refused,
        }
        assert!(written < 100, "the limit was not obeyed");
    };
    assert_eq!((refused.code(), refused.who()), ("store.disk_full", Who::NetworkAdministrator));
    assert!(refused.why().is_some_and(|why| why.contains("full")), "{:?}", refused.why());
    assert_eq!(store.apps().await.unwrap(), [app]);
    assert_eq!(store.events(&Default::default()).await.unwrap().len(), written);
    assert_eq!(store.check().await.unwrap().damage, None);
}

#[tokio::test]
async fn a_folder_that_may_not_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    // root may write anywhere, but even root makes no files in these.
    let root = rustix::process::geteuid().is_root();
    let read_only = if root { Path::new("/proc/self").to_owned() } else { folder.path().to_owned() };
    let in_a_file = folder.path().join("file");
    if root {
        fs::write(&in_a_file, []).unwrap();
    }
    let mut paths = vec![read_only.join("postkey.db"), read_only.join("postkey/postkey.db")];
    if root {
        paths.push(in_a_file.join("postkey.db"));
    }
    for path in paths {
        let location = Location::Sqlite(path.clone());
        let refused = Store::open(location, MasterKeys::fresh(), postkey_base::Clock::real()).await.unwrap_err();
        assert_eq!((refused.code(), refused.who()), ("store.not_writable", Who::NetworkAdministrator), "{path:?}");
        assert!(refused.why().is_some() && refused.remedy().contains("own and write"), "{refused:?}");
        assert!(!path.exists());
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn a_locked_database_is_waited_for_and_then_named() {
    let place = Place::sqlite();
    let store = place.store_with(short()).await.unwrap();
    let mut other = place.connection().await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let refused = store.installation().await.unwrap_err();
    assert_eq!(refused.code(), "store.locked", "{refused:?}");
    assert!(refused.is_transient());
    assert_eq!(store.apps().await.unwrap(), [], "reading is not disturbed");
    other.execute("ROLLBACK").await.unwrap();
    store.installation().await.unwrap();

    store.close().await;
    other.execute("PRAGMA locking_mode = EXCLUSIVE").await.unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let refused = place.store_with(short()).await.unwrap_err();
    assert_eq!(refused.code(), "store.locked", "{refused:?}");
    other.close().await.unwrap();
    place.store().await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named_without_its_password() {
    // Bound and dropped: nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let location: Location = format!("postgres://postkey:hush@127.0.0.1:{port}/postkey").parse().unwrap();
    let refused = Store::open(location, MasterKeys::fresh(), postkey_base::Clock::real()).await.unwrap_err();
    assert_eq!(refused.code(), "store.unreachable");
    let said = format!("{refused} {refused:?} {:?}", refused.diagnosis());
    assert!(said.contains(&format!("postgres://postkey@127.0.0.1:{port}/postkey")) && !said.contains("hush"), "{said}");
}

/// The handshake succeeds, since the kernel answers, and then nobody does. Time is paused: it jumps when all wait.
#[tokio::test(start_paused = true)]
async fn a_server_that_keeps_silent_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let location: Location = format!("postgres://postkey@{}/postkey", silent.local_addr().unwrap()).parse().unwrap();
    let refused = Store::open(location, MasterKeys::fresh(), postkey_base::Clock::real()).await.unwrap_err();
    assert_eq!(refused.code(), "store.unreachable", "{refused:?}");
}

mod postgres_alone {
    use super::*;

    #[tokio::test]
    async fn a_table_locked_by_another_is_waited_for_and_then_named() {
        let Some(place) = Place::postgres().await else { return };
        let store = place.store_with(short()).await.unwrap();
        let mut other = place.connection().await;
        other.execute("BEGIN").await.unwrap();
        other.execute("LOCK TABLE installation IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let refused = store.installation().await.unwrap_err();
        assert_eq!(refused.code(), "store.locked", "{refused:?}");
        other.execute("ROLLBACK").await.unwrap();
        store.installation().await.unwrap();
    }

    #[tokio::test]
    async fn connections_that_the_server_cut_are_made_again() {
        let Some(place) = Place::postgres().await else { return };
        let store = place.store().await;
        let id = store.installation().await.unwrap();
        place
            .meddle(
                "SELECT CAST(pg_terminate_backend(pid) AS TEXT) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
        assert_eq!(store.installation().await.unwrap(), id);
    }

    #[tokio::test]
    async fn a_database_or_user_that_the_server_does_not_know_is_named() {
        let Some(place) = Place::postgres().await else { return };
        let (authority, _) = place.url.rsplit_once('/').unwrap();
        let (_, host) = place.url.rsplit_once('@').expect("the URL names a user");
        for location in [format!("{authority}/no_such_database"), format!("postgres://no_such_user:x@{host}")] {
            let keys = MasterKeys::fresh();
            let refused = Store::open(location.parse().unwrap(), keys, place.clock.clock()).await.unwrap_err();
            assert_eq!(refused.code(), "store.refused", "{location}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn a_user_who_may_not_make_tables_is_refused_and_nothing_is_changed() {
        let Some(place) = Place::postgres().await else { return };
        let user = format!("reader_{}", uuid::Uuid::new_v4().simple());
        place.meddle(&format!("CREATE ROLE {user} LOGIN PASSWORD 'x'")).await;
        let (_, host) = place.url.rsplit_once('@').expect("the URL names a user");
        let location: Location = format!("postgres://{user}:x@{host}").parse().unwrap();
        let refused = Store::open(location, MasterKeys::fresh(), place.clock.clock()).await.unwrap_err();
        assert_eq!(refused.code(), "store.refused", "{refused:?}");
        assert_eq!(place.store().await.apps().await.unwrap(), []);
        place.meddle(&format!("DROP ROLE {user}")).await;
    }
}
