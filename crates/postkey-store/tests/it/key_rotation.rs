//! The master key is replaced value by value; whatever interrupts that, nothing is lost and it can be finished.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use postkey_base::{ClientSecret, Diagnose, PrivateKeyDer};
use postkey_store::{
    KeySource, LocalCredentialId, MasterKeys, Minted, NewCredential, NewMaterial, Opened, SenderValues, Store, reseal,
    rotate_master_key,
};
use sqlx::Row;

use crate::place::{Place, an_app, on_both_databases};

on_both_databases!(
    a_rotation_interrupted_at_any_value_loses_nothing_and_is_finished_by_the_next,
    a_rotation_that_died_around_the_file_is_finished_by_the_next,
    a_program_that_was_running_reads_and_seals_with_the_new_key,
    a_key_that_is_not_a_file_is_rotated_by_hand,
    the_key_of_another_store_rotates_nothing,
    two_rotations_do_not_run_at_once,
    every_sealed_column_is_rotated,
);

/// 18 secrets, more than one batch, one private key, one staged secret.
const VALUES: u64 = 20;

fn with_key_file(place: &mut Place) -> PathBuf {
    let path = place.folder.path().join("keys/master.key");
    MasterKeys::create_file_if_missing(&path).unwrap();
    place.keys = MasterKeys::load(KeySource::File(path.clone())).unwrap();
    path
}

fn reload(place: &mut Place, path: &Path) {
    place.keys = MasterKeys::load(KeySource::File(path.to_owned())).unwrap();
}

async fn fill(store: &Store) -> Vec<(LocalCredentialId, String)> {
    let app = an_app(store).await;
    let mut filled = Vec::new();
    for number in 0..VALUES - 1 {
        let value = format!("secret number {number}");
        let material = if number == 0 {
            let private_key = PrivateKeyDer::new(value.clone().into_bytes());
            NewMaterial::Certificate { thumbprint: "AB".into(), certificate: vec![], private_key }
        } else {
            NewMaterial::Secret
        };
        let new = NewCredential {
            id: LocalCredentialId::random(),
            app: app.id,
            nonce: format!("n{number}"),
            display_name: String::new(),
            material,
            starts_at: None,
            ends_at: None,
        };
        store.insert_credential(&new).await.unwrap();
        if number > 0 {
            let secret = Some(ClientSecret::new(value.clone()));
            store.record_minted(new.id, &Minted { secret, ..Minted::default() }).await.unwrap();
        }
        filled.push((new.id, value));
    }
    store.save_sender(&SenderValues::named("billing")).await.unwrap();
    store.stage_sender_secret("billing", &ClientSecret::new("staged".into())).await.unwrap();
    filled
}

async fn assert_all_open(store: &Store, filled: &[(LocalCredentialId, String)]) {
    for (id, value) in filled {
        match store.open_credential(*id).await.unwrap() {
            Opened::Secret(secret) => assert_eq!(secret.expose(), value),
            Opened::PrivateKey(key) => assert_eq!(key.expose(), value.as_bytes()),
            Opened::AssertionFile(file) => panic!("{file}"),
        }
    }
    assert_eq!(store.staged_sender_secret("billing").await.unwrap().unwrap().expose(), "staged");
}

