//! What each aggregate remembers, forgets and refuses.

use jiff::SignedDuration;
use postkey_base::{AppObjectId, ClientId, ClientSecret, CorrelationId, Diagnose, KeyId, PrivateKeyDer, TenantId};
use postkey_store::{
    App, CredentialState, EventFilter, LocalAppId, LocalCredentialId, Material, Minted, Missing, NewCredential,
    NewEvent, NewMaterial, Opened, Reach, Retention, SenderValues, Stage, Store, StoreError,
};
use serde_json::json;

use crate::place::{Place, an_app, on_both_databases};

on_both_databases!(
    an_installation_keeps_its_id,
    a_tenant_is_learned_bit_by_bit_and_keeps_its_cloud_once_it_holds_a_credential,
    an_app_is_found_again_and_never_changes_whose_it_is,
    a_certificate_travels_from_intent_to_grave,
    a_failed_replacement_leaves_the_credential_in_use,
    a_credential_takes_no_step_out_of_order,
    a_sender_is_saved_in_stages,
    a_proof_counts_only_for_the_values_it_proved,
    a_setup_is_resumed_and_only_one_of_two_writers_wins,
    the_log_is_read_by_cursor_and_filter_and_never_grows_without_end,
    a_lease_is_held_by_one_and_fences_the_last_holder,
);

async fn an_installation_keeps_its_id(place: Place) {
    let store = place.store().await;
    let id = store.installation().await.unwrap();
    assert_eq!(store.installation().await.unwrap(), id);
    store.close().await;
    assert_eq!(place.store().await.installation().await.unwrap(), id);
}

async fn a_tenant_is_learned_bit_by_bit_and_keeps_its_cloud_once_it_holds_a_credential(place: Place) {
    let store = place.store().await;
    let (id, cloud) = (TenantId::random(), json!({"cloud": "global"}));
    assert_eq!(store.tenant(id).await.unwrap(), None);
    store.save_tenant(id, &cloud, None, Some("contoso.example")).await.unwrap();
    store.save_tenant(id, &json!({"cloud": "china"}), Some("Contoso"), None).await.unwrap();
    let tenant = store.save_tenant(id, &cloud, None, None).await.unwrap();
    assert_eq!(tenant.display_name.as_deref(), Some("Contoso"));
    assert_eq!(tenant.domain.as_deref(), Some("contoso.example"));
    assert_eq!(store.tenants().await.unwrap(), [tenant]);

    let app = an_app(&store).await;
    a_secret(&store, app.id, "n1", "hush").await;
    let refused = store.save_tenant(app.tenant, &json!({"cloud": "china"}), None, None).await.unwrap_err();
    assert_eq!(refused.code(), "store.hosts_fixed");
    assert_eq!(store.tenant(app.tenant).await.unwrap().unwrap().cloud, cloud);
}

async fn an_app_is_found_again_and_never_changes_whose_it_is(place: Place) {
    let store = place.store().await;
    let mut app = an_app(&store).await;
    app.object_id = Some(AppObjectId::random());
    app.unique_name = Some("postkey-1-billing".into());
    app.permissions = vec!["Mail.Send".into(), "Mail.ReadWrite".into()];
    store.save_app(&app).await.unwrap();
    // What is not known to the writer is not forgotten.
    store.save_app(&App { object_id: None, unique_name: None, ..app.clone() }).await.unwrap();
    assert_eq!(store.app(app.id).await.unwrap().as_ref(), Some(&app));
    assert_eq!(store.app_by_client_id(app.tenant, app.client_id).await.unwrap().as_ref(), Some(&app));
    assert_eq!(store.app_by_unique_name(app.tenant, "postkey-1-billing").await.unwrap().as_ref(), Some(&app));
    assert_eq!(store.app_by_client_id(TenantId::random(), app.client_id).await.unwrap(), None);
    assert_eq!(store.apps().await.unwrap(), [app.clone()]);

    for (other, code) in [
        (App { id: LocalAppId::random(), unique_name: None, ..app.clone() }, "store.exists"),
        (App { id: LocalAppId::random(), client_id: ClientId::random(), ..app.clone() }, "store.exists"),
        (App { id: LocalAppId::random(), tenant: TenantId::random(), ..app.clone() }, "store.not_allowed"),
        (App { client_id: ClientId::random(), ..app.clone() }, "store.not_allowed"),
    ] {
        assert_eq!(store.save_app(&other).await.unwrap_err().code(), code, "{other:?}");
    }
    assert_eq!(store.apps().await.unwrap(), [app]);
}

