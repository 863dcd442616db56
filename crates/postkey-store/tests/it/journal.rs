//! Intents: written before the effect, their results with the consequence, and never changed.

use jiff::SignedDuration;
use postkey_base::{ClientSecret, Diagnose, KeyId};
use postkey_store::{
    CredentialState, IntentId, LocalCredentialId, Minted, NewCredential, NewIntent, NewMaterial, Opened, Store,
};
use serde_json::json;

use crate::place::{Place, an_app, on_both_databases};

on_both_databases!(
    after_a_crash_between_intent_and_result_the_journal_says_what_is_uncertain,
    a_result_and_its_consequence_are_one_commit,
    an_intent_has_one_result_and_its_place_in_the_journal,
    an_intent_under_a_lost_lease_is_refused,
);

fn intent(kind: &str, subject: &str) -> NewIntent {
    NewIntent {
        id: IntentId::random(),
        kind: kind.into(),
        subject: subject.into(),
        nonce: Some("n1".into()),
        payload: json!({"ends": "2027-01-01"}),
    }
}

fn secret(app: postkey_store::LocalAppId) -> NewCredential {
    NewCredential {
        id: LocalCredentialId::random(),
        app,
        nonce: "n1".into(),
        display_name: "Billing · pk-n1".into(),
        material: NewMaterial::Secret,
        starts_at: None,
        ends_at: None,
    }
}

async fn intend(store: &Store, intent: &NewIntent, credential: &NewCredential) {
    store
        .transaction("credential.intend", async |transaction| {
            transaction.append_intent(intent, None).await?;
            transaction.insert_credential(credential).await
        })
        .await
        .unwrap();
}

async fn after_a_crash_between_intent_and_result_the_journal_says_what_is_uncertain(place: Place) {
    let store = place.store().await;
    let app = an_app(&store).await;
    let (intent, credential) = (intent("credential.add_password", "billing"), secret(app.id));
    intend(&store, &intent, &credential).await;
    // The call is sent, and its answer never written: the process is gone.
    drop(store);

    let store = place.store().await;
    let open = store.open_intents().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].id, open[0].nonce.as_deref(), &open[0].result), (intent.id, Some("n1"), &None));
    assert_eq!(open[0].payload, intent.payload);
    let found = store.credential_by_nonce(app.id, "n1").await.unwrap().unwrap();
    assert_eq!((found.id, found.state), (credential.id, CredentialState::Intended));
    store.record_result(intent.id, &json!({"outcome": "absent"})).await.unwrap();
    assert_eq!(store.open_intents().await.unwrap(), []);
}

async fn a_result_and_its_consequence_are_one_commit(place: Place) {
    let store = place.store().await;
    let app = an_app(&store).await;
    let (intent, credential) = (intent("credential.add_password", "billing"), secret(app.id));
    intend(&store, &intent, &credential).await;

    let minted =
        Minted { key_id: Some(KeyId::random()), secret: Some(ClientSecret::new("hush".into())), ..Minted::default() };
    let record = async |fail: bool| {
        store
            .transaction("credential.record", async |transaction| {
                transaction.record_result(intent.id, &json!({"status": 200})).await?;
                transaction.record_minted(credential.id, &minted).await?;
                if fail { transaction.record_minted(credential.id, &minted).await.map(drop) } else { Ok(()) }
            })
            .await
    };
    record(true).await.unwrap_err();
    assert_eq!(store.open_intents().await.unwrap().len(), 1, "nothing of it is left");
    assert_eq!(store.credential(credential.id).await.unwrap().unwrap().state, CredentialState::Intended);
    record(false).await.unwrap();
    let settled = store.intent(intent.id).await.unwrap().unwrap();
    assert_eq!(settled.result.unwrap().result, json!({"status": 200}));
    assert!(
        matches!(store.open_credential(credential.id).await.unwrap(), Opened::Secret(secret) if secret.expose() == "hush")
    );
}

async fn an_intent_has_one_result_and_its_place_in_the_journal(place: Place) {
    let store = place.store().await;
    let intents = ["app.create", "credential.add_key", "consent.grant"].map(|kind| intent(kind, "billing"));
    for intent in &intents {
        store.append_intent(intent, None).await.unwrap();
    }
    store.append_intent(&intent("app.create", "other"), None).await.unwrap();
    store.record_result(intents[0].id, &json!({"status": 201})).await.unwrap();
    let refusals = [
        (store.record_result(intents[0].id, &json!({})).await, "store.exists"),
        (store.append_intent(&intents[0], None).await, "store.exists"),
        (store.record_result(IntentId::random(), &json!({})).await, "store.not_allowed"),
    ];
    for (refused, code) in refusals {
        assert_eq!(refused.unwrap_err().code(), code);
    }
    let journal = store.intents("billing").await.unwrap();
    let kinds: Vec<_> = journal.iter().map(|intent| (intent.sequence, intent.kind.as_str())).collect();
    assert_eq!(kinds, [(1, "app.create"), (2, "credential.add_key"), (3, "consent.grant")]);
    assert_eq!(store.open_intents().await.unwrap().len(), 3);
}

async fn an_intent_under_a_lost_lease_is_refused(place: Place) {
    let store = place.store().await;
    let minute = SignedDuration::from_secs(60);
    let lost = store.take_lease("billing", "cli", minute).await.unwrap().unwrap();
    store.append_intent(&intent("app.create", "billing"), Some(&lost)).await.unwrap();
    place.clock.turn(minute);
    let held = store.take_lease("billing", "server", minute).await.unwrap().unwrap();
    let refused = store.append_intent(&intent("app.create", "billing"), Some(&lost)).await.unwrap_err();
    assert_eq!(refused.code(), "store.lease_lost");
    store.append_intent(&intent("app.create", "billing"), Some(&held)).await.unwrap();
    let epochs: Vec<_> = store.intents("billing").await.unwrap().iter().map(|intent| intent.epoch).collect();
    assert_eq!(epochs, [Some(1), Some(2)]);
}
