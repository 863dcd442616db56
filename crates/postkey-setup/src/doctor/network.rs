//! The way out: proxy, names, connections, TLS with the certificate that answers, and the clock.

use std::{io, time::Duration};

use jiff::SignedDuration;
use postkey_base::{Clock, Diagnose, Who};
use postkey_identity::{Cloud, HostPort, Network, NetworkError, TenantRef, TokenEndpoint};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use url::Url;

use super::{
    Check, CheckResult, Held, Round,
    certificate::{self, Seen},
    failure, finding,
};

const PROXY: (&str, &str) = ("network.proxy", "the proxy can be reached");
const ROOTS: (&str, &str) = ("network.roots", "this machine knows whom to trust");
const DNS: (&str, &str) = ("network.dns", "the name resolves");
const TCP: (&str, &str) = ("network.tcp", "the host can be reached");
const TLS: (&str, &str) = ("network.tls", "the host's certificate is trusted");
pub(super) const SKEW: (&str, &str) = ("clock.skew", "this machine's clock is right");

/// A resolver that takes longer has no answer.
const DNS_TIMEOUT: Duration = Duration::from_secs(10);
/// Connection, greeting and handshake; each is over in a second or never.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Entra takes assertions that are five minutes off.
const SKEW_FAILS: SignedDuration = SignedDuration::from_mins(5);
/// Half of that is no accident any more.
const SKEW_WARNS: SignedDuration = SignedDuration::from_mins(2);
/// A line of a greeting or an EHLO reply, and some; RFC 5321 §4.5.3.1.5 allows 512 octets a line.
const SMTP_REPLY_LIMIT: usize = 16 * 1024;

/// Whether the hosts of a cloud can be spoken to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) login: Held,
    pub(super) graph: Held,
}

impl Default for Way {
    fn default() -> Self {
        Self { login: Ok(()), graph: Ok(()) }
    }
}

/// How TLS begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    AtOnce,
    ByStartTls,
    Never,
}

pub(super) async fn examine(
    network: &Network,
    clock: &Clock,
    cloud: &Cloud,
    smtp_wanted: bool,
    round: &mut Round<'_>,
) -> Way {
    let out = round.add(proxy(network).await);
    // No proxy is no obstacle.
    let out = if network.proxy.is_some() { out } else { Ok(()) };
    let roots = round.add(roots(network, cloud));
    let ready = out.and(roots);
    let login = host(network, cloud, &host_of(&cloud.login), begins(&cloud.login), ready, true, round).await;
    let _ = match login {
        Ok(()) => round.add(skew(network, clock, cloud).await),
        Err(because) => round.skip(SKEW.0, SKEW.1, because),
    };
    let graph = host(network, cloud, &host_of(&cloud.graph), begins(&cloud.graph), ready, true, round).await;
    let _ = host(network, cloud, &cloud.smtp, Begins::ByStartTls, ready, smtp_wanted, round).await;
    Way { login, graph }
}

async fn proxy(network: &Network) -> Check {
    let (name, title) = PROXY;
    let Some(proxy) = &network.proxy else { return Check::skipped(name, title, "none is set") };
    let url = proxy.expose();
    let target = HostPort {
        host: url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
        port: url.port_or_known_default().unwrap_or(80),
    };
    let direct = Network { proxy: None, extra_ca: None };
    match direct.connect(&target).await {
        Ok(_) => Check::passed(name, title),
        Err(error) => {
            let found = error.diagnosis();
            let remedy = format!("Check `proxy` in the settings (POSTKEY_PROXY), and that {target} runs.");
            Check::failed(
                name,
                title,
                finding("network.proxy_unreachable", found.what, found.why, remedy, Who::NetworkAdministrator),
            )
        }
    }
    .about(proxy.to_string())
}

fn roots(network: &Network, cloud: &Cloud) -> Check {
    let (name, title) = ROOTS;
    let check = match network.tls_config(cloud) {
        Ok(_) => Check::passed(name, title),
        Err(error) => failure(name, title, &error),
    };
    [&network.extra_ca, &cloud.ca_file]
        .into_iter()
        .flatten()
        .fold(check, |check, path| check.with("ca_file", path.display()))
}

