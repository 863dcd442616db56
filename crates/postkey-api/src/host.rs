//! For which names this server answers: a web page that led its own name to our address (DNS rebinding) is turned away.

use std::net::{IpAddr, SocketAddr};

use http::{Uri, header, request::Parts};

/// The host names that a request may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    names: Vec<String>,
    any: bool,
}

impl Hosts {
    /// Loopback's names, the address listened on unless it stands for all, and `more`. `*` among these allows any.
    pub fn new(listening: Option<SocketAddr>, more: &[String]) -> Self {
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        names.extend(listening.map(|at| at.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()));
        names.extend(more.iter().map(|name| bare(name).to_ascii_lowercase()));
        Self { any: more.iter().any(|name| name == "*"), names }
    }

    /// Whether a request that names `host`, with a port or without, is answered.
    pub fn allow(&self, host: &str) -> bool {
        let name = without_port(host);
        let is = |known: &String| known.eq_ignore_ascii_case(name);
        self.any || self.names.iter().any(is) || is_our_address(&self.names, name)
    }
}

/// `::1` may be written in many ways.
fn is_our_address(names: &[String], name: &str) -> bool {
    let Ok(address) = name.parse::<IpAddr>() else { return false };
    names.iter().any(|known| known.parse::<IpAddr>().is_ok_and(|known| known == address))
}

/// What the request names: the URI goes before the header (RFC 9112 §3.2.2).
pub(crate) fn named(uri: &Uri, parts: &http::HeaderMap) -> String {
    if let Some(authority) = uri.authority() {
        return authority.as_str().rsplit('@').next().unwrap_or_default().to_owned();
    }
    let mut all = parts.get_all(header::HOST).iter();
    match (all.next(), all.next()) {
        (Some(one), None) => one.to_str().unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

/// The address a request came from; a listed proxy's word counts for the client behind it.
pub(crate) fn remote(parts: &Parts, proxies: &[ipnet::IpNet]) -> IpAddr {
    let unknown = IpAddr::from([0, 0, 0, 0]);
    let peer = parts.extensions.get::<axum::extract::ConnectInfo<SocketAddr>>().map_or(unknown, |peer| peer.0.ip());
    let peer = peer.to_canonical();
    if proxies.is_empty() || !proxies.iter().any(|net| net.contains(&peer)) {
        return peer;
    }
    // The last one was written by the proxy itself; what stands before may be the client's invention.
    let last = parts.headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
    let last = last.and_then(|value| value.rsplit(',').next()).map(str::trim);
    last.and_then(|text| bare(without_port(text)).parse().ok()).map_or(peer, |ip: IpAddr| ip.to_canonical())
}

fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(address, _)| address);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn bare(name: &str) -> &str {
    name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_names_are_answered() {
        let hosts = Hosts::new(
            Some("192.0.2.7:8025".parse().unwrap()),
            &["Mail.contoso.example".into(), "[2001:db8::1]".into()],
        );
        for (host, allowed) in [
            ("localhost", true),
            ("LOCALHOST:8025", true),
            ("127.0.0.1:8025", true),
            ("[::1]:8025", true),
            ("[0:0:0:0:0:0:0:1]", true),
            ("192.0.2.7", true),
            ("mail.contoso.example:443", true),
            ("[2001:DB8::1]:443", true),
            ("evil.example", false),
            ("evil.example:8025", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("192.0.2.8", false),
            ("", false),
            ("localhost:evil", false),
        ] {
            assert_eq!(hosts.allow(host), allowed, "{host:?}");
        }
        assert!(Hosts::new(None, &["*".into()]).allow("anything.example"));
        assert!(!Hosts::new(Some("0.0.0.0:1".parse().unwrap()), &[]).allow("0.0.0.0"));
    }

    #[test]
    fn only_a_listed_proxy_may_speak_for_another() {
        let proxies: Vec<ipnet::IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        for (peer, forwarded, expected) in [
            ("10.1.2.3:5", Some("198.51.100.9"), "198.51.100.9"),
            ("10.1.2.3:5", Some("127.0.0.1, 198.51.100.9"), "198.51.100.9"),
            ("10.1.2.3:5", Some("[2001:db8::9]:77"), "2001:db8::9"),
            ("10.1.2.3:5", Some("nonsense"), "10.1.2.3"),
            ("10.1.2.3:5", None, "10.1.2.3"),
            ("192.0.2.1:5", Some("127.0.0.1"), "192.0.2.1"),
            ("[::ffff:192.0.2.1]:5", None, "192.0.2.1"),
        ] {
            let mut request = http::Request::builder().uri("/");
            if let Some(forwarded) = forwarded {
                request = request.header("x-forwarded-for", forwarded);
            }
            let mut parts = request.body(()).unwrap().into_parts().0;
            parts.extensions.insert(axum::extract::ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
            assert_eq!(remote(&parts, &proxies).to_string(), expected, "{peer} {forwarded:?}");
        }
    }
}
