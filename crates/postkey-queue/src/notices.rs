//! Notices for webhooks: which are written, and how one is told: signed, to an address that was looked at, with a deadline.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use postkey_store::{MessageId, MessageState, NewNotice, Notice, NoticeEnd, NoticeId, QueuedMessage};
use serde_json::{Value, json};
use sha2::Sha256;
use url::{Host, Url};

use crate::{
    engine::Engine,
    schedule::{self, after},
    settle::Decision,
};

/// A receiver answers within this, or is asked again later.
const DEADLINE: Duration = Duration::from_secs(10);
/// Notices told at once.
const AT_ONCE: usize = 8;
/// Notices read at once.
const BATCH: u32 = 100;
/// The waits after the first, second, … failure; after the last one a notice is dead.
const WAITS: [Duration; 10] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(4 * 60 * 60),
    Duration::from_secs(8 * 60 * 60),
    Duration::from_secs(8 * 60 * 60),
];
/// Only one node tells, while it holds this lease.
const LEASE: &str = "webhooks";
/// For so long without a sign of life.
const LEASE_LENGTH: SignedDuration = SignedDuration::from_secs(30);
/// The clock is looked at this often while a notice is due.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// The header with the time and the signature: `t=<seconds>,v1=<hex of HMAC-SHA-256 over "<seconds>.<body>">`.
pub const SIGNATURE_HEADER: &str = "X-Postkey-Signature";

/// Signs a body as webhooks carry it; whoever receives one compares.
pub fn sign(secret: &[u8], at: Timestamp, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length is taken");
    let seconds = at.as_second();
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    format!("t={seconds},v1={}", hex::encode(mac.finalize().into_bytes()))
}

impl Engine {
    /// The notices that a decision asks for.
    pub(crate) fn notices_of(&self, message: &QueuedMessage, decision: &Decision, sender: &str) -> Vec<NewNotice> {
        let kind = match decision.to {
            MessageState::Accepted => "message.accepted",
            MessageState::Failed => "message.failed",
            MessageState::Unknown => "message.unknown",
            MessageState::Deferred if decision.newly_late => "message.late",
            _ => return Vec::new(),
        };
        self.notices_about(kind, message, &decision.detail, sender)
    }

    /// A notice for each webhook that wants this kind.
    pub(crate) fn notices_about(
        &self,
        kind: &'static str,
        message: &QueuedMessage,
        detail: &Value,
        sender: &str,
    ) -> Vec<NewNotice> {
        let state = self.lock();
        if state.webhooks.is_empty() {
            return Vec::new();
        }
        let now = self.clock.now();
        let payload = json!({
            "type": kind,
            "at": now,
            "message": {
                "id": message.id,
                "message_id": message.message_id,
                "sender": sender,
                "submitter": message.submitter,
                "from": message.envelope.from,
                "recipients": message.envelope.recipients.iter().map(|one| &one.address).collect::<Vec<_>>(),
                "accepted_at": message.accepted_at,
                "attempts": message.attempts,
            },
            "outcome": detail,
        });
        let wants = |webhook: &&postkey_store::Webhook| {
            webhook.events.is_empty() || webhook.events.iter().any(|event| event == kind)
        };
        let notices = state.webhooks.iter().filter(wants).map(|webhook| NewNotice {
            id: NoticeId::at(now),
            webhook: webhook.id,
            kind: kind.to_owned(),
            message: Some(message.id),
            payload: payload.clone(),
            due_at: now,
        });
        notices.collect()
    }

    /// Writes a notice of something that is no settlement.
    pub(crate) async fn notify_all(&self, kind: &'static str, message: Option<MessageId>, payload: Value) {
        let now = self.clock.now();
        let mut payload = payload;
        payload["type"] = json!(kind);
        payload["at"] = json!(now);
        let webhooks: Vec<_> = {
            let state = self.lock();
            let wants = |webhook: &&postkey_store::Webhook| {
                webhook.events.is_empty() || webhook.events.iter().any(|event| event == kind)
            };
            state.webhooks.iter().filter(wants).map(|webhook| webhook.id).collect()
        };
        for webhook in webhooks {
            let notice = NewNotice {
                id: NoticeId::at(now),
                webhook,
                kind: kind.to_owned(),
                message,
                payload: payload.clone(),
                due_at: now,
            };
            if let Err(error) = self.store.add_notice(&notice).await {
                tracing::warn!(%error, kind, "a notice could not be written");
            }
        }
        self.tell.notify_one();
    }

