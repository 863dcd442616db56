//! The PROXY protocol, versions 1 and 2: who really connects, as the proxy before us says.
//!
//! Only for connections that come from a listed proxy: anybody else could claim any address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 5678 587` and CRLF, at most 107 octets in all.
const V1_LONGEST: usize = 107;
const V1_SIGNATURE: &[u8] = b"PROXY ";
/// Version 2: 12 octets no other protocol begins with, version and command, family and transport, length.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// Reads the header at the start of a connection from what came so far, which must be all that came: what is told from
/// the first bytes is not told again from later ones.
pub fn read_header(bytes: &[u8]) -> Result<Progress, ProxyError> {
    if bytes.starts_with(V2_SIGNATURE) {
        version_2(bytes)
    } else if bytes.starts_with(V1_SIGNATURE) {
        version_1(bytes)
    } else if V1_SIGNATURE.starts_with(bytes) || V2_SIGNATURE.starts_with(bytes) {
        Ok(Progress::Incomplete)
    } else {
        Err(ProxyError::Missing)
    }
}

fn version_1(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let first = &bytes[..bytes.len().min(V1_LONGEST)];
    let Some(end) = first.iter().position(|&byte| byte == b'\n') else {
        let endless = first.len() == V1_LONGEST;
        return if endless { Err(ProxyError::Malformed("its line does not end")) } else { Ok(Progress::Incomplete) };
    };
    let complete = |header| Ok(Progress::Complete { header, length: end + 1 });
    let line = first[..end].strip_suffix(b"\r").ok_or(ProxyError::Malformed("its line ends without CR"))?;
    let line =
        std::str::from_utf8(&line[V1_SIGNATURE.len()..]).map_err(|_| ProxyError::Malformed("it is not ASCII"))?;
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        // What stands behind UNKNOWN is to be ignored.
        ["UNKNOWN", ..] => complete(ProxyHeader::Local),
        [family @ ("TCP4" | "TCP6"), source, destination, source_port, destination_port] => {
            let address = |text: &str| match family {
                "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
                _ => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            };
            let socket = |ip: &str, port: &str| Some(SocketAddr::new(address(ip)?, port_number(port)?));
            match (socket(source, source_port), socket(destination, destination_port)) {
                (Some(source), Some(destination)) => complete(ProxyHeader::Proxied { source, destination }),
                _ => Err(ProxyError::Malformed("an address or a port of it cannot be read")),
            }
        }
        _ => Err(ProxyError::Malformed("it names neither TCP4 nor TCP6 nor UNKNOWN with what belongs to it")),
    }
}

