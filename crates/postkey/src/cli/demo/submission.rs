//! The second half of the demo: an application hands in a message by SMTP, and the queue delivers it.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use postkey_base::Who;
use postkey_emulator::Emulator;
use postkey_queue::{Outbox, Shown};
use postkey_setup::connection::Outside;
use postkey_store::{MessageFilter, MessageState, NewSubmitter, Scope, SubmitterRules};
use postkey_submission::passwords::{LocalPassword, new_api_key, new_password};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::SENDER;
use crate::{
    cli::{message, serve::doors},
    failure::Failure,
    output::{self, FAINT, GOOD, STRONG, styled},
    serve::Server,
    settings::{
        Settings,
        listeners::{Listen, SmtpMode},
    },
};

/// The submitter and the API key that the demo makes.
pub(super) const SUBMITTER: &str = "demo";
/// A demo that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the message is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// What an application is given.
pub(super) struct Application {
    pub(super) server: Server,
    pub(super) password: LocalPassword,
    pub(super) api_key: LocalPassword,
}

/// `postkey serve` in this process, on free ports.
pub(super) async fn open(settings: &mut Settings, outside: &Outside) -> Result<Application, Failure> {
    let free = Listen::At(SocketAddr::from(([127, 0, 0, 1], 0)));
    settings.listeners.http.listen = free;
    settings.listeners.smtp.iter_mut().for_each(|listener| listener.listen = free);
    let (password, api_key) = admit(outside).await?;
    let server = Server::start_with(settings, outside.clone()).await?;
    output::line(format_args!(
        "\n{} {}\n{} submitter {} may hand in mail",
        styled(STRONG, "postkey serve"),
        styled(FAINT, "takes mail by SMTP and HTTP, here on free ports"),
        styled(GOOD, "✓"),
        styled(STRONG, SUBMITTER)
    ));
    output::fields(&doors(&server));
    Ok(Application { server, password, api_key })
}

/// A submitter and an API key, each with a value of this run: a kept folder may hold them already.
async fn admit(outside: &Outside) -> Result<(LocalPassword, LocalPassword), Failure> {
    let key = outside.store.local_secret_key().await?;
    let ((password, mac), (api_key, api_mac)) = (new_password(&key), new_api_key(&key));
    let new = NewSubmitter { name: SUBMITTER.into(), senders: vec![SENDER.into()], rules: SubmitterRules::default() };
    let admitted = outside.store.transaction("demo.admit", async |transaction| {
        transaction.remove_api_key(SUBMITTER).await?;
        match transaction.submitter(SUBMITTER).await? {
            Some(known) => drop(transaction.update_submitter(&known.name, &new.senders, &new.rules).await?),
            None => drop(transaction.add_submitter(&new).await?),
        }
        transaction.add_password(SUBMITTER, &mac, true).await?;
        let scopes = [Scope::Send, Scope::OutboxRead, Scope::OutboxManage];
        transaction.add_api_key(SUBMITTER, Some(SUBMITTER), &scopes, &api_mac, None).await
    });
    admitted.await?;
    Ok((password, api_key))
}

/// What an application does: TLS, sign in, one message. Then its way through the queue.
pub(super) async fn hand_in(application: &Application, emulator: &Emulator, outside: &Outside) -> Result<(), Failure> {
    let sample = emulator.sample();
    let message = format!(
        "From: Reports <{}>\r\nTo: {}\r\nSubject: Nightly report\r\nDate: {}\r\nMessage-ID: <{}@{}>\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\nAll 42 jobs are done.\r\n",
        sample.sender,
        sample.user_name,
        outside.clock.now().strftime("%a, %d %b %Y %H:%M:%S +0000"),
        uuid::Uuid::new_v4().simple(),
        emulator.domain(),
    );
    let place = application
        .server
        .places
        .smtp
        .iter()
        .find(|place| place.mode == SmtpMode::Implicit)
        .ok_or_else(|| failed("no listener with implicit TLS is open", None))?;
    let conversation = submit(place.port, application, &sample.sender, &sample.user_name, &message);
    let reply = match timeout(PATIENCE, conversation).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => return Err(failed("the demo's own message could not be handed in", Some(error.to_string()))),
        Err(_) => return Err(failed("the demo's own message took too long", None)),
    };
    output::line(format_args!(
        "\n{}",
        styled(STRONG, "An application hands in a message by SMTP, the queue delivers it")
    ));
    output::line(format_args!("  {} {reply}", styled(FAINT, "the server answers:")));
    let shown = delivered(outside).await?;
    message::trace(&shown);
    Ok(())
}

