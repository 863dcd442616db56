//! What happens when several write at once, and what a row that makes no sense says.

use postkey_base::Diagnose;
use postkey_store::{IntentId, NewEvent, NewIntent};
use serde_json::json;

use crate::place::{Place, an_app, on_both_databases};

on_both_databases!(
    writers_that_meet_all_succeed_and_number_the_journal_without_gaps,
    a_transaction_given_up_leaves_nothing_behind,
    a_row_that_makes_no_sense_is_named,
    a_store_that_was_closed_opens_again_as_it_was,
);

async fn writers_that_meet_all_succeed_and_number_the_journal_without_gaps(place: Place) {
    let store = place.store().await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            let intent = NewIntent {
                id: IntentId::random(),
                kind: "app.create".into(),
                subject: "billing".into(),
                nonce: None,
                payload: json!({"number": number}),
            };
            // A spawned transaction owns what it uses: `async move`.
            store.transaction("test.append", async move |journal| journal.append_intent(&intent, None).await).await?;
            store.append_event(&NewEvent { kind: "x".into(), result: "ok".into(), ..NewEvent::default() }).await
        });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap().unwrap();
    }
    let numbers: Vec<_> = store.intents("billing").await.unwrap().iter().map(|intent| intent.sequence).collect();
    assert_eq!(numbers, (1..=8).collect::<Vec<_>>());
}

async fn a_transaction_given_up_leaves_nothing_behind(place: Place) {
    let store = place.store().await;
    let written = tokio::sync::Notify::new();
    let transaction = store.transaction("test.abandoned", async |transaction| {
        transaction.begin_setup_run("billing", &json!({}), "register").await?;
        written.notify_one();
        std::future::pending::<Result<(), _>>().await
    });
    // The closure waits for ever after its write; the first arm's loser is dropped in the middle of the transaction.
    tokio::select! {
        () = written.notified() => {}
        ended = transaction => panic!("{ended:?}"),
    }
    assert_eq!(store.setup_run("billing").await.unwrap(), None);
    store.begin_setup_run("billing", &json!({}), "register").await.unwrap();
}

async fn a_row_that_makes_no_sense_is_named(place: Place) {
    let store = place.store().await;
    let app = an_app(&store).await;
    for (column, value, said) in [
        ("client_id", "'mauve'", "\"mauve\" is not a GUID"),
        ("permissions", "'['", "EOF"),
        ("created_at", "9223372036854775807", "created_at"),
    ] {
        place.meddle(&format!("UPDATE apps SET {column} = {value}")).await;
        let error = store.apps().await.unwrap_err();
        assert_eq!(error.code(), "store.row");
        let message = error.to_string();
        for part in ["table apps", &app.id.to_string(), column, said] {
            assert!(message.contains(part), "{part:?} in {message}");
        }
        place
            .meddle(&format!("UPDATE apps SET client_id = '{}', permissions = '[]', created_at = 0", app.client_id))
            .await;
    }
}

async fn a_store_that_was_closed_opens_again_as_it_was(place: Place) {
    let store = place.store().await;
    let app = an_app(&store).await;
    let check = store.check().await.unwrap();
    assert_eq!((check.damage, check.key_versions, check.schema), (None, vec![1], check.newest_schema));
    assert!(check.open_to_others != Some(true) && check.free_bytes != Some(0));
    store.close().await;
    assert_eq!(store.apps().await.unwrap_err().code(), "store.unreachable");
    assert_eq!(place.store().await.apps().await.unwrap(), [app]);
}
