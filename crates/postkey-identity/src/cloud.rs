//! One cloud profile holds every host and every resource name: nothing else in the house names a Microsoft host.

use std::{fmt, path::PathBuf, str::FromStr};

use postkey_base::{ClientId, Diagnose, Who};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{assertion::AssertionStyle, scope::Scope, tenant::TenantRef};

/// Which of Microsoft's clouds, or hosts of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CloudName {
    /// The worldwide cloud, GCC included.
    Global,
    /// US Government, GCC High.
    UsGov,
    /// US Government, DoD.
    #[serde(rename = "usgov-dod")]
    UsGovDod,
    /// China, run by 21Vianet.
    China,
    /// Hosts given by hand: an emulator, or a cloud not known here.
    Custom,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    /// DNS name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Every host and resource name of one cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cloud {
    /// Which one it is.
    pub name: CloudName,
    /// The login host, `https://login.microsoftonline.com/`.
    pub login: Url,
    /// Microsoft Graph with its version, `https://graph.microsoft.com/v1.0`.
    pub graph: Url,
    /// What Graph is called in a scope, `https://graph.microsoft.com`.
    pub graph_resource: String,
    /// What Exchange Online is called in a scope, `https://outlook.office365.com`.
    pub exchange_resource: String,
    /// SMTP submission, `smtp.office365.com:587`.
    pub smtp: HostPort,
    /// The Entra admin center that deep links point into.
    pub portal: Url,
    /// PEM file with the CA of these hosts, trusted beside the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// How client assertions are signed here. Microsoft's clouds document PS256 only; a login host that answers
    /// AADSTS700027 to it for a certificate it knows wants RS256.
    #[serde(default)]
    pub assertion: AssertionStyle,
}

/// What a custom cloud must say; the rest has the worldwide cloud's values.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CustomCloud {
    /// Login host.
    pub login: Url,
    /// Microsoft Graph, ending in `/v1.0`.
    pub graph: Url,
    /// SMTP submission.
    pub smtp: HostPort,
    /// Graph's name in scopes, when it differs.
    #[serde(default)]
    pub graph_resource: Option<String>,
    /// Exchange Online's name in scopes, when it differs.
    #[serde(default)]
    pub exchange_resource: Option<String>,
    /// Admin center, when it differs.
    #[serde(default)]
    pub portal: Option<Url>,
    /// PEM file with the CA of these hosts.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// Why a cloud profile cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// No such name.
    #[error("{0:?} is no cloud: global, usgov, usgov-dod, china, or custom with hosts of its own")]
    UnknownName(String),
    /// Tokens and secrets travel to these hosts.
    #[error("{0} is not an https address")]
    NotHttps(String),
    /// Something behind the path.
    #[error("{0} must be a plain address without user, query or fragment")]
    NotPlain(String),
    /// Graph's address carries the API version.
    #[error("{0} must end in /v1.0")]
    NoVersion(String),
    /// Not `host:port`.
    #[error("{0:?} is not host:port")]
    HostPort(String),
}

impl Cloud {
    /// The worldwide cloud.
    pub fn global() -> Self {
        Self {
            name: CloudName::Global,
            login: fixed("https://login.microsoftonline.com/"),
            graph: fixed("https://graph.microsoft.com/v1.0"),
            graph_resource: "https://graph.microsoft.com".into(),
            exchange_resource: "https://outlook.office365.com".into(),
            smtp: HostPort { host: "smtp.office365.com".into(), port: 587 },
            portal: fixed("https://entra.microsoft.com/"), // unverified
            ca_file: None,
            assertion: AssertionStyle::Ps256,
        }
    }

    /// US Government, GCC High. Exchange and portal hosts are unverified: override them where they differ.
    pub fn us_gov() -> Self {
        Self {
            name: CloudName::UsGov,
            login: fixed("https://login.microsoftonline.us/"),
            graph: fixed("https://graph.microsoft.us/v1.0"),
            graph_resource: "https://graph.microsoft.us".into(),
            exchange_resource: "https://outlook.office365.us".into(), // unverified
            smtp: HostPort { host: "smtp.office365.us".into(), port: 587 }, // unverified
            portal: fixed("https://entra.microsoft.us/"),             // unverified
            ca_file: None,
            assertion: AssertionStyle::Ps256,
        }
    }

