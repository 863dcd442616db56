//! The listener over real sockets.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use postkey_api::{Listening, serve};
use postkey_submission::ReloadingTls;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::house::House;

async fn served(house: &House, tls: Option<Arc<ReloadingTls>>) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let listening = Listening { listener, tls, stop: stop.clone(), within: Duration::from_secs(5) };
    (address, stop, tokio::spawn(serve(listening, house.router.clone())))
}

/// Everything until the far end closes.
async fn asked(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_kept_connection_carries_many_requests_and_a_stop_ends_it() {
    let (house, key) = House::shop().await;
    let (address, stop, task) = served(&house, None).await;
    let body = r#"{"to":["a@x.example"]}"#;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    for _ in 0..3 {
        let request = format!(
            "POST /v1/send HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nContent-Type: \
             application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4_096];
        let count = stream.read(&mut answer).await.unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 202 "), "{}", String::from_utf8_lossy(&answer[..count]));
    }
    stop.cancel();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    task.await.unwrap();
    house.close().await;
}

#[tokio::test]
async fn a_foreign_host_is_turned_away_and_an_oversized_body_ends_the_connection() {
    let (house, key) = House::shop().await;
    let (address, stop, task) = served(&house, None).await;
    let answer = asked(address, "GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("api.wrong_host"), "{answer}");
    let request = format!(
        "POST /v1/send HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: \
         message/rfc822\r\nContent-Length: 999999999999\r\n\r\nSubject: x"
    );
    let answer = asked(address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("api.message_too_large"), "{answer}");
    stop.cancel();
    task.await.unwrap();
    house.close().await;
}

#[tokio::test]
async fn with_a_certificate_only_https_is_spoken() {
    let (house, _) = House::shop().await;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = ReloadingTls::fixed(&made.cert.pem(), &made.signing_key.serialize_pem()).unwrap();
    let (address, stop, task) = served(&house, Some(Arc::new(tls))).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The far end may reset the connection: it was no handshake.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    stop.cancel();
    task.await.unwrap();
    house.close().await;
}