async fn a_rotation_interrupted_at_any_value_loses_nothing_and_is_finished_by_the_next(mut place: Place) {
    let path = with_key_file(&mut place);
    let store = place.store().await;
    let filled = fill(&store).await;
    store.close().await;
    for stop in 1..=VALUES {
        reload(&mut place, &path);
        let store = place.store().await;
        let rotated = rotate_master_key(&store, &path, |progress| {
            if progress.resealed == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let rotated = rotated.await.unwrap();
        assert!(!rotated.finished);
        // The process is gone; the next one knows what the file and the database know.
        drop(store);
        reload(&mut place, &path);
        assert_eq!(place.keys.versions().len(), 2, "both are needed");
        let store = place.store().await;
        assert_all_open(&store, &filled).await;

        let finished = rotate_master_key(&store, &path, |_| ControlFlow::Continue(())).await.unwrap();
        assert!(finished.finished && finished.version == rotated.version);
        assert_all_open(&store, &filled).await;
        store.close().await;
        reload(&mut place, &path);
        assert_eq!(place.keys.versions(), [finished.version]);
        assert_eq!(place.store().await.check().await.unwrap().key_versions, [finished.version]);
    }
}

async fn a_rotation_that_died_around_the_file_is_finished_by_the_next(mut place: Place) {
    let path = with_key_file(&mut place);
    let store = place.store().await;
    let filled = fill(&store).await;
    let before = std::fs::read(&path).unwrap();
    rotate_master_key(&store, &path, |_| ControlFlow::Break(())).await.unwrap();
    let both = std::fs::read(&path).unwrap();
    store.close().await;

    // Died after the old version was dropped from the store and before it was dropped from the file.
    reload(&mut place, &path);
    let store = place.store().await;
    rotate_master_key(&store, &path, |_| ControlFlow::Continue(())).await.unwrap();
    store.close().await;
    let after = std::fs::read(&path).unwrap();
    std::fs::write(&path, &both).unwrap();
    reload(&mut place, &path);
    let store = place.store().await;
    assert_all_open(&store, &filled).await;
    let finished = rotate_master_key(&store, &path, |_| ControlFlow::Continue(())).await.unwrap();
    assert_eq!((finished.resealed, finished.finished), (0, true));
    assert_eq!(std::fs::read(&path).unwrap(), after);
    store.close().await;

    // An old copy of the file is the wrong key now, and says so.
    std::fs::write(&path, before).unwrap();
    reload(&mut place, &path);
    let refused = place.open().await.unwrap_err();
    assert_eq!(refused.code(), "store.missing_key", "{refused}");
}

async fn a_program_that_was_running_reads_and_seals_with_the_new_key(mut place: Place) {
    let path = with_key_file(&mut place);
    let running = place.store().await;
    let filled = fill(&running).await;
    let command = place.store().await;
    rotate_master_key(&command, &path, |_| ControlFlow::Continue(())).await.unwrap();
    assert_all_open(&running, &filled).await;

    let idle = Store::open(
        place.location.clone(),
        MasterKeys::load(KeySource::File(path.clone())).unwrap(),
        place.clock.clock(),
    );
    let idle = idle.await.unwrap();
    rotate_master_key(&command, &path, |_| ControlFlow::Continue(())).await.unwrap();
    // It has not read anything since: sealing must find out by itself.
    idle.stage_sender_secret("billing", &ClientSecret::new("newer".into())).await.unwrap();
    command.close().await;
    reload(&mut place, &path);
    let store = place.store().await;
    assert_eq!(store.staged_sender_secret("billing").await.unwrap().unwrap().expose(), "newer");
}

/// As from the environment: a person has added a version, and no file can be written.
async fn a_key_that_is_not_a_file_is_rotated_by_hand(mut place: Place) {
    let path = with_key_file(&mut place);
    let store = place.store().await;
    let filled = fill(&store).await;
    rotate_master_key(&store, &path, |_| ControlFlow::Break(())).await.unwrap();
    let both = MasterKeys::load(KeySource::File(path.clone())).unwrap();
    let done = reseal(&store, &both, |_| ControlFlow::Continue(())).await.unwrap();
    assert!(done.finished && done.resealed == VALUES);
    assert_all_open(&store, &filled).await;
    assert_eq!(store.check().await.unwrap().key_versions, [2]);
    assert_eq!(MasterKeys::load(KeySource::File(path)).unwrap().versions(), [1, 2]);
}

async fn the_key_of_another_store_rotates_nothing(mut place: Place) {
    let path = with_key_file(&mut place);
    let store = place.store().await;
    let other = place.folder.path().join("other/master.key");
    MasterKeys::create_file_if_missing(&other).unwrap();
    let before = std::fs::read(&other).unwrap();
    let refused = rotate_master_key(&store, &other, |_| ControlFlow::Continue(())).await.unwrap_err();
    assert_eq!(refused.code(), "store.wrong_key");
    assert_eq!(std::fs::read(&other).unwrap(), before);
    assert_eq!(MasterKeys::load(KeySource::File(path)).unwrap().versions(), [1]);
}

async fn two_rotations_do_not_run_at_once(mut place: Place) {
    let path = with_key_file(&mut place);
    let store = place.store().await;
    let _held = std::fs::File::open(path.parent().unwrap()).map(|folder| folder.try_lock().map(|()| folder)).unwrap();
    let refused = rotate_master_key(&store, &path, |_| ControlFlow::Continue(())).await.unwrap_err();
    assert_eq!(refused.code(), "store.not_allowed");
    assert_eq!(MasterKeys::load(KeySource::File(path)).unwrap().versions(), [1]);
}

/// Looks at every text of every table for values sealed with the first version: a new sealed column cannot be forgotten.
async fn every_sealed_column_is_rotated(mut place: Place) {
    let path = with_key_file(&mut place);
    let store = place.store().await;
    fill(&store).await;
    let rotated = rotate_master_key(&store, &path, |_| ControlFlow::Continue(())).await.unwrap();
    assert_eq!((rotated.version, rotated.resealed), (2, VALUES));
    let mut connection = place.connection().await;
    let tables = [
        "key_checks",
        "installation",
        "tenants",
        "apps",
        "credentials",
        "senders",
        "setup_runs",
        "intents",
        "intent_results",
        "events",
        "leases",
    ];
    for table in tables {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch_all(&mut connection).await;
        for row in rows.unwrap() {
            for column in 0..row.len() {
                let text = row.try_get::<Option<String>, _>(column).ok().flatten().unwrap_or_default();
                assert!(!text.starts_with("1:"), "{table}, column {column}");
            }
        }
    }
}
