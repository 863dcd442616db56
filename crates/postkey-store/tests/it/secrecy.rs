//! Secrets at rest: sealed, bound to their place, absent from the files.

use postkey_base::{ClientSecret, Diagnose, PrivateKeyDer};
use postkey_store::{LocalCredentialId, Location, Minted, NewCredential, NewMaterial, SenderValues, Store};

use crate::place::{Place, an_app, on_both_databases};

on_both_databases!(a_sealed_value_moved_to_another_row_or_column_does_not_open);

const SECRET: &str = "q7~8Q-the-secret-of-the-app";

async fn credentials(store: &Store) -> [LocalCredentialId; 2] {
    let app = an_app(store).await;
    let new = |nonce: &str, material| NewCredential {
        id: LocalCredentialId::random(),
        app: app.id,
        nonce: nonce.into(),
        display_name: nonce.into(),
        material,
        starts_at: None,
        ends_at: None,
    };
    let secret = new("n1", NewMaterial::Secret);
    let certificate = new(
        "n2",
        NewMaterial::Certificate {
            thumbprint: "AB".into(),
            certificate: vec![],
            private_key: PrivateKeyDer::new(SECRET.into()),
        },
    );
    store.insert_credential(&secret).await.unwrap();
    store.insert_credential(&certificate).await.unwrap();
    let minted = Minted { secret: Some(ClientSecret::new(SECRET.into())), ..Minted::default() };
    store.record_minted(secret.id, &minted).await.unwrap();
    store.save_sender(&SenderValues::named("billing")).await.unwrap();
    store.stage_sender_secret("billing", &ClientSecret::new(SECRET.into())).await.unwrap();
    [secret.id, certificate.id]
}

async fn a_sealed_value_moved_to_another_row_or_column_does_not_open(place: Place) {
    let store = place.store().await;
    let [secret, certificate] = credentials(&store).await;
    place
        .meddle(&format!("UPDATE credentials SET private_key = (SELECT secret FROM credentials WHERE id = '{secret}')"))
        .await;
    place.meddle("UPDATE credentials SET secret = (SELECT secret FROM senders)").await;
    for id in [secret, certificate] {
        let error = store.open_credential(id).await.unwrap_err();
        assert_eq!(error.code(), "store.sealed");
        assert!(!format!("{error} {error:?}").contains(SECRET));
    }
    assert_eq!(store.staged_sender_secret("billing").await.unwrap().unwrap().expose(), SECRET);
    place.meddle("UPDATE senders SET secret = 'plain'").await;
    assert_eq!(store.staged_sender_secret("billing").await.unwrap_err().code(), "store.row");
}

#[tokio::test]
async fn no_file_of_the_store_holds_a_secret_or_may_be_read_by_others() {
    use std::os::unix::fs::PermissionsExt;

    let place = Place::sqlite();
    let store = place.store().await;
    credentials(&store).await;
    let Location::Sqlite(path) = &place.location else { unreachable!("it is SQLite's place") };
    let folder = path.parent().unwrap();
    assert_eq!(std::fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 2, "the database and its log: {files:?}");
    for file in files {
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0, "{file:?}");
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "{file:?}");
    }
}