    /// US Government, DoD. Exchange and portal hosts are unverified: override them where they differ.
    pub fn us_gov_dod() -> Self {
        Self {
            name: CloudName::UsGovDod,
            login: fixed("https://login.microsoftonline.us/"),
            graph: fixed("https://dod-graph.microsoft.us/v1.0"),
            graph_resource: "https://dod-graph.microsoft.us".into(),
            exchange_resource: "https://outlook-dod.office365.us".into(), // unverified
            smtp: HostPort { host: "smtp-dod.office365.us".into(), port: 587 }, // unverified
            portal: fixed("https://entra.microsoft.us/"),                 // unverified
            ca_file: None,
            assertion: AssertionStyle::Ps256,
        }
    }

    /// China, run by 21Vianet. Exchange and portal hosts are unverified: override them where they differ.
    pub fn china() -> Self {
        Self {
            name: CloudName::China,
            login: fixed("https://login.partner.microsoftonline.cn/"),
            graph: fixed("https://microsoftgraph.chinacloudapi.cn/v1.0"),
            graph_resource: "https://microsoftgraph.chinacloudapi.cn".into(),
            exchange_resource: "https://partner.outlook.cn".into(), // unverified
            smtp: HostPort { host: "smtp.partner.outlook.cn".into(), port: 587 }, // unverified
            portal: fixed("https://entra.microsoftonline.cn/"),     // unverified
            ca_file: None,
            assertion: AssertionStyle::Ps256,
        }
    }

    /// Hosts given by hand.
    ///
    /// # Errors
    /// A host that is not plain https, or a Graph address without its version.
    pub fn custom(hosts: CustomCloud) -> Result<Self, CloudError> {
        let global = Self::global();
        Self {
            name: CloudName::Custom,
            login: hosts.login,
            graph: hosts.graph,
            graph_resource: hosts.graph_resource.unwrap_or(global.graph_resource),
            exchange_resource: hosts.exchange_resource.unwrap_or(global.exchange_resource),
            smtp: hosts.smtp,
            portal: hosts.portal.unwrap_or(global.portal),
            ca_file: hosts.ca_file,
            assertion: AssertionStyle::Ps256,
        }
        .checked()
    }

    /// One of Microsoft's clouds by its name; `None` for custom, which needs its hosts.
    pub fn named(name: CloudName) -> Option<Self> {
        match name {
            CloudName::Global => Some(Self::global()),
            CloudName::UsGov => Some(Self::us_gov()),
            CloudName::UsGovDod => Some(Self::us_gov_dod()),
            CloudName::China => Some(Self::china()),
            CloudName::Custom => None,
        }
    }

    /// The profile, if secrets may be sent to its hosts. Call it on whatever was read from outside or overridden.
    ///
    /// # Errors
    /// As [`Cloud::custom`].
    pub fn checked(mut self) -> Result<Self, CloudError> {
        for url in [&self.login, &self.graph, &self.portal] {
            if url.scheme() != "https" || url.host_str().is_none() {
                return Err(CloudError::NotHttps(url.to_string()));
            }
            let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
            if !plain || url.password().is_some() {
                return Err(CloudError::NotPlain(format!("https://{}", url.host_str().unwrap_or_default())));
            }
        }
        let path = self.graph.path().trim_end_matches('/').to_owned();
        if !path.ends_with("/v1.0") {
            return Err(CloudError::NoVersion(self.graph.to_string()));
        }
        self.graph.set_path(&path);
        self.graph_resource.truncate(self.graph_resource.trim_end_matches('/').len());
        self.exchange_resource.truncate(self.exchange_resource.trim_end_matches('/').len());
        Ok(self)
    }

    /// Graph's beta version, beside `v1.0`.
    pub fn graph_beta(&self) -> Url {
        let mut beta = self.graph.clone();
        let base = self.graph.path().trim_end_matches('/').trim_end_matches("v1.0").to_owned();
        beta.set_path(&format!("{base}beta"));
        beta
    }

