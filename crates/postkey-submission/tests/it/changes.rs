//! What changes in the store holds without a restart, in sessions that are open, too.

use std::time::Duration;

use postkey_base::EmailAddress;
use postkey_store::{SenderValues, SubmitterRules};
use postkey_submission::{LoginRefusal, Refusal, new_api_key, new_password};

use crate::{
    client::{Client, FROM, MESSAGE},
    house::House,
};

#[tokio::test]
async fn an_open_session_feels_each_change() {
    let house = House::open().await;
    let password = house.submitter("scanner", SubmitterRules::default()).await;
    let mut client = Client::greeted(house.at("starttls")).await;
    client.sign_in("scanner", &password).await;
    assert!(client.submit(FROM, &["a@x.example"], MESSAGE).await.starts_with("250"));

    house.store.disable_submitter("scanner", true).await.unwrap();
    house.directory.refresh().await.unwrap();
    assert!(client.submit(FROM, &["a@x.example"], MESSAGE).await.starts_with("550 5.7.13 "));
    let mut other = Client::greeted(house.at("starttls")).await;
    assert!(other.sign_in("scanner", &password).await.starts_with("525 5.7.13 "));

    house.store.disable_submitter("scanner", false).await.unwrap();
    let rules = SubmitterRules { recipient_domains: vec!["y.example".into()], ..SubmitterRules::default() };
    house.store.update_submitter("scanner", &["reports".into()], &rules).await.unwrap();
    house.directory.refresh().await.unwrap();
    assert!(client.submit(FROM, &["a@x.example"], MESSAGE).await.starts_with("550 5.7.1 "));
    assert!(client.submit(FROM, &["a@y.example"], MESSAGE).await.starts_with("250"));

    let mailbox: EmailAddress = "billing@contoso.example".parse().unwrap();
    let values = SenderValues { mailbox: Some(mailbox), ..SenderValues::named("reports") };
    house.store.save_sender(&values).await.unwrap();
    house.directory.refresh().await.unwrap();
    assert!(client.submit(FROM, &["a@y.example"], MESSAGE).await.starts_with("550 5.7.1 "));

    let key = house.store.local_secret_key().await.unwrap();
    let (newer, mac) = new_password(&key);
    house.clock.turn(60);
    house.store.add_password("scanner", &mac, false).await.unwrap();
    let oldest = house.store.submitter("scanner").await.unwrap().unwrap().passwords[0].id;
    house.directory.refresh().await.unwrap();
    let mut two = Client::greeted(house.at("starttls")).await;
    assert!(two.sign_in("SCANNER", &password).await.starts_with("235"), "both passwords are good at once");
    let mut three = Client::greeted(house.at("starttls")).await;
    assert!(three.sign_in("scanner", newer.expose()).await.starts_with("235"));
    house.store.remove_password("scanner", oldest).await.unwrap();
    house.directory.refresh().await.unwrap();
    let billing = "billing@contoso.example";
    assert!(two.submit(billing, &["a@y.example"], "A: b\n\n").await.starts_with("550 5.7.1 the password"));
    assert!(three.submit(billing, &["a@y.example"], "A: b\n\n").await.starts_with("250"));

    house.store.remove_submitter("scanner").await.unwrap();
    house.directory.refresh().await.unwrap();
    assert!(
        three
            .submit(billing, &["a@y.example"], "A: b\n\n")
            .await
            .starts_with("550 5.7.1 the submitter scanner was removed")
    );
    house.close().await;
}

#[tokio::test]
async fn a_change_is_noticed_within_a_second_without_being_told() {
    let house = House::open().await;
    assert!(house.directory.submitter("late").is_none());
    let new = postkey_store::NewSubmitter {
        name: "late".into(),
        senders: vec!["reports".into()],
        rules: SubmitterRules::default(),
    };
    house.store.add_submitter(&new).await.unwrap();
    let noticed = async {
        while house.directory.submitter("late").is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), noticed).await.expect("it is noticed");
    house.close().await;
}

#[tokio::test]
async fn an_api_key_is_let_in_as_long_as_it_may() {
    let house = House::open().await;
    let rules = SubmitterRules { networks: vec!["192.0.2.0/24".into()], ..SubmitterRules::default() };
    house.add("erp", rules).await;
    let key = house.store.local_secret_key().await.unwrap();
    let (text, mac) = new_api_key(&key);
    let ends = house.clock.clock().now() + jiff::SignedDuration::from_hours(1);
    house.store.add_api_key("erp key", Some("erp"), &[postkey_store::Scope::Send], &mac, Some(ends)).await.unwrap();
    let (all, mac) = new_api_key(&key);
    house.store.add_api_key("admin", None, &[postkey_store::Scope::Metrics], &mac, None).await.unwrap();
    house.directory.refresh().await.unwrap();

    let (inside, outside) = ("192.0.2.7".parse().unwrap(), "203.0.113.7".parse().unwrap());
    let holder = house.directory.api_key(text.expose(), inside).unwrap();
    assert_eq!(holder.submitter.unwrap().name(), "erp");
    assert!(house.directory.api_key(all.expose(), outside).unwrap().submitter.is_none());
    let refused = |token: &str, from| house.directory.api_key(token, from).unwrap_err();
    assert!(matches!(refused(text.expose(), outside), LoginRefusal::Refused(Refusal::Network { .. })));
    assert!(matches!(refused("pk_nonsense", inside), LoginRefusal::UnknownKey { .. }));
    assert!(matches!(refused(&text.expose().to_uppercase(), inside), LoginRefusal::UnknownKey { .. }));
    house.store.disable_submitter("erp", true).await.unwrap();
    house.directory.refresh().await.unwrap();
    assert!(matches!(refused(text.expose(), inside), LoginRefusal::Refused(Refusal::Disabled { .. })));
    house.store.disable_submitter("erp", false).await.unwrap();
    house.store.disable_api_key("erp key", true).await.unwrap();
    house.directory.refresh().await.unwrap();
    assert!(matches!(refused(text.expose(), inside), LoginRefusal::KeyDisabled { .. }));
    house.store.disable_api_key("erp key", false).await.unwrap();
    house.directory.refresh().await.unwrap();
    house.clock.turn(3_600);
    assert!(matches!(refused(text.expose(), inside), LoginRefusal::KeyEnded { .. }));
    house.store.remove_api_key("admin").await.unwrap();
    house.directory.refresh().await.unwrap();
    assert!(matches!(refused(all.expose(), outside), LoginRefusal::UnknownKey { .. }));
    house.close().await;
}

#[tokio::test]
async fn times_of_last_use_are_written_when_the_directory_closes() {
    let house = House::open().await;
    let password = house.submitter("scanner", SubmitterRules::default()).await;
    house.directory.login("scanner", &password, "127.0.0.1".parse().unwrap()).unwrap();
    assert!(house.store.submitter("scanner").await.unwrap().unwrap().passwords[0].last_used_at.is_none());
    let store = house.store.clone();
    let now = house.clock.clock().now();
    house.close().await;
    assert_eq!(store.submitter("scanner").await.unwrap().unwrap().passwords[0].last_used_at, Some(now));
}
