//! The queue's writer when the disk is full or the database is away: nobody hears `Ok` for what is not there, and it goes on.

use bytes::Bytes;
use postkey_base::Diagnose;
use postkey_store::{GroupCommit, Location, MessageFilter, Options, SenderId, Store};

use crate::{
    place::Place,
    queue::{a_message, event},
};

/// The limit makes SQLite answer SQLITE_FULL, as a full disk does.
#[tokio::test]
async fn when_the_disk_is_full_each_caller_hears_so_and_when_there_is_room_it_goes_on() {
    let place = Place::sqlite();
    let store = place.store_with(Options { size_limit: Some(4096 * 300), ..Options::default() }).await.unwrap();
    let writer = GroupCommit::start(store.clone());
    let sender = SenderId::random();
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    while refused.is_empty() {
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let (writer, mut message) = (writer.clone(), a_message(&place, sender));
                message.body = Bytes::from(vec![b'x'; 4096]);
                tokio::spawn(async move { (message.id, writer.accept(message).await) })
            })
            .collect();
        for call in calls {
            match call.await.unwrap() {
                (id, Ok(_)) => accepted.push(id),
                (id, Err(error)) => refused.push((id, error)),
            }
        }
        assert!(accepted.len() < 300, "the limit was not obeyed");
    }
    assert!(accepted.len() >= 20, "{}", accepted.len());
    for (id, error) in &refused {
        assert_eq!(error.code(), "store.disk_full");
        assert_eq!(store.message(*id).await.unwrap(), None);
        assert_eq!(store.message_body(*id).await.unwrap(), None);
    }
    for id in &accepted {
        assert_eq!(store.message_body(*id).await.unwrap().unwrap().len(), 4096);
    }
    let counted: u64 = store.count_messages().await.unwrap().iter().map(|count| count.messages).sum();
    assert_eq!(counted, accepted.len() as u64);

    // Somebody makes room, and nobody starts anything anew.
    place.meddle("DELETE FROM message_bodies").await;
    let message = a_message(&place, sender);
    let id = message.id;
    writer.accept(message).await.unwrap();
    assert!(writer.begin_attempt(id, 1, event("attempt")).await.unwrap());
    assert!(store.message_body(id).await.unwrap().is_some());
    assert_eq!(store.check().await.unwrap().damage, None);
}

#[tokio::test]
async fn when_postgres_cuts_the_connections_the_next_group_finds_a_new_one() {
    let Some(place) = Place::postgres().await else { return };
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let sender = SenderId::random();
    writer.accept(a_message(&place, sender)).await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    place.meddle(cut).await;
    writer.accept(a_message(&place, sender)).await.unwrap();
    assert_eq!(store.count_messages().await.unwrap()[0].messages, 2);
}

#[tokio::test]
async fn two_writers_of_one_database_do_not_stand_in_each_others_way() {
    for place in [Some(Place::sqlite()), Place::postgres().await].into_iter().flatten() {
        let stores: [Store; 2] = [place.store().await, place.store().await];
        let writers = [GroupCommit::start(stores[0].clone()), GroupCommit::start(stores[1].clone())];
        let (sender, mut calls) = (SenderId::random(), Vec::new());
        for number in 0..200 {
            let (writer, message) = (writers[number % 2].clone(), a_message(&place, sender));
            calls.push(tokio::spawn(async move {
                let id = message.id;
                writer.accept(message).await.unwrap();
                writer.begin_attempt(id, 1, event("attempt")).await.unwrap()
            }));
        }
        for call in calls {
            assert!(call.await.unwrap());
        }
        let counts = stores[0].count_messages().await.unwrap();
        assert_eq!(
            counts.iter().map(|count| (count.state.word(), count.messages)).collect::<Vec<_>>(),
            [("sending", 200)]
        );
    }
}

/// The questions that are asked all the time are answered from an index, however many messages wait.
#[tokio::test]
async fn no_question_of_the_queue_goes_through_all_messages() {
    let place = Place::sqlite();
    let store = place.store().await;
    store.close().await;
    let mut connection = place.connection().await;
    let standing_out = "state IN ('sending', 'deferred', 'unknown', 'failed', 'cancelled')";
    let waiting = "state IN ('queued', 'deferred') AND sender_id = 'a' AND submitter_id = 'b' AND priority = 0";
    for (query, index) in [
        (format!("SELECT id FROM messages WHERE {waiting} AND due_at <= 9 ORDER BY due_at, id LIMIT 5"), "messages_waiting"),
        (format!("SELECT id FROM messages WHERE {waiting} AND due_at > 9 ORDER BY due_at, id LIMIT 1"), "messages_waiting"),
        (
            format!("SELECT id FROM messages WHERE {standing_out} AND state = 'unknown' AND sender_id = 'a' AND due_at <= 9 ORDER BY due_at, id"),
            "messages_by_state",
        ),
        (
            format!("SELECT id FROM messages WHERE {standing_out} AND state = 'sending' AND sender_id = 'a' AND epoch < 9 ORDER BY due_at, id"),
            "messages_by_state",
        ),
        (
            format!(
                "SELECT (SELECT due_at FROM messages WHERE {} ORDER BY due_at LIMIT 1) AS first_due
                 FROM (SELECT 1 AS level UNION ALL SELECT 0) AS levels",
                waiting.replace("= 0", "= level")
            ),
            "messages_waiting",
        ),
        ("SELECT id FROM messages WHERE id IN (VALUES ('a'), ('b'))".into(), "sqlite_autoindex_messages_1"),
        ("SELECT id FROM messages WHERE id >= 'a' AND id < 'b' ORDER BY id DESC".into(), "sqlite_autoindex_messages_1"),
        (
            "UPDATE messages SET state = new.column2 FROM (VALUES ('a', 'sending')) AS new WHERE messages.id = new.column1"
                .into(),
            "sqlite_autoindex_messages_1",
        ),
    ] {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}")));
        let rows = rows.fetch_all(&mut connection).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, "detail")).collect();
        let plan = plan.join("; ");
        assert!(plan.contains(index) && !plan.contains("SCAN messages") && !plan.contains("TEMP B-TREE"), "{query}: {plan}");
    }
}

#[tokio::test]
async fn the_log_of_sqlite_does_not_grow_with_what_goes_through_it() {
    let place = Place::sqlite();
    let store = place.store().await;
    let writer = GroupCommit::start(store.clone());
    let sender = SenderId::random();
    for _ in 0..60 {
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let (writer, mut message) = (writer.clone(), a_message(&place, sender));
                message.body = Bytes::from(vec![b'x'; 1 << 20]);
                tokio::spawn(async move { writer.accept(message).await.map(drop) })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    }
    let Location::Sqlite(path) = &place.location else { unreachable!("it is SQLite's place") };
    let log = std::fs::metadata(format!("{}-wal", path.display())).unwrap().len();
    assert!(log < 150 << 20, "240 MiB went through it: {log}");
    writer.shutdown().await;
    assert_eq!(
        store.search_messages(&MessageFilter { limit: 300, ..MessageFilter::default() }).await.unwrap().len(),
        240
    );
}