    /// `POST` here for tokens.
    pub fn token_endpoint(&self, tenant: &TenantRef) -> Url {
        self.login_path(tenant, &["oauth2", "v2.0", "token"])
    }

    /// Where a browser goes to sign in.
    pub fn authorize_endpoint(&self, tenant: &TenantRef) -> Url {
        self.login_path(tenant, &["oauth2", "v2.0", "authorize"])
    }

    /// `POST` here to start a device code sign-in.
    pub fn device_endpoint(&self, tenant: &TenantRef) -> Url {
        self.login_path(tenant, &["oauth2", "v2.0", "devicecode"])
    }

    /// The OpenID configuration, which answers for a tenant without any credential.
    pub fn discovery_endpoint(&self, tenant: &TenantRef) -> Url {
        self.login_path(tenant, &["v2.0", ".well-known", "openid-configuration"])
    }

    /// The page on which an administrator consents for everyone. Application permissions come only with a `.default`
    /// scope. The answer carries `admin_consent=True` on refusal too: read `error` first.
    pub fn admin_consent_url(
        &self,
        tenant: &TenantRef,
        client: ClientId,
        scope: &Scope,
        redirect: Option<&crate::RedirectUri>,
        state: Option<&str>,
    ) -> Url {
        let mut url = self.login_path(tenant, &["v2.0", "adminconsent"]);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("client_id", &client.to_string()).append_pair("scope", scope.as_str());
            if let Some(redirect) = redirect {
                query.append_pair("redirect_uri", redirect.as_str());
            }
            if let Some(state) = state {
                query.append_pair("state", state);
            }
        }
        url
    }

    /// Everything the app was granted at Microsoft Graph.
    pub fn graph_scope(&self) -> Scope {
        Scope::default_of(&self.graph_resource)
    }

    /// Everything the app was granted at Exchange Online (SMTP, IMAP, POP).
    pub fn exchange_scope(&self) -> Scope {
        Scope::default_of(&self.exchange_resource)
    }

    fn login_path(&self, tenant: &TenantRef, rest: &[&str]) -> Url {
        let base = self.login.path().trim_end_matches('/');
        let mut url = self.login.clone();
        // TenantRef holds nothing but letters, digits, dots and hyphens.
        url.set_path(&format!("{base}/{tenant}/{}", rest.join("/")));
        url
    }
}

fn fixed(text: &str) -> Url {
    // Only literals of this file come here, and a test builds every profile.
    Url::parse(text).expect("the address is a literal")
}

impl FromStr for CloudName {
    type Err = CloudError;

    fn from_str(text: &str) -> Result<Self, CloudError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "global" => Ok(Self::Global),
            "usgov" | "us-gov" => Ok(Self::UsGov),
            "usgov-dod" | "us-gov-dod" => Ok(Self::UsGovDod),
            "china" => Ok(Self::China),
            "custom" => Ok(Self::Custom),
            _ => Err(CloudError::UnknownName(text.trim().to_owned())),
        }
    }
}

impl fmt::Display for CloudName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "global",
            Self::UsGov => "usgov",
            Self::UsGovDod => "usgov-dod",
            Self::China => "china",
            Self::Custom => "custom",
        })
    }
}

impl FromStr for HostPort {
    type Err = CloudError;

