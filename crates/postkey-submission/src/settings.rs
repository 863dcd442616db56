//! What a submission service listens on, and how much it puts up with.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name, for logs and timelines.
    pub name: String,
    /// Where.
    pub address: SocketAddr,
    /// How connections are protected.
    pub mode: Mode,
    /// Proxies whose PROXY header is believed, and demanded. Connections from elsewhere are taken for what they are.
    pub proxies: Vec<IpNet>,
}

/// How connections are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Clear text that turns into TLS by STARTTLS (RFC 3207). AUTH only after that, or from loopback to loopback.
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// Clear text for devices whose TLS is too old: no passwords at all, only submitters known by their network. Bound to a
    /// named address, never to all.
    Plain,
}

/// How much the service puts up with. The defaults fit one server for an organisation.
#[derive(Debug, Clone)]
pub struct SubmissionSettings {
    /// Our name in greetings.
    pub host_name: String,
    /// Connections at once; one more hears 421.
    pub most_connections: usize,
    /// Connections at once from one IPv4 address or IPv6 /64; loopback is not counted.
    pub most_per_address: usize,
    /// Recipients of one message; further ones hear 452 4.5.3. A mailbox takes 500 unless its administrator allows more.
    pub most_recipients: usize,
    /// Wrong passwords in one session; then it ends.
    pub most_failed_logins: u32,
    /// Bytes of messages that are being received; beyond, DATA hears 452 4.3.1.
    pub most_bytes_in_hand: u64,
    /// For the TLS handshake, and for a PROXY header.
    pub handshake_within: Duration,
    /// From the connection to the sign-in, where one is needed.
    pub sign_in_within: Duration,
    /// For the next command to be complete, however slowly its bytes come. RFC 5321 §4.5.3.2.7 asks for 5 minutes.
    pub command_within: Duration,
    /// Between two pieces of a message. RFC 5321 §4.5.3.2.5 asks for 3 minutes.
    pub data_within: Duration,
    /// After the first [`SubmissionSettings::data_within`], a message comes at least so fast on the average.
    pub bytes_per_second: u64,
    /// For a client to take our replies.
    pub reply_within: Duration,
}

impl Default for SubmissionSettings {
    fn default() -> Self {
        Self {
            host_name: "postkey.localhost".into(),
            most_connections: 4_096,
            most_per_address: 100,
            most_recipients: 500,
            most_failed_logins: 3,
            most_bytes_in_hand: 512 * 1024 * 1024,
            handshake_within: Duration::from_secs(30),
            sign_in_within: Duration::from_secs(5 * 60),
            command_within: Duration::from_secs(5 * 60),
            data_within: Duration::from_secs(3 * 60),
            bytes_per_second: 256,
            reply_within: Duration::from_secs(60),
        }
    }
}