/// The three checks of one host; a host that nobody needs only warns.
async fn host(
    network: &Network,
    cloud: &Cloud,
    target: &HostPort,
    begins: Begins,
    ready: Held,
    needed: bool,
    round: &mut Round<'_>,
) -> Held {
    let subject = target.to_string();
    let mut add = |check: Check| {
        let held = if check.holds() { Ok(()) } else { Err(check.name) };
        let _ = round.add(if needed { check } else { softened(check) });
        held
    };
    let skipped = |(name, title), because| Check::skipped(name, title, format!("{because} does not hold"));
    let resolved = match ready {
        Ok(()) if network.proxy.is_some() => {
            let _ = add(Check::skipped(DNS.0, DNS.1, "the proxy resolves names").about(&target.host));
            Ok(())
        }
        Ok(()) => add(dns(target).await),
        Err(because) => add(skipped(DNS, because).about(&target.host)).map_err(|_| because),
    };
    let connected = match resolved {
        Ok(()) => match network.connect(target).await {
            Ok(stream) => add(Check::passed(TCP.0, TCP.1).about(&subject)).map(|()| stream),
            Err(error) => add(failure(TCP.0, TCP.1, &error).about(&subject)).and(Err(TCP.0)),
        },
        Err(because) => add(skipped(TCP, because).about(&subject)).and(Err(because)),
    };
    match connected {
        Ok(_) if begins == Begins::Never => {
            let _ = add(Check::skipped(TLS.0, TLS.1, "the address asks for none").about(&subject));
            Ok(())
        }
        Ok(stream) => add(tls(network, cloud, target, begins, stream).await.about(&subject)),
        Err(because) => add(skipped(TLS, because).about(&subject)).map_err(|_| because),
    }
}

/// A failure that stops nobody at present.
fn softened(mut check: Check) -> Check {
    if check.result == CheckResult::Failed {
        check.result = CheckResult::Warning;
        check.evidence.push(("matters", "only for sending by SMTP".into()));
    }
    check
}

async fn dns(target: &HostPort) -> Check {
    let (name, title) = DNS;
    let failed = |cause: io::Error| {
        let error = NetworkError::Dns { host: target.host.clone(), cause: std::sync::Arc::new(cause) };
        failure(name, title, &error)
    };
    let check = match timeout(DNS_TIMEOUT, tokio::net::lookup_host((target.host.as_str(), target.port))).await {
        Err(_) => failed(io::ErrorKind::TimedOut.into()),
        Ok(Err(cause)) => failed(cause),
        Ok(Ok(addresses)) => {
            let mut addresses: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
            addresses.dedup();
            if addresses.is_empty() {
                failed(io::Error::new(io::ErrorKind::NotFound, "no address"))
            } else {
                addresses.truncate(4);
                Check::passed(name, title).with("addresses", addresses.join(", "))
            }
        }
    };
    check.about(&target.host)
}

async fn tls(network: &Network, cloud: &Cloud, target: &HostPort, begins: Begins, stream: TcpStream) -> Check {
    let (name, title) = TLS;
    match timeout(HANDSHAKE_TIMEOUT, handshake(network, cloud, target, begins, stream)).await {
        Err(_) => failure(name, title, &NetworkError::Timeout { host: target.to_string(), waited: HANDSHAKE_TIMEOUT }),
        Ok(Ok(Some(seen))) => shown(Check::passed(name, title), &seen),
        Ok(Ok(None)) => Check::passed(name, title),
        Ok(Err(error @ NetworkError::UnknownCa { .. })) => {
            let seen = timeout(HANDSHAKE_TIMEOUT, look_again(network, target, begins)).await.ok().flatten();
            intercepted(target, &error, seen.as_ref())
        }
        Ok(Err(error)) => {
            let seen = timeout(HANDSHAKE_TIMEOUT, look_again(network, target, begins)).await.ok().flatten();
            let check = failure(name, title, &error);
            match seen {
                Some(seen) => shown(check, &seen),
                None => check,
            }
        }
    }
}