    fn from_str(text: &str) -> Result<Self, CloudError> {
        let bad = || CloudError::HostPort(text.to_owned());
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(bad)?;
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        let port: u16 = port.parse().map_err(|_| bad())?;
        let clean = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:_".contains(c));
        if !clean || port == 0 {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl TryFrom<String> for HostPort {
    type Error = CloudError;

    fn try_from(text: String) -> Result<Self, CloudError> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(host: HostPort) -> Self {
        host.to_string()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Diagnose for CloudError {
    fn code(&self) -> &'static str {
        match self {
            Self::UnknownName(_) => "identity.cloud_unknown",
            Self::NotHttps(_) | Self::NotPlain(_) | Self::NoVersion(_) | Self::HostPort(_) => "identity.cloud_address",
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::UnknownName(_) => "Name one of global, usgov, usgov-dod, china and custom.".to_owned(),
            Self::NotHttps(_) => "Secrets and tokens go there: give an address that begins with https://.".to_owned(),
            Self::NotPlain(_) => "Give scheme, host and port, and a path where one is needed; nothing else.".to_owned(),
            Self::NoVersion(_) => {
                "Give Microsoft Graph's address with its version, as in https://localhost:8444/v1.0.".to_owned()
            }
            Self::HostPort(_) => "Give a host name and a port, as in smtp.office365.com:587.".to_owned(),
        }
    }

    fn who(&self) -> Who {
        Who::You
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_stands_and_names_its_own_hosts() {
        for (name, login, graph) in [
            ("global", "login.microsoftonline.com", "graph.microsoft.com"),
            ("usgov", "login.microsoftonline.us", "graph.microsoft.us"),
            ("usgov-dod", "login.microsoftonline.us", "dod-graph.microsoft.us"),
            ("china", "login.partner.microsoftonline.cn", "microsoftgraph.chinacloudapi.cn"),
        ] {
            let name: CloudName = name.parse().unwrap();
            let cloud = Cloud::named(name).unwrap().checked().unwrap();
            assert_eq!((cloud.login.host_str(), cloud.graph.host_str()), (Some(login), Some(graph)));
            assert_eq!(cloud.graph_scope().as_str(), format!("https://{graph}/.default"));
            assert_eq!(serde_json::to_value(name).unwrap(), name.to_string());
            let again: Cloud = serde_json::from_value(serde_json::to_value(&cloud).unwrap()).unwrap();
            assert_eq!(again, cloud);
        }
    }

    #[test]
    fn endpoints_carry_the_tenant() {
        let tenant: TenantRef = "contoso.example".parse().unwrap();
        let cloud = Cloud::global();
        assert_eq!(
            cloud.token_endpoint(&tenant).as_str(),
            "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token"
        );
        assert_eq!(cloud.graph_beta().as_str(), "https://graph.microsoft.com/beta");
    }

    fn hosts(login: &str, graph: &str) -> Result<Cloud, CloudError> {
        Cloud::custom(CustomCloud {
            login: login.parse().unwrap(),
            graph: graph.parse().unwrap(),
            smtp: "127.0.0.1:2525".parse().unwrap(),
            graph_resource: None,
            exchange_resource: None,
            portal: None,
            ca_file: None,
        })
    }

    #[test]
    fn a_custom_cloud_keeps_microsofts_resource_names_and_needs_https() {
        let cloud = hosts("https://localhost:8443", "https://localhost:8444/v1.0/").unwrap();
        assert_eq!(cloud.graph_scope().as_str(), "https://graph.microsoft.com/.default");
        assert_eq!(cloud.graph.as_str(), "https://localhost:8444/v1.0");
        for (login, graph) in [
            ("http://localhost:8443", "https://localhost/v1.0"),
            ("https://user:pass@localhost:8443", "https://localhost/v1.0"),
            ("https://localhost?x=1", "https://localhost/v1.0"),
            ("https://localhost", "https://localhost/"),
        ] {
            let refused = hosts(login, graph).unwrap_err().to_string();
            assert!(!refused.contains("pass@"), "{refused}");
        }
    }

    #[test]
    fn an_administrator_consents_at_the_right_address() {
        let tenant: TenantRef = "contoso.example".parse().unwrap();
        let client: ClientId = "3fa85f64-5717-4562-b3fc-2c963f66afa6".parse().unwrap();
        let url = Cloud::us_gov().admin_consent_url(&tenant, client, &Cloud::us_gov().graph_scope(), None, Some("s t"));
        assert_eq!(
            url.as_str(),
            "https://login.microsoftonline.us/contoso.example/v2.0/adminconsent?client_id=3fa85f64-5717-4562-b3fc-2c963f66afa6&scope=https%3A%2F%2Fgraph.microsoft.us%2F.default&state=s+t"
        );
    }
}
