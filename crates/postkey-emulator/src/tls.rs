//! The emulator's own certification authority, made anew at each start, and the certificate of its ports.

use std::{net::IpAddr, sync::Arc};

use jiff::{ToSpan, civil::Date};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What the ports present, and what clients must trust.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) ca_pem: String,
    pub(crate) https: Arc<ServerConfig>,
    /// For SMTP behind STARTTLS: no ALPN.
    pub(crate) plain: Arc<ServerConfig>,
}

/// Microsoft's hosts that the emulator can stand in for when told to.
pub(crate) const MICROSOFT_HOSTS: [&str; 4] =
    ["login.microsoftonline.com", "graph.microsoft.com", "outlook.office365.com", "smtp.office365.com"];

/// Certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The X.509 side.
    #[error("making the emulator's certificates failed")]
    Make(#[from] rcgen::Error),
    /// The TLS side.
    #[error("setting up TLS failed")]
    Tls(#[from] rustls::Error),
}

/// Makes an authority that may vouch for loopback names only (and `extra` hosts and addresses), and a leaf for all of them.
pub(crate) fn make(today: Date, hosts: &[&str], addresses: &[IpAddr]) -> Result<Certificates, CertificateError> {
    let day = |date: Date| date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs());
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "postkey emulator CA (this run only)");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = day(today.saturating_sub(2.days()));
    params.not_after = day(today.saturating_add(5.years()));
    let mut permitted = vec![
        GeneralSubtree::DnsName("localhost".into()),
        GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
        GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(std::net::Ipv6Addr::LOCALHOST.octets(), 128)),
    ];
    permitted.extend(hosts.iter().map(|&host| GeneralSubtree::DnsName(host.into())));
    permitted.extend(addresses.iter().map(|&address| {
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, if address.is_ipv4() { 32 } else { 128 }))
    }));
    params.name_constraints = Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut leaf = CertificateParams::default();
    leaf.distinguished_name.push(DnType::CommonName, "postkey emulator");
    leaf.subject_alt_names = vec![
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()),
    ];
    for &host in hosts {
        leaf.subject_alt_names.push(SanType::DnsName(host.try_into()?));
    }
    leaf.subject_alt_names.extend(addresses.iter().map(|&address| SanType::IpAddress(address)));
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    leaf.not_before = day(today.saturating_sub(2.days()));
    leaf.not_after = day(today.saturating_add(2.years()));
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &issuer)?;

    let configuration = |alpn: &[&[u8]]| -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut made = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        made.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(made))
    };
    Ok(Certificates { ca_pem: issuer.pem(), https: configuration(&[b"http/1.1"])?, plain: configuration(&[])? })
}