fn new_credential(app: LocalAppId, nonce: &str, material: NewMaterial) -> NewCredential {
    NewCredential {
        id: LocalCredentialId::random(),
        app,
        nonce: nonce.into(),
        display_name: format!("Billing 26 · pk-{nonce}"),
        material,
        starts_at: None,
        ends_at: None,
    }
}

/// A secret that was minted, not verified.
async fn a_secret(store: &Store, app: LocalAppId, nonce: &str, secret: &str) -> LocalCredentialId {
    let new = new_credential(app, nonce, NewMaterial::Secret);
    store.insert_credential(&new).await.unwrap();
    let minted = Minted { secret: Some(ClientSecret::new(secret.into())), ..Minted::default() };
    store.record_minted(new.id, &minted).await.unwrap();
    new.id
}

async fn a_certificate_travels_from_intent_to_grave(place: Place) {
    let store = place.store().await;
    let app = an_app(&store).await;
    let material = NewMaterial::Certificate {
        thumbprint: "AB12".into(),
        certificate: vec![48, 130, 0, 255],
        private_key: PrivateKeyDer::new(vec![1, 2, 3]),
    };
    let new = new_credential(app.id, "n1", material);
    store.insert_credential(&new).await.unwrap();
    let intended = store.credential(new.id).await.unwrap().unwrap();
    assert_eq!(intended.state, CredentialState::Intended);
    let material = Material::Certificate { thumbprint: "AB12".into(), certificate: vec![48, 130, 0, 255] };
    assert_eq!(intended.material, material);
    // Durable before the upload.
    assert!(
        matches!(store.open_credential(new.id).await.unwrap(), Opened::PrivateKey(key) if key.expose() == [1, 2, 3])
    );

    let ends_at = intended.created_at + SignedDuration::from_hours(24);
    let key_id = KeyId::random();
    let minted = Minted { key_id: Some(key_id), ends_at: Some(ends_at), ..Minted::default() };
    let minted = store.record_minted(new.id, &minted).await.unwrap();
    assert_eq!((minted.key_id, minted.ends_at, minted.starts_at), (Some(key_id), Some(ends_at), None));
    assert_eq!(store.current_credential(app.id).await.unwrap(), None);
    let verified = store.record_verified(new.id).await.unwrap();
    assert_eq!(store.current_credential(app.id).await.unwrap(), Some(verified.clone()));
    place.clock.turn(SignedDuration::from_secs(60));
    assert_eq!(store.record_verified(new.id).await.unwrap(), verified, "the first proof counts");
    assert_eq!(store.credential_by_nonce(app.id, "n1").await.unwrap(), Some(verified));
    assert_eq!(store.credential_by_nonce(app.id, "n2").await.unwrap(), None);

    let retired = store.record_retired(new.id).await.unwrap();
    place.clock.turn(SignedDuration::from_secs(60));
    assert_eq!(store.record_retired(new.id).await.unwrap(), retired);
    assert_eq!(store.current_credential(app.id).await.unwrap(), None);
    let gone = store.open_credential(new.id).await.unwrap_err();
    assert_eq!(gone.code(), "store.not_allowed", "{gone}");
    assert_eq!(store.all_credentials().await.unwrap(), store.credentials(app.id).await.unwrap());
    assert_eq!(store.credentials(app.id).await.unwrap(), [retired]);
}

