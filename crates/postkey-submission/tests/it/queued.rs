//! With the real queue behind it: what a client was told is queued lies in the store.

use std::{sync::Arc, time::Duration};

use postkey_base::{Diagnosis, Who};
use postkey_queue::{BoxFuture, Connected, Outbound, OutboundError, Queue, QueueParts, QueueSettings};
use postkey_store::{MessageId, SenderId, SubmitterRules};
use postkey_submission::{CarriesUnknown, Directory, Mode, Submission, SubmissionParts, SubmissionSettings};
use postkey_transport::OutcomeClass;

use crate::{
    client::{Client, FROM},
    house::{House, listener},
};

/// Microsoft cannot be reached.
struct Unreachable;

impl Outbound for Unreachable {
    fn connect(&self, _: SenderId) -> BoxFuture<'_, Result<Connected, OutboundError>> {
        let diagnosis = Diagnosis {
            code: "test.unreachable".into(),
            what: "no network".into(),
            why: None,
            remedy: "Wait.".into(),
            who: Who::Wait,
            evidence: Vec::new(),
        };
        let error = OutboundError { class: OutcomeClass::Network, diagnosis, transient: true };
        Box::pin(std::future::ready(Err(error)))
    }

    fn forget(&self, _: SenderId) {}
}

#[tokio::test]
async fn what_was_answered_with_an_id_is_in_the_store_byte_by_byte() {
    let house = House::open().await;
    let rules = SubmitterRules { messages_per_day: Some(40), ..SubmitterRules::default() };
    let password = house.submitter("scanner", rules).await;
    let queue = Queue::start(QueueParts {
        store: house.store.clone(),
        clock: house.clock.clock(),
        outbound: Arc::new(Unreachable),
        settings: QueueSettings::default(),
        node: "test".into(),
    })
    .await
    .unwrap();
    let submission = Submission::start(SubmissionParts {
        directory: house.directory.clone(),
        queue: queue.clone(),
        listeners: vec![listener("queued", Mode::StartTls)],
        tls: None,
        settings: SubmissionSettings::default(),
    })
    .await
    .unwrap();
    let address = submission.address("queued").unwrap();
    let sessions = (0..4).map(|session| {
        let password = password.clone();
        async move {
            let mut client = Client::greeted(address).await;
            client.sign_in("scanner", &password).await;
            let mut said = Vec::new();
            for number in 0..10 {
                let message = format!("From: {FROM}\nX-Number: {session}.{number}\n\nhi\n");
                let answer = client.submit(FROM, &["a@x.example"], &message).await;
                let id = answer.strip_prefix("250 2.0.0 Queued as ").unwrap_or_else(|| panic!("{answer}"));
                said.push((id.parse::<MessageId>().unwrap(), message.replace('\n', "\r\n")));
            }
            said
        }
    });
    let mut all = Vec::new();
    for session in sessions.map(tokio::spawn).collect::<Vec<_>>() {
        all.extend(session.await.unwrap());
    }
    for (id, message) in &all {
        assert_eq!(house.store.message_body(*id).await.unwrap().unwrap(), message.as_bytes());
        let stored = house.store.message(*id).await.unwrap().unwrap();
        assert_eq!(stored.remote.as_deref(), Some("127.0.0.1"));
    }

    let mut client = Client::greeted(address).await;
    client.sign_in("scanner", &password).await;
    assert!(client.submit(FROM, &["a@x.example"], "A: b\n\n").await.starts_with("450 4.7.1 "));
    drop(client);
    assert!(submission.shutdown(Duration::from_secs(5)).await);
    queue.shutdown(Duration::from_secs(5)).await;

    // A directory that is opened after a restart has not forgotten.
    let later = Directory::open(house.store.clone(), house.clock.clock(), Arc::new(CarriesUnknown)).await.unwrap();
    let known = later.submitter("scanner").unwrap();
    let full = known.mail_from(Some(&FROM.parse().unwrap()), None, house.clock.clock().now()).unwrap_err();
    assert!(full.retry_after().is_some(), "{full}");
    later.close().await;
    house.close().await;
}
