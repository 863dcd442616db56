//! What an emulator may be told at its start.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use crate::exchange::{limits::Limits, state::Keep};

/// Settings of one emulator. The default suits a test: loopback, free ports, no lag, nothing on disk.
#[derive(Debug, Clone)]
pub struct EmulatorSettings {
    /// Where it keeps its CA certificate and the clock's offset for others to read; None = nowhere.
    pub dir: Option<PathBuf>,
    /// The interface of the protocol ports. The management port is always on loopback.
    pub listen: IpAddr,
    /// Allows `listen` to be other than loopback. Whoever reaches the ports can then sign in with the sample users.
    pub beyond_loopback: bool,
    /// Also stands in for Microsoft's own host names, behind a CONNECT proxy that leads to loopback.
    pub as_microsoft: bool,
    /// Ports; 0 = any free one.
    pub ports: Ports,
    /// How long new objects stay invisible to other nodes.
    pub replication_lag: Duration,
    /// How long the token endpoint does not know a new credential.
    pub acceptance_lag: Duration,
    /// Whether a new credential is refused now and then for one more lag after its first acceptance.
    pub non_monotone: bool,
    /// How much may be asked and sent; [`Limits::lifted`] for a benchmark.
    pub limits: Limits,
    /// How late Graph answers each request that concerns mail.
    pub graph_latency: Duration,
    /// What is kept of mail that has been delivered.
    pub keep: Keep,
    /// What chance starts from, so a run can be repeated; secrets are random whatever it says. None = differently each time.
    pub seed: Option<u64>,
}

/// Ports of the listeners; 0 = any free one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ports {
    /// The login host.
    pub login: u16,
    /// The Graph host.
    pub graph: u16,
    /// SMTP submission.
    pub smtp: u16,
    /// The management API.
    pub management: u16,
    /// The CONNECT proxy of `as_microsoft`.
    pub proxy: u16,
}

impl Default for EmulatorSettings {
    fn default() -> Self {
        Self {
            dir: None,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            beyond_loopback: false,
            as_microsoft: false,
            ports: Ports::default(),
            replication_lag: Duration::ZERO,
            acceptance_lag: Duration::ZERO,
            non_monotone: false,
            limits: Limits::default(),
            graph_latency: Duration::ZERO,
            keep: Keep::All,
            seed: None,
        }
    }
}
