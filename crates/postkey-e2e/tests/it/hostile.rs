//! Hostile clients of the running service: those that say little, those that guess, and those that say far too much. A good one
//! beside them notices nothing.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::rows::Rows;
use crate::serving::{Installation, Login, UNPACED, until};
use crate::setups::{PATIENCE, Tenant};
use crate::submit::{HttpClient, NotTaken, SmtpClient};

const SLOW: usize = 1_000;

/// The goal for each message of a good client, sign-in aside.
const P99: Duration = Duration::from_millis(50);

async fn open<'a>(tenant: &'a Tenant, settings: &str) -> (Installation<'a>, Login) {
    let installation = Installation::new(tenant, "hostile", settings);
    installation.reading_sender("mail", &tenant.emulator.sample().sender).await;
    let login = installation.submitter("printer", &["mail"]).await;
    (installation, login)
}

fn message(installation: &Installation<'_>) -> Vec<u8> {
    let sample = installation.tenant.emulator.sample();
    let text = "x".repeat(900);
    format!("From: {}\r\nTo: {}\r\nSubject: good\r\n\r\n{text}\r\n", sample.sender, sample.user_name).into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_that_say_little_keep_nobody_waiting() {
    let tenant = Tenant::start(Duration::ZERO).await;
    let (installation, login) = open(&tenant, UNPACED).await;
    let serving = installation.serve().await;
    let sample = tenant.emulator.sample().clone();
    // From many addresses, as an attack comes: each of them is as far as it gets without a limit per address.
    let mut slow = Vec::with_capacity(SLOW);
    for number in 0..SLOW {
        let from = Ipv4Addr::new(
            127,
            0,
            1 + u8::try_from(number / 10 / 250).expect("few"),
            u8::try_from(number / 10 % 250).expect("few") + 1,
        );
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket.bind((from, 0).into()).expect("all of 127/8 is loopback");
        let mut stream =
            socket.connect((Ipv4Addr::LOCALHOST, installation.ports.smtp).into()).await.expect("it listens");
        // Some stop within a command, some within a message's header, some say nothing.
        let words: &[u8] = [&b"EH"[..], b"EHLO slow\r\nMAIL FR", b""][number % 3];
        stream.write_all(words).await.expect("it reads");
        slow.push(stream);
    }
    let good = message(&installation);
    let mut client = SmtpClient::signed_in(installation.ports.smtp, &login).await.expect("a good client gets in");
    let mut took = Vec::new();
    for number in 0..200 {
        let began = Instant::now();
        client.send(&sample.sender, &[&sample.user_name], &good).await.unwrap_or_else(|why| panic!("{why}"));
        took.push(began.elapsed());
        // The slow ones go on being slow.
        let _ = slow[number * 5 % SLOW].write_all(b"L").await;
    }
    took.sort();
    let p99 = took[took.len() * 99 / 100];
    println!("beside {SLOW} slow clients: p50 {:?}, p99 {p99:?}", took[took.len() / 2]);
    assert!(p99 <= P99, "p99 is {p99:?}");
    drop(slow);
    assert!(serving.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_guesses_passwords_is_locked_out_and_the_device_is_not() {
    let tenant = Tenant::start(Duration::ZERO).await;
    let (installation, login) = open(&tenant, UNPACED).await;
    let serving = installation.serve().await;
    let sample = tenant.emulator.sample().clone();
    let wrong = Login { password: "abcd-efgh-jkmn-pqrs-tuvw".to_owned(), ..login.clone() };
    let attacker = Ipv4Addr::new(127, 0, 0, 66);
    let mut device = SmtpClient::signed_in(installation.ports.smtp, &login).await.expect("the device gets in");
    let mut refused = 0;
    // Many at once: each guess is answered late.
    let guesses: Vec<_> = (0..40)
        .map(|_| {
            let (wrong, port) = (wrong.clone(), installation.ports.smtp);
            tokio::spawn(async move { guess(attacker, port, &wrong).await })
        })
        .collect();
    for guess in guesses {
        if guess.await.expect("a guess ends").is_err() {
            refused += 1;
        }
    }
    assert_eq!(refused, 40, "no guess is right");
    let right = guess(attacker, installation.ports.smtp, &login).await;
    assert!(right.is_err(), "by now not even the right password helps there");
    device.send(&sample.sender, &[&sample.user_name], &message(&installation)).await.expect("it was signed in before");
    let mut again = SmtpClient::signed_in(installation.ports.smtp, &login).await.expect("the device signs in again");
    again.send(&sample.sender, &[&sample.user_name], &message(&installation)).await.expect("and sends");
    assert!(serving.stop().await.success());
}

async fn guess(from: Ipv4Addr, port: u16, login: &Login) -> Result<String, NotTaken> {
    let cut = |error: std::io::Error| NotTaken::Cut(error.to_string());
    let socket = TcpSocket::new_v4().map_err(cut)?;
    socket.bind((from, 0).into()).map_err(cut)?;
    let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.map_err(cut)?;
    SmtpClient::over(stream).await?.sign_in(login).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_too_large_is_refused_and_the_next_client_is_served() {
    let tenant = Tenant::start(Duration::ZERO).await;
    let (installation, login) = open(&tenant, UNPACED).await;
    let serving = installation.serve().await;
    let sample = tenant.emulator.sample().clone();
    let port = installation.ports.smtp;
    let good = message(&installation);

    // A command that never ends.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let flood = "x".repeat(64 * 1024);
    for _ in 0..64 {
        if stream.write_all(flood.as_bytes()).await.is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"\r\nQUIT\r\n").await;
    let mut said = String::new();
    let _ = tokio::time::timeout(PATIENCE, BufReader::new(stream).read_to_string(&mut said)).await.expect("it answers");
    assert!(!said.contains("\r\n250"), "{said}");

    // More recipients than anybody needs.
    let mut client = SmtpClient::signed_in(port, &login).await.expect("it may sign in");
    client.says(&format!("MAIL FROM:<{}>\r\n", sample.sender), "250").await.expect("the sender is its own");
    let mut too_many = None;
    for number in 0..2_000 {
        match client.says(&format!("RCPT TO:<a{number}@elsewhere.example>\r\n"), "250").await {
            Ok(_) => {}
            Err(NotTaken::Refused(reply)) => {
                too_many = Some(reply);
                break;
            }
            Err(cut) => panic!("{cut}"),
        }
    }
    let too_many = too_many.expect("there is an end");
    assert!(too_many.starts_with("452 4.5.3") || too_many.starts_with("552"), "{too_many}");

    // A message larger than any route carries: announced, and not announced.
    let mut client = SmtpClient::signed_in(port, &login).await.expect("it may sign in");
    let announced = client.says(&format!("MAIL FROM:<{}> SIZE=999999999999\r\n", sample.sender), "250").await;
    assert!(matches!(&announced, Err(NotTaken::Refused(reply)) if reply.starts_with("552 5.3.4")), "{announced:?}");
    let mut client = SmtpClient::signed_in(port, &login).await.expect("it may sign in");
    for (command, reply) in [
        (format!("MAIL FROM:<{}>\r\n", sample.sender), "250"),
        (format!("RCPT TO:<{}>\r\n", sample.user_name), "250"),
        ("DATA\r\n".to_owned(), "354"),
    ] {
        client.says(&command, reply).await.unwrap_or_else(|why| panic!("{command}: {why}"));
    }
    let lines = format!("{}\r\n", "y".repeat(76)).repeat(16 * 1024);
    let mut cut = false;
    for _ in 0..200 {
        if client.write(lines.as_bytes()).await.is_err() {
            cut = true;
            break;
        }
    }
    if !cut && client.write(b".\r\n").await.is_ok() {
        let answer = client.reply("250").await;
        let refused = match &answer {
            Err(NotTaken::Refused(reply)) => reply.starts_with("552"),
            Err(NotTaken::Cut(_) | NotTaken::Unreachable) => true,
            Ok(_) => false,
        };
        assert!(refused, "{answer:?}");
    }

    // Headers without end, lines without end, and parts within parts: taken or refused, but answered.
    let from = &sample.sender;
    for (what, text) in [
        ("a header of 20 MB", format!("From: {from}\r\nX-Long: {}\r\n\r\nhello\r\n", "z".repeat(20_000_000))),
        ("a million headers", format!("From: {from}\r\n{}\r\nhello\r\n", "X-Many: 1\r\n".repeat(1_000_000))),
        ("a line of 5 MB", format!("From: {from}\r\nSubject: long\r\n\r\n{}\r\n", "z".repeat(5_000_000))),
        ("ten thousand parts in parts", nested(from)),
    ] {
        let mut client = SmtpClient::signed_in(port, &login).await.expect("it may sign in");
        match client.send(from, &[&sample.user_name], text.as_bytes()).await {
            Ok(_) => {}
            Err(NotTaken::Refused(reply)) => assert!(reply.starts_with('5'), "{what}: {reply}"),
            Err(why) => panic!("{what}: {why}\n{}", serving.said()),
        }
    }

    // The same by HTTP.
    let http = HttpClient::new(installation.ports, &login.api_key);
    let huge = vec![b'a'; 200_000_000];
    let answer = http.send(from, &[&sample.user_name], huge).await;
    let refused = match &answer {
        Err(NotTaken::Refused(answer)) => answer.starts_with("413"),
        // The body is not read to its end.
        Err(NotTaken::Cut(_) | NotTaken::Unreachable) => true,
        Ok(_) => false,
    };
    assert!(refused, "{answer:?}");
    let mut stream = TcpStream::connect(("127.0.0.1", installation.ports.http)).await.expect("it listens");
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "z".repeat(1_000_000));
    let _ = stream.write_all(head.as_bytes()).await;
    let mut first = String::new();
    let _ = BufReader::new(stream).read_line(&mut first).await;
    assert!(first.is_empty() || first.contains(" 4"), "{first}");

    // And the next client is served as ever.
    let mut client = SmtpClient::signed_in(port, &login).await.expect("it may sign in");
    client.send(from, &[&sample.user_name], &good).await.expect("a good message is taken");
    let rows = Rows::of(&installation).await;
    until("the end of what was taken", PATIENCE, async || (rows.unsettled().await == 0).then_some(())).await;
    assert!(serving.stop().await.success());
}

fn nested(from: &str) -> String {
    let mut text = format!("From: {from}\r\nMIME-Version: 1.0\r\n");
    for depth in 0..10_000 {
        text.push_str(&format!("Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n--b{depth}\r\n"));
    }
    text.push_str("\r\nend\r\n");
    text
}