    /// Tells what is due, for as long as the queue runs.
    pub(crate) async fn tell_webhooks(self: Arc<Self>) {
        loop {
            let next = match self.tell_due().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "notices could not be read");
                    Some(after(self.clock.now(), Duration::from_secs(5)))
                }
            };
            let now = self.clock.now();
            let sleep = async {
                match next {
                    Some(at) => {
                        let wait = schedule::until(now, at).clamp(Duration::from_millis(20), LONGEST_SLEEP);
                        tokio::time::sleep(wait).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.tell.notified() => {}
                () = sleep => {}
            }
        }
    }

    /// Tells what is due; gives when the next is.
    async fn tell_due(&self) -> Result<Option<Timestamp>, postkey_store::StoreError> {
        let now = self.clock.now();
        let Some(next) = self.store.next_notice().await? else { return Ok(None) };
        if next > now {
            return Ok(Some(next));
        }
        if self.store.retake_lease(LEASE, &self.node, LEASE_LENGTH).await?.is_none() {
            return Ok(Some(after(now, Duration::from_secs(5))));
        }
        let due = self.store.due_notices(now, BATCH).await?;
        stream::iter(due).for_each_concurrent(AT_ONCE, |notice| self.tell_one(notice)).await;
        Ok(Some(now))
    }

    async fn tell_one(&self, notice: Notice) {
        let end = match self.deliver(&notice).await {
            Ok(()) => {
                self.tally.notices_told.fetch_add(1, Ordering::Relaxed);
                NoticeEnd::Told
            }
            Err(Refusal { error, gone }) => {
                self.tally.notices_failed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(notice = %notice.id, error, "a webhook did not take a notice");
                match WAITS.get(notice.attempts as usize).filter(|_| !gone) {
                    Some(wait) => {
                        let spread = wait.mul_f64(0.8 + 0.4 * rand::random::<f64>());
                        NoticeEnd::Later { due_at: after(self.clock.now(), spread), error }
                    }
                    None => NoticeEnd::Dead { error },
                }
            }
        };
        if let Err(error) = self.store.settle_notice(notice.id, &end).await {
            tracing::warn!(notice = %notice.id, %error, "how a notice ended could not be written down");
        }
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), Refusal> {
        let webhook = self.lock().webhooks.iter().find(|one| one.id == notice.webhook).cloned();
        let webhook = webhook.ok_or_else(|| Refusal::later("the webhook is not known yet"))?;
        let secret = self.store.webhook_secret(webhook.id).await;
        let secret = secret.map_err(|error| Refusal::later(&error.to_string()))?;
        let secret = secret.ok_or_else(|| Refusal::later("the webhook has no secret"))?;
        let url = Url::parse(&webhook.url).map_err(|_| Refusal::gone("the webhook's address is no URL"))?;
        let rules = Rules { private: self.settings.webhooks_to_private, http: self.settings.webhooks_by_http };
        let client = rules.client(&url).await?;
        let mut payload = notice.payload.clone();
        payload["id"] = json!(notice.id);
        let body = payload.to_string();
        let signature = sign(&secret, self.clock.now(), body.as_bytes());
        let request = client
            .post(url)
            .header("Content-Type", "application/json")
            .header("X-Postkey-Event", &notice.kind)
            .header("X-Postkey-Delivery", notice.id.to_string())
            .header(SIGNATURE_HEADER, signature)
            .timeout(DEADLINE)
            .body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) if answer.status() == 410 => Err(Refusal::gone("it answered 410 Gone")),
            Ok(answer) => Err(Refusal::later(&format!("it answered {}", answer.status().as_u16()))),
            // The URL may carry a secret of the receiver's.
            Err(error) => Err(Refusal::later(&error.without_url().to_string())),
        }
    }
}

/// Why a notice was not told.
#[derive(Debug)]
struct Refusal {
    error: String,
    /// Nobody need try again.
    gone: bool,
}

impl Refusal {
    fn later(error: &str) -> Self {
        Self { error: error.chars().take(500).collect(), gone: false }
    }

    fn gone(error: &str) -> Self {
        Self { gone: true, ..Self::later(error) }
    }
}

/// Where webhooks may go.
#[derive(Debug, Clone, Copy)]
struct Rules {
    private: bool,
    http: bool,
}

impl Rules {
    /// A client that connects to nothing but the addresses that were looked at, and follows nobody elsewhere.
    async fn client(self, url: &Url) -> Result<reqwest::Client, Refusal> {
        match url.scheme() {
            "https" => {}
            "http" if self.http => {}
            other => return Err(Refusal::later(&format!("{other} is not allowed for webhooks"))),
        }
        let port = url.port_or_known_default().unwrap_or(443);
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(DEADLINE)
            .user_agent("postkey-webhook");
        let addresses: Vec<SocketAddr> = match url.host() {
            Some(Host::Ipv4(ip)) => vec![(ip, port).into()],
            Some(Host::Ipv6(ip)) => vec![(ip, port).into()],
            Some(Host::Domain(name)) => {
                let looked_up = tokio::time::timeout(DEADLINE, tokio::net::lookup_host((name, port))).await;
                let found = looked_up.map_err(|_| Refusal::later("its name was not looked up in time"))?;
                let found: Vec<_> = found.map_err(|error| Refusal::later(&error.to_string()))?.collect();
                builder = builder.resolve_to_addrs(name, &found);
                found
            }
            None => return Err(Refusal::gone("the webhook's address names no host")),
        };
        if addresses.is_empty() {
            return Err(Refusal::later("its name has no address"));
        }
        for address in addresses {
            self.allow(address.ip()).map_err(|why| Refusal::later(&format!("{} is {why}", address.ip())))?;
        }
        builder.build().map_err(|error| Refusal::later(&error.to_string()))
    }