/// The last reply of a whole conversation.
async fn submit(port: u16, application: &Application, from: &str, to: &str, message: &str) -> std::io::Result<String> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    let ca = application.server.places.ca.as_deref().unwrap_or(Path::new(""));
    let stream = BufReader::new(connector(ca)?.connect(name, socket).await?);
    let mut stream = Box::pin(stream);
    let word = BASE64.encode(format!("\0{SUBMITTER}\0{}", application.password.expose()));
    let lines = [
        String::new(),
        "EHLO localhost\r\n".into(),
        format!("AUTH PLAIN {word}\r\n"),
        format!("MAIL FROM:<{from}>\r\n"),
        format!("RCPT TO:<{to}>\r\n"),
        "DATA\r\n".into(),
        format!("{message}.\r\n"),
    ];
    let mut reply = String::new();
    for line in lines {
        stream.write_all(line.as_bytes()).await?;
        stream.flush().await?;
        loop {
            reply.clear();
            if stream.read_line(&mut reply).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            // `250-` announces more lines.
            if reply.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        if !reply.starts_with(['2', '3']) {
            return Err(std::io::Error::other(format!("the server said {}", reply.trim_end())));
        }
    }
    // It is only polite; the message is safe.
    let _ = stream.write_all(b"QUIT\r\n").await;
    Ok(reply.trim_end().to_owned())
}

fn connector(ca: &Path) -> std::io::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(ca).map_err(std::io::Error::other)?;
    roots.add(ca).map_err(std::io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The newest message, once Exchange Online has it.
async fn delivered(outside: &Outside) -> Result<Shown, Failure> {
    let outbox = Outbox::new(outside.store.clone(), outside.clock.clone());
    let newest = MessageFilter { limit: 1, ..MessageFilter::default() };
    let looking = async {
        loop {
            if let Some(one) = outbox.list(&newest).await?.first()
                && one.message.state.is_settled()
            {
                return Ok::<_, Failure>((one.message.id, one.message.state));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let (id, state) = match timeout(PATIENCE, looking).await {
        Ok(found) => found?,
        Err(_) => return Err(failed("the message is still in the queue", None)),
    };
    if state != MessageState::Accepted {
        return Err(failed("the message was not delivered", Some(state.word().to_owned())));
    }
    outbox.show(id).await?.ok_or_else(|| failed("the message is gone", None))
}

fn failed(what: &str, why: Option<String>) -> Failure {
    let mut failure = Failure::new("demo.submission", what, "Please report it.", Who::Postkey);
    failure.diagnosis.why = why;
    failure
}

/// What other programs need, by the names of the demo's environment file.
pub(super) fn variables(application: &Application) -> Vec<(String, String)> {
    let places = &application.server.places;
    let smtp = |mode| {
        let place = places.smtp.iter().find(|place| place.mode == mode);
        // By name: some clients compare no addresses with a certificate.
        place.map(|place| format!("localhost:{}", place.port)).unwrap_or_default()
    };
    let text = |path: Option<&std::path::PathBuf>| path.map(|path| path.display().to_string()).unwrap_or_default();
    [
        ("DEMO_HTTP", places.http.clone().unwrap_or_default()),
        ("DEMO_API_KEY", application.api_key.expose().to_owned()),
        ("DEMO_SMTP", smtp(SmtpMode::StartTls)),
        ("DEMO_SMTPS", smtp(SmtpMode::Implicit)),
        ("DEMO_SUBMITTER", SUBMITTER.to_owned()),
        ("DEMO_PASSWORD", application.password.expose().to_owned()),
        ("DEMO_CA", text(places.ca.as_ref())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Lines for a second terminal that hand in a message.
pub(super) fn tries(application: &Application, emulator: &Emulator) -> Vec<(String, &'static str)> {
    let (places, sample) = (&application.server.places, emulator.sample());
    let mut tries = Vec::new();
    if let Some(place) = places.smtp.iter().find(|place| place.mode == SmtpMode::StartTls) {
        tries.push((
            format!(
                "swaks --server localhost:{} -tls --auth-user {SUBMITTER} --auth-password {} --from {} --to {}",
                place.port,
                application.password.expose(),
                sample.sender,
                sample.user_name
            ),
            "hand in a message by SMTP",
        ));
    }
    if let Some(http) = &places.http {
        tries.push((
            format!(
                "curl -sS {http}/v1/send -H 'Authorization: Bearer {}' -H 'Content-Type: application/json' -d '{{\"to\":[\"{}\"],\"subject\":\"Hello\",\"text\":\"It works\"}}'",
                application.api_key.expose(),
                sample.user_name
            ),
            "and by HTTP",
        ));
    }
    tries
}
