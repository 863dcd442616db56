//! Mail through the emulator's own ports: Graph over HTTPS, SMTP with STARTTLS and XOAUTH2.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{Box, GRAPH};

const EXCHANGE: &str = "https://outlook.office365.com/.default";

async fn graph(tenant: &Box, token: &str, path: &str) -> (u16, Value) {
    let url = format!("{}{path}", tenant.emulator.graph());
    let answer = tenant.client.get(url).bearer_auth(token).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
}

async fn send(tenant: &Box, token: &str, to: &str) -> reqwest::Result<reqwest::Response> {
    let message = json!({"message": {"subject": "Hello", "body": {"contentType": "text", "content": "x"},
        "toRecipients": [{"emailAddress": {"address": to}}]}});
    let url = format!("{}/users/{}/sendMail", tenant.emulator.graph(), tenant.emulator.sample().sender);
    tenant.client.post(url).bearer_auth(token).json(&message).send().await
}

#[tokio::test]
async fn a_message_sent_by_graph_lies_in_both_mailboxes() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let token = tenant.app_token(GRAPH).await;
    let answer = send(&tenant, &token, &sample.user_name).await.unwrap();
    assert_eq!(answer.status(), 202);
    assert!(answer.headers().contains_key("request-id"));
    assert!(answer.bytes().await.unwrap().is_empty());
    for (who, folder) in [(&sample.sender, "sentitems"), (&sample.user_name, "inbox")] {
        let (status, page) = graph(&tenant, &token, &format!("/users/{who}/mailFolders/{folder}/messages")).await;
        assert_eq!((status, &page["value"][0]["subject"]), (200, &json!("Hello")), "{who} {folder}");
    }
    let (status, body) = graph(&tenant, &token, &format!("/users/{}/messages", sample.user_without_mailbox)).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("MailboxNotEnabledForRESTAPI")));
    tenant.emulator.shutdown().await;
}

#[tokio::test]
async fn a_lost_answer_is_a_cut_connection() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let token = tenant.app_token(GRAPH).await;
    let tagged = sample.user_name.replace('@', "+drop-delivered@");
    assert!(send(&tenant, &token, &tagged).await.is_err());
    let held = tenant.emulator.with_world(|world| world.mailbox_contents(sample.tenant_id, &sample.user_name).unwrap());
    assert_eq!(held.len(), 1, "the effect happened");
    tenant.emulator.shutdown().await;
}

#[tokio::test]
async fn the_fifth_request_at_once_is_too_many() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let token = tenant.app_token(GRAPH).await;
    let before = tenant.emulator.last_call();
    // Four that hang, and one more.
    let fault = tenant.emulator.fault(postkey_emulator::faults::Fault {
        times: Some(4),
        ..postkey_emulator::faults::Fault::of("messages.list", postkey_emulator::faults::Action::Hang)
    });
    let path = format!("/users/{}/messages", sample.sender);
    let url = format!("{}{path}", tenant.emulator.graph());
    let hanging: Vec<_> = (0..4)
        .map(|_| tokio::spawn(tenant.client.get(&url).bearer_auth(&token).timeout(Duration::from_secs(60)).send()))
        .collect();
    tenant.emulator.until(|world| world.journal.started() >= before + 4).await;
    let (status, body) = graph(&tenant, &token, &path).await;
    assert_eq!((status, &body["error"]["code"]), (429, &json!("ApplicationThrottled")));
    tenant.emulator.clear_faults();
    for answer in hanging {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(graph(&tenant, &token, &path).await.0, 200);
    let _ = fault;
    tenant.emulator.shutdown().await;
}

struct Line<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    async fn answer(&mut self) -> String {
        let mut text = String::new();
        let mut byte = [0];
        loop {
            let start = text.len();
            while !text[start..].ends_with("\r\n") {
                assert_eq!(self.0.read(&mut byte).await.unwrap(), 1, "closed after {text:?}");
                text.push(char::from(byte[0]));
            }
            if text.as_bytes()[start + 3] == b' ' {
                return text;
            }
        }
    }

    async fn say(&mut self, line: &str) -> String {
        self.0.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        self.answer().await
    }
}

