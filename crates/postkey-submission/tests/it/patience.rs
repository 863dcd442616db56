//! Deadlines: who is slow is let go, and who stops lets others finish.

use std::time::Duration;

use postkey_store::SubmitterRules;
use tokio::time::Instant;

use crate::{
    client::{Client, FROM, MESSAGE},
    house::{House, Plan},
};

fn hasty() -> Plan {
    let mut plan = Plan::default();
    plan.settings.command_within = Duration::from_millis(300);
    plan.settings.data_within = Duration::from_millis(300);
    plan.settings.handshake_within = Duration::from_millis(300);
    plan.settings.bytes_per_second = 1_000_000;
    plan
}

#[tokio::test]
async fn a_trickle_of_bytes_buys_no_time() {
    let house = House::built(hasty()).await;
    let password = house.submitter("scanner", SubmitterRules::default()).await;

    // A command that never ends, byte by byte.
    let mut slow = Client::greeted(house.at("starttls")).await;
    let began = Instant::now();
    let trickle = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            slow.send(b"N").await;
            if began.elapsed() > Duration::from_millis(320) {
                return slow.reply().await;
            }
        }
    };
    let said = trickle.await;
    assert!(said.starts_with("421 4.4.2 "), "{said}");
    assert!(began.elapsed() < Duration::from_secs(5), "the sign-in's own deadline is later");

    // A message that comes too slowly.
    let mut slow = Client::greeted(house.at("starttls")).await;
    slow.sign_in("scanner", &password).await;
    slow.ask("MAIL FROM:<noreply@contoso.example>").await;
    slow.ask("RCPT TO:<a@x.example>").await;
    slow.ask("DATA").await;
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while began.elapsed() < Duration::from_millis(320) {
        ticks.tick().await;
        slow.send(b"x").await;
    }
    let said = slow.reply().await;
    assert!(said.starts_with("421 4.4.2 "), "{said}");
    assert!(slow.is_closed().await);

    // A handshake that is not made.
    let mut silent = Client::connect(house.at("implicit")).await;
    assert!(silent.is_closed().await);
    house.close().await;
}

#[tokio::test]
async fn who_never_signs_in_does_not_stay() {
    let mut plan = Plan::default();
    plan.settings.sign_in_within = Duration::from_millis(500);
    let house = House::built(plan).await;
    let mut chatty = Client::greeted(house.at("starttls")).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let said = loop {
        ticks.tick().await;
        let said = chatty.ask("NOOP").await;
        if !said.starts_with("250") {
            break said;
        }
    };
    assert!(said.starts_with("421 4.4.2 "), "{said}");
    house.close().await;
}

#[tokio::test]
async fn slow_connections_do_not_keep_a_good_client_waiting() {
    let house = House::open().await;
    let password = house.submitter("scanner", SubmitterRules::default()).await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut client = Client::connect(house.at("starttls")).await;
        client.send(b"EHLO ne").await;
        slow.push(client);
    }
    let mut good = Client::greeted(house.at("starttls")).await;
    good.sign_in("scanner", &password).await;
    for _ in 0..20 {
        assert!(good.submit(FROM, &["a@x.example"], MESSAGE).await.starts_with("250"));
    }
    drop((slow, good));
    house.close().await;
}

#[tokio::test]
async fn a_stop_ends_idle_sessions_and_lets_a_message_finish() {
    let house = House::open().await;
    let password = house.submitter("scanner", SubmitterRules::default()).await;
    let mut idle = Client::greeted(house.at("starttls")).await;
    let mut busy = Client::greeted(house.at("starttls")).await;
    busy.sign_in("scanner", &password).await;
    busy.ask("MAIL FROM:<noreply@contoso.example>").await;
    busy.ask("RCPT TO:<a@x.example>").await;
    busy.ask("DATA").await;
    let address = house.at("starttls");
    let stop = async { house.submission.shutdown(Duration::from_secs(10)).await };
    let clients = async {
        assert!(idle.reply().await.starts_with("421 4.3.2 "));
        assert!(idle.is_closed().await);
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody new is let in");
        let said = busy.ask("From: noreply@contoso.example\r\n\r\nhi\r\n.").await;
        assert!(said.starts_with("250 2.0.0 "), "{said}");
        assert!(busy.reply().await.starts_with("421 4.3.2 "));
        assert!(busy.is_closed().await);
    };
    let (finished, ()) = tokio::join!(stop, clients);
    assert!(finished);
    assert_eq!(house.desk.messages().len(), 1);
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_off() {
    let house = House::open().await;
    let password = house.submitter("scanner", SubmitterRules::default()).await;
    let mut busy = Client::greeted(house.at("starttls")).await;
    busy.sign_in("scanner", &password).await;
    busy.ask("MAIL FROM:<noreply@contoso.example>").await;
    assert!(!house.submission.shutdown(Duration::from_millis(50)).await);
    assert!(busy.is_closed().await);
}