async fn a_failed_replacement_leaves_the_credential_in_use(place: Place) {
    let store = place.store().await;
    let app = an_app(&store).await;
    let in_use = a_secret(&store, app.id, "n1", "works").await;
    store.record_verified(in_use).await.unwrap();
    place.clock.turn(SignedDuration::from_secs(60));
    let replacement = a_secret(&store, app.id, "n2", "refused").await;

    let current = store.current_credential(app.id).await.unwrap().unwrap();
    assert_eq!(current.id, in_use);
    assert!(
        matches!(store.open_credential(current.id).await.unwrap(), Opened::Secret(secret) if secret.expose() == "works")
    );
    store.record_retired(replacement).await.unwrap();
    assert_eq!(store.current_credential(app.id).await.unwrap().unwrap().id, in_use);

    let better = a_secret(&store, app.id, "n3", "works too").await;
    store.record_verified(better).await.unwrap();
    assert_eq!(store.current_credential(app.id).await.unwrap().unwrap().id, better);
    store.record_retired(better).await.unwrap();
    assert_eq!(store.current_credential(app.id).await.unwrap().unwrap().id, in_use, "the one before still works");
}

async fn a_credential_takes_no_step_out_of_order(place: Place) {
    let store = place.store().await;
    let app = an_app(&store).await;
    let secret = || Minted { secret: Some(ClientSecret::new("hush".into())), ..Minted::default() };
    let new = new_credential(app.id, "n1", NewMaterial::Secret);
    store.insert_credential(&new).await.unwrap();
    let twin = new_credential(app.id, "n1", NewMaterial::Secret);
    let federated = new_credential(app.id, "n2", NewMaterial::Federated { assertion_file: "/run/token".into() });
    store.insert_credential(&federated).await.unwrap();
    assert!(
        matches!(store.open_credential(federated.id).await.unwrap(), Opened::AssertionFile(file) if file == "/run/token")
    );
    let orphan = new_credential(LocalAppId::random(), "n1", NewMaterial::Secret);
    let unknown = LocalCredentialId::random();

    let refusals = [
        ("the nonce is taken", store.insert_credential(&twin).await, "store.exists"),
        ("no such app", store.insert_credential(&orphan).await, "store.not_allowed"),
        ("not minted yet", store.record_verified(new.id).await.map(drop), "store.not_allowed"),
        ("no value yet", store.open_credential(new.id).await.map(drop), "store.not_allowed"),
        ("without its secret", store.record_minted(new.id, &Minted::default()).await.map(drop), "store.not_allowed"),
        ("with a secret", store.record_minted(federated.id, &secret()).await.map(drop), "store.not_allowed"),
        ("unknown", store.record_minted(unknown, &secret()).await.map(drop), "store.not_found"),
        ("unknown", store.open_credential(unknown).await.map(drop), "store.not_found"),
    ];
    for (why, refused, code) in refusals {
        assert_eq!(refused.unwrap_err().code(), code, "{why}");
    }
    store.record_minted(new.id, &secret()).await.unwrap();
    let twice = store.record_minted(new.id, &secret()).await.unwrap_err();
    assert_eq!(twice.to_string(), format!("credential {} cannot be minted: it is minted", new.id));
}

