//! Kept SMTP connections: what they save, when they are given up, and what is never said twice.

use std::time::Duration;

use postkey_transport::{Envelope, Keeping, Message, Outcome, Report, SmtpRoute, Transport, TransportError};

use crate::support::{Manners, SmtpServer, address, stamp, transport};

const MAILBOX: &str = "noreply@contoso.example";

async fn send(transport: &Transport, number: usize) -> Report {
    let raw = format!(
        "From: {MAILBOX}\r\nTo: alice@contoso.example\r\nDate: Tue, 24 Nov 2026 07:05:00 +0000\r\n\
         Message-ID: <{number}@contoso.example>\r\nSubject: number {number}\r\n\r\n.\r\nHi\r\n"
    );
    let message = Message::parse(raw.into_bytes()).unwrap();
    let envelope = Envelope::of(&message, address(MAILBOX)).unwrap();
    transport.send(&message, &envelope, &stamp()).await
}

fn kept(route: SmtpRoute) -> Transport {
    Transport { smtp: Some(route.keeping_connections()), ..transport(None, None) }
}

#[tokio::test]
async fn twenty_messages_travel_on_one_connection() {
    let server = SmtpServer::start(Manners::default()).await;
    let transport = kept(server.route());
    for number in 0..20 {
        let report = send(&transport, number).await;
        assert!(report.outcome.is_accepted(), "{report:?}");
    }
    let heard = server.heard.lock().unwrap();
    assert_eq!((heard.connections, heard.messages.len()), (1, 20));
    let said = |verb: &str| heard.lines.iter().filter(|line| line.starts_with(verb)).count();
    assert_eq!((said("AUTH"), said("MAIL"), said("RSET"), said("QUIT")), (1, 20, 0, 0));
    for (number, message) in heard.messages.iter().enumerate() {
        assert!(String::from_utf8_lossy(message).contains(&format!("Subject: number {number}\r\n\r\n.\r\nHi\r\n")));
    }
}

#[tokio::test]
async fn a_refused_message_is_reset_and_the_next_one_goes() {
    const DENIED: &str = "554 5.2.0 STOREDRV.Submission.Exception:CorruptDataException; Failed";
    let server = SmtpServer::start(Manners { after_data: DENIED, ..Manners::default() }).await;
    let transport = kept(server.route());
    for number in 0..3 {
        let report = send(&transport, number).await;
        assert!(matches!(&report.outcome, Outcome::Refused(TransportError::Smtp(_))), "{report:?}");
    }
    let heard = server.heard.lock().unwrap();
    let said: Vec<_> = heard.lines.iter().map(String::as_str).filter(|line| ["RSET", "DATA"].contains(line)).collect();
    assert_eq!((heard.connections, said), (1, vec!["DATA", "RSET", "DATA", "RSET", "DATA"]));
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_costs_no_message_and_doubles_none() {
    let server = SmtpServer::start(Manners { patience: 1, ..Manners::default() }).await;
    let transport = kept(server.route());
    for number in 0..5 {
        let report = send(&transport, number).await;
        assert!(report.outcome.is_accepted(), "{report:?}");
    }
    let heard = server.heard.lock().unwrap();
    assert_eq!((heard.connections, heard.messages.len()), (5, 5));
}

#[tokio::test]
async fn an_answer_lost_after_the_final_dot_is_never_tried_again() {
    let server = SmtpServer::start(Manners { after_data: "", ..Manners::default() }).await;
    let transport = kept(server.route());
    let report = send(&transport, 1).await;
    assert!(matches!(&report.outcome, Outcome::Unknown(_)), "{report:?}");
    let heard = server.heard.lock().unwrap();
    assert_eq!((heard.connections, heard.messages.len()), (1, 1));
}

#[tokio::test]
async fn a_mailbox_has_no_more_connections_than_it_may() {
    let server = SmtpServer::start(Manners::default()).await;
    let transport = kept(server.route());
    let sends = (0..40).map(|number| {
        let transport = transport.clone();
        tokio::spawn(async move { send(&transport, number).await })
    });
    for sent in sends.collect::<Vec<_>>() {
        assert!(sent.await.unwrap().outcome.is_accepted());
    }
    let heard = server.heard.lock().unwrap();
    assert_eq!(heard.messages.len(), 40);
    assert!(heard.most_open <= 3 && heard.connections <= 3, "{} {}", heard.most_open, heard.connections);
}

#[tokio::test]
async fn an_idle_connection_says_goodbye() {
    let server = SmtpServer::start(Manners::default()).await;
    let brief = Keeping { idle: Duration::from_millis(20), ..Keeping::default() };
    let transport = Transport { smtp: Some(server.route().keeping(brief)), ..transport(None, None) };
    assert!(send(&transport, 1).await.outcome.is_accepted());
    let gone = async {
        while server.heard.lock().unwrap().open > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it is closed");
    assert_eq!(server.heard.lock().unwrap().lines.last().unwrap(), "QUIT");
    assert!(send(&transport, 2).await.outcome.is_accepted(), "another one is opened");
}

#[tokio::test]
async fn another_token_needs_another_connection() {
    let server = SmtpServer::start(Manners::default()).await;
    let transport = kept(server.route());
    assert!(send(&transport, 1).await.outcome.is_accepted());
    server.tokens.disowned.lock().unwrap().push("token-0".into());
    assert!(send(&transport, 2).await.outcome.is_accepted());
    let heard = server.heard.lock().unwrap();
    assert_eq!(heard.connections, 2);
    assert!(heard.lines.contains(&"QUIT".to_owned()), "the old one is left");
}
