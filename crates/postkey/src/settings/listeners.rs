//! Where `postkey serve` listens, and what it shows there: the sections `[serve]`, `[http]`, `[[smtp]]` and `[smtp_tls]`.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{beside, parsed, variable_path};
use crate::failure::Failure;

/// The program as a service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Serve {
    /// Name of this node, unique among those that share a store. Default: the machine's name and an id kept beside the database.
    pub(crate) node: Option<String>,
    /// Seconds that work in hand is given after SIGTERM.
    pub(crate) stop_within_s: u64,
}

impl Default for Serve {
    /// systemd asks for 90 s by default, Docker for 10 s, Kubernetes for 30 s; an answer of Graph comes within a few.
    fn default() -> Self {
        Self { node: None, stop_within_s: 20 }
    }
}

impl Serve {
    /// How long work in hand may take after SIGTERM.
    pub(crate) fn stop_within(&self) -> Duration {
        Duration::from_secs(self.stop_within_s)
    }
}

/// REST and health, one listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Http {
    /// Address and port, or "off".
    pub(crate) listen: Listen,
    /// Host names under which it may be asked, beside loopback and the address it listens on.
    pub(crate) hosts: Vec<String>,
    /// PEM file of the certificate with its chain; with it the listener speaks https.
    pub(crate) tls_certificate: Option<PathBuf>,
    /// PEM file of its private key. Default: the certificate's file.
    pub(crate) tls_key: Option<PathBuf>,
    /// Networks of the reverse proxies that may connect beside loopback and add X-Forwarded-For; nobody else may then.
    pub(crate) proxies: Vec<IpNet>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: Listen::loopback(8025),
            hosts: Vec::new(),
            tls_certificate: None,
            tls_key: None,
            proxies: Vec::new(),
        }
    }
}

/// One SMTP port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SmtpListener {
    /// Its name in logs and gauges.
    pub(crate) name: String,
    /// Address and port, or "off".
    pub(crate) listen: Listen,
    /// How TLS begins: "starttls" (default), "implicit", or "plain" for devices whose TLS is too old (no passwords there: networks and a forced sender).
    #[serde(default)]
    pub(crate) mode: SmtpMode,
    /// Networks of load balancers that must begin with the PROXY protocol.
    #[serde(default)]
    pub(crate) proxies: Vec<IpNet>,
}

/// How TLS begins on an SMTP port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SmtpMode {
    /// In clear text until STARTTLS.
    #[default]
    StartTls,
    /// From the first byte.
    Implicit,
    /// Never.
    Plain,
}

impl SmtpMode {
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::StartTls => "STARTTLS",
            Self::Implicit => "implicit TLS",
            Self::Plain => "no TLS",
        }
    }

    /// As the settings spell it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::StartTls => "starttls",
            Self::Implicit => "implicit",
            Self::Plain => "plain",
        }
    }
}

/// The listeners of an installation that names none.
pub(super) fn default_smtp() -> Vec<SmtpListener> {
    let listener = |name: &str, port, mode| SmtpListener {
        name: name.to_owned(),
        listen: Listen::loopback(port),
        mode,
        proxies: Vec::new(),
    };
    vec![listener("smtp", 2525, SmtpMode::StartTls), listener("smtps", 2465, SmtpMode::Implicit)]
}

/// What SMTP ports present.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SmtpTls {
    /// PEM file of the certificate with its chain. Default: one made here, with a CA of its own that clients can trust.
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file of its private key. Default: the certificate's file.
    pub(crate) key: Option<PathBuf>,
    /// Host names and addresses, beside loopback, that the certificate made here is for.
    pub(crate) names: Vec<String>,
}

/// Where to listen, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    /// Not opened.
    Off,
    /// Here; port 0 takes a free one.
    At(SocketAddr),
}