async fn a_sender_is_saved_in_stages(place: Place) {
    let store = place.store().await;
    let app = an_app(&store).await;
    let mut values = SenderValues::named("billing");
    let missing = |sender: postkey_store::Sender| match sender.stage {
        Stage::Incomplete { missing } => missing,
        stage => panic!("{stage:?}"),
    };
    let all = vec![Missing::ClientId, Missing::Tenant, Missing::Mailbox, Missing::Credential];
    assert_eq!(missing(store.save_sender(&values).await.unwrap()), all);
    let early = store.record_sender_verified("billing", &json!({}), None).await.unwrap_err();
    assert_eq!(
        early.to_string(),
        "the sender \"billing\" cannot be verified: it lacks client_id, tenant, mailbox, credential"
    );

    let staged = store.stage_sender_secret("billing", &ClientSecret::new("hush".into())).await.unwrap();
    assert!(staged.staged_secret);
    assert_eq!(missing(staged), all[..3]);
    assert_eq!(store.staged_sender_secret("billing").await.unwrap().unwrap().expose(), "hush");

    values.client_id = Some(app.client_id);
    values.tenant = Some(app.tenant);
    assert_eq!(missing(store.save_sender(&values).await.unwrap()), [Missing::Mailbox]);
    values.mailbox = Some("noreply@contoso.example".parse().unwrap());
    assert_eq!(store.save_sender(&values).await.unwrap().stage, Stage::Ready);

    // The secret has become a verified credential of the app: one commit.
    let credential = new_credential(app.id, "n1", NewMaterial::Secret);
    values.app = Some(app.id);
    store
        .transaction("sender.adopt_secret", async |transaction| {
            let secret = transaction.staged_sender_secret("billing").await?;
            transaction.insert_credential(&credential).await?;
            transaction.record_minted(credential.id, &Minted { secret, ..Minted::default() }).await?;
            transaction.record_verified(credential.id).await?;
            transaction.drop_staged_sender_secret("billing").await?;
            transaction.save_sender(&values).await.map(drop)
        })
        .await
        .unwrap();
    let sender = store.sender("billing").await.unwrap().unwrap();
    assert_eq!((sender.stage, sender.staged_secret), (Stage::Ready, false));
    assert!(store.staged_sender_secret("billing").await.unwrap().is_none());

    let sender = store.record_sender_verified("billing", &json!({"status": 202}), Some("<1@contoso>")).await.unwrap();
    assert!(matches!(sender.stage, Stage::Verified { .. }));
    assert_eq!(sender.test_message_id.as_deref(), Some("<1@contoso>"));
    assert_eq!(store.senders().await.unwrap(), [sender]);

    // Its credential is gone: what was verified is incomplete again, without anyone writing it.
    store.record_retired(credential.id).await.unwrap();
    assert_eq!(missing(store.sender("billing").await.unwrap().unwrap()), [Missing::Credential]);

    assert!(store.remove_sender("billing").await.unwrap());
    assert!(!store.remove_sender("billing").await.unwrap());
    assert_eq!(store.sender("billing").await.unwrap(), None);
    assert_eq!(store.drop_staged_sender_secret("billing").await.unwrap_err().code(), "store.not_found");
}

async fn a_proof_counts_only_for_the_values_it_proved(place: Place) {
    let store = place.store().await;
    let app = an_app(&store).await;
    let in_use = a_secret(&store, app.id, "n1", "works").await;
    store.record_verified(in_use).await.unwrap();
    let values = SenderValues {
        tenant: Some(app.tenant),
        client_id: Some(app.client_id),
        mailbox: Some("noreply@contoso.example".parse().unwrap()),
        app: Some(app.id),
        ..SenderValues::named("billing")
    };
    let prove = async || {
        store.save_sender(&values).await.unwrap();
        store.record_sender_reach("billing", Reach::Limited, &json!({"status": 403})).await.unwrap();
        store.record_sender_verified("billing", &json!({}), None).await.unwrap()
    };
    let proved = prove().await;
    assert_eq!(store.save_sender(&values).await.unwrap(), proved, "the same values again");

    let other_mailbox = SenderValues { mailbox: Some("other@contoso.example".parse().unwrap()), ..values.clone() };
    let other_client = SenderValues { client_id: Some(ClientId::random()), ..values.clone() };
    let other_tenant = SenderValues { tenant: Some(TenantId::random()), ..values.clone() };
    for changed in [other_mailbox, other_client, other_tenant] {
        prove().await;
        let sender = store.save_sender(&changed).await.unwrap();
        assert_eq!(
            (sender.stage, sender.reach, sender.last_proof),
            (Stage::Ready, Reach::Unknown, None),
            "{changed:?}"
        );
    }
}

async fn a_setup_is_resumed_and_only_one_of_two_writers_wins(place: Place) {
    let store = place.store().await;
    let options = json!({"credential": "certificate"});
    let begun = store.begin_setup_run("billing", &options, "register").await.unwrap();
    assert_eq!((begun.step.as_str(), &begun.facts), ("register", &json!({})));
    let resumed = store.begin_setup_run("billing", &json!({"credential": "secret"}), "register").await.unwrap();
    assert_eq!(resumed, begun);

    let (mut mine, mut theirs) = (begun.clone(), begun);
    mine.step = "credential".into();
    mine.facts = json!({"app": "3fa85f64-5717-4562-b3fc-2c963f66afa6"});
    let saved = store.save_setup_run(&mine).await.unwrap();
    assert!(saved.revision > mine.revision);
    theirs.step = "lost".into();
    assert_eq!(store.save_setup_run(&theirs).await.unwrap_err().code(), "store.changed");
    assert_eq!(store.setup_run("billing").await.unwrap().unwrap(), saved);
    assert_eq!(store.setup_runs().await.unwrap(), [saved]);
    assert!(store.remove_setup_run("billing").await.unwrap());
    assert_eq!(store.setup_run("billing").await.unwrap(), None);
}

