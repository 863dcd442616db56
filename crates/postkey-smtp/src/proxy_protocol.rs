//! The PROXY protocol, versions 1 and 2: who really connects, as the proxy before us says.
//!
//! Only for connections that come from a listed proxy: anybody else could claim any address.

use std::net::SocketAddr;

/// The most octets a header may have, of either version; a listener reads no more before it gives up.
pub const MAX_HEADER: usize = 4096;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// A connection of somebody else.
    Proxied {
        /// Who connects.
        source: SocketAddr,
        /// To which address of the proxy.
        destination: SocketAddr,
    },
    /// The proxy's own connection, a health check; or one whose address it does not know (`LOCAL`, `UNKNOWN`,
    /// `UNSPEC`, a UNIX socket). The connection's own address holds.
    Local,
}

/// How far a header has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// The header, and its octets: what stands behind is the client's.
    Complete {
        /// What it says.
        header: ProxyHeader,
        /// So many bytes it takes.
        length: usize,
    },
}

/// Why a connection has no PROXY header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Neither signature.
    #[error("the connection does not begin with a PROXY header, though it comes from a listed proxy")]
    Missing,
    /// The header breaks its grammar.
    #[error("the PROXY header cannot be read: {0}")]
    Malformed(&'static str),
    /// Over the bound.
    #[error("the PROXY header is longer than {MAX_HEADER} bytes")]
    TooLong,
}

/// Reads the header at the start of a connection from what came so far.
pub fn read_header(_bytes: &[u8]) -> Result<Progress, ProxyError> {
    todo!()
}