async fn smtp(tenant: &Box) -> Line<TlsStream<TcpStream>> {
    let ca = CertificateDer::from_pem_slice(tenant.emulator.ca_pem().as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut plain = Line(TcpStream::connect(tenant.emulator.smtp()).await.unwrap());
    assert!(plain.answer().await.starts_with("220 "));
    assert!(plain.say("EHLO test.example").await.contains("250-STARTTLS\r\n"));
    assert!(plain.say("STARTTLS").await.starts_with("220 2.0.0 "));
    let name = ServerName::try_from("localhost").unwrap();
    let mut secured = Line(TlsConnector::from(Arc::new(config)).connect(name, plain.0).await.unwrap());
    assert!(secured.say("EHLO test.example").await.contains("250-AUTH LOGIN XOAUTH2\r\n"));
    secured
}

fn xoauth2(user: &str, token: &str) -> String {
    format!("AUTH XOAUTH2 {}", STANDARD.encode(format!("user={user}\u{1}auth=Bearer {token}\u{1}\u{1}")))
}

#[tokio::test]
async fn a_message_submitted_by_smtp_arrives_byte_for_byte() {
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let wrong = tenant.app_token(GRAPH).await;
    let token = tenant.app_token(EXCHANGE).await;
    let mut smtp = smtp(&tenant).await;
    assert!(smtp.say(&xoauth2(&sample.sender, &wrong)).await.starts_with("535 5.7.3 "));
    assert!(smtp.say(&xoauth2(&sample.sender, &token)).await.starts_with("235 2.7.0 "));
    assert!(smtp.say(&format!("MAIL FROM:<{}>", sample.sender)).await.starts_with("250 2.1.0 "));
    assert!(smtp.say(&format!("RCPT TO:<{}>", sample.user_name)).await.starts_with("250 2.1.5 "));
    assert!(smtp.say("DATA").await.starts_with("354 "));
    let body: String = "0123456789abcdef"
        .repeat(60_000)
        .as_bytes()
        .chunks(76)
        .map(|line| format!("{}\r\n", str::from_utf8(line).unwrap()))
        .collect();
    let mime = format!(
        "From: <{}>\r\nTo: <{}>\r\nMessage-ID: <own@x>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\n{body}",
        sample.sender, sample.user_name
    );
    smtp.0.write_all(mime.as_bytes()).await.unwrap();
    assert!(smtp.say(".").await.starts_with("250 2.0.0 OK <own@x>"));
    assert!(smtp.say("QUIT").await.starts_with("221 "));
    let held = tenant.emulator.with_world(|world| world.mailbox_contents(sample.tenant_id, &sample.user_name).unwrap());
    assert!(held[0].mime.ends_with(mime.as_bytes()));
    let calls = tenant.emulator.calls_since(0);
    assert!(calls.iter().any(|call| call.host == "smtp" && call.status == 250));
    tenant.emulator.shutdown().await;
}

#[tokio::test]
async fn a_fault_meets_smtp_by_its_operation() {
    use postkey_emulator::faults::{Action, Fault};
    let tenant = Box::start().await;
    let sample = tenant.emulator.sample().clone();
    let token = tenant.app_token(EXCHANGE).await;
    let status = Action::Status {
        status: 451,
        code: None,
        aadsts: None,
        message: None,
        retry_after_seconds: None,
        retry_after_as_date: false,
    };
    tenant.emulator.fault(Fault::of("smtp.auth", status.clone()).times(1));
    tenant.emulator.fault(Fault::of("smtp.data", status).times(1).after_effect());
    tenant.emulator.fault(Fault::of("smtp.data", Action::Drop).times(1));
    let mut smtp = smtp(&tenant).await;
    assert!(smtp.say(&xoauth2(&sample.sender, &token)).await.starts_with("451 4.7.0 "));
    assert!(smtp.say(&xoauth2(&sample.sender, &token)).await.starts_with("235 2.7.0 "));
    for round in 0..2 {
        assert!(smtp.say(&format!("MAIL FROM:<{}>", sample.sender)).await.starts_with("250 "));
        assert!(smtp.say(&format!("RCPT TO:<{}>", sample.user_name)).await.starts_with("250 "));
        assert!(smtp.say("DATA").await.starts_with("354 "));
        let mime = format!("From: <{}>\r\n\r\nx\r\n.\r\n", sample.sender);
        smtp.0.write_all(mime.as_bytes()).await.unwrap();
        if round == 0 {
            assert!(smtp.answer().await.starts_with("451 4.7.0 "));
        } else {
            // The connection is cut, with or without a closing alert.
            assert!(matches!(smtp.0.read(&mut [0]).await, Ok(0) | Err(_)));
        }
    }
    let held = tenant.emulator.with_world(|world| world.mailbox_contents(sample.tenant_id, &sample.user_name).unwrap());
    assert_eq!(held.len(), 1, "the first took effect, the second did not");
    tenant.emulator.shutdown().await;
}