fn shown(check: Check, seen: &Seen) -> Check {
    let check = check.with("certificate", &seen.subject).with("issuer", &seen.issuer);
    match seen.ends {
        Some(ends) => check.with("ends", ends.strftime("%Y-%m-%d")),
        None => check,
    }
}

/// An unknown CA: almost always an inspecting proxy, so its name is the most telling fact.
fn intercepted(target: &HostPort, error: &NetworkError, seen: Option<&Seen>) -> Check {
    let issuer = seen.map_or_else(|| "a CA of its own".to_owned(), |seen| format!("the CA {:?}", seen.issuer));
    let found = finding(
        "network.tls_interception",
        format!("something between this machine and {} opens TLS with {issuer}", target.host),
        error.why(),
        format!(
            "Exempt {} from TLS inspection; or, if {issuer} is your organisation's, save its certificate as PEM and name the \
             file as `ca_file` in postkey.toml (or POSTKEY_CA_FILE). Works at once.",
            target.host
        ),
        Who::NetworkAdministrator,
    );
    let check = Check::failed(TLS.0, TLS.1, found);
    match seen {
        Some(seen) => shown(check, seen),
        None => check,
    }
}

async fn handshake(
    network: &Network,
    cloud: &Cloud,
    target: &HostPort,
    begins: Begins,
    mut stream: TcpStream,
) -> Result<Option<Seen>, NetworkError> {
    let config = network.tls_config(cloud)?;
    let failed = |error: io::Error| NetworkError::of_io(&target.to_string(), HANDSHAKE_TIMEOUT, error);
    if begins == Begins::ByStartTls {
        start_tls(&mut stream).await.map_err(failed)?;
    }
    let name = ServerName::try_from(target.host.clone()).map_err(|error| failed(io::Error::other(error)))?;
    let mut secure = TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
    let seen = secure.get_ref().1.peer_certificates().and_then(|chain| chain.first()).and_then(|one| Seen::of(one));
    let _ = secure.shutdown().await;
    Ok(seen)
}

async fn look_again(network: &Network, target: &HostPort, begins: Begins) -> Option<Seen> {
    let mut stream = network.connect(target).await.ok()?;
    if begins == Begins::ByStartTls {
        start_tls(&mut stream).await.ok()?;
    }
    certificate::look(&target.host, stream).await
}

/// Greeting, EHLO, STARTTLS (RFC 3207): just enough to see the certificate.
async fn start_tls(stream: &mut TcpStream) -> io::Result<()> {
    expect(stream, "220").await?;
    stream.write_all(b"EHLO [127.0.0.1]\r\n").await?;
    expect(stream, "250").await?;
    stream.write_all(b"STARTTLS\r\n").await?;
    expect(stream, "220").await
}

async fn expect(stream: &mut TcpStream, code: &str) -> io::Result<()> {
    let mut reply = Vec::new();
    loop {
        // Octet by octet: what follows the reply to STARTTLS belongs to TLS.
        reply.push(stream.read_u8().await?);
        if is_whole(&reply) {
            let line = String::from_utf8_lossy(&reply);
            return if line.starts_with(code) {
                Ok(())
            } else {
                Err(io::Error::other(format!("the server said {:?}", line.trim_end())))
            };
        }
        if reply.len() >= SMTP_REPLY_LIMIT {
            return Err(io::Error::other("the server's reply does not end"));
        }
    }
}

/// The last line of a reply has a blank, or nothing, behind its code (RFC 5321 §4.2.1).
fn is_whole(reply: &[u8]) -> bool {
    let Some(lines) = reply.strip_suffix(b"\r\n") else { return false };
    let last = lines.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    last.get(3).is_none_or(|&byte| byte != b'-')
}

async fn skew(network: &Network, clock: &Clock, cloud: &Cloud) -> Check {
    let http = match network.http_client(cloud) {
        Ok(http) => http,
        Err(error) => return failure(SKEW.0, SKEW.1, &error),
    };
    let endpoint = TokenEndpoint::new(http, cloud.clone(), clock.clone());
    // Whatever it answers, it says what time it is there.
    let answered = endpoint.tenant_id(&TenantRef::organizations()).await;
    match (endpoint.observed_skew(), answered) {
        (Some(skew), _) => judge_skew(skew),
        (None, Err(error)) if error.is_transient() => failure(SKEW.0, SKEW.1, &error),
        (None, _) => Check::skipped(SKEW.0, SKEW.1, "the login host does not say what time it is"),
    }
}