/// Decimal without sign or leading zeros.
fn port_number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn version_2(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let Some((fixed, _)) = bytes.split_at_checked(V2_FIXED) else { return Ok(Progress::Incomplete) };
    let length = V2_FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if fixed[12] >> 4 != 2 {
        return Err(ProxyError::Malformed("its version is not 2"));
    }
    if length > MAX_HEADER {
        return Err(ProxyError::TooLong);
    }
    let Some(addresses) = bytes.get(V2_FIXED..length) else { return Ok(Progress::Incomplete) };
    let complete = |header| Ok(Progress::Complete { header, length });
    // Behind the addresses stand TLVs, which tell nothing we need.
    match (fixed[12] & 0x0f, fixed[13]) {
        (0, _) => complete(ProxyHeader::Local),
        (1, 0x11) => {
            let Some([a, b, c, d, e, f, g, h, i, j, k, l]) = addresses.first_chunk::<12>() else {
                return Err(ProxyError::Malformed("its addresses are cut short"));
            };
            complete(ProxyHeader::Proxied {
                source: SocketAddr::from(([*a, *b, *c, *d], u16::from_be_bytes([*i, *j]))),
                destination: SocketAddr::from(([*e, *f, *g, *h], u16::from_be_bytes([*k, *l]))),
            })
        }
        (1, 0x21) => {
            let (Some(source), Some(destination), Some(ports)) = (
                addresses.first_chunk::<16>(),
                addresses.get(16..).and_then(|rest| rest.first_chunk::<16>()),
                addresses.get(32..).and_then(|rest| rest.first_chunk::<4>()),
            ) else {
                return Err(ProxyError::Malformed("its addresses are cut short"));
            };
            complete(ProxyHeader::Proxied {
                source: SocketAddr::from((*source, u16::from_be_bytes([ports[0], ports[1]]))),
                destination: SocketAddr::from((*destination, u16::from_be_bytes([ports[2], ports[3]]))),
            })
        }
        // AF_UNSPEC and UNIX sockets of a stream; datagrams carry no SMTP.
        (1, 0x00 | 0x31) => complete(ProxyHeader::Local),
        (1, _) => Err(ProxyError::Malformed("its address family or transport is not one SMTP runs over")),
        _ => Err(ProxyError::Malformed("its command is neither LOCAL nor PROXY")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = (addresses.len() as u16).to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, addresses].concat()
    }

    fn proxied(source: &str, destination: &str) -> ProxyHeader {
        ProxyHeader::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    #[test]
    fn headers_of_both_versions_are_read_whole_and_only_whole() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x16, 0x2e, 0x02, 0x4b];
        let mut v6 = [0u8; 36];
        (v6[15], v6[31]) = (1, 2);
        v6[32..].copy_from_slice(&[0, 7, 0, 25]);
        let with_tlv = [&v4[..], &[0x03, 0, 4, 1, 2, 3, 4]].concat();
        let four = proxied("192.0.2.1:5678", "192.0.2.2:587");
        for (bytes, want) in [
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 5678 587\r\n".to_vec(), four),
            (b"PROXY TCP6 2001:db8::1 ::1 5678 587\r\n".to_vec(), proxied("[2001:db8::1]:5678", "[::1]:587")),
            (b"PROXY UNKNOWN\r\n".to_vec(), ProxyHeader::Local),
            (b"PROXY UNKNOWN ffff:f... whatever 1\r\n".to_vec(), ProxyHeader::Local),
            (v2(0x21, 0x11, &v4), four),
            (v2(0x21, 0x11, &with_tlv), four),
            (v2(0x21, 0x21, &v6), proxied("[::1]:7", "[::2]:25")),
            (v2(0x20, 0x00, &[]), ProxyHeader::Local),
            (v2(0x20, 0x11, &v4), ProxyHeader::Local),
            (v2(0x21, 0x00, &[1, 2, 3]), ProxyHeader::Local),
            (v2(0x21, 0x31, &[0; 216]), ProxyHeader::Local),
        ] {
            for cut in 0..bytes.len() {
                assert_eq!(read_header(&bytes[..cut]), Ok(Progress::Incomplete), "{bytes:?} cut at {cut}");
            }
            let more = [&bytes[..], b"EHLO a.example\r\n"].concat();
            assert_eq!(read_header(&more), Ok(Progress::Complete { header: want, length: bytes.len() }), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_and_never_taken_for_the_clients_words() {
        let malformed =
            |bytes: &[u8]| assert!(matches!(read_header(bytes), Err(ProxyError::Malformed(_))), "{bytes:?}");
        for line in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 5678\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 5678 587 9\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 5678 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +678 587\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 05678 587\r\n",
            "PROXY TCP4 ::1 ::2 5678 587\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 5678 587\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 5678 587\n",
            "PROXY TCP5 192.0.2.1 192.0.2.2 5678 587\r\n",
            "PROXY \r\n",
        ] {
            malformed(line.as_bytes());
        }
        malformed(format!("PROXY UNKNOWN {}\r\n", "x".repeat(200)).as_bytes());
        malformed(&v2(0x11, 0x11, &[0; 12]));
        malformed(&v2(0x22, 0x11, &[0; 12]));
        malformed(&v2(0x21, 0x12, &[0; 12]));
        malformed(&v2(0x21, 0x11, &[0; 11]));
        malformed(&v2(0x21, 0x21, &[0; 35]));
        assert_eq!(read_header(&v2(0x21, 0x11, &[0; 5000])[..16]), Err(ProxyError::TooLong));
        assert_eq!(read_header(b"EHLO a.example\r\n"), Err(ProxyError::Missing));
        assert_eq!(read_header(b"\r\n\r\nQ"), Err(ProxyError::Missing));
        assert_eq!(read_header(b"\x16\x03\x01"), Err(ProxyError::Missing));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_wait_beyond_its_bound(
            start in prop_oneof![Just(V1_SIGNATURE), Just(V2_SIGNATURE), Just(&b""[..])],
            rest in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut bytes = [start, &rest].concat();
            if let Ok(Progress::Complete { length, .. }) = read_header(&bytes) {
                prop_assert!(length <= bytes.len());
            }
            bytes.resize(MAX_HEADER, b'a');
            prop_assert_ne!(read_header(&bytes), Ok(Progress::Incomplete));
        }
    }
}