impl Listen {
    const fn loopback(port: u16) -> Self {
        Self::At(SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port))
    }

    /// The address, if any.
    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "off" => Ok(Self::Off),
            text => text.parse().map(Self::At).map_err(|_| {
                format!("{text:?} is no address and port, such as 127.0.0.1:2525 or [::1]:2525, nor \"off\"")
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// All of it, as `postkey serve` uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listeners {
    pub(crate) serve: Serve,
    pub(crate) http: Http,
    pub(crate) smtp: Vec<SmtpListener>,
    pub(crate) smtp_tls: SmtpTls,
}

impl Listeners {
    /// What the environment says goes before the file; paths of the file are relative to its folder.
    pub(super) fn settle(mut self, folder: &Path) -> Result<Self, Failure> {
        beside(folder, &mut self.http.tls_certificate);
        beside(folder, &mut self.http.tls_key);
        beside(folder, &mut self.smtp_tls.certificate);
        beside(folder, &mut self.smtp_tls.key);
        if let Some(listen) = parsed("POSTKEY_HTTP_LISTEN")? {
            self.http.listen = listen;
        }
        for (variable, name, mode) in
            [("POSTKEY_SMTP_LISTEN", "smtp", SmtpMode::StartTls), ("POSTKEY_SMTPS_LISTEN", "smtps", SmtpMode::Implicit)]
        {
            let Some(listen) = parsed(variable)? else { continue };
            match self.smtp.iter_mut().find(|listener| listener.name == name) {
                Some(listener) => listener.listen = listen,
                None => self.smtp.push(SmtpListener { name: name.into(), listen, mode, proxies: Vec::new() }),
            }
        }
        if let Some(seconds) = parsed("POSTKEY_STOP_WITHIN_S")? {
            self.serve.stop_within_s = seconds;
        }
        if let Some(node) = super::variable("POSTKEY_NODE") {
            self.serve.node = Some(node);
        }
        for (variable, place) in [
            ("POSTKEY_HTTP_TLS_CERTIFICATE", &mut self.http.tls_certificate),
            ("POSTKEY_HTTP_TLS_KEY", &mut self.http.tls_key),
            ("POSTKEY_SMTP_TLS_CERTIFICATE", &mut self.smtp_tls.certificate),
            ("POSTKEY_SMTP_TLS_KEY", &mut self.smtp_tls.key),
        ] {
            if let Some(path) = variable_path(variable) {
                *place = Some(path);
            }
        }
        Ok(self)
    }

    /// Beyond loopback nobody talks to postkey in clear text, unless a proxy in front was named or a port was opened for
    /// just that.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if let Listen::At(at) = self.http.listen
            && !at.ip().is_loopback()
            && self.http.tls_certificate.is_none()
            && self.http.proxies.is_empty()
        {
            return Err(Failure::usage(
                format!("HTTP on {at} would be reached from other machines in clear text"),
                "Give http.tls_certificate and http.tls_key, or name the reverse proxies in front with http.proxies, or listen on loopback.",
            ));
        }
        if self.http.tls_key.is_some() && self.http.tls_certificate.is_none() {
            return Err(Failure::usage("http.tls_key has no certificate", "Give http.tls_certificate as well."));
        }
        if self.smtp_tls.key.is_some() && self.smtp_tls.certificate.is_none() {
            return Err(Failure::usage("smtp_tls.key has no certificate", "Give smtp_tls.certificate as well."));
        }
        for (index, listener) in self.smtp.iter().enumerate() {
            let name = &listener.name;
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
                return Err(Failure::usage(
                    format!("{name:?} is no name for an SMTP listener"),
                    "Use letters, digits, - _ and dots.",
                ));
            }
            if self.smtp[..index].iter().any(|other| other.name == *name) {
                return Err(Failure::usage(
                    format!("two SMTP listeners are called {name:?}"),
                    "Give each [[smtp]] section a name of its own.",
                ));
            }
            let Some(at) = listener.listen.address() else { continue };
            if at.ip().is_loopback() {
                continue;
            }
            if listener.mode == SmtpMode::Plain {
                if at.ip().is_unspecified() {
                    return Err(Failure::usage(
                        format!("the SMTP listener {name:?} without TLS would be open on every address"),
                        "Name the one address that the old devices reach, such as listen = \"192.0.2.10:25\".",
                    ));
                }
            } else if self.smtp_tls.certificate.is_none() && self.smtp_tls.names.is_empty() {
                return Err(Failure::usage(
                    format!("the SMTP listener {name:?} on {at} has no certificate for other machines"),
                    "Give smtp_tls.certificate and smtp_tls.key, or with smtp_tls.names the names under which the certificate made here is asked for.",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(text: &str) -> Listeners {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            http: Http,
            smtp: Option<Vec<SmtpListener>>,
            #[serde(default)]
            smtp_tls: SmtpTls,
        }
        let File { http, smtp, smtp_tls } = toml::from_str(text).unwrap();
        Listeners { serve: Serve::default(), http, smtp: smtp.unwrap_or_else(default_smtp), smtp_tls }
    }

    #[test]
    fn beyond_loopback_nothing_is_open_without_tls_or_a_declared_exception() {
        for (text, refusal) in [
            ("", None),
            ("[http]\nlisten = \"0.0.0.0:8025\"", Some("in clear text")),
            ("[http]\nlisten = \"0.0.0.0:8025\"\nproxies = [\"10.0.0.0/8\"]", None),
            ("[http]\nlisten = \"0.0.0.0:8025\"\ntls_certificate = \"c.pem\"", None),
            ("[http]\nlisten = \"off\"", None),
            ("[http]\ntls_key = \"k.pem\"", Some("has no certificate")),
            ("[[smtp]]\nname = \"mx\"\nlisten = \"192.0.2.7:587\"", Some("no certificate for other machines")),
            ("[[smtp]]\nname = \"mx\"\nlisten = \"192.0.2.7:587\"\n[smtp_tls]\nnames = [\"mail.x.example\"]", None),
            ("[[smtp]]\nname = \"mx\"\nlisten = \"192.0.2.7:587\"\n[smtp_tls]\ncertificate = \"c.pem\"", None),
            ("[[smtp]]\nname = \"old\"\nlisten = \"192.0.2.7:25\"\nmode = \"plain\"", None),
            ("[[smtp]]\nname = \"old\"\nlisten = \"[::]:25\"\nmode = \"plain\"", Some("open on every address")),
            (
                "[[smtp]]\nname = \"a\"\nlisten = \"off\"\n[[smtp]]\nname = \"a\"\nlisten = \"off\"",
                Some("called \"a\""),
            ),
            ("[[smtp]]\nname = \"a b\"\nlisten = \"off\"", Some("no name")),
        ] {
            let said = listeners(text).check().err().map(|failure| failure.diagnosis.what.clone());
            match refusal {
                None => assert_eq!(said, None, "{text}"),
                Some(part) => assert!(said.as_ref().is_some_and(|said| said.contains(part)), "{text}: {said:?}"),
            }
        }
    }

    #[test]
    fn an_address_needs_its_port() {
        for (text, good) in [
            ("127.0.0.1:25", true),
            ("[::1]:25", true),
            ("off", true),
            ("127.0.0.1", false),
            (":25", false),
            ("25", false),
        ] {
            assert_eq!(text.parse::<Listen>().is_ok(), good, "{text}");
        }
    }
}