async fn the_log_is_read_by_cursor_and_filter_and_never_grows_without_end(place: Place) {
    let store = place.store().await;
    let (tenant, client_id) = (TenantId::random(), ClientId::random());
    let event = |number: u32| NewEvent {
        kind: "token.issued".into(),
        result: "ok".into(),
        tenant: number.is_multiple_of(2).then_some(tenant),
        client_id: Some(client_id),
        aadsts: Some(number),
        correlation_id: Some(CorrelationId::random()),
        trace_id: Some("t".into()),
        key_id: Some(KeyId::random()),
        detail: Some(json!({"number": number})),
    };
    for number in 0..6 {
        store.append_event(&event(number)).await.unwrap();
        place.clock.turn(SignedDuration::from_secs(1));
    }
    let read = async |filter: EventFilter| -> Vec<_> {
        let events = store.events(&filter).await.unwrap();
        events.into_iter().map(|event| event.aadsts.unwrap()).collect()
    };
    let all = store.events(&EventFilter::default()).await.unwrap();
    assert_eq!(read(EventFilter::default()).await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(read(EventFilter { limit: 2, ..EventFilter::default() }).await, [4, 5]);
    assert_eq!(read(EventFilter { after: Some(all[1].sequence), limit: 2, ..EventFilter::default() }).await, [2, 3]);
    assert_eq!(read(EventFilter { tenant: Some(tenant), ..EventFilter::default() }).await, [0, 2, 4]);
    assert_eq!(read(EventFilter { client_id: Some(ClientId::random()), ..EventFilter::default() }).await, [0; 0]);
    assert_eq!(read(EventFilter { since: Some(all[4].at), ..EventFilter::default() }).await, [4, 5]);

    let keep = Retention { age: SignedDuration::from_secs(4), lines: 3 };
    assert_eq!(store.prune_events(keep).await.unwrap(), 3);
    assert_eq!(read(EventFilter::default()).await, [3, 4, 5]);
    let keep = Retention { age: SignedDuration::from_secs(2), lines: 100 };
    store.prune_events(keep).await.unwrap();
    assert_eq!(read(EventFilter::default()).await, [4, 5]);
    // A cursor stays good: numbers are not given twice.
    assert_eq!(store.append_event(&event(6)).await.unwrap(), all[5].sequence + 1);
}

async fn a_lease_is_held_by_one_and_fences_the_last_holder(place: Place) {
    let store = place.store().await;
    let minute = SignedDuration::from_secs(60);
    let first = store.take_lease("rotation", "cli", minute).await.unwrap().unwrap();
    assert_eq!(store.take_lease("rotation", "server", minute).await.unwrap(), None);
    assert_eq!(store.lease("rotation").await.unwrap().unwrap(), first);
    assert_eq!(store.lease("nobody's").await.unwrap(), None);
    assert_eq!(store.take_lease("rotation", "cli", minute).await.unwrap(), None, "a second run of the same program");
    assert!(store.take_lease("other", "server", minute).await.unwrap().is_some());
    place.clock.turn(SignedDuration::from_secs(50));
    let first = store.extend_lease(&first, minute).await.unwrap();
    place.clock.turn(SignedDuration::from_secs(50));
    store.confirm_lease(&first).await.unwrap();

    place.clock.turn(SignedDuration::from_secs(10));
    let second = store.take_lease("rotation", "server", minute).await.unwrap().unwrap();
    assert_eq!(second.epoch, first.epoch + 1);
    for lost in [store.confirm_lease(&first).await, store.extend_lease(&first, minute).await.map(drop)] {
        assert!(matches!(lost, Err(StoreError::LeaseLost { .. })), "{lost:?}");
    }
    store.release_lease(&first).await.unwrap();
    store.confirm_lease(&second).await.unwrap();
    store.release_lease(&second).await.unwrap();
    let third = store.take_lease("rotation", "cli", minute).await.unwrap().unwrap();
    assert_eq!(third.epoch, second.epoch + 1, "the epoch outlives a release");
}