    fn allow(self, ip: IpAddr) -> Result<(), &'static str> {
        let ip = match ip {
            IpAddr::V6(six) => six.to_ipv4_mapped().map_or(IpAddr::V6(six), IpAddr::V4),
            four => four,
        };
        match kind_of(ip) {
            Place::Public => Ok(()),
            Place::Private if self.private => Ok(()),
            Place::Private => Err("a private address, which the settings do not allow for webhooks"),
            Place::Never => Err("an address to which webhooks never go"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Public,
    Private,
    Never,
}

/// Link-local addresses hold the metadata services of clouds.
fn kind_of(ip: IpAddr) -> Place {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            let serves_machines = ip.is_link_local() || [METADATA_ALIBABA, WIRE_SERVER_AZURE].contains(&ip);
            if serves_machines || ip.is_multicast() || ip.is_broadcast() || a == 0 || a >= 240 {
                Place::Never
            } else if ip.is_private()
                || ip.is_loopback()
                || (a == 100 && (64..128).contains(&b))
                // RFC 6890: protocol assignments, and benchmarks within one's own network.
                || (a, b, c) == (192, 0, 0)
                || (a == 198 && (18..20).contains(&b))
            {
                Place::Private
            } else {
                Place::Public
            }
        }
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            if ip.is_unspecified() || ip.is_multicast() || first & 0xffc0 == 0xfe80 || ip == METADATA_AWS {
                Place::Never
            } else if ip.is_loopback() || first & 0xfe00 == 0xfc00 {
                Place::Private
            } else if let Some(four) = embedded(ip) {
                kind_of(IpAddr::V4(four))
            } else {
                Place::Public
            }
        }
    }
}

/// An IPv4 address that a translator would reach: 64:ff9b::/96 (RFC 6052) and 2002::/16 (RFC 3056).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let four = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(four(high, low)),
        [0x2002, high, low, ..] => Some(four(high, low)),
        _ => None,
    }
}

/// Alibaba Cloud's metadata service lies among shared addresses.
const METADATA_ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// Azure's machine agent looks like a public address.
const WIRE_SERVER_AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
/// AWS's lies among private ones.
const METADATA_AWS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_time_and_body() {
        let at: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        let signed = sign(b"secret", at, b"{}");
        assert!(signed.starts_with("t=1772359200,v1="), "{signed}");
        assert_ne!(signed, sign(b"secret", at, b"{ }"));
        assert_ne!(signed, sign(b"other", at, b"{}"));
        assert_ne!(signed[13..], sign(b"secret", after(at, Duration::from_secs(1)), b"{}")[13..]);
    }

    #[test]
    fn addresses_within_are_refused_unless_allowed_and_metadata_always() {
        for (ip, expected) in [
            ("93.184.216.34", Place::Public),
            ("2606:2800:220:1::1", Place::Public),
            ("127.0.0.1", Place::Private),
            ("10.1.2.3", Place::Private),
            ("172.31.0.1", Place::Private),
            ("192.168.1.1", Place::Private),
            ("100.64.0.1", Place::Private),
            ("::1", Place::Private),
            ("fd12::1", Place::Private),
            ("169.254.169.254", Place::Never),
            ("100.100.100.200", Place::Never),
            ("168.63.129.16", Place::Never),
            ("64:ff9b::a83f:8110", Place::Never),
            ("192.0.0.192", Place::Private),
            ("198.19.0.1", Place::Private),
            ("198.20.0.1", Place::Public),
            ("fd00:ec2::254", Place::Never),
            ("fe80::1", Place::Never),
            ("0.0.0.0", Place::Never),
            ("224.0.0.1", Place::Never),
            ("255.255.255.255", Place::Never),
            ("::", Place::Never),
            ("64:ff9b::a9fe:a9fe", Place::Never),
            ("2002:a00:1::", Place::Private),
        ] {
            assert_eq!(kind_of(ip.parse().unwrap()), expected, "{ip}");
        }
        let strict = Rules { private: false, http: false };
        assert!(strict.allow("::ffff:127.0.0.1".parse().unwrap()).is_err());
        assert!(Rules { private: true, ..strict }.allow("::ffff:127.0.0.1".parse().unwrap()).is_ok());
        assert!(Rules { private: true, ..strict }.allow("::ffff:169.254.169.254".parse().unwrap()).is_err());
    }
}
