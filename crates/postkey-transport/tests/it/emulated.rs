//! The whole far side: an emulator, and transports that send through it.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc};

use postkey_base::AccessToken;
use postkey_emulator::{Emulator, EmulatorSettings};
use postkey_graph::{Graph, Pacer};
use postkey_identity::{Cloud, Network, TokenError, TokenSource};
use postkey_transport::{Abilities, Envelope, Message, Report, SmtpRoute, Stamp, Transport};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use uuid::Uuid;

use crate::support::address;

/// One token for all.
struct Token(AccessToken);

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl TokenSource for Token {
    fn token(&self) -> Later<'_, Result<AccessToken, TokenError>> {
        Box::pin(async { Ok(self.0.clone()) })
    }

    fn disown<'a>(&'a self, _token: &'a AccessToken, _claims: Option<String>) -> Later<'a, ()> {
        Box::pin(async {})
    }
}

pub(crate) struct Far {
    pub(crate) emulator: Emulator,
    graph: Graph,
    smtp: SmtpRoute,
}

impl Far {
    pub(crate) async fn start() -> Self {
        let emulator = Emulator::start(EmulatorSettings::default()).await.unwrap();
        let http = emulator.client().unwrap();
        let token = async |scope| Arc::new(Token(AccessToken::new(token(&emulator, &http, scope).await)));
        let cloud = Cloud { graph: emulator.graph().parse().unwrap(), ..Cloud::global() };
        let graph = Graph::new(http.clone(), cloud, token("https://graph.microsoft.com/.default").await);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let exchange = token("https://outlook.office365.com/.default").await;
        let smtp = SmtpRoute::with_tls(Network::default(), emulator.smtp().parse().unwrap(), Arc::new(tls), exchange);
        // Every answer of the server is to be seen.
        Self { graph: graph.with_pacer(Pacer::idle()), smtp, emulator }
    }

    pub(crate) fn sender(&self) -> String {
        self.emulator.sample().sender.clone()
    }

    /// `user+tag@domain`.
    pub(crate) fn tagged(&self, tag: &str) -> String {
        self.emulator.sample().user_name.replacen('@', &format!("+{tag}@"), 1)
    }

    fn transport(&self, graph: bool, drafts: bool, smtp: bool) -> Transport {
        Transport {
            mailbox: address(&self.sender()),
            abilities: Abilities { graph_send: graph, graph_read_write: drafts, smtp, ..Abilities::default() },
            graph: Some(self.graph.clone()),
            smtp: Some(self.smtp.clone()),
        }
    }

    pub(crate) fn by_graph(&self) -> Transport {
        self.transport(true, false, false)
    }

    pub(crate) fn by_drafts(&self) -> Transport {
        self.transport(true, true, false)
    }

    pub(crate) fn by_smtp(&self) -> Transport {
        self.transport(false, false, true)
    }

    pub(crate) fn by_both(&self) -> Transport {
        self.transport(true, false, true)
    }

    /// Copies that this submission has reached people with, and how often it was accepted.
    pub(crate) fn arrived(&self, stamp: Uuid) -> (u32, u32) {
        self.emulator.with_world(|world| {
            world.settle_mail();
            world.mail.arrivals.of(&stamp.to_string()).map_or((0, 0), |arrival| (arrival.accepted, arrival.copies))
        })
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }
}

async fn token(emulator: &Emulator, http: &reqwest::Client, scope: &str) -> String {
    let variables: HashMap<_, _> = emulator.environment().into_iter().collect();
    let url = format!("{}/{}/oauth2/v2.0/token", variables["EMULATOR_AUTHORITY"], variables["TENANT_ID"]);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &variables["CLIENT_ID"]),
        ("client_secret", &variables["CLIENT_SECRET"]),
        ("scope", scope),
    ];
    let form: String = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = http.post(url).header("content-type", "application/x-www-form-urlencoded").body(form);
    let answer: serde_json::Value =
        serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

/// A small message to one address, or one with a 4 MB file.
pub(crate) fn message(from: &str, to: &str, file: bool) -> Message {
    let mut composition = postkey_transport::Composition {
        to: vec![address(to)],
        subject: "to be tried".into(),
        text: Some("Hello\r\n".into()),
        ..postkey_transport::Composition::new(address(from))
    };
    if file {
        composition.attachments.push(postkey_transport::AttachedFile {
            name: "large.bin".into(),
            content_type: None,
            bytes: (0u8..=255).cycle().take(4_100_000).collect(),
        });
    }
    let at = "2026-11-24T07:05:00Z".parse().unwrap();
    Message::parse(postkey_transport::compose(&composition, Uuid::new_v4(), at).unwrap()).unwrap()
}

/// Sends it once, under a stamp of its own.
pub(crate) async fn send(transport: &Transport, message: &Message) -> (Uuid, Report) {
    let id = Uuid::new_v4();
    let envelope = Envelope::of(message, transport.mailbox.clone()).unwrap();
    let stamp = Stamp { id, at: "2026-11-24T07:05:00Z".parse().unwrap() };
    (id, transport.send(message, &envelope, &stamp).await)
}