/// Positive: our clock is ahead.
fn judge_skew(skew: SignedDuration) -> Check {
    let (name, title) = SKEW;
    let seconds = skew.abs().as_secs();
    let (words, relation) = match skew.as_secs() {
        0 => ("to the second".to_owned(), "as"),
        ahead if ahead > 0 => (format!("{} ahead", span(seconds)), "ahead of"),
        _ => (format!("{} behind", span(seconds)), "behind"),
    };
    let off = |code| {
        finding(
            code,
            format!("this machine's clock is {} {relation} Microsoft's", span(seconds)),
            "Signed requests and tokens are good for minutes only; Entra refuses those from another time (AADSTS700024)."
                .to_owned(),
            "Let the machine keep time by NTP: `timedatectl set-ntp true`, then `timedatectl` to see it. Works at once.",
            Who::NetworkAdministrator,
        )
    };
    let check = if skew.abs() > SKEW_FAILS {
        Check::failed(name, title, off("clock.wrong"))
    } else if skew.abs() > SKEW_WARNS {
        Check::warning(name, title, off("clock.drifting"))
    } else {
        Check::passed(name, title)
    };
    check.with("clock", words)
}

fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn begins(url: &Url) -> Begins {
    if url.scheme() == "https" { Begins::AtOnce } else { Begins::Never }
}

fn host_of(url: &Url) -> HostPort {
    HostPort {
        host: url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
        port: url.port_or_known_default().unwrap_or(443),
    }
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        ..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_by_what_entra_bears() {
        for (seconds, want, words) in [
            (0, "passed", "to the second"),
            (-120, "passed", "2 min behind"),
            (121, "warning", "2 min ahead"),
            (300, "warning", "5 min ahead"),
            (-301, "failed", "5 min behind"),
            (600, "failed", "10 min ahead"),
            (-200_000, "failed", "2 days behind"),
        ] {
            let check = judge_skew(SignedDuration::from_secs(seconds));
            assert_eq!(serde_json::to_value(&check).unwrap()["result"], want, "{seconds}");
            assert_eq!(check.evidence, [("clock", words.to_owned())]);
        }
    }

    #[test]
    fn an_smtp_reply_ends_with_its_last_line() {
        for (reply, whole) in [
            ("220 hello\r\n", true),
            ("220\r\n", true),
            ("220 hel", false),
            ("250-SIZE 1\r\n", false),
            ("250-SIZE 1\r\n250 STARTTLS\r\n", true),
        ] {
            assert_eq!(is_whole(reply.as_bytes()), whole, "{reply:?}");
        }
    }

    #[test]
    fn an_unknown_ca_is_named_with_the_setting_that_admits_it() {
        let error =
            NetworkError::UnknownCa { host: "h".into(), cause: std::sync::Arc::new(io::Error::other("UnknownIssuer")) };
        let seen = Seen { subject: "CN=login".into(), issuer: "CN=Inspecting Proxy".into(), ends: None };
        let target = HostPort { host: "login.example".into(), port: 443 };
        let check = intercepted(&target, &error, Some(&seen));
        let found = check.diagnosis.unwrap();
        assert!(found.what.contains("CN=Inspecting Proxy") && found.remedy.contains("ca_file"), "{found:?}");
        assert_eq!(check.evidence[1], ("issuer", "CN=Inspecting Proxy".to_owned()));
    }

    #[test]
    fn bytes_are_told_in_units_people_use() {
        for (bytes, want) in [(999, "999 B"), (4_194_304, "4.1 MB"), (157_286_400, "157.2 MB"), (42_000, "42 kB")] {
            assert_eq!(size(bytes), want);
        }
    }

    #[test]
    fn what_nobody_needs_only_warns() {
        let failed = Check::failed("a", "A", finding("x", "w", None, "r", Who::You));
        assert_eq!(softened(failed).result, CheckResult::Warning);
        assert_eq!(softened(Check::passed("a", "A")).result, CheckResult::Passed);
    }
}
